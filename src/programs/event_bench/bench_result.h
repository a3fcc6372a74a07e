/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a run has found, summed over its shards, and where it was measured. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "event_bench/bench_shard.h"

/* The machine, as far as it matters to the figures. */
struct esi_bench_stamp {
    char kernel[160];
    char machine[65];
    char governor[32]; /* empty: not told */
    char date[32];     /* UTC, RFC 3339 */
    uint64_t cores;
    double load_before[3];
    double load_after[3];
};

struct esi_bench_result {
    const struct esi_bench_options *options; /* borrowed */
    struct esi_bench_shard *shards;          /* borrowed; shard_count */
    size_t shard_count;
    struct esi_bench_stamp stamp;
    double seconds;     /* measured */
    uint64_t published; /* while measuring */
    /* To subscribers, responders and requesters, while measuring; without messages: operations. */
    uint64_t delivered;
    uint64_t replies;         /* request-reply only */
    uint64_t delivered_total; /* also before and after */
    struct esi_bench_faults faults;
    struct esi_histogram latency_ns;
    double generator_cpu_us; /* a delivered message, publishing included */
    double generator_user_share;
    double generator_busy; /* of the busiest thread: 1 - time spent waiting for the server */
    bool has_server;
    double server_cpu_us; /* a delivered message */
    double server_user_share;
    double server_cores;     /* cores in use */
    double server_voluntary; /* context switches a thousand delivered messages */
    double server_involuntary;
    bool is_generator_limit; /* the generator was busy all the time, the server was not */
    bool is_valid;           /* everything arrived as it should */
};

/* Notes kernel, cores, date, and the load before the run. Thread: main. */
void esi_bench_result_stamp(struct esi_bench_stamp *stamp, struct esi_env *env);

/* Sums up after the run. result->stamp was filled before. Thread: main, after the others were
 * joined. */
void esi_bench_result_collect(struct esi_bench_result *result,
                              const struct esi_bench_options *options,
                              struct esi_bench_shard *shards, size_t shard_count);

/* Of the idle scenario: by how many bytes the server's resident memory grew for a connection. */
double esi_bench_result_idle_bytes(const struct esi_bench_result *result);
/* The same for a subscription. */
double esi_bench_result_subscription_bytes(const struct esi_bench_result *result);
