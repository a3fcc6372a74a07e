/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mailbox, by the number of threads that push at the same time. Push: CPU time of the producers
 * for a message, with whatever they lose against each other. Take and pop: the consumer's, for
 * messages that lie in the caches of others' cores. Own thread: a message to an actor of the same
 * worker, pushed and popped.
 */
#include "base/own.h"
#include "micro.h"
#include "runtime/mailbox.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCERS_MAX = 8, MESSAGES = 8192 /* of one producer in one pass */ };

/* A message as large as those between actors are at least: no two share a cache line. */
struct letter {
    _Alignas(ESI_CACHE_LINE) struct esi_msg msg;
};

struct producer {
    struct post *post;
    pthread_t thread;
    struct letter *letters; /* owned; MESSAGES of them */
    uint64_t cpu_ns;        /* of the last pass; read between the barriers */
};

struct post {
    struct esi_mailbox mailbox;
    uint32_t producer_count;
    struct producer producers[PRODUCERS_MAX];
    pthread_barrier_t begin; /* of a pass */
    pthread_barrier_t pushed;
    bool is_ending;    /* written before `begin` */
    bool times_pushes; /* else what the consumer does */
};

static void *produce(void *argument)
{
    struct producer *producer = argument;
    struct post *post = producer->post;

    for (;;) {
        pthread_barrier_wait(&post->begin);
        if (post->is_ending) {
            return NULL;
        }
        const uint64_t began_ns = micro_thread_cpu_ns();
        for (uint32_t i = 0; i < MESSAGES; i++) {
            esi_mailbox_push(&post->mailbox, &producer->letters[i].msg);
        }
        producer->cpu_ns = micro_thread_cpu_ns() - began_ns;
        pthread_barrier_wait(&post->pushed);
    }
}

static void init_post(struct post *post, uint32_t producer_count)
{
    memset(post, 0, sizeof *post);
    esi_mailbox_init(&post->mailbox);
    post->producer_count = producer_count;
    if (pthread_barrier_init(&post->begin, NULL, producer_count + 1) != 0 ||
        pthread_barrier_init(&post->pushed, NULL, producer_count + 1) != 0) {
        micro_fail("no barrier");
    }
    for (uint32_t i = 0; i < producer_count; i++) {
        struct producer *producer = &post->producers[i];
        producer->post = post;
        producer->letters = aligned_alloc(ESI_CACHE_LINE, MESSAGES * sizeof *producer->letters);
        if (producer->letters == NULL) {
            micro_fail("no memory");
        }
        memset(producer->letters, 0, MESSAGES * sizeof *producer->letters);
        if (pthread_create(&producer->thread, NULL, produce, producer) != 0) {
            micro_fail("no thread");
        }
    }
}

static void deinit_post(struct post *post)
{
    post->is_ending = true;
    pthread_barrier_wait(&post->begin);
    for (uint32_t i = 0; i < post->producer_count; i++) {
        pthread_join(post->producers[i].thread, NULL);
        free(post->producers[i].letters);
    }
    pthread_barrier_destroy(&post->begin);
    pthread_barrier_destroy(&post->pushed);
}

static void run_producers(void *argument, struct micro_pass *pass)
{
    struct post *post = argument;
    const struct esi_msg *msg;

    pthread_barrier_wait(&post->begin);
    pthread_barrier_wait(&post->pushed);
    const uint64_t began_ns = micro_thread_cpu_ns();
    esi_mailbox_take(&post->mailbox);
    while ((msg = esi_mailbox_pop(&post->mailbox)) != NULL) {
        pass->operations++;
        pass->sum += msg->kind + 1;
    }
    pass->cpu_ns = micro_thread_cpu_ns() - began_ns;
    if (pass->operations != (uint64_t)post->producer_count * MESSAGES) {
        micro_fail("the mailbox lost a message");
    }
    if (post->times_pushes) {
        pass->cpu_ns = 0;
        for (uint32_t i = 0; i < post->producer_count; i++) {
            pass->cpu_ns += post->producers[i].cpu_ns;
        }
    }
}

static void run_own_thread(void *argument, struct micro_pass *pass)
{
    struct post *post = argument;
    const struct esi_msg *msg;

    for (uint32_t i = 0; i < MESSAGES; i++) {
        esi_mailbox_push_local(&post->mailbox, &post->producers[0].letters[i].msg);
    }
    while ((msg = esi_mailbox_pop(&post->mailbox)) != NULL) {
        pass->operations++;
        pass->sum += msg->kind + 1;
    }
}

void micro_mailbox(struct micro *micro)
{
    static struct post post;

    for (uint32_t producers = 1; producers <= PRODUCERS_MAX; producers *= 2) {
        char name[64];
        init_post(&post, producers);
        if (producers == 1) {
            micro_measure(micro, "mailbox", "push and pop, own thread", run_own_thread, &post);
        }
        post.times_pushes = true;
        snprintf(name, sizeof name, "push, %u producers", producers);
        micro_measure(micro, "mailbox", name, run_producers, &post);
        post.times_pushes = false;
        snprintf(name, sizeof name, "take and pop, %u producers", producers);
        micro_measure(micro, "mailbox", name, run_producers, &post);
        deinit_post(&post);
    }
}
