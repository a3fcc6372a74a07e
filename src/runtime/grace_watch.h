/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a worker finds out by itself that a grace period has passed, without waking the reclaimer:
 * each worker counts its turns where all can read it, and who waits looks at the counts of the
 * others at the end of its own turns, and while it waits awake. Before it sleeps it leaves what
 * still waits to the reclaimer. Private to the runtime layer.
 *
 * Counts are odd within a turn. A worker that is met between two turns, or later at another count,
 * holds nothing that was found before.
 */
#pragma once

#include "base/err.h"
#include "base/own.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_grace;
struct esi_runtime;

struct esi_grace_watch {
    struct esi_runtime *runtime; /* borrowed */
    struct esi_grace *asked;     /* in order; they wait for the next look */
    struct esi_grace **asked_tail;
    struct esi_grace *watched; /* the grace period that they wait for began at the last looks */
    /* owned: the count at which each worker was met; 0: it has passed */
    uint64_t *met;
    bool is_open; /* the worker has turns */
    /* written by the worker, read by all */
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t turn;
};

ES_MUST_USE enum es_err esi_grace_watch_init(struct esi_grace_watch *watch,
                                             struct esi_runtime *runtime, uint32_t worker_count);
void esi_grace_watch_deinit(struct esi_grace_watch *watch);

/* All of these: thread: the worker's own. They tell liburcu as well. */
void esi_grace_watch_open(struct esi_grace_watch *watch);
/* What still waits is left to the reclaimer. */
void esi_grace_watch_close(struct esi_grace_watch *watch);
/* One turn ends, the next one begins. */
void esi_grace_watch_next_turn(struct esi_grace_watch *watch);
/* The same with a wait between, in which nobody waits for this worker. */
void esi_grace_watch_pause(struct esi_grace_watch *watch);
void esi_grace_watch_resume(struct esi_grace_watch *watch);
/* Within such a wait: what is watched has passed, and the next turn's begin tells who asked. */
bool esi_grace_watch_is_due(struct esi_grace_watch *watch);
/* Within such a wait: it becomes a sleep, so what still waits is left to the reclaimer. */
void esi_grace_watch_leave(struct esi_grace_watch *watch);
/* As esi_runtime_after_grace, while the worker has turns. */
void esi_grace_watch_ask(struct esi_grace_watch *watch, struct esi_grace *grace);
