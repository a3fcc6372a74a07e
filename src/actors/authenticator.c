/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be judged at once (actors/credentials.h) is answered in the reaction to the question;
 * what needs a bcrypt computation goes to actors/password_checks.h, and is answered later. The
 * tokens of the token file are kept in force by actors/token_reload.h.
 */
#include "actors/authenticator.h"
#include "actors/auth_check.h"
#include "actors/context.h"
#include "actors/credentials.h"
#include "actors/password_checks.h"
#include "actors/token_reload.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/own.h"
#include "config/config.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum authenticator_msg {
    AUTHENTICATOR_CHECK,
    AUTHENTICATOR_PASSWORD_CHECKED,
    AUTHENTICATOR_TOKENS_LOOKED,
    AUTHENTICATOR_TOKENS_SWEPT
};

enum { HEALTH_RANDOM_BYTES = 20 };

/* A check on its way to the authenticator. */
struct question {
    struct esi_msg msg;           /* first */
    struct esi_auth_check *check; /* owned; NULL when taken */
};

struct esi_authenticator {
    struct esi_actor actor;              /* first */
    struct esi_context *context;         /* borrowed */
    struct esi_credentials *credentials; /* owned */
    struct esi_password_checks passwords;
    struct esi_token_reload tokens;
};

static struct esi_authenticator *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_authenticator, actor);
}

/* --- checks --- */

/* Also when the authenticator has finished: whoever asks is always answered. */
static void free_question(struct esi_msg *msg)
{
    struct question *question = (struct question *)(void *)msg;

    if (question->check != NULL) {
        esi_auth_check_answer(question->check);
    }
    free(question);
}

void esi_authenticator_check(struct esi_authenticator *authenticator, struct esi_auth_check *check)
{
    struct question *question = malloc(sizeof *question);

    if (question == NULL) {
        esi_auth_check_answer(check);
        return;
    }
    *question = (struct question){.msg = {.kind = AUTHENTICATOR_CHECK, .free = free_question},
                                  .check = check};
    esi_actor_send(&authenticator->actor, &question->msg);
}

static void on_check(struct esi_authenticator *self, struct question *question)
{
    struct esi_auth_check *check = ESI_MOVE(question->check);
    struct esi_credentials_slow slow;

    if (self->actor.is_stopping) {
        esi_auth_check_answer(check);
        return;
    }
    switch (esi_credentials_judge(self->credentials, check, esi_token_reload_tokens(&self->tokens),
                                  esi_actor_now_ns(&self->actor),
                                  esi_env_wall_ns(self->context->env), &slow)) {
    case CREDENTIALS_REFUSED:
    case CREDENTIALS_ACCEPTED:
        esi_auth_check_answer(check);
        break;
    case CREDENTIALS_SLOW:
        esi_password_checks_add(&self->passwords, check, &slow);
        esi_crypto_wipe(slow.key, sizeof slow.key);
        break;
    }
}

/* --- the actor --- */

static void start(struct esi_actor *actor)
{
    esi_token_reload_start(&self_of(actor)->tokens);
}

static void finish_if_done(struct esi_authenticator *self)
{
    if (self->actor.is_stopping && !esi_token_reload_is_sweeping(&self->tokens)) {
        esi_actor_finish(&self->actor);
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
    case AUTHENTICATOR_PASSWORD_CHECKED:
        if (!actor->is_stopping) {
            esi_password_checks_on_done(&self->passwords, msg);
        }
        break;
    case AUTHENTICATOR_TOKENS_LOOKED:
        if (!actor->is_stopping) {
            esi_token_reload_on_looked(&self->tokens);
        }
        break;
    case AUTHENTICATOR_TOKENS_SWEPT:
        esi_token_reload_on_swept(&self->tokens);
        finish_if_done(self);
        break;
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_authenticator *self = self_of(actor);

    ESI_ASSERT(fired == &self->tokens.timer.timer);
    esi_token_reload_on_timer(&self->tokens);
}

/* Everybody who waits is answered now; what is computed is not waited for. */
static void stop(struct esi_actor *actor)
{
    struct esi_authenticator *self = self_of(actor);

    esi_password_checks_stop(&self->passwords);
    esi_token_reload_stop(&self->tokens);
    finish_if_done(self);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_authenticator *self =
        ESI_CONTAINER_OF(actor, const struct esi_authenticator, actor);
    const struct esi_token_file *tokens = esi_token_reload_tokens(&self->tokens);

    esi_bytes_printf(description->text,
                     "users %zu, tokens %zu, passwords being checked %u, waiting %u",
                     esi_credentials_user_count(self->credentials),
                     tokens != NULL ? esi_token_file_count(tokens) : 0,
                     esi_password_checks_running(&self->passwords),
                     esi_password_checks_waiting(&self->passwords));
}

static void free_authenticator(struct esi_actor *actor)
{
    struct esi_authenticator *self = self_of(actor);

    esi_password_checks_deinit(&self->passwords);
    esi_token_reload_deinit(&self->tokens);
    esi_credentials_free(self->credentials);
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

enum es_err esi_authenticator_new(struct esi_context *context, struct esi_authenticator **out,
                                  struct es_error *error)
{
    struct esi_authenticator *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    esi_actor_init(&self->actor, &authenticator_type, context->runtime,
                   esi_runtime_place(context->runtime));
    esi_token_reload_init(&self->tokens, &self->actor, context,
                          (struct esi_token_reload_kinds){.looked = AUTHENTICATOR_TOKENS_LOOKED,
                                                          .swept = AUTHENTICATOR_TOKENS_SWEPT});
    enum es_err err = esi_credentials_new(context->config, context->env, &self->credentials, error);
    if (err == ES_OK) {
        esi_password_checks_init(&self->passwords, &self->actor, context, self->credentials,
                                 AUTHENTICATOR_PASSWORD_CHECKED);
        err = esi_token_reload_load(&self->tokens, error);
    }
    if (err == ES_OK) {
        err = write_health_token(self, error);
    }
    if (err != ES_OK) {
        free_authenticator(&self->actor);
        return err;
    }
    esi_actor_start(&self->actor);
    *out = self;
    return ES_OK;
}
