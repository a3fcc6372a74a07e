/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no input harms the client parser, and how the bytes are cut makes no difference. Method:
 * the input is parsed whole (which takes the fast path), byte by byte (which never does) and cut at
 * places drawn from the input; the three sequences of operations must be equal.
 *
 * The first byte sets the options, the second seeds the cuts.
 */
#include "proto/client_parser.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct record {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

static void put(struct record *record, const void *data, size_t len)
{
    if (record->len + len > record->capacity) {
        record->capacity = (record->len + len) * 2;
        record->data = realloc(record->data, record->capacity);
        if (record->data == NULL) {
            abort();
        }
    }
    if (len > 0) {
        memcpy(record->data + record->len, data, len);
    }
    record->len += len;
}

static void put_number(struct record *record, uint64_t number)
{
    put(record, &number, sizeof number);
}

static void put_str(struct record *record, struct esi_str str)
{
    put_number(record, str.len);
    put(record, str.data, str.len);
}

static void put_item(struct record *record, enum esi_client_op op,
                     const struct esi_client_item *item)
{
    put_number(record, (uint64_t)op);
    switch (op) {
    case CLIENT_PUB:
        put_str(record, item->subject);
        put_str(record, item->reply);
        put_number(record, item->header_len);
        put_str(record, (struct esi_str){.data = item->body, .len = item->total_len + 2});
        put_number(record, item->is_hpub);
        break;
    case CLIENT_SUB:
        put_str(record, item->subject);
        put_str(record, item->queue);
        put_str(record, item->sid);
        break;
    case CLIENT_UNSUB:
        put_str(record, item->sid);
        put_number(record, item->has_max ? item->max : 0);
        break;
    case CLIENT_CONNECT:
    case CLIENT_INFO:
    case CLIENT_ERR:
        put_str(record, item->text);
        break;
    case CLIENT_FAULT:
        put_number(record, (uint64_t)item->fault);
        break;
    case CLIENT_MORE:
    case CLIENT_PING:
    case CLIENT_PONG:
    case CLIENT_OK:
        break;
    }
}

static void start(struct esi_client_parser *parser, uint8_t options)
{
    esi_client_parser_init(parser, (options & 1) != 0 ? 64 : -1, (options & 2) != 0 ? 32 : 4096);
    parser->headers_allowed = (options & 4) != 0;
    parser->auth_pending = (options & 8) != 0;
}

/* Pieces of 1 to step_max bytes; every call sees an exact copy of what is unparsed. */
static struct record parse(const uint8_t *data, size_t size, uint8_t options, uint32_t seed,
                           size_t step_max)
{
    struct esi_client_parser parser;
    struct record record = {0};
    size_t start_at = 0;
    size_t end = 0;
    enum esi_client_op op = CLIENT_MORE;

    start(&parser, options);
    while (op != CLIENT_FAULT && end < size) {
        seed = seed * 1664525U + 1013904223U;
        const size_t step = 1 + (seed >> 8) % step_max;
        end = size - end > step ? end + step : size;
        do {
            struct esi_client_item item = {0};
            size_t consumed = SIZE_MAX;
            const size_t len = end - start_at;
            char *copy = malloc(len > 0 ? len : 1);
            if (copy == NULL) {
                abort();
            }
            memcpy(copy, data + start_at, len);
            op = esi_client_parser_next(&parser, copy, len, &consumed, &item);
            if (consumed > len ||
                (op == CLIENT_MORE && item.needed > 0 && item.needed <= len - consumed)) {
                abort();
            }
            if (op != CLIENT_MORE) {
                put_item(&record, op, &item);
            }
            start_at += consumed;
            free(copy);
        } while (op != CLIENT_MORE && op != CLIENT_FAULT);
    }
    return record;
}

static void compare(const struct record *a, struct record b)
{
    if (a->len != b.len || (a->len > 0 && memcmp(a->data, b.data, a->len) != 0)) {
        abort();
    }
    free(b.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 4096) {
        return 0;
    }
    const struct record bytes = parse(data + 2, size - 2, data[0], 0, 1);
    /* A step drawn from so many is nearly always larger than the input. */
    compare(&bytes, parse(data + 2, size - 2, data[0], data[1], 1U << 24));
    compare(&bytes, parse(data + 2, size - 2, data[0], data[1], 7));
    compare(&bytes, parse(data + 2, size - 2, data[0], data[1], 64));
    free(bytes.data);
    return 0;
}
