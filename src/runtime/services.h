/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service threads of a runtime, for what blocks: jobs are done in the order they came, by
 * whoever is free. A mutex is right here: nothing of this is on the path of a message.
 */
#pragma once

#include "base/err.h"
#include "runtime/runtime.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_env;
struct esi_thread;

struct esi_services {
    struct esi_env *env;       /* borrowed */
    pthread_mutex_t mutex;     /* guards the jobs and is_ending */
    pthread_cond_t changed;    /* a job has come, or the end */
    struct esi_job *jobs_head; /* owned, as all behind it */
    struct esi_job *jobs_tail;
    bool is_ending;
    uint32_t count;
    struct esi_thread *threads[ESI_RUNTIME_SERVICE_THREADS_MAX];
};

/* Without threads yet. */
void esi_services_init(struct esi_services *services, struct esi_env *env);
/* After the stop. */
void esi_services_deinit(struct esi_services *services);
/*
 * Starts the threads.
 *   count   at most ESI_RUNTIME_SERVICE_THREADS_MAX
 * Errors as esi_env_thread_start; those that were started run on until esi_services_stop.
 */
ES_MUST_USE enum es_err esi_services_start(struct esi_services *services, uint32_t count);
/* See esi_runtime_submit. Thread: any. */
void esi_services_submit(struct esi_services *services, struct esi_job *job);
/* Ends and joins the threads when all jobs are done. Blocks. */
void esi_services_stop(struct esi_services *services);
/* After the stop: runs what was submitted since, in the calling thread. Returns true when there was
 * any. */
bool esi_services_run_left(struct esi_services *services);
