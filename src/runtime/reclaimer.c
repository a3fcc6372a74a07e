/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One grace period serves all that asked before it began. */
#include "runtime/reclaimer.h"
#include "base/own.h"
#include "base/rcu.h"
#include "env/env.h"
#include "runtime/actor.h"

#include <stdint.h>

void esi_reclaimer_init(struct esi_reclaimer *reclaimer, struct esi_env *env)
{
    *reclaimer = (struct esi_reclaimer){.env = env};
    pthread_mutex_init(&reclaimer->mutex, NULL);
    pthread_cond_init(&reclaimer->changed, NULL);
    reclaimer->tail = &reclaimer->head;
}

void esi_reclaimer_deinit(struct esi_reclaimer *reclaimer)
{
    pthread_mutex_destroy(&reclaimer->mutex);
    pthread_cond_destroy(&reclaimer->changed);
}

/* Where there is no thread: the condition that it would wait for has come. */
static void wake_stepped(struct esi_reclaimer *reclaimer)
{
    if (esi_env_is_stepped(reclaimer->env) && reclaimer->thread != NULL) {
        esi_env_stepped_wake(reclaimer->env, reclaimer->thread);
    }
}

void esi_reclaimer_ask(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                       struct esi_grace *grace)
{
    grace->actor = actor;
    grace->next = NULL;
    pthread_mutex_lock(&reclaimer->mutex);
    *reclaimer->tail = grace;
    reclaimer->tail = &grace->next;
    pthread_cond_signal(&reclaimer->changed);
    pthread_mutex_unlock(&reclaimer->mutex);
    wake_stepped(reclaimer);
}

static struct esi_grace *take_all(struct esi_reclaimer *reclaimer)
{
    struct esi_grace *first = reclaimer->head;

    reclaimer->head = NULL;
    reclaimer->tail = &reclaimer->head;
    return first;
}

static void answer(struct esi_grace *grace)
{
    while (grace != NULL) {
        /* Read first: once sent it is the receiver's. */
        struct esi_grace *next = grace->next;
        esi_actor_send(grace->actor, &grace->msg);
        grace = next;
    }
}

static void run(void *argument)
{
    struct esi_reclaimer *reclaimer = argument;

    for (;;) {
        pthread_mutex_lock(&reclaimer->mutex);
        while (reclaimer->head == NULL && !reclaimer->is_ending) {
            pthread_cond_wait(&reclaimer->changed, &reclaimer->mutex);
        }
        struct esi_grace *grace = take_all(reclaimer);
        pthread_mutex_unlock(&reclaimer->mutex);
        if (grace == NULL) {
            return;
        }
        esi_rcu_wait();
        answer(grace);
    }
}

/* Whoever asked has ended its turn since, and all other workers are between two of theirs: the
 * grace period has passed. */
static bool step(void *argument, uint64_t *next_ns)
{
    struct esi_reclaimer *reclaimer = argument;

    answer(take_all(reclaimer));
    *next_ns = UINT64_MAX;
    return !reclaimer->is_ending;
}

enum es_err esi_reclaimer_start(struct esi_reclaimer *reclaimer)
{
    struct esi_env *env = reclaimer->env;

    return esi_env_is_stepped(env)
               ? esi_env_stepped_start(env, "reclaimer", step, reclaimer, NULL, &reclaimer->thread)
               : esi_env_thread_start(env, "reclaimer", run, reclaimer, &reclaimer->thread);
}

void esi_reclaimer_stop(struct esi_reclaimer *reclaimer)
{
    pthread_mutex_lock(&reclaimer->mutex);
    reclaimer->is_ending = true;
    pthread_cond_broadcast(&reclaimer->changed);
    pthread_mutex_unlock(&reclaimer->mutex);
    wake_stepped(reclaimer);
    esi_env_thread_join(reclaimer->env, ESI_MOVE(reclaimer->thread));
}

bool esi_reclaimer_answer_left(struct esi_reclaimer *reclaimer)
{
    struct esi_grace *grace = take_all(reclaimer);

    answer(grace);
    return grace != NULL;
}
