/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names and dates in an X.509 certificate. Hand-written because the TLS library differs in this
 * from build to build, mixes names of all kinds in one list, and cuts them at NUL. Checks no
 * signature: the TLS library has verified the certificate before its names count for anything.
 * Invariant: a name that is handed out is ended by NUL and has no control byte; a certificate with
 * another is refused.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ESI_CERTIFICATE_NAMES_MAX = 256 }; /* DNS names and addresses together */

/* Who a certificate is made out to. Immutable; freed as a whole. */
struct esi_peer_identity {
    const char *common_name;      /* of the subject; "" without one */
    const char *subject;          /* the whole, as in "O=Example,CN=event-gateway"; for logs */
    const char *const *dns_names; /* of the subjectAltName, as written there */
    const char *const *ip_names;  /* of the subjectAltName, in the text form of inet_ntop */
    size_t dns_name_count;
    size_t ip_name_count;
    int64_t not_before_s; /* seconds since 1970, UTC */
    int64_t not_after_s;
    bool is_authority; /* basicConstraints say that it may sign others */
};

/*
 * Reads a certificate's DER bytes.
 *   out   owned by the caller: esi_certificate_free
 * Errors: ES_INVALID (broken, or a name with NUL, control bytes or, in a DNS name, bytes beyond
 * ASCII), ES_TOO_LARGE (more names than ESI_CERTIFICATE_NAMES_MAX, or 32 KiB of text),
 * ES_NO_MEMORY. Thread: any.
 */
ES_MUST_USE enum es_err esi_certificate_read(const void *der, size_t len,
                                             struct esi_peer_identity **out);

/* NULL is accepted. */
void esi_certificate_free(struct esi_peer_identity *identity);

/*
 * True when the certificate is good for a server of this name or numeric address: a DNS name,
 * letter case ignored, where
 * "*." stands for one label; an IP name for an address; the common name only where there is neither
 * kind.
 */
bool esi_certificate_is_for_host(const struct esi_peer_identity *identity, const char *host);

/* True when name is the common name, a DNS name or an IP name, letter case ignored. A "*" has no
 * meaning. */
bool esi_certificate_has_name(const struct esi_peer_identity *identity, const char *name);
