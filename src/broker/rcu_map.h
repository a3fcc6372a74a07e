/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash map with one writer and RCU readers: buckets of a cache line, each with seven pointers and
 * a byte of their hashes, so that a look-up touches one line and the entry that it finds. What is
 * in it never changes its key. The writer retires old tables into a list; they are freed after a
 * grace period.
 *
 * | operation               | find      | insert, remove, replace   |
 * | find                    | free      | free                      |
 * | insert, remove, replace | free      | excluded: one writer      |
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdatomic.h>
#include <stdint.h>

/* The head of everything that is freed (by free) after a grace period. */
struct esi_retired {
    struct esi_retired *next;
};

/* The part of a map's values that it looks at. */
struct esi_rcu_entry {
    uint64_t hash;
    struct esi_str key; /* lives as long as the entry */
    /* the owner's: what the entry is part of, what else is to be known of it, where it stands */
    uint16_t kind;
    uint16_t traits;
    uint32_t index;
};

struct esi_rcu_table;

struct esi_rcu_map {
    _Atomic(struct esi_rcu_table *) table;
    uint32_t count; /* entries; the writer's */
};

void esi_rcu_map_init(struct esi_rcu_map *map);
/* Frees the table, not the entries; no reader is left. */
void esi_rcu_map_deinit(struct esi_rcu_map *map);
/* The entry, or NULL. A read-side section of the caller, or the writer. */
struct esi_rcu_entry *esi_rcu_map_find(const struct esi_rcu_map *map, struct esi_str key,
                                       uint64_t hash);
/*
 * For many look-ups at once: the first step asks for the line of a hash, the second, when that has
 * come, for what would be found there. Hints only. A read-side section of the caller.
 */
void esi_rcu_map_prefetch_bucket(const struct esi_rcu_map *map, uint64_t hash);
void esi_rcu_map_prefetch_entry(const struct esi_rcu_map *map, uint64_t hash);
/* The entry that most likely has this hash, or NULL; only its key tells. */
const struct esi_rcu_entry *esi_rcu_map_guess(const struct esi_rcu_map *map, uint64_t hash);
/* Adds an entry whose key is not in the map. ES_NO_MEMORY: nothing changed. */
ES_MUST_USE enum es_err esi_rcu_map_insert(struct esi_rcu_map *map, struct esi_rcu_entry *entry,
                                           struct esi_retired **retired);
/* Takes an entry out; it is in the map. The caller retires it. */
void esi_rcu_map_remove(struct esi_rcu_map *map, const struct esi_rcu_entry *entry);
/* Puts fresh, with the same key and hash, in the place of old: a reader finds one of the two. */
void esi_rcu_map_replace(struct esi_rcu_map *map, const struct esi_rcu_entry *old,
                         struct esi_rcu_entry *fresh);
/* What an entry takes of a map of many, in bytes, where the table has just grown; and what the
 * table of a map of few takes. */
uint64_t esi_rcu_map_place_bytes(void);
uint64_t esi_rcu_map_small_bytes(void);
/* The writer's iteration: start with *cursor = 0; NULL at the end. No change meanwhile. */
struct esi_rcu_entry *esi_rcu_map_next(const struct esi_rcu_map *map, uint64_t *cursor);
