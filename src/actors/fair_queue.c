/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: a line lives as long as something of its origin waits or holds a place; it stands in
 * the turns as long as something waits.
 */
#include "actors/fair_queue.h"
#include "base/assert.h"
#include "base/own.h"

#include <stdlib.h>

struct esi_fair_line {
    struct esi_origin origin; /* the key */
    struct esi_list in_turns;
    struct esi_list items; /* oldest first */
    uint32_t waiting;
    uint32_t held;
};

void esi_fair_queue_init(struct esi_fair_queue *queue, uint32_t waiting_max, uint32_t held_max)
{
    *queue = (struct esi_fair_queue){.waiting_max = waiting_max, .held_max = held_max};
    esi_hashmap_init(&queue->lines);
    esi_list_init(&queue->turns);
    esi_list_init(&queue->items);
}

void esi_fair_queue_deinit(struct esi_fair_queue *queue)
{
    struct esi_str key;
    size_t cursor = 0;
    void *line = NULL;

    while (esi_hashmap_next(&queue->lines, &cursor, &key, &line)) {
        free(line);
    }
    esi_hashmap_deinit(&queue->lines);
}

static enum es_err find_line(struct esi_fair_queue *queue, const struct esi_origin *origin,
                             struct esi_fair_line **out)
{
    struct esi_fair_line *line = esi_hashmap_find(&queue->lines, esi_origin_key(origin));

    if (line == NULL) {
        line = calloc(1, sizeof *line);
        if (line == NULL) {
            return ES_NO_MEMORY;
        }
        line->origin = *origin;
        esi_list_init(&line->in_turns);
        esi_list_init(&line->items);
        if (esi_hashmap_insert(&queue->lines, esi_origin_key(&line->origin), line) != ES_OK) {
            free(line);
            return ES_NO_MEMORY;
        }
    }
    *out = line;
    return ES_OK;
}

static void free_if_empty(struct esi_fair_queue *queue, struct esi_fair_line *line)
{
    if (line->waiting == 0 && line->held == 0) {
        (void)esi_hashmap_remove(&queue->lines, esi_origin_key(&line->origin));
        free(line);
    }
}

enum es_err esi_fair_queue_push(struct esi_fair_queue *queue, const struct esi_origin *origin,
                                struct esi_fair_item *item)
{
    struct esi_fair_line *line = NULL;

    /* Before a line is made: a full queue takes no memory. */
    if (queue->waiting >= queue->waiting_max) {
        return ES_FULL;
    }
    const enum es_err err = find_line(queue, origin, &line);
    if (err != ES_OK) {
        return err;
    }
    if (line->waiting >= queue->waiting_max - queue->waiting) {
        return ES_FULL; /* it has some already, so it is not empty */
    }
    if (line->waiting == 0) {
        esi_list_append(&queue->turns, &line->in_turns);
    }
    line->waiting++;
    queue->waiting++;
    item->line = line;
    esi_list_append(&line->items, &item->in_line);
    esi_list_append(&queue->items, &item->in_queue);
    return ES_OK;
}

void esi_fair_queue_renew(struct esi_fair_queue *queue, struct esi_fair_item *item)
{
    ESI_REQUIRE(item->line != NULL);
    esi_list_remove(&item->in_line);
    esi_list_remove(&item->in_queue);
    esi_list_append(&item->line->items, &item->in_line);
    esi_list_append(&queue->items, &item->in_queue);
}

/* Waits no more; its line stays for the moment. */
static void leave_line(struct esi_fair_queue *queue, struct esi_fair_item *item)
{
    struct esi_fair_line *line = item->line;

    ESI_ASSERT(line != NULL && line->waiting > 0 && queue->waiting > 0);
    esi_list_remove(&item->in_line);
    esi_list_remove(&item->in_queue);
    line->waiting--;
    queue->waiting--;
    if (line->waiting == 0) {
        esi_list_remove(&line->in_turns);
    }
}

void esi_fair_queue_remove(struct esi_fair_queue *queue, struct esi_fair_item *item)
{
    struct esi_fair_line *line = item->line;

    leave_line(queue, item);
    item->line = NULL;
    free_if_empty(queue, line);
}

static struct esi_fair_line *line_of(struct esi_list *in_turns)
{
    return ESI_CONTAINER_OF(in_turns, struct esi_fair_line, in_turns);
}

struct esi_fair_line *esi_fair_queue_turn(const struct esi_fair_queue *queue)
{
    const uint32_t free_count = queue->held_max - queue->held;

    for (struct esi_list *at = queue->turns.next; free_count > 0 && at != &queue->turns;
         at = at->next) {
        if (line_of(at)->held < free_count) {
            return line_of(at);
        }
    }
    return NULL;
}

struct esi_fair_item *esi_fair_queue_oldest_of(const struct esi_fair_line *line)
{
    ESI_REQUIRE(line->waiting > 0);
    return ESI_CONTAINER_OF(line->items.next, struct esi_fair_item, in_line);
}

struct esi_fair_item *esi_fair_queue_newest_of(const struct esi_fair_line *line)
{
    ESI_REQUIRE(line->waiting > 0);
    return ESI_CONTAINER_OF(line->items.prev, struct esi_fair_item, in_line);
}

void esi_fair_queue_admit(struct esi_fair_queue *queue, struct esi_fair_item *item)
{
    struct esi_fair_line *line = item->line;

    ESI_REQUIRE(queue->held < queue->held_max);
    leave_line(queue, item);
    line->held++;
    queue->held++;
    if (line->waiting > 0) {
        esi_list_remove(&line->in_turns);
        esi_list_append(&queue->turns, &line->in_turns);
    }
}

void esi_fair_queue_release(struct esi_fair_queue *queue, struct esi_fair_item *item)
{
    struct esi_fair_line *line = ESI_MOVE(item->line);

    ESI_ASSERT(line != NULL && line->held > 0 && queue->held > 0);
    line->held--;
    queue->held--;
    free_if_empty(queue, line);
}

struct esi_fair_item *esi_fair_queue_oldest(const struct esi_fair_queue *queue)
{
    return esi_list_is_empty(&queue->items)
               ? NULL
               : ESI_CONTAINER_OF(queue->items.next, struct esi_fair_item, in_queue);
}
