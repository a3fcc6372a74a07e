/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: numbers from outside are read without overflow, and written as they are. Method: values at
 * the edges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/num.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <string.h>

static void test_parse(void **state)
{
    static const char *const bad[] = {"",   "a",   "1a",  "-1", "+1", " 1",
                                      "1 ", "1.0", "0x1", "/",  ":"};
    uint64_t out = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(esi_num_parse(bad[i], strlen(bad[i]), 18, &out));
        assert_int_equal(out, 7);
    }
    assert_true(esi_num_parse("0", 1, 1, &out));
    assert_int_equal(out, 0);
    assert_true(esi_num_parse("000123", 6, 6, &out));
    assert_int_equal(out, 123);
    assert_false(esi_num_parse("000123", 6, 5, &out));
    assert_true(esi_num_parse("999999999999999999", 18, 18, &out));
    assert_int_equal(out, 999999999999999999ULL);
    assert_false(esi_num_parse("1000000000000000000", 19, 18, &out));
}

static void test_format(void **state)
{
    static const uint64_t values[] = {0,   1,        9,          10,        99,
                                      100, 12345678, UINT32_MAX, INT64_MAX, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char expected[32];
        char written[20];
        const int len = snprintf(expected, sizeof expected, "%llu", (unsigned long long)values[i]);
        assert_int_equal(esi_num_format(values[i], written), len);
        assert_memory_equal(written, expected, (size_t)len);
    }
}

static void test_hex_digit(void **state)
{
    static const char digits[] = "0123456789abcdef";

    (void)state;
    for (int c = 0; c < 256; c++) {
        const char *at = c != 0 ? strchr(digits, tolower(c)) : NULL;
        assert_int_equal(esi_num_hex_digit((char)c), at != NULL ? at - digits : -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_hex_digit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
