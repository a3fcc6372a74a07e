/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each error code has a sentence of its own, and a number that is none has one too. Method:
 * all codes, each against all others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"

#include <string.h>

static void test_sentences_differ(void **state)
{
    const char *unknown = es_err_text((enum es_err)1);

    (void)state;
    assert_true(strlen(unknown) > 0);
    for (int a = ES_FOLDER; a <= ES_OK; a++) {
        const char *text = es_err_text((enum es_err)a);
        assert_true(strlen(text) > 0);
        assert_true(text[strlen(text) - 1] != '.');
        assert_string_not_equal(text, unknown);
        for (int b = a + 1; b <= ES_OK; b++) {
            assert_string_not_equal(text, es_err_text((enum es_err)b));
        }
    }
    /* ES_FOLDER is the last code: a new one belongs into this loop. */
    assert_string_equal(es_err_text((enum es_err)(ES_FOLDER - 1)), unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentences_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
