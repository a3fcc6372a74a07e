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

#include "auth/permissions.h"
#include "base/err.h"
#include "base/str.h"
#include "broker/rcu_map.h"
#include "broker/target.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_sub_pool;

enum {
    ESI_SUBTABLE_BUCKETS = 256,
    ESI_SUBTABLE_ROUTERS_MAX = 16,
    /* Of a subject with wildcards: more than a control line of the usual size can hold. */
    ESI_SUBTABLE_TOKENS_MAX = 2100
};

enum esi_sub_flag {
    SUB_HEADERS = 1, /* the client takes HMSG; else headers are stripped */
    /* each message is handed over by itself, with its reply: counts, responses, filters */
    SUB_RECORDS = 2,
    SUB_OPTIMISTIC = 4, /* a link's ">" that stands for "send all but what was refused" */
    /* it ends with a maximum: each message is claimed before it is handed over; with SUB_RECORDS */
    SUB_COUNTED = 8
};

/*
 * A subscription. Owned by its target's actor; immutable while it is in the table, except for the
 * router's part. What is looked at for each message stands in the first cache line.
 */
struct esi_sub {
    union {
        struct esi_rcu_entry entry;
        struct { /* the same by the names of a subscription */
            uint64_t hash;
            struct esi_str subject; /* subject, queue and sid lie behind the struct */
            uint16_t kind;          /* the table's */
            uint16_t traits;        /* what it must know of the subject */
            uint32_t index;         /* written by the router: where it stands among others */
        };
    };
    /* borrowed: lives until the removal's grace period has passed */
    struct esi_target *target;
    struct esi_str sid; /* empty for links */
    uint32_t slot;      /* the target's own number for it */
    uint32_t flags;     /* bits of enum esi_sub_flag */
    /* borrowed; not NULL: each delivery is asked about */
    const struct esi_permissions *permissions;
    struct esi_str queue; /* empty: plain */
    uint64_t created_ns;  /* monotonic */
    /* written by the router: the list or the node of the trie that it stands in */
    struct esi_rcu_entry *home;
    _Atomic int64_t claims_left; /* SUB_COUNTED: see esi_sub_claim */
};

/* A subscription with copies of its strings, owned by the caller (free, or esi_sub_free); NULL when
 * memory is exhausted. */
struct esi_sub *esi_sub_new(struct esi_target *target, struct esi_str subject, struct esi_str queue,
                            struct esi_str sid);
/* The same with memory of a pool, of which this thread is the only user. */
struct esi_sub *esi_sub_new_pooled(struct esi_sub_pool *pool, struct esi_target *target,
                                   struct esi_str subject, struct esi_str queue,
                                   struct esi_str sid);
/* Frees it: its memory goes to a pool; NULL: to the system. */
void esi_sub_free(struct esi_sub *sub, struct esi_sub_pool *pool);
/* Has its subject a wildcard? */
bool esi_sub_is_pattern(const struct esi_sub *sub);
/* True from its addition to its removal. Thread: the part's router. */
bool esi_sub_is_routed(const struct esi_sub *sub);

/*
 * A subscription with a maximum (SUB_COUNTED) is handed over no more messages than it may still
 * have: who hands one over claims it first. False: it has had, or will have, all of them, so it
 * receives nothing of this one. Its owner counts what arrives, and ends it. Thread: any.
 */
ES_MUST_USE bool esi_sub_claim(struct esi_sub *sub);
/* The maximum has become more (or less, when negative), or what was claimed did not arrive. Thread:
 * any. */
void esi_sub_add_claims(struct esi_sub *sub, int64_t count);

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

/*
 * Calls found(argument, sub) for each subscription that matches the subject, wildcard tokens in it
 * taken literally. A subject with an empty token matches nothing. The caller is in a read-side
 * section; found must not keep sub beyond it.
 */
void esi_subtable_walk(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                       void (*found)(void *argument, struct esi_sub *sub), void *argument);

/* Where a walk will look last, for the hints below. Valid for the turn. */
struct esi_subtable_hint {
    const struct esi_rcu_map *literals;
    const struct esi_rcu_map *leaves; /* of the trie, where the last token is; NULL: none */
    struct esi_str stem;              /* all tokens but the last; borrowed */
    uint64_t literal_hash;
    uint64_t leaf_hash;
};
/*
 * For many subjects at once: each step asks the memory for what the next one looks at, and the last
 * one for what a walk will find. Hints only. In the first step hint is that of the subject before,
 * whose way down the trie is often the same, or all zero. The caller is in a read-side section.
 */
void esi_subtable_prefetch(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                           struct esi_subtable_hint *hint);
void esi_subtable_prefetch_places(const struct esi_subtable_hint *hint);
void esi_subtable_prefetch_found(const struct esi_subtable_hint *hint);

/* Subscriptions now in the table. Thread: any; relaxed. */
uint64_t esi_subtable_count(const struct esi_subtable *table);
struct esi_subtable_stats {
    uint64_t inserts; /* since the start */
    uint64_t removes;
};
/* Thread: any; relaxed. */
void esi_subtable_stats(const struct esi_subtable *table, struct esi_subtable_stats *out);
