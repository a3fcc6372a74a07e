/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: the schema's table holds together. Method: every row is looked at; look-ups are tried. */
#include "config/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void names_are_unique_and_described(void **state)
{
    size_t keys = 0;

    (void)state;
    for (size_t i = 0; i < esi_schema_row_count; i++) {
        const struct esi_schema_row *row = &esi_schema_rows[i];
        if (row->name == NULL) {
            assert_true(row->role == ROW_SHORTHAND || row->role == ROW_NAME);
            continue;
        }
        assert_ptr_equal(esi_schema_find(row->group, row->name), row);
        if (row->role != ROW_ALIAS && row->role != ROW_LATER) {
            assert_true(row->description != NULL && row->description[0] != '\0');
            assert_true(row->programs != 0);
            assert_true(row->least <= row->most);
            keys++;
        }
        if (row->role == ROW_ALIAS) {
            assert_non_null(esi_schema_find(row->group, row->words));
        }
    }
    /* As many as the contract names; fewer would mean that the table was not included as a whole.
     */
    assert_true(keys > 100);
}

static void every_group_is_reached(void **state)
{
    (void)state;
    for (int group = GROUP_ROOT + 1; group < GROUP_COUNT; group++) {
        size_t uses = 0;
        for (size_t i = 0; i < esi_schema_row_count; i++) {
            const struct esi_schema_row *row = &esi_schema_rows[i];
            const bool has_target =
                row->role == ROW_SECTION || row->role == ROW_LIST || row->role == ROW_MAP;
            uses += has_target && (int)row->target == group ? 1 : 0;
        }
        assert_true(uses >= 1);
        assert_true(esi_schema_group_bytes((enum esi_schema_group)group) > 0);
    }
}

static void typing_errors_get_a_hint(void **state)
{
    (void)state;
    assert_string_equal(esi_schema_nearest(GROUP_SERVICE, "prot"), "port");
    assert_string_equal(esi_schema_nearest(GROUP_SERVICE, "listner_limit"), "listener_limit");
    assert_string_equal(esi_schema_nearest(GROUP_ROOT, "handler"), "handlers");
    assert_string_equal(esi_schema_nearest(GROUP_TLS, "root_ca"), "root_ca_path");
    assert_null(esi_schema_nearest(GROUP_SERVICE, "zzzzzzzz"));
    assert_null(esi_schema_nearest(GROUP_SERVICE, "x"));
    /* Nobody is led to what is not built. */
    assert_null(esi_schema_nearest(GROUP_ROOT, "websockets"));
    char long_name[200];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_null(esi_schema_nearest(GROUP_SERVICE, long_name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique_and_described),
        cmocka_unit_test(every_group_is_reached),
        cmocka_unit_test(typing_errors_get_a_hint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
