/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: CONNECT is read as nats-server reads it, also the second time. Method: the numbered checks
 * of the protocol reference, then failures that must leave everything as it was.
 */
#include "proto/connect.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum es_err read_client(struct esi_connect *connect, const char *json)
{
    return esi_connect_read(esi_str_from(json), CONNECT_CLIENT, connect);
}

/* C7 to C19, C22: defaults and Go's rules. */
static void test_rules(void **state)
{
    static const struct {
        const char *json;
        enum es_err err;
        bool verbose;
    } rows[] = {
        {"{}", ES_OK, true},
        {"{\"verbose\":false}", ES_OK, false},
        {"{\"VERBOSE\":false}", ES_OK, false},
        {"{\"zzz\":1,\"verbose\":false}", ES_OK, false},
        {"{\"zzz\":{\"a\":[1,{}]},\"verbose\":false} ", ES_OK, false},
        {"{\"verbose\":null}", ES_OK, true},
        {"{\"verbose\":true,\"verbose\":false}", ES_OK, false},
        {"{\"verbose\":false,\"Verbose\":true,\"verbose\":false}", ES_OK, false},
        {"{\"verbose\":false,\"verbose\":null}", ES_OK, false},
        {"null", ES_OK, true},
        {"{\"verbose\":1}", ES_INVALID, true},
        {"{\"verbose\":1,\"verbose\":false}", ES_INVALID, true},
        {"x", ES_INVALID, true},
        {"\r", ES_INVALID, true},
        {"{} {}", ES_INVALID, true},
        {"[]", ES_INVALID, true},
        {"{\"protocol\":\"1\"}", ES_INVALID, true},
        {"{\"protocol\":1.5}", ES_INVALID, true},
        {"{\"name\":5}", ES_INVALID, true},
        {"{\"verbose\":false,\"user\":[]}", ES_INVALID, true},
        {"{\"gateway\":5,\"verbose\":false}", ES_OK, false},
        {"{\"verbose\":false,\"name\":\"\xff\"}", ES_OK, false},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct esi_connect connect;
        esi_connect_init(&connect);
        assert_true(connect.verbose && connect.pedantic && connect.echo && !connect.headers);
        if (read_client(&connect, rows[i].json) != rows[i].err ||
            connect.verbose != rows[i].verbose) {
            fail_msg("%s: verbose is %d", rows[i].json, connect.verbose);
        }
        esi_connect_deinit(&connect);
    }
}

static void test_all_fields(void **state)
{
    struct esi_connect connect;

    (void)state;
    esi_connect_init(&connect);
    assert_int_equal(
        read_client(
            &connect,
            "{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"tls_required\":true,"
            "\"headers\":true,"
            "\"no_responders\":true,\"new_account\":true,\"protocol\":1,\"user\":\"u\",\"pass\":"
            "\"p\","
            "\"auth_token\":\"t\",\"nkey\":\"UK\",\"sig\":\"S\",\"jwt\":\"J\",\"name\":"
            "\"n\\u00e9\","
            "\"lang\":\"go\",\"version\":\"1.2\",\"account\":\"A\",\"remote_account\":\"R\"}"),
        ES_OK);
    assert_false(connect.verbose || connect.pedantic || connect.echo);
    assert_true(connect.tls_required && connect.headers && connect.no_responders &&
                connect.new_account);
    assert_int_equal(connect.protocol, 1);
    assert_string_equal(connect.user.data, "u");
    assert_string_equal(connect.pass.data, "p");
    assert_string_equal(connect.auth_token.data, "t");
    assert_string_equal(connect.nkey.data, "UK");
    assert_string_equal(connect.sig.data, "S");
    assert_string_equal(connect.jwt.data, "J");
    assert_string_equal(connect.name.data, "n\xc3\xa9");
    assert_string_equal(connect.lang.data, "go");
    assert_string_equal(connect.version.data, "1.2");
    assert_string_equal(connect.account.data, "A");
    assert_string_equal(connect.remote_account.data, "R");
    esi_connect_deinit(&connect);
    assert_int_equal(connect.user.len, 0);
    assert_true(connect.verbose);
}

/* C20, C21: the number itself comes through, the caller refuses it. A NUL inside a secret does not
 * shorten it. */
static void test_values(void **state)
{
    struct esi_connect connect;

    (void)state;
    esi_connect_init(&connect);
    assert_int_equal(read_client(&connect, "{\"protocol\":-1,\"auth_token\":\"ab\\u0000cd\"}"),
                     ES_OK);
    assert_int_equal(connect.protocol, -1);
    assert_true(esi_str_equal(connect.auth_token, (struct esi_str){.data = "ab\0cd", .len = 5}));
    assert_int_equal(read_client(&connect, "{\"auth_token\":\"\xff!\"}"), ES_OK);
    assert_true(esi_str_equal(connect.auth_token, ESI_STR("\xef\xbf\xbd!")));
    esi_connect_deinit(&connect);
}

/* C27, C28, C190, C191: a second CONNECT overwrites what it names and keeps the rest. */
static void test_second(void **state)
{
    struct esi_connect connect;

    (void)state;
    esi_connect_init(&connect);
    assert_int_equal(
        read_client(&connect, "{\"auth_token\":\"secret\",\"name\":\"x\",\"headers\":true}"),
        ES_OK);
    assert_int_equal(read_client(&connect, "{\"verbose\":false}"), ES_OK);
    assert_string_equal(connect.auth_token.data, "secret");
    assert_false(connect.verbose);
    assert_true(connect.headers);
    assert_int_equal(read_client(&connect, "{\"auth_token\":\"wrong\",\"name\":\"\"}"), ES_OK);
    assert_string_equal(connect.auth_token.data, "wrong");
    assert_int_equal(connect.name.len, 0);
    assert_int_equal(read_client(&connect, "{\"auth_token\":null}"), ES_OK);
    assert_string_equal(connect.auth_token.data, "wrong");
    /* A failure changes nothing, wherever in the text it stands. */
    assert_int_equal(
        read_client(&connect,
                    "{\"auth_token\":\"a\",\"auth_token\":\"b\",\"user\":\"u\",\"pass\":1}"),
        ES_INVALID);
    assert_string_equal(connect.auth_token.data, "wrong");
    assert_int_equal(connect.user.len, 0);
    /* Duplicates in one text: the last one wins, the others are freed. */
    assert_int_equal(
        read_client(&connect, "{\"user\":\"a\",\"USER\":\"b\",\"user\":\"\",\"User\":\"c\"}"),
        ES_OK);
    assert_string_equal(connect.user.data, "c");
    esi_connect_deinit(&connect);
}

static void test_gateway(void **state)
{
    struct esi_connect connect;
    struct esi_bytes out;

    (void)state;
    esi_connect_init(&connect);
    esi_bytes_init(&out, 0);
    assert_int_equal(
        esi_connect_read(
            ESI_STR("{\"gateway\":\"F\",\"user\":\"gw\",\"pass\":\"secret\",\"name\":\"NA\"}"),
            CONNECT_GATEWAY, &connect),
        ES_OK);
    assert_string_equal(connect.gateway.data, "F");
    esi_connect_write_gateway(&out, &connect);
    assert_true(esi_str_equal(esi_bytes_str(&out),
                              ESI_STR("CONNECT "
                                      "{\"echo\":false,\"verbose\":false,\"pedantic\":false,"
                                      "\"user\":\"gw\",\"pass\":\"secret\","
                                      "\"tls_required\":false,\"headers\":false,\"name\":\"NA\","
                                      "\"cluster\":\"\",\"gateway\":\"F\"}\r\n")));
    assert_int_equal(esi_connect_read(ESI_STR("{\"gateway\":1}"), CONNECT_GATEWAY, &connect),
                     ES_INVALID);
    assert_int_equal(esi_connect_read(ESI_STR("{\"gateway\":\"F\""), CONNECT_GATEWAY, &connect),
                     ES_INVALID);
    esi_connect_deinit(&connect);
    connect.gateway = ESI_STR("A");
    connect.name = ESI_STR("NC");
    esi_bytes_clear(&out);
    esi_connect_write_gateway(&out, &connect);
    assert_true(esi_str_equal(esi_bytes_str(&out),
                              ESI_STR("CONNECT "
                                      "{\"echo\":false,\"verbose\":false,\"pedantic\":false,\"tls_"
                                      "required\":false,\"headers\":false,"
                                      "\"name\":\"NC\",\"cluster\":\"\",\"gateway\":\"A\"}\r\n")));
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),   cmocka_unit_test(test_all_fields),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_second),
        cmocka_unit_test(test_gateway),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
