/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole numbers as digits: read from outside, bounded, and written. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads 1 to digits_max decimal digits, nothing else, into *out (written only on success).
 * digits_max is at most 18, so that the sum cannot overflow. Leading zeros are allowed: the NATS
 * protocol allows them.
 */
static inline bool esi_num_parse(const char *text, size_t len, size_t digits_max, uint64_t *out)
{
    uint64_t value = 0;

    if (len == 0 || len > digits_max) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        const unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

/* The value of a hexadecimal digit of either case, or -1. */
static inline int esi_num_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

enum { ESI_NUM_DIGITS_MAX = 20 }; /* of a uint64_t */

/*
 * Writes the decimal digits of value (at most ESI_NUM_DIGITS_MAX) to out, without NUL. Returns
 * their count.
 */
static inline size_t esi_num_format(uint64_t value, char *out)
{
    char digits[ESI_NUM_DIGITS_MAX];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}
