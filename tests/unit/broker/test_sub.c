/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a subscription keeps copies of its strings, knows where its subject has wildcards, and is
 * never handed over more messages than its maximum. Method: single ones, without a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/own.h"
#include "broker/sub.h"
#include "broker/subtable.h"

#include <stdlib.h>
#include <string.h>

static void test_strings_are_copied(void **state)
{
    struct esi_target target = {.slot = 0};
    char text[] = "a.b|workers|17";
    const struct esi_str subject = {.data = text, .len = 3};
    const struct esi_str queue = {.data = text + 4, .len = 7};
    const struct esi_str sid = {.data = text + 12, .len = 2};
    struct esi_sub *sub = esi_sub_new(&target, subject, queue, sid);

    (void)state;
    assert_non_null(sub);
    memset(text, '-', sizeof text);
    assert_true(esi_str_equal(sub->subject, ESI_STR("a.b")));
    assert_true(esi_str_equal(sub->queue, ESI_STR("workers")));
    assert_true(esi_str_equal(sub->sid, ESI_STR("17")));
    assert_ptr_equal(sub->target, &target);
    assert_false(esi_sub_is_routed(sub));
    assert_int_equal(esi_sub_bucket(sub), esi_subtable_bucket(ESI_STR("a.c")));
    esi_sub_free(sub, NULL);
}

static void test_wildcards_are_known(void **state)
{
    static const struct {
        const char *subject;
        bool is_pattern;
        bool begins_with_wildcard;
    } cases[] = {
        {"a", false, false},    {"a.b", false, false},  {"a.*", true, false},
        {"a.>", true, false},   {"*", true, true},      {">", true, true},
        {"*.a", true, true},    {"*a", false, false},   {"*a.b", false, false},
        {"a.*b", false, false}, {"a.*.b", true, false},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        struct esi_target target = {.slot = 0};
        struct esi_sub *sub =
            esi_sub_new(&target, esi_str_from(cases[i].subject), ESI_STR(""), ESI_STR("1"));
        assert_non_null(sub);
        assert_int_equal(esi_sub_is_pattern(sub), cases[i].is_pattern);
        assert_int_equal(esi_sub_begins_with_wildcard(sub), cases[i].begins_with_wildcard);
        esi_sub_free(sub, NULL);
    }
}

/* As many as may be claimed, never one for a maximum that has been passed by. */
static void test_claims(void **state)
{
    struct esi_target target = {.slot = 0};
    struct esi_sub *sub = esi_sub_new(&target, ESI_STR("a"), ESI_STR(""), ESI_STR("1"));

    (void)state;
    assert_non_null(sub);
    assert_false(esi_sub_claim(sub));
    esi_sub_add_claims(sub, 2);
    assert_true(esi_sub_claim(sub));
    assert_true(esi_sub_claim(sub));
    assert_false(esi_sub_claim(sub));
    esi_sub_add_claims(sub, -3);
    esi_sub_add_claims(sub, 3);
    assert_false(esi_sub_claim(sub));
    esi_sub_add_claims(sub, 1);
    assert_true(esi_sub_claim(sub));
    assert_false(esi_sub_claim(sub));
    esi_sub_free(sub, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings_are_copied),
        cmocka_unit_test(test_wildcards_are_known),
        cmocka_unit_test(test_claims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
