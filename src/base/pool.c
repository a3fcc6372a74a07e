/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool is a plain list. The depot is a stack of whole chains: one exchange or compare-and-swap
 * moves as many objects as a chain is long.
 */
#include "base/pool.h"
#include "base/assert.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

void esi_pool_depot_init(struct esi_pool_depot *depot, size_t object_bytes, uint32_t chain_length,
                         uint32_t chain_count_max)
{
    ESI_REQUIRE(object_bytes >= sizeof(struct esi_pool_object) && chain_length > 0);
    depot->object_bytes = object_bytes;
    depot->chain_length = chain_length;
    depot->chain_count_max = chain_count_max;
    atomic_init(&depot->chains, NULL);
    atomic_init(&depot->chain_count, 0);
}

static void free_objects(struct esi_pool_object *object)
{
    while (object != NULL) {
        struct esi_pool_object *next = object->next;
        free(object);
        object = next;
    }
}

void esi_pool_depot_deinit(struct esi_pool_depot *depot)
{
    /* order: relaxed; all pools are gone, so nobody else looks. */
    struct esi_pool_object *chain =
        atomic_exchange_explicit(&depot->chains, NULL, memory_order_relaxed);
    while (chain != NULL) {
        struct esi_pool_object *next = chain->next_chain;
        free_objects(chain);
        chain = next;
    }
}

void esi_pool_init(struct esi_pool *pool, struct esi_pool_depot *depot)
{
    *pool = (struct esi_pool){.depot = depot};
}

/* Objects go back to the system. */
static void release_objects(struct esi_pool *pool, struct esi_pool_object *object)
{
    while (object != NULL) {
        struct esi_pool_object *next = object->next;
        free(object);
        esi_ledger_give(pool->lease, pool->depot->owner, pool->depot->object_bytes);
        object = next;
    }
}

void esi_pool_deinit(struct esi_pool *pool)
{
    release_objects(pool, pool->free);
    pool->free = NULL;
    pool->free_count = 0;
}

void esi_pool_populate(struct esi_pool *pool, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct esi_pool_object *object = malloc(pool->depot->object_bytes);
        if (object == NULL) {
            return;
        }
        esi_ledger_charge(pool->lease, pool->depot->owner, pool->depot->object_bytes);
        /* A page fault costs more than the work that follows it, so it is paid here. */
        memset(object, 0, pool->depot->object_bytes);
        object->next = pool->free;
        pool->free = object;
        pool->free_count++;
    }
}

static void push_chains(struct esi_pool_depot *depot, struct esi_pool_object *first,
                        struct esi_pool_object *last)
{
    /* order: relaxed; only a guess, corrected by the exchange below. */
    struct esi_pool_object *head = atomic_load_explicit(&depot->chains, memory_order_relaxed);
    do {
        last->next_chain = head;
        /* order: release; pairs with the acquire in pop_chain, which then sees the links. */
    } while (!atomic_compare_exchange_weak_explicit(&depot->chains, &head, first,
                                                    memory_order_release, memory_order_relaxed));
}

/* Takes all chains, keeps the first and puts the others back: no chain is ever popped while another
 * thread looks at its link, so there is no ABA problem. */
static struct esi_pool_object *pop_chain(struct esi_pool_depot *depot)
{
    /* order: relaxed; an empty depot is the common case and needs no shared write. */
    if (atomic_load_explicit(&depot->chains, memory_order_relaxed) == NULL) {
        return NULL;
    }
    /* order: acquire; pairs with the release in push_chains. */
    struct esi_pool_object *chain =
        atomic_exchange_explicit(&depot->chains, NULL, memory_order_acquire);
    if (chain == NULL) {
        return NULL;
    }
    struct esi_pool_object *rest = chain->next_chain;
    if (rest != NULL) {
        struct esi_pool_object *last = rest;
        while (last->next_chain != NULL) {
            last = last->next_chain;
        }
        push_chains(depot, rest, last);
    }
    /* order: relaxed; a bound that may be off by a few. */
    atomic_fetch_sub_explicit(&depot->chain_count, 1, memory_order_relaxed);
    return chain;
}

void *esi_pool_take(struct esi_pool *pool)
{
    struct esi_pool_object *object = pool->free;

    if (ESI_LIKELY(object != NULL)) {
        pool->free = object->next;
        pool->free_count--;
        return object;
    }
    object = pop_chain(pool->depot);
    if (object != NULL) {
        pool->free = object->next;
        pool->free_count = pool->depot->chain_length - 1;
        return object;
    }
    pool->allocation_count++;
    if (!esi_ledger_take(pool->lease, pool->depot->owner, pool->depot->object_bytes)) {
        return NULL;
    }
    object = malloc(pool->depot->object_bytes);
    if (object == NULL) {
        esi_ledger_give(pool->lease, pool->depot->owner, pool->depot->object_bytes);
    }
    return object;
}

void esi_pool_trim(struct esi_pool *pool)
{
    struct esi_pool_object *chain;

    while ((chain = pop_chain(pool->depot)) != NULL) {
        release_objects(pool, chain);
    }
    esi_pool_deinit(pool);
}

static void hand_chain_over(struct esi_pool *pool)
{
    struct esi_pool_depot *depot = pool->depot;
    struct esi_pool_object *first = pool->free;
    struct esi_pool_object *last = first;

    for (uint32_t i = 1; i < depot->chain_length; i++) {
        last = last->next;
    }
    pool->free = last->next;
    pool->free_count -= depot->chain_length;
    last->next = NULL;
    /* order: relaxed; a bound that may be off by a few. */
    if (atomic_load_explicit(&depot->chain_count, memory_order_relaxed) >= depot->chain_count_max) {
        release_objects(pool, first);
        return;
    }
    /* order: relaxed; see above. */
    atomic_fetch_add_explicit(&depot->chain_count, 1, memory_order_relaxed);
    push_chains(depot, first, first);
}

void esi_pool_return(struct esi_pool *pool, void *object)
{
    struct esi_pool_object *entry = object;

    if (pool == NULL) {
        free(object);
        return;
    }
    entry->next = pool->free;
    pool->free = entry;
    pool->free_count++;
    if (ESI_UNLIKELY(pool->free_count >= 2 * pool->depot->chain_length)) {
        hand_chain_over(pool);
    }
}
