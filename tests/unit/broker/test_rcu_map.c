/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the map finds exactly what is in it, through growth and many removals. Method: random
 * changes against flags, with hashes that collide in every way; readers beside the writer are
 * tested in tests/stress.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/rcu_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 400, STEPS = 50000 };

static struct {
    struct esi_rcu_entry entry;
    char key[16];
    bool is_in;
} items[ENTRIES];

static uint64_t random_state = 5;

static uint32_t draw_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % limit);
}

static size_t free_all(struct esi_retired *retired)
{
    size_t count = 0;

    while (retired != NULL) {
        struct esi_retired *next = retired->next;
        free(retired);
        retired = next;
        count++;
    }
    return count;
}

static void run(uint64_t (*hash_of)(uint32_t index))
{
    struct esi_rcu_map map;
    struct esi_retired *retired = NULL;
    uint32_t count = 0;
    uint32_t inserts = 0;

    esi_rcu_map_init(&map);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        const int len = snprintf(items[i].key, sizeof items[i].key, "k%u", i);
        items[i].entry = (struct esi_rcu_entry){.hash = hash_of(i),
                                                .key = {.data = items[i].key, .len = (size_t)len}};
        items[i].is_in = false;
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        const uint32_t i = draw_below(ENTRIES);
        if (items[i].is_in) {
            esi_rcu_map_remove(&map, &items[i].entry);
            count--;
        } else {
            assert_int_equal(esi_rcu_map_insert(&map, &items[i].entry, &retired), ES_OK);
            count++;
            inserts++;
        }
        items[i].is_in = !items[i].is_in;
        assert_int_equal(map.count, count);
        const uint32_t j = draw_below(ENTRIES);
        assert_ptr_equal(esi_rcu_map_find(&map, items[j].entry.key, items[j].entry.hash),
                         items[j].is_in ? &items[j].entry : NULL);
    }
    for (uint32_t i = 0; i < ENTRIES; i++) {
        assert_ptr_equal(esi_rcu_map_find(&map, items[i].entry.key, items[i].entry.hash),
                         items[i].is_in ? &items[i].entry : NULL);
    }
    /* Tables are built anew in proportion to changes, not at every one. */
    const size_t tables = free_all(retired);
    assert_true(inserts > STEPS / 3);
    assert_true(tables > 2 && tables < inserts / 10);
    esi_rcu_map_deinit(&map);
}

static uint64_t spread(uint32_t index)
{
    return index * 0x9e3779b97f4a7c15ULL;
}

static uint64_t all_the_same(uint32_t index)
{
    (void)index;
    return 0xffffffffffffffffULL;
}

static uint64_t few(uint32_t index)
{
    return (uint64_t)(index % 7) << 16;
}

static void test_spread_hashes(void **state)
{
    (void)state;
    run(spread);
}

static void test_colliding_hashes(void **state)
{
    (void)state;
    run(all_the_same);
    run(few);
}

static void test_empty(void **state)
{
    struct esi_rcu_map map;

    (void)state;
    esi_rcu_map_init(&map);
    assert_null(esi_rcu_map_find(&map, ESI_STR("a"), 1));
    esi_rcu_map_deinit(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread_hashes),
        cmocka_unit_test(test_colliding_hashes),
        cmocka_unit_test(test_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
