/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An actor: one struct, one mailbox, one function that handles one message at a time on the actor's
 * home worker. Nothing else touches its state. The runtime knows only struct esi_actor, which
 * stands first in the actor's own struct.
 *
 * Life: init -> start (any thread) -> turns on the home worker -> finish (in its own turn) -> last
 * reference given up -> free (always in a turn on the home worker). Messages to a finished actor
 * are freed unread. Between the last reference and the free lies a grace period: a sender touches
 * the actor once more after its message is in the mailbox (to schedule it), and by then the message
 * may have been handled and the reference that it stood for given up.
 *
 * A roaming actor (routers) has no home: whoever sends to it while it is idle runs its turn at
 * once, on the sender's thread; one thread at a time.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/msg.h"
#include "base/str.h"
#include "env/env.h"
#include "runtime/mailbox.h"
#include "runtime/time_histogram.h"
#include "runtime/timer_wheel.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_worker;
struct esi_runtime;

/* A socket that an actor watches. Embedded in the actor's struct; touched on the home worker
 * only. */
struct esi_io {
    struct esi_actor *actor;      /* borrowed */
    struct esi_io *next_ready;    /* the actor's list of ios with something to do */
    struct esi_io *next_of_actor; /* all ios of an actor that may move */
    int sock;                     /* ESI_ENV_NO_SOCKET when not watched */
    uint32_t watched;             /* bits of enum esi_poll_event */
    uint32_t ready;               /* bits seen since the last reaction */
    bool is_listed;
};

/* When an actor is told to stop: the doors first, then who came in by them, then who has work to
 * bring to its end that they left, then what all of these need. */
enum esi_stop_phase { STOP_DOORS, STOP_PEERS, STOP_DRAIN, STOP_SERVICES, STOP_PHASE_COUNT };

/* What /actorz shows of an actor beside the runtime's counters. */
struct esi_description {
    struct esi_bytes *text; /* a short line: name, peer, state; never a secret */
};

struct esi_actor_type {
    const char *name;
    enum esi_stop_phase stop_phase;
    /* The balancer may give it another home. Its timers and ios must then live as long as it does,
     * and it needs a cut, for when its new home cannot watch its sockets. */
    bool may_move;
    /* The first thing on a new home: points anew to what is the worker's. May be NULL. */
    void (*moved)(struct esi_actor *actor);
    /* First turn, before any message. May be NULL. */
    void (*start)(struct esi_actor *actor);
    /* One message. The runtime frees it afterwards through msg->free; what is kept is moved out. */
    void (*handle)(struct esi_actor *actor, struct esi_msg *msg);
    /* A watched socket is ready. May be NULL. */
    void (*ready)(struct esi_actor *actor, struct esi_io *io, uint32_t events);
    /* A timer of this actor is due (no longer set). May be NULL. */
    void (*timer)(struct esi_actor *actor, struct esi_timer *timer);
    /* The last thing in each turn, and the whole of a turn asked for by esi_actor_continue. May be
     * NULL. */
    void (*turn_end)(struct esi_actor *actor);
    /* Told once to stop; must lead to esi_actor_finish in bounded time. */
    void (*stop)(struct esi_actor *actor);
    /* Told when the stop's time is up and it has not finished: ends without waiting for its peer.
     * May be NULL. */
    void (*cut)(struct esi_actor *actor);
    void (*describe)(const struct esi_actor *actor, struct esi_description *description);
    /* Frees the struct; no reference and no message is left. */
    void (*free)(struct esi_actor *actor);
};

/* Counters of one actor, written by its home worker only. */
struct esi_actor_stats {
    uint64_t messages; /* handled */
    uint64_t turns;
    uint64_t waiting_ns; /* sum over messages: from sending to handling, at the grain of a turn */
    uint64_t waiting_ns_max;
    uint64_t service_ns; /* sum over turns */
    uint64_t service_ns_max;
    uint64_t moves; /* to another worker */
};

/* A message that is sent when a grace period has passed (esi_runtime_after_grace). Embedded by who
 * asks for it, so that asking needs no memory. */
struct esi_grace {
    struct esi_msg msg; /* first; kind and free are set by who asks */
    struct esi_actor *actor;
    struct esi_grace *next;
};

/* How these times are distributed; likewise. */
struct esi_actor_times {
    struct esi_time_histogram waiting; /* of messages */
    struct esi_time_histogram service; /* of turns */
};

struct esi_actor_timer {
    struct esi_timer timer; /* first */
    struct esi_actor *actor;
    struct esi_actor_timer *next_of_actor; /* all timers of an actor that may move */
    uint64_t carried_ns;                   /* its deadline, while the actor moves; 0: not set */
};

/* What an actor did in its worker's present window (runtime/balance.h), and whom it sent to.
 * Written by its home worker only. */
struct esi_actor_load {
    struct esi_list in_active; /* the worker's actors that had a turn in this window */
    uint64_t window;           /* which window the rest is about */
    uint64_t service_ns;
    uint32_t sent;                  /* messages to actors that may move */
    uint32_t peer_votes;            /* by how much more of them went to the peer than to others */
    uint64_t peer_id;               /* the peer: whom it sent most to, if to anybody */
    struct esi_worker *peer_home;   /* borrowed: where it was then */
    uint64_t moved_ns;              /* when it came to its home */
    struct esi_actor_timer *timers; /* of an actor that may move */
    struct esi_io *ios;
    struct esi_worker *move_to; /* borrowed: where it shall go; NULL: it stays */
};

struct esi_actor {
    const struct esi_actor_type *type;
    struct esi_runtime *runtime; /* borrowed */
    /* Borrowed; see esi_actor_home. Written by the worker that it names, or that it named until
     * then. */
    _Atomic(struct esi_worker *) home;
    uint64_t id; /* unique in this run */
    /* written by the home worker */
    struct esi_list in_worker;     /* all actors of the worker */
    struct esi_actor *next_in_run; /* run queue */
    struct esi_io *ready_ios;
    bool is_queued;
    bool is_started;
    bool is_finished;
    bool is_stopping;
    /* the last reference is gone, and no sender touches it any more: freed in its next turn */
    bool is_reaped;
    bool wants_turn;
    struct esi_actor_stats stats;
    struct esi_actor_load load;
    struct esi_msg start_msg;
    struct esi_grace reap;
    struct esi_mailbox mailbox;
    /* written by any thread */
    /* stands in its home's inbound list, or is on its way to a new home, or a roaming turn runs */
    _Alignas(ESI_CACHE_LINE) _Atomic bool is_scheduled;
    struct esi_actor *next_inbound;
    _Atomic uint32_t refs;
    /* written by the home worker; stands last, for what every turn needs shall stay close */
    _Alignas(ESI_CACHE_LINE) struct esi_actor_times times;
};

/*
 * Prepares the part that the runtime knows; one reference, the actor's own. home NULL: roaming.
 */
void esi_actor_init(struct esi_actor *actor, const struct esi_actor_type *type,
                    struct esi_runtime *runtime, struct esi_worker *home);
/*
 * Its worker; NULL: it roams, or is on its way from one worker to another. Steady in the actor's
 * own turn and in a visit. Another thread learns only whether this is its own worker: a change to
 * or from that one would be of its own making.
 */
static inline struct esi_worker *esi_actor_home(const struct esi_actor *actor)
{
    /* order: relaxed; a thread looks for itself alone, and that it has written itself. Who
     * schedules the actor has claimed is_scheduled before, which the worker that it came to
     * released after. */
    return atomic_load_explicit(&actor->home, memory_order_relaxed);
}
/* Makes the actor live: its start runs on its home worker before any message. Thread: any, once. */
void esi_actor_start(struct esi_actor *actor);
/*
 * Sends a message, taken; kind and free are set by the caller. The sender must hold a reference or
 * otherwise know that the actor is not freed; the message may carry that reference away. Thread:
 * any. Never blocks, never allocates, cannot fail. To a roaming actor: runs its turn.
 */
void esi_actor_send(struct esi_actor *actor, struct esi_msg *msg);
/* Shared ownership for those who will send later (answers). Thread: any. */
void esi_actor_ref(struct esi_actor *actor);
void esi_actor_unref(struct esi_actor *actor);

/* --- the rest: in the actor's own turn only --- */

/* The actor is done: no more reactions; its timers must be cancelled and its ios unwatched. */
void esi_actor_finish(struct esi_actor *actor);
/* Asks for another turn after all others have had theirs, without a message. */
void esi_actor_continue(struct esi_actor *actor);
/*
 * Handles the messages that wait in the actor's own mailbox now, nested in the current reaction. A
 * connection does so before it answers a PING.
 */
void esi_actor_drain(struct esi_actor *actor);
/*
 * Wishes the actor, whose type may move, another home: it goes there with its sockets, timers and
 * mailbox instead of having its next turn, or a later one where a visit is under way; not at all in
 * a stop.
 * Thread: the home worker's (its own turn, a visit).
 */
void esi_actor_move(struct esi_actor *actor, struct esi_worker *to);
/* Time of the current turn, monotonic ns. */
uint64_t esi_actor_now_ns(const struct esi_actor *actor);

void esi_actor_timer_init(struct esi_actor *actor, struct esi_actor_timer *timer);
void esi_actor_timer_set(struct esi_actor_timer *timer, uint64_t deadline_ns);
void esi_actor_timer_cancel(struct esi_actor_timer *timer);

void esi_actor_io_init(struct esi_actor *actor, struct esi_io *io);
/* Begins to watch a socket on the home worker. */
ES_MUST_USE enum es_err esi_actor_io_watch(struct esi_io *io, int sock, uint32_t events);
/* Changes what is watched; costs nothing when it is the same. */
void esi_actor_io_change(struct esi_io *io, uint32_t events);
/* Ends the watching; the socket stays the caller's. Harmless when not watched. */
void esi_actor_io_unwatch(struct esi_io *io);
