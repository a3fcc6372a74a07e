/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a NATS server sends, one frame at a time, parsed in place: nothing is copied or allocated.
 * The program has a parser of its own, so that it does not share a fault with the server that it
 * checks.
 */
#pragma once

#include <stddef.h>

#include "base/str.h"

enum {
    BENCH_LINE_BYTES_MAX = 1 << 16 /* an INFO of a large cluster lists many URLs */
};

enum esi_bench_op {
    BENCH_OP_PART, /* not all of it is here yet */
    BENCH_OP_MSG,  /* MSG or HMSG */
    BENCH_OP_PING,
    BENCH_OP_PONG,
    BENCH_OP_OK,
    BENCH_OP_ERR,
    BENCH_OP_INFO,
    BENCH_OP_BAD /* not the protocol, or over a limit */
};

/* Borrowed from the input. */
struct esi_bench_frame {
    struct esi_str subject;
    struct esi_str sid;
    struct esi_str reply;  /* empty: none */
    struct esi_str header; /* HMSG only */
    struct esi_str payload;
    struct esi_str text; /* of -ERR and INFO */
};

/*
 * Reads the frame that starts at data.
 *   payload_max  the largest header and payload allowed, in bytes
 *   frame        filled as far as the op has parts; untouched for BENCH_OP_PART and BENCH_OP_BAD
 *   used         the frame's length in bytes; written unless BENCH_OP_PART or BENCH_OP_BAD
 * Thread: any. Pure.
 */
enum esi_bench_op esi_bench_parser_next(struct esi_str data, size_t payload_max,
                                        struct esi_bench_frame *frame, size_t *used);
