/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client connection's own subscriptions: by sid, and by the slot number that deliveries carry. A
 * slot stays taken after UNSUB until no worker can deliver to it any more. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/hashmap.h"
#include "base/str.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_client_sub {
    struct esi_sub *sub; /* owned; what is in the table, or is being put there */
    uint64_t delivered;  /* messages since SUB */
    uint64_t max;        /* removed after so many; 0: no limit */
    uint32_t slot;
    bool is_removed; /* UNSUB was taken, or max is reached: no longer known by its sid */
    bool is_sent;    /* a router has, or had, it */
};

struct esi_client_subs {
    struct esi_hashmap by_sid;
    struct esi_client_sub **slots; /* owned */
    uint32_t slot_count;
    uint32_t slot_capacity;
    uint32_t *free_slots; /* owned; slot_capacity entries */
    uint32_t free_count;
};

void esi_client_subs_init(struct esi_client_subs *subs);
/* Frees everything; no subscription is in the table any more. */
void esi_client_subs_deinit(struct esi_client_subs *subs);
/* The live subscription with this sid, or NULL. */
struct esi_client_sub *esi_client_subs_find(const struct esi_client_subs *subs, struct esi_str sid);
/* The subscription of a slot, also a removed one; NULL when the slot is free. */
struct esi_client_sub *esi_client_subs_at(const struct esi_client_subs *subs, uint32_t slot);
/* Adds one, taking sub; its sid is not in use. Fills sub->slot. NULL when memory is exhausted (sub
 * stays the caller's). */
struct esi_client_sub *esi_client_subs_add(struct esi_client_subs *subs, struct esi_sub *sub);
/* No longer known by its sid; the slot stays taken. */
void esi_client_subs_forget(struct esi_client_subs *subs, struct esi_client_sub *client_sub);
/* Frees the slot and the subscription. */
void esi_client_subs_free_slot(struct esi_client_subs *subs, struct esi_client_sub *client_sub);
/* Live subscriptions. */
static inline uint32_t esi_client_subs_count(const struct esi_client_subs *subs)
{
    return (uint32_t)subs->by_sid.count;
}
