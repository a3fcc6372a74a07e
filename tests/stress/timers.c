/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: under load and with many changes, a timer that is set fires once, not early, and a
 * cancelled one never. Method: actors on several workers set, move and cancel their timers at
 * random, in timers and in messages, while tokens keep the workers busy; each firing is checked
 * against what the actor noted.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <string.h>

enum { ACTORS = 12, TIMERS = 20, FIRINGS = 600 };

struct clock_user {
    struct esi_actor actor; /* first */
    uint64_t random;
    struct esi_actor_timer timers[TIMERS];
    uint64_t deadlines_ns[TIMERS]; /* 0: not set */
    uint32_t fired;
    uint32_t cancelled;
    bool is_done;
    struct esi_msg token;
    struct clock_user *next;
    uint64_t tokens;
};

static struct esi_runtime *runtime;
static struct clock_user *users[ACTORS];
static _Atomic bool is_ending;
static sem_t done;
static sem_t freed;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void change_one(struct clock_user *self)
{
    const uint32_t i = draw_below(&self->random, TIMERS);
    struct esi_actor_timer *timer = &self->timers[i];

    case_check(timer->timer.is_set == (self->deadlines_ns[i] != 0));
    if (draw_below(&self->random, 4) == 0) {
        self->cancelled += timer->timer.is_set;
        esi_actor_timer_cancel(timer);
        self->deadlines_ns[i] = 0;
        return;
    }
    /* Mostly soon, sometimes in another wheel; never so late that the test would wait for it. */
    const uint64_t scale_ns = draw_below(&self->random, 3) == 0 ? 70000000 : 3000000;
    self->deadlines_ns[i] = esi_actor_now_ns(&self->actor) + draw(&self->random) % scale_ns;
    esi_actor_timer_set(timer, self->deadlines_ns[i]);
}

static void on_timer(struct esi_actor *actor, struct esi_timer *timer)
{
    struct clock_user *self = ESI_CONTAINER_OF(actor, struct clock_user, actor);
    const size_t i = (size_t)((struct esi_actor_timer *)(void *)timer - self->timers);

    case_check(i < TIMERS && !timer->is_set);
    case_check(self->deadlines_ns[i] != 0);
    case_check(esi_actor_now_ns(actor) >= self->deadlines_ns[i]);
    self->deadlines_ns[i] = 0;
    self->fired++;
    change_one(self);
    change_one(self);
    if (self->fired >= FIRINGS && !self->is_done) {
        self->is_done = true;
        sem_post(&done);
    }
}

static void start(struct esi_actor *actor)
{
    struct clock_user *self = ESI_CONTAINER_OF(actor, struct clock_user, actor);

    for (uint32_t i = 0; i < TIMERS; i++) {
        self->deadlines_ns[i] = esi_actor_now_ns(actor) + draw(&self->random) % 5000000;
        esi_actor_timer_set(&self->timers[i], self->deadlines_ns[i]);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct clock_user *self = ESI_CONTAINER_OF(actor, struct clock_user, actor);

    self->tokens++;
    if (self->tokens % 8 == 0) {
        change_one(self);
    }
    /* order: relaxed; only an end is told. */
    if (!atomic_load_explicit(&is_ending, memory_order_relaxed)) {
        esi_actor_send(&self->next->actor, msg);
    }
}

static void stop(struct esi_actor *actor)
{
    struct clock_user *self = ESI_CONTAINER_OF(actor, struct clock_user, actor);

    for (uint32_t i = 0; i < TIMERS; i++) {
        esi_actor_timer_cancel(&self->timers[i]);
    }
    esi_actor_finish(actor);
}

static void free_user(struct esi_actor *actor)
{
    (void)actor; /* by main */
    sem_post(&freed);
}

static const struct esi_actor_type user_type = {.name = "clock user",
                                                .stop_phase = STOP_PEERS,
                                                .start = start,
                                                .handle = handle,
                                                .timer = on_timer,
                                                .stop = stop,
                                                .free = free_user};

static void run(uint32_t worker_count)
{
    runtime = start_runtime(worker_count);
    sem_init(&done, 0, 0);
    sem_init(&freed, 0, 0);
    /* order: relaxed; no other thread runs yet. */
    atomic_store_explicit(&is_ending, false, memory_order_relaxed);
    for (uint32_t i = 0; i < ACTORS; i++) {
        users[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *users[i]);
        case_check(users[i] != NULL);
        memset(users[i], 0, sizeof *users[i]);
        users[i]->random = i + 1;
        users[i]->token = (struct esi_msg){.free = keep};
        esi_actor_init(&users[i]->actor, &user_type, runtime, esi_runtime_place(runtime));
        for (uint32_t j = 0; j < TIMERS; j++) {
            esi_actor_timer_init(&users[i]->actor, &users[i]->timers[j]);
        }
    }
    for (uint32_t i = 0; i < ACTORS; i++) {
        users[i]->next = users[(i + 1) % ACTORS];
    }
    for (uint32_t i = 0; i < ACTORS; i++) {
        esi_actor_start(&users[i]->actor);
    }
    /* Two tokens go round. */
    esi_actor_send(&users[0]->actor, &users[0]->token);
    esi_actor_send(&users[ACTORS / 2]->actor, &users[ACTORS / 2]->token);
    await_count(&done, ACTORS);
    /* order: relaxed; only an end is told. */
    atomic_store_explicit(&is_ending, true, memory_order_relaxed);
    stop_runtime(runtime);
    await_count(&freed, ACTORS);
    for (uint32_t i = 0; i < ACTORS; i++) {
        case_check(users[i]->fired >= FIRINGS && users[i]->cancelled > 0 && users[i]->tokens > 0);
        free(users[i]);
    }
    sem_destroy(&done);
    sem_destroy(&freed);
}

int main(void)
{
    run(1);
    run(3);
    return 0;
}
