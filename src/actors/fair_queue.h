/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fair queue: who may go on, of many who wait for few places. One line for each origin; the lines
 * take turns, so that who sends many waits behind its own. Used before a peer has shown who it is:
 * by the listener for connections, by the authenticator for passwords.
 *
 * Both what waits and what holds a place are bounded, and shared by one rule (dynamic threshold):
 * an origin may have as many as are free for others. Alone it gets half; each one that joins gets
 * as much as the others; and the last place is never taken by one that has others already.
 *
 * Life of an item: out -> push -> waiting -> admit -> holding a place -> release -> out;
 * waiting -> remove -> out. One thread's.
 */
#pragma once

#include "actors/origin.h"
#include "base/err.h"
#include "base/hashmap.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* One origin's, while it has anything here. */
struct esi_fair_line;

/* Embedded in what waits. */
struct esi_fair_item {
    struct esi_list in_line;
    struct esi_list in_queue;
    struct esi_fair_line *line; /* borrowed; NULL: out */
};

struct esi_fair_queue {
    struct esi_hashmap lines; /* origin -> struct esi_fair_line */
    struct esi_list turns;    /* lines in which somebody waits; whose turn it is first */
    struct esi_list items;    /* all that wait, oldest first */
    uint32_t waiting;
    uint32_t waiting_max;
    uint32_t held;
    uint32_t held_max;
};

void esi_fair_queue_init(struct esi_fair_queue *queue, uint32_t waiting_max, uint32_t held_max);
/* Frees the lines; what is still in there is out, whatever it says. */
void esi_fair_queue_deinit(struct esi_fair_queue *queue);

/* At the end of its origin's line. ES_FULL: the origin, or all together, have too many;
 * ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_fair_queue_push(struct esi_fair_queue *queue,
                                            const struct esi_origin *origin,
                                            struct esi_fair_item *item);
/* A waiting item goes to the end again, as if it had just come. */
void esi_fair_queue_renew(struct esi_fair_queue *queue, struct esi_fair_item *item);
/* A waiting item leaves. */
void esi_fair_queue_remove(struct esi_fair_queue *queue, struct esi_fair_item *item);

/* The line whose turn it is among those that may have another place, or NULL. */
struct esi_fair_line *esi_fair_queue_turn(const struct esi_fair_queue *queue);
/* Who has waited longest, and shortest, in a line that esi_fair_queue_turn gave. */
struct esi_fair_item *esi_fair_queue_oldest_of(const struct esi_fair_line *line);
struct esi_fair_item *esi_fair_queue_newest_of(const struct esi_fair_line *line);
/* A waiting item takes a place; its line's next turn comes after the others'. */
void esi_fair_queue_admit(struct esi_fair_queue *queue, struct esi_fair_item *item);
/* An admitted item gives its place back. */
void esi_fair_queue_release(struct esi_fair_queue *queue, struct esi_fair_item *item);

/* Who has waited longest of all, or NULL. */
struct esi_fair_item *esi_fair_queue_oldest(const struct esi_fair_queue *queue);
