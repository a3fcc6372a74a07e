/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An entry stands in the bucket of its hash, or, where that is full, in one of those behind it.
 * Each bucket counts the entries that went past it, so a look-up knows where to end, and a removal
 * leaves no mark: a map through which many entries have gone is as fast as a new one.
 *
 * The marks of a bucket (a byte of each entry's hash, 0: free, and the count) are one word. A
 * reader takes it first, then only the pointers whose mark fits. An insert writes the pointer
 * before the mark, a removal the mark before the pointer. What a reader finds behind a mark that is
 * no longer there is told by the entry's own key.
 */
#include "broker/rcu_map.h"
#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"
#include "base/rcu.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUCKET_SLOTS = 7,
    SHRINK_FROM = 64, /* buckets: smaller tables stay */
    PASSED_MAX = 255, /* a count that got here stays, until the table is built anew */
    PASSED_SHIFT = 8 * BUCKET_SLOTS
};

struct bucket {
    _Atomic uint64_t marks; /* byte i: slot i's; the last: how many entries went past */
    _Atomic(struct esi_rcu_entry *) slots[BUCKET_SLOTS];
};
_Static_assert(sizeof(struct bucket) == ESI_CACHE_LINE, "a look-up touches one line");

struct esi_rcu_table {
    struct esi_retired retired; /* first */
    uint64_t mask;              /* buckets, a power of two, less one */
    struct bucket *buckets;     /* behind the struct; on cache lines unless there is only one */
};

/*
 * Where the search for a hash begins. Not by its low bits: they tell the parts of the subscription
 * table apart, so within a part many entries share them.
 */
static uint64_t first_bucket(uint64_t hash)
{
    return hash >> 16;
}

/* A byte of the hash that the bucket is not chosen by; never 0. */
static uint64_t mark_of(uint64_t hash)
{
    return (hash >> 8 & 0xff) | 1;
}

/* The bytes of marks that are the given one: their highest bits are set. Above a true one there may
 * be a false one; the entry tells. */
static uint64_t equal_bytes(uint64_t marks, uint64_t mark)
{
    const uint64_t ones = 0x0001010101010101ULL;
    const uint64_t differences = marks ^ mark * ones;

    return (differences - ones) & ~differences & ones << 7;
}

static uint64_t read_marks(const struct bucket *bucket)
{
    /* order: acquire; pairs with the release in write_marks, which then shows the pointer. */
    return atomic_load_explicit(&bucket->marks, memory_order_acquire);
}

static uint64_t own_marks(const struct bucket *bucket)
{
    /* order: relaxed; the writer's own value. */
    return atomic_load_explicit(&bucket->marks, memory_order_relaxed);
}

static void write_marks(struct bucket *bucket, uint64_t marks)
{
    /* order: release; pairs with the acquire in read_marks. */
    atomic_store_explicit(&bucket->marks, marks, memory_order_release);
}

static uint64_t passed_count(uint64_t marks)
{
    return marks >> PASSED_SHIFT;
}

void esi_rcu_map_init(struct esi_rcu_map *map)
{
    atomic_init(&map->table, NULL);
    map->count = 0;
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
    /* Once round at most, also where counts that stay would lead on for ever. */
    for (uint64_t i = 0; i <= table->mask; i++) {
        const struct bucket *bucket = &table->buckets[(first_bucket(hash) + i) & table->mask];
        const uint64_t marks = read_marks(bucket);
        for (uint64_t found = equal_bytes(marks, mark_of(hash)); found != 0; found &= found - 1) {
            struct esi_rcu_entry *entry = ESI_RCU_READ(bucket->slots[__builtin_ctzll(found) / 8]);
            if (entry != NULL && entry->hash == hash && esi_str_equal(entry->key, key)) {
                return entry;
            }
        }
        if (ESI_LIKELY(passed_count(marks) == 0)) {
            return NULL;
        }
    }
    return NULL;
}

void esi_rcu_map_prefetch_bucket(const struct esi_rcu_map *map, uint64_t hash)
{
    const struct esi_rcu_table *table = ESI_RCU_READ(map->table);

    if (table != NULL) {
        __builtin_prefetch(&table->buckets[first_bucket(hash) & table->mask]);
    }
}

const struct esi_rcu_entry *esi_rcu_map_guess(const struct esi_rcu_map *map, uint64_t hash)
{
    const struct esi_rcu_table *table = ESI_RCU_READ(map->table);

    if (table == NULL) {
        return NULL;
    }
    const struct bucket *bucket = &table->buckets[first_bucket(hash) & table->mask];
    const uint64_t found = equal_bytes(read_marks(bucket), mark_of(hash));
    return found != 0 ? ESI_RCU_READ(bucket->slots[__builtin_ctzll(found) / 8]) : NULL;
}

void esi_rcu_map_prefetch_entry(const struct esi_rcu_map *map, uint64_t hash)
{
    const struct esi_rcu_entry *entry = esi_rcu_map_guess(map, hash);

    if (entry != NULL) {
        __builtin_prefetch(entry);
        __builtin_prefetch((const char *)entry + ESI_CACHE_LINE);
    }
}

/* A free slot of a bucket, or BUCKET_SLOTS. */
static uint32_t free_slot(const struct bucket *bucket)
{
    const uint64_t marks = own_marks(bucket);
    uint32_t slot = 0;

    while (slot < BUCKET_SLOTS && (marks >> 8 * slot & 0xff) != 0) {
        slot++;
    }
    return slot;
}

/* Puts an entry into the first bucket with room; there is one. */
static void place(struct esi_rcu_table *table, struct esi_rcu_entry *entry)
{
    for (uint64_t index = first_bucket(entry->hash);; index++) {
        struct bucket *bucket = &table->buckets[index & table->mask];
        const uint64_t marks = own_marks(bucket);
        const uint32_t slot = free_slot(bucket);
        if (slot < BUCKET_SLOTS) {
            ESI_RCU_PUBLISH(bucket->slots[slot], entry);
            write_marks(bucket, marks | mark_of(entry->hash) << 8 * slot);
            return;
        }
        if (passed_count(marks) < PASSED_MAX) {
            write_marks(bucket, marks + (1ULL << PASSED_SHIFT));
        }
    }
}

/* Most maps of a trie are small: they are not rounded up to cache lines. */
static struct esi_rcu_table *new_table(uint64_t buckets)
{
    const size_t room = buckets > 1 ? ESI_CACHE_LINE : 0;
    struct esi_rcu_table *table =
        calloc(1, sizeof *table + room + buckets * sizeof table->buckets[0]);

    if (table != NULL) {
        char *behind = (char *)(table + 1);
        const size_t over = (uintptr_t)behind % ESI_CACHE_LINE;
        table->mask = buckets - 1;
        table->buckets = (struct bucket *)(void *)(behind + (room > 0 ? room - over : 0));
    }
    return table;
}

/* At most thirteen of sixteen slots. */
static bool has_room(uint64_t buckets, uint64_t count)
{
    return count * 16 <= buckets * BUCKET_SLOTS * 13;
}

/* Most of what it was made for has gone. */
static bool is_too_large(uint64_t buckets, uint64_t count)
{
    return buckets > SHRINK_FROM && count * 64 < buckets * BUCKET_SLOTS;
}

uint64_t esi_rcu_map_place_bytes(void)
{
    return sizeof(struct bucket) * 2 * 16 / (BUCKET_SLOTS * 13);
}

uint64_t esi_rcu_map_small_bytes(void)
{
    return esi_ledger_heap_bytes(sizeof(struct esi_rcu_table) + sizeof(struct bucket));
}

/* A new table with room for one more; the old one is retired. */
static enum es_err rebuild(struct esi_rcu_map *map, struct esi_retired **retired)
{
    struct esi_rcu_table *old = ESI_RCU_OWN(map->table);
    uint64_t buckets = 1;

    while (!has_room(buckets, map->count + 1ULL)) {
        buckets *= 2;
    }
    struct esi_rcu_table *table = new_table(buckets);
    if (table == NULL) {
        return ES_NO_MEMORY;
    }
    uint64_t cursor = 0;
    struct esi_rcu_entry *entry;
    while ((entry = esi_rcu_map_next(map, &cursor)) != NULL) {
        place(table, entry);
    }
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

    if (table == NULL || !has_room(table->mask + 1, map->count + 1ULL) ||
        is_too_large(table->mask + 1, map->count + 1ULL)) {
        const enum es_err err = rebuild(map, retired);
        if (err != ES_OK) {
            return err;
        }
    }
    place(ESI_RCU_OWN(map->table), entry);
    map->count++;
    return ES_OK;
}

/* Where an entry stands that is in the map. */
struct position {
    struct bucket *bucket;
    uint32_t slot;
    uint64_t passed; /* buckets before it */
};

static struct position find_position(struct esi_rcu_map *map, const struct esi_rcu_entry *entry)
{
    struct esi_rcu_table *table = ESI_RCU_OWN(map->table);

    ESI_REQUIRE(table != NULL);
    for (uint64_t i = 0; i <= table->mask; i++) {
        struct bucket *bucket = &table->buckets[(first_bucket(entry->hash) + i) & table->mask];
        uint64_t found = equal_bytes(own_marks(bucket), mark_of(entry->hash));
        for (; found != 0; found &= found - 1) {
            const uint32_t slot = (uint32_t)__builtin_ctzll(found) / 8;
            if (ESI_RCU_OWN(bucket->slots[slot]) == entry) {
                return (struct position){.bucket = bucket, .slot = slot, .passed = i};
            }
        }
    }
    ESI_REQUIRE(false);
}

void esi_rcu_map_remove(struct esi_rcu_map *map, const struct esi_rcu_entry *entry)
{
    const struct position position = find_position(map, entry);
    struct esi_rcu_table *table = ESI_RCU_OWN(map->table);

    write_marks(position.bucket, own_marks(position.bucket) & ~(0xffULL << 8 * position.slot));
    ESI_RCU_PUBLISH(position.bucket->slots[position.slot], NULL);
    /* After the entry is gone: who still looks for it need not go on. */
    for (uint64_t i = 0; i < position.passed; i++) {
        struct bucket *bucket = &table->buckets[(first_bucket(entry->hash) + i) & table->mask];
        const uint64_t marks = own_marks(bucket);
        if (passed_count(marks) < PASSED_MAX) {
            write_marks(bucket, marks - (1ULL << PASSED_SHIFT));
        }
    }
    map->count--;
}

void esi_rcu_map_replace(struct esi_rcu_map *map, const struct esi_rcu_entry *old,
                         struct esi_rcu_entry *fresh)
{
    ESI_DEBUG_ASSERT(old->hash == fresh->hash && esi_str_equal(old->key, fresh->key));
    const struct position position = find_position(map, old);

    ESI_RCU_PUBLISH(position.bucket->slots[position.slot], fresh);
}

struct esi_rcu_entry *esi_rcu_map_next(const struct esi_rcu_map *map, uint64_t *cursor)
{
    const struct esi_rcu_table *table = ESI_RCU_OWN(map->table);
    const uint64_t end = table != NULL ? (table->mask + 1) * BUCKET_SLOTS : 0;

    while (*cursor < end) {
        const uint64_t at = (*cursor)++;
        struct esi_rcu_entry *entry =
            ESI_RCU_OWN(table->buckets[at / BUCKET_SLOTS].slots[at % BUCKET_SLOTS]);
        if (entry != NULL) {
            return entry;
        }
    }
    return NULL;
}
