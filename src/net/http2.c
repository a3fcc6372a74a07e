/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/2 by nghttp2, bounded. See http2.h.
 *
 * Input goes through three gates, a slice at a time: http2_flood.c (frame headers read from
 * the bytes), the library (framing, HPACK, flow control, stream states), and the
 * check after each slice (frames that wait). After a slice some output is made at once, so that a
 * GOAWAY that the library queued is noticed soon, and so that the queue grows only while the
 * transport is slower than the peer.
 *
 * Streams: struct esi_http2_stream is the library's stream user data. It lives until the library
 * closes the stream, and is freed with the connection otherwise; `call` is NULL once the owner has
 * parted from it.
 */
#include "net/http2.h"
#include "net/http2_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"

enum {
    MAGIC = 0x48325332,
    SLICE_BYTES = 16 * 1024,
    OUTPUT_LOW_BYTES = 16 * 1024,
    CONNECTION_WINDOW_BYTES = 1 << 20
};

_Static_assert(sizeof(NGHTTP2_CLIENT_MAGIC) - 1 == HTTP2_PREFACE_BYTES, "the preface is 24 bytes");

/* ---- streams and ends ---- */

struct esi_http2_stream *esi_http2_new_stream(struct esi_http2 *http2, int32_t id)
{
    struct esi_http2_stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL) {
        return NULL;
    }
    stream->id = id;
    esi_list_append(&http2->streams, &stream->link);
    http2->streams_open++;
    return stream;
}

void esi_http2_free_body(struct esi_http2 *http2, struct esi_http2_stream *stream)
{
    ESI_ASSERT(http2->outbound_bytes >= stream->body.len - stream->body_offset);
    http2->outbound_bytes -= stream->body.len - stream->body_offset;
    http2->body_bytes -= stream->body.capacity;
    stream->body_offset = 0;
    esi_bytes_wipe(&stream->body);
}

void esi_http2_free_stream(struct esi_http2 *http2, struct esi_http2_stream *stream)
{
    ESI_ASSERT(http2->streams_open > 0);
    http2->streams_open--;
    esi_list_remove(&stream->link);
    esi_http2_free_body(http2, stream);
    esi_bytes_wipe(&stream->trailers);
    free(stream);
}

struct esi_http2_stream *esi_http2_find_stream(const struct esi_http2 *http2, int32_t id)
{
    return id > 0 ? nghttp2_session_get_stream_user_data(http2->session, id) : NULL;
}

static void die(struct esi_http2 *http2, enum es_err error)
{
    if (!http2->is_ended) {
        http2->error = error;
    }
    http2->is_ended = true;
    http2->is_draining = true;
    http2->is_dead = true;
}

/* After each call of the library. Returns false when it must not be called any more. */
static bool is_usable(struct esi_http2 *http2)
{
    if (http2->has_no_memory) {
        die(http2, ES_NO_MEMORY);
    }
    return !http2->is_dead;
}

void esi_http2_end_with(struct esi_http2 *http2, enum es_err error, uint32_t code)
{
    if (http2->is_ended || !is_usable(http2)) {
        return;
    }
    if (nghttp2_session_terminate_session(http2->session, code) != 0) {
        die(http2, ES_NO_MEMORY);
        return;
    }
    http2->is_ended = true;
    http2->is_draining = true;
    http2->error = error;
}

static enum es_err map_error(int error)
{
    return error == NGHTTP2_ERR_NOMEM     ? ES_NO_MEMORY
           : error == NGHTTP2_ERR_FLOODED ? ES_FULL
                                          : ES_INVALID;
}

/* ---- making and ending a connection ---- */

void esi_http2_limits_init(struct esi_http2_limits *limits)
{
    *limits = (struct esi_http2_limits){
        .streams_max = 128,
        .stream_window_bytes = 65535,
        .header_list_bytes_max = 16 * 1024,
        .outbound_items_max = 2000,
        .outbound_bytes_max = 4 << 20,
        .session_bytes_max = 8 << 20,
        .window_ns = 10ULL * 1000 * 1000 * 1000,
        .resets_max = 300,
        .idle_frames_max = 1000,
        .continuations_max = 8,
    };
}

static int submit_settings(struct esi_http2 *http2)
{
    const struct esi_http2_limits *limits = &http2->limits;
    const uint32_t list_max = limits->header_list_bytes_max < UINT32_MAX
                                  ? (uint32_t)limits->header_list_bytes_max
                                  : UINT32_MAX;
    nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->streams_max},
    };

    if (http2->role == HTTP2_CLIENT) {
        entries[3] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    }
    int error =
        nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, entries, ESI_COUNT_OF(entries));
    if (error == 0) {
        error = nghttp2_session_set_local_window_size(http2->session, NGHTTP2_FLAG_NONE, 0,
                                                      CONNECTION_WINDOW_BYTES);
    }
    return error;
}

static int new_session(struct esi_http2 *http2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_mem mem;

    esi_http2_memory_init(http2, &mem);
    int error = nghttp2_session_callbacks_new(&callbacks);

    if (error != 0 || (error = nghttp2_option_new(&option)) != 0) {
        goto done;
    }
    esi_http2_callbacks_set(callbacks);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_reserved_remote_streams(option, 0);
    nghttp2_option_set_peer_max_concurrent_streams(option, 100);
    error = http2->role == HTTP2_SERVER
                ? nghttp2_session_server_new3(&http2->session, callbacks, http2, option, &mem)
                : nghttp2_session_client_new3(&http2->session, callbacks, http2, option, &mem);
    if (error == 0) {
        error = submit_settings(http2);
    }
done:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return error;
}

enum es_err esi_http2_new(enum esi_http2_role role, const struct esi_http2_limits *limits,
                          const struct esi_http2_callbacks *callbacks, void *owner,
                          struct esi_http2 **out)
{
    ESI_REQUIRE(callbacks != NULL);
    ESI_REQUIRE(role == HTTP2_CLIENT || callbacks->on_request != NULL);
    struct esi_http2 *http2 = calloc(1, sizeof *http2);
    if (http2 == NULL) {
        return ES_NO_MEMORY;
    }
    http2->role = role;
    if (limits != NULL) {
        http2->limits = *limits;
    } else {
        esi_http2_limits_init(&http2->limits);
    }
    http2->callbacks = callbacks;
    http2->owner = owner;
    http2->scan.skip = role == HTTP2_SERVER ? HTTP2_PREFACE_BYTES : 0;
    esi_list_init(&http2->streams);
    esi_bytes_init(&http2->output, 0);
    if (new_session(http2) != 0 || http2->session_bytes > http2->limits.session_bytes_max) {
        esi_http2_free(http2);
        return ES_NO_MEMORY;
    }
    http2->magic = MAGIC;
    *out = http2;
    return ES_OK;
}

void esi_http2_free(struct esi_http2 *http2)
{
    if (http2 == NULL) {
        return;
    }
    http2->magic = 0;
    if (is_usable(http2)) {
        nghttp2_session_del(http2->session);
    }
    esi_http2_memory_free_all(http2);
    for (struct esi_list *at = http2->streams.next, *next; at != &http2->streams; at = next) {
        next = at->next;
        esi_http2_free_stream(http2, ESI_CONTAINER_OF(at, struct esi_http2_stream, link));
    }
    esi_bytes_wipe(&http2->output);
    free(http2);
}

/* ---- bytes in, bytes out ---- */

/* Makes output until a low mark is reached, so that a slow transport holds little of it. */
static void make_output(struct esi_http2 *http2)
{
    if (http2->output_offset == http2->output.len) {
        esi_bytes_clear(&http2->output);
        http2->output_offset = 0;
    }
    while (is_usable(http2) && http2->output.len - http2->output_offset < OUTPUT_LOW_BYTES) {
        const uint8_t *data;
        const ssize_t len = nghttp2_session_mem_send(http2->session, &data);
        if (len == 0) {
            return;
        }
        if (len < 0) {
            die(http2, map_error((int)len));
            return;
        }
        esi_bytes_append(&http2->output, data, (size_t)len);
        if (http2->output.failed) {
            die(http2, ES_NO_MEMORY);
        }
    }
}

static void feed_slice(struct esi_http2 *http2, const uint8_t *data, size_t len)
{
    if (!esi_http2_flood_count_frames(http2, data, len)) {
        esi_http2_end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
        return;
    }
    const ssize_t taken = nghttp2_session_mem_recv(http2->session, data, len);
    if (taken < 0) {
        const bool is_over_bound =
            taken == NGHTTP2_ERR_CALLBACK_FAILURE || taken == NGHTTP2_ERR_FLOODED;
        esi_http2_end_with(http2, is_over_bound ? ES_FULL : map_error((int)taken),
                           is_over_bound ? HTTP2_ENHANCE_YOUR_CALM : HTTP2_PROTOCOL_ERROR);
    }
    make_output(http2);
    if (is_usable(http2) && (nghttp2_session_get_outbound_queue_size(http2->session) >
                                 http2->limits.outbound_items_max ||
                             http2->session_bytes > http2->limits.session_bytes_max)) {
        esi_http2_end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
    }
}

enum es_err esi_http2_feed(struct esi_http2 *http2, const void *data, size_t len, uint64_t now_ns)
{
    const uint8_t *at = data;

    ESI_REQUIRE(http2->magic == MAGIC);
    if (http2->is_ended) {
        return ES_CLOSED;
    }
    esi_http2_flood_roll(http2, now_ns);
    while (len > 0 && !http2->is_ended) {
        const size_t slice = len < SLICE_BYTES ? len : SLICE_BYTES;
        feed_slice(http2, at, slice);
        at += slice;
        len -= slice;
    }
    return http2->error;
}

size_t esi_http2_take_output(struct esi_http2 *http2, struct esi_bytes *out, size_t max)
{
    size_t taken = 0;

    ESI_REQUIRE(http2->magic == MAGIC);
    while (taken < max) {
        make_output(http2);
        const size_t ready = http2->output.len - http2->output_offset;
        const size_t count = ready < max - taken ? ready : max - taken;
        if (count == 0 || esi_bytes_reserve(out, count) == NULL) {
            break;
        }
        esi_bytes_append(out, http2->output.data + http2->output_offset, count);
        http2->output_offset += count;
        taken += count;
    }
    return taken;
}

bool esi_http2_wants_write(const struct esi_http2 *http2)
{
    return http2->output.len > http2->output_offset ||
           (!http2->is_dead && nghttp2_session_want_write(http2->session) != 0);
}

bool esi_http2_wants_read(const struct esi_http2 *http2)
{
    return !http2->is_ended && nghttp2_session_get_outbound_queue_size(http2->session) <=
                                   http2->limits.outbound_items_max / 2;
}

/* ---- requests and answers ---- */

static void fill_headers(nghttp2_nv *out, const struct esi_http2_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (nghttp2_nv){
            .name = (uint8_t *)headers[i].name.data,
            .namelen = headers[i].name.len,
            .value = (uint8_t *)headers[i].value.data,
            .valuelen = headers[i].value.len,
            .flags = headers[i].is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
        };
    }
}

static void take_body(struct esi_http2 *http2, struct esi_http2_stream *stream,
                      struct esi_bytes *body)
{
    stream->body = *body;
    esi_bytes_init(body, body->capacity_max);
    http2->outbound_bytes += stream->body.len;
    http2->body_bytes += stream->body.capacity;
}

enum es_err esi_http2_request(struct esi_http2 *http2, const struct esi_http2_header *headers,
                              size_t count, struct esi_bytes *body, void *call,
                              struct esi_http2_stream **out)
{
    nghttp2_nv nv[HTTP2_HEADERS_MAX];
    struct esi_http2_stream *stream = NULL;
    enum es_err error = ES_CLOSED;

    ESI_REQUIRE(http2->magic == MAGIC && http2->role == HTTP2_CLIENT);
    ESI_REQUIRE(count <= HTTP2_HEADERS_MAX && call != NULL);
    if (http2->is_draining || !is_usable(http2)) {
        goto fail;
    }
    error = ES_NO_MEMORY;
    stream = esi_http2_new_stream(http2, 0);
    if (stream == NULL) {
        goto fail;
    }
    take_body(http2, stream, body);
    fill_headers(nv, headers, count);
    const nghttp2_data_provider provider = {.source.ptr = stream,
                                            .read_callback = esi_http2_callbacks_read_body};
    const int32_t id = nghttp2_submit_request(http2->session, NULL, nv, count,
                                              stream->body.len > 0 ? &provider : NULL, stream);
    if (id < 0) {
        error = id == NGHTTP2_ERR_NOMEM ? ES_NO_MEMORY : ES_CLOSED;
        http2->is_draining = http2->is_draining || id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE;
        goto fail;
    }
    stream->id = id;
    stream->call = call;
    *out = stream;
    return ES_OK;
fail:
    (void)is_usable(http2);
    if (stream != NULL) {
        esi_http2_free_stream(http2, stream);
    }
    esi_bytes_wipe(body);
    return error;
}

static enum es_err keep_trailers(struct esi_http2_stream *stream,
                                 const struct esi_http2_header *trailers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        esi_bytes_append_str(&stream->trailers, trailers[i].name);
        esi_bytes_append(&stream->trailers, "", 1);
        esi_bytes_append_str(&stream->trailers, trailers[i].value);
        esi_bytes_append(&stream->trailers, "", 1);
    }
    return stream->trailers.failed ? ES_NO_MEMORY : ES_OK;
}

enum es_err esi_http2_respond(struct esi_http2 *http2, struct esi_http2_stream *stream,
                              const struct esi_http2_response *response)
{
    nghttp2_nv nv[HTTP2_HEADERS_MAX];

    ESI_REQUIRE(http2->magic == MAGIC && http2->role == HTTP2_SERVER);
    ESI_REQUIRE(!stream->is_answered);
    ESI_REQUIRE(response->header_count <= HTTP2_HEADERS_MAX &&
                response->trailer_count <= HTTP2_HEADERS_MAX);
    if (response->body != NULL) {
        take_body(http2, stream, response->body);
    }
    if (http2->is_ended || !is_usable(http2)) {
        return ES_CLOSED;
    }
    if (keep_trailers(stream, response->trailers, response->trailer_count) != ES_OK) {
        return ES_NO_MEMORY;
    }
    stream->is_answered = true;
    fill_headers(nv, response->headers, response->header_count);
    const nghttp2_data_provider provider = {.source.ptr = stream,
                                            .read_callback = esi_http2_callbacks_read_body};
    const bool has_more = stream->body.len > 0 || response->trailer_count > 0;
    const int error = nghttp2_submit_response(http2->session, stream->id, nv,
                                              response->header_count, has_more ? &provider : NULL);
    return error == 0 && is_usable(http2) ? ES_OK : ES_NO_MEMORY;
}

void esi_http2_reset(struct esi_http2 *http2, struct esi_http2_stream *stream, uint32_t code)
{
    ESI_REQUIRE(http2->magic == MAGIC);
    stream->call = NULL;
    if (stream->has_sent_end && stream->has_received_end) {
        return;
    }
    stream->is_ours_to_reset = true;
    if (!http2->is_ended && is_usable(http2) &&
        nghttp2_submit_rst_stream(http2->session, NGHTTP2_FLAG_NONE, stream->id, code) != 0) {
        esi_http2_end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
    }
}

void esi_http2_consume(struct esi_http2 *http2, struct esi_http2_stream *stream, size_t count)
{
    ESI_REQUIRE(http2->magic == MAGIC);
    if (!http2->is_ended && !stream->has_received_end && is_usable(http2) &&
        nghttp2_session_consume_stream(http2->session, stream->id, count) != 0) {
        esi_http2_end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
    }
}

bool esi_http2_is_started(const struct esi_http2_stream *stream)
{
    return stream->is_started;
}

/* ---- keep-alive and the end ---- */

void esi_http2_ping(struct esi_http2 *http2, uint64_t now_ns)
{
    uint8_t payload[8];

    ESI_REQUIRE(http2->magic == MAGIC);
    if (http2->ping_is_out || http2->is_ended || !is_usable(http2)) {
        return;
    }
    http2->ping_number++;
    _Static_assert(sizeof payload == sizeof http2->ping_number, "a PING carries eight bytes");
    memcpy(payload, &http2->ping_number, sizeof payload);
    if (nghttp2_submit_ping(http2->session, NGHTTP2_FLAG_NONE, payload) != 0) {
        esi_http2_end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
        return;
    }
    http2->ping_is_out = true;
    http2->ping_sent_ns = now_ns;
}

uint64_t esi_http2_ping_age_ns(const struct esi_http2 *http2, uint64_t now_ns)
{
    if (!http2->ping_is_out) {
        return 0;
    }
    /* At least 1: 0 says that none is out. */
    return now_ns > http2->ping_sent_ns ? now_ns - http2->ping_sent_ns : 1;
}

/*
 * A server says first that an end comes, and which streams it has taken only a round trip later:
 * requests that were under way are then among them, and no client is left in doubt.
 */
void esi_http2_shutdown(struct esi_http2 *http2)
{
    int error = 0;

    ESI_REQUIRE(http2->magic == MAGIC);
    if (http2->is_ended || http2->shutdown_is_final || !is_usable(http2)) {
        return;
    }
    http2->is_draining = true;
    if (http2->role == HTTP2_CLIENT) {
        http2->shutdown_is_final = true;
        error =
            nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE, 0, HTTP2_NO_ERROR, NULL, 0);
    } else if (!http2->shutdown_began) {
        http2->shutdown_began = true;
        error = nghttp2_submit_shutdown_notice(http2->session);
        http2->ping_is_out = false;
        esi_http2_ping(http2, http2->now_ns);
    } else {
        http2->shutdown_is_final = true;
        error = nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE,
                                      nghttp2_session_get_last_proc_stream_id(http2->session),
                                      HTTP2_NO_ERROR, NULL, 0);
    }
    if (error != 0) {
        esi_http2_end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
    }
}

void esi_http2_end(struct esi_http2 *http2, uint32_t code)
{
    ESI_REQUIRE(http2->magic == MAGIC);
    esi_http2_end_with(http2, ES_CLOSED, code);
}

bool esi_http2_is_draining(const struct esi_http2 *http2)
{
    return http2->is_draining;
}

enum es_err esi_http2_error(const struct esi_http2 *http2)
{
    return http2->error;
}

bool esi_http2_is_ended(const struct esi_http2 *http2)
{
    return http2->is_ended;
}

bool esi_http2_is_done(const struct esi_http2 *http2)
{
    const bool no_more_input = http2->is_ended || (http2->is_draining && http2->streams_open == 0 &&
                                                   nghttp2_session_want_read(http2->session) == 0);

    return no_more_input && !esi_http2_wants_write(http2);
}

uint32_t esi_http2_peer_streams_max(const struct esi_http2 *http2)
{
    return http2->has_settings ? nghttp2_session_get_remote_settings(
                                     http2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                               : 100;
}

uint32_t esi_http2_streams_open(const struct esi_http2 *http2)
{
    return http2->streams_open;
}

size_t esi_http2_outbound_bytes(const struct esi_http2 *http2)
{
    return http2->outbound_bytes;
}

size_t esi_http2_memory_bytes(const struct esi_http2 *http2)
{
    return esi_ledger_heap_bytes(sizeof *http2) + http2->session_bytes + http2->body_bytes +
           http2->output.capacity +
           http2->streams_open * esi_ledger_heap_bytes(sizeof(struct esi_http2_stream));
}

size_t esi_http2_session_bytes(const struct esi_http2 *http2)
{
    return http2->session_bytes;
}
