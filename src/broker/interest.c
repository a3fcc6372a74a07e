/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An entry a (subject, queue), both in its key. A removal builds its key on the stack where it
 * fits, so that it does not depend on memory. */
#include "broker/interest.h"
#include "base/assert.h"
#include "base/ledger.h"
#include "proto/gateway_writer.h"

#include <stdlib.h>
#include <string.h>

/* The key is subject and queue with one NUL between, which neither can hold. */
struct entry {
    uint64_t count;
    size_t subject_len;
    size_t key_len;
    char key[];
};

enum { KEY_ON_STACK = 512 };

void esi_interest_init(struct esi_interest *interest)
{
    esi_hashmap_init(&interest->map);
}

void esi_interest_deinit(struct esi_interest *interest)
{
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    while (esi_hashmap_next(&interest->map, &cursor, &key, &value)) {
        free(value);
    }
    esi_hashmap_deinit(&interest->map);
}

static struct entry *new_entry(struct esi_str subject, struct esi_str queue)
{
    const size_t key_len = subject.len + 1 + queue.len;
    struct entry *entry = malloc(sizeof *entry + key_len);

    if (entry != NULL) {
        entry->count = 0;
        entry->subject_len = subject.len;
        entry->key_len = key_len;
        memcpy(entry->key, subject.data, subject.len);
        entry->key[subject.len] = '\0';
        if (queue.len > 0) {
            memcpy(entry->key + subject.len + 1, queue.data, queue.len);
        }
    }
    return entry;
}

enum es_err esi_interest_add(struct esi_interest *interest, struct esi_str subject,
                             struct esi_str queue, bool *is_first)
{
    struct entry *fresh = new_entry(subject, queue);

    if (fresh == NULL) {
        return ES_NO_MEMORY;
    }
    const struct esi_str key = {.data = fresh->key, .len = fresh->key_len};
    struct entry *entry = esi_hashmap_find(&interest->map, key);
    if (entry != NULL) {
        free(fresh);
    } else {
        entry = fresh;
        if (esi_hashmap_insert(&interest->map, key, entry) != ES_OK) {
            free(fresh);
            return ES_NO_MEMORY;
        }
    }
    *is_first = entry->count++ == 0;
    return ES_OK;
}

bool esi_interest_remove(struct esi_interest *interest, struct esi_str subject,
                         struct esi_str queue)
{
    char on_stack[KEY_ON_STACK];
    const size_t key_len = subject.len + 1 + queue.len;
    struct entry *probe = key_len > sizeof on_stack ? new_entry(subject, queue) : NULL;
    char *key = probe != NULL ? probe->key : on_stack;

    if (key_len > sizeof on_stack && probe == NULL) {
        /* Out of memory: the count stays too high, so interest is announced for longer than it
         * lasts. */
        return false;
    }
    if (probe == NULL) {
        memcpy(key, subject.data, subject.len);
        key[subject.len] = '\0';
        if (queue.len > 0) {
            memcpy(key + subject.len + 1, queue.data, queue.len);
        }
    }
    const struct esi_str key_str = {.data = key, .len = key_len};
    struct entry *entry = esi_hashmap_find(&interest->map, key_str);
    ESI_ASSERT(entry != NULL && entry->count > 0);
    bool is_last = false;
    if (--entry->count == 0) {
        esi_hashmap_remove(&interest->map, key_str);
        free(entry);
        is_last = true;
    }
    free(probe);
    return is_last;
}

uint64_t esi_interest_place_bytes(struct esi_str subject, struct esi_str queue)
{
    return esi_ledger_heap_bytes(sizeof(struct entry) + subject.len + 1 + queue.len) +
           esi_hashmap_place_bytes();
}

void esi_interest_write(const struct esi_interest *interest, struct esi_str account,
                        struct esi_bytes *queues, struct esi_bytes *plain)
{
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    while (esi_hashmap_next(&interest->map, &cursor, &key, &value)) {
        const struct entry *entry = value;
        const struct esi_str subject = {.data = entry->key, .len = entry->subject_len};
        const struct esi_str queue = {.data = entry->key + entry->subject_len + 1,
                                      .len = entry->key_len - entry->subject_len - 1};
        esi_gateway_writer_sub(queue.len > 0 ? queues : plain, account, subject, queue);
    }
}
