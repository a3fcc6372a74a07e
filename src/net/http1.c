/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/1.x, server side. See http1.h.
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

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"

enum {
    MAGIC = 0x48325331,
    HEAD_BYTES_DEFAULT = 8 * 1024,
    OUTPUT_BYTES_DEFAULT = 16 * 1024 * 1024,
    OUTPUT_BYTES_KEPT = 64 * 1024, /* larger buffers are freed once they are empty */
    LENGTH_DIGITS_MAX = 15,
    TARGET_BYTES_MAX = 4096,
    VERSION_BYTES = 8 /* "HTTP/1.1" */
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
    bool is_shutting_down;
    struct esi_http1_request request;
    bool has_skipped_line;   /* an empty line before this request */
    struct esi_bytes output; /* owned */
    size_t output_offset;    /* taken of it */
};

/* ---- small readers ---- */

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct esi_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char(s.data[i])) {
            return false;
        }
    }
    return s.len > 0;
}

/* Field values: visible bytes, spaces, tabs, and what is above ASCII. */
static bool is_field_value(struct esi_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static struct esi_str trim(struct esi_str s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static bool equals_ignoring_case(struct esi_str a, struct esi_str b)
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.data, b.data, a.len) == 0);
}

/* Splits off the part up to the separator, which is dropped. What is left is the rest, empty when
 * there is none. */
static struct esi_str split(struct esi_str *rest, char separator)
{
    const char *at = rest->len > 0 ? memchr(rest->data, separator, rest->len) : NULL;
    struct esi_str part = *rest;

    if (at == NULL) {
        rest->data += rest->len;
        rest->len = 0;
    } else {
        part.len = (size_t)(at - rest->data);
        rest->data = at + 1;
        rest->len -= part.len + 1;
    }
    return part;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Decodes %XX (and + where it means a space) in place: text never grows, so it is written over its
 * own beginning. Refuses what decodes to a control character: it could end a line or a string
 * further on.
 */
static bool decode_in_place(char *text, size_t *len, bool plus_is_space)
{
    size_t to = 0;

    for (size_t from = 0; from < *len; from++) {
        unsigned char c = (unsigned char)text[from];
        if (c == '%') {
            const int high = *len - from > 2 ? hex_value(text[from + 1]) : -1;
            const int low = high >= 0 ? hex_value(text[from + 2]) : -1;
            if (low < 0) {
                return false;
            }
            c = (unsigned char)(high * 16 + low);
            from += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
        text[to++] = (char)c;
    }
    *len = to;
    return true;
}

/* ---- the head ---- */

static bool parse_query(char *text, size_t len, struct esi_http1_request *out)
{
    struct esi_str rest = {.data = text, .len = len};

    while (rest.len > 0) {
        struct esi_str value = split(&rest, '&');
        if (value.len == 0) {
            continue;
        }
        struct esi_str name = split(&value, '=');
        if (out->query_count == HTTP1_QUERY_MAX ||
            !decode_in_place(text + (name.data - text), &name.len, true) ||
            !decode_in_place(text + (value.data - text), &value.len, true)) {
            return false;
        }
        out->query[out->query_count++] = (struct esi_http1_pair){.name = name, .value = value};
    }
    return true;
}

static enum es_err refuse(unsigned *status, unsigned value, enum es_err error)
{
    *status = value;
    return error;
}

static bool parse_method(struct esi_str text, enum esi_http1_method *out)
{
    static const struct {
        struct esi_str name;
        enum esi_http1_method method;
    } METHODS[] = {
        {ESI_STR("GET"), HTTP1_GET}, {ESI_STR("HEAD"), HTTP1_HEAD}, {ESI_STR("POST"), HTTP1_POST}};

    for (size_t i = 0; i < ESI_COUNT_OF(METHODS); i++) {
        if (esi_str_equal(text, METHODS[i].name)) {
            *out = METHODS[i].method;
            return true;
        }
    }
    return false;
}

static bool is_known_method(struct esi_str text)
{
    static const char *const NAMES[] = {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};

    for (size_t i = 0; i < ESI_COUNT_OF(NAMES); i++) {
        if (esi_str_equal(text, esi_str_from(NAMES[i]))) {
            return true;
        }
    }
    return false;
}

/* METHOD SP TARGET SP VERSION; each separator is exactly one space. */
static enum es_err parse_request_line(char *head, struct esi_str line,
                                      struct esi_http1_request *out, unsigned *status)
{
    const struct esi_str method = split(&line, ' ');
    struct esi_str target = split(&line, ' ');

    if (!is_token(method) || line.len != VERSION_BYTES ||
        !esi_str_starts_with(line, ESI_STR("HTTP/")) || line.data[6] != '.') {
        return refuse(status, 400, ES_INVALID);
    }
    if (line.data[5] != '1' || (line.data[7] != '0' && line.data[7] != '1')) {
        return refuse(status, 505, ES_UNSUPPORTED);
    }
    out->version_minor = (unsigned)(line.data[7] - '0');
    out->keep_alive = out->version_minor == 1;
    if (!parse_method(method, &out->method)) {
        return refuse(status, is_known_method(method) ? 405 : 501, ES_UNSUPPORTED);
    }
    if (target.len > TARGET_BYTES_MAX) {
        return refuse(status, 414, ES_INVALID);
    }
    if (target.len == 0 || target.data[0] != '/') {
        return refuse(status, 400, ES_INVALID);
    }
    for (size_t i = 0; i < target.len; i++) {
        const unsigned char c = (unsigned char)target.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return refuse(status, 400, ES_INVALID);
        }
    }
    struct esi_str path = split(&target, '?');
    if (!decode_in_place(head + (path.data - head), &path.len, false)) {
        return refuse(status, 400, ES_INVALID);
    }
    out->path = path;
    if (!parse_query(head + (target.data - head), target.len, out)) {
        return refuse(status, 400, ES_INVALID);
    }
    return ES_OK;
}

static enum es_err parse_header_line(struct esi_str line, struct esi_http1_request *out,
                                     unsigned *status)
{
    const bool has_colon = memchr(line.data, ':', line.len) != NULL;
    const struct esi_str name = split(&line, ':');

    /* A space before the colon, or a folded line, is read differently by different parsers:
     * refused. */
    if (!has_colon || !is_token(name) || !is_field_value(line)) {
        return refuse(status, 400, ES_INVALID);
    }
    if (out->header_count == HTTP1_HEADERS_MAX) {
        return refuse(status, 431, ES_INVALID);
    }
    out->headers[out->header_count++] = (struct esi_http1_pair){.name = name, .value = trim(line)};
    return ES_OK;
}

/* A comma-separated list holds the word, in any case. */
static bool list_has(struct esi_str list, struct esi_str word)
{
    while (list.len > 0) {
        if (equals_ignoring_case(trim(split(&list, ',')), word)) {
            return true;
        }
    }
    return false;
}

/* What the headers say about the connection and the body. */
static enum es_err interpret_headers(struct esi_http1_request *out, unsigned *status)
{
    size_t hosts = 0;
    bool has_length = false;

    for (size_t i = 0; i < out->header_count; i++) {
        const struct esi_http1_pair *header = &out->headers[i];
        uint64_t length;
        if (equals_ignoring_case(header->name, ESI_STR("host"))) {
            hosts++;
        } else if (equals_ignoring_case(header->name, ESI_STR("content-length"))) {
            if (has_length ||
                !esi_num_parse(header->value.data, header->value.len, LENGTH_DIGITS_MAX, &length)) {
                return refuse(status, 400, ES_INVALID);
            }
            has_length = true;
            out->body_bytes = (size_t)length;
        } else if (equals_ignoring_case(header->name, ESI_STR("transfer-encoding"))) {
            return refuse(status, 411, ES_UNSUPPORTED);
        } else if (equals_ignoring_case(header->name, ESI_STR("connection"))) {
            if (list_has(header->value, ESI_STR("close"))) {
                out->keep_alive = false;
            } else if (out->version_minor == 0 && list_has(header->value, ESI_STR("keep-alive"))) {
                out->keep_alive = true;
            }
        } else if (equals_ignoring_case(header->name, ESI_STR("expect"))) {
            if (!equals_ignoring_case(header->value, ESI_STR("100-continue"))) {
                return refuse(status, 417, ES_UNSUPPORTED);
            }
            out->expects_continue = out->version_minor == 1;
        }
    }
    if (hosts > 1 || (hosts == 0 && out->version_minor == 1)) {
        return refuse(status, 400, ES_INVALID);
    }
    if (out->method == HTTP1_POST && !has_length) {
        return refuse(status, 411, ES_INVALID);
    }
    return ES_OK;
}

enum es_err esi_http1_parse_head(char *head, size_t len, struct esi_http1_request *out,
                                 unsigned *status)
{
    struct esi_str rest = {.data = head, .len = len};
    bool is_first = true;

    /* The arrays are only valid up to their counts: clearing 1.5 KiB for each request is not
     * needed. */
    out->method = HTTP1_GET;
    out->version_minor = 0;
    out->keep_alive = false;
    out->expects_continue = false;
    out->body_bytes = 0;
    out->path = (struct esi_str){.data = NULL};
    out->body = (struct esi_str){.data = NULL};
    out->query_count = 0;
    out->header_count = 0;
    while (rest.len > 0) {
        struct esi_str line = split(&rest, '\n');
        if (line.len > 0 && line.data[line.len - 1] == '\r') {
            line.len--;
        }
        enum es_err error;
        if (is_first) {
            error = parse_request_line(head, line, out, status);
            is_first = false;
        } else if (line.len == 0) {
            return interpret_headers(out, status);
        } else {
            error = parse_header_line(line, out, status);
        }
        if (error != ES_OK) {
            return error;
        }
    }
    return refuse(status, 400, ES_INVALID);
}

/* ---- look-ups ---- */

struct esi_str esi_http1_header(const struct esi_http1_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (equals_ignoring_case(request->headers[i].name, esi_str_from(name))) {
            return request->headers[i].value;
        }
    }
    return (struct esi_str){.data = NULL};
}

struct esi_str esi_http1_query(const struct esi_http1_request *request, const char *name)
{
    for (size_t i = 0; i < request->query_count; i++) {
        if (esi_str_equal(request->query[i].name, esi_str_from(name))) {
            return request->query[i].value;
        }
    }
    return (struct esi_str){.data = NULL};
}

enum es_err esi_http1_query_u64(const struct esi_http1_request *request, const char *name,
                                uint64_t max, uint64_t fallback, uint64_t *out)
{
    enum { DIGITS_MAX = 18 };
    const struct esi_str text = esi_http1_query(request, name);
    uint64_t value = 0;

    if (text.len == 0) {
        *out = fallback;
        return ES_OK;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return ES_INVALID;
        }
    }
    if (!esi_num_parse(text.data, text.len, DIGITS_MAX, &value) || value > max) {
        return ES_TOO_LARGE;
    }
    *out = value;
    return ES_OK;
}

enum es_err esi_http1_query_bool(const struct esi_http1_request *request, const char *name,
                                 bool *out)
{
    const struct esi_str text = esi_http1_query(request, name);

    const bool is_false = text.data == NULL || esi_str_equal(text, ESI_STR("0")) ||
                          equals_ignoring_case(text, ESI_STR("false"));
    const bool is_true = !is_false && (text.len == 0 || esi_str_equal(text, ESI_STR("1")) ||
                                       equals_ignoring_case(text, ESI_STR("true")));

    if (!is_false && !is_true) {
        return ES_INVALID;
    }
    *out = is_true;
    return ES_OK;
}

const char *esi_http1_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } REASONS[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {202, "Accepted"},
        {204, "No Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(REASONS); i++) {
        if (REASONS[i].status == status) {
            return REASONS[i].reason;
        }
    }
    return "Unknown";
}

/* ---- the connection ---- */

static void wipe_and_deinit(struct esi_bytes *bytes)
{
    if (bytes->data != NULL) {
        explicit_bzero(bytes->data, bytes->capacity);
    }
    esi_bytes_deinit(bytes);
}

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
    wipe_and_deinit(&http->input);
    wipe_and_deinit(&http->output);
    explicit_bzero(&http->request, sizeof http->request);
    free(http);
}

/* No more requests: what is left of the input is of no use. */
static void end(struct esi_http1 *http)
{
    http->state = ENDING;
    http->has_request = false;
    wipe_and_deinit(&http->input);
}

/* Drops the answered request from the input. */
static void consume_request(struct esi_http1 *http)
{
    const size_t len = http->head_len + http->request.body_bytes;
    const size_t input_len = http->input.len;

    esi_bytes_consume(&http->input, len);
    if (http->input.len == 0) {
        wipe_and_deinit(&http->input); /* an idle connection is small */
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

    if (http->state == ENDING || http->peer_has_ended ||
        (http->is_shutting_down && !http->has_request)) {
        return 0;
    }
    /* Whoever does not read its answers gets no more of them. */
    if (esi_http1_output_len(http) > http->limits.output_bytes_max / 2) {
        return 0;
    }
    /* A request in hand borrows from the buffer, which must not move then. */
    const size_t fits = http->has_request ? http->input.capacity : max;
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
        /* All of a head at once: a buffer that grows would leave copies of a token behind. */
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
    wipe_and_deinit(&http->input);
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
    if (http->peer_has_ended || http->is_shutting_down) {
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
    if (!is_token(header->name) || !is_field_value(header->value)) {
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
        http->request.keep_alive && !response->close && !http->is_shutting_down &&
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

void esi_http1_respond_text(struct esi_http1 *http, unsigned status, const char *text)
{
    struct esi_bytes body;

    esi_bytes_init(&body, 0);
    esi_bytes_append_text(&body, text);
    esi_bytes_append_text(&body, "\n");
    esi_http1_respond(http,
                      &(struct esi_http1_response){.status = status,
                                                   .content_type = "text/plain; charset=utf-8",
                                                   .body = esi_bytes_str(&body)});
    esi_bytes_deinit(&body);
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

bool esi_http1_is_done(const struct esi_http1 *http)
{
    return http->state == ENDING && esi_http1_output_len(http) == 0;
}

bool esi_http1_is_idle(const struct esi_http1 *http)
{
    return http->state == READING && http->input.len == 0 && esi_http1_output_len(http) == 0;
}

void esi_http1_shutdown(struct esi_http1 *http)
{
    ESI_REQUIRE(http->magic == MAGIC);
    http->is_shutting_down = true;
    if (http->state == READING && http->input.len == 0) {
        end(http);
    }
}
