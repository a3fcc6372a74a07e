/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: who shows the right secret, and only who does, is taken for whom the secret belongs to,
 * with that one's permissions; a password hash is asked for when it must be, and not again while
 * the answer is remembered. Method: configurations as text, checks by hand, a clock that the test
 * sets.
 */
#include "actors/auth_check.h"
#include "actors/credentials.h"
#include "base/own.h"
#include "config/config.h"
#include "env/env.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* In the form of a bcrypt hash; nothing here computes one. */
#define HASHED_PW "$2b$04$abcdefghijklmnopqrstuuG1zJmgCw6mTU6jgBMEhoLfcxUsFRtjy"

static struct esi_config *config;
static struct esi_credentials *credentials;
static struct esi_token_file *tokens;
static struct esi_credentials_slow slow;
static struct esi_actor asker;

/* Who is asked for; NULL: not given. */
struct shown {
    const char *user;
    const char *pass;
    const char *token;
    bool is_more; /* an nkey */
    enum esi_auth_door door;
};

static void make(const char *auth)
{
    const struct esi_config_source source = {.path = "test.yaml",
                                             .text = esi_str_from(auth),
                                             .program = CONFIG_EVENT_SERVICE,
                                             .without_files = true};
    struct esi_bytes errors;
    struct es_error error = {.text = ""};

    esi_bytes_init(&errors, 0);
    if (esi_config_parse(esi_env_linux(), &source, &config, &errors) != ES_OK) {
        fail_msg("%.*s", ESI_STR_ARG(esi_bytes_str(&errors)));
    }
    esi_bytes_deinit(&errors);
    if (esi_credentials_new(config, esi_env_linux(), &credentials, &error) != ES_OK) {
        fail_msg("%s", error.text);
    }
}

static int tear_down(void **state)
{
    (void)state;
    esi_credentials_free(ESI_MOVE(credentials));
    esi_config_free(ESI_MOVE(config));
    esi_token_file_free(ESI_MOVE(tokens));
    return 0;
}

static struct esi_auth_check *check_of(struct shown shown)
{
    const struct esi_auth_shown texts = {.user = esi_str_from(shown.user),
                                         .pass = esi_str_from(shown.pass),
                                         .token = esi_str_from(shown.token),
                                         .has_other = shown.is_more};
    struct esi_auth_check *check = esi_auth_check_new(&asker, 0, 1, &texts);

    assert_non_null(check);
    check->door = shown.door;
    return check;
}

static enum esi_credentials_answer judge_at(struct shown shown, uint64_t now_ns, const char **name)
{
    static char kept[64];
    struct esi_auth_check *check = check_of(shown);
    const enum esi_credentials_answer answer = esi_credentials_judge(
        credentials, check, tokens, now_ns, esi_env_wall_ns(esi_env_linux()), &slow);

    /* The verdict and the answer say the same. */
    assert_int_equal(check->verdict.kind == VERDICT_ACCEPTED, answer == CREDENTIALS_ACCEPTED);
    snprintf(kept, sizeof kept, "%s", check->verdict.name != NULL ? check->verdict.name : "");
    *name = kept;
    check->msg.free(&check->msg);
    return answer;
}

static void expect_name(struct shown shown, const char *name)
{
    const char *got = NULL;

    assert_int_equal(judge_at(shown, 0, &got), CREDENTIALS_ACCEPTED);
    assert_string_equal(got, name);
}

static void expect_refused(struct shown shown)
{
    const char *got = NULL;

    assert_int_equal(judge_at(shown, 0, &got), CREDENTIALS_REFUSED);
}

static void plain_users_are_judged_at_once(void **state)
{
    (void)state;
    make("auth:\n  users:\n    - {user: a, password: pa}\n    - {user: b, password: pb}\n");
    expect_name((struct shown){.user = "a", .pass = "pa"}, "a");
    expect_name((struct shown){.user = "b", .pass = "pb", .token = "ignored"}, "b");
    expect_refused((struct shown){.user = "a", .pass = "pb"});
    expect_refused((struct shown){.user = "a", .pass = "pa "});
    expect_refused((struct shown){.user = "a"});
    expect_refused((struct shown){.user = "c", .pass = "pa"});
    expect_refused((struct shown){.pass = "pa"});
    expect_refused((struct shown){.token = "pa"});
    expect_refused((struct shown){0});
    assert_int_equal(esi_credentials_user_count(credentials), 2);
}

#define GATEWAY(user_, pass_)                                                                      \
    ((struct shown){.user = (user_), .pass = (pass_), .door = AUTH_DOOR_GATEWAY})

/* A gateway is judged by gateway.user alone, a client never. */
static void gateways_have_a_secret_of_their_own(void **state)
{
    const char *name = NULL;

    (void)state;
    make("auth:\n  token: tt\n  users:\n    - {user: a, password: pa}\n"
         "gateway: {name: A, port: 1, user: link, password: pl}\n");
    expect_name(GATEWAY("link", "pl"), "link");
    expect_refused(GATEWAY("link", "pa"));
    expect_refused(GATEWAY("link", ""));
    expect_refused(GATEWAY("a", "pa"));
    expect_refused(GATEWAY("a", "pl"));
    expect_refused(GATEWAY("", "pl"));
    expect_refused((struct shown){.token = "tt", .door = AUTH_DOOR_GATEWAY});
    expect_refused((struct shown){.user = "link", .pass = "pl"});
    expect_name((struct shown){.user = "a", .pass = "pa"}, "a");
    tear_down(NULL);

    make("auth:\n  users:\n    - {user: a, password: pa}\n  no_auth_user: a\n");
    expect_refused(GATEWAY("", ""));
    expect_refused(GATEWAY("a", "pa"));
    tear_down(NULL);

    /* Whoever is named, the password is computed: nobody learns the name by the time that takes. */
    make("gateway: {name: A, port: 1, user: link, password: \"" HASHED_PW "\"}\n");
    assert_int_equal(judge_at(GATEWAY("link", "x"), 0, &name), CREDENTIALS_SLOW);
    assert_non_null(slow.who);
    struct esi_credential *who = slow.who;
    uint8_t key[ESI_CRYPTO_SHA256_BYTES];
    memcpy(key, slow.key, sizeof key);
    assert_int_equal(judge_at(GATEWAY("other", "x"), 0, &name), CREDENTIALS_SLOW);
    assert_null(slow.who);
    esi_credentials_remember(credentials, who, key, 0);
    expect_name(GATEWAY("link", "x"), "link");
    assert_int_equal(judge_at(GATEWAY("link", "y"), 0, &name), CREDENTIALS_SLOW);
}

static void tokens_of_all_kinds_are_found(void **state)
{
    struct es_error error;
    char line[128];
    char hex[ESI_CRYPTO_SHA256_HEX_BYTES];

    (void)state;
    make("auth:\n  token: the-token\n");
    esi_crypto_sha256_hex("file-token", 10, hex);
    snprintf(line, sizeof line, "filed %s\n", hex);
    assert_int_equal(esi_token_file_parse("t", esi_str_from(line), &tokens, &error), ES_OK);
    assert_int_equal(esi_credentials_set_health_token(credentials, ESI_STR("HEALTHCHECK-x")),
                     ES_OK);
    expect_name((struct shown){.token = "the-token"}, "token");
    expect_name((struct shown){.token = "the-token", .user = "whoever", .pass = "x"}, "token");
    expect_name((struct shown){.token = "file-token"}, "filed");
    expect_name((struct shown){.token = "HEALTHCHECK-x"}, "health-check");
    expect_refused((struct shown){.token = "HEALTHCHECK-y"});
    expect_refused((struct shown){.token = hex});
    expect_refused((struct shown){.token = "the-token2"});
    expect_refused((struct shown){.pass = "the-token"});
    expect_refused((struct shown){0});
}

static void nothing_shown_is_the_user_without_auth(void **state)
{
    (void)state;
    make("auth:\n  no_auth_user: a\n  users:\n    - {user: a, password: pa}\n");
    expect_name((struct shown){0}, "a");
    expect_refused((struct shown){.is_more = true});
    expect_refused((struct shown){.user = "x"});
    expect_refused((struct shown){.token = "x"});
    expect_refused((struct shown){.pass = "pa"});
    expect_name((struct shown){.user = "a", .pass = "pa"}, "a");
}

static void hashed_passwords_are_asked_for_once(void **state)
{
    const struct shown right = {.user = "h", .pass = "hashed-pw"};
    const uint64_t second_ns = 1000000000;
    const char *name = NULL;

    (void)state;
    make("auth:\n  cache_ttl: 30s\n  token: \"" HASHED_PW "\"\n  users:\n"
         "    - {user: p, password: pp}\n    - {user: h, password: \"" HASHED_PW "\"}\n");
    assert_int_equal(judge_at(right, second_ns, &name), CREDENTIALS_SLOW);
    assert_string_equal(slow.hash, HASHED_PW);
    assert_non_null(slow.who);
    const struct esi_credentials_slow first = slow;

    /* The same question has the same key, every other another one. */
    assert_int_equal(judge_at(right, second_ns, &name), CREDENTIALS_SLOW);
    assert_memory_equal(slow.key, first.key, sizeof slow.key);
    assert_int_equal(judge_at((struct shown){.user = "h", .pass = "other"}, second_ns, &name),
                     CREDENTIALS_SLOW);
    assert_memory_not_equal(slow.key, first.key, sizeof slow.key);
    assert_int_equal(judge_at((struct shown){.token = "hashed-pw"}, second_ns, &name),
                     CREDENTIALS_SLOW);
    assert_memory_not_equal(slow.key, first.key, sizeof slow.key);
    /* Who is not known costs the same, and is nobody. */
    assert_int_equal(judge_at((struct shown){.user = "x", .pass = "hashed-pw"}, second_ns, &name),
                     CREDENTIALS_SLOW);
    assert_null(slow.who);
    assert_memory_not_equal(slow.key, first.key, sizeof slow.key);

    esi_credentials_remember(credentials, first.who, first.key, 2 * second_ns);
    assert_int_equal(judge_at(right, 31 * second_ns, &name), CREDENTIALS_ACCEPTED);
    assert_string_equal(name, "h");
    assert_int_equal(judge_at((struct shown){.user = "h", .pass = "other"}, 31 * second_ns, &name),
                     CREDENTIALS_SLOW);
    assert_int_equal(judge_at(right, 32 * second_ns, &name), CREDENTIALS_SLOW);
}

static void permissions_are_shared_and_defaulted(void **state)
{
    struct esi_permissions *seen[4];
    const struct shown shown[] = {{.user = "a", .pass = "p"},
                                  {.user = "b", .pass = "p"},
                                  {.token = "the-token"},
                                  {.user = "a", .pass = "p"}};

    (void)state;
    make("auth:\n  token: the-token\n  default_permissions: {publish: [d]}\n  users:\n"
         "    - {user: a, password: p, permissions: {publish: {allow: [own], deny: [own.x]}}}\n"
         "    - {user: b, password: p}\n");
    for (size_t i = 0; i < ESI_COUNT_OF(shown); i++) {
        struct esi_auth_check *check = check_of(shown[i]);
        assert_int_equal(esi_credentials_judge(credentials, check, NULL, 0, 0, &slow),
                         CREDENTIALS_ACCEPTED);
        seen[i] = esi_permissions_ref(check->verdict.permissions);
        check->msg.free(&check->msg);
    }
    assert_ptr_equal(seen[0], seen[3]);
    assert_ptr_equal(seen[1], seen[2]);
    assert_ptr_not_equal(seen[0], seen[1]);
    assert_true(esi_permissions_may_publish(seen[0], ESI_STR("own")));
    assert_false(esi_permissions_may_publish(seen[0], ESI_STR("d")));
    assert_true(esi_permissions_may_publish(seen[1], ESI_STR("d")));
    assert_false(esi_permissions_may_publish(seen[1], ESI_STR("own")));
    for (size_t i = 0; i < ESI_COUNT_OF(seen); i++) {
        esi_permissions_unref(seen[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(plain_users_are_judged_at_once, tear_down),
        cmocka_unit_test_teardown(gateways_have_a_secret_of_their_own, tear_down),
        cmocka_unit_test_teardown(tokens_of_all_kinds_are_found, tear_down),
        cmocka_unit_test_teardown(nothing_shown_is_the_user_without_auth, tear_down),
        cmocka_unit_test_teardown(hashed_passwords_are_asked_for_once, tear_down),
        cmocka_unit_test_teardown(permissions_are_shared_and_defaulted, tear_down),
    };
    static const struct esi_actor_type asker_type = {.name = "asker"};

    /* Never started, never freed: it only counts references. */
    esi_actor_init(&asker, &asker_type, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
