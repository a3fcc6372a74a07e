/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop of a worker: quiescent state, timers, what others scheduled, sockets, one turn for each
 * actor in the run queue. It sleeps only when there is nothing to run, and then offline, so that no
 * grace period waits for it.
 *
 * Going to sleep: set is_asleep, then look at the inbound list once more. Waking: push onto the
 * list, then look at is_asleep. Both have a full fence between the two steps, so at least one side
 * sees the other's.
 */
#include "runtime/worker.h"
#include "base/assert.h"
#include "base/own.h"
#include "runtime/move.h"

#include <stdlib.h>

enum { READY_MAX = 256, VISITS_A_TURN = 256, BUSY_WINDOW_NS = 100000000 };

static _Thread_local struct esi_worker *current_worker;

struct esi_worker *esi_worker_current(void)
{
    return current_worker;
}

void *esi_worker_local(const struct esi_worker *worker)
{
    return worker->local;
}

uint32_t esi_worker_index(const struct esi_worker *worker)
{
    return worker->index;
}

uint64_t esi_worker_now_ns(const struct esi_worker *worker)
{
    return worker->now_ns;
}

void esi_worker_note_answer(struct esi_worker *worker)
{
    worker->is_in_dialogue = true;
}

void esi_worker_stats(const struct esi_worker *worker, struct esi_worker_stats *out)
{
    *out = worker->stats;
    /* order: relaxed; our own value. */
    out->busy_permille = atomic_load_explicit(&worker->busy_permille, memory_order_relaxed);
}

const struct esi_worker_times *esi_worker_times(const struct esi_worker *worker)
{
    return &worker->times;
}

void esi_worker_enqueue(struct esi_worker *worker, struct esi_actor *actor)
{
    if (actor->is_queued) {
        return;
    }
    actor->is_queued = true;
    actor->next_in_run = NULL;
    if (worker->run_tail == NULL) {
        worker->run_head = actor;
    } else {
        worker->run_tail->next_in_run = actor;
    }
    worker->run_tail = actor;
    worker->stats.run_queue_length++;
    if (worker->stats.run_queue_length > worker->stats.run_queue_length_max) {
        worker->stats.run_queue_length_max = worker->stats.run_queue_length;
    }
}

void esi_worker_schedule_remote(struct esi_worker *worker, struct esi_actor *actor)
{
    /* order: relaxed; only a guess, corrected by the exchange below. */
    struct esi_actor *head = atomic_load_explicit(&worker->inbound, memory_order_relaxed);
    do {
        actor->next_inbound = head;
        /* order: release; pairs with the acquire in take_inbound, which then sees next_inbound. */
    } while (!atomic_compare_exchange_weak_explicit(&worker->inbound, &head, actor,
                                                    memory_order_release, memory_order_relaxed));
    /* order: seq_cst fence; pairs with the fence in sleep_in_poller: push before look, or set
     * before look again. */
    atomic_thread_fence(memory_order_seq_cst);
    /* order: relaxed; ordered by the fence above. */
    if (atomic_load_explicit(&worker->is_asleep, memory_order_relaxed) &&
        /* order: acq_rel; one waker alone pays the system call for a sleep. */
        atomic_exchange_explicit(&worker->is_asleep, false, memory_order_acq_rel)) {
        struct esi_worker *self = current_worker;
        if (self != NULL) {
            self->stats.wakes_sent++;
        }
        esi_env_poller_wake(worker->env, worker->poller);
    }
}

static void take_inbound(struct esi_worker *worker)
{
    /* order: relaxed; an empty list is the common case, what is missed now is seen before a
     * sleep. */
    if (atomic_load_explicit(&worker->inbound, memory_order_relaxed) == NULL) {
        return;
    }
    /* order: acquire; pairs with the release in esi_worker_schedule_remote. */
    struct esi_actor *newest =
        atomic_exchange_explicit(&worker->inbound, NULL, memory_order_acquire);
    struct esi_actor *oldest = NULL;
    while (newest != NULL) {
        struct esi_actor *next = newest->next_inbound;
        newest->next_inbound = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct esi_actor *next = oldest->next_inbound;
        if (ESI_UNLIKELY(oldest->load.move_to != NULL) && !oldest->is_queued &&
            esi_move_depart_claimed(oldest)) {
            oldest = next;
            continue;
        }
        if (ESI_UNLIKELY(esi_actor_home(oldest) == NULL)) {
            esi_move_arrive(worker, oldest);
        }
        /* order: acq_rel; from here on a push schedules anew; acquire: pairs with the exchange of a
         * sender that found it set already, whose push must be seen by the take that follows. */
        (void)atomic_exchange_explicit(&oldest->is_scheduled, false, memory_order_acq_rel);
        esi_worker_enqueue(worker, oldest);
        oldest = next;
    }
}

void esi_worker_mark(const struct esi_worker *worker, struct esi_worker_mark *mark)
{
    *mark = (struct esi_worker_mark){.now_ns = worker->now_ns,
                                     .busy_ns = worker->stats.busy_ns,
                                     .cpu_ns = esi_env_thread_cpu_ns(worker->env)};
}

uint32_t esi_worker_busy_since(const struct esi_worker *worker, const struct esi_worker_mark *mark)
{
    const uint64_t window_ns = worker->now_ns - mark->now_ns;
    const uint64_t turns_ns = worker->stats.busy_ns - mark->busy_ns;
    const uint64_t cpu_ns = esi_env_thread_cpu_ns(worker->env) - mark->cpu_ns;
    const uint64_t used_ns = cpu_ns < turns_ns ? cpu_ns : turns_ns;

    if (window_ns == 0) {
        return 0;
    }
    return used_ns >= window_ns ? 1000 : (uint32_t)(used_ns * 1000 / window_ns);
}

static void update_busy(struct esi_worker *worker, uint64_t busy_ns)
{
    worker->stats.busy_ns += busy_ns;
    /* order: relaxed; our own value. */
    const uint64_t start_ns = atomic_load_explicit(&worker->window_start_ns, memory_order_relaxed);
    if (worker->now_ns - start_ns >= BUSY_WINDOW_NS) {
        /* order: relaxed; a hint for placement. */
        atomic_store_explicit(&worker->busy_permille,
                              esi_worker_busy_since(worker, &worker->busy_mark),
                              memory_order_relaxed);
        /* order: relaxed; tells how old the hint is. */
        atomic_store_explicit(&worker->window_start_ns, worker->now_ns, memory_order_relaxed);
        esi_worker_mark(worker, &worker->busy_mark);
    }
}

static void distribute(struct esi_worker *worker, const struct esi_poll_ready *ready, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct esi_io *io = ready[i].tag;
        if (io == NULL) {
            worker->stats.wakes_received++;
            continue;
        }
        io->ready |= ready[i].events;
        if (!io->is_listed) {
            io->is_listed = true;
            io->next_ready = io->actor->ready_ios;
            io->actor->ready_ios = io;
        }
        esi_worker_enqueue(worker, io->actor);
    }
}

/* How long the poller may wait: not at all while there is something to run. */
static int64_t sleep_limit_ns(const struct esi_worker *worker)
{
    const uint64_t next_ns = esi_timer_wheel_next_ns(&worker->wheel);

    if (next_ns == UINT64_MAX) {
        return -1;
    }
    return next_ns <= worker->now_ns ? 0 : (int64_t)(next_ns - worker->now_ns);
}

static bool has_inbound_actors(const struct esi_worker *worker)
{
    /* order: relaxed; what is missed now is seen by the next look, or wakes the poller. */
    return atomic_load_explicit(&worker->inbound, memory_order_relaxed) != NULL;
}

/* What a wait ends for beside sockets and timers. */
static bool has_other_work(struct esi_worker *worker)
{
    return has_inbound_actors(worker) || esi_grace_watch_is_due(&worker->graces);
}

/* Looks at the poller again and again for a moment. Returns what it found; 0 also when an actor was
 * scheduled, or a grace period has passed. */
static size_t linger_awake(struct esi_worker *worker, struct esi_poll_ready *ready)
{
    const uint64_t start_ns = worker->now_ns;
    size_t count = esi_env_poller_wait(worker->env, worker->poller, 0, ready, READY_MAX);

    if (count > 0) {
        return count;
    }
    do {
        count = esi_env_poller_wait(worker->env, worker->poller, 0, ready, READY_MAX);
        worker->now_ns = esi_env_now_ns(worker->env);
    } while (count == 0 && !has_other_work(worker) && worker->now_ns - start_ns < ESI_LINGER_NS);
    esi_linger_end(&worker->linger, worker->now_ns - start_ns);
    return count;
}

/* Sleeps until a socket, a timer or another worker has something. */
static size_t sleep_in_poller(struct esi_worker *worker, int64_t limit_ns,
                              struct esi_poll_ready *ready)
{
    size_t count = 0;

    /* order: relaxed; ordered by the fence below. */
    atomic_store_explicit(&worker->is_asleep, true, memory_order_relaxed);
    /* order: seq_cst fence; pairs with the fence in esi_worker_schedule_remote. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!has_inbound_actors(worker)) {
        worker->stats.sleeps++;
        count = esi_env_poller_wait(worker->env, worker->poller, limit_ns, ready, READY_MAX);
    }
    /* order: relaxed; a waker that still sees it set only writes an unneeded wake-up. */
    atomic_store_explicit(&worker->is_asleep, false, memory_order_relaxed);
    return count;
}

/* Does a stream come that nobody waits for, and is no timer due before it has gathered? */
static bool may_gather(const struct esi_worker *worker, int64_t limit_ns)
{
    return worker->is_streaming && !worker->is_in_dialogue &&
           (limit_ns < 0 || limit_ns >= (int64_t)worker->gather_ns);
}

/* Leaves the stream alone for a moment: one wake-up then serves all that has come. Who sends from
 * another worker meanwhile need not wake this one. */
static size_t gather(struct esi_worker *worker, struct esi_poll_ready *ready)
{
    esi_env_nap(worker->env, worker->gather_ns);
    return esi_env_poller_wait(worker->env, worker->poller, 0, ready, READY_MAX);
}

/*
 * Nothing to run: waits for a socket, a timer or another worker. While peers answer what is written
 * to them the worker stays awake for a moment first, where that pays (runtime/linger.h). One that
 * only carries a stream sleeps at once, or lets it gather (threads.gather): who waits for that is
 * not held up by a sleep, only by the last message of many.
 */
static size_t wait_for_work(struct esi_worker *worker, int64_t limit_ns,
                            struct esi_poll_ready *ready)
{
    /* The end of the last turn. */
    const uint64_t start_ns = worker->now_ns;
    const bool has_time = limit_ns < 0 || limit_ns >= ESI_LINGER_NS;
    size_t count = 0;

    esi_grace_watch_pause(&worker->graces);
    if (worker->may_linger && worker->is_in_dialogue && has_time &&
        esi_linger_begin(&worker->linger)) {
        count = linger_awake(worker, ready);
    } else if (may_gather(worker, limit_ns)) {
        count = gather(worker, ready);
    }
    worker->is_in_dialogue = false;
    if (count == 0 && !has_other_work(worker)) {
        esi_grace_watch_leave(&worker->graces);
        count = sleep_in_poller(worker, limit_ns, ready);
    }
    esi_grace_watch_resume(&worker->graces);
    worker->now_ns = esi_env_now_ns(worker->env);
    worker->stats.idle_ns += worker->now_ns - start_ns;
    /* A wait that was twice as long had a message at most. */
    worker->is_streaming = count > 0 && worker->now_ns - start_ns < 2 * worker->gather_ns;
    return count;
}

/* What there is at the sockets, and waits for it where there is nothing else to do. */
static size_t poll_sockets(struct esi_worker *worker, struct esi_poll_ready *ready)
{
    const int64_t limit_ns = worker->run_head != NULL ? 0 : sleep_limit_ns(worker);

    if (limit_ns != 0 && !has_inbound_actors(worker)) {
        return wait_for_work(worker, limit_ns, ready);
    }
    const size_t count = esi_env_poller_wait(worker->env, worker->poller, 0, ready, READY_MAX);
    worker->now_ns = esi_env_now_ns(worker->env);
    return count;
}

static void fire_timers(struct esi_worker *worker)
{
    struct esi_timer *timer;

    while ((timer = esi_timer_wheel_expire(&worker->wheel, worker->now_ns)) != NULL) {
        struct esi_actor *actor = ((struct esi_actor_timer *)(void *)timer)->actor;
        if (!actor->is_finished && actor->type->timer != NULL) {
            actor->type->timer(actor, timer);
            if (!actor->is_finished) {
                /* So that its turn_end runs. */
                esi_actor_continue(actor);
            }
        }
    }
}

/* One turn for each actor that is queued now; those that queue meanwhile run in the next turn of
 * the loop. */
static void run_actors(struct esi_worker *worker, uint32_t work_bound)
{
    uint32_t count = worker->stats.run_queue_length;

    while (count-- > 0 && worker->run_head != NULL) {
        struct esi_actor *actor = worker->run_head;
        worker->run_head = actor->next_in_run;
        if (worker->run_head == NULL) {
            worker->run_tail = NULL;
        }
        worker->stats.run_queue_length--;
        actor->is_queued = false;
        const uint64_t start_ns = worker->now_ns;
        worker->current = actor;
        worker->now_ns = esi_actor_run(actor, start_ns, work_bound);
        worker->current = NULL;
        update_busy(worker, worker->now_ns - start_ns);
    }
}

void esi_worker_take_in(struct esi_worker *worker, struct esi_actor *actor)
{
    esi_list_append(&worker->actors, &actor->in_worker);
    worker->stats.actors++;
}

void esi_worker_forget(struct esi_worker *worker, struct esi_actor *actor)
{
    for (struct esi_visit *visit = worker->visits; visit != NULL; visit = visit->next_visit) {
        if (visit->next_actor == &actor->in_worker) {
            visit->next_actor = actor->in_worker.next;
        }
    }
    esi_balance_forget(&worker->balance, actor);
    esi_list_remove(&actor->in_worker);
    worker->stats.actors--;
}

static void stop_actors(struct esi_worker *worker, enum esi_stop_phase phase)
{
    worker->stopped_phases |= 1U << phase;
    for (struct esi_list *link = worker->actors.next; link != &worker->actors;) {
        struct esi_actor *actor = ESI_CONTAINER_OF(link, struct esi_actor, in_worker);
        link = link->next;
        if (actor->type->stop_phase == phase && !actor->is_stopping) {
            actor->is_stopping = true;
            actor->type->stop(actor);
            if (!actor->is_finished) {
                esi_actor_continue(actor);
            }
        }
    }
}

static void cut_actors(struct esi_worker *worker, enum esi_stop_phase phase)
{
    for (struct esi_list *link = worker->actors.next; link != &worker->actors;) {
        struct esi_actor *actor = ESI_CONTAINER_OF(link, struct esi_actor, in_worker);
        link = link->next;
        if (actor->type->stop_phase == phase && actor->type->cut != NULL) {
            actor->type->cut(actor);
            if (!actor->is_finished) {
                esi_actor_continue(actor);
            }
        }
    }
}

static void begin_visit(struct esi_worker *worker, struct esi_visit *visit)
{
    visit->next_actor = visit->visit != NULL ? worker->actors.next : &worker->actors;
    visit->next_visit = worker->visits;
    worker->visits = visit;
    if (visit->visit_worker != NULL) {
        visit->visit_worker(worker, visit->argument);
    }
}

/* Visits some of the worker's actors: what is shown of many must not hold up all others. */
static void visit_some(struct esi_worker *worker, struct esi_visit *visit)
{
    for (uint32_t i = 0; i < VISITS_A_TURN && visit->next_actor != &worker->actors; i++) {
        struct esi_list *link = visit->next_actor;
        visit->is_unfinished = false;
        visit->visit(ESI_CONTAINER_OF(link, struct esi_actor, in_worker), visit->argument);
        if (visit->is_unfinished) {
            return;
        }
        if (visit->next_actor == link) {
            visit->next_actor = link->next;
        }
    }
}

static void end_visit(struct esi_worker *worker, struct esi_visit *visit)
{
    visit->next_worker++;
    if (visit->next_worker < esi_runtime_worker_count(worker->runtime)) {
        esi_actor_send(&esi_runtime_worker(worker->runtime, visit->next_worker)->agent,
                       &visit->msg);
    } else {
        esi_runtime_end_visit(worker->runtime);
        esi_actor_send(visit->asker, visit->done);
    }
}

static void carry_visits_on(struct esi_actor *actor)
{
    struct esi_worker *worker = ESI_CONTAINER_OF(actor, struct esi_worker, agent);

    for (struct esi_visit **link = &worker->visits; *link != NULL;) {
        struct esi_visit *visit = *link;
        visit_some(worker, visit);
        if (visit->next_actor == &worker->actors) {
            *link = visit->next_visit;
            end_visit(worker, visit);
        } else {
            link = &visit->next_visit;
        }
    }
    if (worker->visits != NULL) {
        esi_actor_continue(actor);
    }
}

/*
 * The last reference of an actor was given up a grace period ago: every send to it has been
 * completed, so it may still stand in our inbound list or run queue, and then nowhere any more.
 */
static void reap(struct esi_worker *worker, struct esi_actor *actor)
{
    take_inbound(worker);
    actor->is_reaped = true;
    esi_worker_enqueue(worker, actor);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_worker *worker = ESI_CONTAINER_OF(actor, struct esi_worker, agent);

    switch ((enum worker_msg)msg->kind) {
    case WORKER_STOP_ACTORS: {
        const struct esi_worker_stop *stop = (const struct esi_worker_stop *)(const void *)msg;
        (stop->is_cut ? cut_actors : stop_actors)(worker, stop->phase);
        break;
    }
    case WORKER_END:
        worker->is_ending = true;
        break;
    case WORKER_VISIT:
        begin_visit(worker, ESI_CONTAINER_OF(msg, struct esi_visit, msg));
        break;
    case WORKER_REAP:
        reap(worker, ESI_CONTAINER_OF(msg, struct esi_actor, reap.msg));
        break;
    }
}

static void stop_agent(struct esi_actor *actor)
{
    (void)actor; /* ends with its worker */
}

static const struct esi_actor_type agent_type = {
    .name = "worker",
    .stop_phase = STOP_PHASE_COUNT,
    .handle = handle,
    .turn_end = carry_visits_on,
    .stop = stop_agent,
};

enum es_err esi_worker_init(struct esi_worker *worker, struct esi_runtime *runtime, uint32_t index)
{
    worker->runtime = runtime;
    worker->env = esi_runtime_env(runtime);
    worker->index = index;
    worker->gather_ns = esi_runtime_options(runtime)->gather_ns;
    worker->may_linger = esi_env_core_count(worker->env) > 1;
    worker->now_ns = esi_env_now_ns(worker->env);
    worker->busy_mark = (struct esi_worker_mark){.now_ns = worker->now_ns};
    atomic_init(&worker->window_start_ns, worker->now_ns);
    esi_timer_wheel_init(&worker->wheel, worker->now_ns);
    esi_list_init(&worker->actors);
    atomic_init(&worker->is_asleep, false);
    atomic_init(&worker->busy_permille, 0);
    atomic_init(&worker->inbound, NULL);
    esi_actor_init(&worker->agent, &agent_type, runtime, worker);
    worker->agent.is_started = true;
    esi_balance_init(worker);
    enum es_err err =
        esi_grace_watch_init(&worker->graces, runtime, esi_runtime_options(runtime)->worker_count);
    if (err == ES_OK) {
        err = esi_env_poller_new(worker->env, &worker->poller);
    }
    if (err != ES_OK) {
        esi_grace_watch_deinit(&worker->graces);
    }
    return err;
}

void esi_worker_deinit(struct esi_worker *worker)
{
    esi_env_poller_free(worker->env, ESI_MOVE(worker->poller));
    esi_grace_watch_deinit(&worker->graces);
}

/* What there is to do now. Its time is set. */
static void run_turn(struct esi_worker *worker, const struct esi_poll_ready *ready, size_t count)
{
    const uint32_t work_bound = esi_runtime_work_bound(worker->runtime);

    worker->stats.turns++;
    /* Before any reaction: a timer that unwatches a socket takes its events back too. */
    distribute(worker, ready, count);
    fire_timers(worker);
    take_inbound(worker);
    run_actors(worker, work_bound);
    /* Once more for what these have sent to each other: a delivery is then written without
     * asking the poller first. */
    run_actors(worker, work_bound);
    if (ESI_UNLIKELY(worker->now_ns >= worker->balance.window_end_ns)) {
        esi_balance_end_window(worker);
    }
}

static void run_loop(struct esi_worker *worker)
{
    struct esi_poll_ready ready[READY_MAX];

    while (!worker->is_ending) {
        esi_grace_watch_next_turn(&worker->graces);
        const size_t count = poll_sockets(worker, ready);
        run_turn(worker, ready, count);
    }
}

void esi_worker_run(void *argument)
{
    struct esi_worker *worker = argument;

    current_worker = worker;
    esi_grace_watch_open(&worker->graces);
    esi_runtime_make_local(worker->runtime, worker);
    run_loop(worker);
    esi_grace_watch_close(&worker->graces);
}

/* When the next turn is due, where nobody wakes the worker before. */
static uint64_t fall_asleep(struct esi_worker *worker)
{
    if (worker->run_head != NULL || has_inbound_actors(worker)) {
        return 0;
    }
    worker->stats.sleeps++;
    /* order: relaxed; there is one thread. */
    atomic_store_explicit(&worker->is_asleep, true, memory_order_relaxed);
    return esi_timer_wheel_next_ns(&worker->wheel);
}

bool esi_worker_step(void *argument, uint64_t *next_ns)
{
    struct esi_worker *worker = argument;
    struct esi_poll_ready ready[READY_MAX];

    /* order: relaxed; there is one thread. */
    atomic_store_explicit(&worker->is_asleep, false, memory_order_relaxed);
    current_worker = worker;
    const size_t count = esi_env_poller_wait(worker->env, worker->poller, 0, ready, READY_MAX);
    worker->now_ns = esi_env_now_ns(worker->env);
    run_turn(worker, ready, count);
    current_worker = NULL;
    /* One that has ended does not sleep: nobody may wake its poller, whose thread goes. */
    *next_ns = worker->is_ending ? UINT64_MAX : fall_asleep(worker);
    return !worker->is_ending;
}

void esi_worker_assume(struct esi_worker *worker)
{
    current_worker = worker;
}

void esi_worker_finish_actors(struct esi_worker *worker)
{
    current_worker = worker;
    while (!esi_list_is_empty(&worker->actors)) {
        struct esi_actor *actor =
            ESI_CONTAINER_OF(worker->actors.next, struct esi_actor, in_worker);
        esi_actor_finish(actor);
    }
    current_worker = NULL;
}

bool esi_worker_sweep(struct esi_worker *worker)
{
    current_worker = worker;
    take_inbound(worker);
    const bool has_work = worker->run_head != NULL;
    run_actors(worker, UINT32_MAX);
    current_worker = NULL;
    return has_work;
}
