/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a message carries, so that its receiver can account for it:
 *   bytes 0..7   publisher (16 bits) and sequence number (48 bits), in this machine's byte order
 *   bytes 8..15  send time, monotonic ns of the generator
 *   last 8 bytes, from 24 bytes on: the first word, inverted. A server that joins the pieces of two
 *                messages wrongly is found without comparing every byte.
 * The rest is a fixed pattern.
 *
 * An event is an EventMsg whose one field, a tag, holds the same as text, since the server reads it
 * and may put fields before and behind: a mark, 16 digits each of first word and time, letters, and
 * the 16 digits of the inverted word.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const char esi_bench_payload_mark[] = "event-bench:";

enum { BENCH_WORD_DIGITS = 16 };
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

/* Digits of a word, the highest first. */
static inline void esi_bench_payload_write_text(char *at, uint64_t word)
{
    for (int i = BENCH_WORD_DIGITS - 1; i >= 0; i--) {
        at[i] = "0123456789abcdef"[word & 15];
        word >>= 4;
    }
}

/* What is no digit counts as 0: the inverted word then tells. */
static inline uint64_t esi_bench_payload_read_text(const char *at)
{
    uint64_t word = 0;

    for (int i = 0; i < BENCH_WORD_DIGITS; i++) {
        const char digit = at[i];
        word = word << 4 | (uint64_t)(digit >= '0' && digit <= '9'   ? digit - '0'
                                      : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                                                     : 0);
    }
    return word;
}

/*
 * What stands before an event's text: field 4 (Tags) of an EventMsg, its length, the mark.
 *   event  the payload's first byte; NULL: nothing is written
 * Returns the bytes of it, so that the text takes the rest of size_bytes.
 */
static inline size_t esi_bench_payload_event_head(char *event, size_t size_bytes)
{
    const size_t mark = sizeof esi_bench_payload_mark - 1;
    size_t digits = 1;

    while ((size_bytes - 1 - digits) >> (7 * digits) != 0) {
        digits++;
    }
    if (event != NULL) {
        size_t length = size_bytes - 1 - digits;
        event[0] = 4 << 3 | 2;
        for (size_t i = 1; i <= digits; i++) {
            event[i] = (char)((i < digits ? 0x80 : 0) | (length & 0x7f));
            length >>= 7;
        }
        memcpy(event + 1 + digits, esi_bench_payload_mark, mark);
    }
    return 1 + digits + mark;
}

static inline void esi_bench_payload_stamp_text(char *text, size_t len, uint64_t word,
                                                uint64_t sent_ns)
{
    esi_bench_payload_write_text(text, word);
    esi_bench_payload_write_text(text + BENCH_WORD_DIGITS, sent_ns);
    esi_bench_payload_write_text(text + len - BENCH_WORD_DIGITS, ~word);
}

static inline bool esi_bench_payload_text_is_whole(const char *text, size_t len)
{
    return esi_bench_payload_read_text(text) ==
           ~esi_bench_payload_read_text(text + len - BENCH_WORD_DIGITS);
}
