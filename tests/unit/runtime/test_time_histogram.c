/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every duration is counted in the bucket whose ends enclose it, and percentiles are the ends
 * of buckets. Method: values at and beside every power of two, then sums with known shares.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/time_histogram.h"

static uint64_t begin_of(size_t bucket)
{
    return bucket == 0 ? 0 : esi_time_histogram_end_ns(bucket - 1);
}

static void expect_enclosed(uint64_t ns)
{
    const size_t bucket = esi_time_histogram_bucket(ns);

    assert_true(bucket < ESI_TIME_BUCKETS);
    assert_true(ns >= begin_of(bucket));
    assert_true(ns < esi_time_histogram_end_ns(bucket) || ns == UINT64_MAX);
}

static void test_buckets_enclose(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 64; bits++) {
        const uint64_t ns = (uint64_t)1 << bits;
        expect_enclosed(ns - 1);
        expect_enclosed(ns);
        expect_enclosed(ns + ns / 2 - 1);
        expect_enclosed(ns + ns / 2);
    }
    expect_enclosed(UINT64_MAX);
    assert_int_equal(esi_time_histogram_bucket(0), 0);
    assert_int_equal(esi_time_histogram_bucket(UINT64_MAX), ESI_TIME_BUCKETS - 1);
}

static void test_ends_rise(void **state)
{
    (void)state;
    for (size_t i = 1; i < ESI_TIME_BUCKETS; i++) {
        assert_true(esi_time_histogram_end_ns(i) > esi_time_histogram_end_ns(i - 1));
    }
    assert_int_equal(esi_time_histogram_end_ns(0), 1024);
    assert_true(esi_time_histogram_end_ns(ESI_TIME_BUCKETS - 1) == UINT64_MAX);
}

static void test_percentiles(void **state)
{
    struct esi_time_totals totals = {.sum_ns = 0};

    (void)state;
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 99), 0);
    for (int i = 0; i < 90; i++) {
        esi_time_histogram_count_total(&totals, esi_time_histogram_bucket(2000), 2000);
    }
    for (int i = 0; i < 9; i++) {
        esi_time_histogram_count_total(&totals, esi_time_histogram_bucket(100000), 100000);
    }
    esi_time_histogram_count_total(&totals, esi_time_histogram_bucket(10000000000), 10000000000);
    assert_int_equal(esi_time_histogram_total(&totals), 100);
    assert_int_equal(totals.sum_ns, 90 * 2000 + 9 * 100000 + 10000000000);
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 0), 2048);
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 50), 2048);
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 90), 2048);
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 99), 131072);
    assert_int_equal(esi_time_histogram_percentile_ns(&totals, 100), 2147483648);
}

/* A full bucket halves all: the shape stays, and nothing wraps round. */
static void test_full_bucket(void **state)
{
    struct esi_time_histogram histogram = {.counts = {[3] = UINT16_MAX - 1, [5] = 1000}};
    struct esi_time_totals totals = {.counts = {[5] = 1}};

    (void)state;
    esi_time_histogram_count(&histogram, 3);
    assert_int_equal(histogram.counts[3], UINT16_MAX / 2);
    assert_int_equal(histogram.counts[5], 500);
    esi_time_histogram_add_to(&histogram, &totals);
    assert_int_equal(totals.counts[5], 501);
    assert_int_equal(esi_time_histogram_total(&totals), (uint64_t)UINT16_MAX / 2 + 501);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets_enclose),
        cmocka_unit_test(test_ends_rise),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_full_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
