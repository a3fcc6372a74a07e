/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dead letters: events that were given up or had no handler, kept in memory to be listed,
 * looked at, replayed and purged. Bounded in number and bytes; when a new one does not fit, the
 * oldest are let go, and the caller is told of each, so that it counts and logs it.
 *
 * One owner, no threads, no I/O; times are passed in: wall-clock nanoseconds since 1970.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

struct esi_dead_letters;
struct esi_event;

enum { ESI_DEAD_LETTERS_REASON_MAX = 512, ESI_DEAD_LETTERS_COUNT_MAX_DEFAULT = 10000 };

/* Owned by the store; valid until the next change of the store. */
struct esi_dead_letter {
    uint64_t number; /* names the letter: from 1, grows by one a letter */
    struct esi_event *event;
    struct esi_str handler; /* name; empty: the event was not routed */
    struct esi_str reason;  /* a sentence */
    uint32_t attempts;
    int64_t accepted_wall_ns; /* when the event was accepted */
    int64_t buried_wall_ns;   /* when it was given up */
};

/* What a letter is made of; everything is borrowed for the call, the texts are copied (reason:
 * cut). */
struct esi_dead_letters_new_letter {
    struct esi_event *event; /* a reference is taken on success */
    struct esi_str handler;
    struct esi_str reason;
    uint32_t attempts;
    int64_t accepted_wall_ns;
    int64_t buried_wall_ns;
};

struct esi_dead_letters_stats {
    size_t count;
    size_t count_max;
    uint64_t bytes;
    uint64_t bytes_max;
    uint64_t added; /* since the start */
    uint64_t evicted;
    uint64_t removed; /* replayed or purged */
};

/* Told of a letter that is let go for a new one; the letter is freed after the call. */
typedef void (*esi_dead_letters_evicted_fn)(void *argument, const struct esi_dead_letter *letter);

/*
 * Makes an empty store.
 *   count_max   letters, at least 1
 *   bytes_max   of their events; 0: no bound. One letter is kept even when it alone is over it
 */
ES_MUST_USE enum es_err esi_dead_letters_new(size_t count_max, uint64_t bytes_max,
                                             struct esi_dead_letters **letters);
/* Frees it with all its references. NULL is accepted. */
void esi_dead_letters_free(struct esi_dead_letters *letters);

/*
 * Adds a letter as the newest.
 *   number     written on success; may be NULL
 *   evicted    called for each letter that made room; may be NULL (they are counted all the same).
 *              It must not change the store
 * Returns ES_OK or ES_NO_MEMORY (then nothing was added or let go: the caller must not forget the
 * event).
 */
ES_MUST_USE enum es_err esi_dead_letters_add(struct esi_dead_letters *letters,
                                             const struct esi_dead_letters_new_letter *letter,
                                             uint64_t *number, esi_dead_letters_evicted_fn evicted,
                                             void *argument);

/* A letter by its number, or NULL. */
const struct esi_dead_letter *esi_dead_letters_find(const struct esi_dead_letters *letters,
                                                    uint64_t number);
/* The newest letter of the event with this ID, or NULL. */
const struct esi_dead_letter *esi_dead_letters_find_event(const struct esi_dead_letters *letters,
                                                          struct esi_str event_id);
/* The next older letter of the same event, or NULL. */
const struct esi_dead_letter *esi_dead_letters_older(const struct esi_dead_letter *letter);
/* Purges one letter, or takes it for a replay (ref its event before). Returns ES_OK or
 * ES_NOT_FOUND. */
ES_MUST_USE enum es_err esi_dead_letters_remove(struct esi_dead_letters *letters, uint64_t number);

void esi_dead_letters_stats(const struct esi_dead_letters *letters,
                            struct esi_dead_letters_stats *stats);
