/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a block lives exactly as long as its references, and goes back where it came from. Method:
 * counts, and the sanitizers for what is freed too early or never.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/block.h"

#include <string.h>

static struct esi_pool_depot depot;
static struct esi_pool pool;

static int init_pool(void **state)
{
    (void)state;
    esi_pool_depot_init(&depot, ESI_BLOCK_OBJECT_BYTES, 4, 4);
    esi_pool_init(&pool, &depot);
    return 0;
}

static int deinit_pool(void **state)
{
    (void)state;
    esi_pool_deinit(&pool);
    esi_pool_depot_deinit(&depot);
    return 0;
}

static void test_references(void **state)
{
    (void)state;
    struct esi_block *block = esi_block_new(&pool);
    assert_non_null(block);
    assert_int_equal(block->capacity, ESI_BLOCK_BYTES);
    memset(block->data, 1, block->capacity);
    assert_true(esi_block_is_unique(block));
    esi_block_ref(block, 3);
    assert_false(esi_block_is_unique(block));
    esi_block_unref(block, &pool, 2);
    assert_false(esi_block_is_unique(block));
    esi_block_unref(block, &pool, 1);
    assert_true(esi_block_is_unique(block));
    assert_int_equal(pool.free_count, 0);
    esi_block_unref(block, &pool, 1);
    assert_int_equal(pool.free_count, 1);
    assert_ptr_equal(esi_block_new(&pool), block);
    esi_block_ref(block, 1);
    esi_block_unref(block, &pool, 2);
    assert_int_equal(pool.free_count, 1);
    assert_int_equal(pool.allocation_count, 1);
}

static void test_sizes(void **state)
{
    (void)state;
    struct esi_block *pooled = esi_block_new_sized(&pool, ESI_BLOCK_BYTES);
    struct esi_block *large = esi_block_new_sized(&pool, ESI_BLOCK_BYTES + 1);
    assert_int_equal(pooled->capacity, ESI_BLOCK_BYTES);
    assert_true(large->capacity >= ESI_BLOCK_BYTES + 1);
    memset(large->data, 1, large->capacity);
    esi_block_unref(large, &pool, 1);
    /* A block of another size never enters the pool. */
    assert_int_equal(pool.free_count, 0);
    esi_block_unref(pooled, NULL, 1);
    assert_int_equal(pool.free_count, 0);
}

/* What is taken from the system is in the ledger, and blocks that wait are given up for another
 * size. */
static void test_ledger(void **state)
{
    struct esi_ledger *ledger = NULL;
    struct esi_block *blocks[64];
    uint32_t count = 0;

    (void)state;
    assert_int_equal(esi_ledger_new(4 * 1024 * 1024, 1, &ledger), ES_OK);
    pool.lease = esi_ledger_lease(ledger, 0);
    while ((blocks[count] = esi_block_new(&pool)) != NULL) {
        count++;
        assert_true(count < 64);
    }
    assert_int_equal(count, 2 * 1024 * 1024 / ESI_BLOCK_OBJECT_BYTES);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), count * ESI_BLOCK_OBJECT_BYTES);
    assert_null(esi_block_new_sized(&pool, 1024 * 1024));
    for (uint32_t i = 0; i < count; i++) {
        esi_block_unref(blocks[i], &pool, 1);
    }
    /* Warm: nothing is taken anew. */
    assert_true(pool.free_count > 0);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS),
                     (pool.free_count + 4 * atomic_load(&depot.chain_count)) *
                         ESI_BLOCK_OBJECT_BYTES);
    struct esi_block *large = esi_block_new_sized(&pool, 1536 * 1024);
    assert_non_null(large);
    assert_int_equal(pool.free_count, 0);
    struct esi_block *exact = esi_block_new_exact(&pool, MEMORY_PARTIAL_INPUT, 100);
    assert_int_equal(exact->capacity, 100);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_PARTIAL_INPUT), sizeof *exact + 100);
    esi_block_unref(exact, &pool, 1);
    esi_block_unref(large, &pool, 1);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), 0);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_PARTIAL_INPUT), 0);
    pool.lease = NULL;
    esi_ledger_free(ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_references, init_pool, deinit_pool),
        cmocka_unit_test_setup_teardown(test_sizes, init_pool, deinit_pool),
        cmocka_unit_test_setup_teardown(test_ledger, init_pool, deinit_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
