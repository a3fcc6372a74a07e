/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a list on a page holds exactly the items of the window asked for, in order, whatever order
 * they are visited in, with those left out that have gone; and it stays within its bound. Method:
 * items that write their own id, visited in a scrambled order; the text is compared with the one
 * expected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/monitor_list.h"

enum { TEXT_MAX = 1024 * 1024 };

/* Item i of n, each once, in an order that is neither theirs nor the reverse (n not a multiple of
 * 7919). */
static uint64_t scramble(uint64_t i, uint64_t n)
{
    return i * 7919 % n + 1;
}

static uint64_t key_of(uint64_t id)
{
    return id / 2; /* pairs of equal keys */
}

static void note_all(struct esi_monitor_list *list, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t id = scramble(i, n);
        esi_monitor_list_note(list, key_of(id), id);
    }
    assert_int_equal(list->count, n);
}

/* The second pass; items for which is_gone is true are no longer there. Returns the number of
 * portions. */
static int write_all(struct esi_monitor_list *list, uint64_t n, bool (*is_gone)(uint64_t id))
{
    int portions = 0;

    while (esi_monitor_list_next_portion(list)) {
        portions++;
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t id = scramble(i, n);
            struct esi_monitor_entry *entry = esi_monitor_list_find(list, id);
            if (entry != NULL && !is_gone(id)) {
                const size_t start = list->portion.len;
                esi_bytes_printf(&list->portion, "%llu", (unsigned long long)id);
                esi_monitor_list_end_item(list, entry, start);
            }
        }
        esi_monitor_list_end_portion(list);
    }
    return portions;
}

static bool none_is_gone(uint64_t id)
{
    (void)id;
    return false;
}

static bool thirds_are_gone(uint64_t id)
{
    return id % 3 == 0;
}

static bool all_are_gone(uint64_t id)
{
    (void)id;
    return true;
}

static void expect_text(const struct esi_monitor_list *list, const char *text)
{
    assert_false(list->text.failed);
    assert_int_equal(list->text.len, strlen(text));
    assert_memory_equal(list->text.data, text, list->text.len);
}

static void sorts_and_cuts(void **state)
{
    struct esi_monitor_list list;

    (void)state;
    esi_monitor_list_init(&list, false, TEXT_MAX);
    note_all(&list, 10);
    esi_monitor_list_cut(&list, 2, 3);
    assert_int_equal(write_all(&list, 10, none_is_gone), 1);
    expect_text(&list, "[\n    3,\n    4,\n    5\n  ]");
    assert_int_equal(list.shown, 3);
    assert_false(list.is_truncated);
    esi_monitor_list_deinit(&list);
}

static void keeps_equal_keys_by_rising_id_when_descending(void **state)
{
    struct esi_monitor_list list;

    (void)state;
    esi_monitor_list_init(&list, true, TEXT_MAX);
    note_all(&list, 6);
    esi_monitor_list_cut(&list, 0, UINT64_MAX);
    write_all(&list, 6, none_is_gone);
    expect_text(&list, "[\n    6,\n    4,\n    5,\n    2,\n    3,\n    1\n  ]");
    esi_monitor_list_deinit(&list);
}

static void survives_any_window(void **state)
{
    static const struct {
        uint64_t offset;
        uint64_t limit;
        size_t shown;
    } cases[] = {{0, 0, 0},          {5, 1, 0},          {UINT64_MAX, UINT64_MAX, 0},
                 {4, UINT64_MAX, 1}, {0, UINT64_MAX, 5}, {INT64_MAX, INT64_MAX, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct esi_monitor_list list;
        esi_monitor_list_init(&list, false, TEXT_MAX);
        note_all(&list, 5);
        esi_monitor_list_cut(&list, cases[i].offset, cases[i].limit);
        write_all(&list, 5, none_is_gone);
        assert_int_equal(list.shown, cases[i].shown);
        if (cases[i].shown == 0) {
            expect_text(&list, "[]");
        }
        esi_monitor_list_deinit(&list);
    }
}

static void is_empty_without_items(void **state)
{
    struct esi_monitor_list list;

    (void)state;
    esi_monitor_list_init(&list, false, TEXT_MAX);
    esi_monitor_list_cut(&list, 0, 10);
    assert_false(esi_monitor_list_next_portion(&list));
    expect_text(&list, "[]");
    esi_monitor_list_deinit(&list);
}

static void leaves_out_what_has_gone(void **state)
{
    struct esi_monitor_list list;

    (void)state;
    esi_monitor_list_init(&list, false, TEXT_MAX);
    note_all(&list, 6);
    esi_monitor_list_cut(&list, 0, 100);
    write_all(&list, 6, thirds_are_gone);
    expect_text(&list, "[\n    1,\n    2,\n    4,\n    5\n  ]");
    esi_monitor_list_deinit(&list);

    esi_monitor_list_init(&list, false, TEXT_MAX);
    note_all(&list, 6);
    esi_monitor_list_cut(&list, 0, 100);
    write_all(&list, 6, all_are_gone);
    expect_text(&list, "[]");
    esi_monitor_list_deinit(&list);
}

static void writes_many_in_portions(void **state)
{
    enum { ITEMS = 3 * ESI_MONITOR_LIST_PORTION + 5, FROM = 100 };
    struct esi_monitor_list list;
    uint64_t expected = FROM + 1;

    (void)state;
    esi_monitor_list_init(&list, false, TEXT_MAX);
    note_all(&list, ITEMS);
    esi_monitor_list_cut(&list, FROM, UINT64_MAX);
    assert_int_equal(write_all(&list, ITEMS, none_is_gone), 3);
    assert_int_equal(list.shown, ITEMS - FROM);
    esi_bytes_append(&list.text, "", 1);
    char *at = list.text.data + 1;
    while (*at == '\n' || *at == ',') {
        at += strspn(at, ",\n ");
        if (*at == ']') {
            break;
        }
        assert_int_equal(strtoull(at, &at, 10), expected);
        expected++;
    }
    assert_int_equal(expected, ITEMS + 1);
    esi_monitor_list_deinit(&list);
}

static void stops_at_its_bound(void **state)
{
    (void)state;
    for (size_t bound = 64; bound < 400; bound++) {
        struct esi_monitor_list list;
        esi_monitor_list_init(&list, false, bound);
        note_all(&list, 100);
        esi_monitor_list_cut(&list, 0, 100);
        write_all(&list, 100, none_is_gone);
        assert_true(list.is_truncated);
        assert_true(list.shown > 0 && list.shown < 100);
        assert_true(list.text.len <= bound);
        assert_false(list.text.failed);
        /* What is there is the beginning, and well-formed. */
        assert_memory_equal(list.text.data, "[\n    1", 7);
        assert_memory_equal(list.text.data + list.text.len - 4, "\n  ]", 4);
        esi_monitor_list_deinit(&list);
    }
}

/* What a portion's items write together may be too much, whoever comes first. The first ones in the
 * order asked for are shown all the same, and nothing is missing between them. */
static void shows_the_first_ones_of_too_many(void **state)
{
    enum { ITEMS = 100, ITEM_BYTES = 1000, BYTES_MAX = 40 * 1024 };
    static char item[ITEM_BYTES];
    struct esi_monitor_list list;

    (void)state;
    memset(item, 'x', sizeof item);
    esi_monitor_list_init(&list, true, BYTES_MAX);
    for (uint64_t id = 1; id <= ITEMS; id++) {
        esi_monitor_list_note(&list, id, id);
    }
    esi_monitor_list_cut(&list, 0, UINT64_MAX);
    while (esi_monitor_list_next_portion(&list)) {
        /* Visited the other way round: the last ones write first. */
        for (uint64_t id = 1; id <= ITEMS; id++) {
            struct esi_monitor_entry *entry = esi_monitor_list_find(&list, id);
            if (entry != NULL) {
                const size_t start = list.portion.len;
                esi_bytes_printf(&list.portion, "%03u", (unsigned)id);
                esi_bytes_append(&list.portion, item, sizeof item);
                esi_monitor_list_end_item(&list, entry, start);
            }
        }
        esi_monitor_list_end_portion(&list);
    }
    assert_true(list.is_truncated);
    assert_in_range(list.shown, BYTES_MAX / ITEM_BYTES - 3, BYTES_MAX / ITEM_BYTES);
    const char *at = list.text.data;
    for (unsigned id = ITEMS; id > ITEMS - list.shown; id--) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, " %03ux", id);
        at = memmem(at, (size_t)(list.text.data + list.text.len - at), wanted, strlen(wanted));
        assert_non_null(at);
    }
    esi_monitor_list_deinit(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_and_cuts),
        cmocka_unit_test(keeps_equal_keys_by_rising_id_when_descending),
        cmocka_unit_test(survives_any_window),
        cmocka_unit_test(is_empty_without_items),
        cmocka_unit_test(leaves_out_what_has_gone),
        cmocka_unit_test(writes_many_in_portions),
        cmocka_unit_test(stops_at_its_bound),
        cmocka_unit_test(shows_the_first_ones_of_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
