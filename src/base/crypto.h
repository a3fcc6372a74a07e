/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The door to ciphers for everything that is not TLS: hashes, comparison in constant time, text
 * forms of bytes, and the check of passwords. The only file of this layer that sees wolfCrypt and
 * libcrypt. Invariant: what an encoder or decoder writes never passes the capacity given, and
 * nothing is written on failure.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ESI_CRYPTO_SHA256_BYTES = 32, ESI_CRYPTO_SHA256_HEX_BYTES = 65 };

/* Room in bytes, the final NUL included, for the text forms of len bytes. len at most SIZE_MAX / 4.
 */
#define ESI_CRYPTO_HEX_CAPACITY(len) ((len)*2 + 1)
#define ESI_CRYPTO_BASE64_CAPACITY(len) (((len) + 2) / 3 * 4 + 1)

/*
 * The SHA-256 of len bytes (data may be NULL when len is 0).
 * Thread: any. Cannot fail. Never allocates.
 */
void esi_crypto_sha256(const void *data, size_t len, uint8_t out[ESI_CRYPTO_SHA256_BYTES]);

/* The same as 64 lower-case hexadecimal digits and NUL. Thread: any. Cannot fail. */
void esi_crypto_sha256_hex(const void *data, size_t len, char out[ESI_CRYPTO_SHA256_HEX_BYTES]);

/*
 * True when both runs hold the same bytes. The time taken depends on the lengths alone, never on
 * the content. Thread: any.
 */
bool esi_crypto_equal(struct esi_str a, struct esi_str b);

/* Overwrites a secret so that the compiler cannot leave it out. NULL with len 0 is accepted.
 * Thread: any. */
void esi_crypto_wipe(void *data, size_t len);

/* Wipes, then frees what malloc gave; NULL is accepted. The second one is for texts ended by NUL.
 * Thread: any. */
void esi_crypto_free(void *secret, size_t len);
void esi_crypto_free_text(char *secret);

/*
 * Lower-case hexadecimal digits and NUL.
 *   capacity   bytes at out, at least ESI_CRYPTO_HEX_CAPACITY(len)
 * Errors: ES_TOO_LARGE. Thread: any.
 */
ES_MUST_USE enum es_err esi_crypto_hex_encode(const void *data, size_t len, char *out,
                                              size_t capacity);

/*
 * The bytes that an even number of hexadecimal digits (either case) stand for.
 *   *len   bytes written to out
 * Errors: ES_INVALID (another character, odd count), ES_TOO_LARGE (over capacity). Thread: any.
 */
ES_MUST_USE enum es_err esi_crypto_hex_decode(struct esi_str text, void *out, size_t capacity,
                                              size_t *len);

/*
 * Base64 of RFC 4648 section 4, padded with '=', and NUL.
 *   capacity   bytes at out, at least ESI_CRYPTO_BASE64_CAPACITY(len)
 * Errors: ES_TOO_LARGE. Thread: any.
 */
ES_MUST_USE enum es_err esi_crypto_base64_encode(const void *data, size_t len, char *out,
                                                 size_t capacity);

/*
 * Reads padded base64: no white space, padding demanded, unused bits zero (so that one value has
 * one text). Errors: ES_INVALID, ES_TOO_LARGE (over capacity). Thread: any.
 */
ES_MUST_USE enum es_err esi_crypto_base64_decode(struct esi_str text, void *out, size_t capacity,
                                                 size_t *len);

/* Base64url of RFC 4648 section 5 without padding (as in JWT and our tokens), and NUL. Otherwise as
 * base64_encode. */
ES_MUST_USE enum es_err esi_crypto_base64url_encode(const void *data, size_t len, char *out,
                                                    size_t capacity);

/* True for a whole bcrypt hash: $2a$, $2b$, $2x$ or $2y$, cost 04 to 31, 53 characters of salt and
 * hash. */
bool esi_crypto_is_bcrypt(struct esi_str hash);

/*
 * Checks a password against a bcrypt hash. SLOW ON PURPOSE (cost 11: about 130 ms of CPU, doubling
 * with each step): service threads and start only, never a worker. Only the first 72 bytes of a
 * password count, as bcrypt has it; one with a NUL byte never matches. Errors: ES_DENIED (another
 * password), ES_INVALID (not a bcrypt hash), ES_NO_MEMORY. What it needed is wiped.
 */
ES_MUST_USE enum es_err esi_crypto_check_bcrypt(struct esi_str hash, struct esi_str password);
