/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an actor that moves takes its mailbox, timers and sockets along, in order and without a
 * loss; it comes to a bad end only where its new home cannot watch its socket, and then by its cut;
 * what ends stays. Method: a traveller that does what it is told, on two workers, in an environment
 * whose pollers can be made to refuse. (Random moves under load: tests/stress/moving.c.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/actor.h"
#include "runtime_case.h"

#include "base/own.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LETTERS = 200 };

static const uint64_t TIMER_NS = 30000000;

/* --- pollers that can be made to refuse --- */

static struct esi_env_ops weak_ops;
static struct esi_env weak_env = {.ops = &weak_ops};
static _Atomic bool is_refusing;

static enum es_err add_or_refuse(struct esi_env *env, struct esi_poller *poller, int sock,
                                 uint32_t events, void *tag)
{
    (void)env;
    /* order: relaxed; set while nobody moves. */
    if (atomic_load_explicit(&is_refusing, memory_order_relaxed)) {
        return ES_NO_MEMORY;
    }
    return esi_env_poller_add(esi_env_linux(), poller, sock, events, tag);
}

/* --- the traveller --- */

enum order { LETTER, GO, GO_HERE, GO_AND_FINISH, REPORT };

struct letter {
    struct esi_msg msg; /* first */
    uint32_t number;
};

struct traveller {
    struct esi_actor actor; /* first */
    struct esi_actor_timer timer;
    uint64_t deadline_ns;
    struct esi_io io;
    int ends[2];
    struct letter letters[LETTERS];
    struct letter orders[4];
    uint32_t letters_read;
    uint32_t moves_seen;
    uint32_t home; /* index, at the last reaction */
    uint32_t timer_home;
    uint32_t io_home;
    sem_t moved;
    sem_t fired;
    sem_t readable;
    sem_t reported;
    sem_t cut;
    sem_t freed;
};

static struct esi_runtime *runtime;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static struct traveller *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct traveller, actor);
}

static uint32_t look_home(struct esi_actor *actor)
{
    case_check(esi_actor_home(actor) == esi_worker_current());
    return esi_worker_index(esi_worker_current());
}

static void on_start(struct esi_actor *actor)
{
    struct traveller *self = self_of(actor);

    case_check(esi_actor_io_watch(&self->io, self->ends[0], POLL_READ) == ES_OK);
}

static void on_moved(struct esi_actor *actor)
{
    struct traveller *self = self_of(actor);

    self->moves_seen++;
    self->home = look_home(actor);
    sem_post(&self->moved);
}

static void go(struct traveller *self)
{
    const uint32_t here = look_home(&self->actor);

    self->deadline_ns = esi_actor_now_ns(&self->actor) + TIMER_NS;
    esi_actor_timer_set(&self->timer, self->deadline_ns);
    /* Letters on the way: some stand in the mailbox already when it goes. */
    for (uint32_t i = 0; i < LETTERS; i++) {
        self->letters[i] = (struct letter){.msg = {.kind = LETTER, .free = keep}, .number = i};
        esi_actor_send(&self->actor, &self->letters[i].msg);
        if (i == LETTERS / 2) {
            esi_actor_move(&self->actor, esi_runtime_worker(runtime, 1 - here));
        }
    }
}

static void on_letter(struct esi_actor *actor, struct esi_msg *msg)
{
    struct traveller *self = self_of(actor);

    switch ((enum order)msg->kind) {
    case LETTER:
        case_check(ESI_CONTAINER_OF(msg, struct letter, msg)->number == self->letters_read);
        self->letters_read++;
        break;
    case GO:
        self->letters_read = 0;
        go(self);
        break;
    case GO_HERE:
        esi_actor_move(actor, esi_worker_current());
        break;
    case GO_AND_FINISH:
        esi_actor_move(actor, esi_runtime_worker(runtime, 1 - look_home(actor)));
        esi_actor_timer_cancel(&self->timer);
        esi_actor_io_unwatch(&self->io);
        esi_actor_finish(actor);
        break;
    case REPORT:
        self->home = look_home(actor);
        sem_post(&self->reported);
        break;
    }
}

static void on_timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct traveller *self = self_of(actor);

    case_check(fired == &self->timer.timer && esi_actor_now_ns(actor) >= self->deadline_ns);
    self->timer_home = look_home(actor);
    sem_post(&self->fired);
}

static void on_ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct traveller *self = self_of(actor);
    char byte;

    case_check(io == &self->io && (events & POLL_READ) != 0);
    case_check(read(self->ends[0], &byte, 1) == 1);
    self->io_home = look_home(actor);
    sem_post(&self->readable);
}

static void on_stop(struct esi_actor *actor)
{
    struct traveller *self = self_of(actor);

    /* From now on it stays. */
    esi_actor_move(actor, esi_runtime_worker(runtime, 1 - look_home(actor)));
    esi_actor_timer_cancel(&self->timer);
    esi_actor_io_unwatch(&self->io);
    esi_actor_finish(actor);
}

static void on_cut(struct esi_actor *actor)
{
    struct traveller *self = self_of(actor);

    case_check(self->io.sock == ESI_ENV_NO_SOCKET);
    case_check(self->moves_seen > 0);
    (void)look_home(actor);
    esi_actor_io_unwatch(&self->io);
    esi_actor_timer_cancel(&self->timer);
    sem_post(&self->cut);
    esi_actor_finish(actor);
}

static void on_free(struct esi_actor *actor)
{
    sem_post(&self_of(actor)->freed); /* by the test */
}

static const struct esi_actor_type traveller_type = {.name = "traveller",
                                                     .may_move = true,
                                                     .moved = on_moved,
                                                     .start = on_start,
                                                     .handle = on_letter,
                                                     .ready = on_ready,
                                                     .timer = on_timer,
                                                     .stop = on_stop,
                                                     .cut = on_cut,
                                                     .free = on_free};

/* --- start and end --- */

static struct traveller *begin(void)
{
    const struct esi_runtime_options options = {.env = &weak_env, .worker_count = 2};
    struct traveller *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    case_check(self != NULL);
    memset(self, 0, sizeof *self);
    weak_ops = *esi_env_linux()->ops;
    weak_ops.poller_add = add_or_refuse;
    /* order: relaxed; no thread runs yet. */
    atomic_store_explicit(&is_refusing, false, memory_order_relaxed);
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, self->ends), 0);
    sem_t *const events[] = {&self->moved,    &self->fired, &self->readable,
                             &self->reported, &self->cut,   &self->freed};
    for (size_t i = 0; i < ESI_COUNT_OF(events); i++) {
        sem_init(events[i], 0, 0);
    }
    esi_actor_init(&self->actor, &traveller_type, runtime, esi_runtime_worker(runtime, 0));
    esi_actor_timer_init(&self->actor, &self->timer);
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_start(&self->actor);
    return self;
}

static void end(struct traveller *self)
{
    stop_runtime(runtime);
    await(&self->freed);
    close(self->ends[0]);
    close(self->ends[1]);
    free(self);
}

static void order(struct traveller *self, enum order what, uint32_t slot)
{
    self->orders[slot] = (struct letter){.msg = {.kind = what, .free = keep}};
    esi_actor_send(&self->actor, &self->orders[slot].msg);
}

/* --- tests --- */

static void test_all_goes_along(void **state)
{
    struct traveller *self = begin();

    (void)state;
    for (uint32_t i = 1; i <= 4; i++) {
        order(self, GO, 0);
        await(&self->moved);
        assert_int_equal(self->home, i % 2);
        /* The socket tells its new home. */
        assert_int_equal(write(self->ends[1], "x", 1), 1);
        await(&self->readable);
        assert_int_equal(self->io_home, i % 2);
        await(&self->fired);
        assert_int_equal(self->timer_home, i % 2);
        order(self, REPORT, 1);
        await(&self->reported);
        assert_int_equal(self->letters_read, LETTERS);
        assert_int_equal(self->actor.stats.moves, i);
    }
    end(self);
}

static void test_its_own_home_is_no_journey(void **state)
{
    struct traveller *self = begin();

    (void)state;
    order(self, GO_HERE, 0);
    order(self, REPORT, 1);
    await(&self->reported);
    order(self, REPORT, 1);
    await(&self->reported);
    assert_int_equal(self->home, 0);
    assert_int_equal(self->moves_seen, 0);
    end(self);
}

static void test_who_ends_stays(void **state)
{
    struct traveller *self = begin();

    (void)state;
    order(self, GO_AND_FINISH, 0);
    await(&self->freed);
    assert_int_equal(self->moves_seen, 0);
    sem_post(&self->freed);
    end(self);
    /* And who is told to stop. */
    self = begin();
    order(self, REPORT, 1);
    await(&self->reported);
    stop_runtime(runtime);
    await(&self->freed);
    assert_int_equal(self->moves_seen, 0);
    close(self->ends[0]);
    close(self->ends[1]);
    free(self);
}

static void test_a_home_that_cannot_watch_cuts_it_off(void **state)
{
    struct traveller *self = begin();

    (void)state;
    order(self, REPORT, 1);
    await(&self->reported);
    /* order: relaxed; nobody moves now. */
    atomic_store_explicit(&is_refusing, true, memory_order_relaxed);
    order(self, GO, 0);
    await(&self->cut);
    await(&self->freed);
    assert_int_equal(self->moves_seen, 1);
    sem_post(&self->freed);
    end(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_goes_along),
        cmocka_unit_test(test_its_own_home_is_no_journey),
        cmocka_unit_test(test_who_ends_stays),
        cmocka_unit_test(test_a_home_that_cannot_watch_cuts_it_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
