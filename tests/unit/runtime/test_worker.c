/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: workers have their own state, sleep when there is nothing to do and are woken by what is
 * sent to them, count what they do, and are chosen for new actors by how busy they are. Method: one
 * actor that answers, and an environment whose clock can be moved forward.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/actor.h"
#include "runtime_case.h"

#include "base/own.h"

#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORKERS = 3 };

/* --- an environment whose clock can be moved forward --- */

static struct esi_env_ops moved_ops;
static struct esi_env moved_env = {.ops = &moved_ops};
static _Atomic uint64_t moved_ns;

static uint64_t moved_now_ns(struct esi_env *env)
{
    (void)env;
    /* order: relaxed; a time. */
    return esi_env_now_ns(esi_env_linux()) + atomic_load_explicit(&moved_ns, memory_order_relaxed);
}

/* --- what each worker has --- */

struct local {
    uint32_t index;
};

static _Atomic uint32_t locals_made;
static _Atomic uint32_t locals_freed;
static uint32_t failing_index = UINT32_MAX;

static void *new_local(void *argument, uint32_t worker_index)
{
    case_check(argument == &locals_made);
    if (worker_index == failing_index) {
        return NULL;
    }
    struct local *local = malloc(sizeof *local);
    case_check(local != NULL);
    local->index = worker_index;
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&locals_made, 1, memory_order_relaxed);
    return local;
}

static void free_local(void *argument, void *local)
{
    case_check(argument == &locals_made);
    free(local);
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&locals_freed, 1, memory_order_relaxed);
}

static enum es_err start(struct esi_runtime **runtime)
{
    const struct esi_runtime_options options = {
        .env = &moved_env,
        .worker_count = WORKERS,
        .local_new = new_local,
        .local_free = free_local,
        .local_argument = &locals_made,
    };

    moved_ops = *esi_env_linux()->ops;
    moved_ops.now_ns = moved_now_ns;
    moved_ops.thread_cpu_ns = NULL;
    /* order: relaxed; no thread runs yet. */
    atomic_store_explicit(&locals_made, 0, memory_order_relaxed);
    /* order: relaxed; no thread runs yet. */
    atomic_store_explicit(&locals_freed, 0, memory_order_relaxed);
    return esi_runtime_new(&options, runtime);
}

/* --- an actor that does what it is told --- */

struct doer {
    struct esi_actor actor; /* first */
    void (*job)(struct doer *self);
    struct esi_msg msg;
    struct doer *other;
    bool is_in_dialogue; /* its worker may wait awake */
    sem_t done;
    struct esi_worker_stats stats;
    uint32_t index;
};

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void doer_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct doer *self = ESI_CONTAINER_OF(actor, struct doer, actor);

    (void)msg;
    self->job(self);
    sem_post(&self->done);
}

static void doer_stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void doer_free(struct esi_actor *actor)
{
    struct doer *self = ESI_CONTAINER_OF(actor, struct doer, actor);

    sem_destroy(&self->done);
    free(self);
}

static const struct esi_actor_type doer_type = {
    .name = "doer", .handle = doer_handle, .stop = doer_stop, .free = doer_free};

static struct doer *new_doer(struct esi_runtime *runtime, uint32_t worker,
                             void (*job)(struct doer *self))
{
    struct doer *doer = aligned_alloc(ESI_CACHE_LINE, sizeof *doer);

    case_check(doer != NULL);
    memset(doer, 0, sizeof *doer);
    doer->job = job;
    doer->msg = (struct esi_msg){.free = keep};
    sem_init(&doer->done, 0, 0);
    esi_actor_init(&doer->actor, &doer_type, runtime, esi_runtime_worker(runtime, worker));
    esi_actor_start(&doer->actor);
    return doer;
}

static void run(struct doer *doer)
{
    esi_actor_send(&doer->actor, &doer->msg);
    await(&doer->done);
}

static void look_around(struct doer *self)
{
    struct esi_worker *worker = esi_worker_current();
    const struct local *local = esi_worker_local(worker);

    case_check(worker == esi_actor_home(&self->actor));
    case_check(local->index == esi_worker_index(worker));
    case_check(esi_worker_now_ns(worker) == esi_actor_now_ns(&self->actor));
    self->index = local->index;
    esi_worker_stats(worker, &self->stats);
}

static void test_each_has_its_own(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    assert_null(esi_worker_current());
    assert_int_equal(start(&runtime), ES_OK);
    assert_int_equal(atomic_load(&locals_made), WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct doer *doer = new_doer(runtime, i, look_around);
        run(doer);
        assert_int_equal(doer->index, i);
        assert_int_equal(doer->stats.actors, 1);
    }
    assert_null(esi_worker_current());
    stop_runtime(runtime);
    assert_int_equal(atomic_load(&locals_freed), WORKERS);
}

static void test_a_worker_without_its_own_state_is_an_error(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    failing_index = 1;
    assert_int_equal(start(&runtime), ES_NO_MEMORY);
    failing_index = UINT32_MAX;
    assert_null(runtime);
    assert_int_equal(atomic_load(&locals_made), WORKERS - 1);
    assert_int_equal(atomic_load(&locals_freed), WORKERS - 1);
}

static void send_to_other(struct doer *self)
{
    if (self->is_in_dialogue) {
        esi_worker_note_answer(esi_worker_current());
    }
    esi_actor_send(&self->other->actor, &self->other->msg);
    esi_worker_stats(esi_worker_current(), &self->stats);
}

/* However the two interleave, a message to a worker that is falling asleep is not forgotten. */
static void test_sleepers_are_woken(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    assert_int_equal(start(&runtime), ES_OK);
    struct doer *first = new_doer(runtime, 0, send_to_other);
    struct doer *second = new_doer(runtime, 1, look_around);
    first->other = second;
    for (uint32_t round = 0; round < 2000; round++) {
        esi_actor_send(&first->actor, &first->msg);
        await(&first->done);
        await(&second->done);
    }
    assert_true(second->stats.sleeps > 0);
    assert_true(second->stats.idle_ns > 0);
    assert_true(first->stats.wakes_sent > 0);
    assert_true(first->stats.wakes_sent <= first->stats.messages_remote);
    assert_in_range(first->stats.messages_remote, 2000, 2010);
    stop_runtime(runtime);
}

/* The same for one that waits awake first: who answers need not wake it, and may. */
static void test_those_that_wait_awake_are_reached(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    assert_int_equal(start(&runtime), ES_OK);
    struct doer *first = new_doer(runtime, 0, send_to_other);
    struct doer *second = new_doer(runtime, 1, send_to_other);
    struct doer *third = new_doer(runtime, 0, look_around);
    first->other = second;
    second->other = third;
    first->is_in_dialogue = true;
    second->is_in_dialogue = true;
    for (uint32_t round = 0; round < 2000; round++) {
        esi_actor_send(&first->actor, &first->msg);
        await(&first->done);
        await(&second->done);
        await(&third->done);
    }
    assert_in_range(second->stats.messages_remote, 2000, 2010);
    stop_runtime(runtime);
}

static void be_busy(struct doer *self)
{
    struct esi_env *env = esi_runtime_env(self->actor.runtime);
    const uint64_t start_ns = esi_env_now_ns(env);

    while (esi_env_now_ns(env) - start_ns < 250000000) {
    }
}

/* New actors fill the first worker as long as it is not busy, and what it was long ago does not
 * count. */
static void test_placement(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    assert_int_equal(start(&runtime), ES_OK);
    assert_ptr_equal(esi_runtime_place(runtime), esi_runtime_worker(runtime, 0));
    assert_ptr_equal(esi_runtime_place(runtime), esi_runtime_worker(runtime, 0));
    struct doer *busy = new_doer(runtime, 0, be_busy);
    run(busy);
    run(busy);
    assert_ptr_equal(esi_runtime_place(runtime), esi_runtime_worker(runtime, 1));
    /* order: relaxed; a time. */
    atomic_fetch_add_explicit(&moved_ns, 5000000000U, memory_order_relaxed);
    assert_ptr_equal(esi_runtime_place(runtime), esi_runtime_worker(runtime, 0));
    stop_runtime(runtime);
}

static void test_spread_placement(void **state)
{
    struct esi_runtime *runtime = start_runtime(WORKERS);

    (void)state;
    for (uint32_t i = 0; i < 2 * WORKERS; i++) {
        assert_ptr_equal(esi_runtime_place(runtime), esi_runtime_worker(runtime, i % WORKERS));
    }
    stop_runtime(runtime);
}

/* --- a hot actor and its neighbour --- */

enum { WORK_BOUND = 16, HEAP = 5000 };

struct hot {
    struct esi_actor actor; /* first */
    uint64_t handled;
    struct esi_msg msgs[HEAP];
};

struct quiet {
    struct esi_actor actor; /* first */
    const struct hot *hot;
    uint64_t hot_handled; /* when its own message came */
    struct esi_msg msg;
    sem_t done;
};

static _Atomic bool is_cooling;
static sem_t gate;
static sem_t hot_freed;

/* As long as it is hot each of its messages comes back. */
static void hot_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct hot *self = ESI_CONTAINER_OF(actor, struct hot, actor);

    self->handled++;
    /* order: relaxed; seen some day. */
    if (!atomic_load_explicit(&is_cooling, memory_order_relaxed)) {
        esi_actor_send(actor, msg);
    }
}

static void quiet_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct quiet *self = ESI_CONTAINER_OF(actor, struct quiet, actor);

    (void)msg;
    self->hot_handled = self->hot->handled;
    sem_post(&self->done);
}

static void count_freed(struct esi_actor *actor)
{
    (void)actor; /* by the test */
    sem_post(&hot_freed);
}

static const struct esi_actor_type hot_type = {
    .name = "hot", .handle = hot_handle, .stop = doer_stop, .free = count_freed};
static const struct esi_actor_type quiet_type = {
    .name = "quiet", .handle = quiet_handle, .stop = doer_stop, .free = count_freed};

static void hold_the_worker(struct doer *self)
{
    (void)self;
    await(&gate);
}

static void *new_zeroed(size_t size)
{
    void *part = aligned_alloc(ESI_CACHE_LINE, (size + ESI_CACHE_LINE - 1) & ~(size_t)63);

    case_check(part != NULL);
    return memset(part, 0, size);
}

/* Whatever stands in its mailbox, and however fast more comes, a hot actor makes room after
 * work_bound messages. */
static void test_hot_actors_make_room(void **state)
{
    const struct esi_runtime_options options = {
        .env = esi_env_linux(), .worker_count = 1, .work_bound = WORK_BOUND};
    struct esi_runtime *runtime = NULL;
    struct hot *hot = new_zeroed(sizeof *hot);
    struct quiet *quiet = new_zeroed(sizeof *quiet);

    (void)state;
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_OK);
    sem_init(&gate, 0, 0);
    sem_init(&hot_freed, 0, 0);
    sem_init(&quiet->done, 0, 0);
    /* order: relaxed; the actors have not begun. */
    atomic_store_explicit(&is_cooling, false, memory_order_relaxed);
    quiet->hot = hot;
    esi_actor_init(&hot->actor, &hot_type, runtime, esi_runtime_worker(runtime, 0));
    esi_actor_init(&quiet->actor, &quiet_type, runtime, esi_runtime_worker(runtime, 0));
    struct doer *holder = new_doer(runtime, 0, hold_the_worker);
    esi_actor_send(&holder->actor, &holder->msg);
    esi_actor_start(&hot->actor);
    esi_actor_start(&quiet->actor);
    for (uint32_t i = 0; i < HEAP; i++) {
        hot->msgs[i] = (struct esi_msg){.kind = 1, .free = keep};
        esi_actor_send(&hot->actor, &hot->msgs[i]);
    }
    quiet->msg = (struct esi_msg){.kind = 1, .free = keep};
    esi_actor_send(&quiet->actor, &quiet->msg);
    sem_post(&gate);
    await(&holder->done);
    await(&quiet->done);
    assert_in_range(quiet->hot_handled, 0, 2 * WORK_BOUND);
    /* And again, while it is in full swing. */
    for (uint32_t i = 0; i < 20; i++) {
        esi_actor_send(&quiet->actor, &quiet->msg);
        await(&quiet->done);
    }
    assert_true(quiet->hot_handled > 2 * WORK_BOUND);
    /* order: relaxed; seen some day. */
    atomic_store_explicit(&is_cooling, true, memory_order_relaxed);
    stop_runtime(runtime);
    await_count(&hot_freed, 2);
    sem_destroy(&gate);
    sem_destroy(&hot_freed);
    sem_destroy(&quiet->done);
    free(hot);
    free(quiet);
}

/* --- a stream that gathers --- */

enum { STREAM = 100 };

struct stream {
    struct esi_actor actor; /* first */
    struct esi_io io;
    int ends[2]; /* the actor reads the first */
    bool is_in_dialogue;
    _Atomic uint32_t read;
    _Atomic uint32_t naps;
    struct esi_worker_stats stats;
    sem_t done;
};

static struct stream *gathered;

/* What comes while the worker naps. */
static void nap_and_write(struct esi_env *env, uint64_t duration_ns)
{
    (void)env;
    case_check(duration_ns == 20000000000);
    /* order: relaxed; read when the worker has ended. */
    const uint32_t naps = atomic_fetch_add_explicit(&gathered->naps, 1, memory_order_relaxed);
    if (naps < STREAM && !gathered->is_in_dialogue) {
        case_check(write(gathered->ends[1], "x", 1) == 1);
    }
}

static void stream_ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct stream *self = ESI_CONTAINER_OF(actor, struct stream, actor);
    char byte;

    (void)io;
    (void)events;
    case_check(read(self->ends[0], &byte, 1) == 1);
    if (self->is_in_dialogue) {
        esi_worker_note_answer(esi_worker_current());
    }
    esi_worker_stats(esi_worker_current(), &self->stats);
    /* order: relaxed; the semaphore orders. */
    atomic_fetch_add_explicit(&self->read, 1, memory_order_relaxed);
    sem_post(&self->done);
}

static void stream_start(struct esi_actor *actor)
{
    struct stream *self = ESI_CONTAINER_OF(actor, struct stream, actor);

    esi_actor_io_init(actor, &self->io);
    case_check(esi_actor_io_watch(&self->io, self->ends[0], POLL_READ) == ES_OK);
}

static void stream_stop(struct esi_actor *actor)
{
    esi_actor_io_unwatch(&ESI_CONTAINER_OF(actor, struct stream, actor)->io);
    esi_actor_finish(actor);
}

static const struct esi_actor_type stream_type = {.name = "stream",
                                                  .start = stream_start,
                                                  .ready = stream_ready,
                                                  .stop = stream_stop,
                                                  .free = count_freed};

static void begin_stream(struct esi_runtime **runtime, bool is_in_dialogue)
{
    const struct esi_runtime_options options = {
        .env = &moved_env, .worker_count = 1, .gather_ns = 20000000000};

    moved_ops = *esi_env_linux()->ops;
    moved_ops.nap = nap_and_write;
    gathered = new_zeroed(sizeof *gathered);
    gathered->is_in_dialogue = is_in_dialogue;
    sem_init(&gathered->done, 0, 0);
    sem_init(&hot_freed, 0, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gathered->ends), 0);
    assert_int_equal(esi_runtime_new(&options, runtime), ES_OK);
    esi_actor_init(&gathered->actor, &stream_type, *runtime, esi_runtime_worker(*runtime, 0));
    esi_actor_start(&gathered->actor);
}

static void end_stream(struct esi_runtime *runtime)
{
    stop_runtime(runtime);
    await(&hot_freed);
    close(gathered->ends[0]);
    close(gathered->ends[1]);
    sem_destroy(&gathered->done);
    sem_destroy(&hot_freed);
    free(gathered);
}

/* Messages that come in quick succession are waited for by naps, which find all of them; the worker
 * falls asleep when nothing more comes. */
static void test_a_stream_gathers(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    begin_stream(&runtime, false);
    assert_int_equal(write(gathered->ends[1], "x", 1), 1);
    await_count(&gathered->done, STREAM + 1);
    assert_int_equal(atomic_load(&gathered->read), STREAM + 1);
    assert_in_range(gathered->stats.sleeps, 0, 10);
    end_stream(runtime);
}

/* Somebody waits for an answer: it is not left to gather. */
static void test_answers_do_not_gather(void **state)
{
    struct esi_runtime *runtime = NULL;

    (void)state;
    begin_stream(&runtime, true);
    assert_int_equal(write(gathered->ends[1], "x", 1), 1);
    await(&gathered->done);
    const uint32_t naps = atomic_load(&gathered->naps); /* behind the actor's start */
    for (uint32_t i = 0; i < STREAM; i++) {
        assert_int_equal(write(gathered->ends[1], "x", 1), 1);
        await(&gathered->done);
    }
    assert_int_equal(atomic_load(&gathered->naps), naps);
    end_stream(runtime);
}

/* --- pinned workers --- */

static void note_core(struct doer *self)
{
    cpu_set_t set;

    case_check(sched_getaffinity(0, sizeof set, &set) == 0);
    self->index = UINT32_MAX;
    for (uint32_t core = 0; core < CPU_SETSIZE && CPU_COUNT(&set) == 1; core++) {
        if (CPU_ISSET(core, &set)) {
            self->index = core;
        }
    }
}

static uint32_t core_of(struct esi_runtime *runtime, uint32_t worker)
{
    struct doer *doer = new_doer(runtime, worker, note_core);

    run(doer);
    return doer->index;
}

static void test_workers_are_pinned(void **state)
{
    const uint32_t last = esi_env_core_at(esi_env_linux(), esi_env_core_count(esi_env_linux()) - 1);
    const uint32_t absent = CPU_SETSIZE + 5000;
    struct esi_runtime_options options = {
        .env = esi_env_linux(), .worker_count = 2, .pin = PIN_CORES};
    struct esi_runtime *runtime = NULL;

    (void)state;
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_OK);
    assert_int_equal(core_of(runtime, 0), esi_env_core_at(esi_env_linux(), 0));
    assert_int_equal(core_of(runtime, 1), esi_env_core_at(esi_env_linux(), 1));
    stop_runtime(runtime);
    options.pin = PIN_LIST;
    options.pin_cores = &last;
    options.pin_core_count = 1;
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_OK);
    assert_int_equal(core_of(runtime, 0), last);
    assert_int_equal(core_of(runtime, 1), last);
    stop_runtime(runtime);
    options.pin_cores = &absent;
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_its_own),
        cmocka_unit_test(test_a_worker_without_its_own_state_is_an_error),
        cmocka_unit_test(test_sleepers_are_woken),
        cmocka_unit_test(test_those_that_wait_awake_are_reached),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_spread_placement),
        cmocka_unit_test(test_hot_actors_make_room),
        cmocka_unit_test(test_a_stream_gathers),
        cmocka_unit_test(test_answers_do_not_gather),
        cmocka_unit_test(test_workers_are_pinned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
