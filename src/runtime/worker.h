/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker thread: one poller, one run queue, one timer wheel. Private to the runtime layer. */
#pragma once

#include "runtime/runtime.h"

#include "runtime/actor.h"
#include "runtime/balance.h"
#include "runtime/grace_watch.h"
#include "runtime/linger.h"
#include "runtime/timer_wheel.h"
#include "runtime/worker_mark.h"

#include <stdatomic.h>
#include <stdbool.h>

#define ESI_WORKER_UNPINNED UINT32_MAX

struct esi_worker {
    struct esi_runtime *runtime; /* borrowed */
    struct esi_env *env;         /* borrowed */
    uint32_t index;
    uint32_t pin_core; /* the core that its thread is kept on, or ESI_WORKER_UNPINNED */
    struct esi_thread *thread;
    struct esi_poller *poller;
    void *local; /* the owner's, by local_new */
    /* written by the worker */
    struct esi_timer_wheel wheel;
    uint64_t now_ns;
    struct esi_actor *current; /* whose turn it is; NULL: none, or one that roams */
    struct esi_actor *run_head;
    struct esi_actor *run_tail;
    struct esi_list actors;
    struct esi_balance balance;
    struct esi_worker_stats stats;
    struct esi_worker_mark busy_mark; /* where the window of busy_permille began */
    uint32_t stopped_phases; /* bits by enum esi_stop_phase: whose actors have been told to stop */
    struct esi_linger linger;
    bool is_in_dialogue; /* a peer has answered since the last wait */
    bool may_linger;     /* more than one core */
    bool is_streaming;   /* work comes in quicker succession than the worker gathers it */
    uint64_t gather_ns;
    bool is_ending;
    struct esi_worker_times times;
    struct esi_visit *visits; /* those that are here now */
    struct esi_actor agent;   /* does what the runtime asks of this worker */
    struct esi_grace_watch graces;
    /* written by the worker, read by any thread */
    _Alignas(ESI_CACHE_LINE) _Atomic bool is_asleep;
    _Atomic uint32_t busy_permille;
    /* of the busy measurement; the last one stands in busy_permille */
    _Atomic uint64_t window_start_ns;
    /* written by any thread */
    _Alignas(ESI_CACHE_LINE) _Atomic(struct esi_actor *) inbound; /* scheduled from elsewhere */
};

/* What the agent is told. */
enum worker_msg { WORKER_STOP_ACTORS, WORKER_END, WORKER_VISIT, WORKER_REAP };

struct esi_worker_stop {
    struct esi_msg msg;
    enum esi_stop_phase phase;
    bool is_cut; /* else the first word */
};

/* Prepares the worker; the thread is started by the runtime. */
ES_MUST_USE enum es_err esi_worker_init(struct esi_worker *worker, struct esi_runtime *runtime,
                                        uint32_t index);
void esi_worker_deinit(struct esi_worker *worker);
/* The thread's function. */
void esi_worker_run(void *argument);
/*
 * The same in steps of one turn, where the environment has no threads. A turn is a whole read-side
 * section and no worker is within one when another has its turn, so nothing tells liburcu.
 */
bool esi_worker_step(void *argument, uint64_t *next_ns);
/* After the threads have ended: the caller acts as the worker from now on; NULL: as none. Thread:
 * the one that stops the runtime. */
void esi_worker_assume(struct esi_worker *worker);
/* After the threads have ended: finishes the actors that are left. Thread: the one that stops the
 * runtime. */
void esi_worker_finish_actors(struct esi_worker *worker);
/*
 * After the threads have ended: gives turns for what is still under way, as if the caller were the
 * worker. Returns true when there was something. Thread: the one that stops the runtime.
 */
bool esi_worker_sweep(struct esi_worker *worker);
/* Appends an actor to the run queue. The worker's own thread. */
void esi_worker_enqueue(struct esi_worker *worker, struct esi_actor *actor);
/* Hands an actor, whose is_scheduled the caller has just claimed, to its worker. Any other
 * thread. */
void esi_worker_schedule_remote(struct esi_worker *worker, struct esi_actor *actor);
/* Runs one turn of an actor, which begins now. Returns the time of its end. */
uint64_t esi_actor_run(struct esi_actor *actor, uint64_t now_ns, uint32_t work_bound);
/* Messages an actor handles before it yields. */
uint32_t esi_runtime_work_bound(const struct esi_runtime *runtime);
/* Whether an actor may leave its worker: in a visit, which would miss it, only later, in a stop not
 * at all. MOVE_NOW pairs with esi_runtime_end_move, when it has arrived or stays after all. */
enum esi_move_leave { MOVE_NOW, MOVE_LATER, MOVE_NEVER };
ES_MUST_USE enum esi_move_leave esi_runtime_begin_move(struct esi_runtime *runtime);
void esi_runtime_end_move(struct esi_runtime *runtime);
/* Leaves a grace period that a worker has waited for, and its actor, to the reclaimer. */
void esi_runtime_leave_grace(struct esi_runtime *runtime, struct esi_grace *grace);
/* A visit has come to its end. */
void esi_runtime_end_visit(struct esi_runtime *runtime);
/* How busy a worker is, as far as is known. Thread: any. */
uint32_t esi_runtime_busy_permille(struct esi_runtime *runtime, const struct esi_worker *worker);
const struct esi_runtime_options *esi_runtime_options(const struct esi_runtime *runtime);
/* Told by a worker: an actor of the phase began to live, or has finished. */
void esi_runtime_count(struct esi_runtime *runtime, enum esi_stop_phase phase, int32_t change);
/* Makes the worker's local state, on its thread, and tells whether that went well. */
void esi_runtime_make_local(struct esi_runtime *runtime, struct esi_worker *worker);
/* Links an actor that is at home on the worker from now on. */
void esi_worker_take_in(struct esi_worker *worker, struct esi_actor *actor);
/* Unlinks an actor that has finished or goes to another worker. */
void esi_worker_forget(struct esi_worker *worker, struct esi_actor *actor);
