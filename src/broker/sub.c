/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a router must know of a subject at each change is worked out once, when the subscription is
 * made: its bucket, and where it has wildcards. */
#include "broker/sub.h"
#include "base/hashmap.h"
#include "base/ledger.h"
#include "broker/sub_pool.h"
#include "broker/subtable.h"
#include "proto/subject.h"

#include <string.h>

enum { TRAIT_BUCKET = 0xff, TRAIT_PATTERN = 0x100, TRAIT_FIRST_WILD = 0x200 };
_Static_assert(ESI_SUBTABLE_BUCKETS == TRAIT_BUCKET + 1, "a bucket fits its bits");

static bool begins_with_wildcard(struct esi_str subject)
{
    return subject.len > 0 && (subject.data[0] == '*' || subject.data[0] == '>') &&
           (subject.len == 1 || subject.data[1] == '.');
}

static uint16_t traits_of(struct esi_str subject)
{
    return (uint16_t)(esi_subtable_bucket(subject) |
                      (esi_subject_has_wildcard(subject) ? TRAIT_PATTERN : 0U) |
                      (begins_with_wildcard(subject) ? TRAIT_FIRST_WILD : 0U));
}

static size_t bytes_of(struct esi_str subject, struct esi_str queue, struct esi_str sid)
{
    return sizeof(struct esi_sub) + subject.len + queue.len + sid.len;
}

struct esi_sub *esi_sub_new(struct esi_target *target, struct esi_str subject, struct esi_str queue,
                            struct esi_str sid)
{
    return esi_sub_new_pooled(NULL, target, subject, queue, sid);
}

void esi_sub_free(struct esi_sub *sub, struct esi_sub_pool *pool)
{
    if (sub != NULL) {
        esi_permissions_unref(sub->permissions);
        esi_sub_pool_return(pool, sub, bytes_of(sub->subject, sub->queue, sub->sid));
    }
}

struct esi_sub *esi_sub_new_pooled(struct esi_sub_pool *pool, struct esi_target *target,
                                   struct esi_str subject, struct esi_str queue, struct esi_str sid)
{
    struct esi_sub *sub = esi_sub_pool_take(pool, bytes_of(subject, queue, sid));

    if (sub == NULL) {
        return NULL;
    }
    char *text = (char *)(sub + 1);
    *sub = (struct esi_sub){.hash = esi_hashmap_hash(subject),
                            .traits = traits_of(subject),
                            .index = ESI_SUB_NOT_ROUTED,
                            .target = target};
    sub->subject = (struct esi_str){.data = text, .len = subject.len};
    memcpy(text, subject.data, subject.len);
    text += subject.len;
    sub->queue = (struct esi_str){.data = text, .len = queue.len};
    if (queue.len > 0) {
        memcpy(text, queue.data, queue.len);
        text += queue.len;
    }
    sub->sid = (struct esi_str){.data = text, .len = sid.len};
    if (sid.len > 0) {
        memcpy(text, sid.data, sid.len);
    }
    return sub;
}

uint64_t esi_sub_heap_bytes(const struct esi_sub *sub)
{
    return esi_ledger_heap_bytes(bytes_of(sub->subject, sub->queue, sub->sid));
}

bool esi_sub_is_routed(const struct esi_sub *sub)
{
    return sub->index != ESI_SUB_NOT_ROUTED;
}

bool esi_sub_claim(struct esi_sub *sub)
{
    /* order: relaxed; a count, nothing is published by it. */
    int64_t left = atomic_load_explicit(&sub->claims_left, memory_order_relaxed);

    /* order: relaxed; as above. */
    while (left > 0 &&
           !atomic_compare_exchange_weak_explicit(&sub->claims_left, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return left > 0;
}

void esi_sub_add_claims(struct esi_sub *sub, int64_t count)
{
    /* order: relaxed; a count, nothing is published by it. */
    atomic_fetch_add_explicit(&sub->claims_left, count, memory_order_relaxed);
}

bool esi_sub_is_pattern(const struct esi_sub *sub)
{
    return (sub->traits & TRAIT_PATTERN) != 0;
}

bool esi_sub_begins_with_wildcard(const struct esi_sub *sub)
{
    return (sub->traits & TRAIT_FIRST_WILD) != 0;
}

uint32_t esi_sub_bucket(const struct esi_sub *sub)
{
    return sub->traits & TRAIT_BUCKET;
}
