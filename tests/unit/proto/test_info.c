/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: INFO lines look like nats-server's, and a gateway's INFO is read whatever its order and
 * spelling. Method: whole lines compared with recorded ones, and texts read back.
 */
#include "proto/info.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_text(struct esi_bytes *out, const char *expected)
{
    assert_false(out->failed);
    if (out->len != strlen(expected) || memcmp(out->data, expected, out->len) != 0) {
        fail_msg("got %.*s", (int)out->len, out->data);
    }
    esi_bytes_clear(out);
}

static void test_client(void **state)
{
    const struct esi_str urls[] = {ESI_STR("h1:4222"), ESI_STR("h2:4222")};
    struct esi_client_info info = {.server_id = ESI_STR("NID"),
                                   .version = ESI_STR("2.11.0"),
                                   .host = ESI_STR("127.0.0.1"),
                                   .port = 4222,
                                   .headers = true,
                                   .max_payload = 1048576,
                                   .client_id = 5,
                                   .client_ip = ESI_STR("127.0.0.1")};
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_info_write_client(&out, &info);
    expect_text(
        &out,
        "INFO {\"server_id\":\"NID\",\"server_name\":\"NID\",\"version\":\"2.11.0\",\"proto\":1,"
        "\"go\":\"none\",\"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":"
        "1048576,"
        "\"client_id\":5,\"client_ip\":\"127.0.0.1\"} \r\n");
    info.server_name = ESI_STR("name");
    info.product = ESI_STR("0.1.0");
    info.nonce = ESI_STR("nonce");
    info.cluster = ESI_STR("C");
    info.connect_urls = urls;
    info.connect_url_count = ESI_COUNT_OF(urls);
    info.max_payload = -1;
    info.headers = false;
    info.auth_required = true;
    info.tls_required = true;
    info.tls_verify = true;
    info.tls_available = true;
    info.lame_duck = true;
    esi_info_write_client(&out, &info);
    expect_text(
        &out,
        "INFO {\"server_id\":\"NID\",\"server_name\":\"name\",\"version\":\"2.11.0\",\"proto\":1,"
        "\"go\":\"none\",\"host\":\"127.0.0.1\",\"port\":4222,\"headers\":false,\"auth_required\":"
        "true,"
        "\"tls_required\":true,\"tls_verify\":true,\"tls_available\":true,\"max_payload\":-1,"
        "\"client_id\":5,"
        "\"client_ip\":\"127.0.0.1\",\"nonce\":\"nonce\",\"cluster\":\"C\","
        "\"connect_urls\":[\"h1:4222\",\"h2:4222\"],\"ldm\":true,\"event_service\":\"0.1.0\"} "
        "\r\n");
    esi_bytes_deinit(&out);
}

/* The lines of a recorded session, but for "version" and "go". */
static void test_gateway_write(void **state)
{
    struct esi_gateway_info info = {.server_id = ESI_STR("NB5"),
                                    .server_name = ESI_STR("srv-b"),
                                    .version = ESI_STR("2.9.10"),
                                    .host = ESI_STR("127.0.0.1"),
                                    .port = 14322,
                                    .headers = true,
                                    .max_payload = 1048576,
                                    .gateway = ESI_STR("B"),
                                    .gateway_urls = {ESI_STR("127.0.0.1:14322")},
                                    .gateway_url_count = 1,
                                    .gateway_url = ESI_STR("127.0.0.1:14322"),
                                    .reply_prefix_new = true,
                                    .interest_only = true};
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_info_write_gateway(&out, &info);
    expect_text(
        &out,
        "INFO {\"server_id\":\"NB5\",\"server_name\":\"srv-b\",\"version\":\"2.9.10\",\"proto\":0,"
        "\"go\":\"\",\"host\":\"127.0.0.1\",\"port\":14322,\"headers\":true,\"max_payload\":"
        "1048576,"
        "\"gateway\":\"B\",\"gateway_urls\":[\"127.0.0.1:14322\"],\"gateway_url\":\"127.0.0.1:"
        "14322\","
        "\"gateway_nrp\":true,\"gateway_iom\":true}\r\n");
    const struct esi_gateway_info switch_start = {
        .gateway = ESI_STR("B"), .cmd = GATEWAY_CMD_ALL_START, .account = ESI_STR("$G")};
    esi_info_write_gateway(&out, &switch_start);
    expect_text(
        &out,
        "INFO {\"server_id\":\"\",\"server_name\":\"\",\"version\":\"\",\"proto\":0,\"go\":\"\","
        "\"host\":\"\",\"port\":0,\"headers\":false,\"max_payload\":0,\"gateway\":\"B\","
        "\"gateway_cmd\":2,\"gateway_cmd_payload\":\"JEc=\"}\r\n");
    const struct esi_gateway_info gossip = {.server_id = ESI_STR("NDJF"),
                                            .gateway = ESI_STR("A"),
                                            .gateway_urls = {ESI_STR("127.0.0.1:14321")},
                                            .gateway_url_count = 1,
                                            .cmd = GATEWAY_CMD_GOSSIP};
    esi_info_write_gateway(&out, &gossip);
    expect_text(
        &out,
        "INFO "
        "{\"server_id\":\"NDJF\",\"server_name\":\"\",\"version\":\"\",\"proto\":0,\"go\":\"\","
        "\"host\":\"\",\"port\":0,\"headers\":false,\"max_payload\":0,\"gateway\":\"A\","
        "\"gateway_urls\":[\"127.0.0.1:14321\"],\"gateway_cmd\":1}\r\n");
    esi_bytes_deinit(&out);
}

static void test_gateway_read(void **state)
{
    struct esi_gateway_info info = {0};

    (void)state;
    assert_int_equal(
        esi_info_read_gateway(
            ESI_STR("{\"gateway_iom\":true,\"Gateway\":\"B\",\"server_id\":\"NB\",\"server_name\":"
                    "\"s\",\"zzz\":[{}],"
                    "\"gateway_urls\":[\"a:1\",\"b:2\"],\"headers\":true,\"port\":7222,\"max_"
                    "payload\":5,"
                    "\"version\":\"2.9\",\"host\":\"h\",\"gateway_url\":\"a:1\",\"gateway_nrp\":"
                    "true,\"proto\":3,"
                    "\"tls_required\":true,\"tls_verify\":true,\"auth_required\":true}"),
            &info),
        ES_OK);
    assert_true(esi_str_equal(info.gateway, ESI_STR("B")));
    assert_true(esi_str_equal(info.server_id, ESI_STR("NB")));
    assert_true(esi_str_equal(info.server_name, ESI_STR("s")));
    assert_int_equal(info.gateway_url_count, 2);
    assert_true(esi_str_equal(info.gateway_urls[1], ESI_STR("b:2")));
    assert_true(info.interest_only && info.reply_prefix_new && info.headers && info.auth_required &&
                info.tls_required && info.tls_verify);
    assert_int_equal(info.port, 7222);
    assert_int_equal(info.proto, 3);
    assert_int_equal(info.max_payload, 5);
    assert_int_equal(info.cmd, GATEWAY_CMD_NONE);
    assert_null(info.account.data);
    esi_info_gateway_deinit(&info);

    assert_int_equal(esi_info_read_gateway(ESI_STR("{\"gateway\":\"F\"}"), &info), ES_OK);
    assert_false(info.interest_only || info.headers || info.reply_prefix_new);
    assert_int_equal(info.gateway_url_count, 0);
    esi_info_gateway_deinit(&info);
}

static void test_gateway_commands(void **state)
{
    struct esi_gateway_info info = {0};

    (void)state;
    assert_int_equal(esi_info_read_gateway(ESI_STR("{\"gateway\":\"B\",\"gateway_cmd\":3,"
                                                   "\"gateway_cmd_payload\":\"TkVXQUND\"}"),
                                           &info),
                     ES_OK);
    assert_int_equal(info.cmd, GATEWAY_CMD_ALL_COMPLETE);
    assert_true(esi_str_equal(info.account, ESI_STR("NEWACC")));
    esi_info_gateway_deinit(&info);
    assert_int_equal(esi_info_read_gateway(ESI_STR("{\"gateway\":\"B\",\"gateway_cmd\":2}"), &info),
                     ES_OK);
    assert_null(info.account.data);
    esi_info_gateway_deinit(&info);
    assert_int_equal(
        esi_info_read_gateway(ESI_STR("{\"gateway_cmd\":2,\"gateway_cmd_payload\":\"\"}"), &info),
        ES_OK);
    assert_null(info.account.data);
    esi_info_gateway_deinit(&info);
    assert_int_equal(esi_info_read_gateway(ESI_STR("{\"gateway_cmd\":9}"), &info), ES_OK);
    assert_int_equal(info.cmd, 9);
    esi_info_gateway_deinit(&info);
}

static void test_gateway_faults(void **state)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"gateway\":1}",
        "{\"gateway_urls\":\"a\"}",
        "{\"gateway_urls\":[1]}",
        "{\"headers\":1}",
        "{\"port\":\"1\"}",
        "{\"gateway_cmd\":\"2\"}",
        "{\"server_id\":\"a\",\"server_id\":\"b\",\"gateway_iom\":5}",
        "{\"gateway\":\"B\",\"gateway_cmd\":2,\"gateway_cmd_payload\":\"J*==\"}",
        "{\"gateway\":\"B\",\"gateway_cmd\":2,\"gateway_cmd_payload\":\"JEc\"}",
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        struct esi_gateway_info info = {.port = 77};
        if (esi_info_read_gateway(esi_str_from(bad[i]), &info) != ES_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_int_equal(info.port, 77);
    }
}

/* Duplicates, more URLs than we keep, a port that is none: bounded and without a leak. */
static void test_gateway_bounds(void **state)
{
    struct esi_gateway_info info = {0};
    struct esi_bytes json;

    (void)state;
    esi_bytes_init(&json, 0);
    esi_bytes_append_text(&json, "{\"gateway\":\"X\",\"port\":70000,\"gateway_urls\":[");
    for (int i = 0; i < 3 * ESI_INFO_URLS_MAX; i++) {
        esi_bytes_printf(&json, "%s\"h:%d\"", i > 0 ? "," : "", i);
    }
    esi_bytes_append_text(&json, "],\"gateway\":\"B\",\"gateway\":\"C\"}");
    assert_int_equal(esi_info_read_gateway(esi_bytes_str(&json), &info), ES_OK);
    assert_int_equal(info.gateway_url_count, ESI_INFO_URLS_MAX);
    assert_true(esi_str_equal(info.gateway, ESI_STR("C")));
    assert_int_equal(info.port, 0);
    esi_info_gateway_deinit(&info);
    assert_int_equal(
        esi_info_read_gateway(ESI_STR("{\"gateway_urls\":[\"a\",\"b\",\"c\"],\"gateway_urls\":["
                                      "\"d\"],\"gateway_urls\":[\"e\",\"f\"]}"),
                              &info),
        ES_OK);
    assert_int_equal(info.gateway_url_count, 2);
    assert_true(esi_str_equal(info.gateway_urls[0], ESI_STR("e")));
    esi_info_gateway_deinit(&info);
    esi_bytes_deinit(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client),         cmocka_unit_test(test_gateway_write),
        cmocka_unit_test(test_gateway_read),   cmocka_unit_test(test_gateway_commands),
        cmocka_unit_test(test_gateway_faults), cmocka_unit_test(test_gateway_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
