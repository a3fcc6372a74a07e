/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every byte arrives once and in order, however the socket cuts the stream, with few system
 * calls, bounded memory, and a clear end. Method: both ends over loopback in one thread, through an
 * environment that moves few bytes at a time, blocks, damages or fails where it is told to.
 */
#include "stream_pair.h"

#include <malloc.h>
#include <sys/ioctl.h>

#include "base/own.h"

enum { IDLE_BYTES_MAX = 16384 };

static const struct pair_wish server_wish = {
    .role = TLS_SERVER, .certificates = {"event-service"}, .authority = "ca"};
static const struct pair_wish client_wish = {
    .role = TLS_CLIENT, .certificates = {"event-gateway"}, .authority = "ca"};

static struct esi_tls_context *server_context;
static struct esi_tls_context *client_context;

static int set_up(void **state)
{
    (void)state;
    (void)pair_env_reset();
    server_context = pair_context(server_wish);
    client_context = pair_context(client_wish);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    esi_tls_context_unref(client_context);
    esi_tls_context_unref(server_context);
    return 0;
}

static void marry(struct stream_pair *pair)
{
    pair_marry(pair, server_context, client_context, "event-service");
}

/* The byte at a place of the test's endless text: no short period, so that a lost or doubled piece
 * shows. */
static char byte_at(size_t place)
{
    return (char)((place * 2654435761u) >> 13);
}

/* One write of count bytes from this place, as parts of these sizes in turn. Returns the bytes
 * taken. */
static size_t write_parts(struct esi_stream *stream, size_t place, size_t count,
                          const size_t *sizes, size_t size_count)
{
    static char bytes[300000];
    struct iovec parts[64];
    size_t part_count = 0;
    size_t len = 0;
    size_t taken = 0;
    enum es_err err;

    /* Not much more than will be taken, or the test would spend its time with making bytes. */
    if (pair_env.write_bytes_max > 0 && count > pair_env.write_bytes_max + 5000) {
        count = pair_env.write_bytes_max + 5000;
    }
    while (len < count && part_count < ESI_COUNT_OF(parts)) {
        size_t size = sizes[part_count % size_count];
        size = size < count - len ? size : count - len;
        size = size < sizeof(bytes) - len ? size : sizeof(bytes) - len;
        parts[part_count++] = (struct iovec){.iov_base = bytes + len, .iov_len = size};
        len += size;
        if (len == sizeof(bytes)) {
            break;
        }
    }
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(place + i);
    }
    err = esi_stream_writev(stream, parts, part_count, &taken);
    assert_true(err == ES_OK || err == ES_AGAIN);
    /* What was given may be used anew at once, also when it was not taken: there is no repetition
     * rule. */
    memset(bytes, 0, len);
    return err == ES_OK ? taken : 0;
}

/* Moves total bytes from one end to the other, polling as an actor would, and checks each. */
static void transfer(struct esi_stream *from, struct esi_stream *to, size_t total, size_t capacity,
                     const size_t *sizes, size_t size_count)
{
    size_t sent = 0;
    size_t got = 0;
    char *buffer = malloc(capacity);
    uint64_t start_ns = 0;

    assert_non_null(buffer);
    while (got < total) {
        bool is_moving = false;
        size_t count = 0;
        enum es_err err;

        assert_true(pair_has_time(&start_ns));
        if (sent < total) {
            count = write_parts(from, sent, total - sent, sizes, size_count);
            sent += count;
            is_moving |= count > 0;
        } else if (esi_stream_has_buffered_output(from)) {
            err = esi_stream_flush(from);
            assert_true(err == ES_OK || err == ES_AGAIN);
        }
        do {
            count = 0;
            err = esi_stream_read(to, buffer, capacity, &count);
            assert_true(err == ES_OK || err == ES_AGAIN);
            for (size_t i = 0; i < count; i++) {
                if (buffer[i] != byte_at(got + i)) {
                    fail_msg("byte %zu is wrong", got + i);
                }
            }
            got += count;
            is_moving |= count > 0;
        } while (esi_stream_has_buffered_input(to));
        if (!is_moving && got < total && sent == total && !esi_stream_has_buffered_output(from)) {
            assert_true(pair_await(esi_stream_socket(to), POLL_READ));
        }
    }
    assert_int_equal(got, total);
    assert_false(esi_stream_has_buffered_output(from));
    free(buffer);
}

static const size_t mixed_sizes[] = {1, 20, 256, 8191, 8192, 5, 16384, 16385, 100000, 0, 3};
static const size_t tiny_sizes[] = {1, 2, 3};

static void plain_bytes_pass_both_ways(void **state)
{
    struct stream_pair pair;
    char byte;
    size_t count = 0;

    (void)state;
    pair_open(&pair);
    assert_false(esi_stream_is_tls(pair.client));
    assert_int_equal(esi_stream_wants(pair.client), 0);
    assert_int_equal(esi_stream_read(pair.server, &byte, 1, &count), ES_AGAIN);
    transfer(pair.client, pair.server, 3000000, 65536, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    transfer(pair.server, pair.client, 20000, 7, tiny_sizes, ESI_COUNT_OF(tiny_sizes));
    pair_env.read_bytes_max = 1000;
    pair_env.write_bytes_max = 700;
    transfer(pair.client, pair.server, 60000, 65536, mixed_sizes, ESI_COUNT_OF(mixed_sizes));

    /* The end of one direction leaves the other open. */
    esi_stream_shutdown_write(pair.client);
    assert_int_equal(
        esi_stream_writev(pair.client, &(struct iovec){.iov_base = &byte, .iov_len = 1}, 1, &count),
        ES_CLOSED);
    assert_true(pair_await(esi_stream_socket(pair.server), POLL_READ));
    assert_int_equal(esi_stream_read(pair.server, &byte, 1, &count), ES_CLOSED);
    pair_expect_text(pair.server, pair.client, "goodbye");
    assert_string_equal(esi_stream_failure(pair.client), "");
    pair_close(&pair);
}

static void unread_bytes_come_first(void **state)
{
    struct stream_pair pair;
    char text[32];
    char *large = calloc(1, 128 << 10);
    size_t count = 0;

    (void)state;
    assert_non_null(large);
    pair_open(&pair);
    assert_int_equal(esi_stream_unread(pair.server, "", 0), ES_OK);
    assert_false(esi_stream_has_buffered_input(pair.server));
    assert_int_equal(esi_stream_unread(pair.server, "two", 3), ES_OK);
    assert_int_equal(esi_stream_unread(pair.server, "one", 3), ES_OK);
    assert_true(esi_stream_has_buffered_input(pair.server));
    assert_int_equal(esi_stream_read(pair.server, text, 4, &count), ES_OK);
    assert_int_equal(count, 4);
    assert_memory_equal(text, "onet", 4);
    assert_int_equal(esi_stream_unread(pair.server, "T", 1), ES_OK);
    assert_int_equal(esi_stream_read(pair.server, text, sizeof(text), &count), ES_OK);
    assert_int_equal(count, 3);
    assert_memory_equal(text, "Two", 3);
    assert_false(esi_stream_has_buffered_input(pair.server));
    pair_expect_text(pair.client, pair.server, "three");
    assert_int_equal(esi_stream_unread(pair.server, large, 128 << 10), ES_OK);
    assert_int_equal(esi_stream_unread(pair.server, large, 1), ES_TOO_LARGE);
    pair_close(&pair);
    free(large);
}

static void tls_bytes_pass_both_ways(void **state)
{
    struct stream_pair pair;

    (void)state;
    marry(&pair);
    assert_true(esi_stream_is_tls(pair.client));
    assert_int_equal(esi_stream_wants(pair.client), 0);
    transfer(pair.client, pair.server, 5000000, 131072, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    transfer(pair.server, pair.client, 5000000, 65536, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    transfer(pair.server, pair.client, 300000, 1000, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    transfer(pair.client, pair.server, 20000, 7, tiny_sizes, ESI_COUNT_OF(tiny_sizes));
    pair_close(&pair);
}

/* Handshake and data while the socket gives and takes a few bytes at a time, down to one. */
static void short_reads_and_writes_lose_nothing(void **state)
{
    static const struct {
        size_t read_bytes_max;
        size_t write_bytes_max;
        size_t total;
    } rows[] = {{1, 1, 3000},
                {3, 1000, 20000},
                {1000, 3, 10000},
                {1400, 1400, 400000},
                {100000, 17, 20000}};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct stream_pair pair;

        pair_env.read_bytes_max = rows[i].read_bytes_max;
        pair_env.write_bytes_max = rows[i].write_bytes_max;
        marry(&pair);
        transfer(pair.client, pair.server, rows[i].total, 65536, mixed_sizes,
                 ESI_COUNT_OF(mixed_sizes));
        transfer(pair.server, pair.client, rows[i].total, 100, tiny_sizes,
                 ESI_COUNT_OF(tiny_sizes));
        pair_close(&pair);
    }
}

/* Many small messages leave by one write and come in by one read; so does a large one. */
static void system_calls_are_few(void **state)
{
    static const size_t sizes[] = {250};
    struct stream_pair pair;
    char *buffer = malloc(131072);
    size_t got = 0;

    (void)state;
    assert_non_null(buffer);
    marry(&pair);
    pair_env.read_count = 0;
    pair_env.write_count = 0;
    assert_int_equal(write_parts(pair.client, 0, 16000, sizes, 1), 16000);
    assert_int_equal(pair_env.write_count, 1);
    assert_int_equal(write_parts(pair.client, 16000, 40000, (size_t[]){40000}, 1), 40000);
    assert_int_equal(pair_env.write_count, 2);
    while (got < 56000) {
        size_t count = 0;
        assert_true(pair_await(esi_stream_socket(pair.server), POLL_READ));
        if (esi_stream_read(pair.server, buffer + got, 131072 - got, &count) == ES_OK) {
            got += count;
        }
    }
    assert_int_equal(got, 56000);
    assert_true(pair_env.read_count <= 3); /* one, where loopback has all of it at once */
    pair_close(&pair);
    free(buffer);
}

/* While the peer takes nothing the stream takes a bounded amount, then nothing; later all of it
 * arrives. */
static void a_blocked_peer_holds_the_writer_back(void **state)
{
    struct stream_pair pair;
    size_t taken = 0;
    size_t got = 0;
    char buffer[65536];
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    pair_env.is_write_blocked = true;
    for (int i = 0; i < 100; i++) {
        taken += write_parts(pair.client, taken, 200000, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    }
    assert_true(taken > 0);
    assert_true(taken < 200000);
    assert_true(esi_stream_has_buffered_output(pair.client));
    assert_true((esi_stream_wants(pair.client) & POLL_WRITE) != 0);
    assert_int_equal(esi_stream_flush(pair.client), ES_AGAIN);
    pair_env.is_write_blocked = false;
    while (got < taken) {
        size_t count = 0;
        const enum es_err flushed = esi_stream_flush(pair.client);
        assert_true(flushed == ES_OK || flushed == ES_AGAIN);
        assert_true(pair_has_time(&start_ns));
        if (esi_stream_read(pair.server, buffer, sizeof(buffer), &count) == ES_OK) {
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(buffer[i], byte_at(got + i));
            }
            got += count;
        }
    }
    assert_int_equal(got, taken);
    assert_false(esi_stream_has_buffered_output(pair.client));
    assert_int_equal(esi_stream_wants(pair.client), 0);
    pair_close(&pair);
}

/* Bytes of the handshake that somebody has read already (a NATS server looks at the first ones) are
 * not lost. */
static void a_handshake_goes_on_from_unread_bytes(void **state)
{
    struct stream_pair pair;
    char first[600];
    size_t count = 0;
    enum es_err client_err;
    enum es_err server_err;

    (void)state;
    pair_open(&pair);
    assert_int_equal(esi_stream_start_tls_client(pair.client, client_context, "event-service"),
                     ES_OK);
    assert_int_equal(esi_stream_handshake(pair.client), ES_AGAIN);
    assert_true(pair_await(esi_stream_socket(pair.server), POLL_READ));
    assert_int_equal(esi_stream_read(pair.server, first, sizeof(first), &count), ES_OK);
    assert_true(count > 100);
    assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_OK);
    assert_int_equal(esi_stream_unread(pair.server, first + 50, count - 50), ES_OK);
    assert_int_equal(esi_stream_unread(pair.server, first, 50), ES_OK);
    assert_false(esi_stream_has_buffered_input(pair.server));
    pair_shake(&pair, &client_err, &server_err);
    assert_int_equal(client_err, ES_OK);
    assert_int_equal(server_err, ES_OK);
    pair_expect_text(pair.client, pair.server, "PING");
    pair_close(&pair);
}

/* TLS after a plain beginning on the same socket, as NATS has it: INFO, then the handshake. */
static void tls_starts_after_plain_text(void **state)
{
    struct stream_pair pair;
    enum es_err client_err;
    enum es_err server_err;

    (void)state;
    pair_open(&pair);
    pair_expect_text(pair.server, pair.client, "INFO {}\r\n");
    assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_OK);
    assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_INVALID);
    assert_int_equal(esi_stream_start_tls_client(pair.client, client_context, ""), ES_INVALID);
    assert_int_equal(esi_stream_start_tls_client(pair.client, client_context, "127.0.0.1"), ES_OK);
    pair_shake(&pair, &client_err, &server_err);
    assert_int_equal(client_err, ES_OK);
    assert_int_equal(server_err, ES_OK);
    pair_expect_text(pair.client, pair.server, "CONNECT {}\r\n");
    pair_close(&pair);
}

/* Data on the heels of the handshake is there at once, without a word from the socket. */
static void early_data_waits_in_user_space(void **state)
{
    struct stream_pair pair;
    enum es_err client_err = ES_AGAIN;
    enum es_err server_err = ES_AGAIN;
    char text[8];
    size_t count = 0;
    uint64_t start_ns = 0;

    (void)state;
    pair_open(&pair);
    assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_OK);
    assert_int_equal(esi_stream_start_tls_client(pair.client, client_context, NULL), ES_OK);
    while (client_err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        client_err = esi_stream_handshake(pair.client);
        if (client_err == ES_AGAIN) {
            server_err = esi_stream_handshake(pair.server);
            assert_int_equal(server_err, ES_AGAIN);
        }
    }
    assert_int_equal(client_err, ES_OK);
    assert_int_equal(esi_stream_writev(pair.client,
                                       &(struct iovec){.iov_base = (char[]){"PING"}, .iov_len = 4},
                                       1, &count),
                     ES_OK);
    while (server_err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        assert_true(pair_await(esi_stream_socket(pair.server), POLL_READ));
        server_err = esi_stream_handshake(pair.server);
    }
    assert_int_equal(server_err, ES_OK);
    assert_true(esi_stream_has_buffered_input(pair.server));
    pair_env.read_count = 0;
    assert_int_equal(esi_stream_read(pair.server, text, 4, &count), ES_OK);
    assert_int_equal(count, 4);
    assert_memory_equal(text, "PING", 4);
    assert_int_equal(pair_env.read_count, 0);
    assert_false(esi_stream_has_buffered_input(pair.server));
    pair_close(&pair);
}

static void half_a_handshake_ends_with_the_connection(void **state)
{
    static const char half[] = {22, 3, 1, 2, 0, 1, 0, 1, (char)0xfc, 3, 3};

    (void)state;
    for (size_t len = 0; len <= sizeof(half); len += sizeof(half)) {
        struct stream_pair pair;
        const struct iovec part = {.iov_base = (void *)(uintptr_t)half, .iov_len = len};
        enum es_err err = ES_AGAIN;
        uint64_t start_ns = 0;
        size_t count = 0;

        pair_open(&pair);
        assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_OK);
        assert_int_equal(esi_stream_handshake(pair.server), ES_AGAIN);
        assert_true((esi_stream_wants(pair.server) & POLL_READ) != 0);
        assert_int_equal(esi_stream_writev(pair.client, &part, 1, &count), ES_OK);
        if (len > 0) {
            assert_true(pair_await(esi_stream_socket(pair.server), POLL_READ));
            assert_int_equal(esi_stream_handshake(pair.server), ES_AGAIN);
            assert_false(esi_stream_has_buffered_input(pair.server)); /* or its owner would spin */
        }
        esi_stream_shutdown_write(pair.client);
        while (err == ES_AGAIN) {
            assert_true(pair_has_time(&start_ns));
            err = esi_stream_handshake(pair.server);
        }
        assert_int_equal(err, ES_CLOSED);
        assert_non_null(strstr(esi_stream_failure(pair.server), "closed the connection"));
        assert_int_equal(esi_stream_handshake(pair.server), ES_CLOSED);
        pair_close(&pair);
    }
}

static void an_orderly_end_is_no_failure(void **state)
{
    struct stream_pair pair;
    char byte = 'x';
    size_t count = 0;
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    pair_expect_text(pair.client, pair.server, "last words");
    esi_stream_shutdown_write(pair.client);
    pair_expect_text(pair.server, pair.client, "what was on its way still arrives");
    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_read(pair.server, &byte, 1, &count);
    }
    assert_int_equal(err, ES_CLOSED);
    assert_string_equal(esi_stream_failure(pair.server), "");
    assert_int_equal(esi_stream_read(pair.server, &byte, 1, &count), ES_CLOSED);
    /* It has ended its direction only: what it waits for still goes out. */
    pair_expect_text(pair.server, pair.client, "the answer to the last words");
    esi_stream_shutdown_write(pair.server);
    for (err = ES_AGAIN; err == ES_AGAIN;) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_read(pair.client, &byte, 1, &count);
    }
    assert_int_equal(err, ES_CLOSED);
    assert_string_equal(esi_stream_failure(pair.client), "");
    assert_int_equal(
        esi_stream_writev(pair.client, &(struct iovec){.iov_base = &byte, .iov_len = 1}, 1, &count),
        ES_CLOSED);
    pair_close(&pair);
}

/* What is written before the end arrives before it, also when the socket was full at that time. */
static void the_end_comes_after_what_is_held(void **state)
{
    struct stream_pair pair;
    size_t taken;
    size_t got = 0;
    char buffer[65536];
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    pair_env.is_write_blocked = true;
    taken = write_parts(pair.client, 0, 50000, mixed_sizes, ESI_COUNT_OF(mixed_sizes));
    assert_true(taken > 0);
    esi_stream_shutdown_write(pair.client);
    pair_env.is_write_blocked = false;
    pair_env.write_bytes_max = 1000;
    while (err != ES_CLOSED) {
        size_t count = 0;
        const enum es_err flushed = esi_stream_flush(pair.client);
        assert_true(flushed == ES_OK || flushed == ES_AGAIN);
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_read(pair.server, buffer, sizeof(buffer), &count);
        got += err == ES_OK ? count : 0;
    }
    assert_int_equal(got, taken);
    assert_string_equal(esi_stream_failure(pair.server), ""); /* close_notify has come */
    pair_close(&pair);
}

/* Bytes and the close_notify behind them come with one read of the socket. A peer that then waits
 * for us sends no FIN, so nothing but has_buffered_input says that the end is there. */
static void an_end_behind_bytes_is_at_hand(void **state)
{
    static const char text[] = "last words";
    enum { RECORD_MIN = 22, ALERT_MIN = 2 + 22 }; /* header, content type and tag */
    struct stream_pair pair;
    const struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    char buffer[256];
    size_t count = 0;
    int waiting = 0;
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    pair_expect_text(pair.client, pair.server, "first words");
    assert_int_equal(esi_stream_writev(pair.client, &part, 1, &count), ES_OK);
    esi_stream_shutdown_write(pair.client);
    while (waiting < (int)strlen(text) + RECORD_MIN + ALERT_MIN) {
        assert_true(pair_has_time(&start_ns));
        assert_int_equal(ioctl(esi_stream_socket(pair.server), FIONREAD, &waiting), 0);
    }
    assert_int_equal(esi_stream_read(pair.server, buffer, sizeof(buffer), &count), ES_OK);
    assert_int_equal(count, strlen(text));
    assert_true(esi_stream_has_buffered_input(pair.server));
    assert_int_equal(esi_stream_read(pair.server, buffer, sizeof(buffer), &count), ES_CLOSED);
    assert_false(esi_stream_has_buffered_input(pair.server));
    assert_string_equal(esi_stream_failure(pair.server), "");
    pair_close(&pair);
}

static void a_connection_cut_off_is_told(void **state)
{
    struct stream_pair pair;
    char byte;
    size_t count = 0;
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    esi_stream_free(pair.client);
    pair.client = NULL;
    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_read(pair.server, &byte, 1, &count);
    }
    assert_int_equal(err, ES_CLOSED);
    assert_string_equal(esi_stream_failure(pair.server), "the peer closed the connection");
    pair_close(&pair);
}

static void a_changed_record_is_refused(void **state)
{
    struct stream_pair pair;
    char text[64];
    size_t count = 0;
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;

    (void)state;
    marry(&pair);
    pair_expect_text(pair.client, pair.server, "PING");
    pair_env.is_last_byte_bad = true;
    assert_int_equal(write_parts(pair.client, 0, 100, mixed_sizes, ESI_COUNT_OF(mixed_sizes)), 100);
    pair_env.is_last_byte_bad = false;
    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_read(pair.server, text, sizeof(text), &count);
    }
    assert_int_equal(err, ES_TLS);
    assert_string_equal(esi_stream_failure(pair.server), "a record was tampered with");
    assert_int_equal(esi_stream_read(pair.server, text, sizeof(text), &count), ES_TLS);
    assert_int_equal(
        esi_stream_writev(pair.server, &(struct iovec){.iov_base = text, .iov_len = 1}, 1, &count),
        ES_TLS);
    assert_false(esi_stream_has_buffered_input(pair.server));
    assert_false(esi_stream_has_buffered_output(pair.server));
    pair_close(&pair);
}

/* The n-th read or write fails, for every n until a handshake with an exchange passes untouched. */
static void every_failing_call_ends_in_order(void **state)
{
    uint64_t n = 0;
    bool is_over = false;

    (void)state;
    while (!is_over) {
        struct stream_pair pair;
        enum es_err client_err;
        enum es_err server_err;

        n++;
        assert_true(n < 1000);
        pair_env.read_count = 0;
        pair_env.write_count = 0;
        pair_env.fail_at = n;
        pair_open(&pair);
        assert_int_equal(esi_stream_start_tls_server(pair.server, server_context), ES_OK);
        assert_int_equal(esi_stream_start_tls_client(pair.client, client_context, NULL), ES_OK);
        pair_shake(&pair, &client_err, &server_err);
        if (pair_env.read_count + pair_env.write_count < n) {
            assert_int_equal(client_err, ES_OK);
            assert_int_equal(server_err, ES_OK);
            is_over = true;
        } else {
            /* The side whose call failed knows it, and says why. */
            assert_true(client_err != ES_OK || server_err != ES_OK);
            assert_true(client_err == ES_OK || esi_stream_failure(pair.client)[0] != '\0');
            assert_true(server_err == ES_OK || esi_stream_failure(pair.server)[0] != '\0');
        }
        pair_close(&pair);
    }
    assert_true(n > 5);
}

/* Memory of an idle TLS connection, one side, after data has passed. */
static void idle_connections_are_small(void **state)
{
    enum { PAIR_COUNT = 40 };
    struct stream_pair pairs[PAIR_COUNT];
    size_t before;
    size_t bytes;

    (void)state;
    if (mallinfo2().uordblks == 0) {
        skip(); /* the allocator of sanitizers and valgrind keeps no such account */
    }
    marry(&pairs[0]); /* what the library makes once is made now */
    pair_close(&pairs[0]);
    before = mallinfo2().uordblks;
    for (size_t i = 0; i < PAIR_COUNT; i++) {
        marry(&pairs[i]);
        transfer(pairs[i].client, pairs[i].server, 100000, 65536, mixed_sizes,
                 ESI_COUNT_OF(mixed_sizes));
        transfer(pairs[i].server, pairs[i].client, 100000, 65536, mixed_sizes,
                 ESI_COUNT_OF(mixed_sizes));
    }
    bytes = (mallinfo2().uordblks - before) / (2 * PAIR_COUNT);
    print_message("%zu bytes a side (%s)\n", bytes, esi_tls_build_name());
    for (size_t i = 0; i < PAIR_COUNT; i++) {
        pair_close(&pairs[i]);
    }
    assert_true(bytes > 1000);
    if (strncmp(esi_tls_build_name(), "private", 7) == 0) {
        assert_true(bytes < IDLE_BYTES_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_bytes_pass_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unread_bytes_come_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_bytes_pass_both_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(short_reads_and_writes_lose_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(system_calls_are_few, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_blocked_peer_holds_the_writer_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_handshake_goes_on_from_unread_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_starts_after_plain_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(early_data_waits_in_user_space, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_handshake_ends_with_the_connection, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_orderly_end_is_no_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_comes_after_what_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_behind_bytes_is_at_hand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_cut_off_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_changed_record_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_failing_call_ends_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(idle_connections_are_small, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, pair_make_certificates, pair_remove_certificates);
}
