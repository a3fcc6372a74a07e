/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How messages reach an actor. At home, and from other threads, by its mailbox and its worker's run
 * queue; a roaming actor runs in the thread of the sender that claims it. is_scheduled is the
 * claim: who sets it alone brings the actor to a run queue, or runs it.
 */
#include "runtime/actor.h"
#include "base/assert.h"
#include "base/own.h"
#include "runtime/balance.h"
#include "runtime/move.h"
#include "runtime/worker.h"

#include <stddef.h>

/* The kind of the runtime's own message; an actor's enumerators are small. */
enum { KIND_START = 0xffffff01U };
/* Messages a roaming actor handles in one sender's turn before it moves on to a worker's run
 * queue. */
enum { ROAMING_BOUND = 256 };

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded in the actor */
}

void esi_actor_init(struct esi_actor *actor, const struct esi_actor_type *type,
                    struct esi_runtime *runtime, struct esi_worker *home)
{
    static _Atomic uint64_t next_id = 1;

    actor->type = type;
    actor->runtime = runtime;
    atomic_init(&actor->home, home);
    /* order: relaxed; only uniqueness matters. */
    actor->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    esi_list_init(&actor->in_worker);
    actor->next_in_run = NULL;
    actor->ready_ios = NULL;
    actor->is_queued = false;
    actor->is_started = false;
    actor->is_finished = false;
    actor->is_stopping = false;
    actor->is_reaped = false;
    actor->wants_turn = false;
    actor->stats = (struct esi_actor_stats){0};
    actor->load = (struct esi_actor_load){0};
    actor->times = (struct esi_actor_times){0};
    esi_list_init(&actor->load.in_active);
    actor->start_msg = (struct esi_msg){.kind = KIND_START, .free = keep};
    actor->reap = (struct esi_grace){.msg = {.kind = WORKER_REAP, .free = keep}};
    esi_mailbox_init(&actor->mailbox);
    atomic_init(&actor->is_scheduled, false);
    actor->next_inbound = NULL;
    atomic_init(&actor->refs, 1);
}

void esi_actor_start(struct esi_actor *actor)
{
    if (esi_actor_home(actor) == NULL) {
        actor->is_started = true;
        return;
    }
    esi_runtime_count(actor->runtime, actor->type->stop_phase, 1);
    esi_actor_send(actor, &actor->start_msg);
}

static void count_message(struct esi_actor *actor, const struct esi_msg *msg, uint64_t now_ns)
{
    const uint64_t waiting_ns = now_ns > msg->sent_ns ? now_ns - msg->sent_ns : 0;
    const size_t bucket = esi_time_histogram_bucket(waiting_ns);

    actor->stats.messages++;
    actor->stats.waiting_ns += waiting_ns;
    if (waiting_ns > actor->stats.waiting_ns_max) {
        actor->stats.waiting_ns_max = waiting_ns;
    }
    esi_time_histogram_count(&actor->times.waiting, bucket);
    struct esi_worker *home = esi_actor_home(actor);
    if (home != NULL) {
        esi_time_histogram_count_total(&home->times.waiting, bucket, waiting_ns);
    }
}

static void begin_life(struct esi_actor *actor)
{
    struct esi_worker *home = esi_actor_home(actor);

    esi_worker_take_in(home, actor);
    actor->is_started = true;
    if (actor->type->start != NULL) {
        actor->type->start(actor);
    }
    if (!actor->is_finished && (home->stopped_phases & 1U << actor->type->stop_phase) != 0) {
        /* It was on its way here when the others of its phase were told. */
        actor->is_stopping = true;
        actor->type->stop(actor);
    }
}

static void handle_one(struct esi_actor *actor, struct esi_msg *msg, uint64_t now_ns)
{
    if (msg->kind == KIND_START) {
        begin_life(actor);
        return;
    }
    count_message(actor, msg, now_ns);
    /* Read first: a reaction may pass a message on that is part of something else, and then it is
     * no longer ours. */
    void (*const free_msg)(struct esi_msg *) = msg->free;
    if (!actor->is_finished) {
        actor->type->handle(actor, msg);
    }
    free_msg(msg);
}

/* Nobody knows it any more. */
static void free_actor(struct esi_actor *actor)
{
    struct esi_msg *msg;

    ESI_ASSERT(actor->is_finished);
    esi_mailbox_take(&actor->mailbox);
    while ((msg = esi_mailbox_pop(&actor->mailbox)) != NULL) {
        msg->free(msg);
    }
    actor->type->free(actor);
}

static void react_to_ios(struct esi_actor *actor)
{
    while (actor->ready_ios != NULL && !actor->is_finished) {
        struct esi_io *io = actor->ready_ios;
        const uint32_t events = io->ready;
        actor->ready_ios = io->next_ready;
        io->next_ready = NULL;
        io->is_listed = false;
        io->ready = 0;
        if (io->sock != ESI_ENV_NO_SOCKET && events != 0) {
            actor->type->ready(actor, io, events);
        }
    }
}

/* The turn ends now: counts it, and returns the time. */
static uint64_t count_service(struct esi_actor *actor, uint64_t start_ns)
{
    struct esi_worker *home = esi_actor_home(actor);
    const uint64_t now_ns = esi_env_now_ns(home->env);
    const uint64_t service_ns = now_ns - start_ns;
    const size_t bucket = esi_time_histogram_bucket(service_ns);

    esi_balance_note_turn(&home->balance, actor, service_ns);
    actor->stats.turns++;
    actor->stats.service_ns += service_ns;
    if (service_ns > actor->stats.service_ns_max) {
        actor->stats.service_ns_max = service_ns;
    }
    esi_time_histogram_count(&actor->times.service, bucket);
    esi_time_histogram_count_total(&home->times.service, bucket, service_ns);
    return now_ns;
}

static void run_roaming(struct esi_actor *actor);

/* A turn of a living actor at home. */
static uint64_t run_at_home(struct esi_actor *actor, uint64_t now_ns, uint32_t work_bound)
{
    struct esi_worker *home = esi_actor_home(actor);
    struct esi_msg *msg;
    uint32_t count = 0;

    actor->wants_turn = false;
    esi_mailbox_take(&actor->mailbox);
    while (count++ < work_bound && (msg = esi_mailbox_pop(&actor->mailbox)) != NULL) {
        handle_one(actor, msg, now_ns);
    }
    react_to_ios(actor);
    if (!actor->is_finished && actor->type->turn_end != NULL) {
        actor->type->turn_end(actor);
    }
    const uint64_t end_ns = count_service(actor, now_ns);
    if (actor->mailbox.head != NULL || (actor->wants_turn && !actor->is_finished)) {
        esi_worker_enqueue(home, actor);
    }
    return end_ns;
}

uint64_t esi_actor_run(struct esi_actor *actor, uint64_t now_ns, uint32_t work_bound)
{
    struct esi_env *env = esi_runtime_env(actor->runtime);

    if (esi_actor_home(actor) == NULL) {
        run_roaming(actor);
    } else if (actor->is_reaped) {
        free_actor(actor);
    } else if (ESI_LIKELY(actor->load.move_to == NULL) || !esi_move_depart(actor)) {
        return run_at_home(actor, now_ns, work_bound);
    }
    /* It is gone, or may be at work elsewhere: not touched any more. */
    return esi_env_now_ns(env);
}

void esi_actor_drain(struct esi_actor *actor)
{
    struct esi_msg *msg;
    const uint64_t now_ns = esi_actor_now_ns(actor);

    esi_mailbox_take(&actor->mailbox);
    while ((msg = esi_mailbox_pop(&actor->mailbox)) != NULL) {
        handle_one(actor, msg, now_ns);
    }
}

/* Handles what there is, and gives the claim back. */
static void handle_roaming(struct esi_actor *actor, struct esi_worker *worker, uint64_t now_ns)
{
    for (uint32_t count = 0;;) {
        struct esi_msg *msg;
        esi_mailbox_take(&actor->mailbox);
        while ((msg = esi_mailbox_pop(&actor->mailbox)) != NULL) {
            count_message(actor, msg, now_ns);
            /* Read first: see handle_one. */
            void (*const free_msg)(struct esi_msg *) = msg->free;
            actor->type->handle(actor, msg);
            free_msg(msg);
            count++;
        }
        if (count >= ROAMING_BOUND && worker != NULL) {
            /* The claim is kept; the worker goes on after its other actors. */
            esi_worker_enqueue(worker, actor);
            return;
        }
        actor->stats.turns++;
        /* order: acq_rel; release: our changes are seen by the next who claims; acquire: pairs with
         * the exchange of a sender that found it claimed, whose push must be seen by the look
         * below. */
        (void)atomic_exchange_explicit(&actor->is_scheduled, false, memory_order_acq_rel);
        /* order: relaxed; ordered by the exchange above. */
        if (atomic_load_explicit(&actor->mailbox.pushed, memory_order_relaxed) == NULL) {
            return;
        }
        /* order: acq_rel; as in send_remote. */
        if (atomic_exchange_explicit(&actor->is_scheduled, true, memory_order_acq_rel)) {
            return;
        }
    }
}

/* One turn of a roaming actor whose is_scheduled this thread has claimed. */
static void run_roaming(struct esi_actor *actor)
{
    const uint64_t now_ns = esi_env_now_ns(esi_runtime_env(actor->runtime));
    struct esi_worker *worker = esi_worker_current();
    struct esi_actor *sender = worker != NULL ? worker->current : NULL;

    /* What it sends is not said by whose turn it runs in. */
    if (worker != NULL) {
        worker->current = NULL;
    }
    handle_roaming(actor, worker, now_ns);
    if (worker != NULL) {
        worker->current = sender;
    }
}

static void send_remote(struct esi_actor *actor, struct esi_msg *msg)
{
    esi_mailbox_push(&actor->mailbox, msg);
    /* order: acq_rel; release: whoever clears the flag after this sees our push; acquire: a claim
     * of a roaming actor sees what its last turn changed. */
    if (!atomic_exchange_explicit(&actor->is_scheduled, true, memory_order_acq_rel)) {
        struct esi_worker *home = esi_actor_home(actor);
        if (home != NULL) {
            esi_worker_schedule_remote(home, actor);
        } else {
            run_roaming(actor);
        }
    }
}

void esi_actor_send(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_worker *worker = esi_worker_current();

    msg->sent_ns =
        worker != NULL ? worker->now_ns : esi_env_now_ns(esi_runtime_env(actor->runtime));
    if (worker != NULL) {
        struct esi_worker *home = esi_actor_home(actor);
        worker->stats.messages++;
        esi_balance_note_message(worker->current, actor, home);
        if (home == worker) {
            esi_mailbox_push_local(&actor->mailbox, msg);
            esi_worker_enqueue(worker, actor);
            return;
        }
        worker->stats.messages_remote++;
        send_remote(actor, msg);
        return;
    }
    /* Grace periods do not wait for this thread: it holds the actor itself until it has scheduled
     * it. */
    esi_actor_ref(actor);
    send_remote(actor, msg);
    esi_actor_unref(actor);
}

void esi_actor_ref(struct esi_actor *actor)
{
    /* order: relaxed; the caller holds a reference already. */
    atomic_fetch_add_explicit(&actor->refs, 1, memory_order_relaxed);
}

void esi_actor_unref(struct esi_actor *actor)
{
    /* order: acq_rel; the last holder sees all that the others did. */
    if (atomic_fetch_sub_explicit(&actor->refs, 1, memory_order_acq_rel) == 1) {
        /* A worker may be about to schedule it (send_remote); by the end of its loop turn it
         * has. */
        esi_runtime_after_some_grace(actor->runtime, &esi_actor_home(actor)->agent, &actor->reap);
    }
}

void esi_actor_finish(struct esi_actor *actor)
{
    struct esi_worker *home = esi_actor_home(actor);

    ESI_REQUIRE(!actor->is_finished && home != NULL);
    actor->is_finished = true;
    esi_worker_forget(home, actor);
    esi_runtime_count(actor->runtime, actor->type->stop_phase, -1);
    esi_actor_unref(actor);
}

void esi_actor_continue(struct esi_actor *actor)
{
    actor->wants_turn = true;
    esi_worker_enqueue(esi_actor_home(actor), actor);
}

uint64_t esi_actor_now_ns(const struct esi_actor *actor)
{
    return esi_actor_home(actor)->now_ns;
}

void esi_actor_timer_init(struct esi_actor *actor, struct esi_actor_timer *timer)
{
    esi_timer_wheel_init_timer(&timer->timer);
    timer->actor = actor;
    timer->carried_ns = 0;
    if (actor->type->may_move) {
        timer->next_of_actor = actor->load.timers;
        actor->load.timers = timer;
    }
}

void esi_actor_timer_set(struct esi_actor_timer *timer, uint64_t deadline_ns)
{
    esi_timer_wheel_set(&esi_actor_home(timer->actor)->wheel, &timer->timer, deadline_ns);
}

void esi_actor_timer_cancel(struct esi_actor_timer *timer)
{
    esi_timer_wheel_cancel(&esi_actor_home(timer->actor)->wheel, &timer->timer);
}

void esi_actor_io_init(struct esi_actor *actor, struct esi_io *io)
{
    *io = (struct esi_io){.actor = actor, .sock = ESI_ENV_NO_SOCKET};
    if (actor->type->may_move) {
        io->next_of_actor = actor->load.ios;
        actor->load.ios = io;
    }
}

enum es_err esi_actor_io_watch(struct esi_io *io, int sock, uint32_t events)
{
    struct esi_worker *worker = esi_actor_home(io->actor);
    const enum es_err err = esi_env_poller_add(worker->env, worker->poller, sock, events, io);

    if (err == ES_OK) {
        io->sock = sock;
        io->watched = events;
        io->ready = 0;
    }
    return err;
}

void esi_actor_io_change(struct esi_io *io, uint32_t events)
{
    struct esi_worker *worker = esi_actor_home(io->actor);

    if (io->sock != ESI_ENV_NO_SOCKET && io->watched != events) {
        io->watched = events;
        esi_env_poller_change(worker->env, worker->poller, io->sock, events, io);
    }
}

void esi_actor_io_unwatch(struct esi_io *io)
{
    struct esi_worker *worker = esi_actor_home(io->actor);

    if (io->sock == ESI_ENV_NO_SOCKET) {
        return;
    }
    esi_env_poller_remove(worker->env, worker->poller, io->sock);
    io->sock = ESI_ENV_NO_SOCKET;
    io->ready = 0;
    if (io->is_listed) {
        struct esi_io **link = &io->actor->ready_ios;
        while (*link != io) {
            link = &(*link)->next_ready;
        }
        *link = io->next_ready;
        io->is_listed = false;
    }
}
