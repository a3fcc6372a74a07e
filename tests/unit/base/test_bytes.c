/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a buffer holds exactly what was appended, never more than its bound, and a failure is
 * remembered. Method: appends of every kind at the edges of growth and bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"

#include <string.h>

static void expect(const struct esi_bytes *bytes, const char *text)
{
    assert_int_equal(bytes->len, strlen(text));
    assert_memory_equal(bytes->data, text, strlen(text));
}

static void test_appends_in_order(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    assert_null(bytes.data);
    esi_bytes_append(&bytes, "ab", 2);
    esi_bytes_append_str(&bytes, ESI_STR("cd"));
    esi_bytes_append_text(&bytes, "ef");
    esi_bytes_printf(&bytes, "%d-%s", 42, "x");
    esi_bytes_append(&bytes, NULL, 0);
    expect(&bytes, "abcdef42-x");
    assert_false(bytes.failed);
    esi_bytes_deinit(&bytes);
    assert_null(bytes.data);
    assert_int_equal(bytes.len, 0);
}

static void test_grows_and_keeps_content(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        const unsigned char byte = (unsigned char)(i * 7);
        esi_bytes_append(&bytes, &byte, 1);
    }
    assert_int_equal(bytes.len, 20000);
    for (uint32_t i = 0; i < 20000; i++) {
        assert_int_equal((unsigned char)bytes.data[i], (unsigned char)(i * 7));
    }
    esi_bytes_deinit(&bytes);
}

static void test_bound_is_kept_and_failure_remembered(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 10);
    esi_bytes_append_text(&bytes, "0123456789");
    assert_false(bytes.failed);
    esi_bytes_append_text(&bytes, "x");
    assert_true(bytes.failed);
    esi_bytes_append_text(&bytes, "");
    expect(&bytes, "0123456789");
    esi_bytes_consume(&bytes, 9);
    /* There is room again, but what was left out must not be forgotten. */
    esi_bytes_append_text(&bytes, "y");
    expect(&bytes, "9");
    esi_bytes_clear(&bytes);
    assert_false(bytes.failed);
    esi_bytes_append_text(&bytes, "z");
    expect(&bytes, "z");
    esi_bytes_deinit(&bytes);
    assert_int_equal(bytes.capacity_max, 10);
}

/* A text that fits to the last byte is written by printf as by append. */
static void test_printf_reaches_the_bound(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 4);
    esi_bytes_printf(&bytes, "%s", "abcd");
    assert_false(bytes.failed);
    expect(&bytes, "abcd");
    esi_bytes_printf(&bytes, "%d", 1);
    assert_true(bytes.failed);
    expect(&bytes, "abcd");
    esi_bytes_deinit(&bytes);
}

static void test_consume_moves_the_rest(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    esi_bytes_append_text(&bytes, "hello world");
    esi_bytes_consume(&bytes, 0);
    esi_bytes_consume(&bytes, 6);
    expect(&bytes, "world");
    esi_bytes_consume(&bytes, 5);
    assert_int_equal(esi_bytes_str(&bytes).len, 0);
    esi_bytes_deinit(&bytes);
}

static void test_absurd_sizes_fail(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    esi_bytes_append_text(&bytes, "a");
    assert_null(esi_bytes_reserve(&bytes, SIZE_MAX));
    assert_true(bytes.failed);
    esi_bytes_clear(&bytes);
    assert_null(esi_bytes_reserve(&bytes, SIZE_MAX - 1));
    assert_true(bytes.failed);
    esi_bytes_deinit(&bytes);
}

static void test_wiped_is_empty(void **state)
{
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 8);
    esi_bytes_wipe(&bytes); /* nothing was ever allocated */
    esi_bytes_append_text(&bytes, "secret");
    esi_bytes_append_text(&bytes, "more");
    assert_true(bytes.failed);
    esi_bytes_wipe(&bytes);
    assert_null(bytes.data);
    assert_int_equal(bytes.len, 0);
    assert_false(bytes.failed);
    esi_bytes_append_text(&bytes, "12345678");
    assert_false(bytes.failed);
    assert_null(esi_bytes_reserve(&bytes, 1)); /* the bound has stayed */
    esi_bytes_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_in_order),
        cmocka_unit_test(test_grows_and_keeps_content),
        cmocka_unit_test(test_bound_is_kept_and_failure_remembered),
        cmocka_unit_test(test_printf_reaches_the_bound),
        cmocka_unit_test(test_consume_moves_the_rest),
        cmocka_unit_test(test_absurd_sizes_fail),
        cmocka_unit_test(test_wiped_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
