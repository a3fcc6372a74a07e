/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the run costs: CPU time, context switches and memory of this process and of the server's, by
 * /proc and the kernel's CPU clocks, read when measuring begins and when it ends.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Totals of a process since its start. */
struct esi_bench_usage {
    uint64_t cpu_ns;      /* exact */
    uint64_t user_ns;     /* by ticks of 10 ms */
    uint64_t system_ns;   /* by ticks of 10 ms */
    uint64_t voluntary;   /* context switches of its living threads */
    uint64_t involuntary; /* the same, forced */
    uint64_t resident_bytes;
    uint64_t resident_bytes_max;
    uint64_t threads;
};

/*
 * Reads the totals of processes, added up.
 *   pids, count  at least one; 0: this process
 * Errors: ES_NOT_FOUND: no such process, or /proc does not show it. Thread: any.
 */
ES_MUST_USE enum es_err esi_bench_meter_read_all(const uint64_t *pids, size_t count,
                                                 struct esi_bench_usage *usage);

/* CPU time of the calling thread in ns. */
uint64_t esi_bench_meter_thread_cpu_ns(void);
