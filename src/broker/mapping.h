/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Subjects that one connection may answer on for a while: mapped replies (an answer on the bare
 * subject goes to the cluster that asked) and allowed responses (permission by allow_responses).
 * Bounded in number and time; when full the oldest gives way. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_mapping {
    struct esi_hashmap map;
    struct esi_list by_age; /* oldest first */
    uint32_t count;
    uint32_t count_max;
};

struct esi_mapping_entry;

void esi_mapping_init(struct esi_mapping *mapping, uint32_t count_max);
void esi_mapping_deinit(struct esi_mapping *mapping);
static inline bool esi_mapping_is_empty(const struct esi_mapping *mapping)
{
    return mapping->count == 0;
}
/*
 * Adds or renews a subject.
 *   mapped      what an answer's subject becomes; empty: unchanged
 *   uses        answers allowed; negative: no limit
 *   expires_ns  absolute, monotonic
 * Out of memory: the subject is not added, which costs one answer.
 */
void esi_mapping_add(struct esi_mapping *mapping, struct esi_str subject, struct esi_str mapped,
                     int64_t uses, uint64_t expires_ns);
/*
 * Uses a subject once. Returns false when it is not there, used up or expired. *mapped (may be
 * NULL) is valid until the next call.
 */
bool esi_mapping_use(struct esi_mapping *mapping, struct esi_str subject, uint64_t now_ns,
                     struct esi_str *mapped);
