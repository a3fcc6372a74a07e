/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ends of a loopback connection as streams, in one thread, over an environment that can be told
 * to move few bytes at a time. Used by the tests of net.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "env/env.h"
#include "net/certificate.h"
#include "net/stream.h"
#include "net/tls.h"

enum { PAIR_DEADLINE_S = 20, PAIR_CERTIFICATES_MAX = 3 };

/* The Linux environment with counters and bounds in front. */
struct pair_env {
    struct esi_env env;
    struct esi_env_ops ops;
    size_t read_bytes_max;  /* bytes a read gives at most; 0: no bound */
    size_t write_bytes_max; /* bytes a write takes at most; 0: no bound */
    bool is_write_blocked;  /* writes answer ES_AGAIN */
    bool is_last_byte_bad;  /* the last byte of each write is changed on its way */
    uint64_t fail_at;       /* the read or write with this number (from 1) fails; 0: none */
    uint64_t read_count;
    uint64_t write_count;
};

static struct pair_env pair_env;

static enum es_err pair_read(struct esi_env *env, int sock, void *buffer, size_t capacity,
                             size_t *count)
{
    (void)env;
    pair_env.read_count++;
    if (pair_env.read_count + pair_env.write_count == pair_env.fail_at) {
        return ES_CLOSED;
    }
    if (pair_env.read_bytes_max > 0 && capacity > pair_env.read_bytes_max) {
        capacity = pair_env.read_bytes_max;
    }
    return esi_env_read(esi_env_linux(), sock, buffer, capacity, count);
}

static enum es_err pair_writev(struct esi_env *env, int sock, const struct iovec *parts,
                               size_t part_count, size_t *count)
{
    struct iovec first = parts[0];

    (void)env;
    pair_env.write_count++;
    if (pair_env.read_count + pair_env.write_count == pair_env.fail_at) {
        return ES_CLOSED;
    }
    if (pair_env.is_write_blocked) {
        return ES_AGAIN;
    }
    if (pair_env.is_last_byte_bad) {
        ((char *)parts[part_count - 1].iov_base)[parts[part_count - 1].iov_len - 1] ^= 1;
    }
    if (pair_env.write_bytes_max > 0) {
        while (first.iov_len == 0 && part_count > 1) {
            first = *++parts;
            part_count--;
        }
        if (first.iov_len > pair_env.write_bytes_max) {
            first.iov_len = pair_env.write_bytes_max;
        }
        return esi_env_writev(esi_env_linux(), sock, &first, 1, count);
    }
    return esi_env_writev(esi_env_linux(), sock, parts, part_count, count);
}

/* Sets the environment back to its unbounded state. */
static inline struct esi_env *pair_env_reset(void)
{
    pair_env = (struct pair_env){.ops = *esi_env_linux()->ops};
    pair_env.ops.read = pair_read;
    pair_env.ops.writev = pair_writev;
    pair_env.env.ops = &pair_env.ops;
    return &pair_env.env;
}

struct stream_pair {
    int server_sock; /* until it is given to a stream, or for raw bytes */
    int client_sock;
    struct esi_stream *server;
    struct esi_stream *client;
};

/* Waits until a socket is ready for these events; false after the deadline. */
static inline bool pair_await(int sock, uint32_t events)
{
    struct esi_env *env = esi_env_linux();
    struct esi_poller *poller = NULL;
    struct esi_poll_ready ready;
    size_t count;

    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    assert_int_equal(esi_env_poller_add(env, poller, sock, events, &pair_env), ES_OK);
    count = esi_env_poller_wait(env, poller, INT64_C(1000000000) * PAIR_DEADLINE_S, &ready, 1);
    esi_env_poller_remove(env, poller, sock);
    esi_env_poller_free(env, poller);
    return count > 0;
}

/* Connects two sockets by loopback. */
static inline void pair_connect(struct stream_pair *pair)
{
    struct esi_env *env = esi_env_linux();
    struct esi_address address;
    struct esi_address peer;
    int listener = ESI_ENV_NO_SOCKET;

    *pair =
        (struct stream_pair){.server_sock = ESI_ENV_NO_SOCKET, .client_sock = ESI_ENV_NO_SOCKET};
    assert_int_equal(esi_env_listen(env, "127.0.0.1", 0, &listener, &address), ES_OK);
    assert_int_equal(esi_env_connect(env, &address, &pair->client_sock), ES_OK);
    assert_true(pair_await(listener, POLL_READ));
    assert_int_equal(esi_env_accept(env, listener, &pair->server_sock, &peer), ES_OK);
    assert_true(pair_await(pair->client_sock, POLL_WRITE));
    assert_int_equal(esi_env_connect_result(env, pair->client_sock), ES_OK);
    esi_env_close(env, listener);
}

/* Makes both ends plain streams. */
static inline void pair_open(struct stream_pair *pair)
{
    pair_connect(pair);
    assert_int_equal(esi_stream_new(&pair_env.env, pair->server_sock, &pair->server), ES_OK);
    assert_int_equal(esi_stream_new(&pair_env.env, pair->client_sock, &pair->client), ES_OK);
    pair->server_sock = ESI_ENV_NO_SOCKET;
    pair->client_sock = ESI_ENV_NO_SOCKET;
}

static inline void pair_close(struct stream_pair *pair)
{
    esi_stream_free(pair->client);
    esi_stream_free(pair->server);
    esi_env_close(esi_env_linux(), pair->server_sock);
    esi_env_close(esi_env_linux(), pair->client_sock);
}

/* True until the deadline, counted from the first call with *start_ns == 0. */
static inline bool pair_has_time(uint64_t *start_ns)
{
    const uint64_t now_ns = esi_env_now_ns(esi_env_linux());

    *start_ns = *start_ns == 0 ? now_ns : *start_ns;
    return now_ns - *start_ns < UINT64_C(1000000000) * PAIR_DEADLINE_S;
}

/* One step of a handshake that has not ended: writes what is held, goes on. */
static inline enum es_err pair_step(struct esi_stream *stream, enum es_err before)
{
    enum es_err err = before;

    if (before == ES_AGAIN) {
        err = esi_stream_handshake(stream);
    }
    if (esi_stream_has_buffered_output(stream)) {
        const enum es_err flushed = esi_stream_flush(stream);
        assert_true(flushed == ES_OK || flushed == ES_AGAIN || flushed == ES_CLOSED);
    }
    return err;
}

/* Steps both sides until both have ended (well or not). */
static inline void pair_shake(struct stream_pair *pair, enum es_err *client, enum es_err *server)
{
    uint64_t start_ns = 0;

    *client = ES_AGAIN;
    *server = ES_AGAIN;
    while (*client == ES_AGAIN || *server == ES_AGAIN ||
           esi_stream_has_buffered_output(pair->client) ||
           esi_stream_has_buffered_output(pair->server)) {
        assert_true(pair_has_time(&start_ns));
        *client = pair_step(pair->client, *client);
        *server = pair_step(pair->server, *server);
        /* A side that has failed closes, as its owner would; the other then learns of it. */
        if (*client != ES_AGAIN && *client != ES_OK) {
            esi_stream_shutdown_write(pair->client);
        }
        if (*server != ES_AGAIN && *server != ES_OK) {
            esi_stream_shutdown_write(pair->server);
        }
    }
}

/* Starts TLS on both ends and shakes hands; both must do well. */
static inline void pair_marry(struct stream_pair *pair, struct esi_tls_context *server,
                              struct esi_tls_context *client, const char *server_name)
{
    enum es_err client_err;
    enum es_err server_err;

    pair_open(pair);
    assert_int_equal(esi_stream_start_tls_server(pair->server, server), ES_OK);
    assert_int_equal(esi_stream_start_tls_client(pair->client, client, server_name), ES_OK);
    pair_shake(pair, &client_err, &server_err);
    if (client_err != ES_OK || server_err != ES_OK) {
        print_error("client: %d %s; server: %d %s\n", client_err, esi_stream_failure(pair->client),
                    server_err, esi_stream_failure(pair->server));
    }
    assert_int_equal(client_err, ES_OK);
    assert_int_equal(server_err, ES_OK);
}

/* Sends text one way and expects it at the other end. */
static inline void pair_expect_text(struct esi_stream *from, struct esi_stream *to,
                                    const char *text)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    char got[256];
    size_t got_len = 0;
    size_t count = 0;
    uint64_t start_ns = 0;

    assert_int_equal(esi_stream_writev(from, &part, 1, &count), ES_OK);
    assert_int_equal(count, strlen(text));
    while (got_len < strlen(text)) {
        enum es_err err;

        assert_true(pair_has_time(&start_ns));
        if (esi_stream_has_buffered_output(from)) {
            err = esi_stream_flush(from);
            assert_true(err == ES_OK || err == ES_AGAIN);
        }
        err = esi_stream_read(to, got + got_len, sizeof(got) - got_len, &count);
        assert_true(err == ES_OK || err == ES_AGAIN);
        got_len += err == ES_OK ? count : 0;
    }
    assert_int_equal(got_len, strlen(text));
    assert_memory_equal(got, text, got_len);
}

/* --- certificates: made once a program by scripts/make-certs --- */

static char pair_folder[64];

static inline const char *pair_path(const char *name, const char *ending)
{
    static char paths[8][160];
    static size_t next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s%s", pair_folder, name, ending);
    return path;
}

/* Group set-up: certificates in a folder of their own. */
static inline int pair_make_certificates(void **state)
{
    char command[160];

    (void)state;
    snprintf(pair_folder, sizeof(pair_folder), "/tmp/event-service-test.XXXXXX");
    if (mkdtemp(pair_folder) == NULL) {
        return -1;
    }
    snprintf(command, sizeof(command), "scripts/make-certs %s --bad >/dev/null", pair_folder);
    return system(command);
}

/* Group tear-down. */
static inline int pair_remove_certificates(void **state)
{
    char command[160];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", pair_folder);
    return system(command);
}

/* What a test wants of a context, by the names of scripts/make-certs; NULL: none. */
struct pair_wish {
    enum esi_tls_role role;
    const char *certificates[PAIR_CERTIFICATES_MAX];
    const char *authority;
    const char *allowed[3];
    enum esi_tls_version min_version;
    const char *alpn;
    const char *pinned;
    bool insecure;
};

static inline enum es_err pair_try_context(const struct pair_wish *wish,
                                           struct esi_tls_context **out, struct es_error *error)
{
    struct esi_tls_certificate certificates[PAIR_CERTIFICATES_MAX];
    struct esi_tls_options options = {.role = wish->role,
                                      .min_version = wish->min_version,
                                      .certificates = certificates,
                                      .verify_peer =
                                          wish->authority != NULL || wish->pinned != NULL,
                                      .insecure = wish->insecure,
                                      .allowed_names = wish->allowed,
                                      .alpn = wish->alpn};

    while (options.certificate_count < PAIR_CERTIFICATES_MAX &&
           wish->certificates[options.certificate_count] != NULL) {
        const char *name = wish->certificates[options.certificate_count];
        certificates[options.certificate_count++] = (struct esi_tls_certificate){
            .cert_path = pair_path(name, ".crt"), .key_path = pair_path(name, ".key")};
    }
    while (options.allowed_name_count < 3 && wish->allowed[options.allowed_name_count] != NULL) {
        options.allowed_name_count++;
    }
    if (wish->authority != NULL) {
        options.root_ca_path = pair_path(wish->authority, ".crt");
    }
    if (wish->pinned != NULL) {
        options.pinned_cert_path = pair_path(wish->pinned, ".crt");
    }
    return esi_tls_context_new(&pair_env.env, &options, out, error);
}

static inline struct esi_tls_context *pair_context(struct pair_wish wish)
{
    struct esi_tls_context *context = NULL;
    struct es_error error = {0};
    const enum es_err err = pair_try_context(&wish, &context, &error);

    if (err != ES_OK) {
        print_error("%s\n", error.text);
    }
    assert_int_equal(err, ES_OK);
    return context;
}
