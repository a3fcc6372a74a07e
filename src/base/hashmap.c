/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * At most three quarters full. A removal moves later entries back instead of leaving a mark, so a
 * map through which many entries have gone is as fast as a new one.
 */
#include "base/hashmap.h"
#include "base/assert.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 16 };

/*
 * Both are secret once seeded. A folded multiplication yields 0 when one factor is 0, whatever the
 * other is: were the word that input is mixed with known, a peer could make it vanish and choose
 * keys that all collide.
 */
static uint64_t hash_secret = 0xa0761d6478bd642fULL;
static uint64_t hash_seed = 0x9e3779b97f4a7c15ULL;
static _Atomic bool has_seed;

static uint64_t mix(uint64_t a, uint64_t b)
{
    const __uint128_t product = (__uint128_t)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load_u64(const char *data)
{
    uint64_t value;

    memcpy(&value, data, sizeof value);
    return value;
}

/* Folded 64x64 multiplication over 16-byte steps, keyed by the seed: fast for short subjects, not
 * predictable from outside without the seed. */
uint64_t esi_hashmap_hash(struct esi_str key)
{
    const uint64_t secret = hash_secret;
    uint64_t state = hash_seed;
    const char *data = key.data;
    size_t left = key.len;

    while (left > 16) {
        state = mix(load_u64(data) ^ secret, load_u64(data + 8) ^ state);
        data += 16;
        left -= 16;
    }
    uint64_t a = 0;
    uint64_t b = 0;
    if (left >= 8) {
        a = load_u64(data);
        b = load_u64(data + left - 8);
    } else if (left >= 4) {
        uint32_t low;
        uint32_t high;
        memcpy(&low, data, 4);
        memcpy(&high, data + left - 4, 4);
        a = low;
        b = high;
    } else if (left > 0) {
        a = ((uint64_t)(unsigned char)data[0] << 16) |
            ((uint64_t)(unsigned char)data[left / 2] << 8) | (unsigned char)data[left - 1];
    }
    return mix(secret ^ key.len, mix(a ^ secret, b ^ state));
}

void esi_hashmap_seed_once(uint64_t seed)
{
    /* order: acq_rel; the first caller alone writes the seed, before its server has any thread. */
    if (!atomic_exchange_explicit(&has_seed, true, memory_order_acq_rel)) {
        hash_secret = mix(seed ^ hash_secret, 0xe7037ed1a0b428dbULL) ^ seed;
        hash_seed = mix(seed ^ hash_seed, 0x8ebc6af09c88c6e3ULL) ^ seed;
    }
}

void esi_hashmap_init(struct esi_hashmap *map)
{
    *map = (struct esi_hashmap){0};
}

void esi_hashmap_deinit(struct esi_hashmap *map)
{
    free(map->entries);
    esi_hashmap_init(map);
}

static struct esi_hashmap_entry *find_slot(const struct esi_hashmap *map, struct esi_str key,
                                           uint64_t hash)
{
    size_t index = hash & (map->capacity - 1);

    while (map->entries[index].key.data != NULL) {
        if (map->entries[index].hash == hash && esi_str_equal(map->entries[index].key, key)) {
            break;
        }
        index = (index + 1) & (map->capacity - 1);
    }
    return &map->entries[index];
}

void *esi_hashmap_find(const struct esi_hashmap *map, struct esi_str key)
{
    if (map->count == 0) {
        return NULL;
    }
    return find_slot(map, key, esi_hashmap_hash(key))->value;
}

static enum es_err grow(struct esi_hashmap *map)
{
    struct esi_hashmap bigger = {.capacity = map->capacity == 0 ? CAPACITY_MIN : map->capacity * 2};

    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (bigger.entries == NULL) {
        return ES_NO_MEMORY;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].key.data != NULL) {
            *find_slot(&bigger, map->entries[i].key, map->entries[i].hash) = map->entries[i];
        }
    }
    bigger.count = map->count;
    free(map->entries);
    *map = bigger;
    return ES_OK;
}

enum es_err esi_hashmap_insert(struct esi_hashmap *map, struct esi_str key, void *value)
{
    ESI_REQUIRE(key.data != NULL && value != NULL);
    const uint64_t hash = esi_hashmap_hash(key);
    struct esi_hashmap_entry *entry = map->capacity > 0 ? find_slot(map, key, hash) : NULL;
    const bool is_new = entry == NULL || entry->key.data == NULL;
    if (entry == NULL || (is_new && map->count * 4 >= map->capacity * 3)) {
        const enum es_err err = grow(map);
        if (err != ES_OK) {
            return err;
        }
        entry = find_slot(map, key, hash);
    }
    map->count += is_new;
    *entry = (struct esi_hashmap_entry){.key = key, .hash = hash, .value = value};
    return ES_OK;
}

void *esi_hashmap_remove(struct esi_hashmap *map, struct esi_str key)
{
    if (map->count == 0) {
        return NULL;
    }
    struct esi_hashmap_entry *entry = find_slot(map, key, esi_hashmap_hash(key));
    if (entry->key.data == NULL) {
        return NULL;
    }
    void *value = entry->value;
    /* Backward shift: no tombstones, so look-ups stay short however many entries came and went. */
    const size_t mask = map->capacity - 1;
    size_t hole = (size_t)(entry - map->entries);
    size_t next = (hole + 1) & mask;
    while (map->entries[next].key.data != NULL) {
        const size_t ideal = map->entries[next].hash & mask;
        if (((next - ideal) & mask) >= ((next - hole) & mask)) {
            map->entries[hole] = map->entries[next];
            hole = next;
        }
        next = (next + 1) & mask;
    }
    map->entries[hole] = (struct esi_hashmap_entry){0};
    map->count--;
    return value;
}

bool esi_hashmap_next(const struct esi_hashmap *map, size_t *cursor, struct esi_str *key,
                      void **value)
{
    while (*cursor < map->capacity) {
        const struct esi_hashmap_entry *entry = &map->entries[(*cursor)++];
        if (entry->key.data != NULL) {
            *key = entry->key;
            *value = entry->value;
            return true;
        }
    }
    return false;
}
