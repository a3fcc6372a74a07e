/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: fields are read from protobuf bytes exactly, and nothing that is no field is taken for one.
 * Method: hand-made bytes for each wire type, for each way of being cut or broken, and RFC 3629's
 * corner cases.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/wire.h"

static void reads_each_wire_type(void **state)
{
    struct esi_str rest = ESI_STR("\x08\x96\x01"
                                  "\x11\x01\x02\x03\x04\x05\x06\x07\x08"
                                  "\x1a\x03"
                                  "abc"
                                  "\x25\x01\x00\x00\x80");
    struct esi_wire_field field;

    (void)state;
    assert_int_equal(esi_wire_next(&rest, &field), ES_OK);
    assert_int_equal(field.number, 1);
    assert_int_equal(field.type, WIRE_VARINT);
    assert_int_equal(field.value, 150);
    assert_int_equal(field.whole.len, 3);
    assert_int_equal(esi_wire_next(&rest, &field), ES_OK);
    assert_int_equal(field.type, WIRE_I64);
    assert_int_equal(field.value, 0x0807060504030201);
    assert_int_equal(esi_wire_next(&rest, &field), ES_OK);
    assert_int_equal(field.number, 3);
    assert_true(esi_str_equal(field.bytes, ESI_STR("abc")));
    assert_int_equal(field.whole.len, 5);
    assert_int_equal(esi_wire_next(&rest, &field), ES_OK);
    assert_int_equal(field.type, WIRE_I32);
    assert_int_equal(field.value, 0x80000001);
    assert_int_equal(esi_wire_next(&rest, &field), ES_AGAIN);
}

static void reads_the_greatest_values(void **state)
{
    struct esi_str varint = ESI_STR("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    struct esi_str number = ESI_STR("\xf8\xff\xff\xff\x0f\x00");
    struct esi_wire_field field;

    (void)state;
    assert_int_equal(esi_wire_next(&varint, &field), ES_OK);
    assert_true(field.value == UINT64_MAX);
    assert_int_equal(esi_wire_next(&number, &field), ES_OK);
    assert_int_equal(field.number, (1 << 29) - 1);
}

static void refuses_what_is_no_field(void **state)
{
    static const struct esi_str broken[] = {
        {"\x00\x01", 2},                                          /* field number 0 */
        {"\x0b", 1},                                              /* a group's start */
        {"\x0c", 1},                                              /* a group's end */
        {"\x0e\x01", 2},                                          /* wire type 6 */
        {"\x0f\x01", 2},                                          /* wire type 7 */
        {"\x08", 1},                                              /* a varint without a byte */
        {"\x08\x80", 2},                                          /* a varint cut */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},     /* more than 64 bits */
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12}, /* more than 10 bytes */
        {"\x88\x80\x80\x80\x80\x00\x00", 7},                      /* a tag of 6 bytes */
        {"\xf8\xff\xff\xff\x1f\x00", 6},                          /* field number 2^29 and more */
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8},                  /* 64 bits cut */
        {"\x0d\x01\x02\x03", 4},                                  /* 32 bits cut */
        {"\x0a\x04"
         "abc",
         5},                                                  /* content cut */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* a length of 2^64 - 1 */
        {"\x0a\xff\xff\xff\xff\x0f"
         "abc",
         9}, /* a length of 2^32 - 1 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        /* A copy of exactly this size: reading past the end is then seen by the sanitizer. */
        char *copy = malloc(broken[i].len);
        assert_non_null(copy);
        memcpy(copy, broken[i].data, broken[i].len);
        struct esi_str rest = {copy, broken[i].len};
        struct esi_wire_field field = {.number = 77};
        if (esi_wire_next(&rest, &field) != ES_INVALID) {
            fail_msg("case %zu was taken for a field", i);
        }
        assert_int_equal(field.number, 77);
        assert_ptr_equal(rest.data, copy);
        free(copy);
    }
}

static void knows_utf8(void **state)
{
    static const struct {
        const char *text;
        bool is_utf8;
    } cases[] = {
        {"", true},
        {"plain ascii, longer than eight bytes", true},
        {"caf\xc3\xa9", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80 after", true},
        {"12345678\xc3\xa9", true},
        {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", true},
        {"\x80", false},
        {"1234567\x80", false},
        {"\xc0\xaf", false},         /* overlong */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* a surrogate */
        {"\xf4\x90\x80\x80", false}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", false},
        {"\xff", false},
        {"\xc3", false},
        {"\xe2\x82", false},
        {"\xe2\x82x", false},
        {"\xf0\x9f\x98", false},
        {"\xc3(", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (esi_wire_is_utf8(esi_str_from(cases[i].text)) != cases[i].is_utf8) {
            fail_msg("case %zu: expected %s", i, cases[i].is_utf8 ? "UTF-8" : "not UTF-8");
        }
    }
    assert_true(esi_wire_is_utf8((struct esi_str){"a\0b", 3}));
}

static void writes_what_it_reads(void **state)
{
    static const size_t sizes[] = {0, 1, 127, 128, 16383, 16384, 70000};
    char *content = calloc(1, 70000);

    (void)state;
    assert_non_null(content);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct esi_bytes bytes;
        struct esi_wire_field field;
        esi_bytes_init(&bytes, 0);
        esi_wire_append_bytes(&bytes, 15, (struct esi_str){content, sizes[i]});
        assert_false(bytes.failed);
        struct esi_str rest = esi_bytes_str(&bytes);
        assert_int_equal(esi_wire_next(&rest, &field), ES_OK);
        assert_int_equal(field.number, 15);
        assert_int_equal(field.bytes.len, sizes[i]);
        assert_int_equal(rest.len, 0);
        esi_bytes_deinit(&bytes);
    }
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_each_wire_type),     cmocka_unit_test(reads_the_greatest_values),
        cmocka_unit_test(refuses_what_is_no_field), cmocka_unit_test(knows_utf8),
        cmocka_unit_test(writes_what_it_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
