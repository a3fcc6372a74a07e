/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts are a ring that doubles when it is full; one that grew large is given back when nothing
 * waits, so that an idle connection holds little. */
#include "actors/outbound.h"
#include "base/assert.h"
#include "base/own.h"
#include "net/stream.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum {
    PARTS_MIN = 4,
    PARTS_KEPT_MAX = 256,
    IOV_MAX_PARTS = 256,
    COPY_OUT_MAX = 16 * 1024, /* a waiting part of fewer bytes is copied out of its shared block */
    /* What one call writes at most, about a millisecond's work: the worker has other actors. */
    WRITE_BYTES_MAX = 4 * 1024 * 1024,
    WRITE_TLS_BYTES_MAX = 256 * 1024,
    UNCOPIED_MAX = 32 /* parts that pin blocks while nothing can be written */
};

void esi_outbound_init(struct esi_outbound *outbound, struct esi_target *target,
                       struct esi_batch_pools *pools)
{
    *outbound = (struct esi_outbound){.target = target, .pools = pools};
}

static struct esi_outbound_part *part_at(const struct esi_outbound *outbound, uint32_t index)
{
    return &outbound->parts[(outbound->first + index) & (outbound->capacity - 1)];
}

static void release(struct esi_outbound *outbound, const struct esi_outbound_part *part)
{
    if (part->owns_block) {
        esi_block_unref(part->block, &outbound->pools->blocks, 1);
    }
}

uint64_t esi_outbound_pending_bytes(const struct esi_outbound *outbound)
{
    /* order: relaxed; a sum, nothing is published by it. */
    return atomic_load_explicit(&outbound->target->pending_bytes, memory_order_relaxed);
}

void esi_outbound_drop_bytes(struct esi_outbound *outbound, uint64_t bytes)
{
    /* order: relaxed; see esi_outbound_pending_bytes. */
    atomic_fetch_sub_explicit(&outbound->target->pending_bytes, bytes, memory_order_relaxed);
}

static void forget_copy(struct esi_outbound *outbound)
{
    if (outbound->copy != NULL) {
        esi_block_unref(outbound->copy, &outbound->pools->blocks, 1);
        outbound->copy = NULL;
    }
    outbound->copy_used = 0;
}

static void free_parts(struct esi_outbound *outbound)
{
    esi_ledger_give(outbound->pools->blocks.lease, MEMORY_OUTBOUND,
                    outbound->capacity * sizeof *outbound->parts);
    free(outbound->parts);
    outbound->parts = NULL;
    outbound->capacity = 0;
    outbound->first = 0;
}

void esi_outbound_deinit(struct esi_outbound *outbound)
{
    uint64_t dropped = 0;

    for (uint32_t i = 0; i < outbound->count; i++) {
        const struct esi_outbound_part *part = part_at(outbound, i);
        dropped += part->len;
        release(outbound, part);
    }
    esi_outbound_drop_bytes(outbound, dropped);
    forget_copy(outbound);
    free_parts(outbound);
    esi_outbound_init(outbound, outbound->target, outbound->pools);
}

static enum es_err make_room(struct esi_outbound *outbound)
{
    if (outbound->count < outbound->capacity) {
        return ES_OK;
    }
    const uint32_t capacity = outbound->capacity == 0 ? PARTS_MIN : outbound->capacity * 2;
    struct esi_outbound_part *parts = malloc(capacity * sizeof *parts);
    if (parts == NULL) {
        return ES_NO_MEMORY;
    }
    esi_ledger_charge(outbound->pools->blocks.lease, MEMORY_OUTBOUND, capacity * sizeof *parts);
    for (uint32_t i = 0; i < outbound->count; i++) {
        parts[i] = *part_at(outbound, i);
    }
    free_parts(outbound);
    outbound->parts = parts;
    outbound->capacity = capacity;
    outbound->first = 0;
    return ES_OK;
}

static enum es_err push(struct esi_outbound *outbound, const struct esi_outbound_part *part)
{
    const enum es_err err = make_room(outbound);

    if (err == ES_OK) {
        *part_at(outbound, outbound->count++) = *part;
        outbound->queued_bytes += part->len;
    }
    return err;
}

/*
 * Many peers may be blocked at once with a few bytes each, so a block for copies is twice what
 * waits, and one of the usual size, which costs no call of the allocator, only where that is much.
 */
static struct esi_block *new_copy(const struct esi_outbound *outbound, size_t len)
{
    struct esi_pool *pool = &outbound->pools->blocks;
    const uint64_t twice = 2 * outbound->queued_bytes;

    if (twice > ESI_BLOCK_BYTES / 2) {
        return esi_block_new(pool);
    }
    return esi_block_new_exact(pool, MEMORY_OUTBOUND, twice > len ? (size_t)twice : len);
}

/* Room for a part in the block that small parts are copied to; NULL when memory is exhausted. */
static char *copy_room(struct esi_outbound *outbound, size_t len)
{
    if (outbound->copy != NULL && esi_block_is_unique(outbound->copy)) {
        outbound->copy_used = 0;
    }
    if (outbound->copy == NULL || outbound->copy->capacity - outbound->copy_used < len) {
        struct esi_block *block = new_copy(outbound, len);
        if (block == NULL) {
            return NULL;
        }
        forget_copy(outbound);
        outbound->copy = block;
    }
    return outbound->copy->data + outbound->copy_used;
}

/* Puts a copied part, which stands in the copy block from `data` on, behind the first `kept`. */
static uint32_t keep_copy(struct esi_outbound *outbound, uint32_t kept, const char *data,
                          size_t len)
{
    struct esi_outbound_part *previous = kept > 0 ? part_at(outbound, kept - 1) : NULL;

    outbound->copy_used += len;
    if (previous != NULL && previous->block == outbound->copy &&
        previous->data + previous->len == data) {
        previous->len += len;
        return kept;
    }
    esi_block_ref(outbound->copy, 1);
    *part_at(outbound, kept) = (struct esi_outbound_part){
        .block = outbound->copy, .data = data, .len = len, .owns_block = true};
    return kept + 1;
}

/*
 * The peer is slow: small parts that wait are copied, so that each is charged what it holds. The
 * parts keep their order; consecutive small ones become one. Out of memory: they stay as they are.
 */
static void copy_out(struct esi_outbound *outbound)
{
    uint32_t kept = outbound->copied_count;
    /* the last kept part whose reference stands in a later one */
    struct esi_outbound_part *uncovered = NULL;

    for (uint32_t i = outbound->copied_count; i < outbound->count; i++) {
        const struct esi_outbound_part part = *part_at(outbound, i);
        char *room = part.len < COPY_OUT_MAX ? copy_room(outbound, part.len) : NULL;
        if (room == NULL) {
            *part_at(outbound, kept) = part;
            uncovered = part.owns_block ? NULL : part_at(outbound, kept);
            kept++;
            continue;
        }
        memcpy(room, part.data, part.len);
        if (part.owns_block && uncovered != NULL && uncovered->block == part.block) {
            uncovered->owns_block = true;
            uncovered = NULL;
        } else if (part.owns_block) {
            esi_block_unref(part.block, &outbound->pools->blocks, 1);
        }
        kept = keep_copy(outbound, kept, room, part.len);
    }
    outbound->count = kept;
    outbound->copied_count = kept;
}

/*
 * While nothing can be written, what comes is copied out now and then, or a peer that has stopped
 * reading would pin a whole block for each of the small pieces that it is charged for. Not between
 * slices that share one reference: its owner is still to come.
 */
static void copy_out_waiting(struct esi_outbound *outbound)
{
    if (outbound->count - outbound->copied_count >= UNCOPIED_MAX &&
        part_at(outbound, outbound->count - 1)->owns_block) {
        copy_out(outbound);
    }
}

enum es_err esi_outbound_push_slice(struct esi_outbound *outbound, const struct esi_slice *slice)
{
    if (outbound->is_blocked) {
        copy_out_waiting(outbound);
    }
    if (outbound->count > outbound->copied_count) {
        struct esi_outbound_part *last = part_at(outbound, outbound->count - 1);
        if (last->block == slice->block && last->data + last->len == slice->data) {
            /* The neighbour in the same block: one part, and the reference goes with its last
             * byte. */
            if (last->owns_block && slice->owns_block) {
                esi_block_unref(slice->block, &outbound->pools->blocks, 1);
            }
            last->owns_block |= slice->owns_block;
            last->len += slice->len;
            outbound->queued_bytes += slice->len;
            return ES_OK;
        }
    }
    const struct esi_outbound_part part = {.block = slice->block,
                                           .data = slice->data,
                                           .len = slice->len,
                                           .owns_block = slice->owns_block};
    return push(outbound, &part);
}

void esi_outbound_skip_slice(struct esi_outbound *outbound, const struct esi_slice *slice)
{
    esi_outbound_drop_bytes(outbound, slice->len);
    if (!slice->owns_block) {
        return;
    }
    if (outbound->count > outbound->copied_count) {
        struct esi_outbound_part *last = part_at(outbound, outbound->count - 1);
        if (last->block == slice->block && !last->owns_block) {
            last->owns_block = true;
            return;
        }
    }
    esi_block_unref(slice->block, &outbound->pools->blocks, 1);
}

/*
 * A reference to a block with room for `len` bytes at *data: the one that all peers of the worker
 * share, so that an idle one keeps none. Where that cannot be had it is a block of its own, which
 * the ledger cannot refuse: the line answers what was taken already.
 */
static struct esi_block *text_room(struct esi_batch_pools *pools, size_t len, char **data)
{
    if (pools->text != NULL && esi_block_is_unique(pools->text)) {
        pools->text_used = 0;
    }
    if (pools->text == NULL || pools->text->capacity - pools->text_used < len) {
        struct esi_block *fresh = len <= ESI_BLOCK_BYTES ? esi_block_new(&pools->blocks) : NULL;
        if (fresh == NULL) {
            fresh = esi_block_new_charged(&pools->blocks, MEMORY_OUTBOUND, len);
            *data = fresh != NULL ? fresh->data : NULL;
            return fresh;
        }
        esi_outbound_forget_text(pools);
        pools->text = fresh;
    }
    *data = pools->text->data + pools->text_used;
    pools->text_used += len;
    esi_block_ref(pools->text, 1);
    return pools->text;
}

void esi_outbound_forget_text(struct esi_batch_pools *pools)
{
    if (pools->text != NULL) {
        esi_block_unref(ESI_MOVE(pools->text), &pools->blocks, 1);
    }
    pools->text_used = 0;
}

enum es_err esi_outbound_push_text(struct esi_outbound *outbound, struct esi_str text)
{
    char *data = NULL;
    struct esi_block *block = text_room(outbound->pools, text.len, &data);

    if (block == NULL) {
        return ES_NO_MEMORY;
    }
    memcpy(data, text.data, text.len);
    const struct esi_slice slice = {
        .block = block, .data = data, .len = (uint32_t)text.len, .owns_block = true};
    const enum es_err err = esi_outbound_push_slice(outbound, &slice);
    if (err != ES_OK) {
        esi_block_unref(block, &outbound->pools->blocks, 1);
        return err;
    }
    /* order: relaxed; see esi_outbound_pending_bytes. */
    atomic_fetch_add_explicit(&outbound->target->pending_bytes, text.len, memory_order_relaxed);
    return ES_OK;
}

static void pop_bytes(struct esi_outbound *outbound, size_t bytes)
{
    outbound->queued_bytes -= bytes;
    while (bytes > 0) {
        struct esi_outbound_part *part = part_at(outbound, 0);
        if (bytes < part->len) {
            part->data += bytes;
            part->len -= bytes;
            return;
        }
        bytes -= part->len;
        release(outbound, part);
        outbound->first = (outbound->first + 1) & (outbound->capacity - 1);
        outbound->count--;
        if (outbound->copied_count > 0) {
            outbound->copied_count--;
        }
    }
}

/* All is written: an idle peer keeps as little as possible. */
static void rest(struct esi_outbound *outbound)
{
    outbound->copied_count = 0;
    forget_copy(outbound);
    if (outbound->capacity > PARTS_KEPT_MAX) {
        free_parts(outbound);
    }
}

/* *bytes: in, the most that is wanted; out, what there is of it. */
static size_t fill_iov(const struct esi_outbound *outbound, struct iovec *iov, size_t *bytes)
{
    const size_t wanted = *bytes;
    size_t count = 0;

    *bytes = 0;
    for (uint32_t i = 0; i < outbound->count && count < IOV_MAX_PARTS && *bytes < wanted; i++) {
        const struct esi_outbound_part *part = part_at(outbound, i);
        const size_t len = part->len < wanted - *bytes ? part->len : wanted - *bytes;
        *bytes += len;
        if (count > 0 && (char *)iov[count - 1].iov_base + iov[count - 1].iov_len == part->data) {
            iov[count - 1].iov_len += len;
            continue;
        }
        iov[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)part->data, .iov_len = len};
    }
    return count;
}

bool esi_outbound_is_lagging(struct esi_outbound *outbound, uint32_t ticks)
{
    const uint64_t before = outbound->ticked_bytes;

    outbound->ticked_bytes = outbound->written_bytes;
    return (outbound->written_bytes - before) * ticks < outbound->queued_bytes;
}

void esi_outbound_settle(struct esi_outbound *outbound)
{
    if (!outbound->is_blocked || outbound->count == 0 ||
        !part_at(outbound, outbound->count - 1)->owns_block) {
        return;
    }
    copy_out(outbound);
    if (outbound->copy == NULL || !outbound->copy->is_pooled ||
        outbound->copy_used > COPY_OUT_MAX || outbound->queued_bytes > COPY_OUT_MAX) {
        return;
    }
    /* A few bytes need no block of the usual size for as long as the peer does not read. */
    struct esi_block *small =
        esi_block_new_charged(&outbound->pools->blocks, MEMORY_OUTBOUND, outbound->queued_bytes);
    if (small == NULL) {
        return;
    }
    size_t len = 0;
    for (uint32_t i = 0; i < outbound->count; i++) {
        const struct esi_outbound_part *part = part_at(outbound, i);
        memcpy(small->data + len, part->data, part->len);
        len += part->len;
        release(outbound, part);
    }
    forget_copy(outbound);
    *part_at(outbound, 0) = (struct esi_outbound_part){
        .block = small, .data = small->data, .len = len, .owns_block = true};
    outbound->count = 1;
    outbound->copied_count = 1;
}

void esi_outbound_note_read(struct esi_outbound *outbound)
{
    if (outbound->read_bytes != outbound->written_bytes) {
        outbound->read_bytes = outbound->written_bytes;
        esi_worker_note_answer(esi_worker_current());
    }
}

enum es_err esi_outbound_write(struct esi_outbound *outbound, struct esi_stream *stream,
                               uint64_t now_ns, bool *has_progress)
{
    const size_t total_max = esi_stream_is_tls(stream) ? WRITE_TLS_BYTES_MAX : WRITE_BYTES_MAX;
    enum es_err err = ES_OK;
    size_t total = 0;
    bool has_had_its_share = false;

    while (outbound->count > 0) {
        struct iovec iov[IOV_MAX_PARTS];
        size_t offered = total_max - total;
        size_t written = 0;
        const size_t iov_count = fill_iov(outbound, iov, &offered);
        err = esi_stream_writev(stream, iov, iov_count, &written);
        if (err != ES_OK) {
            break;
        }
        total += written;
        pop_bytes(outbound, written);
        if (written < offered) {
            /* A short write means that the socket is full: asking again would only cost a system
             * call. */
            err = ES_AGAIN;
            break;
        }
        if (total >= total_max && outbound->count > 0) {
            /* The socket is ready again at once. */
            has_had_its_share = true;
            break;
        }
    }
    if (err == ES_OK && esi_stream_has_buffered_output(stream)) {
        err = esi_stream_flush(stream);
    }
    if (total > 0) {
        esi_outbound_drop_bytes(outbound, total);
        outbound->written_bytes += total;
        /* order: relaxed; a time that senders look at once a batch. */
        atomic_store_explicit(&outbound->target->progress_ns, now_ns, memory_order_relaxed);
    }
    *has_progress = total > 0;
    outbound->is_blocked = outbound->count > 0;
    if (outbound->count == 0) {
        rest(outbound);
    } else if (err == ES_AGAIN) {
        copy_out(outbound);
    }
    return err == ES_OK && has_had_its_share ? ES_AGAIN : err;
}

enum { SUBJECT_PARTS_MAX = 64, SUBJECT_SEARCH_BYTES = 64 * 1024, SUBJECT_BYTES_MAX = 256 };

/* The subject of a line that begins at data; empty: there is none. */
static struct esi_str subject_at(const char *data, size_t len)
{
    static const char plain[] = "MSG ";
    const size_t skipped = len > 0 && data[0] == 'H' ? 1 : 0;

    if (len < skipped + sizeof plain || memcmp(data + skipped, plain, sizeof plain - 1) != 0) {
        return ESI_STR("");
    }
    const char *start = data + skipped + sizeof plain - 1;
    const size_t left = len - skipped - (sizeof plain - 1);
    const char *end = memchr(start, ' ', left < SUBJECT_BYTES_MAX ? left : SUBJECT_BYTES_MAX);
    return end != NULL ? (struct esi_str){.data = start, .len = (size_t)(end - start)}
                       : ESI_STR("");
}

/* In a part whose begin was written already: of the first line after a line's end. */
static struct esi_str subject_within(const char *data, size_t len)
{
    const size_t searched = len < SUBJECT_SEARCH_BYTES ? len : SUBJECT_SEARCH_BYTES;
    struct esi_str subject = ESI_STR("");

    for (size_t i = 0; i + 2 < searched && subject.len == 0; i++) {
        const char *end = memchr(data + i, '\n', searched - i);
        if (end == NULL) {
            break;
        }
        i = (size_t)(end - data);
        subject = subject_at(end + 1, len - i - 1);
    }
    return subject;
}

struct esi_str esi_outbound_subject(const struct esi_outbound *outbound)
{
    struct esi_str subject = ESI_STR("");

    for (uint32_t i = 0; i < outbound->count && i < SUBJECT_PARTS_MAX && subject.len == 0; i++) {
        const struct esi_outbound_part *part = part_at(outbound, i);
        subject = subject_at(part->data, part->len);
        if (subject.len == 0 && i == 0) {
            subject = subject_within(part->data, part->len);
        }
    }
    return subject;
}
