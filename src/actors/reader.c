/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: the tail holds exactly the bytes that were read and not parsed; with `needed` above a
 * block's size it stands in a block that the whole message fits into. A small tail's block is kept
 * from read to read until one ends with a message.
 */
#include "actors/reader.h"
#include "actors/context.h"
#include "base/assert.h"
#include "base/own.h"
#include "net/stream.h"

#include <string.h>

enum {
    TAIL_BYTES_MIN = 1024,
    LAGGING_BYTES_MIN = 4096 /* who holds less is not worth closing */
};

static void drop_tail(struct esi_reader *reader, struct esi_local *local)
{
    if (reader->tail != NULL) {
        esi_block_unref(reader->tail, &local->pools.blocks, 1);
        reader->tail = NULL;
    }
    reader->tail_len = 0;
}

bool esi_reader_is_lagging(struct esi_reader *reader, uint32_t ticks)
{
    const uint64_t before = reader->ticked_bytes;

    reader->ticked_bytes = reader->read_bytes;
    return reader->tail_len > 0 && reader->tail->capacity > LAGGING_BYTES_MIN &&
           (reader->read_bytes - before) * ticks < reader->tail->capacity;
}

void esi_reader_deinit(struct esi_reader *reader, struct esi_local *local)
{
    drop_tail(reader, local);
    reader->needed = 0;
}

/* A message larger than a read block: goes on filling its own block, which is given when it is
 * whole. */
static enum es_err next_large(struct esi_reader *reader, struct esi_local *local,
                              struct esi_stream *stream, bool may_read,
                              struct esi_reader_piece *piece)
{
    size_t count = 0;

    if (reader->tail_len < reader->needed && may_read) {
        const enum es_err err = esi_stream_read(stream, reader->tail->data + reader->tail_len,
                                                reader->needed - reader->tail_len, &count);
        if (err != ES_OK) {
            return err;
        }
        reader->tail_len += count;
        reader->read_bytes += count;
    }
    if (reader->tail_len < reader->needed) {
        return ES_AGAIN;
    }
    struct esi_block *block = ESI_MOVE(reader->tail);
    /* What was coming in is on its way to its receivers now. */
    esi_block_charge_to(block, &local->pools.blocks, MEMORY_BLOCKS);
    *piece = (struct esi_reader_piece){.data = block->data,
                                       .len = reader->tail_len,
                                       .block = block,
                                       .owns_block = true,
                                       .read_len = count};
    reader->tail_len = 0;
    return ES_OK;
}

enum es_err esi_reader_next(struct esi_reader *reader, struct esi_local *local,
                            struct esi_stream *stream, bool may_read,
                            struct esi_reader_piece *piece)
{
    size_t room_len = 0;
    size_t count = 0;

    if (esi_reader_is_large(reader)) {
        return next_large(reader, local, stream, may_read, piece);
    }
    if (!may_read && reader->tail_len == 0) {
        return ES_AGAIN;
    }
    char *room = esi_context_read_room(local, reader->tail_len + ESI_READ_ROOM_MIN, &room_len);
    if (room == NULL) {
        return ES_NO_MEMORY;
    }
    if (may_read) {
        const enum es_err err =
            esi_stream_read(stream, room + reader->tail_len, room_len - reader->tail_len, &count);
        if (err != ES_OK && (err != ES_AGAIN || reader->tail_len == 0)) {
            return err;
        }
    }
    if (reader->tail_len > 0) {
        ESI_ASSERT(reader->tail != NULL);
        memcpy(room, reader->tail->data, reader->tail_len);
    }
    *piece = (struct esi_reader_piece){.data = room,
                                       .len = reader->tail_len + count,
                                       .block = local->read_block,
                                       .read_len = count};
    reader->read_bytes += count;
    /* Its block stays: most likely this read cuts a message too. */
    reader->tail_len = 0;
    local->read_used += piece->len;
    return ES_OK;
}

/* A block for what is left: the one of the time before, where that is large enough. */
static enum es_err reach_tail(struct esi_reader *reader, struct esi_local *local, size_t len)
{
    struct esi_pool *pool = &local->pools.blocks;

    if (reader->needed > ESI_BLOCK_BYTES) {
        /* Small tails, which cannot wait, have the last quarter of the input's memory to
         * themselves. */
        const bool is_short =
            pool->lease != NULL && esi_ledger_is_short(pool->lease->ledger, MEMORY_INPUT);
        struct esi_block *whole =
            is_short ? NULL : esi_block_new_exact(pool, MEMORY_PARTIAL_INPUT, reader->needed);
        if (whole != NULL) {
            drop_tail(reader, local);
            reader->tail = whole;
            return ES_OK;
        }
        reader->needed = 0; /* its turn comes when others have gone on */
        reader->awaits_memory = true;
    }
    if (reader->tail != NULL && reader->tail->capacity >= len) {
        return ES_OK;
    }
    drop_tail(reader, local);
    const size_t capacity = len < TAIL_BYTES_MIN ? TAIL_BYTES_MIN : len;
    reader->tail = esi_block_new_exact(pool, MEMORY_PARTIAL_INPUT, capacity);
    return reader->tail != NULL ? ES_OK : ES_NO_MEMORY;
}

enum es_err esi_reader_keep(struct esi_reader *reader, struct esi_local *local,
                            const struct esi_reader_piece *piece, size_t done, size_t needed)
{
    enum es_err err = ES_OK;

    ESI_REQUIRE(done <= piece->len && reader->tail_len == 0);
    const size_t left = piece->len - done;
    /* What is already there of a message is never more than the message. */
    reader->needed = needed > left ? needed : 0;
    reader->awaits_memory = false;
    if (left > 0) {
        err = reach_tail(reader, local, left);
        if (err == ES_OK) {
            ESI_ASSERT(reader->tail->capacity >= left);
            memcpy(reader->tail->data, piece->data + done, left);
            reader->tail_len = left;
        }
    } else {
        drop_tail(reader, local); /* an idle peer holds nothing */
    }
    if (piece->owns_block) {
        esi_block_unref(piece->block, &local->pools.blocks, 1);
    }
    return err;
}
