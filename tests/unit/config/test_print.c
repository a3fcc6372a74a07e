/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is printed is the effective configuration, names every key, reads back as the same,
 * and holds no secret. Method: print, read the printed text, print again.
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
    assert_string_equal(first->digest, second->digest);
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
    /* A section in which nothing is set. */
    expect_round_trip(
        CONFIG_EVENT_GATEWAY,
        "auth: {users: [{user: a, password: b, permissions: {allow_responses: true}}],\n"
        "  default_permissions: {publish: {}}}\n");
    /* Characters that YAML breaks lines at or refuses: NEL, PS, BOM, U+FFFE; and some that it does
     * not. */
    expect_round_trip(
        CONFIG_EVENT_SERVICE,
        "service: {name: \"a\\u0085\\u2029\\uFEFF\\uFFFEb\\u00e4\\u20ac\\U0001F600\"}\n");
    expect_round_trip(CONFIG_EVENT_GATEWAY,
                      "auth: {token: x, users: [{user: a, password: b}], no_auth_user: a}\n"
                      "gateway: {user: c, password: d, remotes: [{name: r, urls: "
                      "[\"nats://e\\\"$${f:g@localhost:1\"]}]}\n");
}

/* A key without a value is there as a comment: whoever looks for it finds that it is not set. */
static void every_key_is_named(void **state)
{
    struct esi_config *config = expect_good("f.yaml", CONFIG_EVENT_SERVICE, "");
    char *text = print_text(config);
    char line[128];

    (void)state;
    for (const struct esi_schema_row *row = esi_schema_next(GROUP_ROOT, NULL); row != NULL;
         row = esi_schema_next(GROUP_ROOT, row)) {
        const bool is_second = strncmp(row->name, "internal_", 9) == 0;
        const bool is_ours = (row->programs & SCHEMA_SERVICE) != 0 && row->role != ROW_LATER;
        snprintf(line, sizeof line, "%s:", row->name);
        assert_int_equal(strstr(text, line) != NULL, is_ours && !is_second);
    }
    assert_non_null(strstr(text, "\n# tls: not set\n"));
    assert_non_null(strstr(text, "\n  # token_file: not set\n"));
    assert_non_null(strstr(text, "\n  # users: not set\n"));
    assert_non_null(strstr(text, "\n  work_bound: 64\n"));
    free(text);
    esi_config_free(config);
}

/* Comments and order do not count, values do, and secrets do not: who sees a digest learns nothing
 * of them. */
static void the_digest_is_of_the_values(void **state)
{
    static const char *const texts[] = {
        "auth: {token: one}\nlog: {level: warn}\n",
        "log: {level: warn} # less\nauth:\n  token: two\n",
        "auth: {token: one}\nlog: {level: error}\n",
    };
    struct esi_config *configs[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        configs[i] = expect_good("f.yaml", CONFIG_EVENT_SERVICE, texts[i]);
        assert_memory_equal(configs[i]->digest, "sha256:", 7);
        assert_int_equal(strspn(configs[i]->digest + 7, "0123456789abcdef"), 64);
        assert_int_equal(strlen(configs[i]->digest), 71);
    }
    assert_string_equal(configs[0]->digest, configs[1]->digest);
    assert_string_not_equal(configs[0]->digest, configs[2]->digest);
    char *text = print_text(configs[0]);
    assert_non_null(strstr(text, configs[0]->digest));
    free(text);
    for (size_t i = 0; i < 3; i++) {
        esi_config_free(configs[i]);
    }
}

/* A printed configuration may be looked at; that its secrets are not real must not be forgotten. */
static void a_masked_secret_is_noticed(void **state)
{
    static const char *const texts[] = {
        "auth: {token: \"******\"}\n",
        "auth: {users: [{user: a, password: \"******\"}]}\n",
        "gateway: {user: a, password: \"******\"}\n",
        "gateway: {remotes: [{name: r, urls: \"nats://a:******@h:1\"}]}\n",
        "auth: {token: \"*******\"}\nservice: {name: \"******\"}\n",
        "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "service: {insecure: true}\n%s", texts[i]);
        struct esi_config *config =
            expect_good("f.yaml", CONFIG_EVENT_SERVICE, i == 4 ? texts[i] : text);
        assert_int_equal(config->has_masked_secret, i < 4);
        esi_config_free(config);
    }
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
    assert_non_null(strstr(text, "  token: \"******\"\n"));
    assert_non_null(strstr(text, "    - user: \"anna\"\n      password: \"******\"\n"));
    assert_non_null(strstr(text, "urls: [\"nats://carl:******@localhost:1\"]\n"));
    free(text);
    esi_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_reads_back),  cmocka_unit_test(every_key_is_named),
        cmocka_unit_test(the_digest_is_of_the_values), cmocka_unit_test(a_masked_secret_is_noticed),
        cmocka_unit_test(secrets_are_not_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
