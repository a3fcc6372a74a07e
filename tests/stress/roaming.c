/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a roaming actor runs on one thread at a time, forgets nobody, and answers in order, however
 * many threads send to it. Method: actors on several workers and foreign threads flood two roaming
 * actors whose state is plain memory; each question is numbered and answered; the roaming ones send
 * to each other as well.
 */
#include "runtime_case.h"

#include "base/own.h"

#include <pthread.h>
#include <string.h>

enum {
    ASKERS = 12,
    FOREIGN = 3,
    QUESTIONS = 6000,
    FOREIGN_QUESTIONS = 20000,
    ROAMERS = 2,
    BURST = 40
};

enum kind { GO, QUESTION, ANSWER, GOSSIP };

struct question {
    struct esi_msg msg;  /* first */
    struct asker *asker; /* NULL: a foreign thread's */
    uint32_t sender;
    uint32_t roamer;
    uint64_t number;
};

struct roamer {
    struct esi_actor actor; /* first */
    uint32_t index;
    bool is_running; /* plain on purpose: two threads in here would be seen */
    uint64_t next[ASKERS + FOREIGN];
    uint64_t questions;
    uint64_t gossip;
};

struct asker {
    struct esi_actor actor; /* first */
    uint32_t index;
    uint64_t random;
    uint64_t asked[ROAMERS];
    uint64_t answered[ROAMERS];
    struct esi_msg go;
    uint32_t asked_in_all;
};

static struct esi_runtime *runtime;
static struct roamer *roamers[ROAMERS];
static struct asker *askers[ASKERS];
static sem_t done;
static sem_t freed;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static struct question *new_question(struct asker *asker, uint32_t sender, uint32_t roamer,
                                     uint64_t number)
{
    struct question *question = malloc(sizeof *question);

    case_check(question != NULL);
    *question = (struct question){.msg = {.kind = QUESTION, .free = free_plain_msg},
                                  .asker = asker,
                                  .sender = sender,
                                  .roamer = roamer,
                                  .number = number};
    return question;
}

static void on_question(struct roamer *self, const struct question *question)
{
    case_check(question->number == self->next[question->sender]);
    self->next[question->sender]++;
    self->questions++;
    if (question->asker != NULL) {
        struct question *answer = new_question(NULL, 0, self->index, question->number);
        answer->msg.kind = ANSWER;
        esi_actor_send(&question->asker->actor, &answer->msg);
    }
    if (self->questions % 16 == 0) {
        struct question *gossip = new_question(NULL, 0, self->index, 0);
        gossip->msg.kind = GOSSIP;
        esi_actor_send(&roamers[1 - self->index]->actor, &gossip->msg);
    }
}

static void roamer_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct roamer *self = ESI_CONTAINER_OF(actor, struct roamer, actor);

    case_check(!self->is_running);
    self->is_running = true;
    if (msg->kind == GOSSIP) {
        self->gossip++;
    } else {
        on_question(self, (const struct question *)(const void *)msg);
    }
    self->is_running = false;
}

static const struct esi_actor_type roamer_type = {
    .name = "roamer", .stop_phase = STOP_PHASE_COUNT, .handle = roamer_handle};

static struct roamer *new_roamer(uint32_t index)
{
    struct roamer *roamer = aligned_alloc(ESI_CACHE_LINE, sizeof *roamer);

    case_check(roamer != NULL);
    memset(roamer, 0, sizeof *roamer);
    roamer->index = index;
    esi_actor_init(&roamer->actor, &roamer_type, runtime, NULL);
    esi_actor_start(&roamer->actor);
    return roamer;
}

static void ask_some(struct asker *self)
{
    for (uint32_t i = 0; i < BURST && self->asked_in_all < QUESTIONS; i++) {
        const uint32_t roamer = draw_below(&self->random, ROAMERS);
        struct question *question = new_question(self, self->index, roamer, self->asked[roamer]++);
        self->asked_in_all++;
        esi_actor_send(&roamers[roamer]->actor, &question->msg);
    }
    if (self->asked_in_all < QUESTIONS) {
        esi_actor_send(&self->actor, &self->go);
    }
}

static void asker_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);

    if (msg->kind == GO) {
        ask_some(self);
        return;
    }
    const struct question *answer = (const struct question *)(const void *)msg;
    case_check(msg->kind == ANSWER);
    case_check(answer->number == self->answered[answer->roamer]);
    self->answered[answer->roamer]++;
    if (self->answered[0] + self->answered[1] == QUESTIONS) {
        sem_post(&done);
    }
}

static void asker_stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void asker_free(struct esi_actor *actor)
{
    free(ESI_CONTAINER_OF(actor, struct asker, actor));
    sem_post(&freed);
}

static const struct esi_actor_type asker_type = {.name = "asker",
                                                 .stop_phase = STOP_PEERS,
                                                 .handle = asker_handle,
                                                 .stop = asker_stop,
                                                 .free = asker_free};

static void *flood(void *argument)
{
    const uint32_t sender = *(const uint32_t *)argument;
    uint64_t asked[ROAMERS] = {0};

    for (uint32_t i = 0; i < FOREIGN_QUESTIONS; i++) {
        const uint32_t roamer = i % ROAMERS;
        esi_actor_send(&roamers[roamer]->actor,
                       &new_question(NULL, sender, roamer, asked[roamer]++)->msg);
    }
    return NULL;
}

static void start_askers(void)
{
    for (uint32_t i = 0; i < ASKERS; i++) {
        askers[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *askers[i]);
        case_check(askers[i] != NULL);
        memset(askers[i], 0, sizeof *askers[i]);
        askers[i]->index = i;
        askers[i]->random = i + 1;
        askers[i]->go = (struct esi_msg){.kind = GO, .free = keep};
        esi_actor_init(&askers[i]->actor, &asker_type, runtime, esi_runtime_place(runtime));
        esi_actor_start(&askers[i]->actor);
        esi_actor_send(&askers[i]->actor, &askers[i]->go);
    }
}

static void run(uint32_t worker_count)
{
    pthread_t threads[FOREIGN];
    uint32_t senders[FOREIGN];
    uint64_t questions = 0;
    uint64_t gossip = 0;

    runtime = start_runtime(worker_count);
    sem_init(&done, 0, 0);
    sem_init(&freed, 0, 0);
    for (uint32_t i = 0; i < ROAMERS; i++) {
        roamers[i] = new_roamer(i);
    }
    start_askers();
    for (uint32_t i = 0; i < FOREIGN; i++) {
        senders[i] = ASKERS + i;
        case_check(pthread_create(&threads[i], NULL, flood, &senders[i]) == 0);
    }
    for (uint32_t i = 0; i < FOREIGN; i++) {
        pthread_join(threads[i], NULL);
    }
    await_count(&done, ASKERS);
    stop_runtime(runtime);
    await_count(&freed, ASKERS);
    for (uint32_t i = 0; i < ROAMERS; i++) {
        questions += roamers[i]->questions;
        gossip += roamers[i]->gossip;
        case_check(roamers[i]->actor.mailbox.depth == 0);
        case_check(roamers[i]->gossip == roamers[1 - i]->questions / 16);
    }
    case_check(questions == (uint64_t)ASKERS * QUESTIONS + (uint64_t)FOREIGN * FOREIGN_QUESTIONS);
    case_check(gossip > 0);
    for (uint32_t i = 0; i < ROAMERS; i++) {
        free(roamers[i]);
    }
    sem_destroy(&done);
    sem_destroy(&freed);
}

/* --- nobody is forgotten at the end of a turn --- */

enum { ROUNDS = 20000 };

static pthread_barrier_t barrier;

/* All send at once. Who finds the actor at work returns at once, who is at work returns when
 * nothing is left: so when all have returned, all has been handled. */
static void *send_in_rounds(void *argument)
{
    const uint32_t sender = *(const uint32_t *)argument;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        esi_actor_send(&roamers[0]->actor, &new_question(NULL, sender, 0, round)->msg);
        pthread_barrier_wait(&barrier);
        case_check(roamers[0]->next[sender] == round + 1);
    }
    return NULL;
}

static void run_rounds(void)
{
    pthread_t threads[FOREIGN];
    uint32_t senders[FOREIGN];

    runtime = start_runtime(1);
    for (uint32_t i = 0; i < ROAMERS; i++) {
        roamers[i] = new_roamer(i);
    }
    pthread_barrier_init(&barrier, NULL, FOREIGN);
    for (uint32_t i = 0; i < FOREIGN; i++) {
        senders[i] = ASKERS + i;
        case_check(pthread_create(&threads[i], NULL, send_in_rounds, &senders[i]) == 0);
    }
    for (uint32_t i = 0; i < FOREIGN; i++) {
        pthread_join(threads[i], NULL);
    }
    case_check(roamers[0]->questions == (uint64_t)FOREIGN * ROUNDS);
    stop_runtime(runtime);
    pthread_barrier_destroy(&barrier);
    for (uint32_t i = 0; i < ROAMERS; i++) {
        free(roamers[i]);
    }
}

int main(void)
{
    static const uint32_t worker_counts[] = {1, 2, 5};

    for (size_t i = 0; i < ESI_COUNT_OF(worker_counts); i++) {
        run(worker_counts[i]);
    }
    run_rounds();
    return 0;
}
