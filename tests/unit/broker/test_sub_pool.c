/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: memory of a subscription that has ended serves the next one of its size, is never given out
 * twice or too small, and no more is kept than allowed. Method: random sizes taken, filled and
 * returned, against marks of their own; then the bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/sub_pool.h"

#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 64, STEPS = 20000, KEPT_BYTES_MAX = 4096 };

static uint64_t random_state = 5;

static uint32_t draw_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % limit);
}

static void test_objects_are_distinct_and_large_enough(void **state)
{
    struct object {
        unsigned char *data;
        size_t bytes;
    } objects[OBJECTS] = {{NULL, 0}};
    struct esi_sub_pool pool;

    (void)state;
    esi_sub_pool_init(&pool, KEPT_BYTES_MAX);
    for (uint32_t step = 0; step < STEPS; step++) {
        const uint32_t i = draw_below(OBJECTS);
        struct object *object = &objects[i];
        if (object->data == NULL) {
            object->bytes = 100 + draw_below(ESI_SUB_POOL_OBJECT_MAX);
            object->data = esi_sub_pool_take(&pool, object->bytes);
            assert_non_null(object->data);
            memset(object->data, (int)i, object->bytes);
            continue;
        }
        for (size_t at = 0; at < object->bytes; at++) {
            assert_int_equal(object->data[at], i);
        }
        esi_sub_pool_return(draw_below(8) == 0 ? NULL : &pool, object->data, object->bytes);
        object->data = NULL;
        assert_true(pool.kept_bytes <= KEPT_BYTES_MAX);
        if (draw_below(1000) == 0) {
            esi_sub_pool_trim(&pool);
            assert_int_equal(pool.kept_bytes, 0);
        }
    }
    for (uint32_t i = 0; i < OBJECTS; i++) {
        free(objects[i].data);
    }
    esi_sub_pool_trim(&pool);
}

static void test_the_next_of_its_size_gets_it(void **state)
{
    struct esi_sub_pool pool;

    (void)state;
    esi_sub_pool_init(&pool, KEPT_BYTES_MAX);
    void *object = esi_sub_pool_take(&pool, 130);
    esi_sub_pool_return(&pool, object, 130);
    /* malloc rounds both to the same size. */
    void *again = esi_sub_pool_take(&pool, 135);
    assert_ptr_equal(again, object);
    assert_int_equal(pool.kept_bytes, 0);
    free(again);
}

static void test_what_may_not_be_kept_is_freed(void **state)
{
    struct esi_sub_pool pool;

    (void)state;
    esi_sub_pool_init(&pool, 0);
    esi_sub_pool_return(&pool, esi_sub_pool_take(&pool, 130), 130);
    assert_int_equal(pool.kept_bytes, 0);
    esi_sub_pool_init(&pool, KEPT_BYTES_MAX);
    esi_sub_pool_return(&pool, esi_sub_pool_take(&pool, ESI_SUB_POOL_OBJECT_MAX + 1),
                        ESI_SUB_POOL_OBJECT_MAX + 1);
    assert_int_equal(pool.kept_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_are_distinct_and_large_enough),
        cmocka_unit_test(test_the_next_of_its_size_gets_it),
        cmocka_unit_test(test_what_may_not_be_kept_is_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
