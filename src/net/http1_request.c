/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an HTTP/1 request says: its head, read in place, and what is looked up in it. See http1.h.
 */
#include "net/http1_internal.h"

#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/own.h"

enum { LENGTH_DIGITS_MAX = 15, TARGET_BYTES_MAX = 4096, VERSION_BYTES = 8 /* "HTTP/1.1" */ };

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

bool esi_http1_is_header(const struct esi_http1_pair *header)
{
    return is_token(header->name) && is_field_value(header->value);
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
            const int high = *len - from > 2 ? esi_num_hex_digit(text[from + 1]) : -1;
            const int low = high >= 0 ? esi_num_hex_digit(text[from + 2]) : -1;
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
