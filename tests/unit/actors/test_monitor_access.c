/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: only the whole token opens the pages, however the request is written. Method: request heads
 * through the HTTP parser.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "actors/monitor_access.h"
#include "config/config.h"
#include "net/http1.h"

static char token[] = "t0ken";

static bool is_allowed(char *wanted, const char *header)
{
    struct esi_config config = {.monitor = {.token = wanted}};
    struct esi_http1_request request;
    char head[256];
    unsigned status = 0;

    const int len = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", header);
    assert_int_equal(esi_http1_parse_head(head, (size_t)len, &request, &status), ES_OK);
    return esi_monitor_access_is_allowed(&config, &request);
}

static void opens_without_a_token(void **state)
{
    (void)state;
    assert_true(is_allowed(NULL, ""));
    assert_true(is_allowed(NULL, "Authorization: Bearer x\r\n"));
}

static void wants_the_token(void **state)
{
    (void)state;
    assert_true(is_allowed(token, "Authorization: Bearer t0ken\r\n"));
    assert_true(is_allowed(token, "authorization: bEARER   t0ken\r\n"));
    assert_false(is_allowed(token, ""));
    assert_false(is_allowed(token, "Authorization: \r\n"));
    assert_false(is_allowed(token, "Authorization: Bearer\r\n"));
    assert_false(is_allowed(token, "Authorization: Bearer t0ke\r\n"));
    assert_false(is_allowed(token, "Authorization: Bearer t0kenn\r\n"));
    assert_false(is_allowed(token, "Authorization: Bearer T0KEN\r\n"));
    assert_false(is_allowed(token, "Authorization: Basic t0ken\r\n"));
    assert_false(is_allowed(token, "Authorization: t0ken\r\n"));
    assert_false(is_allowed(token, "Authorization: Bearert0ken\r\n"));
    assert_false(is_allowed(token, "X-Authorization: Bearer t0ken\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_without_a_token),
        cmocka_unit_test(wants_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
