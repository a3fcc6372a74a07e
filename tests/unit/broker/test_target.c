/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: slots are small, unique among the living, bounded and used again. Method: random comings
 * and goings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/target.h"

#include <string.h>

enum { SLOTS = 100, STEPS = 20000 };

static void test_slots(void **state)
{
    static struct esi_target all[SLOTS + 10];
    bool is_in[SLOTS + 10] = {false};
    struct esi_targets *targets = NULL;
    uint64_t random = 11;
    uint32_t count = 0;
    uint32_t refused = 0;

    (void)state;
    assert_int_equal(esi_targets_new(SLOTS, &targets), ES_OK);
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        const uint32_t i = (uint32_t)(random >> 40) % (SLOTS + 10);
        if (is_in[i]) {
            if (random >> 62 == 0) {
                esi_targets_remove(targets, &all[i]);
                is_in[i] = false;
                count--;
            }
            continue;
        }
        const enum es_err err = esi_targets_add(targets, &all[i]);
        assert_int_equal(err, count == SLOTS ? ES_FULL : ES_OK);
        if (err != ES_OK) {
            refused++;
            continue;
        }
        is_in[i] = true;
        count++;
        assert_true(all[i].slot < SLOTS);
        assert_true(all[i].slot < esi_targets_slot_limit(targets));
        for (uint32_t j = 0; j < SLOTS + 10; j++) {
            assert_true(j == i || !is_in[j] || all[j].slot != all[i].slot);
        }
    }
    assert_true(refused > 0);
    assert_true(esi_targets_slot_limit(targets) <= SLOTS);
    esi_targets_free(targets);
    esi_targets_free(NULL);
}

static void test_a_new_target_starts_from_nothing(void **state)
{
    struct esi_targets *targets = NULL;
    struct esi_target target;

    (void)state;
    memset(&target, 0xff, sizeof target);
    assert_int_equal(esi_targets_new(1, &targets), ES_OK);
    assert_int_equal(esi_targets_slot_limit(targets), 0);
    assert_int_equal(esi_targets_add(targets, &target), ES_OK);
    /* order: relaxed; one thread. */
    assert_int_equal(atomic_load_explicit(&target.pending_bytes, memory_order_relaxed), 0);
    /* order: relaxed; one thread. */
    assert_int_equal(atomic_load_explicit(&target.progress_ns, memory_order_relaxed), 0);
    /* order: relaxed; one thread. */
    assert_false(atomic_load_explicit(&target.is_gone, memory_order_relaxed));
    esi_targets_remove(targets, &target);
    esi_targets_free(targets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_a_new_target_starts_from_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
