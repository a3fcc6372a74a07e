/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One TLS connection: bytes of the transport in and out of the library, and what its answers mean.
 */
#include "net/tls_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "base/assert.h"
#include "base/ledger.h"
#include "base/own.h"
#include "net/certificate.h"

int esi_tls_session_receive(WOLFSSL *library, char *buffer, int capacity, void *user)
{
    struct esi_tls_session *session = user;
    size_t count = 0;
    enum es_err err;

    (void)library;
    if (capacity <= 0) {
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    err = session->transport.receive(session->transport.user, buffer, (size_t)capacity, &count);
    if (err == ES_AGAIN) {
        session->wants_write = false;
        return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    if (err != ES_OK) {
        session->transport_error = err;
        return err == ES_CLOSED ? WOLFSSL_CBIO_ERR_CONN_CLOSE : WOLFSSL_CBIO_ERR_GENERAL;
    }
    ESI_ASSERT(count > 0 && count <= (size_t)capacity);
    if (!session->is_first_byte_seen) {
        /* A handshake or an alert: anything else is no TLS, told in clear words instead of a code
         * for bad records. */
        session->is_first_byte_seen = true;
        if (buffer[0] != 22 && buffer[0] != 21) {
            snprintf(session->failure, sizeof(session->failure),
                     "the peer speaks plain text instead of TLS");
            session->transport_error = ES_TLS;
            return WOLFSSL_CBIO_ERR_GENERAL;
        }
    }
    return (int)count;
}

int esi_tls_session_send(WOLFSSL *library, char *buffer, int len, void *user)
{
    struct esi_tls_session *session = user;
    enum es_err err;

    (void)library;
    if (len < 0) {
        return WOLFSSL_CBIO_ERR_GENERAL;
    }
    err = session->transport.send(session->transport.user, buffer, (size_t)len);
    if (err == ES_AGAIN) {
        session->wants_write = true;
        return WOLFSSL_CBIO_ERR_WANT_WRITE;
    }
    if (err != ES_OK) {
        session->transport_error = err;
        return err == ES_CLOSED ? WOLFSSL_CBIO_ERR_CONN_CLOSE : WOLFSSL_CBIO_ERR_GENERAL;
    }
    return len;
}

/* The entry whose certificate is for this server name, else the first. */
static const struct esi_tls_entry *choose_entry(const struct esi_tls_context *context,
                                                const char *name)
{
    for (size_t i = 0; i < context->entry_count && name != NULL; i++) {
        const struct esi_peer_identity *self = context->entries[i].self;
        if (self != NULL && esi_certificate_is_for_host(self, name)) {
            return &context->entries[i];
        }
    }
    return &context->entries[0];
}

static bool is_address(const char *name)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* Sets what one connection needs beyond its context. */
static bool set_up_session(struct esi_tls_session *session)
{
    const struct esi_tls_context *context = session->context;

    wolfSSL_SetIOReadCtx(session->library, session);
    wolfSSL_SetIOWriteCtx(session->library, session);
    wolfSSL_SetCertCbCtx(session->library, session);
    if (context->role == TLS_CLIENT && session->host != NULL && !is_address(session->host) &&
        wolfSSL_UseSNI(session->library, WOLFSSL_SNI_HOST_NAME, session->host,
                       (unsigned short)strlen(session->host)) != WOLFSSL_SUCCESS) {
        return false;
    }
    if (context->alpn[0] != '\0') {
        char protocol[TLS_ALPN_BYTES_MAX + 1];
        memcpy(protocol, context->alpn, sizeof(protocol));
        if (wolfSSL_UseALPN(session->library, protocol, (unsigned)strlen(protocol),
                            WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) != WOLFSSL_SUCCESS) {
            return false;
        }
    }
    return true;
}

enum es_err esi_tls_session_new(struct esi_tls_context *context, struct esi_str server_name,
                                const struct esi_tls_transport *transport,
                                struct esi_tls_session **out)
{
    struct esi_tls_session *session;

    esi_tls_note_thread();
    if (server_name.len > TLS_SERVER_NAME_BYTES_MAX ||
        (server_name.len > 0 && memchr(server_name.data, '\0', server_name.len) != NULL)) {
        if (context->role == TLS_CLIENT) {
            return ES_INVALID;
        }
        server_name.len = 0; /* a client's odd wish: the first certificate */
    }
    session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return ES_NO_MEMORY;
    }
    session->context = esi_tls_context_ref(context);
    session->transport = *transport;
    if (server_name.len > 0) {
        session->host = esi_str_dup(server_name);
        if (session->host == NULL) {
            goto fail;
        }
    }
    const int64_t before = esi_tls_thread_bytes();
    session->library = wolfSSL_new(
        choose_entry(context, context->role == TLS_SERVER ? session->host : NULL)->library);
    if (context->role == TLS_SERVER) {
        /* Was needed for the choice alone: whom a client wants is not who it must be. */
        free(session->host);
        session->host = NULL;
    }
    if (session->library == NULL || !set_up_session(session)) {
        goto fail;
    }
    session->library_bytes = esi_tls_thread_bytes() - before;
    *out = session;
    return ES_OK;
fail:
    esi_tls_session_free(session);
    return ES_NO_MEMORY;
}

void esi_tls_session_free(struct esi_tls_session *session)
{
    if (session == NULL) {
        return;
    }
    wolfSSL_free(session->library);
    esi_certificate_free(session->peer);
    free(session->host);
    esi_tls_context_unref(session->context);
    free(session);
}

/* The name of an alert (RFC 8446, 6.2), or NULL. */
static const char *alert_name(int code)
{
    static const struct {
        int code;
        const char *name;
    } rows[] = {{40, "handshake_failure"},       {42, "bad_certificate"},
                {43, "unsupported_certificate"}, {44, "certificate_revoked"},
                {45, "certificate_expired"},     {46, "certificate_unknown"},
                {47, "illegal_parameter"},       {48, "unknown_ca"},
                {49, "access_denied"},           {50, "decode_error"},
                {51, "decrypt_error"},           {70, "protocol_version"},
                {71, "insufficient_security"},   {80, "internal_error"},
                {112, "unrecognized_name"},      {116, "certificate_required"},
                {120, "no_application_protocol"}};

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (rows[i].code == code) {
            return rows[i].name;
        }
    }
    return NULL;
}

/* Our sentence for a code of the library, or NULL. */
static const char *failure_text(int code)
{
    static const struct {
        int code;
        const char *text;
    } rows[] = {
        {ASN_AFTER_DATE_E, "the peer's certificate, or one of its chain, has expired"},
        {ASN_BEFORE_DATE_E, "the peer's certificate, or one of its chain, is not valid yet"},
        {ASN_NO_SIGNER_E, "the peer's certificate is from an unknown authority"},
        {ASN_SELF_SIGNED_E, "the peer's certificate is from an unknown authority (self-signed)"},
        {ASN_SIG_CONFIRM_E, "the signature on the peer's certificate is wrong"},
        {NO_PEER_CERT, "the peer showed no certificate"},
        {EXTKEYUSE_AUTH_E, "the peer's certificate is not for this role (extended key usage)"},
        {KEYUSE_SIGNATURE_E, "the peer's certificate may not sign (key usage)"},
        {VERSION_ERROR, "the peer's TLS version is too old"},
        {UNKNOWN_RECORD_TYPE, "what the peer sent is not TLS"},
        {MATCH_SUITE_ERROR, "no cipher suite in common, or the peer's TLS version is too old"},
        {UNSUPPORTED_SUITE, "no cipher suite in common"},
        {RSA_KEY_SIZE_E, "the peer's RSA key is shorter than 2048 bits"},
        {ECC_KEY_SIZE_E, "the peer's key is shorter than 256 bits"},
        {VERIFY_CERT_ERROR, "the peer showed no certificate, or one that was refused"},
        {VERIFY_SIGN_ERROR, "the peer does not own the key of its certificate"},
        {SIG_VERIFY_E, "the peer does not own the key of its certificate"},
        {VERIFY_FINISHED_ERROR, "the handshake was tampered with"},
        {DECRYPT_ERROR, "a record was tampered with"},
        {VERIFY_MAC_ERROR, "a record was tampered with"},
        {AES_GCM_AUTH_E, "a record was tampered with"},
        {MAX_CHAIN_ERROR, "the peer's certificate chain is too long"},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (rows[i].code == code) {
            return rows[i].text;
        }
    }
    return NULL;
}

/* Writes the reason, unless a better one is there already. */
static void describe_failure(struct esi_tls_session *session, int code)
{
    char reason[TLS_LIBRARY_TEXT_BYTES];
    WOLFSSL_ALERT_HISTORY alerts = {0};
    const char *text = failure_text(code);

    if (session->failure[0] != '\0') {
        return;
    }
    if (text == NULL && wolfSSL_get_alert_history(session->library, &alerts) == WOLFSSL_SUCCESS &&
        alerts.last_rx.level == alert_fatal) {
        const char *name = alert_name(alerts.last_rx.code);
        snprintf(session->failure, sizeof(session->failure), "the peer refused: alert %d%s%s",
                 alerts.last_rx.code, name != NULL ? " " : "", name != NULL ? name : "");
        return;
    }
    if (text == NULL && session->transport_error == ES_CLOSED) {
        text = "the peer closed the connection";
    }
    snprintf(session->failure, sizeof(session->failure), "%s",
             text != NULL ? text : esi_tls_library_text(code, reason));
}

/*
 * What the result of a call of the library means. Fails the session where it must: that is for
 * good, and the reason is noted once.
 */
static enum es_err judge(struct esi_tls_session *session, int result)
{
    const int code = wolfSSL_get_error(session->library, result);

    if (session->transport_error == ES_OK) {
        if (code == WOLFSSL_ERROR_WANT_READ || code == WOLFSSL_ERROR_WANT_WRITE) {
            session->wants_write = code == WOLFSSL_ERROR_WANT_WRITE;
            return ES_AGAIN;
        }
        if (code == WOLFSSL_ERROR_ZERO_RETURN && session->is_done) {
            session->has_peer_ended = true; /* close_notify: an orderly end, no failure */
            return ES_CLOSED;
        }
    }
    if (session->ended == ES_OK) {
        session->ended = code == MEMORY_E || code == MEMORY_ERROR ? ES_NO_MEMORY : ES_TLS;
        if (session->transport_error != ES_OK) {
            session->ended = session->transport_error;
        }
    }
    describe_failure(session, code);
    wolfSSL_ERR_clear_error();
    return session->ended;
}

enum es_err esi_tls_session_handshake(struct esi_tls_session *session)
{
    int result;

    if (session->ended != ES_OK || session->is_done) {
        return session->ended;
    }
    const int64_t before = esi_tls_thread_bytes();
    result = session->context->role == TLS_SERVER ? wolfSSL_accept(session->library)
                                                  : wolfSSL_connect(session->library);
    session->library_bytes += esi_tls_thread_bytes() - before;
    if (result != WOLFSSL_SUCCESS) {
        return judge(session, result);
    }
    if (session->context->is_verifying && session->peer == NULL) {
        /* The library should have refused; a second lock on the same door. */
        snprintf(session->failure, sizeof(session->failure), "the peer showed no certificate");
        session->ended = ES_TLS;
        return ES_TLS;
    }
    session->is_done = true;
    return ES_OK;
}

enum es_err esi_tls_session_read(struct esi_tls_session *session, void *buffer, size_t capacity,
                                 size_t *count)
{
    enum es_err err = ES_AGAIN;
    size_t total = 0;

    if (session->ended != ES_OK) {
        return session->ended;
    }
    if (session->has_peer_ended) {
        return ES_CLOSED;
    }
    if (!session->is_done) {
        return ES_AGAIN;
    }
    const int64_t before = esi_tls_thread_bytes();
    /* The library gives one record a call. */
    while (total < capacity) {
        const size_t room = capacity - total;
        const int result = wolfSSL_read(session->library, (char *)buffer + total,
                                        room < INT32_MAX ? (int)room : INT32_MAX);
        if (result <= 0) {
            err = judge(session, result);
            break; /* after bytes an end is told by the next call */
        }
        total += (size_t)result;
    }
    session->library_bytes += esi_tls_thread_bytes() - before;
    if (total == 0) {
        return err;
    }
    *count = total;
    return ES_OK;
}

enum es_err esi_tls_session_write(struct esi_tls_session *session, const void *data, size_t len)
{
    int result;
    enum es_err err;

    ESI_REQUIRE(len > 0 && len <= ESI_TLS_RECORD_MAX);
    if (session->ended != ES_OK) {
        return session->ended;
    }
    if (!session->is_done) {
        return ES_AGAIN;
    }
    const int64_t before = esi_tls_thread_bytes();
    result = wolfSSL_write(session->library, data, (int)len);
    session->library_bytes += esi_tls_thread_bytes() - before;
    if (result == (int)len) {
        return ES_OK;
    }
    err = judge(session, result);
    if (err == ES_AGAIN) {
        /* The transport promised room: a repetition would have to bring the same bytes, which
         * nobody kept. */
        snprintf(session->failure, sizeof(session->failure), "a record was written in part");
        session->ended = ES_TLS;
        err = ES_TLS;
    }
    return err;
}

void esi_tls_session_shutdown(struct esi_tls_session *session)
{
    if (session->is_done && session->ended == ES_OK) {
        (void)wolfSSL_shutdown(session->library);
        wolfSSL_ERR_clear_error();
    }
}

bool esi_tls_session_has_pending(const struct esi_tls_session *session)
{
    /* An end that was found behind bytes is told by the next read, and no socket calls for that. */
    return session->ended != ES_OK || session->has_peer_ended ||
           wolfSSL_pending(session->library) > 0;
}

bool esi_tls_session_has_peer_ended(const struct esi_tls_session *session)
{
    return session->has_peer_ended;
}

bool esi_tls_session_wants_write(const struct esi_tls_session *session)
{
    return session->wants_write;
}

size_t esi_tls_session_memory_bytes(const struct esi_tls_session *session)
{
    return esi_ledger_heap_bytes(sizeof(*session)) +
           (session->library_bytes > 0 ? (size_t)session->library_bytes : 0);
}

const char *esi_tls_session_failure(const struct esi_tls_session *session)
{
    return session->failure;
}

const struct esi_peer_identity *esi_tls_session_peer(const struct esi_tls_session *session)
{
    return session->is_done ? session->peer : NULL;
}

const char *esi_tls_session_version(const struct esi_tls_session *session)
{
    return session->is_done ? wolfSSL_get_version(session->library) : "";
}

const char *esi_tls_session_cipher(const struct esi_tls_session *session)
{
    /* By number, since the library's builds name suites differently. */
    static const struct {
        int suite;
        const char *name;
    } rows[] = {
        {0x1301, "TLS_AES_128_GCM_SHA256"},
        {0x1302, "TLS_AES_256_GCM_SHA384"},
        {0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
        {0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
        {0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
        {0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        {0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
        {0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
    };
    const int suite = session->is_done ? wolfSSL_get_current_cipher_suite(session->library) : 0;

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (rows[i].suite == suite) {
            return rows[i].name;
        }
    }
    return "";
}

const char *esi_tls_session_alpn(const struct esi_tls_session *session)
{
    char *name = NULL;
    unsigned short len = 0;

    /* What we have offered is one protocol, so what was agreed is that one or none. */
    if (!session->is_done || session->context->alpn[0] == '\0' ||
        wolfSSL_ALPN_GetProtocol(session->library, &name, &len) != WOLFSSL_SUCCESS ||
        len != strlen(session->context->alpn) || memcmp(name, session->context->alpn, len) != 0) {
        return "";
    }
    return session->context->alpn;
}
