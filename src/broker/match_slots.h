/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the match cache keeps its entries: sets of eight slots, chosen by the hash of the key. The
 * hash stands beside the pointer, so that a look-up touches no other entry. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "broker/match.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set is two cache lines, and rarely full while the cache is not. */
enum { ESI_MATCH_SLOTS_SET = 8 };

struct esi_match_slot {
    uint64_t hash;
    struct esi_match *match; /* owned by the cache; NULL: free */
};

struct esi_match_slots {
    struct esi_match_slot *slots; /* owned */
    uint32_t capacity;            /* a power of two, at least ESI_MATCH_SLOTS_SET */
};

/* All free. ES_NO_MEMORY: nothing changed. */
ES_MUST_USE enum es_err esi_match_slots_init(struct esi_match_slots *slots, uint32_t capacity);
/* Frees the slots, not the matches. */
void esi_match_slots_deinit(struct esi_match_slots *slots);
/* Memory of so many slots. */
size_t esi_match_slots_bytes(uint32_t capacity);
/* Twice the sets: what stood in one spreads over two, so none overflows. ES_NO_MEMORY: nothing
 * changed. */
ES_MUST_USE enum es_err esi_match_slots_grow(struct esi_match_slots *slots);
/* The slot of a key, or NULL. */
struct esi_match_slot *esi_match_slots_find(const struct esi_match_slots *slots, struct esi_str key,
                                            uint64_t hash);
/* A free slot of the key's set, or NULL. */
struct esi_match_slot *esi_match_slots_find_free(const struct esi_match_slots *slots,
                                                 uint64_t hash);
/* One slot of the key's set, by its number there. */
struct esi_match_slot *esi_match_slots_at(const struct esi_match_slots *slots, uint64_t hash,
                                          uint32_t index);
/* Asks the memory for the key's set. A hint only. */
void esi_match_slots_prefetch(const struct esi_match_slots *slots, uint64_t hash);
/* The match that most likely has this hash, or NULL; only its key tells. */
const struct esi_match *esi_match_slots_guess(const struct esi_match_slots *slots, uint64_t hash);
