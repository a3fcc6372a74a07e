/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what the histogram reports is what was recorded, within its promised 1/64. Method: known
 * values, and a set of pseudo-random values whose percentiles are found by sorting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/histogram.h"

static struct esi_histogram histogram;
static struct esi_histogram other;

static int empty_it(void **state)
{
    (void)state;
    esi_histogram_init(&histogram);
    esi_histogram_init(&other);
    return 0;
}

static void test_empty_reports_zero(void **state)
{
    (void)state;
    assert_int_equal(esi_histogram_percentile(&histogram, 50), 0);
    assert_int_equal(esi_histogram_min(&histogram), 0);
    assert_true(esi_histogram_mean(&histogram) <= 0);
    assert_true(esi_histogram_stddev(&histogram) <= 0);
}

/* Every value falls into a bucket whose top is not below it and at most 1/64 above it; buckets
 * never run backwards. */
static void test_buckets_cover_all_values(void **state)
{
    (void)state;
    size_t last = 0;
    size_t checked = 0;
    for (uint64_t value = 0; value < (uint64_t)1 << ESI_HISTOGRAM_VALUE_BITS;
         value += value / 1000 + 1) {
        const size_t index = esi_histogram_bucket_index(value);
        assert_true(index < ESI_HISTOGRAM_BUCKETS);
        assert_true(index == last || index == last + 1);
        const uint64_t top = esi_histogram_bucket_top(index);
        assert_true(top >= value);
        assert_true(top - value <= value / ESI_HISTOGRAM_SUB);
        assert_int_equal(esi_histogram_bucket_index(top), index);
        if (index + 1 < ESI_HISTOGRAM_BUCKETS) {
            assert_int_equal(esi_histogram_bucket_index(top + 1), index + 1);
        }
        last = index;
        checked++;
    }
    assert_int_equal(last, ESI_HISTOGRAM_BUCKETS - 1);
    assert_true(checked > 10000);
}

static void test_small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 10; value++) {
        esi_histogram_record(&histogram, value);
    }
    assert_int_equal(esi_histogram_percentile(&histogram, 0), 1);
    assert_int_equal(esi_histogram_percentile(&histogram, 10), 1);
    assert_int_equal(esi_histogram_percentile(&histogram, 50), 5);
    assert_int_equal(esi_histogram_percentile(&histogram, 51), 6);
    assert_int_equal(esi_histogram_percentile(&histogram, 100), 10);
    assert_int_equal(esi_histogram_min(&histogram), 1);
    assert_int_equal(histogram.max, 10);
    assert_true(esi_histogram_mean(&histogram) > 5.499 && esi_histogram_mean(&histogram) < 5.501);
    assert_true(esi_histogram_stddev(&histogram) > 2.871);
    assert_true(esi_histogram_stddev(&histogram) < 2.873);
}

/* 99.9% of 1000 is the 999th value, although 0.999 is not exact in binary. */
static void test_rank_is_not_off_by_one(void **state)
{
    (void)state;
    for (int i = 0; i < 999; i++) {
        esi_histogram_record(&histogram, 7);
    }
    esi_histogram_record(&histogram, 40);
    assert_int_equal(esi_histogram_percentile(&histogram, 99.9), 7);
    assert_int_equal(esi_histogram_percentile(&histogram, 99.99), 40);
}

static int compare_values(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_percentiles_match_sorted_values(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static const double percents[] = {1, 10, 50, 90, 99, 99.9, 99.99};
    uint64_t random = 88172645463325252U;

    for (size_t i = 0; i < COUNT; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        values[i] = random >> (24 + random % 32);
        esi_histogram_record(i % 2 == 0 ? &histogram : &other, values[i]);
    }
    esi_histogram_merge(&histogram, &other);
    qsort(values, COUNT, sizeof values[0], compare_values);
    assert_int_equal(histogram.count, COUNT);
    assert_int_equal(esi_histogram_min(&histogram), values[0]);
    assert_int_equal(histogram.max, values[COUNT - 1]);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        const size_t rank = (size_t)(percents[i] / 100 * COUNT + 0.5);
        const uint64_t exact = values[rank - 1];
        const uint64_t found = esi_histogram_percentile(&histogram, percents[i]);
        assert_in_range(found, exact, exact + exact / ESI_HISTOGRAM_SUB);
    }
}

/* A value above the range is counted, and the maximum stays exact. */
static void test_huge_values_are_counted(void **state)
{
    (void)state;
    esi_histogram_record(&histogram, UINT64_MAX);
    esi_histogram_record(&histogram, 3);
    assert_int_equal(histogram.count, 2);
    assert_int_equal(esi_histogram_percentile(&histogram, 50), 3);
    assert_true(esi_histogram_percentile(&histogram, 100) == UINT64_MAX);
}

static void test_merge_with_empty_changes_nothing(void **state)
{
    (void)state;
    esi_histogram_record(&histogram, 12);
    esi_histogram_merge(&histogram, &other);
    assert_int_equal(histogram.count, 1);
    assert_int_equal(esi_histogram_min(&histogram), 12);
    esi_histogram_merge(&other, &histogram);
    assert_int_equal(esi_histogram_min(&other), 12);
    assert_int_equal(other.max, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_empty_reports_zero, empty_it),
        cmocka_unit_test_setup(test_buckets_cover_all_values, empty_it),
        cmocka_unit_test_setup(test_small_values_are_exact, empty_it),
        cmocka_unit_test_setup(test_rank_is_not_off_by_one, empty_it),
        cmocka_unit_test_setup(test_percentiles_match_sorted_values, empty_it),
        cmocka_unit_test_setup(test_huge_values_are_counted, empty_it),
        cmocka_unit_test_setup(test_merge_with_empty_changes_nothing, empty_it),
    };
    return cmocka_run_group_tests_name("base/histogram", tests, NULL, NULL);
}
