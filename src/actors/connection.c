/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client connection.
 *
 * State     | bytes in                | deliveries | leaves to
 * FIRST     | looked at: TLS or plain | -          | HANDSHAKE, OPEN (allow_plain only)
 * HANDSHAKE | the TLS library's       | -          | OPEN, CLOSED
 * OPEN      | parsed                  | queued     | CLOSING, CLOSED
 * CLOSING   | read and dropped        | dropped    | CLOSED: all is written, the peer has closed
 *           |                         |            | CLOSED: time is up
 * CLOSED    | -                       | dropped    | finished: no router, no worker knows it
 *
 * Parsing stops where something must be in force before what follows: a run of SUB and UNSUB is
 * handed to the routers and answered; a CONNECT is judged; a PONG that follows an UNSUB waits for a
 * grace period. What is read but not parsed is kept by the reader. Reading stops meanwhile, and
 * while a target that takes bytes has too many waiting.
 */
#include "actors/connection.h"
#include "actors/connection_internal.h"
#include "actors/listener.h"
#include "base/log.h"
#include "base/own.h"
#include "net/stream.h"
#include "net/tls.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { MAPPED_MAX = 4096, RESPONSES_MAX = 4096 };

/* Most of what an idle client takes; what few need is allocated when they need it. */
_Static_assert(sizeof(struct esi_connection) <= 2816, "a connection is small");

static const uint64_t RTT_FRESH_NS = 3600000000000;

static struct esi_connection *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_connection, actor);
}

void esi_connection_log_fault(const struct esi_connection *self, const char *fault)
{
    esi_log(LOG_CLIENT_ERROR, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("fault", fault));
}

static void start(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);
    const struct esi_config *config = self->context->config;

    self->local = esi_worker_local(esi_actor_home(actor));
    esi_ledger_settle(self->local->lease, MEMORY_CONNECTIONS, &self->own_bytes,
                      esi_ledger_heap_bytes(sizeof *self) + esi_stream_memory_bytes(self->stream) +
                          SMALL_PARTS_BYTES);
    esi_outbound_init(&self->outbound, &self->target, &self->local->pools);
    self->ops.pool = &self->local->subs;
    self->start_ns = connection_now_ns(self);
    self->activity_ns = self->start_ns;
    self->start_wall_ns = esi_env_wall_ns(self->context->env);
    self->state = STATE_FIRST;
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->stream), POLL_READ) != ES_OK) {
        esi_connection_close_now(self, "Read Error");
        return;
    }
    esi_connection_auth_write_info(self);
    if (self->is_refused) {
        self->state = STATE_OPEN;
        esi_connection_close_err(self, CLIENT_ERR_MAX_CONNECTIONS, "Maximum Connections Exceeded");
        return;
    }
    if (self->context->client_tls == NULL) {
        esi_connection_auth_open(self);
        return;
    }
    bool has_progress = false;
    /* INFO goes out in clear, before the handshake takes the stream over. */
    if (esi_outbound_write(&self->outbound, self->stream, connection_now_ns(self), &has_progress) !=
        ES_OK) {
        esi_connection_close_now(self, "Write Error");
        return;
    }
    esi_actor_timer_set(&self->auth_timer, connection_now_ns(self) + config->tls.timeout_ns);
    if (!config->tls.allow_plain) {
        esi_connection_auth_start_tls(self);
    }
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_connection *self = self_of(actor);

    (void)io;
    if ((events & (POLL_WRITE | POLL_HANGUP)) != 0) {
        self->is_write_blocked = false;
    }
    switch (self->state) {
    case STATE_FIRST:
        if (esi_context_may_shake(self->local)) {
            esi_connection_auth_look_at_first_bytes(self);
        }
        break;
    case STATE_HANDSHAKE:
        if (esi_context_may_shake(self->local)) {
            esi_connection_auth_shake_hands(self);
        }
        break;
    case STATE_OPEN:
        if (self->is_paused && (events & POLL_HANGUP) != 0) {
            /* The poller would tell it again and again until all is read, which the pause
             * forbids. */
            esi_actor_io_unwatch(&self->io);
            self->is_unwatched = true;
        } else if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
            esi_connection_input_process(self, true);
        }
        break;
    case STATE_CLOSING:
        esi_connection_close_linger(self);
        break;
    case STATE_CLOSED:
        break;
    }
}

/* While others may still see subscriptions that were removed, what is left over may be waiting for
 * that: then it comes first. */
static bool may_read(const struct esi_connection *self)
{
    return !is_connection_waiting(self) && !self->is_paused &&
           (self->ops.detaches_pending == 0 ||
            (!self->is_ping_held && !esi_reader_has_tail(&self->reader)));
}

/* The peer had hung up during a pause: when that is over the poller tells it again. */
static void watch_again(struct esi_connection *self)
{
    if (self->state == STATE_OPEN && self->is_paused) {
        return;
    }
    self->is_unwatched = false;
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->stream), POLL_READ) != ES_OK) {
        esi_connection_close_now(self, "Read Error");
        esi_actor_continue(&self->actor);
    }
}

/* What the poller tells of until the next turn ends. */
static void watch(struct esi_connection *self)
{
    const uint32_t wanted = esi_stream_wants(self->stream);
    bool reads = false;

    switch (self->state) {
    case STATE_FIRST:
    case STATE_HANDSHAKE:
        reads = wanted == 0;
        break;
    case STATE_OPEN:
        reads = may_read(self);
        break;
    case STATE_CLOSING:
        reads = self->lingered_bytes < LINGER_BYTES_MAX || self->is_write_shut;
        break;
    case STATE_CLOSED:
        return;
    }
    if (self->is_unwatched) {
        watch_again(self);
    }
    esi_actor_io_change(&self->io, wanted | (reads ? (uint32_t)POLL_READ : 0U) |
                                       (self->is_write_blocked ? (uint32_t)POLL_WRITE : 0U));
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);

    if (self->state == STATE_OPEN && (self->needs_read || self->is_stalled)) {
        esi_connection_input_process(self, self->needs_read);
        if (self->needs_read && !self->is_paused && !is_connection_waiting(self)) {
            esi_actor_continue(actor);
        }
    }
    if (self->state != STATE_CLOSED) {
        esi_connection_output_write(self);
    }
    if (is_connection_ending(self)) {
        esi_connection_subs_withdraw(self);
    }
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
    }
    if (self->state != STATE_CLOSED) {
        watch(self);
        esi_connection_pressure_watch(self);
    } else {
        esi_connection_close_finish(self);
    }
}

static void on_ping_timer(struct esi_connection *self)
{
    const struct esi_config *config = self->context->config;
    const uint64_t interval_ns = config->limits.ping_interval_ns;
    const uint64_t now = connection_now_ns(self);
    const bool is_active = now - self->activity_ns < interval_ns && self->rtt_known_ns != 0 &&
                           now - self->rtt_known_ns < RTT_FRESH_NS;

    if (self->state != STATE_OPEN) {
        return;
    }
    if (!is_active) {
        if (self->pings_out + 1 > config->limits.ping_max) {
            esi_connection_close_err(self, CLIENT_ERR_STALE_CONNECTION, "Stale Connection");
            return;
        }
        if (self->has_first_pong || !self->has_connect || now - self->start_ns >= FIRST_PING_NS ||
            interval_ns < FIRST_PING_NS) {
            self->pings_out++;
            self->ping_sent_ns = now;
            esi_connection_output_push(self, ESI_CLIENT_PING);
        }
    }
    esi_actor_timer_set(&self->ping_timer, now + interval_ns);
}

static void on_write_timer(struct esi_connection *self)
{
    if (self->state == STATE_CLOSING) {
        esi_connection_close_now(self, self->close_reason);
    } else if (self->context->config->limits.slow_consumer == CONFIG_SLOW_DROP_NEW) {
        self->is_overdue = true;
    } else if (!esi_outbound_is_empty(&self->outbound) ||
               esi_stream_has_buffered_output(self->stream)) {
        esi_connection_close_slow(self, "Slow Consumer (Write Deadline)");
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_connection *self = self_of(actor);

    if (self->state == STATE_CLOSED) {
        return;
    }
    if (fired == &self->ping_timer.timer) {
        on_ping_timer(self);
    } else if (fired == &self->write_timer.timer) {
        on_write_timer(self);
    } else if (fired == &self->auth_timer.timer) {
        esi_connection_auth_on_timer(self);
    } else if (fired == &self->pause_timer.timer) {
        esi_connection_pressure_on_pause_timer(self);
    } else if (fired == &self->tick_timer.timer) {
        esi_connection_pressure_on_tick(self);
    } else if (fired == &self->expiry_timer.timer) {
        esi_connection_close_err(self, CLIENT_ERR_USER_EXPIRED, "Authentication Expired");
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_connection *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum connection_msg)msg->kind) {
    case CONNECTION_DELIVER:
        esi_connection_output_on_deliver(self, (struct esi_delivery *)(void *)msg);
        break;
    case CONNECTION_ROUTED:
        esi_connection_subs_on_routed(self,
                                      ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force));
        break;
    case CONNECTION_DETACHED:
        esi_connection_subs_on_detached(self,
                                        ESI_CONTAINER_OF(msg, struct esi_route_batch, detached));
        break;
    case CONNECTION_AUTHENTICATED:
        esi_connection_auth_on_verdict(self, (struct esi_auth_check *)(void *)msg);
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    /* What was published before the stop, and perhaps answered, is on its way to us: it goes out
     * first. */
    esi_actor_drain(actor);
    /* nats-server ends connections without a line of its own when it stops. */
    esi_connection_close_with(self_of(actor), ESI_STR(""), "Server Shutdown");
}

static void cut(struct esi_actor *actor)
{
    esi_connection_close_now(self_of(actor), "Server Shutdown");
}

static void moved(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);

    self->local = esi_worker_local(esi_actor_home(actor));
    self->outbound.pools = &self->local->pools;
    self->ops.pool = &self->local->subs;
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);

    esi_bytes_printf(description->text, "cid %llu %s:%u", (unsigned long long)self->cid,
                     self->peer.host, self->peer.port);
}

static void free_connection(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);

    esi_listener_release(self->ticket);
    esi_stream_free(self->stream);
    esi_route_ops_deinit(&self->ops);
    esi_client_subs_deinit(&self->subs);
    esi_mapping_deinit(&self->mapped);
    esi_mapping_deinit(&self->responses);
    esi_connect_deinit(&self->connect);
    esi_verdict_deinit(&self->verdict);
    free(self->allowed);
    free(self);
}

const struct esi_actor_type esi_connection_type = {
    .name = "connection",
    .stop_phase = STOP_PEERS,
    .may_move = true,
    .moved = moved,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .cut = cut,
    .describe = describe,
    .free = free_connection,
};

static void ref_target(struct esi_target *target)
{
    esi_actor_ref(&ESI_CONTAINER_OF(target, struct esi_connection, target)->actor);
}

static void unref_target(struct esi_target *target)
{
    esi_actor_unref(&ESI_CONTAINER_OF(target, struct esi_connection, target)->actor);
}

/* Returns false where it is one too many: it is told so, and takes nobody's place. */
static bool count_connection(struct esi_context *context)
{
    struct esi_counters *counters = &context->counters;

    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(&counters->connections_total, 1, memory_order_relaxed);
    /* order: relaxed; a counter with a bound. */
    const uint32_t before =
        atomic_fetch_add_explicit(&counters->connections, 1, memory_order_relaxed);
    if (before < context->config->limits.max_connections &&
        !esi_ledger_is_short(context->ledger, MEMORY_LASTING)) {
        return true;
    }
    /* order: relaxed; as above. */
    atomic_fetch_sub_explicit(&counters->connections, 1, memory_order_relaxed);
    return false;
}

enum es_err esi_connection_start(struct esi_context *context, struct esi_worker *home, int sock,
                                 const struct esi_address *peer, struct esi_ticket *ticket)
{
    struct esi_stream *stream = NULL;
    enum es_err err = esi_stream_new(context->env, sock, &stream);

    if (err != ES_OK) {
        esi_listener_release(ticket);
        return err;
    }
    struct esi_connection *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    if (self == NULL) {
        esi_stream_free(stream);
        esi_listener_release(ticket);
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    self->ticket = ticket;
    self->stream = stream;
    self->peer = *peer;
    self->target.deliver = esi_connection_output_deliver;
    self->target.ref = ref_target;
    self->target.unref = unref_target;
    self->target.blocks = context->config->limits.slow_consumer == CONFIG_SLOW_BLOCK;
    err = esi_targets_add(context->targets, &self->target);
    if (err != ES_OK) {
        esi_stream_free(stream);
        esi_listener_release(ticket);
        free(self);
        return err;
    }
    /* order: relaxed; only uniqueness matters. */
    self->cid = atomic_fetch_add_explicit(&context->next_cid, 1, memory_order_relaxed) + 1;
    esi_connect_init(&self->connect);
    esi_verdict_init(&self->verdict);
    esi_client_subs_init(&self->subs);
    esi_mapping_init(&self->mapped, MAPPED_MAX);
    esi_mapping_init(&self->responses, RESPONSES_MAX);
    esi_client_parser_init(&self->parser, context->config->limits.max_payload_bytes,
                           context->config->limits.max_control_line_bytes);
    self->parser.auth_pending = context->auth_required;
    self->is_refused = !count_connection(context);
    esi_actor_init(&self->actor, &esi_connection_type, context->runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_route_ops_init(&self->ops, context, &self->actor, CONNECTION_ROUTED, CONNECTION_DETACHED);
    esi_actor_timer_init(&self->actor, &self->auth_timer);
    esi_actor_timer_init(&self->actor, &self->ping_timer);
    esi_actor_timer_init(&self->actor, &self->write_timer);
    esi_actor_timer_init(&self->actor, &self->pause_timer);
    esi_actor_timer_init(&self->actor, &self->tick_timer);
    esi_actor_timer_init(&self->actor, &self->expiry_timer);
    esi_actor_start(&self->actor);
    return ES_OK;
}

void esi_connection_info(const struct esi_actor *actor, struct esi_connection_info *out)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);
    const bool has_stream = self->stream != NULL;

    *out = (struct esi_connection_info){
        .cid = self->cid,
        .peer = &self->peer,
        .start_wall_ns = self->start_wall_ns,
        .start_ns = self->start_ns,
        .last_activity_ns = self->activity_ns,
        .rtt_ns = self->rtt_ns,
        .pending_bytes = esi_outbound_pending_bytes(&self->outbound),
        .dropped_msgs = self->dropped_msgs,
        .in_msgs = self->in_msgs,
        .in_bytes = self->in_bytes,
        .out_msgs = self->out_msgs,
        .out_bytes = self->out_bytes,
        .subscriptions = esi_client_subs_count(&self->subs),
        .name = self->connect.name,
        .lang = self->connect.lang,
        .version = self->connect.version,
        .authorized_user = self->verdict.name,
        .tls_version = has_stream ? esi_stream_tls_version(self->stream) : "",
        .tls_cipher = has_stream ? esi_stream_tls_cipher(self->stream) : "",
        .identity = has_stream ? esi_stream_peer(self->stream) : NULL,
        .worker = esi_worker_index(esi_actor_home(actor)),
        .is_open = self->state == STATE_OPEN,
    };
}

bool esi_connection_each_sub(const struct esi_actor *actor, uint32_t *place, uint32_t count_max,
                             void (*each)(void *argument, const struct esi_sub *sub,
                                          uint64_t delivered, uint64_t max),
                             void *argument)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);

    for (uint32_t i = 0; i < count_max && *place < self->subs.slot_count; i++) {
        const struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, (*place)++);
        if (client_sub != NULL && !client_sub->is_removed) {
            each(argument, client_sub->sub, client_sub->delivered, client_sub->max);
        }
    }
    return *place < self->subs.slot_count;
}

const struct esi_verdict *esi_connection_verdict(const struct esi_actor *actor)
{
    return &ESI_CONTAINER_OF(actor, const struct esi_connection, actor)->verdict;
}

void esi_connection_revoke(struct esi_actor *actor)
{
    esi_connection_auth_refuse(self_of(actor));
}
