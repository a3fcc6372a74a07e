/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: hashes, text forms and password checks give what the standards say, and never write past
 * the room given. Method: published test vectors, every length around the groups' edges, damaged
 * input, and guard bytes behind buffers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crypto.h"
#include "base/own.h"

enum { GUARD = 0x5a };

static void sha256_matches_published_vectors(void **state)
{
    char hex[ESI_CRYPTO_SHA256_HEX_BYTES];
    char long_text[1000];

    (void)state;
    esi_crypto_sha256_hex("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    esi_crypto_sha256_hex(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    esi_crypto_sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    memset(long_text, 'a', sizeof(long_text));
    esi_crypto_sha256_hex(long_text, sizeof(long_text), hex);
    assert_string_equal(hex, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

static void equal_compares_content_and_length(void **state)
{
    (void)state;
    assert_true(esi_crypto_equal(ESI_STR("secret"), ESI_STR("secret")));
    assert_true(esi_crypto_equal(ESI_STR(""), (struct esi_str){0}));
    assert_false(esi_crypto_equal(ESI_STR("secret"), ESI_STR("secreT")));
    assert_false(esi_crypto_equal(ESI_STR("secret"), ESI_STR("Secret")));
    assert_false(esi_crypto_equal(ESI_STR("secret"), ESI_STR("secret ")));
    assert_false(esi_crypto_equal(ESI_STR("secret"), ESI_STR("")));
}

static void hex_goes_there_and_back(void **state)
{
    const uint8_t bytes[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xab};
    char text[ESI_CRYPTO_HEX_CAPACITY(sizeof(bytes))];
    uint8_t back[sizeof(bytes)];
    size_t len = 99;

    (void)state;
    assert_int_equal(esi_crypto_hex_encode(bytes, sizeof(bytes), text, sizeof(text)), ES_OK);
    assert_string_equal(text, "00017f80ffab");
    assert_int_equal(esi_crypto_hex_encode(bytes, sizeof(bytes), text, sizeof(text) - 1),
                     ES_TOO_LARGE);
    assert_int_equal(esi_crypto_hex_encode(bytes, 0, text, 0), ES_TOO_LARGE);
    assert_int_equal(esi_crypto_hex_decode(ESI_STR("00017F80ffAb"), back, sizeof(back), &len),
                     ES_OK);
    assert_int_equal(len, sizeof(bytes));
    assert_memory_equal(back, bytes, sizeof(bytes));

    len = 99;
    assert_int_equal(esi_crypto_hex_decode(ESI_STR("123"), back, sizeof(back), &len), ES_INVALID);
    assert_int_equal(esi_crypto_hex_decode(ESI_STR("1g"), back, sizeof(back), &len), ES_INVALID);
    assert_int_equal(esi_crypto_hex_decode(ESI_STR("1 "), back, sizeof(back), &len), ES_INVALID);
    assert_int_equal(esi_crypto_hex_decode(ESI_STR("00017f80ffab00"), back, sizeof(back), &len),
                     ES_TOO_LARGE);
    assert_int_equal(len, 99);
    assert_int_equal(esi_crypto_hex_decode(ESI_STR(""), back, 0, &len), ES_OK);
    assert_int_equal(len, 0);
}

static void base64_matches_rfc4648(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } rows[] = {{"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"},
                {"\xfb\xff", "+/8="}};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        const size_t bytes_len = strlen(rows[i].bytes);
        char text[16];
        char back[16];
        size_t len = 0;

        assert_int_equal(esi_crypto_base64_encode(rows[i].bytes, bytes_len, text, sizeof(text)),
                         ES_OK);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(
            esi_crypto_base64_decode(esi_str_from(rows[i].text), back, sizeof(back), &len), ES_OK);
        assert_int_equal(len, bytes_len);
        assert_memory_equal(back, rows[i].bytes, bytes_len);
    }
}

/* Every length from 0 to 70 there and back in both alphabets; one byte less of room is refused and
 * nothing written. */
static void base64_keeps_to_its_room(void **state)
{
    uint8_t bytes[70];
    char text[ESI_CRYPTO_BASE64_CAPACITY(sizeof(bytes)) + 1];
    char standard[ESI_CRYPTO_BASE64_CAPACITY(sizeof(bytes))];
    uint8_t back[sizeof(bytes) + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 37 + 251);
    }
    for (size_t count = 0; count <= sizeof(bytes); count++) {
        const size_t padded = ESI_CRYPTO_BASE64_CAPACITY(count);
        size_t len = 0;

        memset(text, GUARD, sizeof(text));
        assert_int_equal(esi_crypto_base64_encode(bytes, count, text, padded - 1), ES_TOO_LARGE);
        assert_int_equal(text[0], GUARD);
        assert_int_equal(esi_crypto_base64_encode(bytes, count, text, padded), ES_OK);
        assert_int_equal(text[padded], GUARD);
        assert_int_equal(strlen(text), padded - 1);
        memset(back, GUARD, sizeof(back));
        if (count > 0) {
            assert_int_equal(esi_crypto_base64_decode(esi_str_from(text), back, count - 1, &len),
                             ES_TOO_LARGE);
            assert_int_equal(back[0], GUARD);
        }
        assert_int_equal(esi_crypto_base64_decode(esi_str_from(text), back, count, &len), ES_OK);
        assert_int_equal(len, count);
        assert_int_equal(back[count], GUARD);
        assert_memory_equal(back, bytes, count);

        memset(text, GUARD, sizeof(text));
        assert_int_equal(esi_crypto_base64url_encode(bytes, count, text, sizeof(text) - 1), ES_OK);
        assert_null(strpbrk(text, "+/="));
        const size_t raw = strlen(text) + 1;
        memset(text, GUARD, sizeof(text));
        assert_int_equal(esi_crypto_base64url_encode(bytes, count, text, raw - 1), ES_TOO_LARGE);
        assert_int_equal(esi_crypto_base64url_encode(bytes, count, text, raw), ES_OK);
        assert_int_equal(text[raw], GUARD);
        /* The same digits but for the last two, and no padding. */
        assert_int_equal(esi_crypto_base64_encode(bytes, count, standard, sizeof(standard)), ES_OK);
        for (size_t i = 0; text[i] != '\0'; i++) {
            assert_int_equal(text[i], standard[i] == '+'   ? '-'
                                      : standard[i] == '/' ? '_'
                                                           : standard[i]);
        }
        assert_int_equal(strcspn(standard, "="), raw - 1);
    }
}

static void base64_refuses_what_is_not_canonical(void **state)
{
    static const char *const padded_bad[] = {"Zg",     "Zg=",  "Z===",     "====", "Zh==", "Zm9=",
                                             "Zm9v\n", "Zm 9", "Zg==Zg==", "Zm-_", "=Zg=", "Zm9vZ"};
    char back[32];
    size_t len = 99;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(padded_bad); i++) {
        assert_int_equal(
            esi_crypto_base64_decode(esi_str_from(padded_bad[i]), back, sizeof(back), &len),
            ES_INVALID);
    }
    assert_int_equal(len, 99);
}

static void bcrypt_is_recognised_by_its_form(void **state)
{
    static const char *const bad[] = {
        "",
        "secret",
        "$2b$04$short",
        "$2c$04$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G",
        "$2b$03$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G",
        "$2b$32$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G",
        "$2b$0x$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G",
        "$2b$04$abcdefghijklmnopqrstu+R8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G",
        "$2b$04$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3GG"};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_false(esi_crypto_is_bcrypt(esi_str_from(bad[i])));
        assert_int_equal(esi_crypto_check_bcrypt(esi_str_from(bad[i]), ESI_STR("x")), ES_INVALID);
    }
    assert_true(esi_crypto_is_bcrypt(
        ESI_STR("$2y$31$abcdefghijklmnopqrstuuR8SdnMTv5aHkfJEVJPvcO3hSdyaZJ3G")));
}

/* Vectors of the well-known bcrypt test sets ("U*U" and the 72 byte limit), at the lowest cost
 * or 5. */
static void bcrypt_checks_passwords(void **state)
{
    static const struct esi_str hash =
        ESI_STR("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
    static const struct esi_str long_hash =
        ESI_STR("$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui");
    static const char long_password[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        "chars after 72 are ignored";
    char kind[61];

    (void)state;
    assert_int_equal(esi_crypto_check_bcrypt(hash, ESI_STR("U*U")), ES_OK);
    assert_int_equal(esi_crypto_check_bcrypt(hash, ESI_STR("U*V")), ES_DENIED);
    assert_int_equal(esi_crypto_check_bcrypt(hash, ESI_STR("")), ES_DENIED);
    assert_int_equal(esi_crypto_check_bcrypt(hash, (struct esi_str){0}), ES_DENIED);
    assert_int_equal(esi_crypto_check_bcrypt(hash, ESI_STR("U*U\0")), ES_DENIED);
    assert_int_equal(esi_crypto_check_bcrypt(long_hash, ESI_STR(long_password)), ES_OK);
    for (size_t i = 0; i < 2; i++) {
        /* 7-bit passwords hash the same under all of $2a$, $2b$ and $2y$. */
        memcpy(kind, hash.data, sizeof(kind));
        kind[2] = "by"[i];
        assert_int_equal(esi_crypto_check_bcrypt(esi_str_from(kind), ESI_STR("U*U")), ES_OK);
        assert_int_equal(esi_crypto_check_bcrypt(esi_str_from(kind), ESI_STR("U*u")), ES_DENIED);
    }
}

static void wipe_leaves_zeros(void **state)
{
    char secret[32];
    const char zeros[32] = {0};

    (void)state;
    memset(secret, 'x', sizeof(secret));
    esi_crypto_wipe(secret, sizeof(secret));
    assert_memory_equal(secret, zeros, sizeof(zeros));
    esi_crypto_wipe(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_matches_published_vectors),
        cmocka_unit_test(equal_compares_content_and_length),
        cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(base64_matches_rfc4648),
        cmocka_unit_test(base64_keeps_to_its_room),
        cmocka_unit_test(base64_refuses_what_is_not_canonical),
        cmocka_unit_test(bcrypt_is_recognised_by_its_form),
        cmocka_unit_test(bcrypt_checks_passwords),
        cmocka_unit_test(wipe_leaves_zeros),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
