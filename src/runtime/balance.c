/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the windows end. Bounded: so many active actors are known, so many looked at, so many
 * moved. */
#include "runtime/balance.h"
#include "base/own.h"
#include "runtime/placement.h"
#include "runtime/worker.h"

#include <stddef.h>

enum {
    ACTIVE_MAX = 4096,
    COOL_WINDOWS = 4, /* who has just come stays for so long */
    VOTES_PART = 4    /* a peer has a fourth of the messages more than all others */
};

static void begin_window(struct esi_worker *worker)
{
    struct esi_balance *balance = &worker->balance;
    /* The options' count: it stands before all workers are made. */
    const struct esi_runtime_options *options = esi_runtime_options(worker->runtime);

    while (!esi_list_is_empty(&balance->active)) {
        esi_list_remove(balance->active.next);
    }
    balance->active_count = 0;
    balance->window++;
    esi_worker_mark(worker, &balance->mark);
    balance->window_end_ns = options->worker_count > 1 && options->rebalance_ns > 0
                                 ? worker->now_ns + options->rebalance_ns
                                 : UINT64_MAX;
}

void esi_balance_init(struct esi_worker *worker)
{
    esi_list_init(&worker->balance.active);
    worker->balance.random = worker->index + 1;
    begin_window(worker);
    /* By another thread; the worker's own has used nothing yet. */
    worker->balance.mark.cpu_ns = 0;
}

void esi_balance_begin(struct esi_balance *balance, struct esi_actor *actor)
{
    struct esi_actor_load *load = &actor->load;

    load->window = balance->window;
    load->service_ns = 0;
    load->sent = 0;
    load->peer_votes = 0;
    if (actor->type->may_move && !actor->is_finished && balance->active_count < ACTIVE_MAX &&
        balance->window_end_ns != UINT64_MAX) {
        esi_list_append(&balance->active, &load->in_active);
        balance->active_count++;
    }
}

void esi_balance_forget(struct esi_balance *balance, struct esi_actor *actor)
{
    balance->active_count -= !esi_list_is_empty(&actor->load.in_active);
    esi_list_remove(&actor->load.in_active);
    actor->load.window = 0;
}

/* What the worker was busy with in a window. */
struct share {
    uint32_t busy_permille;
    uint64_t turns_ns; /* what its turns took in all, as their actors count it */
};

static struct esi_placement_candidate
describe(const struct esi_worker *worker, const struct esi_actor *actor, const struct share *share)
{
    const struct esi_actor_load *load = &actor->load;
    const bool has_peer = load->peer_votes > 0 && load->peer_votes >= load->sent / VOTES_PART;
    const uint64_t cool_ns =
        load->moved_ns + COOL_WINDOWS * esi_runtime_options(worker->runtime)->rebalance_ns;

    return (struct esi_placement_candidate){
        .id = actor->id,
        .peer_id = has_peer ? load->peer_id : 0,
        .peer_worker =
            has_peer && load->peer_home != NULL ? load->peer_home->index : ESI_PLACEMENT_NONE,
        .load_permille = share->turns_ns > 0
                             ? (uint32_t)(load->service_ns * share->busy_permille / share->turns_ns)
                             : 0,
        .may_move = load->moved_ns == 0 || worker->now_ns >= cool_ns,
    };
}

/* Where there are more than can be looked at, only those above the average. */
static uint32_t collect(const struct esi_worker *worker, const struct share *share,
                        struct esi_placement_candidate *candidates, struct esi_actor **actors)
{
    const struct esi_balance *balance = &worker->balance;
    const bool is_crowded = balance->active_count > ESI_PLACEMENT_CANDIDATES_MAX;
    const uint64_t average_ns = is_crowded ? share->turns_ns / balance->active_count : 0;
    uint32_t count = 0;

    for (struct esi_list *link = balance->active.next;
         link != &balance->active && count < ESI_PLACEMENT_CANDIDATES_MAX; link = link->next) {
        struct esi_actor *actor = ESI_CONTAINER_OF(link, struct esi_actor, load.in_active);
        if (!is_crowded || actor->load.service_ns >= average_ns) {
            actors[count] = actor;
            candidates[count] = describe(worker, actor, share);
            count++;
        }
    }
    return count;
}

static void decide(struct esi_worker *worker, uint32_t *busy_permille, const struct share *share)
{
    struct esi_balance *balance = &worker->balance;
    struct esi_placement_candidate candidates[ESI_PLACEMENT_CANDIDATES_MAX];
    struct esi_actor *actors[ESI_PLACEMENT_CANDIDATES_MAX];
    struct esi_placement_view view = {
        .placement = esi_runtime_options(worker->runtime)->placement,
        .full_permille = esi_runtime_options(worker->runtime)->full_permille,
        .worker_count = esi_runtime_worker_count(worker->runtime),
        .self = worker->index,
        .random = &balance->random,
    };

    view.busy_permille = busy_permille;
    balance->overloaded_windows =
        esi_placement_is_overloaded(&view) ? balance->overloaded_windows + 1 : 0;
    balance->calm_windows = esi_placement_is_calm(&view) ? balance->calm_windows + 1 : 0;
    view.overloaded_windows = balance->overloaded_windows;
    view.calm_windows = balance->calm_windows;
    const uint32_t count = collect(worker, share, candidates, actors);
    for (uint32_t i = 0; i < count; i++) {
        candidates[i].index = i;
    }
    if (esi_placement_decide(&view, candidates, count) == 0) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (candidates[i].to != ESI_PLACEMENT_NONE) {
            esi_actor_move(actors[candidates[i].index],
                           esi_runtime_worker(worker->runtime, candidates[i].to));
        }
    }
}

void esi_balance_end_window(struct esi_worker *worker)
{
    struct esi_balance *balance = &worker->balance;
    uint32_t busy_permille[ESI_RUNTIME_WORKERS_MAX];
    const struct share share = {
        .busy_permille = esi_worker_busy_since(worker, &balance->mark),
        .turns_ns = worker->stats.busy_ns - balance->mark.busy_ns,
    };

    for (uint32_t i = 0; i < esi_runtime_worker_count(worker->runtime); i++) {
        busy_permille[i] =
            esi_runtime_busy_permille(worker->runtime, esi_runtime_worker(worker->runtime, i));
    }
    busy_permille[worker->index] = share.busy_permille;
    if (!esi_list_is_empty(&balance->active)) {
        decide(worker, busy_permille, &share);
    }
    begin_window(worker);
}
