/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shows how far the run is: a bar on a terminal, otherwise a line a second; on standard error. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_bench_shown;
struct esi_bench_options;

struct esi_bench_progress {
    const struct esi_bench_options *options; /* borrowed */
    const struct esi_bench_shown *shown;     /* borrowed; shard_count */
    size_t shard_count;
    uint64_t total; /* deliveries expected in all; 0: by duration */
    uint64_t start_ns;
    uint64_t next_ns;
    uint64_t last_ns;
    uint64_t last_delivered;
    bool is_terminal;
    bool has_drawn;
};

void esi_bench_progress_init(struct esi_bench_progress *progress,
                             const struct esi_bench_options *options,
                             const struct esi_bench_shown *shown, size_t shard_count,
                             uint64_t now_ns);

/* Draws when it is time to. Cheap otherwise. Thread: one. */
void esi_bench_progress_update(struct esi_bench_progress *progress, uint64_t now_ns);

/* Removes the bar. */
void esi_bench_progress_finish(struct esi_bench_progress *progress);
