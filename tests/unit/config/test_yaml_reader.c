/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: YAML becomes the right tree with the right places, and what is refused is refused at its
 * place. Method: tables of texts with the tree or the error that each must give.
 */
#include "config/yaml_reader.h"

#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "tree_text.h"

struct good_case {
    const char *text;
    const char *tree;
};

struct bad_case {
    const char *text;
    uint32_t line;
    uint32_t column;
    const char *message;
};

static void good_files_become_trees(void **state)
{
    static const struct good_case cases[] = {
        {"", "{}"},
        {"# only a comment\n", "{}"},
        {"a: 1\nb: 'x'\nc: \"y\\tz\"\n", "{a:1,b:\"x\",c:\"y\tz\"}"},
        {"a:\n  b:\n    - 1\n    - {c: d}\n  e:\n", "{a:{b:[1,{c:d}],e:}}"},
        {"a: [1, [2], {}]\n", "{a:[1,[2],{}]}"},
        {"\xEF\xBB\xBF"
         "a: 1",
         "{a:1}"},
        {"a: |\n  two\n  lines\n", "{a:\"two\nlines\n\"}"},
        {"a: \xC3\xA9\n", "{a:\xC3\xA9}"},
        {"---\na: 1\n...\n", "{a:1}"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        struct esi_node_tree tree;
        struct esi_node_error error = {0};
        struct esi_bytes shown;
        esi_node_init(&tree);
        esi_bytes_init(&shown, 0);
        assert_int_equal(esi_yaml_reader_read(esi_str_from(cases[i].text), &tree, &error), ES_OK);
        show_node(tree.root, false, &shown);
        esi_bytes_append(&shown, "", 1);
        assert_string_equal(shown.data, cases[i].tree);
        esi_bytes_deinit(&shown);
        esi_node_deinit(&tree);
    }
}

static void places_are_kept(void **state)
{
    struct esi_node_tree tree;
    struct esi_node_error error = {0};
    struct esi_bytes shown;

    (void)state;
    esi_node_init(&tree);
    esi_bytes_init(&shown, 0);
    assert_int_equal(
        esi_yaml_reader_read(ESI_STR("\xC3\xA9: \xC3\xA9\xC3\xA9\nb: {c: 1, d: [x,  y]}\n"), &tree,
                             &error),
        ES_OK);
    show_node(tree.root, true, &shown);
    esi_bytes_append(&shown, "", 1);
    assert_string_equal(shown.data,
                        "@1:1 {\xC3\xA9:@1:4 \xC3\xA9\xC3\xA9,b:@2:4 {c:@2:8 1,d:@2:14 [@2:15 "
                        "x,@2:19 y]}}");
    const struct esi_node *d = esi_node_at(tree.root, "b.d", NULL);
    assert_int_equal(d->key_at.line, 2);
    assert_int_equal(d->key_at.column, 11);
    esi_bytes_deinit(&shown);
    esi_node_deinit(&tree);
}

static void bad_files_are_refused_at_their_place(void **state)
{
    static const struct bad_case cases[] = {
        {"a: &x 1\n", 1, 4, "anchors are not allowed"},
        {"a: &x [1]\n", 1, 4, "anchors are not allowed"},
        {"a: &x {b: 1}\n", 1, 4, "anchors are not allowed"},
        {"a: 1\nb: *a\n", 2, 4, "aliases are not allowed"},
        {"a: !!str 1\n", 1, 4, "tags are not allowed"},
        {"a: !x [1]\n", 1, 4, "tags are not allowed"},
        {"a: 1\nb: 2\n  \na: 3\n", 4, 1,
         "\"a\" is given twice in this map; it stands at 1:1 first"},
        {"a: {x: 1, x: 2}\n", 1, 11, "\"x\" is given twice in this map; it stands at 1:5 first"},
        {"- 1\n", 1, 1, "the file must be a map of sections"},
        {"text\n", 1, 1, "the file must be a map of sections"},
        {"a: 1\n---\nb: 2\n", 2, 1, "a second document is not allowed"},
        {"? [a]\n: 1\n", 1, 3, "a key must be a text"},
        {"a: \"x\\0y\"\n", 1, 4, "an empty key or a NUL byte is not allowed"},
        {"'': 1\n", 1, 1, "an empty key or a NUL byte is not allowed"},
        {"a: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", 1, 19, "nested too deeply"},
        {"a: 1\n b: 2\n", 2, 3, "not valid YAML: mapping values are not allowed in this context"},
        {"a: 1\nb: \xFF\n", 2, 4, "not valid YAML: invalid leading UTF-8 octet"},
        {"a: [1\n", 2, 1, "not valid YAML: did not find expected ',' or ']'"},
        {"a: \x01\n", 1, 4, "not valid YAML: control characters are not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        struct esi_node_tree tree;
        struct esi_node_error error = {0};
        esi_node_init(&tree);
        assert_int_not_equal(esi_yaml_reader_read(esi_str_from(cases[i].text), &tree, &error),
                             ES_OK);
        assert_string_equal(error.text, cases[i].message);
        assert_int_equal(error.at.line, cases[i].line);
        assert_int_equal(error.at.column, cases[i].column);
        esi_node_deinit(&tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_become_trees),
        cmocka_unit_test(places_are_kept),
        cmocka_unit_test(bad_files_are_refused_at_their_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
