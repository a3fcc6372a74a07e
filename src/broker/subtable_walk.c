/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The readers' side: one literal look-up, then the branches of two tries, the part's and that of
 * subscriptions that begin with a wildcard. */
#include "broker/subtable_walk.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "broker/subtable_internal.h"
#include "proto/subject.h"

#include <string.h>

struct walk {
    void (*found)(void *argument, struct esi_sub *sub);
    void *argument;
};

/* What stands in a place. */
static void visit(const struct esi_rcu_entry *entry, const struct walk *walk)
{
    if (ESI_LIKELY(entry->kind == ESI_SUBTABLE_SUB)) {
        walk->found(walk->argument, esi_subtable_sub_of(entry));
        return;
    }
    const struct esi_subtable_list *list = esi_subtable_list_of(entry);
    /* order: acquire; pairs with the release in append. */
    const uint32_t used = atomic_load_explicit(&list->used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct esi_sub *sub = ESI_RCU_READ(list->subs[i]);
        if (sub != NULL) {
            walk->found(walk->argument, sub);
        }
    }
}

static void visit_node(const struct esi_subtable_node *node, const struct walk *walk)
{
    const struct esi_rcu_entry *subs = ESI_RCU_READ(node->subs);

    if (subs != NULL) {
        visit(subs, walk);
    }
}

/* A branch of the trie still to be walked: where the rest of the subject begins, NULL at its
 * end. */
struct branch {
    const struct esi_subtable_node *node;
    const char *rest;
};

/* One branch is followed; a second one at the same node waits on the stack, which therefore never
 * holds more than one a level, and no node is deeper than ESI_SUBTABLE_TOKENS_MAX. Returns true
 * when nothing was looked up by the last token. */
static bool walk_trie(const struct esi_subtable_node *root, struct esi_str subject,
                      const struct walk *walk)
{
    struct branch stack[ESI_SUBTABLE_TOKENS_MAX];
    uint32_t depth = 0;
    const char *end = subject.data + subject.len;
    struct branch at = {.node = root, .rest = subject.data};
    bool is_for_any_last = true;

    for (;;) {
        const struct esi_subtable_branches *below =
            at.rest != NULL ? ESI_RCU_READ(at.node->below) : NULL;
        if (at.rest == NULL) {
            visit_node(at.node, walk);
        } else if (below != NULL) {
            const struct esi_subtable_node *rest = ESI_RCU_READ(below->rest);
            if (rest != NULL) {
                visit_node(rest, walk);
            }
            const char *dot = memchr(at.rest, '.', (size_t)(end - at.rest));
            const struct esi_str token = {.data = at.rest,
                                          .len = (size_t)((dot != NULL ? dot : end) - at.rest)};
            const char *next = dot != NULL ? dot + 1 : NULL;
            const struct esi_subtable_node *star = ESI_RCU_READ(below->star);
            const struct esi_rcu_entry *child = NULL;
            if (ESI_RCU_READ(below->children.table) != NULL) {
                child = esi_rcu_map_find(&below->children, token, esi_hashmap_hash(token));
                is_for_any_last &= next != NULL;
            }
            if (child != NULL) {
                if (star != NULL) {
                    ESI_DEBUG_ASSERT(depth < ESI_SUBTABLE_TOKENS_MAX);
                    stack[depth++] = (struct branch){.node = star, .rest = next};
                }
                at = (struct branch){.node = esi_subtable_node_of(child), .rest = next};
                continue;
            }
            if (star != NULL) {
                at = (struct branch){.node = star, .rest = next};
                continue;
            }
        }
        if (depth == 0) {
            return is_for_any_last;
        }
        at = stack[--depth];
    }
}

static bool is_empty_trie(const struct esi_subtable_node *root)
{
    return ESI_RCU_READ(root->below) == NULL;
}

static const struct esi_subtable_part *published_part(const struct esi_subtable *table,
                                                      struct esi_str subject)
{
    return &table->parts[table->router_count == 1
                             ? 0
                             : esi_subtable_part_of_bucket(table, esi_subtable_bucket(subject))];
}

bool esi_subtable_walk(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                       void (*found)(void *argument, struct esi_sub *sub), void *argument)
{
    const struct walk walk = {.found = found, .argument = argument};

    if (esi_subject_has_empty_token(subject)) {
        return false;
    }
    /* rcu-read: walk (one literal look-up and the branches of the trie that match; calls nothing
     * that blocks) */
    const struct esi_subtable_part *part = published_part(table, subject);
    const struct esi_rcu_entry *literal = esi_rcu_map_find(&part->literals, subject, hash);
    if (literal != NULL) {
        visit(literal, &walk);
    }
    const struct esi_subtable_node *first_wild = &table->parts[table->router_count].root;
    bool is_for_any_last = literal == NULL;
    if (!is_empty_trie(&part->root)) {
        is_for_any_last &= walk_trie(&part->root, subject, &walk);
    }
    if (!is_empty_trie(first_wild)) {
        is_for_any_last &= walk_trie(first_wild, subject, &walk);
    }
    return is_for_any_last;
}

bool esi_subtable_walk_has_literal(const struct esi_subtable *table, uint32_t bucket,
                                   struct esi_str subject, uint64_t hash)
{
    const struct esi_subtable_part *part =
        &table->parts[esi_subtable_part_of_bucket(table, bucket)];

    return esi_rcu_map_find(&part->literals, subject, hash) != NULL;
}

struct esi_str esi_subtable_walk_stem(struct esi_str subject)
{
    const char *dot = memrchr(subject.data, '.', subject.len);

    return (struct esi_str){.data = subject.data,
                            .len = dot != NULL ? (size_t)(dot - subject.data) : 0};
}

/* The map in which a walk looks for what follows the stem, down the first of its branches. */
static const struct esi_rcu_map *find_leaves(const struct esi_subtable_node *root,
                                             struct esi_str stem)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(stem);
    const struct esi_subtable_node *node = root;
    struct esi_str token;

    while (stem.len > 0 && node != NULL && esi_subject_next_token(&cursor, &token)) {
        const struct esi_subtable_branches *below = ESI_RCU_READ(node->below);
        if (below == NULL) {
            return NULL;
        }
        const struct esi_rcu_entry *child =
            esi_rcu_map_find(&below->children, token, esi_hashmap_hash(token));
        node = child != NULL ? esi_subtable_node_of(child) : ESI_RCU_READ(below->star);
    }
    const struct esi_subtable_branches *below = node != NULL ? ESI_RCU_READ(node->below) : NULL;
    return below != NULL ? &below->children : NULL;
}

void esi_subtable_walk_prefetch(const struct esi_subtable *table, struct esi_str subject,
                                uint64_t hash, struct esi_subtable_walk_hint *hint)
{
    const struct esi_subtable_part *part = published_part(table, subject);
    const struct esi_str stem = esi_subtable_walk_stem(subject);

    if (hint->literals == NULL || stem.len == 0 || !esi_str_equal(hint->stem, stem)) {
        hint->literals = &part->literals;
        hint->stem = stem;
        hint->leaves = is_empty_trie(&part->root) ? NULL : find_leaves(&part->root, stem);
    }
    hint->literal_hash = hash;
    esi_rcu_map_prefetch_bucket(hint->literals, hash);
    if (hint->leaves != NULL) {
        const size_t skipped = stem.len > 0 ? stem.len + 1 : 0;
        hint->leaf_hash = esi_hashmap_hash(
            (struct esi_str){.data = subject.data + skipped, .len = subject.len - skipped});
        esi_rcu_map_prefetch_bucket(hint->leaves, hint->leaf_hash);
    }
}

void esi_subtable_walk_prefetch_places(const struct esi_subtable_walk_hint *hint)
{
    esi_rcu_map_prefetch_entry(hint->literals, hint->literal_hash);
    if (hint->leaves != NULL) {
        esi_rcu_map_prefetch_entry(hint->leaves, hint->leaf_hash);
    }
}

void esi_subtable_walk_prefetch_found(const struct esi_subtable_walk_hint *hint)
{
    const struct esi_rcu_entry *leaf =
        hint->leaves != NULL ? esi_rcu_map_guess(hint->leaves, hint->leaf_hash) : NULL;
    const struct esi_rcu_entry *subs =
        leaf != NULL ? ESI_RCU_READ(esi_subtable_node_of(leaf)->subs) : NULL;

    if (subs != NULL) {
        __builtin_prefetch(subs);
        __builtin_prefetch((const char *)subs + ESI_CACHE_LINE);
    }
}
