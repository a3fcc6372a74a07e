/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what several processes have found is summed up whole, and a run is refused when, and only
 * when, the generator was what limited it.
 * Method: parts with known figures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "event_bench/bench_result.h"

enum { PROCESSES = 3 };

static const uint64_t second = 1000000000;

static struct esi_bench_options options;
static struct esi_bench_gate gate;
static struct esi_bench_part parts[PROCESSES];
static struct esi_bench_result result;

static int set_up(void **state)
{
    (void)state;
    options = (struct esi_bench_options){.processes = PROCESSES};
    gate = (struct esi_bench_gate){.has_server = true};
    gate.server_after.cpu_ns = second;
    result = (struct esi_bench_result){0};
    result.stamp.cores = 8;
    for (size_t i = 0; i < PROCESSES; i++) {
        parts[i] = (struct esi_bench_part){.begin_ns = 100 + i,
                                           .end_ns = second + 100 - i,
                                           .published = 100,
                                           .delivered = 1000,
                                           .busy = 0.5};
        esi_histogram_init(&parts[i].latency_ns);
        esi_histogram_init(&parts[i].late_ns);
        for (uint64_t v = 0; v < 1000; v++) {
            esi_histogram_record(&parts[i].latency_ns, 1000 * (i + 1));
        }
    }
    return 0;
}

static void collect(void)
{
    esi_bench_result_collect(&result, &options, &gate, parts, NULL);
}

/* Percentiles of the whole, not means of percentiles. */
static void sums_up(void **state)
{
    (void)state;
    parts[2].longest_pause_ns = 7;
    collect();
    assert_true(result.is_valid);
    assert_true(result.has_figures);
    assert_int_equal(result.sum.delivered, 3000);
    assert_int_equal(result.sum.published, 300);
    assert_int_equal(result.sum.latency_ns.count, 3000);
    assert_int_equal(result.sum.longest_pause_ns, 7);
    assert_true(esi_histogram_percentile(&result.sum.latency_ns, 33) < 1100);
    assert_true(esi_histogram_percentile(&result.sum.latency_ns, 66) > 1900);
    assert_true(esi_histogram_percentile(&result.sum.latency_ns, 66) < 2100);
    assert_int_equal(esi_histogram_percentile(&result.sum.latency_ns, 99.99), 3000);
    /* From the first that began to the last that ended: a second; and a core of it for 3000. */
    assert_true(result.seconds > 0.9999 && result.seconds < 1.0001);
    assert_true(result.server_cpu_us > 333.2 && result.server_cpu_us < 333.4);
}

static void faults_of_any_process(void **state)
{
    (void)state;
    parts[1].faults.reordered = 2;
    parts[2].faults.lost = 1;
    collect();
    assert_false(result.is_valid);
    assert_false(result.has_figures);
    assert_int_equal(result.sum.faults.reordered, 2);
    assert_int_equal(result.sum.faults.lost, 1);
}

static void failure_of_any_process(void **state)
{
    (void)state;
    snprintf(parts[1].failure.text, sizeof parts[1].failure.text, "closed");
    collect();
    assert_false(result.is_valid);
    assert_string_equal(result.sum.failure.text, "closed");
    (void)set_up(NULL);
    parts[2].has_stalled = true;
    collect();
    assert_false(result.is_valid);
}

/* One shard that never waited: a server that was at work on a core was the limit as well. */
static void one_saturated_shard(void **state)
{
    (void)state;
    parts[1].saturated = 1;
    collect();
    assert_false(result.is_generator_limit);
    gate.server_after.cpu_ns = second / 2;
    collect();
    assert_true(result.is_generator_limit);
    assert_true(result.is_valid);
    assert_false(result.has_figures);
    options.allow_bottleneck = true;
    collect();
    assert_true(result.has_figures);
}

/* Three shards could keep three cores of the server busy; it worked on one. */
static void several_saturated_shards(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROCESSES; i++) {
        parts[i].saturated = 1;
    }
    collect();
    assert_true(result.is_generator_limit);
    gate.server_after.cpu_ns = 3 * second;
    collect();
    assert_false(result.is_generator_limit);
    /* Where there is but one core left, more cannot be asked for. */
    result.stamp.cores = 4;
    gate.server_after.cpu_ns = second;
    collect();
    assert_false(result.is_generator_limit);
}

/* Nobody looked at the server: it is said, but the figures are shown. */
static void server_unknown(void **state)
{
    (void)state;
    gate.has_server = false;
    parts[0].saturated = 1;
    collect();
    assert_true(result.is_generator_limit);
    assert_true(result.has_figures);
}

static void be_late(uint64_t late_ns, int messages)
{
    for (int i = 0; i < messages; i++) {
        esi_histogram_record(&parts[1].late_ns, late_ns);
    }
}

/* Latency is 2 us in the middle and 3 us at P99: half of either may be the generator's own. */
static void late_in_open_loop(void **state)
{
    (void)state;
    options.rate = 1000;
    parts[0].saturated = 1; /* says nothing in open loop */
    be_late(900, 985);
    be_late(1400, 15);
    collect();
    assert_false(result.is_generator_limit);
    be_late(1700, 15);
    collect();
    assert_true(result.is_generator_limit);
    assert_false(result.has_figures);
}

static void late_in_the_middle(void **state)
{
    (void)state;
    options.rate = 1000;
    be_late(100, 490);
    be_late(1100, 510);
    collect();
    assert_true(result.is_generator_limit);
    assert_false(result.has_figures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sums_up, set_up),
        cmocka_unit_test_setup(faults_of_any_process, set_up),
        cmocka_unit_test_setup(failure_of_any_process, set_up),
        cmocka_unit_test_setup(one_saturated_shard, set_up),
        cmocka_unit_test_setup(several_saturated_shards, set_up),
        cmocka_unit_test_setup(server_unknown, set_up),
        cmocka_unit_test_setup(late_in_open_loop, set_up),
        cmocka_unit_test_setup(late_in_the_middle, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
