/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: header blocks are written well formed and read tolerantly. Method: blocks built here, good
 * ones and odd ones. */
#include "proto/headers.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_read(void **state)
{
    const struct esi_str block =
        ESI_STR("NATS/1.0 503 No Responders\r\nA: 1\r\nb:x y \t\r\nA:2\r\nEmpty:\r\n\r\nZ: 9\r\n");
    static const char *const expected[] = {"A", "1", "b", "x y", "A", "2", "Empty", ""};
    struct esi_headers_cursor cursor = esi_headers_lines(block);
    struct esi_str name;
    struct esi_str value;
    size_t i = 0;

    (void)state;
    while (esi_headers_next(&cursor, &name, &value)) {
        assert_true(i < ESI_COUNT_OF(expected));
        assert_true(esi_str_equal(name, esi_str_from(expected[i])));
        assert_true(esi_str_equal(value, esi_str_from(expected[i + 1])));
        i += 2;
    }
    assert_int_equal(i, ESI_COUNT_OF(expected));
    assert_false(esi_headers_next(&cursor, &name, &value));
    assert_int_equal(esi_headers_status(block), 503);
    assert_true(esi_headers_find(block, ESI_STR("a"), &value) &&
                esi_str_equal(value, ESI_STR("1")));
    assert_true(esi_headers_find(block, ESI_STR("B"), &value) &&
                esi_str_equal(value, ESI_STR("x y")));
    assert_false(esi_headers_find(block, ESI_STR("Z"), &value));
    assert_false(esi_headers_find(block, ESI_STR(""), &value));
}

static void test_odd_blocks(void **state)
{
    static const char *const odd[] = {"",
                                      "hi",
                                      "NATS/",
                                      "NATS/1.0",
                                      "NATS/1.0\r\n",
                                      "NATS/1.0\r\n\r\n",
                                      "HTTP/1.1 200 OK\r\nA: 1\r\n",
                                      "NATS/1.0\r\nnocolon\r\n:x\r\n",
                                      "NATS/1.0 5\r\n",
                                      "NATS/1.0 50x\r\n"};
    struct esi_str value;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(odd); i++) {
        const size_t len = strlen(odd[i]);
        char *copy = malloc(len > 0 ? len : 1);
        assert_non_null(copy);
        memcpy(copy, odd[i], len);
        const struct esi_str block = {.data = copy, .len = len};
        struct esi_headers_cursor cursor = esi_headers_lines(block);
        struct esi_str name;
        assert_false(esi_headers_next(&cursor, &name, &value));
        assert_int_equal(esi_headers_status(block), 0);
        free(copy);
    }
    /* A line without its end still counts; lines without a colon are passed over. */
    assert_true(esi_headers_find(ESI_STR("NATS/1.0\nbad\nA: 1"), ESI_STR("A"), &value));
    assert_true(esi_str_equal(value, ESI_STR("1")));
    assert_false(esi_headers_find((struct esi_str){0}, ESI_STR("A"), &value));
}

static void test_write(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_headers_begin(&out);
    esi_headers_add(&out, ESI_STR("ce-type"), ESI_STR("x"));
    esi_headers_add(&out, ESI_STR("evil"), ESI_STR("a\r\nforged: 1"));
    esi_headers_end(&out);
    assert_true(esi_str_equal(esi_bytes_str(&out),
                              ESI_STR("NATS/1.0\r\nce-type: x\r\nevil: a  forged: 1\r\n\r\n")));
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_odd_blocks),
        cmocka_unit_test(test_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
