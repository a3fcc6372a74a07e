/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each code point has one encoding, which is read back, and nothing else is UTF-8. Method:
 * all code points, and all sequences of up to three bytes, which must be the encoding of what they
 * decode to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"

static void every_code_point_comes_back(void **state)
{
    char bytes[4];
    uint32_t code;

    (void)state;
    for (uint32_t wanted = 0; wanted <= 0x110000; wanted++) {
        const size_t len = esi_utf8_encode(wanted, bytes);
        const int is_character = (wanted < 0xd800 || wanted > 0xdfff) && wanted <= 0x10ffff;
        code = 0xffffffff;
        assert_int_equal(esi_utf8_decode(bytes, len, &code), is_character ? len : 0);
        assert_int_equal(code, is_character ? wanted : 0xffffffff);
        /* Cut short. */
        assert_true(len == 1 || esi_utf8_decode(bytes, len - 1, &code) == 0);
    }
}

static void nothing_else_is_utf8(void **state)
{
    char bytes[3];
    char again[4];
    uint32_t code;

    (void)state;
    for (uint32_t all = 0; all < 1U << 24; all++) {
        bytes[0] = (char)(all >> 16);
        bytes[1] = (char)(all >> 8);
        bytes[2] = (char)all;
        const size_t len = esi_utf8_decode(bytes, sizeof bytes, &code);
        if (len > 0 && (esi_utf8_encode(code, again) != len || memcmp(again, bytes, len) != 0)) {
            fail_msg("%06x was taken for U+%04X", all, code);
        }
    }
}

static void long_sequences_are_strict(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        {"\xf0\x90\x80\x80", 4}, {"\xf4\x8f\xbf\xbf", 4}, {"\xf0\x8f\xbf\xbf", 0},
        {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"\xf0\x90\x80\x41", 0},
        {"\xf0\x90\x41\x80", 0}, {"\xf0\x41\x80\x80", 0},
    };
    uint32_t code;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(esi_utf8_decode(cases[i].text, 4, &code), cases[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_comes_back),
        cmocka_unit_test(nothing_else_is_utf8),
        cmocka_unit_test(long_sequences_are_strict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
