/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the schema in words names every key with its default and what is allowed, and the JSON form
 * has every row. Method: each row of the table is looked for in both texts.
 */
#include "config/describe.h"

#include "config/schema.h"
#include "config_case.h"

static char *take_text(struct esi_bytes *out)
{
    assert_false(out->failed);
    char *text = strndup(out->data, out->len);
    assert_non_null(text);
    esi_bytes_deinit(out);
    return text;
}

static char *describe_keys(enum esi_config_program program)
{
    struct esi_bytes out;

    esi_bytes_init(&out, 0);
    esi_describe_keys(program, &out);
    return take_text(&out);
}

static void a_key_has_three_lines(void **state)
{
    char *text = describe_keys(CONFIG_EVENT_SERVICE);

    (void)state;
    assert_non_null(strstr(text, "\ngateway.reject_unknown: false\n"
                                 "    refuse gateways whose name is not among remotes\n"
                                 "    true or false\n"));
    assert_non_null(strstr(text, "\ngateway.remotes[].tls.timeout: 2s\n"));
    assert_non_null(strstr(text, "\nhandlers.NAME.retry.delay: 500ms\n"));
    assert_non_null(strstr(text, "\nhandlers.NAME\n    the address; HOST:PORT, "));
    assert_non_null(strstr(text, "\nauth.users[].password\n"));
    assert_non_null(strstr(text, "; or password_file: the path of a file that holds it\n"));
    /* auth.token_file is a key of its own, and holds no auth.token. */
    const char *token = strstr(text, "\nauth.token\n");
    assert_non_null(token);
    assert_true(
        strncmp(strstr(token, "    a text of") + strlen("    a text of 1 to 4096 printable"),
                " characters\n", strlen(" characters\n")) == 0);
    assert_null(strstr(text, ",\n"));
    free(text);
}

static void each_program_has_its_own_keys(void **state)
{
    char *service = describe_keys(CONFIG_EVENT_SERVICE);
    char *gateway = describe_keys(CONFIG_EVENT_GATEWAY);

    (void)state;
    assert_non_null(strstr(service, "service.event_limit: 100000\n"));
    assert_null(strstr(gateway, "service.event_limit"));
    assert_non_null(strstr(gateway, "frontend_tls[].cert_path\n"));
    assert_null(strstr(service, "frontend_tls"));
    assert_non_null(strstr(service, "gateway.port: 10147\n"));
    assert_non_null(strstr(gateway, "gateway.port: 10148\n"));
    /* What is not built is no key that may be written. */
    assert_null(strstr(service, "websocket"));
    free(service);
    free(gateway);
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;

    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        count++;
    }
    return count;
}

static void the_json_form_has_every_row(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_describe_json(&out);
    char *text = take_text(&out);
    assert_int_equal(count_of(text, "\"role\": "), esi_schema_row_count);
    for (size_t i = 0; i < esi_schema_row_count; i++) {
        const struct esi_schema_row *row = &esi_schema_rows[i];
        char line[300];
        if (row->name != NULL) {
            snprintf(line, sizeof line, "\"name\": \"%s\"", row->name);
            assert_non_null(strstr(text, line));
        }
        if (row->description != NULL) {
            snprintf(line, sizeof line, "\"description\": \"%s\"", row->description);
            assert_non_null(strstr(text, line));
        }
    }
    for (unsigned group = GROUP_ROOT; group < GROUP_COUNT; group++) {
        char line[64];
        snprintf(line, sizeof line, "\n  \"%s\": [",
                 esi_schema_group_name((enum esi_schema_group)group));
        assert_non_null(strstr(text, line));
    }
    free(text);
}

static void a_buffer_that_is_too_small_says_so(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 64);
    esi_describe_json(&out);
    assert_true(out.failed);
    esi_bytes_deinit(&out);
    esi_bytes_init(&out, 64);
    esi_describe_keys(CONFIG_EVENT_GATEWAY, &out);
    assert_true(out.failed);
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_has_three_lines),
        cmocka_unit_test(each_program_has_its_own_keys),
        cmocka_unit_test(the_json_form_has_every_row),
        cmocka_unit_test(a_buffer_that_is_too_small_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
