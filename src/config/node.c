/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes are linked twice: as children of their parent in the file's order, and in one list of all,
 * by which they are freed without walking the tree. */
#include "config/node.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

void esi_node_init(struct esi_node_tree *tree)
{
    *tree = (struct esi_node_tree){0};
}

void esi_node_deinit(struct esi_node_tree *tree)
{
    struct esi_node *node = tree->allocated;

    while (node != NULL) {
        struct esi_node *next = node->allocated_next;
        esi_crypto_free_text(node->key);
        esi_crypto_free_text(node->text);
        free(node);
        node = next;
    }
    esi_node_init(tree);
}

static bool has_nul(struct esi_str s)
{
    return s.len > 0 && memchr(s.data, '\0', s.len) != NULL;
}

enum es_err esi_node_make(struct esi_node_tree *tree, enum esi_node_kind kind,
                          struct esi_position at, struct esi_str text, struct esi_node **out)
{
    if (tree->count >= ESI_NODE_COUNT_MAX) {
        return ES_TOO_LARGE;
    }
    if (has_nul(text)) {
        return ES_INVALID;
    }
    struct esi_node *node = calloc(1, sizeof *node);
    if (node == NULL) {
        return ES_NO_MEMORY;
    }
    node->kind = kind;
    node->at = at;
    node->key_at = at;
    if (kind == NODE_SCALAR) {
        node->text = esi_str_dup(text);
        if (node->text == NULL) {
            free(node);
            return ES_NO_MEMORY;
        }
    }
    node->allocated_next = tree->allocated;
    tree->allocated = node;
    tree->count++;
    *out = node;
    return ES_OK;
}

static void link_child(struct esi_node *parent, struct esi_node *child)
{
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->child_count++;
}

void esi_node_append(struct esi_node *list, struct esi_node *item)
{
    ESI_REQUIRE(list->kind == NODE_LIST);
    ESI_REQUIRE(item->next == NULL);
    link_child(list, item);
}

enum es_err esi_node_insert(struct esi_node *map, struct esi_str key, struct esi_position key_at,
                            struct esi_node *value)
{
    ESI_REQUIRE(map->kind == NODE_MAP);
    ESI_REQUIRE(value->key == NULL);
    if (key.len == 0 || has_nul(key)) {
        return ES_INVALID;
    }
    if (esi_node_find(map, key) != NULL) {
        return ES_EXISTS;
    }
    if (map->child_count >= ESI_NODE_ENTRIES_MAX) {
        return ES_TOO_LARGE;
    }
    value->key = esi_str_dup(key);
    if (value->key == NULL) {
        return ES_NO_MEMORY;
    }
    value->key_at = key_at;
    link_child(map, value);
    return ES_OK;
}

struct esi_node *esi_node_find(const struct esi_node *map, struct esi_str key)
{
    if (map == NULL || map->kind != NODE_MAP || key.len == 0) {
        return NULL;
    }
    for (struct esi_node *at = map->first; at != NULL; at = at->next) {
        if (strncmp(at->key, key.data, key.len) == 0 && at->key[key.len] == '\0') {
            return at;
        }
    }
    return NULL;
}

/* The item of a list, or NULL. */
static const struct esi_node *find_item(const struct esi_node *list, uint64_t index)
{
    if (list->kind != NODE_LIST) {
        return NULL;
    }
    const struct esi_node *item = list->first;
    for (uint64_t i = 0; i < index && item != NULL; i++) {
        item = item->next;
    }
    return item;
}

const struct esi_node *esi_node_at(const struct esi_node *root, const char *path, bool *is_exact)
{
    const struct esi_node *node = root;
    const struct esi_node *child = root;

    while (*path != '\0' && child != NULL) {
        node = child;
        if (*path == '[') {
            uint64_t index = 0;
            const size_t len = strcspn(path, "]");
            child = esi_num_parse(path + 1, len - 1, 9, &index) ? find_item(node, index) : NULL;
            path += len + (path[len] == ']' ? 1 : 0);
        } else {
            const size_t len = strcspn(path, ".[");
            child = esi_node_find(node, (struct esi_str){.data = path, .len = len});
            path += len;
        }
        path += *path == '.' ? 1 : 0;
    }
    if (is_exact != NULL) {
        *is_exact = child != NULL;
    }
    return child != NULL ? child : node;
}

const char *esi_node_kind_text(const struct esi_node *node)
{
    switch (node->kind) {
    case NODE_SCALAR:
        return "a text";
    case NODE_LIST:
        return "a list";
    case NODE_MAP:
        return "a map";
    }
    return "nothing";
}
