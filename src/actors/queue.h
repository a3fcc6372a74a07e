/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queue: takes typed events, from NATS subjects and from gRPC, into the bounded journal, answers
 * their publishers, and gives each event to the handlers that its type is routed to. It alone
 * touches the journal and the dead letters.
 *
 * A publisher's answer on its NATS reply subject is compact JSON: {"success":true,"id":"ID"}, with
 * "dead_letter":true where the event has no worker to go to; or
 * {"success":false,"error":"WORD","detail":"SENTENCE"} where WORD is malformed, too_large, full,
 * stopping or no_memory.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_actor;
struct esi_config;
struct esi_context;
struct esi_event;
struct esi_queue;
struct esi_registry;

/*
 * Which handlers get which types by this configuration (borrowed).
 *   out     owned by the caller: esi_registry_free
 *   error   filled on ES_INVALID: which row is wrong
 */
ES_MUST_USE enum es_err esi_queue_make_registry(const struct esi_config *config,
                                                struct esi_registry **out, struct es_error *error);
/*
 * Makes and starts the queue and a handler actor for each configured handler that has an address.
 * The queue's memory is the caller's: esi_queue_free. Fails with a text when the registry or the
 * TLS files are wrong. Blocks (files): at start only.
 */
ES_MUST_USE enum es_err esi_queue_new(struct esi_context *context, struct esi_queue **out,
                                      struct es_error *error);
/* After the runtime has stopped. NULL is accepted. */
void esi_queue_free(struct esi_queue *queue);

enum {
    ESI_QUEUE_REPORT_ID_MAX = 256,
    ESI_QUEUE_REPORT_LIMIT_DEFAULT = 256,
    ESI_QUEUE_REPORT_LIMIT_MAX = 1024
};

enum { ESI_QUEUE_HANDLERS_MAX = 64, ESI_QUEUE_ORIGINS = 3, ESI_QUEUE_REFUSALS = 5 };

struct esi_queue_handler_figures {
    const char *name; /* borrowed: lives as long as the queue */
    bool has_worker;  /* it has an address */
    bool is_up;       /* connected to its worker service */
    uint64_t queued;
    uint64_t in_flight;
    uint64_t retrying;
    uint64_t share; /* the most events that the queue keeps for it */
    uint64_t delivered;
    uint64_t failed; /* attempts */
    uint64_t dead;
    uint64_t connects;
    uint64_t oldest_age_ns; /* 0: none */
};

/* The overview in numbers. */
struct esi_queue_figures {
    uint64_t events;
    uint64_t event_limit;
    uint64_t bytes;
    uint64_t accepted;
    uint64_t finished;
    uint64_t unrouted;
    uint64_t held;
    uint64_t received[ESI_QUEUE_ORIGINS];
    uint64_t refused[ESI_QUEUE_REFUSALS];
    uint64_t letters;
    uint64_t letter_bytes;
    uint64_t letters_added;
    uint64_t letters_lost;
    uint32_t handler_count;
    struct esi_queue_handler_figures handlers[ESI_QUEUE_HANDLERS_MAX];
};

/* The words for the places of `received` and `refused`. Static. */
const char *esi_queue_report_origin_text(uint32_t origin);
const char *esi_queue_report_refusal_text(uint32_t refusal);

/*
 * A question about the queue. It comes back to the asker, always and once, with the answer filled
 * in; whoever has the message owns it.
 */
struct esi_queue_report {
    struct esi_msg msg;      /* first */
    struct esi_actor *asker; /* a reference, given up by esi_queue_report_free */
    uint32_t answer_kind;    /* the asker's message kind for the answer */
    size_t offset;           /* overview: dead letters left out, from the newest on */
    size_t limit;            /* overview: dead letters shown at most */
    /* the event that is asked for, ended by NUL; "": the overview */
    char id[ESI_QUEUE_REPORT_ID_MAX + 1];
    /* the answer: ES_NOT_FOUND: no such event is known; ES_CLOSED: the queue has stopped */
    enum es_err err;
    struct esi_bytes json; /* owned; ES_OK: one JSON object, indented as the monitoring pages are */
    struct esi_queue_figures figures; /* of the overview */
};

/*
 * A question, owned by the caller, with a reference to the asker.
 *   id      empty: the overview
 *   limit   0: ESI_QUEUE_REPORT_LIMIT_DEFAULT; above ESI_QUEUE_REPORT_LIMIT_MAX it is cut
 * Returns NULL when memory is exhausted or the id is longer than any event's.
 */
struct esi_queue_report *esi_queue_report_new(struct esi_actor *asker, uint32_t answer_kind,
                                              struct esi_str id, size_t offset, size_t limit);
/* Frees a question or an answer; it is the answer's msg.free, so that the runtime frees what the
 * asker has handled. */
void esi_queue_report_free(struct esi_queue_report *report);
/* Asks; the report is taken. The answer is a message of report->answer_kind to report->asker.
 * Thread: a worker. */
void esi_queue_report(struct esi_queue *queue, struct esi_queue_report *report);

/* What became of an event that was handed over. */
enum esi_queue_verdict { QUEUE_ACCEPTED, QUEUE_FULL, QUEUE_STOPPING, QUEUE_NO_MEMORY };

enum { ESI_QUEUE_DETAIL_MAX = 160 };

/*
 * An event on its way into the queue, by another way than NATS. It comes back to the asker, always
 * and once, when the event is accepted for good or refused; whoever has the message owns it.
 */
struct esi_queue_publish {
    struct esi_msg msg;      /* first */
    struct esi_actor *asker; /* a reference */
    struct esi_event *event; /* a reference */
    uint32_t answer_kind;    /* the asker's message kind for the answer */
    uint32_t tag;            /* the asker's */
    /* the answer */
    enum esi_queue_verdict verdict;
    bool is_dead_letter;               /* accepted, but no worker will get it */
    char detail[ESI_QUEUE_DETAIL_MAX]; /* a sentence, where it was refused; ended by NUL */
    bool is_held;                      /* the queue's own */
};

/*
 * Makes one; the event's reference is taken, also on failure. NULL when memory is exhausted.
 */
struct esi_queue_publish *esi_queue_publish_new(struct esi_actor *asker, uint32_t answer_kind,
                                                uint32_t tag, struct esi_event *event);
/* Frees a question or an answer; it is the answer's msg.free. */
void esi_queue_publish_free(struct esi_queue_publish *publish);
/* Hands it over, taken. Thread: a worker. */
void esi_queue_publish(struct esi_queue *queue, struct esi_queue_publish *publish);

/*
 * An event was refused before it was handed over: it is no event, or over the size limit. The pages
 * count it. Thread: a worker.
 */
void esi_queue_count_refused(struct esi_queue *queue, bool is_too_large);

/* Starts or stops giving events to handlers; they are accepted all the same. ES_NO_MEMORY. Thread:
 * a worker. */
ES_MUST_USE enum es_err esi_queue_set_dispatching(struct esi_queue *queue, bool is_dispatching);
/*
 * The server stops: publishers that are held are told so now, while they can still be answered;
 * from here on nobody is held. Without memory for the message they wait on, until the queue itself
 * is told to stop. Thread: a worker.
 */
void esi_queue_end_holding(struct esi_queue *queue);
