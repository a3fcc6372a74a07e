/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a stop at any moment ends in bounded time and leaves nothing behind, whatever is under way
 * between actors, jobs and grace periods. Method: nodes that keep each other busy for ever, submit
 * jobs that answer, ask for grace periods and start newcomers; the runtime is stopped after a
 * random number of messages, many times; all counts must then be zero.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <string.h>

enum { NODES = 10, ROUNDS = 200 };

enum kind { TOKEN, ANSWER, GRACE };

struct node {
    struct esi_actor actor; /* first */
    uint64_t random;
    struct node *peer; /* a reference */
    uint32_t jobs;     /* submitted and not yet answered */
    bool has_grace;    /* asked for and not yet come */
    struct esi_grace grace;
};

struct asked {
    struct esi_job job;    /* first */
    struct esi_msg answer; /* to the node, which holds itself by a reference */
    struct node *node;
};

static struct esi_runtime *runtime;
static _Atomic uint32_t nodes_living;
static _Atomic uint32_t messages_living;
static _Atomic uint32_t jobs_living;
static _Atomic uint32_t messages_left; /* until the stop is called */
static sem_t enough;

static void change(_Atomic uint32_t *counter, uint32_t by)
{
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static void free_token(struct esi_msg *msg)
{
    free(msg);
    change(&messages_living, (uint32_t)-1);
}

static void send_token(struct node *node)
{
    struct esi_msg *msg = calloc(1, sizeof *msg);

    case_check(msg != NULL);
    msg->kind = TOKEN;
    msg->free = free_token;
    change(&messages_living, 1);
    esi_actor_send(&node->actor, msg);
}

static void free_asked(struct esi_msg *msg)
{
    struct asked *asked = ESI_CONTAINER_OF(msg, struct asked, answer);
    struct esi_actor *actor = &asked->node->actor;

    free(asked);
    change(&jobs_living, (uint32_t)-1);
    esi_actor_unref(actor);
}

static void run_job(struct esi_job *job)
{
    struct asked *asked = (struct asked *)(void *)job;

    asked->answer = (struct esi_msg){.kind = ANSWER, .free = free_asked};
    esi_actor_send(&asked->node->actor, &asked->answer);
}

static void submit_job(struct node *self)
{
    struct asked *asked = calloc(1, sizeof *asked);

    case_check(asked != NULL);
    asked->job.run = run_job;
    asked->node = self;
    esi_actor_ref(&self->actor);
    change(&jobs_living, 1);
    self->jobs++;
    esi_runtime_submit(runtime, &asked->job);
}

static struct node *new_node(uint64_t seed, struct node *peer, struct esi_worker *home);

static void start_newcomer(struct node *self)
{
    struct node *newcomer = new_node(draw(&self->random) | 1, self, esi_runtime_place(runtime));

    esi_actor_start(&newcomer->actor);
}

static void on_token(struct node *self)
{
    /* order: relaxed; only a moment for the stop. */
    if (atomic_fetch_sub_explicit(&messages_left, 1, memory_order_relaxed) == 1) {
        sem_post(&enough);
    }
    switch (draw_below(&self->random, 64)) {
    case 0:
        submit_job(self);
        break;
    case 1:
        if (!self->has_grace) {
            self->has_grace = true;
            esi_actor_ref(&self->actor);
            esi_runtime_after_grace(runtime, &self->actor, &self->grace);
        }
        break;
    case 2:
        /* order: relaxed; a rough bound. */
        if (atomic_load_explicit(&nodes_living, memory_order_relaxed) < 5 * NODES) {
            start_newcomer(self);
        }
        break;
    default:
        break;
    }
    send_token(self->peer);
}

static void free_grace(struct esi_msg *msg)
{
    esi_actor_unref(&ESI_CONTAINER_OF(msg, struct node, grace.msg)->actor);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);

    switch ((enum kind)msg->kind) {
    case TOKEN:
        on_token(self);
        break;
    case ANSWER:
        self->jobs--;
        break;
    case GRACE:
        self->has_grace = false;
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);
    struct esi_actor *peer = &ESI_MOVE(self->peer)->actor;

    esi_actor_finish(actor);
    esi_actor_unref(peer);
}

static void free_node(struct esi_actor *actor)
{
    free(ESI_CONTAINER_OF(actor, struct node, actor));
    change(&nodes_living, (uint32_t)-1);
}

static const struct esi_actor_type types[] = {
    {.name = "door", .stop_phase = STOP_DOORS, .handle = handle, .stop = stop, .free = free_node},
    {.name = "peer", .stop_phase = STOP_PEERS, .handle = handle, .stop = stop, .free = free_node},
    {.name = "service",
     .stop_phase = STOP_SERVICES,
     .handle = handle,
     .stop = stop,
     .free = free_node},
};

static struct node *new_node(uint64_t seed, struct node *peer, struct esi_worker *home)
{
    struct node *node = aligned_alloc(ESI_CACHE_LINE, sizeof *node);

    case_check(node != NULL);
    memset(node, 0, sizeof *node);
    node->random = seed;
    node->grace.msg = (struct esi_msg){.kind = GRACE, .free = free_grace};
    esi_actor_init(&node->actor, &types[seed % 3], runtime, home);
    node->peer = peer != NULL ? peer : node;
    esi_actor_ref(&node->peer->actor);
    change(&nodes_living, 1);
    return node;
}

static void run(uint32_t round, uint64_t *random)
{
    struct node *nodes[NODES];

    runtime = start_runtime(1 + round % 4);
    sem_init(&enough, 0, 0);
    /* order: relaxed; no other thread runs yet. */
    atomic_store_explicit(&messages_left, 1 + draw_below(random, 3000), memory_order_relaxed);
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = new_node(draw(random) | 1, NULL, esi_runtime_place(runtime));
    }
    for (uint32_t i = 0; i < NODES; i++) {
        /* A ring. */
        struct node *next = nodes[(i + 1) % NODES];
        esi_actor_ref(&next->actor);
        esi_actor_unref(&nodes[i]->peer->actor);
        nodes[i]->peer = next;
    }
    for (uint32_t i = 0; i < NODES; i++) {
        esi_actor_ref(&nodes[i]->actor);
        esi_actor_start(&nodes[i]->actor);
        send_token(nodes[i]);
        send_token(nodes[i]);
        esi_actor_unref(&nodes[i]->actor);
    }
    await(&enough);
    stop_runtime(runtime);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&nodes_living, memory_order_relaxed) == 0);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&messages_living, memory_order_relaxed) == 0);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&jobs_living, memory_order_relaxed) == 0);
    sem_destroy(&enough);
}

int main(void)
{
    uint64_t random = 4711;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        run(round, &random);
    }
    return 0;
}
