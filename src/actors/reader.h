/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes in from one peer, as pieces to parse: bytes are read into the worker's block, behind
 * what was left over from the piece before; a message larger than such a block is read straight
 * into the block that it is delivered from. One thread's.
 */
#pragma once

#include "base/block.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct esi_local;
struct esi_stream;

struct esi_reader {
    struct esi_block *tail; /* owned: bytes read and not yet parsed; NULL: none */
    size_t tail_len;
    size_t needed; /* bytes that the message at its start will have; 0: unknown */
};

/* Bytes to parse; they lie in the block, which may be shared for slices until esi_reader_keep. */
struct esi_reader_piece {
    char *data;
    size_t len;
    struct esi_block *block;
    bool owns_block; /* the reader's: not the worker's own read block */
    size_t read_len; /* of it: bytes that came from the peer now */
};

/* Forgets everything. A zeroed reader is accepted. */
void esi_reader_deinit(struct esi_reader *reader, struct esi_local *local);
/*
 * The next piece.
 *   may_read   read from the stream, once; else only what is left over is given
 * ES_OK: *piece is filled, must be given to esi_reader_keep; ES_AGAIN: nothing to parse now; other
 * errors as esi_stream_read.
 */
ES_MUST_USE enum es_err esi_reader_next(struct esi_reader *reader, struct esi_local *local,
                                        struct esi_stream *stream, bool may_read,
                                        struct esi_reader_piece *piece);
/*
 * Ends with a piece and keeps what was not parsed of it.
 *   done     bytes of it that are done with
 *   needed   bytes that the message behind them will have, 0: unknown
 * Fails only with ES_NO_MEMORY: bytes are lost.
 */
ES_MUST_USE enum es_err esi_reader_keep(struct esi_reader *reader, struct esi_local *local,
                                        const struct esi_reader_piece *piece, size_t done,
                                        size_t needed);
/* True when bytes are left over that a parser may go on with. */
static inline bool esi_reader_has_tail(const struct esi_reader *reader)
{
    return reader->tail_len > 0;
}
