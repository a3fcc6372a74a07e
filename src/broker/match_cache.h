/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker's cache of matches. Whether one is still right is told by two generations, which are
 * looked at inside the read-side section (a worker's turn) before a pointer of it is used.
 *
 * An entry is admitted at the second use of its subject, so that subjects seen once empty nothing.
 * Where subjects differ in their last token only, and it makes no difference to what they match
 * (the inboxes of one requester, each used once), they are a family: one entry serves all of them.
 *
 * Where more subjects are in use than it can hold, and few look-ups hit, it steps aside, and most
 * subjects are looked up in the table at once. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/ledger.h"
#include "base/str.h"
#include "broker/match.h"
#include "broker/subtable.h"
#include "broker/subtable_walk.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_match_cache;

/*
 * capacity: cached matches at most; there is room for a few at first, and more as they come. Their
 * memory is bounded too: a match is as long as its list of receivers, and a peer chooses both
 * subjects and subscriptions.
 */
ES_MUST_USE enum es_err esi_match_cache_new(const struct esi_subtable *table,
                                            const struct esi_targets *targets, uint32_t capacity,
                                            struct esi_match_cache **out);
void esi_match_cache_free(struct esi_match_cache *cache);
/*
 * From here on what the cache holds is counted, and its bound is the thread's part of the memory
 * that is meant for caches: three quarters of the class, divided by its leases. Before the first
 * look-up.
 *   lease   borrowed: the thread's own; NULL: not counted
 */
void esi_match_cache_charge_to(struct esi_match_cache *cache, struct esi_lease *lease);
/*
 * What the subject matches now. The result is valid until the next call, or, when is_cached, until
 * the next call that is not for the same subject; in any case not beyond the worker's turn. NULL
 * only when memory is exhausted.
 *   hash  of the subject
 */
const struct esi_match *esi_match_cache_find(struct esi_match_cache *cache, struct esi_str subject,
                                             uint64_t hash);

/* What is asked of the memory for a subject that is looked up soon. */
struct esi_match_hint {
    struct esi_subtable_walk_hint table;
    const struct esi_match *match; /* the one that was found; NULL: none */
};
/*
 * For many subjects at once: each step asks the memory for what the next one looks at, and the last
 * one for what a look-up will find. Hints only. hint->table is that of the subject before, or all
 * zero; the first step fills it anew.
 */
void esi_match_cache_prefetch(const struct esi_match_cache *cache, struct esi_str subject,
                              uint64_t hash, struct esi_match_hint *hint);
void esi_match_cache_prefetch_places(const struct esi_match_cache *cache,
                                     struct esi_match_hint *hint);
void esi_match_cache_prefetch_found(const struct esi_match_hint *hint);

struct esi_match_cache_stats {
    uint64_t hits;
    uint64_t misses;
    uint32_t entries;
    size_t bytes;        /* of all entries */
    size_t held_bytes;   /* of all that the cache has: entries, slots, lists */
    uint32_t fanout_max; /* receivers of one message: subscriptions, groups and links */
};
void esi_match_cache_stats(const struct esi_match_cache *cache, struct esi_match_cache_stats *out);
