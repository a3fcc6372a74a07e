/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A removed entry leaves a tombstone, because a reader may be in the middle of its probe; a rebuilt
 * table has none. */
#include "broker/rcu_map.h"
#include "base/assert.h"
#include "base/rcu.h"

#include <stddef.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 8 };

struct esi_rcu_table {
    struct esi_retired retired; /* first */
    uint32_t capacity;          /* a power of two */
    _Atomic(struct esi_rcu_entry *) slots[];
};

/*
 * Where the search for a hash begins. Not by its low bits: they tell the parts of the subscription
 * table apart, so within a part many entries share them.
 */
static uint64_t first_slot(uint64_t hash)
{
    return hash >> 16;
}

/* Marks a slot whose entry was removed: a look-up goes on behind it. */
static struct esi_rcu_entry tombstone;

void esi_rcu_map_init(struct esi_rcu_map *map)
{
    atomic_init(&map->table, NULL);
    map->count = 0;
    map->used = 0;
}

void esi_rcu_map_deinit(struct esi_rcu_map *map)
{
    free(ESI_RCU_OWN(map->table));
    esi_rcu_map_init(map);
}

struct esi_rcu_entry *esi_rcu_map_find(const struct esi_rcu_map *map, struct esi_str key,
                                       uint64_t hash)
{
    const struct esi_rcu_table *table = ESI_RCU_READ(map->table);

    if (table == NULL) {
        return NULL;
    }
    /* The writer keeps a free slot in every table, so this ends. */
    for (uint64_t index = first_slot(hash);; index++) {
        struct esi_rcu_entry *entry = ESI_RCU_READ(table->slots[index & (table->capacity - 1)]);
        if (entry == NULL) {
            return NULL;
        }
        if (entry != &tombstone && entry->hash == hash && esi_str_equal(entry->key, key)) {
            return entry;
        }
    }
}

/* Puts an entry into the first free slot of a table. */
static void place(struct esi_rcu_table *table, struct esi_rcu_entry *entry)
{
    uint64_t index = first_slot(entry->hash);

    while (ESI_RCU_OWN(table->slots[index & (table->capacity - 1)]) != NULL) {
        index++;
    }
    ESI_RCU_PUBLISH(table->slots[index & (table->capacity - 1)], entry);
}

/* A new table with room, without tombstones; the old one is retired. */
static enum es_err rebuild(struct esi_rcu_map *map, struct esi_retired **retired)
{
    struct esi_rcu_table *old = ESI_RCU_OWN(map->table);
    uint32_t capacity = CAPACITY_MIN;

    while (capacity < map->count * 2 + 2) {
        capacity *= 2;
    }
    struct esi_rcu_table *table = calloc(1, sizeof *table + capacity * sizeof table->slots[0]);
    if (table == NULL) {
        return ES_NO_MEMORY;
    }
    table->capacity = capacity;
    for (uint32_t i = 0; old != NULL && i < old->capacity; i++) {
        struct esi_rcu_entry *entry = ESI_RCU_OWN(old->slots[i]);
        if (entry != NULL && entry != &tombstone) {
            place(table, entry);
        }
    }
    map->used = map->count;
    ESI_RCU_PUBLISH(map->table, table);
    if (old != NULL) {
        old->retired.next = *retired;
        *retired = &old->retired;
    }
    return ES_OK;
}

enum es_err esi_rcu_map_insert(struct esi_rcu_map *map, struct esi_rcu_entry *entry,
                               struct esi_retired **retired)
{
    const struct esi_rcu_table *table = ESI_RCU_OWN(map->table);

    if (table == NULL || (map->used + 1) * 4 > table->capacity * 3) {
        const enum es_err err = rebuild(map, retired);
        if (err != ES_OK) {
            return err;
        }
    }
    place(ESI_RCU_OWN(map->table), entry);
    map->count++;
    map->used++;
    return ES_OK;
}

void esi_rcu_map_remove(struct esi_rcu_map *map, const struct esi_rcu_entry *entry)
{
    struct esi_rcu_table *table = ESI_RCU_OWN(map->table);

    ESI_REQUIRE(table != NULL);
    for (uint64_t index = first_slot(entry->hash);; index++) {
        struct esi_rcu_entry *found = ESI_RCU_OWN(table->slots[index & (table->capacity - 1)]);
        ESI_REQUIRE(found != NULL);
        if (found == entry) {
            ESI_RCU_PUBLISH(table->slots[index & (table->capacity - 1)], &tombstone);
            map->count--;
            return;
        }
    }
}
