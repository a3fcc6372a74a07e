/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dead letters: see dead_letters.h. A letter stands in the list of all (oldest first), in a
 * table by number and in a table by event ID; letters of one event form a ring, the table points to
 * the newest.
 */
#include "journal/dead_letters.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hashmap.h"
#include "base/list.h"
#include "base/own.h"
#include "event/event.h"

struct letter {
    struct esi_dead_letter shown; /* event: one reference; texts in this allocation */
    struct esi_list all_node;
    struct esi_list same_event; /* a ring without a head: next is the one added before this one */
    bool is_oldest_of_event;    /* where the ring ends */
    char texts[];
};

struct esi_dead_letters {
    struct esi_list all;
    struct esi_hashmap by_number;
    struct esi_hashmap by_event;
    uint64_t last_number;
    struct esi_dead_letters_stats stats;
};

static struct esi_str number_key(const struct letter *letter)
{
    return (struct esi_str){.data = (const char *)&letter->shown.number,
                            .len = sizeof letter->shown.number};
}

enum es_err esi_dead_letters_new(size_t count_max, uint64_t bytes_max,
                                 struct esi_dead_letters **letters)
{
    ESI_REQUIRE(count_max > 0);
    struct esi_dead_letters *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return ES_NO_MEMORY;
    }
    esi_list_init(&made->all);
    esi_hashmap_init(&made->by_number);
    esi_hashmap_init(&made->by_event);
    made->stats.count_max = count_max;
    made->stats.bytes_max = bytes_max;
    *letters = made;
    return ES_OK;
}

static void free_letter(struct letter *letter)
{
    esi_event_unref(letter->shown.event);
    free(letter);
}

void esi_dead_letters_free(struct esi_dead_letters *letters)
{
    if (letters == NULL) {
        return;
    }
    for (struct esi_list *node = letters->all.next; node != &letters->all;) {
        struct letter *letter = ESI_CONTAINER_OF(node, struct letter, all_node);
        node = node->next;
        free_letter(letter);
    }
    esi_hashmap_deinit(&letters->by_number);
    esi_hashmap_deinit(&letters->by_event);
    free(letters);
}

/* Takes a letter out of the table by event; an older one of the same event takes its place there.
 */
static void leave_event_table(struct esi_dead_letters *letters, struct letter *letter)
{
    const struct esi_str id = letter->shown.event->id;
    const bool is_alone = esi_list_is_empty(&letter->same_event);
    struct letter *older = ESI_CONTAINER_OF(letter->same_event.next, struct letter, same_event);
    struct letter *newer = ESI_CONTAINER_OF(letter->same_event.prev, struct letter, same_event);

    if (esi_hashmap_find(&letters->by_event, id) == letter) {
        esi_hashmap_remove(&letters->by_event, id);
        if (!is_alone) {
            const enum es_err err =
                esi_hashmap_insert(&letters->by_event, older->shown.event->id, older);
            /* One was removed just now, so the table need not grow. */
            ESI_ASSERT(err == ES_OK);
        }
    }
    if (letter->is_oldest_of_event && !is_alone) {
        newer->is_oldest_of_event = true;
    }
    esi_list_remove(&letter->same_event);
}

static void remove_letter(struct esi_dead_letters *letters, struct letter *letter)
{
    leave_event_table(letters, letter);
    esi_hashmap_remove(&letters->by_number, number_key(letter));
    esi_list_remove(&letter->all_node);
    letters->stats.count--;
    letters->stats.bytes -= letter->shown.event->memory_bytes;
    free_letter(letter);
}

/* A letter in no list and no table yet; the event's reference is not taken yet. Returns NULL
 * without memory. */
static struct letter *make_letter(const struct esi_dead_letters_new_letter *from)
{
    const size_t reason_len = from->reason.len < ESI_DEAD_LETTERS_REASON_MAX
                                  ? from->reason.len
                                  : (size_t)ESI_DEAD_LETTERS_REASON_MAX;
    struct letter *letter = malloc(sizeof *letter + from->handler.len + reason_len);

    if (letter == NULL) {
        return NULL;
    }
    char *handler = letter->texts;
    char *reason = handler + from->handler.len;
    /* Before the texts: they begin in what is padding to the assignment. */
    *letter = (struct letter){
        .shown =
            {
                .event = from->event,
                .handler = {.data = handler, .len = from->handler.len},
                .reason = {.data = reason, .len = reason_len},
                .attempts = from->attempts,
                .accepted_wall_ns = from->accepted_wall_ns,
                .buried_wall_ns = from->buried_wall_ns,
            },
    };
    if (from->handler.len > 0) {
        memcpy(handler, from->handler.data, from->handler.len);
    }
    if (reason_len > 0) {
        memcpy(reason, from->reason.data, reason_len);
    }
    esi_list_init(&letter->all_node);
    esi_list_init(&letter->same_event);
    return letter;
}

static enum es_err enter_tables(struct esi_dead_letters *letters, struct letter *letter)
{
    enum es_err err = esi_hashmap_insert(&letters->by_number, number_key(letter), letter);
    if (err != ES_OK) {
        return err;
    }
    const struct esi_str id = letter->shown.event->id;
    struct letter *newest = esi_hashmap_find(&letters->by_event, id);
    err = esi_hashmap_insert(&letters->by_event, id, letter);
    if (err != ES_OK) {
        esi_hashmap_remove(&letters->by_number, number_key(letter));
        return err;
    }
    letter->is_oldest_of_event = newest == NULL;
    if (newest != NULL) {
        esi_list_append(&newest->same_event, &letter->same_event);
    }
    return ES_OK;
}

static bool is_over_bounds(const struct esi_dead_letters_stats *stats)
{
    return stats->count > stats->count_max ||
           (stats->bytes_max != 0 && stats->bytes > stats->bytes_max);
}

enum es_err esi_dead_letters_add(struct esi_dead_letters *letters,
                                 const struct esi_dead_letters_new_letter *letter, uint64_t *number,
                                 esi_dead_letters_evicted_fn evicted, void *argument)
{
    struct letter *made = make_letter(letter);

    if (made == NULL) {
        return ES_NO_MEMORY;
    }
    made->shown.number = letters->last_number + 1;
    const enum es_err err = enter_tables(letters, made);
    if (err != ES_OK) {
        free(made);
        return err;
    }
    esi_event_ref(made->shown.event);
    letters->last_number = made->shown.number;
    esi_list_append(&letters->all, &made->all_node);
    letters->stats.count++;
    letters->stats.added++;
    letters->stats.bytes += made->shown.event->memory_bytes;
    if (number != NULL) {
        *number = made->shown.number;
    }
    while (is_over_bounds(&letters->stats) && letters->stats.count > 1) {
        struct letter *oldest = ESI_CONTAINER_OF(letters->all.next, struct letter, all_node);
        letters->stats.evicted++;
        if (evicted != NULL) {
            evicted(argument, &oldest->shown);
        }
        remove_letter(letters, oldest);
    }
    return ES_OK;
}

static struct letter *find_letter(const struct esi_dead_letters *letters, uint64_t number)
{
    const struct esi_str key = {.data = (const char *)&number, .len = sizeof number};

    return esi_hashmap_find(&letters->by_number, key);
}

const struct esi_dead_letter *esi_dead_letters_find(const struct esi_dead_letters *letters,
                                                    uint64_t number)
{
    const struct letter *letter = find_letter(letters, number);

    return letter != NULL ? &letter->shown : NULL;
}

const struct esi_dead_letter *esi_dead_letters_find_event(const struct esi_dead_letters *letters,
                                                          struct esi_str event_id)
{
    const struct letter *letter = esi_hashmap_find(&letters->by_event, event_id);

    return letter != NULL ? &letter->shown : NULL;
}

const struct esi_dead_letter *esi_dead_letters_older(const struct esi_dead_letter *letter)
{
    const struct letter *whole =
        ESI_CONTAINER_OF((struct esi_dead_letter *)(uintptr_t)letter, struct letter, shown);

    if (whole->is_oldest_of_event) {
        return NULL;
    }
    return &ESI_CONTAINER_OF(whole->same_event.next, struct letter, same_event)->shown;
}

enum es_err esi_dead_letters_remove(struct esi_dead_letters *letters, uint64_t number)
{
    struct letter *letter = find_letter(letters, number);

    if (letter == NULL) {
        return ES_NOT_FOUND;
    }
    letters->stats.removed++;
    remove_letter(letters, letter);
    return ES_OK;
}

void esi_dead_letters_stats(const struct esi_dead_letters *letters,
                            struct esi_dead_letters_stats *stats)
{
    *stats = letters->stats;
}
