/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: runs of bytes are compared and copied by their length, never to a NUL. Method: small
 * values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/str.h"

#include <stdlib.h>

static const struct esi_str nothing = {.data = NULL, .len = 0};

static void test_equal(void **state)
{
    (void)state;
    assert_true(esi_str_equal(ESI_STR("a\0b"), ESI_STR("a\0b")));
    assert_false(esi_str_equal(ESI_STR("a\0b"), ESI_STR("a\0c")));
    assert_false(esi_str_equal(ESI_STR("a"), ESI_STR("ab")));
    assert_true(esi_str_equal(nothing, ESI_STR("")));
    assert_true(esi_str_equal(esi_str_from(NULL), nothing));
    assert_int_equal(esi_str_from("abc").len, 3);
}

static void test_starts_with(void **state)
{
    (void)state;
    assert_true(esi_str_starts_with(ESI_STR("_INBOX.x"), ESI_STR("_INBOX.")));
    assert_true(esi_str_starts_with(ESI_STR("a"), ESI_STR("a")));
    assert_false(esi_str_starts_with(ESI_STR("a"), ESI_STR("ab")));
    assert_false(esi_str_starts_with(ESI_STR("ba"), ESI_STR("a")));
    assert_true(esi_str_starts_with(ESI_STR("a"), nothing));
    assert_true(esi_str_starts_with(nothing, nothing));
    assert_false(esi_str_starts_with(nothing, ESI_STR("a")));
}

static void test_dup_ends_with_nul(void **state)
{
    (void)state;
    char *copy = esi_str_dup((struct esi_str){.data = "abcdef", .len = 3});
    assert_string_equal(copy, "abc");
    free(copy);
    copy = esi_str_dup(nothing);
    assert_string_equal(copy, "");
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_starts_with),
        cmocka_unit_test(test_dup_ends_with_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
