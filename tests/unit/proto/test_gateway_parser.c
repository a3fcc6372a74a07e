/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: gateway lines are understood as real servers mean them, in both roles, however the bytes
 * are cut. Method: each input is parsed whole, cut in two at every byte and byte by byte, from heap
 * copies of exact size; the transcripts are compared. Rows follow the interop checks of the
 * protocol reference and its recorded sessions.
 */
#include "proto/gateway_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct run {
    struct esi_gateway_parser parser;
    char *rest;
    size_t rest_len;
    char out[16384];
    size_t out_len;
    bool is_dead;
};

static void say(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct run *run, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const int len =
        vsnprintf(run->out + run->out_len, sizeof run->out - run->out_len, format, arguments);
    va_end(arguments);
    assert_true(len >= 0 && (size_t)len < sizeof run->out - run->out_len);
    run->out_len += (size_t)len;
}

static void say_field(struct run *run, struct esi_str field)
{
    if (field.len == 0) {
        say(run, " -");
        return;
    }
    say(run, " ");
    for (size_t i = 0; i < field.len; i++) {
        const unsigned char c = (unsigned char)field.data[i];
        if (c < 0x20 || c > 0x7e) {
            say(run, "\\x%02x", c);
        } else {
            say(run, "%c", c);
        }
    }
}

static void say_msg(struct run *run, const struct esi_gateway_item *item)
{
    struct esi_str queues = item->queues;
    struct esi_str queue = {0};
    size_t count = 0;

    say(run, "%s", item->is_hmsg ? "HMSG" : "RMSG");
    say_field(run, item->account);
    say_field(run, item->subject);
    say_field(run, item->reply);
    say(run, " [");
    while (esi_gateway_parser_next_queue(&queues, &queue)) {
        say_field(run, queue);
        count++;
    }
    assert_int_equal(count, item->queue_count);
    say(run, "] %zu/%zu", item->header_len, item->total_len);
    say_field(run, (struct esi_str){.data = item->body, .len = item->total_len});
    assert_memory_equal(item->body + item->total_len, "\r\n", 2);
    say(run, ";");
}

static void say_item(struct run *run, enum esi_gateway_op op, const struct esi_gateway_item *item)
{
    static const char *const faults[] = {
        [FAULT_NONE] = "none",        [FAULT_UNKNOWN_OPERATION] = "PERR",
        [FAULT_SILENT] = "SILENT",    [FAULT_MAX_PAYLOAD] = "MPV",
        [FAULT_CONTROL_LINE] = "MCL", [FAULT_AUTHORIZATION] = "AV",
    };
    static const char *const names[] = {
        [GATEWAY_SUB] = "RS+",          [GATEWAY_UNSUB] = "RS-", [GATEWAY_ACCOUNT_SUB] = "A+",
        [GATEWAY_ACCOUNT_UNSUB] = "A-", [GATEWAY_INFO] = "INFO", [GATEWAY_CONNECT] = "CONNECT",
        [GATEWAY_PING] = "PING",        [GATEWAY_PONG] = "PONG", [GATEWAY_OK] = "OK",
        [GATEWAY_ERR] = "ERR",
    };

    if (op == GATEWAY_MORE) {
        return;
    }
    if (op == GATEWAY_MSG) {
        say_msg(run, item);
        return;
    }
    if (op == GATEWAY_FAULT) {
        assert_non_null(item->reason);
        say(run, "%s", faults[item->fault]);
        return;
    }
    say(run, "%s", names[op]);
    if (op == GATEWAY_SUB || op == GATEWAY_UNSUB) {
        say_field(run, item->account);
        say_field(run, item->subject);
        say_field(run, item->queue);
    }
    if (op == GATEWAY_SUB) {
        say(run, " %u", item->weight);
    }
    if (op == GATEWAY_ACCOUNT_SUB || op == GATEWAY_ACCOUNT_UNSUB) {
        say_field(run, item->account);
    }
    if (op == GATEWAY_INFO || op == GATEWAY_CONNECT || op == GATEWAY_ERR) {
        say_field(run, item->text);
    }
    say(run, ";");
}

static void feed(struct run *run, const char *data, size_t len)
{
    enum esi_gateway_op op = GATEWAY_PING;
    size_t at = 0;

    if (run->is_dead) {
        return;
    }
    const size_t joined_len = run->rest_len + len;
    char *joined = malloc(joined_len > 0 ? joined_len : 1);
    assert_non_null(joined);
    memcpy(joined, run->rest, run->rest_len);
    memcpy(joined + run->rest_len, data, len);
    free(run->rest);
    while (op != GATEWAY_MORE && op != GATEWAY_FAULT) {
        const size_t left = joined_len - at;
        char *exact = malloc(left > 0 ? left : 1);
        assert_non_null(exact);
        memcpy(exact, joined + at, left);
        struct esi_gateway_item item = {0};
        size_t consumed = 12345;
        op = esi_gateway_parser_next(&run->parser, exact, left, &consumed, &item);
        assert_true(consumed <= left);
        say_item(run, op, &item);
        at += consumed;
        free(exact);
    }
    run->is_dead = op == GATEWAY_FAULT;
    run->rest_len = joined_len - at;
    run->rest = malloc(run->rest_len > 0 ? run->rest_len : 1);
    assert_non_null(run->rest);
    memcpy(run->rest, joined + at, run->rest_len);
    free(joined);
}

enum set_up { INBOUND, OUTBOUND, PENDING };

static struct run *start(enum set_up set_up)
{
    struct run *run = calloc(1, sizeof *run);

    assert_non_null(run);
    esi_gateway_parser_init(&run->parser, set_up == OUTBOUND ? GATEWAY_DIALLER : GATEWAY_ACCEPTOR);
    assert_int_equal(run->parser.auth_pending, set_up != OUTBOUND);
    run->parser.auth_pending = set_up == PENDING;
    run->rest = malloc(1);
    assert_non_null(run->rest);
    return run;
}

static void finish(struct run *run, const char *input, size_t cut, const char *expected)
{
    if (strcmp(run->out, expected) != 0) {
        fail_msg("input \"%.80s\" cut at %zu\n expected %s\n      got %s", input, cut, expected,
                 run->out);
    }
    free(run->rest);
    free(run);
}

static void expect_bytes(enum set_up set_up, const char *input, size_t len, const char *expected)
{
    struct run *run = start(set_up);

    feed(run, input, len);
    finish(run, input, len, expected);
    for (size_t cut = 1; cut < len; cut++) {
        run = start(set_up);
        feed(run, input, cut);
        feed(run, input + cut, len - cut);
        finish(run, input, cut, expected);
    }
    run = start(set_up);
    for (size_t i = 0; i < len; i++) {
        feed(run, input + i, 1);
    }
    finish(run, input, 1, expected);
}

/* The fast path wants some bytes behind a message: all is parsed once more with two PINGs there. */
static void expect_followed(enum set_up set_up, const char *input, const char *expected)
{
    static const char pings[] = "PING\r\nPING\r\n";
    char longer[1024];
    struct run *run = start(set_up);

    const int len = snprintf(longer, sizeof longer, "%s%s", input, pings);
    assert_in_range(len, 1, sizeof longer - 1);
    feed(run, longer, (size_t)len);
    if (!run->is_dead) {
        snprintf(longer, sizeof longer, "%sPING;PING;", expected);
        expected = longer;
    }
    finish(run, input, 0, expected);
}

static void expect(enum set_up set_up, const char *input, const char *expected)
{
    expect_bytes(set_up, input, strlen(input), expected);
    expect_followed(set_up, input, expected);
}

/* The four forms, with and without headers, and the odd ones that real servers accept (G32, G70,
 * G84). */
static void test_messages(void **state)
{
    (void)state;
    expect(INBOUND, "RMSG $G foo 5\r\nhello\r\n", "RMSG $G foo - [] 0/5 hello;");
    expect(INBOUND, "RMSG $G a.b.c 0\r\n\r\n", "RMSG $G a.b.c - [] 0/0 -;");
    expect(INBOUND, "RMSG $G foo ib 2\r\nhi\r\n", "RMSG $G foo ib [] 0/2 hi;");
    expect(INBOUND, "RMSG $G svc3 | g2 2\r\nq7\r\n", "RMSG $G svc3 - [ g2] 0/2 q7;");
    expect(INBOUND, "RMSG $G foo + ib q1 q2 2\r\n7r\r\n", "RMSG $G foo ib [ q1 q2] 0/2 7r;");
    expect(INBOUND, "RMSG $G foo + ib 2\r\n7r\r\n", "RMSG $G foo ib [] 0/2 7r;");
    expect(INBOUND, "RMSG $G foo | 2\r\n7r\r\n", "RMSG $G foo | [] 0/2 7r;");
    expect(INBOUND, "RMSG $G foo | a b c d e f g h i j k 1\r\nx\r\n",
           "RMSG $G foo - [ a b c d e f g h i j k] 0/1 x;");
    expect(INBOUND, "RMSG $G foo + r a b c d e f g h i j k 1\r\nx\r\n",
           "RMSG $G foo r [ a b c d e f g h i j k] 0/1 x;");
    expect(INBOUND, "HMSG $G a.b.c 18 22\r\nNATS/1.0\r\nK: v\r\n\r\nbody\r\n",
           "HMSG $G a.b.c - [] 18/22 NATS/1.0\\x0d\\x0aK: v\\x0d\\x0a\\x0d\\x0abody;");
    expect(INBOUND, "HMSG $G foo + ib qq 2 4\r\nhhhh\r\n", "HMSG $G foo ib [ qq] 2/4 hhhh;");
    expect(INBOUND, "HMSG $G foo | qq 2 4\r\nhhhh\r\n", "HMSG $G foo - [ qq] 2/4 hhhh;");
    expect(INBOUND, "HMSG $G foo ib 2 4\r\nhhhh\r\n", "HMSG $G foo ib [] 2/4 hhhh;");
    expect(INBOUND, "HMSG $G foo 0 2\r\nok\r\n", "HMSG $G foo - [] 0/2 ok;");
    expect(INBOUND, "rmsg\t$G  foo \t ib 2 \nhi\r\n", "RMSG $G foo ib [] 0/2 hi;");
    expect(INBOUND, "RMSG $G foo |\tq1  q2 2\r\nhi\r\n", "RMSG $G foo - [ q1 q2] 0/2 hi;");
    expect(INBOUND, "RMSG $G foo  ib 2\r\nhi\r\n", "RMSG $G foo ib [] 0/2 hi;");
    expect(INBOUND, "RMSG $G foo ib 2 \r\nhi\r\n", "RMSG $G foo ib [] 0/2 hi;");
    expect(INBOUND, "RMSG $G foo 2 \r\nhi\r\n", "RMSG $G foo - [] 0/2 hi;");
    expect(INBOUND, "RMSG  $G foo 000000002\r\nhi\r\n", "RMSG $G foo - [] 0/2 hi;");
    expect(INBOUND, "RMSG $G a.subject.of.many.tokens.and.bytes a.reply.of.many.tokens 2\r\nhi\r\n",
           "RMSG $G a.subject.of.many.tokens.and.bytes a.reply.of.many.tokens [] 0/2 hi;");
    expect(INBOUND, "RMSG $G my.inbox 4\r\n\r\n\r\n\r\nRMSG $G x 1\r\ny\r\nPING\r\n",
           "RMSG $G my.inbox - [] 0/4 \\x0d\\x0a\\x0d\\x0a;RMSG $G x - [] 0/1 y;PING;");
}

/* G30, G31. */
static void test_message_faults(void **state)
{
    static const char nul[] = "RMSG $G f\0o 1\r\nx\r\n";

    (void)state;
    expect(INBOUND, "RMSG $G 1\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo\r\n", "SILENT");
    expect(INBOUND, "RMSG \r\n", "SILENT");
    expect(INBOUND, "RMSG\r\n", "PERR");
    expect(INBOUND, "RMSG $G foo * q 1\r\nx\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo r q 1\r\nx\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo -1\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo 1000000000\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo 0000000001\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo 1x\r\n", "SILENT");
    expect(INBOUND, "HMSG $G foo 10 4\r\n", "SILENT");
    expect(INBOUND, "HMSG $G foo 4\r\n", "SILENT");
    expect(INBOUND, "HMSG $G foo x 4\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo 4\r\nhello\r\n", "PERR");
    expect(INBOUND, "RMSG $G foo 5\r\nhello\n", "PERR");
    expect(INBOUND, "RMSG $G foo 999999999\r\n", "MPV");
    expect(INBOUND, "RMSG $G f\ro 1\r\nx\r\n", "SILENT");
    expect(INBOUND, "RMSG $G foo | q\r 1\r\nx\r\n", "SILENT");
    expect(INBOUND, "RMSG \nG foo 1\r\nx\r\n", "SILENT");
    expect_bytes(INBOUND, nul, sizeof nul - 1, "SILENT");
}

/* Section 6.1: strict numbers of fields. */
static void test_interest(void **state)
{
    (void)state;
    expect(OUTBOUND, "RS+ $G foo\r\nRS+ $G foo q 1\r\nRS- $G foo\r\nRS- $G foo q\r\n",
           "RS+ $G foo - 1;RS+ $G foo q 1;RS- $G foo -;RS- $G foo q;");
    expect(OUTBOUND, "rs+\t$G  foo \nRS+ $G wq q 5\r\nRS+ $G wq q x\r\nRS+ $G wq q 0\r\n",
           "RS+ $G foo - 1;RS+ $G wq q 5;RS+ $G wq q 1;RS+ $G wq q 1;");
    expect(OUTBOUND, "RS+ $G foo..bar\r\n", "RS+ $G foo..bar - 1;");
    expect(OUTBOUND, "A- $G\r\nA+ $G\r\na- $G \n", "A- $G;A+ $G;A- $G;");
    expect(OUTBOUND, "RS+ $G\r\n", "SILENT");
    expect(OUTBOUND, "RS+ $G foo q\r\n", "SILENT");
    expect(OUTBOUND, "RS+ $G foo q 1 2\r\n", "SILENT");
    expect(OUTBOUND, "RS- $G\r\n", "SILENT");
    expect(OUTBOUND, "RS- $G foo q 1\r\n", "SILENT");
    expect(OUTBOUND, "RS+ \r\n", "SILENT");
    expect(OUTBOUND, "RS+\r\n", "PERR");
    expect(OUTBOUND, "A- \r\n", "SILENT");
    expect(OUTBOUND, "A- $G x\r\n", "SILENT");
    expect(OUTBOUND, "A-\r\n", "PERR");
    expect(OUTBOUND, "RS+ $G a\rb\r\n", "SILENT");
    expect(OUTBOUND, "A* $G\r\n", "PERR");
}

/* The table of who may send what: G26 to G28; real servers crash on some of these. */
static void test_wrong_side(void **state)
{
    (void)state;
    expect(INBOUND, "RS+ $G foo\r\n", "SILENT");
    expect(INBOUND, "RS- $G foo\r\n", "SILENT");
    expect(INBOUND, "A- $G\r\n", "SILENT");
    expect(INBOUND, "A+ $G\r\n", "SILENT");
    expect(OUTBOUND, "RMSG $G foo 1\r\nx\r\n", "SILENT");
    expect(OUTBOUND, "HMSG $G foo 1 1\r\nx\r\n", "SILENT");
    expect(OUTBOUND, "CONNECT {}\r\n", "SILENT");
    expect(INBOUND, "SUB foo 1\r\n", "SILENT");
    expect(INBOUND, "UNSUB 1\r\n", "SILENT");
    expect(INBOUND, "PUB foo 1\r\nx\r\n", "MPV");
    expect(INBOUND, "HPUB foo 1 1\r\nx\r\n", "MPV");
    expect(INBOUND, "PUB foo 0\r\n\r\n", "SILENT");
    expect(INBOUND, "PUB foo\r\n", "SILENT");
    /* A message is not waited for when its keyword alone is wrong. */
    struct run *run = start(OUTBOUND);
    feed(run, "RMSG", 4);
    finish(run, "RMSG", 4, "SILENT");
}

/* G29 and the lines that both sides send. */
static void test_others(void **state)
{
    (void)state;
    for (enum set_up set_up = INBOUND; set_up <= OUTBOUND; set_up++) {
        expect(set_up, "\r\n", "PERR");
        expect(set_up, "HELLO\r\n", "PERR");
        expect(set_up, "LS+ $G foo\r\n", "PERR");
        expect(set_up, "LMSG o $G foo 0 1\r\n", "PERR");
        expect(set_up, "MSG foo 1 1\r\n", "PERR");
        expect(set_up, "PING\r\nPONG\r\n+OK\r\nping \n", "PING;PONG;OK;PING;");
        expect(set_up, "INFO {\"gateway\":\"F\"}\r\n", "INFO {\"gateway\":\"F\"};");
        expect(set_up, "info \t {} \n", "INFO {} ;");
        expect(set_up, "-ERR 'bye'\r\n", "ERR 'bye';");
    }
    expect(INBOUND, "CONNECT {\"gateway\":\"F\"}\r\n", "CONNECT {\"gateway\":\"F\"};");
}

/* G7: nothing before CONNECT. */
static void test_auth_pending(void **state)
{
    (void)state;
    expect(PENDING, "INFO {}\r\n", "AV");
    expect(PENDING, "PING\r\n", "AV");
    expect(PENDING, "\r\n", "AV");
    expect(PENDING, "RMSG $G foo 1\r\nx\r\nRMSG $G foo 1\r\nx\r\n", "AV");
    expect(PENDING, "CONNECT {}\r\nINFO {}\r\n", "CONNECT {};AV");
    expect(PENDING, "CX", "PERR");
}

/* G83: 60 000 bytes of control line and 3 000 queue names pass, more than 64 KiB does not; payloads
 * up to the bound. */
static void test_bounds(void **state)
{
    struct esi_gateway_parser parser;
    struct esi_gateway_item item;
    size_t consumed = 0;
    char *line = malloc(70000);

    (void)state;
    assert_non_null(line);
    size_t len = (size_t)snprintf(line, 64, "RMSG $G foo |");
    for (int i = 0; i < 3000; i++) {
        len += (size_t)snprintf(line + len, 32, " queue-name-%d", i);
    }
    len += (size_t)snprintf(line + len, 16, " 1\r\nx\r\n");
    esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
    parser.auth_pending = false;
    assert_int_equal(esi_gateway_parser_next(&parser, line, len, &consumed, &item), GATEWAY_MSG);
    assert_int_equal(consumed, len);
    assert_int_equal(item.queue_count, 3000);

    memcpy(line, "RMSG ", 5);
    memset(line + 5, 'a', ESI_GATEWAY_CONTROL_LINE_MAX + 1);
    assert_int_equal(
        esi_gateway_parser_next(&parser, line, 5 + ESI_GATEWAY_CONTROL_LINE_MAX, &consumed, &item),
        GATEWAY_MORE);
    assert_int_equal(esi_gateway_parser_next(&parser, line + consumed,
                                             5 + ESI_GATEWAY_CONTROL_LINE_MAX + 1 - consumed,
                                             &consumed, &item),
                     GATEWAY_FAULT);
    assert_int_equal(item.fault, FAULT_CONTROL_LINE);

    /* Before CONNECT it is less. */
    esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
    memcpy(line, "CONNECT ", 8);
    assert_int_equal(
        esi_gateway_parser_next(&parser, line, 8 + ESI_GATEWAY_OPENING_LINE_MAX, &consumed, &item),
        GATEWAY_MORE);
    assert_int_equal(esi_gateway_parser_next(&parser, line + consumed,
                                             8 + ESI_GATEWAY_OPENING_LINE_MAX + 1 - consumed,
                                             &consumed, &item),
                     GATEWAY_FAULT);
    assert_int_equal(item.fault, FAULT_CONTROL_LINE);

    esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
    parser.auth_pending = false;
    len = (size_t)snprintf(line, 64, "RMSG $G foo %d\r\n", ESI_GATEWAY_PAYLOAD_MAX);
    assert_int_equal(esi_gateway_parser_next(&parser, line, len, &consumed, &item), GATEWAY_MORE);
    assert_int_equal(consumed + item.needed, len + ESI_GATEWAY_PAYLOAD_MAX + 2);
    esi_gateway_parser_init(&parser, GATEWAY_ACCEPTOR);
    parser.auth_pending = false;
    len = (size_t)snprintf(line, 64, "RMSG $G foo %d\r\n", ESI_GATEWAY_PAYLOAD_MAX + 1);
    assert_int_equal(esi_gateway_parser_next(&parser, line, len, &consumed, &item), GATEWAY_FAULT);
    assert_int_equal(item.fault, FAULT_MAX_PAYLOAD);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages), cmocka_unit_test(test_message_faults),
        cmocka_unit_test(test_interest), cmocka_unit_test(test_wrong_side),
        cmocka_unit_test(test_others),   cmocka_unit_test(test_auth_pending),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
