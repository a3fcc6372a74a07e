/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small blocking client: connects, subscribes, sends itself a request and answers it. Everything
 * that the server sends is bounded and taken with a deadline; what it says wrong ends the check.
 */
#include <eventservice/auth.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crypto.h"
#include "base/json_writer.h"
#include "base/num.h"
#include "base/own.h"
#include "base/str.h"
#include "config/config.h"
#include "config/value.h"
#include "env/env.h"
#include "net/certificate.h"
#include "net/stream.h"
#include "net/tls.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ADDRESSES_MAX = 8,
    INPUT_BYTES_MAX = 64 * 1024,
    READ_BYTES = 4096,
    TOKEN_BYTES_MAX = 256,
    RANDOM_BYTES = 16,
    PAYLOAD_BYTES = ESI_CRYPTO_HEX_CAPACITY(RANDOM_BYTES),
    WORDS_MAX = 5,
    DIGITS_MAX = 9
};

/* Whom to believe. */
enum trust { TRUST_PLAIN, TRUST_AUTHORITY, TRUST_PINNED };

struct probe {
    struct esi_env *env;
    const struct esi_config *config;
    const char *host; /* to connect to */
    uint64_t timeout_ns;
    uint64_t deadline_ns;      /* of the step under way */
    struct esi_poller *poller; /* owned */
    struct esi_stream *stream; /* owned */
    bool is_watched;
    struct esi_bytes input; /* read and not yet used */
    struct es_error *error;
    char token[TOKEN_BYTES_MAX + 1];
    char subject[64];
    char inbox[64];
    char payload[PAYLOAD_BYTES];
};

ESI_PRINTF(3, 4)
static enum es_err fail(struct probe *probe, enum es_err err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(probe->error->text, sizeof probe->error->text, format, arguments);
    va_end(arguments);
    return err;
}

/* --- bytes --- */

static void begin_step(struct probe *probe)
{
    probe->deadline_ns = esi_env_now_ns(probe->env) + probe->timeout_ns;
}

/* Waits until the socket is ready for these events. */
static enum es_err await(struct probe *probe, int sock, uint32_t events, const char *what)
{
    struct esi_poll_ready ready;
    enum es_err err = ES_OK;

    if (!probe->is_watched) {
        err = esi_env_poller_add(probe->env, probe->poller, sock, events, probe);
        probe->is_watched = err == ES_OK;
    } else {
        esi_env_poller_change(probe->env, probe->poller, sock, events, probe);
    }
    if (err != ES_OK) {
        return fail(probe, err, "cannot wait for %s: %s", what, es_err_text(err));
    }
    for (;;) {
        const uint64_t now_ns = esi_env_now_ns(probe->env);
        if (now_ns >= probe->deadline_ns) {
            return fail(probe, ES_TIMEOUT, "no %s within %u ms", what,
                        (unsigned)(probe->timeout_ns / 1000000));
        }
        if (esi_env_poller_wait(probe->env, probe->poller, (int64_t)(probe->deadline_ns - now_ns),
                                &ready, 1) > 0) {
            return ES_OK;
        }
    }
}

static void unwatch(struct probe *probe, int sock)
{
    if (probe->is_watched) {
        esi_env_poller_remove(probe->env, probe->poller, sock);
        probe->is_watched = false;
    }
}

/* Reads what there is, at least a byte. */
static enum es_err read_more(struct probe *probe, const char *what)
{
    const int sock = esi_stream_socket(probe->stream);

    if (probe->input.len >= INPUT_BYTES_MAX) {
        return fail(probe, ES_INVALID, "the server sends more than is expected (waiting for %s)",
                    what);
    }
    for (;;) {
        char *room = esi_bytes_reserve(&probe->input, READ_BYTES);
        size_t count = 0;
        if (room == NULL) {
            return fail(probe, ES_NO_MEMORY, "%s", es_err_text(ES_NO_MEMORY));
        }
        enum es_err err = esi_stream_read(probe->stream, room, READ_BYTES, &count);
        if (err == ES_OK) {
            probe->input.len += count;
            return ES_OK;
        }
        if (err != ES_AGAIN) {
            const char *reason = esi_stream_failure(probe->stream);
            return fail(probe, err, "the server closed the connection (waiting for %s)%s%s", what,
                        reason[0] != '\0' ? ": " : "", reason);
        }
        err = await(probe, sock, esi_stream_wants(probe->stream) | POLL_READ, what);
        if (err != ES_OK) {
            return err;
        }
    }
}

/* The next line without its end; borrowed until the next read. */
static enum es_err read_line(struct probe *probe, const char *what, struct esi_str *line,
                             size_t *line_bytes)
{
    for (;;) {
        const char *lf =
            probe->input.len == 0 ? NULL : memchr(probe->input.data, '\n', probe->input.len);
        if (lf != NULL) {
            *line = (struct esi_str){.data = probe->input.data,
                                     .len = (size_t)(lf - probe->input.data)};
            *line_bytes = line->len + 1;
            line->len -= line->len > 0 && line->data[line->len - 1] == '\r';
            return ES_OK;
        }
        const enum es_err err = read_more(probe, what);
        if (err != ES_OK) {
            return err;
        }
    }
}

static enum es_err write_all(struct probe *probe, struct esi_str text)
{
    const int sock = esi_stream_socket(probe->stream);
    enum es_err err = ES_OK;

    while (text.len > 0) {
        const struct iovec part = {.iov_base = (void *)(uintptr_t)text.data, .iov_len = text.len};
        size_t count = 0;
        err = esi_stream_writev(probe->stream, &part, 1, &count);
        if (err == ES_OK) {
            text.data += count;
            text.len -= count;
        } else if (err == ES_AGAIN) {
            err = await(probe, sock, POLL_WRITE, "room to write");
        }
        if (err != ES_OK) {
            break;
        }
    }
    while (err == ES_OK && esi_stream_has_buffered_output(probe->stream)) {
        err = esi_stream_flush(probe->stream);
        if (err == ES_AGAIN) {
            err = await(probe, sock, POLL_WRITE, "room to write");
        }
    }
    if (err != ES_OK && probe->error->text[0] == '\0') {
        return fail(probe, err, "cannot write to the server: %s", es_err_text(err));
    }
    return err;
}

/* --- connecting --- */

static enum es_err dial_one(struct probe *probe, const struct esi_address *address)
{
    int sock = ESI_ENV_NO_SOCKET;
    enum es_err err = esi_env_connect(probe->env, address, &sock);

    while (err == ES_OK) {
        err = await(probe, sock, POLL_WRITE, "connection");
        if (err == ES_OK) {
            err = esi_env_connect_result(probe->env, sock);
            if (err != ES_AGAIN) {
                break;
            }
            err = ES_OK;
        }
    }
    unwatch(probe, sock);
    if (err != ES_OK) {
        esi_env_close(probe->env, sock);
        return err;
    }
    return esi_stream_new(probe->env, sock, &probe->stream);
}

static enum es_err dial(struct probe *probe)
{
    const uint16_t port = probe->config->service.port;
    struct esi_address addresses[ADDRESSES_MAX];
    size_t count = 0;
    enum es_err err =
        esi_env_resolve(probe->env, probe->host, port, addresses, ADDRESSES_MAX, &count);

    if (err != ES_OK) {
        return fail(probe, err, "the host %.200s cannot be found", probe->host);
    }
    begin_step(probe);
    err = ES_UNREACHABLE;
    for (size_t i = 0; i < count && err != ES_OK; i++) {
        err = dial_one(probe, &addresses[i]);
    }
    return err == ES_OK ? ES_OK
                        : fail(probe, err, "no connection to %.200s:%u: %s", probe->host, port,
                               es_err_text(err));
}

static enum es_err make_tls(struct probe *probe, enum trust trust, struct esi_tls_context **out)
{
    const struct esi_config_tls *tls = &probe->config->tls;
    const struct esi_tls_options options = {
        .role = TLS_CLIENT,
        .min_version = tls->min_version == CONFIG_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .root_ca_path = trust == TRUST_AUTHORITY ? tls->root_ca_path : NULL,
        .pinned_cert_path = trust == TRUST_PINNED ? probe->config->frontend_tls[0].cert_path : NULL,
        .verify_peer = true,
    };

    return esi_tls_context_new(probe->env, &options, out, probe->error);
}

static enum es_err shake_hands(struct probe *probe)
{
    const int sock = esi_stream_socket(probe->stream);
    enum es_err err = esi_stream_handshake(probe->stream);

    while (err == ES_AGAIN) {
        uint32_t events = esi_stream_wants(probe->stream);
        err = await(probe, sock, events != 0 ? events : POLL_READ, "TLS handshake");
        if (err != ES_OK) {
            return err;
        }
        err = esi_stream_handshake(probe->stream);
    }
    if (err != ES_OK) {
        return fail(probe, err, "TLS with the server failed: %.300s",
                    esi_stream_failure(probe->stream));
    }
    const struct esi_peer_identity *peer = esi_stream_peer(probe->stream);
    ESI_ASSERT(peer != NULL);
    const int64_t now_s = esi_env_wall_ns(probe->env) / 1000000000;
    if (now_s > peer->not_after_s || now_s < peer->not_before_s) {
        return fail(probe, ES_TLS, "the server's certificate is %s",
                    now_s > peer->not_after_s ? "expired" : "not valid yet");
    }
    return ES_OK;
}

static enum es_err secure(struct probe *probe, enum trust trust)
{
    struct esi_tls_context *context = NULL;
    enum es_err err = make_tls(probe, trust, &context);

    if (err != ES_OK) {
        return err;
    }
    /* A pinned certificate is the first of the list: what a client without a wish for a name is
     * shown. */
    err = esi_stream_start_tls_client(probe->stream, context,
                                      trust == TRUST_PINNED ? NULL : probe->host);
    esi_tls_context_unref(context);
    return err == ES_OK ? shake_hands(probe)
                        : fail(probe, err, "TLS cannot begin: %s", es_err_text(err));
}

/* INFO comes in clear; then, where it is configured, TLS. */
static enum es_err be_greeted(struct probe *probe, enum trust trust)
{
    struct esi_str line;
    size_t line_bytes = 0;
    enum es_err err;

    begin_step(probe);
    err = read_line(probe, "greeting", &line, &line_bytes);
    if (err == ES_OK && !esi_str_starts_with(line, ESI_STR("INFO "))) {
        err = fail(probe, ES_INVALID, "what answers there speaks no NATS");
    }
    if (err == ES_OK && trust != TRUST_PLAIN && probe->input.len > line_bytes) {
        err = fail(probe, ES_INVALID, "the server sent more than its greeting before TLS");
    }
    if (err != ES_OK) {
        return err;
    }
    esi_bytes_consume(&probe->input, line_bytes);
    return trust == TRUST_PLAIN ? ES_OK : secure(probe, trust);
}

/* --- the request --- */

static enum es_err send_request(struct probe *probe)
{
    struct esi_json_writer json;
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_bytes_append_text(&text, "CONNECT ");
    esi_json_writer_init(&json, &text, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "verbose", false);
    esi_json_writer_field_text(&json, "name", "health-check");
    esi_json_writer_field_text(&json, "lang", "c");
    esi_json_writer_field_text(&json, "auth_token", probe->token);
    esi_json_writer_object_end(&json);
    esi_bytes_printf(&text, "\r\nSUB %s 1\r\nSUB %s 2\r\nPUB %s %s %zu\r\n%s\r\n", probe->subject,
                     probe->inbox, probe->subject, probe->inbox, strlen(probe->payload),
                     probe->payload);
    const enum es_err err = text.failed ? fail(probe, ES_NO_MEMORY, "%s", es_err_text(ES_NO_MEMORY))
                                        : write_all(probe, esi_bytes_str(&text));
    esi_bytes_wipe(&text);
    return err;
}

static size_t split_words(struct esi_str line, struct esi_str words[WORDS_MAX])
{
    size_t count = 0;
    size_t at = 0;

    while (at < line.len) {
        const char *space = memchr(line.data + at, ' ', line.len - at);
        const size_t end = space != NULL ? (size_t)(space - line.data) : line.len;
        if (end > at) {
            if (count == WORDS_MAX) {
                return 0;
            }
            words[count++] = (struct esi_str){.data = line.data + at, .len = end - at};
        }
        at = end + 1;
    }
    return count;
}

/* Takes a message off the input: its bytes to *payload (NUL-ended, cut to its room), and which
 * subscription had it. */
static enum es_err take_message(struct probe *probe, struct esi_str line, size_t line_bytes,
                                bool *is_answer, char payload[PAYLOAD_BYTES])
{
    struct esi_str words[WORDS_MAX];
    const size_t count = split_words(line, words);
    uint64_t len = 0;

    if ((count != 4 && count != 5) ||
        !esi_num_parse(words[count - 1].data, words[count - 1].len, DIGITS_MAX, &len) ||
        len >= sizeof probe->payload) {
        return fail(probe, ES_INVALID, "the server sent a message that was not asked for");
    }
    *is_answer = esi_str_equal(words[2], ESI_STR("2"));
    while (probe->input.len < line_bytes + len + 2) {
        const enum es_err err = read_more(probe, "answer");
        if (err != ES_OK) {
            return err;
        }
    }
    memcpy(payload, probe->input.data + line_bytes, (size_t)len);
    payload[len] = '\0';
    esi_bytes_consume(&probe->input, line_bytes + (size_t)len + 2);
    return ES_OK;
}

/* The request has come: it goes back as it came. */
static enum es_err answer_request(struct probe *probe, const char *payload)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_bytes_printf(&text, "PUB %s %zu\r\n%s\r\n", probe->inbox, strlen(payload), payload);
    const enum es_err err = text.failed ? fail(probe, ES_NO_MEMORY, "%s", es_err_text(ES_NO_MEMORY))
                                        : write_all(probe, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
    return err;
}

/* -ERR: in the words of the server, as far as they can be shown. */
static enum es_err told_error(struct probe *probe, struct esi_str line)
{
    char text[200];
    size_t len = 0;

    for (size_t i = 5; i < line.len && len < sizeof text - 1; i++) {
        text[len++] = line.data[i] >= ' ' && line.data[i] < 0x7f ? line.data[i] : '?';
    }
    text[len] = '\0';
    return fail(probe, strstr(text, "Authorization Violation") != NULL ? ES_DENIED : ES_CLOSED,
                "the server refused: %s", text);
}

/* One line of the server; *is_done when the answer has come. */
static enum es_err take_line(struct probe *probe, bool *is_done)
{
    char payload[PAYLOAD_BYTES];
    struct esi_str line;
    size_t line_bytes = 0;
    bool is_answer = false;
    enum es_err err = read_line(probe, "answer to the request", &line, &line_bytes);

    if (err != ES_OK) {
        return err;
    }
    if (esi_str_starts_with(line, ESI_STR("MSG "))) {
        err = take_message(probe, line, line_bytes, &is_answer, payload);
        if (err != ES_OK) {
            return err;
        }
        if (strcmp(payload, probe->payload) != 0) {
            return fail(probe, ES_INVALID, "other bytes came back than were sent");
        }
        *is_done = is_answer;
        return is_answer ? ES_OK : answer_request(probe, payload);
    }
    if (esi_str_starts_with(line, ESI_STR("-ERR"))) {
        return told_error(probe, line);
    }
    const bool is_ping = esi_str_equal(line, ESI_STR("PING"));
    const bool is_known = is_ping || esi_str_starts_with(line, ESI_STR("INFO ")) ||
                          esi_str_equal(line, ESI_STR("PONG")) ||
                          esi_str_equal(line, ESI_STR("+OK"));
    esi_bytes_consume(&probe->input, line_bytes);
    if (!is_known) {
        return fail(probe, ES_INVALID, "what answers there speaks no NATS");
    }
    return is_ping ? write_all(probe, ESI_STR("PONG\r\n")) : ES_OK;
}

static enum es_err ask(struct probe *probe)
{
    bool is_done = false;

    begin_step(probe);
    enum es_err err = send_request(probe);
    while (err == ES_OK && !is_done) {
        err = take_line(probe, &is_done);
    }
    return err;
}

/* One connection from beginning to end. */
static enum es_err attempt(struct probe *probe, enum trust trust)
{
    probe->error->text[0] = '\0';
    esi_bytes_clear(&probe->input);
    enum es_err err = dial(probe);
    if (err == ES_OK) {
        err = be_greeted(probe, trust);
    }
    if (err == ES_OK) {
        err = ask(probe);
    }
    if (probe->stream != NULL) {
        unwatch(probe, esi_stream_socket(probe->stream));
        esi_stream_free(ESI_MOVE(probe->stream));
    }
    return err;
}

/* --- what is needed --- */

static enum es_err read_token(struct probe *probe)
{
    const char *path = probe->config->service.health_check_credentials_file;
    struct esi_bytes text;

    if (path == NULL) {
        return fail(probe, ES_UNSUPPORTED,
                    "%.300s: service.health_check_credentials_file is not given",
                    probe->config->path);
    }
    esi_bytes_init(&text, TOKEN_BYTES_MAX + READ_BYTES);
    enum es_err err = esi_env_file_read(probe->env, path, TOKEN_BYTES_MAX, &text);
    size_t len = text.len;
    while (len > 0 && (unsigned char)text.data[len - 1] <= ' ') {
        len--;
    }
    if (err != ES_OK) {
        err = fail(probe, err, "%.300s: cannot be read: %s%s", path, es_err_text(err),
                   err == ES_NOT_FOUND ? " (has the server been started?)" : "");
    } else if (len == 0 || memchr(text.data, '\0', len) != NULL) {
        err = fail(probe, ES_INVALID, "%.300s: holds no token", path);
    } else {
        memcpy(probe->token, text.data, len);
    }
    esi_bytes_wipe(&text);
    return err;
}

/* Nobody else can know the subjects, so what comes back is ours. */
static void choose_subjects(struct probe *probe)
{
    uint8_t random[RANDOM_BYTES];
    char *const texts[] = {probe->payload, probe->subject, probe->inbox};
    const char *const prefixes[] = {"", "healthcheck.", "_INBOX."};
    char hex[ESI_CRYPTO_HEX_CAPACITY(RANDOM_BYTES)];

    for (size_t i = 0; i < ESI_COUNT_OF(texts); i++) {
        esi_env_random(probe->env, random, sizeof random);
        const enum es_err err = esi_crypto_hex_encode(random, sizeof random, hex, sizeof hex);
        ESI_ASSERT(err == ES_OK);
        snprintf(texts[i], i == 0 ? sizeof probe->payload : sizeof probe->subject, "%s%s",
                 prefixes[i], hex);
    }
}

/* Where the server listens on every address, it does so on the loopback one. */
static const char *host_of(const struct esi_config *config)
{
    const char *host = config->service.host;

    if (!esi_value_is_any(host)) {
        return host;
    }
    return strchr(host, ':') != NULL ? "::1" : "127.0.0.1";
}

static enum es_err check_all(struct probe *probe)
{
    const struct esi_config *config = probe->config;
    struct es_error by_authority;

    if (config->service.port == 0) {
        return fail(probe, ES_UNSUPPORTED, "%.300s: service.port is 0, so nobody knows the port",
                    config->path);
    }
    enum es_err err = read_token(probe);
    if (err != ES_OK || !config->clients_use_tls) {
        return err != ES_OK ? err : attempt(probe, TRUST_PLAIN);
    }
    if (config->frontend_tls_count == 0) {
        return fail(probe, ES_UNSUPPORTED, "%.300s: there is no frontend_tls", config->path);
    }
    if (!config->tls.is_set || config->tls.root_ca_path == NULL) {
        return attempt(probe, TRUST_PINNED);
    }
    err = attempt(probe, TRUST_AUTHORITY);
    if (err != ES_TLS) {
        return err;
    }
    /* The outside's certificate is often from another authority than the platform's, or for a
     * public name alone. */
    by_authority = *probe->error;
    err = attempt(probe, TRUST_PINNED);
    if (err == ES_TLS) {
        const struct es_error by_pin = *probe->error;
        fail(probe, err, "%.230s; and by frontend_tls: %.230s", by_authority.text, by_pin.text);
    }
    return err;
}

ES_API enum es_err es_health_check(const struct es_config *config, uint32_t timeout_ms,
                                   struct es_error *error)
{
    struct es_error ignored = {.text = ""};
    struct probe probe = {.env = esi_env_linux(),
                          .config = config->config,
                          .host = host_of(config->config),
                          .timeout_ns = (uint64_t)timeout_ms * 1000000,
                          .error = error != NULL ? error : &ignored};

    esi_bytes_init(&probe.input, INPUT_BYTES_MAX + READ_BYTES);
    choose_subjects(&probe);
    enum es_err err = esi_env_poller_new(probe.env, &probe.poller);
    if (err != ES_OK) {
        err = fail(&probe, err, "cannot begin: %s", es_err_text(err));
    } else {
        err = check_all(&probe);
    }
    esi_env_poller_free(probe.env, probe.poller);
    esi_bytes_deinit(&probe.input);
    esi_crypto_wipe(probe.token, sizeof probe.token);
    return err;
}
