/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files behind net/http2.h share: http2.c (the connection), http2_callbacks.c (what the
 * library tells, and asks for), http2_flood.c (counts of what a peer must not do without end),
 * http2_memory.c (the library's memory). nghttp2 is seen by these files alone.
 */
#pragma once

#include "base/bytes.h"
#include "base/list.h"
#include "net/http2.h"

#include <nghttp2/nghttp2.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP2_FRAME_HEADER_BYTES = 9,
    HTTP2_PREFACE_BYTES = 24,
    HTTP2_HEADERS_MAX = 64 /* headers that we send at once */
};

struct esi_http2_stream {
    struct esi_list link; /* in the connection's streams */
    void *call;           /* the owner's; NULL when it has parted */
    int32_t id;
    bool is_started;           /* our HEADERS were handed out */
    bool has_sent_end;         /* our side is finished */
    bool has_received_end;     /* the peer's side is finished */
    bool is_ours_to_reset;     /* the owner asked for the reset: not the peer's fault */
    bool is_answered;          /* server: respond was called */
    size_t header_bytes;       /* of the block in hand */
    struct esi_bytes body;     /* owned; what is to be sent */
    size_t body_offset;        /* what the library has */
    struct esi_bytes trailers; /* owned; name NUL value NUL ..., sent after the body */
};

/* The frame header that the bytes are in. */
struct frame_scan {
    uint8_t header[HTTP2_FRAME_HEADER_BYTES];
    size_t header_len;
    size_t skip; /* bytes of preface or payload to come */
};

struct esi_http2 {
    uint32_t magic;
    enum esi_http2_role role;
    struct esi_http2_limits limits;
    const struct esi_http2_callbacks *callbacks; /* borrowed */
    void *owner;
    nghttp2_session *session;    /* owned */
    struct esi_list allocations; /* owned; the library's */
    struct esi_list streams;
    uint32_t streams_open;
    size_t session_bytes;
    size_t outbound_bytes;
    size_t body_bytes;       /* memory of all bodies */
    struct esi_bytes output; /* owned; made and not taken */
    size_t output_offset;
    struct frame_scan scan;
    uint64_t now_ns;
    uint64_t window_start_ns;
    uint64_t work_frames; /* in the window */
    uint64_t idle_frames;
    uint32_t resets;
    uint32_t continuations; /* of the block in hand */
    uint64_t ping_sent_ns;
    uint64_t ping_number;
    bool ping_is_out;
    bool is_draining;
    bool shutdown_began;
    bool shutdown_is_final;
    bool has_settings;  /* the peer's SETTINGS came */
    bool is_ended;      /* takes no input any more; output is made until GOAWAY is out */
    bool is_dead;       /* the library failed: it is not called any more */
    bool has_no_memory; /* an allocation of the library failed */
    enum es_err error;  /* why it ended; ES_OK while it lives */
};

/* --- http2.c --- */

/* A stream without a call, in the connection's list; NULL when memory is exhausted. */
struct esi_http2_stream *esi_http2_new_stream(struct esi_http2 *http2, int32_t id);
/* The stream that the library knows by this number, or NULL. */
struct esi_http2_stream *esi_http2_find_stream(const struct esi_http2 *http2, int32_t id);
void esi_http2_free_stream(struct esi_http2 *http2, struct esi_http2_stream *stream);
/* Frees the stream's body: the library has a copy of what it has taken, and is told of the rest
 * that there is none. */
void esi_http2_free_body(struct esi_http2 *http2, struct esi_http2_stream *stream);
/* Ends the connection for a reason; the first one counts. */
void esi_http2_end_with(struct esi_http2 *http2, enum es_err error, uint32_t code);

/* --- http2_callbacks.c --- */

void esi_http2_callbacks_set(nghttp2_session_callbacks *callbacks);
/* Gives the library the next bytes of a body, and at its end the trailers. */
ssize_t esi_http2_callbacks_read_body(nghttp2_session *session, int32_t id, uint8_t *room,
                                      size_t room_len, uint32_t *flags, nghttp2_data_source *source,
                                      void *user);

/* --- http2_flood.c --- */

/* The time has come to this: the counts begin anew with each window. */
void esi_http2_flood_roll(struct esi_http2 *http2, uint64_t now_ns);
/* Counts a reset that the peer made, or caused. Returns false when it is over the bound. */
bool esi_http2_flood_count_reset(struct esi_http2 *http2);
/* Follows the frame headers in the bytes. Returns false when a frame is over a bound. */
bool esi_http2_flood_count_frames(struct esi_http2 *http2, const uint8_t *data, size_t len);

/* --- http2_memory.c --- */

/* The library's allocator: what it takes is counted for the connection. */
void esi_http2_memory_init(struct esi_http2 *http2, nghttp2_mem *mem);
/* Frees all that the library has not given back. */
void esi_http2_memory_free_all(struct esi_http2 *http2);
