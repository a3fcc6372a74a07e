/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A map from byte strings to pointers: open addressing, linear probing, seeded hash (keys may come
 * from a peer). The map borrows its keys: a key must live as long as its entry; usually it is part
 * of the value. One thread at a time.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

struct esi_hashmap_entry {
    struct esi_str key; /* borrowed; data is NULL in a free slot */
    uint64_t hash;
    void *value;
};

struct esi_hashmap {
    struct esi_hashmap_entry *entries; /* owned */
    size_t capacity;                   /* 0 or a power of two */
    size_t count;
};

/* The process-wide seeded hash of a byte string. Thread: any. */
uint64_t esi_hashmap_hash(struct esi_str key);
/*
 * Sets the process-wide seed (from the environment's randomness), before any map is used: maps made
 * under another seed would be lost. Later calls change nothing, so that a second server in the
 * process does no harm. Thread: any.
 */
void esi_hashmap_seed_once(uint64_t seed);

/* What an entry's place takes on average, in bytes: a table that has grown is between three eighths
 * and three quarters full. */
static inline size_t esi_hashmap_place_bytes(void)
{
    return 2 * sizeof(struct esi_hashmap_entry);
}

void esi_hashmap_init(struct esi_hashmap *map);
/* Frees the table, not the values. */
void esi_hashmap_deinit(struct esi_hashmap *map);
/* The value, or NULL. */
void *esi_hashmap_find(const struct esi_hashmap *map, struct esi_str key);
/*
 * Adds, or replaces value and key. key.data must not be NULL. Fails only with ES_NO_MEMORY, then
 * nothing changed; to replace what is there cannot fail.
 */
ES_MUST_USE enum es_err esi_hashmap_insert(struct esi_hashmap *map, struct esi_str key,
                                           void *value);
/* Removes and returns the value, or NULL. */
void *esi_hashmap_remove(struct esi_hashmap *map, struct esi_str key);
/* Iteration in slot order: start with *cursor = 0; returns false at the end. No insert or remove
 * meanwhile. */
bool esi_hashmap_next(const struct esi_hashmap *map, size_t *cursor, struct esi_str *key,
                      void **value);
