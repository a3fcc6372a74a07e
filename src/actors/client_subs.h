/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client connection's own subscriptions: by sid, and by the slot number that deliveries carry. A
 * slot stays taken after UNSUB until no worker can deliver to it any more. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/own.h"
#include "base/str.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_client_sub {
    struct esi_sub *sub; /* owned; what is in the table, or is being put there; NULL: free slot */
    uint64_t delivered;  /* messages since SUB */
    uint64_t max;        /* removed after so many; 0: no limit */
    union {
        uint32_t sid_hash;
        uint32_t next_free; /* of a free slot: the next one */
    };
    bool is_removed; /* UNSUB was taken, or max is reached: no longer known by its sid */
};

/* A sid's place: enough of its hash to pass most others by without a look at them. */
struct esi_client_sid {
    uint32_t hash;
    uint32_t slot; /* UINT32_MAX: free */
};

struct esi_client_subs {
    struct esi_client_sub *slots; /* owned */
    uint32_t slot_count;
    uint32_t slot_capacity;
    uint32_t first_free;         /* UINT32_MAX: none */
    uint32_t live_count;         /* known by their sids */
    struct esi_client_sid *sids; /* owned; NULL: none yet */
    uint32_t sid_mask;           /* places, a power of two, less one */
};

void esi_client_subs_init(struct esi_client_subs *subs);
/* Frees everything; no subscription is in the table any more. */
void esi_client_subs_deinit(struct esi_client_subs *subs);
/* The live subscription with this sid, or NULL. It stays where it is until one is added. */
struct esi_client_sub *esi_client_subs_find(const struct esi_client_subs *subs, struct esi_str sid);
/* The subscription of a slot, also a removed one; NULL when the slot is free. Until one is
 * added. */
static inline struct esi_client_sub *esi_client_subs_at(const struct esi_client_subs *subs,
                                                        uint32_t slot)
{
    return slot < subs->slot_count && subs->slots[slot].sub != NULL ? &subs->slots[slot] : NULL;
}
/* Asks the memory for a slot that is looked at soon. */
static inline void esi_client_subs_prefetch(const struct esi_client_subs *subs, uint32_t slot)
{
    if (slot < subs->slot_count) {
        __builtin_prefetch(&subs->slots[slot], 1);
    }
}
/* Adds one, taking sub; its sid is not in use. Fills sub->slot. NULL when memory is exhausted (sub
 * stays the caller's). */
struct esi_client_sub *esi_client_subs_add(struct esi_client_subs *subs, struct esi_sub *sub);
/* Puts fresh, with the same sid, in the place of what the subscription has; that is the
 * caller's. */
void esi_client_subs_replace(struct esi_client_subs *subs, struct esi_client_sub *client_sub,
                             struct esi_sub *fresh);
/* No longer known by its sid; the slot stays taken. */
void esi_client_subs_forget(struct esi_client_subs *subs, struct esi_client_sub *client_sub);
/* Frees the slot and the subscription. */
void esi_client_subs_free_slot(struct esi_client_subs *subs, struct esi_client_sub *client_sub);
/* Frees the slot; the subscription is the caller's. */
struct esi_sub *esi_client_subs_release_slot(struct esi_client_subs *subs,
                                             struct esi_client_sub *client_sub);
/* Live subscriptions. */
static inline uint32_t esi_client_subs_count(const struct esi_client_subs *subs)
{
    return subs->live_count;
}
