/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways to a subscription: by sid, which UNSUB leaves at once, and by slot, which it leaves when
 * no delivery can carry the slot any more. By sid it is an open table of slots, at most three
 * quarters full; a removal moves later ones back instead of leaving a mark.
 */
#include "actors/client_subs.h"
#include "base/assert.h"
#include "base/hashmap.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS_MIN = 4, SIDS_MIN = 8 };

static const uint32_t NO_SLOT = UINT32_MAX;

void esi_client_subs_init(struct esi_client_subs *subs)
{
    *subs = (struct esi_client_subs){.first_free = NO_SLOT};
}

void esi_client_subs_deinit(struct esi_client_subs *subs)
{
    for (uint32_t i = 0; i < subs->slot_count; i++) {
        esi_sub_free(subs->slots[i].sub, NULL);
    }
    free(subs->slots);
    free(subs->sids);
    esi_client_subs_init(subs);
}

static uint32_t hash_sid(struct esi_str sid)
{
    return (uint32_t)esi_hashmap_hash(sid);
}

/* Where a sid stands, or the free place where it would. */
static uint32_t find_place(const struct esi_client_subs *subs, struct esi_str sid, uint32_t hash)
{
    uint32_t place = hash & subs->sid_mask;

    while (subs->sids[place].slot != NO_SLOT &&
           (subs->sids[place].hash != hash ||
            !esi_str_equal(subs->slots[subs->sids[place].slot].sub->sid, sid))) {
        place = (place + 1) & subs->sid_mask;
    }
    return place;
}

struct esi_client_sub *esi_client_subs_find(const struct esi_client_subs *subs, struct esi_str sid)
{
    if (subs->live_count == 0) {
        return NULL;
    }
    const uint32_t slot = subs->sids[find_place(subs, sid, hash_sid(sid))].slot;
    return slot != NO_SLOT ? &subs->slots[slot] : NULL;
}

static bool grow_sids(struct esi_client_subs *subs)
{
    const uint32_t old_count = subs->sids == NULL ? 0 : subs->sid_mask + 1;
    const uint32_t count = old_count == 0 ? (uint32_t)SIDS_MIN : old_count * 2;
    struct esi_client_sid *sids = malloc(count * sizeof *sids);

    if (sids == NULL) {
        return false;
    }
    memset(sids, 0xff, count * sizeof *sids);
    for (uint32_t i = 0; i < old_count; i++) {
        if (subs->sids[i].slot != NO_SLOT) {
            uint32_t place = subs->sids[i].hash & (count - 1);
            while (sids[place].slot != NO_SLOT) {
                place = (place + 1) & (count - 1);
            }
            sids[place] = subs->sids[i];
        }
    }
    free(subs->sids);
    subs->sids = sids;
    subs->sid_mask = count - 1;
    return true;
}

static bool grow_slots(struct esi_client_subs *subs)
{
    const uint32_t capacity =
        subs->slot_capacity == 0 ? (uint32_t)SLOTS_MIN : subs->slot_capacity * 2;
    struct esi_client_sub *slots = realloc(subs->slots, capacity * sizeof *slots);

    if (slots == NULL) {
        return false;
    }
    subs->slots = slots;
    subs->slot_capacity = capacity;
    return true;
}

struct esi_client_sub *esi_client_subs_add(struct esi_client_subs *subs, struct esi_sub *sub)
{
    if (subs->first_free == NO_SLOT && subs->slot_count == subs->slot_capacity &&
        !grow_slots(subs)) {
        return NULL;
    }
    if ((subs->sids == NULL || subs->live_count >= (subs->sid_mask + 1) / 4 * 3) &&
        !grow_sids(subs)) {
        return NULL;
    }
    uint32_t slot = subs->first_free;
    if (slot != NO_SLOT) {
        subs->first_free = subs->slots[slot].next_free;
    } else {
        slot = subs->slot_count++;
    }
    const uint32_t hash = hash_sid(sub->sid);
    subs->slots[slot] = (struct esi_client_sub){.sub = sub, .sid_hash = hash};
    sub->slot = slot;
    subs->sids[find_place(subs, sub->sid, hash)] =
        (struct esi_client_sid){.hash = hash, .slot = slot};
    subs->live_count++;
    return &subs->slots[slot];
}

void esi_client_subs_replace(struct esi_client_subs *subs, struct esi_client_sub *client_sub,
                             struct esi_sub *fresh)
{
    ESI_REQUIRE(esi_str_equal(client_sub->sub->sid, fresh->sid));
    fresh->slot = (uint32_t)(client_sub - subs->slots);
    client_sub->sub = fresh;
}

/* Backward shift: no marks, so look-ups stay short however many sids came and went. */
static void remove_place(struct esi_client_subs *subs, uint32_t hole)
{
    const uint32_t mask = subs->sid_mask;
    uint32_t next = (hole + 1) & mask;

    while (subs->sids[next].slot != NO_SLOT) {
        const uint32_t ideal = subs->sids[next].hash & mask;
        if (((next - ideal) & mask) >= ((next - hole) & mask)) {
            subs->sids[hole] = subs->sids[next];
            hole = next;
        }
        next = (next + 1) & mask;
    }
    subs->sids[hole].slot = NO_SLOT;
}

void esi_client_subs_forget(struct esi_client_subs *subs, struct esi_client_sub *client_sub)
{
    if (client_sub->is_removed) {
        return;
    }
    const uint32_t slot = (uint32_t)(client_sub - subs->slots);
    uint32_t place = client_sub->sid_hash & subs->sid_mask;
    while (subs->sids[place].slot != slot) {
        ESI_DEBUG_ASSERT(subs->sids[place].slot != NO_SLOT);
        place = (place + 1) & subs->sid_mask;
    }
    remove_place(subs, place);
    subs->live_count--;
    client_sub->is_removed = true;
}

struct esi_sub *esi_client_subs_release_slot(struct esi_client_subs *subs,
                                             struct esi_client_sub *client_sub)
{
    ESI_REQUIRE(client_sub->is_removed);
    struct esi_sub *sub = ESI_MOVE(client_sub->sub);
    client_sub->next_free = subs->first_free;
    subs->first_free = (uint32_t)(client_sub - subs->slots);
    return sub;
}

void esi_client_subs_free_slot(struct esi_client_subs *subs, struct esi_client_sub *client_sub)
{
    esi_sub_free(esi_client_subs_release_slot(subs, client_sub), NULL);
}
