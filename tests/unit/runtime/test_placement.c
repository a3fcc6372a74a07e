/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: actors live on as few workers as their load allows, or evenly, those that talk to each
 * other together, and at a steady load they come to rest. Method: a table of actors with loads and
 * peers; in each window every worker decides in turn, by figures that are a window old and somewhat
 * wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/placement.h"
#include "runtime_case.h"

#include <string.h>

enum { ACTORS_MAX = 64, WORKERS_MAX = 8, COOL = 4, LONG = 60 };

struct one {
    uint32_t worker;
    uint32_t load; /* thousandths of a worker */
    uint32_t peer; /* index; itself: none */
    uint32_t came; /* the window in which it came */
};

static struct {
    struct one actors[ACTORS_MAX];
    uint32_t actor_count;
    uint32_t worker_count;
    enum esi_placement placement;
    uint32_t full_permille;
    uint32_t overloaded[WORKERS_MAX];
    uint32_t calm[WORKERS_MAX];
    uint32_t window;
    uint64_t random;
    uint32_t noise; /* per cent that a figure may be wrong by */
} town;

static void new_town(enum esi_placement placement, uint32_t worker_count)
{
    memset(&town, 0, sizeof town);
    town.placement = placement;
    town.worker_count = worker_count;
    town.random = 77;
    town.window = COOL;
}

static uint32_t add(uint32_t worker, uint32_t load)
{
    const uint32_t index = town.actor_count++;

    assert_true(index < ACTORS_MAX);
    town.actors[index] = (struct one){.worker = worker, .load = load, .peer = index};
    return index;
}

/* One sends to the other. */
static void add_pair(uint32_t worker, uint32_t load)
{
    const uint32_t first = add(worker, load / 2);

    town.actors[first].peer = add(worker, load - load / 2);
}

static uint32_t blur(uint32_t value)
{
    const uint32_t most = value * town.noise / 100;

    return most == 0 ? value : value - most + draw_below(&town.random, 2 * most + 1);
}

/* The sum that its actors would take; a worker can be no more than busy. */
static uint32_t demand(uint32_t worker)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < town.actor_count; i++) {
        sum += town.actors[i].worker == worker ? town.actors[i].load : 0;
    }
    return sum;
}

static uint32_t busy(uint32_t worker)
{
    const uint32_t sum = blur(demand(worker));

    return sum < 1000 ? sum : 1000;
}

static uint32_t decide(uint32_t worker, const uint32_t *figures)
{
    struct esi_placement_candidate candidates[ACTORS_MAX];
    uint32_t known[WORKERS_MAX];
    uint32_t count = 0;
    struct esi_placement_view view = {.placement = town.placement,
                                      .full_permille = town.full_permille,
                                      .worker_count = town.worker_count,
                                      .self = worker,
                                      .busy_permille = known,
                                      .random = &town.random};

    memcpy(known, figures, sizeof known);
    known[worker] = busy(worker);
    const uint32_t all = demand(worker);
    for (uint32_t i = 0; i < town.actor_count; i++) {
        const struct one *one = &town.actors[i];
        if (one->worker == worker && one->load > 0) {
            candidates[count++] = (struct esi_placement_candidate){
                .id = i + 100,
                .index = i,
                .peer_id = one->peer != i ? one->peer + 100 : 0,
                .peer_worker = one->peer != i ? town.actors[one->peer].worker : ESI_PLACEMENT_NONE,
                /* Of a worker that is too busy, all get less. */
                .load_permille = all > 1000 ? one->load * 1000 / all : one->load,
                .may_move = town.window >= one->came + COOL};
        }
    }
    town.overloaded[worker] = esi_placement_is_overloaded(&view) ? town.overloaded[worker] + 1 : 0;
    town.calm[worker] = esi_placement_is_calm(&view) ? town.calm[worker] + 1 : 0;
    view.overloaded_windows = town.overloaded[worker];
    view.calm_windows = town.calm[worker];
    const uint32_t moves = count > 0 ? esi_placement_decide(&view, candidates, count) : 0;
    uint32_t moved = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (candidates[i].to != ESI_PLACEMENT_NONE) {
            assert_true(candidates[i].to < town.worker_count && candidates[i].to != worker);
            assert_true(candidates[i].may_move || town.placement == PLACEMENT_SHUFFLE);
            town.actors[candidates[i].index].worker = candidates[i].to;
            town.actors[candidates[i].index].came = town.window;
            moved++;
        }
    }
    assert_int_equal(moved, moves);
    assert_true(moves <= ESI_PLACEMENT_MOVES_MAX);
    return moves;
}

/* Returns how many moved in so many windows. */
static uint32_t live(uint32_t windows)
{
    uint32_t moves = 0;

    for (uint32_t i = 0; i < windows; i++) {
        uint32_t figures[WORKERS_MAX] = {0};
        for (uint32_t worker = 0; worker < town.worker_count; worker++) {
            figures[worker] = busy(worker);
        }
        town.window++;
        for (uint32_t worker = 0; worker < town.worker_count; worker++) {
            moves += decide(worker, figures);
        }
    }
    return moves;
}

static bool are_pairs_together(void)
{
    for (uint32_t i = 0; i < town.actor_count; i++) {
        if (town.actors[i].worker != town.actors[town.actors[i].peer].worker) {
            return false;
        }
    }
    return true;
}

/* --- fill --- */

static void test_light_load_ends_on_one_worker(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 4);
    town.noise = 20;
    for (uint32_t i = 0; i < 24; i++) {
        add(i % 4, 10);
    }
    live(LONG);
    assert_int_equal(demand(0), 240);
    assert_int_equal(live(LONG), 0);
}

static void test_heavy_pairs_share_workers(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 2);
    for (uint32_t i = 0; i < 8; i++) {
        add_pair(0, 150);
    }
    live(LONG);
    assert_true(demand(0) <= 750 && demand(1) <= 750);
    assert_true(are_pairs_together());
    town.noise = 10;
    assert_int_equal(live(LONG), 0);
}

/* More than two workers can do: nobody knows how much more, and they share it. */
static void test_saturated_workers_share(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 2);
    for (uint32_t i = 0; i < 8; i++) {
        add_pair(0, 400);
    }
    live(LONG);
    assert_true(demand(0) >= 1200 && demand(1) >= 1200);
    assert_true(are_pairs_together());
}

static void test_only_as_many_workers_as_needed(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 8);
    for (uint32_t i = 0; i < 16; i++) {
        add_pair(0, 100);
    }
    live(LONG);
    uint32_t used = 0;
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(demand(i) <= 750);
        used += demand(i) > 0;
    }
    assert_in_range(used, 3, 4);
    assert_true(are_pairs_together());
}

static void test_one_busy_pair_stays_together(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 4);
    add_pair(0, 1000);
    assert_int_equal(live(LONG), 0);
    /* Small ones make room for it. */
    for (uint32_t i = 0; i < 6; i++) {
        add(0, 40);
    }
    live(LONG);
    assert_true(are_pairs_together());
    assert_true(demand(town.actors[0].worker) <= 1040);
}

/* Everybody sends to one: too much for a worker, so it is taken apart. */
static void test_big_group_is_taken_apart(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 4);
    const uint32_t hub = add(0, 300);
    for (uint32_t i = 0; i < 12; i++) {
        town.actors[add(0, 100)].peer = hub;
    }
    live(LONG);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(demand(i) < 1000);
    }
}

static void test_peers_meet(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 2);
    /* Both workers are needed, and the pair is parted. */
    add(0, 450);
    add(1, 450);
    const uint32_t writer = add(0, 100);
    town.actors[writer].peer = add(1, 100);
    live(LONG);
    assert_true(are_pairs_together());
    assert_int_equal(live(LONG), 0);
    /* The same where each sends to the other: they do not change places for ever. */
    new_town(PLACEMENT_FILL, 2);
    add(0, 450);
    add(1, 450);
    const uint32_t first = add(0, 100);
    const uint32_t second = add(1, 100);
    town.actors[first].peer = second;
    town.actors[second].peer = first;
    live(LONG);
    assert_true(are_pairs_together());
    assert_int_equal(live(LONG), 0);
}

static void test_load_that_falls_comes_back(void **state)
{
    (void)state;
    new_town(PLACEMENT_FILL, 4);
    for (uint32_t i = 0; i < 12; i++) {
        add_pair(0, 200);
    }
    live(LONG);
    assert_true(demand(0) < 1000);
    for (uint32_t i = 0; i < town.actor_count; i++) {
        town.actors[i].load = 5;
    }
    live(LONG);
    assert_int_equal(demand(0), 5 * town.actor_count);
    assert_int_equal(live(LONG), 0);
}

/* With a lower bound the same happens at lower loads: so many pairs as fill two workers at 75% of
 * the time fill two at 7.5%, with a tenth of the load. */
static void test_bounds_are_in_proportion(void **state)
{
    (void)state;
    assert_int_equal(esi_placement_scale(0, 650), 650);
    assert_int_equal(esi_placement_scale(750, 650), 650);
    assert_int_equal(esi_placement_scale(75, 650), 65);
    for (uint32_t part = 1; part <= 10; part += 9) {
        new_town(PLACEMENT_FILL, 4);
        town.full_permille = 750 / part;
        for (uint32_t i = 0; i < 6; i++) {
            add_pair(0, 200 / part);
        }
        live(LONG);
        assert_in_range(demand(0), 400 / part, 750 / part);
        assert_in_range(demand(1), 400 / part, 750 / part);
        assert_int_equal(demand(2) + demand(3), 0);
        assert_true(are_pairs_together());
        assert_int_equal(live(LONG), 0);
    }
}

/* --- spread --- */

static void test_spread_is_even(void **state)
{
    (void)state;
    new_town(PLACEMENT_SPREAD, 4);
    for (uint32_t i = 0; i < 16; i++) {
        add_pair(0, 100);
    }
    live(LONG);
    for (uint32_t i = 0; i < 4; i++) {
        assert_in_range(demand(i), 200, 600);
    }
    assert_true(are_pairs_together());
    town.noise = 5;
    assert_int_equal(live(LONG), 0);
}

/* --- all --- */

/* A steady load of any kind comes to rest. */
static void test_random_towns_come_to_rest(void **state)
{
    uint64_t random = 4711;

    (void)state;
    for (uint32_t round = 0; round < 300; round++) {
        new_town(round % 3 == 0 ? PLACEMENT_SPREAD : PLACEMENT_FILL,
                 1 + draw_below(&random, WORKERS_MAX));
        const uint32_t heavy = 20 + draw_below(&random, 200);
        for (uint32_t i = 0; i < 40; i++) {
            const uint32_t index =
                add(draw_below(&random, town.worker_count), draw_below(&random, heavy));
            if (index > 0 && draw_below(&random, 2) == 0) {
                town.actors[index].peer = draw_below(&random, index);
            }
        }
        live(3 * LONG);
        if (town.placement == PLACEMENT_SPREAD || demand(0) <= 1000) {
            town.noise = 5;
            /* Figures at the edge of a rule may cost a move now and then. */
            assert_true(live(LONG) <= 16);
        }
    }
}

static void test_moves_are_bounded(void **state)
{
    struct esi_placement_candidate candidates[ESI_PLACEMENT_CANDIDATES_MAX];
    uint32_t known[2] = {0, 100};
    uint64_t random = 5;
    struct esi_placement_view view = {.placement = PLACEMENT_FILL,
                                      .worker_count = 2,
                                      .self = 1,
                                      .busy_permille = known,
                                      .calm_windows = 10,
                                      .random = &random};

    (void)state;
    for (uint32_t i = 0; i < ESI_PLACEMENT_CANDIDATES_MAX; i++) {
        candidates[i] = (struct esi_placement_candidate){
            .id = 1000 - i, .index = i, .peer_worker = ESI_PLACEMENT_NONE, .may_move = true};
    }
    assert_int_equal(esi_placement_decide(&view, candidates, ESI_PLACEMENT_CANDIDATES_MAX),
                     ESI_PLACEMENT_MOVES_MAX);
    view.placement = PLACEMENT_SHUFFLE;
    assert_int_equal(esi_placement_decide(&view, candidates, ESI_PLACEMENT_CANDIDATES_MAX),
                     ESI_PLACEMENT_MOVES_MAX);
}

static void test_shuffle_reaches_all(void **state)
{
    bool has_been[WORKERS_MAX] = {false};

    (void)state;
    new_town(PLACEMENT_SHUFFLE, 4);
    add(0, 10);
    for (uint32_t i = 0; i < LONG; i++) {
        live(1);
        has_been[town.actors[0].worker] = true;
    }
    assert_true(has_been[0] && has_been[1] && has_been[2] && has_been[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_light_load_ends_on_one_worker),
        cmocka_unit_test(test_heavy_pairs_share_workers),
        cmocka_unit_test(test_saturated_workers_share),
        cmocka_unit_test(test_only_as_many_workers_as_needed),
        cmocka_unit_test(test_one_busy_pair_stays_together),
        cmocka_unit_test(test_big_group_is_taken_apart),
        cmocka_unit_test(test_peers_meet),
        cmocka_unit_test(test_load_that_falls_comes_back),
        cmocka_unit_test(test_bounds_are_in_proportion),
        cmocka_unit_test(test_spread_is_even),
        cmocka_unit_test(test_random_towns_come_to_rest),
        cmocka_unit_test(test_moves_are_bounded),
        cmocka_unit_test(test_shuffle_reaches_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
