/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serving side of gRPC; see grpc_server.h. A call is in the list of its state:
 *
 *   state      | stream ends | request completes | owner polls | owner answers | time is up
 *   RECEIVING  | gone        | READY             | -           | -             | reset, gone
 *   READY      | gone        | -                 | POLLED      | -             | -
 *   POLLED     | CANCELLED   | -                 | -           | ANSWERING     | -
 *   ANSWERING  | gone        | -                 | -           | not found     | reset, gone
 *   CANCELLED  | -           | -                 | gone        | not found     | -
 *
 * What is wrong with a request is answered here, from RECEIVING to ANSWERING, and never reaches the
 * owner.
 */
#include "net/grpc_server.h"

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

enum { MAGIC = 0x47525053, STREAMS_MAX = 32768 };

enum call_state {
    CALL_RECEIVING,
    CALL_READY,
    CALL_POLLED,
    CALL_ANSWERING,
    CALL_CANCELLED,
    CALL_STATE_COUNT
};

struct call {
    struct esi_list link; /* in the list of its state */
    enum call_state state;
    uint32_t id;
    struct esi_http2_stream *stream; /* borrowed; NULL when it is gone */
    struct esi_grpc_reader reader;
    /* RECEIVING, ANSWERING: when it takes too long; 0 = to be set at the next tick. */
    uint64_t timer_ns;
    uint64_t deadline_ns; /* the client's; UINT64_MAX = none */
    bool is_told;         /* CANCELLED: the owner has polled it */
    bool has_headers;
    bool is_post;
    bool is_grpc;
    bool is_timeout_malformed;
    bool is_path_malformed;
    size_t path_len;
    char path[GRPC_PATH_MAX];
};

struct esi_grpc_server {
    uint32_t magic;
    struct esi_grpc_server_options options;
    struct esi_http2 *http2; /* owned */
    struct esi_grpc_pool pool;
    struct esi_grpc_slots slots;
    struct esi_list calls[CALL_STATE_COUNT];
    struct call *polled; /* borrowed: its message is freed at the next poll or feed */
    uint64_t now_ns;     /* the last time told */
    uint64_t preface_deadline_ns;
    bool has_begun; /* complete headers came */
};

static struct call *call_of(struct esi_list *link)
{
    return ESI_CONTAINER_OF(link, struct call, link);
}

static uint64_t add_time(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* ---- the life of a call ---- */

static void set_state(struct esi_grpc_server *server, struct call *call, enum call_state state)
{
    call->state = state;
    esi_list_remove(&call->link);
    esi_list_append(&server->calls[state], &call->link);
}

static void free_call(struct esi_grpc_server *server, struct call *call)
{
    if (server->polled == call) {
        server->polled = NULL;
    }
    esi_list_remove(&call->link);
    call->reader.stream = NULL;
    if (call->stream != NULL) {
        esi_http2_reset(server->http2, ESI_MOVE(call->stream), HTTP2_CANCEL);
    }
    esi_grpc_reader_deinit(&call->reader, &server->pool);
    esi_grpc_slots_remove(&server->slots, call->id);
    free(call);
}

/* The strings of the last event are not needed any more. */
static void release_polled(struct esi_grpc_server *server)
{
    struct call *call = ESI_MOVE(server->polled);

    if (call == NULL) {
        return;
    }
    if (call->is_told) {
        free_call(server, call);
    } else {
        esi_grpc_reader_deinit(&call->reader, &server->pool);
    }
}

/* The stream is gone, or the connection: only a call that the owner knows of is told. */
static void end_call(struct esi_grpc_server *server, struct call *call)
{
    call->reader.stream = NULL;
    if (call->state == CALL_POLLED) {
        if (call->stream != NULL) {
            esi_http2_reset(server->http2, ESI_MOVE(call->stream), HTTP2_CANCEL);
        }
        set_state(server, call, CALL_CANCELLED);
    } else if (call->state != CALL_CANCELLED) {
        free_call(server, call);
    }
}

static void end_all_calls(struct esi_grpc_server *server)
{
    static const enum call_state STATES[] = {CALL_RECEIVING, CALL_READY, CALL_POLLED,
                                             CALL_ANSWERING};

    for (size_t i = 0; i < ESI_COUNT_OF(STATES); i++) {
        struct esi_list *list = &server->calls[STATES[i]];
        while (!esi_list_is_empty(list)) {
            end_call(server, call_of(list->next));
        }
    }
}

/* ---- answers ---- */

static enum es_err send_answer(struct esi_grpc_server *server, struct call *call,
                               const struct esi_http2_response *response)
{
    ESI_ASSERT(call->stream != NULL);
    const enum es_err error = esi_http2_respond(server->http2, call->stream, response);

    call->timer_ns = 0;
    set_state(server, call, CALL_ANSWERING);
    if (call != server->polled) {
        esi_grpc_reader_deinit(&call->reader, &server->pool);
    }
    if (error != ES_OK) {
        free_call(server, call);
    }
    return error;
}

static enum es_err answer(struct esi_grpc_server *server, struct call *call,
                          enum esi_grpc_status status, struct esi_str text, struct esi_str message)
{
    char status_digits[20];
    char encoded[3 * GRPC_STATUS_TEXT_MAX + 1];
    struct esi_http2_header headers[4] = {
        {.name = ESI_STR(":status"), .value = ESI_STR("200")},
        {.name = ESI_STR("content-type"), .value = ESI_STR("application/grpc")},
    };
    struct esi_http2_header *trailers = headers + 2;
    size_t trailer_count = 1;
    struct esi_bytes body;

    trailers[0].name = ESI_STR("grpc-status");
    trailers[0].value.data = status_digits;
    trailers[0].value.len = esi_num_format((uint64_t)status, status_digits);
    if (text.len > 0) {
        esi_grpc_encode_text(text, encoded);
        trailers[1].name = ESI_STR("grpc-message");
        trailers[1].value = esi_str_from(encoded);
        trailer_count = 2;
    }
    if (status != GRPC_OK) {
        /* Without a message all goes into one block. */
        return send_answer(
            server, call,
            &(struct esi_http2_response){.headers = headers, .header_count = 2 + trailer_count});
    }
    esi_bytes_init(&body, 0);
    esi_grpc_append_message(&body, message);
    if (body.failed) {
        esi_bytes_deinit(&body);
        free_call(server, call);
        return ES_NO_MEMORY;
    }
    return send_answer(server, call,
                       &(struct esi_http2_response){.headers = headers,
                                                    .header_count = 2,
                                                    .body = &body,
                                                    .trailers = trailers,
                                                    .trailer_count = trailer_count});
}

static void refuse(struct esi_grpc_server *server, struct call *call, enum esi_grpc_status status,
                   const char *why)
{
    /* What fails here has ended the call already. */
    (void)!answer(server, call, status, esi_str_from(why), (struct esi_str){.len = 0});
}

static void refuse_http(struct esi_grpc_server *server, struct call *call, struct esi_str status)
{
    const struct esi_http2_header header = {.name = ESI_STR(":status"), .value = status};

    (void)!send_answer(server, call,
                       &(struct esi_http2_response){.headers = &header, .header_count = 1});
}

/* ---- callbacks of HTTP/2 ---- */

static void *on_request(void *owner, struct esi_http2_stream *stream)
{
    struct esi_grpc_server *server = owner;
    struct call *call = calloc(1, sizeof *call);

    if (call == NULL) {
        return NULL;
    }
    if (esi_grpc_slots_add(&server->slots, call, &call->id) != ES_OK) {
        free(call);
        return NULL;
    }
    call->stream = stream;
    call->deadline_ns = UINT64_MAX;
    call->timer_ns = add_time(server->now_ns, server->options.request_timeout_ns);
    esi_grpc_reader_init(&call->reader, stream);
    esi_list_init(&call->link);
    set_state(server, call, CALL_RECEIVING);
    return call;
}

static void keep_path(struct call *call, struct esi_str value)
{
    call->is_path_malformed =
        value.len == 0 || value.len > sizeof call->path || value.data[0] != '/';
    for (size_t i = 0; i < value.len && !call->is_path_malformed; i++) {
        call->is_path_malformed = value.data[i] <= 0x20 || value.data[i] >= 0x7f;
    }
    if (!call->is_path_malformed) {
        memcpy(call->path, value.data, value.len);
        call->path_len = value.len;
    }
}

static void on_header(void *owner, void *user, struct esi_str name, struct esi_str value)
{
    struct esi_grpc_server *server = owner;
    struct call *call = user;
    uint64_t timeout_ns;

    if (call->has_headers) {
        return; /* trailers of a request mean nothing in gRPC */
    }
    if (esi_str_equal(name, ESI_STR(":method"))) {
        call->is_post = esi_str_equal(value, ESI_STR("POST"));
    } else if (esi_str_equal(name, ESI_STR(":path"))) {
        keep_path(call, value);
    } else if (esi_str_equal(name, ESI_STR("content-type"))) {
        call->is_grpc = esi_grpc_is_content_type(value);
    } else if (esi_str_equal(name, ESI_STR("grpc-timeout"))) {
        if (esi_grpc_parse_timeout(value, &timeout_ns)) {
            call->deadline_ns = add_time(server->now_ns, timeout_ns);
        } else {
            call->is_timeout_malformed = true;
        }
    }
}

static void on_request_end(struct esi_grpc_server *server, struct call *call)
{
    if (call->state != CALL_RECEIVING) {
        return;
    }
    if (esi_grpc_reader_is_complete(&call->reader)) {
        set_state(server, call, CALL_READY);
    } else {
        refuse(server, call, GRPC_INTERNAL,
               esi_grpc_reader_is_empty(&call->reader) ? "the request has no message"
                                                       : "the request's message is cut off");
    }
}

static void on_headers_end(void *owner, void *user, bool is_end)
{
    struct esi_grpc_server *server = owner;
    struct call *call = user;

    if (!call->has_headers) {
        call->has_headers = true;
        server->has_begun = true;
        if (!call->is_post) {
            refuse_http(server, call, ESI_STR("405"));
            return;
        }
        if (!call->is_grpc) {
            refuse_http(server, call, ESI_STR("415"));
            return;
        }
        if (call->is_path_malformed) {
            refuse(server, call, GRPC_UNIMPLEMENTED, "malformed method name");
            return;
        }
        if (call->is_timeout_malformed) {
            refuse(server, call, GRPC_INTERNAL, "malformed grpc-timeout");
            return;
        }
    }
    if (is_end) {
        on_request_end(server, call);
    }
}

static void on_data(void *owner, void *user, struct esi_str data)
{
    struct esi_grpc_server *server = owner;
    struct call *call = user;
    const char *why = NULL;

    if (call->state != CALL_RECEIVING) {
        return;
    }
    const enum esi_grpc_status status = esi_grpc_reader_feed(
        &call->reader, &server->pool, data, server->options.request_bytes_max, &why);
    if (status != GRPC_OK) {
        refuse(server, call, status, why);
    }
}

static void on_end(void *owner, void *user)
{
    on_request_end(owner, user);
}

static void on_close(void *owner, void *user, uint32_t code)
{
    struct call *call = user;
    (void)code;

    call->stream = NULL;
    end_call(owner, call);
}

static const struct esi_http2_callbacks CALLBACKS = {
    .on_request = on_request,
    .on_header = on_header,
    .on_headers_end = on_headers_end,
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

/* ---- making and ending a server ---- */

static void set_defaults(struct esi_grpc_server_options *options)
{
    enum { MIB = 1 << 20 };
    const uint64_t second_ns = 1000ULL * 1000 * 1000;

    options->streams_max = options->streams_max == 0 ? 128 : options->streams_max;
    if (options->streams_max > STREAMS_MAX) {
        options->streams_max = STREAMS_MAX;
    }
    if (options->request_bytes_max == 0) {
        options->request_bytes_max = 4 * MIB;
    }
    if (options->inbound_bytes_max == 0) {
        options->inbound_bytes_max = 8 * MIB;
    }
    if (options->inbound_bytes_max < options->request_bytes_max) {
        options->inbound_bytes_max = options->request_bytes_max;
    }
    if (options->outbound_bytes_max == 0) {
        options->outbound_bytes_max = 4 * MIB;
    }
    if (options->request_timeout_ns == 0) {
        options->request_timeout_ns = 30 * second_ns;
    }
    if (options->preface_timeout_ns == 0) {
        options->preface_timeout_ns = 10 * second_ns;
    }
}

enum es_err esi_grpc_server_new(const struct esi_grpc_server_options *options, uint64_t now_ns,
                                struct esi_grpc_server **out)
{
    struct esi_http2_limits limits;
    struct esi_grpc_server *server = calloc(1, sizeof *server);

    if (server == NULL) {
        return ES_NO_MEMORY;
    }
    if (options != NULL) {
        server->options = *options;
    }
    set_defaults(&server->options);
    for (size_t i = 0; i < CALL_STATE_COUNT; i++) {
        esi_list_init(&server->calls[i]);
    }
    server->now_ns = now_ns;
    server->preface_deadline_ns = add_time(now_ns, server->options.preface_timeout_ns);
    esi_http2_limits_init(&limits);
    limits.streams_max = server->options.streams_max;
    limits.stream_window_bytes = GRPC_STREAM_WINDOW_BYTES;
    limits.outbound_bytes_max = server->options.outbound_bytes_max;
    limits.outbound_items_max += 4 * (size_t)server->options.streams_max;
    /* Twice as many as can be open: a call that its client gave up keeps its number until the owner
     * was told. */
    if (esi_grpc_slots_init(&server->slots, 2 * server->options.streams_max) != ES_OK ||
        esi_http2_new(HTTP2_SERVER, &limits, &CALLBACKS, server, &server->http2) != ES_OK) {
        esi_grpc_server_free(server);
        return ES_NO_MEMORY;
    }
    esi_grpc_pool_init(&server->pool, server->http2, server->options.inbound_bytes_max);
    server->magic = MAGIC;
    *out = server;
    return ES_OK;
}

void esi_grpc_server_free(struct esi_grpc_server *server)
{
    if (server == NULL) {
        return;
    }
    server->magic = 0;
    if (server->http2 != NULL) {
        esi_http2_end(server->http2, HTTP2_NO_ERROR);
        end_all_calls(server);
        server->polled = NULL;
        struct esi_list *head = &server->calls[CALL_CANCELLED];
        for (struct esi_list *at = head->next, *next; at != head; at = next) {
            next = at->next;
            free_call(server, call_of(at));
        }
    }
    esi_http2_free(server->http2);
    esi_grpc_slots_deinit(&server->slots);
    free(server);
}

/* ---- bytes ---- */

enum es_err esi_grpc_server_feed(struct esi_grpc_server *server, const void *data, size_t len,
                                 uint64_t now_ns)
{
    ESI_REQUIRE(server->magic == MAGIC);
    server->now_ns = now_ns;
    release_polled(server);
    const enum es_err error = esi_http2_feed(server->http2, data, len, now_ns);
    if (error != ES_OK) {
        end_all_calls(server);
    }
    return error;
}

size_t esi_grpc_server_take_output(struct esi_grpc_server *server, struct esi_bytes *out,
                                   size_t max)
{
    ESI_REQUIRE(server->magic == MAGIC);
    const size_t count = esi_http2_take_output(server->http2, out, max);
    if (esi_http2_is_ended(server->http2)) {
        end_all_calls(server);
    }
    return count;
}

bool esi_grpc_server_wants_write(const struct esi_grpc_server *server)
{
    return esi_http2_wants_write(server->http2);
}

bool esi_grpc_server_wants_read(const struct esi_grpc_server *server)
{
    return esi_http2_wants_read(server->http2);
}

/* ---- events and answers ---- */

bool esi_grpc_server_next(struct esi_grpc_server *server, struct esi_grpc_event *out)
{
    ESI_REQUIRE(server->magic == MAGIC);
    release_polled(server);
    if (!esi_list_is_empty(&server->calls[CALL_CANCELLED])) {
        struct call *call = call_of(server->calls[CALL_CANCELLED].next);
        *out = (struct esi_grpc_event){.kind = GRPC_EVENT_CANCELLED, .call_id = call->id};
        call->is_told = true;
        server->polled = call;
        return true;
    }
    if (esi_list_is_empty(&server->calls[CALL_READY])) {
        return false;
    }
    struct call *call = call_of(server->calls[CALL_READY].next);
    set_state(server, call, CALL_POLLED);
    server->polled = call;
    *out = (struct esi_grpc_event){
        .kind = GRPC_EVENT_REQUEST,
        .call_id = call->id,
        .path = {.data = call->path, .len = call->path_len},
        .message = {.data = call->reader.message, .len = call->reader.received_len},
        .deadline_ns = call->deadline_ns,
    };
    return true;
}

enum es_err esi_grpc_server_respond(struct esi_grpc_server *server, uint32_t call_id,
                                    enum esi_grpc_status status, const char *status_text,
                                    const void *message, size_t len)
{
    ESI_REQUIRE(server->magic == MAGIC);
    struct call *call = esi_grpc_slots_find(&server->slots, call_id);
    if (call == NULL || call->state != CALL_POLLED || esi_http2_is_ended(server->http2)) {
        return ES_NOT_FOUND;
    }
    return answer(server, call, status, esi_str_from(status_text),
                  (struct esi_str){.data = message, .len = len});
}

/* ---- time and the end ---- */

/* Answers get their time when a tick finds them not taken yet: respond is not told the time. */
static void stamp_answers(struct esi_grpc_server *server)
{
    struct esi_list *head = &server->calls[CALL_ANSWERING];

    for (struct esi_list *at = head->prev; at != head; at = at->prev) {
        struct call *call = call_of(at);
        if (call->timer_ns != 0) {
            return;
        }
        call->timer_ns = add_time(server->now_ns, server->options.request_timeout_ns);
    }
}

static void end_late(struct esi_grpc_server *server, struct esi_list *list)
{
    while (!esi_list_is_empty(list) && call_of(list->next)->timer_ns <= server->now_ns) {
        free_call(server, call_of(list->next));
    }
}

void esi_grpc_server_tick(struct esi_grpc_server *server, uint64_t now_ns)
{
    ESI_REQUIRE(server->magic == MAGIC);
    server->now_ns = now_ns;
    if (!server->has_begun && now_ns >= server->preface_deadline_ns) {
        esi_http2_end(server->http2, HTTP2_NO_ERROR);
        end_all_calls(server);
        return;
    }
    stamp_answers(server);
    end_late(server, &server->calls[CALL_RECEIVING]);
    end_late(server, &server->calls[CALL_ANSWERING]);
}

uint64_t esi_grpc_server_deadline(const struct esi_grpc_server *server)
{
    static const enum call_state STATES[] = {CALL_RECEIVING, CALL_ANSWERING};
    uint64_t deadline_ns = UINT64_MAX;

    if (esi_http2_is_ended(server->http2)) {
        return UINT64_MAX;
    }
    if (!server->has_begun) {
        deadline_ns = server->preface_deadline_ns;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(STATES); i++) {
        const struct esi_list *list = &server->calls[STATES[i]];
        if (!esi_list_is_empty(list)) {
            const uint64_t timer_ns = call_of(list->next)->timer_ns;
            const uint64_t due_ns = timer_ns != 0 ? timer_ns : server->now_ns;
            deadline_ns = due_ns < deadline_ns ? due_ns : deadline_ns;
        }
        if (STATES[i] == CALL_ANSWERING && !esi_list_is_empty(list) &&
            call_of(list->prev)->timer_ns == 0 && server->now_ns < deadline_ns) {
            deadline_ns = server->now_ns;
        }
    }
    return deadline_ns;
}

uint32_t esi_grpc_server_in_flight(const struct esi_grpc_server *server)
{
    return server->slots.count - server->slots.free_count;
}

void esi_grpc_server_ping(struct esi_grpc_server *server, uint64_t now_ns)
{
    ESI_REQUIRE(server->magic == MAGIC);
    esi_http2_ping(server->http2, now_ns);
}

uint64_t esi_grpc_server_ping_age_ns(const struct esi_grpc_server *server, uint64_t now_ns)
{
    return esi_http2_ping_age_ns(server->http2, now_ns);
}

size_t esi_grpc_server_memory_bytes(const struct esi_grpc_server *server)
{
    const struct esi_grpc_slots *slots = &server->slots;

    return esi_ledger_heap_bytes(sizeof *server) + esi_http2_memory_bytes(server->http2) +
           server->pool.bytes_held + esi_grpc_slots_memory_bytes(slots) +
           (slots->count - slots->free_count) * esi_ledger_heap_bytes(sizeof(struct call));
}

void esi_grpc_server_shutdown(struct esi_grpc_server *server)
{
    ESI_REQUIRE(server->magic == MAGIC);
    esi_http2_shutdown(server->http2);
}

bool esi_grpc_server_is_done(const struct esi_grpc_server *server)
{
    return esi_http2_is_done(server->http2);
}
