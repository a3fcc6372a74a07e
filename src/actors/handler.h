/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handler: brings the events of one configured handler to its worker service over gRPC. It owns the
 * connection, the window of calls in flight, their deadlines and the reconnecting; what is queued
 * and retried is the queue's.
 *
 * Each job that is sent to a handler comes back to the asker, always and once, with its outcome.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/msg.h"
#include "base/str.h"
#include "journal/retry.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_config_handler;
struct esi_context;
struct esi_event;
struct esi_handler;
struct esi_registry_handler;
struct esi_tls_context;

enum { ESI_HANDLER_NOTE_MAX = 200 };

enum esi_handler_outcome {
    HANDLER_GIVEN_BACK, /* no attempt was made */
    HANDLER_DELIVERED,
    HANDLER_RETRY, /* after delay_ns */
    HANDLER_DEAD   /* to the dead letters */
};

/* One event on its way to a worker, and the outcome on its way back. Owned by whoever has the
 * message. */
struct esi_handler_job {
    struct esi_msg msg;          /* first */
    struct esi_handler *handler; /* borrowed */
    struct esi_event *event;     /* a reference */
    uint64_t seq;                /* of the journal */
    uint64_t accepted_ns;        /* likewise: when the event was accepted */
    uint32_t handler_index;
    uint32_t attempt; /* this one's number, from 1 */
    uint32_t counted; /* failures before that count against attempts_max */
    uint32_t losses;  /* failures before that are laid to nobody: journal/retry.h */
    /* the answer */
    enum esi_handler_outcome outcome;
    enum esi_retry_blame blame; /* RETRY */
    uint32_t window;   /* jobs that the handler wants to have at once from now on; 0: none */
    uint64_t delay_ns; /* RETRY */
    uint32_t note_len;
    char note[ESI_HANDLER_NOTE_MAX]; /* the worker's answer, or what failed; printable */
    /* the handler's own */
    struct esi_list link;
    bool is_alone; /* called while no other is */
    bool is_older_path;
    bool has_tried_other_path;
};

enum esi_handler_state {
    HANDLER_DOWN,       /* waits to connect again */
    HANDLER_CONNECTING, /* name, TCP, TLS */
    HANDLER_UP,
    HANDLER_STOPPED /* for good: no job is left */
};

/* What the asker is told when the state, or the window without an answer, has changed. */
struct esi_handler_status {
    struct esi_msg msg; /* first */
    uint32_t handler_index;
    enum esi_handler_state state;
    uint32_t window; /* as in a job */
    uint32_t note_len;
    char note[ESI_HANDLER_NOTE_MAX]; /* why it went down; empty: it did not fail */
};

struct esi_handler_options {
    struct esi_context *context;                 /* borrowed */
    const struct esi_config_handler *config;     /* borrowed */
    const struct esi_registry_handler *registry; /* borrowed: until esi_handler_free */
    struct esi_tls_context *tls; /* borrowed likewise; NULL where the configuration says plain */
    struct esi_actor *asker;     /* borrowed likewise: gets answers and status messages */
    uint32_t answer_kind;
    uint32_t status_kind;
    uint32_t index; /* the asker's number for this handler */
};

/* Makes a handler. ES_NO_MEMORY. Its memory is the caller's: esi_handler_free. */
ES_MUST_USE enum es_err esi_handler_new(const struct esi_handler_options *options,
                                        struct esi_handler **out);
/* Begins to connect. Thread: any, once. */
void esi_handler_start(struct esi_handler *handler);
/* Before it has started, or after the runtime has stopped. NULL is accepted. */
void esi_handler_free(struct esi_handler *handler);
/*
 * Ends it, before the server's stop would: calls that are under way have a short time yet, all
 * other jobs are given back. Thread: a worker, at most once, after the start.
 */
void esi_handler_stop(struct esi_handler *handler);
/* HOST:PORT of its worker, as in the configuration. Valid until esi_handler_free. Thread: any. */
const char *esi_handler_address(const struct esi_handler *handler);

/* A job with a reference to the event; NULL when memory is exhausted. */
struct esi_handler_job *esi_handler_job_new(struct esi_handler *handler, struct esi_event *event);
/*
 * Hands a job over, taken. Not more than the window are with the handler at once; one that comes
 * too late (the worker is gone, or the handler has stopped) is given back. Thread: a worker.
 */
void esi_handler_send(struct esi_handler *handler, struct esi_handler_job *job);

/* The word for a state: "down", "connecting", "connected", "stopped". */
const char *esi_handler_state_text(enum esi_handler_state state);
