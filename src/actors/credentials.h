/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may come in: the users and the token of a configuration, compiled once, the user of gateway
 * connections, and the token of the health check. Judges what can be judged at once, and says what
 * must be computed elsewhere first (bcrypt). No plain secret is kept: digests alone, compared in
 * constant time.
 *
 * Clients and gateways have nothing in common: the secret of one is none for the other. Order for
 * clients, as nats-server's: users, then the token, then the token file. Whoever names a user is
 * judged as that user alone, also when a token came with it.
 *
 * Threads: made at start, then the authenticator's worker alone.
 */
#pragma once

#include "auth/permissions.h"
#include "auth/token_file.h"
#include "base/crypto.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_auth_check;
struct esi_config;
struct esi_credential;
struct esi_credentials;
struct esi_env;

enum esi_credentials_answer {
    CREDENTIALS_REFUSED,
    CREDENTIALS_ACCEPTED, /* the check's verdict is filled in */
    CREDENTIALS_SLOW      /* a password hash must be computed first */
};

/* What to compute for CREDENTIALS_SLOW, off the workers. */
struct esi_credentials_slow {
    const char *hash; /* bcrypt; borrowed from the configuration */
    struct esi_credential
        *who; /* borrowed; NULL: nobody, refused whatever comes out (so that it takes as long) */
    struct esi_str *secret;               /* borrowed: the check's own field with the password */
    uint8_t key[ESI_CRYPTO_SHA256_BYTES]; /* the same for the same question; tells nothing of the
                                             secret */
};

/*
 * Compiles users, token and permissions.
 *   config  borrowed until esi_credentials_free
 *   error   on failure: which permissions are wrong
 * Errors: ES_INVALID, ES_TOO_LARGE, ES_NO_MEMORY. Thread: any, before others use it.
 */
ES_MUST_USE enum es_err esi_credentials_new(const struct esi_config *config, struct esi_env *env,
                                            struct esi_credentials **out, struct es_error *error);
/* Wipes digests and frees; NULL is accepted. Permissions that verdicts hold live on. */
void esi_credentials_free(struct esi_credentials *credentials);

/* The token that the health check may come in by; borrowed for the call. ES_NO_MEMORY, ES_INVALID
 * (never). */
ES_MUST_USE enum es_err esi_credentials_set_health_token(struct esi_credentials *credentials,
                                                         struct esi_str token);

/*
 * Judges a check.
 *   tokens   the token file's set, borrowed; NULL: none
 *   now_ns   monotonic, for remembered verdicts
 *   wall_ns  wall clock, for expiry
 *   slow     written for CREDENTIALS_SLOW only
 */
enum esi_credentials_answer esi_credentials_judge(struct esi_credentials *credentials,
                                                  struct esi_auth_check *check,
                                                  const struct esi_token_file *tokens,
                                                  uint64_t now_ns, int64_t wall_ns,
                                                  struct esi_credentials_slow *slow);
/* The password of `who` (may be NULL: nobody) was right: remembers that until auth.cache_ttl has
 * passed. */
void esi_credentials_remember(struct esi_credentials *credentials, struct esi_credential *who,
                              const uint8_t key[ESI_CRYPTO_SHA256_BYTES], uint64_t now_ns);
/* Fills a check's verdict in for `who`; with NULL, or when memory is exhausted, it stays a refusal.
 */
void esi_credentials_accept(const struct esi_credential *who, struct esi_auth_check *check);
/* The number of users. */
size_t esi_credentials_user_count(const struct esi_credentials *credentials);
