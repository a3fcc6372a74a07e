/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks: shared, counted byte areas. What is read from a peer and what is formatted for peers
 * stands in blocks; slices of them travel to their targets without being copied. The bytes of a
 * slice never change once a second reference exists; the owner may still append behind them.
 */
#pragma once

#include "base/pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ESI_BLOCK_BYTES = 64 * 1024 }; /* data bytes of a pooled block */

struct esi_block {
    _Atomic uint32_t refs;
    bool is_pooled;
    enum esi_memory_owner owner; /* one that is not pooled: whom its bytes are charged to */
    size_t capacity;             /* bytes of data */
    char data[];
};

enum { ESI_BLOCK_OBJECT_BYTES = sizeof(struct esi_block) + ESI_BLOCK_BYTES };

/* A pooled block with one reference, owned by the caller; NULL when memory is exhausted or the
 * ledger refuses it (this and the next two). */
struct esi_block *esi_block_new(struct esi_pool *pool);
/* A block of at least `capacity` bytes: pooled when that is enough, else from the system. */
struct esi_block *esi_block_new_sized(struct esi_pool *pool, size_t capacity);
/*
 * A block of just `capacity` bytes, from the system: for what may be kept for long. The second one
 * is for bytes that are there already: the ledger counts it and cannot refuse it.
 *   pool    whose ledger it is taken from; its last reference must be given up with a pool of the
 *           same ledger
 *   owner   whom it is charged to
 */
struct esi_block *esi_block_new_exact(struct esi_pool *pool, enum esi_memory_owner owner,
                                      size_t capacity);
struct esi_block *esi_block_new_charged(struct esi_pool *pool, enum esi_memory_owner owner,
                                        size_t capacity);
/*
 * From here on the block is charged to another owner. Its only holder calls this, before it shares
 * it.
 */
void esi_block_charge_to(struct esi_block *block, struct esi_pool *pool,
                         enum esi_memory_owner owner);
/* Adds count references. Thread: any holder. */
static inline void esi_block_ref(struct esi_block *block, uint32_t count)
{
    /* order: relaxed; the new holder learns of the block through a mailbox, which orders the
     * content. */
    atomic_fetch_add_explicit(&block->refs, count, memory_order_relaxed);
}
/* Gives count references up; the last one returns the block to this thread's pool (NULL: to the
 * system, when the ledger is of no more interest). */
void esi_block_unref(struct esi_block *block, struct esi_pool *pool, uint32_t count);
/* True when the caller holds the only reference, and may write over all of it. */
static inline bool esi_block_is_unique(const struct esi_block *block)
{
    /* order: acquire; pairs with the release in esi_block_unref: what other holders read is
     * done. */
    return atomic_load_explicit(&block->refs, memory_order_acquire) == 1;
}
