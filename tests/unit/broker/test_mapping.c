/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a subject may be used as often and as long as was said, the oldest gives way, and memory
 * stays bounded. Method: small cases with a given time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/mapping.h"

#include <stdio.h>

static void test_use(void **state)
{
    struct esi_mapping mapping;
    struct esi_str mapped;

    (void)state;
    esi_mapping_init(&mapping, 10);
    assert_true(esi_mapping_is_empty(&mapping));
    assert_false(esi_mapping_use(&mapping, ESI_STR("a"), 0, &mapped));
    esi_mapping_add(&mapping, ESI_STR("a"), ESI_STR("_GR_.x.a"), 2, 100);
    esi_mapping_add(&mapping, ESI_STR("b"), ESI_STR(""), -1, 100);
    assert_false(esi_mapping_is_empty(&mapping));
    assert_true(esi_mapping_use(&mapping, ESI_STR("a"), 50, &mapped));
    assert_int_equal(mapped.len, 8);
    assert_memory_equal(mapped.data, "_GR_.x.a", 8);
    assert_true(esi_mapping_use(&mapping, ESI_STR("a"), 50, NULL));
    assert_false(esi_mapping_use(&mapping, ESI_STR("a"), 50, &mapped));
    for (int i = 0; i < 100; i++) {
        assert_true(esi_mapping_use(&mapping, ESI_STR("b"), 99, &mapped));
        assert_int_equal(mapped.len, 0);
    }
    assert_false(esi_mapping_use(&mapping, ESI_STR("b"), 100, &mapped));
    assert_true(esi_mapping_is_empty(&mapping));
    esi_mapping_deinit(&mapping);
}

static void test_renewal(void **state)
{
    struct esi_mapping mapping;
    struct esi_str mapped;

    (void)state;
    esi_mapping_init(&mapping, 2);
    esi_mapping_add(&mapping, ESI_STR("a"), ESI_STR("1"), 1, 100);
    esi_mapping_add(&mapping, ESI_STR("b"), ESI_STR("2"), 1, 110);
    esi_mapping_add(&mapping, ESI_STR("a"), ESI_STR("3"), 1, 120);
    assert_int_equal(mapping.count, 2);
    /* b is the oldest now, and gives way. */
    esi_mapping_add(&mapping, ESI_STR("c"), ESI_STR("4"), 1, 130);
    assert_int_equal(mapping.count, 2);
    assert_false(esi_mapping_use(&mapping, ESI_STR("b"), 50, &mapped));
    assert_true(esi_mapping_use(&mapping, ESI_STR("a"), 119, &mapped));
    assert_int_equal(mapped.data[0], '3');
    assert_true(esi_mapping_use(&mapping, ESI_STR("c"), 119, &mapped));
    esi_mapping_deinit(&mapping);
}

static void test_bound(void **state)
{
    struct esi_mapping mapping;
    char subject[32];

    (void)state;
    esi_mapping_init(&mapping, 100);
    for (uint64_t i = 0; i < 10000; i++) {
        const int len = snprintf(subject, sizeof subject, "_INBOX.%llu", (unsigned long long)i);
        esi_mapping_add(&mapping, (struct esi_str){.data = subject, .len = (size_t)len},
                        ESI_STR("m"), 1, 1000000 + i);
        assert_true(mapping.count <= 100);
    }
    assert_int_equal(mapping.count, 100);
    assert_true(esi_mapping_use(&mapping, ESI_STR("_INBOX.9999"), 0, NULL));
    assert_true(esi_mapping_use(&mapping, ESI_STR("_INBOX.9900"), 0, NULL));
    assert_false(esi_mapping_use(&mapping, ESI_STR("_INBOX.9899"), 0, NULL));
    /* Time empties it, too. */
    assert_false(esi_mapping_use(&mapping, ESI_STR("_INBOX.9998"), 2000000, NULL));
    assert_int_equal(mapping.count, 0);
    esi_mapping_deinit(&mapping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_use),
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
