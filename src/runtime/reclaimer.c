/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One grace period serves all that asked before it began. */
#include "runtime/reclaimer.h"
#include "base/own.h"
#include "base/rcu.h"
#include "env/env.h"
#include "runtime/actor.h"
#include "runtime/timed_wait.h"

#include <errno.h>

enum {
    PATIENCE_NS = 5000000,
    PATIENT_MAX = 1024 /* so many wait no longer: each keeps its memory until then */
};

void esi_reclaimer_init(struct esi_reclaimer *reclaimer, struct esi_env *env)
{
    *reclaimer = (struct esi_reclaimer){.env = env};
    pthread_mutex_init(&reclaimer->mutex, NULL);
    esi_timed_wait_init(&reclaimer->changed);
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

/* With the mutex held. */
static void append(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                   struct esi_grace *grace)
{
    grace->actor = actor;
    grace->next = NULL;
    *reclaimer->tail = grace;
    reclaimer->tail = &grace->next;
}

void esi_reclaimer_ask(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                       struct esi_grace *grace)
{
    pthread_mutex_lock(&reclaimer->mutex);
    append(reclaimer, actor, grace);
    if (!reclaimer->is_urgent) {
        reclaimer->is_urgent = true;
        pthread_cond_signal(&reclaimer->changed);
    }
    pthread_mutex_unlock(&reclaimer->mutex);
    wake_stepped(reclaimer);
}

void esi_reclaimer_ask_patiently(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                                 struct esi_grace *grace)
{
    pthread_mutex_lock(&reclaimer->mutex);
    const bool is_first = reclaimer->head == NULL;
    append(reclaimer, actor, grace);
    reclaimer->patient_count++;
    if (is_first || reclaimer->patient_count == PATIENT_MAX) {
        pthread_cond_signal(&reclaimer->changed);
    }
    pthread_mutex_unlock(&reclaimer->mutex);
    wake_stepped(reclaimer);
}

/* With the mutex held, where there are threads. */
static struct esi_grace *take_all(struct esi_reclaimer *reclaimer)
{
    struct esi_grace *first = reclaimer->head;

    reclaimer->head = NULL;
    reclaimer->tail = &reclaimer->head;
    reclaimer->patient_count = 0;
    reclaimer->is_urgent = false;
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

static bool is_pressed(const struct esi_reclaimer *reclaimer)
{
    return reclaimer->is_urgent || reclaimer->is_ending || reclaimer->patient_count >= PATIENT_MAX;
}

/* With the mutex held: until somebody waits, and then for more, as long as all are patient. */
static void wait_for_askers(struct esi_reclaimer *reclaimer)
{
    while (reclaimer->head == NULL && !reclaimer->is_ending) {
        pthread_cond_wait(&reclaimer->changed, &reclaimer->mutex);
    }
    const struct timespec deadline = esi_timed_wait_deadline(PATIENCE_NS);
    while (!is_pressed(reclaimer) &&
           pthread_cond_timedwait(&reclaimer->changed, &reclaimer->mutex, &deadline) != ETIMEDOUT) {
    }
}

static void run(void *argument)
{
    struct esi_reclaimer *reclaimer = argument;

    for (;;) {
        pthread_mutex_lock(&reclaimer->mutex);
        wait_for_askers(reclaimer);
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
