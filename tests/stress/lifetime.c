/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: actors come and go while others send to them, and each is freed once, after the last who
 * knew it, with every message. Method: parents on all workers make children on random workers, hand
 * references to each other and to foreign threads, which send a few messages and let go, or let the
 * last message carry their reference away; a child finishes at a random message, or when a timer
 * says so, or in its first turn. Counts of what lives
 * are compared at the end; the sanitizers see what is used too late.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <pthread.h>
#include <string.h>

enum { PARENTS = 6, CHILDREN_EACH = 1500, FOREIGN = 2, RING = 64, IN_FLIGHT_MAX = 16 };

enum kind { MAKE, MEET, POKE };

struct child {
    struct esi_actor actor; /* first */
    struct esi_actor_timer timer;
    uint32_t pokes_left;
    uint32_t handled;
    bool finishes_at_start;
    bool has_timer;
};

struct parent {
    struct esi_actor actor; /* first */
    uint64_t random;
    uint32_t made;
    struct esi_msg make;
};

struct poke {
    struct esi_msg msg;  /* first */
    struct child *child; /* a reference; POKE: to the receiver, or NULL */
};

static struct esi_runtime *runtime;
static struct parent *parents[PARENTS];
static _Atomic(struct child *) ring[RING]; /* references for the foreign threads */
static _Atomic uint32_t children_living;
static _Atomic uint32_t messages_living;
static _Atomic bool is_ending;
static sem_t children_freed;
static sem_t parents_freed;

static void free_poke(struct esi_msg *msg)
{
    struct poke *poke = (struct poke *)(void *)msg;

    if (msg->kind == POKE && poke->child != NULL) {
        esi_actor_unref(&poke->child->actor);
    }
    free(poke);
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_sub_explicit(&messages_living, 1, memory_order_relaxed);
}

static void send_poke(struct esi_actor *actor, enum kind kind, struct child *child)
{
    struct poke *poke = malloc(sizeof *poke);

    case_check(poke != NULL);
    *poke = (struct poke){.msg = {.kind = kind, .free = free_poke}, .child = child};
    /* order: relaxed; see free_poke. */
    atomic_fetch_add_explicit(&messages_living, 1, memory_order_relaxed);
    esi_actor_send(actor, &poke->msg);
}

/* Pokes, and gives the caller's reference up: by itself, or with the last poke. */
static void poke_and_let_go(struct child *child, uint64_t *random)
{
    for (uint32_t i = draw_below(random, 3); i > 0; i--) {
        send_poke(&child->actor, POKE, NULL);
    }
    if (draw_below(random, 2) == 0) {
        send_poke(&child->actor, POKE, child);
    } else {
        esi_actor_unref(&child->actor);
    }
}

/* --- children --- */

static void finish_child(struct child *self)
{
    esi_actor_timer_cancel(&self->timer);
    esi_actor_finish(&self->actor);
}

static void child_start(struct esi_actor *actor)
{
    struct child *self = ESI_CONTAINER_OF(actor, struct child, actor);

    case_check(self->handled == 0);
    if (self->finishes_at_start) {
        finish_child(self);
    } else if (self->has_timer) {
        esi_actor_timer_set(&self->timer, esi_actor_now_ns(actor) + 500000);
    }
}

static void child_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct child *self = ESI_CONTAINER_OF(actor, struct child, actor);

    case_check(msg->kind == POKE);
    self->handled++;
    if (self->pokes_left-- == 0) {
        finish_child(self);
    }
}

static void child_timer(struct esi_actor *actor, struct esi_timer *timer)
{
    (void)timer;
    finish_child(ESI_CONTAINER_OF(actor, struct child, actor));
}

static void child_stop(struct esi_actor *actor)
{
    finish_child(ESI_CONTAINER_OF(actor, struct child, actor));
}

static void child_free(struct esi_actor *actor)
{
    struct child *self = ESI_CONTAINER_OF(actor, struct child, actor);

    memset(self, 0xdd, sizeof *self);
    free(self);
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_sub_explicit(&children_living, 1, memory_order_relaxed);
    sem_post(&children_freed);
}

static const struct esi_actor_type child_type = {
    .name = "child",
    .stop_phase = STOP_PEERS,
    .start = child_start,
    .handle = child_handle,
    .timer = child_timer,
    .stop = child_stop,
    .free = child_free,
};

/* --- parents --- */

/* Puts a reference where a foreign thread will find it; what nobody has fetched is let go. */
static void leave_for_strangers(struct parent *self, struct child *child)
{
    esi_actor_ref(&child->actor);
    /* order: acq_rel; release: the stranger sees the child; acquire: we see one that another has
     * left. */
    struct child *old = atomic_exchange_explicit(&ring[draw_below(&self->random, RING)], child,
                                                 memory_order_acq_rel);
    if (old != NULL) {
        esi_actor_unref(&old->actor);
    }
}

static void make_child(struct parent *self)
{
    struct child *child = aligned_alloc(ESI_CACHE_LINE, sizeof *child);

    case_check(child != NULL);
    memset(child, 0, sizeof *child);
    esi_actor_init(
        &child->actor, &child_type, runtime,
        esi_runtime_worker(runtime, draw_below(&self->random, esi_runtime_worker_count(runtime))));
    esi_actor_timer_init(&child->actor, &child->timer);
    child->pokes_left = draw_below(&self->random, 8);
    child->finishes_at_start = draw_below(&self->random, 8) == 0;
    child->has_timer = true;
    /* order: relaxed; see child_free. */
    atomic_fetch_add_explicit(&children_living, 1, memory_order_relaxed);
    esi_actor_ref(&child->actor); /* ours, for this reaction */
    esi_actor_start(&child->actor);
    leave_for_strangers(self, child);
    for (uint32_t i = draw_below(&self->random, 4); i > 0; i--) {
        esi_actor_ref(&child->actor);
        send_poke(&parents[draw_below(&self->random, PARENTS)]->actor, MEET, child);
    }
    poke_and_let_go(child, &self->random);
}

static void parent_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct parent *self = ESI_CONTAINER_OF(actor, struct parent, actor);

    if (msg->kind == MAKE) {
        for (uint32_t i = 0; i < IN_FLIGHT_MAX && self->made < CHILDREN_EACH; i++, self->made++) {
            make_child(self);
        }
        if (self->made < CHILDREN_EACH) {
            esi_actor_send(actor, &self->make);
        }
        return;
    }
    poke_and_let_go(((struct poke *)(void *)msg)->child, &self->random);
}

static void parent_stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void parent_free(struct esi_actor *actor)
{
    free(ESI_CONTAINER_OF(actor, struct parent, actor));
    sem_post(&parents_freed);
}

static const struct esi_actor_type parent_type = {.name = "parent",
                                                  .stop_phase = STOP_SERVICES,
                                                  .handle = parent_handle,
                                                  .stop = parent_stop,
                                                  .free = parent_free};

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

/* --- foreign threads --- */

static void *meet_children(void *argument)
{
    uint64_t random = *(const uint64_t *)argument;
    bool is_last = false;

    do {
        /* order: acquire; pairs with the release in run: what was left before the end is then
         * found. */
        is_last = atomic_load_explicit(&is_ending, memory_order_acquire);
        for (uint32_t i = 0; i < RING; i++) {
            /* order: acquire; pairs with the release in leave_for_strangers. */
            struct child *child = atomic_exchange_explicit(&ring[i], NULL, memory_order_acquire);
            if (child != NULL) {
                poke_and_let_go(child, &random);
            }
        }
    } while (!is_last);
    return NULL;
}

static void run(uint32_t worker_count)
{
    pthread_t threads[FOREIGN];
    uint64_t seeds[FOREIGN] = {77, 78};

    runtime = start_runtime(worker_count);
    sem_init(&children_freed, 0, 0);
    sem_init(&parents_freed, 0, 0);
    /* order: relaxed; no other thread runs yet. */
    atomic_store_explicit(&is_ending, false, memory_order_relaxed);
    for (uint32_t i = 0; i < PARENTS; i++) {
        parents[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *parents[i]);
        case_check(parents[i] != NULL);
        memset(parents[i], 0, sizeof *parents[i]);
        parents[i]->random = worker_count * 100 + i + 1;
        parents[i]->make = (struct esi_msg){.kind = MAKE, .free = keep};
        esi_actor_init(&parents[i]->actor, &parent_type, runtime, esi_runtime_place(runtime));
        esi_actor_start(&parents[i]->actor);
    }
    for (uint32_t i = 0; i < PARENTS; i++) {
        esi_actor_send(&parents[i]->actor, &parents[i]->make);
    }
    for (uint32_t i = 0; i < FOREIGN; i++) {
        case_check(pthread_create(&threads[i], NULL, meet_children, &seeds[i]) == 0);
    }
    /* Each ends by a message or its timer, and its memory goes when the last stranger has let
     * go. */
    await_count(&children_freed, PARENTS * CHILDREN_EACH / 2);
    await_count(&children_freed, PARENTS * CHILDREN_EACH / 2);
    /* order: release; pairs with the acquire in poke_and_let_go. */
    atomic_store_explicit(&is_ending, true, memory_order_release);
    for (uint32_t i = 0; i < FOREIGN; i++) {
        pthread_join(threads[i], NULL);
    }
    stop_runtime(runtime);
    await_count(&parents_freed, PARENTS);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&children_living, memory_order_relaxed) == 0);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&messages_living, memory_order_relaxed) == 0);
    sem_destroy(&children_freed);
    sem_destroy(&parents_freed);
}

int main(void)
{
    static const uint32_t worker_counts[] = {1, 2, 4};

    for (size_t i = 0; i < ESI_COUNT_OF(worker_counts); i++) {
        run(worker_counts[i]);
    }
    return 0;
}
