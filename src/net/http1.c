/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/1.x, server side. See http1.h; what a request says is read in http1_request.c.
 *
 * Input is kept in one buffer. Until the end of a head is found, each byte is looked at once
 * (scanned_len); then the head is parsed in place, once. The request borrows from the buffer, so
 * nothing is moved before it is answered.
 *
 *   state      | feed          | next              | respond
 *   READING    | takes         | AGAIN or a request -> ANSWERING, or a refusal -> ENDING | -
 *   ANSWERING  | takes up to the bound | AGAIN     | -> READING, or ENDING without keep-alive
 *   ENDING     | takes nothing | CLOSED            | -
 */
#include "net/http1.h"
#include "net/http1_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"

enum {
    MAGIC = 0x48325331,
    HEAD_BYTES_DEFAULT = 8 * 1024,
    OUTPUT_BYTES_DEFAULT = 16 * 1024 * 1024,
    OUTPUT_BYTES_KEPT = 64 * 1024 /* larger buffers are freed once they are empty */
};

enum state { READING, ANSWERING, ENDING };

struct esi_http1 {
    uint32_t magic;
    struct esi_http1_limits limits;
    enum state state;
    struct esi_bytes input; /* owned; what is not consumed */
    size_t line_start;      /* of the line that is being looked for, in the head */
    size_t scanned_len;     /* bytes of the head looked at */
    size_t head_len;        /* 0 until the end of the head is found */
    bool has_request;       /* the head is parsed: `request` is valid */
    bool peer_has_ended;
    struct esi_http1_request request;
    bool has_skipped_line;   /* an empty line before this request */
    struct esi_bytes output; /* owned */
    size_t output_offset;    /* taken of it */
};

static size_t input_bytes_max(const struct esi_http1 *http)
{
    return http->limits.head_bytes_max + http->limits.body_bytes_max;
}

enum es_err esi_http1_new(const struct esi_http1_limits *limits, struct esi_http1 **out)
{
    struct esi_http1 *http = calloc(1, sizeof *http);

    if (http == NULL) {
        return ES_NO_MEMORY;
    }
    if (limits != NULL) {
        http->limits = *limits;
    }
    if (http->limits.head_bytes_max == 0) {
        http->limits.head_bytes_max = HEAD_BYTES_DEFAULT;
    }
    if (http->limits.output_bytes_max == 0) {
        http->limits.output_bytes_max = OUTPUT_BYTES_DEFAULT;
    }
    esi_bytes_init(&http->input, 0);
    esi_bytes_init(&http->output, http->limits.output_bytes_max);
    http->magic = MAGIC;
    *out = http;
    return ES_OK;
}

void esi_http1_free(struct esi_http1 *http)
{
    if (http == NULL) {
        return;
    }
    http->magic = 0;
    esi_bytes_wipe(&http->input);
    esi_bytes_wipe(&http->output);
    explicit_bzero(&http->request, sizeof http->request);
    free(http);
}

/* No more requests: what is left of the input is of no use. */
static void end(struct esi_http1 *http)
{
    http->state = ENDING;
    http->has_request = false;
    esi_bytes_wipe(&http->input);
}

/* Drops the answered request from the input. */
static void consume_request(struct esi_http1 *http)
{
    const size_t len = http->head_len + http->request.body_bytes;
    const size_t input_len = http->input.len;

    esi_bytes_consume(&http->input, len);
    if (http->input.len == 0) {
        esi_bytes_wipe(&http->input); /* an idle connection is small */
    } else {
        explicit_bzero(http->input.data + http->input.len, input_len - http->input.len);
    }
    http->has_request = false;
    http->line_start = 0;
    http->scanned_len = 0;
    http->head_len = 0;
    http->has_skipped_line = false;
    http->state = READING;
}

size_t esi_http1_room(const struct esi_http1 *http)
{
    const size_t max = input_bytes_max(http);

    if (http->state == ENDING || http->peer_has_ended) {
        return 0;
    }
    /* Whoever does not read its answers gets no more of them. */
    if (esi_http1_output_len(http) > http->limits.output_bytes_max / 2) {
        return 0;
    }
    /* Only an empty buffer may move: a request in hand borrows from it, and one that grows leaves a
     * copy of a token behind. */
    const size_t fits = http->input.len > 0 ? http->input.capacity : max;
    const size_t bound = fits < max ? fits : max;
    return bound > http->input.len ? bound - http->input.len : 0;
}

size_t esi_http1_feed(struct esi_http1 *http, const void *data, size_t len)
{
    ESI_REQUIRE(http->magic == MAGIC);
    const size_t room = esi_http1_room(http);
    const size_t count = len < room ? len : room;
    if (count == 0) {
        return 0;
    }
    if (http->input.capacity == 0) {
        /* Room for all of a head at once: see esi_http1_room. */
        (void)esi_bytes_reserve(&http->input, http->limits.head_bytes_max);
    }
    esi_bytes_append(&http->input, data, count);
    if (http->input.failed) {
        end(http);
        return 0;
    }
    return count;
}

void esi_http1_feed_end(struct esi_http1 *http)
{
    ESI_REQUIRE(http->magic == MAGIC);
    http->peer_has_ended = true;
}

/* Looks for the empty line that ends the head. One empty line before the request line is dropped
 * (RFC 9112, 2.2). */
static void find_head_end(struct esi_http1 *http)
{
    while (http->scanned_len < http->input.len && http->head_len == 0) {
        const char *data = http->input.data;
        const char *at =
            memchr(data + http->scanned_len, '\n', http->input.len - http->scanned_len);
        if (at == NULL) {
            http->scanned_len = http->input.len;
            return;
        }
        const size_t line_end = (size_t)(at - data);
        const size_t line_len = line_end - http->line_start;
        const bool is_empty = line_len == 0 || (line_len == 1 && data[http->line_start] == '\r');
        http->scanned_len = line_end + 1;
        if (is_empty && http->line_start == 0 && !http->has_skipped_line) {
            http->has_skipped_line = true;
            esi_bytes_consume(&http->input, http->scanned_len);
            http->scanned_len = 0;
            continue;
        }
        http->line_start = http->scanned_len;
        if (is_empty) {
            http->head_len = http->scanned_len;
        }
    }
}

static void append_head(struct esi_bytes *out, unsigned status, const char *content_type,
                        size_t body_len, bool keep_alive)
{
    esi_bytes_printf(out, "HTTP/1.1 %u %s\r\n", status, esi_http1_reason(status));
    if (content_type != NULL) {
        esi_bytes_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (status >= 200 && status != 204 && status != 304) {
        esi_bytes_printf(out, "Content-Length: %zu\r\n", body_len);
    }
    if (status != 101) {
        esi_bytes_append_text(out,
                              keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
    }
}

/* Answers what never became a request, and ends. */
static void refuse_and_end(struct esi_http1 *http, unsigned status)
{
    const char *reason = esi_http1_reason(status);

    append_head(&http->output, status, "text/plain; charset=utf-8", strlen(reason) + 1, false);
    if (status == 405) {
        esi_bytes_append_text(&http->output, http->limits.body_bytes_max > 0
                                                 ? "Allow: GET, HEAD, POST\r\n"
                                                 : "Allow: GET, HEAD\r\n");
    }
    esi_bytes_printf(&http->output, "\r\n%s\n", reason);
    end(http);
}

/* Which part of a head that is too long is to blame. */
static unsigned oversize_status(const struct esi_http1 *http)
{
    return memchr(http->input.data, '\n', http->limits.head_bytes_max) == NULL ? 414 : 431;
}

static void rebase(struct esi_str *s, const char *from, const char *to)
{
    if (s->data != NULL) {
        s->data = to + (s->data - from);
    }
}

/* Makes the buffer large enough for the whole request, which is parsed: what it borrows moves
 * along. */
static bool make_room_for_body(struct esi_http1 *http)
{
    struct esi_http1_request *request = &http->request;
    struct esi_bytes larger;

    if (http->head_len + request->body_bytes <= http->input.capacity) {
        return true;
    }
    esi_bytes_init(&larger, 0);
    if (esi_bytes_reserve(&larger, http->head_len + request->body_bytes) == NULL) {
        return false;
    }
    esi_bytes_append(&larger, http->input.data, http->input.len);
    rebase(&request->path, http->input.data, larger.data);
    for (size_t i = 0; i < request->query_count; i++) {
        rebase(&request->query[i].name, http->input.data, larger.data);
        rebase(&request->query[i].value, http->input.data, larger.data);
    }
    for (size_t i = 0; i < request->header_count; i++) {
        rebase(&request->headers[i].name, http->input.data, larger.data);
        rebase(&request->headers[i].value, http->input.data, larger.data);
    }
    esi_bytes_wipe(&http->input);
    http->input = larger;
    return true;
}

/* The head is complete: parses it and checks what it announces. Returns false when the request was
 * refused. */
static bool begin_request(struct esi_http1 *http)
{
    unsigned status = 400;

    if (http->head_len > http->limits.head_bytes_max) {
        refuse_and_end(http, oversize_status(http));
        return false;
    }
    if (esi_http1_parse_head(http->input.data, http->head_len, &http->request, &status) != ES_OK) {
        refuse_and_end(http, status);
        return false;
    }
    if (http->request.method == HTTP1_POST && http->limits.body_bytes_max == 0) {
        refuse_and_end(http, 405);
        return false;
    }
    if (http->request.body_bytes > http->limits.body_bytes_max) {
        refuse_and_end(http, 413);
        return false;
    }
    if (!make_room_for_body(http)) {
        refuse_and_end(http, 503);
        return false;
    }
    http->has_request = true;
    if (http->request.expects_continue &&
        http->input.len < http->head_len + http->request.body_bytes) {
        esi_bytes_append_text(&http->output, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    return true;
}

/* No whole head is there. Decides whether there can still be one. */
static enum es_err wait_for_head(struct esi_http1 *http)
{
    if (http->input.len >= http->limits.head_bytes_max) {
        refuse_and_end(http, oversize_status(http));
        return ES_CLOSED;
    }
    if (http->peer_has_ended) {
        end(http);
        return ES_CLOSED;
    }
    return ES_AGAIN;
}

enum es_err esi_http1_next(struct esi_http1 *http, const struct esi_http1_request **out)
{
    ESI_REQUIRE(http->magic == MAGIC);
    if (http->state == ENDING) {
        return ES_CLOSED;
    }
    if (http->state == ANSWERING) {
        return ES_AGAIN;
    }
    if (!http->has_request) {
        find_head_end(http);
        if (http->head_len == 0) {
            return wait_for_head(http);
        }
        if (!begin_request(http)) {
            return ES_CLOSED;
        }
    }
    if (http->input.len < http->head_len + http->request.body_bytes) {
        if (http->peer_has_ended) {
            end(http);
            return ES_CLOSED;
        }
        return ES_AGAIN;
    }
    http->request.body = (struct esi_str){.data = http->input.data + http->head_len,
                                          .len = http->request.body_bytes};
    http->state = ANSWERING;
    *out = &http->request;
    return ES_OK;
}

static void append_header(struct esi_bytes *out, const struct esi_http1_pair *header)
{
    if (!esi_http1_is_header(header)) {
        return;
    }
    esi_bytes_append_str(out, header->name);
    esi_bytes_append_text(out, ": ");
    esi_bytes_append_str(out, header->value);
    esi_bytes_append_text(out, "\r\n");
}

void esi_http1_respond(struct esi_http1 *http, const struct esi_http1_response *response)
{
    struct esi_bytes *out = &http->output;
    const size_t start = out->len;

    ESI_REQUIRE(http->magic == MAGIC && http->state == ANSWERING);
    ESI_REQUIRE(response->status >= 100 && response->status <= 599);
    bool keep_alive =
        http->request.keep_alive && !response->close &&
        !(http->peer_has_ended && http->input.len == http->head_len + http->request.body_bytes);
    append_head(out, response->status, response->content_type, response->body.len, keep_alive);
    for (size_t i = 0; i < response->header_count; i++) {
        append_header(out, &response->headers[i]);
    }
    esi_bytes_append_text(out, "\r\n");
    if (http->request.method != HTTP1_HEAD && response->status >= 200 && response->status != 204 &&
        response->status != 304) {
        esi_bytes_append_str(out, response->body);
    }
    if (out->failed) {
        out->failed = false;
        out->len = start;
        append_head(out, 500, NULL, 0, false);
        esi_bytes_append_text(out, "\r\n");
        keep_alive = false;
    }
    consume_request(http);
    if (!keep_alive) {
        end(http);
    }
}

size_t esi_http1_take_output(struct esi_http1 *http, struct esi_bytes *out, size_t max)
{
    ESI_REQUIRE(http->magic == MAGIC);
    const size_t ready = esi_http1_output_len(http);
    const size_t count = ready < max ? ready : max;
    if (count == 0 || esi_bytes_reserve(out, count) == NULL) {
        return 0;
    }
    esi_bytes_append(out, http->output.data + http->output_offset, count);
    http->output_offset += count;
    if (http->output_offset == http->output.len) {
        http->output_offset = 0;
        esi_bytes_clear(&http->output);
        if (http->output.capacity > OUTPUT_BYTES_KEPT) {
            esi_bytes_deinit(&http->output);
        }
    }
    return count;
}

size_t esi_http1_output_len(const struct esi_http1 *http)
{
    return http->output.len - http->output_offset;
}

size_t esi_http1_memory_bytes(const struct esi_http1 *http)
{
    return esi_ledger_heap_bytes(sizeof *http) + http->input.capacity + http->output.capacity;
}

bool esi_http1_is_done(const struct esi_http1 *http)
{
    return http->state == ENDING && esi_http1_output_len(http) == 0;
}

bool esi_http1_is_idle(const struct esi_http1 *http)
{
    return http->state == READING && http->input.len == 0 && esi_http1_output_len(http) == 0;
}
