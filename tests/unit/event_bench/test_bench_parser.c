/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what a NATS server sends is read as the protocol says, cut anywhere, and what is none of it
 * is refused. Method: whole frames, every shorter piece of each, and broken ones; each input stands
 * in memory of exactly its size, so that a sanitizer sees a read beyond it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "event_bench/bench_parser.h"

enum { PAYLOAD_MAX = 1000 };

/* Parses a copy of exactly len bytes. The frame's parts would dangle, so only their lengths are of
 * use afterwards. */
static enum esi_bench_op parse(const char *text, size_t len, struct esi_bench_frame *frame,
                               size_t *used)
{
    /* The copy ends where the memory ends. */
    char *memory = malloc(len + 1);
    char *copy = memory + 1;

    assert_non_null(memory);
    memcpy(copy, text, len);
    const enum esi_bench_op op =
        esi_bench_parser_next((struct esi_str){.data = copy, .len = len}, PAYLOAD_MAX, frame, used);
    free(memory);
    return op;
}

/* The text is one frame: it is used up whole, and every piece of it asks for more. */
static void expect_frame(const char *text, enum esi_bench_op op)
{
    struct esi_bench_frame frame;
    size_t used = 0;
    const size_t len = strlen(text);

    assert_int_equal(parse(text, len, &frame, &used), op);
    assert_int_equal(used, len);
    for (size_t piece = 0; piece < len; piece++) {
        assert_int_equal(parse(text, piece, &frame, &used), BENCH_OP_PART);
    }
}

static void expect_bad(const char *text)
{
    struct esi_bench_frame frame;
    size_t used = 12345;

    assert_int_equal(parse(text, strlen(text), &frame, &used), BENCH_OP_BAD);
    assert_int_equal(used, 12345);
}

static void test_frames(void **state)
{
    (void)state;
    expect_frame("PING\r\n", BENCH_OP_PING);
    expect_frame("PONG\r\n", BENCH_OP_PONG);
    expect_frame("+OK\r\n", BENCH_OP_OK);
    expect_frame("-ERR 'Slow Consumer'\r\n", BENCH_OP_ERR);
    expect_frame("INFO {\"a\":1} \r\n", BENCH_OP_INFO);
    expect_frame("MSG a 1 5\r\nhello\r\n", BENCH_OP_MSG);
    expect_frame("MSG a.b 17 _INBOX.x.1 0\r\n\r\n", BENCH_OP_MSG);
    expect_frame("HMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n", BENCH_OP_MSG);
    expect_frame("HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n", BENCH_OP_MSG);
    /* A server's own replies have an empty reply token: two blanks. */
    expect_frame("MSG _INBOX.x.1 2  3\r\nabc\r\n", BENCH_OP_MSG);
    expect_frame("PING\n", BENCH_OP_PING);
}

static void expect_str(struct esi_str found, const char *text)
{
    assert_int_equal(found.len, strlen(text));
    assert_memory_equal(found.data, text, found.len);
}

static void test_parts(void **state)
{
    (void)state;
    struct esi_bench_frame frame;
    size_t used;
    const struct esi_str data = ESI_STR("HMSG a.b 17 in.1 4 7\r\nhead\r\n!\r\nPING\r\n");

    assert_int_equal(esi_bench_parser_next(data, PAYLOAD_MAX, &frame, &used), BENCH_OP_MSG);
    expect_str(frame.subject, "a.b");
    expect_str(frame.sid, "17");
    expect_str(frame.reply, "in.1");
    expect_str(frame.header, "head");
    expect_str(frame.payload, "\r\n!");
    assert_int_equal(used, data.len - strlen("PING\r\n"));
}

static void test_text(void **state)
{
    (void)state;
    struct esi_bench_frame frame;
    size_t used;

    assert_int_equal(esi_bench_parser_next(ESI_STR("-ERR  'a b'\r\n"), PAYLOAD_MAX, &frame, &used),
                     BENCH_OP_ERR);
    expect_str(frame.text, "'a b'");
}

static void test_refused(void **state)
{
    (void)state;
    expect_bad("\r\n");
    expect_bad("PINGX\r\n");
    expect_bad("MSGa 1 5\r\nhello\r\n");
    expect_bad("MSG a 5\r\nhello\r\n");
    expect_bad("MSG a 1 r x 5\r\nhello\r\n");
    expect_bad("MSG a 1 b c d 5\r\nhello\r\n");
    expect_bad("MSG a 1 -5\r\nhello\r\n");
    expect_bad("MSG a 1 5x\r\nhello\r\n");
    expect_bad("MSG a 1 1001\r\n");
    expect_bad("MSG a 1 99999999999999999999\r\n");
    expect_bad("MSG a 1 4\r\nhello\r\n");
    expect_bad("HMSG a 1 6 5\r\nhello\r\n");
    expect_bad("HMSG a 1 5\r\nhello\r\n");
    expect_bad("HTTP/1.1 400 Bad Request\r\n");
}

/* A line without end is not collected for ever. */
static void test_endless_line(void **state)
{
    (void)state;
    struct esi_bench_frame frame;
    size_t used;
    char *line = malloc(BENCH_LINE_BYTES_MAX);

    assert_non_null(line);
    memset(line, 'A', BENCH_LINE_BYTES_MAX);
    struct esi_str data = {.data = line, .len = BENCH_LINE_BYTES_MAX - 1};
    assert_int_equal(esi_bench_parser_next(data, PAYLOAD_MAX, &frame, &used), BENCH_OP_PART);
    data.len = BENCH_LINE_BYTES_MAX;
    assert_int_equal(esi_bench_parser_next(data, PAYLOAD_MAX, &frame, &used), BENCH_OP_BAD);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),       cmocka_unit_test(test_parts),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_endless_line),
    };
    return cmocka_run_group_tests_name("event_bench/bench_parser", tests, NULL, NULL);
}
