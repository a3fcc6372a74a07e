/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: error lines look as promised, are escaped and bounded. Method: lines are added and
 * compared. */
#include "config/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void lines_name_file_place_and_key(void **state)
{
    struct esi_bytes out;
    struct esi_report report;
    struct esi_node_tree tree;
    struct esi_node *section = NULL;
    struct esi_node *value = NULL;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_node_init(&tree);
    esi_report_init(&report, "f.yaml", &out);
    esi_report_add(&report, (struct esi_position){2, 3}, "a.b", "%d found", 5);
    esi_report_add(&report, (struct esi_position){4, 1}, NULL, "no key");
    assert_int_equal(
        esi_node_make(&tree, NODE_MAP, (struct esi_position){1, 1}, ESI_STR(""), &tree.root),
        ES_OK);
    assert_int_equal(
        esi_node_make(&tree, NODE_MAP, (struct esi_position){7, 3}, ESI_STR(""), &section), ES_OK);
    assert_int_equal(
        esi_node_make(&tree, NODE_SCALAR, (struct esi_position){7, 6}, ESI_STR("x"), &value),
        ES_OK);
    assert_int_equal(
        esi_node_insert(tree.root, ESI_STR("tls"), (struct esi_position){6, 1}, section), ES_OK);
    assert_int_equal(esi_node_insert(section, ESI_STR("k"), (struct esi_position){7, 3}, value),
                     ES_OK);
    report.root = tree.root;
    esi_report_add_key(&report, "tls.k", "a value");
    esi_report_add_key(&report, "tls", "a section");
    esi_report_add_key(&report, "tls.missing", "its section");
    esi_report_add_key(&report, "auth", "nowhere");
    esi_report_finish(&report);
    esi_bytes_append(&out, "", 1);
    assert_string_equal(out.data, "f.yaml:2:3: a.b: 5 found\n"
                                  "f.yaml:4:1: no key\n"
                                  "f.yaml:7:6: tls.k: a value\n"
                                  "f.yaml:6:1: tls: a section\n"
                                  "f.yaml:6:1: tls.missing: its section\n"
                                  "f.yaml:1:1: auth: nowhere\n");
    esi_node_deinit(&tree);
    esi_bytes_deinit(&out);
}

static void very_many_errors_are_counted_only(void **state)
{
    struct esi_bytes out;
    struct esi_report report;
    size_t lines = 0;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_report_init(&report, "f", &out);
    for (int i = 0; i < REPORT_LINES_MAX + 7; i++) {
        esi_report_add(&report, (struct esi_position){1, 1}, NULL, "x");
    }
    esi_report_finish(&report);
    esi_bytes_append(&out, "", 1);
    for (const char *at = out.data; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, REPORT_LINES_MAX + 1);
    assert_non_null(strstr(out.data, "f: 7 more errors\n"));
    esi_bytes_deinit(&out);
}

static void found_texts_are_escaped_and_cut(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_report_quote("a\n\"\\\x1B", &out);
    esi_bytes_append(&out, "", 1);
    assert_string_equal(out.data, "\"a\\x0a\\\"\\\\\\x1b\"");
    esi_bytes_clear(&out);
    esi_report_quote("0123456789012345678901234567890123456789012345678901234567890", &out);
    esi_bytes_append(&out, "", 1);
    assert_string_equal(out.data, "\"012345678901234567890123456789012345678901234567...\"");
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_name_file_place_and_key),
        cmocka_unit_test(very_many_errors_are_counted_only),
        cmocka_unit_test(found_texts_are_escaped_and_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
