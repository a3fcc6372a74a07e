/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One HTTP/2 connection, either role, bytes in and bytes out; a thin wrapper around nghttp2 that
 * adds bounds. No sockets, no clock: the time comes with each call, in nanoseconds of any clock
 * that never goes back.
 *
 * Against the flood family: counts in a time window (streams that the peer resets; frames that
 * carry no work, measured against frames that do), CONTINUATION frames a header block, the decoded
 * size of a header block, concurrent streams, frames and bytes that wait to be taken, and a ceiling
 * for all memory of the library on this connection. A peer over a bound gets GOAWAY
 * (ENHANCE_YOUR_CALM) and the connection is ended: esi_http2_is_done after the output was taken.
 *
 * Memory of one connection: session_bytes_max (library, headers in both directions, queued frames)
 * (and what 16 KiB of input can cause beyond it) plus outbound_bytes_max (bodies to be sent; the
 * owner of the calls may go over it by one body), and nothing that a peer can make grow. Received
 * body bytes are never kept here: the callbacks get them, and the owner opens a stream's window
 * again with esi_http2_consume when it has room; the connection's window opens by itself. All
 * memory of the library is wiped when freed: headers can carry tokens.
 *
 * Callbacks run inside esi_http2_feed and esi_http2_take_output. They may call request, respond,
 * reset and consume; they must not call feed, take_output or free. Thread: one at a time, the
 * owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_http2;

enum esi_http2_role { HTTP2_CLIENT, HTTP2_SERVER };

/* Error codes of RST_STREAM and GOAWAY (RFC 9113, section 7) that we use by name. */
enum esi_http2_code {
    HTTP2_NO_ERROR = 0,
    HTTP2_PROTOCOL_ERROR = 1,
    HTTP2_INTERNAL_ERROR = 2,
    HTTP2_FLOW_CONTROL_ERROR = 3,
    HTTP2_REFUSED_STREAM = 7,
    HTTP2_CANCEL = 8,
    HTTP2_ENHANCE_YOUR_CALM = 11,
    HTTP2_INADEQUATE_SECURITY = 12
};

/* What a peer may make us do and hold; esi_http2_limits_init sets the defaults in brackets. */
struct esi_http2_limits {
    /* Concurrent streams that the peer may open; told to it (128). */
    uint32_t streams_max;
    /* What a peer may send on a stream before it is consumed (65535). */
    uint32_t stream_window_bytes;
    /* The decoded size of a header block: names, values, and 32 for each; told to the peer (16
     * KiB). */
    size_t header_list_bytes_max;
    /* Frames that wait to be taken; above half of it wants_read is false (2000). */
    size_t outbound_items_max;
    /* Bodies that wait to be taken; above it a server refuses new streams (4 MiB). */
    size_t outbound_bytes_max;
    /* All memory of the library for this connection (8 MiB). */
    size_t session_bytes_max;
    /* The time window of the two counts that follow, in nanoseconds (10 s). */
    uint64_t window_ns;
    /* Server: streams reset by the peer, or because of what it did, in a window (300). */
    uint32_t resets_max;
    /* PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown and empty DATA frames in a window, beyond
       four for each frame that carried headers or a body, either way (1000). */
    uint32_t idle_frames_max;
    /* CONTINUATION frames of one header block (8). */
    uint32_t continuations_max;
};

struct esi_http2_header {
    struct esi_str name;  /* lower case */
    struct esi_str value; /* no CR, LF, NUL */
    bool is_secret;       /* never put into a compression table */
};

/* One request and its answer. Valid for the owner from request or on_request until on_close or
 * esi_http2_reset. */
struct esi_http2_stream;

/* call: the owner's pointer for the stream. Strings are borrowed. */
struct esi_http2_callbacks {
    /* Server: a request begins. Returns the owner's pointer; NULL refuses it (REFUSED_STREAM).
     * Clients: NULL. */
    void *(*on_request)(void *owner, struct esi_http2_stream *stream);
    /* A header or trailer arrived. */
    void (*on_header)(void *owner, void *call, struct esi_str name, struct esi_str value);
    /* A block of headers or trailers is complete; is_end: the peer has finished the stream. */
    void (*on_headers_end)(void *owner, void *call, bool is_end);
    /* Body bytes, which take from the stream's window until esi_http2_consume. */
    void (*on_data)(void *owner, void *call, struct esi_str data);
    /* The peer has finished the stream after body bytes. */
    void (*on_end)(void *owner, void *call);
    /* The stream is gone; called once, unless the owner reset it. code: enum esi_http2_code or
     * another number. */
    void (*on_close)(void *owner, void *call, uint32_t code);
};

/* Sets every limit to its default. */
void esi_http2_limits_init(struct esi_http2_limits *limits);

/*
 * Makes a connection; the preface and SETTINGS are output at once.
 *   limits     borrowed, copied; NULL = defaults
 *   callbacks  borrowed, must outlive the connection
 *   owner      passed to every callback
 * Fails with ES_NO_MEMORY. *out is owned by the caller.
 */
ES_MUST_USE enum es_err esi_http2_new(enum esi_http2_role role,
                                      const struct esi_http2_limits *limits,
                                      const struct esi_http2_callbacks *callbacks, void *owner,
                                      struct esi_http2 **out);
/* Frees without calling back: on_close is not called for streams that are still open. NULL is
 * accepted. */
void esi_http2_free(struct esi_http2 *http2);

/*
 * Takes bytes from the peer, all of them.
 * Returns ES_INVALID when the peer broke the protocol, ES_FULL when it went over a bound,
 * ES_NO_MEMORY; the connection is then ended: take the output (it holds GOAWAY), write it, close.
 * ES_CLOSED when it had ended before.
 */
ES_MUST_USE enum es_err esi_http2_feed(struct esi_http2 *http2, const void *data, size_t len,
                                       uint64_t now_ns);
/* Appends up to max bytes of output to *out. Returns how many. Output that was begun is never lost.
 */
size_t esi_http2_take_output(struct esi_http2 *http2, struct esi_bytes *out, size_t max);
/* There is output to be taken. */
bool esi_http2_wants_write(const struct esi_http2 *http2);
/* The owner may read from the transport: false while too many frames wait, and when the connection
 * has ended. */
bool esi_http2_wants_read(const struct esi_http2 *http2);

/*
 * Client: opens a stream with a complete request.
 *   headers  borrowed, copied; pseudo-headers first
 *   body     taken (left empty), also on failure; empty = none
 *   call     the owner's pointer, passed to the callbacks
 *   *stream  see struct esi_http2_stream
 * Fails with ES_CLOSED (ended, draining, or stream numbers used up), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_http2_request(struct esi_http2 *http2,
                                          const struct esi_http2_header *headers, size_t count,
                                          struct esi_bytes *body, void *call,
                                          struct esi_http2_stream **stream);

struct esi_http2_response {
    const struct esi_http2_header *headers; /* borrowed, copied */
    size_t header_count;
    struct esi_bytes *body;                  /* taken (left empty), also on failure; NULL = none */
    const struct esi_http2_header *trailers; /* borrowed, copied */
    size_t trailer_count; /* without trailers and body the headers are all there is */
};
/*
 * Server: answers a stream, once. A request that has not ended is cut off by RST_STREAM(NO_ERROR)
 * after the answer. Fails with ES_NO_MEMORY, ES_CLOSED (the connection has ended).
 */
ES_MUST_USE enum es_err esi_http2_respond(struct esi_http2 *http2, struct esi_http2_stream *stream,
                                          const struct esi_http2_response *response);
/* Parts from a stream: no callback follows. It is reset with the code unless both sides have
 * finished it. */
void esi_http2_reset(struct esi_http2 *http2, struct esi_http2_stream *stream, uint32_t code);
/* Opens the peer's window on the stream by count bytes that on_data delivered. */
void esi_http2_consume(struct esi_http2 *http2, struct esi_http2_stream *stream, size_t count);
/* Output of the stream has been handed out: the peer may know of it. */
bool esi_http2_is_started(const struct esi_http2_stream *stream);

/* Sends a PING, unless one is out. */
void esi_http2_ping(struct esi_http2 *http2, uint64_t now_ns);
/* How long a PING of ours has been out, in nanoseconds; 0 when none is. */
uint64_t esi_http2_ping_age_ns(const struct esi_http2 *http2, uint64_t now_ns);

/* Begins an orderly end (server: GOAWAY in two steps, streams in work are finished; client: no new
 * requests). */
void esi_http2_shutdown(struct esi_http2 *http2);
/* Ends at once: GOAWAY with the code is the last output. */
void esi_http2_end(struct esi_http2 *http2, uint32_t code);
/* The connection takes no new streams: GOAWAY sent or received, or ended. */
bool esi_http2_is_draining(const struct esi_http2 *http2);
/* Why it has ended, as feed said; ES_OK while it lives, ES_CLOSED after esi_http2_end. */
enum es_err esi_http2_error(const struct esi_http2 *http2);
/* The connection has ended, by esi_http2_end or by an error: input is not taken any more. */
bool esi_http2_is_ended(const struct esi_http2 *http2);
/* Nothing more to do: ended, or drained of streams, and no output waits. Close the transport. */
bool esi_http2_is_done(const struct esi_http2 *http2);

/* Streams that the peer lets us open at once: 100 until its SETTINGS came. */
uint32_t esi_http2_peer_streams_max(const struct esi_http2 *http2);
/* Streams that are open now. */
uint32_t esi_http2_streams_open(const struct esi_http2 *http2);
/* Bytes of bodies that wait to be taken. */
size_t esi_http2_outbound_bytes(const struct esi_http2 *http2);
/* Memory of the connection in all: the library's, and what waits to be taken. */
size_t esi_http2_memory_bytes(const struct esi_http2 *http2);
/* Memory that the library holds for this connection now. */
size_t esi_http2_session_bytes(const struct esi_http2 *http2);
