/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer of the monitor: one HTTP connection, with a deadline in every phase. Part of the monitor's
 * actor, touched on its worker only. It is freed at the end of a turn, never inside one: the worker
 * may still hold an event for it.
 *
 * Phase   | waits for                      | at most
 * HANDSHAKE | TLS                          | tls.timeout
 * REQUEST | the rest of a request          | 5 s
 * IDLE    | the next request               | 60 s
 * PAGE    | the page asked for             | 30 s
 * WRITE   | the peer to take the answer    | 10 s without progress, 60 s in all
 * LINGER  | the peer to close              | 1 s
 * GONE    | the turn's end                 | -
 */
#pragma once

#include "actors/monitor_query.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "runtime/actor.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_http1;
struct esi_http1_request;
struct esi_http1_response;
struct esi_stream;
struct esi_tls_context;

enum esi_monitor_phase {
    PHASE_HANDSHAKE,
    PHASE_REQUEST,
    PHASE_IDLE,
    PHASE_PAGE,
    PHASE_WRITE,
    PHASE_LINGER,
    PHASE_GONE
};

struct esi_monitor_client {
    struct esi_list link; /* the monitor's */
    struct esi_io io;
    struct esi_actor_timer timer;
    struct esi_actor *actor;   /* borrowed: the monitor */
    struct esi_stream *stream; /* owned */
    struct esi_http1 *http;    /* owned */
    struct esi_bytes out;      /* taken from http and not yet by the stream */
    enum esi_monitor_phase phase;
    uint64_t since_ns;     /* when the phase began */
    uint64_t progress_ns;  /* PHASE_WRITE: when the peer last took bytes */
    uint64_t write_end_ns; /* PHASE_WRITE: when patience ends in any case */
    uint64_t asked;        /* PHASE_PAGE: number of the request, in order */
    size_t lingered_bytes;
    bool has_ended;                 /* the peer sends nothing more */
    struct esi_monitor_query query; /* PHASE_PAGE */
};

/*
 * Makes a client of a connected socket and watches it.
 *   sock             taken, also on failure
 *   tls              shared; NULL: plain
 *   handshake_ns     how long TLS may take to begin
 * ES_NO_MEMORY, ES_IO.
 */
ES_MUST_USE enum es_err esi_monitor_client_new(struct esi_actor *actor, int sock,
                                               struct esi_tls_context *tls, uint64_t handshake_ns,
                                               struct esi_monitor_client **out);
/* At the end of a turn. Takes it out of the monitor's list. */
void esi_monitor_client_free(struct esi_monitor_client *client);

/* PHASE_HANDSHAKE: goes on with it. */
void esi_monitor_client_shake_hands(struct esi_monitor_client *client);
/* Reads once. */
void esi_monitor_client_read(struct esi_monitor_client *client);
/* Reads what no event will tell of. False: there is nothing of that kind. */
bool esi_monitor_client_read_on(struct esi_monitor_client *client);
/* The next request, borrowed until it is answered; NULL: none now. */
const struct esi_http1_request *esi_monitor_client_next(struct esi_monitor_client *client);
/* The request will be answered later. */
void esi_monitor_client_await_page(struct esi_monitor_client *client,
                                   const struct esi_monitor_query *query, uint64_t asked);
void esi_monitor_client_respond(struct esi_monitor_client *client,
                                const struct esi_http1_response *response);
/* Writes what it can, and sets what is watched and the deadline. */
void esi_monitor_client_settle(struct esi_monitor_client *client);
/* Ends it at once; harmless when it is gone. */
void esi_monitor_client_close(struct esi_monitor_client *client);

/* --- all peers of a monitor, by its list --- */

uint32_t esi_monitor_client_count(const struct esi_list *clients);
/* Bytes of memory that all of them hold. */
size_t esi_monitor_client_sum_memory(const struct esi_list *clients);
/* Those that wait for a page, or for /healthz. */
uint32_t esi_monitor_client_count_waiting(const struct esi_list *clients, bool is_for_health);
/* The peer that has waited longest for a page, or NULL; and what all answers hold in memory. */
struct esi_monitor_client *esi_monitor_client_next_waiting(const struct esi_list *clients,
                                                           size_t *held_bytes);
/* A peer that waits for /healthz and asked before this number, or NULL. */
struct esi_monitor_client *esi_monitor_client_next_for_health(const struct esi_list *clients,
                                                              uint64_t asked_end);
/*
 * Makes room: closes the peer that has kept the monitor waiting for longest, if that was at least
 * 250 ms: a burst of peers shall not throw each other out before they could ask.
 *   must_hold   one whose answer holds memory
 * False: there is none.
 */
bool esi_monitor_client_evict(const struct esi_list *clients, bool must_hold);
