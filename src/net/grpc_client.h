/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calling side of gRPC on one HTTP/2 connection; see grpc.h.
 * Invariant: each call that was started has exactly one result, whatever happens to the connection.
 * Thread: one at a time, the owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "net/grpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_grpc_client;

struct esi_grpc_client_options {
    bool is_tls;               /* :scheme https */
    uint32_t in_flight_max;    /* calls at once, 1 to GRPC_CALLS_MAX; 0 = 1000 */
    size_t response_bytes_max; /* a longer answer is RESOURCE_EXHAUSTED; 0 = 4 MiB */
    size_t inbound_bytes_max;  /* for long answers, all together; 0 = 8 MiB; raised to
                                  response_bytes_max */
    size_t outbound_bytes_max; /* requests not yet taken as output, all together; 0 = 16 MiB */
};

struct esi_grpc_call {
    struct esi_str path;                      /* "/package.Service/Method" */
    struct esi_str authority;                 /* "host:port" or the server's name */
    struct esi_str message;                   /* encoded request; borrowed, copied */
    const struct esi_grpc_metadata *metadata; /* borrowed, copied */
    size_t metadata_count;                    /* at most 16 */
    uint64_t timeout_ns;                      /* from now on; also told to the server; 0 = none */
    void *tag;                                /* the owner's, given back with the result */
};

struct esi_grpc_result {
    uint32_t call_id;
    void *tag;
    enum esi_grpc_status status;
    bool is_from_peer; /* the status is the worker's own answer; else transport, deadline or cancel
                        */
    bool is_unstarted; /* the peer certainly did nothing for this call: safe to retry elsewhere */
    struct esi_str status_text; /* printable ASCII only, at most GRPC_STATUS_TEXT_MAX */
    struct esi_str message;     /* the encoded answer when status is GRPC_OK, else empty */
};

/* Makes a client for one connection. options: borrowed; NULL = defaults. Fails with ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_grpc_client_new(const struct esi_grpc_client_options *options,
                                            struct esi_grpc_client **out);
/* Frees; calls in flight end without a result (call esi_grpc_client_lost and poll before, where
 * they matter). */
void esi_grpc_client_free(struct esi_grpc_client *client);
/* Takes bytes from the peer, all of them. Not ES_OK: the connection has ended; every call in flight
   then has a result to be polled, and output may still hold a GOAWAY. */
ES_MUST_USE enum es_err esi_grpc_client_feed(struct esi_grpc_client *client, const void *data,
                                             size_t len, uint64_t now_ns);
/* The transport is gone: every call in flight ends as UNAVAILABLE. */
void esi_grpc_client_lost(struct esi_grpc_client *client);
/* Appends up to max bytes of output to *out. Returns how many. */
size_t esi_grpc_client_take_output(struct esi_grpc_client *client, struct esi_bytes *out,
                                   size_t max);
/*
 * Starts a call. Exactly one result follows, unless the client is freed.
 * Fails with ES_FULL (esi_grpc_client_capacity is 0, or too many request bytes wait), ES_CLOSED
 * (the connection takes no more calls: make another), ES_INVALID (path, authority or metadata break
 * the rules), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_grpc_client_call(struct esi_grpc_client *client,
                                             const struct esi_grpc_call *call, uint64_t now_ns,
                                             uint32_t *call_id);
/* The next result; strings are valid until the next call of next, feed or free. False when there is
 * none. */
bool esi_grpc_client_next(struct esi_grpc_client *client, struct esi_grpc_result *out);
/* Ends calls whose deadline has passed (DEADLINE_EXCEEDED). */
void esi_grpc_client_tick(struct esi_grpc_client *client, uint64_t now_ns);
/* When tick has something to do; UINT64_MAX = never. */
uint64_t esi_grpc_client_deadline(const struct esi_grpc_client *client);
/* Calls without a result. */
uint32_t esi_grpc_client_in_flight(const struct esi_grpc_client *client);
/* How many calls could be started now: in_flight_max and the peer's MAX_CONCURRENT_STREAMS, less
 * those in flight. */
uint32_t esi_grpc_client_capacity(const struct esi_grpc_client *client);
/* What the client holds with its calls, in bytes of memory. */
size_t esi_grpc_client_memory_bytes(const struct esi_grpc_client *client);
/* Orderly end: no more calls; those in flight go on. */
void esi_grpc_client_shutdown(struct esi_grpc_client *client);
/* No new calls are possible (GOAWAY, shutdown or end). Those in flight may still get results. */
bool esi_grpc_client_is_draining(const struct esi_grpc_client *client);
/* Nothing more to come: close the transport when the output is written. */
bool esi_grpc_client_is_done(const struct esi_grpc_client *client);
