/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A broker in one thread, for tests: table, targets that keep what they are given, and one batch.
 * Checks of the bookkeeping that every delivery must pass stand here, so that each test makes them.
 */
#pragma once

#include "base/block.h"
#include "base/bytes.h"
#include "broker/batch.h"
#include "broker/match_cache.h"
#include "broker/subtable.h"
#include "broker/subtable_walk.h"
#include "broker/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BROKER_CASE_SLOTS = 4096 };

#define broker_check(x) ((x) ? (void)0 : broker_fail(#x, __FILE__, __LINE__))

__attribute__((noreturn, unused)) static void broker_fail(const char *what, const char *file,
                                                          int line)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

struct broker_case {
    struct esi_pool_depot block_depot;
    struct esi_pool_depot delivery_depot;
    struct esi_batch_pools pools;
    struct esi_subtable *table;
    struct esi_targets *targets;
    struct esi_match_cache *cache;
    struct esi_batch *batch;
    struct esi_block *read; /* where bodies lie */
    size_t read_used;
    uint64_t now_ns;
};

/* A target that keeps all bytes. */
struct sink {
    struct esi_target target; /* first */
    struct broker_case *broker;
    struct esi_bytes got;
    uint64_t messages;
    uint64_t deliveries;
    struct esi_delivery *last; /* kept instead of freed, when keeps_last */
    bool keeps_last;
};

__attribute__((unused)) static void check_delivery(const struct esi_delivery *delivery)
{
    uint64_t bytes = 0;
    uint64_t messages = 0;

    broker_check(delivery->slice_count > 0 && delivery->slice_count <= ESI_DELIVERY_SLICES_MAX);
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        const struct esi_slice *slice = &delivery->slices[i];
        const bool is_last = i + 1 == delivery->slice_count;
        broker_check(slice->len > 0);
        broker_check(slice->data >= slice->block->data);
        broker_check(slice->data + slice->len <= slice->block->data + slice->block->capacity);
        /* Who does not own its block stands before one that does. */
        broker_check(slice->owns_block ||
                     (!is_last && delivery->slices[i + 1].block == slice->block));
        /* No message is cut by the end of a delivery. */
        broker_check(!slice->is_continued || !is_last);
        bytes += slice->len;
        messages += slice->message_count;
    }
    broker_check(bytes == delivery->bytes);
    broker_check(messages == delivery->message_count);
}

__attribute__((unused)) static void sink_deliver(struct esi_target *target,
                                                 struct esi_delivery *delivery)
{
    struct sink *sink = (struct sink *)(void *)target;

    broker_check(delivery->target == target);
    check_delivery(delivery);
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        esi_bytes_append(&sink->got, delivery->slices[i].data, delivery->slices[i].len);
    }
    sink->messages += delivery->message_count;
    sink->deliveries++;
    /* order: relaxed; one thread. */
    atomic_fetch_sub_explicit(&target->pending_bytes, delivery->bytes, memory_order_relaxed);
    if (sink->keeps_last) {
        if (sink->last != NULL) {
            esi_delivery_free(sink->last, 0, &sink->broker->pools);
        }
        sink->last = delivery;
    } else {
        esi_delivery_free(delivery, 0, &sink->broker->pools);
    }
}

__attribute__((unused)) static void broker_case_init(struct broker_case *broker,
                                                     uint32_t router_count)
{
    memset(broker, 0, sizeof *broker);
    esi_pool_depot_init(&broker->block_depot, ESI_BLOCK_OBJECT_BYTES, 4, 16);
    esi_pool_depot_init(&broker->delivery_depot, sizeof(struct esi_delivery), 64, 64);
    esi_pool_init(&broker->pools.blocks, &broker->block_depot);
    esi_pool_init(&broker->pools.deliveries, &broker->delivery_depot);
    broker_check(esi_subtable_new(router_count, &broker->table) == ES_OK);
    broker_check(esi_targets_new(BROKER_CASE_SLOTS, &broker->targets) == ES_OK);
    broker_check(esi_match_cache_new(broker->table, broker->targets, 1024, &broker->cache) ==
                 ES_OK);
    const struct esi_batch_options options = {.table = broker->table,
                                              .targets = broker->targets,
                                              .cache = broker->cache,
                                              .pools = &broker->pools,
                                              .cluster = esi_reply_map_hash(ESI_STR("here")),
                                              .server = esi_reply_map_hash(ESI_STR("server")),
                                              .account = ESI_STR("$G"),
                                              .random_seed = 7,
                                              .pause_bytes = 1000000};
    broker_check(esi_batch_new(&options, &broker->batch) == ES_OK);
    broker->now_ns = 10000000000;
}

/* All subscriptions have been removed. */
__attribute__((unused)) static void broker_case_deinit(struct broker_case *broker)
{
    if (broker->read != NULL) {
        /* Nobody else holds it: every reference that was handed out has come back. */
        broker_check(esi_block_is_unique(broker->read));
        esi_block_unref(broker->read, &broker->pools.blocks, 1);
    }
    esi_batch_free(broker->batch);
    esi_match_cache_free(broker->cache);
    esi_targets_free(broker->targets);
    esi_subtable_free(broker->table);
    esi_pool_deinit(&broker->pools.blocks);
    esi_pool_deinit(&broker->pools.deliveries);
    esi_pool_depot_deinit(&broker->block_depot);
    esi_pool_depot_deinit(&broker->delivery_depot);
}

__attribute__((unused)) static struct sink *new_sink(struct broker_case *broker, bool is_link)
{
    struct sink *sink = aligned_alloc(ESI_CACHE_LINE, sizeof *sink);

    broker_check(sink != NULL);
    memset(sink, 0, sizeof *sink);
    sink->broker = broker;
    sink->target.deliver = sink_deliver;
    sink->target.is_link = is_link;
    esi_bytes_init(&sink->got, 0);
    broker_check(esi_targets_add(broker->targets, &sink->target) == ES_OK);
    return sink;
}

__attribute__((unused)) static void free_sink(struct sink *sink)
{
    if (sink->last != NULL) {
        esi_delivery_free(sink->last, 0, &sink->broker->pools);
    }
    esi_targets_remove(sink->broker->targets, &sink->target);
    esi_bytes_deinit(&sink->got);
    free(sink);
}

/* A subscription in force; sid is the target's, slot any number. */
__attribute__((unused)) static struct esi_sub *subscribe(struct sink *sink, const char *subject,
                                                         const char *queue, const char *sid,
                                                         uint32_t flags)
{
    struct esi_retired *retired = NULL;
    struct esi_sub *sub =
        esi_sub_new(&sink->target, esi_str_from(subject), esi_str_from(queue), esi_str_from(sid));

    broker_check(sub != NULL);
    sub->flags = flags;
    broker_check(esi_subtable_add(sink->broker->table, sub, &retired) == ES_OK);
    esi_subtable_free_retired(retired);
    return sub;
}

__attribute__((unused)) static void unsubscribe(struct esi_sub *sub)
{
    struct esi_retired *retired = NULL;
    struct sink *sink = (struct sink *)(void *)sub->target;

    esi_subtable_remove(sink->broker->table, sub, &retired);
    esi_subtable_free_retired(retired);
    free(sub);
}

/* Puts header and payload, with CR LF, where a connection would have read them to. */
__attribute__((unused)) static const char *put_body(struct broker_case *broker, const char *body,
                                                    size_t len)
{
    broker_check(broker->read != NULL && broker->read->capacity - broker->read_used >= len + 2);
    char *at = broker->read->data + broker->read_used;
    memcpy(at, body, len);
    memcpy(at + len, "\r\n", 2);
    broker->read_used += len + 2;
    return at;
}

/* Begins a batch in a read block with room for at least `room` bytes. */
__attribute__((unused)) static void begin(struct broker_case *broker,
                                          enum esi_publish_source source, struct sink *self,
                                          bool echo, size_t room)
{
    if (broker->read != NULL && broker->read->capacity - broker->read_used < room) {
        esi_block_unref(broker->read, &broker->pools.blocks, 1);
        broker->read = NULL;
    }
    if (broker->read == NULL) {
        broker->read = esi_block_new_sized(&broker->pools.blocks, room);
        broker_check(broker->read != NULL);
        broker->read_used = 0;
    }
    esi_batch_begin(broker->batch, source, self != NULL ? &self->target : NULL, echo, broker->read,
                    broker->now_ns);
}

__attribute__((unused)) static uint32_t publish(struct broker_case *broker, const char *subject,
                                                const char *reply, const char *payload)
{
    const size_t len = strlen(payload);
    const struct esi_publish message = {.subject = esi_str_from(subject),
                                        .reply = esi_str_from(reply),
                                        .body = put_body(broker, payload, len),
                                        .total_len = len};

    return esi_batch_add(broker->batch, &message);
}

/* What a sink has, as text; it forgets it then. */
__attribute__((unused)) static const char *take(struct sink *sink)
{
    esi_bytes_append(&sink->got, "", 1);
    sink->got.len = 0;
    return sink->got.data;
}
