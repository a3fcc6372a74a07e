/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the client parser gives the same operations and faults as nats-server for every lexical
 * rule, however the bytes are cut. Method: each input is parsed whole, cut in two at every byte,
 * and byte by byte, always from heap copies of exact size, and the transcript of operations is
 * compared with the expected one.
 */
#include "proto/client_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct options {
    int64_t max_payload;
    size_t max_control_line;
    bool headers_allowed;
    bool auth_pending;
};

static const struct options defaults = {1 << 20, 4096, true, false};

struct run {
    struct esi_client_parser parser;
    char *rest; /* what is not consumed yet, in exactly as many bytes */
    size_t rest_len;
    size_t rest_len_max;
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

static void say_bytes(struct run *run, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)data[i];
        if (c < 0x20 || c > 0x7e) {
            say(run, "\\x%02x", c);
        } else {
            say(run, "%c", c);
        }
    }
}

static void say_field(struct run *run, struct esi_str field)
{
    say(run, " ");
    if (field.len == 0) {
        say(run, "-");
    }
    say_bytes(run, field.data, field.len);
}

static void say_item(struct run *run, enum esi_client_op op, const struct esi_client_item *item)
{
    static const char *const faults[] = {
        [FAULT_NONE] = "none",        [FAULT_UNKNOWN_OPERATION] = "PERR",
        [FAULT_SILENT] = "SILENT",    [FAULT_MAX_PAYLOAD] = "MPV",
        [FAULT_CONTROL_LINE] = "MCL", [FAULT_AUTHORIZATION] = "AV",
    };

    switch (op) {
    case CLIENT_MORE:
        break;
    case CLIENT_PUB:
        say(run, "%s", item->is_hpub ? "HPUB" : "PUB");
        say_field(run, item->subject);
        say_field(run, item->reply);
        say(run, " %zu/%zu ", item->header_len, item->total_len);
        say_bytes(run, item->body, item->total_len);
        assert_memory_equal(item->body + item->total_len, "\r\n", 2);
        say(run, ";");
        break;
    case CLIENT_SUB:
        say(run, "SUB");
        say_field(run, item->subject);
        say_field(run, item->queue);
        say_field(run, item->sid);
        say(run, ";");
        break;
    case CLIENT_UNSUB:
        say(run, "UNSUB");
        say_field(run, item->sid);
        say(run, " %llu;", item->has_max ? (unsigned long long)item->max : 0ULL);
        break;
    case CLIENT_PING:
        say(run, "PING;");
        break;
    case CLIENT_PONG:
        say(run, "PONG;");
        break;
    case CLIENT_OK:
        say(run, "OK;");
        break;
    case CLIENT_CONNECT:
    case CLIENT_INFO:
    case CLIENT_ERR:
        say(run, "%s[", op == CLIENT_CONNECT ? "CONNECT" : op == CLIENT_INFO ? "INFO" : "ERR");
        say_bytes(run, item->text.data, item->text.len);
        say(run, "];");
        break;
    case CLIENT_FAULT:
        say(run, "%s", faults[item->fault]);
        assert_non_null(item->reason);
        break;
    }
}

/* One more piece arrives: everything that can be parsed is parsed. */
static void feed(struct run *run, const char *data, size_t len)
{
    if (run->is_dead) {
        return;
    }
    char *joined = malloc(run->rest_len + len > 0 ? run->rest_len + len : 1);
    assert_non_null(joined);
    memcpy(joined, run->rest, run->rest_len);
    memcpy(joined + run->rest_len, data, len);
    size_t joined_len = run->rest_len + len;
    free(run->rest);
    size_t at = 0;
    enum esi_client_op op = CLIENT_PING;
    while (op != CLIENT_MORE && op != CLIENT_FAULT) {
        /* An exact copy for each call, so that the sanitizer sees a read past what was passed. */
        const size_t left = joined_len - at;
        char *exact = malloc(left > 0 ? left : 1);
        assert_non_null(exact);
        memcpy(exact, joined + at, left);
        struct esi_client_item item = {0};
        size_t consumed = 12345;
        op = esi_client_parser_next(&run->parser, exact, left, &consumed, &item);
        assert_true(consumed <= left);
        if (op == CLIENT_MORE && item.needed > 0) {
            assert_true(item.needed > left - consumed);
        }
        say_item(run, op, &item);
        at += consumed;
        free(exact);
    }
    run->is_dead = op == CLIENT_FAULT;
    run->rest_len = joined_len - at;
    run->rest = malloc(run->rest_len > 0 ? run->rest_len : 1);
    assert_non_null(run->rest);
    memcpy(run->rest, joined + at, run->rest_len);
    free(joined);
    if (run->rest_len > run->rest_len_max) {
        run->rest_len_max = run->rest_len;
    }
}

static struct run *start(const struct options *options)
{
    struct run *run = calloc(1, sizeof *run);

    assert_non_null(run);
    esi_client_parser_init(&run->parser, options->max_payload, options->max_control_line);
    run->parser.headers_allowed = options->headers_allowed;
    run->parser.auth_pending = options->auth_pending;
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

static void expect_bytes(const struct options *options, const char *input, size_t len,
                         const char *expected)
{
    struct run *run = start(options);

    feed(run, input, len);
    finish(run, input, len, expected);
    /* Long inputs only at some places: the work of this loop is quadratic. */
    const size_t step = len > 2000 ? len / 97 : 1;
    for (size_t cut = 1; cut < len; cut += step) {
        run = start(options);
        feed(run, input, cut);
        feed(run, input + cut, len - cut);
        finish(run, input, cut, expected);
    }
    run = start(options);
    for (size_t i = 0; i < len; i++) {
        feed(run, input + i, 1);
    }
    finish(run, input, 1, expected);
}

/* The fast paths want some bytes behind a message: all is parsed once more with two PINGs there. */
static void expect_followed(const char *input, const char *expected)
{
    static const char pings[] = "PING\r\nPING\r\n";
    char longer[1024];
    struct run *run = start(&defaults);

    const int len = snprintf(longer, sizeof longer, "%s%s", input, pings);
    assert_in_range(len, 1, sizeof longer - 1);
    feed(run, longer, (size_t)len);
    if (!run->is_dead) {
        snprintf(longer, sizeof longer, "%sPING;PING;", expected);
        expected = longer;
    }
    finish(run, input, 0, expected);
}

static void expect(const char *input, const char *expected)
{
    expect_bytes(&defaults, input, strlen(input), expected);
    expect_followed(input, expected);
}

/* The fault comes with the last byte of the input and not before. */
static void expect_fault_at_end(const struct options *options, const char *input, const char *fault)
{
    const size_t len = strlen(input);
    struct run *run = start(options);

    feed(run, input, len - 1);
    finish(run, input, len - 1, "");
    run = start(options);
    feed(run, input, len);
    finish(run, input, len, fault);
}

/* Checks C34 to C57: keywords, line ends, blanks. */
static void test_lexer(void **state)
{
    (void)state;
    expect("PING\r\n", "PING;");
    expect("ping\n", "PING;");
    expect("PiNg\r\r\n", "PING;");
    expect("PING junk\r\n", "PING;");
    expect("PINGPING\r\n", "PING;");
    expect("PONG\r\nPONG x\n", "PONG;PONG;");
    expect("+OK\r\n+OKxyz\r\n+ok\n", "OK;OK;OK;");
    expect("-ERR 'x'\r\n", "ERR['x'];");
    expect("-ERR\t \tx y\n", "ERR[x y];");
    expect("-ERR\r\n", "PERR");
    expect("INFO {}\r\nINFO{}\r\nINFO x\r\n", "INFO[{}];INFO[{}];INFO[x];");
    expect("\r\n", "PERR");
    expect("\n", "PERR");
    expect(" PING\r\n", "PERR");
    expect("GET / HTTP/1.1\r\n\r\n", "PERR");
    expect("MSG a 1 1\r\na\r\n", "PERR");
    expect("HMSG a 1 1 1\r\na\r\n", "PERR");
    expect("RS+ a b\r\n", "PERR");
    expect("LS+ a\r\n", "PERR");
    expect("A+ a\r\n", "PERR");
    expect("SUBX", "PERR");
    expect("PUB\r\n", "PERR");
    expect("SUB\r\n", "PERR");
    expect("UNSUB\r\n", "PERR");
    expect("HPUB\r\n", "PERR");
    expect("PUB\n", "PERR");
    expect("PING\r\nBAD\r\nPING\r\n", "PING;PERR");
    expect("CONNECT {}\r\n", "CONNECT[{}];");
    expect("CONNECT{}\r\n", "CONNECT[{}];");
    expect("CONNECT \t {}\nPING\r\n", "CONNECT[{}];PING;");
    expect("connect {\"a\":1} \r\n", "CONNECT[{\"a\":1} ];");
    expect("CONNECT \r\n", "CONNECT[\\x0d];");
    expect("CONNECT\r\n", "CONNECT[\\x0d];");
    expect("CONNECT \nPING\r\n", "CONNECT[\\x0aPING];");
    expect("CXXX", "PERR");
}

/* The byte that proves a fault brings it, without waiting for the line to end. */
static void test_fault_at_first_byte(void **state)
{
    static const char *const unknown[] = {
        "X",   "G",  "PUX",  "PINX",  "PX",    "SUX",  "UNSX",  "HM",      "CONX",   "+X",   "+OX",
        "-EX", "IX", "SUBX", "PUB\r", "PUB\n", "PUBx", "HPUBx", "UNSUB\r", "-ERR\n", "-ERRx"};
    const struct options pending = {1 << 20, 4096, true, true};

    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        expect_fault_at_end(&defaults, unknown[i], "PERR");
    }
    expect_fault_at_end(&defaults, "PUB a 4\r\nhello", "PERR");
    expect_fault_at_end(&defaults, "PUB a 5\r\nhelloX", "PERR");
    expect_fault_at_end(&defaults, "PUB a 5\r\nhello\rX", "PERR");
    expect_fault_at_end(&defaults, "PUB a 1048577\r\n", "MPV");
    expect_fault_at_end(&defaults, "PUB a 1048577\n", "MPV");
    expect_fault_at_end(&defaults, "PUB a 0000000005\r\n", "SILENT");
    expect_fault_at_end(&pending, "P", "AV");
    expect_fault_at_end(&pending, "\n", "AV");
    expect_fault_at_end(&pending, "CX", "PERR");
}

static void test_pub(void **state)
{
    (void)state;
    expect("PUB a 5\r\nhello\r\n", "PUB a - 0/5 hello;");
    expect("PUB a 0\r\n\r\n", "PUB a - 0/0 ;");
    expect("PUB a r 5\r\nhello\r\n", "PUB a r 0/5 hello;");
    expect("pub a  r\t5 \r\nhello\r\n", "PUB a r 0/5 hello;");
    expect("PUB a  5\r\nhello\r\n", "PUB a - 0/5 hello;");
    expect("PUB a 5\nhello\r\n", "PUB a - 0/5 hello;");
    expect("PUB a 5\r\nhello\n", "PERR");
    expect("PUB a 4\r\nhello\r\n", "PERR");
    expect("PUB a 6\r\nhello\r\nPING\r\n", "PERR");
    expect("PUB a 0\r\n\r\n\r\n", "PUB a - 0/0 ;PERR");
    expect("PUB a 05\r\nhello\r\n", "PUB a - 0/5 hello;");
    expect("PUB a 000000005\r\nhello\r\n", "PUB a - 0/5 hello;");
    expect("PUB a 0000000005\r\n", "SILENT");
    expect("PUB a +5\r\n", "SILENT");
    expect("PUB a -5\r\n", "SILENT");
    expect("PUB a 5x\r\n", "SILENT");
    expect("PUB a x\r\n", "SILENT");
    expect("PUB a\r\n", "SILENT");
    expect("PUB 5\r\n", "SILENT");
    expect("PUB \r\n", "SILENT");
    expect("PUB a b c 5\r\n", "SILENT");
    expect("PUB a 1048577\r\n", "MPV");
    expect("PUB a 999999999\r\n", "MPV");
    expect("PUB a 1000000000\r\n", "SILENT");
    expect("PUB ok r.* 1\r\nx\r\n", "PUB ok r.* 0/1 x;");
    expect("PUB event.feed.node_created 4\r\n\r\n\r\n\r\nPUB event.feed.node_created _INBOX.abc.1 "
           "1\r\nx\r\n",
           "PUB event.feed.node_created - 0/4 \\x0d\\x0a\\x0d\\x0a;"
           "PUB event.feed.node_created _INBOX.abc.1 0/1 x;");
    expect("SU"
           "B a 1\r\nPUB a 5\r\nhello\r\nPING\r\n",
           "SUB a - 1;PUB a - 0/5 hello;PING;");
}

static void test_hpub(void **state)
{
    const struct options no_headers = {1 << 20, 4096, false, false};

    (void)state;
    expect("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", "HPUB a - 12/12 NATS/1.0\\x0d\\x0a\\x0d\\x0a;");
    expect("HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
           "HPUB a r 12/14 NATS/1.0\\x0d\\x0a\\x0d\\x0ahi;");
    expect("hpub a  12 14\nNATS/1.0\r\n\r\nhi\r\n",
           "HPUB a - 12/14 NATS/1.0\\x0d\\x0a\\x0d\\x0ahi;");
    expect("HPUB a 0 2\r\nhi\r\n", "HPUB a - 0/2 hi;");
    expect("HPUB a 2 2\r\nhi\r\n", "HPUB a - 2/2 hi;");
    expect("HPUB a 14 12\r\n", "SILENT");
    expect("HPUB a 13 12\r\nNATS/1.0\r\n\r\n\r\nPING\r\n", "SILENT");
    expect("HPUB a 12\r\n", "SILENT");
    expect("HPUB a r q 12 12\r\n", "SILENT");
    expect("HPUB a r x 12\r\n", "SILENT");
    expect("HPUB a r 12 x\r\n", "SILENT");
    expect("HPUB a 12 1048577\r\n", "MPV");
    expect("HPUB a 12 12\r\nNATS/1.0\r\n\r\nX", "PERR");
    expect_bytes(&no_headers, "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", 28, "SILENT");
}

static void test_sub_unsub(void **state)
{
    (void)state;
    expect("SUB a 1\r\nSUB a 1\n", "SUB a - 1;SUB a - 1;");
    expect("SUB\ta\t1\r\n", "SUB a - 1;");
    expect("SUB  a \t 1  \r\n", "SUB a - 1;");
    expect("SUB a  1\r\n", "SUB a - 1;");
    expect("SUB a q 1\r\n", "SUB a q 1;");
    expect("SUB a..b q..x abc.-_9\r\n", "SUB a..b q..x abc.-_9;");
    expect("SUB \r\n", "SILENT");
    expect("SUB a\r\n", "SILENT");
    expect("SUB a q 1 x\r\n", "SILENT");
    expect("SUB a foo.bar-\xff\r\n", "SUB a - foo.bar-\\xff;");
    expect("UNSUB 1\r\n", "UNSUB 1 0;");
    expect("UNSUB 1 \r\n", "UNSUB 1 0;");
    expect("UNSUB 1 5\r\n", "UNSUB 1 5;");
    expect("UNSUB 1 0\r\nUNSUB 1 x\r\nUNSUB 1 -1\r\nUNSUB 1 9999999999\r\nUNSUB 1 999999999\r\n",
           "UNSUB 1 0;UNSUB 1 0;UNSUB 1 0;UNSUB 1 0;UNSUB 1 999999999;");
    expect("UNSUB \r\n", "SILENT");
    expect("UNSUB 1 2 3\r\n", "SILENT");
}

/* CR, LF and NUL in subject, queue, sid and reply would break the framing of others: refused
 * without a word. */
static void test_injection(void **state)
{
    static const char nul_sub[] = "SUB f\0o 1\r\n";
    static const char nul_pub[] = "PUB f\0o 1\r\nx\r\n";

    (void)state;
    expect("SUB a\rb 1\r\n", "SILENT");
    expect("SUB a 1\r2\r\n", "SILENT");
    expect("SUB a 12\r3\n", "SILENT");
    expect("SUB a q\r 1\r\n", "SILENT");
    expect("SUB \na 1\r\n", "SILENT");
    expect("PUB a\rb 1\r\nx\r\n", "SILENT");
    expect("PUB \na 0\r\n", "SILENT");
    expect("PUB a r\rr 1\r\n", "SILENT");
    expect("UNSUB 1\r1\r\n", "SILENT");
    expect("HPUB a\rb 12 12\r\n", "SILENT");
    expect_bytes(&defaults, nul_sub, sizeof nul_sub - 1, "SILENT");
    expect_bytes(&defaults, nul_pub, sizeof nul_pub - 1, "SILENT");
    expect("PUB f\x01o 1\r\nx\r\n", "PUB f\\x01o - 0/1 x;");
    expect("PUB f\x7fo\xc3\xa9\xff\xfe 1\r\nx\r\n", "PUB f\\x7fo\\xc3\\xa9\\xff\\xfe - 0/1 x;");
    expect("SUB f\x0bo 1\r\n", "SUB f\\x0bo - 1;");
}

static void test_auth_pending(void **state)
{
    const struct options pending = {1 << 20, 4096, true, true};

    (void)state;
    expect_bytes(&pending, "PING\r\n", 6, "AV");
    expect_bytes(&pending, "\r\n", 2, "AV");
    expect_bytes(&pending, "PUB a 1\r\nx\r\nPUB a 1\r\nx\r\n", 24, "AV");
    expect_bytes(&pending, "HPUB a 1 1\r\nx\r\nPUB a 1\r\nx\r\n", 27, "AV");
    expect_bytes(&pending, "connect {}\r\nPING\r\n", 18, "CONNECT[{}];AV");
    expect_bytes(&pending, "CXXX", 4, "PERR");
}

/* Builds "VERB " + count letters + tail. */
static char *long_line(const char *before, size_t count, const char *after)
{
    const size_t before_len = strlen(before);
    char *line = malloc(before_len + count + strlen(after) + 1);

    assert_non_null(line);
    memcpy(line, before, before_len);
    memset(line + before_len, 'a', count);
    memcpy(line + before_len + count, after, strlen(after) + 1);
    return line;
}

static void expect_long(const char *before, size_t count, const char *after, bool is_accepted)
{
    char *line = long_line(before, count, after);
    struct run *run = start(&defaults);

    feed(run, line, strlen(line));
    assert_int_equal(run->is_dead, !is_accepted);
    if (!is_accepted) {
        assert_string_equal(run->out, "MCL");
    }
    free(run->rest);
    free(run);
    /* Byte by byte, with the same result. */
    run = start(&defaults);
    for (size_t i = 0; line[i] != '\0'; i++) {
        feed(run, line + i, 1);
    }
    assert_int_equal(run->is_dead, !is_accepted);
    free(run->rest);
    free(run);
    free(line);
}

/* C31, C58, C59, C60: the argument bytes count, without verb, blanks behind it, CR and LF. */
static void test_control_line(void **state)
{
    (void)state;
    expect_long("SUB ", 4094, " 1\r\n", true);
    expect_long("SUB ", 4095, " 1\r\n", false);
    expect_long("SUB ", 4094, " 1\n", true);
    expect_long("SUB ", 4095, " 1\n", false);
    expect_long("SUB          ", 4094, " 1\r\n", true);
    expect_long("PUB ", 4094, " 1\r\nx\r\n", true);
    expect_long("PUB ", 4095, " 1\r\nx\r\n", false);
    /* With more behind, so that the fast path sees the whole line. */
    expect_long("PUB ", 4094, " 1\r\nx\r\nPING\r\nPING\r\n", true);
    expect_long("PUB ", 4095, " 1\r\nx\r\nPING\r\nPING\r\n", false);
    expect_long("HPUB ", 4092, " 1 1\r\nx\r\nPING\r\nPING\r\n", true);
    expect_long("HPUB ", 4093, " 1 1\r\nx\r\nPING\r\nPING\r\n", false);
    expect_long("HPUB ", 4092, " 1 1\r\nx\r\n", true);
    expect_long("HPUB ", 4093, " 1 1\r\nx\r\n", false);
    expect_long("CONNECT ", 4096, "\r\n", true);
    expect_long("CONNECT ", 4097, "\r\n", false);
    expect_long("INFO ", 4097, "\r\n", false);
    expect_long("-ERR ", 4097, "\r\n", false);
    expect_long("SUB ", 4096, "", true);
    expect_long("SUB ", 4097, "", false);
    expect_long("SUB ", 9000, "", false);
    expect_long("SUB ", 4096, "\r", true);
    expect_long("PING", 9000, "\r\n", true);
}

/* A large max_control_line is for those who are in. */
static void test_opening_line(void **state)
{
    const struct options pending = {1 << 20, 1 << 20, true, true};
    const struct options open = {1 << 20, 1 << 20, true, false};
    const size_t bound = ESI_CLIENT_OPENING_LINE_MAX;
    char *fits = long_line("CONNECT ", bound, "\r\n");
    char *over = long_line("CONNECT ", bound + 1, "\r\n");
    struct run *run = start(&pending);

    (void)state;
    feed(run, fits, strlen(fits));
    assert_false(run->is_dead);
    assert_memory_equal(run->out, "CONNECT[aaa", 11);
    free(run->rest);
    free(run);
    expect_bytes(&pending, over, strlen(over), "MCL");
    expect_bytes(&pending, over, bound + 8 + 1, "MCL"); /* known before its end */
    run = start(&open);
    feed(run, over, strlen(over));
    assert_false(run->is_dead);
    free(run->rest);
    free(run);
    free(fits);
    free(over);
}

/* What is ignored must not pile up: the parser consumes it although the line is not over. */
static void test_ignored_bytes_need_no_room(void **state)
{
    char blanks[1000];

    (void)state;
    memset(blanks, ' ', sizeof blanks);
    struct run *run = start(&defaults);
    feed(run, "PING", 4);
    for (int i = 0; i < 20; i++) {
        feed(run, blanks, sizeof blanks);
    }
    feed(run, "\r\nSUB", 5);
    for (int i = 0; i < 20; i++) {
        feed(run, blanks, sizeof blanks);
    }
    feed(run, "a 1\r\n", 5);
    assert_true(run->rest_len_max <= 8);
    finish(run, "blanks", 0, "PING;SUB a - 1;");
}

/* C102 to C104, C230: payload of any bytes and of the largest size; -1 lifts the limit. */
static void test_payload_sizes(void **state)
{
    const struct options unlimited = {-1, 4096, true, false};
    char all[512];
    size_t len = 0;

    (void)state;
    len = (size_t)snprintf(all, sizeof all, "PUB a 258\r\n");
    for (int i = 0; i < 256; i++) {
        all[len++] = (char)i;
    }
    memcpy(all + len, "\r\n\r\n", 4);
    len += 4;
    struct run *run = start(&defaults);
    for (size_t i = 0; i < len; i++) {
        feed(run, all + i, 1);
    }
    assert_int_equal(run->rest_len, 0);
    assert_int_equal(strncmp(run->out, "PUB a - 0/258 \\x00\\x01", 22), 0);
    free(run->rest);
    free(run);

    struct esi_client_parser parser;
    struct esi_client_item item;
    size_t consumed = 0;
    esi_client_parser_init(&parser, unlimited.max_payload, unlimited.max_control_line);
    assert_int_equal(esi_client_parser_next(&parser, "PUB a 3000000\r\n", 15, &consumed, &item),
                     CLIENT_MORE);
    /* Verb and blank are gone; the rest of the line, the payload and CR LF are needed. */
    assert_int_equal(consumed + item.needed, 15 + 3000000 + 2);
    esi_client_parser_init(&parser, 1 << 20, 4096);
    assert_int_equal(esi_client_parser_next(&parser, "PUB a 1048576\r\n", 15, &consumed, &item),
                     CLIENT_MORE);
}

/* A limit lowered between the line and its payload does not refuse a message that was accepted. */
static void test_limit_lowered_inside_message(void **state)
{
    (void)state;
    struct run *run = start(&defaults);
    feed(run, "PUB abc 5\r\nhe", 13);
    run->parser.max_payload = 1;
    run->parser.max_control_line = 1;
    feed(run, "llo\r\n", 5);
    finish(run, "lowered", 0, "PUB abc - 0/5 hello;");
}

/* The dead parser repeats its fault and consumes nothing. */
static void test_dead(void **state)
{
    struct esi_client_parser parser;
    struct esi_client_item item = {0};
    size_t consumed = 7;

    (void)state;
    esi_client_parser_init(&parser, 1024, 4096);
    assert_int_equal(esi_client_parser_next(&parser, "PUB a 1025\r\n", 12, &consumed, &item),
                     CLIENT_FAULT);
    assert_int_equal(item.fault, FAULT_MAX_PAYLOAD);
    item.fault = FAULT_NONE;
    assert_int_equal(esi_client_parser_next(&parser, "PING\r\n", 6, &consumed, &item),
                     CLIENT_FAULT);
    assert_int_equal(item.fault, FAULT_MAX_PAYLOAD);
    assert_int_equal(consumed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lexer),         cmocka_unit_test(test_fault_at_first_byte),
        cmocka_unit_test(test_pub),           cmocka_unit_test(test_hpub),
        cmocka_unit_test(test_sub_unsub),     cmocka_unit_test(test_injection),
        cmocka_unit_test(test_auth_pending),  cmocka_unit_test(test_control_line),
        cmocka_unit_test(test_opening_line),  cmocka_unit_test(test_ignored_bytes_need_no_room),
        cmocka_unit_test(test_payload_sizes), cmocka_unit_test(test_limit_lowered_inside_message),
        cmocka_unit_test(test_dead),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
