/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the gRPC client makes a result out of whatever a server answers, and works with a server by
 * another hand. Method: made-up answers through an HTTP/2 server in memory, raw frames, and
 * Debian's grpcio over a loopback socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/own.h"
#include "grpc_peer.h"
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "net/http2.h"

static const uint64_t SECOND_NS = 1000ULL * 1000 * 1000;

/* ---- made-up answers ---- */

struct answer {
    const char *headers[8];  /* name, value, ...; NULL ends */
    const char *trailers[6]; /* the same */
    const char *body;
    size_t body_len;
    enum esi_grpc_status status;
    bool is_from_peer;
    const char *text; /* NULL = any */
};

/* An HTTP/2 server that gives one answer to each request. */
struct fake {
    struct esi_http2 *http2;
    struct esi_http2_stream *stream;
    const struct answer *answer;
};

static size_t to_headers(const char *const *texts, struct esi_http2_header *out)
{
    size_t count = 0;

    while (texts[2 * count] != NULL) {
        out[count].name = esi_str_from(texts[2 * count]);
        out[count].value = esi_str_from(texts[2 * count + 1]);
        count++;
    }
    return count;
}

static void *fake_request(void *owner, struct esi_http2_stream *stream)
{
    struct fake *fake = owner;

    fake->stream = stream;
    return fake;
}

static void fake_header(void *owner, void *call, struct esi_str name, struct esi_str value)
{
    (void)owner, (void)call, (void)name, (void)value;
}

static void fake_headers_end(void *owner, void *call, bool is_end)
{
    (void)owner, (void)call, (void)is_end;
}

static void fake_data(void *owner, void *call, struct esi_str data)
{
    (void)owner, (void)call, (void)data;
}

static void fake_end(void *owner, void *call)
{
    struct fake *fake = owner;
    struct esi_http2_header headers[4] = {{.is_secret = false}};
    struct esi_http2_header trailers[3] = {{.is_secret = false}};
    struct esi_bytes body;
    struct esi_http2_response response = {.headers = headers, .trailers = trailers, .body = &body};

    (void)call;
    if (fake->answer == NULL) {
        return;
    }
    esi_bytes_init(&body, 0);
    esi_bytes_append(&body, fake->answer->body, fake->answer->body_len);
    response.header_count = to_headers(fake->answer->headers, headers);
    response.trailer_count = to_headers(fake->answer->trailers, trailers);
    assert_int_equal(esi_http2_respond(fake->http2, fake->stream, &response), ES_OK);
}

static void fake_close(void *owner, void *call, uint32_t code)
{
    (void)owner, (void)call, (void)code;
}

static const struct esi_http2_callbacks FAKE = {.on_request = fake_request,
                                                .on_header = fake_header,
                                                .on_headers_end = fake_headers_end,
                                                .on_data = fake_data,
                                                .on_end = fake_end,
                                                .on_close = fake_close};

static void pump(struct esi_grpc_client *client, struct fake *fake)
{
    struct esi_bytes bytes;
    bool is_silent = false;

    esi_bytes_init(&bytes, 0);
    while (!is_silent) {
        is_silent = true;
        esi_bytes_clear(&bytes);
        if (esi_grpc_client_take_output(client, &bytes, SIZE_MAX) > 0) {
            is_silent = false;
            (void)!esi_http2_feed(fake->http2, bytes.data, bytes.len, 0);
        }
        esi_bytes_clear(&bytes);
        if (esi_http2_take_output(fake->http2, &bytes, SIZE_MAX) > 0) {
            is_silent = false;
            (void)!esi_grpc_client_feed(client, bytes.data, bytes.len, 0);
        }
    }
    esi_bytes_deinit(&bytes);
}

static uint32_t call(struct esi_grpc_client *client, const char *method, struct esi_str message,
                     uint64_t timeout_ns)
{
    const struct esi_grpc_metadata metadata = {
        .name = ESI_STR("api-token"), .value = ESI_STR("s3cret"), .is_secret = true};
    char path[64];
    uint32_t id = 0;

    snprintf(path, sizeof path, "/test.Peer/%s", method);
    const struct esi_grpc_call spec = {.path = esi_str_from(path),
                                       .authority = ESI_STR("localhost"),
                                       .message = message,
                                       .metadata = &metadata,
                                       .metadata_count = 1,
                                       .timeout_ns = timeout_ns};
    assert_int_equal(esi_grpc_client_call(client, &spec, peer_now_ns(), &id), ES_OK);
    return id;
}

#define GRPC_TYPE "content-type", "application/grpc"

static void every_answer_becomes_a_result(void **state)
{
    static const char GOOD[] = "\0\0\0\0\x02hi";
    static const struct answer ANSWERS[] = {
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "0"}, GOOD, 7, GRPC_OK, true, ""},
        {{":status", "200", "content-type", "application/grpc+proto"},
         {"grpc-status", "0"},
         GOOD,
         7,
         GRPC_OK,
         true,
         ""},
        /* Trailers alone. */
        {{":status", "200", GRPC_TYPE, "grpc-status", "5"},
         {NULL},
         "",
         0,
         GRPC_NOT_FOUND,
         true,
         ""},
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "5", "grpc-message", "a%20b%0A%ff"},
         "",
         0,
         GRPC_NOT_FOUND,
         true,
         "a b??"},
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "13"}, GOOD, 7, GRPC_INTERNAL, true, ""},
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "99"}, GOOD, 7, GRPC_UNKNOWN, true, ""},
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "x"}, GOOD, 7, GRPC_UNKNOWN, true, ""},
        /* An early status does not count. */
        {{":status", "200", GRPC_TYPE, "grpc-status", "0"},
         {"x", "y"},
         GOOD,
         7,
         GRPC_UNKNOWN,
         false,
         "the answer has no gRPC status"},
        {{":status", "200", GRPC_TYPE}, {"x", "y"}, GOOD, 7, GRPC_UNKNOWN, false, NULL},
        {{":status", "200", GRPC_TYPE}, {NULL}, GOOD, 7, GRPC_UNKNOWN, false, NULL},
        {{":status", "200", GRPC_TYPE}, {NULL}, "", 0, GRPC_UNKNOWN, false, NULL},
        /* Messages. */
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "0"},
         "",
         0,
         GRPC_INTERNAL,
         false,
         "the answer has no message"},
        {{":status", "200", GRPC_TYPE, "grpc-status", "0"},
         {NULL},
         "",
         0,
         GRPC_INTERNAL,
         false,
         NULL},
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "0"}, GOOD, 3, GRPC_INTERNAL, false, NULL},
        {{":status", "200", GRPC_TYPE}, {"grpc-status", "0"}, GOOD, 6, GRPC_INTERNAL, false, NULL},
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "0"},
         "\1\0\0\0\2hi",
         7,
         GRPC_UNIMPLEMENTED,
         false,
         "compressed messages are not supported"},
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "0"},
         "\2\0\0\0\2hi",
         7,
         GRPC_INTERNAL,
         false,
         NULL},
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "0"},
         "\0\0\0\0\0\0\0\0\0\0",
         10,
         GRPC_UNIMPLEMENTED,
         false,
         "more than one message in a unary call"},
        {{":status", "200", GRPC_TYPE},
         {"grpc-status", "0"},
         "\0\xff\xff\xff\xff",
         5,
         GRPC_RESOURCE_EXHAUSTED,
         false,
         NULL},
        /* Not gRPC. */
        {{":status", "200", "content-type", "text/html"},
         {NULL},
         "<html>",
         6,
         GRPC_UNKNOWN,
         false,
         "the answer is not gRPC"},
        {{":status", "200"}, {NULL}, "", 0, GRPC_UNKNOWN, false, NULL},
        {{":status", "400"}, {NULL}, "x", 1, GRPC_INTERNAL, false, NULL},
        {{":status", "401"}, {NULL}, "", 0, GRPC_UNAUTHENTICATED, false, NULL},
        {{":status", "403"}, {NULL}, "", 0, GRPC_PERMISSION_DENIED, false, NULL},
        {{":status", "404"}, {NULL}, "", 0, GRPC_UNIMPLEMENTED, false, NULL},
        {{":status", "429"}, {NULL}, "", 0, GRPC_UNAVAILABLE, false, NULL},
        {{":status", "502"}, {NULL}, "", 0, GRPC_UNAVAILABLE, false, NULL},
        {{":status", "503"},
         {NULL},
         "x",
         1,
         GRPC_UNAVAILABLE,
         false,
         "HTTP status 503 instead of a gRPC answer"},
        {{":status", "504"}, {NULL}, "", 0, GRPC_UNAVAILABLE, false, NULL},
        {{":status", "500"}, {NULL}, "", 0, GRPC_UNKNOWN, false, NULL},
        {{":status", "503", GRPC_TYPE, "grpc-status", "8"},
         {NULL},
         "",
         0,
         GRPC_RESOURCE_EXHAUSTED,
         true,
         NULL},
    };
    struct fake fake = {.http2 = NULL};
    struct esi_grpc_client *client;
    struct esi_grpc_result result;
    (void)state;

    assert_int_equal(esi_http2_new(HTTP2_SERVER, NULL, &FAKE, &fake, &fake.http2), ES_OK);
    assert_int_equal(esi_grpc_client_new(NULL, &client), ES_OK);
    for (size_t i = 0; i < ESI_COUNT_OF(ANSWERS); i++) {
        const struct answer *answer = &ANSWERS[i];
        fake.answer = answer;
        const uint32_t id = call(client, "X", ESI_STR("x"), 0);
        pump(client, &fake);
        if (!esi_grpc_client_next(client, &result)) {
            fail_msg("answer %zu: no result", i);
        }
        assert_int_equal(result.call_id, id);
        if (result.status != answer->status || result.is_from_peer != answer->is_from_peer ||
            (answer->text != NULL &&
             !esi_str_equal(result.status_text, esi_str_from(answer->text)))) {
            fail_msg("answer %zu: got %s, from peer %d: %.*s", i,
                     esi_grpc_status_name(result.status), result.is_from_peer,
                     ESI_STR_ARG(result.status_text));
        }
        assert_true(
            esi_str_equal(result.message, result.status == GRPC_OK ? ESI_STR("hi") : ESI_STR("")));
        assert_false(esi_grpc_client_next(client, &result));
    }
    assert_int_equal(esi_grpc_client_in_flight(client), 0);
    assert_false(esi_grpc_client_is_draining(client));
    esi_grpc_client_free(client);
    esi_http2_free(fake.http2);
}

static void resets_become_statuses(void **state)
{
    static const struct {
        uint32_t code;
        enum esi_grpc_status status;
        bool is_unstarted;
    } CASES[] = {{HTTP2_NO_ERROR, GRPC_INTERNAL, false},
                 {HTTP2_PROTOCOL_ERROR, GRPC_INTERNAL, false},
                 {HTTP2_REFUSED_STREAM, GRPC_UNAVAILABLE, true},
                 {HTTP2_CANCEL, GRPC_CANCELLED, false},
                 {HTTP2_ENHANCE_YOUR_CALM, GRPC_RESOURCE_EXHAUSTED, false},
                 {HTTP2_INADEQUATE_SECURITY, GRPC_PERMISSION_DENIED, false},
                 {0xffffffff, GRPC_INTERNAL, false}};
    struct fake fake = {.http2 = NULL};
    struct esi_grpc_client *client;
    struct esi_grpc_result result;
    (void)state;

    assert_int_equal(esi_http2_new(HTTP2_SERVER, NULL, &FAKE, &fake, &fake.http2), ES_OK);
    assert_int_equal(esi_grpc_client_new(NULL, &client), ES_OK);
    for (size_t i = 0; i < ESI_COUNT_OF(CASES); i++) {
        call(client, "X", ESI_STR("x"), 0);
        pump(client, &fake);
        esi_http2_reset(fake.http2, fake.stream, CASES[i].code);
        pump(client, &fake);
        assert_true(esi_grpc_client_next(client, &result));
        assert_int_equal(result.status, CASES[i].status);
        assert_int_equal(result.is_unstarted, CASES[i].is_unstarted);
        assert_false(result.is_from_peer);
    }
    esi_grpc_client_free(client);
    esi_http2_free(fake.http2);
}

/* ---- raw frames ---- */

static void feed(struct esi_grpc_client *client, const char *bytes, size_t len, enum es_err error)
{
    assert_int_equal(esi_grpc_client_feed(client, bytes, len, 0), error);
}

static void goaway_frees_the_calls_above_its_number(void **state)
{
    static const char SETTINGS[] = "\0\0\0\4\0\0\0\0\0";
    static const char GOAWAY[] = "\0\0\x08\7\0\0\0\0\0\0\0\0\1\0\0\0\0"; /* last stream 1 */
    struct esi_grpc_client *client;
    struct esi_grpc_result result;
    struct esi_bytes out;
    (void)state;

    esi_bytes_init(&out, 0);
    assert_int_equal(esi_grpc_client_new(NULL, &client), ES_OK);
    const uint32_t first = call(client, "X", ESI_STR("x"), 0);
    const uint32_t second = call(client, "X", ESI_STR("x"), 0);
    esi_grpc_client_take_output(client, &out, SIZE_MAX);
    const uint32_t third = call(client, "X", ESI_STR("x"), 0);
    feed(client, SETTINGS, sizeof SETTINGS - 1, ES_OK);
    feed(client, GOAWAY, sizeof GOAWAY - 1, ES_OK);
    assert_true(esi_grpc_client_is_draining(client));
    esi_grpc_client_take_output(client, &out, SIZE_MAX);
    assert_true(esi_grpc_client_next(client, &result));
    assert_int_equal(result.call_id, second);
    assert_int_equal(result.status, GRPC_UNAVAILABLE);
    assert_true(result.is_unstarted);
    assert_true(esi_grpc_client_next(client, &result));
    assert_int_equal(result.call_id, third);
    assert_int_equal(result.status, GRPC_UNAVAILABLE);
    assert_true(result.is_unstarted);
    assert_false(esi_grpc_client_next(client, &result));
    assert_int_equal(esi_grpc_client_in_flight(client), 1);
    esi_grpc_client_lost(client);
    assert_true(esi_grpc_client_next(client, &result));
    assert_int_equal(result.call_id, first);
    assert_int_equal(result.status, GRPC_UNAVAILABLE);
    assert_false(result.is_unstarted);
    esi_bytes_deinit(&out);
    esi_grpc_client_free(client);
}

static void garbage_ends_all_calls(void **state)
{
    static const char *const GARBAGE[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "garbage garbage",
                                          "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    struct esi_grpc_result result;
    (void)state;

    for (size_t i = 0; i < ESI_COUNT_OF(GARBAGE); i++) {
        struct esi_grpc_client *client;
        assert_int_equal(esi_grpc_client_new(NULL, &client), ES_OK);
        call(client, "X", ESI_STR("x"), 0);
        call(client, "X", ESI_STR("x"), SECOND_NS);
        struct esi_bytes out;
        esi_bytes_init(&out, 0);
        esi_grpc_client_take_output(client, &out, SIZE_MAX);
        feed(client, GARBAGE[i], strlen(GARBAGE[i]), ES_INVALID);
        for (int n = 0; n < 2; n++) {
            assert_true(esi_grpc_client_next(client, &result));
            assert_int_equal(result.status, GRPC_INTERNAL);
        }
        assert_false(esi_grpc_client_next(client, &result));
        feed(client, "x", 1, ES_CLOSED);
        assert_true(esi_grpc_client_take_output(client, &out, SIZE_MAX) > 0);
        assert_true(esi_grpc_client_is_done(client));
        esi_bytes_deinit(&out);
        esi_grpc_client_free(client);
    }
}

static void bad_calls_are_refused_at_once(void **state)
{
    const struct esi_grpc_client_options options = {.in_flight_max = 2, .outbound_bytes_max = 1000};
    static const struct esi_grpc_metadata METADATA[] = {
        {.name = ESI_STR("X-Upper"), .value = ESI_STR("a")},
        {.name = ESI_STR(""), .value = ESI_STR("a")},
        {.name = ESI_STR("grpc-status"), .value = ESI_STR("0")},
        {.name = ESI_STR(":path"), .value = ESI_STR("/")},
        {.name = ESI_STR("te"), .value = ESI_STR("x")},
        {.name = ESI_STR("a"), .value = ESI_STR("a\r\nb: c")},
        {.name = ESI_STR("a"), .value = ESI_STR("\xff")},
    };
    static const char *const PATHS[] = {"", "a", "/a b", "/a\n", "/\x80"};
    static char message[2000];
    struct esi_grpc_client *client;
    uint32_t id;
    (void)state;

    assert_int_equal(esi_grpc_client_new(&options, &client), ES_OK);
    struct esi_grpc_call spec = {.path = ESI_STR("/a/b"), .authority = ESI_STR("a")};
    for (size_t i = 0; i < ESI_COUNT_OF(METADATA); i++) {
        spec.metadata = &METADATA[i];
        spec.metadata_count = 1;
        assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_INVALID);
    }
    spec.metadata_count = 0;
    for (size_t i = 0; i < ESI_COUNT_OF(PATHS); i++) {
        spec.path = esi_str_from(PATHS[i]);
        assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_INVALID);
    }
    spec.path = ESI_STR("/a/b");
    spec.authority = ESI_STR("");
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_INVALID);
    spec.authority = ESI_STR("a");
    spec.message = (struct esi_str){.data = message, .len = sizeof message};
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_FULL);
    spec.message.len = 600;
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_OK);
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_FULL);
    spec.message.len = 10;
    assert_int_equal(esi_grpc_client_capacity(client), 1);
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_OK);
    assert_int_equal(esi_grpc_client_call(client, &spec, 0, &id), ES_FULL);
    esi_grpc_client_free(client);
}

/* ---- a server by another hand ---- */

/* Writes and reads until there is a result; false when the connection ends or 60 s pass. */
static bool wait_for_result(struct esi_grpc_client *client, int fd, struct esi_grpc_result *result)
{
    static char buffer[65536];
    struct esi_bytes out;
    const uint64_t end_ns = peer_now_ns() + 60 * SECOND_NS;
    bool has_result = false;

    esi_bytes_init(&out, 0);
    while (!(has_result = esi_grpc_client_next(client, result)) && peer_now_ns() < end_ns) {
        if (out.len == 0) {
            esi_grpc_client_take_output(client, &out, 100000);
        }
        struct pollfd ready = {.fd = fd, .events = (short)(POLLIN | (out.len > 0 ? POLLOUT : 0))};
        poll(&ready, 1, 20);
        if ((ready.revents & POLLOUT) != 0) {
            const ssize_t sent = send(fd, out.data, out.len, MSG_NOSIGNAL);
            if (sent > 0) {
                esi_bytes_consume(&out, (size_t)sent);
            }
        }
        if ((ready.revents & (POLLIN | POLLHUP)) != 0) {
            const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got == 0 || (got < 0 && errno != EAGAIN)) {
                esi_grpc_client_lost(client);
            } else if (got > 0) {
                (void)!esi_grpc_client_feed(client, buffer, (size_t)got, peer_now_ns());
            }
        }
        esi_grpc_client_tick(client, peer_now_ns());
    }
    /* What was taken must not be lost between two waits. */
    while (out.len > 0) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        poll(&ready, 1, 1000);
        const ssize_t sent = send(fd, out.data, out.len, MSG_NOSIGNAL);
        if (sent <= 0) {
            break;
        }
        esi_bytes_consume(&out, (size_t)sent);
    }
    esi_bytes_deinit(&out);
    return has_result;
}

static struct esi_grpc_result expect(struct esi_grpc_client *client, int fd, uint32_t id,
                                     enum esi_grpc_status status)
{
    struct esi_grpc_result result;

    if (!wait_for_result(client, fd, &result)) {
        fail_msg("no result");
    }
    assert_int_equal(result.call_id, id);
    if (result.status != status) {
        fail_msg("expected %s, got %s: %.*s", esi_grpc_status_name(status),
                 esi_grpc_status_name(result.status), ESI_STR_ARG(result.status_text));
    }
    return result;
}

static void echo_long_messages(struct esi_grpc_client *client, int fd)
{
    enum { LEN = 1 << 20, CALLS = 8 };
    char *message = malloc(LEN);
    struct esi_grpc_result result;

    assert_non_null(message);
    for (size_t i = 0; i < LEN; i++) {
        message[i] = (char)(i * 31 + i / 251);
    }
    for (int i = 0; i < CALLS; i++) {
        call(client, "Echo", (struct esi_str){.data = message, .len = LEN}, 60 * SECOND_NS);
    }
    for (int i = 0; i < CALLS; i++) {
        assert_true(wait_for_result(client, fd, &result));
        assert_int_equal(result.status, GRPC_OK);
        assert_int_equal(result.message.len, LEN);
        assert_memory_equal(result.message.data, message, LEN);
    }
    free(message);
}

static void echo_many(struct esi_grpc_client *client, int fd)
{
    enum { CALLS = 1000 };
    static bool seen[CALLS];
    struct esi_grpc_result result;
    uint32_t started = 0;

    for (uint32_t finished = 0; finished < CALLS; finished++) {
        while (started < CALLS && esi_grpc_client_capacity(client) > 0) {
            call(client, "Echo", (struct esi_str){.data = (char *)&started, .len = sizeof started},
                 60 * SECOND_NS);
            started++;
        }
        assert_true(wait_for_result(client, fd, &result));
        assert_int_equal(result.status, GRPC_OK);
        uint32_t value;
        assert_int_equal(result.message.len, sizeof value);
        memcpy(&value, result.message.data, sizeof value);
        assert_true(value < CALLS && !seen[value]);
        seen[value] = true;
    }
}

static void works_with_grpcio_as_server(void **state)
{
    struct grpc_peer peer = {0};
    struct esi_grpc_client *client;
    char line[32];
    (void)state;

    if (!peer_is_available()) {
        fail_msg("/usr/bin/python3 has no grpc: install python3-grpcio (scripts/setup does)");
    }
    assert_true(peer_start(&peer, "server", ""));
    assert_true(peer_read_line(&peer, line, sizeof line));
    const int fd = peer_connect((unsigned)strtoul(line, NULL, 10));
    assert_true(fd >= 0);
    assert_int_equal(esi_grpc_client_new(NULL, &client), ES_OK);

    uint32_t id = call(client, "Echo", ESI_STR("hello"), 20 * SECOND_NS);
    assert_true(esi_str_equal(expect(client, fd, id, GRPC_OK).message, ESI_STR("hello")));
    id = call(client, "Echo", ESI_STR(""), 0);
    assert_int_equal(expect(client, fd, id, GRPC_OK).message.len, 0);
    id = call(client, "Token", ESI_STR(""), 20 * SECOND_NS);
    assert_true(esi_str_equal(expect(client, fd, id, GRPC_OK).message, ESI_STR("s3cret")));
    id = call(client, "Fail", ESI_STR("!"), 20 * SECOND_NS);
    struct esi_grpc_result result = expect(client, fd, id, GRPC_FAILED_PRECONDITION);
    assert_true(result.is_from_peer);
    assert_true(esi_str_equal(result.status_text, ESI_STR("n??h: 100% ?!")));
    id = call(client, "NoSuch", ESI_STR(""), 20 * SECOND_NS);
    expect(client, fd, id, GRPC_UNIMPLEMENTED);
    id = call(client, "Crash", ESI_STR(""), 20 * SECOND_NS);
    expect(client, fd, id, GRPC_UNKNOWN);
    id = call(client, "Large", ESI_STR("5000000"), 20 * SECOND_NS);
    assert_false(expect(client, fd, id, GRPC_RESOURCE_EXHAUSTED).is_from_peer);
    echo_long_messages(client, fd);
    echo_many(client, fd);
    /* A deadline reaches the server. */
    id = call(client, "Slow", ESI_STR(""), 3 * SECOND_NS);
    const uint32_t begun_id = call(client, "WaitBegun", ESI_STR(""), 20 * SECOND_NS);
    expect(client, fd, begun_id, GRPC_OK);
    expect(client, fd, id, GRPC_DEADLINE_EXCEEDED);
    id = call(client, "WaitCancelled", ESI_STR("1"), 20 * SECOND_NS);
    assert_true(esi_str_equal(expect(client, fd, id, GRPC_OK).message, ESI_STR("cancelled")));
    /* The server ends orderly: the call in hand is answered, then no more are taken. */
    assert_false(esi_grpc_client_is_draining(client));
    id = call(client, "Stop", ESI_STR(""), 20 * SECOND_NS);
    expect(client, fd, id, GRPC_OK);
    while (!esi_grpc_client_is_draining(client)) {
        assert_false(wait_for_result(client, fd, &result) && result.status == GRPC_OK);
    }
    const struct esi_grpc_call spec = {.path = ESI_STR("/a/b"), .authority = ESI_STR("a")};
    assert_int_equal(esi_grpc_client_call(client, &spec, peer_now_ns(), &id), ES_CLOSED);
    esi_grpc_client_free(client);
    close(fd);
    assert_int_equal(peer_stop(&peer), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_becomes_a_result),
        cmocka_unit_test(resets_become_statuses),
        cmocka_unit_test(goaway_frees_the_calls_above_its_number),
        cmocka_unit_test(garbage_ends_all_calls),
        cmocka_unit_test(bad_calls_are_refused_at_once),
        cmocka_unit_test(works_with_grpcio_as_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
