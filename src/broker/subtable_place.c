/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in one place. Lists have spare room: a SUB appends (a copy for each would be
 * quadratic), an UNSUB leaves a hole; a list that is more than half holes, or full, is copied
 * without them.
 */
#include "base/assert.h"
#include "broker/subtable_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    LIST_CAPACITY_MIN = 4,
    HOLES_FROM = 16 /* slots: a shorter list keeps its holes until it is full */
};

/* Puts fresh in the place of what stands there. Only the first entry of a literal subject can fail,
 * with ES_NO_MEMORY. */
static enum es_err fill(const struct esi_subtable_place *place, struct esi_rcu_entry *fresh,
                        struct esi_retired **retired)
{
    if (place->literals == NULL) {
        ESI_RCU_PUBLISH(place->node->subs, fresh);
        return ES_OK;
    }
    if (place->now == NULL) {
        return esi_rcu_map_insert(place->literals, fresh, retired);
    }
    esi_rcu_map_replace(place->literals, place->now, fresh);
    return ES_OK;
}

/* Takes out what stands there. */
static void clear(const struct esi_subtable_place *place, struct esi_retired **retired)
{
    if (place->literals != NULL) {
        esi_rcu_map_remove(place->literals, place->now);
    } else {
        ESI_RCU_PUBLISH(place->node->subs, NULL);
        esi_subtable_trie_prune(place->node, retired);
    }
}

static void append(struct esi_subtable_list *list, struct esi_sub *sub)
{
    /* order: relaxed; our own value. */
    const uint32_t index = atomic_load_explicit(&list->used, memory_order_relaxed);

    ESI_DEBUG_ASSERT(index < list->capacity);
    sub->home = &list->entry;
    sub->index = index;
    /* order: relaxed; published by the store of used below. */
    atomic_store_explicit(&list->subs[index], sub, memory_order_relaxed);
    /* order: release; pairs with the acquire in visit, which then sees the slot and the
     * subscription. */
    atomic_store_explicit(&list->used, index + 1, memory_order_release);
    list->live++;
    list->plain_count += esi_subtable_is_local_plain(sub);
}

/* An empty list for a subject, with room for as many as there are, half as many, and one. */
static struct esi_subtable_list *new_list(const struct esi_rcu_entry *subject, uint32_t live)
{
    uint32_t capacity = LIST_CAPACITY_MIN;

    while (capacity < live + live / 2 + 1) {
        capacity *= 2;
    }
    struct esi_subtable_list *list =
        malloc(sizeof *list + capacity * sizeof list->subs[0] + subject->key.len);
    if (list == NULL) {
        return NULL;
    }
    char *key = (char *)&list->subs[capacity];
    memcpy(key, subject->key.data, subject->key.len);
    list->entry = (struct esi_rcu_entry){.hash = subject->hash,
                                         .key = {.data = key, .len = subject->key.len},
                                         .kind = ESI_SUBTABLE_LIST};
    list->capacity = capacity;
    list->live = 0;
    list->plain_count = 0;
    list->node = NULL;
    atomic_init(&list->used, 0);
    return list;
}

/* A list of what stands in a place, with room for more, put there; a list that was there is
 * retired. NULL when memory is exhausted. */
static struct esi_subtable_list *rebuild_list(const struct esi_subtable_place *place,
                                              struct esi_retired **retired)
{
    struct esi_subtable_list *old =
        place->now->kind == ESI_SUBTABLE_LIST ? esi_subtable_list_of(place->now) : NULL;
    struct esi_subtable_list *list = new_list(place->now, old != NULL ? old->live : 1);

    if (list == NULL) {
        return NULL;
    }
    list->node = place->node;
    if (old == NULL) {
        append(list, esi_subtable_sub_of(place->now));
    } else {
        /* order: relaxed; our own value. */
        const uint32_t used = atomic_load_explicit(&old->used, memory_order_relaxed);
        for (uint32_t i = 0; i < used; i++) {
            struct esi_sub *sub = ESI_RCU_OWN(old->subs[i]);
            if (sub != NULL) {
                append(list, sub);
            }
        }
        ESI_ASSERT(list->live == old->live && list->plain_count == old->plain_count);
    }
    const enum es_err err = fill(place, &list->entry, retired);
    ESI_ASSERT(err == ES_OK);
    if (old != NULL) {
        esi_subtable_retire(&old->retired, retired);
    }
    return list;
}

/* One more where others stand. */
static enum es_err join(const struct esi_subtable_place *place, struct esi_sub *sub,
                        struct esi_retired **retired)
{
    struct esi_subtable_list *list =
        place->now->kind == ESI_SUBTABLE_LIST ? esi_subtable_list_of(place->now) : NULL;

    /* order: relaxed; our own value. */
    if (list == NULL || atomic_load_explicit(&list->used, memory_order_relaxed) == list->capacity) {
        list = rebuild_list(place, retired);
        if (list == NULL) {
            return ES_NO_MEMORY;
        }
    }
    append(list, sub);
    return ES_OK;
}

/* Leaves a hole. */
static void leave(const struct esi_subtable_place *place, struct esi_subtable_list *list,
                  struct esi_sub *sub, struct esi_retired **retired)
{
    ESI_REQUIRE(ESI_RCU_OWN(list->subs[sub->index]) == sub);
    ESI_RCU_PUBLISH(list->subs[sub->index], NULL);
    list->live--;
    list->plain_count -= esi_subtable_is_local_plain(sub);
    /* order: relaxed; our own value. */
    const uint32_t used = atomic_load_explicit(&list->used, memory_order_relaxed);
    if (list->live == 0) {
        clear(place, retired);
        esi_subtable_retire(&list->retired, retired);
    } else if (used > HOLES_FROM && list->live * 2 < used) {
        /* Out of memory here only means that the holes stay. */
        (void)!rebuild_list(place, retired);
    }
}

struct esi_subtable_place esi_subtable_place_of(struct esi_sub *sub)
{
    struct esi_subtable_place place = {.now = &sub->entry};
    const struct esi_rcu_entry *home = sub->home;

    if (home != NULL && home->kind == ESI_SUBTABLE_LIST) {
        place.now = sub->home;
        place.node = esi_subtable_list_of(home)->node;
    } else if (home != NULL) {
        place.node = esi_subtable_node_of(home);
    }
    return place;
}

enum es_err esi_subtable_place_add(const struct esi_subtable_place *place, struct esi_sub *sub,
                                   struct esi_retired **retired)
{
    if (place->now != NULL) {
        return join(place, sub, retired);
    }
    const enum es_err err = fill(place, &sub->entry, retired);
    if (err == ES_OK) {
        sub->home = place->node != NULL ? &place->node->entry : NULL;
        sub->index = 0;
    }
    return err;
}

void esi_subtable_place_remove(const struct esi_subtable_place *place, struct esi_sub *sub,
                               struct esi_retired **retired)
{
    if (place->now->kind == ESI_SUBTABLE_LIST) {
        leave(place, esi_subtable_list_of(place->now), sub, retired);
    } else {
        clear(place, retired);
    }
    sub->index = ESI_SUB_NOT_ROUTED;
}

void esi_subtable_place_replace(const struct esi_subtable_place *place, struct esi_sub *old,
                                struct esi_sub *fresh)
{
    fresh->home = old->home;
    fresh->index = old->index;
    if (place->now->kind == ESI_SUBTABLE_LIST) {
        struct esi_subtable_list *list = esi_subtable_list_of(place->now);
        ESI_REQUIRE(ESI_RCU_OWN(list->subs[old->index]) == old);
        ESI_RCU_PUBLISH(list->subs[old->index], fresh);
    } else {
        struct esi_retired *retired = NULL;
        const enum es_err err = fill(place, &fresh->entry, &retired);
        ESI_ASSERT(err == ES_OK && retired == NULL);
    }
    old->index = ESI_SUB_NOT_ROUTED;
}
