/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hand-over at accept: the listener picks the worker, so that few long connections are spread as
 * wanted (SO_REUSEPORT spreads by hash, and resets waiting connections when a listener closes).
 * When the process is out of descriptors it stops to accept for a while instead of spinning.
 */
#include "actors/listener.h"
#include "actors/context.h"
#include "base/log.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum { ACCEPTS_A_TURN = 64 };
static const uint64_t OUT_OF_DESCRIPTORS_NS = 100000000;

struct esi_listener {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    esi_listener_accepted_fn accepted;
    struct esi_address bound;
    int sock;
    struct esi_io io;
    struct esi_actor_timer retry_timer;
};

static struct esi_listener *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_listener, actor);
}

static void start(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);
    const enum es_err err = esi_actor_io_watch(&self->io, self->sock, POLL_READ);

    if (err != ES_OK) {
        esi_log(LOG_LISTENER_FAILED, ESI_LOG_U64("port", self->bound.port), ESI_LOG_ERR(err));
    }
}

static void pause(struct esi_listener *self, enum es_err err)
{
    esi_log(LOG_LISTENER_FAILED, ESI_LOG_U64("port", self->bound.port), ESI_LOG_ERR(err));
    esi_actor_io_change(&self->io, 0);
    esi_actor_timer_set(&self->retry_timer, esi_actor_now_ns(&self->actor) + OUT_OF_DESCRIPTORS_NS);
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_listener *self = self_of(actor);

    (void)io;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct esi_address peer;
        int sock = ESI_ENV_NO_SOCKET;
        enum es_err err = esi_env_accept(self->context->env, self->sock, &sock, &peer);
        if (err == ES_AGAIN) {
            return;
        }
        if (err == ES_FULL || err == ES_NO_MEMORY) {
            pause(self, err);
            return;
        }
        if (err == ES_OK) {
            err = self->accepted(self->context, esi_runtime_place(self->context->runtime), sock,
                                 &peer);
            if (err != ES_OK) {
                esi_log(LOG_ACCEPT_REFUSED, ESI_LOG_TEXT("remote", peer.host), ESI_LOG_ERR(err));
            }
        }
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    (void)fired;
    esi_actor_io_change(&self_of(actor)->io, POLL_READ);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    (void)actor;
    (void)msg; /* nobody sends to a listener */
}

static void stop(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);

    esi_actor_timer_cancel(&self->retry_timer);
    esi_actor_io_unwatch(&self->io);
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    esi_actor_finish(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_listener *self = ESI_CONTAINER_OF(actor, const struct esi_listener, actor);

    esi_bytes_printf(description->text, "%s:%u", self->bound.host, self->bound.port);
}

static void free_listener(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);

    esi_env_close(self->context->env, self->sock);
    free(self);
}

static const struct esi_actor_type listener_type = {
    .name = "listener",
    .stop_phase = STOP_DOORS,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .stop = stop,
    .describe = describe,
    .free = free_listener,
};

enum es_err esi_listener_start(struct esi_context *context, const char *host, uint16_t port,
                               esi_listener_accepted_fn accepted, struct esi_address *bound)
{
    int sock = ESI_ENV_NO_SOCKET;
    const enum es_err err = esi_env_listen(context->env, host, port, &sock, bound);

    if (err != ES_OK) {
        return err;
    }
    struct esi_listener *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    if (self == NULL) {
        esi_env_close(context->env, sock);
        return ES_NO_MEMORY;
    }
    *self = (struct esi_listener){
        .context = context, .accepted = accepted, .bound = *bound, .sock = sock};
    esi_actor_init(&self->actor, &listener_type, context->runtime,
                   esi_runtime_worker(context->runtime, 0));
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->retry_timer);
    esi_actor_start(&self->actor);
    return ES_OK;
}
