/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups are made with candidates sorted by id (a peer is found by bisection), then the groups are
 * looked at from the heaviest to the lightest; each decision is a few thousand steps at most, a few
 * times a second.
 */
#include "runtime/placement.h"
#include "base/assert.h"

#include <stddef.h>
#include <stdlib.h>

enum {
    OVERLOAD_PERMILLE = 750,  /* more, and groups leave */
    RELIEVED_PERMILLE = 600,  /* until so much is left */
    SATURATED_PERMILLE = 950, /* nobody knows how much it would take */
    ROOM_PERMILLE = 650,      /* with what comes, a worker is no busier than that */
    FIT_PERMILLE = 500,       /* the same where it comes without need */
    UNEVEN_PERMILLE = 250,    /* spread: a difference worth a move */
    TOLERANCE_PERMILLE = 100, /* loads are measured, not known */
    WINDOWS_OVERLOADED = 2,
    WINDOWS_CALM = 4,
    BIG_GROUP = 3
};

/* A set of candidates that goes together. */
struct group {
    uint32_t load_permille;
    uint32_t size;
    uint32_t index; /* what its members have in `group` */
    bool may_move;
};

struct decision {
    struct esi_placement_view *view;
    struct esi_placement_candidate *candidates;
    uint32_t count;
    struct group groups[ESI_PLACEMENT_CANDIDATES_MAX];
    uint32_t group_count;
    uint32_t moved;
};

uint32_t esi_placement_scale(uint32_t full_permille, uint32_t permille)
{
    return full_permille == 0 ? permille : permille * full_permille / OVERLOAD_PERMILLE;
}

static uint32_t bound(const struct esi_placement_view *view, uint32_t permille)
{
    return esi_placement_scale(view->full_permille, permille);
}

static uint32_t own_busy(const struct esi_placement_view *view)
{
    return view->busy_permille[view->self];
}

static uint32_t least_busy(const struct esi_placement_view *view)
{
    uint32_t best = view->self;

    for (uint32_t i = 0; i < view->worker_count; i++) {
        if (view->busy_permille[i] < view->busy_permille[best]) {
            best = i;
        }
    }
    return best;
}

bool esi_placement_is_overloaded(const struct esi_placement_view *view)
{
    const uint32_t busy = own_busy(view);

    if (view->placement == PLACEMENT_SPREAD) {
        return busy > view->busy_permille[least_busy(view)] + bound(view, UNEVEN_PERMILLE);
    }
    return busy > bound(view, OVERLOAD_PERMILLE);
}

bool esi_placement_is_calm(const struct esi_placement_view *view)
{
    uint32_t room = 0;

    for (uint32_t i = 0; i < view->self; i++) {
        const uint32_t busy = view->busy_permille[i];
        room += busy < bound(view, FIT_PERMILLE) ? bound(view, FIT_PERMILLE) - busy : 0;
    }
    return view->placement == PLACEMENT_FILL && view->self > 0 && own_busy(view) <= room;
}

/* --- groups --- */

static int compare_ids(const void *a, const void *b)
{
    const struct esi_placement_candidate *left = a;
    const struct esi_placement_candidate *right = b;

    return left->id < right->id ? -1 : left->id > right->id;
}

static struct esi_placement_candidate *find(const struct decision *decision, uint64_t id)
{
    const struct esi_placement_candidate key = {.id = id};

    return id == 0 ? NULL
                   : bsearch(&key, decision->candidates, decision->count,
                             sizeof *decision->candidates, compare_ids);
}

/* The first member of the candidate's group; shortens the way there. */
static uint32_t root_of(struct esi_placement_candidate *candidates, uint32_t index)
{
    while (candidates[index].group != index) {
        candidates[index].group = candidates[candidates[index].group].group;
        index = candidates[index].group;
    }
    return index;
}

static void join_peers(struct decision *decision)
{
    struct esi_placement_candidate *candidates = decision->candidates;

    for (uint32_t i = 0; i < decision->count; i++) {
        const struct esi_placement_candidate *peer = find(decision, candidates[i].peer_id);
        if (peer != NULL) {
            const uint32_t a = root_of(candidates, i);
            const uint32_t b = root_of(candidates, (uint32_t)(peer - candidates));
            candidates[a < b ? b : a].group = a < b ? a : b;
        }
    }
}

static int compare_loads(const void *a, const void *b)
{
    const struct group *left = a;
    const struct group *right = b;

    if (left->load_permille != right->load_permille) {
        return left->load_permille > right->load_permille ? -1 : 1;
    }
    return left->index < right->index ? -1 : left->index > right->index;
}

/* Fills the groups, heaviest first. */
static void sum_groups(struct decision *decision)
{
    uint32_t place[ESI_PLACEMENT_CANDIDATES_MAX];

    decision->group_count = 0;
    for (uint32_t i = 0; i < decision->count; i++) {
        /* A group's first member comes before its others. */
        const uint32_t root = root_of(decision->candidates, i);
        if (root == i) {
            place[i] = decision->group_count;
            decision->groups[decision->group_count++] =
                (struct group){.index = i, .may_move = true};
        }
        struct group *group = &decision->groups[place[root]];
        group->load_permille += decision->candidates[i].load_permille;
        group->size++;
        group->may_move &= decision->candidates[i].may_move;
    }
    qsort(decision->groups, decision->group_count, sizeof decision->groups[0], compare_loads);
}

static void make_groups(struct decision *decision)
{
    qsort(decision->candidates, decision->count, sizeof *decision->candidates, compare_ids);
    for (uint32_t i = 0; i < decision->count; i++) {
        decision->candidates[i].group = i;
        decision->candidates[i].to = ESI_PLACEMENT_NONE;
    }
    join_peers(decision);
    sum_groups(decision);
}

/* Each member of a group that is too much to be moved is on its own. */
static void take_big_groups_apart(struct decision *decision)
{
    for (uint32_t i = 0; i < decision->group_count; i++) {
        struct group *group = &decision->groups[i];
        if (group->size < BIG_GROUP) {
            continue;
        }
        /* Members stand behind their first one, which is the root of all since root_of has been
         * called for each. */
        for (uint32_t j = decision->count; j-- > group->index;) {
            if (root_of(decision->candidates, j) == group->index) {
                decision->candidates[j].group = j;
            }
        }
    }
    sum_groups(decision);
}

static void move_group(struct decision *decision, struct group *group, uint32_t to)
{
    uint32_t *busy = decision->view->busy_permille;

    for (uint32_t i = group->index; i < decision->count; i++) {
        struct esi_placement_candidate *candidate = &decision->candidates[i];
        if (root_of(decision->candidates, i) == group->index &&
            candidate->to == ESI_PLACEMENT_NONE) {
            candidate->to = to;
            decision->moved++;
        }
    }
    busy[to] += group->load_permille;
    busy[decision->view->self] -= group->load_permille < busy[decision->view->self]
                                      ? group->load_permille
                                      : busy[decision->view->self];
    group->may_move = false;
}

static bool may_move(const struct decision *decision, const struct group *group)
{
    return group->may_move && decision->moved + group->size <= ESI_PLACEMENT_MOVES_MAX;
}

/* --- the rules --- */

/* Who takes a load: with fill the first that has room, else, and with spread, the least busy, if it
 * is much less busy than this worker. */
static uint32_t find_taker(const struct esi_placement_view *view, uint32_t load_permille)
{
    const uint32_t least = least_busy(view);

    for (uint32_t i = 0; view->placement == PLACEMENT_FILL && i < view->worker_count; i++) {
        if (i != view->self &&
            view->busy_permille[i] + load_permille <= bound(view, ROOM_PERMILLE)) {
            return i;
        }
    }
    return view->busy_permille[least] + bound(view, UNEVEN_PERMILLE) <= own_busy(view) ? least
                                                                                       : view->self;
}

/* How much should leave. */
static uint32_t surplus(const struct esi_placement_view *view)
{
    const uint32_t busy = own_busy(view);
    const uint32_t half = (busy - view->busy_permille[least_busy(view)]) / 2;

    if (view->placement == PLACEMENT_SPREAD || busy >= bound(view, SATURATED_PERMILLE)) {
        return half;
    }
    return busy - bound(view, RELIEVED_PERMILLE);
}

/* Gives away what is too much, as long as nobody gets busier by it than this worker stays. */
static void relieve(struct decision *decision)
{
    struct esi_placement_view *view = decision->view;
    uint32_t left = surplus(view);

    for (uint32_t i = 0; i < decision->group_count && left > 0; i++) {
        struct group *group = &decision->groups[i];
        const uint32_t load = group->load_permille;
        if (load == 0 || load > left + bound(view, TOLERANCE_PERMILLE) ||
            !may_move(decision, group)) {
            continue;
        }
        const uint32_t to = find_taker(view, load);
        if (to == view->self ||
            view->busy_permille[to] + 2 * load > own_busy(view) + bound(view, TOLERANCE_PERMILLE)) {
            continue;
        }
        move_group(decision, group, to);
        left -= load < left ? load : left;
    }
}

/* Everything goes to the workers before this one. */
static void retreat(struct decision *decision)
{
    const struct esi_placement_view *view = decision->view;

    for (uint32_t i = 0; i < decision->group_count; i++) {
        struct group *group = &decision->groups[i];
        for (uint32_t to = 0; to < view->self && may_move(decision, group); to++) {
            if (view->busy_permille[to] + group->load_permille <= bound(view, FIT_PERMILLE)) {
                move_group(decision, group, to);
            }
        }
    }
}

/*
 * A peer lives elsewhere: down to it where there is room; up to it only where it has no room to
 * come down here, or the two would change places.
 */
static void follow_peers(struct decision *decision)
{
    const struct esi_placement_view *view = decision->view;

    for (uint32_t i = 0; i < decision->group_count; i++) {
        struct group *group = &decision->groups[i];
        const uint32_t to = decision->candidates[group->index].peer_worker;
        if (group->size != 1 || !may_move(decision, group) ||
            decision->candidates[group->index].peer_id == 0 || to >= view->worker_count ||
            to == view->self) {
            continue;
        }
        if (view->busy_permille[to] + group->load_permille <= bound(view, ROOM_PERMILLE) &&
            (to < view->self || own_busy(view) > bound(view, FIT_PERMILLE))) {
            move_group(decision, group, to);
        }
    }
}

static uint64_t draw(uint64_t *state)
{
    /* xorshift64*: tests need no more. */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * 0x2545f4914f6cdd1dULL) >> 32;
}

static void shuffle(struct decision *decision)
{
    const struct esi_placement_view *view = decision->view;

    for (uint32_t i = 0; i < decision->count && decision->moved < ESI_PLACEMENT_MOVES_MAX; i++) {
        const uint32_t to = (uint32_t)(draw(view->random) % view->worker_count);
        decision->candidates[i].to = to != view->self ? to : ESI_PLACEMENT_NONE;
        decision->moved += to != view->self;
    }
}

uint32_t esi_placement_decide(struct esi_placement_view *view,
                              struct esi_placement_candidate *candidates, uint32_t count)
{
    struct decision decision = {.view = view, .candidates = candidates, .count = count};

    ESI_REQUIRE(count <= ESI_PLACEMENT_CANDIDATES_MAX && view->self < view->worker_count);
    make_groups(&decision);
    if (view->placement == PLACEMENT_SHUFFLE) {
        shuffle(&decision);
        return decision.moved;
    }
    if (view->overloaded_windows >= WINDOWS_OVERLOADED && esi_placement_is_overloaded(view)) {
        relieve(&decision);
        if (decision.moved == 0) {
            take_big_groups_apart(&decision);
            relieve(&decision);
        }
        return decision.moved;
    }
    if (view->calm_windows >= WINDOWS_CALM && esi_placement_is_calm(view)) {
        retreat(&decision);
    }
    if (view->placement == PLACEMENT_FILL && decision.moved == 0) {
        follow_peers(&decision);
    }
    return decision.moved;
}
