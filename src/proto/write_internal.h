/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing the fields of message lines into room that the caller guarantees. */
#pragma once

#include "base/num.h"
#include "base/str.h"

#include <stddef.h>
#include <string.h>

enum { ESI_SIZE_DIGITS_MAX = 20 };

static inline char *write_bytes(char *out, const char *data, size_t len)
{
    if (len > 0) {
        memcpy(out, data, len);
    }
    return out + len;
}

/* The field and one blank. */
static inline char *write_field(char *out, struct esi_str field)
{
    out = write_bytes(out, field.data, field.len);
    *out = ' ';
    return out + 1;
}

/* Decimal digits, written from the last one in place: no second buffer for the usual one to six
 * digits. */
static inline char *write_size(char *out, size_t size)
{
    size_t digits = 1;

    for (size_t rest = size; rest >= 10; rest /= 10) {
        digits++;
    }
    for (size_t i = digits; i > 0; i--) {
        out[i - 1] = (char)('0' + size % 10);
        size /= 10;
    }
    return out + digits;
}
