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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_references, init_pool, deinit_pool),
        cmocka_unit_test_setup_teardown(test_sizes, init_pool, deinit_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
