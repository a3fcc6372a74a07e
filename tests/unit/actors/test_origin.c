/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: what belongs to one peer is one origin, and no two are mixed up. Method: pairs of addresses
 * that must be, or must not be, the same. */
#include "actors/origin.h"
#include "base/own.h"
#include "env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool is_same(const char *a, const char *b)
{
    struct esi_address first = {.host = ""};
    struct esi_address second = {.host = "", .port = 7};

    snprintf(first.host, sizeof first.host, "%s", a);
    snprintf(second.host, sizeof second.host, "%s", b);
    const struct esi_origin x = esi_origin_of(&first);
    const struct esi_origin y = esi_origin_of(&second);
    assert_true(esi_str_equal(esi_origin_key(&x), esi_origin_key(&y)) ==
                (memcmp(&x, &y, sizeof x) == 0));
    return memcmp(&x, &y, sizeof x) == 0;
}

static void test_ipv4(void **state)
{
    (void)state;
    assert_true(is_same("127.0.0.1", "127.0.0.1"));
    assert_false(is_same("127.0.0.1", "127.0.0.2"));
    assert_false(is_same("10.0.0.1", "11.0.0.1"));
    assert_true(is_same("10.0.0.1", "::ffff:10.0.0.1"));
    assert_false(is_same("10.0.0.1", "::ffff:10.0.0.2"));
}

static void test_ipv6(void **state)
{
    (void)state;
    assert_true(is_same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert_false(is_same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    assert_false(is_same("::1", "127.0.0.1"));
    assert_true(is_same("fe80::1%eth0", "fe80::2"));
}

/* What cannot be read is one origin too: it gets no more than any other. */
static void test_unreadable(void **state)
{
    (void)state;
    assert_true(is_same("", "nonsense"));
    assert_true(is_same("1.2.3", "%"));
    assert_false(is_same("", "0.0.0.0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ipv4), cmocka_unit_test(test_ipv6),
                                       cmocka_unit_test(test_unreadable)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
