/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries stand in a map and in a list by age. All live equally long, so the list is in order of
 * expiry, and both bounds are kept by taking from its front. */
#include "broker/mapping.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

struct esi_mapping_entry {
    struct esi_list by_age;
    struct esi_str subject; /* both lie behind the struct */
    struct esi_str mapped;
    int64_t uses;
    uint64_t expires_ns;
};

void esi_mapping_init(struct esi_mapping *mapping, uint32_t count_max)
{
    esi_hashmap_init(&mapping->map);
    esi_list_init(&mapping->by_age);
    mapping->count = 0;
    mapping->count_max = count_max;
}

static void drop(struct esi_mapping *mapping, struct esi_mapping_entry *entry)
{
    esi_hashmap_remove(&mapping->map, entry->subject);
    esi_list_remove(&entry->by_age);
    mapping->count--;
    free(entry);
}

static struct esi_mapping_entry *oldest(const struct esi_mapping *mapping)
{
    return esi_list_is_empty(&mapping->by_age)
               ? NULL
               : ESI_CONTAINER_OF(mapping->by_age.next, struct esi_mapping_entry, by_age);
}

void esi_mapping_deinit(struct esi_mapping *mapping)
{
    struct esi_mapping_entry *entry;

    while ((entry = oldest(mapping)) != NULL) {
        drop(mapping, entry);
    }
    esi_hashmap_deinit(&mapping->map);
}

void esi_mapping_add(struct esi_mapping *mapping, struct esi_str subject, struct esi_str mapped,
                     int64_t uses, uint64_t expires_ns)
{
    struct esi_mapping_entry *entry = esi_hashmap_find(&mapping->map, subject);

    if (entry != NULL) {
        drop(mapping, entry);
    } else if (mapping->count >= mapping->count_max) {
        drop(mapping, oldest(mapping));
    }
    entry = malloc(sizeof *entry + subject.len + mapped.len + 1);
    if (entry == NULL) {
        return;
    }
    char *text = (char *)(entry + 1);
    memcpy(text, subject.data, subject.len);
    entry->subject = (struct esi_str){.data = text, .len = subject.len};
    text += subject.len;
    if (mapped.len > 0) {
        memcpy(text, mapped.data, mapped.len);
    }
    entry->mapped = (struct esi_str){.data = text, .len = mapped.len};
    entry->uses = uses;
    entry->expires_ns = expires_ns;
    esi_list_init(&entry->by_age);
    if (esi_hashmap_insert(&mapping->map, entry->subject, entry) != ES_OK) {
        free(entry);
        return;
    }
    esi_list_append(&mapping->by_age, &entry->by_age);
    mapping->count++;
}

/* All entries of one mapping live equally long, so the oldest expire first. */
static void drop_expired(struct esi_mapping *mapping, uint64_t now_ns)
{
    struct esi_mapping_entry *entry;

    while ((entry = oldest(mapping)) != NULL && entry->expires_ns <= now_ns) {
        drop(mapping, entry);
    }
}

bool esi_mapping_use(struct esi_mapping *mapping, struct esi_str subject, uint64_t now_ns,
                     struct esi_str *mapped)
{
    drop_expired(mapping, now_ns);
    struct esi_mapping_entry *entry = esi_hashmap_find(&mapping->map, subject);
    if (entry == NULL || entry->expires_ns <= now_ns || entry->uses == 0) {
        return false;
    }
    if (entry->uses > 0) {
        entry->uses--;
    }
    if (mapped != NULL) {
        *mapped = entry->mapped;
    }
    return true;
}
