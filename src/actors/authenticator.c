/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be judged at once is answered in the reaction to the question. A password against a
 * bcrypt hash becomes a flight: one computation on a service thread, with all checks that ask the
 * same question on board.
 *
 * flight  | a check with the same question | leaves to
 * WAITING | joins                          | FLYING: a runway is free
 *         |                                | gone: it waited too long, or the stop; refused
 * FLYING  | joins                          | gone: landed, all on board are answered
 *         |                                | gone: the stop; all on board are refused at once
 *
 * Runways: one fewer than there are service threads, so that one is left for what else blocks;
 * auth.concurrency_max at most. Waiting flights are bounded, and stand in one line for each address
 * that asks (actors/fair_queue.h): who tries many passwords waits behind its own. In a line the
 * oldest flies first while it is still young; when there are more than can be flown in time, the
 * newest does: a few get in at once, where otherwise all would be served just too late.
 *
 * Token file: looked at by a service thread, once a second. After a new set, connections whose
 * token is gone or whose rules have changed are closed by a sweep over all workers. A verdict by
 * the former set may still be on its way to its connection while the first sweep passes, so two
 * more follow, a second apart each.
 */
#include "actors/authenticator.h"
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/credentials.h"
#include "actors/fair_queue.h"
#include "actors/token_watch.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/hashmap.h"
#include "base/log.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum authenticator_msg {
    AUTHENTICATOR_CHECK,
    AUTHENTICATOR_LANDED,
    AUTHENTICATOR_LOOKED,
    AUTHENTICATOR_SWEPT
};

enum {
    WAITING_PER_CONCURRENCY = 16, /* flights that may wait for each that may be under way */
    SWEEPS_AFTER_RELOAD = 3,
    HEALTH_RANDOM_BYTES = 20
};

static const uint64_t LOOK_INTERVAL_NS = 1000000000;
static const uint64_t SETTLE_INTERVAL_NS = 250000000;

/* A question on its way to the authenticator. */
struct question {
    struct esi_msg msg;           /* first */
    struct esi_auth_check *check; /* owned; NULL when taken */
};

/* One password hash to compute; lives until its result was handled, or was not wanted any more. */
struct flight {
    struct esi_job job;
    struct esi_msg msg;             /* AUTHENTICATOR_LANDED */
    struct esi_authenticator *home; /* a reference while it flies */
    struct esi_fair_item in_queue;
    struct esi_auth_check
        *passengers;            /* owned; linked by msg.next, which is ours as long as they are */
    struct esi_credential *who; /* borrowed */
    const char *hash;           /* borrowed */
    struct esi_str secret;      /* owned; wiped */
    uint64_t asked_ns;          /* the newest passenger's */
    bool is_flying;
    bool is_right; /* the result */
    uint8_t key[ESI_CRYPTO_SHA256_BYTES];
};

struct esi_authenticator {
    struct esi_actor actor;              /* first */
    struct esi_context *context;         /* borrowed */
    struct esi_credentials *credentials; /* owned */
    /* flights */
    struct esi_hashmap flights;  /* key -> struct flight: waiting and flying */
    struct esi_fair_queue queue; /* those that wait; its places: the runways */
    /* token file */
    struct esi_token_file *tokens; /* owned; NULL: none */
    struct esi_token_watch watch;
    struct esi_job look_job;
    struct esi_msg looked; /* AUTHENTICATOR_LOOKED */
    struct esi_actor_timer look_timer;
    bool is_looking;
    /* sweep */
    struct esi_visit visit;
    struct esi_msg swept; /* AUTHENTICATOR_SWEPT */
    bool is_sweeping;
    bool wants_look; /* when the sweep is over */
    uint32_t sweeps_left;
    uint64_t swept_count; /* connections closed by the sweep under way; its workers' turn by turn */
};

static struct esi_authenticator *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_authenticator, actor);
}

/* --- checks --- */

static void free_secret(struct esi_str *secret)
{
    if (secret->data != NULL) {
        esi_crypto_wipe((void *)(uintptr_t)secret->data, secret->len);
        free((void *)(uintptr_t)secret->data);
    }
    *secret = (struct esi_str){0};
}

/* A copy that is never NULL, so that "absent" and "memory exhausted" differ. */
static bool copy_secret(struct esi_str from, struct esi_str *to)
{
    char *copy = malloc(from.len + 1);

    if (copy == NULL) {
        return false;
    }
    if (from.len > 0) {
        memcpy(copy, from.data, from.len);
    }
    *to = (struct esi_str){.data = copy, .len = from.len};
    return true;
}

static void free_check(struct esi_msg *msg)
{
    esi_authenticator_check_free((struct esi_auth_check *)(void *)msg);
}

struct esi_auth_check *esi_authenticator_check_new(struct esi_actor *asker, uint32_t answer_kind,
                                                   uint64_t cid, struct esi_str user,
                                                   struct esi_str pass, struct esi_str token)
{
    struct esi_auth_check *check = calloc(1, sizeof *check);

    if (check == NULL) {
        return NULL;
    }
    esi_actor_ref(asker);
    check->asker = asker;
    check->answer_kind = answer_kind;
    check->cid = cid;
    check->has_credentials = user.len > 0 || pass.len > 0 || token.len > 0;
    check->msg.free = free_check;
    esi_verdict_init(&check->verdict);
    if (!copy_secret(user, &check->user) || !copy_secret(pass, &check->pass) ||
        !copy_secret(token, &check->token)) {
        esi_authenticator_check_free(check);
        return NULL;
    }
    return check;
}

void esi_authenticator_check_free(struct esi_auth_check *check)
{
    if (check == NULL) {
        return;
    }
    free_secret(&check->user);
    free_secret(&check->pass);
    free_secret(&check->token);
    esi_verdict_deinit(&check->verdict);
    esi_actor_unref(check->asker);
    free(check);
}

/* Gives the check back to its asker, with the verdict as it is. */
static void answer(struct esi_auth_check *check)
{
    check->msg.kind = check->answer_kind;
    check->msg.free = free_check;
    esi_actor_send(check->asker, &check->msg);
}

/* Also when the authenticator has finished: whoever asks is always answered. */
static void free_question(struct esi_msg *msg)
{
    struct question *question = (struct question *)(void *)msg;

    if (question->check != NULL) {
        answer(question->check);
    }
    free(question);
}

void esi_authenticator_check(struct esi_authenticator *authenticator, struct esi_auth_check *check)
{
    struct question *question = malloc(sizeof *question);

    if (question == NULL) {
        answer(check);
        return;
    }
    *question = (struct question){.msg = {.kind = AUTHENTICATOR_CHECK, .free = free_question},
                                  .check = check};
    esi_actor_send(&authenticator->actor, &question->msg);
}

/* --- flights --- */

static struct esi_str key_of(const struct flight *flight)
{
    return (struct esi_str){.data = (const char *)flight->key, .len = sizeof flight->key};
}

static void board(struct flight *flight, struct esi_auth_check *check, uint64_t now_ns)
{
    check->msg.next = flight->passengers == NULL ? NULL : &flight->passengers->msg;
    flight->passengers = check;
    flight->asked_ns = now_ns;
}

/* Answers all on board: let in as `who`, or with NULL refused. */
static void land(struct flight *flight, const struct esi_credential *who)
{
    while (flight->passengers != NULL) {
        struct esi_auth_check *check = flight->passengers;
        flight->passengers = (struct esi_auth_check *)(void *)check->msg.next;
        esi_credentials_accept(who, check);
        answer(check);
    }
}

static void free_flight(struct flight *flight)
{
    ESI_ASSERT(flight->passengers == NULL);
    free_secret(&flight->secret);
    esi_crypto_wipe(flight->key, sizeof flight->key);
    free(flight);
}

/* The landing message's free; also when the authenticator has finished meanwhile. */
static void free_landed(struct esi_msg *msg)
{
    struct flight *flight = ESI_CONTAINER_OF(msg, struct flight, msg);
    struct esi_authenticator *home = flight->home;

    free_flight(flight);
    esi_actor_unref(&home->actor);
}

/* On a service thread. */
static void fly(struct esi_job *job)
{
    struct flight *flight = ESI_CONTAINER_OF(job, struct flight, job);

    flight->is_right = esi_crypto_check_bcrypt(esi_str_from(flight->hash), flight->secret) == ES_OK;
    esi_actor_send(&flight->home->actor, &flight->msg);
}

static void take_off(struct esi_authenticator *self, struct flight *flight)
{
    flight->is_flying = true;
    flight->home = self;
    flight->msg = (struct esi_msg){.kind = AUTHENTICATOR_LANDED, .free = free_landed};
    flight->job.run = fly;
    esi_actor_ref(&self->actor);
    esi_fair_queue_admit(&self->queue, &flight->in_queue);
    esi_runtime_submit(self->context->runtime, &flight->job);
}

/* A waiting flight that will never fly. */
static void cancel(struct esi_authenticator *self, struct flight *flight)
{
    esi_fair_queue_remove(&self->queue, &flight->in_queue);
    (void)esi_hashmap_remove(&self->flights, key_of(flight));
    land(flight, NULL);
    free_flight(flight);
}

static struct flight *flight_of(struct esi_fair_item *item)
{
    return ESI_CONTAINER_OF(item, struct flight, in_queue);
}

/* Those that nobody waits for any more. */
static void cancel_late(struct esi_authenticator *self, uint64_t now_ns, uint64_t patience_ns)
{
    struct esi_fair_item *item;

    while ((item = esi_fair_queue_oldest(&self->queue)) != NULL &&
           now_ns - flight_of(item)->asked_ns >= patience_ns) {
        cancel(self, flight_of(item));
    }
}

/* The flight that goes next. NULL: none, or no runway is free for it. */
static struct flight *choose_next(struct esi_authenticator *self, uint64_t now_ns,
                                  uint64_t patience_ns)
{
    const struct esi_fair_line *line = esi_fair_queue_turn(&self->queue);

    if (line == NULL) {
        return NULL;
    }
    struct flight *oldest = flight_of(esi_fair_queue_oldest_of(line));
    return now_ns - oldest->asked_ns < patience_ns / 2 ? oldest
                                                       : flight_of(esi_fair_queue_newest_of(line));
}

static void use_runways(struct esi_authenticator *self)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    const uint64_t patience_ns = self->context->config->auth.timeout_ns;
    struct flight *flight;

    cancel_late(self, now_ns, patience_ns);
    while ((flight = choose_next(self, now_ns, patience_ns)) != NULL) {
        take_off(self, flight);
    }
}

static void refuse_busy(struct esi_auth_check *check, const char *reason)
{
    esi_log(LOG_AUTH_BUSY, ESI_LOG_U64("cid", check->cid), ESI_LOG_TEXT("reason", reason));
    answer(check);
}

/* A new flight for a question that nobody asks at the moment. NULL when memory is exhausted. */
static struct flight *make_flight(struct esi_authenticator *self,
                                  const struct esi_credentials_slow *slow)
{
    struct flight *flight = calloc(1, sizeof *flight);

    if (flight == NULL) {
        return NULL;
    }
    flight->who = slow->who;
    flight->hash = slow->hash;
    memcpy(flight->key, slow->key, sizeof flight->key);
    if (esi_hashmap_insert(&self->flights, key_of(flight), flight) != ES_OK) {
        free_flight(flight);
        return NULL;
    }
    /* The asker needs its password no more. */
    flight->secret = *slow->secret;
    *slow->secret = (struct esi_str){0};
    return flight;
}

static void judge_slowly(struct esi_authenticator *self, struct esi_auth_check *check,
                         const struct esi_credentials_slow *slow)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    const struct esi_str key = {.data = (const char *)slow->key, .len = sizeof slow->key};
    struct flight *flight = esi_hashmap_find(&self->flights, key);

    if (flight != NULL) {
        board(flight, check, now_ns);
        if (!flight->is_flying) {
            /* As young as its newest passenger. */
            esi_fair_queue_renew(&self->queue, &flight->in_queue);
        }
        return;
    }
    flight = make_flight(self, slow);
    if (flight == NULL) {
        refuse_busy(check, es_err_text(ES_NO_MEMORY));
        return;
    }
    if (esi_fair_queue_push(&self->queue, &check->origin, &flight->in_queue) != ES_OK) {
        (void)esi_hashmap_remove(&self->flights, key_of(flight));
        free_flight(flight);
        refuse_busy(check, "too many passwords wait to be checked");
        return;
    }
    board(flight, check, now_ns);
    use_runways(self);
}

static void on_check(struct esi_authenticator *self, struct question *question)
{
    struct esi_auth_check *check = ESI_MOVE(question->check);
    struct esi_credentials_slow slow;

    if (self->actor.is_stopping) {
        answer(check);
        return;
    }
    switch (esi_credentials_judge(self->credentials, check, self->tokens,
                                  esi_actor_now_ns(&self->actor),
                                  esi_env_wall_ns(self->context->env), &slow)) {
    case CREDENTIALS_REFUSED:
    case CREDENTIALS_ACCEPTED:
        answer(check);
        break;
    case CREDENTIALS_SLOW:
        judge_slowly(self, check, &slow);
        esi_crypto_wipe(slow.key, sizeof slow.key);
        break;
    }
}

static void on_landed(struct esi_authenticator *self, struct flight *flight)
{
    if (self->actor.is_stopping) {
        return;
    }
    esi_fair_queue_release(&self->queue, &flight->in_queue);
    (void)esi_hashmap_remove(&self->flights, key_of(flight));
    if (flight->is_right) {
        esi_credentials_remember(self->credentials, flight->who, flight->key,
                                 esi_actor_now_ns(&self->actor));
    }
    land(flight, flight->is_right ? flight->who : NULL);
    use_runways(self);
}

/* --- the sweep --- */

static bool is_still_good(const struct esi_token *token, const struct esi_verdict *verdict)
{
    const bool is_shortened =
        token != NULL && token->expires_wall_ns != 0 &&
        (verdict->expires_wall_ns == 0 || token->expires_wall_ns < verdict->expires_wall_ns);

    return token != NULL && token->permissions == verdict->permissions && !is_shortened;
}

/* In each actor's place: runs on its worker. The set does not change as long as a sweep is under
 * way. */
static void sweep_one(struct esi_actor *actor, void *argument)
{
    struct esi_authenticator *self = argument;
    struct esi_connection_info info;

    if (actor->type != &esi_connection_type) {
        return;
    }
    const struct esi_verdict *verdict = esi_connection_verdict(actor);
    if (!verdict->has_token_hash ||
        is_still_good(esi_token_file_find(self->tokens, verdict->token_hash), verdict)) {
        return;
    }
    esi_connection_info(actor, &info);
    if (info.is_open) {
        esi_connection_revoke(actor);
        self->swept_count++;
    }
}

/* For the parts of the authenticator that are sent as messages: each holds a reference while it is
 * under way. */
static void free_part(struct esi_authenticator *self)
{
    esi_actor_unref(&self->actor);
}

static void free_swept(struct esi_msg *msg)
{
    free_part(ESI_CONTAINER_OF(msg, struct esi_authenticator, swept));
}

static void start_sweep(struct esi_authenticator *self)
{
    if (self->sweeps_left == 0 || self->is_sweeping) {
        return;
    }
    self->sweeps_left--;
    self->is_sweeping = true;
    self->swept_count = 0;
    self->swept = (struct esi_msg){.kind = AUTHENTICATOR_SWEPT, .free = free_swept};
    self->visit = (struct esi_visit){
        .visit = sweep_one, .argument = self, .asker = &self->actor, .done = &self->swept};
    esi_actor_ref(&self->actor);
    esi_runtime_visit(self->context->runtime, &self->visit);
}

/* --- the token file --- */

static void free_looked(struct esi_msg *msg)
{
    free_part(ESI_CONTAINER_OF(msg, struct esi_authenticator, looked));
}

/* On a service thread. */
static void look(struct esi_job *job)
{
    struct esi_authenticator *self = ESI_CONTAINER_OF(job, struct esi_authenticator, look_job);

    esi_token_watch_look(&self->watch, self->tokens);
    esi_actor_send(&self->actor, &self->looked);
}

static void start_look(struct esi_authenticator *self)
{
    self->is_looking = true;
    self->looked = (struct esi_msg){.kind = AUTHENTICATOR_LOOKED, .free = free_looked};
    self->look_job.run = look;
    esi_actor_ref(&self->actor);
    esi_runtime_submit(self->context->runtime, &self->look_job);
}

static void log_loaded(const struct esi_authenticator *self)
{
    esi_log(LOG_TOKENS_LOADED, ESI_LOG_TEXT("path", self->watch.path),
            ESI_LOG_U64("tokens", esi_token_file_count(self->tokens)));
}

static void on_looked(struct esi_authenticator *self)
{
    struct esi_token_watch *watch = &self->watch;

    self->is_looking = false;
    if (self->actor.is_stopping) {
        return;
    }
    switch (watch->outcome) {
    case TOKEN_WATCH_SAME:
        break;
    case TOKEN_WATCH_NEW:
        /* A large set takes its time to free: the next look does it. */
        watch->garbage = self->tokens;
        self->tokens = ESI_MOVE(watch->file);
        self->sweeps_left = SWEEPS_AFTER_RELOAD;
        log_loaded(self);
        start_sweep(self);
        break;
    case TOKEN_WATCH_MISSING:
        esi_log(LOG_TOKENS_MISSING, ESI_LOG_TEXT("path", watch->path));
        break;
    case TOKEN_WATCH_REFUSED:
        esi_log(LOG_TOKENS_REFUSED, ESI_LOG_TEXT("reason", watch->error.text));
        break;
    }
    esi_actor_timer_set(&self->look_timer,
                        esi_actor_now_ns(&self->actor) +
                            (watch->is_settling ? SETTLE_INTERVAL_NS : LOOK_INTERVAL_NS));
}

static void finish(struct esi_authenticator *self)
{
    esi_actor_timer_cancel(&self->look_timer);
    esi_actor_finish(&self->actor);
}

static void on_swept(struct esi_authenticator *self)
{
    self->is_sweeping = false;
    if (self->swept_count > 0) {
        esi_log(LOG_TOKENS_REVOKED, ESI_LOG_U64("connections", self->swept_count));
    }
    if (self->actor.is_stopping) {
        finish(self);
    } else if (self->wants_look) {
        self->wants_look = false;
        start_look(self);
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_authenticator *self = self_of(actor);

    ESI_ASSERT(fired == &self->look_timer.timer && !self->is_looking);
    start_sweep(self);
    if (self->is_sweeping) {
        /* The set that a sweep compares with must stay until it is over. */
        self->wants_look = true;
    } else {
        start_look(self);
    }
}

/* --- the actor --- */

static void start(struct esi_actor *actor)
{
    struct esi_authenticator *self = self_of(actor);

    if (self->watch.path != NULL) {
        esi_actor_timer_set(&self->look_timer, esi_actor_now_ns(actor) + LOOK_INTERVAL_NS);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_authenticator *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum authenticator_msg)msg->kind) {
    case AUTHENTICATOR_CHECK:
        on_check(self, (struct question *)(void *)msg);
        break;
    case AUTHENTICATOR_LANDED:
        on_landed(self, ESI_CONTAINER_OF(msg, struct flight, msg));
        break;
    case AUTHENTICATOR_LOOKED:
        on_looked(self);
        break;
    case AUTHENTICATOR_SWEPT:
        on_swept(self);
        break;
    }
}

/* Everybody who waits is answered now; what flies is not waited for. */
static void stop(struct esi_actor *actor)
{
    struct esi_authenticator *self = self_of(actor);
    struct esi_fair_item *item;
    struct esi_str key;
    size_t cursor = 0;
    void *value = NULL;

    while ((item = esi_fair_queue_oldest(&self->queue)) != NULL) {
        cancel(self, flight_of(item));
    }
    while (esi_hashmap_next(&self->flights, &cursor, &key, &value)) {
        land(value, NULL);
    }
    esi_hashmap_deinit(&self->flights);
    if (!self->is_sweeping) {
        finish(self);
    }
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_authenticator *self =
        ESI_CONTAINER_OF(actor, const struct esi_authenticator, actor);

    esi_bytes_printf(description->text,
                     "users %zu, tokens %zu, passwords being checked %u, waiting %u",
                     esi_credentials_user_count(self->credentials),
                     self->tokens != NULL ? esi_token_file_count(self->tokens) : 0,
                     self->queue.held, self->queue.waiting);
}

static void free_authenticator(struct esi_actor *actor)
{
    struct esi_authenticator *self = self_of(actor);

    esi_hashmap_deinit(&self->flights);
    esi_fair_queue_deinit(&self->queue);
    esi_credentials_free(self->credentials);
    esi_token_file_free(self->tokens);
    esi_token_watch_deinit(&self->watch);
    free(self);
}

static const struct esi_actor_type authenticator_type = {
    .name = "authenticator",
    .stop_phase = STOP_SERVICES,
    .start = start,
    .handle = handle,
    .timer = timer,
    .stop = stop,
    .describe = describe,
    .free = free_authenticator,
};

/* --- making --- */

/* The first look: a file that is there but wrong is an error here, where somebody reads it. */
static enum es_err load_tokens(struct esi_authenticator *self, struct es_error *error)
{
    struct esi_token_watch *watch = &self->watch;

    if (self->context->config->auth.token_file == NULL) {
        return ES_OK;
    }
    esi_token_watch_init(watch, self->context->env, self->context->config->auth.token_file);
    esi_token_watch_look(watch, NULL);
    switch (watch->outcome) {
    case TOKEN_WATCH_NEW:
        self->tokens = ESI_MOVE(watch->file);
        log_loaded(self);
        return ES_OK;
    case TOKEN_WATCH_MISSING:
        esi_log(LOG_TOKENS_NONE, ESI_LOG_TEXT("path", watch->path));
        return ES_OK;
    case TOKEN_WATCH_REFUSED:
        *error = watch->error;
        return ES_INVALID;
    case TOKEN_WATCH_SAME:
        break;
    }
    return ES_NO_MEMORY;
}

/* Whoever can read the file may ask how we are: `event-gateway health-check`. */
static enum es_err write_health_token(struct esi_authenticator *self, struct es_error *error)
{
    const char *path = self->context->config->service.health_check_credentials_file;
    uint8_t random[HEALTH_RANDOM_BYTES];
    char text[ESI_CRYPTO_BASE64_CAPACITY(HEALTH_RANDOM_BYTES)];
    char token[sizeof "HEALTHCHECK-" + sizeof text];

    if (path == NULL) {
        return ES_OK;
    }
    esi_env_random(self->context->env, random, sizeof random);
    enum es_err err = esi_crypto_base64url_encode(random, sizeof random, text, sizeof text);
    ESI_ASSERT(err == ES_OK);
    snprintf(token, sizeof token, "HEALTHCHECK-%s", text);
    err = esi_credentials_set_health_token(self->credentials, esi_str_from(token));
    if (err == ES_OK) {
        err = esi_env_file_replace(self->context->env, path, token, strlen(token), 0600);
        if (err != ES_OK) {
            snprintf(error->text, sizeof error->text,
                     "service.health_check_credentials_file: %.300s cannot be written: %s", path,
                     es_err_text(err));
        }
    }
    esi_crypto_wipe(random, sizeof random);
    esi_crypto_wipe(text, sizeof text);
    esi_crypto_wipe(token, sizeof token);
    return err;
}

static uint32_t count_runways(const struct esi_config *config)
{
    const uint32_t spare = config->threads.service > 1 ? config->threads.service - 1 : 1;

    return spare < config->auth.concurrency_max ? spare : config->auth.concurrency_max;
}

enum es_err esi_authenticator_new(struct esi_context *context, struct esi_authenticator **out,
                                  struct es_error *error)
{
    struct esi_authenticator *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    esi_fair_queue_init(&self->queue,
                        context->config->auth.concurrency_max * WAITING_PER_CONCURRENCY,
                        count_runways(context->config));
    esi_hashmap_init(&self->flights);
    enum es_err err = esi_credentials_new(context->config, context->env, &self->credentials, error);
    if (err == ES_OK) {
        err = load_tokens(self, error);
    }
    if (err == ES_OK) {
        err = write_health_token(self, error);
    }
    esi_actor_init(&self->actor, &authenticator_type, context->runtime,
                   esi_runtime_place(context->runtime));
    if (err != ES_OK) {
        free_authenticator(&self->actor);
        return err;
    }
    esi_actor_timer_init(&self->actor, &self->look_timer);
    esi_actor_start(&self->actor);
    *out = self;
    return ES_OK;
}
