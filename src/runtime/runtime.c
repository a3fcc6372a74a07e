/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start and stop, and what keeps moves and visits out of each other's way. A stop goes through
 * phases (actors are told, each phase waited for with a bound), then the helping threads end, then
 * the workers, and one thread sweeps up what is still under way between them: every message finds
 * its receiver or its free.
 */
#include "runtime/runtime.h"
#include "base/assert.h"
#include "base/own.h"
#include "runtime/placement.h"
#include "runtime/reclaimer.h"
#include "runtime/services.h"
#include "runtime/timed_wait.h"
#include "runtime/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SERVICE_COUNT_DEFAULT = 2,
    WORK_BOUND_DEFAULT = 256,
    BUSY_ENOUGH_PERMILLE = 700,
    BUSY_VALID_NS = 1000000000,
    SWEEPS_MAX = 1000,
    CUT_NS = 1000000000 /* what actors that are cut off have for their end */
};

struct esi_runtime {
    struct esi_runtime_options options;
    uint32_t worker_count;
    struct esi_worker *workers;    /* owned array */
    struct esi_worker_stop *stops; /* owned: two a phase and worker */
    struct esi_msg *ends;          /* owned: one a worker */
    struct esi_services services;
    struct esi_reclaimer reclaimer;
    /* Living actors by phase; the stop waits for them. Workers that have come up; the start waits
     * for them. */
    pthread_mutex_t count_mutex;
    pthread_cond_t count_changed;
    int64_t living[STOP_PHASE_COUNT];
    uint32_t workers_up;
    enum es_err start_err; /* of a worker */
    bool has_forced;
    _Atomic uint32_t next_worker; /* placement spread */
    /* Moves and visits exclude each other: a visit goes from worker to worker and would miss, or
     * meet twice, who moves. A mutex is right here as well: all of this is rare. */
    pthread_mutex_t moves_mutex;
    pthread_cond_t moves_ended;
    uint32_t moving; /* actors between two workers */
    _Atomic uint32_t visiting;
    bool is_settling; /* the stop has begun: nobody moves any more */
    struct esi_visit *waiting_visits;
};

struct esi_env *esi_runtime_env(const struct esi_runtime *runtime)
{
    return runtime->options.env;
}

uint32_t esi_runtime_worker_count(const struct esi_runtime *runtime)
{
    return runtime->worker_count;
}

struct esi_worker *esi_runtime_worker(const struct esi_runtime *runtime, uint32_t index)
{
    ESI_REQUIRE(index < runtime->worker_count);
    return &runtime->workers[index];
}

uint32_t esi_runtime_work_bound(const struct esi_runtime *runtime)
{
    return runtime->options.work_bound;
}

const struct esi_runtime_options *esi_runtime_options(const struct esi_runtime *runtime)
{
    return &runtime->options;
}

void esi_runtime_make_local(struct esi_runtime *runtime, struct esi_worker *worker)
{
    const struct esi_runtime_options *options = &runtime->options;
    enum es_err err = ES_OK;

    if (worker->pin_core != ESI_WORKER_UNPINNED) {
        err = esi_env_thread_pin(options->env, worker->pin_core);
    }
    if (err == ES_OK && options->local_new != NULL) {
        worker->local = options->local_new(options->local_argument, worker->index);
        err = worker->local == NULL ? ES_NO_MEMORY : ES_OK;
    }
    pthread_mutex_lock(&runtime->count_mutex);
    runtime->workers_up++;
    if (err != ES_OK) {
        runtime->start_err = err;
    }
    pthread_cond_broadcast(&runtime->count_changed);
    pthread_mutex_unlock(&runtime->count_mutex);
}

static enum es_err wait_for_workers(struct esi_runtime *runtime)
{
    pthread_mutex_lock(&runtime->count_mutex);
    while (runtime->workers_up < runtime->worker_count) {
        pthread_cond_wait(&runtime->count_changed, &runtime->count_mutex);
    }
    const enum es_err err = runtime->start_err;
    pthread_mutex_unlock(&runtime->count_mutex);
    return err;
}

/* How busy the worker is, as far as is known: one that has had no turn for long has measured
 * nothing since. */
uint32_t esi_runtime_busy_permille(struct esi_runtime *runtime, const struct esi_worker *worker)
{
    /* order: relaxed; hints. */
    const uint64_t start_ns = atomic_load_explicit(&worker->window_start_ns, memory_order_relaxed);
    /* order: relaxed; hints. */
    const uint32_t permille = atomic_load_explicit(&worker->busy_permille, memory_order_relaxed);

    return permille > 0 && esi_env_now_ns(runtime->options.env) > start_ns + BUSY_VALID_NS
               ? 0
               : permille;
}

struct esi_worker *esi_runtime_place(struct esi_runtime *runtime)
{
    struct esi_worker *best = &runtime->workers[0];
    uint32_t best_permille = UINT32_MAX;

    if (runtime->options.placement != PLACEMENT_FILL) {
        /* order: relaxed; only an even spread matters. */
        const uint32_t next =
            atomic_fetch_add_explicit(&runtime->next_worker, 1, memory_order_relaxed);
        return &runtime->workers[next % runtime->worker_count];
    }
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        struct esi_worker *worker = &runtime->workers[i];
        const uint32_t permille = esi_runtime_busy_permille(runtime, worker);
        if (permille < esi_placement_scale(runtime->options.full_permille, BUSY_ENOUGH_PERMILLE)) {
            return worker;
        }
        if (permille < best_permille) {
            best = worker;
            best_permille = permille;
        }
    }
    return best;
}

void esi_runtime_count(struct esi_runtime *runtime, enum esi_stop_phase phase, int32_t change)
{
    pthread_mutex_lock(&runtime->count_mutex);
    runtime->living[phase] += change;
    if (runtime->living[phase] == 0) {
        pthread_cond_broadcast(&runtime->count_changed);
    }
    pthread_mutex_unlock(&runtime->count_mutex);
}

/* --- the helping threads --- */

void esi_runtime_submit(struct esi_runtime *runtime, struct esi_job *job)
{
    esi_services_submit(&runtime->services, job);
}

void esi_runtime_leave_grace(struct esi_runtime *runtime, struct esi_grace *grace)
{
    esi_reclaimer_ask(&runtime->reclaimer, grace->actor, grace);
}

void esi_runtime_after_grace(struct esi_runtime *runtime, struct esi_actor *actor,
                             struct esi_grace *grace)
{
    struct esi_worker *worker = esi_worker_current();

    grace->actor = actor;
    if (worker != NULL && worker->runtime == runtime && worker->graces.is_open) {
        esi_grace_watch_ask(&worker->graces, grace);
    } else {
        esi_runtime_leave_grace(runtime, grace);
    }
}

void esi_runtime_after_some_grace(struct esi_runtime *runtime, struct esi_actor *actor,
                                  struct esi_grace *grace)
{
    esi_reclaimer_ask_patiently(&runtime->reclaimer, actor, grace);
}

/* --- start and stop --- */

static void keep(struct esi_msg *msg)
{
    (void)msg; /* owned by the runtime, or part of a visit */
}

/* --- moves and visits --- */

static void start_visit(struct esi_runtime *runtime, struct esi_visit *visit)
{
    esi_actor_send(&runtime->workers[0].agent, &visit->msg);
}

void esi_runtime_visit(struct esi_runtime *runtime, struct esi_visit *visit)
{
    visit->next_worker = 0;
    visit->msg = (struct esi_msg){.kind = WORKER_VISIT, .free = keep};
    pthread_mutex_lock(&runtime->moves_mutex);
    /* order: relaxed; under the mutex, a look outside of it is a guess. */
    atomic_fetch_add_explicit(&runtime->visiting, 1, memory_order_relaxed);
    const bool must_wait = runtime->moving > 0;
    if (must_wait) {
        visit->next_waiting = runtime->waiting_visits;
        runtime->waiting_visits = visit;
    }
    pthread_mutex_unlock(&runtime->moves_mutex);
    if (!must_wait) {
        start_visit(runtime, visit);
    }
}

void esi_runtime_end_visit(struct esi_runtime *runtime)
{
    pthread_mutex_lock(&runtime->moves_mutex);
    /* order: relaxed; as in esi_runtime_visit. */
    atomic_fetch_sub_explicit(&runtime->visiting, 1, memory_order_relaxed);
    pthread_mutex_unlock(&runtime->moves_mutex);
}

enum esi_move_leave esi_runtime_begin_move(struct esi_runtime *runtime)
{
    enum esi_move_leave leave = MOVE_NOW;

    /* order: relaxed; asked in each turn of an actor that waits for a visit to end, so without the
     * mutex first. */
    if (atomic_load_explicit(&runtime->visiting, memory_order_relaxed) > 0) {
        return MOVE_LATER;
    }
    pthread_mutex_lock(&runtime->moves_mutex);
    if (runtime->is_settling) {
        leave = MOVE_NEVER;
        /* order: relaxed; under the mutex. */
    } else if (atomic_load_explicit(&runtime->visiting, memory_order_relaxed) > 0) {
        leave = MOVE_LATER;
    } else {
        runtime->moving++;
    }
    pthread_mutex_unlock(&runtime->moves_mutex);
    return leave;
}

void esi_runtime_end_move(struct esi_runtime *runtime)
{
    struct esi_visit *visit = NULL;

    pthread_mutex_lock(&runtime->moves_mutex);
    runtime->moving--;
    if (runtime->moving == 0) {
        visit = runtime->waiting_visits;
        runtime->waiting_visits = NULL;
        pthread_cond_broadcast(&runtime->moves_ended);
    }
    pthread_mutex_unlock(&runtime->moves_mutex);
    while (visit != NULL) {
        /* Read first: once sent it is the workers'. */
        struct esi_visit *next = visit->next_waiting;
        start_visit(runtime, visit);
        visit = next;
    }
}

/* From now on every actor stays where it is. */
static void settle(struct esi_runtime *runtime)
{
    struct esi_env *env = runtime->options.env;

    pthread_mutex_lock(&runtime->moves_mutex);
    runtime->is_settling = true;
    while (runtime->moving > 0) {
        if (esi_env_is_stepped(env)) {
            pthread_mutex_unlock(&runtime->moves_mutex);
            esi_env_yield(env, UINT64_MAX);
            pthread_mutex_lock(&runtime->moves_mutex);
        } else {
            pthread_cond_wait(&runtime->moves_ended, &runtime->moves_mutex);
        }
    }
    pthread_mutex_unlock(&runtime->moves_mutex);
}

/* --- stop --- */

static bool step_to_phase_end(struct esi_runtime *runtime, enum esi_stop_phase phase,
                              uint64_t timeout_ns)
{
    struct esi_env *env = runtime->options.env;
    const uint64_t deadline_ns = esi_env_now_ns(env) + timeout_ns;

    while (runtime->living[phase] > 0 && esi_env_now_ns(env) < deadline_ns) {
        esi_env_yield(env, deadline_ns);
    }
    return runtime->living[phase] == 0;
}

/* True when the phase is over: none of its actors is left. */
static bool wait_for_phase(struct esi_runtime *runtime, enum esi_stop_phase phase,
                           uint64_t timeout_ns)
{
    if (esi_env_is_stepped(runtime->options.env)) {
        return step_to_phase_end(runtime, phase, timeout_ns);
    }
    const struct timespec deadline = esi_timed_wait_deadline(timeout_ns);
    pthread_mutex_lock(&runtime->count_mutex);
    while (runtime->living[phase] > 0) {
        if (pthread_cond_timedwait(&runtime->count_changed, &runtime->count_mutex, &deadline) !=
            0) {
            break;
        }
    }
    const bool is_over = runtime->living[phase] == 0;
    pthread_mutex_unlock(&runtime->count_mutex);
    return is_over;
}

static void tell_actors(struct esi_runtime *runtime, enum esi_stop_phase phase, bool is_cut)
{
    const uint32_t first = ((uint32_t)phase * 2 + is_cut) * runtime->worker_count;

    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        struct esi_worker_stop *stop = &runtime->stops[first + i];
        *stop = (struct esi_worker_stop){
            .msg = {.kind = WORKER_STOP_ACTORS, .free = keep}, .phase = phase, .is_cut = is_cut};
        esi_actor_send(&runtime->workers[i].agent, &stop->msg);
    }
}

static void end_workers(struct esi_runtime *runtime)
{
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        struct esi_worker *worker = &runtime->workers[i];
        if (worker->thread == NULL) {
            continue;
        }
        runtime->ends[i] = (struct esi_msg){.kind = WORKER_END, .free = keep};
        esi_actor_send(&worker->agent, &runtime->ends[i]);
    }
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        esi_env_thread_join(runtime->options.env, ESI_MOVE(runtime->workers[i].thread));
    }
}

static void end_helpers(struct esi_runtime *runtime)
{
    esi_services_stop(&runtime->services);
    esi_reclaimer_stop(&runtime->reclaimer);
}

/* Bounded, should two parts answer each other for ever. */
static void bring_to_end(struct esi_runtime *runtime)
{
    bool has_work = true;

    for (uint32_t round = 0; has_work && round < SWEEPS_MAX; round++) {
        /* As a worker: a thread that is none holds an actor while it sends, and one that was
         * finished by force, with its last reference gone, would be freed twice. */
        esi_worker_assume(&runtime->workers[0]);
        has_work = esi_services_run_left(&runtime->services);
        /* No reader is left: the grace periods that are still asked for have passed. */
        has_work |= esi_reclaimer_answer_left(&runtime->reclaimer);
        esi_worker_assume(NULL);
        for (uint32_t i = 0; i < runtime->worker_count; i++) {
            has_work |= esi_worker_sweep(&runtime->workers[i]);
        }
    }
}

/*
 * All threads have ended. Whatever is still under way between actors, jobs and the reclaimer is
 * brought to its end here, by one thread: messages find their receivers or are freed, and who has
 * given its last reference up is freed.
 */
static void sweep(struct esi_runtime *runtime)
{
    /* Answers first: who waits for one knows that it will come, and holds no reference for it. */
    bring_to_end(runtime);
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        runtime->has_forced |= !esi_list_is_empty(&runtime->workers[i].actors);
        esi_worker_finish_actors(&runtime->workers[i]);
    }
    bring_to_end(runtime);
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        void *local = ESI_MOVE(runtime->workers[i].local);
        if (local != NULL && runtime->options.local_free != NULL) {
            runtime->options.local_free(runtime->options.local_argument, local);
        }
    }
}

enum es_err esi_runtime_stop(struct esi_runtime *runtime, uint64_t timeout_ns)
{
    bool timed_out = false;

    settle(runtime);
    for (int i = 0; i < STOP_PHASE_COUNT; i++) {
        const enum esi_stop_phase phase = (enum esi_stop_phase)i;
        const uint64_t more_ns = phase == STOP_DRAIN ? runtime->options.drain_ns : 0;
        tell_actors(runtime, phase, false);
        if (!wait_for_phase(runtime, phase, timeout_ns + more_ns)) {
            timed_out = true;
            tell_actors(runtime, phase, true);
            /* Who is late all the same may still end in the sweep. */
            (void)wait_for_phase(runtime, phase, timeout_ns < CUT_NS ? timeout_ns : CUT_NS);
        }
    }
    /* Jobs first: their answers are messages to actors that the workers still free. */
    end_helpers(runtime);
    end_workers(runtime);
    sweep(runtime);
    return timed_out ? ES_TIMEOUT : ES_OK;
}

bool esi_runtime_has_forced(const struct esi_runtime *runtime)
{
    return runtime->has_forced;
}

void esi_runtime_free(struct esi_runtime *runtime)
{
    if (runtime == NULL) {
        return;
    }
    for (uint32_t i = 0; runtime->workers != NULL && i < runtime->worker_count; i++) {
        esi_worker_deinit(&runtime->workers[i]);
    }
    free(runtime->workers);
    free(runtime->stops);
    free(runtime->ends);
    esi_services_deinit(&runtime->services);
    esi_reclaimer_deinit(&runtime->reclaimer);
    pthread_mutex_destroy(&runtime->count_mutex);
    pthread_cond_destroy(&runtime->count_changed);
    pthread_mutex_destroy(&runtime->moves_mutex);
    pthread_cond_destroy(&runtime->moves_ended);
    free(runtime);
}

static enum es_err start_worker(struct esi_runtime *runtime, struct esi_worker *worker)
{
    struct esi_env *env = runtime->options.env;
    char name[32];

    snprintf(name, sizeof name, "worker-%u", worker->index);
    if (!esi_env_is_stepped(env)) {
        return esi_env_thread_start(env, name, esi_worker_run, worker, &worker->thread);
    }
    const enum es_err err =
        esi_env_stepped_start(env, name, esi_worker_step, worker, worker->poller, &worker->thread);
    esi_runtime_make_local(runtime, worker);
    return err;
}

static enum es_err start_threads(struct esi_runtime *runtime)
{
    enum es_err err = esi_reclaimer_start(&runtime->reclaimer);

    if (err == ES_OK) {
        err = esi_services_start(&runtime->services, runtime->options.service_count);
    }
    for (uint32_t i = 0; err == ES_OK && i < runtime->worker_count; i++) {
        err = start_worker(runtime, &runtime->workers[i]);
    }
    return err == ES_OK ? wait_for_workers(runtime) : err;
}

static void apply_defaults(struct esi_runtime *runtime)
{
    struct esi_runtime_options *options = &runtime->options;

    if (options->worker_count == 0) {
        options->worker_count = esi_env_core_count(options->env);
    }
    if (options->service_count == 0) {
        options->service_count = SERVICE_COUNT_DEFAULT;
    }
    if (options->work_bound == 0) {
        options->work_bound = WORK_BOUND_DEFAULT;
    }
    if (options->worker_count > ESI_RUNTIME_WORKERS_MAX) {
        options->worker_count = ESI_RUNTIME_WORKERS_MAX;
    }
    if (options->service_count > ESI_RUNTIME_SERVICE_THREADS_MAX) {
        options->service_count = ESI_RUNTIME_SERVICE_THREADS_MAX;
    }
}

static uint32_t find_pin(const struct esi_runtime_options *options, uint32_t index)
{
    switch (options->pin) {
    case PIN_NONE:
        break;
    case PIN_CORES:
        return esi_env_core_at(options->env, index);
    case PIN_LIST:
        return options->pin_cores[index % options->pin_core_count];
    }
    return ESI_WORKER_UNPINNED;
}

enum es_err esi_runtime_new(const struct esi_runtime_options *options, struct esi_runtime **out)
{
    struct esi_runtime *runtime = calloc(1, sizeof *runtime);
    enum es_err err = ES_NO_MEMORY;

    if (runtime == NULL) {
        return ES_NO_MEMORY;
    }
    runtime->options = *options;
    apply_defaults(runtime);
    esi_services_init(&runtime->services, options->env);
    esi_reclaimer_init(&runtime->reclaimer, options->env);
    pthread_mutex_init(&runtime->count_mutex, NULL);
    esi_timed_wait_init(&runtime->count_changed);
    pthread_mutex_init(&runtime->moves_mutex, NULL);
    pthread_cond_init(&runtime->moves_ended, NULL);
    const uint32_t count = runtime->options.worker_count;
    runtime->workers = aligned_alloc(ESI_CACHE_LINE, count * sizeof *runtime->workers);
    runtime->stops = calloc((size_t)count * STOP_PHASE_COUNT * 2, sizeof *runtime->stops);
    runtime->ends = calloc(count, sizeof *runtime->ends);
    if (runtime->workers == NULL || runtime->stops == NULL || runtime->ends == NULL) {
        goto fail;
    }
    for (uint32_t i = 0; i < count; i++) {
        runtime->workers[i] = (struct esi_worker){0};
        runtime->workers[i].pin_core = find_pin(&runtime->options, i);
        err = esi_worker_init(&runtime->workers[i], runtime, i);
        if (err != ES_OK) {
            runtime->worker_count = i;
            goto fail;
        }
    }
    runtime->worker_count = count;
    err = start_threads(runtime);
    if (err != ES_OK) {
        end_helpers(runtime);
        end_workers(runtime);
        sweep(runtime);
        goto fail;
    }
    *out = runtime;
    return ES_OK;
fail:
    esi_runtime_free(runtime);
    return err;
}
