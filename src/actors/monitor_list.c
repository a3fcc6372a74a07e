/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entries in hand are ordered by id, to be found by the visited items; all others by key. Both
 * orders are total, so that a portion can be put back in its place.
 */
#include "actors/monitor_list.h"
#include "base/assert.h"
#include "base/own.h"

#include <stdlib.h>

enum { CAPACITY_FIRST = 256 };

void esi_monitor_list_init(struct esi_monitor_list *list, bool is_descending, size_t text_bytes_max)
{
    *list = (struct esi_monitor_list){.is_descending = is_descending,
                                      .portion_max = ESI_MONITOR_LIST_PORTION};
    esi_bytes_init(&list->portion, text_bytes_max);
    esi_bytes_init(&list->text, text_bytes_max);
    esi_bytes_append_text(&list->text, "[");
}

void esi_monitor_list_deinit(struct esi_monitor_list *list)
{
    free(ESI_MOVE(list->entries));
    list->count = 0;
    list->capacity = 0;
    esi_bytes_deinit(&list->portion);
    esi_bytes_deinit(&list->text);
}

size_t esi_monitor_list_memory_bytes(const struct esi_monitor_list *list)
{
    return list->capacity * sizeof *list->entries + list->portion.capacity + list->text.capacity;
}

void esi_monitor_list_note(struct esi_monitor_list *list, uint64_t key, uint64_t id)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity == 0 ? CAPACITY_FIRST : list->capacity * 2;
        struct esi_monitor_entry *entries = reallocarray(list->entries, capacity, sizeof *entries);
        if (entries == NULL) {
            list->failed = true;
            return;
        }
        list->entries = entries;
        list->capacity = capacity;
    }
    /* One order for both directions: equal keys then stand by rising id in both. */
    list->entries[list->count++] =
        (struct esi_monitor_entry){.key = list->is_descending ? ~key : key, .id = id};
}

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_keys(const void *a, const void *b)
{
    const struct esi_monitor_entry *left = a;
    const struct esi_monitor_entry *right = b;

    return left->key != right->key ? compare(left->key, right->key) : compare(left->id, right->id);
}

static int compare_ids(const void *a, const void *b)
{
    return compare(((const struct esi_monitor_entry *)a)->id,
                   ((const struct esi_monitor_entry *)b)->id);
}

static void sort(struct esi_monitor_entry *entries, size_t count,
                 int (*order)(const void *, const void *))
{
    if (count > 1) {
        qsort(entries, count, sizeof *entries, order);
    }
}

void esi_monitor_list_cut(struct esi_monitor_list *list, uint64_t offset, uint64_t limit)
{
    sort(list->entries, list->count, compare_keys);
    list->at = offset < list->count ? (size_t)offset : list->count;
    const size_t left = list->count - list->at;
    list->window_end = list->at + (limit < left ? (size_t)limit : left);
}

bool esi_monitor_list_next_portion(struct esi_monitor_list *list)
{
    const size_t left = list->window_end - list->at;

    if (left == 0 || list->is_truncated) {
        /* The text keeps a reserve for this: see end_portion. */
        esi_bytes_append_text(&list->text, list->shown > 0 ? "\n  ]" : "]");
        return false;
    }
    list->portion_count = left < list->portion_max ? left : list->portion_max;
    sort(list->entries + list->at, list->portion_count, compare_ids);
    esi_bytes_clear(&list->portion);
    return true;
}

struct esi_monitor_entry *esi_monitor_list_find(struct esi_monitor_list *list, uint64_t id)
{
    const struct esi_monitor_entry wanted = {.id = id};

    if (list->portion_count == 0) {
        return NULL;
    }
    return bsearch(&wanted, list->entries + list->at, list->portion_count, sizeof wanted,
                   compare_ids);
}

void esi_monitor_list_end_item(struct esi_monitor_list *list, struct esi_monitor_entry *entry,
                               size_t start)
{
    ESI_REQUIRE(start <= list->portion.len);
    if (list->portion.failed) {
        /* The bound was met inside this item: a smaller one may still fit. */
        entry->is_cut = true;
        list->portion.len = start;
        list->portion.failed = false;
        return;
    }
    entry->text_start = start;
    entry->text_len = list->portion.len - start;
}

void esi_monitor_list_end_portion(struct esi_monitor_list *list)
{
    static const char separator[] = ",\n    ";
    const size_t reserve = sizeof separator + 8;

    sort(list->entries + list->at, list->portion_count, compare_keys);
    size_t taken = 0;
    for (; taken < list->portion_count && !list->is_truncated; taken++) {
        const struct esi_monitor_entry *entry = &list->entries[list->at + taken];
        if (entry->is_cut) {
            break;
        }
        if (list->text.len + entry->text_len + reserve > list->text.capacity_max) {
            list->is_truncated = true;
        } else if (entry->text_len > 0) {
            esi_bytes_append_text(&list->text, list->shown > 0 ? separator : separator + 1);
            esi_bytes_append(&list->text, list->portion.data + entry->text_start, entry->text_len);
            list->shown++;
        }
    }
    if (taken < list->portion_count && !list->is_truncated) {
        /* What they wrote together was too much: fewer at a time. One alone does not fit at all. */
        list->is_truncated = list->portion_count == 1;
        list->portion_max = (list->portion_count + 1) / 2;
        for (size_t i = taken; i < list->portion_count; i++) {
            list->entries[list->at + i].text_len = 0;
            list->entries[list->at + i].is_cut = false;
        }
    }
    list->at += taken;
    list->portion_count = 0;
    esi_bytes_clear(&list->portion);
}
