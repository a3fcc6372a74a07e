/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the server name is found in a client's first record, and no broken record leads past its
 * end. Method: a record built by hand, cut and damaged at every byte, in memory of exactly its size
 * (for the sanitizers).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/own.h"
#include "net/client_hello.h"

/* A hello of TLS 1.2 form with three extensions, the second of which names "event-service". */
static const unsigned char hello[] = {
    22,  3,    1,    0,    82,                                              /* record */
    1,   0,    0,    78,   3,   3,                                          /* hello, version */
    1,   2,    3,    4,    5,   6,   7,   8,   9,   10,  11,  12,  13,  14, /* random */
    15,  16,   17,   18,   19,  20,  21,  22,  23,  24,  25,  26,  27,  28, /* random */
    29,  30,   31,   32,                                                    /* random */
    2,   0xaa, 0xbb,                                                        /* session */
    0,   2,    0x13, 0x01, 1,   0,                                      /* suites, compression */
    0,   33,                                                            /* extensions */
    0,   23,   0,    0,                                                 /* an empty one */
    0,   0,    0,    18,   0,   16,  0,   0,   13,                      /* server name */
    'e', 'v',  'e',  'n',  't', '-', 's', 'e', 'r', 'v', 'i', 'c', 'e', /* */
    0,   10,   0,    3,    1,   2,   3                                  /* another */
};

/* Reads from a copy that ends where its memory ends. */
static enum es_err read_copy(const unsigned char *bytes, size_t len, char name[32])
{
    char *copy = malloc(len > 0 ? len : 1);
    struct esi_str found = ESI_STR("untouched");
    enum es_err err;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    err = esi_client_hello_read((struct esi_str){.data = copy, .len = len}, &found);
    assert_true(found.len < 32);
    memcpy(name, found.data != NULL ? found.data : "", found.len);
    name[found.len] = '\0';
    free(copy);
    return err;
}

static void name_is_found(void **state)
{
    char name[32];

    (void)state;
    assert_int_equal(read_copy(hello, sizeof(hello), name), ES_OK);
    assert_string_equal(name, "event-service");
}

static void every_part_of_it_asks_for_more(void **state)
{
    char name[32];

    (void)state;
    for (size_t len = 0; len < sizeof(hello); len++) {
        assert_int_equal(read_copy(hello, len, name), ES_AGAIN);
        assert_string_equal(name, "untouched");
    }
}

/* Each byte takes each value: whatever is said, nothing is read past the end (the sanitizer would
 * tell). */
static void damage_is_survived(void **state)
{
    unsigned char bytes[sizeof(hello)];
    char name[32];
    size_t unsupported_count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(hello); i++) {
        for (unsigned value = 0; value < 256; value++) {
            memcpy(bytes, hello, sizeof(hello));
            bytes[i] = (unsigned char)value;
            const enum es_err err = read_copy(bytes, sizeof(bytes), name);
            assert_true(err == ES_OK || err == ES_AGAIN || err == ES_INVALID ||
                        err == ES_UNSUPPORTED);
            unsupported_count += err == ES_UNSUPPORTED;
        }
    }
    assert_true(unsupported_count > 1000);
}

/* A record whose inner lengths promise more than the record has, for each cut inside it. */
static void short_records_are_left_to_the_library(void **state)
{
    unsigned char bytes[sizeof(hello)];
    char name[32];

    (void)state;
    for (size_t len = 5; len < sizeof(hello); len++) {
        memcpy(bytes, hello, len);
        bytes[4] = (unsigned char)(len - 5);
        assert_int_equal(read_copy(bytes, len, name), ES_UNSUPPORTED);
        assert_string_equal(name, "untouched");
    }
}

static void other_first_bytes_are_no_tls(void **state)
{
    static const char *const texts[] = {"C", "CONNECT {}\r\n", "GET / HTTP/1.1\r\n", "\x16G",
                                        "\x80\x2e\x01"};
    char name[32];

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(texts); i++) {
        assert_int_equal(read_copy((const unsigned char *)texts[i], strlen(texts[i]), name),
                         ES_INVALID);
    }
}

static void oversized_records_are_not_awaited(void **state)
{
    static const unsigned char head[] = {22, 3, 1, 0x40, 0x01, 1};
    char name[32];

    (void)state;
    assert_int_equal(read_copy(head, sizeof(head), name), ES_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_is_found),
        cmocka_unit_test(every_part_of_it_asks_for_more),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(short_records_are_left_to_the_library),
        cmocka_unit_test(other_first_bytes_are_no_tls),
        cmocka_unit_test(oversized_records_are_not_awaited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
