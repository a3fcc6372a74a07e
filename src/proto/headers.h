/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A message's header block: "NATS/1.0[ status[ description]]" CR LF, lines "Name: value" CR LF, an
 * empty line. Servers pass any bytes through, so a block may be anything: reading one is tolerant,
 * bounded by its length, and never fails other than by finding nothing. Thread: any.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A walk over the lines of a block. */
struct esi_headers_cursor {
    const char *next; /* borrowed */
    const char *end;
};

/* Starts a walk; a block that does not begin with "NATS/1.0" has no lines. The block stays
 * borrowed. */
struct esi_headers_cursor esi_headers_lines(struct esi_str block);
/* Gives the next well-formed line, value without surrounding blanks; false at the end. Order is
 * that of the block. */
bool esi_headers_next(struct esi_headers_cursor *cursor, struct esi_str *name,
                      struct esi_str *value);
/*
 * The first value of a name, ASCII letters in any case; false when there is none. Linear in the
 * block: who needs many names walks once instead.
 */
bool esi_headers_find(struct esi_str block, struct esi_str name, struct esi_str *value);
/* The status behind "NATS/1.0", 0 when there is none. */
uint32_t esi_headers_status(struct esi_str block);

/* Starts a block in out: "NATS/1.0\r\n". */
void esi_headers_begin(struct esi_bytes *out);
/* Appends "name: value\r\n"; bytes of value that would end the line are written as blanks. */
void esi_headers_add(struct esi_bytes *out, struct esi_str name, struct esi_str value);
/* Ends the block: "\r\n". */
void esi_headers_end(struct esi_bytes *out);
