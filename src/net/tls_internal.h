/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files behind net/tls.h share: tls.c (the library as a whole), tls_context.c (settings,
 * and where safety is decided), tls_files.c (certificates, keys and authorities read), tls_verify.c
 * (is the peer who it must be), tls_session.c (one connection). The library's types stand here by
 * their tags, so that nobody needs its headers for them.
 */
#pragma once

#include "net/tls.h"

#include <stdatomic.h>

struct WOLFSSL;
struct WOLFSSL_CTX;
struct WOLFSSL_X509_STORE_CTX;

enum { TLS_FAILURE_BYTES = 240, TLS_SERVER_NAME_BYTES_MAX = 253, TLS_ALPN_BYTES_MAX = 32 };

/* One certificate with its key, ready to be used. */
struct esi_tls_entry {
    struct WOLFSSL_CTX *library;    /* owned */
    struct esi_peer_identity *self; /* owned; whom it names; NULL for a client without one */
    unsigned char *der;             /* owned; the certificate, until its key is loaded */
    size_t der_len;
};

struct esi_tls_context {
    _Atomic uint32_t refs;
    enum esi_tls_role role;
    bool is_verifying;
    char alpn[TLS_ALPN_BYTES_MAX + 1]; /* "" for none */
    struct esi_tls_entry *entries;     /* owned */
    size_t entry_count;
    char **allowed_names; /* owned, each too */
    size_t allowed_name_count;
    unsigned char *pinned; /* owned; DER of the one certificate that a server may show, or NULL */
    size_t pinned_len;
};

struct esi_tls_session {
    struct WOLFSSL *library;            /* owned */
    struct esi_tls_context *context;    /* shared */
    struct esi_tls_transport transport; /* its user: borrowed */
    struct esi_peer_identity *peer;     /* owned; NULL until the verify callback has accepted it */
    char *host;                         /* owned; a client's server name, or NULL */
    enum es_err ended;                  /* ES_OK while the session lives */
    enum es_err transport_error;        /* why the transport failed, or ES_OK */
    int64_t library_bytes;              /* what the library has taken for it */
    bool is_done;                       /* the handshake is */
    bool has_peer_ended;                /* close_notify came: nothing more is to be read */
    bool is_first_byte_seen;
    bool wants_write;
    char failure[TLS_FAILURE_BYTES];
};

/* --- tls.c --- */

/* Fills the report and passes the code on. */
ESI_PRINTF(3, 4)
enum es_err esi_tls_refuse(struct es_error *error, enum es_err err, const char *format, ...);
/* The library's own sentence for a code. text: TLS_LIBRARY_TEXT_BYTES. Returns text. */
enum { TLS_LIBRARY_TEXT_BYTES = 80 };
const char *esi_tls_library_text(int code, char text[TLS_LIBRARY_TEXT_BYTES]);
/*
 * From here on the library's memory is counted. It comes from where it came before, so what was
 * taken earlier may be given back. Thread: any.
 */
void esi_tls_count_memory(void);
/* What the library has taken on this thread, less what it has given back: it may be below 0, for
 * sessions move between threads. The difference around a call is what the call has taken. */
int64_t esi_tls_thread_bytes(void);
/* A thread begins to use the library: what that keeps for it goes with it. */
void esi_tls_note_thread(void);

/* --- tls_files.c --- */

/* Loads every authority of a PEM file, or none: a broken one refuses the file. */
ES_MUST_USE enum es_err esi_tls_files_load_authorities(struct esi_env *env,
                                                       struct WOLFSSL_CTX *library,
                                                       const char *path, struct es_error *error);
/* Loads certificate chain and key of an entry, and remembers whom it names. */
ES_MUST_USE enum es_err esi_tls_files_load_pair(struct esi_env *env, struct esi_tls_entry *entry,
                                                const struct esi_tls_certificate *paths,
                                                struct es_error *error);
/* Reads the first certificate of a PEM file as DER; owned by the caller. */
ES_MUST_USE enum es_err esi_tls_files_read_pinned(struct esi_env *env, const char *path,
                                                  unsigned char **der, size_t *der_len,
                                                  struct es_error *error);

/* --- tls_verify.c --- */

/* The library's verify callback: is_chain_good is its own verdict. 1 accepts, 0 refuses. */
int esi_tls_verify_peer(int is_chain_good, struct WOLFSSL_X509_STORE_CTX *store);

/* --- tls_session.c --- */

/* The library's ways to a session's bytes; user is the session. */
int esi_tls_session_receive(struct WOLFSSL *library, char *buffer, int capacity, void *user);
int esi_tls_session_send(struct WOLFSSL *library, char *buffer, int len, void *user);
