/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wolfCrypt and libcrypt behind base/crypto.h. wolfssl/options.h comes first: the layout of
 * wolfCrypt's structs depends on how the library was built.
 */
#include "base/crypto.h"

#include <stdlib.h>
#include <string.h>

#include <crypt.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/sha256.h>

#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"

enum {
    BCRYPT_HEAD = 7,           /* "$2b$11$" */
    BCRYPT_LEN = 60,           /* head, 22 characters of salt, 31 of hash */
    BCRYPT_PASSWORD_MAX = 72,  /* bcrypt looks at no more */
    HASH_STEP_BYTES = 1 << 30, /* wolfCrypt counts in 32 bits */
    NOT_A_DIGIT = 0xff
};

static const char base64_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void esi_crypto_sha256(const void *data, size_t len, uint8_t out[ESI_CRYPTO_SHA256_BYTES])
{
    const uint8_t *bytes = data;
    wc_Sha256 hash;
    int result;

    ESI_REQUIRE(data != NULL || len == 0);
    /* Fails for missing arguments alone, and where the library was built for small stacks; neither
     * happens here. */
    result = wc_InitSha256(&hash);
    while (result == 0 && len > 0) {
        const size_t step = len < HASH_STEP_BYTES ? len : HASH_STEP_BYTES;
        result = wc_Sha256Update(&hash, bytes, (word32)step);
        bytes += step;
        len -= step;
    }
    if (result == 0) {
        result = wc_Sha256Final(&hash, out);
    }
    ESI_ASSERT(result == 0);
    wc_Sha256Free(&hash);
    esi_crypto_wipe(&hash, sizeof(hash));
}

void esi_crypto_sha256_hex(const void *data, size_t len, char out[ESI_CRYPTO_SHA256_HEX_BYTES])
{
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES];
    enum es_err err;

    esi_crypto_sha256(data, len, digest);
    err = esi_crypto_hex_encode(digest, sizeof(digest), out, ESI_CRYPTO_SHA256_HEX_BYTES);
    ESI_ASSERT(err == ES_OK);
    esi_crypto_wipe(digest, sizeof(digest));
}

bool esi_crypto_equal(struct esi_str a, struct esi_str b)
{
    unsigned difference = 0;

    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        difference |= (unsigned)(unsigned char)a.data[i] ^ (unsigned)(unsigned char)b.data[i];
        /* Hides the value from the optimiser, which could otherwise leave the loop at the first
         * difference. */
        __asm__("" : "+r"(difference));
    }
    return difference == 0;
}

void esi_crypto_wipe(void *data, size_t len)
{
    if (len > 0) {
        explicit_bzero(data, len);
    }
}

void esi_crypto_free(void *secret, size_t len)
{
    if (secret != NULL) {
        esi_crypto_wipe(secret, len);
        free(secret);
    }
}

void esi_crypto_free_text(char *secret)
{
    esi_crypto_free(secret, secret != NULL ? strlen(secret) : 0);
}

enum es_err esi_crypto_hex_encode(const void *data, size_t len, char *out, size_t capacity)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    if (capacity == 0 || len > (capacity - 1) / 2) {
        return ES_TOO_LARGE;
    }
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return ES_OK;
}

enum es_err esi_crypto_hex_decode(struct esi_str text, void *out, size_t capacity, size_t *len)
{
    uint8_t *bytes = out;

    if (text.len % 2 != 0) {
        return ES_INVALID;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (esi_num_hex_digit(text.data[i]) < 0) {
            return ES_INVALID;
        }
    }
    if (text.len / 2 > capacity) {
        return ES_TOO_LARGE;
    }
    for (size_t i = 0; i < text.len / 2; i++) {
        bytes[i] = (uint8_t)(esi_num_hex_digit(text.data[2 * i]) * 16 +
                             esi_num_hex_digit(text.data[2 * i + 1]));
    }
    *len = text.len / 2;
    return ES_OK;
}

/* Writes the digits of whole and broken groups, without padding or NUL; there is room. Returns
 * their count. */
static size_t write_base64(const char *digits, const uint8_t *bytes, size_t len, char *out)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i += 3) {
        const size_t left = len - i;
        const uint32_t group = (uint32_t)bytes[i] << 16 |
                               (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                               (left > 2 ? (uint32_t)bytes[i + 2] : 0);
        out[count++] = digits[group >> 18 & 63];
        out[count++] = digits[group >> 12 & 63];
        if (left > 1) {
            out[count++] = digits[group >> 6 & 63];
        }
        if (left > 2) {
            out[count++] = digits[group & 63];
        }
    }
    return count;
}

enum es_err esi_crypto_base64_encode(const void *data, size_t len, char *out, size_t capacity)
{
    size_t count;

    if (len > SIZE_MAX / 4 || capacity < ESI_CRYPTO_BASE64_CAPACITY(len)) {
        return ES_TOO_LARGE;
    }
    count = write_base64(base64_standard, data, len, out);
    while (count % 4 != 0) {
        out[count++] = '=';
    }
    out[count] = '\0';
    return ES_OK;
}

enum es_err esi_crypto_base64url_encode(const void *data, size_t len, char *out, size_t capacity)
{
    if (len > SIZE_MAX / 4 || capacity < len / 3 * 4 + (len % 3 != 0 ? len % 3 + 1 : 0) + 1) {
        return ES_TOO_LARGE;
    }
    out[write_base64(base64_url, data, len, out)] = '\0';
    return ES_OK;
}

/* The value of a base64 digit; plus and slash are the alphabet's last two. NOT_A_DIGIT for any
 * other. */
static unsigned base64_value(char c, char plus, char slash)
{
    if (c >= 'A' && c <= 'Z') {
        return (unsigned)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (unsigned)(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0') + 52;
    }
    if (c == plus) {
        return 62;
    }
    return c == slash ? 63 : NOT_A_DIGIT;
}

/* True when text is digits alone and its unused last bits are zero; a group of one digit cannot be.
 */
static bool is_base64(struct esi_str text)
{
    unsigned last = 0;

    if (text.len % 4 == 1) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        last = base64_value(text.data[i], '+', '/');
        if (last == NOT_A_DIGIT) {
            return false;
        }
    }
    return (text.len % 4 != 2 || (last & 15) == 0) && (text.len % 4 != 3 || (last & 3) == 0);
}

enum es_err esi_crypto_base64_decode(struct esi_str text, void *out, size_t capacity, size_t *len)
{
    uint8_t *bytes = out;
    size_t count = 0;
    uint32_t bits = 0;
    unsigned bit_count = 0;

    if (text.len % 4 != 0) {
        return ES_INVALID;
    }
    if (text.len > 0 && text.data[text.len - 1] == '=') {
        text.len -= text.data[text.len - 2] == '=' ? 2 : 1;
    }
    if (!is_base64(text)) {
        return ES_INVALID;
    }
    if (text.len / 4 * 3 + (text.len % 4 != 0 ? text.len % 4 - 1 : 0) > capacity) {
        return ES_TOO_LARGE;
    }
    for (size_t i = 0; i < text.len; i++) {
        bits = bits << 6 | base64_value(text.data[i], '+', '/');
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            bytes[count++] = (uint8_t)(bits >> bit_count);
        }
    }
    *len = count;
    return ES_OK;
}

bool esi_crypto_is_bcrypt(struct esi_str hash)
{
    const char *text = hash.data;

    if (hash.len != BCRYPT_LEN || text[0] != '$' || text[1] != '2' || text[2] == '\0' ||
        strchr("abxy", text[2]) == NULL || text[3] != '$' || text[6] != '$') {
        return false;
    }
    if (text[4] < '0' || text[4] > '3' || text[5] < '0' || text[5] > '9') {
        return false;
    }
    const int cost = (text[4] - '0') * 10 + (text[5] - '0');
    if (cost < 4 || cost > 31) {
        return false;
    }
    for (size_t i = BCRYPT_HEAD; i < BCRYPT_LEN; i++) {
        /* bcrypt's own alphabet has '.' and '/'. */
        if (base64_value(text[i], '.', '/') == NOT_A_DIGIT) {
            return false;
        }
    }
    return true;
}

enum es_err esi_crypto_check_bcrypt(struct esi_str hash, struct esi_str password)
{
    char phrase[BCRYPT_PASSWORD_MAX + 1] = {0};
    char setting[BCRYPT_LEN + 1] = {0};
    struct crypt_data *work;
    const char *made;
    enum es_err err = ES_DENIED;

    if (!esi_crypto_is_bcrypt(hash)) {
        return ES_INVALID;
    }
    if (password.len > 0 && memchr(password.data, '\0', password.len) != NULL) {
        return ES_DENIED;
    }
    work = calloc(1, sizeof(*work)); /* 32 KB: too much for a thread's stack */
    if (work == NULL) {
        return ES_NO_MEMORY;
    }
    if (password.len > 0) {
        memcpy(phrase, password.data,
               password.len < BCRYPT_PASSWORD_MAX ? password.len : BCRYPT_PASSWORD_MAX);
    }
    memcpy(setting, hash.data, hash.len);
    made = crypt_r(phrase, setting, work);
    if (made == NULL || made[0] == '*') {
        err = ES_INVALID;
    } else if (esi_crypto_equal(esi_str_from(made), hash)) {
        err = ES_OK;
    }
    esi_crypto_wipe(phrase, sizeof(phrase));
    esi_crypto_wipe(work, sizeof(*work));
    free(work);
    return err;
}
