/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every kind of disorder is counted as what it is. Method: known sequences, and a random one
 * that a plain array accounts for as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "event_bench/bench_check.h"

static struct esi_bench_check check;

static int start(void **state)
{
    (void)state;
    assert_int_equal(esi_bench_check_init(&check, 128), ES_OK);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    esi_bench_check_deinit(&check);
    return 0;
}

static void see_in_order(uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        assert_int_equal(esi_bench_check_see(&check, i), BENCH_SEEN_IN_ORDER);
    }
}

static void expect(uint64_t seen, uint64_t duplicated, uint64_t late, uint64_t base)
{
    assert_int_equal(check.seen, seen);
    assert_int_equal(check.duplicated, duplicated);
    assert_int_equal(check.late, late);
    assert_int_equal(check.base, base);
}

static void test_in_order(void **state)
{
    (void)state;
    see_in_order(0, 1000);
    expect(1000, 0, 0, 1000);
}

/* A number that never comes keeps the base, whatever follows; what was seen tells how many are
 * lost. */
static void test_gap(void **state)
{
    (void)state;
    see_in_order(0, 10);
    see_in_order(11, 100);
    expect(99, 0, 0, 10);
}

static void test_swap(void **state)
{
    (void)state;
    see_in_order(0, 10);
    assert_int_equal(esi_bench_check_see(&check, 11), BENCH_SEEN_IN_ORDER);
    assert_int_equal(esi_bench_check_see(&check, 10), BENCH_SEEN_LATE);
    see_in_order(12, 20);
    expect(20, 0, 1, 20);
}

/* Repeats below the base, at its very edge, and between base and top. */
static void test_repeats(void **state)
{
    (void)state;
    see_in_order(0, 10);
    assert_int_equal(esi_bench_check_see(&check, 9), BENCH_SEEN_AGAIN);
    assert_int_equal(esi_bench_check_see(&check, 0), BENCH_SEEN_AGAIN);
    see_in_order(12, 14);
    assert_int_equal(esi_bench_check_see(&check, 12), BENCH_SEEN_AGAIN);
    expect(12, 3, 0, 10);
}

/* A number that the publisher cannot have reached is no message of this run; the count goes on
 * without it. */
static void test_alien(void **state)
{
    (void)state;
    see_in_order(0, 10);
    assert_int_equal(esi_bench_check_see(&check, 10 + 128), BENCH_SEEN_ALIEN);
    assert_int_equal(esi_bench_check_see(&check, UINT64_MAX), BENCH_SEEN_ALIEN);
    assert_int_equal(check.alien, 2);
    see_in_order(10, 20);
    expect(20, 0, 0, 20);
}

/* Any order within the window, many times round the ring, against an array that keeps everything.
 */
static void test_random_order(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint8_t times[COUNT];
    uint64_t random = 88172645463325252U;
    uint64_t seen = 0;
    uint64_t again = 0;

    while (check.base < COUNT - 128) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        /* Mostly the next missing number, so that the base moves; else any of the window. */
        const uint64_t sequence = random % 3 == 0 ? check.base : check.base + random / 3 % 128;
        const enum esi_bench_seen how = esi_bench_check_see(&check, sequence);
        assert_int_equal(how == BENCH_SEEN_AGAIN, times[sequence] > 0);
        again += times[sequence] > 0 ? 1 : 0;
        seen += times[sequence] > 0 ? 0 : 1;
        times[sequence] = 1;
        assert_int_equal(times[check.base], 0);
    }
    assert_int_equal(check.seen, seen);
    assert_int_equal(check.duplicated, again);
    assert_true(again > 1000);
    assert_true(check.late > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_order, start, finish),
        cmocka_unit_test_setup_teardown(test_gap, start, finish),
        cmocka_unit_test_setup_teardown(test_swap, start, finish),
        cmocka_unit_test_setup_teardown(test_repeats, start, finish),
        cmocka_unit_test_setup_teardown(test_alien, start, finish),
        cmocka_unit_test_setup_teardown(test_random_order, start, finish),
    };
    return cmocka_run_group_tests_name("event_bench/bench_check", tests, NULL, NULL);
}
