/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The routers' side: which part and place a subscription belongs to, and what changes tell. */
#include "broker/subtable.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "base/rcu.h"
#include "broker/subtable_internal.h"
#include "proto/subject.h"

#include <stdlib.h>
#include <string.h>

static struct esi_str first_token(struct esi_str subject)
{
    const char *dot = memchr(subject.data, '.', subject.len);

    return dot == NULL
               ? subject
               : (struct esi_str){.data = subject.data, .len = (size_t)(dot - subject.data)};
}

uint32_t esi_subtable_bucket(struct esi_str subject)
{
    return (uint32_t)(esi_hashmap_hash(first_token(subject)) & (ESI_SUBTABLE_BUCKETS - 1));
}

enum es_err esi_subtable_new(uint32_t router_count, struct esi_subtable **out)
{
    ESI_REQUIRE(router_count >= 1 && router_count <= ESI_SUBTABLE_ROUTERS_MAX);
    struct esi_subtable *table = aligned_alloc(ESI_CACHE_LINE, sizeof *table);
    if (table == NULL) {
        return ES_NO_MEMORY;
    }
    memset(table, 0, sizeof *table);
    table->router_count = router_count;
    for (uint32_t i = 0; i <= router_count; i++) {
        esi_rcu_map_init(&table->parts[i].literals);
        esi_subtable_trie_init(&table->parts[i].root);
    }
    *out = table;
    return ES_OK;
}

uint32_t esi_subtable_router_of(const struct esi_subtable *table, const struct esi_sub *sub)
{
    return esi_sub_begins_with_wildcard(sub)
               ? 0
               : esi_subtable_part_of_bucket(table, esi_sub_bucket(sub));
}

const _Atomic uint64_t *esi_subtable_generations(const struct esi_subtable *table)
{
    return table->generations;
}

const _Atomic uint64_t *esi_subtable_wildcard_generation(const struct esi_subtable *table)
{
    return &table->wildcard_generation;
}

uint64_t esi_subtable_last_local_ns(const struct esi_subtable *table)
{
    /* order: relaxed; a time, nothing hangs on it. */
    return atomic_load_explicit(&table->last_local_ns, memory_order_relaxed);
}

uint64_t esi_subtable_count(const struct esi_subtable *table)
{
    /* order: relaxed; a counter for monitoring. */
    return atomic_load_explicit(&table->count, memory_order_relaxed);
}

void esi_subtable_stats(const struct esi_subtable *table, struct esi_subtable_stats *out)
{
    const uint64_t count = esi_subtable_count(table);
    /* order: relaxed; a counter for monitoring. */
    const uint64_t inserts = atomic_load_explicit(&table->inserts, memory_order_relaxed);

    *out = (struct esi_subtable_stats){.inserts = inserts,
                                       .removes = inserts > count ? inserts - count : 0};
}

static void raise_generation(struct esi_subtable *table, const struct esi_sub *sub)
{
    _Atomic uint64_t *generation = esi_sub_begins_with_wildcard(sub)
                                       ? &table->wildcard_generation
                                       : &table->generations[esi_sub_bucket(sub)];
    /* order: release; pairs with the acquire in esi_subtable_generation. */
    atomic_fetch_add_explicit(generation, 1, memory_order_release);
}

void esi_subtable_free(struct esi_subtable *table)
{
    if (table == NULL) {
        return;
    }
    for (uint32_t i = 0; i <= table->router_count; i++) {
        ESI_REQUIRE(table->parts[i].literals.count == 0);
        esi_rcu_map_deinit(&table->parts[i].literals);
        esi_subtable_trie_deinit(&table->parts[i].root);
    }
    free(table);
}

static struct esi_subtable_part *part_of(struct esi_subtable *table, const struct esi_sub *sub)
{
    return &table->parts[esi_sub_begins_with_wildcard(sub)
                             ? table->router_count
                             : esi_subtable_part_of_bucket(table, esi_sub_bucket(sub))];
}

/* Puts it where the others on its subject stand, or would stand. */
static enum es_err settle(struct esi_subtable *table, struct esi_sub *sub,
                          struct esi_retired **retired)
{
    struct esi_subtable_part *part = part_of(table, sub);
    struct esi_subtable_place place = {.literals = NULL};

    if (esi_sub_is_pattern(sub)) {
        if (esi_subject_token_count(sub->subject) > ESI_SUBTABLE_TOKENS_MAX) {
            return ES_TOO_LARGE;
        }
        place.node = esi_subtable_trie_reach(&part->root, sub->subject, retired);
        if (place.node == NULL) {
            return ES_NO_MEMORY;
        }
        place.now = ESI_RCU_OWN(place.node->subs);
    } else {
        place.literals = &part->literals;
        place.now = esi_rcu_map_find(place.literals, sub->subject, sub->hash);
    }
    return esi_subtable_place_add(&place, sub, retired);
}

/* The place of a subscription that is in the table. */
static struct esi_subtable_place place_of(struct esi_subtable *table, struct esi_sub *sub)
{
    struct esi_subtable_place place = esi_subtable_place_of(sub);

    if (place.node == NULL) {
        place.literals = &part_of(table, sub)->literals;
    }
    return place;
}

enum es_err esi_subtable_add(struct esi_subtable *table, struct esi_sub *sub,
                             struct esi_retired **retired)
{
    const enum es_err err = settle(table, sub, retired);

    if (err != ES_OK) {
        return err;
    }
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(&table->count, 1, memory_order_relaxed);
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(&table->inserts, 1, memory_order_relaxed);
    if (!sub->target->is_link) {
        /* order: relaxed; a time, nothing hangs on it. */
        atomic_store_explicit(&table->last_local_ns, sub->created_ns, memory_order_relaxed);
    }
    raise_generation(table, sub);
    return ES_OK;
}

void esi_subtable_remove(struct esi_subtable *table, struct esi_sub *sub,
                         struct esi_retired **retired)
{
    ESI_REQUIRE(esi_sub_is_routed(sub));
    const struct esi_subtable_place place = place_of(table, sub);

    esi_subtable_place_remove(&place, sub, retired);
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_sub_explicit(&table->count, 1, memory_order_relaxed);
    raise_generation(table, sub);
}

void esi_subtable_replace(struct esi_subtable *table, struct esi_sub *old, struct esi_sub *fresh)
{
    ESI_REQUIRE(esi_sub_is_routed(old));
    const struct esi_subtable_place place = place_of(table, old);

    esi_subtable_place_replace(&place, old, fresh);
    raise_generation(table, fresh);
}

uint64_t esi_subtable_memory_bytes(const struct esi_sub *sub)
{
    return esi_sub_heap_bytes(sub) + (esi_sub_is_pattern(sub)
                                          ? esi_subtable_trie_memory_bytes(sub->subject)
                                          : esi_rcu_map_place_bytes());
}

uint32_t esi_subtable_plain_count(const struct esi_sub *sub)
{
    ESI_REQUIRE(esi_sub_is_routed(sub));
    return sub->home != NULL && sub->home->kind == ESI_SUBTABLE_LIST
               ? esi_subtable_list_of(sub->home)->plain_count
               : esi_subtable_is_local_plain(sub);
}

struct each_plain {
    void (*found)(void *argument, struct esi_str subject);
    void *argument;
};

static void tell_plain(const struct each_plain *each, const struct esi_rcu_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    const bool is_plain = entry->kind == ESI_SUBTABLE_LIST
                              ? esi_subtable_list_of(entry)->plain_count > 0
                              : esi_subtable_is_local_plain(esi_subtable_sub_of(entry));
    if (is_plain) {
        each->found(each->argument, entry->key);
    }
}

/* How far one level of a trie was told: first what stands right below, then the children. */
struct level {
    const struct esi_subtable_branches *below;
    uint64_t cursor;
};

static void tell_trie(const struct each_plain *each, const struct esi_subtable_node *root)
{
    struct level levels[ESI_SUBTABLE_TOKENS_MAX + 1];
    const struct esi_subtable_node *node = root;
    uint32_t depth = 0;

    for (;;) {
        if (node != NULL) {
            const struct esi_subtable_branches *below = ESI_RCU_OWN(node->below);
            tell_plain(each, ESI_RCU_OWN(node->subs));
            if (below != NULL) {
                const struct esi_subtable_node *rest = ESI_RCU_OWN(below->rest);
                tell_plain(each, rest != NULL ? ESI_RCU_OWN(rest->subs) : NULL);
                ESI_ASSERT(depth < ESI_COUNT_OF(levels));
                levels[depth++] = (struct level){.below = below};
                node = ESI_RCU_OWN(below->star);
                continue;
            }
        }
        if (depth == 0) {
            return;
        }
        struct level *level = &levels[depth - 1];
        const struct esi_rcu_entry *child =
            esi_rcu_map_next(&level->below->children, &level->cursor);
        node = child != NULL ? esi_subtable_node_of(child) : NULL;
        depth -= child == NULL;
    }
}

static void tell_part(const struct each_plain *each, const struct esi_subtable_part *part)
{
    const struct esi_rcu_entry *entry;
    uint64_t cursor = 0;

    while ((entry = esi_rcu_map_next(&part->literals, &cursor)) != NULL) {
        tell_plain(each, entry);
    }
    tell_trie(each, &part->root);
}

void esi_subtable_each_plain(const struct esi_subtable *table, uint32_t router,
                             void (*found)(void *argument, struct esi_str subject), void *argument)
{
    const struct each_plain each = {.found = found, .argument = argument};

    tell_part(&each, &table->parts[router]);
    if (router == 0) {
        tell_part(&each, &table->parts[table->router_count]);
    }
}

void esi_subtable_free_retired(struct esi_retired *retired)
{
    while (retired != NULL) {
        struct esi_retired *next = retired->next;
        free(retired);
        retired = next;
    }
}
