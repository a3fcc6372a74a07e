/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A free slot may keep an old hash: only a match beside it counts. */
#include "broker/match_slots.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

size_t esi_match_slots_bytes(uint32_t capacity)
{
    return capacity * sizeof(struct esi_match_slot);
}

enum es_err esi_match_slots_init(struct esi_match_slots *slots, uint32_t capacity)
{
    const size_t bytes = esi_match_slots_bytes(capacity);
    struct esi_match_slot *memory = aligned_alloc(ESI_CACHE_LINE, bytes);

    if (memory == NULL) {
        return ES_NO_MEMORY;
    }
    memset(memory, 0, bytes);
    *slots = (struct esi_match_slots){.slots = memory, .capacity = capacity};
    return ES_OK;
}

void esi_match_slots_deinit(struct esi_match_slots *slots)
{
    free(ESI_MOVE(slots->slots));
    slots->capacity = 0;
}

static struct esi_match_slot *set_of(const struct esi_match_slots *slots, uint64_t hash)
{
    return &slots
                ->slots[(hash & (slots->capacity / ESI_MATCH_SLOTS_SET - 1)) * ESI_MATCH_SLOTS_SET];
}

struct esi_match_slot *esi_match_slots_find(const struct esi_match_slots *slots, struct esi_str key,
                                            uint64_t hash)
{
    struct esi_match_slot *set = set_of(slots, hash);

    for (uint32_t i = 0; i < ESI_MATCH_SLOTS_SET; i++) {
        if (set[i].hash == hash && set[i].match != NULL && esi_str_equal(set[i].match->key, key)) {
            return &set[i];
        }
    }
    return NULL;
}

struct esi_match_slot *esi_match_slots_find_free(const struct esi_match_slots *slots, uint64_t hash)
{
    struct esi_match_slot *set = set_of(slots, hash);

    for (uint32_t i = 0; i < ESI_MATCH_SLOTS_SET; i++) {
        if (set[i].match == NULL) {
            return &set[i];
        }
    }
    return NULL;
}

struct esi_match_slot *esi_match_slots_at(const struct esi_match_slots *slots, uint64_t hash,
                                          uint32_t index)
{
    return &set_of(slots, hash)[index];
}

enum es_err esi_match_slots_grow(struct esi_match_slots *slots)
{
    struct esi_match_slots grown;
    const enum es_err err = esi_match_slots_init(&grown, slots->capacity * 2);

    if (err != ES_OK) {
        return err;
    }
    for (uint32_t i = 0; i < slots->capacity; i++) {
        if (slots->slots[i].match != NULL) {
            *esi_match_slots_find_free(&grown, slots->slots[i].hash) = slots->slots[i];
        }
    }
    esi_match_slots_deinit(slots);
    *slots = grown;
    return ES_OK;
}

void esi_match_slots_prefetch(const struct esi_match_slots *slots, uint64_t hash)
{
    const struct esi_match_slot *set = set_of(slots, hash);

    __builtin_prefetch(set);
    __builtin_prefetch(set + ESI_MATCH_SLOTS_SET / 2);
}

const struct esi_match *esi_match_slots_guess(const struct esi_match_slots *slots, uint64_t hash)
{
    const struct esi_match_slot *set = set_of(slots, hash);

    for (uint32_t i = 0; i < ESI_MATCH_SLOTS_SET; i++) {
        if (set[i].hash == hash) {
            return set[i].match;
        }
    }
    return NULL;
}
