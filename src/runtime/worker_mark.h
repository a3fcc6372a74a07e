/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From when on a worker's busy time is measured. Private to the runtime layer.
 *
 * Busy is what turns took, but no more than the processor time that the thread got: a worker that
 * has to wait for a processor would not have more of it on another worker, and one that looks for
 * work awake is not busy.
 */
#pragma once

#include <stdint.h>

struct esi_worker;

struct esi_worker_mark {
    uint64_t now_ns;
    uint64_t busy_ns; /* in turns, since the start */
    uint64_t cpu_ns;  /* of the thread */
};

/* Now. Thread: the worker's own. */
void esi_worker_mark(const struct esi_worker *worker, struct esi_worker_mark *mark);
/* The busy part of the time since then, in thousandths. Thread: the worker's own. */
uint32_t esi_worker_busy_since(const struct esi_worker *worker, const struct esi_worker_mark *mark);
