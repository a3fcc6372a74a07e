/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a command line or an embedder does about access: tokens of the configured token file, and
 * the health check of a running server. All of these block (files, sockets) and may be called by
 * any thread.
 */
#pragma once

#include <eventservice/eventservice.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A token to make. Texts are borrowed; NULL: not given. */
struct es_token_request {
    const char *name;    /* 1 to 64 letters, digits, '.', '_' and '-' */
    const char *expires; /* a time (RFC 3339: "2027-01-31T12:00:00Z") or from now ("24h", "30d");
                            NULL: never */
    /* subjects with commas between; NULL: event.>, habitat.event.* and _INBOX.> */
    const char *publish;
    const char *subscribe; /* the same; NULL: _INBOX.> */
};

/*
 * Makes a token and writes its hash to auth.token_file, which is made (mode 0600) where there is
 * none. A running server takes it in about two seconds. Edits of several processes do not disturb
 * each other.
 *   token  on success: the token, which is kept nowhere else; owned by the caller: es_token_free
 *   error  on failure: why, in one line; may be NULL
 * Errors: ES_UNSUPPORTED (the configuration has no auth.token_file), ES_INVALID (the file is wrong,
 * or a field of the request), ES_EXISTS (the name is taken), ES_DENIED, ES_NOT_FOUND (no such
 * folder), ES_TOO_LARGE, ES_IO, ES_NO_MEMORY.
 */
enum es_err es_token_add(const struct es_config *config, const struct es_token_request *request,
                         char **token, struct es_error *error);
/* Wipes and frees; NULL is accepted. */
void es_token_free(char *token);
/*
 * A table for people: a header line, then a line a token with tabs between name, expiry ("never", a
 * time, "expired" and a time), publish and subscribe subjects. No hashes.
 *   table  on success: owned by the caller (free). Where the file does not exist yet there are no
 *          tokens
 * Errors: as es_token_add.
 */
enum es_err es_token_list(const struct es_config *config, char **table, struct es_error *error);
/*
 * Removes a token; a running server closes the connections that came in by it.
 * Errors: as es_token_add, and ES_NOT_FOUND (no token of that name).
 */
enum es_err es_token_revoke(const struct es_config *config, const char *name,
                            struct es_error *error);

/*
 * Does the server of this configuration work? Connects to where its clients do, with the token that
 * it wrote at start to service.health_check_credentials_file, and sends itself a request, whose
 * bytes must come back. With TLS the server must show a certificate of tls.root_ca_path for its
 * host, or exactly the first one of frontend_tls.
 *   timeout_ms  for the request, and again for each step before it: to connect, and to be greeted
 *   error       on failure: what failed, in one line; may be NULL
 * Errors: ES_UNSUPPORTED (the configuration names no such file, or no fixed port), ES_NOT_FOUND,
 * ES_DENIED (the file, or the server refused the token), ES_UNREACHABLE, ES_TIMEOUT, ES_TLS,
 * ES_CLOSED, ES_INVALID (it speaks no NATS, or gave other bytes back), ES_IO, ES_NO_MEMORY.
 */
enum es_err es_health_check(const struct es_config *config, uint32_t timeout_ms,
                            struct es_error *error);

#ifdef __cplusplus
}
#endif
