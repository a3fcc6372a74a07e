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
    uint64_t cursor = 0;
    uint32_t seen = 0;
    while (esi_rcu_map_next(&map, &cursor) != NULL) {
        seen++;
    }
    assert_int_equal(seen, count);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        assert_ptr_equal(esi_rcu_map_find(&map, items[i].entry.key, items[i].entry.hash),
                         items[i].is_in ? &items[i].entry : NULL);
        if (items[i].is_in) {
            struct esi_rcu_entry fresh = items[i].entry;
            esi_rcu_map_replace(&map, &items[i].entry, &fresh);
            assert_ptr_equal(esi_rcu_map_find(&map, fresh.key, fresh.hash), &fresh);
            esi_rcu_map_replace(&map, &fresh, &items[i].entry);
        }
    }
    /* Tables are built anew as the map grows, not because entries come and go. */
    const size_t tables = free_all(retired);
    assert_true(inserts > STEPS / 3);
    assert_true(tables > 2 && tables < 10);
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

/* Goal: what was made for many does not stay when few are left. Method: the table is built anew at
 * an insert after most have gone. */
static void test_shrinks(void **state)
{
    enum { MANY = 20000 };
    static struct esi_rcu_entry entries[MANY];
    static char keys[MANY][8];
    struct esi_rcu_map map;
    struct esi_retired *retired = NULL;

    (void)state;
    esi_rcu_map_init(&map);
    for (uint32_t i = 0; i < MANY; i++) {
        const int len = snprintf(keys[i], sizeof keys[i], "%u", i);
        entries[i] = (struct esi_rcu_entry){.hash = spread(i + 1),
                                            .key = {.data = keys[i], .len = (size_t)len}};
        assert_int_equal(esi_rcu_map_insert(&map, &entries[i], &retired), ES_OK);
    }
    free_all(retired);
    for (uint32_t i = 0; i < MANY - 10; i++) {
        esi_rcu_map_remove(&map, &entries[i]);
    }
    retired = NULL;
    assert_int_equal(esi_rcu_map_insert(&map, &entries[0], &retired), ES_OK);
    assert_int_equal(free_all(retired), 1);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ptr_equal(esi_rcu_map_find(&map, entries[i].key, entries[i].hash),
                         i == 0 || i >= MANY - 10 ? &entries[i] : NULL);
    }
    esi_rcu_map_deinit(&map);
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
        cmocka_unit_test(test_shrinks),
        cmocka_unit_test(test_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
