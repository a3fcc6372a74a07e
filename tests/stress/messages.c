/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no message is lost, doubled or overtaken, on any number of workers. Method: nodes pass
 * tokens on at random; each pair of sender and receiver numbers its messages. Now and then a node
 * tells a second one something, and then a third one, which tells the second about it: cause must
 * come before effect. An atomic count of what is under way tells the end, and all numbers are then
 * compared.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <pthread.h>
#include <string.h>

enum {
    NODES = 24,
    FOREIGN = 3, /* threads that are no workers */
    SENDERS = NODES + FOREIGN,
    TOKENS_EACH = 600,
    HOPS = 60
};

enum kind { TOKEN, CAUSE, CARRY, EFFECT };

struct token {
    struct esi_msg msg; /* first */
    uint32_t sender;
    uint32_t hops;
    uint64_t number; /* of sender and receiver */
    uint32_t about;  /* CARRY: whom to tell; EFFECT: whose cause */
    uint64_t cause;
};

/* What a sender has sent to each node. */
struct sent {
    uint64_t numbers[NODES];
    uint64_t causes[NODES];
    uint64_t random;
};

struct node {
    struct esi_actor actor; /* first */
    uint32_t index;
    struct sent sent;
    uint64_t next[SENDERS];        /* the number expected from each */
    uint64_t causes_seen[SENDERS]; /* the newest cause of each */
    uint64_t tokens;
    uint64_t effects;
};

static struct esi_runtime *runtime;
static struct node *nodes[NODES];
static struct sent foreign_sent[FOREIGN];
static _Atomic uint64_t under_way;
static sem_t done;
static sem_t freed;

static void free_token(struct esi_msg *msg)
{
    free(msg);
    /* order: acq_rel; the last one sees all that the others did. */
    if (atomic_fetch_sub_explicit(&under_way, 1, memory_order_acq_rel) == 1) {
        sem_post(&done);
    }
}

static void send_token(struct sent *sent, uint32_t sender, uint32_t receiver, struct token token)
{
    struct token *copy = malloc(sizeof *copy);

    case_check(copy != NULL);
    /* order: relaxed; the count is above zero as long as the sender's own message is. */
    atomic_fetch_add_explicit(&under_way, 1, memory_order_relaxed);
    *copy = token;
    copy->msg.free = free_token;
    copy->sender = sender;
    copy->number = sent->numbers[receiver]++;
    esi_actor_send(&nodes[receiver]->actor, &copy->msg);
}

/* Tells `second` a cause, and then `third`, which will tell `second` the effect. */
static void cause_and_effect(struct sent *sent, uint32_t sender)
{
    const uint32_t second = draw_below(&sent->random, NODES);
    const uint32_t third = draw_below(&sent->random, NODES);
    const uint64_t cause = ++sent->causes[second];

    send_token(sent, sender, second, (struct token){.msg = {.kind = CAUSE}, .cause = cause});
    send_token(sent, sender, third,
               (struct token){.msg = {.kind = CARRY}, .about = second, .cause = cause});
}

static void on_token(struct node *self, const struct token *token)
{
    self->tokens++;
    if (token->hops > 0) {
        send_token(&self->sent, self->index, draw_below(&self->sent.random, NODES),
                   (struct token){.msg = {.kind = TOKEN}, .hops = token->hops - 1});
    }
    if (draw_below(&self->sent.random, 4) == 0) {
        cause_and_effect(&self->sent, self->index);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct node *self = ESI_CONTAINER_OF(actor, struct node, actor);
    const struct token *token = (const struct token *)(const void *)msg;

    case_check(token->number == self->next[token->sender]);
    self->next[token->sender]++;
    switch ((enum kind)msg->kind) {
    case TOKEN:
        on_token(self, token);
        break;
    case CAUSE:
        case_check(token->cause == self->causes_seen[token->sender] + 1);
        self->causes_seen[token->sender] = token->cause;
        break;
    case CARRY:
        send_token(
            &self->sent, self->index, token->about,
            (struct token){.msg = {.kind = EFFECT}, .about = token->sender, .cause = token->cause});
        break;
    case EFFECT:
        case_check(token->cause <= self->causes_seen[token->about]);
        self->effects++;
        break;
    }
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

static void *inject(void *argument)
{
    struct sent *sent = argument;
    const uint32_t sender = NODES + (uint32_t)(sent - foreign_sent);

    for (uint32_t i = 0; i < TOKENS_EACH; i++) {
        send_token(sent, sender, draw_below(&sent->random, NODES),
                   (struct token){.msg = {.kind = TOKEN}, .hops = HOPS});
        if (i % 3 == 0) {
            cause_and_effect(sent, sender);
        }
    }
    return NULL;
}

static void compare(void)
{
    uint64_t tokens = 0;
    uint64_t effects = 0;
    uint64_t causes = 0;

    for (uint32_t i = 0; i < NODES; i++) {
        tokens += nodes[i]->tokens;
        effects += nodes[i]->effects;
        for (uint32_t sender = 0; sender < SENDERS; sender++) {
            const struct sent *sent =
                sender < NODES ? &nodes[sender]->sent : &foreign_sent[sender - NODES];
            case_check(nodes[i]->next[sender] == sent->numbers[i]);
            case_check(nodes[i]->causes_seen[sender] == sent->causes[i]);
            causes += sent->causes[i];
        }
        case_check(nodes[i]->actor.stats.messages > 0);
    }
    case_check(tokens == (uint64_t)FOREIGN * TOKENS_EACH * (HOPS + 1));
    case_check(effects == causes && effects > 1000);
}

static void run(uint32_t worker_count)
{
    pthread_t threads[FOREIGN];

    runtime = start_runtime(worker_count);
    sem_init(&done, 0, 0);
    sem_init(&freed, 0, 0);
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *nodes[i]);
        case_check(nodes[i] != NULL);
        memset(nodes[i], 0, sizeof *nodes[i]);
        nodes[i]->index = i;
        nodes[i]->sent.random = i + 1;
        esi_actor_init(&nodes[i]->actor, &node_type, runtime, esi_runtime_place(runtime));
        esi_actor_start(&nodes[i]->actor);
    }
    /* Held up by one, so that it does not reach zero before all have begun. */
    /* order: relaxed; no other thread knows of it yet. */
    atomic_store_explicit(&under_way, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < FOREIGN; i++) {
        memset(&foreign_sent[i], 0, sizeof foreign_sent[i]);
        foreign_sent[i].random = 1000 + i;
        case_check(pthread_create(&threads[i], NULL, inject, &foreign_sent[i]) == 0);
    }
    for (uint32_t i = 0; i < FOREIGN; i++) {
        pthread_join(threads[i], NULL);
    }
    /* order: acq_rel; see free_token. */
    if (atomic_fetch_sub_explicit(&under_way, 1, memory_order_acq_rel) != 1) {
        await(&done);
    }
    stop_runtime(runtime);
    await_count(&freed, NODES);
    compare();
    for (uint32_t i = 0; i < NODES; i++) {
        free(nodes[i]);
    }
    sem_destroy(&done);
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
