/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: our gateway lines are those of a real server. Method: each compared as a whole, the
 * messages also parsed back. */
#include "proto/gateway_writer.h"
#include "base/own.h"
#include "proto/gateway_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_msg(const struct esi_gateway_msg *msg, const char *expected)
{
    const size_t room = esi_gateway_writer_msg_size_max(msg);
    char *out = malloc(room);

    assert_non_null(out);
    const char *end = esi_gateway_writer_msg(out, msg);
    assert_int_equal(end - out, strlen(expected));
    assert_memory_equal(out, expected, strlen(expected));
    assert_true((size_t)(end - out) <= room);
    free(out);
}

static void test_messages(void **state)
{
    const struct esi_str queues[] = {ESI_STR("q1"), ESI_STR("q2")};
    struct esi_gateway_msg msg = {
        .account = ESI_STR("$G"), .subject = ESI_STR("foo"), .total_len = 5};

    (void)state;
    expect_msg(&msg, "RMSG $G foo 5\r\n");
    msg.reply = ESI_STR("ib");
    expect_msg(&msg, "RMSG $G foo ib 5\r\n");
    msg.queues = queues;
    msg.queue_count = 2;
    expect_msg(&msg, "RMSG $G foo + ib q1 q2 5\r\n");
    msg.header_len = 18;
    msg.total_len = 20;
    expect_msg(&msg, "HMSG $G foo + ib q1 q2 18 20\r\n");
    msg.reply = (struct esi_str){0};
    expect_msg(&msg, "HMSG $G foo | q1 q2 18 20\r\n");
    msg.queue_count = 0;
    expect_msg(&msg, "HMSG $G foo 18 20\r\n");
    msg.header_len = SIZE_MAX;
    msg.total_len = SIZE_MAX;
    msg.reply = ESI_STR("ib");
    msg.queue_count = 2;
    expect_msg(&msg, "HMSG $G foo + ib q1 q2 18446744073709551615 18446744073709551615\r\n");
}

/* What is written is read as what was meant, for every combination of reply, queues and headers. */
static void test_round_trip(void **state)
{
    const struct esi_str queues[] = {ESI_STR("a"), ESI_STR("+"), ESI_STR("|")};

    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        const struct esi_gateway_msg msg = {.account = ESI_STR("ACC"),
                                            .subject = ESI_STR("s.t"),
                                            .reply =
                                                (i & 1) != 0 ? ESI_STR("r.1") : (struct esi_str){0},
                                            .queues = queues,
                                            .queue_count = i >> 2,
                                            .header_len = (i & 2) != 0 ? 2 : 0,
                                            .total_len = 4};
        char out[256];
        char *end = esi_gateway_writer_msg(out, &msg);
        memcpy(end, "abcd\r\n", 6);
        struct esi_gateway_parser parser;
        struct esi_gateway_item item;
        size_t consumed = 0;
        esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
        parser.auth_pending = false;
        assert_int_equal(
            esi_gateway_parser_next(&parser, out, (size_t)(end + 6 - out), &consumed, &item),
            GATEWAY_MSG);
        assert_int_equal(consumed, end + 6 - out);
        assert_true(esi_str_equal(item.account, msg.account) &&
                    esi_str_equal(item.subject, msg.subject) &&
                    esi_str_equal(item.reply, msg.reply));
        assert_int_equal(item.queue_count, msg.queue_count);
        assert_int_equal(item.header_len, msg.header_len);
        assert_int_equal(item.total_len, 4);
        struct esi_str rest = item.queues;
        struct esi_str queue;
        for (size_t q = 0; q < msg.queue_count; q++) {
            assert_true(esi_gateway_parser_next_queue(&rest, &queue) &&
                        esi_str_equal(queue, queues[q]));
        }
        assert_false(esi_gateway_parser_next_queue(&rest, &queue));
    }
}

static void expect_text(struct esi_bytes *out, const char *expected)
{
    assert_false(out->failed);
    assert_int_equal(out->len, strlen(expected));
    assert_memory_equal(out->data, expected, out->len);
    esi_bytes_clear(out);
}

static void test_interest(void **state)
{
    const struct esi_str none = {0};
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_gateway_writer_sub(&out, ESI_STR("$G"), ESI_STR("foo"), none);
    expect_text(&out, "RS+ $G foo\r\n");
    esi_gateway_writer_sub(&out, ESI_STR("$G"), ESI_STR("bar.>"), ESI_STR("q"));
    expect_text(&out, "RS+ $G bar.> q 1\r\n");
    esi_gateway_writer_unsub(&out, ESI_STR("$G"), ESI_STR("foo"), none);
    expect_text(&out, "RS- $G foo\r\n");
    esi_gateway_writer_unsub(&out, ESI_STR("$G"), ESI_STR("foo"), ESI_STR("q"));
    expect_text(&out, "RS- $G foo q\r\n");
    esi_bytes_deinit(&out);
}

static void test_err_lines(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    assert_string_equal(esi_gateway_writer_err_port().data,
                        "-ERR 'attempted to connect to gateway port'\r\n");
    esi_gateway_writer_err_rejected(&out, ESI_STR("B"));
    expect_text(&out, "-ERR 'Connection to gateway \"B\" rejected'\r\n");
    esi_gateway_writer_err_wrong_port(&out, ESI_STR("F"));
    expect_text(&out, "-ERR 'Attempt to connect to gateway \"F\" using wrong port'\r\n");
    esi_gateway_writer_err_wrong_gateway(&out, ESI_STR("A"), ESI_STR("F"), ESI_STR("OTHER\r\n"));
    expect_text(&out, "-ERR 'Connection from \"A\" rejected, wanted to connect to \"F\", this is "
                      "\"OTHER\\r\\n\"'\r\n");
    assert_string_equal(esi_gateway_writer_err_account_absent(2).data,
                        "-ERR 'Account absent from receive-all-subscriptions-start command'\r\n");
    assert_string_equal(
        esi_gateway_writer_err_account_absent(3).data,
        "-ERR 'Account absent from receive-all-subscriptions-complete command'\r\n");
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_interest),
        cmocka_unit_test(test_err_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
