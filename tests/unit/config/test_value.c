/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: texts mean what the contract says and nothing more. Method: tables of good and bad texts.
 */
#include "config/value.h"

#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

struct number_case {
    const char *text;
    uint64_t value;
};

static void numbers_are_plain_decimals(void **state)
{
    static const struct number_case good[] = {
        {"0", 0}, {"7", 7}, {"10132", 10132}, {"999999999999999999", UINT64_C(999999999999999999)}};
    static const char *const bad[] = {"",   "-1",  "+1",    "1.0", "01",  "1 ",
                                      " 1", "0x1", "1_000", "1k",  "ten", "1000000000000000000"};
    uint64_t value = 0;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good); i++) {
        assert_true(esi_value_read_number(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    value = 77;
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_false(esi_value_read_number(bad[i], &value));
    }
    assert_int_equal(value, 77);
}

static void sizes_have_units(void **state)
{
    static const struct number_case good[] = {{"4096", 4096},    {"1MiB", 1048576},
                                              {"64KB", 64000},   {"4KiB", 4096},
                                              {"1mib", 1048576}, {"2 GiB", UINT64_C(2147483648)},
                                              {"5B", 5},         {"3GB", UINT64_C(3000000000)}};
    static const char *const bad[] = {
        "", "KB", "1K", "1.5MiB", "-1KB", "1MiBs", "999999999999GiB", "1  KB"};
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good); i++) {
        assert_true(esi_value_read_size(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_false(esi_value_read_size(bad[i], &value));
    }
}

static void durations_have_units(void **state)
{
    static const struct number_case good[] = {{"2s", UINT64_C(2000000000)},
                                              {"500ms", 500000000},
                                              {"2m", UINT64_C(120000000000)},
                                              {"1h", UINT64_C(3600000000000)},
                                              {"90", UINT64_C(90000000000)},
                                              {"0", 0},
                                              {"1h30m", UINT64_C(5400000000000)},
                                              {"1d", UINT64_C(86400000000000)},
                                              {"7us", 7000},
                                              {"3ns", 3}};
    static const char *const bad[] = {"",
                                      "s",
                                      "2 s",
                                      "2S",
                                      "1.5s",
                                      "-2s",
                                      "2x",
                                      "2s3",
                                      "2ss",
                                      "2min",
                                      "999999999999999999h",
                                      "999999999999999999"};
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good); i++) {
        assert_true(esi_value_read_duration(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_false(esi_value_read_duration(bad[i], &value));
    }
}

static void what_is_printed_reads_back(void **state)
{
    static const uint64_t values[] = {0,     1,       999,     1000, 1024,          4096,
                                      65536, 1048576, 3000000, 1500, 5400000000000, 86400000000000};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(values); i++) {
        for (int is_size = 0; is_size < 2; is_size++) {
            struct esi_bytes text;
            uint64_t back = ~values[i];
            esi_bytes_init(&text, 0);
            if (is_size == 1) {
                esi_value_print_size(values[i], &text);
            } else {
                esi_value_print_duration(values[i], &text);
            }
            esi_bytes_append(&text, "", 1);
            assert_true(is_size == 1 ? esi_value_read_size(text.data, &back)
                                     : esi_value_read_duration(text.data, &back));
            assert_int_equal(back, values[i]);
            esi_bytes_deinit(&text);
        }
    }
}

static void hosts_are_told_from_nonsense(void **state)
{
    static const char *const good[] = {"localhost", "127.0.0.1", "::1",     "a.b-c.example",
                                       "fe80::1",   "my_host",   "0.0.0.0", "3com.example"};
    static const char *const bad[] = {"",          "a b",   "-a",        "a..b", ".a",  "1.2.3",
                                      "999.1.1.1", "[::1]", "host:4222", "a/b",  "::g", "a\n"};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good); i++) {
        assert_true(esi_value_is_host(good[i]));
    }
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_false(esi_value_is_host(bad[i]));
    }
    assert_true(esi_value_is_loopback("localhost"));
    assert_true(esi_value_is_loopback("127.9.9.9"));
    assert_true(esi_value_is_loopback("::1"));
    assert_false(esi_value_is_loopback("0.0.0.0"));
    assert_false(esi_value_is_loopback("::"));
    assert_false(esi_value_is_loopback("127.0.0.1.example"));
    assert_true(esi_value_is_any("0.0.0.0"));
    assert_true(esi_value_is_any("::"));
    assert_false(esi_value_is_any("127.0.0.1"));
}

static void addresses_are_split(void **state)
{
    static const char *const bad[] = {"",       "a",      "a:",    ":1",     "a:0",   "a:65536",
                                      "a:01",   "::1:5",  "[::1]", "[::1]5", "[a]:1", "a:1x",
                                      "[::1:5", "::1]:5", "a:b:1", "[]:1",   "[:5",   "]:5",
                                      "[x:5",   "a:-1",   "a :1"};
    char *host = NULL;
    uint16_t port = 0;

    (void)state;
    assert_int_equal(esi_value_split_address(ESI_STR("a.example:65535"), &host, &port), ES_OK);
    assert_string_equal(host, "a.example");
    assert_int_equal(port, 65535);
    free(host);
    assert_int_equal(esi_value_split_address(ESI_STR("[::1]:1"), &host, &port), ES_OK);
    assert_string_equal(host, "::1");
    free(host);
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_int_equal(esi_value_split_address(esi_str_from(bad[i]), &host, &port), ES_INVALID);
    }
    assert_int_equal(esi_value_split_address((struct esi_str){"a\0b:1", 5}, &host, &port),
                     ES_INVALID);
}

static void variables_are_replaced(void **state)
{
    struct esi_bytes out;
    struct esi_str name = {0};

    (void)state;
    assert_int_equal(setenv("ES_TEST_A", "va${lue}", 1), 0);
    assert_int_equal(unsetenv("ES_TEST_B"), 0);
    esi_bytes_init(&out, 0);
    assert_int_equal(esi_value_expand("x${ES_TEST_A}y$z$${ES_TEST_A}$", &out, &name), ES_OK);
    assert_int_equal(out.len, strlen("xva${lue}y$z${ES_TEST_A}$"));
    assert_memory_equal(out.data, "xva${lue}y$z${ES_TEST_A}$", out.len);
    assert_int_equal(esi_value_expand("${ES_TEST_B}", &out, &name), ES_NOT_FOUND);
    assert_memory_equal(name.data, "ES_TEST_B", name.len);
    assert_int_equal(esi_value_expand("${}", &out, &name), ES_INVALID);
    assert_int_equal(esi_value_expand("${A", &out, &name), ES_INVALID);
    assert_int_equal(esi_value_expand("${A B}", &out, &name), ES_INVALID);
    assert_int_equal(esi_value_expand("${1A}", &out, &name), ES_INVALID);
    esi_bytes_deinit(&out);
    esi_bytes_init(&out, 4);
    assert_int_equal(esi_value_expand("12345", &out, &name), ES_NO_MEMORY);
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_plain_decimals),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(hosts_are_told_from_nonsense),
        cmocka_unit_test(addresses_are_split),
        cmocka_unit_test(variables_are_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
