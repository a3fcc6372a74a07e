/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a published subject matches, as a flat list: plain subscriptions grouped by how their lines
 * are formatted, queue groups with their local members, links in order of their round-trip time
 * with the groups that each must serve. Built by broker/match_builder.h, immutable from then on.
 */
#pragma once

#include "base/str.h"
#include "broker/sub.h"
#include "broker/subtable.h"

#include <stdatomic.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local members of one queue group, over all matching subscription subjects. */
struct esi_match_group {
    struct esi_str name;      /* lies in a member's subscription */
    struct esi_sub **members; /* borrowed */
    uint32_t member_count;
};

/* What one gateway link gets of a message published here. */
struct esi_match_link {
    struct esi_sub *sub;    /* the first matching one; its flags count */
    struct esi_str *queues; /* groups that this link's cluster must serve, in order */
    uint32_t queue_count;
    bool has_plain;
};

/* Lies in one piece of memory with all that it points to, but for the subscriptions. */
struct esi_match {
    struct esi_str key; /* the subject; of a family: all tokens but the last */
    /* Borrowed from the table: of the subject's bucket, and of subscriptions that begin with a
     * wildcard; and what they were when the match was right. */
    const _Atomic uint64_t *bucket_now;
    const _Atomic uint64_t *wildcard_now;
    uint64_t bucket_generation;
    uint64_t wildcard_generation;
    uint32_t bucket;
    uint32_t plain_count;
    uint32_t group_count;
    uint32_t link_count;
    bool has_repeated_target; /* a target stands in it twice: messages are formatted one by one */
    bool has_counted;         /* a subscription with a maximum: each message is claimed by itself */
    bool is_cached;
    bool is_of_family;      /* right for all that differ from its subject in the last token only */
    size_t bytes;           /* of memory that it takes */
    struct esi_sub **plain; /* equal format side by side: same flags, same sid */
    struct esi_match_group *groups; /* in order of their names */
    struct esi_match_link *links;
};

/* True while nothing that the match depends on has changed. In a read-side section of the
 * caller. */
static inline bool esi_match_is_current(const struct esi_match *match)
{
    return match->bucket_generation == esi_subtable_generation(match->bucket_now) &&
           match->wildcard_generation == esi_subtable_generation(match->wildcard_now);
}

/* The local group of this name, or NULL. */
const struct esi_match_group *esi_match_find_group(const struct esi_match *match,
                                                   struct esi_str name);
/* Does a local group of this name, or one of a link, get the message already? */
bool esi_match_is_served(const struct esi_match *match, struct esi_str queue);
