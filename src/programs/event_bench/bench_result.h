/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a run has found, summed over its processes, and where it was measured. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "event_bench/bench_part.h"

/* The machine, as far as it matters to the figures, and what this program is made of. */
struct esi_bench_stamp {
    char kernel[160];
    char machine[65];
    char cpu[96];      /* its model */
    char governor[32]; /* empty: not told */
    char date[32];     /* UTC, RFC 3339 */
    const char *compiler;
    const char *tls_library;
    uint64_t cores;
    double load_before[3];
    double load_after[3];
};

struct esi_bench_result {
    const struct esi_bench_options *options; /* borrowed */
    const struct esi_bench_gate *gate;       /* borrowed */
    const struct esi_bench_row *rows;        /* borrowed; esi_bench_part_row_count */
    struct esi_bench_stamp stamp;
    struct esi_bench_part sum;   /* of all processes; the text of the first that failed */
    double seconds;              /* measured */
    double generator_cpu_us;     /* a delivered message, publishing included */
    double generator_user_share; /* of its CPU; negative: too little to tell */
    bool has_server;
    double server_cpu_us;     /* a delivered message */
    double server_user_share; /* as above */
    double server_cores;      /* cores in use */
    double server_voluntary;  /* context switches a thousand delivered messages */
    double server_involuntary;
    bool is_generator_limit; /* the generator was busy all the time, the server was not; in open
                                loop: more than half of P50 or P99 is the generator's own */
    bool is_valid;           /* everything arrived as it should */
    bool has_figures;        /* valid, and no bottleneck that was not allowed */
};

/* Notes kernel, cores, date, and the load before the run. Thread: main. */
void esi_bench_result_stamp(struct esi_bench_stamp *stamp, struct esi_env *env);

/*
 * Sums up after the run. result->stamp was filled before.
 *   gate, parts, rows  borrowed for the life of the result; options->processes parts
 * Thread: main, after all processes have come to their end.
 */
void esi_bench_result_collect(struct esi_bench_result *result,
                              const struct esi_bench_options *options,
                              const struct esi_bench_gate *gate, const struct esi_bench_part *parts,
                              const struct esi_bench_row *rows);

/* Of the idle scenario: by how many bytes the server's resident memory grew for a connection. */
double esi_bench_result_idle_bytes(const struct esi_bench_result *result);
/* The same for a subscription. */
double esi_bench_result_subscription_bytes(const struct esi_bench_result *result);
