/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: files are loaded as the contract promises: the original's unchanged, ours, whatever their
 * name. Method: the files of config/, and texts in a temporary folder.
 */
#include "config/config.h"

#include "config_case.h"
#include "env/env.h"

/* The tests run in the root of the sources. */
#define ORIGINAL "config/original.toml"

static char *read_whole(const char *path)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    assert_int_equal(esi_env_file_read(esi_env_linux(), path, 1 << 20, &text), ES_OK);
    char *copy = strndup(text.data, text.len);
    assert_non_null(copy);
    esi_bytes_deinit(&text);
    return copy;
}

static void check_original(const char *text)
{
    struct esi_config *config = expect_good("config/original.toml", CONFIG_EVENT_SERVICE, text);

    assert_string_equal(config->service.host, "localhost");
    assert_int_equal(config->service.port, 10132);
    assert_int_equal(config->service.event_limit, 100000);
    assert_int_equal(config->service.listener_limit, 10000);
    assert_true(config->tls.is_set && config->clients_use_tls);
    assert_string_equal(config->tls.cert_path, "config/../../dev/certs/event-service.crt");
    assert_string_equal(config->tls.key_path, "config/../../dev/certs/event-service.key");
    assert_string_equal(config->tls.root_ca_path,
                        "config/../../dev/certs/Chef_Automate_FAKE_Dev.crt");
    assert_int_equal(config->log.format, LOG_TEXT);
    assert_int_equal(config->log.level, LOG_DEBUG);
    assert_int_equal(config->handler_count, 2);
    assert_string_equal(config->handlers[0].name, "feed");
    assert_string_equal(config->handlers[0].host, "127.0.0.1");
    assert_int_equal(config->handlers[0].port, 10121);
    assert_true(config->handlers[0].is_tls && config->handlers[0].is_bare);
    assert_string_equal(config->handlers[1].name, "cfgingest");
    assert_int_equal(config->handlers[1].port, 10122);
    assert_false(config->gateway.is_on);
    assert_int_equal(config->grpc.port, 0);
    esi_config_free(config);
}

static void the_original_file_loads_unchanged(void **state)
{
    (void)state;
    char *text = read_whole(ORIGINAL);
    check_original(text);
    free(text);
}

static void the_original_file_loads_with_quoted_numbers(void **state)
{
    struct esi_bytes quoted;

    (void)state;
    char *text = read_whole(ORIGINAL);
    esi_bytes_init(&quoted, 0);
    size_t numbers = 0;
    for (const char *line = text; *line != '\0';) {
        const size_t len = strcspn(line, "\n");
        const char *equals = memchr(line, '=', len);
        const bool is_number = equals != NULL && equals[2] >= '0' && equals[2] <= '9';
        if (is_number) {
            const size_t key_len = (size_t)(equals - line);
            esi_bytes_printf(&quoted, "%.*s= \"%.*s\"\n", (int)key_len, line,
                             (int)(len - key_len - 2), equals + 2);
            numbers++;
        } else {
            esi_bytes_printf(&quoted, "%.*s\n", (int)len, line);
        }
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    assert_int_equal(numbers, 3);
    esi_bytes_append(&quoted, "", 1);
    check_original(quoted.data);
    esi_bytes_deinit(&quoted);
    free(text);
}

static void the_examples_load(void **state)
{
    (void)state;
    char *text = read_whole("config/event-service.yaml");
    struct esi_config *config =
        expect_good("config/event-service.yaml", CONFIG_EVENT_SERVICE, text);
    assert_int_equal(config->service.port, 10132);
    assert_true(config->gateway.is_on);
    assert_int_equal(config->gateway.port, 10147);
    assert_int_equal(config->monitor.port, 8222);
    assert_int_equal(config->handler_count, 3);
    assert_string_equal(config->tls.root_ca_path, "config/../.run/certs/ca.crt");
    esi_config_free(config);
    free(text);
    text = read_whole("config/event-gateway.yaml");
    config = expect_good("config/event-gateway.yaml", CONFIG_EVENT_GATEWAY, text);
    assert_int_equal(config->service.port, 4222);
    assert_int_equal(config->gateway.port, 10148);
    assert_int_equal(config->monitor.port, 8223);
    assert_int_equal(config->gateway.remote_count, 1);
    assert_int_equal(config->gateway.remotes[0].urls[0].port, 10147);
    assert_true(config->clients_use_tls);
    esi_config_free(config);
    free(text);
}

static void the_format_is_told_by_name_or_content(void **state)
{
    static const struct {
        const char *path;
        const char *text;
    } cases[] = {
        {"a.toml", "service.port = 1\n"},
        {"a.TOML", "[service]\nport = 1\n"},
        {"a.yaml", "service: {port: 1}\n"},
        {"a.yml", "service:\n  port: 1\n"},
        {"a.conf", "# a comment: with = signs\n\n  [service]\nport = 1\n"},
        {"a.conf", "# a comment\nservice:\n  port: 1\n"},
        {"noname", "service.port = '1'\n"},
        {"folder.toml/noname", "service: {port: '1'}\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct esi_config *config = expect_good(cases[i].path, CONFIG_EVENT_SERVICE, cases[i].text);
        assert_int_equal(config->service.port, 1);
        assert_string_equal(config->path, cases[i].path);
        esi_config_free(config);
    }
    esi_config_free(expect_good("empty", CONFIG_EVENT_SERVICE, ""));
    esi_config_free(NULL);
}

static void a_file_that_is_too_large_is_refused(void **state)
{
    const size_t len = (1 << 20) + 1;
    char *text = malloc(len);
    struct esi_config *config = NULL;
    struct esi_bytes errors;

    (void)state;
    assert_non_null(text);
    memset(text, '#', len);
    const struct esi_config_source source = {.path = "f.yaml",
                                             .text = {text, len},
                                             .program = CONFIG_EVENT_SERVICE,
                                             .without_files = true};
    esi_bytes_init(&errors, 0);
    assert_int_equal(esi_config_parse(NULL, &source, &config, &errors), ES_TOO_LARGE);
    assert_null(config);
    assert_true(errors.len > 0);
    esi_bytes_deinit(&errors);
    free(text);
}

static void a_file_is_loaded_from_its_folder(void **state)
{
    char folder[] = "/tmp/es_config_XXXXXX";
    char path[64];
    char other[64];
    struct esi_config *config = NULL;
    struct esi_bytes errors;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/c.toml", folder);
    snprintf(other, sizeof other, "%s/a.pem", folder);
    static const char text[] = "[tls]\ncert_path = 'a.pem'\nkey_path = 'a.pem'\n";
    assert_int_equal(esi_env_file_replace(esi_env_linux(), path, text, sizeof text - 1, 0600),
                     ES_OK);
    assert_int_equal(esi_env_file_replace(esi_env_linux(), other, "x", 1, 0600), ES_OK);
    esi_bytes_init(&errors, 0);
    assert_int_equal(esi_config_load(esi_env_linux(), path, CONFIG_EVENT_SERVICE, &config, &errors),
                     ES_OK);
    assert_int_equal(errors.len, 0);
    assert_string_equal(config->tls.cert_path, other);
    esi_config_free(config);
    esi_bytes_deinit(&errors);
    assert_int_equal(remove(path), 0);
    assert_int_equal(remove(other), 0);
    assert_int_equal(remove(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_original_file_loads_unchanged),
        cmocka_unit_test(the_original_file_loads_with_quoted_numbers),
        cmocka_unit_test(the_examples_load),
        cmocka_unit_test(the_format_is_told_by_name_or_content),
        cmocka_unit_test(a_file_that_is_too_large_is_refused),
        cmocka_unit_test(a_file_is_loaded_from_its_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
