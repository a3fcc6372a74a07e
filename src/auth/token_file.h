/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token file: one token a line,
 *
 *     NAME SHA256HEX [expires=RFC3339] [publish=a.>,b] [subscribe=c,d.*]
 *
 * '#' starts a comment line. Only hashes are stored. One bad line refuses the whole file (fail
 * closed: the caller keeps the set that it has). A token without lists gets publish event.>,
 * habitat.event.*, _INBOX.> and subscribe _INBOX.>.
 *
 * Text in, text out: no I/O here. A parsed set is immutable; look-ups from any thread at once.
 */
#pragma once

#include "auth/permissions.h"
#include "auth/verdict.h"
#include "base/bytes.h"
#include "base/crypto.h"
#include "base/err.h"
#include "base/str.h"
#include "env/env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_token_file;

enum {
    ESI_TOKEN_FILE_NAME_MAX = 64, /* bytes of a token's name: letters, digits, '.', '_', '-' */
    ESI_TOKEN_FILE_TOKENS_MAX = 100000, /* lines with a token */
    ESI_TOKEN_FILE_SIZE_MAX = 64 * 1024 * 1024
};

/* One token as it stands in the file; borrowed from the set. */
struct esi_token {
    struct esi_str name;
    uint8_t hash[ESI_CRYPTO_SHA256_BYTES];
    int64_t expires_wall_ns; /* 0: never */
    struct esi_permissions *permissions;
};

/*
 * Parses a whole file.
 *   path   for error texts only
 *   text   the content, borrowed for the call
 *   file   owned by the caller on success: esi_token_file_free
 *   error  filled with "FILE:LINE: ..." on failure
 * Errors: ES_INVALID, ES_TOO_LARGE, ES_NO_MEMORY. A file without any token is valid and lets nobody
 * in.
 */
ES_MUST_USE enum es_err esi_token_file_parse(const char *path, struct esi_str text,
                                             struct esi_token_file **file, struct es_error *error);
/* Frees the set; NULL is accepted. Permissions that verdicts hold live on. */
void esi_token_file_free(struct esi_token_file *file);
/* The number of tokens, and each in the order of the file (index < count). */
size_t esi_token_file_count(const struct esi_token_file *file);
const struct esi_token *esi_token_file_at(const struct esi_token_file *file, size_t index);

/*
 * Judges a token.
 *   secret   the token as the peer sent it
 *   wall_ns  now, for the expiry
 *   verdict  initialised; becomes an acceptance, or stays as it was
 * Errors: ES_DENIED (unknown or expired), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_token_file_check(const struct esi_token_file *file,
                                             struct esi_str secret, int64_t wall_ns,
                                             struct esi_verdict *verdict);
/*
 * Lets a new set take over from the one before it: tokens with the same hash and the same lists get
 * the same permissions object, so that "permissions are another object" means "the rules have
 * changed". Call before anybody asks the new set.
 *   former   borrowed; NULL is accepted
 */
void esi_token_file_adopt(struct esi_token_file *file, const struct esi_token_file *former);
/* Finds a token by its hash, expired or not; NULL when it is gone: connections that came in by it
 * must be closed. */
const struct esi_token *esi_token_file_find(const struct esi_token_file *file,
                                            const uint8_t hash[ESI_CRYPTO_SHA256_BYTES]);

/* What `token add` was asked for; texts as given on the command line, NULL or empty: not given. */
struct esi_token_request {
    const char *name;
    const char *expires;   /* RFC 3339 */
    const char *publish;   /* subjects with commas between */
    const char *subscribe; /* the same */
};

enum { ESI_TOKEN_FILE_SECRET_CAPACITY = 64 };

/*
 * Makes a new token and the file's new content.
 *   path, text  the present file (empty text: a new one)
 *   out         initialised; on success holds the whole new content (no secret: only the hash)
 *   secret      on success the token, ended by NUL: 192 random bits as base64url. The caller prints
 *               and wipes it
 *   error       filled on failure
 * Errors: ES_INVALID (the file, the name, the time or a subject), ES_EXISTS (name taken),
 * ES_TOO_LARGE, ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err
esi_token_file_add(struct esi_env *env, const char *path, struct esi_str text,
                   const struct esi_token_request *request, struct esi_bytes *out,
                   char secret[ESI_TOKEN_FILE_SECRET_CAPACITY], struct es_error *error);
/*
 * Removes a token's line; everything else stays byte by byte.
 * Errors: ES_INVALID (the file), ES_NOT_FOUND, ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_token_file_revoke(const char *path, struct esi_str text,
                                              const char *name, struct esi_bytes *out,
                                              struct es_error *error);
/* Appends a table for people: name, expiry ("never", a time, "expired ..."), lists. No hashes. */
void esi_token_file_list(const struct esi_token_file *file, int64_t wall_ns, struct esi_bytes *out);
