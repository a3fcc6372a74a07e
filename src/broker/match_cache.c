/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is looked up (find), what is kept (admit), and when the cache steps aside (judge). A match
 * that is used once is written to a scratch that is kept, so it allocates nothing.
 */
#include "broker/match_cache.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "broker/match_builder.h"
#include "broker/match_slots.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEEN_BITS = 17,
    /* The cache is judged after so many misses, or, stepped aside, so many look-ups: then it keeps
     * a part, for as large a part of the subjects, to see whether it would hit. */
    JUDGED_AFTER = 16384,
    ASIDE_PART = 16,
    ASIDE_SHIFT = 40,    /* bits of the hash that neither sets nor tables are chosen by */
    REPLACE_ONE_IN = 64, /* misses in a full set: more would cost more than the few hits bring */
    CAPACITY_MIN = 1024,
    /* All entries; when reached they are forgotten, and the cache fills anew. */
    CACHE_BYTES_MAX = 64 * 1024 * 1024,
    ENTRY_PART = 4 /* of that, one entry at most; and so the slots */
};

struct esi_match_cache {
    struct esi_match_slots slots;
    uint32_t capacity_max;
    bool is_aside;
    uint32_t judged_count;   /* misses or look-ups since it was judged last */
    uint64_t judged_hits;    /* hits at that time */
    size_t bytes_max;        /* of all entries */
    struct esi_lease *lease; /* borrowed; NULL: nobody counts */
    /* Keys seen once: a bit each, forgotten in whole when half full. */
    uint64_t seen[(1 << SEEN_BITS) / 64];
    uint32_t seen_count;
    uint32_t family_count; /* of the entries: those of families */
    struct esi_match_cache_stats stats;
    struct esi_match_builder builder;
    size_t builder_bytes;      /* of the builder's memory: counted so far */
    struct esi_match *scratch; /* owned: the last match that was not admitted */
    size_t scratch_bytes;
};

/* Memory of the cache has become more, or less, by that. */
static void note_more(struct esi_match_cache *cache, size_t bytes)
{
    cache->stats.held_bytes += bytes;
    esi_ledger_charge(cache->lease, MEMORY_MATCH_CACHES, bytes);
}

static void note_less(struct esi_match_cache *cache, size_t bytes)
{
    cache->stats.held_bytes -= bytes;
    esi_ledger_give(cache->lease, MEMORY_MATCH_CACHES, bytes);
}

enum es_err esi_match_cache_new(const struct esi_subtable *table, const struct esi_targets *targets,
                                uint32_t capacity, struct esi_match_cache **out)
{
    struct esi_match_cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL) {
        return ES_NO_MEMORY;
    }
    cache->builder.table = table;
    cache->builder.targets = targets;
    cache->bytes_max = CACHE_BYTES_MAX;
    cache->capacity_max = 64;
    while (cache->capacity_max < capacity) {
        cache->capacity_max *= 2;
    }
    const uint32_t first =
        cache->capacity_max < CAPACITY_MIN ? cache->capacity_max : (uint32_t)CAPACITY_MIN;
    if (esi_match_slots_init(&cache->slots, first) != ES_OK) {
        free(cache);
        return ES_NO_MEMORY;
    }
    note_more(cache, sizeof *cache + esi_match_slots_bytes(first));
    *out = cache;
    return ES_OK;
}

void esi_match_cache_charge_to(struct esi_match_cache *cache, struct esi_lease *lease)
{
    ESI_REQUIRE(cache->lease == NULL && cache->stats.entries == 0);
    if (lease == NULL) {
        return;
    }
    const struct esi_ledger *ledger = lease->ledger;
    const uint64_t part_bytes = ledger->classes[MEMORY_AUXILIARY].short_bytes / ledger->lease_count;
    cache->bytes_max = part_bytes < CACHE_BYTES_MAX ? (size_t)part_bytes : (size_t)CACHE_BYTES_MAX;
    cache->lease = lease;
    esi_ledger_charge(lease, MEMORY_MATCH_CACHES, cache->stats.held_bytes);
}

void esi_match_cache_free(struct esi_match_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    note_less(cache, cache->stats.held_bytes);
    for (uint32_t i = 0; i < cache->slots.capacity; i++) {
        free(cache->slots.slots[i].match);
    }
    esi_match_slots_deinit(&cache->slots);
    esi_match_builder_deinit(&cache->builder);
    free(cache->scratch);
    free(cache);
}

void esi_match_cache_stats(const struct esi_match_cache *cache, struct esi_match_cache_stats *out)
{
    *out = cache->stats;
}

/* --- keys --- */

/* What an entry is found by: a subject, or the stem of a family. */
struct key {
    struct esi_str text;
    uint64_t hash;
};

/*
 * The family of a subject; without text where it has none. No subject finds it by accident: where
 * the text is equal, the hash is not.
 */
static struct key family_of(struct esi_str subject)
{
    const struct esi_str stem = esi_subtable_walk_stem(subject);

    if (stem.len == 0 || stem.len + 1 == subject.len) {
        return (struct key){.hash = 0};
    }
    return (struct key){.text = stem, .hash = ~esi_hashmap_hash(stem)};
}

static bool was_seen(struct esi_match_cache *cache, uint64_t hash)
{
    const uint64_t bit = hash >> (64 - SEEN_BITS);
    uint64_t *word = &cache->seen[bit / 64];

    if ((*word >> (bit % 64) & 1) != 0) {
        return true;
    }
    if (++cache->seen_count > (1U << SEEN_BITS) / 2) {
        memset(cache->seen, 0, sizeof cache->seen);
        cache->seen_count = 1;
    }
    *word |= 1ULL << (bit % 64);
    return false;
}

/*
 * Is the match that was built worth keeping? Under the subject's own key, when that is used a
 * second time; else under its family's, which *key becomes, when another member of it was used
 * before.
 */
static bool choose_key(struct esi_match_cache *cache, struct key *key)
{
    if (was_seen(cache, key->hash)) {
        return true;
    }
    if (!cache->builder.is_for_family) {
        return false;
    }
    const struct key family = family_of(key->text);
    if (family.text.len == 0 || !was_seen(cache, family.hash)) {
        return false;
    }
    *key = family;
    return true;
}

/* --- what is kept --- */

static void forget(struct esi_match_cache *cache, struct esi_match_slot *slot)
{
    if (slot->match != NULL) {
        note_less(cache, slot->match->bytes);
        cache->stats.bytes -= slot->match->bytes;
        cache->stats.entries--;
        cache->family_count -= slot->match->is_of_family;
        free(ESI_MOVE(slot->match));
    }
}

static void forget_all(struct esi_match_cache *cache)
{
    for (uint32_t i = 0; i < cache->slots.capacity; i++) {
        forget(cache, &cache->slots.slots[i]);
    }
}

/* As far as it may grow now. */
static uint32_t capacity_limit(const struct esi_match_cache *cache)
{
    const uint32_t part = cache->capacity_max / ASIDE_PART;

    return !cache->is_aside             ? cache->capacity_max
           : part < ESI_MATCH_SLOTS_SET ? (uint32_t)ESI_MATCH_SLOTS_SET
                                        : part;
}

static bool may_grow(const struct esi_match_cache *cache)
{
    return cache->slots.capacity < capacity_limit(cache) &&
           esi_match_slots_bytes(cache->slots.capacity) < cache->bytes_max / ENTRY_PART;
}

/*
 * The slot for a key: its own, a free one, else any of its set, but then only now and then: where
 * one key too many takes turns, most stay. None of the others is looked at, stale or not: each
 * stands in memory of its own. NULL: none this time.
 */
static struct esi_match_slot *choose_slot(const struct esi_match_cache *cache,
                                          const struct key *key)
{
    struct esi_match_slot *chosen = esi_match_slots_find(&cache->slots, key->text, key->hash);

    if (chosen == NULL) {
        chosen = esi_match_slots_find_free(&cache->slots, key->hash);
    }
    if (chosen == NULL && cache->stats.misses % REPLACE_ONE_IN == 0) {
        const uint64_t turn = cache->stats.misses / REPLACE_ONE_IN;
        chosen =
            esi_match_slots_at(&cache->slots, key->hash, (uint32_t)(turn % ESI_MATCH_SLOTS_SET));
    }
    return chosen;
}

/* Where a match of this size goes; NULL: nowhere, it is used once. */
static struct esi_match_slot *admit(struct esi_match_cache *cache, const struct key *key,
                                    size_t bytes)
{
    if (bytes > cache->bytes_max / ENTRY_PART) {
        return NULL;
    }
    if (cache->stats.bytes + bytes > cache->bytes_max) {
        forget_all(cache);
    }
    if (cache->stats.entries > cache->slots.capacity / 4 * 3 && may_grow(cache)) {
        const uint32_t before = cache->slots.capacity;
        /* Without memory for it the cache stays as it is. */
        if (esi_match_slots_grow(&cache->slots) == ES_OK) {
            note_more(cache, esi_match_slots_bytes(before));
        }
    }
    return choose_slot(cache, key);
}

/* --- does the cache pay? --- */

/* Is this subject one of those that the cache is used for? */
static bool is_used_for(const struct esi_match_cache *cache, uint64_t hash)
{
    return ESI_LIKELY(!cache->is_aside) || (hash >> ASIDE_SHIFT) % ASIDE_PART == 0;
}

/* An entry that is hit takes as many looks into memory that is far away as the table does for a
 * subject with one subscription, and one that is not hit makes them twice as many. */
static void step_aside(struct esi_match_cache *cache)
{
    struct esi_match_slots fewer;

    cache->is_aside = true;
    if (esi_match_slots_init(&fewer, capacity_limit(cache)) != ES_OK) {
        cache->is_aside = false;
        return;
    }
    forget_all(cache);
    note_less(cache, esi_match_slots_bytes(cache->slots.capacity));
    note_more(cache, esi_match_slots_bytes(fewer.capacity));
    esi_match_slots_deinit(&cache->slots);
    cache->slots = fewer;
}

/* Now and then. Called for each miss; stepped aside, for each look-up in it. */
static void judge(struct esi_match_cache *cache)
{
    if (++cache->judged_count < JUDGED_AFTER) {
        return;
    }
    const uint64_t hits = cache->stats.hits - cache->judged_hits;
    if (cache->is_aside) {
        cache->is_aside = hits < JUDGED_AFTER / 2; /* else it grows again as subjects come */
    } else if (!may_grow(cache) && hits < JUDGED_AFTER / 3) {
        step_aside(cache);
    }
    cache->judged_count = 0;
    cache->judged_hits = cache->stats.hits;
}

/* --- building --- */

/* Memory for a match: a new entry's own, or the scratch. */
static void *reserve(struct esi_match_cache *cache, const struct esi_match_slot *slot, size_t bytes)
{
    if (slot != NULL) {
        return malloc(bytes);
    }
    if (cache->scratch_bytes < bytes) {
        free(cache->scratch);
        note_less(cache, cache->scratch_bytes);
        cache->scratch_bytes = 0;
        cache->scratch = malloc(bytes * 2);
        if (cache->scratch != NULL) {
            cache->scratch_bytes = bytes * 2;
            note_more(cache, cache->scratch_bytes);
        }
    }
    return cache->scratch;
}

static bool collect(struct esi_match_cache *cache, const struct key *key)
{
    const bool is_complete = esi_match_builder_collect(&cache->builder, key->text, key->hash);

    if (cache->builder.held_bytes > cache->builder_bytes) {
        note_more(cache, cache->builder.held_bytes - cache->builder_bytes);
        cache->builder_bytes = cache->builder.held_bytes;
    }
    return is_complete;
}

static const struct esi_match *build(struct esi_match_cache *cache, const struct key *own)
{
    if (!collect(cache, own)) {
        return NULL;
    }
    struct key key = *own;
    struct esi_match_slot *slot = NULL;
    const bool is_kept = is_used_for(cache, own->hash) && choose_key(cache, &key);
    const size_t len = esi_match_builder_bytes(&cache->builder, key.text);
    const size_t bytes = esi_ledger_heap_bytes(len);
    if (is_kept) {
        slot = admit(cache, &key, bytes);
    }
    void *memory = reserve(cache, slot, len);
    if (memory == NULL) {
        return NULL;
    }
    struct esi_match *match = esi_match_builder_write(&cache->builder, key.text, memory);
    match->is_cached = slot != NULL;
    match->is_of_family = key.hash != own->hash;
    match->bytes = bytes;
    const uint32_t fanout = match->plain_count + match->group_count + match->link_count;
    if (fanout > cache->stats.fanout_max) {
        cache->stats.fanout_max = fanout;
    }
    if (slot != NULL) {
        forget(cache, slot);
        note_more(cache, bytes);
        cache->stats.bytes += bytes;
        cache->stats.entries++;
        cache->family_count += match->is_of_family;
        *slot = (struct esi_match_slot){.hash = key.hash, .match = match};
    }
    return match;
}

/* --- looking up --- */

/* The current match that is kept under this key, or NULL. */
static const struct esi_match *find_current(const struct esi_match_cache *cache,
                                            const struct key *key)
{
    const struct esi_match_slot *slot = esi_match_slots_find(&cache->slots, key->text, key->hash);

    return slot != NULL && esi_match_is_current(slot->match) ? slot->match : NULL;
}

/* The match of a subject's family, unless a subscription is for this one member alone. */
static const struct esi_match *find_of_family(const struct esi_match_cache *cache,
                                              const struct key *own)
{
    const struct key family = family_of(own->text);
    const struct esi_match *match = family.text.len > 0 ? find_current(cache, &family) : NULL;

    return match != NULL && !esi_subtable_walk_has_literal(cache->builder.table, match->bucket,
                                                           own->text, own->hash)
               ? match
               : NULL;
}

const struct esi_match *esi_match_cache_find(struct esi_match_cache *cache, struct esi_str subject,
                                             uint64_t hash)
{
    const struct key own = {.text = subject, .hash = hash};
    const bool is_used = is_used_for(cache, hash);
    const struct esi_match *match = is_used ? find_current(cache, &own) : NULL;

    if (match == NULL && is_used && cache->family_count > 0) {
        match = find_of_family(cache, &own);
    }
    if (ESI_LIKELY(match != NULL)) {
        cache->stats.hits++;
        if (ESI_UNLIKELY(cache->is_aside)) {
            judge(cache);
        }
        return match;
    }
    cache->stats.misses++;
    if (is_used) {
        judge(cache);
    }
    return build(cache, &own);
}

/* --- looking ahead --- */

void esi_match_cache_prefetch(const struct esi_match_cache *cache, struct esi_str subject,
                              uint64_t hash, struct esi_match_hint *hint)
{
    if (is_used_for(cache, hash)) {
        esi_match_slots_prefetch(&cache->slots, hash);
    }
    esi_subtable_walk_prefetch(cache->builder.table, subject, hash, &hint->table);
}

void esi_match_cache_prefetch_places(const struct esi_match_cache *cache,
                                     struct esi_match_hint *hint)
{
    const uint64_t hash = hint->table.literal_hash;

    hint->match = is_used_for(cache, hash) ? esi_match_slots_guess(&cache->slots, hash) : NULL;
    if (hint->match != NULL) {
        __builtin_prefetch(hint->match);
        __builtin_prefetch((const char *)hint->match + ESI_CACHE_LINE);
    } else {
        esi_subtable_walk_prefetch_places(&hint->table);
    }
}

void esi_match_cache_prefetch_found(const struct esi_match_hint *hint)
{
    if (hint->match == NULL) {
        esi_subtable_walk_prefetch_found(&hint->table);
    } else if (hint->match->plain_count > 0 && esi_match_is_current(hint->match)) {
        __builtin_prefetch(hint->match->plain[0]);
        __builtin_prefetch((const char *)hint->match->plain[0] + ESI_CACHE_LINE);
    }
}
