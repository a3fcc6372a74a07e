/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Design notes. A TLS session moves its cipher text through two callbacks. So that many records
 * cost one system call, and an idle connection holds no buffer at all, both directions go through
 * large blocks on the stack of the call in hand:
 *  - input: one read of the socket into a block of 64 KiB; what the session did not take when the
 *    call ends (because the caller's buffer was full) moves to the heap;
 *  - output: records are appended to a block and leave with one write; what the socket did not take
 *    moves to the heap, and nothing more is taken until that is gone. Cipher text that belongs to
 *    no writev (handshake, alerts, key updates) is written at once, and what is left goes to the
 *    same heap buffer, which is bounded: a peer that asks for key updates and reads nothing is held
 *    back.
 *
 *   state   means                                next
 *   PLAIN   no TLS                               HELLO (server), BEGIN (client): start_tls
 *   HELLO   waits for the client's first record  SHAKE: the record is there
 *   BEGIN   client, nothing sent yet             SHAKE: first handshake call
 *   SHAKE   the session is at it                 OPEN: done
 *   OPEN    data flows both ways                 -
 */
#include "net/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"
#include "base/str.h"
#include "env/env.h"
#include "net/client_hello.h"
#include "net/held_bytes.h"
#include "net/tls.h"

enum stream_state { STREAM_PLAIN, STREAM_HELLO, STREAM_BEGIN, STREAM_SHAKE, STREAM_OPEN };

enum {
    INPUT_BLOCK_BYTES = 64 << 10,
    OUTPUT_BLOCK_BYTES = 80 << 10,
    RECORD_BYTES_MAX =
        18 << 10, /* a sealed record and its like; the format allows 256 bytes of expansion */
    PASS_DIRECTLY_BYTES = 8 << 10, /* copying less than this is cheaper than one more record */
    SERVER_NAME_BYTES_MAX = 253,
    UNREAD_BYTES_MAX = 128 << 10,
    OUTPUT_HELD_BYTES_MAX = 128 << 10,
    HANDSHAKE_BYTES_MAX = 256 << 10,
    WRITE_PARTS_MAX = 1024
};

/* A block on the stack of the call in hand. */
struct lent_block {
    char *data; /* borrowed; NULL when none is lent */
    size_t from;
    size_t end;
};

struct esi_stream {
    struct esi_env *env; /* borrowed */
    int sock;            /* owned */
    enum stream_state state;
    struct esi_tls_context *context; /* shared; NULL while plain */
    struct esi_tls_session *session; /* owned; NULL before SHAKE */
    char *server_name;               /* owned; a client's, until SHAKE */
    struct esi_held_bytes input;
    struct esi_held_bytes output;
    struct lent_block input_block;
    struct lent_block output_block;
    bool has_read_socket; /* in this call */
    bool has_told_end;    /* of the peer's direction, by close_notify; ours goes on */
    bool is_fin_wanted;
    bool is_fin_sent;
    size_t handshake_bytes;
    enum es_err ended; /* ES_OK while it lives */
    const char *failure;
};

/* Fails the stream for good. */
static enum es_err fail(struct esi_stream *stream, enum es_err err, const char *failure)
{
    if (stream->ended == ES_OK) {
        stream->ended = err;
        stream->failure = failure;
    }
    return stream->ended;
}

enum es_err esi_stream_new(struct esi_env *env, int sock, struct esi_stream **out)
{
    struct esi_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL) {
        esi_env_close(env, sock);
        return ES_NO_MEMORY;
    }
    stream->env = env;
    stream->sock = sock;
    *out = stream;
    return ES_OK;
}

void esi_stream_free(struct esi_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    esi_tls_session_free(stream->session);
    esi_tls_context_unref(stream->context);
    esi_env_close(stream->env, stream->sock);
    esi_held_bytes_free(&stream->input);
    esi_held_bytes_free(&stream->output);
    free(stream->server_name);
    free(stream);
}

size_t esi_stream_memory_bytes(const struct esi_stream *stream)
{
    size_t bytes = esi_ledger_heap_bytes(sizeof(*stream));

    if (stream->input.capacity > 0) {
        bytes += esi_ledger_heap_bytes(stream->input.capacity);
    }
    if (stream->output.capacity > 0) {
        bytes += esi_ledger_heap_bytes(stream->output.capacity);
    }
    return bytes + (stream->session != NULL ? esi_tls_session_memory_bytes(stream->session) : 0);
}

int esi_stream_socket(const struct esi_stream *stream)
{
    return stream->sock;
}

enum es_err esi_stream_start_tls_server(struct esi_stream *stream, struct esi_tls_context *context)
{
    if (stream->state != STREAM_PLAIN || esi_held_bytes_count(&stream->output) > 0) {
        return ES_INVALID;
    }
    stream->context = esi_tls_context_ref(context);
    stream->state = STREAM_HELLO;
    return ES_OK;
}

enum es_err esi_stream_start_tls_client(struct esi_stream *stream, struct esi_tls_context *context,
                                        const char *server_name)
{
    if (stream->state != STREAM_PLAIN || esi_held_bytes_count(&stream->output) > 0) {
        return ES_INVALID;
    }
    if (server_name != NULL) {
        if (server_name[0] == '\0' || strlen(server_name) > SERVER_NAME_BYTES_MAX) {
            return ES_INVALID;
        }
        stream->server_name = esi_str_dup(esi_str_from(server_name));
        if (stream->server_name == NULL) {
            return ES_NO_MEMORY;
        }
    }
    stream->context = esi_tls_context_ref(context);
    stream->state = STREAM_BEGIN;
    return ES_OK;
}

enum es_err esi_stream_unread(struct esi_stream *stream, const void *data, size_t len)
{
    const size_t rest = esi_held_bytes_count(&stream->input);
    struct esi_held_bytes both = {0};

    ESI_REQUIRE(stream->state != STREAM_SHAKE && stream->state != STREAM_OPEN);
    if (len > UNREAD_BYTES_MAX || rest > UNREAD_BYTES_MAX - len) {
        return ES_TOO_LARGE;
    }
    if (len + rest == 0) {
        return ES_OK;
    }
    if (!esi_held_bytes_append(&both, data, len) ||
        !esi_held_bytes_append(&both, esi_held_bytes_first(&stream->input), rest)) {
        esi_held_bytes_free(&both);
        return ES_NO_MEMORY;
    }
    esi_held_bytes_free(&stream->input);
    stream->input = both;
    return ES_OK;
}

/* --- cipher text in --- */

/* The session's way to its bytes: what is held, then the block, then the socket, once a call. */
static enum es_err receive(void *user, void *buffer, size_t capacity, size_t *count)
{
    struct esi_stream *stream = user;
    struct lent_block *block = &stream->input_block;
    enum es_err err;

    if (esi_held_bytes_count(&stream->input) > 0) {
        *count = esi_held_bytes_take(&stream->input, buffer, capacity);
        return ES_OK;
    }
    if (block->data == NULL) {
        return ES_AGAIN;
    }
    if (block->from == block->end) {
        size_t got = 0;
        if (stream->has_read_socket) {
            return ES_AGAIN;
        }
        err = esi_env_read(stream->env, stream->sock, block->data, INPUT_BLOCK_BYTES, &got);
        stream->has_read_socket = true;
        if (err != ES_OK) {
            return err;
        }
        block->from = 0;
        block->end = got;
        if (stream->state == STREAM_SHAKE) {
            stream->handshake_bytes += got;
        }
    }
    *count = block->end - block->from < capacity ? block->end - block->from : capacity;
    memcpy(buffer, block->data + block->from, *count);
    block->from += *count;
    return ES_OK;
}

/* Lends a block of the caller's stack to receive(). */
static void lend_input(struct esi_stream *stream, char *block)
{
    stream->has_read_socket = false;
    stream->input_block = (struct lent_block){0};
    stream->input_block.data = block;
}

/* Takes the block back; what is left in it moves to the heap. */
static void take_input_back(struct esi_stream *stream)
{
    const struct lent_block *block = &stream->input_block;

    /* While the block has bytes nothing is held: held bytes are used up before the socket is read.
     */
    if (stream->ended == ES_OK && block->end > block->from &&
        !esi_held_bytes_append(&stream->input, block->data + block->from,
                               block->end - block->from)) {
        (void)fail(stream, ES_NO_MEMORY, es_err_text(ES_NO_MEMORY));
    }
    stream->input_block = (struct lent_block){0};
}

/* --- cipher text out --- */

/* Writes bytes to the socket once. *count: taken, also 0. Fails for a connection that is gone. */
static enum es_err write_once(struct esi_stream *stream, const void *data, size_t len,
                              size_t *count)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    enum es_err err = esi_env_writev(stream->env, stream->sock, &part, 1, count);

    if (err == ES_AGAIN) {
        *count = 0;
        err = ES_OK;
    }
    return err == ES_OK ? ES_OK : fail(stream, err, "the connection is gone");
}

/* Writes held output. ES_OK: all gone; ES_AGAIN: some is left. */
static enum es_err flush_held(struct esi_stream *stream)
{
    struct esi_held_bytes *output = &stream->output;
    size_t count = 0;
    enum es_err err;

    if (esi_held_bytes_count(output) == 0) {
        return ES_OK;
    }
    err = write_once(stream, esi_held_bytes_first(output), esi_held_bytes_count(output), &count);
    if (err != ES_OK) {
        return err;
    }
    esi_held_bytes_consume(output, count);
    return esi_held_bytes_count(output) > 0 ? ES_AGAIN : ES_OK;
}

/* The session's way out for what belongs to no writev: at once, and what is left is held. */
static enum es_err send_now(struct esi_stream *stream, const char *data, size_t len)
{
    size_t count = 0;
    enum es_err err = flush_held(stream);

    if (err == ES_OK) {
        err = write_once(stream, data, len, &count);
    }
    if (err != ES_OK && err != ES_AGAIN) {
        return err;
    }
    if (len - count > OUTPUT_HELD_BYTES_MAX - esi_held_bytes_count(&stream->output)) {
        ESI_ASSERT(count == 0); /* with nothing held all that the session makes at once has room */
        return ES_AGAIN;
    }
    return esi_held_bytes_append(&stream->output, data + count, len - count) ? ES_OK : ES_NO_MEMORY;
}

static enum es_err send(void *user, const void *data, size_t len)
{
    struct esi_stream *stream = user;
    struct lent_block *block = &stream->output_block;

    if (block->data == NULL) {
        return send_now(stream, data, len);
    }
    if (OUTPUT_BLOCK_BYTES - block->end < len) {
        return ES_AGAIN; /* never for one record: write_record keeps room for it */
    }
    memcpy(block->data + block->end, data, len);
    block->end += len;
    return ES_OK;
}

/* Writes the lent block; what the socket does not take is held. */
static enum es_err flush_block(struct esi_stream *stream)
{
    struct lent_block *block = &stream->output_block;
    size_t count = 0;
    enum es_err err = ES_OK;

    ESI_ASSERT(esi_held_bytes_count(&stream->output) == 0);
    if (block->end > 0) {
        err = write_once(stream, block->data, block->end, &count);
    }
    if (err == ES_OK &&
        !esi_held_bytes_append(&stream->output, block->data + count, block->end - count)) {
        err = fail(stream, ES_NO_MEMORY, es_err_text(ES_NO_MEMORY));
    }
    block->end = 0;
    return err;
}

/* --- handshake --- */

/* Makes the session. server_name: what the client asks for, or a client's own server name. */
static enum es_err make_session(struct esi_stream *stream, struct esi_str server_name)
{
    const struct esi_tls_transport transport = {.receive = receive, .send = send, .user = stream};
    const enum es_err err =
        esi_tls_session_new(stream->context, server_name, &transport, &stream->session);

    if (err != ES_OK) {
        return fail(stream, err, es_err_text(err));
    }
    stream->state = STREAM_SHAKE;
    return ES_OK;
}

/* Gathers the client's first record, so that the certificate can be chosen by the name in it. */
static enum es_err await_hello(struct esi_stream *stream, char *block)
{
    struct esi_str name = {0};
    enum es_err err;

    for (bool has_read = false;; has_read = true) {
        size_t count = 0;
        const struct esi_str first = {.data = esi_held_bytes_first(&stream->input),
                                      .len = esi_held_bytes_count(&stream->input)};

        err = esi_client_hello_read(first, &name);
        if (err == ES_INVALID) {
            return fail(stream, ES_TLS, "the peer speaks plain text instead of TLS");
        }
        if (err != ES_AGAIN) {
            return make_session(stream, name);
        }
        if (has_read) {
            return ES_AGAIN;
        }
        err = esi_env_read(stream->env, stream->sock, block, INPUT_BLOCK_BYTES, &count);
        if (err == ES_AGAIN) {
            return ES_AGAIN;
        }
        if (err != ES_OK) {
            return fail(stream, err, "the peer closed the connection before the handshake");
        }
        stream->handshake_bytes += count;
        if (!esi_held_bytes_append(&stream->input, block, count)) {
            return fail(stream, ES_NO_MEMORY, es_err_text(ES_NO_MEMORY));
        }
    }
}

enum es_err esi_stream_handshake(struct esi_stream *stream)
{
    char block[INPUT_BLOCK_BYTES];
    enum es_err err = ES_OK;

    ESI_REQUIRE(stream->state != STREAM_PLAIN);
    if (stream->ended != ES_OK || stream->state == STREAM_OPEN) {
        return stream->ended;
    }
    lend_input(stream, block);
    if (stream->state == STREAM_HELLO) {
        err = await_hello(stream, block);
        stream->has_read_socket = true; /* or the record was there already: one read at most */
    } else if (stream->state == STREAM_BEGIN) {
        err = make_session(stream, esi_str_from(stream->server_name));
        free(stream->server_name);
        stream->server_name = NULL;
    }
    if (err == ES_OK) {
        err = flush_held(stream);
        err = err == ES_AGAIN ? ES_OK : err; /* what comes in may still be of use */
    }
    if (err == ES_OK) {
        err = esi_tls_session_handshake(stream->session);
        if (err == ES_AGAIN && stream->handshake_bytes > HANDSHAKE_BYTES_MAX) {
            err = fail(stream, ES_TLS, "the peer's handshake is too long");
        }
        if (err == ES_OK) {
            stream->state = STREAM_OPEN;
        } else if (err != ES_AGAIN) {
            (void)fail(stream, err, NULL); /* the session knows why */
        }
    }
    take_input_back(stream);
    return stream->ended != ES_OK ? stream->ended : err;
}

/* --- data --- */

static enum es_err read_plain(struct esi_stream *stream, void *buffer, size_t capacity,
                              size_t *count)
{
    if (esi_held_bytes_count(&stream->input) > 0) {
        *count = esi_held_bytes_take(&stream->input, buffer, capacity);
        return ES_OK;
    }
    return esi_env_read(stream->env, stream->sock, buffer, capacity, count);
}

enum es_err esi_stream_read(struct esi_stream *stream, void *buffer, size_t capacity, size_t *count)
{
    char block[INPUT_BLOCK_BYTES];
    size_t got = 0;
    enum es_err err;

    ESI_REQUIRE(capacity > 0);
    if (stream->state == STREAM_PLAIN) {
        return read_plain(stream, buffer, capacity, count);
    }
    if (stream->ended != ES_OK) {
        return stream->ended;
    }
    if (stream->state != STREAM_OPEN) {
        return ES_AGAIN;
    }
    lend_input(stream, block);
    err = esi_tls_session_read(stream->session, buffer, capacity, &got);
    if (err == ES_CLOSED && esi_tls_session_has_peer_ended(stream->session)) {
        stream->has_told_end = true;
    } else if (err != ES_OK && err != ES_AGAIN) {
        (void)fail(stream, err, NULL);
    }
    take_input_back(stream);
    if (err == ES_OK) {
        *count = got;
    }
    return err;
}

/* Seals one record into the lent block, which is written when it has no room for another. */
static enum es_err write_record(struct esi_stream *stream, const void *data, size_t len)
{
    enum es_err err = esi_tls_session_write(stream->session, data, len);

    if (err != ES_OK) {
        return fail(stream, err, NULL);
    }
    if (OUTPUT_BLOCK_BYTES - stream->output_block.end < RECORD_BYTES_MAX) {
        err = flush_block(stream);
    }
    return err;
}

/*
 * Makes records of the parts until they end or the socket is full. *count: bytes sealed. What was
 * gathered and not sealed counts as not taken.
 */
static enum es_err write_records(struct esi_stream *stream, const struct iovec *parts,
                                 size_t part_count, size_t *count)
{
    char gathered[ESI_TLS_RECORD_MAX];
    size_t gathered_len = 0;
    size_t part_offset = 0;
    size_t sealed = 0;
    size_t i = 0;
    enum es_err err = ES_OK;

    while (err == ES_OK && i < part_count && esi_held_bytes_count(&stream->output) == 0) {
        const char *data = (const char *)parts[i].iov_base + part_offset;
        const size_t rest = parts[i].iov_len - part_offset;
        const size_t room = ESI_TLS_RECORD_MAX - gathered_len;
        const size_t step = rest < room ? rest : room;

        if (rest == 0) {
            i++;
            part_offset = 0;
        } else if (rest >= PASS_DIRECTLY_BYTES && gathered_len == 0) {
            err = write_record(stream, data, step);
            sealed += step;
            part_offset += step;
        } else if (rest >= PASS_DIRECTLY_BYTES || room == 0) {
            err = write_record(stream, gathered, gathered_len);
            sealed += gathered_len;
            gathered_len = 0;
        } else {
            memcpy(gathered + gathered_len, data, step);
            gathered_len += step;
            part_offset += step;
        }
    }
    if (err == ES_OK && gathered_len > 0 && esi_held_bytes_count(&stream->output) == 0) {
        err = write_record(stream, gathered, gathered_len);
        sealed += gathered_len;
    }
    *count = sealed;
    return err;
}

static enum es_err write_tls(struct esi_stream *stream, const struct iovec *parts,
                             size_t part_count, size_t *count)
{
    char block[OUTPUT_BLOCK_BYTES];
    size_t sealed = 0;
    enum es_err err = flush_held(stream);

    if (err != ES_OK) {
        return err;
    }
    stream->output_block = (struct lent_block){.data = block};
    err = write_records(stream, parts, part_count, &sealed);
    if (err == ES_OK && stream->output_block.end > 0) {
        err = flush_block(stream);
    }
    stream->output_block = (struct lent_block){0};
    if (err == ES_OK) {
        *count = sealed;
    }
    return err;
}

enum es_err esi_stream_writev(struct esi_stream *stream, const struct iovec *parts,
                              size_t part_count, size_t *count)
{
    bool is_empty = true;

    if (stream->ended != ES_OK) {
        return stream->ended;
    }
    if (stream->is_fin_wanted) {
        return ES_CLOSED;
    }
    part_count = part_count < WRITE_PARTS_MAX ? part_count : WRITE_PARTS_MAX;
    for (size_t i = 0; i < part_count && is_empty; i++) {
        is_empty = parts[i].iov_len == 0;
    }
    if (is_empty) {
        *count = 0;
        return ES_OK;
    }
    if (stream->state == STREAM_PLAIN) {
        return esi_env_writev(stream->env, stream->sock, parts, part_count, count);
    }
    return stream->state == STREAM_OPEN ? write_tls(stream, parts, part_count, count) : ES_AGAIN;
}

bool esi_stream_has_buffered_input(const struct esi_stream *stream)
{
    if (stream->state == STREAM_PLAIN) {
        return esi_held_bytes_count(&stream->input) > 0;
    }
    /* During the handshake what is held is an incomplete record: only the socket can help. */
    if (stream->state != STREAM_OPEN || stream->ended != ES_OK || stream->has_told_end) {
        return false;
    }
    /* Where a read waits for room to write, reading again would spin: esi_stream_flush must come
     * first. */
    if (esi_held_bytes_count(&stream->output) > 0 && esi_tls_session_wants_write(stream->session)) {
        return false;
    }
    return esi_held_bytes_count(&stream->input) > 0 || esi_tls_session_has_pending(stream->session);
}

bool esi_stream_has_buffered_output(const struct esi_stream *stream)
{
    return stream->ended == ES_OK && esi_held_bytes_count(&stream->output) > 0;
}

enum es_err esi_stream_flush(struct esi_stream *stream)
{
    enum es_err err;

    if (stream->ended != ES_OK) {
        return stream->ended;
    }
    err = flush_held(stream);
    if (err == ES_OK && stream->is_fin_wanted && !stream->is_fin_sent) {
        esi_env_shutdown_write(stream->env, stream->sock);
        stream->is_fin_sent = true;
    }
    return err;
}

uint32_t esi_stream_wants(const struct esi_stream *stream)
{
    uint32_t events = 0;

    if (stream->ended != ES_OK) {
        return 0;
    }
    if (stream->state == STREAM_HELLO || stream->state == STREAM_BEGIN ||
        stream->state == STREAM_SHAKE) {
        events |= POLL_READ;
    }
    if (esi_held_bytes_count(&stream->output) > 0) {
        events |= POLL_WRITE;
    }
    return events;
}

void esi_stream_shutdown_write(struct esi_stream *stream)
{
    if (stream->is_fin_wanted) {
        return;
    }
    if (stream->state == STREAM_OPEN && stream->ended == ES_OK) {
        esi_tls_session_shutdown(stream->session);
    }
    stream->is_fin_wanted = true;
    if (stream->ended == ES_OK) {
        /* What is left, and the FIN behind it, goes with the caller's next flush; a failure is told
         * there too. */
        const enum es_err err = esi_stream_flush(stream);
        (void)err;
    } else {
        esi_env_shutdown_write(stream->env, stream->sock);
        stream->is_fin_sent = true;
    }
}

const char *esi_stream_failure(const struct esi_stream *stream)
{
    if (stream->failure != NULL) {
        return stream->failure;
    }
    return stream->session != NULL ? esi_tls_session_failure(stream->session) : "";
}

const struct esi_peer_identity *esi_stream_peer(const struct esi_stream *stream)
{
    return stream->state == STREAM_OPEN ? esi_tls_session_peer(stream->session) : NULL;
}

bool esi_stream_is_tls(const struct esi_stream *stream)
{
    return stream->state != STREAM_PLAIN;
}

const char *esi_stream_tls_version(const struct esi_stream *stream)
{
    return stream->state == STREAM_OPEN ? esi_tls_session_version(stream->session) : "";
}

const char *esi_stream_tls_cipher(const struct esi_stream *stream)
{
    return stream->state == STREAM_OPEN ? esi_tls_session_cipher(stream->session) : "";
}

const char *esi_stream_tls_alpn(const struct esi_stream *stream)
{
    return stream->state == STREAM_OPEN ? esi_tls_session_alpn(stream->session) : "";
}
