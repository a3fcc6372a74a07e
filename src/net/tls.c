/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wolfSSL behind net/tls.h. wolfssl/options.h comes before any other header of wolfSSL: the layout
 * of its structs depends on how the library was built.
 *
 * Why things are done by hand here that the library offers too: Debian's build is made with
 * OPENSSL_COMPATIBLE_DEFAULTS, under which a fresh context verifies nobody, allows old versions,
 * repeats reads by itself and takes each authority for a trusted peer as well. So every setting is
 * made, whatever its default; the peer's names are checked in our own verify callback (called in
 * both builds for each leaf); and authorities are loaded one by one, since the library calls a
 * bundle loaded when any one of it was.
 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crypto.h"
#include "base/own.h"
#include "env/env.h"
#include "net/certificate.h"

#if !defined(WOLFSSL_ALWAYS_VERIFY_CB) || !defined(OPENSSL_EXTRA) || !defined(HAVE_SNI) ||         \
    !defined(HAVE_ALPN) || !defined(WOLFSSL_TLS13) || !defined(HAVE_ECC)
/* Without WOLFSSL_ALWAYS_VERIFY_CB no name would be checked. */
#error "this wolfSSL lacks a part that is needed: see scripts/build-wolfssl"
#endif

#ifdef FP_ECC
#define free_curve_cache wc_ecc_fp_free
#else
static void free_curve_cache(void)
{
}
#endif

enum {
    CERT_FILE_BYTES_MAX = 4 << 20, /* a system's whole bundle of authorities is 220 KB */
    KEY_FILE_BYTES_MAX = 64 << 10,
    RSA_BITS_MIN = 2048,
    ECC_BITS_MIN = 256,
    FAILURE_BYTES = 240,
    SERVER_NAME_BYTES_MAX = 253,
    ALPN_BYTES_MAX = 32,
    MEASURED_BYTES = 1 << 20
};

/* Forward secrecy and authenticated encryption alone; AES-128 first, which is the fastest. */
static const char cipher_list[] =
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/* One certificate with its key, ready to be used. */
struct tls_entry {
    WOLFSSL_CTX *library;           /* owned */
    struct esi_peer_identity *self; /* owned; whom it names; NULL for a client without one */
    unsigned char *der;             /* owned; the certificate, until its key is loaded */
    size_t der_len;
};

struct esi_tls_context {
    _Atomic uint32_t refs;
    enum esi_tls_role role;
    bool is_verifying;
    char alpn[ALPN_BYTES_MAX + 1]; /* "" for none */
    struct tls_entry *entries;     /* owned */
    size_t entry_count;
    char **allowed_names; /* owned, each too */
    size_t allowed_name_count;
    unsigned char *pinned; /* owned; DER of the one certificate that a server may show, or NULL */
    size_t pinned_len;
};

struct esi_tls_session {
    WOLFSSL *library;                   /* owned */
    struct esi_tls_context *context;    /* shared */
    struct esi_tls_transport transport; /* its user: borrowed */
    struct esi_peer_identity *peer;     /* owned; NULL until the verify callback has accepted it */
    char *host;                         /* owned; a client's server name, or NULL */
    enum es_err ended;                  /* ES_OK while the session lives */
    enum es_err transport_error;        /* why the transport failed, or ES_OK */
    bool is_done;                       /* the handshake is */
    bool is_first_byte_seen;
    bool wants_write;
    char failure[FAILURE_BYTES];
};

/* Fills the report and passes the code on. */
ESI_PRINTF(3, 4)
static enum es_err refuse(struct es_error *error, enum es_err err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return err;
}

/* The library's own sentence for a code, for what we have no better one. */
static const char *library_text(int code, char text[WOLFSSL_MAX_ERROR_SZ])
{
    wolfSSL_ERR_error_string((unsigned long)code, text);
    return text;
}

/* --- context --- */

#ifdef WOLFSSL_TRUST_PEER_CERT
/* Debian's build takes each authority for a trusted peer as well, whose chain it then would not
 * check. */
static bool forget_trusted_peers(WOLFSSL_CTX *library)
{
    return wolfSSL_CTX_Unload_trust_peers(library) == WOLFSSL_SUCCESS;
}
#else
static bool forget_trusted_peers(WOLFSSL_CTX *library)
{
    (void)library;
    return true;
}
#endif

static enum es_err read_file(struct esi_env *env, const char *path, size_t size_max,
                             struct esi_bytes *out, struct es_error *error)
{
    /* Room for all at once: a growing buffer would leave pieces of a key behind in freed memory. */
    struct esi_file_info info;
    enum es_err err = esi_env_file_info(env, path, &info);

    if (err == ES_OK && info.size_bytes > size_max) {
        err = ES_TOO_LARGE;
    }
    if (err == ES_OK && esi_bytes_reserve(out, (size_t)info.size_bytes + 1) == NULL) {
        err = ES_NO_MEMORY;
    }
    if (err == ES_OK) {
        err = esi_env_file_read(env, path, size_max, out);
    }
    if (err != ES_OK) {
        return refuse(error, err, "%s: cannot be read: %s", path, es_err_text(err));
    }
    if (out->len == 0) {
        return refuse(error, ES_INVALID, "%s: the file is empty", path);
    }
    return ES_OK;
}

/* Cuts the next PEM certificate, with its armour, from the front of text. */
static bool take_pem_certificate(struct esi_str *text, struct esi_str *block)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    static const char end[] = "-----END CERTIFICATE-----";
    const char *from = memmem(text->data, text->len, begin, sizeof(begin) - 1);
    const char *to;

    if (from == NULL) {
        return false;
    }
    text->len -= (size_t)(from - text->data);
    text->data = from;
    to = memmem(text->data, text->len, end, sizeof(end) - 1);
    if (to == NULL) {
        to = text->data + text->len;
    } else {
        to += sizeof(end) - 1;
    }
    *block = (struct esi_str){.data = from, .len = (size_t)(to - from)};
    text->len -= block->len;
    text->data = to;
    return true;
}

/* The DER bytes of one PEM certificate. *der: the caller frees; NULL when memory is exhausted or it
 * is no base64. */
static void decode_pem(struct esi_str block, unsigned char **der, size_t *der_len)
{
    int len;

    *der_len = 0;
    *der = malloc(block.len); /* DER is shorter than PEM */
    if (*der != NULL) {
        len = wolfSSL_CertPemToDer((const unsigned char *)block.data, (int)block.len, *der,
                                   (int)block.len, CERT_TYPE);
        *der_len = len > 0 ? (size_t)len : 0;
    }
}

/* Whom one PEM certificate names. */
static enum es_err read_certificate(struct esi_str block, struct esi_peer_identity **out)
{
    unsigned char *der;
    size_t der_len;
    enum es_err err;

    decode_pem(block, &der, &der_len);
    err = der == NULL ? ES_NO_MEMORY : esi_certificate_read(der, der_len, out);
    free(der);
    return err;
}

/* One authority of a PEM file. *is_expired: it is, and is left out. */
static enum es_err load_authority(WOLFSSL_CTX *library, struct esi_str block, const char **problem,
                                  bool *is_expired)
{
    struct esi_peer_identity *identity = NULL;
    enum es_err err = read_certificate(block, &identity);
    bool is_authority;
    int result;

    if (err != ES_OK) {
        *problem = err == ES_INVALID ? "is broken" : es_err_text(err);
        return err;
    }
    /* The library's builds differ in whether they look at this. */
    is_authority = identity->is_authority;
    esi_certificate_free(identity);
    if (!is_authority) {
        *problem = "is not an authority's (basicConstraints CA:TRUE)";
        return ES_INVALID;
    }
    result = wolfSSL_CTX_load_verify_buffer_ex(library, (const unsigned char *)block.data,
                                               (long)block.len, WOLFSSL_FILETYPE_PEM, 0,
                                               WOLFSSL_LOAD_FLAG_NONE);
    *is_expired = result == ASN_AFTER_DATE_E;
    if (result != WOLFSSL_SUCCESS && !*is_expired) {
        *problem = wolfSSL_ERR_reason_error_string((unsigned long)result);
        return ES_INVALID;
    }
    return ES_OK;
}

/* Loads every authority of a PEM file, or none: a broken one refuses the file. */
static enum es_err load_authorities(WOLFSSL_CTX *library, const char *path, struct esi_str text,
                                    struct es_error *error)
{
    struct esi_str block;
    size_t count = 0;
    size_t expired_count = 0;

    while (take_pem_certificate(&text, &block)) {
        const char *problem = NULL;
        bool is_expired = false;
        const enum es_err err = load_authority(library, block, &problem, &is_expired);
        count++;
        expired_count += is_expired;
        if (err != ES_OK) {
            return refuse(error, err, "%s: certificate %zu %s", path, count, problem);
        }
    }
    if (count == 0) {
        return refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
    }
    if (expired_count == count) {
        return refuse(error, ES_INVALID, "%s: all authorities in it have expired", path);
    }
    if (!forget_trusted_peers(library)) {
        return refuse(error, ES_NO_MEMORY, "%s: cannot be loaded", path);
    }
    return ES_OK;
}

/* Loads the chain of one entry and remembers whom it names. */
static enum es_err load_chain(struct esi_env *env, struct tls_entry *entry, const char *path,
                              struct es_error *error)
{
    char reason[WOLFSSL_MAX_ERROR_SZ];
    struct esi_bytes text;
    struct esi_str rest;
    struct esi_str block;
    enum es_err err;
    int result;

    esi_bytes_init(&text, CERT_FILE_BYTES_MAX + 1);
    err = read_file(env, path, CERT_FILE_BYTES_MAX, &text, error);
    if (err != ES_OK) {
        goto end;
    }
    rest = esi_bytes_str(&text);
    if (!take_pem_certificate(&rest, &block)) {
        err = refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
        goto end;
    }
    err = read_certificate(block, &entry->self);
    if (err != ES_OK) {
        err = refuse(error, err, "%s: the certificate is not usable: %s", path, es_err_text(err));
        goto end;
    }
    decode_pem(block, &entry->der, &entry->der_len);
    if (entry->der == NULL) {
        err = refuse(error, ES_NO_MEMORY, "%s: %s", path, es_err_text(ES_NO_MEMORY));
        goto end;
    }
    result = wolfSSL_CTX_use_certificate_chain_buffer(
        entry->library, (const unsigned char *)text.data, (long)text.len);
    if (result != WOLFSSL_SUCCESS) {
        err = refuse(error, ES_INVALID, "%s: the certificate is not usable: %s", path,
                     library_text(result, reason));
    }
end:
    esi_bytes_deinit(&text);
    return err;
}

/*
 * False when the key is one of an elliptic curve and its public half is not in the certificate. The
 * library's own check believes any key of the right curve, in Debian's build.
 */
static bool is_ecc_key_of(const struct tls_entry *entry, struct esi_str pem)
{
    unsigned char point[1 + 2 * MAX_ECC_BYTES];
    word32 point_len = sizeof(point);
    word32 offset = 0;
    bool is_pair = true;
    unsigned char *der = calloc(1, pem.len + 1);
    ecc_key *key = calloc(1, sizeof(*key)); /* too large for a stack in some builds */
    int der_len;

    if (der == NULL || key == NULL || wc_ecc_init(key) != 0) {
        free(der);
        free(key);
        return false;
    }
    der_len =
        wc_KeyPemToDer((const unsigned char *)pem.data, (int)pem.len, der, (int)pem.len, NULL);
    if (der_len > 0 && wc_EccPrivateKeyDecode(der, &offset, key, (word32)der_len) == 0) {
        is_pair = entry->der != NULL && wc_ecc_make_pub(key, NULL) == 0 &&
                  wc_ecc_export_x963(key, point, &point_len) == 0 &&
                  memmem(entry->der, entry->der_len, point, point_len) != NULL;
    }
    wc_ecc_free(key);
    esi_crypto_wipe(key, sizeof(*key));
    esi_crypto_wipe(der, pem.len);
    free(key);
    free(der);
    return is_pair;
}

/* Loads the private key of one entry, whose chain is loaded. The file's content is wiped. */
static enum es_err load_key(struct esi_env *env, struct tls_entry *entry,
                            const struct esi_tls_certificate *paths, struct es_error *error)
{
    static const char encrypted[] = "ENCRYPTED";
    char reason[WOLFSSL_MAX_ERROR_SZ];
    struct esi_bytes text;
    enum es_err err;
    int result;

    esi_bytes_init(&text, KEY_FILE_BYTES_MAX + 1);
    err = read_file(env, paths->key_path, KEY_FILE_BYTES_MAX, &text, error);
    if (err != ES_OK) {
        goto end;
    }
    if (memmem(text.data, text.len, encrypted, sizeof(encrypted) - 1) != NULL) {
        err = refuse(error, ES_INVALID, "%s: the key has a pass phrase, which is not supported",
                     paths->key_path);
        goto end;
    }
    result = wolfSSL_CTX_use_PrivateKey_buffer(entry->library, (const unsigned char *)text.data,
                                               (long)text.len, WOLFSSL_FILETYPE_PEM);
    if (result != WOLFSSL_SUCCESS) {
        err = refuse(error, ES_INVALID, "%s: holds no usable PEM private key: %s", paths->key_path,
                     library_text(result, reason));
        goto end;
    }
    if (wolfSSL_CTX_check_private_key(entry->library) != WOLFSSL_SUCCESS ||
        !is_ecc_key_of(entry, esi_bytes_str(&text))) {
        err = refuse(error, ES_INVALID, "%s: the key does not belong to the certificate %s",
                     paths->key_path, paths->cert_path);
    }
end:
    esi_crypto_wipe(text.data, text.len);
    esi_bytes_deinit(&text);
    wolfSSL_ERR_clear_error();
    return err;
}

static int receive_cipher_text(WOLFSSL *library, char *buffer, int capacity, void *user)
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

static int send_cipher_text(WOLFSSL *library, char *buffer, int len, void *user)
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

/* Notes why the peer's names do not do, and lists the allowed ones or the certificate's own, as far
 * as there is room. */
static void describe_names(struct esi_tls_session *session)
{
    const struct esi_tls_context *context = session->context;
    const struct esi_peer_identity *peer = session->peer;
    size_t len;

    if (context->allowed_name_count > 0) {
        len = (size_t)snprintf(
            session->failure, sizeof(session->failure),
            "the peer's certificate (%.100s) has none of the allowed names:", peer->common_name);
        for (size_t i = 0; i < context->allowed_name_count && len < sizeof(session->failure); i++) {
            len += (size_t)snprintf(session->failure + len, sizeof(session->failure) - len, "%s %s",
                                    i == 0 ? "" : ",", context->allowed_names[i]);
        }
        return;
    }
    len = (size_t)snprintf(session->failure, sizeof(session->failure),
                           "the peer's certificate is not for %.100s but for %.60s", session->host,
                           peer->common_name);
    for (size_t i = 0; i < peer->dns_name_count && len < sizeof(session->failure); i++) {
        len += (size_t)snprintf(session->failure + len, sizeof(session->failure) - len, ", %s",
                                peer->dns_names[i]);
    }
}

static bool is_name_accepted(const struct esi_tls_session *session)
{
    const struct esi_tls_context *context = session->context;

    if (context->allowed_name_count > 0) {
        for (size_t i = 0; i < context->allowed_name_count; i++) {
            if (esi_certificate_has_name(session->peer, context->allowed_names[i])) {
                return true;
            }
        }
        return false;
    }
    return session->host == NULL || esi_certificate_is_for_host(session->peer, session->host);
}

/* Is it the pinned certificate? Then it does not matter who signed it, so the library is overruled.
 * That the peer owns its key is proven by the handshake. */
static int check_pinned(struct esi_tls_session *session, const WOLFSSL_X509_STORE_CTX *store)
{
    const struct esi_tls_context *context = session->context;

    if (store->error_depth != 0) {
        return 1; /* others of the chain have no say */
    }
    if (session->peer != NULL || store->totalCerts < 1 ||
        store->certs[0].length != context->pinned_len ||
        memcmp(store->certs[0].buffer, context->pinned, context->pinned_len) != 0 ||
        esi_certificate_read(context->pinned, context->pinned_len, &session->peer) != ES_OK) {
        snprintf(session->failure, sizeof(session->failure),
                 "the peer shows another certificate than the pinned one");
        return 0;
    }
    return 1;
}

/* Called for the peer's leaf in both builds, and for more in one of them. Never overrules the
 * library's "no", unless one certificate is pinned. */
static int check_peer(int is_chain_good, WOLFSSL_X509_STORE_CTX *store)
{
    struct esi_tls_session *session = store->userCtx;
    enum es_err err;

    if (session != NULL && session->context->pinned != NULL) {
        return check_pinned(session, store);
    }
    if (is_chain_good == 0 || session == NULL) {
        return 0;
    }
    if (store->error_depth != 0) {
        return 1;
    }
    if (session->peer != NULL || store->totalCerts < 1) {
        return 0;
    }
    err = esi_certificate_read(store->certs[0].buffer, store->certs[0].length, &session->peer);
    if (err != ES_OK) {
        snprintf(session->failure, sizeof(session->failure),
                 "the names in the peer's certificate cannot be read: %s", es_err_text(err));
        return 0;
    }
    if (!is_name_accepted(session)) {
        describe_names(session);
        return 0;
    }
    return 1;
}

/* What every context has in common: the one place where safety is decided. False: out of memory. */
static bool make_safe(WOLFSSL_CTX *library, const struct esi_tls_options *options)
{
    const int verify = options->verify_peer
                           ? WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT
                           : WOLFSSL_VERIFY_NONE;
    const int version = options->min_version == TLS_VERSION_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2;

    wolfSSL_CTX_set_verify(library, verify, options->verify_peer ? check_peer : NULL);
    wolfSSL_CTX_clear_mode(library, SSL_MODE_AUTO_RETRY);
    wolfSSL_CTX_SetIORecv(library, receive_cipher_text);
    wolfSSL_CTX_SetIOSend(library, send_cipher_text);
    wolfSSL_CTX_set_session_cache_mode(library, WOLFSSL_SESS_CACHE_OFF);
    return wolfSSL_CTX_SetMinVersion(library, version) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_set_cipher_list(library, cipher_list) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_SetMinRsaKey_Sz(library, RSA_BITS_MIN) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_SetMinEccKey_Sz(library, ECC_BITS_MIN) == WOLFSSL_SUCCESS &&
           wolfSSL_CTX_NoTicketTLSv12(library) == WOLFSSL_SUCCESS &&
           (options->role == TLS_CLIENT || wolfSSL_CTX_no_ticket_TLSv13(library) == 0) &&
           wolfSSL_CTX_set_group_messages(library) == WOLFSSL_SUCCESS;
}

/* Makes one entry: certificate may be NULL for a client. */
static enum es_err make_entry(struct esi_env *env, const struct esi_tls_options *options,
                              const struct esi_tls_certificate *certificate,
                              struct tls_entry *entry, struct es_error *error)
{
    struct esi_bytes authorities;
    enum es_err err = ES_OK;

    esi_bytes_init(&authorities, CERT_FILE_BYTES_MAX + 1);
    entry->library = wolfSSL_CTX_new(options->role == TLS_SERVER ? wolfSSLv23_server_method()
                                                                 : wolfSSLv23_client_method());
    if (entry->library == NULL || !make_safe(entry->library, options)) {
        err = refuse(error, ES_NO_MEMORY, "TLS: the library cannot be set up");
    }
    if (err == ES_OK && options->root_ca_path != NULL) {
        err = read_file(env, options->root_ca_path, CERT_FILE_BYTES_MAX, &authorities, error);
        if (err == ES_OK) {
            err = load_authorities(entry->library, options->root_ca_path,
                                   esi_bytes_str(&authorities), error);
        }
    }
    if (err == ES_OK && certificate != NULL) {
        err = load_chain(env, entry, certificate->cert_path, error);
        if (err == ES_OK) {
            err = load_key(env, entry, certificate, error);
        }
    }
    esi_bytes_deinit(&authorities);
    free(entry->der); /* was needed for the check of the key */
    entry->der = NULL;
    wolfSSL_ERR_clear_error();
    return err;
}

/* Refuses options that contradict each other, so that a slip never switches a check off. */
static enum es_err check_options(const struct esi_tls_options *options, struct es_error *error)
{
    if (options->role == TLS_SERVER && options->certificate_count == 0) {
        return refuse(error, ES_INVALID, "tls: a server needs cert_path and key_path");
    }
    if (options->role == TLS_CLIENT && options->certificate_count > 1) {
        return refuse(error, ES_INVALID, "tls: a client has one certificate at most");
    }
    for (size_t i = 0; i < options->certificate_count; i++) {
        if (options->certificates[i].cert_path == NULL ||
            options->certificates[i].key_path == NULL) {
            return refuse(error, ES_INVALID, "tls: cert_path and key_path are needed together");
        }
    }
    if (options->pinned_cert_path != NULL &&
        (options->role == TLS_SERVER || options->root_ca_path != NULL)) {
        return refuse(error, ES_INVALID, "tls: a pinned certificate is for clients, and alone");
    }
    if (options->verify_peer !=
        (options->root_ca_path != NULL || options->pinned_cert_path != NULL)) {
        return refuse(error, ES_INVALID,
                      "tls: checking the peer and root_ca_path are needed together");
    }
    if (options->role == TLS_CLIENT && options->verify_peer == options->insecure) {
        return refuse(error, ES_INVALID, "tls: a client needs root_ca_path");
    }
    if (options->allowed_name_count > 0 && !options->verify_peer) {
        return refuse(error, ES_INVALID, "tls: allowed_names need root_ca_path");
    }
    if (options->alpn != NULL &&
        (options->alpn[0] == '\0' || strlen(options->alpn) > ALPN_BYTES_MAX)) {
        return refuse(error, ES_INVALID, "tls: the ALPN protocol has 1 to %d bytes",
                      ALPN_BYTES_MAX);
    }
    return ES_OK;
}

static void free_context(struct esi_tls_context *context)
{
    for (size_t i = 0; i < context->entry_count; i++) {
        wolfSSL_CTX_free(context->entries[i].library);
        esi_certificate_free(context->entries[i].self);
        free(context->entries[i].der);
    }
    free(context->entries);
    for (size_t i = 0; i < context->allowed_name_count; i++) {
        free(context->allowed_names[i]);
    }
    free(context->allowed_names);
    free(context->pinned);
    free(context);
    (void)
        wolfSSL_Cleanup(); /* counted: the last one frees what the library keeps for the process */
}

/* Copies names and allocates the entries, all empty. */
static enum es_err fill_context(struct esi_tls_context *context,
                                const struct esi_tls_options *options)
{
    const size_t entry_count = options->certificate_count > 0 ? options->certificate_count : 1;

    context->role = options->role;
    context->is_verifying = options->verify_peer;
    if (options->alpn != NULL) {
        memcpy(context->alpn, options->alpn, strlen(options->alpn) + 1);
    }
    context->entries = calloc(entry_count, sizeof(*context->entries));
    context->allowed_names = calloc(options->allowed_name_count + 1, sizeof(char *));
    if (context->entries == NULL || context->allowed_names == NULL) {
        return ES_NO_MEMORY;
    }
    context->entry_count = entry_count;
    for (size_t i = 0; i < options->allowed_name_count; i++) {
        context->allowed_names[i] = esi_str_dup(esi_str_from(options->allowed_names[i]));
        if (context->allowed_names[i] == NULL) {
            return ES_NO_MEMORY;
        }
        context->allowed_name_count = i + 1;
    }
    return ES_OK;
}

/* Reads the one certificate that a server may show. */
static enum es_err read_pinned(struct esi_env *env, struct esi_tls_context *context,
                               const char *path, struct es_error *error)
{
    struct esi_bytes text;
    struct esi_str rest;
    struct esi_str block;

    esi_bytes_init(&text, CERT_FILE_BYTES_MAX + 1);
    enum es_err err = read_file(env, path, CERT_FILE_BYTES_MAX, &text, error);
    rest = esi_bytes_str(&text);
    if (err == ES_OK && take_pem_certificate(&rest, &block)) {
        decode_pem(block, &context->pinned, &context->pinned_len);
        if (context->pinned == NULL) {
            err = refuse(error, ES_NO_MEMORY, "%s: %s", path, es_err_text(ES_NO_MEMORY));
        } else if (context->pinned_len == 0) {
            err = refuse(error, ES_INVALID, "%s: the certificate is broken", path);
        }
    } else if (err == ES_OK) {
        err = refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
    }
    esi_bytes_deinit(&text);
    return err;
}

enum es_err esi_tls_context_new(struct esi_env *env, const struct esi_tls_options *options,
                                struct esi_tls_context **out, struct es_error *error)
{
    struct esi_tls_context *context;
    enum es_err err = check_options(options, error);

    if (err != ES_OK) {
        return err;
    }
    context = calloc(1, sizeof(*context));
    if (context == NULL || wolfSSL_Init() != WOLFSSL_SUCCESS) {
        free(context);
        return refuse(error, ES_NO_MEMORY, "TLS: the library cannot be set up");
    }
    atomic_init(&context->refs, 1);
    err = fill_context(context, options);
    if (err != ES_OK) {
        refuse(error, err, "TLS: %s", es_err_text(err));
    }
    if (err == ES_OK && options->pinned_cert_path != NULL) {
        err = read_pinned(env, context, options->pinned_cert_path, error);
    }
    for (size_t i = 0; err == ES_OK && i < context->entry_count; i++) {
        err = make_entry(env, options,
                         options->certificate_count > 0 ? &options->certificates[i] : NULL,
                         &context->entries[i], error);
    }
    if (err != ES_OK) {
        free_context(context);
        return err;
    }
    *out = context;
    return ES_OK;
}

struct esi_tls_context *esi_tls_context_ref(struct esi_tls_context *context)
{
    /* order: relaxed; the caller holds a reference already, so the content is ordered by how it got
     * that one. */
    const uint32_t before = atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);

    ESI_ASSERT(before > 0);
    return context;
}

void esi_tls_context_unref(struct esi_tls_context *context)
{
    if (context == NULL) {
        return;
    }
    /* order: acq_rel; release: our use ends before the free; acquire: the last holder sees that all
     * others' has. */
    if (atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) == 1) {
        free_context(context);
    }
}

int64_t esi_tls_context_not_after_s(const struct esi_tls_context *context)
{
    int64_t first = 0;

    for (size_t i = 0; i < context->entry_count; i++) {
        const struct esi_peer_identity *self = context->entries[i].self;
        if (self != NULL && (first == 0 || self->not_after_s < first)) {
            first = self->not_after_s;
        }
    }
    return first;
}

bool esi_tls_context_is_verifying(const struct esi_tls_context *context)
{
    return context->is_verifying;
}

const char *esi_tls_build_name(void)
{
    return ESI_WOLFSSL_BUILD " " LIBWOLFSSL_VERSION_STRING;
}

uint32_t esi_tls_measure(struct esi_env *env)
{
    static const uint8_t key[16] = {1};
    uint8_t nonce[12] = {0};
    uint8_t tag[16];
    uint8_t *record = calloc(1, ESI_TLS_RECORD_MAX);
    Aes *aes = calloc(1, sizeof(*aes)); /* with its tables too large for a stack */
    uint64_t took_ns = 0;

    if (record != NULL && aes != NULL && wc_AesInit(aes, NULL, INVALID_DEVID) == 0) {
        if (wc_AesGcmSetKey(aes, key, sizeof(key)) == 0) {
            const uint64_t start_ns = esi_env_now_ns(env);
            for (int i = 0; i < MEASURED_BYTES / ESI_TLS_RECORD_MAX; i++) {
                nonce[0] = (uint8_t)i;
                (void)wc_AesGcmEncrypt(aes, record, record, ESI_TLS_RECORD_MAX, nonce,
                                       sizeof(nonce), tag, sizeof(tag), NULL, 0);
            }
            took_ns = esi_env_now_ns(env) - start_ns;
            took_ns += took_ns == 0;
        }
        wc_AesFree(aes);
    }
    free(record);
    free(aes);
    return took_ns == 0 ? 0 : (uint32_t)((uint64_t)MEASURED_BYTES * 1000 / took_ns);
}

/* --- session --- */

/* The entry whose certificate is for this server name, else the first. */
static const struct tls_entry *choose_entry(const struct esi_tls_context *context, const char *name)
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
        char protocol[ALPN_BYTES_MAX + 1];
        memcpy(protocol, context->alpn, sizeof(protocol));
        if (wolfSSL_UseALPN(session->library, protocol, (unsigned)strlen(protocol),
                            WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) != WOLFSSL_SUCCESS) {
            return false;
        }
    }
    return true;
}

/*
 * Debian's build keeps points of curves for each thread, up to 12 MB, and leaves them behind where
 * the thread ends without a word to the library.
 */
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end;
static bool has_thread_end;

static void end_thread(void *mark)
{
    (void)mark;
    free_curve_cache();
}

static void make_thread_end(void)
{
    /* Fails only where a process has made a thousand of them; then memory is left as before. */
    has_thread_end = pthread_key_create(&thread_end, end_thread) == 0;
}

static void note_thread(void)
{
    (void)pthread_once(&thread_end_once, make_thread_end);
    if (has_thread_end) {
        (void)pthread_setspecific(thread_end, &thread_end);
    }
}

enum es_err esi_tls_session_new(struct esi_tls_context *context, struct esi_str server_name,
                                const struct esi_tls_transport *transport,
                                struct esi_tls_session **out)
{
    struct esi_tls_session *session;

    note_thread();
    if (server_name.len > SERVER_NAME_BYTES_MAX ||
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
    char reason[WOLFSSL_MAX_ERROR_SZ];
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
             text != NULL ? text : library_text(code, reason));
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
            session->ended = ES_CLOSED; /* close_notify: an orderly end, no failure */
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
    result = session->context->role == TLS_SERVER ? wolfSSL_accept(session->library)
                                                  : wolfSSL_connect(session->library);
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
    size_t total = 0;

    if (session->ended != ES_OK) {
        return session->ended;
    }
    if (!session->is_done) {
        return ES_AGAIN;
    }
    /* The library gives one record a call. */
    while (total < capacity) {
        const size_t room = capacity - total;
        const int result = wolfSSL_read(session->library, (char *)buffer + total,
                                        room < INT32_MAX ? (int)room : INT32_MAX);
        if (result <= 0) {
            const enum es_err err = judge(session, result);
            if (total == 0) {
                return err;
            }
            break; /* an end is told by the next call */
        }
        total += (size_t)result;
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
    result = wolfSSL_write(session->library, data, (int)len);
    if (result == (int)len) {
        return ES_OK;
    }
    err = judge(session, result);
    if (err == ES_AGAIN) {
        /* The transport promised room: a repetition would have to bring the same bytes, which
         * nobody kept. */
        snprintf(session->failure, sizeof(session->failure), "a record was written in part");
        session->ended = ES_TLS;
    }
    return session->ended;
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
    return wolfSSL_pending(session->library) > 0;
}

bool esi_tls_session_wants_write(const struct esi_tls_session *session)
{
    return session->wants_write;
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
