/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: the tail holds exactly the bytes that were read and not parsed; with `needed` above a
 * block's size it stands in a block that the whole message fits into.
 */
#include "actors/reader.h"
#include "actors/context.h"
#include "base/assert.h"
#include "base/own.h"
#include "net/stream.h"

#include <stdlib.h>
#include <string.h>

static void drop_tail(struct esi_reader *reader, struct esi_local *local)
{
    if (reader->tail != NULL) {
        esi_block_unref(reader->tail, &local->pools.blocks, 1);
        reader->tail = NULL;
    }
    reader->tail_len = 0;
}

void esi_reader_deinit(struct esi_reader *reader, struct esi_local *local)
{
    drop_tail(reader, local);
    reader->needed = 0;
}

/* A message larger than a read block: goes on filling its own block, which is given when it is
 * whole. */
static enum es_err next_large(struct esi_reader *reader, struct esi_stream *stream, bool may_read,
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
    }
    if (reader->tail_len < reader->needed) {
        return ES_AGAIN;
    }
    struct esi_block *block = ESI_MOVE(reader->tail);
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

    if (reader->tail != NULL && reader->needed > ESI_BLOCK_BYTES) {
        return next_large(reader, stream, may_read, piece);
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
    drop_tail(reader, local);
    local->read_used += piece->len;
    return ES_OK;
}

/* A copy of what is left, in a block of just the size that it, or the message that it begins,
 * needs. */
static enum es_err keep_copy(struct esi_reader *reader, const char *data, size_t len)
{
    const size_t capacity = reader->needed > ESI_BLOCK_BYTES ? reader->needed : len;
    struct esi_block *block = malloc(sizeof *block + capacity);

    if (block == NULL) {
        return ES_NO_MEMORY;
    }
    ESI_ASSERT(capacity >= len);
    atomic_init(&block->refs, 1);
    block->is_pooled = false;
    block->capacity = capacity;
    memcpy(block->data, data, len);
    reader->tail = block;
    reader->tail_len = len;
    return ES_OK;
}

enum es_err esi_reader_keep(struct esi_reader *reader, struct esi_local *local,
                            const struct esi_reader_piece *piece, size_t done, size_t needed)
{
    enum es_err err = ES_OK;

    ESI_REQUIRE(done <= piece->len && reader->tail == NULL);
    const size_t left = piece->len - done;
    /* What is already there of a message is never more than the message. */
    reader->needed = needed > left ? needed : 0;
    if (left > 0) {
        err = keep_copy(reader, piece->data + done, left);
    }
    if (piece->owns_block) {
        esi_block_unref(piece->block, &local->pools.blocks, 1);
    }
    return err;
}
