/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a message carries, so that its receiver can account for it:
 *   bytes 0..7   publisher (16 bits) and sequence number (48 bits), in this machine's byte order
 *   bytes 8..15  send time, monotonic ns of the generator
 *   last 8 bytes, from 24 bytes on: the first word, inverted. A server that joins the pieces of two
 *                messages wrongly is found without comparing every byte.
 * The rest is a fixed pattern.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BENCH_HEAD_BYTES = 16, BENCH_TAIL_BYTES = 8, BENCH_SEQUENCE_BITS = 48 };

static inline uint64_t esi_bench_payload_word(uint64_t publisher, uint64_t sequence)
{
    return publisher << BENCH_SEQUENCE_BITS | sequence;
}

static inline uint64_t esi_bench_payload_publisher(uint64_t word)
{
    return word >> BENCH_SEQUENCE_BITS;
}

static inline uint64_t esi_bench_payload_sequence(uint64_t word)
{
    return word & ((UINT64_C(1) << BENCH_SEQUENCE_BITS) - 1);
}

static inline bool esi_bench_payload_has_tail(size_t size_bytes)
{
    return size_bytes >= BENCH_HEAD_BYTES + BENCH_TAIL_BYTES;
}

/* The pattern, once; the stamp goes over it for each message. */
static inline void esi_bench_payload_fill(char *payload, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        payload[i] = (char)('!' + i % 89);
    }
}

static inline void esi_bench_payload_stamp(char *payload, size_t size_bytes, uint64_t word,
                                           uint64_t sent_ns)
{
    memcpy(payload, &word, sizeof word);
    memcpy(payload + sizeof word, &sent_ns, sizeof sent_ns);
    if (esi_bench_payload_has_tail(size_bytes)) {
        const uint64_t inverted = ~word;
        memcpy(payload + size_bytes - BENCH_TAIL_BYTES, &inverted, sizeof inverted);
    }
}

static inline uint64_t esi_bench_payload_read_u64(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return value;
}

/* True when head and tail belong together. */
static inline bool esi_bench_payload_is_whole(const char *payload, size_t size_bytes)
{
    return !esi_bench_payload_has_tail(size_bytes) ||
           esi_bench_payload_read_u64(payload) ==
               ~esi_bench_payload_read_u64(payload + size_bytes - BENCH_TAIL_BYTES);
}
