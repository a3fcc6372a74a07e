/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the subscription table share. subtable.c chooses the place of a subscription
 * and raises generations; subtable_trie.c finds the places of subjects with wildcards;
 * subtable_place.c keeps what stands in one place; subtable_walk.c reads.
 *
 * A place is where the subscriptions on one subject stand: an entry of its part's hash, keyed by
 * the whole subject, or, with wildcards, a node of the trie, found from its part's root token by
 * token: a literal token in the map of children, '*' in `star`, a final '>' in `rest`. A node
 * without subscriptions and without anything below it is taken out and retired.
 *
 * Most subjects have one subscription, so it stands in its place itself; from the second on a list
 * does.
 */
#pragma once

#include "base/own.h"
#include "base/rcu.h"
#include "broker/subtable.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What an entry of a map is part of; esi_sub_new leaves it 0. */
enum esi_subtable_kind { ESI_SUBTABLE_SUB = 0, ESI_SUBTABLE_LIST, ESI_SUBTABLE_NODE };

/* Subscriptions on one subject; its entry's key lies behind them. */
struct esi_subtable_list {
    struct esi_retired retired; /* first */
    struct esi_rcu_entry entry;
    uint32_t capacity;
    _Atomic uint32_t used; /* slots in use, holes included */
    /* the router's */
    uint32_t live;                  /* without holes */
    uint32_t plain_count;           /* of them: local, without a queue */
    struct esi_subtable_node *node; /* NULL: of a literal subject */
    _Atomic(struct esi_sub *) subs[];
};

/* What is below a node: few have anything. */
struct esi_subtable_branches {
    struct esi_retired retired; /* first */
    struct esi_rcu_map children;
    _Atomic(struct esi_subtable_node *) star;
    _Atomic(struct esi_subtable_node *) rest;
};

struct esi_subtable_node {
    union {
        struct esi_retired retired;       /* first */
        struct esi_subtable_node *parent; /* the router's, until it is retired; NULL: the root */
    };
    struct esi_rcu_entry entry;           /* key: one token, which lies behind the node */
    _Atomic(struct esi_rcu_entry *) subs; /* NULL, a subscription or a list */
    _Atomic(struct esi_subtable_branches *) below;
};

struct esi_subtable_part {
    struct esi_rcu_map literals; /* subscriptions and lists */
    struct esi_subtable_node root;
};

struct esi_subtable {
    uint32_t router_count;
    _Atomic uint64_t count;
    _Atomic uint64_t inserts; /* since the start */
    _Atomic uint64_t last_local_ns;
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t wildcard_generation;
    _Atomic uint64_t generations[ESI_SUBTABLE_BUCKETS];
    struct esi_subtable_part
        parts[ESI_SUBTABLE_ROUTERS_MAX + 1]; /* [router_count]: begins with a wildcard */
};

struct esi_subtable_place {
    struct esi_rcu_map *literals; /* NULL: the node's */
    struct esi_subtable_node *node;
    struct esi_rcu_entry *now; /* what stands there; NULL: nothing */
};

static inline struct esi_sub *esi_subtable_sub_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct esi_sub, entry);
}

static inline struct esi_subtable_list *esi_subtable_list_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct esi_subtable_list, entry);
}

static inline struct esi_subtable_node *esi_subtable_node_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct esi_subtable_node, entry);
}

static inline bool esi_subtable_is_local_plain(const struct esi_sub *sub)
{
    return !sub->target->is_link && sub->queue.len == 0;
}

static inline uint32_t esi_subtable_part_of_bucket(const struct esi_subtable *table,
                                                   uint32_t bucket)
{
    return table->router_count == 1 ? 0 : bucket % table->router_count;
}

static inline void esi_subtable_retire(struct esi_retired *object, struct esi_retired **retired)
{
    object->next = *retired;
    *retired = object;
}

/* --- subtable_trie.c --- */

/* A root, or a node without subscriptions. */
void esi_subtable_trie_init(struct esi_subtable_node *node);
/* The node of a pattern, made where there is none; NULL when memory is exhausted (nothing is left
 * behind). */
struct esi_subtable_node *esi_subtable_trie_reach(struct esi_subtable_node *root,
                                                  struct esi_str pattern,
                                                  struct esi_retired **retired);
/* Takes empty nodes out, upwards. */
void esi_subtable_trie_prune(struct esi_subtable_node *node, struct esi_retired **retired);
/* What the nodes of a pattern take that shares none with others. */
uint64_t esi_subtable_trie_memory_bytes(struct esi_str pattern);
/* Frees what an empty root still holds; no reader is left. */
void esi_subtable_trie_deinit(struct esi_subtable_node *root);

/* --- subtable_place.c --- */

/* The place of a subscription that is in the table; without its map, where it is a literal one. */
struct esi_subtable_place esi_subtable_place_of(struct esi_sub *sub);
/* Puts a subscription into a place, beside what stands there. ES_NO_MEMORY: nothing changed. */
ES_MUST_USE enum es_err esi_subtable_place_add(const struct esi_subtable_place *place,
                                               struct esi_sub *sub, struct esi_retired **retired);
/* Takes it out; a node that is empty then is pruned. */
void esi_subtable_place_remove(const struct esi_subtable_place *place, struct esi_sub *sub,
                               struct esi_retired **retired);
void esi_subtable_place_replace(const struct esi_subtable_place *place, struct esi_sub *old,
                                struct esi_sub *fresh);
