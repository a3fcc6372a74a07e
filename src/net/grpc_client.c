/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calling side of gRPC; see grpc_client.h.
 *
 * A call is in one list: timed (ordered by deadline), untimed, done (has a result, not polled), or
 * it is the polled one, whose strings the owner may still read. It is parted from its stream when
 * it gets its result, so what comes later on the stream reaches nobody.
 */
#include "net/grpc_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/ledger.h"
#include "base/list.h"
#include "base/num.h"
#include "base/own.h"
#include "net/grpc_internal.h"
#include "net/http2.h"

enum {
    MAGIC = 0x47525043,
    METADATA_MAX = 16,
    METADATA_BYTES_MAX = 8 * 1024,
    AUTHORITY_MAX = 255,
    HEADERS_FIXED_MAX = 9,
    SESSION_BYTES_A_CALL = 2048
};

struct call {
    struct esi_list link;
    uint32_t id;
    void *tag;
    struct esi_http2_stream *stream; /* borrowed; NULL once the call has its result */
    uint64_t deadline_ns;            /* UINT64_MAX = none */
    struct esi_grpc_reader reader;
    unsigned http_status;
    bool has_headers;      /* the final headers came */
    bool has_content_type; /* and it is that of gRPC */
    bool has_status;
    bool is_done;
    bool is_from_peer;
    bool is_unstarted;
    enum esi_grpc_status status;
    size_t text_len;
    char text[GRPC_STATUS_TEXT_MAX];
};

struct esi_grpc_client {
    uint32_t magic;
    struct esi_grpc_client_options options;
    struct esi_http2 *http2; /* owned */
    struct esi_grpc_pool pool;
    struct esi_grpc_slots slots; /* every call that is not freed */
    struct esi_list timed;
    struct esi_list untimed;
    struct esi_list done;
    struct call *polled; /* owned */
    uint32_t in_flight;
    bool is_lost;
};

static struct call *call_of(struct esi_list *link)
{
    return ESI_CONTAINER_OF(link, struct call, link);
}

/* ---- results ---- */

static void free_call(struct esi_grpc_client *client, struct call *call)
{
    esi_list_remove(&call->link);
    esi_grpc_reader_deinit(&call->reader, &client->pool);
    esi_grpc_slots_remove(&client->slots, call->id);
    explicit_bzero(call->text, sizeof call->text);
    free(call);
}

static void free_polled(struct esi_grpc_client *client)
{
    if (client->polled != NULL) {
        free_call(client, ESI_MOVE(client->polled));
    }
}

/* Gives the call its result. The text in the call is kept. */
static void finish(struct esi_grpc_client *client, struct call *call, enum esi_grpc_status status)
{
    ESI_ASSERT(!call->is_done && client->in_flight > 0);
    call->is_done = true;
    call->status = status;
    client->in_flight--;
    call->reader.stream = NULL;
    if (call->stream != NULL) {
        esi_http2_reset(client->http2, ESI_MOVE(call->stream), HTTP2_CANCEL);
    }
    if (status != GRPC_OK) {
        esi_grpc_reader_deinit(&call->reader, &client->pool);
    }
    esi_list_remove(&call->link);
    esi_list_append(&client->done, &call->link);
}

/* The same with a sentence of ours, for what does not come from the worker. */
static void finish_with(struct esi_grpc_client *client, struct call *call,
                        enum esi_grpc_status status, const char *why)
{
    call->text_len = esi_grpc_decode_text(esi_str_from(why), call->text);
    call->is_from_peer = false;
    finish(client, call, status);
}

static void finish_all(struct esi_grpc_client *client, enum esi_grpc_status status, const char *why)
{
    struct esi_list *const lists[] = {&client->timed, &client->untimed};

    for (size_t i = 0; i < ESI_COUNT_OF(lists); i++) {
        while (!esi_list_is_empty(lists[i])) {
            struct call *call = call_of(lists[i]->next);
            call->is_unstarted = !esi_http2_is_started(call->stream);
            finish_with(client, call, status, why);
        }
    }
    ESI_ASSERT(client->in_flight == 0);
}

/* After anything that can end the connection: whatever was in flight then has no hope. */
static void check_end(struct esi_grpc_client *client)
{
    if (client->in_flight == 0 || !esi_http2_is_ended(client->http2)) {
        return;
    }
    const enum es_err error = esi_http2_error(client->http2);
    if (error == ES_INVALID || error == ES_FULL) {
        finish_all(client, GRPC_INTERNAL, "the peer broke the HTTP/2 protocol");
    } else {
        finish_all(client, GRPC_UNAVAILABLE, "the connection has ended");
    }
}

static void finish_by_http_status(struct esi_grpc_client *client, struct call *call)
{
    enum esi_grpc_status status = GRPC_UNKNOWN;
    char why[64];

    switch (call->http_status) {
    case 400:
        status = GRPC_INTERNAL;
        break;
    case 401:
        status = GRPC_UNAUTHENTICATED;
        break;
    case 403:
        status = GRPC_PERMISSION_DENIED;
        break;
    case 404:
        status = GRPC_UNIMPLEMENTED;
        break;
    case 429:
    case 502:
    case 503:
    case 504:
        status = GRPC_UNAVAILABLE;
        break;
    default:
        break;
    }
    snprintf(why, sizeof why, "HTTP status %u instead of a gRPC answer", call->http_status);
    finish_with(client, call, status, why);
}

/* The peer has finished its side with headers or trailers. */
static void conclude(struct esi_grpc_client *client, struct call *call)
{
    if (!call->has_status) {
        finish_with(client, call, GRPC_UNKNOWN, "the answer has no gRPC status");
    } else if (call->status != GRPC_OK) {
        call->is_from_peer = true;
        finish(client, call, call->status);
    } else if (esi_grpc_reader_is_complete(&call->reader)) {
        call->is_from_peer = true;
        finish(client, call, GRPC_OK);
    } else {
        finish_with(client, call, GRPC_INTERNAL,
                    esi_grpc_reader_is_empty(&call->reader) ? "the answer has no message"
                                                            : "the answer's message is cut off");
    }
}

/* ---- callbacks of HTTP/2 ---- */

static void on_header(void *owner, void *user, struct esi_str name, struct esi_str value)
{
    struct call *call = user;
    uint64_t number;
    (void)owner;

    if (esi_str_equal(name, ESI_STR(":status"))) {
        call->http_status = esi_num_parse(value.data, value.len, 3, &number) ? (unsigned)number : 0;
    } else if (esi_str_equal(name, ESI_STR("content-type"))) {
        call->has_content_type = esi_grpc_is_content_type(value);
    } else if (esi_str_equal(name, ESI_STR("grpc-status"))) {
        call->has_status = true;
        call->status = esi_grpc_parse_status(value);
    } else if (esi_str_equal(name, ESI_STR("grpc-message"))) {
        call->text_len = esi_grpc_decode_text(value, call->text);
    }
}

static void on_headers_end(void *owner, void *user, bool is_end)
{
    struct esi_grpc_client *client = owner;
    struct call *call = user;

    if (!call->has_headers) {
        if (call->http_status >= 100 && call->http_status < 200 && !is_end) {
            call->has_content_type = false;
            call->has_status = false;
            return;
        }
        call->has_headers = true;
        if (call->http_status != 200 && !(is_end && call->has_status)) {
            finish_by_http_status(client, call);
            return;
        }
        if (!call->has_content_type) {
            finish_with(client, call, GRPC_UNKNOWN, "the answer is not gRPC");
            return;
        }
    }
    if (is_end) {
        conclude(client, call);
    } else {
        /* A status counts only where the peer is finished. */
        call->has_status = false;
        call->text_len = 0;
    }
}

static void on_data(void *owner, void *user, struct esi_str data)
{
    struct esi_grpc_client *client = owner;
    struct call *call = user;
    const char *why = NULL;
    const enum esi_grpc_status status = esi_grpc_reader_feed(
        &call->reader, &client->pool, data, client->options.response_bytes_max, &why);

    if (status != GRPC_OK) {
        finish_with(client, call, status, why);
    }
}

static void on_end(void *owner, void *user)
{
    finish_with(owner, user, GRPC_UNKNOWN, "the answer ended without a gRPC status");
}

static void on_close(void *owner, void *user, uint32_t code)
{
    struct esi_grpc_client *client = owner;
    struct call *call = user;
    char why[64];

    call->stream = NULL;
    call->reader.stream = NULL;
    snprintf(why, sizeof why, "the peer reset the call, HTTP/2 code %u", code);
    switch (code) {
    case HTTP2_REFUSED_STREAM:
        call->is_unstarted = true;
        finish_with(client, call, GRPC_UNAVAILABLE, "the peer took no more calls");
        break;
    case HTTP2_CANCEL:
        finish_with(client, call, GRPC_CANCELLED, why);
        break;
    case HTTP2_ENHANCE_YOUR_CALM:
        finish_with(client, call, GRPC_RESOURCE_EXHAUSTED, why);
        break;
    case HTTP2_INADEQUATE_SECURITY:
        finish_with(client, call, GRPC_PERMISSION_DENIED, why);
        break;
    default:
        finish_with(client, call, GRPC_INTERNAL, why);
        break;
    }
}

static const struct esi_http2_callbacks CALLBACKS = {
    .on_header = on_header,
    .on_headers_end = on_headers_end,
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

/* ---- making and ending a client ---- */

static void set_defaults(struct esi_grpc_client_options *options)
{
    enum { MIB = 1 << 20 };

    options->in_flight_max = options->in_flight_max == 0 ? 1000 : options->in_flight_max;
    if (options->in_flight_max > GRPC_CALLS_MAX) {
        options->in_flight_max = GRPC_CALLS_MAX;
    }
    if (options->response_bytes_max == 0) {
        options->response_bytes_max = 4 * MIB;
    }
    if (options->inbound_bytes_max == 0) {
        options->inbound_bytes_max = 8 * MIB;
    }
    if (options->inbound_bytes_max < options->response_bytes_max) {
        options->inbound_bytes_max = options->response_bytes_max;
    }
    if (options->outbound_bytes_max == 0) {
        options->outbound_bytes_max = 16 * MIB;
    }
}

enum es_err esi_grpc_client_new(const struct esi_grpc_client_options *options,
                                struct esi_grpc_client **out)
{
    struct esi_http2_limits limits;
    struct esi_grpc_client *client = calloc(1, sizeof *client);

    if (client == NULL) {
        return ES_NO_MEMORY;
    }
    if (options != NULL) {
        client->options = *options;
    }
    set_defaults(&client->options);
    esi_list_init(&client->timed);
    esi_list_init(&client->untimed);
    esi_list_init(&client->done);
    esi_http2_limits_init(&limits);
    limits.stream_window_bytes = GRPC_STREAM_WINDOW_BYTES;
    limits.session_bytes_max += (size_t)client->options.in_flight_max * SESSION_BYTES_A_CALL;
    limits.outbound_items_max += client->options.in_flight_max;
    if (esi_grpc_slots_init(&client->slots, client->options.in_flight_max) != ES_OK ||
        esi_http2_new(HTTP2_CLIENT, &limits, &CALLBACKS, client, &client->http2) != ES_OK) {
        esi_grpc_client_free(client);
        return ES_NO_MEMORY;
    }
    esi_grpc_pool_init(&client->pool, client->http2, client->options.inbound_bytes_max);
    client->magic = MAGIC;
    *out = client;
    return ES_OK;
}

void esi_grpc_client_free(struct esi_grpc_client *client)
{
    if (client == NULL) {
        return;
    }
    client->magic = 0;
    if (client->http2 != NULL) {
        esi_http2_end(client->http2, HTTP2_NO_ERROR);
        finish_all(client, GRPC_CANCELLED, "");
    }
    free_polled(client);
    while (!esi_list_is_empty(&client->done)) {
        free_call(client, call_of(client->done.next));
    }
    esi_http2_free(client->http2);
    esi_grpc_slots_deinit(&client->slots);
    free(client);
}

/* ---- bytes ---- */

enum es_err esi_grpc_client_feed(struct esi_grpc_client *client, const void *data, size_t len,
                                 uint64_t now_ns)
{
    ESI_REQUIRE(client->magic == MAGIC);
    free_polled(client);
    if (client->is_lost) {
        return ES_CLOSED;
    }
    const enum es_err error = esi_http2_feed(client->http2, data, len, now_ns);
    check_end(client);
    return error;
}

void esi_grpc_client_lost(struct esi_grpc_client *client)
{
    ESI_REQUIRE(client->magic == MAGIC);
    client->is_lost = true;
    esi_http2_end(client->http2, HTTP2_NO_ERROR);
    finish_all(client, GRPC_UNAVAILABLE, "the connection was lost");
}

size_t esi_grpc_client_take_output(struct esi_grpc_client *client, struct esi_bytes *out,
                                   size_t max)
{
    ESI_REQUIRE(client->magic == MAGIC);
    if (client->is_lost) {
        return 0;
    }
    const size_t count = esi_http2_take_output(client->http2, out, max);
    check_end(client);
    return count;
}

/* ---- calls ---- */

static bool is_visible(struct esi_str text, size_t len_max)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= 0x20 || text.data[i] >= 0x7f) {
            return false;
        }
    }
    return text.len > 0 && text.len <= len_max;
}

static bool is_metadata_valid(const struct esi_grpc_metadata *metadata)
{
    const struct esi_str name = metadata->name;

    for (size_t i = 0; i < name.len; i++) {
        const char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '.')) {
            return false;
        }
    }
    for (size_t i = 0; i < metadata->value.len; i++) {
        if (metadata->value.data[i] < 0x20 || metadata->value.data[i] >= 0x7f) {
            return false;
        }
    }
    return name.len > 0 && !esi_str_starts_with(name, ESI_STR("grpc-")) &&
           !esi_str_equal(name, ESI_STR("te")) && !esi_str_equal(name, ESI_STR("content-type"));
}

static bool is_call_valid(const struct esi_grpc_call *call)
{
    size_t metadata_bytes = 0;

    if (!is_visible(call->path, GRPC_PATH_MAX) || call->path.data[0] != '/' ||
        !is_visible(call->authority, AUTHORITY_MAX) || call->metadata_count > METADATA_MAX) {
        return false;
    }
    for (size_t i = 0; i < call->metadata_count; i++) {
        if (!is_metadata_valid(&call->metadata[i])) {
            return false;
        }
        metadata_bytes += call->metadata[i].name.len + call->metadata[i].value.len;
    }
    return metadata_bytes <= METADATA_BYTES_MAX && call->message.len <= UINT32_MAX;
}

static void set_header(struct esi_http2_header *headers, size_t *count, const char *name,
                       struct esi_str value)
{
    headers[(*count)++] = (struct esi_http2_header){.name = esi_str_from(name), .value = value};
}

static enum es_err open_stream(struct esi_grpc_client *client, const struct esi_grpc_call *spec,
                               struct call *call)
{
    struct esi_http2_header headers[HEADERS_FIXED_MAX + METADATA_MAX];
    size_t count = 0;
    char timeout[16];
    struct esi_bytes body;

    set_header(headers, &count, ":method", ESI_STR("POST"));
    set_header(headers, &count, ":scheme",
               client->options.is_tls ? ESI_STR("https") : ESI_STR("http"));
    set_header(headers, &count, ":path", spec->path);
    set_header(headers, &count, ":authority", spec->authority);
    set_header(headers, &count, "te", ESI_STR("trailers"));
    set_header(headers, &count, "content-type", ESI_STR("application/grpc"));
    set_header(headers, &count, "user-agent", ESI_STR("event-service"));
    if (spec->timeout_ns != 0) {
        esi_grpc_format_timeout(spec->timeout_ns, timeout);
        set_header(headers, &count, "grpc-timeout", esi_str_from(timeout));
    }
    for (size_t i = 0; i < spec->metadata_count; i++) {
        headers[count++] = (struct esi_http2_header){.name = spec->metadata[i].name,
                                                     .value = spec->metadata[i].value,
                                                     .is_secret = spec->metadata[i].is_secret};
    }
    esi_bytes_init(&body, 0);
    esi_grpc_append_message(&body, spec->message);
    if (body.failed) {
        esi_bytes_deinit(&body);
        return ES_NO_MEMORY;
    }
    return esi_http2_request(client->http2, headers, count, &body, call, &call->stream);
}

/* Deadlines mostly come in order, so the place is found from the end. */
static void insert_by_deadline(struct esi_grpc_client *client, struct call *call)
{
    struct esi_list *after = client->timed.prev;

    if (call->deadline_ns == UINT64_MAX) {
        esi_list_append(&client->untimed, &call->link);
        return;
    }
    while (after != &client->timed && call_of(after)->deadline_ns > call->deadline_ns) {
        after = after->prev;
    }
    esi_list_append(after->next, &call->link);
}

enum es_err esi_grpc_client_call(struct esi_grpc_client *client, const struct esi_grpc_call *spec,
                                 uint64_t now_ns, uint32_t *call_id)
{
    ESI_REQUIRE(client->magic == MAGIC);
    if (!is_call_valid(spec)) {
        return ES_INVALID;
    }
    if (esi_grpc_client_is_draining(client)) {
        return ES_CLOSED;
    }
    const size_t outbound = esi_http2_outbound_bytes(client->http2);
    if (esi_grpc_client_capacity(client) == 0 || outbound > client->options.outbound_bytes_max ||
        spec->message.len > client->options.outbound_bytes_max - outbound) {
        return ES_FULL;
    }
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return ES_NO_MEMORY;
    }
    enum es_err error = esi_grpc_slots_add(&client->slots, call, &call->id);
    ESI_ASSERT(error == ES_OK);
    error = open_stream(client, spec, call);
    if (error != ES_OK) {
        esi_grpc_slots_remove(&client->slots, call->id);
        free(call);
        return error;
    }
    call->tag = spec->tag;
    if (spec->timeout_ns == 0 ||
        __builtin_add_overflow(now_ns, spec->timeout_ns, &call->deadline_ns)) {
        call->deadline_ns = UINT64_MAX;
    }
    esi_grpc_reader_init(&call->reader, call->stream);
    insert_by_deadline(client, call);
    client->in_flight++;
    *call_id = call->id;
    return ES_OK;
}

bool esi_grpc_client_next(struct esi_grpc_client *client, struct esi_grpc_result *out)
{
    ESI_REQUIRE(client->magic == MAGIC);
    free_polled(client);
    if (esi_list_is_empty(&client->done)) {
        return false;
    }
    struct call *call = call_of(client->done.next);
    esi_list_remove(&call->link);
    client->polled = call;
    *out = (struct esi_grpc_result){
        .call_id = call->id,
        .tag = call->tag,
        .status = call->status,
        .is_from_peer = call->is_from_peer,
        .is_unstarted = call->is_unstarted,
        .status_text = {.data = call->text, .len = call->text_len},
        .message = {.data = call->reader.message, .len = call->reader.received_len},
    };
    return true;
}

void esi_grpc_client_tick(struct esi_grpc_client *client, uint64_t now_ns)
{
    ESI_REQUIRE(client->magic == MAGIC);
    while (!esi_list_is_empty(&client->timed)) {
        struct call *call = call_of(client->timed.next);
        if (call->deadline_ns > now_ns) {
            return;
        }
        call->is_unstarted = !esi_http2_is_started(call->stream);
        finish_with(client, call, GRPC_DEADLINE_EXCEEDED, "no answer in time");
    }
}

uint64_t esi_grpc_client_deadline(const struct esi_grpc_client *client)
{
    return esi_list_is_empty(&client->timed) ? UINT64_MAX
                                             : call_of(client->timed.next)->deadline_ns;
}

uint32_t esi_grpc_client_in_flight(const struct esi_grpc_client *client)
{
    return client->in_flight;
}

uint32_t esi_grpc_client_capacity(const struct esi_grpc_client *client)
{
    if (esi_grpc_client_is_draining(client)) {
        return 0;
    }
    const uint32_t open = esi_http2_streams_open(client->http2);
    const uint32_t peer_max = esi_http2_peer_streams_max(client->http2);
    const uint32_t peer_room = peer_max > open ? peer_max - open : 0;
    return client->slots.free_count < peer_room ? client->slots.free_count : peer_room;
}

/* ---- keep-alive and the end ---- */

size_t esi_grpc_client_memory_bytes(const struct esi_grpc_client *client)
{
    const struct esi_grpc_slots *slots = &client->slots;

    return esi_ledger_heap_bytes(sizeof *client) + esi_http2_memory_bytes(client->http2) +
           client->pool.bytes_held + esi_grpc_slots_memory_bytes(slots) +
           (slots->count - slots->free_count) * esi_ledger_heap_bytes(sizeof(struct call));
}

void esi_grpc_client_shutdown(struct esi_grpc_client *client)
{
    ESI_REQUIRE(client->magic == MAGIC);
    esi_http2_shutdown(client->http2);
}

bool esi_grpc_client_is_draining(const struct esi_grpc_client *client)
{
    return client->is_lost || esi_http2_is_draining(client->http2);
}

bool esi_grpc_client_is_done(const struct esi_grpc_client *client)
{
    return client->is_lost || esi_http2_is_done(client->http2);
}
