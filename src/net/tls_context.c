/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settings of TLS: the one place where safety is decided.
 *
 * Why things are done by hand here that the library offers too: Debian's build is made with
 * OPENSSL_COMPATIBLE_DEFAULTS, under which a fresh context verifies nobody, allows old versions,
 * repeats reads by itself and takes each authority for a trusted peer as well. So every setting is
 * made, whatever its default; the peer's names are checked in our own verify callback
 * (tls_verify.c; called in both builds for each leaf); and authorities are loaded one by one, since
 * the library calls a bundle loaded when any one of it was.
 */
#include "net/tls_internal.h"

#include <stdlib.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "base/assert.h"
#include "net/certificate.h"

enum { RSA_BITS_MIN = 2048, ECC_BITS_MIN = 256 };

/* Forward secrecy and authenticated encryption alone; AES-128 first, which is the fastest. */
static const char cipher_list[] =
    "TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/* What every context has in common: the one place where safety is decided. False: out of memory. */
static bool make_safe(WOLFSSL_CTX *library, const struct esi_tls_options *options)
{
    const int verify = options->verify_peer
                           ? WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT
                           : WOLFSSL_VERIFY_NONE;
    const int version = options->min_version == TLS_VERSION_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2;

    wolfSSL_CTX_set_verify(library, verify, options->verify_peer ? esi_tls_verify_peer : NULL);
    wolfSSL_CTX_clear_mode(library, SSL_MODE_AUTO_RETRY);
    wolfSSL_CTX_SetIORecv(library, esi_tls_session_receive);
    wolfSSL_CTX_SetIOSend(library, esi_tls_session_send);
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
                              struct esi_tls_entry *entry, struct es_error *error)
{
    enum es_err err = ES_OK;

    esi_tls_count_memory();
    entry->library = wolfSSL_CTX_new(options->role == TLS_SERVER ? wolfSSLv23_server_method()
                                                                 : wolfSSLv23_client_method());
    if (entry->library == NULL || !make_safe(entry->library, options)) {
        err = esi_tls_refuse(error, ES_NO_MEMORY, "TLS: the library cannot be set up");
    }
    if (err == ES_OK && options->root_ca_path != NULL) {
        err = esi_tls_files_load_authorities(env, entry->library, options->root_ca_path, error);
    }
    if (err == ES_OK && certificate != NULL) {
        err = esi_tls_files_load_pair(env, entry, certificate, error);
    }
    wolfSSL_ERR_clear_error();
    return err;
}

/* Refuses options that contradict each other, so that a slip never switches a check off. */
static enum es_err check_options(const struct esi_tls_options *options, struct es_error *error)
{
    if (options->role == TLS_SERVER && options->certificate_count == 0) {
        return esi_tls_refuse(error, ES_INVALID, "tls: a server needs cert_path and key_path");
    }
    if (options->role == TLS_CLIENT && options->certificate_count > 1) {
        return esi_tls_refuse(error, ES_INVALID, "tls: a client has one certificate at most");
    }
    for (size_t i = 0; i < options->certificate_count; i++) {
        if (options->certificates[i].cert_path == NULL ||
            options->certificates[i].key_path == NULL) {
            return esi_tls_refuse(error, ES_INVALID,
                                  "tls: cert_path and key_path are needed together");
        }
    }
    if (options->pinned_cert_path != NULL &&
        (options->role == TLS_SERVER || options->root_ca_path != NULL)) {
        return esi_tls_refuse(error, ES_INVALID,
                              "tls: a pinned certificate is for clients, and alone");
    }
    if (options->verify_peer !=
        (options->root_ca_path != NULL || options->pinned_cert_path != NULL)) {
        return esi_tls_refuse(error, ES_INVALID,
                              "tls: checking the peer and root_ca_path are needed together");
    }
    if (options->role == TLS_CLIENT && options->verify_peer == options->insecure) {
        return esi_tls_refuse(error, ES_INVALID, "tls: a client needs root_ca_path");
    }
    if (options->allowed_name_count > 0 && !options->verify_peer) {
        return esi_tls_refuse(error, ES_INVALID, "tls: allowed_names need root_ca_path");
    }
    if (options->alpn != NULL &&
        (options->alpn[0] == '\0' || strlen(options->alpn) > TLS_ALPN_BYTES_MAX)) {
        return esi_tls_refuse(error, ES_INVALID, "tls: the ALPN protocol has 1 to %d bytes",
                              TLS_ALPN_BYTES_MAX);
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
        return esi_tls_refuse(error, ES_NO_MEMORY, "TLS: the library cannot be set up");
    }
    atomic_init(&context->refs, 1);
    err = fill_context(context, options);
    if (err != ES_OK) {
        esi_tls_refuse(error, err, "TLS: %s", es_err_text(err));
    }
    if (err == ES_OK && options->pinned_cert_path != NULL) {
        err = esi_tls_files_read_pinned(env, options->pinned_cert_path, &context->pinned,
                                        &context->pinned_len, error);
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
