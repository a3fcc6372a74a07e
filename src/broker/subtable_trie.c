/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes are made from the root on as a pattern needs them, and pruned from the leaf on. What a
 * router takes out readers may still see: it is retired as it is. */
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/ledger.h"
#include "broker/subtable_internal.h"
#include "proto/subject.h"

#include <stdlib.h>
#include <string.h>

void esi_subtable_trie_init(struct esi_subtable_node *node)
{
    node->parent = NULL;
    atomic_init(&node->subs, NULL);
    atomic_init(&node->below, NULL);
}

static bool is_wildcard(struct esi_str token)
{
    return token.len == 1 && (token.data[0] == '*' || token.data[0] == '>');
}

static struct esi_subtable_node *new_node(struct esi_subtable_node *parent, struct esi_str token,
                                          uint64_t hash)
{
    struct esi_subtable_node *node = malloc(sizeof *node + token.len);

    if (node == NULL) {
        return NULL;
    }
    char *copy = (char *)(node + 1);
    memcpy(copy, token.data, token.len);
    esi_subtable_trie_init(node);
    node->parent = parent;
    node->entry = (struct esi_rcu_entry){
        .hash = hash, .key = {.data = copy, .len = token.len}, .kind = ESI_SUBTABLE_NODE};
    return node;
}

uint64_t esi_subtable_trie_memory_bytes(struct esi_str pattern)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(pattern);
    struct esi_str token;
    uint64_t bytes = 0;

    /* The first stands among many below the root, each other one alone below the one before. */
    while (esi_subject_next_token(&cursor, &token)) {
        const uint64_t alone_bytes = esi_ledger_heap_bytes(sizeof(struct esi_subtable_branches)) +
                                     (is_wildcard(token) ? 0 : esi_rcu_map_small_bytes());
        bytes += esi_ledger_heap_bytes(sizeof(struct esi_subtable_node) + token.len) +
                 (token.data == pattern.data ? esi_rcu_map_place_bytes() : alone_bytes);
    }
    return bytes;
}

static bool has_nothing_below(const struct esi_subtable_node *node)
{
    const struct esi_subtable_branches *below = ESI_RCU_OWN(node->below);

    return below == NULL || (below->children.count == 0 && ESI_RCU_OWN(below->star) == NULL &&
                             ESI_RCU_OWN(below->rest) == NULL);
}

static bool is_empty(const struct esi_subtable_node *node)
{
    return ESI_RCU_OWN(node->subs) == NULL && has_nothing_below(node);
}

static void retire_below(struct esi_subtable_branches *below, struct esi_retired **retired)
{
    struct esi_rcu_table *children = ESI_RCU_OWN(below->children.table);

    if (children != NULL) {
        /* A table begins with its retired link. */
        esi_subtable_retire((struct esi_retired *)(void *)children, retired);
    }
    esi_subtable_retire(&below->retired, retired);
}

/* What is below a node, made where there is nothing; NULL when memory is exhausted. */
static struct esi_subtable_branches *reach_below(struct esi_subtable_node *node)
{
    struct esi_subtable_branches *below = ESI_RCU_OWN(node->below);

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
static struct esi_subtable_node *reach_child(struct esi_subtable_node *parent, struct esi_str token,
                                             struct esi_retired **retired)
{
    struct esi_subtable_branches *below = reach_below(parent);

    if (below == NULL) {
        return NULL;
    }
    if (is_wildcard(token)) {
        _Atomic(struct esi_subtable_node *) *link =
            token.data[0] == '*' ? &below->star : &below->rest;
        struct esi_subtable_node *node = ESI_RCU_OWN(*link);
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
        return esi_subtable_node_of(entry);
    }
    struct esi_subtable_node *node = new_node(parent, token, hash);
    if (node != NULL && esi_rcu_map_insert(&below->children, &node->entry, retired) != ES_OK) {
        free(node);
        return NULL;
    }
    return node;
}

void esi_subtable_trie_prune(struct esi_subtable_node *node, struct esi_retired **retired)
{
    while (node->parent != NULL && is_empty(node)) {
        struct esi_subtable_node *parent = node->parent;
        struct esi_subtable_branches *above = ESI_RCU_OWN(parent->below);
        struct esi_subtable_branches *below = ESI_RCU_OWN(node->below);
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
        esi_subtable_retire(&node->retired, retired);
        node = parent;
    }
}

struct esi_subtable_node *esi_subtable_trie_reach(struct esi_subtable_node *root,
                                                  struct esi_str pattern,
                                                  struct esi_retired **retired)
{
    struct esi_subtable_node *node = root;
    struct esi_subject_cursor cursor = esi_subject_tokens(pattern);
    struct esi_str token;

    while (esi_subject_next_token(&cursor, &token)) {
        struct esi_subtable_node *child = reach_child(node, token, retired);
        if (child == NULL) {
            esi_subtable_trie_prune(node, retired);
            return NULL;
        }
        node = child;
    }
    return node;
}

void esi_subtable_trie_deinit(struct esi_subtable_node *root)
{
    struct esi_subtable_branches *below = ESI_RCU_OWN(root->below);
    struct esi_retired *retired = NULL;

    ESI_REQUIRE(is_empty(root));
    if (below != NULL) {
        retire_below(below, &retired);
        esi_subtable_free_retired(retired);
    }
}
