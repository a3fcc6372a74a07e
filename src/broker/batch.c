/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages come in, are looked up, and form runs; at the end every delivery is handed over. Between
 * two calls the run has at most ESI_BATCH_RUN_MAX messages, all with the present match; messages
 * that are looked up later (ahead) come behind it, and before all that is added next.
 */
#include "broker/batch.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "broker/batch_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAP_RECENT_NS = 2000000000,
    PROGRESS_RECENT_NS = 250000000,
    PAUSE_STEP_NS = 1000000,
    LONE_RUNS_MIN = 8,    /* from so many on it pays to look ahead, */
    AHEAD_SUBS_MIN = 8192 /* and from so many subscriptions on: fewer stay in the caches */
};

enum es_err esi_batch_new(const struct esi_batch_options *options, struct esi_batch **out)
{
    struct esi_batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL) {
        return ES_NO_MEMORY;
    }
    batch->options = *options;
    batch->random = options->random_seed | 1;
    *out = batch;
    return ES_OK;
}

void esi_batch_free(struct esi_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    ESI_REQUIRE(batch->first == NULL && batch->run_count == 0);
    if (batch->out != NULL) {
        esi_block_unref(batch->out, &batch->options.pools->blocks, 1);
    }
    free(batch->by_target);
    free(batch->marks);
    free(batch);
}

void esi_batch_stats(const struct esi_batch *batch, struct esi_batch_stats *out)
{
    *out = batch->stats;
}

void esi_delivery_free(struct esi_delivery *delivery, uint32_t from, struct esi_batch_pools *pools)
{
    for (uint32_t i = from; i < delivery->slice_count; i++) {
        if (delivery->slices[i].owns_block) {
            esi_block_unref(delivery->slices[i].block, pools != NULL ? &pools->blocks : NULL, 1);
        }
    }
    esi_pool_return(pools != NULL ? &pools->deliveries : NULL, delivery);
}

/* --- adding --- */

/* The next message begins a run. */
static void forget_match(struct esi_batch *batch)
{
    batch->match = NULL;
    batch->run_max = 0;
}

void esi_batch_begin(struct esi_batch *batch, enum esi_publish_source source,
                     struct esi_target *self, bool echo, struct esi_block *block, uint64_t now_ns)
{
    ESI_DEBUG_ASSERT(batch->run_count == 0 && batch->first == NULL);
    batch->source = source;
    batch->self = self;
    batch->echo = echo;
    batch->read_block = block;
    batch->now_ns = now_ns;
    forget_match(batch);
    if (batch->out != NULL && esi_block_is_unique(batch->out)) {
        /* All targets are done with it: its lines are still in the processor's cache. */
        batch->out_used = 0;
    }
}

struct recent_search {
    uint64_t since_ns;
    bool is_found;
};

static void look_for_recent(void *argument, struct esi_sub *sub)
{
    struct recent_search *search = argument;

    search->is_found |= !sub->target->is_link && sub->created_ns >= search->since_ns;
}

/*
 * A reply whose subscription is so young that its interest may not have reached the other cluster
 * is mapped, so that the answer finds its way home without it (as nats-server does, for two
 * seconds).
 */
static __attribute__((noinline)) bool must_map(const struct esi_batch *batch, struct esi_str reply)
{
    const uint64_t since_ns = batch->now_ns > MAP_RECENT_NS ? batch->now_ns - MAP_RECENT_NS : 0;

    if (reply.len == 0 || esi_subtable_last_local_ns(batch->options.table) < since_ns) {
        return false;
    }
    struct recent_search search = {.since_ns = since_ns};
    esi_subtable_walk(batch->options.table, reply, esi_hashmap_hash(reply), look_for_recent,
                      &search);
    return search.is_found;
}

static uint32_t count_receivers(const struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;
    uint32_t count = batch->source != SOURCE_GATEWAY ? match->link_count : 0;

    if (match->has_counted) {
        return 0; /* each message is asked about by itself */
    }
    if (batch->echo || batch->self == NULL) {
        return count + match->plain_count + match->group_count;
    }
    for (uint32_t i = 0; i < match->plain_count; i++) {
        count += match->plain[i]->target != batch->self;
    }
    for (uint32_t i = 0; i < match->group_count; i++) {
        for (uint32_t j = 0; j < match->groups[i].member_count; j++) {
            if (match->groups[i].members[j]->target != batch->self) {
                count++;
                break;
            }
        }
    }
    return count;
}

static inline __attribute__((always_inline)) bool continues_run(const struct esi_batch *batch,
                                                                const struct esi_publish *publish)
{
    return batch->run_count < batch->run_max && esi_str_equal(batch->subject, publish->subject) &&
           esi_str_equal(batch->queues, publish->queues) && esi_match_is_current(batch->match);
}

/* Begins a run with a message on this subject; false when memory is exhausted. */
static inline bool begin_run(struct esi_batch *batch, const struct esi_publish *publish,
                             uint64_t hash)
{
    batch->lone_runs = batch->run_count > 1 ? 0 : batch->lone_runs + 1;
    esi_batch_run_flush(batch);
    batch->match = esi_match_cache_find(batch->options.cache, publish->subject, hash);
    batch->subject = publish->subject;
    batch->queues = publish->queues;
    if (batch->match == NULL) {
        batch->run_max = 0;
        batch->stats.dropped++;
        return false;
    }
    batch->run_max = batch->match->has_repeated_target ? 1 : (uint32_t)ESI_BATCH_RUN_MAX;
    batch->receiver_count = count_receivers(batch);
    return true;
}

static inline void put_msg(struct esi_batch *batch, const struct esi_publish *publish)
{
    struct esi_batch_msg *msg = &batch->run[batch->run_count++];
    msg->reply = publish->reply;
    msg->extra = publish->extra;
    msg->body = publish->body;
    msg->header_len = (uint32_t)publish->header_len;
    msg->total_len = (uint32_t)publish->total_len;
    msg->is_mapped = batch->match->link_count > 0 && batch->source != SOURCE_GATEWAY &&
                     must_map(batch, publish->reply);
}

static __attribute__((noinline)) uint32_t add_by_claims(struct esi_batch *batch,
                                                        const struct esi_publish *publish)
{
    put_msg(batch, publish);
    return esi_batch_run_deliver_claimed(batch);
}

/* Appends to the run, unless nobody gets it. */
static inline uint32_t append_msg(struct esi_batch *batch, const struct esi_publish *publish)
{
    if (batch->receiver_count == 0) {
        return batch->match->has_counted ? add_by_claims(batch, publish) : 0;
    }
    put_msg(batch, publish);
    return batch->receiver_count;
}

/* By now the memory has brought where to look; asks it for what will be found there, and then
 * delivers in order. */
static void settle_ahead(struct esi_batch *batch)
{
    const uint32_t count = batch->ahead_count;

    batch->ahead_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        esi_match_cache_prefetch_places(batch->options.cache, &batch->ahead[i].hint);
    }
    for (uint32_t i = 0; i < count; i++) {
        esi_match_cache_prefetch_found(&batch->ahead[i].hint);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct esi_batch_ahead *ahead = &batch->ahead[i];
        if (continues_run(batch, &ahead->publish) ||
            begin_run(batch, &ahead->publish, ahead->hash)) {
            append_msg(batch, &ahead->publish);
        }
    }
}

void esi_batch_settle(struct esi_batch *batch)
{
    if (batch->ahead_count > 0) {
        settle_ahead(batch);
    }
}

/* All that was added is with its targets' deliveries; the next message begins a run. */
static void end_run(struct esi_batch *batch)
{
    esi_batch_settle(batch);
    esi_batch_run_flush(batch);
    forget_match(batch);
}

/*
 * Where each message has a subject of its own, and there are more than the processor's caches hold,
 * nearly all time would go by waiting for the memory, message by message. So their subjects are
 * looked at some messages ahead. Who has a reply must be told now whether anybody gets it.
 */
static bool looks_ahead(const struct esi_batch *batch, const struct esi_publish *publish)
{
    return batch->lone_runs >= LONE_RUNS_MIN && publish->reply.len == 0 &&
           esi_subtable_count(batch->options.table) >= AHEAD_SUBS_MIN;
}

/* The message waits for the memory, or comes behind others that do. */
static uint32_t add_behind(struct esi_batch *batch, const struct esi_publish *publish)
{
    const uint64_t hash = esi_hashmap_hash(publish->subject);

    if (looks_ahead(batch, publish)) {
        struct esi_batch_ahead *ahead = &batch->ahead[batch->ahead_count++];
        ahead->publish = *publish;
        ahead->hash = hash;
        ahead->hint.table = (struct esi_subtable_walk_hint){0};
        if (batch->ahead_count > 1) {
            ahead->hint.table = (ahead - 1)->hint.table;
        }
        esi_match_cache_prefetch(batch->options.cache, publish->subject, hash, &ahead->hint);
        if (batch->ahead_count == ESI_BATCH_AHEAD_MAX) {
            settle_ahead(batch);
        }
        return 1;
    }
    settle_ahead(batch);
    if (!continues_run(batch, publish) && !begin_run(batch, publish, hash)) {
        return 1;
    }
    return append_msg(batch, publish);
}

/* It does not simply continue the run. Out of line, so that one that does saves no registers. */
static __attribute__((noinline)) uint32_t add_apart(struct esi_batch *batch,
                                                    const struct esi_publish *publish)
{
    if (batch->ahead_count > 0 || looks_ahead(batch, publish)) {
        return add_behind(batch, publish);
    }
    if (!begin_run(batch, publish, esi_hashmap_hash(publish->subject))) {
        return 1;
    }
    return append_msg(batch, publish);
}

uint32_t esi_batch_add(struct esi_batch *batch, const struct esi_publish *publish)
{
    batch->stats.messages_in++;
    if (ESI_LIKELY(batch->ahead_count == 0 && continues_run(batch, publish))) {
        return append_msg(batch, publish);
    }
    return add_apart(batch, publish);
}

void esi_batch_set_source(struct esi_batch *batch, enum esi_publish_source source)
{
    if (batch->source != source) {
        /* A run is of one source. */
        end_run(batch);
        batch->source = source;
    }
}

void esi_batch_send_link(struct esi_batch *batch, struct esi_target *target, bool has_headers,
                         const struct esi_publish *publish)
{
    const struct esi_batch_link_form form = {
        .target = target, .subject = publish->subject, .has_headers = has_headers};
    const struct esi_batch_msg msg = {.reply = publish->reply,
                                      .extra = publish->extra,
                                      .body = publish->body,
                                      .header_len = (uint32_t)publish->header_len,
                                      .total_len = (uint32_t)publish->total_len,
                                      .is_mapped = must_map(batch, publish->reply)};

    end_run(batch);
    esi_batch_run_send_link(batch, &form, &msg);
}

/* How long the publisher should wait for a target that takes bytes, but has too many waiting. */
static uint64_t hand_over(struct esi_batch *batch, struct esi_delivery *delivery)
{
    struct esi_target *target = delivery->target;
    const uint64_t bytes = delivery->bytes;

    batch->by_target[target->slot] = NULL;
    batch->stats.deliveries++;
    /* order: relaxed; a sum that decides about pauses and slow consumers, nothing is published by
     * it. */
    const uint64_t before =
        atomic_fetch_add_explicit(&target->pending_bytes, bytes, memory_order_relaxed);
    uint64_t pause_ns = 0;
    if (before + bytes > batch->options.pause_bytes) {
        if (target->blocks && before + bytes > batch->options.block_bytes &&
            before + bytes > batch->blocker_bytes) {
            batch->blocker = target;
            batch->blocker_bytes = before + bytes;
        }
        /* order: relaxed; a time that may be a turn old. */
        const uint64_t progress_ns =
            atomic_load_explicit(&target->progress_ns, memory_order_relaxed);
        if (progress_ns + PROGRESS_RECENT_NS > batch->now_ns) {
            pause_ns = (before + bytes) / batch->options.pause_bytes * PAUSE_STEP_NS;
        }
    }
    target->deliver(target, delivery);
    return pause_ns;
}

uint64_t esi_batch_flush(struct esi_batch *batch)
{
    uint64_t pause_ns = 0;

    end_run(batch);
    if (batch->out != NULL) {
        esi_batch_output_settle(batch);
    }
    if (batch->read_refs > 0) {
        esi_block_ref(batch->read_block, batch->read_refs);
        batch->read_refs = 0;
    }
    struct esi_msg *next = batch->first;
    batch->first = NULL;
    batch->last = NULL;
    batch->blocker = NULL;
    batch->blocker_bytes = 0;
    while (next != NULL) {
        struct esi_delivery *delivery = (struct esi_delivery *)(void *)next;
        next = next->next;
        const uint64_t wanted_ns = hand_over(batch, delivery);
        pause_ns = wanted_ns > pause_ns ? wanted_ns : pause_ns;
    }
    return pause_ns < ESI_BATCH_PAUSE_NS_MAX ? pause_ns : ESI_BATCH_PAUSE_NS_MAX;
}

struct esi_target *esi_batch_blocker(const struct esi_batch *batch)
{
    return batch->blocker;
}
