/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an actor lives as its header says: start first, messages in order, one reaction at a time,
 * bounded turns, timers and sockets in its own turn, and memory given back once nobody knows it.
 * Method: probes, actors whose reactions are the test's; each test waits for the probe's own sign,
 * and for its memory to be freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/actor.h"
#include "runtime_case.h"

#include "base/own.h"

#include <pthread.h>
#include <string.h>

enum { NOTES_MAX = 64 };

struct probe {
    struct esi_actor actor; /* first */
    void (*on_start)(struct probe *self);
    void (*on_msg)(struct probe *self, uint32_t number);
    void (*on_turn_end)(struct probe *self);
    void (*on_timer)(struct probe *self, uint32_t index);
    void (*on_ready)(struct probe *self, uint32_t events);
    struct probe *other;
    uint32_t handled;
    uint32_t turn_ends;
    uint32_t depth;
    uint32_t notes[NOTES_MAX];
    uint32_t note_count;
    uint64_t times_ns[4];
    struct esi_actor_timer timers[4];
    struct esi_io io;
    int sock;
    sem_t done;
};

struct numbered {
    struct esi_msg msg; /* first */
    uint32_t number;
};

static struct esi_runtime *runtime;
static sem_t freed;
static _Atomic uint32_t messages_living;

static void free_numbered(struct esi_msg *msg)
{
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_sub_explicit(&messages_living, 1, memory_order_relaxed);
    free(msg);
}

static void send_number(struct probe *probe, uint32_t number)
{
    struct numbered *numbered = malloc(sizeof *numbered);

    case_check(numbered != NULL);
    *numbered = (struct numbered){.msg = {.free = free_numbered}, .number = number};
    /* order: relaxed; see free_numbered. */
    atomic_fetch_add_explicit(&messages_living, 1, memory_order_relaxed);
    esi_actor_send(&probe->actor, &numbered->msg);
}

static void probe_start(struct esi_actor *actor)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    if (self->on_start != NULL) {
        self->on_start(self);
    }
}

static void probe_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    self->depth++;
    self->on_msg(self, ((struct numbered *)(void *)msg)->number);
    self->depth--;
    self->handled++;
}

static void probe_ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    case_check(io == &self->io);
    self->on_ready(self, events);
}

static void probe_timer(struct esi_actor *actor, struct esi_timer *timer)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    case_check(!timer->is_set);
    self->on_timer(self, (uint32_t)((struct esi_actor_timer *)(void *)timer - self->timers));
}

static void probe_turn_end(struct esi_actor *actor)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    self->turn_ends++;
    if (self->on_turn_end != NULL) {
        self->on_turn_end(self);
    }
}

static void probe_stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void probe_free(struct esi_actor *actor)
{
    struct probe *self = ESI_CONTAINER_OF(actor, struct probe, actor);

    sem_destroy(&self->done);
    free(self);
    sem_post(&freed);
}

static const struct esi_actor_type probe_type = {
    .name = "probe",
    .stop_phase = STOP_PEERS,
    .start = probe_start,
    .handle = probe_handle,
    .ready = probe_ready,
    .timer = probe_timer,
    .turn_end = probe_turn_end,
    .stop = probe_stop,
    .free = probe_free,
};

static struct probe *new_probe(struct esi_worker *home)
{
    struct probe *probe = aligned_alloc(ESI_CACHE_LINE, sizeof *probe);

    case_check(probe != NULL);
    memset(probe, 0, sizeof *probe);
    sem_init(&probe->done, 0, 0);
    probe->sock = ESI_ENV_NO_SOCKET;
    esi_actor_init(&probe->actor, &probe_type, runtime, home);
    esi_actor_io_init(&probe->actor, &probe->io);
    for (uint32_t i = 0; i < ESI_COUNT_OF(probe->timers); i++) {
        esi_actor_timer_init(&probe->actor, &probe->timers[i]);
    }
    return probe;
}

static int set_up(void **state)
{
    (void)state;
    sem_init(&freed, 0, 0);
    runtime = start_runtime(2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop_runtime(runtime);
    sem_destroy(&freed);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&messages_living, memory_order_relaxed) == 0);
    return 0;
}

static struct esi_worker *worker(uint32_t index)
{
    return esi_runtime_worker(runtime, index);
}

/* --- life --- */

static void note_start(struct probe *self)
{
    case_check(self->handled == 0);
    self->notes[0] = 1;
}

static void expect_next_until_1000(struct probe *self, uint32_t number)
{
    case_check(self->notes[0] == 1);
    case_check(number == self->handled);
    case_check(self->depth == 1);
    if (number == 999) {
        esi_actor_finish(&self->actor);
        sem_post(&self->done);
    }
}

static void test_life(void **state)
{
    struct probe *probe = new_probe(worker(0));

    (void)state;
    probe->on_start = note_start;
    probe->on_msg = expect_next_until_1000;
    esi_actor_ref(&probe->actor);
    esi_actor_start(&probe->actor);
    for (uint32_t i = 0; i < 1000; i++) {
        send_number(probe, i);
    }
    await(&probe->done);
    /* Finished: what comes now is freed unread; the memory stays as long as we know it. */
    for (uint32_t i = 0; i < 100; i++) {
        send_number(probe, i);
    }
    assert_int_equal(sem_trywait(&freed), -1);
    esi_actor_unref(&probe->actor);
    await(&freed);
}

static void finish_at_once(struct probe *self, uint32_t number)
{
    (void)number;
    esi_actor_finish(&self->actor);
}

struct sender {
    struct probe *probe;
    pthread_t thread;
};

static void *send_and_let_go(void *argument)
{
    const struct sender *sender = argument;

    for (uint32_t i = 0; i < 3; i++) {
        send_number(sender->probe, i);
    }
    esi_actor_unref(&sender->probe->actor);
    return NULL;
}

/* Several threads send their last messages and give their references up while the actor finishes.
 */
static void test_last_references_race_with_messages(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        struct probe *probe = new_probe(worker(round % 2));
        struct sender senders[3];
        probe->on_msg = finish_at_once;
        esi_actor_ref(&probe->actor);
        esi_actor_start(&probe->actor);
        for (uint32_t i = 0; i < 3; i++) {
            senders[i].probe = probe;
            esi_actor_ref(&probe->actor);
            case_check(pthread_create(&senders[i].thread, NULL, send_and_let_go, &senders[i]) == 0);
        }
        esi_actor_unref(&probe->actor);
        for (uint32_t i = 0; i < 3; i++) {
            pthread_join(senders[i].thread, NULL);
        }
        await(&freed);
    }
}

/* --- turns --- */

static void swamp_self(struct probe *self, uint32_t number)
{
    if (number == 0) {
        for (uint32_t i = 1; i <= 10000; i++) {
            send_number(self, i);
        }
        send_number(self->other, 0);
    } else if (number == 10000) {
        sem_post(&self->done);
    }
    case_check(number == self->handled);
}

static void look_at_other(struct probe *self, uint32_t number)
{
    (void)number;
    self->notes[0] = self->other->handled; /* the same worker */
    sem_post(&self->done);
}

static void test_a_busy_actor_yields(void **state)
{
    struct probe *busy = new_probe(worker(1));
    struct probe *neighbour = new_probe(worker(1));

    (void)state;
    busy->other = neighbour;
    neighbour->other = busy;
    busy->on_msg = swamp_self;
    neighbour->on_msg = look_at_other;
    esi_actor_start(&busy->actor);
    esi_actor_start(&neighbour->actor);
    send_number(busy, 0);
    await(&neighbour->done);
    await(&busy->done);
    assert_in_range(neighbour->notes[0], 1, 1000);
}

static void count_to_five(struct probe *self)
{
    if (self->turn_ends < 6) {
        esi_actor_continue(&self->actor);
    } else if (self->turn_ends == 6) {
        sem_post(&self->done);
    }
}

static void test_continue_gives_turns_without_messages(void **state)
{
    struct probe *probe = new_probe(worker(0));

    (void)state;
    probe->on_turn_end = count_to_five;
    esi_actor_start(&probe->actor);
    await(&probe->done);
}

static void drain_at_first(struct probe *self, uint32_t number)
{
    self->notes[self->note_count++] = number;
    if (number == 0) {
        send_number(self, 1);
        send_number(self, 2);
        esi_actor_drain(&self->actor);
        case_check(self->note_count == 3 && self->notes[1] == 1 && self->notes[2] == 2);
        sem_post(&self->done);
    } else {
        case_check(self->depth == 2);
    }
}

static void test_drain_is_nested(void **state)
{
    struct probe *probe = new_probe(worker(0));

    (void)state;
    probe->on_msg = drain_at_first;
    esi_actor_start(&probe->actor);
    send_number(probe, 0);
    await(&probe->done);
}

/* --- timers --- */

static void set_timers(struct probe *self)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    static const uint64_t delays_ms[] = {30, 5, 10, 20};

    for (uint32_t i = 0; i < 4; i++) {
        self->times_ns[i] = now_ns + delays_ms[i] * 1000000;
        esi_actor_timer_set(&self->timers[i], self->times_ns[i]);
    }
    esi_actor_timer_cancel(&self->timers[3]);
}

static void note_timer(struct probe *self, uint32_t index)
{
    case_check(esi_actor_now_ns(&self->actor) >= self->times_ns[index]);
    self->notes[self->note_count++] = index;
}

static void tell_at_third(struct probe *self)
{
    /* Its own turn follows a timer. */
    if (self->note_count == 3) {
        self->note_count++;
        sem_post(&self->done);
    }
}

static void test_timers(void **state)
{
    struct probe *probe = new_probe(worker(0));

    (void)state;
    probe->on_start = set_timers;
    probe->on_timer = note_timer;
    probe->on_turn_end = tell_at_third;
    esi_actor_start(&probe->actor);
    await(&probe->done);
    assert_int_equal(probe->notes[0], 1);
    assert_int_equal(probe->notes[1], 2);
    assert_int_equal(probe->notes[2], 0);
}

/* --- sockets --- */

static void watch_sock(struct probe *self)
{
    case_check(esi_actor_io_watch(&self->io, self->sock, POLL_READ) == ES_OK);
    sem_post(&self->done);
}

static void read_then_write(struct probe *self, uint32_t events)
{
    struct esi_env *env = esi_runtime_env(runtime);
    char bytes[16];
    size_t count = 0;

    if (self->note_count == 0 && (events & POLL_READ) != 0) {
        case_check(esi_env_read(env, self->sock, bytes, sizeof bytes, &count) == ES_OK);
        case_check(count == 5 && memcmp(bytes, "hello", 5) == 0);
        self->note_count = 1;
        esi_actor_io_change(&self->io, POLL_WRITE);
    } else if ((events & POLL_WRITE) != 0) {
        case_check(self->note_count == 1);
        self->note_count = 2;
        esi_actor_io_unwatch(&self->io);
        esi_actor_io_unwatch(&self->io);
        esi_env_close(env, self->sock);
        esi_actor_finish(&self->actor);
    }
}

static void test_sockets(void **state)
{
    struct esi_env *env = esi_env_linux();
    struct esi_address bound;
    struct esi_address peer;
    struct probe *probe = new_probe(worker(1));
    int listener = ESI_ENV_NO_SOCKET;
    int client = ESI_ENV_NO_SOCKET;
    size_t count = 0;

    (void)state;
    assert_int_equal(esi_env_listen(env, "127.0.0.1", 0, &listener, &bound), ES_OK);
    assert_int_equal(esi_env_connect(env, &bound, &client), ES_OK);
    while (esi_env_accept(env, listener, &probe->sock, &peer) == ES_AGAIN) {
    }
    probe->on_start = watch_sock;
    probe->on_ready = read_then_write;
    esi_actor_start(&probe->actor);
    await(&probe->done);
    const struct iovec part = {.iov_base = (void *)(uintptr_t) "hello", .iov_len = 5};
    assert_int_equal(esi_env_writev(env, client, &part, 1, &count), ES_OK);
    await(&freed);
    esi_env_close(env, client);
    esi_env_close(env, listener);
}

/* --- roaming --- */

static pthread_t expected_thread;

static void send_three_more(struct probe *self, uint32_t number)
{
    case_check(pthread_equal(pthread_self(), expected_thread));
    case_check(self->depth == 1);
    case_check(number == self->handled);
    if (number == 0) {
        send_number(self, 1);
        send_number(self, 2);
        send_number(self, 3);
        /* Its own messages wait until this one is done. */
        case_check(self->handled == 0);
    }
}

static void test_a_roaming_actor_runs_in_its_sender(void **state)
{
    struct probe *probe = new_probe(NULL);

    (void)state;
    expected_thread = pthread_self();
    probe->on_msg = send_three_more;
    esi_actor_start(&probe->actor);
    send_number(probe, 0);
    assert_int_equal(probe->handled, 4);
    send_number(probe, 4);
    assert_int_equal(probe->handled, 5);
    sem_destroy(&probe->done);
    free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_references_race_with_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_busy_actor_yields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_continue_gives_turns_without_messages, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_drain_is_nested, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_timers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sockets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_roaming_actor_runs_in_its_sender, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
