/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What waits to be written to one peer: slices of shared blocks and lines of our own, in order.
 * Everything goes out by gathered writes; what the socket does not take is copied out of shared
 * blocks when it is small, so that a slow reader pins no more memory than it is charged for. One
 * thread's.
 */
#pragma once

#include "base/block.h"
#include "base/err.h"
#include "base/str.h"
#include "broker/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_stream;

struct esi_outbound_part {
    struct esi_block *block;
    const char *data;
    size_t len;
    bool owns_block;
};

struct esi_outbound {
    struct esi_target *target;       /* borrowed: its pending_bytes is what is charged */
    struct esi_batch_pools *pools;   /* borrowed: the home worker's */
    struct esi_outbound_part *parts; /* owned ring; capacity a power of two, NULL when idle */
    uint32_t capacity;
    uint32_t first;
    uint32_t count;
    uint32_t copied_count; /* of the first parts: these are private already */
    /* owned reference: where small waiting parts are copied to; NULL: none */
    struct esi_block *copy;
    size_t copy_used;
    bool is_blocked;        /* the last write left something */
    uint64_t queued_bytes;  /* of all parts */
    uint64_t written_bytes; /* in all */
    uint64_t ticked_bytes;  /* of them: at the last esi_outbound_is_lagging */
    uint64_t read_bytes;    /* of them: at the last esi_outbound_note_read */
};

void esi_outbound_init(struct esi_outbound *outbound, struct esi_target *target,
                       struct esi_batch_pools *pools);
/* Drops everything that waits, and gives the charge back. */
void esi_outbound_deinit(struct esi_outbound *outbound);
/* Appends one slice; the caller has moved its block reference here if it owns one. ES_NO_MEMORY:
 * not taken. */
ES_MUST_USE enum es_err esi_outbound_push_slice(struct esi_outbound *outbound,
                                                const struct esi_slice *slice);
/* Leaves a delivered slice out: its charge goes back, its reference goes to the slice before it
 * where that needs one. */
void esi_outbound_skip_slice(struct esi_outbound *outbound, const struct esi_slice *slice);
/* Gives the charge of bytes back that were delivered but not pushed. */
void esi_outbound_drop_bytes(struct esi_outbound *outbound, uint64_t bytes);
/* Appends a copy of a line of our own. ES_NO_MEMORY: not taken. */
ES_MUST_USE enum es_err esi_outbound_push_text(struct esi_outbound *outbound, struct esi_str text);
/* The worker ends: gives up the block that own lines stand in. */
void esi_outbound_forget_text(struct esi_batch_pools *pools);
/*
 * Writes as much as the stream takes, and no more than a share, so that other actors have their
 * turns. ES_OK: nothing is left (in the stream's own buffer neither); ES_AGAIN: watch for
 * POLL_WRITE (which comes at once when it was the share that ended it); other errors: the peer is
 * gone. *has_progress: the peer took bytes.
 */
ES_MUST_USE enum es_err esi_outbound_write(struct esi_outbound *outbound, struct esi_stream *stream,
                                           uint64_t now_ns, bool *has_progress);
/* The peer was read from: when something was written to it since the last time it has answered, and
 * the worker is told so. */
void esi_outbound_note_read(struct esi_outbound *outbound);
static inline bool esi_outbound_is_empty(const struct esi_outbound *outbound)
{
    return outbound->count == 0;
}
/*
 * Asked at equal intervals while something waits: would the peer need more than `ticks` of them for
 * what waits for it, at the pace of the last one?
 */
bool esi_outbound_is_lagging(struct esi_outbound *outbound, uint32_t ticks);
/* Something has waited for a while: what it holds beyond its own bytes is given back, as far as
 * that goes. */
void esi_outbound_settle(struct esi_outbound *outbound);
/*
 * The subject of the oldest message that waits whole for a client, borrowed until the next call for
 * this queue; empty where it cannot be told. For people: a payload can look like a message.
 */
struct esi_str esi_outbound_subject(const struct esi_outbound *outbound);
/* Bytes charged to the target: here and on the way here. */
uint64_t esi_outbound_pending_bytes(const struct esi_outbound *outbound);
