/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no class ever leases more than its share, sums are right whoever gives back, and nothing
 * shared is touched for what a chunk covers. Method: small ledgers, every figure compared; threads
 * that take and give at random, all back to zero at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/ledger.h"

#include <pthread.h>

enum { MIB = 1024 * 1024, THREADS = 4, ROUNDS = 20000 };

static void test_shares(void **state)
{
    struct esi_ledger *ledger = NULL;
    uint64_t sum = 0;

    (void)state;
    assert_int_equal(esi_ledger_new(64 * MIB, 2, &ledger), ES_OK);
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        sum += ledger->classes[i].limit_bytes;
        assert_int_equal(ledger->classes[i].short_bytes, ledger->classes[i].limit_bytes / 4 * 3);
        assert_non_null(esi_ledger_class_name((enum esi_memory_class)i));
    }
    assert_int_equal(sum, 64 * MIB);
    assert_int_equal(ledger->classes[MEMORY_TRANSIT].limit_bytes, 32 * MIB);
    for (int i = 0; i < MEMORY_OWNER_COUNT; i++) {
        assert_non_null(esi_ledger_owner_name((enum esi_memory_owner)i));
        assert_int_equal(esi_ledger_owner_bytes(ledger, (enum esi_memory_owner)i), 0);
    }
    esi_ledger_free(ledger);
    esi_ledger_free(NULL);
}

static void test_a_class_is_bounded_and_the_others_are_not_touched(void **state)
{
    struct esi_ledger *ledger = NULL;
    uint32_t count = 0;

    (void)state;
    assert_int_equal(esi_ledger_new(64 * MIB, 1, &ledger), ES_OK);
    struct esi_lease *lease = esi_ledger_lease(ledger, 0);
    while (esi_ledger_take(lease, MEMORY_BLOCKS, 65536)) {
        count++;
        assert_true(count <= 512);
        assert_int_equal(esi_ledger_is_short(ledger, MEMORY_TRANSIT),
                         esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT) >= 24 * MIB);
    }
    assert_int_equal(count, 512); /* the last byte can be had */
    assert_false(esi_ledger_take(lease, MEMORY_OUTBOUND, 1));
    assert_int_equal(atomic_load(&ledger->classes[MEMORY_TRANSIT].refused), 2);
    assert_int_equal(esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT), 32 * MIB);
    assert_true(esi_ledger_is_short(ledger, MEMORY_TRANSIT));
    assert_false(esi_ledger_is_short(ledger, MEMORY_LASTING));
    assert_true(esi_ledger_take(lease, MEMORY_QUEUE, 20 * MIB));
    assert_false(esi_ledger_take(lease, MEMORY_TLS, 1));
    assert_true(esi_ledger_take(lease, MEMORY_PARTIAL_INPUT, 8 * MIB));
    /* What is there already is counted, and nothing more can be had until it is gone. */
    esi_ledger_charge(lease, MEMORY_BLOCKS, 65536);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), 513 * 65536);
    esi_ledger_give(lease, MEMORY_BLOCKS, 65536);
    assert_int_equal(esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT), 32 * MIB);
    assert_false(esi_ledger_take(lease, MEMORY_BLOCKS, 1));
    for (uint32_t i = 0; i < count; i++) {
        esi_ledger_give(lease, MEMORY_BLOCKS, 65536);
    }
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), 0);
    assert_true(esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT) <= 2 * ledger->chunk_bytes);
    assert_false(esi_ledger_take(lease, MEMORY_BLOCKS, UINT64_MAX));
    esi_ledger_free(ledger);
}

static void test_a_chunk_is_spent_without_touching_the_class(void **state)
{
    struct esi_ledger *ledger = NULL;

    (void)state;
    assert_int_equal(esi_ledger_new(1024 * (uint64_t)MIB, 2, &ledger), ES_OK);
    struct esi_lease *lease = esi_ledger_lease(ledger, 1);
    assert_true(esi_ledger_take(lease, MEMORY_SUBSCRIPTIONS, 1));
    const uint64_t leased = esi_ledger_leased_bytes(ledger, MEMORY_LASTING);
    assert_int_equal(leased, ledger->chunk_bytes);
    for (int i = 0; i < 1000; i++) {
        assert_true(esi_ledger_take(lease, MEMORY_SUBSCRIPTIONS, 200));
        assert_int_equal(esi_ledger_leased_bytes(ledger, MEMORY_LASTING), leased);
    }
    esi_ledger_free(ledger);
}

static void test_without_a_ledger_nothing_is_refused(void **state)
{
    (void)state;
    assert_true(esi_ledger_take(NULL, MEMORY_BLOCKS, UINT64_MAX));
    esi_ledger_charge(NULL, MEMORY_BLOCKS, UINT64_MAX);
    esi_ledger_give(NULL, MEMORY_BLOCKS, UINT64_MAX);
    assert_false(esi_ledger_is_short(NULL, MEMORY_TRANSIT));
}

struct taker {
    pthread_t thread;
    struct esi_ledger *ledger;
    uint32_t index;
    uint64_t held_bytes;
};

static void *take_and_give(void *argument)
{
    struct taker *self = argument;
    struct esi_lease *lease = esi_ledger_lease(self->ledger, self->index);
    uint64_t random = self->index + 1;

    for (int i = 0; i < ROUNDS; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const uint64_t bytes = (random >> 40) % 30000;
        if (random >> 63 == 0 || self->held_bytes < bytes) {
            self->held_bytes += esi_ledger_take(lease, MEMORY_BLOCKS, bytes) ? bytes : 0;
        } else {
            esi_ledger_give(lease, MEMORY_BLOCKS, bytes);
            self->held_bytes -= bytes;
        }
        if (esi_ledger_leased_bytes(self->ledger, MEMORY_TRANSIT) >
            self->ledger->classes[MEMORY_TRANSIT].limit_bytes + THREADS * (uint64_t)MIB) {
            self->held_bytes = UINT64_MAX; /* seen by the test: more than a try above the limit */
            return NULL;
        }
    }
    return NULL;
}

static void test_threads_share_a_class(void **state)
{
    struct taker takers[THREADS];
    struct esi_ledger *ledger = NULL;
    uint64_t held_bytes = 0;

    (void)state;
    assert_int_equal(esi_ledger_new(16 * MIB, THREADS, &ledger), ES_OK);
    for (uint32_t i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.ledger = ledger, .index = i};
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take_and_give, &takers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(takers[i].thread, NULL), 0);
        assert_true(takers[i].held_bytes <= 8 * MIB);
        held_bytes += takers[i].held_bytes;
    }
    assert_true(held_bytes <= 8 * MIB);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), held_bytes);
    /* All of it may be given back through one lease. */
    esi_ledger_give(esi_ledger_lease(ledger, 0), MEMORY_BLOCKS, held_bytes);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), 0);
    assert_true(esi_ledger_leased_bytes(ledger, MEMORY_TRANSIT) <=
                2 * THREADS * ledger->chunk_bytes);
    esi_ledger_free(ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_a_class_is_bounded_and_the_others_are_not_touched),
        cmocka_unit_test(test_a_chunk_is_spent_without_touching_the_class),
        cmocka_unit_test(test_without_a_ledger_nothing_is_refused),
        cmocka_unit_test(test_threads_share_a_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
