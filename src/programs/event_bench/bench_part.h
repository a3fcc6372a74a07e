/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one process of a run has found: plain values, so that they may lie in memory that processes
 * share, and may be added up with what the others have found.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"
#include "event_bench/bench_group.h"
#include "event_bench/bench_shard.h"

/* One client: what its line of the text report is made of. */
struct esi_bench_row {
    uint64_t messages; /* while measuring */
    uint64_t begin_ns;
    uint64_t last_ns; /* its last message, or the end of measuring, whichever was first */
};

struct esi_bench_part {
    struct es_error failure; /* why it has failed; empty: it has not */
    bool has_stalled;        /* no progress within the time-out */
    uint64_t begin_ns;       /* the first shard's begin, the last one's end of measuring */
    uint64_t end_ns;
    uint64_t published;
    uint64_t delivered; /* to subscribers, responders and requesters; or operations */
    uint64_t replies;
    uint64_t delivered_total; /* also before and after measuring */
    struct esi_bench_faults faults;
    struct esi_histogram latency_ns;
    uint64_t longest_pause_ns;    /* without any delivery while measuring */
    struct esi_histogram late_ns; /* open loop: what the generator itself was late */
    double busy;                  /* of the busiest shard: 1 - time spent waiting for the server */
    uint32_t saturated;           /* shards that hardly ever waited */
    struct esi_bench_server server;
};

/*
 * Sums up the shards of this process after their end.
 *   rows  of all clients of the run (see esi_bench_part_row_count): those of these shards are
 *         written
 * Thread: main, after the others were joined.
 */
void esi_bench_part_collect(struct esi_bench_part *part, struct esi_bench_row *rows,
                            const struct esi_bench_options *options,
                            const struct esi_bench_shard *shards, size_t shard_count);

/* Of all clients of a run: publishers and requesters first, then subscribers and responders. */
size_t esi_bench_part_row_count(const struct esi_bench_options *options);
