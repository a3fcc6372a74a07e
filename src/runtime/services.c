/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In an environment without threads a stepped one does one job a step. */
#include "runtime/services.h"
#include "base/own.h"
#include "env/env.h"

#include <stdio.h>

void esi_services_init(struct esi_services *services, struct esi_env *env)
{
    *services = (struct esi_services){.env = env};
    pthread_mutex_init(&services->mutex, NULL);
    pthread_cond_init(&services->changed, NULL);
}

void esi_services_deinit(struct esi_services *services)
{
    pthread_mutex_destroy(&services->mutex);
    pthread_cond_destroy(&services->changed);
}

/* Where there are no threads: the condition that one of them would wait for has come. */
static void wake_stepped(struct esi_services *services)
{
    for (uint32_t i = 0; i < services->count && esi_env_is_stepped(services->env); i++) {
        if (services->threads[i] != NULL) {
            esi_env_stepped_wake(services->env, services->threads[i]);
        }
    }
}

void esi_services_submit(struct esi_services *services, struct esi_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&services->mutex);
    if (services->jobs_tail == NULL) {
        services->jobs_head = job;
    } else {
        services->jobs_tail->next = job;
    }
    services->jobs_tail = job;
    pthread_cond_signal(&services->changed);
    pthread_mutex_unlock(&services->mutex);
    wake_stepped(services);
}

/* The next job, or NULL at the end. Waits only when may_wait. */
static struct esi_job *next_job(struct esi_services *services, bool may_wait)
{
    pthread_mutex_lock(&services->mutex);
    while (services->jobs_head == NULL && may_wait && !services->is_ending) {
        pthread_cond_wait(&services->changed, &services->mutex);
    }
    struct esi_job *job = services->jobs_head;
    if (job != NULL) {
        services->jobs_head = job->next;
        if (services->jobs_head == NULL) {
            services->jobs_tail = NULL;
        }
    }
    pthread_mutex_unlock(&services->mutex);
    return job;
}

static void run(void *argument)
{
    struct esi_services *services = argument;
    struct esi_job *job;

    while ((job = next_job(services, true)) != NULL) {
        job->run(job);
    }
}

static bool step(void *argument, uint64_t *next_ns)
{
    struct esi_services *services = argument;
    struct esi_job *job = next_job(services, false);

    if (job != NULL) {
        job->run(job);
    }
    *next_ns = services->jobs_head != NULL || services->is_ending ? 0 : UINT64_MAX;
    return job != NULL || !services->is_ending;
}

enum es_err esi_services_start(struct esi_services *services, uint32_t count)
{
    struct esi_env *env = services->env;
    char name[32];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "service-%u", i);
        const enum es_err err =
            esi_env_is_stepped(env)
                ? esi_env_stepped_start(env, name, step, services, NULL, &services->threads[i])
                : esi_env_thread_start(env, name, run, services, &services->threads[i]);
        if (err != ES_OK) {
            return err;
        }
        services->count++;
    }
    return ES_OK;
}

void esi_services_stop(struct esi_services *services)
{
    pthread_mutex_lock(&services->mutex);
    services->is_ending = true;
    pthread_cond_broadcast(&services->changed);
    pthread_mutex_unlock(&services->mutex);
    wake_stepped(services);
    for (uint32_t i = 0; i < services->count; i++) {
        esi_env_thread_join(services->env, ESI_MOVE(services->threads[i]));
    }
}

bool esi_services_run_left(struct esi_services *services)
{
    struct esi_job *job;
    bool has_any = false;

    while ((job = next_job(services, false)) != NULL) {
        job->run(job);
        has_any = true;
    }
    return has_any;
}
