/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the map behaves as a plain list of pairs would, and a peer that knows the code cannot make
 * keys collide. Method: random inserts, removes and look-ups against a flat model; keys built
 * against the hash's constants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/hashmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 500, STEPS = 60000 };

struct item {
    char key[16];
    bool is_in;
    int value;
};

static struct item items[KEYS];
static uint64_t random_state = 0x1234567;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void check_all(const struct esi_hashmap *map)
{
    size_t count = 0;
    size_t seen = 0;
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    for (uint32_t i = 0; i < KEYS; i++) {
        void *found = esi_hashmap_find(map, esi_str_from(items[i].key));
        assert_ptr_equal(found, items[i].is_in ? &items[i].value : NULL);
        count += items[i].is_in;
    }
    assert_int_equal(map->count, count);
    while (esi_hashmap_next(map, &cursor, &key, &value)) {
        const struct item *item =
            (const struct item *)(const void *)(key.data - offsetof(struct item, key));
        assert_true(item->is_in);
        assert_ptr_equal(value, &item->value);
        seen++;
    }
    assert_int_equal(seen, count);
}

static void test_behaves_as_a_list(void **state)
{
    struct esi_hashmap map;
    uint32_t inserted = 0;
    uint32_t removed = 0;

    (void)state;
    for (uint32_t i = 0; i < KEYS; i++) {
        snprintf(items[i].key, sizeof items[i].key, "key.%u", i);
    }
    esi_hashmap_init(&map);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct item *item = &items[next_random() % KEYS];
        if (next_random() % 2 == 0) {
            assert_int_equal(esi_hashmap_insert(&map, esi_str_from(item->key), &item->value),
                             ES_OK);
            item->is_in = true;
            inserted++;
        } else {
            assert_ptr_equal(esi_hashmap_remove(&map, esi_str_from(item->key)),
                             item->is_in ? &item->value : NULL);
            item->is_in = false;
            removed++;
        }
        if (step % 1000 == 0) {
            check_all(&map);
        }
    }
    check_all(&map);
    assert_true(inserted > STEPS / 3 && removed > STEPS / 3);
    esi_hashmap_deinit(&map);
}

static void test_replace_takes_the_new_key(void **state)
{
    struct esi_hashmap map;
    char first[] = "k";
    char second[] = "k";
    int a = 1;
    int b = 2;
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    (void)state;
    esi_hashmap_init(&map);
    assert_null(esi_hashmap_find(&map, ESI_STR("k")));
    assert_null(esi_hashmap_remove(&map, ESI_STR("k")));
    assert_int_equal(esi_hashmap_insert(&map, esi_str_from(first), &a), ES_OK);
    assert_int_equal(esi_hashmap_insert(&map, esi_str_from(second), &b), ES_OK);
    assert_int_equal(map.count, 1);
    assert_true(esi_hashmap_next(&map, &cursor, &key, &value));
    assert_ptr_equal(key.data, second);
    assert_ptr_equal(value, &b);
    assert_false(esi_hashmap_next(&map, &cursor, &key, &value));
    esi_hashmap_deinit(&map);
}

/* A connection replaces a key that it knows to be there, and relies on that it cannot fail: no
 * memory is asked for. */
static void test_replace_never_grows(void **state)
{
    struct esi_hashmap map;
    char keys[12][4];
    int value = 0;

    (void)state;
    esi_hashmap_init(&map);
    for (uint32_t i = 0; i < 12; i++) {
        snprintf(keys[i], sizeof keys[i], "%u", i);
        assert_int_equal(esi_hashmap_insert(&map, esi_str_from(keys[i]), &value), ES_OK);
    }
    const size_t capacity = map.capacity;
    assert_int_equal(esi_hashmap_insert(&map, esi_str_from(keys[5]), &value), ES_OK);
    assert_int_equal(map.capacity, capacity);
    assert_int_equal(map.count, 12);
    esi_hashmap_deinit(&map);
}

static void test_empty_and_binary_keys(void **state)
{
    struct esi_hashmap map;
    int a = 1;
    int b = 2;

    (void)state;
    esi_hashmap_init(&map);
    assert_int_equal(esi_hashmap_insert(&map, ESI_STR(""), &a), ES_OK);
    assert_int_equal(esi_hashmap_insert(&map, ESI_STR("x\0y"), &b), ES_OK);
    assert_ptr_equal(esi_hashmap_find(&map, ESI_STR("")), &a);
    assert_ptr_equal(esi_hashmap_find(&map, ESI_STR("x\0y")), &b);
    assert_null(esi_hashmap_find(&map, ESI_STR("x\0z")));
    assert_null(esi_hashmap_find(&map, ESI_STR("x")));
    esi_hashmap_deinit(&map);
}

/*
 * Runs behind the seeding. Folded multiplication gives 0 when one factor is 0. Keys that begin with
 * a constant of the hash would cancel it, and with it all that makes them differ, if the constant
 * were not mixed with the secret seed.
 */
static void test_known_constants_do_not_collide(void **state)
{
    /* Those of the source, and of the family of hashes it belongs to. */
    static const uint64_t constants[] = {0xa0761d6478bd642fULL, 0x9e3779b97f4a7c15ULL,
                                         0xe7037ed1a0b428dbULL, 0x8ebc6af09c88c6e3ULL,
                                         0x589965cc75374cc3ULL, 0};

    (void)state;
    for (size_t c = 0; c < sizeof constants / sizeof constants[0]; c++) {
        for (size_t len = 16; len <= 40; len += 8) {
            for (size_t at = 0; at + 8 <= len; at += 8) {
                uint64_t hashes[64];
                for (uint32_t i = 0; i < 64; i++) {
                    char key[40];
                    memset(key, (int)(i + 1), sizeof key);
                    memcpy(key + at, &constants[c], 8);
                    hashes[i] = esi_hashmap_hash((struct esi_str){.data = key, .len = len});
                    for (uint32_t j = 0; j < i; j++) {
                        assert_int_not_equal(hashes[i], hashes[j]);
                    }
                }
            }
        }
    }
}

/* Every bit of every byte counts, at every length: no two close keys share a hash. */
static void test_each_byte_counts(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 70; len++) {
        char key[70];
        memset(key, 'a', sizeof key);
        const uint64_t hash = esi_hashmap_hash((struct esi_str){.data = key, .len = len});
        for (size_t i = 0; i < len; i++) {
            key[i] = 'b';
            assert_int_not_equal(esi_hashmap_hash((struct esi_str){.data = key, .len = len}), hash);
            key[i] = 'a';
        }
        assert_int_not_equal(esi_hashmap_hash((struct esi_str){.data = key, .len = len - 1}), hash);
    }
}

/* Buckets by the low bits fill evenly for the names that people use. */
static void test_low_bits_spread(void **state)
{
    uint32_t buckets[256] = {0};

    (void)state;
    for (uint32_t i = 0; i < 256 * 64; i++) {
        char key[32];
        const int len = snprintf(key, sizeof key, "orders.%u.created", i);
        buckets[esi_hashmap_hash((struct esi_str){.data = key, .len = (size_t)len}) & 255]++;
    }
    for (uint32_t i = 0; i < 256; i++) {
        assert_in_range(buckets[i], 16, 160);
    }
}

/* Runs late: the seed is the process's. */
static void test_seed_is_set_once(void **state)
{
    (void)state;
    const uint64_t unseeded = esi_hashmap_hash(ESI_STR("subject"));
    esi_hashmap_seed_once(1);
    const uint64_t first = esi_hashmap_hash(ESI_STR("subject"));
    esi_hashmap_seed_once(2);
    assert_int_equal(esi_hashmap_hash(ESI_STR("subject")), first);
    assert_int_not_equal(first, unseeded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behaves_as_a_list),
        cmocka_unit_test(test_replace_takes_the_new_key),
        cmocka_unit_test(test_replace_never_grows),
        cmocka_unit_test(test_empty_and_binary_keys),
        cmocka_unit_test(test_each_byte_counts),
        cmocka_unit_test(test_low_bits_spread),
        cmocka_unit_test(test_seed_is_set_once),
        cmocka_unit_test(test_known_constants_do_not_collide),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
