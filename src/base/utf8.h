/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UTF-8, decoded and encoded: strict (no overlong forms, no surrogates, nothing above U+10FFFF). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Decodes the sequence at data (left > 0 bytes there). Returns its length in bytes with *code
 * written, or 0 when the bytes are not UTF-8.
 */
static inline size_t esi_utf8_decode(const char *data, size_t left, uint32_t *code)
{
    const unsigned char lead = (unsigned char)data[0];
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len;
    uint32_t value;

    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        len = 2;
        value = lead & 0x1fU;
    } else if ((lead & 0xf0U) == 0xe0) {
        len = 3;
        value = lead & 0x0fU;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        value = lead & 0x07U;
    } else {
        return 0;
    }
    if (len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        const unsigned char byte = (unsigned char)data[i];
        if ((byte & 0xc0U) != 0x80) {
            return 0;
        }
        value = (value << 6) | (byte & 0x3fU);
    }
    if (value < least[len] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
        return 0;
    }
    *code = value;
    return len;
}

/* Writes a code point (at most U+10FFFF) to out, 4 bytes of room. Returns the length. */
static inline size_t esi_utf8_encode(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0U | (code >> 6));
        out[1] = (char)(0x80U | (code & 0x3fU));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0U | (code >> 12));
        out[1] = (char)(0x80U | ((code >> 6) & 0x3fU));
        out[2] = (char)(0x80U | (code & 0x3fU));
        return 3;
    }
    out[0] = (char)(0xf0U | (code >> 18));
    out[1] = (char)(0x80U | ((code >> 12) & 0x3fU));
    out[2] = (char)(0x80U | ((code >> 6) & 0x3fU));
    out[3] = (char)(0x80U | (code & 0x3fU));
    return 4;
}
