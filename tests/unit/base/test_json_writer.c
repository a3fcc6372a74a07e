/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is written is JSON, in both layouts, whatever bytes and numbers it is given. Method:
 * expected texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json_writer.h"

#include <math.h>
#include <string.h>

static struct esi_bytes out;
static struct esi_json_writer json;

static void begin(bool is_indented)
{
    esi_bytes_init(&out, 0);
    esi_json_writer_init(&json, &out, is_indented);
}

static void expect(const char *text)
{
    esi_bytes_append(&out, "", 1);
    assert_string_equal(out.data, text);
    esi_bytes_deinit(&out);
}

static void write_sample(void)
{
    esi_json_writer_object_start(&json);
    esi_json_writer_field_u64(&json, "u", UINT64_MAX);
    esi_json_writer_field_i64(&json, "i", INT64_MIN);
    esi_json_writer_field_bool(&json, "b", true);
    esi_json_writer_field_text(&json, "t", NULL);
    esi_json_writer_key(&json, "a");
    esi_json_writer_array_start(&json);
    esi_json_writer_u64(&json, 1);
    esi_json_writer_null(&json);
    esi_json_writer_object_start(&json);
    esi_json_writer_object_end(&json);
    esi_json_writer_array_end(&json);
    esi_json_writer_key(&json, "e");
    esi_json_writer_array_start(&json);
    esi_json_writer_array_end(&json);
    esi_json_writer_object_end(&json);
}

static void test_compact(void **state)
{
    (void)state;
    begin(false);
    write_sample();
    expect("{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"b\":true,\"t\":\"\",\"a\":[1,"
           "null,{}],"
           "\"e\":[]}");
}

static void test_indented(void **state)
{
    (void)state;
    begin(true);
    write_sample();
    expect("{\n  \"u\": 18446744073709551615,\n  \"i\": -9223372036854775808,\n  \"b\": true,\n  "
           "\"t\": \"\",\n"
           "  \"a\": [\n    1,\n    null,\n    {}\n  ],\n  \"e\": []\n}");
}

static void test_strings_are_escaped(void **state)
{
    (void)state;
    begin(false);
    esi_json_writer_str(&json, ESI_STR("a\"b\\c\n\x01\x7f<>&/ü€😀"));
    expect("\"a\\\"b\\\\c\\u000a\\u0001\\u007f\\u003c\\u003e\\u0026/ü€😀\"");
}

static void test_bad_utf8_is_replaced(void **state)
{
    (void)state;
    begin(false);
    /* lone continuation; overlong; surrogate; beyond the last code point; cut off at the end */
    esi_json_writer_str(&json, ESI_STR("\x80|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82"));
    expect("\"\\ufffd|\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd\\ufffd|"
           "\\ufffd\\ufffd\"");
}

static void test_a_cut_sequence_reads_no_further(void **state)
{
    /* On the heap, so that a read behind its end is found. */
    char *cut = test_malloc(1);

    (void)state;
    cut[0] = (char)0xe2;
    begin(false);
    esi_json_writer_str(&json, (struct esi_str){.data = cut, .len = 1});
    expect("\"\\ufffd\"");
    test_free(cut);
}

/* JSON has no way to write these. */
static void test_doubles(void **state)
{
    (void)state;
    begin(false);
    esi_json_writer_array_start(&json);
    esi_json_writer_double(&json, 1.5);
    esi_json_writer_double(&json, 0);
    esi_json_writer_double(&json, 1e300);
    esi_json_writer_double(&json, (double)NAN);
    esi_json_writer_double(&json, (double)INFINITY);
    esi_json_writer_double(&json, (double)-INFINITY);
    esi_json_writer_array_end(&json);
    expect("[1.5,0,1e+300,null,null,null]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_indented),
        cmocka_unit_test(test_strings_are_escaped),
        cmocka_unit_test(test_bad_utf8_is_replaced),
        cmocka_unit_test(test_a_cut_sequence_reads_no_further),
        cmocka_unit_test(test_doubles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
