/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unary gRPC over one HTTP/2 connection, client and server, bytes in and bytes out, results by
 * polling. No sockets, no clock: the time comes with each call, in nanoseconds of any clock that
 * never goes back.
 *
 * Use, either side: feed what was read; poll esi_grpc_*_next until it says no; make or answer
 * calls; take the output and write it; esi_grpc_*_tick at esi_grpc_*_deadline. Nothing is called
 * back.
 *
 * Memory of one connection, beyond that of http2.h: for each call in flight up to 64 KiB that its
 * peer may send unasked; inbound_bytes_max for longer messages, shared: a message is let in as a
 * whole when its length fits there, in order of arrival, so that halves of many never block each
 * other; messages complete and not polled are among these; bounded texts (GRPC_STATUS_TEXT_MAX) and
 * metadata (the header list bound). Messages are not compressed. Thread: one at a time, the
 * owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_grpc_client;
struct esi_grpc_server;

enum { GRPC_STATUS_TEXT_MAX = 256, GRPC_PATH_MAX = 512, GRPC_CALLS_MAX = 65535 };

/* The status codes of gRPC; the numbers are the wire's. */
enum esi_grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16
};

/* The code's name, as "DEADLINE_EXCEEDED"; never NULL. Thread: any. */
const char *esi_grpc_status_name(enum esi_grpc_status status);

/* A metadata header. Names are lower case; values visible ASCII and spaces. */
struct esi_grpc_metadata {
    struct esi_str name;
    struct esi_str value;
    bool is_secret; /* a token: kept out of compression tables */
};

/* ---- client ---- */

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
bool esi_grpc_client_wants_write(const struct esi_grpc_client *client);
bool esi_grpc_client_wants_read(const struct esi_grpc_client *client);
/*
 * Starts a call. Exactly one result follows, unless the client is freed.
 * Fails with ES_FULL (esi_grpc_client_capacity is 0, or too many request bytes wait), ES_CLOSED
 * (the connection takes no more calls: make another), ES_INVALID (path, authority or metadata break
 * the rules), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_grpc_client_call(struct esi_grpc_client *client,
                                             const struct esi_grpc_call *call, uint64_t now_ns,
                                             uint32_t *call_id);
/* Ends a call as CANCELLED (its result is polled as any other). Unknown numbers are ignored. */
void esi_grpc_client_cancel(struct esi_grpc_client *client, uint32_t call_id);
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
/* Sends a keep-alive PING unless one is out. */
void esi_grpc_client_ping(struct esi_grpc_client *client, uint64_t now_ns);
/* How long a PING has been out (0 = none): too long means a dead peer. */
uint64_t esi_grpc_client_ping_age_ns(const struct esi_grpc_client *client, uint64_t now_ns);
/* Orderly end: no more calls; those in flight go on. */
void esi_grpc_client_shutdown(struct esi_grpc_client *client);
/* No new calls are possible (GOAWAY, shutdown or end). Those in flight may still get results. */
bool esi_grpc_client_is_draining(const struct esi_grpc_client *client);
/* Nothing more to come: close the transport when the output is written. */
bool esi_grpc_client_is_done(const struct esi_grpc_client *client);

/* ---- server ---- */

struct esi_grpc_server_options {
    uint32_t streams_max;      /* calls at once, more are refused; 0 = 128 */
    size_t request_bytes_max;  /* a longer message is RESOURCE_EXHAUSTED; 0 = 4 MiB */
    size_t inbound_bytes_max;  /* for long messages, all together; 0 = 8 MiB; raised to
                                  request_bytes_max */
    size_t outbound_bytes_max; /* answers not yet taken: above it wants_read is false; 0 = 4 MiB */
    uint64_t request_timeout_ns; /* from a call's first byte to its last, and for an answer to be
                                    taken; 0 = 30 s */
    uint64_t preface_timeout_ns; /* from the start to the first complete headers; 0 = 10 s */
};

enum esi_grpc_event_kind {
    GRPC_EVENT_REQUEST,  /* a complete request: answer it with esi_grpc_server_respond */
    GRPC_EVENT_CANCELLED /* the client gave up a call that was polled: forget it, no answer is
                            needed */
};

struct esi_grpc_event {
    enum esi_grpc_event_kind kind;
    uint32_t call_id;
    struct esi_str path;      /* checked: starts with '/', printable, at most GRPC_PATH_MAX */
    struct esi_str authority; /* may be empty */
    struct esi_str message;   /* the encoded request */
    uint64_t deadline_ns;     /* on the clock of the now_ns given; UINT64_MAX = none */
};

/* Makes a server for one connection. options: borrowed; NULL = defaults. Fails with ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_grpc_server_new(const struct esi_grpc_server_options *options,
                                            uint64_t now_ns, struct esi_grpc_server **out);
/* Frees; calls without an answer are dropped. NULL is accepted. */
void esi_grpc_server_free(struct esi_grpc_server *server);
/* Takes bytes from the peer, all of them. Not ES_OK: the connection has ended; every polled call
   without an answer then gives GRPC_EVENT_CANCELLED, and output may still hold a GOAWAY. */
ES_MUST_USE enum es_err esi_grpc_server_feed(struct esi_grpc_server *server, const void *data,
                                             size_t len, uint64_t now_ns);
/* The transport is gone: every polled call without an answer gives GRPC_EVENT_CANCELLED. */
void esi_grpc_server_lost(struct esi_grpc_server *server);
/* Appends up to max bytes of output to *out. Returns how many. */
size_t esi_grpc_server_take_output(struct esi_grpc_server *server, struct esi_bytes *out,
                                   size_t max);
bool esi_grpc_server_wants_write(const struct esi_grpc_server *server);
bool esi_grpc_server_wants_read(const struct esi_grpc_server *server);
/* The next event; strings are valid until the next call of next, feed or free. False when there is
 * none. */
bool esi_grpc_server_next(struct esi_grpc_server *server, struct esi_grpc_event *out);
/* A metadata value of a polled and unanswered call (the first of that name, raw; "-bin" is not
   decoded), valid until it is answered or the next feed; data is NULL where there is none. */
struct esi_str esi_grpc_server_metadata(const struct esi_grpc_server *server, uint32_t call_id,
                                        const char *name);
/*
 * Answers a call, in any order, at any time later.
 *   status_text  NULL = none; any bytes, percent-encoded here, cut at GRPC_STATUS_TEXT_MAX
 *   message      the encoded answer, borrowed, copied; sent only with GRPC_OK
 * Fails with ES_NOT_FOUND when the call is gone (answered, cancelled, connection ended: ignore it),
 * ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_grpc_server_respond(struct esi_grpc_server *server, uint32_t call_id,
                                                enum esi_grpc_status status,
                                                const char *status_text, const void *message,
                                                size_t len);
/* Ends what takes too long: incomplete requests and answers that the client does not take are
   reset; a connection that does not begin properly is ended. */
void esi_grpc_server_tick(struct esi_grpc_server *server, uint64_t now_ns);
/* When tick has something to do; UINT64_MAX = never. */
uint64_t esi_grpc_server_deadline(const struct esi_grpc_server *server);
/* Calls that are open: being received, waiting for an answer, or being answered. 0 = idle. */
uint32_t esi_grpc_server_in_flight(const struct esi_grpc_server *server);
/* Sends a keep-alive PING unless one is out; and how long it has been out (0 = none). */
void esi_grpc_server_ping(struct esi_grpc_server *server, uint64_t now_ns);
uint64_t esi_grpc_server_ping_age_ns(const struct esi_grpc_server *server, uint64_t now_ns);
/* Orderly end: GOAWAY; calls in work are answered, new ones refused. */
void esi_grpc_server_shutdown(struct esi_grpc_server *server);
/* Nothing more to come: close the transport when the output is written. */
bool esi_grpc_server_is_done(const struct esi_grpc_server *server);
