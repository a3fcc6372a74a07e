/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Protobuf's wire format: see wire.h. */
#include "event/wire.h"

#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"

enum {
    VARINT_BYTES_MAX = 10,
    SHORT_VARINT_BYTES_MAX = 5, /* tags and lengths: 32 bits */
    TYPE_BITS = 3,
    NUMBER_ONE_BYTE_MAX = 15
};

static const uint32_t number_max = (1U << 29) - 1;

/* Reads a varint of at most bytes_max bytes. Returns the bytes used, 0 when there is none. */
static size_t read_varint(struct esi_str rest, size_t bytes_max, uint64_t *value)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < rest.len && i < bytes_max; i++) {
        const uint8_t byte = (uint8_t)rest.data[i];
        /* The tenth byte has room for one bit only. */
        if (i == VARINT_BYTES_MAX - 1 && byte > 1) {
            return 0;
        }
        sum |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = sum;
            return i + 1;
        }
    }
    return 0;
}

static uint64_t read_fixed(const char *data, size_t count)
{
    uint64_t value = 0;

    for (size_t i = 0; i < count; i++) {
        value |= (uint64_t)(uint8_t)data[i] << (8 * i);
    }
    return value;
}

static struct esi_str skip(struct esi_str s, size_t count)
{
    return (struct esi_str){.data = s.data + count, .len = s.len - count};
}

/* Reads what follows the tag. Returns the bytes used, 0 when they are no such field. */
static size_t read_content(struct esi_str rest, struct esi_wire_field *field)
{
    uint64_t len;
    size_t used;

    switch (field->type) {
    case WIRE_VARINT:
        return read_varint(rest, VARINT_BYTES_MAX, &field->value);
    case WIRE_I64:
    case WIRE_I32:
        used = field->type == WIRE_I64 ? 8 : 4;
        if (rest.len < used) {
            return 0;
        }
        field->value = read_fixed(rest.data, used);
        return used;
    case WIRE_LEN:
        used = read_varint(rest, SHORT_VARINT_BYTES_MAX, &len);
        if (used == 0 || len > rest.len - used) {
            return 0;
        }
        field->bytes = (struct esi_str){.data = rest.data + used, .len = (size_t)len};
        return used + (size_t)len;
    }
    return 0;
}

enum es_err esi_wire_next(struct esi_str *rest, struct esi_wire_field *field)
{
    struct esi_wire_field found = {0};
    uint64_t tag;

    if (rest->len == 0) {
        return ES_AGAIN;
    }
    const size_t tag_bytes = read_varint(*rest, SHORT_VARINT_BYTES_MAX, &tag);
    if (tag_bytes == 0 || (tag >> TYPE_BITS) == 0 || (tag >> TYPE_BITS) > number_max) {
        return ES_INVALID;
    }
    found.number = (uint32_t)(tag >> TYPE_BITS);
    found.type = (enum esi_wire_type)(tag & ((1U << TYPE_BITS) - 1));
    const size_t content_bytes = read_content(skip(*rest, tag_bytes), &found);
    if (content_bytes == 0) {
        return ES_INVALID;
    }
    found.whole = (struct esi_str){.data = rest->data, .len = tag_bytes + content_bytes};
    *field = found;
    *rest = skip(*rest, found.whole.len);
    return ES_OK;
}

bool esi_wire_is_utf8(struct esi_str text)
{
    size_t at = 0;
    uint32_t code;

    while (at < text.len) {
        uint64_t eight;
        /* Most text is ASCII: eight bytes a step. */
        if (text.len - at >= sizeof eight) {
            memcpy(&eight, text.data + at, sizeof eight);
            if ((eight & 0x8080808080808080ULL) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        const size_t len = esi_utf8_decode(text.data + at, text.len - at, &code);
        if (len == 0) {
            return false;
        }
        at += len;
    }
    return true;
}

void esi_wire_append_bytes(struct esi_bytes *out, uint32_t number, struct esi_str content)
{
    char head[1 + VARINT_BYTES_MAX];
    size_t used = 0;

    ESI_REQUIRE(number >= 1 && number <= NUMBER_ONE_BYTE_MAX);
    head[used++] = (char)(number << TYPE_BITS | WIRE_LEN);
    size_t len = content.len;
    while (len >= 0x80) {
        head[used++] = (char)(len | 0x80);
        len >>= 7;
    }
    head[used++] = (char)len;
    esi_bytes_append(out, head, used);
    esi_bytes_append_str(out, content);
}
