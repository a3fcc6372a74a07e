/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handler's state, shared by its two files: handler.c (the actor, jobs and calls) and
 * handler_connect.c (the way to the worker). Touched in the handler's turns only, but for the
 * addresses while a service thread looks them up.
 */
#pragma once

#include "actors/byte_pipe.h"
#include "actors/handler.h"
#include "base/err.h"
#include "base/list.h"
#include "env/env.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_grpc_client;

enum esi_handler_msg { HANDLER_JOB, HANDLER_RESOLVED, HANDLER_STOP };

enum esi_handler_link {
    LINK_DOWN,
    LINK_RESOLVING,
    LINK_DIALLING,
    LINK_SHAKING,
    LINK_UP,
    LINK_DONE
};

enum { ESI_HANDLER_ADDRESSES_MAX = 8, ESI_HANDLER_AUTHORITY_MAX = 300 };

struct esi_handler {
    struct esi_actor actor; /* first */
    struct esi_handler_options options;
    char authority[ESI_HANDLER_AUTHORITY_MAX];
    enum esi_handler_link state;
    /* the connection */
    struct esi_io io;
    struct esi_byte_pipe pipe;
    struct esi_grpc_client *client; /* owned; LINK_UP only */
    uint64_t ledger_bytes;          /* what the connection holds, as the ledger knows it */
    bool is_losing;                 /* results that come now were not the worker's answers */
    uint64_t heard_ns; /* when bytes came last, or the first of the calls under way began */
    /* connecting */
    struct esi_job resolve_job;
    struct esi_msg resolved_msg;
    enum es_err resolve_err;
    struct esi_address addresses[ESI_HANDLER_ADDRESSES_MAX];
    size_t address_count;
    size_t address_index;
    uint32_t failures; /* since a worker has answered */
    bool is_down_logged;
    bool is_refusal_logged;
    /* jobs */
    struct esi_list waiting; /* given to us, not called */
    uint32_t calling;
    bool has_due_calls;    /* the time of one is up */
    bool is_calling_alone; /* a job that must be the only one */
    uint32_t window;
    uint32_t successes; /* since the window has changed */
    bool is_halved;     /* in this turn */
    bool uses_older_path;
    bool is_stopping;
    struct esi_msg stop_msg;
    struct esi_actor_timer connect_timer; /* to connect again, or to give a connect up */
    struct esi_actor_timer call_timer;
    struct esi_actor_timer status_timer; /* there was no memory to tell the asker */
    struct esi_actor_timer stop_timer;
};

/* --- handler.c --- */

/* Tells the asker the state and the window. note: why it went down; "": it did not fail. */
void esi_handler_tell_status(struct esi_handler *self, const char *note);
/* The connection has ended: calls under way get their outcome, what was not called is given back.
 * LINK_UP; frees the client. */
void esi_handler_end_calls(struct esi_handler *self);
/* 64 unpredictable bits. */
uint64_t esi_handler_random_bits(const struct esi_handler *self);

/* --- handler_connect.c --- */

/* Begins to connect, by looking the host's name up. */
void esi_handler_connect_begin(struct esi_handler *self);
/* HANDLER_RESOLVED has come. */
void esi_handler_connect_resolved(struct esi_handler *self);
/* The socket is ready: goes on with TCP or TLS. Harmless in other states. */
void esi_handler_connect_continue(struct esi_handler *self);
/* connect_timer: time to connect again, or to give a connect up. */
void esi_handler_connect_timer(struct esi_handler *self);
/* The way to the worker has failed, before or after it was up: said once until it is up again. The
 * reason may stand in the stream. */
void esi_handler_connect_lose(struct esi_handler *self, const char *reason);
/* Ends the connection, if there is one, without a word in the log; connects again later. */
void esi_handler_connect_end(struct esi_handler *self, const char *reason);
/* Closes the socket and cancels what waits for it. */
void esi_handler_connect_drop(struct esi_handler *self);
