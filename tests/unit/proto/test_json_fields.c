/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: one JSON object is read as Go reads it. Method: good and bad texts, each in a heap copy of
 * exact size, and the values that come out.
 */
#include "proto/json_fields.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum es_err open_text(const char *text, size_t len)
{
    struct esi_json_fields fields;
    struct esi_json_field field;
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    const enum es_err err =
        esi_json_fields_open((struct esi_str){.data = copy, .len = len}, &fields);
    while (err == ES_OK && esi_json_fields_next(&fields, &field)) {
        assert_true(field.value.raw.len > 0);
    }
    free(copy);
    return err;
}

static void test_well_formed(void **state)
{
    static const char *const good[] = {
        "{}",
        "null",
        " null ",
        "\t{ }\r\n",
        "{\"a\":1}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"a\":[{},[],1,\"x\"]}",
        "{\"a\":-0.5e+10,\"b\":0,\"c\":1E5}",
        "{\"\":\"\"}",
        "{\"a\":\"\\u0000\\ud800\\n\"}",
        "{\"a\":1e999999}",
        "{ \"a\" : true , \"b\" : false }",
        "{\"a\":\"\xff\xfe\"}",
    };
    static const char *const bad[] = {
        "",
        " ",
        "x",
        "[]",
        "1",
        "true",
        "\"a\"",
        "{",
        "}",
        "{}{}",
        "{} {}",
        "{},",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":tru}",
        "{\"a\":nul}",
        "nul",
        "nulll",
        "{\"a\":\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":[1}}",
        "{\"a\":{]}",
        "{\"a\":[1",
        "{\"a\":\"\\",
        "{\"a\"",
        "{\"a\":NaN}",
        "\xef\xbb\xbf{}",
        "{\"a\":1}\x01",
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good); i++) {
        if (open_text(good[i], strlen(good[i])) != ES_OK) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        if (open_text(bad[i], strlen(bad[i])) != ES_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    assert_int_equal(open_text("{\"a\":\"\0\"}", 9), ES_INVALID);
    assert_int_equal(open_text("{}\0", 3), ES_INVALID);
}

/* Every prefix of a good text is refused and reads nothing behind its end. */
static void test_prefixes(void **state)
{
    const char *text = "{\"a\":[true,null,{\"b\":\"\\u00e9\\\"\"}],\"c\":-1.5e3,\"d\":\"x\"}";

    (void)state;
    for (size_t len = 0; len < strlen(text); len++) {
        assert_int_equal(open_text(text, len), ES_INVALID);
    }
    assert_int_equal(open_text(text, strlen(text)), ES_OK);
}

static void test_depth(void **state)
{
    char text[2 * ESI_JSON_FIELDS_DEPTH_MAX + 16];

    (void)state;
    for (size_t depth = ESI_JSON_FIELDS_DEPTH_MAX - 1; depth <= ESI_JSON_FIELDS_DEPTH_MAX;
         depth++) {
        size_t len = 0;
        memcpy(text, "{\"a\":", 5);
        len = 5;
        memset(text + len, '[', depth);
        len += depth;
        memset(text + len, ']', depth);
        len += depth;
        text[len++] = '}';
        /* The object itself is one level. */
        assert_int_equal(open_text(text, len),
                         depth < ESI_JSON_FIELDS_DEPTH_MAX ? ES_OK : ES_INVALID);
    }
}

static struct esi_json_value value_of(const char *json, const char *name)
{
    struct esi_json_fields fields;
    struct esi_json_field field;
    struct esi_json_value value = {0};
    int found = 0;

    assert_int_equal(esi_json_fields_open(esi_str_from(json), &fields), ES_OK);
    while (esi_json_fields_next(&fields, &field)) {
        if (strcmp(field.name, name) == 0) {
            value = field.value;
            found++;
        }
    }
    assert_int_equal(found, 1);
    return value;
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(value_of("{\"VerBose\":1}", "verbose").type, JSON_FIELD_NUMBER);
    assert_int_equal(value_of("{\"verbos\\u0065\":true}", "verbose").type, JSON_FIELD_BOOL);
    assert_int_equal(
        value_of("{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":1}", "")
            .type,
        JSON_FIELD_NUMBER);
    assert_int_equal(value_of("{\"a\\u0000\":1,\"b\":{\"c\":[]}}", "b").type, JSON_FIELD_OBJECT);
}

static void expect_decoded(const char *json, const char *expected, size_t len)
{
    const struct esi_json_value value = value_of(json, "a");
    struct esi_str out = {0};

    assert_int_equal(esi_json_fields_read_str(&value, &out), ES_OK);
    if (out.len != len || memcmp(out.data, expected, len) != 0) {
        fail_msg("%s was read as \"%.*s\"", json, (int)out.len, out.data);
    }
    assert_int_equal(out.data[out.len], '\0');
    free((char *)(uintptr_t)out.data);
}

static void test_strings(void **state)
{
    (void)state;
    expect_decoded("{\"a\":\"\"}", "", 0);
    expect_decoded("{\"a\":\"x\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "x\"\\/\b\f\n\r\t", 9);
    expect_decoded("{\"a\":\"\\u00e9\\u4f60\\ud83d\\ude00\"}",
                   "\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x98\x80", 9);
    expect_decoded("{\"a\":\"\\u0000b\"}", "\0b", 2);
    expect_decoded("{\"a\":\"\xff\xfe!\"}", "\xef\xbf\xbd\xef\xbf\xbd!", 7);
    expect_decoded("{\"a\":\"\\ud83dx\"}", "\xef\xbf\xbdx", 4);
    expect_decoded("{\"a\":\"\\ude00\\ud83d\"}", "\xef\xbf\xbd\xef\xbf\xbd", 6);
    expect_decoded("{\"a\":\"\\ud83d\\ud83d\\ude00\"}", "\xef\xbf\xbd\xf0\x9f\x98\x80", 7);
    expect_decoded("{\"a\":\"\\uD83D\\u0041\"}", "\xef\xbf\xbd\x41", 4);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *json;
        int64_t expected;
        bool is_good;
    } rows[] = {
        {"{\"a\":0}", 0, true},
        {"{\"a\":-1}", -1, true},
        {"{\"a\":9223372036854775807}", INT64_MAX, true},
        {"{\"a\":-9223372036854775808}", INT64_MIN, true},
        {"{\"a\":9223372036854775808}", 0, false},
        {"{\"a\":-9223372036854775809}", 0, false},
        {"{\"a\":1.0}", 0, false},
        {"{\"a\":1e3}", 0, false},
        {"{\"a\":\"1\"}", 0, false},
        {"{\"a\":true}", 0, false},
        {"{\"a\":null}", 77, true},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        const struct esi_json_value value = value_of(rows[i].json, "a");
        int64_t out = 77;
        assert_int_equal(esi_json_fields_read_i64(&value, &out),
                         rows[i].is_good ? ES_OK : ES_INVALID);
        assert_int_equal(out, rows[i].is_good ? rows[i].expected : 77);
    }
}

static void test_wrong_types_and_items(void **state)
{
    const struct esi_json_value number = value_of("{\"a\":1}", "a");
    const struct esi_json_value list = value_of("{\"a\":[\"x\",[1,2],{}, 3 ]}", "a");
    struct esi_json_fields items;
    struct esi_json_value item;
    bool flag = true;
    struct esi_str text = {0};
    size_t count = 0;

    (void)state;
    assert_int_equal(esi_json_fields_read_bool(&number, &flag), ES_INVALID);
    assert_int_equal(esi_json_fields_read_str(&number, &text), ES_INVALID);
    assert_int_equal(esi_json_fields_items(&number, &items), ES_INVALID);
    assert_null(text.data);
    assert_int_equal(esi_json_fields_items(&list, &items), ES_OK);
    const enum esi_json_type types[] = {JSON_FIELD_STRING, JSON_FIELD_ARRAY, JSON_FIELD_OBJECT,
                                        JSON_FIELD_NUMBER};
    while (esi_json_fields_next_item(&items, &item)) {
        assert_true(count < ESI_COUNT_OF(types));
        assert_int_equal(item.type, types[count]);
        count++;
    }
    assert_int_equal(count, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_wrong_types_and_items),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
