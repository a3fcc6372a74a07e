/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One client connection. On the way out: a batch written in part, control lines, a fresh batch. */
#include "event_bench/bench_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/json_writer.h"
#include "base/num.h"
#include "base/own.h"
#include "net/stream.h"

enum {
    OUT_BYTES_MAX = 256 * 1024 * 1024 /* replies wait here when the server does not read */
};

void esi_bench_client_init(struct esi_bench_client *client, struct esi_bench_link *link,
                           esi_bench_message_fn on_message, void *owner)
{
    *client = (struct esi_bench_client){
        .link = link, .state = BENCH_CLIENT_CLOSED, .on_message = on_message, .owner = owner};
    esi_bytes_init(&client->tail, link->payload_max + BENCH_LINE_BYTES_MAX + 2);
    esi_bytes_init(&client->out, OUT_BYTES_MAX);
}

void esi_bench_client_deinit(struct esi_bench_client *client)
{
    if (client->link == NULL) {
        return;
    }
    if (client->state != BENCH_CLIENT_CLOSED) {
        if (!client->is_stalled) {
            esi_env_poller_remove(client->link->env, client->link->poller,
                                  esi_stream_socket(client->stream));
        }
        esi_stream_free(client->stream);
    }
    esi_bytes_deinit(&client->tail);
    esi_bytes_deinit(&client->out);
    *client = (struct esi_bench_client){0};
}

void esi_bench_client_fail(struct esi_bench_link *link, const char *format, ...)
{
    if (link->has_failed) {
        return;
    }
    link->has_failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(link->error.text, sizeof link->error.text, format, args);
    va_end(args);
    /* A peer's bytes may be among them, and the text goes to a terminal. */
    for (char *at = link->error.text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
}

static void watch(struct esi_bench_client *client, uint32_t events)
{
    if (client->watched != events) {
        client->watched = events;
        esi_env_poller_change(client->link->env, client->link->poller,
                              esi_stream_socket(client->stream), events, client);
    }
}

static void fail_closed(struct esi_bench_client *client, enum es_err err)
{
    const char *failure = esi_stream_failure(client->stream);

    esi_bench_client_fail(client->link, "the server closed the connection (%s)",
                          failure[0] != '\0' ? failure : es_err_text(err));
}

/* Opening. */

static void fail_to_connect(struct esi_bench_client *client, enum es_err err)
{
    esi_bench_client_fail(client->link, "cannot connect to %s port %u: %s", client->server->host,
                          client->server->port, es_err_text(err));
}

void esi_bench_client_open(struct esi_bench_client *client, const struct esi_bench_address *server,
                           const struct esi_address *address, const struct esi_address *source)
{
    struct esi_bench_link *link = client->link;
    int sock = ESI_ENV_NO_SOCKET;

    ESI_REQUIRE(client->state == BENCH_CLIENT_CLOSED);
    client->server = server;
    enum es_err err = source == NULL ? esi_env_connect(link->env, address, &sock)
                                     : esi_env_connect_from(link->env, address, source, &sock);
    if (err == ES_OK) {
        err = esi_stream_new(link->env, sock, &client->stream);
    }
    if (err == ES_OK) {
        client->watched = POLL_WRITE;
        err = esi_env_poller_add(link->env, link->poller, sock, client->watched, client);
        if (err != ES_OK) {
            esi_stream_free(ESI_MOVE(client->stream));
        }
    }
    if (err != ES_OK) {
        fail_to_connect(client, err);
        return;
    }
    client->state = BENCH_CLIENT_CONNECTING;
    client->pongs_due = 1; /* of the PING that follows CONNECT */
}

static void add_credential(struct esi_json_writer *json, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        esi_json_writer_field_text(json, key, value);
    }
}

/* As the common clients do: CONNECT and PING in one write, the PONG tells that it was accepted. */
static void append_connect(struct esi_bench_client *client)
{
    const struct esi_bench_options *options = client->link->options;
    struct esi_json_writer json;

    esi_bytes_append_text(&client->out, "CONNECT ");
    esi_json_writer_init(&json, &client->out, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "verbose", false);
    esi_json_writer_field_bool(&json, "pedantic", false);
    add_credential(&json, "user", options->user);
    add_credential(&json, "pass", options->password);
    add_credential(&json, "auth_token", options->token);
    esi_json_writer_field_bool(&json, "tls_required", options->tls.is_on);
    esi_json_writer_field_text(&json, "name", "event-bench");
    esi_json_writer_field_text(&json, "lang", "c");
    esi_json_writer_field_text(&json, "version", ESI_BENCH_VERSION);
    esi_json_writer_field_u64(&json, "protocol", 1);
    esi_json_writer_field_bool(&json, "echo", true);
    esi_json_writer_field_bool(&json, "headers", true);
    esi_json_writer_field_bool(&json, "no_responders", true);
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(&client->out, "\r\nPING\r\n");
}

static void copy_text(const json_t *info, const char *key, char *out, size_t capacity)
{
    const char *text = json_string_value(json_object_get(info, key));

    snprintf(out, capacity, "%s", text != NULL ? text : "");
}

static void shake_hands(struct esi_bench_client *client)
{
    const enum es_err err = esi_stream_handshake(client->stream);

    if (err == ES_AGAIN) {
        watch(client, esi_stream_wants(client->stream));
        return;
    }
    if (err != ES_OK) {
        fail_closed(client, err);
        return;
    }
    client->state = BENCH_CLIENT_OPEN;
    append_connect(client);
}

static void start_tls(struct esi_bench_client *client)
{
    const struct esi_bench_options *options = client->link->options;
    const char *name = options->tls.name != NULL ? options->tls.name : client->server->host;

    if (esi_stream_start_tls_client(client->stream, client->link->tls, name) != ES_OK) {
        esi_bench_client_fail(client->link, "the name \"%s\" cannot be sent by TLS", name);
        return;
    }
    client->state = BENCH_CLIENT_SHAKING;
    shake_hands(client);
}

/* The greeting: keeps what describes the server, refuses what this program cannot do. */
static void on_info(struct esi_bench_client *client, struct esi_str text)
{
    struct esi_bench_link *link = client->link;

    if (client->state != BENCH_CLIENT_GREETING) {
        return; /* later ones tell of clusters and lame duck mode: nothing to do about them */
    }
    json_t *info = json_loadb(text.data, text.len, 0, NULL);
    if (!json_is_object(info)) {
        esi_bench_client_fail(link, "the server's INFO is no JSON object");
    } else if (json_is_true(json_object_get(info, "tls_required")) && link->tls == NULL) {
        esi_bench_client_fail(link, "the server demands TLS: give --tls");
    } else if (!link->server.is_known) {
        copy_text(info, "server_name", link->server.name, sizeof link->server.name);
        copy_text(info, "version", link->server.version, sizeof link->server.version);
        copy_text(info, "go", link->server.go, sizeof link->server.go);
        const json_int_t most = json_integer_value(json_object_get(info, "max_payload"));
        link->server.payload_bytes_max = most > 0 ? (uint64_t)most : 0;
        link->server.is_known = true;
        if (most > 0 && link->options->size_bytes > (uint64_t)most) {
            esi_bench_client_fail(link, "the server allows payloads of %llu bytes only",
                                  (unsigned long long)most);
        }
    }
    json_decref(info);
    if (link->has_failed) {
        return;
    }
    if (link->tls != NULL) {
        start_tls(client);
        return;
    }
    client->state = BENCH_CLIENT_OPEN;
    append_connect(client);
}

static void finish_connecting(struct esi_bench_client *client)
{
    struct esi_bench_link *link = client->link;
    const enum es_err err = esi_env_connect_result(link->env, esi_stream_socket(client->stream));

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        fail_to_connect(client, err);
        return;
    }
    client->state = BENCH_CLIENT_GREETING;
    watch(client, POLL_READ);
}

/* Reading. */

void esi_bench_client_expect(struct esi_bench_client *client, const char *subject, uint64_t sid,
                             size_t size_bytes)
{
    const int len = snprintf(client->expected, sizeof client->expected, "MSG %s %llu %zu\r\n",
                             subject, (unsigned long long)sid, size_bytes);

    client->expected_len = len > 0 && (size_t)len < sizeof client->expected ? (size_t)len : 0;
}

static void on_frame(struct esi_bench_client *client, enum esi_bench_op op,
                     const struct esi_bench_frame *frame)
{
    switch (op) {
    case BENCH_OP_MSG:
        client->on_message(client, frame);
        break;
    case BENCH_OP_PING:
        esi_bytes_append_text(&client->out, "PONG\r\n");
        break;
    case BENCH_OP_PONG:
        if (client->pongs_due == 0) {
            esi_bench_client_fail(client->link, "the server sent a PONG that nobody asked for");
            break;
        }
        client->pongs_due--;
        break;
    case BENCH_OP_INFO:
        on_info(client, frame->text);
        break;
    case BENCH_OP_ERR:
        esi_bench_client_fail(client->link, "the server sent -ERR %.*s", ESI_STR_ARG(frame->text));
        break;
    case BENCH_OP_OK:
        break;
    case BENCH_OP_PART:
    case BENCH_OP_BAD:
        ESI_ASSERT(false);
    }
}

/* Messages whose control line is the expected one, as many as there are in a row. Returns the bytes
 * used. */
static size_t take_expected(struct esi_bench_client *client, struct esi_str data)
{
    const size_t size = client->link->options->size_bytes;
    const size_t head = client->expected_len;
    const size_t whole = head + size + 2;
    struct esi_bench_frame message = {0};
    size_t at = 0;

    message.payload.len = size;
    while (data.len - at >= whole && memcmp(data.data + at, client->expected, head) == 0) {
        const char *end = data.data + at + head + size;
        if (end[0] != '\r' || end[1] != '\n') {
            return at; /* the general parser says what is wrong */
        }
        message.payload.data = data.data + at + head;
        client->on_message(client, &message);
        at += whole;
    }
    return at;
}

/* Parses all whole frames. Returns the bytes used. */
static size_t take_frames(struct esi_bench_client *client, struct esi_str data)
{
    struct esi_bench_link *link = client->link;
    size_t at = 0;

    while (at < data.len && !link->has_failed) {
        struct esi_str rest = {.data = data.data + at, .len = data.len - at};
        struct esi_bench_frame frame;
        size_t used = 0;
        if (client->expected_len != 0) {
            used = take_expected(client, rest);
            if (used != 0) {
                at += used;
                continue;
            }
        }
        const enum esi_bench_op op = esi_bench_parser_next(rest, link->payload_max, &frame, &used);
        if (op == BENCH_OP_PART) {
            break;
        }
        if (op == BENCH_OP_BAD) {
            esi_bench_client_fail(link,
                                  "the server broke the protocol: no frame begins with \"%.*s\"",
                                  (int)(rest.len < 40 ? rest.len : 40), rest.data);
            break;
        }
        on_frame(client, op, &frame);
        at += used;
    }
    return at;
}

/* Returns false when there was nothing to read. */
static bool read_some(struct esi_bench_client *client)
{
    struct esi_bench_link *link = client->link;
    const size_t kept = client->tail.len;
    size_t count;

    if (kept > 0) {
        memcpy(link->block, client->tail.data, kept);
    }
    const enum es_err err =
        esi_stream_read(client->stream, link->block + kept, BENCH_READ_BYTES, &count);
    if (err == ES_AGAIN) {
        return false;
    }
    if (err != ES_OK) {
        fail_closed(client, err);
        return false;
    }
    link->now_ns = esi_env_now_ns(link->env);
    const struct esi_str data = {.data = link->block, .len = kept + count};
    const size_t used = take_frames(client, data);
    esi_bytes_clear(&client->tail);
    esi_bytes_append(&client->tail, data.data + used, data.len - used);
    if (client->tail.failed) {
        esi_bench_client_fail(link,
                              "the server sent a frame over the limit, or memory is exhausted");
    }
    return true;
}

/* Writing. */

void esi_bench_client_ping(struct esi_bench_client *client)
{
    esi_bytes_append_text(&client->out, "PING\r\n");
    client->pongs_due++;
}

void esi_bench_client_lend(struct esi_bench_client *client, const char *batch, size_t len)
{
    ESI_REQUIRE(!esi_bench_client_is_busy(client));
    client->batch = batch;
    client->batch_len = len;
    client->batch_written = 0;
}

static void account_batch(struct esi_bench_client *client, size_t *count)
{
    const size_t left = client->batch_len - client->batch_written;
    const size_t done = *count < left ? *count : left;

    client->batch_written += done;
    *count -= done;
    if (client->batch_len != 0 && client->batch_written == client->batch_len) {
        client->batch_len = 0;
        client->batch_written = 0;
        client->written_ns = esi_env_now_ns(client->link->env);
    }
}

static void account_out(struct esi_bench_client *client, size_t *count)
{
    const size_t left = client->out.len - client->out_written;
    const size_t done = *count < left ? *count : left;

    client->out_written += done;
    *count -= done;
    if (client->out_written == client->out.len) {
        esi_bytes_clear(&client->out);
        client->out_written = 0;
    }
}

static struct iovec part_of(const char *data, size_t from, size_t len)
{
    /* writev only reads, but its type is shared with readv. */
    return (struct iovec){.iov_base = (char *)(uintptr_t)data + from, .iov_len = len};
}

void esi_bench_client_flush(struct esi_bench_client *client)
{
    struct esi_bench_link *link = client->link;

    if (client->state != BENCH_CLIENT_OPEN || link->has_failed) {
        return;
    }
    if (client->out.failed) {
        esi_bench_client_fail(link, "the server does not read: too much waits for it");
        return;
    }
    const size_t out_left = client->out.len - client->out_written;
    const size_t batch_left = client->batch_len - client->batch_written;
    const bool is_batch_first = client->batch_written > 0;
    struct iovec parts[2];
    size_t part_count = 0;
    size_t count = 0;
    if (batch_left > 0 && is_batch_first) {
        parts[part_count++] = part_of(client->batch, client->batch_written, batch_left);
    }
    if (out_left > 0) {
        parts[part_count++] = part_of(client->out.data, client->out_written, out_left);
    }
    if (batch_left > 0 && !is_batch_first) {
        parts[part_count++] = part_of(client->batch, client->batch_written, batch_left);
    }
    if (part_count == 0) {
        const enum es_err flushed = esi_stream_flush(client->stream);
        if (flushed != ES_OK && flushed != ES_AGAIN) {
            fail_closed(client, flushed);
            return;
        }
        watch(client, flushed == ES_OK ? POLL_READ : POLL_READ | POLL_WRITE);
        return;
    }
    const enum es_err err = esi_stream_writev(client->stream, parts, part_count, &count);
    if (err != ES_OK && err != ES_AGAIN) {
        fail_closed(client, err);
        return;
    }
    const bool is_done =
        count == out_left + batch_left && !esi_stream_has_buffered_output(client->stream);
    if (is_batch_first) {
        account_batch(client, &count);
        account_out(client, &count);
    } else {
        account_out(client, &count);
        account_batch(client, &count);
    }
    watch(client, is_done ? POLL_READ : POLL_READ | POLL_WRITE);
}

void esi_bench_client_stall(struct esi_bench_client *client)
{
    client->is_stalled = true;
    esi_env_poller_remove(client->link->env, client->link->poller,
                          esi_stream_socket(client->stream));
}

void esi_bench_client_on_ready(struct esi_bench_client *client, uint32_t events)
{
    if (client->state == BENCH_CLIENT_CONNECTING) {
        finish_connecting(client);
        return;
    }
    if (client->state == BENCH_CLIENT_SHAKING) {
        shake_hands(client);
    } else if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
        (void)read_some(client);
    }
    /* The poller does not see what has been decrypted already. */
    while (client->state == BENCH_CLIENT_OPEN && !client->link->has_failed &&
           esi_stream_has_buffered_input(client->stream) && read_some(client)) {
    }
    if ((events & POLL_WRITE) != 0 || client->out.len > 0) {
        esi_bench_client_flush(client);
    }
}
