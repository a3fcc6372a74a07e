/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: only a valid token of a valid file opens the door, until it expires or is revoked. Method:
 * files with one fault each, tokens added, listed and revoked as text, with an environment whose
 * randomness is a counter.
 */
#include "auth/token_file.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HASH_A "a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff"
#define HASH_B "b0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff"

static const int64_t second_ns = 1000000000;

static void count_up(struct esi_env *env, void *out, size_t len)
{
    static uint8_t next;

    (void)env;
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)out)[i] = next++;
    }
}

static struct esi_env *counting_env(void)
{
    static const struct esi_env_ops ops = {.random = count_up};
    static struct esi_env env = {&ops};

    return &env;
}

static struct esi_token_file *parse(const char *text)
{
    struct esi_token_file *file = NULL;
    struct es_error error = {{0}};

    if (esi_token_file_parse("tokens", esi_str_from(text), &file, &error) != ES_OK) {
        fail_msg("%s", error.text);
    }
    return file;
}

static void test_parse(void **state)
{
    struct esi_token_file *file = parse("# comment\n\n  \t# another\r\nci " HASH_A
                                        " expires=2027-01-31T12:00:00Z publish=a.>,b\r\n"
                                        "\tweb-1.x_Y \t " HASH_B "  subscribe=c,d.*  \n");
    const struct esi_str none = {0};

    (void)state;
    assert_int_equal(esi_token_file_count(file), 2);
    const struct esi_token *ci = esi_token_file_at(file, 0);
    const struct esi_token *web = esi_token_file_at(file, 1);
    assert_true(esi_str_equal(ci->name, ESI_STR("ci")));
    assert_int_equal(ci->hash[0], 0xa0);
    assert_int_equal(ci->hash[31], 0xff);
    assert_int_equal(ci->expires_wall_ns, 1801396800 * second_ns);
    assert_true(esi_permissions_may_publish(ci->permissions, ESI_STR("a.x")));
    assert_false(esi_permissions_may_publish(ci->permissions, ESI_STR("event.x")));
    /* A list that is not given is the default, not everything. */
    assert_true(esi_permissions_may_subscribe(ci->permissions, ESI_STR("_INBOX.>"), none));
    assert_false(esi_permissions_may_subscribe(ci->permissions, ESI_STR(">"), none));
    assert_true(esi_str_equal(web->name, ESI_STR("web-1.x_Y")));
    assert_int_equal(web->expires_wall_ns, 0);
    assert_true(esi_permissions_may_publish(web->permissions, ESI_STR("event.x.y")));
    assert_true(esi_permissions_may_publish(web->permissions, ESI_STR("habitat.event.x")));
    assert_true(esi_permissions_may_publish(web->permissions, ESI_STR("_INBOX.x")));
    assert_false(esi_permissions_may_publish(web->permissions, ESI_STR("a.x")));
    assert_true(esi_permissions_may_subscribe(web->permissions, ESI_STR("d.x"), none));
    assert_false(esi_permissions_may_subscribe(web->permissions, ESI_STR("_INBOX.x"), none));
    assert_ptr_equal(esi_token_file_find(file, ci->hash), ci);
    esi_token_file_free(file);
}

/* One bad line refuses the whole file, and the text says which. */
static void test_faults(void **state)
{
    static const char *const bad[] = {
        "x",
        "x " HASH_A "0",
        "x a0b1",
        "x g0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff",
        "../x " HASH_A,
        "-x " HASH_A,
        ".x " HASH_A,
        "x/y " HASH_A,
        "n\xc3\xa9 " HASH_A,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " HASH_A,
        "x " HASH_A " expires=",
        "x " HASH_A " expires=tomorrow",
        "x " HASH_A " expires=2027-01-31",
        "x " HASH_A " expires=2027-01-31T12:00:00",
        "x " HASH_A " expires=2027-02-30T12:00:00Z",
        "x " HASH_A " expires=2027-13-01T12:00:00Z",
        "x " HASH_A " expires=2027-00-01T12:00:00Z",
        "x " HASH_A " expires=2027-01-31T24:00:00Z",
        "x " HASH_A " expires=2027-01-31T12:60:00Z",
        "x " HASH_A " expires=2027-01-31T12:00:00.Z",
        "x " HASH_A " expires=2027-01-31T12:00:00+1:00",
        "x " HASH_A " expires=2027-01-31T12:00:00Zx",
        "x " HASH_A " expires=1969-01-31T12:00:00Z",
        "x " HASH_A " expires=9999-01-31T12:00:00Z",
        "x " HASH_A " expires=2027-01-31T12:00:00Z expires=2027-01-31T12:00:00Z",
        "x " HASH_A " publish=",
        "x " HASH_A " publish=a..b",
        "x " HASH_A " publish=a,,b",
        "x " HASH_A " publish=a,",
        "x " HASH_A " publish=a.>.b",
        "x " HASH_A " publish=a publish=b",
        "x " HASH_A " subscribe=a subscribe=b",
        "x " HASH_A " PUBLISH=a",
        "x " HASH_A " allow=a",
        "x " HASH_A " publish=a subscribe=b expires=2027-01-31T12:00:00Z more",
        "good " HASH_A,
        "other " HASH_B,
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        char text[1024];
        struct esi_token_file *file = NULL;
        struct es_error error = {{0}};
        snprintf(text, sizeof text, "# head\ngood " HASH_B "\n%s\n", bad[i]);
        if (esi_token_file_parse("tokens", esi_str_from(text), &file, &error) != ES_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_null(file);
        assert_int_equal(strncmp(error.text, "tokens:3: ", 10), 0);
        assert_true(strlen(error.text) > 15);
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        {"2027-01-31T12:00:00Z", 1801396800},        {"2261-12-31T23:59:59Z", 9214646399},
        {"2027-01-31T14:00:00+02:00", 1801396800},   {"2027-01-31T11:30:00-00:30", 1801396800},
        {"2027-01-31T12:00:00.999999Z", 1801396800}, {"2028-02-29T00:00:00Z", 1835395200},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        char text[256];
        snprintf(text, sizeof text, "x " HASH_A " expires=%s", rows[i].text);
        struct esi_token_file *file = parse(text);
        assert_int_equal(esi_token_file_at(file, 0)->expires_wall_ns, rows[i].seconds * second_ns);
        esi_token_file_free(file);
    }
    /* The first second of 1970 is long over, not "never". */
    struct esi_token_file *file = parse("x " HASH_A " expires=1970-01-01T00:00:00Z");
    assert_true(esi_token_file_at(file, 0)->expires_wall_ns > 0);
    esi_token_file_free(file);
}

static void test_empty_file_lets_nobody_in(void **state)
{
    static const char *const texts[] = {"", "\n", "# only a comment"};
    struct esi_verdict verdict;

    (void)state;
    esi_verdict_init(&verdict);
    for (size_t i = 0; i < ESI_COUNT_OF(texts); i++) {
        struct esi_token_file *file = parse(texts[i]);
        assert_int_equal(esi_token_file_count(file), 0);
        assert_int_equal(esi_token_file_check(file, ESI_STR("x"), 0, &verdict), ES_DENIED);
        assert_int_equal(esi_token_file_check(file, ESI_STR(""), 0, &verdict), ES_DENIED);
        assert_int_equal(verdict.kind, VERDICT_REFUSED);
        esi_token_file_free(file);
    }
    esi_verdict_deinit(&verdict);
}

/* No token at all is no token, even if somebody stored the hash of nothing. */
static void test_empty_secret(void **state)
{
    struct esi_token_file *file =
        parse("x e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct esi_verdict verdict;

    (void)state;
    esi_verdict_init(&verdict);
    assert_int_equal(esi_token_file_check(file, ESI_STR(""), 1, &verdict), ES_DENIED);
    assert_int_equal(esi_token_file_check(file, (struct esi_str){0}, 1, &verdict), ES_DENIED);
    esi_token_file_free(file);
}

/* The way of an operator: add two tokens, use them, let one expire, revoke the other. */
static void test_add_use_revoke(void **state)
{
    const struct esi_token_request first = {
        .name = "ci", .expires = "2027-01-31T12:00:00Z", .publish = "a.>,b"};
    const struct esi_token_request second = {.name = "web"};
    char secret_ci[ESI_TOKEN_FILE_SECRET_CAPACITY];
    char secret_web[ESI_TOKEN_FILE_SECRET_CAPACITY];
    struct esi_bytes one;
    struct esi_bytes two;
    struct esi_bytes three;
    struct esi_verdict verdict;
    struct es_error error = {{0}};

    (void)state;
    esi_bytes_init(&one, 0);
    esi_bytes_init(&two, 0);
    esi_bytes_init(&three, 0);
    esi_verdict_init(&verdict);
    assert_int_equal(esi_token_file_add(counting_env(), "tokens", ESI_STR("# mine"), &first, &one,
                                        secret_ci, &error),
                     ES_OK);
    assert_int_equal(esi_token_file_add(counting_env(), "tokens", esi_bytes_str(&one), &second,
                                        &two, secret_web, &error),
                     ES_OK);
    assert_int_equal(strncmp(two.data, "# mine\nci ", 10), 0);
    assert_string_not_equal(secret_ci, secret_web);
    assert_int_equal(strlen(secret_ci), 32);
    /* The secret itself is nowhere in the file. */
    assert_null(memmem(two.data, two.len, secret_ci, strlen(secret_ci)));

    struct esi_token_file *file = NULL;
    assert_int_equal(esi_token_file_parse("tokens", esi_bytes_str(&two), &file, &error), ES_OK);
    assert_int_equal(esi_token_file_check(file, esi_str_from(secret_ci), 1, &verdict), ES_OK);
    assert_int_equal(verdict.kind, VERDICT_ACCEPTED);
    assert_string_equal(verdict.name, "ci");
    assert_true(verdict.has_token_hash);
    assert_false(esi_permissions_may_publish(verdict.permissions, ESI_STR("event.x")));
    assert_int_equal(
        esi_token_file_check(file, esi_str_from(secret_ci), 1801396800 * second_ns, &verdict),
        ES_DENIED);
    assert_int_equal(esi_token_file_check(file, ESI_STR("wrong"), 1, &verdict), ES_DENIED);
    assert_int_equal(esi_token_file_check(file, esi_str_from(secret_web), INT64_MAX, &verdict),
                     ES_OK);
    assert_string_equal(verdict.name, "web");
    esi_token_file_free(file);
    /* The verdict outlives the set that made it. */
    assert_true(esi_permissions_may_publish(verdict.permissions, ESI_STR("event.x")));

    assert_int_equal(esi_token_file_revoke("tokens", esi_bytes_str(&two), "web", &three, &error),
                     ES_OK);
    assert_true(esi_str_equal(esi_bytes_str(&three), esi_bytes_str(&one)));
    assert_int_equal(esi_token_file_parse("tokens", esi_bytes_str(&three), &file, &error), ES_OK);
    assert_null(esi_token_file_find(file, verdict.token_hash));
    assert_int_equal(esi_token_file_check(file, esi_str_from(secret_web), 1, &verdict), ES_DENIED);
    esi_token_file_free(file);
    esi_verdict_deinit(&verdict);
    esi_bytes_deinit(&one);
    esi_bytes_deinit(&two);
    esi_bytes_deinit(&three);
}

static void expect_add(const struct esi_token_request *request, const char *text,
                       enum es_err expected)
{
    char secret[ESI_TOKEN_FILE_SECRET_CAPACITY] = "untouched";
    struct esi_bytes out;
    struct es_error error = {{0}};

    esi_bytes_init(&out, 0);
    const enum es_err err = esi_token_file_add(counting_env(), "tokens", esi_str_from(text),
                                               request, &out, secret, &error);
    if (err != expected) {
        fail_msg("add %s: %d, expected %d", request->name, err, expected);
    }
    if (err != ES_OK) {
        assert_string_equal(secret, "untouched");
        assert_true(strlen(error.text) > 0);
    }
    esi_bytes_deinit(&out);
}

/* What the command line gives cannot forge a field or a line. */
static void test_add_refused(void **state)
{
    const struct esi_token_request rows[] = {
        {.name = ""},
        {.name = "a b"},
        {.name = "a\nroot"},
        {.name = "#x"},
        {.name = "../x"},
        {.name = "x", .expires = "soon"},
        {.name = "x", .publish = "a subscribe=>"},
        {.name = "x", .publish = "a\nroot " HASH_A},
        {.name = "x", .publish = "a..b"},
        {.name = "x", .subscribe = "a,,b"},
    };
    const struct esi_token_request taken = {.name = "x"};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        expect_add(&rows[i], "", ES_INVALID);
    }
    expect_add(&taken, "x " HASH_A "\n", ES_EXISTS);
    expect_add(&taken, "y " HASH_A "\n", ES_OK);
    expect_add(&taken, "a broken line\n", ES_INVALID);
}

static void test_revoke_others_stay(void **state)
{
    const char *text =
        "# head\r\na " HASH_A "\r\n\n  b " HASH_B " # not a comment? no: an unknown option\n";
    const char *good = "# a\r\n  a " HASH_A " publish=b\r\n# b\nb " HASH_B;
    struct esi_bytes out;
    struct es_error error = {{0}};

    (void)state;
    esi_bytes_init(&out, 0);
    assert_int_equal(esi_token_file_revoke("tokens", esi_str_from(text), "a", &out, &error),
                     ES_INVALID);
    esi_bytes_clear(&out);
    assert_int_equal(esi_token_file_revoke("tokens", esi_str_from(good), "c", &out, &error),
                     ES_NOT_FOUND);
    assert_string_equal(error.text, "tokens: there is no token named c");
    esi_bytes_clear(&out);
    assert_int_equal(esi_token_file_revoke("tokens", esi_str_from(good), "a", &out, &error), ES_OK);
    assert_true(esi_str_equal(esi_bytes_str(&out), ESI_STR("# a\r\n# b\nb " HASH_B)));
    esi_bytes_clear(&out);
    assert_int_equal(esi_token_file_revoke("tokens", esi_str_from(good), "b", &out, &error), ES_OK);
    assert_true(
        esi_str_equal(esi_bytes_str(&out), ESI_STR("# a\r\n  a " HASH_A " publish=b\r\n# b\n")));
    esi_bytes_deinit(&out);
}

static void test_list(void **state)
{
    struct esi_token_file *file =
        parse("a " HASH_A " expires=2027-01-31T12:00:00Z publish=x\x1b[2J\n"
              "b " HASH_B " subscribe=c,d.*\n");
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_token_file_list(file, 1801396800 * second_ns, &out);
    assert_true(esi_str_equal(esi_bytes_str(&out),
                              ESI_STR("NAME\tEXPIRES\tPUBLISH\tSUBSCRIBE\n"
                                      "a\texpired 2027-01-31T12:00:00Z\tx?[2J\t_INBOX.>\n"
                                      "b\tnever\tevent.>,habitat.event.*,_INBOX.>\tc,d.*\n")));
    esi_bytes_deinit(&out);
    esi_token_file_free(file);
}

/* A reloaded set: what is the same keeps its rules object, what has changed gets another. */
static void test_adopt(void **state)
{
    struct esi_token_file *former = parse("a " HASH_A " publish=x\nb " HASH_B "\n");
    struct esi_token_file *same =
        parse("# moved\nb " HASH_B " expires=2027-01-31T12:00:00Z\nrenamed " HASH_A " publish=x\n");
    struct esi_token_file *changed = parse("a " HASH_A " publish=x,y\nb " HASH_B " subscribe=z\n");

    (void)state;
    esi_token_file_adopt(same, NULL);
    assert_ptr_not_equal(esi_token_file_at(same, 1)->permissions,
                         esi_token_file_at(former, 0)->permissions);
    esi_token_file_adopt(same, former);
    esi_token_file_adopt(changed, former);
    assert_ptr_equal(esi_token_file_at(same, 1)->permissions,
                     esi_token_file_at(former, 0)->permissions);
    assert_ptr_equal(esi_token_file_at(same, 0)->permissions,
                     esi_token_file_at(former, 1)->permissions);
    for (size_t i = 0; i < 2; i++) {
        assert_ptr_not_equal(esi_token_file_at(changed, i)->permissions,
                             esi_token_file_at(former, i)->permissions);
    }
    /* The rules live on when the set that they came from is gone. */
    esi_token_file_free(former);
    assert_true(esi_permissions_may_publish(esi_token_file_at(same, 1)->permissions, ESI_STR("x")));
    assert_false(
        esi_permissions_may_publish(esi_token_file_at(same, 1)->permissions, ESI_STR("y")));
    esi_token_file_free(same);
    esi_token_file_free(changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_times),        cmocka_unit_test(test_empty_file_lets_nobody_in),
        cmocka_unit_test(test_empty_secret), cmocka_unit_test(test_add_use_revoke),
        cmocka_unit_test(test_add_refused),  cmocka_unit_test(test_revoke_others_stay),
        cmocka_unit_test(test_list),         cmocka_unit_test(test_adopt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
