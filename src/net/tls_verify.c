/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the peer who it must be? The library checks chain, dates and key usage; names, and a pinned
 * certificate, are checked here.
 */
#include "net/tls_internal.h"

#include <stdio.h>
#include <string.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include "net/certificate.h"

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
int esi_tls_verify_peer(int is_chain_good, WOLFSSL_X509_STORE_CTX *store)
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
