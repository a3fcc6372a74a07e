/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is printed is the effective configuration, reads back as the same, and holds no
 * secret. Method: print, read the printed text, print again.
 */
#include "config/print.h"

#include "config_case.h"

/* The printed text, to be freed. */
static char *print_text(const struct esi_config *config)
{
    struct esi_bytes out;

    esi_bytes_init(&out, 0);
    esi_config_print(config, &out);
    assert_false(out.failed);
    char *text = strndup(out.data, out.len);
    assert_non_null(text);
    esi_bytes_deinit(&out);
    return text;
}

static void expect_round_trip(enum esi_config_program program, const char *text)
{
    struct esi_config *first = expect_good("f.yaml", program, text);
    char *first_text = print_text(first);
    struct esi_config *second = expect_good("f.yaml", program, first_text);
    char *second_text = print_text(second);

    assert_string_equal(first_text, second_text);
    free(first_text);
    free(second_text);
    esi_config_free(first);
    esi_config_free(second);
}

static void what_is_printed_reads_back(void **state)
{
    (void)state;
    expect_round_trip(CONFIG_EVENT_SERVICE, "");
    expect_round_trip(
        CONFIG_EVENT_SERVICE,
        "service: {name: \"a \\\"b\\\" \\\\ $${x}\", host: \"::1\", port: 0, event_limit: 5}\n"
        "limits: {max_payload: 64KB, max_pending: 1GiB, ping_interval: 90, write_deadline: "
        "1500ms}\n"
        "tls: {cert_path: /a.crt, key_path: /a.key, root_ca_path: /ca.crt, allowed_names: [a, b],\n"
        "      min_version: 1.3, allow_plain: true}\n"
        "internal_messaging: {port: 10140}\n"
        "gateway: {advertise: \"h:1\", reject_unknown: true, remotes: [{name: r, urls: [\"h:1\", "
        "\"[::1]:2\"]}]}\n"
        "auth: {token_file: /t, default_permissions: {publish: {allow: []}, subscribe: [a, b c],\n"
        "       allow_responses: "
        "true}}\n"
        "events: {registry: {\"a*\": [x, y]}}\n"
        "queue: {when_full: hold, hold_timeout: 1h}\n"
        "handlers: {feed: \"[::]:10121\", x: {address: \"grpc://w:1\", tls_name: n}}\n"
        "threads: {workers: 3}\n"
        "log: {level: trace, format: json, file: /l}\n");
    expect_round_trip(CONFIG_EVENT_GATEWAY, "auth: {token_file: /t}\n"
                                            "frontend_tls: [{cert_path: /a, key_path: /b}]\n"
                                            "tls: {cert_path: /a, key_path: /b, root_ca_path: /c}\n"
                                            "internal_event_service: {host: inside.example}\n");
}

static void secrets_are_not_printed(void **state)
{
    (void)state;
    struct esi_config *config = expect_good(
        "f.yaml", CONFIG_EVENT_GATEWAY,
        "auth: {token: topsecret1, users: [{user: anna, password: topsecret2}]}\n"
        "gateway: {user: bert, password: topsecret3,\n"
        "          remotes: [{name: r, urls: \"nats://carl:topsecret4@localhost:1\"}]}\n");
    char *text = print_text(config);
    assert_null(strstr(text, "topsecret"));
    assert_non_null(strstr(text, "  # token is set, not shown\n"));
    assert_non_null(strstr(text, "    - user: \"anna\"\n      # password is set, not shown\n"));
    assert_non_null(
        strstr(text, "urls: [\"nats://localhost:1\"] # user and password are set, not shown\n"));
    free(text);
    esi_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_reads_back),
        cmocka_unit_test(secrets_are_not_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
