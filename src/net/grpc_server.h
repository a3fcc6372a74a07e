/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serving side of gRPC on one HTTP/2 connection; see grpc.h.
 * Invariant: a request that was polled is answered by the owner, or its end is told by
 * GRPC_EVENT_CANCELLED, never both; what was never polled ends without a word. Thread: one at a
 * time, the owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "net/grpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_grpc_server;

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
    struct esi_str path;    /* checked: starts with '/', printable, at most GRPC_PATH_MAX */
    struct esi_str message; /* the encoded request */
    uint64_t deadline_ns;   /* on the clock of the now_ns given; UINT64_MAX = none */
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
/* Appends up to max bytes of output to *out. Returns how many. */
size_t esi_grpc_server_take_output(struct esi_grpc_server *server, struct esi_bytes *out,
                                   size_t max);
bool esi_grpc_server_wants_write(const struct esi_grpc_server *server);
bool esi_grpc_server_wants_read(const struct esi_grpc_server *server);
/* The next event; strings are valid until the call is answered, or the next call of next, feed or
   free. False when there is none. */
bool esi_grpc_server_next(struct esi_grpc_server *server, struct esi_grpc_event *out);
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
/* What the server holds with its calls, in bytes of memory. */
size_t esi_grpc_server_memory_bytes(const struct esi_grpc_server *server);
/* Orderly end: GOAWAY; calls in work are answered, new ones refused. */
void esi_grpc_server_shutdown(struct esi_grpc_server *server);
/* Nothing more to come: close the transport when the output is written. */
bool esi_grpc_server_is_done(const struct esi_grpc_server *server);
