/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: a verdict refuses unless it was made an acceptance, and gives up what it holds. Method:
 * each step, with counted references. */
#include "auth/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct esi_permissions *some_permissions(void)
{
    const struct esi_str entries[] = {ESI_STR("a")};
    const struct esi_permissions_spec spec = {.publish_allow = {entries, 1, true}};
    struct esi_permissions *permissions = NULL;

    assert_int_equal(esi_permissions_new(&spec, &permissions, NULL), ES_OK);
    return permissions;
}

static void test_refused_by_default(void **state)
{
    struct esi_verdict verdict = {0};

    (void)state;
    assert_int_equal(verdict.kind, VERDICT_REFUSED);
    esi_verdict_init(&verdict);
    assert_int_equal(verdict.kind, VERDICT_REFUSED);
    esi_verdict_deinit(&verdict);
}

static void test_accept_and_accept_again(void **state)
{
    const uint8_t hash[ESI_CRYPTO_SHA256_BYTES] = {1, 2, 3};
    struct esi_permissions *permissions = some_permissions();
    struct esi_verdict verdict;

    (void)state;
    esi_verdict_init(&verdict);
    assert_int_equal(esi_verdict_accept(&verdict, ESI_STR("ci"), permissions, 1000), ES_OK);
    esi_permissions_unref(permissions);
    esi_verdict_set_token_hash(&verdict, hash);
    assert_int_equal(verdict.kind, VERDICT_ACCEPTED);
    assert_string_equal(verdict.name, "ci");
    assert_int_equal(verdict.expires_wall_ns, 1000);
    assert_true(verdict.has_token_hash);
    assert_memory_equal(verdict.token_hash, hash, sizeof hash);
    assert_false(esi_permissions_may_publish(verdict.permissions, ESI_STR("b")));
    /* Accepted again with what it holds itself. */
    assert_int_equal(
        esi_verdict_accept(&verdict, esi_str_from(verdict.name), verdict.permissions, 0), ES_OK);
    assert_int_equal(verdict.kind, VERDICT_ACCEPTED);
    assert_int_equal(verdict.expires_wall_ns, 0);
    assert_false(verdict.has_token_hash);
    esi_verdict_deinit(&verdict);
    assert_int_equal(verdict.kind, VERDICT_REFUSED);
    assert_null(verdict.name);
    assert_null(verdict.permissions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_by_default),
        cmocka_unit_test(test_accept_and_accept_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
