/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes of a run: the one that was started, and those that it forks. They share memory for
 * what they find, and meet twice: when all have connected, and when all have come to their end.
 *
 * Invariant: who dies is missed at the next meeting, which then fails for all others: nobody waits
 * for ever.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "event_bench/bench_part.h"
#include "event_bench/bench_shard.h"

/* In shared memory. */
struct esi_bench_board {
    struct esi_bench_gate gate;
    struct esi_bench_shown shown[BENCH_THREADS_MAX]; /* one a shard */
    struct esi_bench_part parts[BENCH_PROCESSES_MAX];
    struct esi_bench_row rows[]; /* esi_bench_part_row_count */
};

struct esi_bench_crew {
    struct esi_bench_board *board; /* owned by the processes together */
    size_t board_bytes;
    size_t count;
    size_t index;                    /* of this process; 0: the one that was started */
    pid_t pids[BENCH_PROCESSES_MAX]; /* process 0: of the others */
    /* Pipes. Process 0: from and to each other one; the others: [0], from and to it. */
    int from[BENCH_PROCESSES_MAX];
    int to[BENCH_PROCESSES_MAX];
};

/*
 * Makes the shared memory and the other processes; returns in each of them, with its index.
 *   crew  zeroed memory of the caller
 * Errors: ES_NO_MEMORY, ES_FULL (processes, descriptors). Thread: main, before others start.
 */
ES_MUST_USE enum es_err esi_bench_crew_start(struct esi_bench_crew *crew,
                                             const struct esi_bench_options *options);

/*
 * Waits until all processes are here.
 *   is_good  whether this one can go on
 * Returns whether all can. Thread: main. Blocks.
 */
bool esi_bench_crew_meet(struct esi_bench_crew *crew, bool is_good);

/* Frees; process 0 waits until the others have ended. Accepts a crew that was only zeroed. */
void esi_bench_crew_finish(struct esi_bench_crew *crew);
