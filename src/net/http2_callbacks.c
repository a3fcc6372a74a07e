/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the library tells of frames and streams, and what it asks for. struct esi_http2_stream is
 * its stream user data.
 */
#include "net/http2_internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/own.h"

enum { HEADER_OVERHEAD = 32 /* RFC 9113, section 6.5.2 */ };

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct esi_http2 *http2 = user;
    const int32_t id = frame->hd.stream_id;

    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, id);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        ESI_ASSERT(stream == NULL);
        if (http2->outbound_bytes > http2->limits.outbound_bytes_max) {
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, HTTP2_REFUSED_STREAM);
        }
        stream = esi_http2_new_stream(http2, id);
        if (stream == NULL) {
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, HTTP2_REFUSED_STREAM);
        }
        nghttp2_session_set_stream_user_data(session, id, stream);
        stream->call = http2->callbacks->on_request(http2->owner, stream);
        if (stream->call == NULL) {
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, HTTP2_REFUSED_STREAM);
        }
    }
    if (stream != NULL) {
        stream->header_bytes = 0;
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct esi_http2 *http2 = user;
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, frame->hd.stream_id);
    (void)flags;

    if (stream == NULL || frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    const size_t max = http2->limits.header_list_bytes_max;
    const size_t before = stream->header_bytes;
    stream->header_bytes += name_len + value_len + HEADER_OVERHEAD;
    if (stream->header_bytes > max) {
        /* The rest of the block must still be decoded, or the compression tables part; but not
         * without end. */
        if (stream->header_bytes / 4 > max) {
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
        return before > max ? 0
                            : nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                                        HTTP2_ENHANCE_YOUR_CALM);
    }
    if (stream->call != NULL) {
        http2->callbacks->on_header(
            http2->owner, stream->call,
            (struct esi_str){.data = (const char *)name, .len = name_len},
            (struct esi_str){.data = (const char *)value, .len = value_len});
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *user)
{
    struct esi_http2 *http2 = user;
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, id);
    (void)flags;

    /* The streams' windows bound what is held; the connection's own only has to stay open. */
    if (nghttp2_session_consume_connection(session, len) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (stream != NULL && stream->call != NULL) {
        http2->callbacks->on_data(http2->owner, stream->call,
                                  (struct esi_str){.data = (const char *)data, .len = len});
    }
    return 0;
}

static void on_stream_frame(struct esi_http2 *http2, const nghttp2_frame *frame)
{
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, frame->hd.stream_id);

    if (stream == NULL) {
        return;
    }
    const bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    stream->has_received_end = stream->has_received_end || is_end;
    if (stream->call == NULL || stream->header_bytes > http2->limits.header_list_bytes_max) {
        return;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        http2->callbacks->on_headers_end(http2->owner, stream->call, is_end);
    } else if (is_end) {
        http2->callbacks->on_end(http2->owner, stream->call);
    }
}

static void on_ping_ack(struct esi_http2 *http2, const uint8_t *payload)
{
    if (memcmp(payload, &http2->ping_number, sizeof http2->ping_number) != 0) {
        return;
    }
    http2->ping_is_out = false;
    if (http2->shutdown_began) {
        esi_http2_shutdown(http2);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct esi_http2 *http2 = user;
    (void)session;

    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) {
        on_stream_frame(http2, frame);
    } else if (frame->hd.type == NGHTTP2_SETTINGS) {
        http2->has_settings = true;
    } else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        on_ping_ack(http2, frame->ping.opaque_data);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        http2->is_draining = true;
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct esi_http2 *http2 = user;
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != HTTP2_NO_ERROR &&
        !http2->is_ended) {
        /* The library found the peer breaking the protocol, and skips what comes from here on. */
        http2->is_ended = true;
        http2->is_draining = true;
        http2->error = ES_INVALID;
    }
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != HTTP2_NO_ERROR &&
        (stream == NULL || !stream->is_ours_to_reset) && !esi_http2_flood_count_reset(http2)) {
        /* A peer can also make us reset its streams, as fast as it could itself. */
        esi_http2_end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    http2->work_frames++;
    if (stream == NULL) {
        return 0;
    }
    stream->is_started = true;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        stream->has_sent_end = true;
        if (http2->role == HTTP2_SERVER && !stream->has_received_end) {
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id,
                                             HTTP2_NO_ERROR);
        }
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct esi_http2 *http2 = user;
    struct esi_http2_stream *stream = esi_http2_find_stream(http2, id);

    if (stream == NULL) {
        return 0;
    }
    nghttp2_session_set_stream_user_data(session, id, NULL);
    if (stream->call != NULL) {
        http2->callbacks->on_close(http2->owner, ESI_MOVE(stream->call), code);
    }
    esi_http2_free_stream(http2, stream);
    return 0;
}

/* Queues the trailers that respond left with the stream. */
static int submit_trailers(nghttp2_session *session, const struct esi_http2_stream *stream)
{
    nghttp2_nv headers[HTTP2_HEADERS_MAX];
    size_t count = 0;
    char *at = stream->trailers.data;
    const char *end = at + stream->trailers.len;

    while (at < end && count < HTTP2_HEADERS_MAX) {
        nghttp2_nv *header = &headers[count++];
        header->flags = NGHTTP2_NV_FLAG_NONE;
        header->name = (uint8_t *)at;
        header->namelen = strlen(at);
        at += header->namelen + 1;
        header->value = (uint8_t *)at;
        header->valuelen = strlen(at);
        at += header->valuelen + 1;
    }
    return nghttp2_submit_trailer(session, stream->id, headers, count);
}

ssize_t esi_http2_callbacks_read_body(nghttp2_session *session, int32_t id, uint8_t *room,
                                      size_t room_len, uint32_t *flags, nghttp2_data_source *source,
                                      void *user)
{
    struct esi_http2 *http2 = user;
    struct esi_http2_stream *stream = source->ptr;
    (void)id;

    const size_t left = stream->body.len - stream->body_offset;
    const size_t count = left < room_len ? left : room_len;
    if (count > 0) {
        memcpy(room, stream->body.data + stream->body_offset, count);
    }
    stream->body_offset += count;
    http2->outbound_bytes -= count;
    if (stream->body_offset == stream->body.len) {
        /* Calls may wait long for their answer, with a body that nobody needs any more. */
        esi_http2_free_body(http2, stream);
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailers.len > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            const int error = submit_trailers(session, stream);
            if (error != 0) {
                return error == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE
                                                  : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            }
        }
    }
    return (ssize_t)count;
}

void esi_http2_callbacks_set(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
