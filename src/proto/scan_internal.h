/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding the end of a field eight bytes at a time, for the fast paths of the parsers. These look
 * only at canonical lines (single blanks, CR LF, all of the message there); whatever else they
 * meet, they answer "not canonical" and the general machine decides.
 */
#pragma once

#include "base/own.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Eight bytes as a number whose lowest byte is the first one, on any machine. */
static inline uint64_t load_le64(const char *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof word);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap64(word);
}

static inline uint32_t load_le32(const char *data)
{
    uint32_t word;

    memcpy(&word, data, sizeof word);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap32(word);
}

/* CR LF at data? */
static inline bool is_line_end(const char *data)
{
    uint16_t pair;
    const uint16_t wanted = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0x0a0d : 0x0d0a;

    memcpy(&pair, data, sizeof pair);
    return pair == wanted;
}

/*
 * The first byte at or behind `at` that is a blank or a control byte, or NULL when it is not found
 * by words that lie wholly before last + 8. Bytes of 0x80 and more are ordinary. `word - 0x21 each`
 * borrows into a byte's top bit exactly for bytes below 0x21, and the lowest such bit is always
 * right (a borrow can only disturb bytes above it).
 */
static inline const char *find_stop(const char *at, const char *last)
{
    const uint64_t ones = 0x0101010101010101ULL;

    while (ESI_LIKELY(at <= last)) {
        const uint64_t word = load_le64(at);
        const uint64_t stops = (word - ones * 0x21) & ~word & (ones * 0x80);
        if (stops != 0) {
            return at + (unsigned)__builtin_ctzll(stops) / 8;
        }
        at += 8;
    }
    return NULL;
}

/* Reads 1 to 9 digits, nothing else. Returns false otherwise. */
static inline bool read_size(const char *digits, size_t count, size_t *size)
{
    uint32_t value = 0;

    if (count - 1 > 8) {
        return false;
    }
    for (const char *const end = digits + count; digits < end; digits++) {
        const uint32_t digit = (uint32_t)(unsigned char)*digits - '0';
        if (ESI_UNLIKELY(digit > 9)) {
            return false;
        }
        value = value * 10 + digit;
    }
    *size = value;
    return true;
}

/*
 * Splits a line at runs of blanks into at most capacity fields. Returns the CR of its CR LF, or
 * NULL when the line is not there within words before end, has more fields, or holds any other
 * control byte.
 */
static inline const char *scan_fields(const char *at, const char *end, struct esi_str *fields,
                                      size_t capacity, size_t *count)
{
    const char *const last = end - 8;

    *count = 0;
    for (;;) {
        const char *stop = find_stop(at, last);
        if (stop == NULL) {
            return NULL;
        }
        if (stop > at) {
            if (*count == capacity) {
                return NULL;
            }
            fields[*count] = (struct esi_str){.data = at, .len = (size_t)(stop - at)};
            (*count)++;
        }
        if (*stop != ' ') {
            return end - stop >= 2 && is_line_end(stop) ? stop : NULL;
        }
        at = stop + 1;
    }
}
