/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the gRPC server takes only what is a proper unary call, ends what takes too long, stays
 * bounded, and works with a client by another hand. Method: made-up requests through an HTTP/2
 * client in memory, frames written by hand, a clock that the test moves, and Debian's grpcio over a
 * loopback socket.
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
#include "net/grpc_server.h"
#include "net/http2.h"

static const uint64_t SECOND_NS = 1000ULL * 1000 * 1000;

/* ---- made-up requests ---- */

/* An HTTP/2 client that keeps the last answer. */
struct fake {
    struct esi_http2 *http2;
    struct esi_http2_stream *stream;
    char http_status[8];
    char grpc_status[8];
    char grpc_message[128];
    bool is_closed;
    uint32_t code;
};

static void copy_text(char *to, size_t size, struct esi_str from)
{
    snprintf(to, size, "%.*s", ESI_STR_ARG(from));
}

static void fake_header(void *owner, void *call, struct esi_str name, struct esi_str value)
{
    struct fake *fake = owner;

    (void)call;
    if (esi_str_equal(name, ESI_STR(":status"))) {
        copy_text(fake->http_status, sizeof fake->http_status, value);
    } else if (esi_str_equal(name, ESI_STR("grpc-status"))) {
        copy_text(fake->grpc_status, sizeof fake->grpc_status, value);
    } else if (esi_str_equal(name, ESI_STR("grpc-message"))) {
        copy_text(fake->grpc_message, sizeof fake->grpc_message, value);
    }
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
    (void)owner, (void)call;
}

static void fake_close(void *owner, void *call, uint32_t code)
{
    struct fake *fake = owner;

    (void)call;
    fake->is_closed = true;
    fake->code = code;
}

static const struct esi_http2_callbacks FAKE = {.on_header = fake_header,
                                                .on_headers_end = fake_headers_end,
                                                .on_data = fake_data,
                                                .on_end = fake_end,
                                                .on_close = fake_close};

static void pump(struct fake *fake, struct esi_grpc_server *server, uint64_t now_ns)
{
    struct esi_bytes bytes;
    bool is_silent = false;

    esi_bytes_init(&bytes, 0);
    while (!is_silent) {
        is_silent = true;
        esi_bytes_clear(&bytes);
        if (esi_http2_take_output(fake->http2, &bytes, SIZE_MAX) > 0) {
            is_silent = false;
            (void)!esi_grpc_server_feed(server, bytes.data, bytes.len, now_ns);
        }
        esi_bytes_clear(&bytes);
        if (esi_grpc_server_take_output(server, &bytes, SIZE_MAX) > 0) {
            is_silent = false;
            (void)!esi_http2_feed(fake->http2, bytes.data, bytes.len, now_ns);
        }
    }
    esi_bytes_deinit(&bytes);
}

struct request {
    const char *method;
    const char *path;
    const char *content_type;
    const char *timeout; /* NULL = none */
    const char *body;
    size_t body_len;
    const char *http_status;
    const char *grpc_status; /* "" = none; NULL = it reaches the owner */
};

static void send_request(struct fake *fake, const struct request *request)
{
    struct esi_http2_header headers[] = {
        {.name = ESI_STR(":method"), .value = esi_str_from(request->method)},
        {.name = ESI_STR(":scheme"), .value = ESI_STR("http")},
        {.name = ESI_STR(":path"), .value = esi_str_from(request->path)},
        {.name = ESI_STR(":authority"), .value = ESI_STR("a")},
        {.name = ESI_STR("content-type"), .value = esi_str_from(request->content_type)},
        {.name = ESI_STR("grpc-timeout"), .value = esi_str_from(request->timeout)},
    };
    struct esi_bytes body;

    esi_bytes_init(&body, 0);
    esi_bytes_append(&body, request->body, request->body_len);
    fake->is_closed = false;
    fake->http_status[0] = fake->grpc_status[0] = '\0';
    assert_int_equal(esi_http2_request(fake->http2, headers,
                                       ESI_COUNT_OF(headers) - (request->timeout == NULL ? 1 : 0),
                                       &body, fake, &fake->stream),
                     ES_OK);
}

#define TYPE "application/grpc"

static void only_proper_calls_reach_the_owner(void **state)
{
    static const char GOOD[] = "\0\0\0\0\x02hi";
    static char long_path[600];
    static const struct request REQUESTS[] = {
        {"POST", "/a.B/C", TYPE, NULL, GOOD, 7, "200", NULL},
        {"POST", "/a.B/C", "application/grpc+proto", "10S", GOOD, 7, "200", NULL},
        {"GET", "/a.B/C", TYPE, NULL, GOOD, 7, "405", ""},
        {"POST", "/a.B/C", "application/json", NULL, "{}", 2, "415", ""},
        {"POST", "/a.B/C", TYPE, NULL, "", 0, "200", "13"},
        {"POST", "/a.B/C", TYPE, NULL, GOOD, 4, "200", "13"},
        {"POST", "/a.B/C", TYPE, NULL, GOOD, 6, "200", "13"},
        {"POST", "/a.B/C", TYPE, NULL, "\1\0\0\0\2hi", 7, "200", "12"},
        {"POST", "/a.B/C", TYPE, NULL, "\7\0\0\0\2hi", 7, "200", "13"},
        {"POST", "/a.B/C", TYPE, NULL, "\0\0\0\0\0\0\0\0\0\0", 10, "200", "12"},
        {"POST", "/a.B/C", TYPE, NULL, "\0\xff\xff\xff\xff", 5, "200", "8"},
        {"POST", "/a.B/C", TYPE, "1x", GOOD, 7, "200", "13"},
        {"POST", "/a.B/C", TYPE, "123456789S", GOOD, 7, "200", "13"},
        {"POST", long_path, TYPE, NULL, GOOD, 7, "200", "12"},
    };
    struct fake fake = {.http2 = NULL};
    struct esi_grpc_server *server;
    struct esi_grpc_event event;
    (void)state;

    memset(long_path, '/', sizeof long_path - 1);
    assert_int_equal(esi_http2_new(HTTP2_CLIENT, NULL, &FAKE, &fake, &fake.http2), ES_OK);
    assert_int_equal(esi_grpc_server_new(NULL, 0, &server), ES_OK);
    for (size_t i = 0; i < ESI_COUNT_OF(REQUESTS); i++) {
        send_request(&fake, &REQUESTS[i]);
        pump(&fake, server, SECOND_NS);
        const char *expected = REQUESTS[i].grpc_status;
        if (esi_grpc_server_next(server, &event)) {
            assert_null(expected);
            expected = "0";
            assert_true(esi_str_equal(event.message, ESI_STR("hi")));
            assert_int_equal(event.deadline_ns,
                             REQUESTS[i].timeout == NULL ? UINT64_MAX : 11 * SECOND_NS);
            assert_int_equal(esi_grpc_server_respond(server, event.call_id, GRPC_OK, NULL, "ok", 2),
                             ES_OK);
            pump(&fake, server, SECOND_NS);
        }
        if (expected == NULL || strcmp(fake.http_status, REQUESTS[i].http_status) != 0 ||
            strcmp(fake.grpc_status, expected) != 0) {
            fail_msg("request %zu: HTTP %s, gRPC %s", i, fake.http_status, fake.grpc_status);
        }
        assert_true(fake.is_closed);
        assert_int_equal(esi_grpc_server_in_flight(server), 0);
    }
    esi_grpc_server_free(server);
    esi_http2_free(fake.http2);
}

/* A call keeps nothing of headers that mean nothing here. */
static void strange_headers_are_not_kept(void **state)
{
    enum { CALLS = 20, TEXT_BYTES = 12000 };
    static char text[TEXT_BYTES];
    const struct esi_http2_header headers[] = {
        {.name = ESI_STR(":method"), .value = ESI_STR("POST")},
        {.name = ESI_STR(":scheme"), .value = ESI_STR("http")},
        {.name = ESI_STR(":path"), .value = ESI_STR("/a.B/C")},
        {.name = ESI_STR(":authority"), .value = ESI_STR("a")},
        {.name = ESI_STR("content-type"), .value = ESI_STR(TYPE)},
        {.name = ESI_STR("x-text"), .value = {.data = text, .len = sizeof text}},
    };
    struct fake fake = {.http2 = NULL};
    struct esi_grpc_server *server;
    struct esi_grpc_event event;
    struct esi_bytes body;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(esi_http2_new(HTTP2_CLIENT, NULL, &FAKE, &fake, &fake.http2), ES_OK);
    assert_int_equal(esi_grpc_server_new(NULL, 0, &server), ES_OK);
    pump(&fake, server, SECOND_NS);
    const size_t before = esi_grpc_server_memory_bytes(server);
    for (size_t i = 0; i < CALLS; i++) {
        esi_bytes_init(&body, 0);
        esi_bytes_append(&body, "\0\0\0\0\x02hi", 7);
        assert_int_equal(esi_http2_request(fake.http2, headers, ESI_COUNT_OF(headers), &body, &fake,
                                           &fake.stream),
                         ES_OK);
        pump(&fake, server, SECOND_NS);
    }
    assert_int_equal(esi_grpc_server_in_flight(server), CALLS);
    assert_true(esi_grpc_server_memory_bytes(server) < before + CALLS * TEXT_BYTES / 2);
    while (esi_grpc_server_next(server, &event)) {
        assert_int_equal(esi_grpc_server_respond(server, event.call_id, GRPC_OK, NULL, "ok", 2),
                         ES_OK);
        pump(&fake, server, SECOND_NS);
    }
    assert_int_equal(esi_grpc_server_in_flight(server), 0);
    esi_grpc_server_free(server);
    esi_http2_free(fake.http2);
}

/* ---- time ---- */

static void frame(struct esi_bytes *out, unsigned type, unsigned flags, uint32_t stream,
                  const void *payload, size_t len)
{
    const uint8_t header[9] = {
        (uint8_t)(len >> 16),    (uint8_t)(len >> 8),    (uint8_t)len,
        (uint8_t)type,           (uint8_t)flags,         (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};

    esi_bytes_append(out, header, sizeof header);
    esi_bytes_append(out, payload, len);
}

/* POST, http, "/", an authority and the content type. */
static const char HEADERS[] = "\x83\x86\x84\x01\x01"
                              "a"
                              "\x0f\x10\x10"
                              "application/grpc";

static void begin(struct esi_bytes *out)
{
    esi_bytes_append_text(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(out, 4, 0, 0, "", 0);
}

static void what_takes_too_long_is_ended(void **state)
{
    const struct esi_grpc_server_options options = {.request_timeout_ns = 30 * SECOND_NS,
                                                    .preface_timeout_ns = 10 * SECOND_NS};
    struct esi_grpc_server *server;
    struct esi_grpc_event event;
    struct esi_bytes bytes;
    (void)state;

    esi_bytes_init(&bytes, 0);
    /* Nothing, or half a beginning. */
    assert_int_equal(esi_grpc_server_new(&options, 0, &server), ES_OK);
    assert_int_equal(esi_grpc_server_deadline(server), 10 * SECOND_NS);
    begin(&bytes);
    assert_int_equal(esi_grpc_server_feed(server, bytes.data, bytes.len, 0), ES_OK);
    esi_grpc_server_tick(server, 10 * SECOND_NS - 1);
    assert_true(esi_grpc_server_wants_read(server));
    esi_grpc_server_tick(server, 10 * SECOND_NS);
    assert_false(esi_grpc_server_wants_read(server));
    esi_grpc_server_take_output(server, &bytes, SIZE_MAX);
    assert_true(esi_grpc_server_is_done(server));
    esi_grpc_server_free(server);
    /* A request that does not come to its end. */
    assert_int_equal(esi_grpc_server_new(&options, 0, &server), ES_OK);
    esi_bytes_clear(&bytes);
    begin(&bytes);
    frame(&bytes, 1, 4, 1, HEADERS, sizeof HEADERS - 1);
    frame(&bytes, 0, 0, 1, "\0\0\0\0\x09only", 9);
    assert_int_equal(esi_grpc_server_feed(server, bytes.data, bytes.len, SECOND_NS), ES_OK);
    assert_int_equal(esi_grpc_server_in_flight(server), 1);
    assert_int_equal(esi_grpc_server_deadline(server), 31 * SECOND_NS);
    esi_grpc_server_tick(server, 31 * SECOND_NS);
    assert_int_equal(esi_grpc_server_in_flight(server), 0);
    assert_false(esi_grpc_server_next(server, &event));
    assert_int_equal(esi_grpc_server_deadline(server), UINT64_MAX);
    assert_true(esi_grpc_server_wants_read(server));
    /* An answer that is not taken. The owner may take its time; the client may not. */
    esi_bytes_clear(&bytes);
    frame(&bytes, 1, 4, 3, HEADERS, sizeof HEADERS - 1);
    frame(&bytes, 0, 1, 3, "\0\0\0\0\x02hi", 7);
    assert_int_equal(esi_grpc_server_feed(server, bytes.data, bytes.len, 40 * SECOND_NS), ES_OK);
    assert_true(esi_grpc_server_next(server, &event));
    esi_grpc_server_tick(server, 1000 * SECOND_NS);
    static char answer[100000];
    assert_int_equal(
        esi_grpc_server_respond(server, event.call_id, GRPC_OK, NULL, answer, sizeof answer),
        ES_OK);
    esi_bytes_clear(&bytes);
    esi_grpc_server_take_output(server, &bytes, SIZE_MAX); /* as far as the client's window goes */
    assert_true(bytes.len < sizeof answer);
    assert_int_equal(esi_grpc_server_in_flight(server), 1);
    assert_int_equal(esi_grpc_server_deadline(server), 1000 * SECOND_NS);
    esi_grpc_server_tick(server, 1001 * SECOND_NS);
    assert_int_equal(esi_grpc_server_deadline(server), 1031 * SECOND_NS);
    esi_grpc_server_tick(server, 1030 * SECOND_NS);
    assert_int_equal(esi_grpc_server_in_flight(server), 1);
    esi_grpc_server_tick(server, 1031 * SECOND_NS);
    assert_int_equal(esi_grpc_server_in_flight(server), 0);
    esi_grpc_server_free(server);
    esi_bytes_deinit(&bytes);
}

/* Calls that are begun and given up at once, in one read, with the owner not polling: numbers do
   not run out of bounds, and the owner hears of what it knew only. */
static void rapid_resets_are_bounded(void **state)
{
    const struct esi_grpc_server_options options = {.streams_max = 8};
    struct esi_grpc_server *server;
    struct esi_grpc_event event;
    struct esi_bytes bytes;
    enum es_err error = ES_OK;
    uint32_t stream = 1;
    unsigned polled = 0;
    unsigned cancelled = 0;
    (void)state;

    esi_bytes_init(&bytes, 0);
    assert_int_equal(esi_grpc_server_new(&options, 0, &server), ES_OK);
    begin(&bytes);
    while (error == ES_OK && stream < 100000) {
        for (int i = 0; i < 4; i++, stream += 2) {
            frame(&bytes, 1, 4, stream, HEADERS, sizeof HEADERS - 1);
            frame(&bytes, 0, 1, stream, "\0\0\0\0\x02hi", 7);
        }
        error = esi_grpc_server_feed(server, bytes.data, bytes.len, 0);
        esi_bytes_clear(&bytes);
        while (esi_grpc_server_next(server, &event)) {
            polled += event.kind == GRPC_EVENT_REQUEST;
            cancelled += event.kind == GRPC_EVENT_CANCELLED;
        }
        assert_in_range(esi_grpc_server_in_flight(server), 0, 16);
        for (uint32_t i = 8; i > 0; i -= 2) {
            frame(&bytes, 3, 0, stream - i, "\0\0\0\x08", 4);
        }
        esi_grpc_server_take_output(server, &bytes, 0);
    }
    assert_int_equal(error, ES_FULL);
    while (esi_grpc_server_next(server, &event)) {
        assert_int_equal(event.kind, GRPC_EVENT_CANCELLED);
        cancelled++;
    }
    assert_true(polled > 100);
    assert_int_equal(polled, cancelled);
    assert_int_equal(esi_grpc_server_in_flight(server), 0);
    esi_grpc_server_free(server);
    esi_bytes_deinit(&bytes);
}

/* ---- a client by another hand ---- */

struct service {
    struct esi_grpc_server *server;
    unsigned slow;      /* calls that are never answered */
    unsigned cancelled; /* of them */
    uint32_t waiting;   /* WaitCancelled, not answered yet; 0 = none */
    uint32_t waiting_slow;
};

static void answer(struct service *service, uint32_t id, enum esi_grpc_status status,
                   const char *text, struct esi_str message)
{
    assert_int_equal(
        esi_grpc_server_respond(service->server, id, status, text, message.data, message.len),
        ES_OK);
}

static void serve_call(struct service *service, const struct esi_grpc_event *event)
{
    const struct esi_str none = {.len = 0};
    struct esi_str method = event->path;

    assert_true(esi_str_starts_with(method, ESI_STR("/test.Peer/")));
    method.data += 11;
    method.len -= 11;
    if (esi_str_equal(method, ESI_STR("Echo"))) {
        answer(service, event->call_id, GRPC_OK, NULL, event->message);
    } else if (esi_str_equal(method, ESI_STR("Fail"))) {
        answer(service, event->call_id, GRPC_NOT_FOUND, "n\xc3\xa4h: 100% \n", none);
    } else if (esi_str_equal(method, ESI_STR("Slow"))) {
        service->slow++;
    } else if (esi_str_equal(method, ESI_STR("WaitSlow"))) {
        service->waiting_slow = event->call_id;
    } else if (esi_str_equal(method, ESI_STR("WaitCancelled"))) {
        service->waiting = event->call_id;
    } else if (esi_str_equal(method, ESI_STR("Stop"))) {
        answer(service, event->call_id, GRPC_OK, NULL, ESI_STR("stopping"));
        esi_grpc_server_shutdown(service->server);
    } else {
        answer(service, event->call_id, GRPC_UNIMPLEMENTED, "unknown method", none);
    }
}

static void serve_calls(struct service *service)
{
    struct esi_grpc_event event;

    while (esi_grpc_server_next(service->server, &event)) {
        if (event.kind == GRPC_EVENT_REQUEST) {
            serve_call(service, &event);
        } else {
            service->cancelled++;
        }
    }
    if (service->waiting_slow != 0 && service->slow == 2) {
        answer(service, service->waiting_slow, GRPC_OK, NULL, ESI_STR("2"));
        service->waiting_slow = 0;
    }
    if (service->waiting != 0 && service->cancelled == 2) {
        answer(service, service->waiting, GRPC_OK, NULL, ESI_STR("2"));
        service->waiting = 0;
    }
}

/* Serves one connection until it ends; at most 100 s. */
static void serve_connection(struct service *service, int fd)
{
    static char buffer[65536];
    struct esi_bytes out;
    const uint64_t end_ns = peer_now_ns() + 100 * SECOND_NS;

    esi_bytes_init(&out, 0);
    while (peer_now_ns() < end_ns) {
        if (out.len == 0) {
            esi_grpc_server_take_output(service->server, &out, 100000);
        }
        if (out.len == 0 && esi_grpc_server_is_done(service->server)) {
            break;
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
                break;
            }
            if (got > 0) {
                assert_int_equal(
                    esi_grpc_server_feed(service->server, buffer, (size_t)got, peer_now_ns()),
                    ES_OK);
            }
        }
        serve_calls(service);
        esi_grpc_server_tick(service->server, peer_now_ns());
    }
    esi_bytes_deinit(&out);
}

static void works_with_grpcio_as_client(void **state)
{
    /* Twelve answers of 1 MiB may wait at once, when the client reads slowly; beyond the bound
     * calls are refused. */
    const struct esi_grpc_server_options options = {.outbound_bytes_max = 16 << 20};
    struct service service = {.server = NULL};
    struct grpc_peer peer = {0};
    char text[64];
    unsigned port = 0;
    (void)state;

    if (!peer_is_available()) {
        fail_msg("/usr/bin/python3 has no grpc: install python3-grpcio (scripts/setup does)");
    }
    const int listener = peer_listen(&port);
    assert_true(listener >= 0);
    snprintf(text, sizeof text, "%u", port);
    assert_true(peer_start(&peer, "client", text));
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(esi_grpc_server_new(&options, peer_now_ns(), &service.server), ES_OK);
    serve_connection(&service, fd);
    close(fd);
    close(listener);
    (void)!peer_read_line(&peer, text, sizeof text);
    assert_string_equal(text, "ok");
    assert_int_equal(peer_stop(&peer), 0);
    assert_int_equal(service.slow, 2);
    assert_int_equal(service.cancelled, 2);
    assert_int_equal(esi_grpc_server_in_flight(service.server), 0);
    esi_grpc_server_free(service.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_proper_calls_reach_the_owner),
        cmocka_unit_test(strange_headers_are_not_kept),
        cmocka_unit_test(what_takes_too_long_is_ended),
        cmocka_unit_test(rapid_resets_are_bounded),
        cmocka_unit_test(works_with_grpcio_as_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
