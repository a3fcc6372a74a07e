/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash map with one writer and RCU readers: open addressing over pointers. What is in it never
 * changes its key. The writer retires old tables into a list; they are freed after a grace period.
 *
 * | operation      | find                      | insert, remove            |
 * | find           | free                      | free                      |
 * | insert, remove | free                      | excluded: one writer      |
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

/* The head of a map's values. */
struct esi_rcu_entry {
    struct esi_retired retired; /* first */
    uint64_t hash;
    struct esi_str key; /* lives as long as the entry */
};

struct esi_rcu_table;

struct esi_rcu_map {
    _Atomic(struct esi_rcu_table *) table;
    uint32_t count; /* entries; the writer's */
    uint32_t used;  /* entries and tombstones; the writer's */
};

void esi_rcu_map_init(struct esi_rcu_map *map);
/* Frees the table, not the entries; no reader is left. */
void esi_rcu_map_deinit(struct esi_rcu_map *map);
/* The entry, or NULL. A read-side section of the caller, or the writer. */
struct esi_rcu_entry *esi_rcu_map_find(const struct esi_rcu_map *map, struct esi_str key,
                                       uint64_t hash);
/* Adds an entry whose key is not in the map. ES_NO_MEMORY: nothing changed. */
ES_MUST_USE enum es_err esi_rcu_map_insert(struct esi_rcu_map *map, struct esi_rcu_entry *entry,
                                           struct esi_retired **retired);
/* Takes an entry out; it is in the map. The caller retires it. */
void esi_rcu_map_remove(struct esi_rcu_map *map, const struct esi_rcu_entry *entry);
