/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue's state, shared by its files: queue.c (the actor), queue_intake.c (the way in:
 * publishers and their answers), queue_dispatch.c (the way out: jobs of the handlers),
 * queue_report.c (what monitoring sees). Touched in the queue's turns only.
 */
#pragma once

#include "actors/handler.h"
#include "actors/queue.h"
#include "actors/route_ops.h"
#include "base/bytes.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "broker/target.h"
#include "event/event.h"
#include "event/registry.h"
#include "journal/dead_letters.h"
#include "journal/journal.h"
#include "runtime/actor.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_context;
struct esi_delivery;
struct esi_journal_full;
struct esi_local;
struct esi_registry;
struct esi_sub;
struct esi_tls_context;

/* How an event came: the mark of its record. */
enum esi_queue_origin { ORIGIN_NATS, ORIGIN_GATEWAY, ORIGIN_GRPC, ORIGIN_COUNT };

enum esi_queue_refusal {
    REFUSED_MALFORMED,
    REFUSED_TOO_LARGE,
    REFUSED_FULL,
    REFUSED_STOPPING,
    REFUSED_NO_MEMORY,
    REFUSED_COUNT
};

enum { QUEUE_RANDOM_BYTES = 64 * ESI_EVENT_RANDOM_BYTES };

/* What the queue knows of one handler of the registry. */
struct esi_queue_handler {
    const struct esi_registry_handler *registry; /* borrowed */
    struct esi_handler *handler;                 /* owned; NULL: no address */
    enum esi_handler_state state;
    uint32_t window;      /* jobs it wants to have at once */
    uint32_t outstanding; /* jobs it has */
    uint32_t held;        /* publishers that wait for room in its share */
    uint64_t failed;      /* attempts */
    uint64_t connects;
    char error[ESI_HANDLER_NOTE_MAX + 1]; /* the last one, ended by NUL; "": none yet */
    int64_t error_wall_ns;
    bool is_full_logged; /* its share; until there is room again */
};

/* The way in. */
struct esi_queue_intake {
    struct esi_msg *first; /* owned: deliveries that are not read yet, in order */
    struct esi_msg *last;
    struct esi_list held; /* publishers that wait for room, in order */
    uint32_t held_count;
    uint64_t held_bytes;
    struct esi_bytes answers;     /* of struct answer */
    struct esi_bytes answer_text; /* what they point into */
    uint64_t received[ORIGIN_COUNT];
    uint64_t refused[REFUSED_COUNT];
    uint64_t unrouted;
    struct esi_hashmap
        warned_types; /* unrouted types that were logged; keys and values are heap copies */
    uint8_t random[QUEUE_RANDOM_BYTES];
    size_t random_used;
    bool is_full_logged;
    bool is_holding; /* publishers wait where the queue is full */
};

struct esi_queue {
    struct esi_actor actor; /* first */
    struct esi_target target;
    struct esi_context *context;         /* borrowed */
    struct esi_local *local;             /* borrowed: the home worker's */
    struct esi_registry *registry;       /* owned */
    struct esi_journal *journal;         /* owned */
    struct esi_dead_letters *letters;    /* owned */
    struct esi_tls_context *handler_tls; /* owned; NULL: no handler uses TLS */
    struct esi_sub *sub; /* owned by the table from the start on, until it is removed */
    struct esi_route_ops routes;
    struct esi_queue_handler *handlers; /* owned; by the registry's index */
    uint32_t handler_count;
    uint64_t addressed;      /* bits: handlers with an address */
    uint64_t needs_dispatch; /* bits: something has changed for these */
    struct esi_queue_intake intake;
    uint32_t outstanding;  /* jobs with all handlers */
    uint64_t ledger_bytes; /* of events and dead letters, as the ledger knows them */
    uint64_t lost_letters; /* dead letters let go for newer ones, or for want of memory */
    bool is_dispatching;
    bool is_stopping;    /* accepts nothing any more */
    bool is_draining;    /* stopping, and what was accepted still goes to the handlers */
    bool has_freed_room; /* in this turn: held publishers may go on */
    bool is_patience_over;
    bool is_out_of_memory;
    struct esi_actor_timer retry_timer;
    struct esi_actor_timer hold_timer;
    struct esi_actor_timer stop_timer; /* ends the draining; then the patience with the handlers */
};

/* --- queue_intake.c --- */

void esi_queue_intake_init(struct esi_queue *queue);
void esi_queue_intake_deinit(struct esi_queue *queue);
/* Takes a delivery, to be read by esi_queue_intake_work. */
void esi_queue_intake_keep(struct esi_queue *queue, struct esi_delivery *delivery);
/* Reads what was published, up to a turn's share, in order; asks for another turn for the rest. */
void esi_queue_intake_work(struct esi_queue *queue);
/* Decides about one, or keeps it (is_held). */
void esi_queue_intake_publish(struct esi_queue *queue, struct esi_queue_publish *publish);
/* There may be room: publishers that wait go on, in order. */
void esi_queue_intake_release(struct esi_queue *queue);
/* Refuses those that have waited long enough. */
void esi_queue_intake_expire(struct esi_queue *queue);
/* Refuses everybody who waits, and holds nobody from here on. */
void esi_queue_intake_end_holding(struct esi_queue *queue);
/* Publishes the answers of this turn. */
void esi_queue_intake_flush(struct esi_queue *queue);

/* --- queue_dispatch.c --- */

/* Gives handlers that need it (needs_dispatch) what they may have, up to a turn's share; asks for
 * another turn for the rest. */
void esi_queue_dispatch_work(struct esi_queue *queue);
/* Sets the timer for the first retry of those handlers that could take it. */
void esi_queue_dispatch_set_timer(struct esi_queue *queue);
/* A job has come back with its outcome; borrowed. */
void esi_queue_dispatch_job_done(struct esi_queue *queue, struct esi_handler_job *job);
/* A handler tells its state and window; borrowed. */
void esi_queue_dispatch_handler_status(struct esi_queue *queue,
                                       const struct esi_handler_status *status);

/* --- queue_stop.c --- */

/* Told to stop: accepts nothing more, and drains. */
void esi_queue_stop_begin(struct esi_queue *queue);
/* Each turn: ends the draining when there is nothing to wait for. */
void esi_queue_stop_go_on(struct esi_queue *queue);
/* The stop timer: the draining, or the patience with the handlers, has had its time. */
void esi_queue_stop_expire(struct esi_queue *queue);
/* The stop's time is up: nobody is waited for any more. */
void esi_queue_stop_cut(struct esi_queue *queue);
/* The last thing in each turn: finishes the actor when all that it had has come back. */
void esi_queue_stop_finish(struct esi_queue *queue);

/* --- queue.c --- */

/*
 * Puts an event into the dead letters.
 *   handler   name; empty: not routed
 * ES_NO_MEMORY: it is not there.
 */
ES_MUST_USE enum es_err esi_queue_bury(struct esi_queue *queue, struct esi_event *event,
                                       struct esi_str handler, struct esi_str reason,
                                       uint32_t attempts, uint64_t accepted_ns);

/* --- queue_report.c --- */

/* Sends a report back to its asker. */
void esi_queue_report_answer(struct esi_queue_report *report);
/* Fills the answer in. */
void esi_queue_report_fill(const struct esi_queue *queue, struct esi_queue_report *report);
