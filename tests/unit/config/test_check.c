/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every value is checked against its row, and every error of a run is told at its place.
 * Method: whole texts with the exact lines that they must give; files in a temporary folder where
 * files are looked at.
 */
#include "config/check.h"

#include "config_case.h"
#include "env/env.h"

#include <sys/stat.h>
#include <unistd.h>

static void all_errors_of_a_run_are_told(void **state)
{
    (void)state;
    assert_int_equal(unsetenv("ES_TEST_UNSET"), 0);
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "service:\n"
        "  prot: 1\n"
        "  port: 99999\n"
        "  event_limit: [1]\n"
        "  insecure: yes\n"
        "limits: 5\n"
        "queue:\n"
        "  when_full: drop\n"
        "  storage: disk\n"
        "log: {level: \"${ES_TEST_UNSET}\", format: }\n"
        "grpc:\n"
        "  host: \"\"\n"
        "lame_duck:\n"
        "  duration: 2m\n"
        "monitor: {tokens: x}\n"
        "frontend_tls: []\n"
        "nonsense: 1\n",
        "f.yaml:2:3: service.prot: unknown key; did you mean port?\n"
        "f.yaml:3:9: service.port: \"99999\" was found, a port from 0 to 65535 is allowed\n"
        "f.yaml:4:16: service.event_limit: a list was found, a number from 1 to 100000000 is "
        "allowed\n"
        "f.yaml:5:13: service.insecure: \"yes\" was found, true or false is allowed\n"
        "f.yaml:6:9: limits: a text was found, a map is allowed\n"
        "f.yaml:8:14: queue.when_full: \"drop\" was found, one of reject, hold is allowed\n"
        "f.yaml:9:12: queue.storage: \"disk\" is not yet built in this version\n"
        "f.yaml:10:14: log.level: the environment variable ES_TEST_UNSET is not set\n"
        "f.yaml:10:42: log.format: nothing was found, one of text, json is allowed\n"
        "f.yaml:12:9: grpc.host: nothing was found, a host name or a numeric address is "
        "allowed\n"
        "f.yaml:13:1: lame_duck: not yet built in this version\n"
        "f.yaml:15:11: monitor.tokens: unknown key; did you mean token?\n"
        "f.yaml:16:1: frontend_tls: only event-gateway has this key\n"
        "f.yaml:17:1: nonsense: unknown key\n");
}

static void the_same_in_toml(void **state)
{
    (void)state;
    expect_errors(
        "f.toml", CONFIG_EVENT_SERVICE,
        "[service]\n"
        "prot = 1\n"
        "port = \"99999\"\n"
        "\n"
        "[queue]\n"
        "  when_full = 'drop'\n"
        "[handlers]\n"
        "feed = { address = 'https://x.example' }\n"
        "[websocket]\n",
        "f.toml:2:1: service.prot: unknown key; did you mean port?\n"
        "f.toml:3:8: service.port: \"99999\" was found, a port from 0 to 65535 is allowed\n"
        "f.toml:6:15: queue.when_full: \"drop\" was found, one of reject, hold is allowed\n"
        "f.toml:8:20: handlers.feed.address: \"https://x.example\" is not yet built in this "
        "version\n"
        "f.toml:9:2: websocket: not yet built in this version\n");
}

static void syntax_errors_have_a_place(void **state)
{
    (void)state;
    expect_errors(
        "f.toml", CONFIG_EVENT_SERVICE, "[service]\nport = \n",
        "f.toml:2:8: a value was expected: a text in quotes, a decimal number, true, false, "
        "[list] or {table}\n");
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE, "service:\n  port: 1\n  port: 2\n",
                  "f.yaml:3:3: \"port\" is given twice in this map; it stands at 2:3 first\n");
}

static void lists_and_maps_say_where(void **state)
{
    (void)state;
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "auth:\n"
        "  users:\n"
        "    - {user: a, password: b, permissions: {publish: [x, {}], subscribe: {alow: y}}}\n"
        "    - text\n"
        "  default_permissions: {allow_responses: {max: 0}}\n"
        "handlers: [x]\n"
        "gateway:\n"
        "  remotes: {name: x}\n",
        "f.yaml:3:57: auth.users[0].permissions.publish[1]: a map was found, a list of texts of "
        "1 to 1024 printable characters is allowed\n"
        "f.yaml:3:74: auth.users[0].permissions.subscribe.alow: unknown key; did you mean "
        "allow?\n"
        "f.yaml:4:7: auth.users[1]: a text was found, a map is allowed\n"
        "f.yaml:5:48: auth.default_permissions.allow_responses.max: \"0\" was found, a number "
        "from 1 to 1000000 is allowed\n"
        "f.yaml:6:11: handlers: a list was found, a map is allowed\n"
        "f.yaml:8:12: gateway.remotes: a map was found, a list of maps is allowed\n"
        "f.yaml:4:7: auth.users[1]: user is missing\n");
}

static void second_names_are_not_given_twice(void **state)
{
    (void)state;
    struct esi_config *config =
        expect_good("f.yaml", CONFIG_EVENT_SERVICE, "log: {log_level: warn, log_format: json}\n");
    assert_int_equal(config->log.level, LOG_WARN);
    assert_int_equal(config->log.format, LOG_JSON);
    esi_config_free(config);
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE, "log: {level: info, log_level: warn}\n",
        "f.yaml:1:20: log.log_level: this is a second name of level, which is given too\n");
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE, "log:\n  log_level: loud\n",
        "f.yaml:2:14: log.log_level: \"loud\" was found, one of error, warn, info, debug, trace "
        "is allowed\n");
}

static void variables_are_replaced_everywhere(void **state)
{
    (void)state;
    assert_int_equal(setenv("ES_TEST_PORT", "4711", 1), 0);
    assert_int_equal(setenv("ES_TEST_SECRET", "s3cret", 1), 0);
    struct esi_config *config =
        expect_good("f.yaml", CONFIG_EVENT_GATEWAY,
                    "service: {port: \"${ES_TEST_PORT}\", name: \"n-${ES_TEST_PORT}-$${x}\"}\n"
                    "auth:\n"
                    "  token: ${ES_TEST_SECRET}\n");
    assert_int_equal(config->service.port, 4711);
    assert_string_equal(config->service.name, "n-4711-${x}");
    assert_string_equal(config->auth.token, "s3cret");
    esi_config_free(config);

    /* A value out of the environment is not shown in the error: it may be a secret put in the wrong
     * place. */
    expect_errors(
        "f.yaml", CONFIG_EVENT_GATEWAY,
        "service: {port: \"${ES_TEST_SECRET}\"}\nauth: {token: t}\n",
        "f.yaml:1:17: service.port: \"${ES_TEST_SECRET}\" was found, a port from 0 to 65535 is "
        "allowed\n");
}

static void secrets_are_not_shown_in_errors(void **state)
{
    struct esi_config *config;

    (void)state;
    char *errors = read_text("f.yaml", CONFIG_EVENT_GATEWAY,
                             "auth:\n"
                             "  token: \"topsecret\\x01\"\n"
                             "  users: [{user: a, password: [topsecret]}]\n"
                             "gateway:\n"
                             "  remotes: [{name: x, urls: \"nats://topsecret@h:1\"}]\n",
                             &config);
    assert_null(config);
    assert_non_null(strstr(errors, "f.yaml:2:10: auth.token: a text that does not fit was found"));
    assert_null(strstr(errors, "topsecret"));
    free(errors);
}

/* Files. */

struct folder {
    char path[64];
};

static void put_file(const struct folder *folder, const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder->path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    static struct folder folder;

    snprintf(folder.path, sizeof folder.path, "/tmp/es_check_XXXXXX");
    assert_non_null(mkdtemp(folder.path));
    *state = &folder;
    return 0;
}

static int remove_folder(void **state)
{
    const struct folder *folder = *state;
    char command[128];

    snprintf(command, sizeof command, "rm -r '%s'", folder->path);
    return system(command);
}

/* Loads FOLDER/c.yaml; returns the errors without the folder's name, to be freed. */
static char *load(const struct folder *folder, struct esi_config **config)
{
    char path[128];
    struct esi_bytes errors;

    *config = NULL;
    esi_bytes_init(&errors, 0);
    snprintf(path, sizeof path, "%s/c.yaml", folder->path);
    const enum es_err err =
        esi_config_load(esi_env_linux(), path, CONFIG_EVENT_GATEWAY, config, &errors);
    assert_int_equal(err == ES_OK, errors.len == 0);
    char *lines = calloc(1, errors.len + 1);
    assert_non_null(lines);
    const size_t prefix_len = strlen(folder->path);
    size_t len = 0;
    for (size_t i = 0; i < errors.len;) {
        if (errors.len - i > prefix_len && memcmp(errors.data + i, folder->path, prefix_len) == 0) {
            i += prefix_len + 1;
            continue;
        }
        lines[len++] = errors.data[i++];
    }
    esi_bytes_deinit(&errors);
    return lines;
}

static void secrets_come_from_files(void **state)
{
    const struct folder *folder = *state;
    struct esi_config *config;

    put_file(folder, "c.yaml",
             "auth:\n"
             "  token_file: tokens\n"
             "  users: [{user: a, password_file: pass}]\n"
             "gateway: {user: u, password_file: pass}\n");
    put_file(folder, "pass", "from file\r\n");
    char *errors = load(folder, &config);
    assert_string_equal(errors, "");
    free(errors);
    assert_string_equal(config->auth.users[0].password, "from file");
    assert_string_equal(config->gateway.password, "from file");
    char expected[128];
    snprintf(expected, sizeof expected, "%s/tokens", folder->path);
    assert_string_equal(config->auth.token_file, expected);
    esi_config_free(config);

    put_file(folder, "pass", "two\nlines");
    put_file(
        folder, "c.yaml",
        "auth:\n"
        "  token: t\n"
        "  users: [{user: a, password_file: pass, password: x}, {user: b, password_file: none}]\n"
        "gateway: {user: u, password_file: pass}\n");
    errors = load(folder, &config);
    assert_string_equal(
        errors,
        "c.yaml:3:21: auth.users[0].password_file: password is given too; one of both is allowed\n"
        "c.yaml:3:81: auth.users[1].password_file: the file none cannot be read: not found\n"
        "c.yaml:4:35: gateway.password_file: the file pass must hold one line of 1 to 4096 "
        "printable characters\n"
        "c.yaml:3:56: auth.users[1]: password is missing\n"
        "c.yaml:4:1: gateway: password is missing; user and password go together\n");
    free(errors);
}

static void files_must_be_there(void **state)
{
    const struct folder *folder = *state;
    struct esi_config *config;

    put_file(folder, "a.crt", "x");
    put_file(folder, "empty.key", "");
    put_file(folder, "c.yaml",
             "tls: {cert_path: a.crt, key_path: empty.key, root_ca_path: /nonexistent/ca.crt}\n"
             "auth: {token_file: none/tokens}\n"
             "log: {file: a.crt/log}\n"
             "gateway: {user: u, password_file: /}\n"
             "service: {health_check_credentials_file: check}\n");
    char *errors = load(folder, &config);
    assert_string_equal(
        errors,
        "c.yaml:1:35: tls.key_path: the file empty.key is empty\n"
        "c.yaml:1:60: tls.root_ca_path: the file /nonexistent/ca.crt cannot be read: not found\n"
        "c.yaml:2:20: auth.token_file: the folder none cannot be used: not found\n"
        "c.yaml:3:13: log.file: the folder a.crt cannot be used: not found\n"
        "c.yaml:4:35: gateway.password_file: the file / cannot be read: it is a folder, not a "
        "file\n"
        "c.yaml:4:1: gateway: password is missing; user and password go together\n");
    free(errors);
}

static void unreadable_configuration_is_told(void **state)
{
    const struct folder *folder = *state;
    struct folder missing = {.path = "/nonexistent"};
    struct esi_config *config;

    char *errors = load(&missing, &config);
    assert_string_equal(errors, "c.yaml:1:1: the file cannot be read: not found\n");
    free(errors);
    char path[128];
    snprintf(path, sizeof path, "%s/c.yaml", folder->path);
    assert_int_equal(mkdir(path, 0700), 0);
    errors = load(folder, &config);
    assert_string_equal(errors,
                        "c.yaml:1:1: the file cannot be read: it is a folder, not a file\n");
    free(errors);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_errors_of_a_run_are_told),
        cmocka_unit_test(the_same_in_toml),
        cmocka_unit_test(syntax_errors_have_a_place),
        cmocka_unit_test(lists_and_maps_say_where),
        cmocka_unit_test(second_names_are_not_given_twice),
        cmocka_unit_test(variables_are_replaced_everywhere),
        cmocka_unit_test(secrets_are_not_shown_in_errors),
        cmocka_unit_test_setup_teardown(secrets_come_from_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(files_must_be_there, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(unreadable_configuration_is_told, make_folder,
                                        remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
