/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two ways to a subscription: a map by sid, which UNSUB leaves at once, and an array by slot, which
 * it leaves when no delivery can carry the slot any more. */
#include "actors/client_subs.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

void esi_client_subs_init(struct esi_client_subs *subs)
{
    *subs = (struct esi_client_subs){0};
    esi_hashmap_init(&subs->by_sid);
}

void esi_client_subs_deinit(struct esi_client_subs *subs)
{
    for (uint32_t i = 0; i < subs->slot_count; i++) {
        if (subs->slots[i] != NULL) {
            free(subs->slots[i]->sub);
            free(subs->slots[i]);
        }
    }
    esi_hashmap_deinit(&subs->by_sid);
    free(subs->slots);
    free(subs->free_slots);
    esi_client_subs_init(subs);
}

struct esi_client_sub *esi_client_subs_find(const struct esi_client_subs *subs, struct esi_str sid)
{
    return esi_hashmap_find(&subs->by_sid, sid);
}

struct esi_client_sub *esi_client_subs_at(const struct esi_client_subs *subs, uint32_t slot)
{
    return slot < subs->slot_count ? subs->slots[slot] : NULL;
}

static bool grow(struct esi_client_subs *subs)
{
    const uint32_t capacity = subs->slot_capacity == 0 ? 4 : subs->slot_capacity * 2;
    struct esi_client_sub **slots =
        realloc(subs->slots, capacity * sizeof(struct esi_client_sub *));

    if (slots == NULL) {
        return false;
    }
    subs->slots = slots;
    uint32_t *free_slots = realloc(subs->free_slots, capacity * sizeof *free_slots);
    if (free_slots == NULL) {
        return false;
    }
    subs->free_slots = free_slots;
    subs->slot_capacity = capacity;
    return true;
}

struct esi_client_sub *esi_client_subs_add(struct esi_client_subs *subs, struct esi_sub *sub)
{
    if (subs->free_count == 0 && subs->slot_count == subs->slot_capacity && !grow(subs)) {
        return NULL;
    }
    struct esi_client_sub *client_sub = calloc(1, sizeof *client_sub);
    if (client_sub == NULL) {
        return NULL;
    }
    client_sub->sub = sub;
    if (esi_hashmap_insert(&subs->by_sid, sub->sid, client_sub) != ES_OK) {
        free(client_sub);
        return NULL;
    }
    client_sub->slot =
        subs->free_count > 0 ? subs->free_slots[--subs->free_count] : subs->slot_count++;
    subs->slots[client_sub->slot] = client_sub;
    sub->slot = client_sub->slot;
    return client_sub;
}

void esi_client_subs_forget(struct esi_client_subs *subs, struct esi_client_sub *client_sub)
{
    if (!client_sub->is_removed) {
        void *value = esi_hashmap_remove(&subs->by_sid, client_sub->sub->sid);
        ESI_ASSERT(value == client_sub);
        client_sub->is_removed = true;
    }
}

void esi_client_subs_free_slot(struct esi_client_subs *subs, struct esi_client_sub *client_sub)
{
    ESI_REQUIRE(client_sub->is_removed);
    subs->slots[client_sub->slot] = NULL;
    subs->free_slots[subs->free_count++] = client_sub->slot;
    free(client_sub->sub);
    free(client_sub);
}
