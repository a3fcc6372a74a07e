/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a ring keeps the order of its nodes through appends and removals anywhere. Method: walks in
 * both directions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/list.h"
#include "base/own.h"

struct node {
    int value;
    struct esi_list link;
};

static void expect(const struct esi_list *head, const int *values, size_t count)
{
    size_t at = 0;

    for (const struct esi_list *link = head->next; link != head; link = link->next) {
        assert_true(at < count);
        assert_int_equal(ESI_CONTAINER_OF(link, const struct node, link)->value, values[at++]);
    }
    assert_int_equal(at, count);
    for (const struct esi_list *link = head->prev; link != head; link = link->prev) {
        assert_int_equal(ESI_CONTAINER_OF(link, const struct node, link)->value, values[--at]);
    }
    assert_int_equal(at, 0);
}

static void test_order(void **state)
{
    struct esi_list head;
    struct node nodes[4];

    (void)state;
    esi_list_init(&head);
    assert_true(esi_list_is_empty(&head));
    for (int i = 0; i < 4; i++) {
        nodes[i].value = i;
        esi_list_append(&head, &nodes[i].link);
    }
    assert_false(esi_list_is_empty(&head));
    expect(&head, (const int[]){0, 1, 2, 3}, 4);
    esi_list_remove(&nodes[1].link);
    expect(&head, (const int[]){0, 2, 3}, 3);
    /* Removing it again is harmless. */
    esi_list_remove(&nodes[1].link);
    expect(&head, (const int[]){0, 2, 3}, 3);
    esi_list_append(&nodes[2].link, &nodes[1].link);
    expect(&head, (const int[]){0, 1, 2, 3}, 4);
    esi_list_remove(&nodes[0].link);
    esi_list_remove(&nodes[3].link);
    esi_list_remove(&nodes[1].link);
    esi_list_remove(&nodes[2].link);
    assert_true(esi_list_is_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
