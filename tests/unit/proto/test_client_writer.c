/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: every line to clients has nats-server's bytes. Method: each function's output is compared
 * as a whole. */
#include "proto/client_writer.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_msg(const char *subject, const char *sid, const char *reply, size_t header_len,
                       size_t total_len, const char *expected)
{
    const size_t room = esi_client_writer_msg_size_max(strlen(subject), strlen(sid), strlen(reply));
    char *out = malloc(room);

    assert_non_null(out);
    const char *end = esi_client_writer_msg(out, esi_str_from(subject), esi_str_from(sid),
                                            esi_str_from(reply), header_len, total_len);
    assert_int_equal(end - out, strlen(expected));
    assert_memory_equal(out, expected, strlen(expected));
    assert_true((size_t)(end - out) <= room);
    free(out);
}

static void test_msg(void **state)
{
    (void)state;
    expect_msg("a", "1", "", 0, 5, "MSG a 1 5\r\n");
    expect_msg("a", "1", "r", 0, 5, "MSG a 1 r 5\r\n");
    expect_msg("a", "1", "", 0, 0, "MSG a 1 0\r\n");
    expect_msg("a", "abc.-_9", "_INBOX.1", 12, 14, "HMSG a abc.-_9 _INBOX.1 12 14\r\n");
    expect_msg("a", "1", "", 12, 12, "HMSG a 1 12 12\r\n");
    expect_msg("a", "1", "", 0, 999999999, "MSG a 1 999999999\r\n");
    expect_msg("a", "1", "", SIZE_MAX, SIZE_MAX,
               "HMSG a 1 18446744073709551615 18446744073709551615\r\n");
    expect_msg("a", "1", "", 0, 1048576, "MSG a 1 1048576\r\n");
    expect_msg("a", "1", "", 10, 100, "HMSG a 1 10 100\r\n");
}

static void test_no_responders(void **state)
{
    const char *expected = "HMSG _INBOX.a.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    const size_t room = esi_client_writer_no_responders_size_max(10, 1);
    char *out = malloc(room);

    (void)state;
    assert_non_null(out);
    const char *end = esi_client_writer_no_responders(out, ESI_STR("_INBOX.a.1"), ESI_STR("1"));
    assert_int_equal(end - out, strlen(expected));
    assert_memory_equal(out, expected, strlen(expected));
    assert_true((size_t)(end - out) <= room);
    free(out);
}

static void test_err_lines(void **state)
{
    static const struct {
        enum esi_client_err err;
        const char *line;
    } rows[] = {
        {CLIENT_ERR_UNKNOWN_OPERATION, "-ERR 'Unknown Protocol Operation'\r\n"},
        {CLIENT_ERR_MAX_CONTROL_LINE, "-ERR 'maximum control line exceeded'\r\n"},
        {CLIENT_ERR_MAX_PAYLOAD, "-ERR 'Maximum Payload Violation'\r\n"},
        {CLIENT_ERR_INVALID_SUBJECT, "-ERR 'Invalid Subject'\r\n"},
        {CLIENT_ERR_INVALID_PUBLISH_SUBJECT, "-ERR 'Invalid Publish Subject'\r\n"},
        {CLIENT_ERR_AUTHORIZATION, "-ERR 'Authorization Violation'\r\n"},
        {CLIENT_ERR_AUTH_TIMEOUT, "-ERR 'Authentication Timeout'\r\n"},
        {CLIENT_ERR_USER_EXPIRED, "-ERR 'User Authentication Expired'\r\n"},
        {CLIENT_ERR_ACCOUNT_EXPIRED, "-ERR 'Account Authentication Expired'\r\n"},
        {CLIENT_ERR_USER_REVOKED, "-ERR 'User Authentication Revoked'\r\n"},
        {CLIENT_ERR_MAX_ACCOUNT_CONNECTIONS,
         "-ERR 'maximum account active connections exceeded'\r\n"},
        {CLIENT_ERR_MAX_CONNECTIONS, "-ERR 'maximum connections exceeded'\r\n"},
        {CLIENT_ERR_MAX_SUBSCRIPTIONS, "-ERR 'maximum subscriptions exceeded'\r\n"},
        {CLIENT_ERR_MAX_LISTENERS, "-ERR 'maximum listeners exceeded'\r\n"},
        {CLIENT_ERR_STALE_CONNECTION, "-ERR 'Stale Connection'\r\n"},
        {CLIENT_ERR_INVALID_PROTOCOL, "-ERR 'invalid client protocol'\r\n"},
        {CLIENT_ERR_NO_RESPONDERS_NEEDS_HEADERS,
         "-ERR 'no responders requires headers support'\r\n"},
        {CLIENT_ERR_THROTTLED,
         "-ERR 'Connection throttling is active. Please try again later.'\r\n"},
    };

    (void)state;
    assert_int_equal(ESI_COUNT_OF(rows), CLIENT_ERR_COUNT);
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        assert_string_equal(esi_client_writer_err(rows[i].err).data, rows[i].line);
        assert_int_equal(esi_client_writer_err(rows[i].err).len, strlen(rows[i].line));
    }
}

static void expect_text(struct esi_bytes *out, const char *expected)
{
    assert_false(out->failed);
    assert_int_equal(out->len, strlen(expected));
    assert_memory_equal(out->data, expected, out->len);
    esi_bytes_clear(out);
}

static void test_violations(void **state)
{
    struct esi_bytes out;
    const struct esi_str none = {0};

    (void)state;
    esi_bytes_init(&out, 0);
    esi_client_writer_publish_violation(&out, ESI_STR("c\"\xff"));
    expect_text(&out, "-ERR 'Permissions Violation for Publish to \"c\\\"\\xff\"'\r\n");
    esi_client_writer_reply_violation(&out, ESI_STR("_R_.x"));
    expect_text(&out, "-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n");
    esi_client_writer_subscribe_violation(&out, ESI_STR("x.no"), none, none);
    expect_text(&out, "-ERR 'Permissions Violation for Subscription to \"x.no\"'\r\n");
    esi_client_writer_subscribe_violation(&out, ESI_STR("c"), ESI_STR("grp"), none);
    expect_text(&out,
                "-ERR 'Permissions Violation for Subscription to \"c\" using queue \"grp\"'\r\n");
    esi_client_writer_subscribe_violation(&out, ESI_STR("y"), none, ESI_STR("1"));
    expect_text(&out, "-ERR 'Permissions Violation for Subscription to \"y\" (sid \"1\")'\r\n");
    esi_client_writer_subscribe_violation(&out, ESI_STR("y"), ESI_STR("q"), ESI_STR("1"));
    expect_text(
        &out,
        "-ERR 'Permissions Violation for Subscription to \"y\" using queue \"q\" (sid \"1\")'\r\n");
    esi_client_writer_too_many_tokens(&out, ESI_STR("a.b.c.d"));
    expect_text(
        &out, "-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'\r\n");
    /* A line break in a subject cannot end the line. */
    esi_client_writer_publish_violation(&out, ESI_STR("a\r\nPING\r\n"));
    expect_text(&out, "-ERR 'Permissions Violation for Publish to \"a\\r\\nPING\\r\\n\"'\r\n");
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msg),
        cmocka_unit_test(test_no_responders),
        cmocka_unit_test(test_err_lines),
        cmocka_unit_test(test_violations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
