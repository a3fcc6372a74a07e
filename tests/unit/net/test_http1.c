/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the HTTP/1 server side reads what clients send, however the bytes are cut, answers what it
 * must refuse with the right status, and holds no more than its bounds. Method: bytes in, compare
 * the bytes out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/own.h"
#include "net/http1.h"

static struct esi_http1 *new_http(size_t body_bytes_max)
{
    struct esi_http1 *http = NULL;
    const struct esi_http1_limits limits = {.body_bytes_max = body_bytes_max};

    assert_int_equal(esi_http1_new(&limits, &http), ES_OK);
    return http;
}

static void respond_text(struct esi_http1 *http, unsigned status, const char *text)
{
    esi_http1_respond(http, &(struct esi_http1_response){.status = status,
                                                         .content_type = "text/plain",
                                                         .body = esi_str_from(text)});
}

/* Answers everything with what was understood of it. */
static void serve(struct esi_http1 *http)
{
    const struct esi_http1_request *request;
    char text[512];

    while (esi_http1_next(http, &request) == ES_OK) {
        snprintf(text, sizeof text, "%d %.*s q=%zu h=%zu [%.*s]", (int)request->method,
                 ESI_STR_ARG(request->path), request->query_count, request->header_count,
                 ESI_STR_ARG(request->body));
        respond_text(http, 200, text);
    }
}

static void feed_all(struct esi_http1 *http, const char *data, size_t len)
{
    while (len > 0) {
        const size_t taken = esi_http1_feed(http, data, len);
        data += taken;
        len -= taken;
        serve(http);
        if (taken == 0) {
            return;
        }
    }
}

/* All output as a string, to be freed. */
static char *take_all(struct esi_http1 *http)
{
    struct esi_bytes out;

    esi_bytes_init(&out, 0);
    while (esi_http1_take_output(http, &out, 1000) > 0) {
    }
    esi_bytes_append(&out, "", 1);
    return out.data;
}

static void get_is_understood_and_answered(void **state)
{
    struct esi_http1 *http = new_http(0);
    const struct esi_http1_request *request = NULL;
    static const char INPUT[] = "GET /connz/a%20b?subs=1&user=a%2Bb+c&empty=&flag HTTP/1.1\r\n"
                                "Host: localhost:8222\r\nAUTHORIZATION:  Bearer x y \t\r\n\r\n";
    (void)state;

    assert_true(esi_http1_is_idle(http));
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    assert_int_equal(esi_http1_feed(http, INPUT, sizeof INPUT - 1), sizeof INPUT - 1);
    assert_false(esi_http1_is_idle(http));
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    assert_int_equal(request->method, HTTP1_GET);
    assert_int_equal(request->version_minor, 1);
    assert_true(request->keep_alive);
    assert_true(esi_str_equal(request->path, ESI_STR("/connz/a b")));
    assert_int_equal(request->query_count, 4);
    assert_true(esi_str_equal(esi_http1_query(request, "user"), ESI_STR("a+b c")));
    assert_true(esi_str_equal(esi_http1_query(request, "flag"), ESI_STR("")));
    assert_non_null(esi_http1_query(request, "flag").data);
    assert_null(esi_http1_query(request, "other").data);
    assert_true(esi_str_equal(esi_http1_header(request, "authorization"), ESI_STR("Bearer x y")));
    assert_null(esi_http1_header(request, "accept").data);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    struct esi_http1_pair headers[] = {{ESI_STR("Cache-Control"), ESI_STR("no-store")},
                                       {ESI_STR("X-Bad"), ESI_STR("a\r\nSet-Cookie: b")},
                                       {ESI_STR("X Bad"), ESI_STR("a")}};
    esi_http1_respond(http, &(struct esi_http1_response){.status = 200,
                                                         .content_type = "application/json",
                                                         .body = ESI_STR("{}"),
                                                         .headers = headers,
                                                         .header_count = 3});
    char *out = take_all(http);
    assert_string_equal(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             "Content-Length: 2\r\nConnection: keep-alive\r\n"
                             "Cache-Control: no-store\r\n\r\n{}");
    assert_true(esi_http1_is_idle(http));
    assert_false(esi_http1_is_done(http));
    free(out);
    esi_http1_free(http);
}

static void head_tells_the_length_without_the_body(void **state)
{
    struct esi_http1 *http = new_http(0);
    static const char INPUT[] = "HEAD /varz HTTP/1.1\r\nHost: a\r\n\r\n";
    (void)state;

    feed_all(http, INPUT, sizeof INPUT - 1);
    char *out = take_all(http);
    assert_non_null(strstr(out, "Content-Length: 18\r\n"));
    assert_string_equal(strstr(out, "\r\n\r\n"), "\r\n\r\n");
    free(out);
    esi_http1_free(http);
}

/* Pipelined requests of all kinds: the answers are the same wherever the bytes are cut. */
static void every_split_gives_the_same_answers(void **state)
{
    static const char INPUT[] = "\r\nGET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"
                                "POST /b HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello"
                                "HEAD /c HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n"
                                "POST /d HTTP/1.1\r\nhost:h\r\ncontent-length:0\r\n\r\n"
                                "GET /e HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
                                "GET /f HTTP/1.0\r\n\r\n";
    const size_t len = sizeof INPUT - 1;
    (void)state;

    struct esi_http1 *whole = new_http(100);
    feed_all(whole, INPUT, len);
    char *expected = take_all(whole);
    assert_true(esi_http1_is_done(whole));
    esi_http1_free(whole);
    assert_non_null(strstr(expected, "0 /f q=0 h=0 []"));
    assert_non_null(strstr(expected, "2 /b q=0 h=2 [hello]"));
    assert_non_null(strstr(expected, "0 /e q=0 h=1 []"));
    for (size_t cut = 0; cut <= len; cut++) {
        struct esi_http1 *http = new_http(100);
        feed_all(http, INPUT, cut);
        feed_all(http, INPUT + cut, len - cut);
        char *out = take_all(http);
        assert_string_equal(out, expected);
        free(out);
        esi_http1_free(http);
    }
    struct esi_http1 *http = new_http(100);
    for (size_t i = 0; i < len; i++) {
        feed_all(http, INPUT + i, 1);
    }
    char *out = take_all(http);
    assert_string_equal(out, expected);
    free(out);
    free(expected);
    esi_http1_free(http);
}

static void bad_requests_get_their_status_and_the_end(void **state)
{
    static const struct {
        const char *input;
        const char *status;
    } CASES[] = {
        {"GET\r\n\r\n", "400"},
        {"GET /\r\n\r\n", "400"},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nName : x\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", "400"},
        {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /%0d%0aX HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /?a=%0 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"},
        {"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "405"},
        {"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "405"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "405"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "405"},
        {"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "411"},
        {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "411"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "413"},
        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999\r\n\r\n", "413"},
        {"GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", "417"},
        {"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505"},
        {"GET / HTTP/11\r\nHost: a\r\n\r\n", "400"},
    };
    (void)state;

    for (size_t i = 0; i < ESI_COUNT_OF(CASES); i++) {
        struct esi_http1 *http = new_http(0);
        feed_all(http, CASES[i].input, strlen(CASES[i].input));
        char *out = take_all(http);
        if (strncmp(out, "HTTP/1.1 ", 9) != 0 || strncmp(out + 9, CASES[i].status, 3) != 0) {
            fail_msg("case %zu: expected %s, got %.40s", i, CASES[i].status, out);
        }
        assert_non_null(strstr(out, "Connection: close\r\n"));
        assert_null(strstr(out + 1, "HTTP/1.1"));
        assert_true(esi_http1_is_done(http));
        assert_int_equal(esi_http1_feed(http, "GET", 3), 0);
        free(out);
        esi_http1_free(http);
    }
}

/* Fills a request up to the bounds and one over, without ever sending more than the server takes.
 */
static void heads_are_bounded(void **state)
{
    const size_t capacity = 64 * 1024;
    char *input = malloc(capacity);
    (void)state;

    static const struct {
        size_t target_len;
        size_t headers;
        size_t header_len;
        const char *status;
    } CASES[] = {{4096, 1, 10, "200"}, {4097, 1, 10, "414"}, {9000, 1, 10, "414"},
                 {1, 63, 10, "200"},   {1, 64, 10, "431"},   {1, 1, 7000, "200"},
                 {1, 1, 9000, "431"},  {1, 5, 2000, "431"}};
    assert_non_null(input);
    for (size_t i = 0; i < ESI_COUNT_OF(CASES); i++) {
        size_t len = 0;
        memcpy(input, "GET ", 4);
        memset(input + 4, '/', CASES[i].target_len);
        len = 4 + CASES[i].target_len;
        len += (size_t)snprintf(input + len, capacity - len, " HTTP/1.1\r\nHost: a\r\n");
        for (size_t h = 0; h < CASES[i].headers; h++) {
            len += (size_t)snprintf(input + len, capacity - len, "X%zu: ", h);
            memset(input + len, 'v', CASES[i].header_len);
            len += CASES[i].header_len;
            len += (size_t)snprintf(input + len, capacity - len, "\r\n");
        }
        len += (size_t)snprintf(input + len, capacity - len, "\r\n");
        struct esi_http1 *http = new_http(0);
        feed_all(http, input, len);
        char *out = take_all(http);
        if (strncmp(out + 9, CASES[i].status, 3) != 0) {
            fail_msg("case %zu: expected %s, got %.40s", i, CASES[i].status, out);
        }
        free(out);
        esi_http1_free(http);
    }
    free(input);
}

static void too_many_parameters_are_refused(void **state)
{
    struct esi_http1 *http = new_http(0);
    struct esi_bytes input;
    (void)state;

    esi_bytes_init(&input, 0);
    esi_bytes_append_text(&input, "GET /?");
    for (int i = 0; i <= HTTP1_QUERY_MAX; i++) {
        esi_bytes_printf(&input, "&a%d=1", i);
    }
    esi_bytes_append_text(&input, " HTTP/1.1\r\nHost: a\r\n\r\n");
    feed_all(http, input.data, input.len);
    char *out = take_all(http);
    assert_int_equal(strncmp(out, "HTTP/1.1 400", 12), 0);
    free(out);
    esi_bytes_deinit(&input);
    esi_http1_free(http);
}

static void a_body_waits_for_continue(void **state)
{
    struct esi_http1 *http = new_http(10);
    const struct esi_http1_request *request = NULL;
    static const char HEAD[] = "POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"
                               "Expect: 100-continue\r\n\r\n";
    (void)state;

    esi_http1_feed(http, HEAD, sizeof HEAD - 1);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    char *out = take_all(http);
    assert_string_equal(out, "HTTP/1.1 100 Continue\r\n\r\n");
    free(out);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    esi_http1_feed(http, "0123456789", 10);
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    assert_true(esi_str_equal(request->body, ESI_STR("0123456789")));
    respond_text(http, 202, "accepted");
    out = take_all(http);
    assert_int_equal(strncmp(out, "HTTP/1.1 202 Accepted\r\n", 23), 0);
    free(out);
    esi_http1_free(http);
    http = new_http(10);
    static const char LONG[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    feed_all(http, LONG, sizeof LONG - 1);
    out = take_all(http);
    assert_int_equal(strncmp(out, "HTTP/1.1 413", 12), 0);
    free(out);
    esi_http1_free(http);
}

/* What a request borrows stays in place while its body, and more after it, comes in small pieces.
 */
static void a_request_stays_valid_while_more_comes(void **state)
{
    struct esi_http1 *http = new_http(100000);
    const struct esi_http1_request *request = NULL;
    static const char HEAD[] = "POST /event?a=b HTTP/1.1\r\nHost: a\r\nX-Key: value\r\n"
                               "Content-Length: 100000\r\n\r\n";
    (void)state;

    esi_http1_feed(http, HEAD, sizeof HEAD - 1);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(esi_http1_feed(http, "x", 1), 1);
    }
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    while (esi_http1_feed(http, "y", 1) == 1) {
    }
    assert_true(esi_str_equal(request->path, ESI_STR("/event")));
    assert_true(esi_str_equal(esi_http1_query(request, "a"), ESI_STR("b")));
    assert_true(esi_str_equal(esi_http1_header(request, "x-key"), ESI_STR("value")));
    assert_int_equal(request->body.len, 100000);
    assert_int_equal(request->body.data[99999], 'x');
    respond_text(http, 202, "accepted");
    esi_http1_free(http);
}

static void output_is_bounded_and_taken_in_pieces(void **state)
{
    struct esi_http1 *http = NULL;
    const struct esi_http1_limits limits = {.output_bytes_max = 2000000};
    static const char INPUT[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const struct esi_http1_request *request = NULL;
    char *body = malloc(3000000);
    struct esi_bytes out;
    (void)state;

    assert_non_null(body);
    memset(body, 'b', 3000000);
    assert_int_equal(esi_http1_new(&limits, &http), ES_OK);
    esi_http1_feed(http, INPUT, sizeof INPUT - 1);
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    esi_http1_respond(
        http, &(struct esi_http1_response){.status = 200, .body = {.data = body, .len = 1500000}});
    assert_int_equal(esi_http1_room(http), 0);
    esi_bytes_init(&out, 0);
    while (esi_http1_output_len(http) > 0) {
        assert_in_range(esi_http1_take_output(http, &out, 65536), 1, 65536);
    }
    assert_true(out.len > 1500000 && out.len < 1500200);
    assert_memory_equal(out.data + out.len - 1500000, body, 1500000);
    assert_true(esi_http1_room(http) > 0);
    esi_http1_feed(http, INPUT, sizeof INPUT - 1);
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    esi_http1_respond(
        http, &(struct esi_http1_response){.status = 200, .body = {.data = body, .len = 3000000}});
    char *text = take_all(http);
    assert_string_equal(text, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"
                              "Connection: close\r\n\r\n");
    assert_true(esi_http1_is_done(http));
    free(text);
    free(body);
    esi_bytes_deinit(&out);
    esi_http1_free(http);
}

static void the_end_of_the_peer_and_ours(void **state)
{
    static const char INPUT[] =
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    const struct esi_http1_request *request = NULL;
    (void)state;

    /* The peer ends its side: what it asked for is answered. */
    struct esi_http1 *http = new_http(0);
    esi_http1_feed(http, INPUT, sizeof INPUT - 1);
    esi_http1_feed_end(http);
    serve(http);
    char *out = take_all(http);
    assert_non_null(strstr(out, "0 /2 "));
    assert_non_null(strstr(out, "Connection: close"));
    assert_true(esi_http1_is_done(http));
    free(out);
    esi_http1_free(http);
    /* It ends inside a request. */
    http = new_http(0);
    esi_http1_feed(http, INPUT, 10);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    esi_http1_feed_end(http);
    assert_int_equal(esi_http1_next(http, &request), ES_CLOSED);
    assert_true(esi_http1_is_done(http));
    esi_http1_free(http);
}

/* Endless lines without an end are refused at the bound, in single bytes too, with linear work. */
static void endless_input_is_ended(void **state)
{
    static const char *const STARTS[] = {"", "GET / HTTP/1.1\r\nX: "};
    (void)state;

    for (size_t i = 0; i < ESI_COUNT_OF(STARTS); i++) {
        struct esi_http1 *http = new_http(0);
        feed_all(http, STARTS[i], strlen(STARTS[i]));
        size_t fed = 0;
        while (!esi_http1_is_done(http) && fed < 20000) {
            feed_all(http, "a", 1);
            fed++;
            if (esi_http1_output_len(http) > 0) {
                char *out = take_all(http);
                assert_int_equal(strncmp(out + 9, i == 0 ? "414" : "431", 3), 0);
                free(out);
            }
        }
        assert_in_range(fed, 8000, 8192);
        esi_http1_free(http);
    }
}

/* A buffer that grows leaves what it held behind in freed memory, and a head can hold a token. */
static void a_head_is_never_moved(void **state)
{
    static const char BEGUN[] = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer to";
    static const char REST[] = "ken\r\n\r\n";
    struct esi_http1 *http = new_http(1 << 20);
    const struct esi_http1_request *request = NULL;
    char *more = malloc(100000);

    (void)state;
    assert_non_null(more);
    memset(more, 'x', 100000);
    memcpy(more, REST, sizeof REST - 1);
    assert_int_equal(esi_http1_feed(http, BEGUN, sizeof BEGUN - 1), sizeof BEGUN - 1);
    assert_int_equal(esi_http1_next(http, &request), ES_AGAIN);
    const size_t held = esi_http1_memory_bytes(http);
    assert_in_range(esi_http1_feed(http, more, 100000), sizeof REST - 1, 99999);
    assert_int_equal(esi_http1_memory_bytes(http), held);
    assert_int_equal(esi_http1_room(http), 0);
    assert_int_equal(esi_http1_next(http, &request), ES_OK);
    assert_true(esi_str_equal(esi_http1_header(request, "authorization"), ESI_STR("Bearer token")));
    free(more);
    esi_http1_free(http);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_is_understood_and_answered),
        cmocka_unit_test(head_tells_the_length_without_the_body),
        cmocka_unit_test(every_split_gives_the_same_answers),
        cmocka_unit_test(bad_requests_get_their_status_and_the_end),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(too_many_parameters_are_refused),
        cmocka_unit_test(a_body_waits_for_continue),
        cmocka_unit_test(a_request_stays_valid_while_more_comes),
        cmocka_unit_test(a_head_is_never_moved),
        cmocka_unit_test(output_is_bounded_and_taken_in_pieces),
        cmocka_unit_test(the_end_of_the_peer_and_ours),
        cmocka_unit_test(endless_input_is_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
