/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who should live where: what a worker decides about its own actors, from how busy they and all
 * workers are and from whom they send to. Pure; private to the runtime layer.
 *
 * Actors that mostly send to each other form a group and move together: a message to another
 * worker costs about twice as much as one at home. A group that is too much for any worker, of
 * three and more, is taken apart.
 *
 * PLACEMENT_FILL    a worker above 75% busy gives groups to the first that stays under 65% with
 *                   them, a saturated one about half of what makes it busier than the least busy
 *                   one. When all of a worker fits below 50% of the workers before it, it goes
 *                   there, and the worker sleeps. An actor goes where its peer lives when there is
 *                   room. What one rule moves no other rule moves back at the same load: between
 *                   leaving and coming back lie 25% of a worker.
 * PLACEMENT_SPREAD  a worker that is 25% busier than the least busy one gives it half of that.
 * PLACEMENT_SHUFFLE everybody goes anywhere: for tests.
 */
#pragma once

#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

enum { ESI_PLACEMENT_CANDIDATES_MAX = 256, ESI_PLACEMENT_MOVES_MAX = 64 };

/* "No worker". */
#define ESI_PLACEMENT_NONE UINT32_MAX

/* One actor of the worker that decides. */
struct esi_placement_candidate {
    uint64_t id;
    uint32_t index;         /* the caller's own number for it */
    uint64_t peer_id;       /* whom it mostly sends to; 0: nobody */
    uint32_t peer_worker;   /* where that one lives; ESI_PLACEMENT_NONE: unknown */
    uint32_t load_permille; /* of a worker's time */
    bool may_move;          /* else it pins its group: it has just come */
    uint32_t to;            /* out: the worker that it shall go to; ESI_PLACEMENT_NONE: stays */
    /* the decision's own */
    uint32_t group; /* index of its first member */
};

struct esi_placement_view {
    enum esi_placement placement;
    uint32_t full_permille; /* as the runtime's option */
    uint32_t worker_count;
    uint32_t self;               /* who decides */
    uint32_t *busy_permille;     /* of each worker; changed: what the decision makes of it */
    uint32_t overloaded_windows; /* so far without a break, with this one */
    uint32_t calm_windows;       /* the same: its load would fit below others */
    uint64_t *random;            /* state, for PLACEMENT_SHUFFLE; not 0 */
};

/* A bound that is meant for workers that are full at 75%, for those that are at full_permille. */
uint32_t esi_placement_scale(uint32_t full_permille, uint32_t permille);
/*
 * Whether the worker has more than it should, and whether all of it would fit into the workers
 * before it: the caller counts for how many windows that has been so.
 */
bool esi_placement_is_overloaded(const struct esi_placement_view *view);
bool esi_placement_is_calm(const struct esi_placement_view *view);
/*
 * Decides: fills `to` of each candidate; at most ESI_PLACEMENT_MOVES_MAX are moved.
 *   candidates   at most ESI_PLACEMENT_CANDIDATES_MAX; reordered
 * Returns the number of moves.
 */
uint32_t esi_placement_decide(struct esi_placement_view *view,
                              struct esi_placement_candidate *candidates, uint32_t count);
