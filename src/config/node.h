/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree that both readers make: scalars, lists and maps, each with the place in the file where
 * it stands. A scalar is text whatever it looks like; what it means is the schema's affair, so that
 * both formats are read alike.
 *
 * Bounded in nodes, entries a map and depth, because a file may be made by whoever can write it:
 * nothing here is quadratic in the file's size, and freeing follows one list instead of the tree.
 * All memory is wiped before it is freed, since any text may be a secret. One thread at a time.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ESI_NODE_COUNT_MAX = 100000,
    ESI_NODE_ENTRIES_MAX = 1024, /* keys in one map: looking for duplicates is linear */
    ESI_NODE_DEPTH_MAX = 16
};

enum esi_node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

/* How a TOML table came about, which decides who may add to it; YAML maps stay NODE_OPEN. */
enum esi_node_origin { NODE_OPEN, NODE_BY_PATH, NODE_BY_HEADER, NODE_BY_DOTTED_KEY, NODE_CLOSED };

/* A place in the file, both counted from 1; columns count characters, not bytes. */
struct esi_position {
    uint32_t line;
    uint32_t column;
};

struct esi_node {
    enum esi_node_kind kind;
    enum esi_node_origin origin;
    bool is_quoted;             /* scalar: stood in quotes */
    struct esi_position at;     /* where the value stands */
    struct esi_position key_at; /* where its key stands; of a list's item: the item */
    char *key;                  /* owned, NUL-ended; NULL: no key (root, a list's item) */
    char *text;                 /* owned, NUL-ended, no NUL inside; scalars only */
    struct esi_node *first;     /* lists and maps: the children in the file's order */
    struct esi_node *last;
    struct esi_node *next; /* sibling */
    size_t child_count;
    struct esi_node *allocated_next; /* all nodes of the tree in one list */
};

struct esi_node_tree {
    struct esi_node *root; /* NULL until a reader has made it */
    struct esi_node *allocated;
    size_t count;
};

/* What went wrong while reading, for a message. */
struct esi_node_error {
    struct esi_position at;
    char text[192];
};

/* An empty tree. Allocates nothing. */
void esi_node_init(struct esi_node_tree *tree);
/* Wipes and frees all nodes. */
void esi_node_deinit(struct esi_node_tree *tree);

/*
 * Makes a node that belongs to the tree and to no parent yet. text: of a scalar, else empty;
 * copied. Errors: ES_NO_MEMORY, ES_TOO_LARGE (too many nodes), ES_INVALID (a NUL in the text).
 */
ES_MUST_USE enum es_err esi_node_make(struct esi_node_tree *tree, enum esi_node_kind kind,
                                      struct esi_position at, struct esi_str text,
                                      struct esi_node **out);

/* Appends an item to a list. Both belong to the same tree; the item has no parent yet. */
void esi_node_append(struct esi_node *list, struct esi_node *item);

/*
 * Adds an entry to a map; the key is copied. The value has no parent yet.
 * Errors: ES_NO_MEMORY, ES_EXISTS (the key is there already), ES_TOO_LARGE (too many entries),
 * ES_INVALID (empty key, or a NUL in it).
 */
ES_MUST_USE enum es_err esi_node_insert(struct esi_node *map, struct esi_str key,
                                        struct esi_position key_at, struct esi_node *value);

/* The value of a key, or NULL; also NULL where map is no map or NULL. */
struct esi_node *esi_node_find(const struct esi_node *map, struct esi_str key);

/*
 * The node at a path such as "gateway.remotes[1].name", or the deepest one on the way there that
 * exists; NULL when the root is NULL. *is_exact (may be NULL): the whole path was found.
 */
const struct esi_node *esi_node_at(const struct esi_node *root, const char *path, bool *is_exact);

/* "a list", "a map", "a text" for messages. */
const char *esi_node_kind_text(const struct esi_node *node);
