/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a batch has written, and the deliveries that it becomes. References to a block are counted
 * in the batch while it works, and settled with one atomic operation a block when it is done: none
 * is counted in a block and still in the batch.
 */
#include "base/assert.h"
#include "base/own.h"
#include "broker/batch_internal.h"

#include <stdlib.h>
#include <string.h>

/* There was no memory for messages of this target. */
void esi_batch_output_lose(struct esi_batch *batch, struct esi_target *target,
                           uint32_t message_count)
{
    batch->stats.dropped += message_count;
    /* order: relaxed; a count that the target looks at once a turn. */
    atomic_fetch_add_explicit(&target->lost_msgs, message_count, memory_order_relaxed);
}

/* --- the output block --- */

void esi_batch_output_settle(struct esi_batch *batch)
{
    if (batch->out_refs > 0) {
        esi_block_ref(batch->out, batch->out_refs);
        batch->out_refs = 0;
    }
}

/* Makes room for `bytes` in one piece. Returns the free room, or NULL when memory is exhausted. */
char *esi_batch_output_reserve(struct esi_batch *batch, size_t bytes)
{
    if (ESI_LIKELY(batch->out != NULL && batch->out->capacity - batch->out_used >= bytes)) {
        return batch->out->data + batch->out_used;
    }
    struct esi_block *fresh = esi_block_new_sized(&batch->options.pools->blocks, bytes);
    if (fresh == NULL) {
        return NULL;
    }
    if (batch->out != NULL) {
        esi_batch_output_settle(batch);
        esi_block_unref(batch->out, &batch->options.pools->blocks, 1);
    }
    batch->out = fresh;
    batch->out_used = 0;
    return fresh->data;
}

/* --- deliveries --- */

static bool grow_by_target(struct esi_batch *batch, uint32_t slot)
{
    const uint32_t limit = esi_targets_slot_limit(batch->options.targets);
    const uint32_t capacity = (limit > slot ? limit : slot + 1) * 2 + 64;
    struct esi_delivery **grown =
        realloc(batch->by_target, capacity * sizeof(struct esi_delivery *));

    if (grown == NULL) {
        return false;
    }
    memset(grown + batch->by_target_capacity, 0,
           (capacity - batch->by_target_capacity) * sizeof(struct esi_delivery *));
    batch->by_target = grown;
    batch->by_target_capacity = capacity;
    return true;
}

/*
 * A delivery of the target with room for as many slices; NULL when memory is exhausted. A message
 * that goes on in a next slice needs two at once: between two deliveries the target may get one of
 * another worker.
 */
static struct esi_delivery *reach_delivery(struct esi_batch *batch, struct esi_target *target,
                                           uint32_t slices)
{
    if (target->slot >= batch->by_target_capacity && !grow_by_target(batch, target->slot)) {
        return NULL;
    }
    struct esi_delivery *delivery = batch->by_target[target->slot];
    if (ESI_LIKELY(delivery != NULL && delivery->slice_count + slices <= ESI_DELIVERY_SLICES_MAX)) {
        return delivery;
    }
    delivery = esi_pool_take(&batch->options.pools->deliveries);
    if (delivery == NULL) {
        return NULL;
    }
    delivery->msg.next = NULL;
    delivery->target = target;
    delivery->bytes = 0;
    delivery->message_count = 0;
    delivery->slice_count = 0;
    if (batch->last == NULL) {
        batch->first = &delivery->msg;
    } else {
        batch->last->next = &delivery->msg;
    }
    batch->last = &delivery->msg;
    batch->by_target[target->slot] = delivery;
    return delivery;
}

static void count_ref(struct esi_batch *batch, const struct esi_block *block)
{
    if (block == batch->out) {
        batch->out_refs++;
    } else {
        ESI_DEBUG_ASSERT(block == batch->read_block);
        batch->read_refs++;
    }
}

void esi_batch_output_append(struct esi_batch *batch, struct esi_target *target,
                             const struct esi_slice *slice)
{
    struct esi_delivery *delivery = reach_delivery(batch, target, slice->is_continued ? 2 : 1);

    if (ESI_UNLIKELY(delivery == NULL)) {
        esi_batch_output_lose(batch, target, slice->message_count);
        return;
    }
    if (ESI_UNLIKELY(slice->block == batch->read_block) &&
        (delivery->slice_count == 0 || !delivery->slices[delivery->slice_count - 1].is_continued)) {
        /* Memory was exhausted when its line was to be written: no body without a line. */
        esi_batch_output_lose(batch, target, slice->message_count);
        return;
    }
    delivery->bytes += slice->len;
    delivery->message_count += slice->message_count;
    batch->stats.messages_out += slice->message_count;
    batch->stats.bytes_out += slice->len;
    if (delivery->slice_count > 0) {
        struct esi_slice *previous = &delivery->slices[delivery->slice_count - 1];
        if (previous->block == slice->block) {
            if (previous->data + previous->len == slice->data &&
                previous->sub_slot == slice->sub_slot && !previous->is_record &&
                !slice->is_record && !previous->is_continued && !slice->is_continued) {
                previous->len += slice->len;
                previous->message_count += slice->message_count;
                previous->payload_len += slice->payload_len;
                return;
            }
            /* One reference serves neighbours of one block; the last of them holds it. */
            previous->owns_block = false;
        } else {
            count_ref(batch, slice->block);
        }
    } else {
        count_ref(batch, slice->block);
    }
    struct esi_slice *added = &delivery->slices[delivery->slice_count++];
    *added = *slice;
    added->owns_block = true;
}
