/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker service of the events scenario: plain gRPC, takes each event that event-service calls
 * it with, has the publisher's group account for it, and answers success at once. It lives in the
 * thread of its shard, so that what it costs stands in the generator's figures.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct esi_bench_shard;
struct esi_bench_worker;

/*
 * Listens at options->worker, in the shard's poller.
 *   shard  borrowed until stop
 *   out    owned by the caller
 * Errors: ES_NO_MEMORY, and what listening says (ES_IN_USE, ...). Thread: main.
 */
ES_MUST_USE enum es_err esi_bench_worker_start(struct esi_bench_shard *shard,
                                               struct esi_bench_worker **out);
/* Closes and frees. NULL is accepted. Before the shard's end. */
void esi_bench_worker_stop(struct esi_bench_worker *worker);

/* Whether something of this worker stands behind what the poller said. */
bool esi_bench_worker_has(const struct esi_bench_worker *worker, const void *tag);
/* Reacts to it. Thread: the shard's. */
void esi_bench_worker_on_ready(struct esi_bench_worker *worker, void *tag);
