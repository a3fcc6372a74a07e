/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an HTTP/2 connection carries requests and answers, ends orderly, and stays bounded against
 * the flood family; peers that only work hard are not taken for floods. Method: both roles joined
 * in memory; hostile peers as frames written by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/own.h"
#include "net/http2.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW, CONT };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

static const uint64_t SECOND_NS = 1000ULL * 1000 * 1000;

/* One side, which records what happens and answers requests with what they sent. */
struct side {
    struct esi_http2 *http2;
    bool is_echo;
    unsigned requests;
    unsigned ends;
    unsigned closes;
    uint32_t last_code;
    size_t header_bytes;
    struct esi_bytes body;
    struct esi_http2_stream *stream; /* the last request's */
};

static void *on_request(void *owner, struct esi_http2_stream *stream)
{
    struct side *side = owner;

    side->requests++;
    side->stream = stream;
    return side;
}

static void on_header(void *owner, void *call, struct esi_str name, struct esi_str value)
{
    struct side *side = owner;

    (void)call;
    side->header_bytes += name.len + value.len;
}

static void answer(struct side *side)
{
    const struct esi_http2_header header = {.name = ESI_STR(":status"), .value = ESI_STR("200")};
    const struct esi_http2_header trailer = {.name = ESI_STR("x-end"), .value = ESI_STR("yes")};
    const struct esi_http2_response response = {.headers = &header,
                                                .header_count = 1,
                                                .body = &side->body,
                                                .trailers = &trailer,
                                                .trailer_count = 1};

    assert_int_equal(esi_http2_respond(side->http2, side->stream, &response), ES_OK);
}

static void on_end(void *owner, void *call)
{
    struct side *side = owner;

    (void)call;
    side->ends++;
    if (side->is_echo) {
        answer(side);
    }
}

static void on_headers_end(void *owner, void *call, bool is_end)
{
    if (is_end) {
        on_end(owner, call);
    }
}

static void on_data(void *owner, void *call, struct esi_str data)
{
    struct side *side = owner;

    (void)call;
    esi_bytes_append_str(&side->body, data);
    if (side->stream != NULL) {
        esi_http2_consume(side->http2, side->stream, data.len);
    }
}

static void on_close(void *owner, void *call, uint32_t code)
{
    struct side *side = owner;

    (void)call;
    side->closes++;
    side->last_code = code;
    side->stream = NULL;
}

static const struct esi_http2_callbacks CALLBACKS = {
    .on_request = on_request,
    .on_header = on_header,
    .on_headers_end = on_headers_end,
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

static void open_side(struct side *side, enum esi_http2_role role,
                      const struct esi_http2_limits *limits)
{
    *side = (struct side){.is_echo = role == HTTP2_SERVER};
    esi_bytes_init(&side->body, 0);
    assert_int_equal(esi_http2_new(role, limits, &CALLBACKS, side, &side->http2), ES_OK);
}

static void close_side(struct side *side)
{
    esi_http2_free(side->http2);
    esi_bytes_deinit(&side->body);
}

/* Carries output across, at most `step` bytes at a time, until both are silent. */
static void pump(struct side *a, struct side *b, size_t step, uint64_t now_ns)
{
    struct side *const sides[] = {a, b};
    struct esi_bytes bytes;
    unsigned silent = 0;

    esi_bytes_init(&bytes, 0);
    for (unsigned i = 0; silent < 2; i++) {
        esi_bytes_clear(&bytes);
        silent++;
        if (esi_http2_take_output(sides[i % 2]->http2, &bytes, step) > 0) {
            silent = 0;
            (void)!esi_http2_feed(sides[1 - i % 2]->http2, bytes.data, bytes.len, now_ns);
        }
    }
    esi_bytes_deinit(&bytes);
}

static void request(struct side *client, const void *body, size_t len)
{
    const struct esi_http2_header headers[] = {
        {.name = ESI_STR(":method"), .value = ESI_STR("POST")},
        {.name = ESI_STR(":scheme"), .value = ESI_STR("http")},
        {.name = ESI_STR(":path"), .value = ESI_STR("/")},
        {.name = ESI_STR(":authority"), .value = ESI_STR("a")},
        {.name = ESI_STR("token"), .value = ESI_STR("secret"), .is_secret = true},
    };
    struct esi_bytes bytes;

    esi_bytes_init(&bytes, 0);
    esi_bytes_append(&bytes, body, len);
    assert_int_equal(esi_http2_request(client->http2, headers, ESI_COUNT_OF(headers), &bytes,
                                       client, &client->stream),
                     ES_OK);
    assert_int_equal(bytes.len, 0);
}

static void requests_and_answers_cross(void **state)
{
    static const size_t STEPS[] = {1, 7, 100, 1 << 20};
    struct side client;
    struct side server;
    const size_t len = 300000;
    char *body = malloc(len);
    (void)state;

    assert_non_null(body);
    for (size_t i = 0; i < len; i++) {
        body[i] = (char)(i * 7);
    }
    for (size_t i = 0; i < ESI_COUNT_OF(STEPS); i++) {
        open_side(&client, HTTP2_CLIENT, NULL);
        open_side(&server, HTTP2_SERVER, NULL);
        request(&client, body, len);
        assert_int_equal(esi_http2_outbound_bytes(client.http2), len);
        pump(&client, &server, STEPS[i], 0);
        assert_int_equal(server.requests, 1);
        assert_int_equal(client.closes, 1);
        assert_int_equal(client.last_code, HTTP2_NO_ERROR);
        assert_int_equal(client.body.len, len);
        assert_memory_equal(client.body.data, body, len);
        assert_int_equal(esi_http2_outbound_bytes(client.http2), 0);
        assert_int_equal(esi_http2_outbound_bytes(server.http2), 0);
        assert_int_equal(esi_http2_streams_open(client.http2), 0);
        assert_int_equal(esi_http2_streams_open(server.http2), 0);
        assert_int_equal(esi_http2_peer_streams_max(client.http2), 128);
        close_side(&client);
        close_side(&server);
    }
    free(body);
}

static void an_early_answer_cuts_the_request_off(void **state)
{
    struct side client;
    struct side server;
    struct esi_bytes bytes;
    const struct esi_http2_header header = {.name = ESI_STR(":status"), .value = ESI_STR("413")};
    char *body = calloc(1, 200000);
    (void)state;

    assert_non_null(body);
    open_side(&client, HTTP2_CLIENT, NULL);
    open_side(&server, HTTP2_SERVER, NULL);
    request(&client, body, 200000);
    esi_bytes_init(&bytes, 0);
    esi_http2_take_output(client.http2, &bytes, 1000);
    assert_int_equal(esi_http2_feed(server.http2, bytes.data, bytes.len, 0), ES_OK);
    assert_int_equal(
        esi_http2_respond(server.http2, server.stream,
                          &(struct esi_http2_response){.headers = &header, .header_count = 1}),
        ES_OK);
    pump(&server, &client, 1 << 20, 0);
    assert_int_equal(server.ends, 0);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.closes, 1);
    assert_int_equal(esi_http2_streams_open(server.http2), 0);
    assert_int_equal(esi_http2_outbound_bytes(client.http2), 0);
    esi_bytes_deinit(&bytes);
    close_side(&client);
    close_side(&server);
    free(body);
}

static void a_reset_reaches_the_other_side_only(void **state)
{
    struct side client;
    struct side server;
    (void)state;

    open_side(&client, HTTP2_CLIENT, NULL);
    open_side(&server, HTTP2_SERVER, NULL);
    server.is_echo = false;
    request(&client, "x", 1);
    assert_false(esi_http2_is_started(client.stream));
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(server.ends, 1);
    assert_true(esi_http2_is_started(client.stream));
    esi_http2_reset(client.http2, client.stream, HTTP2_CANCEL);
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(client.closes, 0);
    assert_int_equal(server.closes, 1);
    assert_int_equal(server.last_code, HTTP2_CANCEL);
    /* One that never left: nobody hears of it. */
    request(&client, "x", 1);
    esi_http2_reset(client.http2, client.stream, HTTP2_CANCEL);
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(server.requests, 1);
    assert_int_equal(esi_http2_streams_open(client.http2), 0);
    close_side(&client);
    close_side(&server);
}

static void a_server_ends_in_two_steps(void **state)
{
    struct side client;
    struct side server;
    struct esi_http2_stream *late;
    struct esi_bytes body;
    (void)state;

    open_side(&client, HTTP2_CLIENT, NULL);
    open_side(&server, HTTP2_SERVER, NULL);
    server.is_echo = false;
    request(&client, "x", 1);
    pump(&client, &server, 1 << 20, 0);
    assert_false(esi_http2_is_draining(client.http2));
    esi_http2_shutdown(server.http2);
    pump(&server, &client, 1 << 20, 0);
    assert_true(esi_http2_is_draining(client.http2));
    esi_bytes_init(&body, 0);
    assert_int_equal(esi_http2_request(client.http2, NULL, 0, &body, &client, &late), ES_CLOSED);
    assert_false(esi_http2_is_done(server.http2));
    assert_false(esi_http2_is_done(client.http2));
    answer(&server);
    pump(&server, &client, 1 << 20, 0);
    assert_int_equal(client.closes, 1);
    assert_true(esi_http2_is_done(server.http2));
    assert_true(esi_http2_is_done(client.http2));
    assert_int_equal(esi_http2_error(server.http2), ES_OK);
    close_side(&client);
    close_side(&server);
}

static void pings_are_answered_and_timed(void **state)
{
    struct side client;
    struct side server;
    (void)state;

    open_side(&client, HTTP2_CLIENT, NULL);
    open_side(&server, HTTP2_SERVER, NULL);
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(esi_http2_ping_age_ns(client.http2, 5), 0);
    esi_http2_ping(client.http2, 10);
    esi_http2_ping(client.http2, 20);
    assert_int_equal(esi_http2_ping_age_ns(client.http2, 35), 25);
    pump(&client, &server, 1 << 20, 40);
    assert_int_equal(esi_http2_ping_age_ns(client.http2, 50), 0);
    close_side(&client);
    close_side(&server);
}

/* ---- hostile peers ---- */

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

static void preface(struct esi_bytes *out)
{
    esi_bytes_append_text(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(out, SETTINGS, 0, 0, "", 0);
}

/* :method POST, :scheme http, :path /, :authority "a" (not indexed). */
static const char REQUEST[] = "\x83\x86\x84\x01\x01"
                              "a";
enum { REQUEST_LEN = sizeof REQUEST - 1 };

/* The code of the last GOAWAY in the output; -1 when there is none. */
static int64_t goaway_code(const struct esi_bytes *out)
{
    int64_t code = -1;
    size_t at = 0;

    while (out->len - at >= 9) {
        const uint8_t *h = (const uint8_t *)out->data + at;
        const size_t len = ((size_t)h[0] << 16) | ((size_t)h[1] << 8) | h[2];
        if (out->len - at < 9 + len) {
            break;
        }
        if (h[3] == GOAWAY && len >= 8) {
            code = ((int64_t)h[13] << 24) | ((int64_t)h[14] << 16) | ((int64_t)h[15] << 8) | h[16];
        }
        at += 9 + len;
    }
    return code;
}

enum { PIECES_MAX = 100000 };

struct flood {
    const char *name;
    /* Appends the i-th piece. */
    void (*make)(struct esi_bytes *out, uint32_t i);
    enum es_err error;
    int64_t code;
    bool is_read; /* the peer reads our output */
};

static void make_rapid_reset(struct esi_bytes *out, uint32_t i)
{
    frame(out, HEADERS, END_HEADERS, 2 * i + 1, REQUEST, REQUEST_LEN);
    frame(out, RST_STREAM, 0, 2 * i + 1, "\0\0\0\x08", 4);
}

/* The peer makes us reset its streams: a window that is too large is a stream error. */
static void make_provoked_reset(struct esi_bytes *out, uint32_t i)
{
    frame(out, HEADERS, END_HEADERS, 2 * i + 1, REQUEST, REQUEST_LEN);
    frame(out, WINDOW, 0, 2 * i + 1, "\x7f\xff\xff\xff", 4);
}

/* Or by headers that break the rules: an upper case name. */
static void make_bad_headers(struct esi_bytes *out, uint32_t i)
{
    frame(out, HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, "\x83\x86\x84\x00\x01X\x01y", 8);
}

static void make_continuations(struct esi_bytes *out, uint32_t i)
{
    if (i == 0) {
        frame(out, HEADERS, 0, 1, REQUEST, REQUEST_LEN);
    }
    frame(out, CONT, 0, 1, "", 0);
}

static void make_fat_continuations(struct esi_bytes *out, uint32_t i)
{
    static char block[16000];

    if (i == 0) {
        memset(block, 0, sizeof block);
        frame(out, HEADERS, 0, 1, REQUEST, REQUEST_LEN);
    }
    /* A field with an empty name and an empty value, many times. */
    frame(out, CONT, 0, 1, block, sizeof block - sizeof block % 3);
}

/* On a stream that the library skips. */
static void make_skipped_continuations(struct esi_bytes *out, uint32_t i)
{
    if (i == 0) {
        frame(out, HEADERS, END_HEADERS, 5, REQUEST, REQUEST_LEN);
        frame(out, RST_STREAM, 0, 5, "\0\0\0\x08", 4);
        frame(out, HEADERS, 0, 3, REQUEST, REQUEST_LEN);
    }
    frame(out, CONT, 0, 3, "", 0);
}

static void make_settings(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, SETTINGS, 0, 0, "\0\x03\0\0\0\x64", 6);
}

static void make_pings(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, PING, 0, 0, "12345678", 8);
}

static void make_ping_acks(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, PING, ACK, 0, "12345678", 8);
}

static void make_priorities(struct esi_bytes *out, uint32_t i)
{
    frame(out, PRIORITY, 0, 2 * i + 1, "\0\0\0\0\x10", 5);
}

static void make_windows(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, WINDOW, 0, 0, "\0\0\0\x01", 4);
}

static void make_unknown(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, 0xfa, 0, 0, "", 0);
}

static void make_empty_data(struct esi_bytes *out, uint32_t i)
{
    if (i == 0) {
        frame(out, HEADERS, END_HEADERS, 1, REQUEST, REQUEST_LEN);
    }
    frame(out, DATA, 0, 1, "", 0);
}

/* A large field put into the table, then named by one byte again and again. */
static void make_header_bomb(struct esi_bytes *out, uint32_t i)
{
    struct esi_bytes block;

    esi_bytes_init(&block, 0);
    esi_bytes_append(&block, REQUEST, REQUEST_LEN);
    if (i == 0) {
        /* Literal with indexing, name "x", value of 3900 bytes. */
        esi_bytes_append(&block, "\x40\x01x\x7f\xbd\x1d", 6);
        char *room = esi_bytes_reserve(&block, 3900);
        assert_non_null(room);
        memset(room, 'v', 3900);
        block.len += 3900;
    }
    while (block.len < 16000) {
        esi_bytes_append(&block, "\xbe", 1);
    }
    frame(out, HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block.data, block.len);
    esi_bytes_deinit(&block);
}

static void make_streams_without_end(struct esi_bytes *out, uint32_t i)
{
    if (i == 0) {
        frame(out, SETTINGS, ACK, 0, "", 0);
    }
    frame(out, HEADERS, END_HEADERS, 2 * i + 1, REQUEST, REQUEST_LEN);
}

/* Without the acknowledgement of our SETTINGS the limit is not in force for the library: it refuses
 * one by one. */
static void make_refused_streams(struct esi_bytes *out, uint32_t i)
{
    frame(out, HEADERS, END_HEADERS, 2 * i + 1, REQUEST, REQUEST_LEN);
}

static void make_http1(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    esi_bytes_clear(out);
    esi_bytes_append_text(out, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void make_large_frame(struct esi_bytes *out, uint32_t i)
{
    static const char big[16385];

    (void)i;
    frame(out, DATA, 0, 1, big, sizeof big);
}

static void make_push(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, PUSH_PROMISE, END_HEADERS, 1, "\0\0\0\x02\x83", 5);
}

static void make_bad_compression(struct esi_bytes *out, uint32_t i)
{
    frame(out, HEADERS, END_HEADERS, 2 * i + 1, "\xff\xff\xff\xff\xff\xff", 6);
}

static void make_window_overflow(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, WINDOW, 0, 0, "\x7f\xff\xff\xff", 4);
}

static void make_data_on_idle(struct esi_bytes *out, uint32_t i)
{
    (void)i;
    frame(out, DATA, 0, 99, "x", 1);
}

static void make_settings_with_many(struct esi_bytes *out, uint32_t i)
{
    struct esi_bytes block;

    (void)i;
    esi_bytes_init(&block, 0);
    for (int n = 0; n < 1000; n++) {
        esi_bytes_append(&block, "\0\x63\0\0\0\0", 6);
    }
    frame(out, SETTINGS, 0, 0, block.data, block.len);
    esi_bytes_deinit(&block);
}

/* Feeds a flood until the connection ends. Memory must stay small all the time. */
static void run_flood(const struct flood *flood)
{
    struct side server;
    struct esi_bytes piece;
    struct esi_bytes out;
    enum es_err error = ES_OK;
    uint32_t i = 0;

    open_side(&server, HTTP2_SERVER, NULL);
    server.is_echo = false;
    esi_bytes_init(&piece, 0);
    esi_bytes_init(&out, 0);
    preface(&piece);
    while (error == ES_OK && i < PIECES_MAX) {
        flood->make(&piece, i++);
        error = esi_http2_feed(server.http2, piece.data, piece.len, i);
        esi_bytes_clear(&piece);
        if (flood->is_read) {
            esi_bytes_clear(&out);
            esi_http2_take_output(server.http2, &out, SIZE_MAX);
        }
        /* The window is never given back by a server that keeps what it got. */
        server.stream = NULL;
        esi_bytes_clear(&server.body);
        assert_true(esi_http2_session_bytes(server.http2) < 1 << 20);
    }
    if (error != flood->error) {
        fail_msg("%s: error %d after %u pieces, expected %d", flood->name, (int)error, i,
                 (int)flood->error);
    }
    assert_true(esi_http2_is_ended(server.http2));
    assert_false(esi_http2_wants_read(server.http2));
    assert_int_equal(esi_http2_feed(server.http2, "x", 1, 0), ES_CLOSED);
    esi_http2_take_output(server.http2, &out, SIZE_MAX);
    if (goaway_code(&out) != flood->code) {
        fail_msg("%s: GOAWAY code %d, expected %d", flood->name, (int)goaway_code(&out),
                 (int)flood->code);
    }
    assert_true(esi_http2_is_done(server.http2));
    assert_true(out.len < 1 << 20);
    esi_bytes_deinit(&piece);
    esi_bytes_deinit(&out);
    close_side(&server);
}

static void floods_end_the_connection(void **state)
{
    static const struct flood FLOODS[] = {
        {"rapid reset", make_rapid_reset, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"rapid reset, deaf", make_rapid_reset, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, false},
        {"provoked resets", make_provoked_reset, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"bad headers", make_bad_headers, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"continuations", make_continuations, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"fat continuations", make_fat_continuations, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"skipped continuations", make_skipped_continuations, ES_FULL, HTTP2_ENHANCE_YOUR_CALM,
         true},
        {"settings", make_settings, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"settings, deaf", make_settings, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, false},
        {"pings", make_pings, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"pings, deaf", make_pings, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, false},
        {"ping acks", make_ping_acks, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"priorities", make_priorities, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"windows", make_windows, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"unknown frames", make_unknown, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"empty data", make_empty_data, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"header bomb", make_header_bomb, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"streams without end", make_streams_without_end, ES_INVALID, HTTP2_PROTOCOL_ERROR, true},
        {"refused streams", make_refused_streams, ES_FULL, HTTP2_ENHANCE_YOUR_CALM, true},
        {"HTTP/1", make_http1, ES_INVALID, HTTP2_PROTOCOL_ERROR, true},
        {"large frame", make_large_frame, ES_INVALID, 6, true},
        {"push", make_push, ES_INVALID, HTTP2_PROTOCOL_ERROR, true},
        {"bad compression", make_bad_compression, ES_INVALID, 9, true},
        {"window overflow", make_window_overflow, ES_INVALID, HTTP2_FLOW_CONTROL_ERROR, true},
        {"data on an idle stream", make_data_on_idle, ES_INVALID, HTTP2_PROTOCOL_ERROR, true},
        {"many settings", make_settings_with_many, ES_INVALID, HTTP2_ENHANCE_YOUR_CALM, true},
    };
    (void)state;

    for (size_t i = 0; i < ESI_COUNT_OF(FLOODS); i++) {
        run_flood(&FLOODS[i]);
    }
}

/* More data than a stream's window lets in ends the stream; its owner is told. */
static void a_breach_of_the_window_resets_the_stream(void **state)
{
    static const char big[16384];
    struct side server;
    struct esi_bytes piece;
    (void)state;

    open_side(&server, HTTP2_SERVER, NULL);
    esi_bytes_init(&piece, 0);
    preface(&piece);
    frame(&piece, HEADERS, END_HEADERS, 1, REQUEST, REQUEST_LEN);
    assert_int_equal(esi_http2_feed(server.http2, piece.data, piece.len, 0), ES_OK);
    server.stream = NULL; /* nothing is given back */
    esi_bytes_clear(&piece);
    frame(&piece, DATA, 0, 1, big, sizeof big);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(esi_http2_feed(server.http2, piece.data, piece.len, 0), ES_OK);
    }
    assert_int_equal(server.closes, 1);
    assert_int_equal(server.last_code, HTTP2_FLOW_CONTROL_ERROR);
    assert_true(server.body.len <= 65535 + sizeof big);
    esi_bytes_deinit(&piece);
    close_side(&server);
}

/* Many requests, each with the frames that a measuring client adds, in one window of time. */
static void hard_work_is_no_flood(void **state)
{
    struct side server;
    struct esi_bytes piece;
    struct esi_bytes out;
    (void)state;

    open_side(&server, HTTP2_SERVER, NULL);
    esi_bytes_init(&piece, 0);
    esi_bytes_init(&out, 0);
    preface(&piece);
    for (uint32_t i = 0; i < 20000; i++) {
        frame(&piece, HEADERS, END_HEADERS, 2 * i + 1, REQUEST, REQUEST_LEN);
        frame(&piece, DATA, END_STREAM, 2 * i + 1, "hello", 5);
        make_pings(&piece, i);
        frame(&piece, WINDOW, 0, 0, "\0\0\x10\0", 4);
        frame(&piece, PING, ACK, 0, "12345678", 8);
        assert_int_equal(esi_http2_feed(server.http2, piece.data, piece.len, i), ES_OK);
        esi_bytes_clear(&piece);
        esi_bytes_clear(&out);
        esi_http2_take_output(server.http2, &out, SIZE_MAX);
        assert_int_equal(server.requests, i + 1);
        assert_int_equal(server.closes, i + 1);
    }
    esi_bytes_deinit(&piece);
    esi_bytes_deinit(&out);
    close_side(&server);
}

/* A slow trickle of the same frames is fine: the counts are of a window. */
static void counts_start_anew_with_the_window(void **state)
{
    struct side server;
    struct esi_bytes piece;
    struct esi_bytes out;
    (void)state;

    open_side(&server, HTTP2_SERVER, NULL);
    server.is_echo = false;
    esi_bytes_init(&piece, 0);
    esi_bytes_init(&out, 0);
    preface(&piece);
    for (uint32_t i = 0; i < 900; i++) {
        make_rapid_reset(&piece, i);
        make_pings(&piece, i);
        assert_int_equal(esi_http2_feed(server.http2, piece.data, piece.len, i * SECOND_NS / 20),
                         ES_OK);
        esi_bytes_clear(&piece);
        esi_bytes_clear(&out);
        esi_http2_take_output(server.http2, &out, SIZE_MAX);
    }
    assert_int_equal(server.requests, 900);
    esi_bytes_deinit(&piece);
    esi_bytes_deinit(&out);
    close_side(&server);
}

static void a_long_header_list_resets_only_its_stream(void **state)
{
    struct side client;
    struct side server;
    struct esi_bytes body;
    char value[6000];
    (void)state;

    memset(value, 'v', sizeof value);
    const struct esi_str long_value = {.data = value, .len = sizeof value};
    const struct esi_http2_header headers[] = {
        {.name = ESI_STR(":method"), .value = ESI_STR("POST")},
        {.name = ESI_STR(":scheme"), .value = ESI_STR("http")},
        {.name = ESI_STR(":path"), .value = ESI_STR("/")},
        {.name = ESI_STR("a"), .value = long_value},
        {.name = ESI_STR("b"), .value = long_value},
        {.name = ESI_STR("c"), .value = long_value},
    };
    open_side(&client, HTTP2_CLIENT, NULL);
    open_side(&server, HTTP2_SERVER, NULL);
    esi_bytes_init(&body, 0);
    assert_int_equal(esi_http2_request(client.http2, headers, ESI_COUNT_OF(headers), &body, &client,
                                       &client.stream),
                     ES_OK);
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(client.closes, 1);
    assert_int_equal(client.last_code, HTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(server.ends, 0);
    request(&client, "x", 1);
    pump(&client, &server, 1 << 20, 0);
    assert_int_equal(client.closes, 2);
    assert_int_equal(client.last_code, HTTP2_NO_ERROR);
    close_side(&client);
    close_side(&server);
}

/* Requests from a peer that never reads its answers: new ones are refused, then it is ended; memory
 * is bounded. */
static void a_deaf_peer_is_bounded(void **state)
{
    struct esi_http2_limits limits;
    struct side server;
    struct esi_bytes piece;
    enum es_err error = ES_OK;
    unsigned answered = 0;
    bool is_held_back = false;
    char *body = calloc(1, 60000);
    (void)state;

    assert_non_null(body);
    esi_http2_limits_init(&limits);
    limits.outbound_bytes_max = 1 << 20;
    open_side(&server, HTTP2_SERVER, &limits);
    server.is_echo = false;
    esi_bytes_init(&piece, 0);
    preface(&piece);
    for (uint32_t i = 0; i < 10000 && error == ES_OK; i++) {
        frame(&piece, HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, REQUEST, REQUEST_LEN);
        error = esi_http2_feed(server.http2, piece.data, piece.len, 0);
        esi_bytes_clear(&piece);
        if (server.requests > answered) {
            answered++;
            esi_bytes_append(&server.body, body, 60000);
            answer(&server);
        }
        is_held_back = is_held_back || !esi_http2_wants_read(server.http2);
        assert_true(esi_http2_outbound_bytes(server.http2) <= (1 << 20) + 60000);
        assert_true(esi_http2_session_bytes(server.http2) < 1 << 20);
    }
    assert_true(is_held_back);
    assert_int_not_equal(error, ES_OK);
    assert_in_range(server.requests, 15, 25);
    esi_bytes_deinit(&piece);
    close_side(&server);
    free(body);
}

/* The ceiling of the library's memory, from nothing upwards: each step fails cleanly until it is
 * enough. */
static void memory_ceiling_fails_cleanly(void **state)
{
    struct esi_http2_limits limits;
    unsigned failures = 0;
    bool passed = false;
    (void)state;

    for (size_t ceiling = 0; ceiling < 256 * 1024; ceiling += 307) {
        struct side client = {.http2 = NULL};
        struct side server = {.http2 = NULL};
        esi_http2_limits_init(&limits);
        limits.session_bytes_max = ceiling;
        open_side(&client, HTTP2_CLIENT, NULL);
        server.is_echo = true;
        esi_bytes_init(&server.body, 0);
        if (esi_http2_new(HTTP2_SERVER, &limits, &CALLBACKS, &server, &server.http2) != ES_OK) {
            close_side(&client);
            failures++;
            continue;
        }
        request(&client, "hello", 5);
        pump(&client, &server, 1 << 20, 0);
        passed = client.ends == 1 && client.body.len == 5;
        failures += passed ? 0 : 1;
        assert_true(esi_http2_session_bytes(server.http2) <= ceiling + 64 * 1024);
        close_side(&client);
        close_side(&server);
    }
    assert_true(passed);
    assert_true(failures > 10);
}

/* A client ends too when its server floods it. */
static void a_client_is_bounded_too(void **state)
{
    struct side client;
    struct esi_bytes piece;
    enum es_err error = ES_OK;
    uint32_t i = 0;
    (void)state;

    open_side(&client, HTTP2_CLIENT, NULL);
    esi_bytes_init(&piece, 0);
    frame(&piece, SETTINGS, 0, 0, "", 0);
    while (error == ES_OK && i < PIECES_MAX) {
        make_pings(&piece, i++);
        error = esi_http2_feed(client.http2, piece.data, piece.len, 0);
        esi_bytes_clear(&piece);
    }
    assert_int_equal(error, ES_FULL);
    esi_bytes_deinit(&piece);
    close_side(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers_cross),
        cmocka_unit_test(an_early_answer_cuts_the_request_off),
        cmocka_unit_test(a_reset_reaches_the_other_side_only),
        cmocka_unit_test(a_server_ends_in_two_steps),
        cmocka_unit_test(pings_are_answered_and_timed),
        cmocka_unit_test(floods_end_the_connection),
        cmocka_unit_test(a_breach_of_the_window_resets_the_stream),
        cmocka_unit_test(hard_work_is_no_flood),
        cmocka_unit_test(counts_start_anew_with_the_window),
        cmocka_unit_test(a_long_header_list_resets_only_its_stream),
        cmocka_unit_test(a_deaf_peer_is_bounded),
        cmocka_unit_test(memory_ceiling_fails_cleanly),
        cmocka_unit_test(a_client_is_bounded_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
