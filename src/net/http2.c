/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/2 by nghttp2, bounded. See http2.h.
 *
 * Input goes through three gates, a slice at a time: count_frames (frame headers read from the
 * bytes; the flood counts), the library (framing, HPACK, flow control, stream states), and the
 * check after each slice (frames that wait). After a slice some output is made at once, so that a
 * GOAWAY that the library queued is noticed soon, and so that the queue grows only while the
 * transport is slower than the peer.
 *
 * Streams: struct esi_http2_stream is the library's stream user data. It lives until the library
 * closes the stream, and is freed with the connection otherwise; `call` is NULL once the owner has
 * parted from it.
 */
#include "net/http2.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/own.h"

enum {
    MAGIC = 0x48325332,
    FRAME_HEADER_BYTES = 9,
    PREFACE_BYTES = 24,
    SLICE_BYTES = 16 * 1024,
    OUTPUT_LOW_BYTES = 16 * 1024,
    CONNECTION_WINDOW_BYTES = 1 << 20,
    MEMORY_EXCESS_BYTES_MAX = 4 << 20, /* above the ceiling: far more than a slice can cause */
    FRAMES_A_WORK_FRAME = 4,           /* idle frames forgiven for a frame with headers or a body */
    HEADERS_MAX = 64,                  /* headers that we send at once */
    HEADER_OVERHEAD = 32               /* RFC 9113, section 6.5.2 */
};

_Static_assert(sizeof(NGHTTP2_CLIENT_MAGIC) - 1 == PREFACE_BYTES, "the preface is 24 bytes");

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
    uint8_t header[FRAME_HEADER_BYTES];
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

/*
 * ---- memory of the library: counted, bounded, wiped ----
 *
 * The library is not safe where memory runs out: version 1.52 frees an item twice when a stream's
 * DATA cannot be queued. So a peer that drives it over the ceiling is ended at the next check,
 * while allocations still succeed; only far above it, or when the system has none, they fail. Then
 * the library is not called again, not even to free its session: all its blocks are in a list, and
 * are freed from there.
 */

union allocation {
    struct {
        struct esi_list link; /* in the connection's allocations */
        size_t len;
    };
    max_align_t align;
};

static void *allocate(size_t len, void *user)
{
    struct esi_http2 *http2 = user;
    union allocation *block = NULL;

    if (len <= MEMORY_EXCESS_BYTES_MAX &&
        http2->session_bytes + len <= http2->limits.session_bytes_max + MEMORY_EXCESS_BYTES_MAX) {
        block = malloc(sizeof *block + len);
    }
    if (block == NULL) {
        http2->has_no_memory = true;
        return NULL;
    }
    block->len = len;
    http2->session_bytes += len;
    esi_list_append(&http2->allocations, &block->link);
    return block + 1;
}

static void release(void *pointer, void *user)
{
    struct esi_http2 *http2 = user;

    if (pointer == NULL) {
        return;
    }
    union allocation *block = (union allocation *)pointer - 1;
    ESI_ASSERT(http2->session_bytes >= block->len);
    http2->session_bytes -= block->len;
    esi_list_remove(&block->link);
    explicit_bzero(block, sizeof *block + block->len);
    free(block);
}

static void release_all(struct esi_http2 *http2)
{
    for (struct esi_list *at = http2->allocations.next, *next; at != &http2->allocations;
         at = next) {
        next = at->next;
        release(ESI_CONTAINER_OF(at, union allocation, link) + 1, http2);
    }
    ESI_ASSERT(http2->session_bytes == 0);
}

static void *allocate_zeroed(size_t count, size_t size, void *user)
{
    size_t len;

    if (__builtin_mul_overflow(count, size, &len)) {
        return NULL;
    }
    void *pointer = allocate(len, user);
    if (pointer != NULL) {
        memset(pointer, 0, len);
    }
    return pointer;
}

static void *reallocate(void *old, size_t len, void *user)
{
    if (old == NULL) {
        return allocate(len, user);
    }
    void *pointer = allocate(len, user);
    if (pointer != NULL) {
        const size_t old_len = ((union allocation *)old - 1)->len;
        memcpy(pointer, old, old_len < len ? old_len : len);
        release(old, user);
    }
    return pointer;
}

/* ---- streams and ends ---- */

static void wipe_and_deinit(struct esi_bytes *bytes)
{
    if (bytes->data != NULL) {
        explicit_bzero(bytes->data, bytes->capacity);
    }
    esi_bytes_deinit(bytes);
}

static struct esi_http2_stream *new_stream(struct esi_http2 *http2, int32_t id)
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

static void free_stream(struct esi_http2 *http2, struct esi_http2_stream *stream)
{
    ESI_ASSERT(http2->streams_open > 0);
    ESI_ASSERT(http2->outbound_bytes >= stream->body.len - stream->body_offset);
    http2->streams_open--;
    http2->outbound_bytes -= stream->body.len - stream->body_offset;
    esi_list_remove(&stream->link);
    wipe_and_deinit(&stream->body);
    wipe_and_deinit(&stream->trailers);
    free(stream);
}

static struct esi_http2_stream *find_stream(const struct esi_http2 *http2, int32_t id)
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

/* Ends the connection for a reason; the first one counts. */
static void end_with(struct esi_http2 *http2, enum es_err error, uint32_t code)
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

/* ---- the flood counts ---- */

static void roll_window(struct esi_http2 *http2, uint64_t now_ns)
{
    http2->now_ns = now_ns;
    if (now_ns - http2->window_start_ns >= http2->limits.window_ns) {
        http2->window_start_ns = now_ns;
        http2->work_frames = 0;
        http2->idle_frames = 0;
        http2->resets = 0;
    }
}

static bool count_reset(struct esi_http2 *http2)
{
    return http2->role == HTTP2_CLIENT || ++http2->resets <= http2->limits.resets_max;
}

/* Counts one frame of the peer. Returns false when it is over a bound. */
static bool count_frame(struct esi_http2 *http2, uint8_t type, uint8_t flags, size_t len)
{
    if (type == NGHTTP2_CONTINUATION) {
        return ++http2->continuations <= http2->limits.continuations_max;
    }
    http2->continuations = 0;
    if (type == NGHTTP2_RST_STREAM) {
        return count_reset(http2);
    }
    if (type == NGHTTP2_HEADERS ||
        (type == NGHTTP2_DATA && (len > 0 || (flags & NGHTTP2_FLAG_END_STREAM) != 0))) {
        http2->work_frames++;
        return true;
    }
    http2->idle_frames++;
    return http2->idle_frames <=
           http2->limits.idle_frames_max + FRAMES_A_WORK_FRAME * http2->work_frames;
}

/* Follows the frame headers in the bytes. Returns false when a frame is over a bound. */
static bool count_frames(struct esi_http2 *http2, const uint8_t *data, size_t len)
{
    struct frame_scan *scan = &http2->scan;

    while (len > 0) {
        size_t step;
        if (scan->skip > 0) {
            step = len < scan->skip ? len : scan->skip;
            scan->skip -= step;
        } else {
            const size_t missing = FRAME_HEADER_BYTES - scan->header_len;
            step = len < missing ? len : missing;
            memcpy(scan->header + scan->header_len, data, step);
            scan->header_len += step;
            if (scan->header_len == FRAME_HEADER_BYTES) {
                const uint8_t *h = scan->header;
                scan->skip = ((size_t)h[0] << 16) | ((size_t)h[1] << 8) | h[2];
                scan->header_len = 0;
                if (!count_frame(http2, h[3], h[4], scan->skip)) {
                    return false;
                }
            }
        }
        data += step;
        len -= step;
    }
    return true;
}

/* ---- callbacks of the library ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct esi_http2 *http2 = user;
    const int32_t id = frame->hd.stream_id;

    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    struct esi_http2_stream *stream = find_stream(http2, id);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        ESI_ASSERT(stream == NULL);
        if (http2->outbound_bytes > http2->limits.outbound_bytes_max) {
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, HTTP2_REFUSED_STREAM);
        }
        stream = new_stream(http2, id);
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
    struct esi_http2_stream *stream = find_stream(http2, frame->hd.stream_id);
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
    struct esi_http2_stream *stream = find_stream(http2, id);
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
    struct esi_http2_stream *stream = find_stream(http2, frame->hd.stream_id);

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
    struct esi_http2_stream *stream = find_stream(http2, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != HTTP2_NO_ERROR &&
        !http2->is_ended) {
        /* The library found the peer breaking the protocol, and skips what comes from here on. */
        http2->is_ended = true;
        http2->is_draining = true;
        http2->error = ES_INVALID;
    }
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != HTTP2_NO_ERROR &&
        (stream == NULL || !stream->is_ours_to_reset) && !count_reset(http2)) {
        /* A peer can also make us reset its streams, as fast as it could itself. */
        end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
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
    struct esi_http2_stream *stream = find_stream(http2, id);

    if (stream == NULL) {
        return 0;
    }
    nghttp2_session_set_stream_user_data(session, id, NULL);
    if (stream->call != NULL) {
        http2->callbacks->on_close(http2->owner, ESI_MOVE(stream->call), code);
    }
    free_stream(http2, stream);
    return 0;
}

/* Queues the trailers that respond left with the stream. */
static int submit_trailers(nghttp2_session *session, const struct esi_http2_stream *stream)
{
    nghttp2_nv headers[HEADERS_MAX];
    size_t count = 0;
    char *at = stream->trailers.data;
    const char *end = at + stream->trailers.len;

    while (at < end && count < HEADERS_MAX) {
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

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *room, size_t room_len,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
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
    nghttp2_mem mem = {.mem_user_data = http2,
                       .malloc = allocate,
                       .free = release,
                       .calloc = allocate_zeroed,
                       .realloc = reallocate};
    int error = nghttp2_session_callbacks_new(&callbacks);

    if (error != 0 || (error = nghttp2_option_new(&option)) != 0) {
        goto done;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
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
    http2->scan.skip = role == HTTP2_SERVER ? PREFACE_BYTES : 0;
    esi_list_init(&http2->allocations);
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
    release_all(http2);
    for (struct esi_list *at = http2->streams.next, *next; at != &http2->streams; at = next) {
        next = at->next;
        free_stream(http2, ESI_CONTAINER_OF(at, struct esi_http2_stream, link));
    }
    wipe_and_deinit(&http2->output);
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
    if (!count_frames(http2, data, len)) {
        end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
        return;
    }
    const ssize_t taken = nghttp2_session_mem_recv(http2->session, data, len);
    if (taken < 0) {
        const bool is_over_bound =
            taken == NGHTTP2_ERR_CALLBACK_FAILURE || taken == NGHTTP2_ERR_FLOODED;
        end_with(http2, is_over_bound ? ES_FULL : map_error((int)taken),
                 is_over_bound ? HTTP2_ENHANCE_YOUR_CALM : HTTP2_PROTOCOL_ERROR);
    }
    make_output(http2);
    if (is_usable(http2) && (nghttp2_session_get_outbound_queue_size(http2->session) >
                                 http2->limits.outbound_items_max ||
                             http2->session_bytes > http2->limits.session_bytes_max)) {
        end_with(http2, ES_FULL, HTTP2_ENHANCE_YOUR_CALM);
    }
}

enum es_err esi_http2_feed(struct esi_http2 *http2, const void *data, size_t len, uint64_t now_ns)
{
    const uint8_t *at = data;

    ESI_REQUIRE(http2->magic == MAGIC);
    if (http2->is_ended) {
        return ES_CLOSED;
    }
    roll_window(http2, now_ns);
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
}

enum es_err esi_http2_request(struct esi_http2 *http2, const struct esi_http2_header *headers,
                              size_t count, struct esi_bytes *body, void *call,
                              struct esi_http2_stream **out)
{
    nghttp2_nv nv[HEADERS_MAX];
    struct esi_http2_stream *stream = NULL;
    enum es_err error = ES_CLOSED;

    ESI_REQUIRE(http2->magic == MAGIC && http2->role == HTTP2_CLIENT);
    ESI_REQUIRE(count <= HEADERS_MAX && call != NULL);
    if (http2->is_draining || !is_usable(http2)) {
        goto fail;
    }
    error = ES_NO_MEMORY;
    stream = new_stream(http2, 0);
    if (stream == NULL) {
        goto fail;
    }
    take_body(http2, stream, body);
    fill_headers(nv, headers, count);
    const nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_body};
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
        free_stream(http2, stream);
    }
    wipe_and_deinit(body);
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
    nghttp2_nv nv[HEADERS_MAX];

    ESI_REQUIRE(http2->magic == MAGIC && http2->role == HTTP2_SERVER);
    ESI_REQUIRE(!stream->is_answered);
    ESI_REQUIRE(response->header_count <= HEADERS_MAX && response->trailer_count <= HEADERS_MAX);
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
    const nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = read_body};
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
        end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
    }
}

void esi_http2_consume(struct esi_http2 *http2, struct esi_http2_stream *stream, size_t count)
{
    ESI_REQUIRE(http2->magic == MAGIC);
    if (!http2->is_ended && !stream->has_received_end && is_usable(http2) &&
        nghttp2_session_consume_stream(http2->session, stream->id, count) != 0) {
        end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
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
        end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
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
        end_with(http2, ES_NO_MEMORY, HTTP2_INTERNAL_ERROR);
    }
}

void esi_http2_end(struct esi_http2 *http2, uint32_t code)
{
    ESI_REQUIRE(http2->magic == MAGIC);
    end_with(http2, ES_CLOSED, code);
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

size_t esi_http2_session_bytes(const struct esi_http2 *http2)
{
    return http2->session_bytes;
}
