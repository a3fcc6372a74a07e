/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: the node tree keeps order, refuses duplicates and is bounded. Method: trees built by hand.
 */
#include "config/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

static const struct esi_position here = {.line = 3, .column = 4};

static struct esi_node *make(struct esi_node_tree *tree, enum esi_node_kind kind, const char *text)
{
    struct esi_node *node = NULL;

    assert_int_equal(esi_node_make(tree, kind, here, esi_str_from(text), &node), ES_OK);
    return node;
}

static struct esi_node *add(struct esi_node_tree *tree, struct esi_node *map, const char *key,
                            enum esi_node_kind kind, const char *text)
{
    struct esi_node *node = make(tree, kind, text);

    assert_int_equal(esi_node_insert(map, esi_str_from(key), here, node), ES_OK);
    return node;
}

static void entries_are_found_by_path(void **state)
{
    struct esi_node_tree tree;
    bool is_exact = false;

    (void)state;
    esi_node_init(&tree);
    struct esi_node *root = make(&tree, NODE_MAP, "");
    struct esi_node *map = add(&tree, root, "gateway", NODE_MAP, "");
    struct esi_node *list = add(&tree, map, "remotes", NODE_LIST, "");
    struct esi_node *first = make(&tree, NODE_MAP, "");
    struct esi_node *second = make(&tree, NODE_MAP, "");
    esi_node_append(list, first);
    esi_node_append(list, second);
    const struct esi_node *name = add(&tree, second, "name", NODE_SCALAR, "x");

    assert_ptr_equal(esi_node_find(root, ESI_STR("gateway")), map);
    assert_null(esi_node_find(root, ESI_STR("gate")));
    assert_null(esi_node_find(root, ESI_STR("")));
    assert_null(esi_node_find(NULL, ESI_STR("x")));
    assert_null(esi_node_find(list, ESI_STR("x")));
    assert_ptr_equal(esi_node_at(root, "gateway.remotes[1].name", &is_exact), name);
    assert_true(is_exact);
    assert_ptr_equal(esi_node_at(root, "gateway.remotes[0].name", &is_exact), first);
    assert_false(is_exact);
    assert_ptr_equal(esi_node_at(root, "gateway.remotes[2]", &is_exact), list);
    assert_false(is_exact);
    assert_ptr_equal(esi_node_at(root, "auth", &is_exact), root);
    assert_false(is_exact);
    assert_ptr_equal(esi_node_at(root, "gateway.remotes[x]", NULL), list);
    assert_string_equal(esi_node_kind_text(list), "a list");
    esi_node_deinit(&tree);
}

static void keys_are_unique_and_clean(void **state)
{
    struct esi_node_tree tree;
    struct esi_node *node = NULL;

    (void)state;
    esi_node_init(&tree);
    struct esi_node *root = make(&tree, NODE_MAP, "");
    add(&tree, root, "a", NODE_SCALAR, "1");
    assert_int_equal(esi_node_insert(root, ESI_STR("a"), here, make(&tree, NODE_SCALAR, "2")),
                     ES_EXISTS);
    assert_int_equal(esi_node_insert(root, ESI_STR(""), here, make(&tree, NODE_SCALAR, "2")),
                     ES_INVALID);
    assert_int_equal(esi_node_insert(root, ESI_STR("a\0b"), here, make(&tree, NODE_SCALAR, "2")),
                     ES_INVALID);
    assert_int_equal(esi_node_make(&tree, NODE_SCALAR, here, ESI_STR("x\0y"), &node), ES_INVALID);
    assert_null(node);
    assert_int_equal(root->child_count, 1);
    esi_node_deinit(&tree);
}

static void trees_are_bounded(void **state)
{
    struct esi_node_tree tree;
    struct esi_node *node = NULL;
    char key[16];

    (void)state;
    esi_node_init(&tree);
    struct esi_node *root = make(&tree, NODE_MAP, "");
    for (int i = 0; i < ESI_NODE_ENTRIES_MAX; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(&tree, root, key, NODE_SCALAR, "");
    }
    assert_int_equal(esi_node_insert(root, ESI_STR("more"), here, make(&tree, NODE_SCALAR, "")),
                     ES_TOO_LARGE);
    while (tree.count < ESI_NODE_COUNT_MAX) {
        make(&tree, NODE_SCALAR, "");
    }
    assert_int_equal(esi_node_make(&tree, NODE_SCALAR, here, ESI_STR(""), &node), ES_TOO_LARGE);
    esi_node_deinit(&tree);
    assert_int_equal(tree.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_found_by_path),
        cmocka_unit_test(keys_are_unique_and_clean),
        cmocka_unit_test(trees_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
