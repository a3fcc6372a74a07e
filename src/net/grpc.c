/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both sides of gRPC share; see grpc.h and grpc_internal.h. */
#include "net/grpc.h"
#include "net/grpc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"

static const char *const STATUS_NAMES[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
_Static_assert(ESI_COUNT_OF(STATUS_NAMES) == GRPC_UNAUTHENTICATED + 1, "one name a status");

const char *esi_grpc_status_name(enum esi_grpc_status status)
{
    return (size_t)status < ESI_COUNT_OF(STATUS_NAMES) ? STATUS_NAMES[status] : "UNKNOWN";
}

/* ---- one message ---- */

void esi_grpc_pool_init(struct esi_grpc_pool *pool, struct esi_http2 *http2, size_t bytes_max)
{
    *pool = (struct esi_grpc_pool){.http2 = http2, .bytes_max = bytes_max};
    esi_list_init(&pool->waiting);
}

void esi_grpc_reader_init(struct esi_grpc_reader *reader, struct esi_http2_stream *stream)
{
    *reader = (struct esi_grpc_reader){.stream = stream};
    esi_list_init(&reader->link);
}

static void give_back_window(struct esi_grpc_reader *reader, struct esi_grpc_pool *pool)
{
    const size_t count = reader->withheld;

    reader->withheld = 0;
    if (count > 0 && reader->stream != NULL) {
        esi_http2_consume(pool->http2, reader->stream, count);
    }
}

/* Lets in what fits, in order of arrival: one that waits is never overtaken, so it cannot starve.
 */
static void admit_waiting(struct esi_grpc_pool *pool)
{
    while (!esi_list_is_empty(&pool->waiting)) {
        struct esi_grpc_reader *reader =
            ESI_CONTAINER_OF(pool->waiting.next, struct esi_grpc_reader, link);
        if (reader->message_len > pool->bytes_max - pool->bytes_reserved) {
            return;
        }
        esi_list_remove(&reader->link);
        reader->reserved = reader->message_len;
        pool->bytes_reserved += reader->reserved;
        give_back_window(reader, pool);
    }
}

void esi_grpc_reader_deinit(struct esi_grpc_reader *reader, struct esi_grpc_pool *pool)
{
    esi_list_remove(&reader->link);
    ESI_ASSERT(pool->bytes_reserved >= reader->reserved);
    pool->bytes_reserved -= reader->reserved;
    if (reader->message != NULL) {
        explicit_bzero(reader->message, reader->capacity);
        free(reader->message);
        pool->bytes_held -= reader->capacity;
    }
    esi_grpc_reader_init(reader, NULL);
    admit_waiting(pool);
}

/* The prefix is complete: checks it, and makes room for the message. */
static enum esi_grpc_status begin_message(struct esi_grpc_reader *reader,
                                          struct esi_grpc_pool *pool, size_t message_max,
                                          const char **why)
{
    const uint8_t *p = reader->prefix;

    if (p[0] != 0) {
        *why = p[0] == 1 ? "compressed messages are not supported" : "malformed message prefix";
        return p[0] == 1 ? GRPC_UNIMPLEMENTED : GRPC_INTERNAL;
    }
    reader->message_len =
        ((size_t)p[1] << 24) | ((size_t)p[2] << 16) | ((size_t)p[3] << 8) | (size_t)p[4];
    if (reader->message_len > message_max || reader->message_len > pool->bytes_max) {
        reader->message_len = 0;
        *why = "message is larger than the limit";
        return GRPC_RESOURCE_EXHAUSTED;
    }
    if (reader->message_len + GRPC_PREFIX_BYTES > GRPC_STREAM_WINDOW_BYTES) {
        esi_list_append(&pool->waiting, &reader->link);
        admit_waiting(pool);
    }
    return GRPC_OK;
}

/* Room for the bytes that the peer may send now: not for all that it announced, before that is let
 * in. */
static bool make_room(struct esi_grpc_reader *reader, struct esi_grpc_pool *pool, size_t needed)
{
    if (needed <= reader->capacity) {
        return true;
    }
    size_t capacity = reader->message_len;
    if (reader->reserved == 0 && capacity > GRPC_STREAM_WINDOW_BYTES) {
        capacity = GRPC_STREAM_WINDOW_BYTES;
    }
    if (needed > capacity) {
        return false;
    }
    char *message = malloc(capacity);
    if (message == NULL) {
        return false;
    }
    if (reader->message != NULL) {
        memcpy(message, reader->message, reader->received_len);
        explicit_bzero(reader->message, reader->capacity);
        free(reader->message);
    }
    pool->bytes_held += capacity - reader->capacity;
    reader->message = message;
    reader->capacity = capacity;
    return true;
}

enum esi_grpc_status esi_grpc_reader_feed(struct esi_grpc_reader *reader,
                                          struct esi_grpc_pool *pool, struct esi_str data,
                                          size_t message_max, const char **why)
{
    reader->withheld += data.len;
    if (reader->prefix_len < GRPC_PREFIX_BYTES) {
        const size_t missing = GRPC_PREFIX_BYTES - reader->prefix_len;
        const size_t count = data.len < missing ? data.len : missing;
        memcpy(reader->prefix + reader->prefix_len, data.data, count);
        reader->prefix_len += count;
        data.data += count;
        data.len -= count;
        if (reader->prefix_len == GRPC_PREFIX_BYTES) {
            const enum esi_grpc_status status = begin_message(reader, pool, message_max, why);
            if (status != GRPC_OK) {
                return status;
            }
        }
    }
    if (data.len > reader->message_len - reader->received_len) {
        *why = "more than one message in a unary call";
        return GRPC_UNIMPLEMENTED;
    }
    if (data.len > 0) {
        if (!make_room(reader, pool, reader->received_len + data.len)) {
            *why = "out of memory";
            return GRPC_RESOURCE_EXHAUSTED;
        }
        memcpy(reader->message + reader->received_len, data.data, data.len);
        reader->received_len += data.len;
    }
    if (reader->reserved > 0) {
        give_back_window(reader, pool);
    }
    return GRPC_OK;
}

bool esi_grpc_reader_is_complete(const struct esi_grpc_reader *reader)
{
    return reader->prefix_len == GRPC_PREFIX_BYTES && reader->received_len == reader->message_len;
}

bool esi_grpc_reader_is_empty(const struct esi_grpc_reader *reader)
{
    return reader->prefix_len == 0;
}

/* ---- numbers for calls ---- */

enum es_err esi_grpc_slots_init(struct esi_grpc_slots *slots, uint32_t count)
{
    ESI_REQUIRE(count > 0 && count <= GRPC_CALLS_SLOTS_MAX);
    slots->calls = calloc(count, sizeof *slots->calls);
    slots->generations = calloc(count, sizeof *slots->generations);
    slots->free_slots = calloc(count, sizeof *slots->free_slots);
    slots->count = count;
    slots->free_count = count;
    if (slots->calls == NULL || slots->generations == NULL || slots->free_slots == NULL) {
        esi_grpc_slots_deinit(slots);
        return ES_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        slots->free_slots[i] = (uint16_t)(count - 1 - i);
    }
    return ES_OK;
}

void esi_grpc_slots_deinit(struct esi_grpc_slots *slots)
{
    free(slots->calls);
    free(slots->generations);
    free(slots->free_slots);
    *slots = (struct esi_grpc_slots){.count = 0};
}

enum es_err esi_grpc_slots_add(struct esi_grpc_slots *slots, void *call, uint32_t *id)
{
    if (slots->free_count == 0) {
        return ES_FULL;
    }
    const uint32_t slot = slots->free_slots[--slots->free_count];
    ESI_ASSERT(slots->calls[slot] == NULL);
    slots->calls[slot] = call;
    /* Never 0, so that no number is 0. */
    slots->generations[slot] = (uint16_t)(slots->generations[slot] + 1);
    if (slots->generations[slot] == 0) {
        slots->generations[slot] = 1;
    }
    *id = ((uint32_t)slots->generations[slot] << 16) | slot;
    return ES_OK;
}

size_t esi_grpc_slots_memory_bytes(const struct esi_grpc_slots *slots)
{
    return slots->count *
           (sizeof *slots->calls + sizeof *slots->generations + sizeof *slots->free_slots);
}

void *esi_grpc_slots_find(const struct esi_grpc_slots *slots, uint32_t id)
{
    const uint32_t slot = id & 0xffff;

    return slot < slots->count && slots->generations[slot] == id >> 16 ? slots->calls[slot] : NULL;
}

void esi_grpc_slots_remove(struct esi_grpc_slots *slots, uint32_t id)
{
    const uint32_t slot = id & 0xffff;

    ESI_REQUIRE(esi_grpc_slots_find(slots, id) != NULL);
    slots->calls[slot] = NULL;
    slots->free_slots[slots->free_count++] = (uint16_t)slot;
}

/* ---- text forms ---- */

void esi_grpc_append_message(struct esi_bytes *body, struct esi_str message)
{
    ESI_REQUIRE(message.len <= UINT32_MAX);
    const uint8_t prefix[GRPC_PREFIX_BYTES] = {0, (uint8_t)(message.len >> 24),
                                               (uint8_t)(message.len >> 16),
                                               (uint8_t)(message.len >> 8), (uint8_t)message.len};

    /* One allocation of the right size instead of a growing one. */
    if (esi_bytes_reserve(body, message.len + sizeof prefix) != NULL) {
        esi_bytes_append(body, prefix, sizeof prefix);
        esi_bytes_append_str(body, message);
    }
}

static const struct {
    char unit;
    uint64_t ns;
} TIMEOUT_UNITS[] = {
    {'n', 1},
    {'u', 1000},
    {'m', 1000 * 1000},
    {'S', 1000ULL * 1000 * 1000},
    {'M', 60ULL * 1000 * 1000 * 1000},
    {'H', 3600ULL * 1000 * 1000 * 1000},
};

void esi_grpc_format_timeout(uint64_t timeout_ns, char *out)
{
    enum { VALUE_MAX = 99999999 };
    size_t unit = 0;

    while (unit < ESI_COUNT_OF(TIMEOUT_UNITS) - 1 &&
           timeout_ns / TIMEOUT_UNITS[unit].ns > VALUE_MAX) {
        unit++;
    }
    uint64_t value = timeout_ns / TIMEOUT_UNITS[unit].ns;
    if (value == 0) {
        value = 1;
    }
    const size_t len = esi_num_format(value, out);
    out[len] = TIMEOUT_UNITS[unit].unit;
    out[len + 1] = '\0';
}

bool esi_grpc_parse_timeout(struct esi_str text, uint64_t *out)
{
    enum { DIGITS_MAX = 8 };
    uint64_t value;

    if (text.len < 2 || !esi_num_parse(text.data, text.len - 1, DIGITS_MAX, &value)) {
        return false;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(TIMEOUT_UNITS); i++) {
        if (TIMEOUT_UNITS[i].unit == text.data[text.len - 1]) {
            if (__builtin_mul_overflow(value, TIMEOUT_UNITS[i].ns, out)) {
                *out = UINT64_MAX;
            }
            return true;
        }
    }
    return false;
}

static bool is_printable(uint8_t c)
{
    return c >= 0x20 && c <= 0x7e;
}

/* How much of the text fits, without cutting a UTF-8 sequence in two. */
static size_t cut_text(struct esi_str text)
{
    size_t len = text.len;

    if (len > GRPC_STATUS_TEXT_MAX) {
        len = GRPC_STATUS_TEXT_MAX;
        for (int i = 0; i < 3 && len > 0 && ((uint8_t)text.data[len] & 0xc0) == 0x80; i++) {
            len--;
        }
    }
    return len;
}

void esi_grpc_encode_text(struct esi_str text, char *out)
{
    static const char HEX[] = "0123456789ABCDEF";
    const size_t len = cut_text(text);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        const uint8_t c = (uint8_t)text.data[i];
        /* A space at either end would be an invalid header value. */
        const bool is_edge_space = c == ' ' && (i == 0 || i == len - 1);
        if (is_printable(c) && c != '%' && !is_edge_space) {
            out[at++] = (char)c;
        } else {
            out[at++] = '%';
            out[at++] = HEX[c >> 4];
            out[at++] = HEX[c & 15];
        }
    }
    out[at] = '\0';
}

size_t esi_grpc_decode_text(struct esi_str text, char *out)
{
    size_t len = 0;

    for (size_t i = 0; i < text.len && len < GRPC_STATUS_TEXT_MAX; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c == '%' && text.len - i > 2) {
            const int high = esi_num_hex_digit(text.data[i + 1]);
            const int low = esi_num_hex_digit(text.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high * 16 + low);
                i += 2;
            }
        }
        out[len++] = is_printable(c) ? (char)c : '?';
    }
    return len;
}

enum esi_grpc_status esi_grpc_parse_status(struct esi_str text)
{
    uint64_t value;

    return esi_num_parse(text.data, text.len, 2, &value) && value <= GRPC_UNAUTHENTICATED
               ? (enum esi_grpc_status)value
               : GRPC_UNKNOWN;
}

bool esi_grpc_is_content_type(struct esi_str value)
{
    const struct esi_str base = ESI_STR("application/grpc");

    if (!esi_str_starts_with(value, base)) {
        return false;
    }
    const char next = value.len > base.len ? value.data[base.len] : ';';
    return next == ';' || next == '+';
}
