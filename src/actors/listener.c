/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hand-over at accept: the listener picks the worker, so that few long connections are spread as
 * wanted (SO_REUSEPORT spreads by hash, and resets waiting connections when a listener closes).
 * When the process is out of descriptors it stops to accept for a while instead of spinning.
 *
 * Each accepted connection gets a ticket, which waits in the fair queue, is handed on with the
 * connection, and comes back as a message. Where there are places it waits no longer than this
 * turn.
 */
#include "actors/listener.h"
#include "actors/context.h"
#include "actors/fair_queue.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum listener_msg { LISTENER_RELEASED };

enum {
    ACCEPTS_A_TURN = 64,
    WAITING_PER_PLACE = 2 /* connections that may wait for each place */
};
static const uint64_t OUT_OF_DESCRIPTORS_NS = 100000000;
/* As long as a NATS client waits for INFO by default: after that nobody is there any more. */
static const uint64_t PATIENCE_NS = 2000000000;

/* A connection that waits, later its place. */
struct esi_ticket {
    struct esi_msg msg;            /* LISTENER_RELEASED */
    struct esi_listener *listener; /* a reference, once it is a place */
    struct esi_fair_item item;
    int sock; /* owned while it waits */
    struct esi_address peer;
    uint64_t since_ns;
};

struct esi_listener {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    esi_listener_accepted_fn accepted;
    struct esi_address bound;
    int sock;
    struct esi_io io;
    struct esi_actor_timer retry_timer;
    struct esi_fair_queue queue;
    struct esi_actor_timer patience_timer; /* set while somebody waits */
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

/* --- tickets --- */

/* The message's free; also when the listener has finished meanwhile. */
static void free_released(struct esi_msg *msg)
{
    struct esi_ticket *ticket = (struct esi_ticket *)(void *)msg;

    esi_actor_unref(&ticket->listener->actor);
    free(ticket);
}

void esi_listener_release(struct esi_ticket *ticket)
{
    if (ticket != NULL) {
        esi_actor_send(&ticket->listener->actor, &ticket->msg);
    }
}

static struct esi_ticket *ticket_of(struct esi_fair_item *item)
{
    return ESI_CONTAINER_OF(item, struct esi_ticket, item);
}

static void refuse(struct esi_listener *self, int sock, const struct esi_address *peer,
                   enum es_err err)
{
    esi_env_close(self->context->env, sock);
    esi_log(LOG_ACCEPT_REFUSED, ESI_LOG_TEXT("remote", peer->host), ESI_LOG_U64("port", peer->port),
            ESI_LOG_ERR(err));
}

/* An accepted connection stands in line. */
static void line_up(struct esi_listener *self, int sock, const struct esi_address *peer)
{
    const struct esi_origin origin = esi_origin_of(peer);
    struct esi_ticket *ticket = malloc(sizeof *ticket);

    if (ticket == NULL) {
        refuse(self, sock, peer, ES_NO_MEMORY);
        return;
    }
    *ticket = (struct esi_ticket){.msg = {.kind = LISTENER_RELEASED, .free = free_released},
                                  .listener = self,
                                  .sock = sock,
                                  .peer = *peer,
                                  .since_ns = esi_actor_now_ns(&self->actor)};
    const enum es_err err = esi_fair_queue_push(&self->queue, &origin, &ticket->item);
    if (err != ES_OK) {
        refuse(self, sock, peer, err);
        free(ticket);
    }
}

/* Whoever finds a place goes on. */
static void admit(struct esi_listener *self)
{
    struct esi_fair_line *line;

    while ((line = esi_fair_queue_turn(&self->queue)) != NULL) {
        struct esi_ticket *ticket = ticket_of(esi_fair_queue_oldest_of(line));
        const struct esi_address peer = ticket->peer;
        const int sock = ticket->sock;
        esi_fair_queue_admit(&self->queue, &ticket->item);
        esi_actor_ref(&self->actor);
        const enum es_err err = self->accepted(
            self->context, esi_runtime_place(self->context->runtime), sock, &peer, ticket);
        if (err != ES_OK) {
            esi_log(LOG_ACCEPT_REFUSED, ESI_LOG_TEXT("remote", peer.host),
                    ESI_LOG_U64("port", peer.port), ESI_LOG_ERR(err));
        }
    }
}

/* Lets those go that have waited in vain, and those too that came too long ago. */
static void drop_waiting(struct esi_listener *self, uint64_t since_ns_max, enum es_err err)
{
    struct esi_fair_item *item;

    while ((item = esi_fair_queue_oldest(&self->queue)) != NULL &&
           ticket_of(item)->since_ns <= since_ns_max) {
        struct esi_ticket *ticket = ticket_of(item);
        esi_fair_queue_remove(&self->queue, item);
        refuse(self, ticket->sock, &ticket->peer, err);
        free(ticket);
    }
}

static void set_patience(struct esi_listener *self)
{
    struct esi_fair_item *oldest = esi_fair_queue_oldest(&self->queue);

    if (oldest == NULL) {
        esi_actor_timer_cancel(&self->patience_timer);
    } else {
        esi_actor_timer_set(&self->patience_timer, ticket_of(oldest)->since_ns + PATIENCE_NS);
    }
}

/* --- the actor --- */

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_listener *self = self_of(actor);

    (void)io;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct esi_address peer;
        int sock = ESI_ENV_NO_SOCKET;
        const enum es_err err = esi_env_accept(self->context->env, self->sock, &sock, &peer);
        if (err == ES_AGAIN) {
            return;
        }
        if (err == ES_FULL || err == ES_NO_MEMORY) {
            pause(self, err);
            return;
        }
        if (err == ES_OK) {
            line_up(self, sock, &peer);
            admit(self);
        }
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_listener *self = self_of(actor);

    if (fired == &self->retry_timer.timer) {
        esi_actor_io_change(&self->io, POLL_READ);
    } else {
        drop_waiting(self, esi_actor_now_ns(actor) - PATIENCE_NS, ES_TIMEOUT);
    }
}

/* After each reaction: what came, or left, changes who is next and how long the oldest waits. */
static void turn_end(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);

    if (!actor->is_finished) {
        admit(self);
        set_patience(self);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_listener *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum listener_msg)msg->kind) {
    case LISTENER_RELEASED:
        esi_fair_queue_release(&self->queue, &((struct esi_ticket *)(void *)msg)->item);
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);

    drop_waiting(self, UINT64_MAX, ES_CLOSED);
    esi_actor_timer_cancel(&self->retry_timer);
    esi_actor_timer_cancel(&self->patience_timer);
    esi_actor_io_unwatch(&self->io);
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    esi_actor_finish(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_listener *self = ESI_CONTAINER_OF(actor, const struct esi_listener, actor);

    esi_bytes_printf(description->text, "%s:%u, %u opening, %u waiting", self->bound.host,
                     self->bound.port, self->queue.held, self->queue.waiting);
}

static void free_listener(struct esi_actor *actor)
{
    struct esi_listener *self = self_of(actor);

    drop_waiting(self, UINT64_MAX, ES_CLOSED); /* by force: the stop was never told */
    esi_fair_queue_deinit(&self->queue);
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
    .turn_end = turn_end,
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
    esi_actor_timer_init(&self->actor, &self->patience_timer);
    const uint32_t places = context->config->limits.max_handshakes;
    esi_fair_queue_init(&self->queue, places * WAITING_PER_PLACE, places);
    esi_actor_start(&self->actor);
    return ES_OK;
}
