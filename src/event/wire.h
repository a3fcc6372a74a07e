/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Protobuf's wire format, a field at a time, over borrowed bytes: the part below any schema.
 * Reading allocates nothing and never looks past the end. Stricter than the format's letter where
 * no encoder ever writes otherwise: groups are refused, tags and lengths take 5 bytes at most,
 * varints 10.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum esi_wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

struct esi_wire_field {
    uint32_t number; /* 1 to 2^29-1 */
    enum esi_wire_type type;
    uint64_t value;       /* WIRE_VARINT, WIRE_I64, WIRE_I32 */
    struct esi_str bytes; /* WIRE_LEN: the content; borrowed from the message */
    struct esi_str whole; /* the field with its tag; borrowed from the message */
};

/*
 * Takes the field at the start of *rest and moves *rest behind it. The content of a WIRE_LEN field
 * is not looked at.
 *   rest    what is left of a message; unchanged on failure
 *   field   written on success
 * Returns ES_OK; ES_AGAIN at the end; ES_INVALID when the bytes are no field. Thread: any.
 * Allocates nothing.
 */
ES_MUST_USE enum es_err esi_wire_next(struct esi_str *rest, struct esi_wire_field *field);

/*
 * True when the bytes are UTF-8: shortest forms, no surrogates, at most U+10FFFF. U+0000 is
 * allowed. Thread: any.
 */
bool esi_wire_is_utf8(struct esi_str text);

/*
 * Appends a WIRE_LEN field (tag, length, content). A failure marks the buffer, as all appending
 * does. number    1 to 15, so that the tag is one byte
 */
void esi_wire_append_bytes(struct esi_bytes *out, uint32_t number, struct esi_str content);
