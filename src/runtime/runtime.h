/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The runtime: worker threads that run actors, service threads for what blocks, and the reclaimer
 * that waits for RCU grace periods and tells by message when one has ended.
 */
#pragma once

#include "base/err.h"
#include "base/json_writer.h"
#include "env/env.h"
#include "runtime/actor.h"

#include <stdint.h>

enum { ESI_RUNTIME_WORKERS_MAX = 1024, ESI_RUNTIME_SERVICE_THREADS_MAX = 64 };

/* Where actors live. */
enum esi_placement {
    PLACEMENT_FILL,   /* the fewest workers that stay under about 70% busy */
    PLACEMENT_SPREAD, /* evenly */
    PLACEMENT_SHUFFLE /* as spread, and moved about at random: for tests */
};

/* Which cores worker threads are kept on. */
enum esi_pin {
    PIN_NONE,
    PIN_CORES, /* each on one of those that the process may use, in turn */
    PIN_LIST   /* each on one of a list, in turn */
};

struct esi_runtime_options {
    struct esi_env *env;    /* borrowed */
    uint32_t worker_count;  /* 0 = the cores that the process may use */
    uint32_t service_count; /* service threads; 0 = 2 */
    uint32_t work_bound;    /* messages an actor handles before it yields; 0 = 256 */
    enum esi_pin pin;
    const uint32_t
        *pin_cores;          /* PIN_LIST: by the system's numbers; borrowed until it has started */
    uint32_t pin_core_count; /* > 0 */
    enum esi_placement placement;
    uint64_t rebalance_ns; /* how often a worker looks whether actors should move; 0: never */
    /* How long a worker that carries a stream leaves it alone before it looks for more; 0: it looks
     * at once. Never while somebody waits for an answer. */
    uint64_t gather_ns;
    /* Of a worker's time: one that is busier gives actors away; at most and 0: 750. All other
     * bounds of placement are in proportion to it. */
    uint32_t full_permille;
    uint64_t drain_ns; /* by how much a stop waits longer for STOP_DRAIN than for other phases */
    /* Called on each worker thread before its first turn; sets what esi_worker_local returns. NULL:
     * out of memory. */
    void *(*local_new)(void *argument, uint32_t worker_index);
    /* Called for each by the thread that stops the runtime, when no actor is left. */
    void (*local_free)(void *argument, void *local);
    void *local_argument; /* borrowed */
};

/* Makes and starts the threads. ES_NO_MEMORY (also: of local_new), ES_IO (threads or pollers cannot
 * be made), ES_NOT_FOUND (a core to be pinned to is not there). */
ES_MUST_USE enum es_err esi_runtime_new(const struct esi_runtime_options *options,
                                        struct esi_runtime **out);
/*
 * Stops all actors in order of their phases, at most timeout_ns for each phase (and drain_ns more
 * for STOP_DRAIN), then ends and joins all threads. Those that have not ended in time are cut off,
 * and have a second for that.
 * Blocks. Thread: one that is not the runtime's own. Returns ES_OK, or ES_TIMEOUT when actors were
 * cut off.
 */
enum es_err esi_runtime_stop(struct esi_runtime *runtime, uint64_t timeout_ns);
/* After the stop: true when actors had not even ended when they were cut off, and were finished by
 * force. What they had left with others (subscriptions in a table) was not taken back. */
bool esi_runtime_has_forced(const struct esi_runtime *runtime);
/* Frees a stopped runtime; NULL is accepted. */
void esi_runtime_free(struct esi_runtime *runtime);

struct esi_env *esi_runtime_env(const struct esi_runtime *runtime);
uint32_t esi_runtime_worker_count(const struct esi_runtime *runtime);
struct esi_worker *esi_runtime_worker(const struct esi_runtime *runtime, uint32_t index);
/*
 * The worker for a new actor: with spread the next one, else the first that is not nearly full
 * (70% where 75% are), or where there is none the least busy. Thread: any.
 */
struct esi_worker *esi_runtime_place(struct esi_runtime *runtime);

/* The worker of the calling thread, or NULL. */
struct esi_worker *esi_worker_current(void);
/* What local_new made for this worker; the worker's own thread only. */
void *esi_worker_local(const struct esi_worker *worker);
uint32_t esi_worker_index(const struct esi_worker *worker);
/* Time of the worker's current turn, monotonic ns; its own thread only. */
uint64_t esi_worker_now_ns(const struct esi_worker *worker);
/*
 * Told by an actor in its turn: its peer has just answered what was written to it. Then more is
 * likely to come soon, and somebody waits for it: the worker's next wait may begin awake.
 */
void esi_worker_note_answer(struct esi_worker *worker);

/* Work for a service thread. Embedded by the caller, who frees it in done's way. */
struct esi_job {
    struct esi_job *next;
    /* Runs on a service thread; may block. */
    void (*run)(struct esi_job *job);
};
/* Queues a job, taken. Thread: any. After the stop it is run by the stopping thread, so that nobody
 * waits for ever. */
void esi_runtime_submit(struct esi_runtime *runtime, struct esi_job *job);

/*
 * Asks for a grace period: when one has passed that began after this call, grace->msg is sent to
 * *actor (which must stay alive until then: hold a reference). Thread: any. Cannot fail.
 */
void esi_runtime_after_grace(struct esi_runtime *runtime, struct esi_actor *actor,
                             struct esi_grace *grace);
/* The same for who only wants to be freed: some milliseconds later, together with others. */
void esi_runtime_after_some_grace(struct esi_runtime *runtime, struct esi_actor *actor,
                                  struct esi_grace *grace);

/*
 * Runs visit(actor, argument) for each actor of each worker, on that worker's thread between turns,
 * worker by worker, and then sends done to the asking actor (alive until then). A worker visits
 * some of its actors at a time, with turns of others between: what starts or ends meanwhile may be
 * missed. No actor moves meanwhile, so each that lives on is met once. For monitoring.
 * Thread: any.
 */
struct esi_visit {
    void (*visit)(struct esi_actor *actor, void *argument);          /* may be NULL */
    void (*visit_worker)(struct esi_worker *worker, void *argument); /* may be NULL */
    void *argument;
    struct esi_actor *asker; /* gets done */
    struct esi_msg *done;
    /* Set by visit: it is not done with this actor, call it once more in a later turn. */
    bool is_unfinished;
    /* the runtime's own */
    struct esi_msg msg;
    uint32_t next_worker;
    struct esi_visit *next_visit; /* at the same worker */
    struct esi_list *next_actor;  /* where it goes on there */
    struct esi_visit *next_waiting;
};
void esi_runtime_visit(struct esi_runtime *runtime, struct esi_visit *visit);

/* Counters of one worker. */
struct esi_worker_stats {
    uint64_t turns;
    uint64_t busy_ns;
    uint64_t idle_ns;
    uint64_t sleeps;
    uint64_t wakes_sent; /* wake-ups of other workers that this one paid */
    uint64_t wakes_received;
    uint64_t moves_in; /* actors that came from other workers */
    uint64_t moves_out;
    uint64_t messages;
    uint64_t messages_remote; /* sent to actors of other workers */
    uint32_t actors;
    uint32_t run_queue_length;
    uint32_t run_queue_length_max;
    uint32_t busy_permille; /* of about the last 100 ms */
};
/* How long messages to its actors waited, and their turns took, since the start. */
struct esi_worker_times {
    struct esi_time_totals waiting;
    struct esi_time_totals service;
};
/* On the worker's own thread (in a visit). */
const struct esi_worker_times *esi_worker_times(const struct esi_worker *worker);
void esi_worker_stats(const struct esi_worker *worker, struct esi_worker_stats *out);
