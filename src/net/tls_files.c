/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Certificates, keys and authorities from PEM files. A file is good as a whole or refused; what was
 * read of a key is wiped.
 */
#include "net/tls_internal.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "base/bytes.h"
#include "base/crypto.h"
#include "env/env.h"
#include "net/certificate.h"

enum {
    CERT_FILE_BYTES_MAX = 4 << 20, /* a system's whole bundle of authorities is 220 KB */
    KEY_FILE_BYTES_MAX = 64 << 10
};

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
        return esi_tls_refuse(error, err, "%s: cannot be read: %s", path, es_err_text(err));
    }
    if (out->len == 0) {
        return esi_tls_refuse(error, ES_INVALID, "%s: the file is empty", path);
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

/* All authorities of a file's text. */
static enum es_err load_each(WOLFSSL_CTX *library, const char *path, struct esi_str text,
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
            return esi_tls_refuse(error, err, "%s: certificate %zu %s", path, count, problem);
        }
    }
    if (count == 0) {
        return esi_tls_refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
    }
    if (expired_count == count) {
        return esi_tls_refuse(error, ES_INVALID, "%s: all authorities in it have expired", path);
    }
    if (!forget_trusted_peers(library)) {
        return esi_tls_refuse(error, ES_NO_MEMORY, "%s: cannot be loaded", path);
    }
    return ES_OK;
}

enum es_err esi_tls_files_load_authorities(struct esi_env *env, WOLFSSL_CTX *library,
                                           const char *path, struct es_error *error)
{
    struct esi_bytes text;

    esi_bytes_init(&text, CERT_FILE_BYTES_MAX + 1);
    enum es_err err = read_file(env, path, CERT_FILE_BYTES_MAX, &text, error);
    if (err == ES_OK) {
        err = load_each(library, path, esi_bytes_str(&text), error);
    }
    esi_bytes_deinit(&text);
    return err;
}

/* Loads the chain of one entry and remembers whom it names. */
static enum es_err load_chain(struct esi_env *env, struct esi_tls_entry *entry, const char *path,
                              struct es_error *error)
{
    char reason[TLS_LIBRARY_TEXT_BYTES];
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
        err = esi_tls_refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
        goto end;
    }
    err = read_certificate(block, &entry->self);
    if (err != ES_OK) {
        err = esi_tls_refuse(error, err, "%s: the certificate is not usable: %s", path,
                             es_err_text(err));
        goto end;
    }
    decode_pem(block, &entry->der, &entry->der_len);
    if (entry->der == NULL) {
        err = esi_tls_refuse(error, ES_NO_MEMORY, "%s: %s", path, es_err_text(ES_NO_MEMORY));
        goto end;
    }
    result = wolfSSL_CTX_use_certificate_chain_buffer(
        entry->library, (const unsigned char *)text.data, (long)text.len);
    if (result != WOLFSSL_SUCCESS) {
        err = esi_tls_refuse(error, ES_INVALID, "%s: the certificate is not usable: %s", path,
                             esi_tls_library_text(result, reason));
    }
end:
    esi_bytes_deinit(&text);
    return err;
}

/*
 * False when the key is one of an elliptic curve and its public half is not in the certificate. The
 * library's own check believes any key of the right curve, in Debian's build.
 */
static bool is_ecc_key_of(const struct esi_tls_entry *entry, struct esi_str pem)
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
static enum es_err load_key(struct esi_env *env, struct esi_tls_entry *entry,
                            const struct esi_tls_certificate *paths, struct es_error *error)
{
    static const char encrypted[] = "ENCRYPTED";
    char reason[TLS_LIBRARY_TEXT_BYTES];
    struct esi_bytes text;
    enum es_err err;
    int result;

    esi_bytes_init(&text, KEY_FILE_BYTES_MAX + 1);
    err = read_file(env, paths->key_path, KEY_FILE_BYTES_MAX, &text, error);
    if (err != ES_OK) {
        goto end;
    }
    if (memmem(text.data, text.len, encrypted, sizeof(encrypted) - 1) != NULL) {
        err = esi_tls_refuse(error, ES_INVALID,
                             "%s: the key has a pass phrase, which is not supported",
                             paths->key_path);
        goto end;
    }
    result = wolfSSL_CTX_use_PrivateKey_buffer(entry->library, (const unsigned char *)text.data,
                                               (long)text.len, WOLFSSL_FILETYPE_PEM);
    if (result != WOLFSSL_SUCCESS) {
        err = esi_tls_refuse(error, ES_INVALID, "%s: holds no usable PEM private key: %s",
                             paths->key_path, esi_tls_library_text(result, reason));
        goto end;
    }
    if (wolfSSL_CTX_check_private_key(entry->library) != WOLFSSL_SUCCESS ||
        !is_ecc_key_of(entry, esi_bytes_str(&text))) {
        err = esi_tls_refuse(error, ES_INVALID, "%s: the key does not belong to the certificate %s",
                             paths->key_path, paths->cert_path);
    }
end:
    esi_bytes_wipe(&text);
    wolfSSL_ERR_clear_error();
    return err;
}

enum es_err esi_tls_files_load_pair(struct esi_env *env, struct esi_tls_entry *entry,
                                    const struct esi_tls_certificate *paths, struct es_error *error)
{
    enum es_err err = load_chain(env, entry, paths->cert_path, error);

    if (err == ES_OK) {
        err = load_key(env, entry, paths, error);
    }
    free(entry->der); /* was needed for the check of the key */
    entry->der = NULL;
    return err;
}

enum es_err esi_tls_files_read_pinned(struct esi_env *env, const char *path, unsigned char **der,
                                      size_t *der_len, struct es_error *error)
{
    unsigned char *made = NULL;
    size_t made_len = 0;
    struct esi_bytes text;
    struct esi_str rest;
    struct esi_str block;

    esi_bytes_init(&text, CERT_FILE_BYTES_MAX + 1);
    enum es_err err = read_file(env, path, CERT_FILE_BYTES_MAX, &text, error);
    rest = esi_bytes_str(&text);
    if (err == ES_OK && take_pem_certificate(&rest, &block)) {
        decode_pem(block, &made, &made_len);
        if (made == NULL) {
            err = esi_tls_refuse(error, ES_NO_MEMORY, "%s: %s", path, es_err_text(ES_NO_MEMORY));
        } else if (made_len == 0) {
            err = esi_tls_refuse(error, ES_INVALID, "%s: the certificate is broken", path);
        }
    } else if (err == ES_OK) {
        err = esi_tls_refuse(error, ES_INVALID, "%s: holds no PEM certificate", path);
    }
    esi_bytes_deinit(&text);
    if (err != ES_OK) {
        free(made);
        return err;
    }
    *der = made;
    *der_len = made_len;
    return ES_OK;
}
