/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer's byte stream over a socket of the environment: plain TCP, or TLS on top of it.
 * Non-blocking; knows no actor.
 *
 * How it is used with a level-triggered poller:
 *  - before sleeping, and after esi_stream_flush, go on reading while
 *    esi_stream_has_buffered_input: the poller does not see those bytes;
 *  - watch POLL_WRITE while esi_stream_has_buffered_output, or after ES_AGAIN of a write, then call
 *    esi_stream_flush (or write again, which flushes first);
 *  - esi_stream_wants says what a handshake needs, and repeats the above.
 *
 * Invariants: every call does a bounded amount of work and at most one read of the socket; bytes
 * leave in the order of the calls; a stream that has failed (ES_TLS, ES_CLOSED, ES_IO,
 * ES_NO_MEMORY) stays failed, and says why. A stream belongs to one thread at a time.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct esi_env;
struct esi_peer_identity;
struct esi_stream;
struct esi_tls_context;

/*
 * Makes a plain stream over a connected socket.
 *   env    borrowed; outlives the stream
 *   sock   taken, also on failure
 * Errors: ES_NO_MEMORY. The stream is owned by the caller.
 */
ES_MUST_USE enum es_err esi_stream_new(struct esi_env *env, int sock, struct esi_stream **out);

/* Closes the socket at once (what is buffered is lost) and frees the stream; NULL is accepted. It
 * must not be polled. */
void esi_stream_free(struct esi_stream *stream);

/* The socket, for the poller; it stays the stream's. */
int esi_stream_socket(const struct esi_stream *stream);

/*
 * Turns a plain stream into the server side of TLS; call esi_stream_handshake next, also when no
 * byte has come.
 *   context   shared: the stream holds a reference until it is freed. Its role is server
 * Errors: ES_INVALID (TLS already, or bytes wait to be flushed).
 */
ES_MUST_USE enum es_err esi_stream_start_tls_server(struct esi_stream *stream,
                                                    struct esi_tls_context *context);

/*
 * The client side of TLS.
 *   server_name   what the certificate must be made out to: a DNS name or numeric address, copied.
 *                 SNI is sent only for a name. Where the context has allowed names these are
 *                 checked instead, and server_name is only sent. NULL: the certificate's chain is
 *                 checked, its name is not (but allowed names are)
 * Errors: ES_INVALID (TLS already, bytes wait to be flushed, an impossible name), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_stream_start_tls_client(struct esi_stream *stream,
                                                    struct esi_tls_context *context,
                                                    const char *server_name);

/*
 * Gives bytes back that were read from the socket but belong to what comes next: the handshake, or
 * the next read. They are copied, and come before what was given back earlier. Only while plain, or
 * after start_tls and before the first handshake call. Errors: ES_TOO_LARGE (over 128 KiB in all),
 * ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_stream_unread(struct esi_stream *stream, const void *data, size_t len);

/*
 * Goes on with the handshake as far as the bytes at hand allow: at most one read of the socket.
 * ES_OK: done, the peer is who it must be. ES_AGAIN: needs the I/O that esi_stream_wants says.
 * ES_TLS: failed (bad certificate, plain text, old version...); ES_CLOSED: the peer closed;
 * ES_NO_MEMORY. esi_stream_failure says why.
 */
ES_MUST_USE enum es_err esi_stream_handshake(struct esi_stream *stream);

/* Why the stream failed: a sentence without the peer's bytes unescaped; "" when it has not. Valid
 * until freed. */
const char *esi_stream_failure(const struct esi_stream *stream);

/*
 * Reads what there is, at most capacity bytes: one read of the socket at most, and only when
 * nothing is buffered. ES_OK with *count > 0; ES_AGAIN: nothing now (or the handshake is not done);
 * ES_CLOSED: the peer has ended its direction, or the connection is gone; ES_TLS: a bad record,
 * ES_NO_MEMORY. A count below capacity means that nothing more is at hand.
 */
ES_MUST_USE enum es_err esi_stream_read(struct esi_stream *stream, void *buffer, size_t capacity,
                                        size_t *count);

/*
 * Writes the parts, gathered. Plain: one call of the environment. TLS: parts become records of up
 * to 16 KiB, small ones together; the records leave in as few system calls as possible. *count
 * plaintext bytes taken: these are the stream's duty from here on, even if the socket took less.
 * ES_OK with *count > 0 (or nothing was given); ES_AGAIN: no room, nothing taken; ES_CLOSED,
 * ES_TLS, ES_NO_MEMORY. Needs no repetition with the same arguments.
 */
ES_MUST_USE enum es_err esi_stream_writev(struct esi_stream *stream, const struct iovec *parts,
                                          size_t part_count, size_t *count);

/* True when bytes, or the end behind them, are in user space, where the poller cannot see them:
 * read again before sleeping. */
bool esi_stream_has_buffered_input(const struct esi_stream *stream);

/* What the stream holds, its TLS session and what is buffered included, in bytes of memory. */
size_t esi_stream_memory_bytes(const struct esi_stream *stream);

/* True when bytes taken earlier still wait for the socket: watch POLL_WRITE, then esi_stream_flush.
 */
bool esi_stream_has_buffered_output(const struct esi_stream *stream);

/* Writes buffered output. ES_OK: all gone; ES_AGAIN: some is left; ES_CLOSED. */
ES_MUST_USE enum es_err esi_stream_flush(struct esi_stream *stream);

/*
 * The I/O that must happen before the handshake, or a read of TLS, can go on: bits of enum
 * esi_poll_event. 0 for a plain stream with nothing buffered. A caller adds POLL_READ when it wants
 * data.
 */
uint32_t esi_stream_wants(const struct esi_stream *stream);

/*
 * Ends the outgoing direction: close_notify (TLS) after what is buffered, then FIN. What does not
 * go out at once does so with esi_stream_flush. Nothing can be written afterwards; reading goes on.
 * Cannot fail.
 */
void esi_stream_shutdown_write(struct esi_stream *stream);

/*
 * Who the peer is by its certificate, verified; NULL for a plain stream, before the handshake is
 * done, without a certificate, or where verifying is off. Borrowed until the stream is freed.
 */
const struct esi_peer_identity *esi_stream_peer(const struct esi_stream *stream);

/* True from esi_stream_start_tls_* on. */
bool esi_stream_is_tls(const struct esi_stream *stream);

/* "TLSv1.3" and the cipher suite's name; "" before the handshake is done. Static, or valid until
 * freed. */
const char *esi_stream_tls_version(const struct esi_stream *stream);
const char *esi_stream_tls_cipher(const struct esi_stream *stream);
/* The protocol agreed by ALPN ("h2"), or "". Valid until the stream is freed. */
const char *esi_stream_tls_alpn(const struct esi_stream *stream);
