/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes. A literal subscription's node stands in its part's hash, keyed by the whole subject. A
 * wildcard subscription's node is found from its part's root, token by token: a literal token in
 * the node's map of children, '*' in `star`, a final '>' in `rest`. A node without subscriptions
 * and children is taken out and retired.
 *
 * Subscriber lists are vectors with spare room: a SUB appends (a copy for each would be quadratic),
 * an UNSUB leaves a hole; a list that is more than half holes, or full, is copied without them.
 */
#include "broker/subtable.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "base/rcu.h"
#include "proto/subject.h"

#include <stdlib.h>
#include <string.h>

enum { VECTOR_CAPACITY_MIN = 2 };

struct sub_vector {
    struct esi_retired retired; /* first */
    uint32_t capacity;
    _Atomic uint32_t used; /* slots in use, holes included */
    uint32_t live;         /* without holes; the router's */
    _Atomic(struct esi_sub *) subs[];
};

struct esi_subtable_node {
    /* first; key: the whole subject, or one token; lies behind the node */
    struct esi_rcu_entry entry;
    _Atomic(struct sub_vector *) subs;
    /* trie only */
    struct esi_rcu_map children;
    _Atomic(struct esi_subtable_node *) star;
    _Atomic(struct esi_subtable_node *) rest;
    struct esi_subtable_node *parent; /* NULL: the root, or a literal subject's node */
    bool is_literal;
};

struct part {
    struct esi_rcu_map literals;
    struct esi_subtable_node root;
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

struct esi_sub *esi_sub_new(struct esi_target *target, struct esi_str subject, struct esi_str queue,
                            struct esi_str sid)
{
    struct esi_sub *sub = malloc(sizeof *sub + subject.len + queue.len + sid.len + 1);

    if (sub == NULL) {
        return NULL;
    }
    char *text = (char *)(sub + 1);
    *sub = (struct esi_sub){.target = target};
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

static void init_node(struct esi_subtable_node *node)
{
    atomic_init(&node->subs, NULL);
    esi_rcu_map_init(&node->children);
    atomic_init(&node->star, NULL);
    atomic_init(&node->rest, NULL);
    node->parent = NULL;
    node->is_literal = false;
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

uint32_t esi_subtable_router_of(const struct esi_subtable *table, struct esi_str subject)
{
    return is_wildcard(first_token(subject)) ? 0
                                             : esi_subtable_bucket(subject) % table->router_count;
}

static struct part *part_of(struct esi_subtable *table, struct esi_str subject)
{
    return is_wildcard(first_token(subject))
               ? &table->parts[table->router_count]
               : &table->parts[esi_subtable_bucket(subject) % table->router_count];
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

static void raise_generation(struct esi_subtable *table, struct esi_str subject)
{
    _Atomic uint64_t *generation = is_wildcard(first_token(subject))
                                       ? &table->wildcard_generation
                                       : &table->generations[esi_subtable_bucket(subject)];
    /* order: release; pairs with the acquire in esi_subtable_generation. */
    atomic_fetch_add_explicit(generation, 1, memory_order_release);
}

static void retire(struct esi_retired *object, struct esi_retired **retired)
{
    object->next = *retired;
    *retired = object;
}

static struct esi_subtable_node *new_node(struct esi_str key, uint64_t hash)
{
    struct esi_subtable_node *node = malloc(sizeof *node + key.len + 1);

    if (node == NULL) {
        return NULL;
    }
    char *copy = (char *)(node + 1);
    memcpy(copy, key.data, key.len);
    init_node(node);
    node->entry = (struct esi_rcu_entry){.hash = hash, .key = {.data = copy, .len = key.len}};
    return node;
}

static bool is_empty_node(const struct esi_subtable_node *node)
{
    const struct sub_vector *subs = ESI_RCU_OWN(node->subs);

    return (subs == NULL || subs->live == 0) && node->children.count == 0 &&
           ESI_RCU_OWN(node->star) == NULL && ESI_RCU_OWN(node->rest) == NULL;
}

void esi_subtable_free(struct esi_subtable *table)
{
    if (table == NULL) {
        return;
    }
    for (uint32_t i = 0; i <= table->router_count; i++) {
        ESI_REQUIRE(table->parts[i].literals.count == 0 && is_empty_node(&table->parts[i].root));
        esi_rcu_map_deinit(&table->parts[i].literals);
        esi_rcu_map_deinit(&table->parts[i].root.children);
    }
    free(table);
}

static void retire_node(struct esi_subtable_node *node, struct esi_retired **retired)
{
    struct sub_vector *subs = ESI_RCU_OWN(node->subs);
    struct esi_rcu_table *children = ESI_RCU_OWN(node->children.table);

    if (subs != NULL) {
        retire(&subs->retired, retired);
    }
    if (children != NULL) {
        /* A table begins with its retired link. */
        retire((struct esi_retired *)(void *)children, retired);
    }
    retire(&node->entry.retired, retired);
}

/* The literal subject's node, made where there is none; NULL when memory is exhausted. */
static struct esi_subtable_node *reach_literal(struct part *part, struct esi_str subject,
                                               struct esi_retired **retired)
{
    const uint64_t hash = esi_hashmap_hash(subject);
    struct esi_rcu_entry *entry = esi_rcu_map_find(&part->literals, subject, hash);

    if (entry != NULL) {
        return (struct esi_subtable_node *)(void *)entry;
    }
    struct esi_subtable_node *node = new_node(subject, hash);
    if (node == NULL) {
        return NULL;
    }
    node->is_literal = true;
    if (esi_rcu_map_insert(&part->literals, &node->entry, retired) != ES_OK) {
        free(node);
        return NULL;
    }
    return node;
}

/* One step down the trie, made where there is none; NULL when memory is exhausted. */
static struct esi_subtable_node *reach_child(struct esi_subtable_node *parent, struct esi_str token,
                                             struct esi_retired **retired)
{
    if (is_wildcard(token)) {
        _Atomic(struct esi_subtable_node *) *link =
            token.data[0] == '*' ? &parent->star : &parent->rest;
        struct esi_subtable_node *node = ESI_RCU_OWN(*link);
        if (node == NULL) {
            node = new_node(token, 0);
            if (node != NULL) {
                node->parent = parent;
                ESI_RCU_PUBLISH(*link, node);
            }
        }
        return node;
    }
    const uint64_t hash = esi_hashmap_hash(token);
    struct esi_rcu_entry *entry = esi_rcu_map_find(&parent->children, token, hash);
    if (entry != NULL) {
        return (struct esi_subtable_node *)(void *)entry;
    }
    struct esi_subtable_node *node = new_node(token, hash);
    if (node == NULL) {
        return NULL;
    }
    node->parent = parent;
    if (esi_rcu_map_insert(&parent->children, &node->entry, retired) != ES_OK) {
        free(node);
        return NULL;
    }
    return node;
}

/* Takes empty nodes out, upwards. */
static void prune(struct esi_subtable *table, struct esi_subtable_node *node,
                  struct esi_str subject, struct esi_retired **retired)
{
    if (node->is_literal) {
        if (is_empty_node(node)) {
            esi_rcu_map_remove(&part_of(table, subject)->literals, &node->entry);
            retire_node(node, retired);
        }
        return;
    }
    while (node->parent != NULL && is_empty_node(node)) {
        struct esi_subtable_node *parent = node->parent;
        if (ESI_RCU_OWN(parent->star) == node) {
            ESI_RCU_PUBLISH(parent->star, NULL);
        } else if (ESI_RCU_OWN(parent->rest) == node) {
            ESI_RCU_PUBLISH(parent->rest, NULL);
        } else {
            esi_rcu_map_remove(&parent->children, &node->entry);
        }
        retire_node(node, retired);
        node = parent;
    }
}

/* The node of a subject, made where there is none; NULL when memory is exhausted (nothing is left
 * behind). */
static struct esi_subtable_node *reach(struct esi_subtable *table, struct esi_str subject,
                                       struct esi_retired **retired)
{
    struct part *part = part_of(table, subject);

    if (!esi_subject_has_wildcard(subject)) {
        return reach_literal(part, subject, retired);
    }
    struct esi_subtable_node *node = &part->root;
    struct esi_subject_cursor cursor = esi_subject_tokens(subject);
    struct esi_str token;
    while (esi_subject_next_token(&cursor, &token)) {
        struct esi_subtable_node *child = reach_child(node, token, retired);
        if (child == NULL) {
            prune(table, node, subject, retired);
            return NULL;
        }
        node = child;
    }
    return node;
}

/* A copy of a node's list without holes and with room for one more, published; the old one is
 * retired. */
static enum es_err rebuild_vector(struct esi_subtable_node *node, struct esi_retired **retired)
{
    struct sub_vector *old = ESI_RCU_OWN(node->subs);
    const uint32_t live = old != NULL ? old->live : 0;
    uint32_t capacity = VECTOR_CAPACITY_MIN;

    while (capacity < live + live / 2 + 1) {
        capacity *= 2;
    }
    struct sub_vector *fresh = malloc(sizeof *fresh + capacity * sizeof fresh->subs[0]);
    if (fresh == NULL) {
        return ES_NO_MEMORY;
    }
    fresh->capacity = capacity;
    fresh->live = live;
    uint32_t used = 0;
    /* order: relaxed; our own value. */
    const uint32_t old_used =
        old != NULL ? atomic_load_explicit(&old->used, memory_order_relaxed) : 0;
    for (uint32_t i = 0; i < old_used; i++) {
        struct esi_sub *sub = ESI_RCU_OWN(old->subs[i]);
        if (sub != NULL) {
            sub->index = used;
            atomic_init(&fresh->subs[used++], sub);
        }
    }
    ESI_ASSERT(used == live);
    atomic_init(&fresh->used, used);
    ESI_RCU_PUBLISH(node->subs, fresh);
    if (old != NULL) {
        retire(&old->retired, retired);
    }
    return ES_OK;
}

enum es_err esi_subtable_add(struct esi_subtable *table, struct esi_sub *sub,
                             struct esi_retired **retired)
{
    if (esi_subject_has_wildcard(sub->subject) &&
        esi_subject_token_count(sub->subject) > ESI_SUBTABLE_TOKENS_MAX) {
        return ES_TOO_LARGE;
    }
    struct esi_subtable_node *node = reach(table, sub->subject, retired);

    if (node == NULL) {
        return ES_NO_MEMORY;
    }
    struct sub_vector *subs = ESI_RCU_OWN(node->subs);
    /* order: relaxed; our own value. */
    if (subs == NULL || atomic_load_explicit(&subs->used, memory_order_relaxed) == subs->capacity) {
        const enum es_err err = rebuild_vector(node, retired);
        if (err != ES_OK) {
            prune(table, node, sub->subject, retired);
            return err;
        }
        subs = ESI_RCU_OWN(node->subs);
    }
    /* order: relaxed; our own value. */
    const uint32_t index = atomic_load_explicit(&subs->used, memory_order_relaxed);
    sub->node = node;
    sub->index = index;
    /* order: relaxed; published by the store of used below. */
    atomic_store_explicit(&subs->subs[index], sub, memory_order_relaxed);
    /* order: release; pairs with the acquire in visit_node, which then sees the slot and the
     * subscription. */
    atomic_store_explicit(&subs->used, index + 1, memory_order_release);
    subs->live++;
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(&table->count, 1, memory_order_relaxed);
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(&table->inserts, 1, memory_order_relaxed);
    if (!sub->target->is_link) {
        /* order: relaxed; a time, nothing hangs on it. */
        atomic_store_explicit(&table->last_local_ns, sub->created_ns, memory_order_relaxed);
    }
    raise_generation(table, sub->subject);
    return ES_OK;
}

void esi_subtable_remove(struct esi_subtable *table, struct esi_sub *sub,
                         struct esi_retired **retired)
{
    struct esi_subtable_node *node = sub->node;
    struct sub_vector *subs = ESI_RCU_OWN(node->subs);

    ESI_REQUIRE(subs != NULL && ESI_RCU_OWN(subs->subs[sub->index]) == sub);
    ESI_RCU_PUBLISH(subs->subs[sub->index], NULL);
    subs->live--;
    sub->node = NULL;
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_sub_explicit(&table->count, 1, memory_order_relaxed);
    /* order: relaxed; our own value. */
    const uint32_t used = atomic_load_explicit(&subs->used, memory_order_relaxed);
    if (subs->live > 0 && used > 16 && subs->live * 2 < used) {
        /* Out of memory here only means that the holes stay. */
        (void)!rebuild_vector(node, retired);
    }
    prune(table, node, sub->subject, retired);
    raise_generation(table, sub->subject);
}

void esi_subtable_replace(struct esi_subtable *table, struct esi_sub *old, struct esi_sub *fresh)
{
    struct sub_vector *subs = ESI_RCU_OWN(old->node->subs);

    ESI_REQUIRE(ESI_RCU_OWN(subs->subs[old->index]) == old);
    fresh->node = old->node;
    fresh->index = old->index;
    ESI_RCU_PUBLISH(subs->subs[old->index], fresh);
    old->node = NULL;
    raise_generation(table, fresh->subject);
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

static void visit_node(const struct esi_subtable_node *node, const struct walk *walk)
{
    const struct sub_vector *subs = ESI_RCU_READ(node->subs);

    if (subs == NULL) {
        return;
    }
    /* order: acquire; pairs with the release in esi_subtable_add. */
    const uint32_t used = atomic_load_explicit(&subs->used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct esi_sub *sub = ESI_RCU_READ(subs->subs[i]);
        if (sub != NULL) {
            walk->found(walk->argument, sub);
        }
    }
}

/* A branch of the trie still to be walked: where the rest of the subject begins, NULL at its
 * end. */
struct branch {
    const struct esi_subtable_node *node;
    const char *rest;
};

/* One branch is followed; a second one at the same node waits on the stack, which therefore never
 * holds more than one a level, and no node is deeper than ESI_SUBTABLE_TOKENS_MAX. */
static void walk_trie(const struct esi_subtable_node *root, struct esi_str subject,
                      const struct walk *walk)
{
    struct branch stack[ESI_SUBTABLE_TOKENS_MAX];
    uint32_t depth = 0;
    const char *end = subject.data + subject.len;
    struct branch at = {.node = root, .rest = subject.data};

    for (;;) {
        if (at.rest == NULL) {
            visit_node(at.node, walk);
        } else {
            const struct esi_subtable_node *rest = ESI_RCU_READ(at.node->rest);
            if (rest != NULL) {
                visit_node(rest, walk);
            }
            const char *dot = memchr(at.rest, '.', (size_t)(end - at.rest));
            const struct esi_str token = {.data = at.rest,
                                          .len = (size_t)((dot != NULL ? dot : end) - at.rest)};
            const char *next = dot != NULL ? dot + 1 : NULL;
            const struct esi_subtable_node *star = ESI_RCU_READ(at.node->star);
            const struct esi_rcu_entry *child =
                ESI_RCU_READ(at.node->children.table) == NULL
                    ? NULL
                    : esi_rcu_map_find(&at.node->children, token, esi_hashmap_hash(token));
            if (child != NULL) {
                if (star != NULL) {
                    ESI_DEBUG_ASSERT(depth < ESI_SUBTABLE_TOKENS_MAX);
                    stack[depth++] = (struct branch){.node = star, .rest = next};
                }
                at = (struct branch){.node = (const struct esi_subtable_node *)(const void *)child,
                                     .rest = next};
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

static bool is_empty_trie(const struct esi_subtable_node *root)
{
    return ESI_RCU_READ(root->star) == NULL && ESI_RCU_READ(root->rest) == NULL &&
           ESI_RCU_READ(root->children.table) == NULL;
}

static void walk_part(const struct part *part, struct esi_str subject, uint64_t hash,
                      const struct walk *walk)
{
    const struct esi_rcu_entry *literal = esi_rcu_map_find(&part->literals, subject, hash);

    if (literal != NULL) {
        visit_node((const struct esi_subtable_node *)(const void *)literal, walk);
    }
    if (!is_empty_trie(&part->root)) {
        walk_trie(&part->root, subject, walk);
    }
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
    walk_part(&table->parts[esi_subtable_bucket(subject) % table->router_count], subject, hash,
              &walk);
    if (!is_empty_trie(&table->parts[table->router_count].root)) {
        walk_trie(&table->parts[table->router_count].root, subject, &walk);
    }
}
