/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A place is where the subscriptions on one subject stand: an entry of its part's hash, keyed by
 * the whole subject, or, with wildcards, a node of the trie, found from its part's root token by
 * token: a literal token in the map of children, '*' in `star`, a final '>' in `rest`. A node
 * without subscriptions and without anything below it is taken out and retired.
 *
 * Most subjects have one subscription, so it stands in its place itself; from the second on a list
 * does. Lists have spare room: a SUB appends (a copy for each would be quadratic), an UNSUB leaves
 * a hole; a list that is more than half holes, or full, is copied without them.
 */
#include "broker/subtable.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "base/rcu.h"
#include "broker/sub_pool.h"
#include "proto/subject.h"

#include <stdlib.h>
#include <string.h>

enum {
    LIST_CAPACITY_MIN = 4,
    TRAIT_BUCKET = 0xff,
    TRAIT_PATTERN = 0x100,
    TRAIT_FIRST_WILD = 0x200
};
_Static_assert(ESI_SUBTABLE_BUCKETS == TRAIT_BUCKET + 1, "a bucket fits its bits");

enum entry_kind { ENTRY_SUB, ENTRY_LIST, ENTRY_NODE };

static const uint32_t NOT_ROUTED = UINT32_MAX; /* the index of a subscription outside the table */

/* Subscriptions on one subject; its entry's key lies behind them. */
struct list {
    struct esi_retired retired; /* first */
    struct esi_rcu_entry entry;
    uint32_t capacity;
    _Atomic uint32_t used; /* slots in use, holes included */
    /* the router's */
    uint32_t live;        /* without holes */
    uint32_t plain_count; /* of them: local, without a queue */
    struct node *node;    /* NULL: of a literal subject */
    _Atomic(struct esi_sub *) subs[];
};

/* What is below a node: few have anything. */
struct branches {
    struct esi_retired retired; /* first */
    struct esi_rcu_map children;
    _Atomic(struct node *) star;
    _Atomic(struct node *) rest;
};

struct node {
    union {
        struct esi_retired retired; /* first */
        struct node *parent;        /* the router's, until it is retired; NULL: the root */
    };
    struct esi_rcu_entry entry;           /* key: one token, which lies behind the node */
    _Atomic(struct esi_rcu_entry *) subs; /* NULL, a subscription or a list */
    _Atomic(struct branches *) below;
};

struct part {
    struct esi_rcu_map literals; /* subscriptions and lists */
    struct node root;
};

struct esi_subtable {
    uint32_t router_count;
    _Atomic uint64_t count;
    _Atomic uint64_t inserts; /* since the start */
    _Atomic uint64_t last_local_ns;
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t wildcard_generation;
    _Atomic uint64_t generations[ESI_SUBTABLE_BUCKETS];
    struct part parts[ESI_SUBTABLE_ROUTERS_MAX + 1]; /* [router_count]: begins with a wildcard */
};

static struct esi_str first_token(struct esi_str subject)
{
    const char *dot = memchr(subject.data, '.', subject.len);

    return dot == NULL
               ? subject
               : (struct esi_str){.data = subject.data, .len = (size_t)(dot - subject.data)};
}

static bool is_wildcard(struct esi_str token)
{
    return token.len == 1 && (token.data[0] == '*' || token.data[0] == '>');
}

uint32_t esi_subtable_bucket(struct esi_str subject)
{
    return (uint32_t)(esi_hashmap_hash(first_token(subject)) & (ESI_SUBTABLE_BUCKETS - 1));
}

static uint16_t traits_of(struct esi_str subject)
{
    return (uint16_t)(esi_subtable_bucket(subject) |
                      (esi_subject_has_wildcard(subject) ? TRAIT_PATTERN : 0U) |
                      (is_wildcard(first_token(subject)) ? TRAIT_FIRST_WILD : 0U));
}

static size_t bytes_of(struct esi_str subject, struct esi_str queue, struct esi_str sid)
{
    return sizeof(struct esi_sub) + subject.len + queue.len + sid.len;
}

struct esi_sub *esi_sub_new(struct esi_target *target, struct esi_str subject, struct esi_str queue,
                            struct esi_str sid)
{
    return esi_sub_new_pooled(NULL, target, subject, queue, sid);
}

void esi_sub_free(struct esi_sub *sub, struct esi_sub_pool *pool)
{
    esi_sub_pool_return(pool, sub, bytes_of(sub->subject, sub->queue, sub->sid));
}

struct esi_sub *esi_sub_new_pooled(struct esi_sub_pool *pool, struct esi_target *target,
                                   struct esi_str subject, struct esi_str queue, struct esi_str sid)
{
    struct esi_sub *sub = esi_sub_pool_take(pool, bytes_of(subject, queue, sid));

    if (sub == NULL) {
        return NULL;
    }
    char *text = (char *)(sub + 1);
    *sub = (struct esi_sub){.kind = ENTRY_SUB,
                            .hash = esi_hashmap_hash(subject),
                            .traits = traits_of(subject),
                            .index = NOT_ROUTED,
                            .target = target};
    sub->subject = (struct esi_str){.data = text, .len = subject.len};
    memcpy(text, subject.data, subject.len);
    text += subject.len;
    sub->queue = (struct esi_str){.data = text, .len = queue.len};
    if (queue.len > 0) {
        memcpy(text, queue.data, queue.len);
        text += queue.len;
    }
    sub->sid = (struct esi_str){.data = text, .len = sid.len};
    if (sid.len > 0) {
        memcpy(text, sid.data, sid.len);
    }
    return sub;
}

bool esi_sub_is_routed(const struct esi_sub *sub)
{
    return sub->index != NOT_ROUTED;
}

bool esi_sub_claim(struct esi_sub *sub)
{
    /* order: relaxed; a count, nothing is published by it. */
    int64_t left = atomic_load_explicit(&sub->claims_left, memory_order_relaxed);

    /* order: relaxed; as above. */
    while (left > 0 &&
           !atomic_compare_exchange_weak_explicit(&sub->claims_left, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return left > 0;
}

void esi_sub_add_claims(struct esi_sub *sub, int64_t count)
{
    /* order: relaxed; a count, nothing is published by it. */
    atomic_fetch_add_explicit(&sub->claims_left, count, memory_order_relaxed);
}

bool esi_sub_is_pattern(const struct esi_sub *sub)
{
    return (sub->traits & TRAIT_PATTERN) != 0;
}

static bool begins_with_wildcard(const struct esi_sub *sub)
{
    return (sub->traits & TRAIT_FIRST_WILD) != 0;
}

static void init_node(struct node *node)
{
    node->parent = NULL;
    atomic_init(&node->subs, NULL);
    atomic_init(&node->below, NULL);
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
        init_node(&table->parts[i].root);
    }
    *out = table;
    return ES_OK;
}

static uint32_t part_of_bucket(const struct esi_subtable *table, uint32_t bucket)
{
    return table->router_count == 1 ? 0 : bucket % table->router_count;
}

uint32_t esi_subtable_router_of(const struct esi_subtable *table, const struct esi_sub *sub)
{
    return begins_with_wildcard(sub) ? 0 : part_of_bucket(table, sub->traits & TRAIT_BUCKET);
}

static struct part *part_of(struct esi_subtable *table, const struct esi_sub *sub)
{
    return &table->parts[begins_with_wildcard(sub)
                             ? table->router_count
                             : part_of_bucket(table, sub->traits & TRAIT_BUCKET)];
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
    _Atomic uint64_t *generation = begins_with_wildcard(sub)
                                       ? &table->wildcard_generation
                                       : &table->generations[sub->traits & TRAIT_BUCKET];
    /* order: release; pairs with the acquire in esi_subtable_generation. */
    atomic_fetch_add_explicit(generation, 1, memory_order_release);
}

static void retire(struct esi_retired *object, struct esi_retired **retired)
{
    object->next = *retired;
    *retired = object;
}

/* --- nodes of the trie --- */

static struct node *node_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct node, entry);
}

static struct node *new_node(struct node *parent, struct esi_str token, uint64_t hash)
{
    struct node *node = malloc(sizeof *node + token.len);

    if (node == NULL) {
        return NULL;
    }
    char *copy = (char *)(node + 1);
    memcpy(copy, token.data, token.len);
    init_node(node);
    node->parent = parent;
    node->entry = (struct esi_rcu_entry){
        .hash = hash, .key = {.data = copy, .len = token.len}, .kind = ENTRY_NODE};
    return node;
}

static bool has_nothing_below(const struct node *node)
{
    const struct branches *below = ESI_RCU_OWN(node->below);

    return below == NULL || (below->children.count == 0 && ESI_RCU_OWN(below->star) == NULL &&
                             ESI_RCU_OWN(below->rest) == NULL);
}

static bool is_empty_node(const struct node *node)
{
    return ESI_RCU_OWN(node->subs) == NULL && has_nothing_below(node);
}

static void retire_below(struct branches *below, struct esi_retired **retired)
{
    struct esi_rcu_table *children = ESI_RCU_OWN(below->children.table);

    if (children != NULL) {
        /* A table begins with its retired link. */
        retire((struct esi_retired *)(void *)children, retired);
    }
    retire(&below->retired, retired);
}

void esi_subtable_free(struct esi_subtable *table)
{
    if (table == NULL) {
        return;
    }
    for (uint32_t i = 0; i <= table->router_count; i++) {
        struct esi_retired *retired = NULL;
        struct branches *below = ESI_RCU_OWN(table->parts[i].root.below);
        ESI_REQUIRE(table->parts[i].literals.count == 0 && is_empty_node(&table->parts[i].root));
        esi_rcu_map_deinit(&table->parts[i].literals);
        if (below != NULL) {
            retire_below(below, &retired);
            esi_subtable_free_retired(retired);
        }
    }
    free(table);
}

/* What is below a node, made where there is nothing; NULL when memory is exhausted. */
static struct branches *reach_below(struct node *node)
{
    struct branches *below = ESI_RCU_OWN(node->below);

    if (below == NULL) {
        below = malloc(sizeof *below);
        if (below != NULL) {
            esi_rcu_map_init(&below->children);
            atomic_init(&below->star, NULL);
            atomic_init(&below->rest, NULL);
            ESI_RCU_PUBLISH(node->below, below);
        }
    }
    return below;
}

/* One step down the trie, made where there is none; NULL when memory is exhausted. */
static struct node *reach_child(struct node *parent, struct esi_str token,
                                struct esi_retired **retired)
{
    struct branches *below = reach_below(parent);

    if (below == NULL) {
        return NULL;
    }
    if (is_wildcard(token)) {
        _Atomic(struct node *) *link = token.data[0] == '*' ? &below->star : &below->rest;
        struct node *node = ESI_RCU_OWN(*link);
        if (node == NULL) {
            node = new_node(parent, token, 0);
            if (node != NULL) {
                ESI_RCU_PUBLISH(*link, node);
            }
        }
        return node;
    }
    const uint64_t hash = esi_hashmap_hash(token);
    struct esi_rcu_entry *entry = esi_rcu_map_find(&below->children, token, hash);
    if (entry != NULL) {
        return node_of(entry);
    }
    struct node *node = new_node(parent, token, hash);
    if (node != NULL && esi_rcu_map_insert(&below->children, &node->entry, retired) != ES_OK) {
        free(node);
        return NULL;
    }
    return node;
}

/* Takes empty nodes out, upwards. */
static void prune(struct node *node, struct esi_retired **retired)
{
    while (node->parent != NULL && is_empty_node(node)) {
        struct node *parent = node->parent;
        struct branches *above = ESI_RCU_OWN(parent->below);
        struct branches *below = ESI_RCU_OWN(node->below);
        if (ESI_RCU_OWN(above->star) == node) {
            ESI_RCU_PUBLISH(above->star, NULL);
        } else if (ESI_RCU_OWN(above->rest) == node) {
            ESI_RCU_PUBLISH(above->rest, NULL);
        } else {
            esi_rcu_map_remove(&above->children, &node->entry);
        }
        if (below != NULL) {
            retire_below(below, retired);
        }
        retire(&node->retired, retired);
        node = parent;
    }
}

/* The node of a pattern, made where there is none; NULL when memory is exhausted (nothing is left
 * behind). */
static struct node *reach_node(struct part *part, struct esi_str pattern,
                               struct esi_retired **retired)
{
    struct node *node = &part->root;
    struct esi_subject_cursor cursor = esi_subject_tokens(pattern);
    struct esi_str token;

    while (esi_subject_next_token(&cursor, &token)) {
        struct node *child = reach_child(node, token, retired);
        if (child == NULL) {
            prune(node, retired);
            return NULL;
        }
        node = child;
    }
    return node;
}

/* --- places --- */

struct place {
    struct esi_rcu_map *literals; /* NULL: the node's */
    struct node *node;
    struct esi_rcu_entry *now; /* what stands there; NULL: nothing */
};

static struct esi_sub *sub_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct esi_sub, entry);
}

static struct list *list_of(const struct esi_rcu_entry *entry)
{
    return ESI_CONTAINER_OF(entry, struct list, entry);
}

static bool is_local_plain(const struct esi_sub *sub)
{
    return !sub->target->is_link && sub->queue.len == 0;
}

/* Puts fresh in the place of what stands there. Only the first entry of a literal subject can fail,
 * with ES_NO_MEMORY. */
static enum es_err fill_place(const struct place *place, struct esi_rcu_entry *fresh,
                              struct esi_retired **retired)
{
    if (place->literals == NULL) {
        ESI_RCU_PUBLISH(place->node->subs, fresh);
        return ES_OK;
    }
    if (place->now == NULL) {
        return esi_rcu_map_insert(place->literals, fresh, retired);
    }
    esi_rcu_map_replace(place->literals, place->now, fresh);
    return ES_OK;
}

/* Takes out what stands there. */
static void clear_place(const struct place *place, struct esi_retired **retired)
{
    if (place->literals != NULL) {
        esi_rcu_map_remove(place->literals, place->now);
    } else {
        ESI_RCU_PUBLISH(place->node->subs, NULL);
        prune(place->node, retired);
    }
}

/* The place of a subscription that is in the table. */
static struct place place_of(struct esi_subtable *table, struct esi_sub *sub)
{
    struct place place = {.now = &sub->entry};
    const struct esi_rcu_entry *home = sub->home;

    if (home != NULL && home->kind == ENTRY_LIST) {
        place.now = sub->home;
        place.node = list_of(home)->node;
    } else if (home != NULL) {
        place.node = node_of(home);
    }
    if (place.node == NULL) {
        place.literals = &part_of(table, sub)->literals;
    }
    return place;
}

/* --- lists --- */

static void append(struct list *list, struct esi_sub *sub)
{
    /* order: relaxed; our own value. */
    const uint32_t index = atomic_load_explicit(&list->used, memory_order_relaxed);

    ESI_DEBUG_ASSERT(index < list->capacity);
    sub->home = &list->entry;
    sub->index = index;
    /* order: relaxed; published by the store of used below. */
    atomic_store_explicit(&list->subs[index], sub, memory_order_relaxed);
    /* order: release; pairs with the acquire in visit, which then sees the slot and the
     * subscription. */
    atomic_store_explicit(&list->used, index + 1, memory_order_release);
    list->live++;
    list->plain_count += is_local_plain(sub);
}

/* An empty list for a subject, with room for as many as there are, half as many, and one. */
static struct list *new_list(const struct esi_rcu_entry *subject, uint32_t live)
{
    uint32_t capacity = LIST_CAPACITY_MIN;

    while (capacity < live + live / 2 + 1) {
        capacity *= 2;
    }
    struct list *list = malloc(sizeof *list + capacity * sizeof list->subs[0] + subject->key.len);
    if (list == NULL) {
        return NULL;
    }
    char *key = (char *)&list->subs[capacity];
    memcpy(key, subject->key.data, subject->key.len);
    list->entry = (struct esi_rcu_entry){
        .hash = subject->hash, .key = {.data = key, .len = subject->key.len}, .kind = ENTRY_LIST};
    list->capacity = capacity;
    list->live = 0;
    list->plain_count = 0;
    list->node = NULL;
    atomic_init(&list->used, 0);
    return list;
}

/* A list of what stands in a place, with room for more, put there; a list that was there is
 * retired. NULL when memory is exhausted. */
static struct list *rebuild_list(const struct place *place, struct esi_retired **retired)
{
    struct list *old = place->now->kind == ENTRY_LIST ? list_of(place->now) : NULL;
    struct list *list = new_list(place->now, old != NULL ? old->live : 1);

    if (list == NULL) {
        return NULL;
    }
    list->node = place->node;
    if (old == NULL) {
        append(list, sub_of(place->now));
    } else {
        /* order: relaxed; our own value. */
        const uint32_t used = atomic_load_explicit(&old->used, memory_order_relaxed);
        for (uint32_t i = 0; i < used; i++) {
            struct esi_sub *sub = ESI_RCU_OWN(old->subs[i]);
            if (sub != NULL) {
                append(list, sub);
            }
        }
        ESI_ASSERT(list->live == old->live && list->plain_count == old->plain_count);
    }
    const enum es_err err = fill_place(place, &list->entry, retired);
    ESI_ASSERT(err == ES_OK);
    if (old != NULL) {
        retire(&old->retired, retired);
    }
    return list;
}

/* One more where others stand. */
static enum es_err join(const struct place *place, struct esi_sub *sub,
                        struct esi_retired **retired)
{
    struct list *list = place->now->kind == ENTRY_LIST ? list_of(place->now) : NULL;

    /* order: relaxed; our own value. */
    if (list == NULL || atomic_load_explicit(&list->used, memory_order_relaxed) == list->capacity) {
        list = rebuild_list(place, retired);
        if (list == NULL) {
            return ES_NO_MEMORY;
        }
    }
    append(list, sub);
    return ES_OK;
}

/* --- the router's side --- */

static enum es_err settle(struct esi_subtable *table, struct esi_sub *sub,
                          struct esi_retired **retired)
{
    struct part *part = part_of(table, sub);
    struct place place = {.literals = NULL};

    if (esi_sub_is_pattern(sub)) {
        if (esi_subject_token_count(sub->subject) > ESI_SUBTABLE_TOKENS_MAX) {
            return ES_TOO_LARGE;
        }
        place.node = reach_node(part, sub->subject, retired);
        if (place.node == NULL) {
            return ES_NO_MEMORY;
        }
        place.now = ESI_RCU_OWN(place.node->subs);
    } else {
        place.literals = &part->literals;
        place.now = esi_rcu_map_find(place.literals, sub->subject, sub->hash);
    }
    if (place.now != NULL) {
        return join(&place, sub, retired);
    }
    const enum es_err err = fill_place(&place, &sub->entry, retired);
    if (err == ES_OK) {
        sub->home = place.node != NULL ? &place.node->entry : NULL;
        sub->index = 0;
    }
    return err;
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

/* Leaves a hole. */
static void leave(const struct place *place, struct list *list, struct esi_sub *sub,
                  struct esi_retired **retired)
{
    ESI_REQUIRE(ESI_RCU_OWN(list->subs[sub->index]) == sub);
    ESI_RCU_PUBLISH(list->subs[sub->index], NULL);
    list->live--;
    list->plain_count -= is_local_plain(sub);
    /* order: relaxed; our own value. */
    const uint32_t used = atomic_load_explicit(&list->used, memory_order_relaxed);
    if (list->live == 0) {
        clear_place(place, retired);
        retire(&list->retired, retired);
    } else if (used > 16 && list->live * 2 < used) {
        /* Out of memory here only means that the holes stay. */
        (void)!rebuild_list(place, retired);
    }
}

void esi_subtable_remove(struct esi_subtable *table, struct esi_sub *sub,
                         struct esi_retired **retired)
{
    ESI_REQUIRE(esi_sub_is_routed(sub));
    const struct place place = place_of(table, sub);

    if (place.now->kind == ENTRY_LIST) {
        leave(&place, list_of(place.now), sub, retired);
    } else {
        clear_place(&place, retired);
    }
    sub->index = NOT_ROUTED;
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_sub_explicit(&table->count, 1, memory_order_relaxed);
    raise_generation(table, sub);
}

void esi_subtable_replace(struct esi_subtable *table, struct esi_sub *old, struct esi_sub *fresh)
{
    ESI_REQUIRE(esi_sub_is_routed(old));
    const struct place place = place_of(table, old);

    fresh->home = old->home;
    fresh->index = old->index;
    if (place.now->kind == ENTRY_LIST) {
        struct list *list = list_of(place.now);
        ESI_REQUIRE(ESI_RCU_OWN(list->subs[old->index]) == old);
        ESI_RCU_PUBLISH(list->subs[old->index], fresh);
    } else {
        struct esi_retired *retired = NULL;
        const enum es_err err = fill_place(&place, &fresh->entry, &retired);
        ESI_ASSERT(err == ES_OK && retired == NULL);
    }
    old->index = NOT_ROUTED;
    raise_generation(table, fresh);
}

uint32_t esi_subtable_plain_count(const struct esi_sub *sub)
{
    ESI_REQUIRE(esi_sub_is_routed(sub));
    return sub->home != NULL && sub->home->kind == ENTRY_LIST ? list_of(sub->home)->plain_count
                                                              : is_local_plain(sub);
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
    const bool is_plain =
        entry->kind == ENTRY_LIST ? list_of(entry)->plain_count > 0 : is_local_plain(sub_of(entry));
    if (is_plain) {
        each->found(each->argument, entry->key);
    }
}

/* How far one level of a trie was told: first what stands right below, then the children. */
struct level {
    const struct branches *below;
    uint64_t cursor;
};

static void tell_trie(const struct each_plain *each, const struct node *root)
{
    struct level levels[ESI_SUBTABLE_TOKENS_MAX + 1];
    const struct node *node = root;
    uint32_t depth = 0;

    for (;;) {
        if (node != NULL) {
            const struct branches *below = ESI_RCU_OWN(node->below);
            tell_plain(each, ESI_RCU_OWN(node->subs));
            if (below != NULL) {
                const struct node *rest = ESI_RCU_OWN(below->rest);
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
        node = child != NULL ? node_of(child) : NULL;
        depth -= child == NULL;
    }
}

static void tell_part(const struct each_plain *each, const struct part *part)
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

/* --- the readers' side --- */

struct walk {
    void (*found)(void *argument, struct esi_sub *sub);
    void *argument;
};

/* What stands in a place. */
static void visit(const struct esi_rcu_entry *entry, const struct walk *walk)
{
    if (ESI_LIKELY(entry->kind == ENTRY_SUB)) {
        walk->found(walk->argument, sub_of(entry));
        return;
    }
    const struct list *list = list_of(entry);
    /* order: acquire; pairs with the release in append. */
    const uint32_t used = atomic_load_explicit(&list->used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct esi_sub *sub = ESI_RCU_READ(list->subs[i]);
        if (sub != NULL) {
            walk->found(walk->argument, sub);
        }
    }
}

static void visit_node(const struct node *node, const struct walk *walk)
{
    const struct esi_rcu_entry *subs = ESI_RCU_READ(node->subs);

    if (subs != NULL) {
        visit(subs, walk);
    }
}

/* A branch of the trie still to be walked: where the rest of the subject begins, NULL at its
 * end. */
struct branch {
    const struct node *node;
    const char *rest;
};

/* One branch is followed; a second one at the same node waits on the stack, which therefore never
 * holds more than one a level, and no node is deeper than ESI_SUBTABLE_TOKENS_MAX. */
static void walk_trie(const struct node *root, struct esi_str subject, const struct walk *walk)
{
    struct branch stack[ESI_SUBTABLE_TOKENS_MAX];
    uint32_t depth = 0;
    const char *end = subject.data + subject.len;
    struct branch at = {.node = root, .rest = subject.data};

    for (;;) {
        const struct branches *below = at.rest != NULL ? ESI_RCU_READ(at.node->below) : NULL;
        if (at.rest == NULL) {
            visit_node(at.node, walk);
        } else if (below != NULL) {
            const struct node *rest = ESI_RCU_READ(below->rest);
            if (rest != NULL) {
                visit_node(rest, walk);
            }
            const char *dot = memchr(at.rest, '.', (size_t)(end - at.rest));
            const struct esi_str token = {.data = at.rest,
                                          .len = (size_t)((dot != NULL ? dot : end) - at.rest)};
            const char *next = dot != NULL ? dot + 1 : NULL;
            const struct node *star = ESI_RCU_READ(below->star);
            const struct esi_rcu_entry *child =
                ESI_RCU_READ(below->children.table) == NULL
                    ? NULL
                    : esi_rcu_map_find(&below->children, token, esi_hashmap_hash(token));
            if (child != NULL) {
                if (star != NULL) {
                    ESI_DEBUG_ASSERT(depth < ESI_SUBTABLE_TOKENS_MAX);
                    stack[depth++] = (struct branch){.node = star, .rest = next};
                }
                at = (struct branch){.node = node_of(child), .rest = next};
                continue;
            }
            if (star != NULL) {
                at = (struct branch){.node = star, .rest = next};
                continue;
            }
        }
        if (depth == 0) {
            return;
        }
        at = stack[--depth];
    }
}

static bool is_empty_trie(const struct node *root)
{
    return ESI_RCU_READ(root->below) == NULL;
}

static const struct part *published_part(const struct esi_subtable *table, struct esi_str subject)
{
    return &table->parts[table->router_count == 1
                             ? 0
                             : part_of_bucket(table, esi_subtable_bucket(subject))];
}

void esi_subtable_walk(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                       void (*found)(void *argument, struct esi_sub *sub), void *argument)
{
    const struct walk walk = {.found = found, .argument = argument};

    if (esi_subject_has_empty_token(subject)) {
        return;
    }
    /* rcu-read: walk (one literal look-up and the branches of the trie that match; calls nothing
     * that blocks) */
    const struct part *part = published_part(table, subject);
    const struct esi_rcu_entry *literal = esi_rcu_map_find(&part->literals, subject, hash);
    if (literal != NULL) {
        visit(literal, &walk);
    }
    if (!is_empty_trie(&part->root)) {
        walk_trie(&part->root, subject, &walk);
    }
    if (!is_empty_trie(&table->parts[table->router_count].root)) {
        walk_trie(&table->parts[table->router_count].root, subject, &walk);
    }
}

/* The map in which a walk looks for what follows the stem, down the first of its branches. */
static const struct esi_rcu_map *find_leaves(const struct node *root, struct esi_str stem)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(stem);
    const struct node *node = root;
    struct esi_str token;

    while (stem.len > 0 && node != NULL && esi_subject_next_token(&cursor, &token)) {
        const struct branches *below = ESI_RCU_READ(node->below);
        if (below == NULL) {
            return NULL;
        }
        const struct esi_rcu_entry *child =
            esi_rcu_map_find(&below->children, token, esi_hashmap_hash(token));
        node = child != NULL ? node_of(child) : ESI_RCU_READ(below->star);
    }
    const struct branches *below = node != NULL ? ESI_RCU_READ(node->below) : NULL;
    return below != NULL ? &below->children : NULL;
}

void esi_subtable_prefetch(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                           struct esi_subtable_hint *hint)
{
    const struct part *part = published_part(table, subject);
    const char *dot = memrchr(subject.data, '.', subject.len);
    const size_t stem_len = dot != NULL ? (size_t)(dot - subject.data) : 0;
    const struct esi_str stem = {.data = subject.data, .len = stem_len};

    if (hint->literals == NULL || stem.len == 0 || !esi_str_equal(hint->stem, stem)) {
        hint->literals = &part->literals;
        hint->stem = stem;
        hint->leaves = is_empty_trie(&part->root) ? NULL : find_leaves(&part->root, stem);
    }
    hint->literal_hash = hash;
    esi_rcu_map_prefetch_bucket(hint->literals, hash);
    if (hint->leaves != NULL) {
        const size_t skipped = dot != NULL ? stem_len + 1 : 0;
        hint->leaf_hash = esi_hashmap_hash(
            (struct esi_str){.data = subject.data + skipped, .len = subject.len - skipped});
        esi_rcu_map_prefetch_bucket(hint->leaves, hint->leaf_hash);
    }
}

void esi_subtable_prefetch_places(const struct esi_subtable_hint *hint)
{
    esi_rcu_map_prefetch_entry(hint->literals, hint->literal_hash);
    if (hint->leaves != NULL) {
        esi_rcu_map_prefetch_entry(hint->leaves, hint->leaf_hash);
    }
}

void esi_subtable_prefetch_found(const struct esi_subtable_hint *hint)
{
    const struct esi_rcu_entry *leaf =
        hint->leaves != NULL ? esi_rcu_map_guess(hint->leaves, hint->leaf_hash) : NULL;
    const struct esi_rcu_entry *subs = leaf != NULL ? ESI_RCU_READ(node_of(leaf)->subs) : NULL;

    if (subs != NULL) {
        __builtin_prefetch(subs);
        __builtin_prefetch((const char *)subs + ESI_CACHE_LINE);
    }
}
