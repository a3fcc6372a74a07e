/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A verdict by the former set may still be on its way to its connection while the first sweep
 * passes, so two more follow, a second apart each.
 */
#include "actors/token_reload.h"
#include "actors/context.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "config/config.h"

enum { SWEEPS_AFTER_RELOAD = 3 };

static const uint64_t LOOK_INTERVAL_NS = 1000000000;
static const uint64_t SETTLE_INTERVAL_NS = 250000000;

void esi_token_reload_init(struct esi_token_reload *reload, struct esi_actor *home,
                           struct esi_context *context, struct esi_token_reload_kinds kinds)
{
    *reload = (struct esi_token_reload){
        .home = home, .context = context, .looked = {.kind = kinds.looked}};
    esi_actor_timer_init(home, &reload->timer);
    esi_token_sweep_init(&reload->sweep, home, context->runtime, kinds.swept);
}

void esi_token_reload_deinit(struct esi_token_reload *reload)
{
    esi_token_file_free(reload->tokens);
    esi_token_watch_deinit(&reload->watch);
}

const struct esi_token_file *esi_token_reload_tokens(const struct esi_token_reload *reload)
{
    return reload->tokens;
}

bool esi_token_reload_is_sweeping(const struct esi_token_reload *reload)
{
    return reload->sweep.is_under_way;
}

static void log_loaded(const struct esi_token_reload *reload)
{
    esi_log(LOG_TOKENS_LOADED, ESI_LOG_TEXT("path", reload->watch.path),
            ESI_LOG_U64("tokens", esi_token_file_count(reload->tokens)));
}

enum es_err esi_token_reload_load(struct esi_token_reload *reload, struct es_error *error)
{
    struct esi_token_watch *watch = &reload->watch;

    if (reload->context->config->auth.token_file == NULL) {
        return ES_OK;
    }
    esi_token_watch_init(watch, reload->context->env, reload->context->config->auth.token_file);
    esi_token_watch_look(watch, NULL);
    switch (watch->outcome) {
    case TOKEN_WATCH_NEW:
        reload->tokens = ESI_MOVE(watch->file);
        log_loaded(reload);
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

/* --- looks --- */

/* The message is a part of the reload: home is kept as long as a look is under way. */
static void free_looked(struct esi_msg *msg)
{
    esi_actor_unref(ESI_CONTAINER_OF(msg, struct esi_token_reload, looked)->home);
}

/* On a service thread. */
static void look(struct esi_job *job)
{
    struct esi_token_reload *reload = ESI_CONTAINER_OF(job, struct esi_token_reload, job);

    esi_token_watch_look(&reload->watch, reload->tokens);
    esi_actor_send(reload->home, &reload->looked);
}

static void start_look(struct esi_token_reload *reload)
{
    reload->is_looking = true;
    reload->looked = (struct esi_msg){.kind = reload->looked.kind, .free = free_looked};
    reload->job.run = look;
    esi_actor_ref(reload->home);
    esi_runtime_submit(reload->context->runtime, &reload->job);
}

/* --- sweeps --- */

static void start_sweep(struct esi_token_reload *reload)
{
    if (reload->sweeps_left > 0 && !reload->sweep.is_under_way) {
        reload->sweeps_left--;
        esi_token_sweep_start(&reload->sweep, reload->tokens);
    }
}

/* --- reactions --- */

void esi_token_reload_start(struct esi_token_reload *reload)
{
    if (reload->watch.path != NULL) {
        esi_actor_timer_set(&reload->timer, esi_actor_now_ns(reload->home) + LOOK_INTERVAL_NS);
    }
}

void esi_token_reload_on_looked(struct esi_token_reload *reload)
{
    struct esi_token_watch *watch = &reload->watch;

    reload->is_looking = false;
    switch (watch->outcome) {
    case TOKEN_WATCH_SAME:
        break;
    case TOKEN_WATCH_NEW:
        /* A large set takes its time to free: the next look does it. */
        watch->garbage = reload->tokens;
        reload->tokens = ESI_MOVE(watch->file);
        reload->sweeps_left = SWEEPS_AFTER_RELOAD;
        log_loaded(reload);
        start_sweep(reload);
        break;
    case TOKEN_WATCH_MISSING:
        esi_log(LOG_TOKENS_MISSING, ESI_LOG_TEXT("path", watch->path));
        break;
    case TOKEN_WATCH_REFUSED:
        esi_log(LOG_TOKENS_REFUSED, ESI_LOG_TEXT("reason", watch->error.text));
        break;
    }
    esi_actor_timer_set(&reload->timer,
                        esi_actor_now_ns(reload->home) +
                            (watch->is_settling ? SETTLE_INTERVAL_NS : LOOK_INTERVAL_NS));
}

void esi_token_reload_on_swept(struct esi_token_reload *reload)
{
    esi_token_sweep_on_done(&reload->sweep);
    if (reload->wants_look) {
        reload->wants_look = false;
        start_look(reload);
    }
}

void esi_token_reload_on_timer(struct esi_token_reload *reload)
{
    ESI_ASSERT(!reload->is_looking);
    start_sweep(reload);
    if (reload->sweep.is_under_way) {
        reload->wants_look = true;
    } else {
        start_look(reload);
    }
}

void esi_token_reload_stop(struct esi_token_reload *reload)
{
    reload->wants_look = false;
    reload->sweeps_left = 0;
    esi_actor_timer_cancel(&reload->timer);
}
