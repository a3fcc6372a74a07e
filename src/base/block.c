/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Blocks of the usual size come from the worker's pool; a larger one is the system's, and goes back
 * there with its last reference. */
#include "base/block.h"
#include "base/assert.h"

#include <stdlib.h>

struct esi_block *esi_block_new(struct esi_pool *pool)
{
    struct esi_block *block = esi_pool_take(pool);

    if (block != NULL) {
        atomic_init(&block->refs, 1);
        block->is_pooled = true;
        block->owner = MEMORY_BLOCKS;
        block->capacity = ESI_BLOCK_BYTES;
    }
    return block;
}

struct esi_block *esi_block_new_sized(struct esi_pool *pool, size_t capacity)
{
    if (capacity <= ESI_BLOCK_BYTES) {
        return esi_block_new(pool);
    }
    return esi_block_new_exact(pool, MEMORY_BLOCKS, capacity);
}

static bool take_bytes(struct esi_pool *pool, enum esi_memory_owner owner, uint64_t bytes)
{
    if (pool == NULL || esi_ledger_take(pool->lease, owner, bytes)) {
        return true;
    }
    if (esi_ledger_class_of(owner) != esi_ledger_class_of(pool->depot->owner)) {
        return false;
    }
    /* Blocks that wait in pools are no reason to refuse one of another size. */
    esi_pool_trim(pool);
    return esi_ledger_take(pool->lease, owner, bytes);
}

/* The ledger knows of it already. */
static struct esi_block *new_counted(struct esi_pool *pool, enum esi_memory_owner owner,
                                     size_t capacity)
{
    struct esi_block *block = malloc(sizeof *block + capacity);

    if (block != NULL) {
        atomic_init(&block->refs, 1);
        block->is_pooled = false;
        block->owner = owner;
        block->capacity = capacity;
    } else if (pool != NULL) {
        esi_ledger_give(pool->lease, owner, sizeof *block + capacity);
    }
    return block;
}

struct esi_block *esi_block_new_exact(struct esi_pool *pool, enum esi_memory_owner owner,
                                      size_t capacity)
{
    return take_bytes(pool, owner, sizeof(struct esi_block) + capacity)
               ? new_counted(pool, owner, capacity)
               : NULL;
}

struct esi_block *esi_block_new_charged(struct esi_pool *pool, enum esi_memory_owner owner,
                                        size_t capacity)
{
    if (pool != NULL) {
        esi_ledger_charge(pool->lease, owner, sizeof(struct esi_block) + capacity);
    }
    return new_counted(pool, owner, capacity);
}

void esi_block_charge_to(struct esi_block *block, struct esi_pool *pool,
                         enum esi_memory_owner owner)
{
    const uint64_t bytes = sizeof *block + block->capacity;

    ESI_REQUIRE(!block->is_pooled);
    esi_ledger_give(pool->lease, block->owner, bytes);
    esi_ledger_charge(pool->lease, owner, bytes);
    block->owner = owner;
}

void esi_block_unref(struct esi_block *block, struct esi_pool *pool, uint32_t count)
{
    /* order: acq_rel; release: our reads end before the block is used anew; acquire: the last
     * holder sees that all others have ended theirs. */
    const uint32_t before = atomic_fetch_sub_explicit(&block->refs, count, memory_order_acq_rel);
    ESI_DEBUG_ASSERT(before >= count);
    if (before != count) {
        return;
    }
    if (block->is_pooled) {
        esi_pool_return(pool, block);
    } else {
        if (pool != NULL) {
            esi_ledger_give(pool->lease, block->owner, sizeof *block + block->capacity);
        }
        free(block);
    }
}
