/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nothing of the actor is touched by its old worker after it stands in the new one's inbound list,
 * and nothing by its new one before it has taken it from there. Events of its sockets that were
 * seen and not yet reacted to are forgotten: pollers are level-triggered, so the new one tells them
 * again.
 */
#include "runtime/move.h"
#include "base/assert.h"
#include "runtime/actor.h"
#include "runtime/worker.h"

#include <stddef.h>

void esi_actor_move(struct esi_actor *actor, struct esi_worker *to)
{
    struct esi_worker *home = esi_actor_home(actor);

    ESI_REQUIRE(actor->type->may_move && to != NULL && home == esi_worker_current());
    actor->load.move_to = to;
    esi_worker_enqueue(home, actor);
}

/* May it go now? One that ends does so where it is. */
static bool begin(struct esi_actor *actor)
{
    enum esi_move_leave leave = MOVE_NEVER;

    if (actor->is_started && !actor->is_finished && !actor->is_stopping &&
        actor->load.move_to != esi_actor_home(actor)) {
        leave = esi_runtime_begin_move(actor->runtime);
    }
    if (leave == MOVE_NEVER) {
        actor->load.move_to = NULL;
    }
    return leave == MOVE_NOW;
}

static void pack(struct esi_actor *actor, struct esi_worker *from)
{
    for (struct esi_actor_timer *timer = actor->load.timers; timer != NULL;
         timer = timer->next_of_actor) {
        timer->carried_ns = esi_timer_wheel_deadline_ns(&timer->timer);
        esi_timer_wheel_cancel(&from->wheel, &timer->timer);
    }
    for (struct esi_io *io = actor->load.ios; io != NULL; io = io->next_of_actor) {
        if (io->sock != ESI_ENV_NO_SOCKET) {
            esi_env_poller_remove(from->env, from->poller, io->sock);
        }
        io->ready = 0;
        io->is_listed = false;
        io->next_ready = NULL;
    }
    actor->ready_ios = NULL;
}

/* The claim is held. */
static void leave(struct esi_actor *actor)
{
    struct esi_worker *from = esi_actor_home(actor);
    struct esi_worker *to = actor->load.move_to;

    actor->load.move_to = NULL;
    pack(actor, from);
    esi_worker_forget(from, actor);
    from->stats.moves_out++;
    /* order: relaxed; no thread but this one has taken the actor for its own. */
    atomic_store_explicit(&actor->home, NULL, memory_order_relaxed);
    esi_worker_schedule_remote(to, actor);
}

bool esi_move_depart_claimed(struct esi_actor *actor)
{
    if (!begin(actor)) {
        return false;
    }
    leave(actor);
    return true;
}

bool esi_move_depart(struct esi_actor *actor)
{
    if (!begin(actor)) {
        return false;
    }
    /* order: acq_rel; as in send_remote of actor.c: one alone brings the actor to a worker. */
    if (atomic_exchange_explicit(&actor->is_scheduled, true, memory_order_acq_rel)) {
        /* A sender brings it to the inbound list: there it goes, or after that. */
        esi_runtime_end_move(actor->runtime);
        return false;
    }
    leave(actor);
    return true;
}

/* Returns false when a socket cannot be watched here. */
static bool unpack(struct esi_actor *actor, struct esi_worker *to)
{
    bool is_whole = true;

    for (struct esi_actor_timer *timer = actor->load.timers; timer != NULL;
         timer = timer->next_of_actor) {
        if (timer->carried_ns > 0) {
            esi_timer_wheel_set(&to->wheel, &timer->timer, timer->carried_ns);
            timer->carried_ns = 0;
        }
    }
    for (struct esi_io *io = actor->load.ios; io != NULL; io = io->next_of_actor) {
        if (io->sock != ESI_ENV_NO_SOCKET &&
            esi_env_poller_add(to->env, to->poller, io->sock, io->watched, io) != ES_OK) {
            io->sock = ESI_ENV_NO_SOCKET;
            is_whole = false;
        }
    }
    return is_whole;
}

void esi_move_arrive(struct esi_worker *worker, struct esi_actor *actor)
{
    /* No clock of an actor goes back: the last time it saw was another worker's. */
    worker->now_ns = esi_env_now_ns(worker->env);
    /* order: relaxed; see esi_actor_home. */
    atomic_store_explicit(&actor->home, worker, memory_order_relaxed);
    esi_worker_take_in(worker, actor);
    actor->stats.moves++;
    actor->load.moved_ns = worker->now_ns;
    worker->stats.moves_in++;
    const bool is_whole = unpack(actor, worker);
    if (actor->type->moved != NULL) {
        actor->type->moved(actor);
    }
    if ((worker->stopped_phases & 1U << actor->type->stop_phase) != 0) {
        /* It was on its way here when the others of its phase were told. */
        actor->is_stopping = true;
        actor->type->stop(actor);
    } else if (!is_whole) {
        actor->type->cut(actor);
    }
    esi_runtime_end_move(worker->runtime);
}
