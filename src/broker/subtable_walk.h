/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The readers' side of the subscription table: what a subject matches, and hints that bring it
 * nearer. One turn of a worker is one read-side section.
 */
#pragma once

#include "base/str.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stdint.h>

/* All tokens but the last; empty where there is only one. Borrowed from the subject. */
struct esi_str esi_subtable_walk_stem(struct esi_str subject);

/*
 * Calls found(argument, sub) for each subscription that matches the subject, wildcard tokens in it
 * taken literally. A subject with an empty token matches nothing. The caller is in a read-side
 * section; found must not keep sub beyond it.
 * Returns true when the last token made no difference: at these generations every subject with the
 * same stem, no empty last token and no literal subscription matches the same. (It may say false
 * where that is so, too.)
 */
bool esi_subtable_walk(const struct esi_subtable *table, struct esi_str subject, uint64_t hash,
                       void (*found)(void *argument, struct esi_sub *sub), void *argument);
/* Has this subject, of this bucket, a subscription as it is written? In a read-side section of the
 * caller. */
bool esi_subtable_walk_has_literal(const struct esi_subtable *table, uint32_t bucket,
                                   struct esi_str subject, uint64_t hash);

/* Where a walk will look last, for the hints below. Valid for the turn. */
struct esi_subtable_walk_hint {
    const struct esi_rcu_map *literals;
    const struct esi_rcu_map *leaves; /* of the trie, where the last token is; NULL: none */
    struct esi_str stem;              /* all tokens but the last; borrowed */
    uint64_t literal_hash;
    uint64_t leaf_hash;
};
/*
 * For many subjects at once: each step asks the memory for what the next one looks at, and the last
 * one for what a walk will find. Hints only. In the first step hint is that of the subject before,
 * whose way down the trie is often the same, or all zero. The caller is in a read-side section.
 */
void esi_subtable_walk_prefetch(const struct esi_subtable *table, struct esi_str subject,
                                uint64_t hash, struct esi_subtable_walk_hint *hint);
void esi_subtable_walk_prefetch_places(const struct esi_subtable_walk_hint *hint);
void esi_subtable_walk_prefetch_found(const struct esi_subtable_walk_hint *hint);
