/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of a run that one thread drives: some groups, one poller, one read block. Shards share
 * nothing while they run but the gate, which takes the process-wide figures when the first begins
 * and the last ends to measure.
 *
 * A run goes warm-up → measuring → draining (what is on its way arrives) → farewell (a last PING to
 * every subscriber: a duplicate of the last message would come before its PONG).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "event_bench/bench_client.h"
#include "event_bench/bench_group.h"
#include "event_bench/bench_meter.h"

struct esi_bench_progress;
struct esi_bench_worker;

/* Of one shard, shown by another thread or process; on a cache line of its own. */
struct esi_bench_shown {
    _Alignas(64) _Atomic uint64_t delivered;
};

/* What the shards share, also those of other processes. */
struct esi_bench_gate {
    _Atomic uint32_t to_begin; /* shards that have not begun to measure */
    _Atomic uint32_t to_end;   /* shards that have not ended measuring */
    /* Written by the shard that takes them to 0, read after all have come to their end. */
    uint64_t pids[BENCH_PROCESSES_MAX]; /* of the generator; written before they begin */
    size_t pid_count;
    struct esi_bench_usage own_before;
    struct esi_bench_usage own_after;
    struct esi_bench_usage server_before;
    struct esi_bench_usage server_after;
    uint64_t server_resident_bytes; /* before anything was connected; 0: not known */
    bool has_server;                /* both of the servers' figures could be read */
};

enum esi_bench_phase { BENCH_WARMUP, BENCH_MEASURE, BENCH_DRAIN, BENCH_FAREWELL, BENCH_DONE };

struct esi_bench_shard {
    struct esi_bench_link link;
    struct esi_bench_tally tally;
    struct esi_bench_gate *gate;         /* borrowed */
    struct esi_bench_progress *progress; /* borrowed; NULL: this shard shows none */
    struct esi_bench_group *groups;      /* owned */
    size_t group_count;
    uint64_t index;             /* of the shard */
    struct esi_address address; /* without groups: where clients connect to */
    uint64_t messages;          /* its share; 0: by duration */
    enum esi_bench_phase phase;
    uint64_t begin_ns; /* when measuring began and ended */
    uint64_t end_ns;
    uint64_t cpu_ns;  /* of this thread, while measuring */
    uint64_t idle_ns; /* waited in the poller, while measuring */
    uint64_t last_progress_ns;
    uint64_t progress_mark;          /* a sum that changes whenever anything moves */
    struct esi_bench_shown *shown;   /* borrowed; for the progress display */
    uint64_t pause_mark;             /* messages delivered when the last pause began */
    uint64_t pause_ns;               /* and when that was */
    uint64_t longest_pause_ns;       /* without any delivery, while measuring */
    struct esi_bench_worker *worker; /* owned; NULL: not the events scenario */
    bool has_stalled;                /* no progress within the time-out */
};

/* Waits at most so long, in ns, and lets the clients react. */
void esi_bench_shard_poll(struct esi_bench_shard *shard, int64_t timeout_ns);
/* Measuring begins and ends; the first and the last shard also read what the processes cost. */
void esi_bench_shard_begin(struct esi_bench_shard *shard);
void esi_bench_shard_end(struct esi_bench_shard *shard);

/* Which part of the run a shard has. */
struct esi_bench_share {
    uint64_t first_group;
    uint64_t group_count;
    uint64_t messages; /* 0: by duration */
};

/*
 * Prepares memory and poller.
 *   shard    zeroed memory of the caller; deinit also after a failure
 *   options  borrowed until deinit
 * Errors: ES_NO_MEMORY, ES_FULL (descriptors).
 */
ES_MUST_USE enum es_err esi_bench_shard_init(struct esi_bench_shard *shard, struct esi_env *env,
                                             const struct esi_bench_options *options,
                                             struct esi_bench_gate *gate,
                                             const struct esi_bench_share *share);
void esi_bench_shard_deinit(struct esi_bench_shard *shard);

/*
 * Connects and subscribes everything, and waits until the server has confirmed.
 *   publishers, subscribers  where they connect to; the same, or two servers that are linked: then
 *                            it also waits until what is published arrives
 * Failure: link.has_failed.
 */
void esi_bench_shard_open(struct esi_bench_shard *shard, const struct esi_address *publishers,
                          const struct esi_address *subscribers);

/*
 * Runs to the end. Blocks. Failure: link.has_failed, has_stalled, or faults of the groups.
 * argument: the shard. Thread: any, one.
 */
void esi_bench_shard_run(void *argument);
