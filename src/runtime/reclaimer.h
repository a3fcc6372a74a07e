/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reclaimer: the one thread that waits for RCU grace periods, and tells by message when one has
 * passed, so that no worker ever waits for one.
 */
#pragma once

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_env;
struct esi_grace;
struct esi_thread;

struct esi_reclaimer {
    struct esi_env *env;    /* borrowed */
    pthread_mutex_t mutex;  /* guards what waits and is_ending */
    pthread_cond_t changed; /* somebody asks, or the end has come */
    struct esi_grace *head; /* who waits, in order; embedded by who asks */
    struct esi_grace **tail;
    uint32_t patient_count; /* of them: who can wait for others */
    bool is_urgent;         /* somebody cannot */
    bool is_ending;
    struct esi_thread *thread; /* NULL: not started, or joined */
};

/* Without a thread yet. */
void esi_reclaimer_init(struct esi_reclaimer *reclaimer, struct esi_env *env);
/* After the stop. */
void esi_reclaimer_deinit(struct esi_reclaimer *reclaimer);
/* Starts the thread. Errors as esi_env_thread_start. */
ES_MUST_USE enum es_err esi_reclaimer_start(struct esi_reclaimer *reclaimer);
/* See esi_runtime_after_grace. Thread: any. */
void esi_reclaimer_ask(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                       struct esi_grace *grace);
/* The same for who only wants to be freed: many share one grace period, and the reclaimer is woken
 * for them a few times in a hundredth of a second, not for each. Thread: any. */
void esi_reclaimer_ask_patiently(struct esi_reclaimer *reclaimer, struct esi_actor *actor,
                                 struct esi_grace *grace);
/* Ends and joins the thread when all that had asked are answered. Blocks. */
void esi_reclaimer_stop(struct esi_reclaimer *reclaimer);
/* After the stop of all readers: answers who has asked since; their grace periods have passed.
 * Returns true when there was anybody. */
bool esi_reclaimer_answer_left(struct esi_reclaimer *reclaimer);
