/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A long list on a page, made in two passes over its items, so that neither memory nor a worker's
 * turn grows with what nobody will see. First pass: each item gives its sort key and id (16 bytes).
 * Then the wanted window is cut out. Second pass, a portion of the window at a time: each item
 * writes its JSON. What has gone meanwhile is left out.
 *
 * | pass   | calls, in this order                                                         |
 * | first  | init, note for each item, cut                                                |
 * | second | while next_portion: for each item find, (write,) end_item; then end_portion  |
 *
 * One thread at a time.
 */
#pragma once

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many items write in one pass over all: every pass looks at all of them. */
enum { ESI_MONITOR_LIST_PORTION = 2048 };

struct esi_monitor_entry {
    uint64_t key;
    uint64_t id;
    size_t text_start; /* in `portion` */
    size_t text_len;   /* 0: not written */
    bool is_cut;       /* there was no room for it */
};

struct esi_monitor_list {
    struct esi_monitor_entry *entries; /* owned */
    size_t count;
    size_t capacity;
    size_t window_end; /* entries before it are wanted and after `at` not yet written */
    size_t at;
    size_t portion_max;   /* less after a portion did not fit */
    size_t portion_count; /* entries from `at` on that are in hand, ordered by id */
    size_t shown;         /* items in `text` */
    bool is_descending;
    bool is_truncated; /* the text's bound was reached: what is missing has to be asked for by
                          offset */
    bool failed;       /* memory was exhausted in the first pass */
    struct esi_bytes portion; /* what the items of the portion wrote */
    struct esi_bytes text;    /* a JSON array, indented as a member of the page's object */
};

/* An empty list. text_bytes_max bounds the memory of the text. */
void esi_monitor_list_init(struct esi_monitor_list *list, bool is_descending,
                           size_t text_bytes_max);
void esi_monitor_list_deinit(struct esi_monitor_list *list);
/* Bytes of memory that the list holds. */
size_t esi_monitor_list_memory_bytes(const struct esi_monitor_list *list);
/* An item of the first pass. */
void esi_monitor_list_note(struct esi_monitor_list *list, uint64_t key, uint64_t id);
/*
 * Sorts by key, equal ones by id, and keeps limit items from offset on for the second pass. With
 * very many items this takes milliseconds: not on a worker.
 */
void esi_monitor_list_cut(struct esi_monitor_list *list, uint64_t offset, uint64_t limit);
/* Takes the next portion in hand. False: there is none, the text is complete. */
bool esi_monitor_list_next_portion(struct esi_monitor_list *list);
/* The entry of an item when it is in the portion, else NULL. */
struct esi_monitor_entry *esi_monitor_list_find(struct esi_monitor_list *list, uint64_t id);
/* The item has appended its JSON to list->portion, which was `start` bytes long before. */
void esi_monitor_list_end_item(struct esi_monitor_list *list, struct esi_monitor_entry *entry,
                               size_t start);
/* Puts what the portion's items wrote into the text, in order. */
void esi_monitor_list_end_portion(struct esi_monitor_list *list);
