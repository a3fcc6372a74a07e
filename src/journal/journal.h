/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal: accepted events, kept until every handler that gets them has answered for good, then
 * remembered for a while so that "where is event X?" can be answered. This is its form in memory
 * (journal_memory.c).
 *
 * Each accepted event is a record with one entry a handler. An entry's life:
 *
 *   state      | take       | deliver   | retry            | give_back       | bury
 *   QUEUED     | IN_FLIGHT  | -         | -                | -               | DEAD
 *   RETRYING   | IN_FLIGHT  | -         | -                | -               | DEAD
 *   IN_FLIGHT  | -          | DELIVERED | RETRYING         | QUEUED          | DEAD
 *   DELIVERED, DEAD: final. "-" is answered with ES_NOT_FOUND and changes nothing, so that a late
 * or doubled answer of a worker does no harm.
 *
 * Invariants: open records <= event_limit; open entries of a handler <= its share; a record is open
 * while one of its entries is; what is accepted is never dropped. No operation costs more than the
 * logarithm of what waits for a retry.
 *
 * One owner, no threads, no I/O; the time is passed in: monotonic nanoseconds.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "journal/retry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_event;
struct esi_journal;

enum {
    ESI_JOURNAL_HANDLERS_MAX = 64, /* a set of handlers is the bits of one number */
    ESI_JOURNAL_NOTE_MAX = 256,    /* bytes of a remembered answer or error; more is cut */
    ESI_JOURNAL_HISTORY_MAX_DEFAULT = 10000
};

enum esi_journal_state {
    JOURNAL_QUEUED,    /* waits for its turn */
    JOURNAL_IN_FLIGHT, /* given to the handler, not answered yet */
    JOURNAL_RETRYING,  /* failed; waits until next_ns */
    JOURNAL_DELIVERED,
    JOURNAL_DEAD
};

struct esi_journal_options {
    size_t event_limit;     /* open events in all; at least 1 */
    uint64_t bytes_max;     /* of open events; 0: no bound */
    size_t history_max;     /* finished events that are remembered */
    uint32_t handler_count; /* 1 to ESI_JOURNAL_HANDLERS_MAX */
    const size_t *shares;   /* a handler's most open entries, by index; borrowed for the call; 0 or
                               NULL: half of   event_limit, at least 1 */
    uint64_t ordered_handlers; /* bits: one event at a time, in the order of acceptance, retries
                                  included */
};

/* Which bound an event did not fit under. */
struct esi_journal_full {
    enum { JOURNAL_FULL_EVENTS, JOURNAL_FULL_BYTES, JOURNAL_FULL_SHARE } bound;
    uint32_t handler; /* JOURNAL_FULL_SHARE: whose */
};

/* What an event is sent with, and answered by. */
struct esi_journal_delivery {
    struct esi_event *event; /* borrowed: valid until the entry is answered; ref it to keep it */
    uint64_t seq;            /* names the record */
    uint32_t attempt;        /* this one's number, from 1 */
    uint32_t counted;        /* failures so far that count against attempts_max */
    uint32_t losses;         /* failures so far that are laid to nobody: RETRY_BLAME_OPEN */
    uint64_t accepted_ns;
};

/* One handler's part of a record, for showing. */
struct esi_journal_entry_view {
    uint32_t handler;
    enum esi_journal_state state;
    uint32_t attempts;
    uint64_t changed_ns; /* when this state began */
    uint64_t next_ns;    /* JOURNAL_RETRYING: when it is tried again */
    struct esi_str
        note; /* the last answer or error; borrowed until the next change of the journal */
};

/* A record, for showing. Texts are borrowed until the next change of the journal. */
struct esi_journal_view {
    uint64_t seq;
    struct esi_str id;
    struct esi_str type;
    uint64_t accepted_ns;
    uint32_t mark; /* of the owner's choice: esi_journal_set_mark */
    bool is_open;
    uint32_t entry_count;
    struct esi_journal_entry_view entries[ESI_JOURNAL_HANDLERS_MAX];
};

struct esi_journal_handler_stats {
    size_t share;
    size_t queued;
    size_t in_flight;
    size_t retrying;
    uint64_t delivered; /* since the start */
    uint64_t dead;
    uint64_t retried;
    bool has_oldest;
    uint64_t oldest_accepted_ns; /* of the open entries */
};

struct esi_journal_stats {
    size_t event_limit;
    size_t open_events;
    uint64_t open_bytes;
    size_t history_count;
    uint64_t accepted; /* since the start */
    uint64_t finished;
    uint64_t refused;
};

/* Makes an empty journal. Returns ES_OK or ES_NO_MEMORY. */
ES_MUST_USE enum es_err esi_journal_new(const struct esi_journal_options *options,
                                        struct esi_journal **journal);
/* Frees it with all its references. NULL is accepted. */
void esi_journal_free(struct esi_journal *journal);

/*
 * Accepts an event for a set of handlers: all or nothing.
 *   event      borrowed; a reference is taken on success
 *   handlers   bits, at least one, all below handler_count
 *   seq        written on success; grows by one an event; may be NULL
 *   full       written for ES_FULL; may be NULL
 * Returns ES_OK, ES_FULL, ES_NO_MEMORY. Accepts a second event with the ID of a first: whoever
 * wants to suppress duplicates asks esi_journal_find before.
 */
ES_MUST_USE enum es_err esi_journal_accept(struct esi_journal *journal, struct esi_event *event,
                                           uint64_t handlers, uint64_t now_ns, uint64_t *seq,
                                           struct esi_journal_full *full);

/*
 * Keeps a number of the owner's choice with a record, to be shown with it (0 until then). Returns
 * ES_OK, or ES_NOT_FOUND when the record is neither open nor remembered.
 */
ES_MUST_USE enum es_err esi_journal_set_mark(struct esi_journal *journal, uint64_t seq,
                                             uint32_t mark);

/*
 * Takes what the handler shall be sent next: what was given back and retries that are due, the
 * earliest first, then the queue in the order of acceptance. An ordered handler gets its oldest
 * open event or nothing. Returns ES_OK; ES_AGAIN when there is nothing now (esi_journal_next_due_ns
 * tells when there may be).
 */
ES_MUST_USE enum es_err esi_journal_take(struct esi_journal *journal, uint32_t handler,
                                         uint64_t now_ns, struct esi_journal_delivery *delivery);
/* When the handler's next retry is due, or UINT64_MAX when none waits. */
uint64_t esi_journal_next_due_ns(const struct esi_journal *journal, uint32_t handler);

/*
 * The worker has the event. note: its answer in words, copied and cut, may be empty (as in the
 * calls below). Returns ES_OK, or ES_NOT_FOUND when this entry is not in flight.
 */
ES_MUST_USE enum es_err esi_journal_deliver(struct esi_journal *journal, uint32_t handler,
                                            uint64_t seq, uint64_t now_ns, struct esi_str note);
/*
 * The attempt failed: again at next_ns.
 */
ES_MUST_USE enum es_err esi_journal_retry(struct esi_journal *journal, uint32_t handler,
                                          uint64_t seq, uint64_t now_ns, uint64_t next_ns,
                                          enum esi_retry_blame blame, struct esi_str note);
/* The attempt was not made (stop, breaker): it is not counted, and the entry is taken next, before
 * all that wait. */
ES_MUST_USE enum es_err esi_journal_give_back(struct esi_journal *journal, uint32_t handler,
                                              uint64_t seq, uint64_t now_ns);
/*
 * Gives the entry up, whatever open state it is in.
 *   event   written on success: one reference, owned by the caller, for the dead-letter store
 */
ES_MUST_USE enum es_err esi_journal_bury(struct esi_journal *journal, uint32_t handler,
                                         uint64_t seq, uint64_t now_ns, struct esi_str note,
                                         struct esi_event **event);
/*
 * Its worker is back: makes the retries of a handler due now, but for those whose last failure is
 * laid to the event. Time: the number of its retries.
 */
void esi_journal_wake(struct esi_journal *journal, uint32_t handler, uint64_t now_ns);

/*
 * Looks an event up by its ID; where several had it, the one accepted last.
 * Returns ES_OK, or ES_NOT_FOUND when it is neither open nor remembered.
 */
ES_MUST_USE enum es_err esi_journal_find(const struct esi_journal *journal, struct esi_str id,
                                         struct esi_journal_view *view);
void esi_journal_stats(const struct esi_journal *journal, struct esi_journal_stats *stats);
void esi_journal_handler_stats(const struct esi_journal *journal, uint32_t handler,
                               struct esi_journal_handler_stats *stats);
/* The word for a state: "queued", "in flight", "retrying", "delivered", "dead". */
const char *esi_journal_state_text(enum esi_journal_state state);
