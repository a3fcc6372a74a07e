/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a running runtime does with its actors what they cost it. Pairs that take all of a worker
 * are shared out in whole, and come back to one worker when they take little; light actors stay,
 * types that may not move stay, and nobody moves where rebalancing is off. Method: actors that pass
 * a message to and fro, and whose turns take as much time as they say: the clock goes forward by
 * it.
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

enum { PAIRS = 4, PLAYERS = 2 * PAIRS };

static const uint64_t REBALANCE_NS = 50000000;
static const uint64_t REST_NS = 2000000;

/* --- an environment whose clock goes forward by what turns say they take --- */

static struct esi_env_ops slow_ops;
static struct esi_env slow_env = {.ops = &slow_ops};
static _Atomic uint64_t spent_ns;

static uint64_t slow_now_ns(struct esi_env *env)
{
    (void)env;
    /* order: relaxed; a time. */
    return esi_env_now_ns(esi_env_linux()) + atomic_load_explicit(&spent_ns, memory_order_relaxed);
}

/* --- players: each answers the other --- */

struct player {
    struct esi_actor actor; /* first */
    struct player *other;
    struct esi_msg ball; /* one a pair: the first one's */
    struct esi_actor_timer rest;
    struct esi_msg *held; /* until the rest is over */
};

static struct esi_runtime *runtime;
static struct player *players[PLAYERS];
static _Atomic uint64_t turn_ns; /* what a turn takes; 0: nothing, and a rest follows */
static _Atomic bool is_over;
static sem_t freed;
static sem_t counted;
static sem_t idle;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void pass_on(struct player *self, struct esi_msg *ball)
{
    /* order: relaxed; seen some day. */
    if (atomic_load_explicit(&is_over, memory_order_relaxed)) {
        sem_post(&idle);
    } else {
        esi_actor_send(&self->other->actor, ball);
    }
}

static void end_rest(struct esi_actor *actor, struct esi_timer *fired)
{
    struct player *self = ESI_CONTAINER_OF(actor, struct player, actor);

    case_check(fired == &self->rest.timer);
    pass_on(self, ESI_MOVE(self->held));
}

static void play(struct esi_actor *actor, struct esi_msg *msg)
{
    struct player *self = ESI_CONTAINER_OF(actor, struct player, actor);

    /* order: relaxed; a number of the test. */
    const uint64_t ns = atomic_load_explicit(&turn_ns, memory_order_relaxed);
    /* order: relaxed; a time. */
    atomic_fetch_add_explicit(&spent_ns, ns, memory_order_relaxed);
    if (ns == 0) {
        self->held = msg;
        esi_actor_timer_set(&self->rest, esi_actor_now_ns(actor) + REST_NS);
    } else {
        pass_on(self, msg);
    }
}

static void stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void cut(struct esi_actor *actor)
{
    (void)actor;
    case_fail("nobody is cut off", __FILE__, __LINE__);
}

static void free_player(struct esi_actor *actor)
{
    (void)actor; /* by the test */
    sem_post(&freed);
}

static const struct esi_actor_type player_type = {.name = "player",
                                                  .stop_phase = STOP_PEERS,
                                                  .may_move = true,
                                                  .handle = play,
                                                  .timer = end_rest,
                                                  .stop = stop,
                                                  .cut = cut,
                                                  .free = free_player};
static const struct esi_actor_type settled_type = {.name = "settled",
                                                   .stop_phase = STOP_PEERS,
                                                   .handle = play,
                                                   .timer = end_rest,
                                                   .stop = stop,
                                                   .free = free_player};

/* --- where they are --- */

struct census {
    struct esi_actor actor; /* first */
    struct esi_visit visit;
    struct esi_msg done;
    struct esi_msg begin;
    uint32_t worker[PLAYERS];
    uint64_t moves;
};

static struct census *census;

static void count_one(struct esi_actor *actor, void *argument)
{
    struct census *self = argument;

    for (uint32_t i = 0; i < PLAYERS; i++) {
        if (actor == &players[i]->actor) {
            self->worker[i] = esi_worker_index(esi_actor_home(actor));
            self->moves += actor->stats.moves;
        }
    }
}

static void take_census(struct esi_actor *actor, struct esi_msg *msg)
{
    struct census *self = ESI_CONTAINER_OF(actor, struct census, actor);

    if (msg == &self->done) {
        sem_post(&counted);
        return;
    }
    self->moves = 0;
    self->visit = (struct esi_visit){
        .visit = count_one, .argument = self, .asker = actor, .done = &self->done};
    esi_runtime_visit(runtime, &self->visit);
}

static const struct esi_actor_type census_type = {.name = "census",
                                                  .stop_phase = STOP_PEERS,
                                                  .handle = take_census,
                                                  .stop = stop,
                                                  .free = free_player};

static void count_all(void)
{
    census->begin = (struct esi_msg){.kind = 1, .free = keep};
    census->done = (struct esi_msg){.kind = 2, .free = keep};
    esi_actor_send(&census->actor, &census->begin);
    await(&counted);
}

static uint32_t count_on(uint32_t worker)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < PLAYERS; i++) {
        count += census->worker[i] == worker;
    }
    return count;
}

static bool are_pairs_together(void)
{
    for (uint32_t i = 0; i < PLAYERS; i += 2) {
        if (census->worker[i] != census->worker[i + 1]) {
            return false;
        }
    }
    return true;
}

static bool is_shared_out(void)
{
    return count_on(0) == PLAYERS / 2 && count_on(1) == PLAYERS / 2 && are_pairs_together();
}

static bool are_all_on_the_first(void)
{
    return count_on(0) == PLAYERS;
}

/* Counts again and again until it is so. */
static void await_census(bool (*is_so)(void), const char *what)
{
    const uint64_t end_ns =
        esi_env_now_ns(esi_env_linux()) + (uint64_t)CASE_DEADLINE_S * 1000000000U;

    do {
        count_all();
        if (is_so()) {
            return;
        }
    } while (esi_env_now_ns(esi_env_linux()) < end_ns);
    case_fail(what, __FILE__, __LINE__);
}

/* --- start and end --- */

static void set_turn(uint64_t ns)
{
    /* order: relaxed; seen some day. */
    atomic_store_explicit(&turn_ns, ns, memory_order_relaxed);
}

static void *new_part(size_t size)
{
    void *part = aligned_alloc(ESI_CACHE_LINE, size);

    case_check(part != NULL);
    return memset(part, 0, size);
}

static void begin(const struct esi_actor_type *type, uint64_t rebalance_ns)
{
    const struct esi_runtime_options options = {.env = &slow_env,
                                                .worker_count = 2,
                                                .placement = PLACEMENT_FILL,
                                                .rebalance_ns = rebalance_ns};

    slow_ops = *esi_env_linux()->ops;
    slow_ops.now_ns = slow_now_ns;
    slow_ops.thread_cpu_ns = NULL;
    sem_init(&freed, 0, 0);
    sem_init(&counted, 0, 0);
    sem_init(&idle, 0, 0);
    /* order: relaxed; no thread runs yet. */
    atomic_store_explicit(&is_over, false, memory_order_relaxed);
    assert_int_equal(esi_runtime_new(&options, &runtime), ES_OK);
    for (uint32_t i = 0; i < PLAYERS; i++) {
        players[i] = new_part(sizeof *players[i]);
        esi_actor_init(&players[i]->actor, type, runtime, esi_runtime_worker(runtime, 0));
        esi_actor_timer_init(&players[i]->actor, &players[i]->rest);
    }
    census = new_part(sizeof *census);
    esi_actor_init(&census->actor, &census_type, runtime, esi_runtime_worker(runtime, 1));
    esi_actor_start(&census->actor);
    for (uint32_t i = 0; i < PLAYERS; i++) {
        players[i]->other = players[i ^ 1];
        esi_actor_start(&players[i]->actor);
    }
    for (uint32_t i = 0; i < PLAYERS; i += 2) {
        players[i]->ball = (struct esi_msg){.kind = 1, .free = keep};
        esi_actor_send(&players[i]->actor, &players[i]->ball);
    }
}

static void end(void)
{
    /* order: relaxed; seen some day. */
    atomic_store_explicit(&is_over, true, memory_order_relaxed);
    await_count(&idle, PAIRS);
    stop_runtime(runtime);
    await_count(&freed, PLAYERS + 1);
    for (uint32_t i = 0; i < PLAYERS; i++) {
        free(players[i]);
    }
    free(census);
    sem_destroy(&freed);
    sem_destroy(&counted);
    sem_destroy(&idle);
}

/* --- tests --- */

static void test_heavy_pairs_are_shared_out_and_come_back(void **state)
{
    (void)state;
    set_turn(100000);
    begin(&player_type, REBALANCE_NS);
    await_census(is_shared_out, "heavy pairs are shared out");
    set_turn(0);
    await_census(are_all_on_the_first, "light pairs share a worker");
    assert_true(census->moves >= PLAYERS);
    end();
}

/* Several times as many windows as others need to be shared out. */
static void live_long(void)
{
    /* order: relaxed; a time. */
    const uint64_t end_ns =
        atomic_load_explicit(&spent_ns, memory_order_relaxed) + 30 * REBALANCE_NS;

    /* order: relaxed; a time. */
    while (atomic_load_explicit(&spent_ns, memory_order_relaxed) < end_ns) {
        count_all();
        assert_true(are_all_on_the_first());
    }
}

static void test_who_stays_stays(void **state)
{
    (void)state;
    set_turn(100000);
    begin(&settled_type, REBALANCE_NS);
    live_long();
    end();
}

static void test_without_rebalancing_all_stay(void **state)
{
    (void)state;
    set_turn(100000);
    begin(&player_type, 0);
    live_long();
    assert_int_equal(census->moves, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heavy_pairs_are_shared_out_and_come_back),
        cmocka_unit_test(test_who_stays_stays),
        cmocka_unit_test(test_without_rebalancing_all_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
