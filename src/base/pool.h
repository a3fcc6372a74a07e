/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools of equal objects. Each worker has a pool of its own and takes and gives back without any
 * atomic operation; objects may be given back to another worker's pool than they came from. A pool
 * that has too many hands a chain of them to the depot that all pools of that size share; one that
 * has none takes a chain from there. So the path of a message neither locks nor allocates once the
 * pools are warm.
 */
#pragma once

#include "base/err.h"
#include "base/ledger.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct esi_pool_object {
    struct esi_pool_object *next;
    struct esi_pool_object *next_chain; /* used in the first object of a chain in the depot */
};

/* Shared by the pools of one object size; lives as long as they. */
struct esi_pool_depot {
    size_t object_bytes;
    enum esi_memory_owner owner; /* of all objects, in use or not; the user sets it */
    uint32_t chain_length;       /* objects a chain */
    _Atomic(struct esi_pool_object *) chains;
    _Atomic uint32_t chain_count;
    uint32_t chain_count_max; /* more go back to the system */
};

/* One thread's. */
struct esi_pool {
    struct esi_pool_depot *depot; /* borrowed */
    /* borrowed: what comes from the system is taken from it; NULL: not counted */
    struct esi_lease *lease;
    struct esi_pool_object *free;
    uint32_t free_count;
    uint64_t allocation_count; /* how often the system was asked: the warm path must not raise it */
};

void esi_pool_depot_init(struct esi_pool_depot *depot, size_t object_bytes, uint32_t chain_length,
                         uint32_t chain_count_max);
/* Frees what is in it; all pools must be gone. */
void esi_pool_depot_deinit(struct esi_pool_depot *depot);
void esi_pool_init(struct esi_pool *pool, struct esi_pool_depot *depot);
void esi_pool_deinit(struct esi_pool *pool);
/* Frees all objects that nobody uses, here and in the depot: another use needs the memory. */
void esi_pool_trim(struct esi_pool *pool);
/* Takes count objects from the system in advance and touches their pages. Best effort. */
void esi_pool_populate(struct esi_pool *pool, uint32_t count);
/* An object with undefined content, or NULL when memory is exhausted or the ledger refuses it. */
void *esi_pool_take(struct esi_pool *pool);
/* Gives an object back. pool may be NULL (a thread that has none): then it goes to the system. */
void esi_pool_return(struct esi_pool *pool, void *object);
