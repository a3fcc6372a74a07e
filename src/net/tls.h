/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TLS contexts and sessions: the only files that see wolfSSL stand behind this header, and in one
 * place of them what is safe is set: TLS 1.2 or newer, forward secrecy with authenticated ciphers
 * alone, chain, dates, key usage and names of the peer checked, no resumption (so that a
 * certificate is seen on each connection), no renegotiation. Both builds of wolfSSL (packaged and
 * private) behave the same; tests run with both.
 *
 * Others use net/stream.h; the sessions below are what a stream is made of.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_env;
struct esi_peer_identity;
struct esi_tls_context;
struct esi_tls_session;

enum esi_tls_role { TLS_SERVER, TLS_CLIENT };
enum esi_tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };
enum { ESI_TLS_RECORD_MAX = 16384 }; /* plaintext bytes in one record */

/* A certificate with its chain, and its key, both PEM files. */
struct esi_tls_certificate {
    const char *cert_path; /* borrowed */
    const char *key_path;  /* borrowed */
};

/* All pointers are borrowed until esi_tls_context_new returns. */
struct esi_tls_options {
    enum esi_tls_role role;
    enum esi_tls_version min_version;
    /* A server needs one or more: chosen by SNI, the first where no name matches. A client needs
     * none, or one. */
    const struct esi_tls_certificate *certificates;
    size_t certificate_count;
    /* Whom to trust, PEM. A server without it asks for no certificate; a client needs it. */
    const char *root_ca_path;
    /* Client, instead of root_ca_path: the peer must show exactly the first certificate of this PEM
     * file, whoever signed it. Its dates are not looked at: esi_stream_peer tells them. */
    const char *pinned_cert_path;
    /* The peer must show a certificate of root_ca_path, or the pinned one. Must agree with whether
     * one of them is given. */
    bool verify_peer;
    /* Client, explicitly, for tools on a developer's machine: any server is believed. */
    bool insecure;
    /* The peer's common name or a subjectAltName must be one of these; none: any. Needs
     * verify_peer. */
    const char *const *allowed_names;
    size_t allowed_name_count;
    /* A protocol for ALPN ("h2"), or NULL. A peer that offers none, or others, is not refused. */
    const char *alpn;
};

/*
 * Reads the files and makes a context. Fails closed: a file that cannot be read or used as a whole,
 * or options that contradict each other, make no context. (An expired authority is left out while
 * another one is valid.)
 *   out     shared; the caller holds the first reference
 *   error   filled on failure: which file, what is wrong with it
 * Errors: ES_NOT_FOUND, ES_DENIED, ES_INVALID, ES_TOO_LARGE, ES_IO, ES_NO_MEMORY. Blocks (files):
 * start, service threads.
 */
ES_MUST_USE enum es_err esi_tls_context_new(struct esi_env *env,
                                            const struct esi_tls_options *options,
                                            struct esi_tls_context **out, struct es_error *error);
/* One more holder. Thread: any. Returns context. */
struct esi_tls_context *esi_tls_context_ref(struct esi_tls_context *context);
/* One holder less; the last one frees. NULL is accepted. Thread: any. */
void esi_tls_context_unref(struct esi_tls_context *context);
/* When the first of the context's own certificates to do so expires: seconds since 1970; 0 without
 * a certificate. */
int64_t esi_tls_context_not_after_s(const struct esi_tls_context *context);
/* True when peers must show a certificate. */
bool esi_tls_context_is_verifying(const struct esi_tls_context *context);

/* Which wolfSSL this is: "private 5.5.4" or "system 5.5.4". Static. */
const char *esi_tls_build_name(void);
/*
 * The speed of sealing 1 MB with AES-128-GCM, in MB/s (10^6 bytes); 0 when memory is exhausted. Up
 * to 10 ms of CPU: for the log at start.
 */
uint32_t esi_tls_measure(struct esi_env *env);

/*
 * How a session reaches its bytes. Both answer ES_OK with *count > 0, ES_AGAIN, or an error that
 * ends the session. send takes all of data, or answers ES_AGAIN and takes nothing.
 */
struct esi_tls_transport {
    enum es_err (*receive)(void *user, void *buffer, size_t capacity, size_t *count);
    enum es_err (*send)(void *user, const void *data, size_t len);
    void *user; /* borrowed; outlives the session */
};

/*
 * Begins one side of a connection.
 *   context       a reference is taken
 *   server_name   client: see esi_stream_start_tls_client; copied. Server: what the client asked
 *                 for by SNI (may be empty), used at once to choose the certificate
 * Errors: ES_NO_MEMORY, ES_INVALID (a name that cannot be sent).
 */
ES_MUST_USE enum es_err esi_tls_session_new(struct esi_tls_context *context,
                                            struct esi_str server_name,
                                            const struct esi_tls_transport *transport,
                                            struct esi_tls_session **out);
/* NULL is accepted. */
void esi_tls_session_free(struct esi_tls_session *session);
/* ES_OK: done and the peer accepted; ES_AGAIN: as the transport said; ES_TLS, ES_CLOSED,
 * ES_NO_MEMORY: failed. */
ES_MUST_USE enum es_err esi_tls_session_handshake(struct esi_tls_session *session);
/* Plaintext, at most capacity bytes. ES_OK with *count > 0, ES_AGAIN, ES_CLOSED, ES_TLS,
 * ES_NO_MEMORY. */
ES_MUST_USE enum es_err esi_tls_session_read(struct esi_tls_session *session, void *buffer,
                                             size_t capacity, size_t *count);
/* Seals 1 to ESI_TLS_RECORD_MAX bytes into one record. The transport must have room for it: then it
 * takes all. */
ES_MUST_USE enum es_err esi_tls_session_write(struct esi_tls_session *session, const void *data,
                                              size_t len);
/* Sends close_notify. Cannot fail: what does not go out is lost. */
void esi_tls_session_shutdown(struct esi_tls_session *session);
/* True when decrypted bytes wait to be read, or an end that no read has told yet. */
bool esi_tls_session_has_pending(const struct esi_tls_session *session);
/* True when the peer has ended its direction by close_notify: what it waits for can still be
 * written. */
bool esi_tls_session_has_peer_ended(const struct esi_tls_session *session);
/* True when the last ES_AGAIN came from send. */
bool esi_tls_session_wants_write(const struct esi_tls_session *session);
/* What the session holds, the library's part included, in bytes of memory. */
size_t esi_tls_session_memory_bytes(const struct esi_tls_session *session);
/* Why the session failed; "" when it has not. Valid until the session is freed. */
const char *esi_tls_session_failure(const struct esi_tls_session *session);
/* The verified peer, or NULL. Borrowed until the session is freed. */
const struct esi_peer_identity *esi_tls_session_peer(const struct esi_tls_session *session);
const char *esi_tls_session_version(const struct esi_tls_session *session);
const char *esi_tls_session_cipher(const struct esi_tls_session *session);
const char *esi_tls_session_alpn(const struct esi_tls_session *session);
