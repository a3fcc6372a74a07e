/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way to a handler's worker: the name, TCP to one address after the other, TLS; and what
 * follows when it is lost. The states are told in handler.c.
 */
#include "actors/context.h"
#include "actors/handler_internal.h"
#include "base/log.h"
#include "event/registry.h"
#include "journal/retry.h"
#include "net/grpc_client.h"
#include "net/stream.h"

enum {
    OUTBOUND_BYTES_MIN = 16 * 1024 * 1024,
    RESPONSE_BYTES_MAX = 64 * 1024 /* an EventResponse has two bytes */
};

static const uint64_t CONNECT_NS = 5000000000;  /* TCP and TLS, for one address */
static const uint64_t RECONNECT_NS = 100000000; /* the ceiling of the first delay */
static const uint64_t RECONNECT_MAX_NS = 5000000000;

static uint64_t now_ns(const struct esi_handler *self)
{
    return esi_actor_now_ns(&self->actor);
}

/* --- the end --- */

/* Waits before the next try: at once after a connection that worked, else longer each time. */
static void connect_later(struct esi_handler *self)
{
    const struct esi_retry_policy policy = {.delay_ns = RECONNECT_NS,
                                            .delay_max_ns = RECONNECT_MAX_NS};

    self->state = LINK_DOWN;
    if (self->failures < UINT32_MAX) {
        self->failures++;
    }
    const uint64_t delay_ns =
        esi_retry_delay_ns(&policy, self->failures, esi_handler_random_bits(self));
    /* A peer that takes connections and drops them is not to be hammered by a run of small random
     * numbers. */
    const uint64_t least_ns = self->failures > 1 ? RECONNECT_NS : 0;
    esi_actor_timer_set(&self->connect_timer,
                        now_ns(self) + (delay_ns > least_ns ? delay_ns : least_ns));
}

void esi_handler_connect_drop(struct esi_handler *self)
{
    esi_actor_io_unwatch(&self->io);
    esi_byte_pipe_deinit(&self->pipe);
    esi_actor_timer_cancel(&self->connect_timer);
    esi_actor_timer_cancel(&self->call_timer);
}

void esi_handler_connect_end(struct esi_handler *self, const char *reason)
{
    if (self->state == LINK_UP) {
        esi_handler_end_calls(self);
    }
    self->state = LINK_DOWN;
    esi_handler_tell_status(self, reason);
    esi_handler_connect_drop(self);
    if (!self->is_stopping) {
        connect_later(self);
    }
}

void esi_handler_connect_lose(struct esi_handler *self, const char *reason)
{
    if (!self->is_down_logged && !self->is_stopping) {
        self->is_down_logged = true;
        esi_log(LOG_WORKER_DOWN, ESI_LOG_TEXT("handler", self->options.registry->name),
                ESI_LOG_TEXT("address", self->authority), ESI_LOG_TEXT("reason", reason));
    }
    esi_handler_connect_end(self, reason);
}

/* --- connecting --- */

static void run_resolve(struct esi_job *job)
{
    struct esi_handler *self = ESI_CONTAINER_OF(job, struct esi_handler, resolve_job);
    const struct esi_config_handler *config = self->options.config;

    self->resolve_err =
        esi_env_resolve(self->options.context->env, config->host, config->port, self->addresses,
                        ESI_HANDLER_ADDRESSES_MAX, &self->address_count);
    esi_actor_send(&self->actor, &self->resolved_msg);
}

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded in the handler */
}

void esi_handler_connect_begin(struct esi_handler *self)
{
    self->state = LINK_RESOLVING;
    self->resolve_job = (struct esi_job){.run = run_resolve};
    self->resolved_msg = (struct esi_msg){.kind = HANDLER_RESOLVED, .free = keep};
    esi_runtime_submit(self->actor.runtime, &self->resolve_job);
}

static void open_link(struct esi_handler *self)
{
    const struct esi_config_limits *limits = &self->options.context->config->limits;
    const size_t outbound = (size_t)limits->max_payload_bytes * 2;
    const struct esi_grpc_client_options options = {
        .is_tls = self->options.config->is_tls,
        .in_flight_max = self->options.config->in_flight_max,
        .response_bytes_max = RESPONSE_BYTES_MAX,
        .outbound_bytes_max = outbound > OUTBOUND_BYTES_MIN ? outbound : (size_t)OUTBOUND_BYTES_MIN,
    };

    if (esi_grpc_client_new(&options, &self->client) != ES_OK) {
        esi_handler_connect_lose(self, es_err_text(ES_NO_MEMORY));
        return;
    }
    esi_actor_timer_cancel(&self->connect_timer);
    self->state = LINK_UP;
    self->is_refusal_logged = false;
    self->is_down_logged = false;
    self->heard_ns = now_ns(self);
    self->has_due_calls = false;
    self->pipe.has_more_input = true; /* bytes behind the handshake are not seen by the poller */
    esi_log(LOG_WORKER_UP, ESI_LOG_TEXT("handler", self->options.registry->name),
            ESI_LOG_TEXT("address", self->authority),
            ESI_LOG_TEXT("tls", esi_stream_tls_version(self->pipe.stream)));
    esi_handler_tell_status(self, "");
}

static void shake_hands(struct esi_handler *self)
{
    const enum es_err err = esi_stream_handshake(self->pipe.stream);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        const char *failure = esi_stream_failure(self->pipe.stream);
        esi_handler_connect_lose(self, failure[0] != '\0' ? failure : es_err_text(err));
        return;
    }
    open_link(self);
}

static void dial(struct esi_handler *self);

static void dial_next(struct esi_handler *self, enum es_err err)
{
    esi_handler_connect_drop(self);
    self->address_index++;
    if (self->address_index >= self->address_count) {
        esi_handler_connect_lose(self, es_err_text(err));
        return;
    }
    dial(self);
}

static void on_connected(struct esi_handler *self)
{
    const enum es_err err = esi_env_connect_result(self->options.context->env, self->io.sock);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        dial_next(self, err);
        return;
    }
    if (!self->options.config->is_tls) {
        open_link(self);
        return;
    }
    const char *tls_name = self->options.registry->tls_name;
    const char *name = tls_name != NULL ? tls_name : self->options.config->host;
    const enum es_err tls_err =
        esi_stream_start_tls_client(self->pipe.stream, self->options.tls, name);
    if (tls_err != ES_OK) {
        esi_handler_connect_lose(self,
                                 "the name that the worker's certificate must have cannot be sent");
        return;
    }
    self->state = LINK_SHAKING;
    shake_hands(self);
}

static void dial(struct esi_handler *self)
{
    struct esi_stream *stream = NULL;
    int sock = ESI_ENV_NO_SOCKET;

    self->state = LINK_DIALLING;
    enum es_err err =
        esi_env_connect(self->options.context->env, &self->addresses[self->address_index], &sock);
    if (err == ES_OK) {
        err = esi_stream_new(self->options.context->env, sock, &stream);
    }
    if (err == ES_OK) {
        esi_byte_pipe_init(&self->pipe, stream);
        err = esi_actor_io_watch(&self->io, sock, POLL_WRITE);
    }
    if (err != ES_OK) {
        dial_next(self, err);
        return;
    }
    esi_actor_timer_set(&self->connect_timer, now_ns(self) + CONNECT_NS);
}

void esi_handler_connect_resolved(struct esi_handler *self)
{
    if (self->state != LINK_RESOLVING) {
        return;
    }
    self->address_index = 0;
    if (self->resolve_err != ES_OK || self->address_count == 0) {
        esi_handler_connect_lose(self, "the name of the worker's host is not known");
        return;
    }
    dial(self);
}

void esi_handler_connect_continue(struct esi_handler *self)
{
    if (self->state == LINK_DIALLING) {
        on_connected(self);
    } else if (self->state == LINK_SHAKING) {
        shake_hands(self);
    }
}

void esi_handler_connect_timer(struct esi_handler *self)
{
    if (self->state == LINK_DOWN) {
        esi_handler_connect_begin(self);
    } else if (self->state == LINK_DIALLING) {
        dial_next(self, ES_TIMEOUT);
    } else if (self->state == LINK_SHAKING) {
        esi_handler_connect_lose(self, "the TLS handshake took too long");
    }
}
