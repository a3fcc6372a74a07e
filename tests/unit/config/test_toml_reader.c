/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: TOML becomes the right tree with the right places, and what TOML or this reader forbids is
 * refused at its place. Method: tables of texts with the tree or the error that each must give.
 */
#include "config/toml_reader.h"

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
        {"# comment\n\n  \t\n", "{}"},
        {"a = 1\nb = 'x\\y'\r\nc = \"y\\tz\\\"\" # comment\n", "{a:1,b:\"x\\y\",c:\"y\tz\"\"}"},
        {"a = 1_000\nb = +7\nc = -0\nd = 3.25\ne = 1e5\nf = -2_0.5E-3\n",
         "{a:1000,b:7,c:-0,d:3.25,e:1e5,f:-20.5E-3}"},
        {"a = true\nb = false", "{a:true,b:false}"},
        {"[a]\nx = 1\n[b]\ny = 2\n", "{a:{x:1},b:{y:2}}"},
        {"[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3\n", "{a:{b:{c:{x:1},z:3},y:2}}"},
        {"a.b.c = 1\na.b.d = 2\na.e = 3\n", "{a:{b:{c:1,d:2},e:3}}"},
        {"[a]\nb.c = 1\n[a.b.d]\ne = 2\n", "{a:{b:{c:1,d:{e:2}}}}"},
        {"[[a]]\nx = 1\n[a.b]\ny = 2\n[[a]]\nx = 3\n[[a.c]]\n[[a.c]]\nz = 4\n",
         "{a:[{x:1,b:{y:2}},{x:3,c:[{},{z:4}]}]}"},
        {"a = [1, 'x', [2, 3], {b = 4}]\n", "{a:[1,\"x\",[2,3],{b:4}]}"},
        {"a = [ # one\n  1, # two\n\n  2,\n]\nb = []\nc = {}\n", "{a:[1,2],b:[],c:{}}"},
        {"a = { b.c = 1, b.d = 2, 'e f' = [ { g = 3 } ] }\n", "{a:{b:{c:1,d:2},e f:[{g:3}]}}"},
        {"[ a . \"b.c\" ]\n 'd' . e = 1\n-_9 = 2\n", "{a:{b.c:{d:{e:1},-_9:2}}}"},
        {"a = \"\\u00e9\\U0001F600\\b\\f\\r\\n\\\\\"\n",
         "{a:\"\xC3\xA9\xF0\x9F\x98\x80\b\f\r\n\\\"}"},
        {"\xEF\xBB\xBF"
         "a = ''",
         "{a:\"\"}"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        struct esi_node_tree tree;
        struct esi_node_error error = {0};
        struct esi_bytes shown;
        esi_node_init(&tree);
        esi_bytes_init(&shown, 0);
        const enum es_err err = esi_toml_reader_read(esi_str_from(cases[i].text), &tree, &error);
        assert_string_equal(error.text, "");
        assert_int_equal(err, ES_OK);
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
        esi_toml_reader_read(ESI_STR("a = '\xC3\xA9' # \xC3\xA9\n [b]\n\xC3\xA9\xC3\xA9 = 1"),
                             &tree, &error),
        ES_INVALID);
    esi_node_deinit(&tree);
    assert_int_equal(
        esi_toml_reader_read(ESI_STR("a = ['\xC3\xA9', 2]\n [b]\n'\xC3\xA9' = 1\n[[c]]\n"), &tree,
                             &error),
        ES_OK);
    show_node(tree.root, true, &shown);
    esi_bytes_append(&shown, "", 1);
    assert_string_equal(
        shown.data,
        "@1:1 {a:@1:5 [@1:6 \"\xC3\xA9\",@1:11 2],b:@2:3 {\xC3\xA9:@3:7 1},c:@4:3 [@4:3 {}]}");
    assert_int_equal(esi_node_at(tree.root, "a", NULL)->key_at.column, 1);
    esi_bytes_deinit(&shown);
    esi_node_deinit(&tree);
}

#define A_VALUE                                                                                    \
    "a value was expected: a text in quotes, a decimal number, true, false, [list] or {table}"

static void bad_files_are_refused_at_their_place(void **state)
{
    static const struct bad_case cases[] = {
        {"a = 1\na = 2\n", 2, 1, "\"a\" is given twice; it stands at 1:1 first"},
        {"[a]\n[b]\n[a]\n", 3, 2, "\"a\" is given twice; it stands at 1:2 first"},
        {"[a]\nb = 1\n[a.b]\n", 3, 4,
         "\"b\" is given already, and not as a table that can grow; it stands at 2:1 first"},
        {"[a]\nb = 1\n[a.b.c]\n", 3, 4,
         "\"b\" is given already, and not as a table that can grow; it stands at 2:1 first"},
        {"a = {}\n[a.b]\n", 2, 2,
         "\"a\" is given already, and not as a table that can grow; it stands at 1:1 first"},
        {"a = {}\na.b = 1\n", 2, 1,
         "\"a\" is given already, and not as a table that can grow; it stands at 1:1 first"},
        {"a = []\n[[a]]\n", 2, 3,
         "\"a\" is given already, and not as an array of tables; it stands at 1:1 first"},
        {"[a]\n[[a]]\n", 2, 3,
         "\"a\" is given already, and not as an array of tables; it stands at 1:2 first"},
        {"[[a]]\n[a]\n", 2, 2,
         "\"a\" is given already, and not as a table that can grow; it stands at 1:3 first"},
        {"[a.b]\n[x]\n[a]\nb.c = 1\n", 4, 1,
         "\"b\" is given already, and not as a table that can grow; it stands at 1:4 first"},
        {"a.b = 1\n[a]\n", 2, 2, "\"a\" is given twice; it stands at 1:1 first"},
        {"a = {b = 1, b = 2}\n", 1, 13, "\"b\" is given twice; it stands at 1:6 first"},
        {"a\n", 1, 2, "= was expected after the key"},
        {"= 1\n", 1, 1, "a key was expected"},
        {"a..b = 1\n", 1, 3, "a key was expected"},
        {"[]\n", 1, 2, "a key was expected"},
        {"[a\n", 1, 3, "] was expected"},
        {"[[a]\n", 1, 5, "]] was expected"},
        {"[a] b = 1\n", 1, 5, "the end of the line was expected"},
        {"a = 1 b = 2\n", 1, 7, "the end of the line was expected"},
        {"a = 1\rb = 2\n", 1, 6, "the end of the line was expected"},
        {"a = \n", 1, 5, A_VALUE},
        {"a = yes\n", 1, 5, A_VALUE},
        {"a = 01\n", 1, 5, A_VALUE},
        {"a = 1__0\n", 1, 5, A_VALUE},
        {"a = 0x1F\n", 1, 5, A_VALUE},
        {"a = 1.\n", 1, 5, A_VALUE},
        {"a = .5\n", 1, 5, A_VALUE},
        {"a = 1e\n", 1, 5, A_VALUE},
        {"a = inf\n", 1, 5, A_VALUE},
        {"a = 1979-05-27\n", 1, 5, A_VALUE},
        {"a = [1 2]\n", 1, 8, ", or ] was expected"},
        {"a = [,]\n", 1, 6, A_VALUE},
        {"a = [1,,]\n", 1, 8, A_VALUE},
        {"a = [1\n", 2, 1, ", or ] was expected"},
        {"a = {b = 1 c = 2}\n", 1, 12, ", or } was expected"},
        {"a = {b = 1,}\n", 1, 12, "a key was expected"},
        {"a = {b = 1\n}\n", 1, 11, ", or } was expected"},
        {"a = {\n", 1, 6, "a key was expected"},
        {"a = 'x\n'\n", 1, 7, "the string is not closed in its line"},
        {"a = \"x", 1, 7, "the string is not closed in its line"},
        {"a = \"\\x\"\n", 1, 7, "unknown escape after \\"},
        {"a = \"\\u12g4\"\n", 1, 10, "\\u needs 4 and \\U 8 hexadecimal digits"},
        {"a = \"\\u0000\"\n", 1, 12, "the escape names no allowed character"},
        {"a = \"\\uD800\"\n", 1, 12, "the escape names no allowed character"},
        {"a = \"\\U00110000\"\n", 1, 16, "the escape names no allowed character"},
        {"a = \"\"\"x\"\"\"\n", 1, 6, "multi-line strings are not supported"},
        {"a = '''x'''\n", 1, 6, "multi-line strings are not supported"},
        {"'' = 1\n", 1, 1, "an empty key or a NUL byte is not allowed"},
        {"a = '\x01'\n", 1, 6, "a control character is not allowed"},
        {"# \x7F\n", 1, 3, "a control character is not allowed"},
        {"a = '\xC3'\n", 1, 6, "not valid UTF-8"},
        {"a = 1\n# \xC0\x80\n", 2, 3, "not valid UTF-8"},
        {"# \xED\xA0\x80\n", 1, 3, "not valid UTF-8"},
        {"a = [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", 1, 21, "nested too deeply"},
        {"[a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a]\n", 1, 32, "nested too deeply"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        struct esi_node_tree tree;
        struct esi_node_error error = {0};
        esi_node_init(&tree);
        assert_int_not_equal(esi_toml_reader_read(esi_str_from(cases[i].text), &tree, &error),
                             ES_OK);
        if (error.at.line != cases[i].line || error.at.column != cases[i].column) {
            print_error("%s -> %u:%u %s\n", cases[i].text, error.at.line, error.at.column,
                        error.text);
        }
        assert_string_equal(error.text, cases[i].message);
        assert_int_equal(error.at.line, cases[i].line);
        assert_int_equal(error.at.column, cases[i].column);
        esi_node_deinit(&tree);
    }
}

static void a_nul_byte_is_refused(void **state)
{
    struct esi_node_tree tree;
    struct esi_node_error error = {0};

    (void)state;
    esi_node_init(&tree);
    assert_int_equal(esi_toml_reader_read((struct esi_str){"a = '\0'", 8}, &tree, &error),
                     ES_INVALID);
    assert_string_equal(error.text, "a control character is not allowed");
    esi_node_deinit(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_become_trees),
        cmocka_unit_test(places_are_kept),
        cmocka_unit_test(bad_files_are_refused_at_their_place),
        cmocka_unit_test(a_nul_byte_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
