/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subscription table of one account. Literal subjects stand in a flat RCU hash by the whole
 * subject, wildcards in a trie over tokens. It is cut into parts, one a router, by the hash of the
 * first token; subscriptions that begin with a wildcard have a part of their own, which belongs to
 * router 0. Each part has one writer, its router.
 *
 * Generations tell match caches what is stale: one a bucket (hash of the first token) and one for
 * subscriptions that begin with a wildcard. A generation is raised after a change is published and
 * before anything is retired.
 *
 * | operation   | walk | add, remove of one part            |
 * | walk        | free | free                               |
 * | add, remove | free | excluded: the part's router alone  |
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "broker/rcu_map.h"
#include "broker/sub.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    ESI_SUBTABLE_BUCKETS = 256,
    ESI_SUBTABLE_ROUTERS_MAX = 16,
    /* Of a subject with wildcards: more than a control line of the usual size can hold. */
    ESI_SUBTABLE_TOKENS_MAX = 2100
};

struct esi_subtable;

ES_MUST_USE enum es_err esi_subtable_new(uint32_t router_count, struct esi_subtable **out);
/* All subscriptions are out of it; no reader is left. */
void esi_subtable_free(struct esi_subtable *table);

/* The router that a subscription belongs to: 0 to router_count - 1. */
uint32_t esi_subtable_router_of(const struct esi_subtable *table, const struct esi_sub *sub);

/*
 * Adds a subscription (a valid subject; borrowed until it is removed and a grace period has
 * passed). What must be freed after a grace period is put in front of *retired. ES_NO_MEMORY,
 * ES_TOO_LARGE (a wildcard subject of too many tokens): nothing changed. Thread: the part's router.
 */
ES_MUST_USE enum es_err esi_subtable_add(struct esi_subtable *table, struct esi_sub *sub,
                                         struct esi_retired **retired);
/* Takes it out. Thread: the part's router. */
void esi_subtable_remove(struct esi_subtable *table, struct esi_sub *sub,
                         struct esi_retired **retired);
/*
 * Puts fresh in the place of old, which has the same subject, queue and target: a message matches
 * one of the two, never both or none. Cannot fail. Thread: the part's router.
 */
void esi_subtable_replace(struct esi_subtable *table, struct esi_sub *old, struct esi_sub *fresh);
/*
 * What a subscription takes in a table, in bytes of memory: itself, and its place as though nothing
 * else stood there and its pattern shared no token with others. Where several stand on one subject,
 * their list is not counted. Thread: any.
 */
uint64_t esi_subtable_memory_bytes(const struct esi_sub *sub);
/* How many of the subscriptions on sub's subject are local and without a queue; sub is in the
 * table. Thread: the part's router. */
uint32_t esi_subtable_plain_count(const struct esi_sub *sub);
/* Calls found(argument, subject) once for each subject of a router that has a local subscription
 * without a queue. Thread: that router. */
void esi_subtable_each_plain(const struct esi_subtable *table, uint32_t router,
                             void (*found)(void *argument, struct esi_str subject), void *argument);
/* Frees a list of retired memory, after its grace period. */
void esi_subtable_free_retired(struct esi_retired *retired);

/* The bucket of a subject, for its generation. */
uint32_t esi_subtable_bucket(struct esi_str subject);
/* Current generations: what was matched at these stays right as long as both are the same. Thread:
 * any. */
static inline uint64_t esi_subtable_generation(const _Atomic uint64_t *generation)
{
    /* order: acquire; pairs with the release of the router's raise: who sees the new generation
     * sees the change. */
    return atomic_load_explicit(generation, memory_order_acquire);
}
const _Atomic uint64_t *esi_subtable_generations(const struct esi_subtable *table);
const _Atomic uint64_t *esi_subtable_wildcard_generation(const struct esi_subtable *table);

/* When a client's subscription was added last, monotonic ns; relaxed. Thread: any. */
uint64_t esi_subtable_last_local_ns(const struct esi_subtable *table);

/* Subscriptions now in the table. Thread: any; relaxed. */
uint64_t esi_subtable_count(const struct esi_subtable *table);
struct esi_subtable_stats {
    uint64_t inserts; /* since the start */
    uint64_t removes;
};
/* Thread: any; relaxed. */
void esi_subtable_stats(const struct esi_subtable *table, struct esi_subtable_stats *out);
