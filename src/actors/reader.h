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
#include <stdint.h>

struct esi_local;
struct esi_stream;

struct esi_reader {
    struct esi_block *tail; /* owned: holds bytes read and not yet parsed; NULL: none */
    size_t tail_len;
    size_t needed;         /* bytes that the message at its start will have; 0: unknown */
    uint64_t read_bytes;   /* in all */
    uint64_t ticked_bytes; /* of them: at the last esi_reader_is_lagging */
    bool awaits_memory; /* the ledger has no room for that message now: to be parsed again later */
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
 * Fails only with ES_NO_MEMORY: bytes are lost. Where the ledger has no room for a message larger
 * than a block, what there is of it is kept and awaits_memory is set: nothing must be read until
 * the tail has been parsed again.
 */
ES_MUST_USE enum es_err esi_reader_keep(struct esi_reader *reader, struct esi_local *local,
                                        const struct esi_reader_piece *piece, size_t done,
                                        size_t needed);
/*
 * Asked at equal intervals: would the peer need more than `ticks` of them for the memory that it
 * holds with a message that has come in part, at the pace of the last one?
 */
bool esi_reader_is_lagging(struct esi_reader *reader, uint32_t ticks);
/* True when a message larger than a block is being read: its memory is taken, and it should go on.
 */
static inline bool esi_reader_is_large(const struct esi_reader *reader)
{
    return reader->tail_len > 0 && reader->needed > ESI_BLOCK_BYTES;
}
/* True when bytes are left over that a parser may go on with. */
static inline bool esi_reader_has_tail(const struct esi_reader *reader)
{
    return reader->tail_len > 0;
}
