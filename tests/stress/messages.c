/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no message is lost, doubled or overtaken, on any number of workers. Method: nodes pass
 * tokens on at random (token_case.h); all that was sent and got is compared at the end.
 */
#include "token_case.h"

#include "base/own.h"

struct node {
    struct esi_actor actor; /* first */
    struct passer passer;
};

static const struct token_plan messages_plan = {.foreign = 3, .tokens_each = 600, .hops = 60};

static struct node *nodes[NODES];
static sem_t freed;

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    (void)pass_on(&ESI_CONTAINER_OF(actor, struct node, actor)->passer, msg);
}

static void stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void free_node(struct esi_actor *actor)
{
    (void)actor; /* looked at by main, and freed there */
    sem_post(&freed);
}

static const struct esi_actor_type node_type = {
    .name = "node", .stop_phase = STOP_PEERS, .handle = handle, .stop = stop, .free = free_node};

static void run(uint32_t worker_count)
{
    struct esi_runtime *runtime = start_runtime(worker_count);

    sem_init(&freed, 0, 0);
    begin_passing(&messages_plan, 0);
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *nodes[i]);
        case_check(nodes[i] != NULL);
        memset(nodes[i], 0, sizeof *nodes[i]);
        init_passer(&nodes[i]->passer, i, &nodes[i]->actor);
        esi_actor_init(&nodes[i]->actor, &node_type, runtime, esi_runtime_place(runtime));
    }
    for (uint32_t i = 0; i < NODES; i++) {
        esi_actor_start(&nodes[i]->actor);
    }
    pass_all();
    stop_runtime(runtime);
    await_count(&freed, NODES);
    compare_passers(1000);
    for (uint32_t i = 0; i < NODES; i++) {
        case_check(nodes[i]->actor.stats.messages > 0);
        free(nodes[i]);
    }
    sem_destroy(&freed);
}

int main(void)
{
    static const uint32_t worker_counts[] = {1, 2, 3, 8};

    for (size_t i = 0; i < ESI_COUNT_OF(worker_counts); i++) {
        run(worker_counts[i]);
    }
    return 0;
}
