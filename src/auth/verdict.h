/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The result of an authentication: who the peer is, what it may do, until when. Travels from the
 * authenticator to the connection by value; one owner at a time.
 */
#pragma once

#include "auth/permissions.h"
#include "base/crypto.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum esi_verdict_kind {
    VERDICT_REFUSED, /* the zero value: what nobody filled in refuses */
    VERDICT_ACCEPTED
};

struct esi_verdict {
    enum esi_verdict_kind kind;
    char *name; /* owned; user or token name for logs and monitoring, never a secret; may be NULL */
    struct esi_permissions *permissions; /* owned reference; NULL: everything is allowed */
    int64_t expires_wall_ns;             /* wall clock; 0: never */
    bool has_token_hash;
    uint8_t token_hash[ESI_CRYPTO_SHA256_BYTES]; /* finds the connections of a revoked token */
};

/* Refused, without a name. Allocates nothing. */
void esi_verdict_init(struct esi_verdict *verdict);
/* Gives up what it owns and leaves a refusal. */
void esi_verdict_deinit(struct esi_verdict *verdict);
/*
 * Makes it an acceptance.
 *   name             copied
 *   permissions      borrowed: an own reference is taken; NULL allows everything
 *   expires_wall_ns  0: never
 * Fails only with ES_NO_MEMORY, then it stays a refusal.
 */
ES_MUST_USE enum es_err esi_verdict_accept(struct esi_verdict *verdict, struct esi_str name,
                                           struct esi_permissions *permissions,
                                           int64_t expires_wall_ns);
/* Notes by which token the peer came in. */
void esi_verdict_set_token_hash(struct esi_verdict *verdict,
                                const uint8_t hash[ESI_CRYPTO_SHA256_BYTES]);
