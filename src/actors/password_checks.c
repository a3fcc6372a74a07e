/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state   | the same question again | leaves to
 * WAITING | joins                   | RUNNING: a place is free
 *         |                         | gone: it waited for auth.timeout, or the stop; refused
 * RUNNING | joins                   | gone: done, all who asked are answered
 *         |                         | gone: the stop; all who asked are refused at once
 *
 * In a line (one for each address that asks) the oldest goes first while it is still young; when
 * there are more than can be computed in time, the newest does: a few get in at once, where
 * otherwise all would be served just too late.
 */
#include "actors/password_checks.h"
#include "actors/auth_check.h"
#include "actors/context.h"
#include "actors/credentials.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/own.h"
#include "config/config.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { WAITING_PER_CONCURRENCY = 16 }; /* that may wait for each that auth.concurrency_max allows */

/* One password hash to compute; lives until its result was handled, or was not wanted any more. */
struct computation {
    struct esi_job job;
    struct esi_msg msg;     /* done_kind */
    struct esi_actor *home; /* a reference while it runs */
    struct esi_fair_item in_queue;
    struct esi_auth_check *asking; /* owned; linked by msg.next, ours as long as they are */
    struct esi_credential *who;    /* borrowed */
    const char *hash;              /* borrowed */
    struct esi_str secret;         /* owned; wiped */
    uint64_t asked_ns;             /* when it was last asked */
    bool is_running;
    bool is_right; /* the result */
    uint8_t key[ESI_CRYPTO_SHA256_BYTES];
};

/* One service thread is left for what else blocks. */
static uint32_t count_places(const struct esi_config *config)
{
    const uint32_t spare = config->threads.service > 1 ? config->threads.service - 1 : 1;

    return spare < config->auth.concurrency_max ? spare : config->auth.concurrency_max;
}

void esi_password_checks_init(struct esi_password_checks *checks, struct esi_actor *home,
                              struct esi_context *context, struct esi_credentials *credentials,
                              uint32_t done_kind)
{
    const struct esi_config *config = context->config;

    *checks = (struct esi_password_checks){
        .home = home, .context = context, .credentials = credentials, .done_kind = done_kind};
    esi_hashmap_init(&checks->by_key);
    esi_fair_queue_init(&checks->queue, config->auth.concurrency_max * WAITING_PER_CONCURRENCY,
                        count_places(config));
}

void esi_password_checks_deinit(struct esi_password_checks *checks)
{
    esi_hashmap_deinit(&checks->by_key);
    esi_fair_queue_deinit(&checks->queue);
}

/* --- one computation --- */

static struct esi_str key_of(const struct computation *computation)
{
    return (struct esi_str){.data = (const char *)computation->key, .len = sizeof computation->key};
}

static struct computation *computation_of(struct esi_fair_item *item)
{
    return ESI_CONTAINER_OF(item, struct computation, in_queue);
}

static void join(struct computation *computation, struct esi_auth_check *check, uint64_t now_ns)
{
    check->msg.next = computation->asking == NULL ? NULL : &computation->asking->msg;
    computation->asking = check;
    computation->asked_ns = now_ns;
}

/* Answers all who asked: they come in as `who`, or with NULL are refused. */
static void answer_all(struct computation *computation, const struct esi_credential *who)
{
    while (computation->asking != NULL) {
        struct esi_auth_check *check = computation->asking;
        computation->asking = (struct esi_auth_check *)(void *)check->msg.next;
        esi_credentials_accept(who, check);
        esi_auth_check_answer(check);
    }
}

static void free_computation(struct computation *computation)
{
    ESI_ASSERT(computation->asking == NULL);
    esi_crypto_free((void *)(uintptr_t)computation->secret.data, computation->secret.len);
    esi_crypto_free(computation, sizeof *computation);
}

/* The message's free; also when the authenticator has finished meanwhile. */
static void free_done(struct esi_msg *msg)
{
    struct computation *computation = ESI_CONTAINER_OF(msg, struct computation, msg);
    struct esi_actor *home = computation->home;

    free_computation(computation);
    esi_actor_unref(home);
}

/* A new one for a question that nobody asks at the moment. NULL when memory is exhausted. */
static struct computation *make_computation(struct esi_password_checks *checks,
                                            const struct esi_credentials_slow *slow)
{
    struct computation *computation = calloc(1, sizeof *computation);

    if (computation == NULL) {
        return NULL;
    }
    computation->who = slow->who;
    computation->hash = slow->hash;
    memcpy(computation->key, slow->key, sizeof computation->key);
    if (esi_hashmap_insert(&checks->by_key, key_of(computation), computation) != ES_OK) {
        free_computation(computation);
        return NULL;
    }
    /* The asker needs its password no more. */
    computation->secret = *slow->secret;
    *slow->secret = (struct esi_str){0};
    return computation;
}

/* On a service thread. */
static void compute(struct esi_job *job)
{
    struct computation *computation = ESI_CONTAINER_OF(job, struct computation, job);

    computation->is_right =
        esi_crypto_check_bcrypt(esi_str_from(computation->hash), computation->secret) == ES_OK;
    esi_actor_send(computation->home, &computation->msg);
}

/* --- who is next --- */

static void begin(struct esi_password_checks *checks, struct computation *computation)
{
    computation->is_running = true;
    computation->home = checks->home;
    computation->msg = (struct esi_msg){.kind = checks->done_kind, .free = free_done};
    computation->job.run = compute;
    esi_actor_ref(checks->home);
    esi_fair_queue_admit(&checks->queue, &computation->in_queue);
    esi_runtime_submit(checks->context->runtime, &computation->job);
}

/* One that waits will never run. */
static void cancel(struct esi_password_checks *checks, struct computation *computation)
{
    esi_fair_queue_remove(&checks->queue, &computation->in_queue);
    (void)esi_hashmap_remove(&checks->by_key, key_of(computation));
    answer_all(computation, NULL);
    free_computation(computation);
}

/* Those that nobody waits for any more. */
static void cancel_late(struct esi_password_checks *checks, uint64_t now_ns, uint64_t patience_ns)
{
    struct esi_fair_item *item;

    while ((item = esi_fair_queue_oldest(&checks->queue)) != NULL &&
           now_ns - computation_of(item)->asked_ns >= patience_ns) {
        cancel(checks, computation_of(item));
    }
}

/* What is computed next. NULL: nothing waits, or there is no place for it. */
static struct computation *choose_next(const struct esi_password_checks *checks, uint64_t now_ns,
                                       uint64_t patience_ns)
{
    const struct esi_fair_line *line = esi_fair_queue_turn(&checks->queue);

    if (line == NULL) {
        return NULL;
    }
    struct computation *oldest = computation_of(esi_fair_queue_oldest_of(line));
    return now_ns - oldest->asked_ns < patience_ns / 2
               ? oldest
               : computation_of(esi_fair_queue_newest_of(line));
}

static void begin_more(struct esi_password_checks *checks)
{
    const uint64_t now_ns = esi_actor_now_ns(checks->home);
    const uint64_t patience_ns = checks->context->config->auth.timeout_ns;
    struct computation *next;

    cancel_late(checks, now_ns, patience_ns);
    while ((next = choose_next(checks, now_ns, patience_ns)) != NULL) {
        begin(checks, next);
    }
}

/* --- for the authenticator --- */

static void refuse_busy(struct esi_auth_check *check, const char *reason)
{
    esi_log(LOG_AUTH_BUSY, ESI_LOG_U64("cid", check->cid), ESI_LOG_TEXT("reason", reason));
    esi_auth_check_answer(check);
}

void esi_password_checks_add(struct esi_password_checks *checks, struct esi_auth_check *check,
                             const struct esi_credentials_slow *slow)
{
    const uint64_t now_ns = esi_actor_now_ns(checks->home);
    const struct esi_str key = {.data = (const char *)slow->key, .len = sizeof slow->key};
    struct computation *computation = esi_hashmap_find(&checks->by_key, key);

    if (computation != NULL) {
        join(computation, check, now_ns);
        if (!computation->is_running) {
            /* As young as the last who asked. */
            esi_fair_queue_renew(&checks->queue, &computation->in_queue);
        }
        return;
    }
    computation = make_computation(checks, slow);
    if (computation == NULL) {
        refuse_busy(check, es_err_text(ES_NO_MEMORY));
        return;
    }
    if (esi_fair_queue_push(&checks->queue, &check->origin, &computation->in_queue) != ES_OK) {
        (void)esi_hashmap_remove(&checks->by_key, key_of(computation));
        free_computation(computation);
        refuse_busy(check, "too many passwords wait to be checked");
        return;
    }
    join(computation, check, now_ns);
    begin_more(checks);
}

void esi_password_checks_on_done(struct esi_password_checks *checks, struct esi_msg *msg)
{
    struct computation *computation = ESI_CONTAINER_OF(msg, struct computation, msg);

    esi_fair_queue_release(&checks->queue, &computation->in_queue);
    (void)esi_hashmap_remove(&checks->by_key, key_of(computation));
    if (computation->is_right) {
        esi_credentials_remember(checks->credentials, computation->who, computation->key,
                                 esi_actor_now_ns(checks->home));
    }
    answer_all(computation, computation->is_right ? computation->who : NULL);
    begin_more(checks);
}

void esi_password_checks_stop(struct esi_password_checks *checks)
{
    struct esi_fair_item *item;
    struct esi_str key;
    size_t cursor = 0;
    void *value = NULL;

    while ((item = esi_fair_queue_oldest(&checks->queue)) != NULL) {
        cancel(checks, computation_of(item));
    }
    /* What runs is freed by its message. */
    while (esi_hashmap_next(&checks->by_key, &cursor, &key, &value)) {
        answer_all(value, NULL);
    }
    esi_hashmap_deinit(&checks->by_key);
}

uint32_t esi_password_checks_running(const struct esi_password_checks *checks)
{
    return checks->queue.held;
}

uint32_t esi_password_checks_waiting(const struct esi_password_checks *checks)
{
    return checks->queue.waiting;
}
