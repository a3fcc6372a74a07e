/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A crowd of nodes that pass tokens on at random, for tests of the runtime: each pair of sender and
 * receiver numbers its messages. Now and then a node tells a second one something, and then a third
 * one, which tells the second about it: cause must come before effect. An atomic count of what is
 * under way tells the end, and all numbers are then compared. The test makes the actors, gives each
 * a passer, and hands their messages to pass_on.
 */
#pragma once

#include "runtime_case.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

enum { NODES = 24, FOREIGN_MAX = 3, SENDERS_MAX = NODES + FOREIGN_MAX };

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

/* What a node has sent and got. */
struct passer {
    struct esi_actor *actor; /* borrowed */
    uint32_t index;
    struct sent sent;
    uint64_t next[SENDERS_MAX];        /* the number expected from each */
    uint64_t causes_seen[SENDERS_MAX]; /* the newest cause of each */
    uint64_t tokens;
    uint64_t effects;
};

struct token_plan {
    uint32_t foreign; /* threads that are no workers; each sends tokens */
    uint32_t tokens_each;
    uint32_t hops;
};

static struct token_plan plan;
static struct passer *passers[NODES];
static struct sent foreign_sent[FOREIGN_MAX];
static _Atomic uint64_t under_way; /* messages, and what else the test counts */
static sem_t done;

static void end_one(void)
{
    /* order: acq_rel; the last one sees all that the others did. */
    if (atomic_fetch_sub_explicit(&under_way, 1, memory_order_acq_rel) == 1) {
        sem_post(&done);
    }
}

static void begin_some(uint64_t count)
{
    /* order: relaxed; the count is above zero as long as who begins is under way. */
    atomic_fetch_add_explicit(&under_way, count, memory_order_relaxed);
}

static void free_token(struct esi_msg *msg)
{
    free(msg);
    end_one();
}

static void send_token(struct sent *sent, uint32_t sender, uint32_t receiver, struct token token)
{
    struct token *copy = malloc(sizeof *copy);

    case_check(copy != NULL);
    begin_some(1);
    *copy = token;
    copy->msg.free = free_token;
    copy->sender = sender;
    copy->number = sent->numbers[receiver]++;
    esi_actor_send(passers[receiver]->actor, &copy->msg);
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

static void pass_token(struct passer *self, const struct token *token)
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

/* A node's reaction to a message. Returns true for a token. */
static bool pass_on(struct passer *self, const struct esi_msg *msg)
{
    const struct token *token = (const struct token *)(const void *)msg;

    case_check(token->number == self->next[token->sender]);
    self->next[token->sender]++;
    switch ((enum kind)msg->kind) {
    case TOKEN:
        pass_token(self, token);
        return true;
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
    return false;
}

static void init_passer(struct passer *passer, uint32_t index, struct esi_actor *actor)
{
    memset(passer, 0, sizeof *passer);
    passer->actor = actor;
    passer->index = index;
    passer->sent.random = index + 1;
    passers[index] = passer;
}

/* Before any node starts. count: what the test itself will end, beside messages. */
static void begin_passing(const struct token_plan *wanted, uint64_t count)
{
    case_check(wanted->foreign <= FOREIGN_MAX);
    plan = *wanted;
    sem_init(&done, 0, 0);
    /* Held up by one more, so that it does not reach zero before all have begun. */
    /* order: relaxed; no other thread knows of it yet. */
    atomic_store_explicit(&under_way, 1 + count, memory_order_relaxed);
}

static void *inject(void *argument)
{
    struct sent *sent = argument;
    const uint32_t sender = NODES + (uint32_t)(sent - foreign_sent);

    for (uint32_t i = 0; i < plan.tokens_each; i++) {
        send_token(sent, sender, draw_below(&sent->random, NODES),
                   (struct token){.msg = {.kind = TOKEN}, .hops = plan.hops});
        if (i % 3 == 0) {
            cause_and_effect(sent, sender);
        }
    }
    return NULL;
}

/* Sends the tokens, and waits until nothing is under way. */
static void pass_all(void)
{
    pthread_t threads[FOREIGN_MAX];

    for (uint32_t i = 0; i < plan.foreign; i++) {
        memset(&foreign_sent[i], 0, sizeof foreign_sent[i]);
        foreign_sent[i].random = 1000 + i;
        case_check(pthread_create(&threads[i], NULL, inject, &foreign_sent[i]) == 0);
    }
    for (uint32_t i = 0; i < plan.foreign; i++) {
        pthread_join(threads[i], NULL);
    }
    end_one();
    await(&done);
    sem_destroy(&done);
}

/* When the runtime has stopped: what was sent is what came. */
static void compare_passers(uint64_t effects_min)
{
    uint64_t tokens = 0;
    uint64_t effects = 0;
    uint64_t causes = 0;

    for (uint32_t i = 0; i < NODES; i++) {
        tokens += passers[i]->tokens;
        effects += passers[i]->effects;
        for (uint32_t sender = 0; sender < NODES + plan.foreign; sender++) {
            const struct sent *sent =
                sender < NODES ? &passers[sender]->sent : &foreign_sent[sender - NODES];
            case_check(passers[i]->next[sender] == sent->numbers[i]);
            case_check(passers[i]->causes_seen[sender] == sent->causes[i]);
            causes += sent->causes[i];
        }
    }
    case_check(tokens == (uint64_t)plan.foreign * plan.tokens_each * (plan.hops + 1));
    case_check(effects == causes && effects > effects_min);
}
