/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: objects are given out once, come back from any thread, and a warm pool asks the system for
 * nothing. Method: counts and ownership marks; two threads where one takes and the other gives
 * back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECT_BYTES = 64, CHAIN = 8, ROUNDS = 20000, RING = 64 };

static struct esi_pool_depot depot;

static int init_depot(void **state)
{
    (void)state;
    esi_pool_depot_init(&depot, OBJECT_BYTES, CHAIN, 4);
    return 0;
}

static int deinit_depot(void **state)
{
    (void)state;
    esi_pool_depot_deinit(&depot);
    return 0;
}

static void test_objects_are_distinct_and_reused(void **state)
{
    struct esi_pool pool;
    unsigned char *objects[100];

    (void)state;
    esi_pool_init(&pool, &depot);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            objects[i] = esi_pool_take(&pool);
            assert_non_null(objects[i]);
            memset(objects[i], i, OBJECT_BYTES);
        }
        for (int i = 0; i < 100; i++) {
            for (int j = 0; j < OBJECT_BYTES; j++) {
                assert_int_equal(objects[i][j], i);
            }
            esi_pool_return(&pool, objects[i]);
        }
    }
    esi_pool_deinit(&pool);
}

static void test_a_warm_pool_does_not_allocate(void **state)
{
    struct esi_pool pool;
    void *objects[2 * CHAIN - 1];

    (void)state;
    esi_pool_init(&pool, &depot);
    esi_pool_populate(&pool, 2 * CHAIN - 1);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 2 * CHAIN - 1; i++) {
            objects[i] = esi_pool_take(&pool);
        }
        for (int i = 0; i < 2 * CHAIN - 1; i++) {
            esi_pool_return(&pool, objects[i]);
        }
    }
    assert_int_equal(pool.allocation_count, 0);
    esi_pool_deinit(&pool);
}

/* What one pool has too many of, another finds in the depot; the depot itself is bounded. */
static void test_objects_wander_through_the_depot(void **state)
{
    struct esi_pool giver;
    struct esi_pool taker;
    void *objects[20 * CHAIN];

    (void)state;
    esi_pool_init(&giver, &depot);
    esi_pool_init(&taker, &depot);
    for (int i = 0; i < 20 * CHAIN; i++) {
        objects[i] = esi_pool_take(&taker);
    }
    const uint64_t cold = taker.allocation_count;
    assert_int_equal(cold, 20 * CHAIN);
    for (int i = 0; i < 20 * CHAIN; i++) {
        esi_pool_return(&giver, objects[i]);
    }
    assert_true(giver.free_count < 2 * CHAIN);
    /* 4 chains wait in the depot, the others have gone back to the system. */
    for (int i = 0; i < 4 * CHAIN; i++) {
        objects[i] = esi_pool_take(&taker);
    }
    assert_int_equal(taker.allocation_count, cold);
    objects[4 * CHAIN] = esi_pool_take(&taker);
    assert_int_equal(taker.allocation_count, cold + 1);
    for (int i = 0; i <= 4 * CHAIN; i++) {
        esi_pool_return(&taker, objects[i]);
    }
    esi_pool_deinit(&giver);
    esi_pool_deinit(&taker);
}

static void test_without_a_pool_it_goes_to_the_system(void **state)
{
    struct esi_pool pool;

    (void)state;
    esi_pool_init(&pool, &depot);
    void *object = esi_pool_take(&pool);
    assert_non_null(object);
    esi_pool_return(NULL, object);
    esi_pool_deinit(&pool);
}

/* One thread takes, another gives back, through a ring. */
static _Atomic(void *) ring[RING];

static void *give_back(void *argument)
{
    struct esi_pool pool;

    (void)argument;
    esi_pool_init(&pool, &depot);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        void *object;
        do {
            /* order: acquire; pairs with the release of the taking thread. */
            object = atomic_exchange_explicit(&ring[i % RING], NULL, memory_order_acquire);
        } while (object == NULL);
        uint32_t mark = 0;
        memcpy(&mark, (char *)object + 32, sizeof mark);
        if (mark != i) {
            abort();
        }
        esi_pool_return(&pool, object);
    }
    esi_pool_deinit(&pool);
    return NULL;
}

static void test_objects_cross_threads(void **state)
{
    struct esi_pool pool;
    pthread_t thread;

    (void)state;
    esi_pool_init(&pool, &depot);
    assert_int_equal(pthread_create(&thread, NULL, give_back, NULL), 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        void *object = esi_pool_take(&pool);
        assert_non_null(object);
        memcpy((char *)object + 32, &i, sizeof i);
        void *empty = NULL;
        /* order: release; pairs with the acquire in give_back. */
        while (!atomic_compare_exchange_weak_explicit(&ring[i % RING], &empty, object,
                                                      memory_order_release, memory_order_relaxed)) {
            empty = NULL;
        }
    }
    pthread_join(thread, NULL);
    esi_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_objects_are_distinct_and_reused, init_depot,
                                        deinit_depot),
        cmocka_unit_test_setup_teardown(test_a_warm_pool_does_not_allocate, init_depot,
                                        deinit_depot),
        cmocka_unit_test_setup_teardown(test_objects_wander_through_the_depot, init_depot,
                                        deinit_depot),
        cmocka_unit_test_setup_teardown(test_without_a_pool_it_goes_to_the_system, init_depot,
                                        deinit_depot),
        cmocka_unit_test_setup_teardown(test_objects_cross_threads, init_depot, deinit_depot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
