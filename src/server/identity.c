/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A server nkey without its secret half: nobody signs with it, but tools expect its form. */
#include "server/identity.h"
#include "env/env.h"

#include <stdint.h>

enum { PREFIX_SERVER = 13 << 3, RAW_BYTES = 35 };

/* CRC-16/XMODEM, as the nkey format has it. */
static uint16_t crc16(const uint8_t *data, unsigned len)
{
    uint16_t crc = 0;

    for (unsigned i = 0; i < len; i++) {
        crc = (uint16_t)(crc ^ (data[i] << 8));
        for (int bit = 0; bit < 8; bit++) {
            crc = (uint16_t)((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
        }
    }
    return crc;
}

void esi_identity_new(struct esi_env *env, char out[57])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t raw[RAW_BYTES];
    uint32_t buffer = 0;
    unsigned bits = 0;
    unsigned written = 0;

    raw[0] = PREFIX_SERVER;
    esi_env_random(env, raw + 1, 32);
    const uint16_t crc = crc16(raw, 33);
    raw[33] = (uint8_t)(crc & 0xff);
    raw[34] = (uint8_t)(crc >> 8);
    for (unsigned i = 0; i < RAW_BYTES; i++) {
        buffer = (buffer << 8) | raw[i];
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            out[written++] = alphabet[(buffer >> bits) & 31];
        }
    }
    out[written] = '\0';
}
