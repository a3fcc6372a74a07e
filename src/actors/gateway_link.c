/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a gateway link, both directions. Its other files: gateway_link_internal.h.
 *
 * State      | is waiting for                    | deliveries | leaves to
 * CONNECTING | TCP (outbound)                    | -          | HANDSHAKE, OPENING, CLOSED
 * HANDSHAKE  | TLS, which both sides start       | -          | OPENING, CLOSED
 * OPENING    | inbound: CONNECT; outbound: the   | -          | OPEN, CLOSING, CLOSED
 *            | peer's first INFO                 |            |
 * OPEN       | lines                             | queued     | CLOSING, CLOSED
 * CLOSING    | all to be written, and the peer   | dropped    | CLOSED
 *            | to close                          |            |
 * CLOSED     | routers, workers and batches to   | dropped    | finished
 *            | forget it                         |            |
 *
 * An outbound link hands its peer's interest to the routers as one batch a run of lines; what
 * stands behind such a run is parsed when it is in force, so that the PONG to a PING says so. A
 * PONG of an inbound link says that the messages before its PING stand in the mailboxes of all
 * their receivers.
 */
#include "actors/gateway_link.h"
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "actors/gateway_remotes.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/stream.h"
#include "net/tls.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t DIAL_NS = 1000000000; /* as nats-server: TCP within a second */
static const uint64_t AUTH_NS = 2000000000; /* as nats-server: CONNECT within two */
static const uint64_t FIRST_PING_NS = 1000000000;
static const uint64_t PING_INTERVAL_NS_MAX = 15000000000;

static struct esi_gateway_link *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_gateway_link, actor);
}

static void on_routed(struct esi_gateway_link *self, struct esi_route_batch *batch)
{
    if (esi_route_ops_in_force(&self->ops, batch) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
    /* What waited for this goes on in the next turn, or right away in the parser that asked. */
    esi_actor_continue(&self->actor);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_gateway_link *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum gateway_link_msg)msg->kind) {
    case LINK_DELIVER:
        esi_gateway_dialler_on_deliver(self, (struct esi_delivery *)(void *)msg);
        break;
    case LINK_ROUTED:
        on_routed(self, ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force));
        break;
    case LINK_DETACHED:
        esi_route_ops_detached(&self->ops, ESI_CONTAINER_OF(msg, struct esi_route_batch, detached));
        esi_actor_continue(actor);
        break;
    case LINK_UNROUTED:
        self->dialler.is_routed = false;
        esi_actor_continue(actor);
        break;
    case LINK_INTEREST:
        esi_gateway_acceptor_on_interest(self, (struct esi_interest_msg *)(void *)msg);
        break;
    case LINK_GOSSIP:
        esi_gateway_acceptor_on_gossip(self, (struct esi_gateway_gossip_msg *)(void *)msg);
        break;
    case LINK_CHECKED:
        esi_gateway_acceptor_on_checked(self, (const struct esi_auth_check *)(const void *)msg);
        break;
    }
}

/* --- beginning --- */

void esi_gateway_link_log_tls_failure(const struct esi_gateway_link *self)
{
    esi_log(LOG_GATEWAY_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("direction", self->is_outbound ? "outbound" : "inbound"),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", esi_stream_failure(self->stream)));
}

static void start_opening(struct esi_gateway_link *self)
{
    self->state = LINK_STATE_OPENING;
    if (self->is_outbound) {
        const uint64_t interval_ns = link_limits(self)->ping_interval_ns < PING_INTERVAL_NS_MAX
                                         ? link_limits(self)->ping_interval_ns
                                         : PING_INTERVAL_NS_MAX;
        esi_actor_timer_set(&self->open_timer,
                            link_now_ns(self) + (link_limits(self)->ping_max + 1) * interval_ns);
    } else {
        /* From the accept on. */
        const uint64_t timeout_ns = esi_stream_is_tls(self->stream)
                                        ? self->context->config->gateway.tls.timeout_ns + NS_PER_S
                                        : AUTH_NS;
        esi_actor_timer_set(&self->open_timer, self->start_ns + timeout_ns);
        esi_gateway_link_output_push_info(self);
    }
}

static void shake_hands(struct esi_gateway_link *self)
{
    const enum es_err err = esi_stream_handshake(self->stream);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        esi_gateway_link_log_tls_failure(self);
        esi_gateway_link_close_now(self, "TLS Handshake Failure");
        return;
    }
    start_opening(self);
    self->needs_read = esi_stream_has_buffered_input(self->stream);
}

static uint64_t tls_timeout_ns(const struct esi_gateway_link *self)
{
    return self->context->config->gateway.tls.timeout_ns;
}

/* The stream is there; TLS starts at once where it is configured. */
static void start_stream(struct esi_gateway_link *self, struct esi_tls_context *tls)
{
    if (tls == NULL) {
        start_opening(self);
        return;
    }
    const enum es_err err =
        self->is_outbound ? esi_stream_start_tls_client(self->stream, tls, self->dialler.tls_name)
                          : esi_stream_start_tls_server(self->stream, tls);
    if (err != ES_OK) {
        esi_gateway_link_close_now(self, "TLS Handshake Failure");
        return;
    }
    self->state = LINK_STATE_HANDSHAKE;
    esi_actor_timer_set(&self->open_timer, link_now_ns(self) + tls_timeout_ns(self));
    shake_hands(self);
}

static void start_dialling(struct esi_gateway_link *self)
{
    self->state = LINK_STATE_CONNECTING;
    esi_actor_timer_set(&self->open_timer, link_now_ns(self) + DIAL_NS);
    if (esi_env_connect(self->context->env, &self->peer, &self->sock) != ES_OK ||
        esi_actor_io_watch(&self->io, self->sock, POLL_WRITE) != ES_OK) {
        esi_gateway_link_close_now(self, "Dial Error");
    }
}

static void on_connected(struct esi_gateway_link *self)
{
    const enum es_err err = esi_env_connect_result(self->context->env, self->sock);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        esi_gateway_link_close_now(self, "Dial Error");
        return;
    }
    const int sock = self->sock;
    self->sock = ESI_ENV_NO_SOCKET;
    esi_actor_io_unwatch(&self->io);
    if (esi_stream_new(self->context->env, sock, &self->stream) != ES_OK ||
        esi_actor_io_watch(&self->io, sock, POLL_READ) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return;
    }
    start_stream(self, self->dialler.tls);
}

static void start(struct esi_actor *actor)
{
    struct esi_gateway_link *self = self_of(actor);

    self->local = esi_worker_local(esi_actor_home(actor));
    self->dialler.interest.lease = self->local->lease;
    esi_outbound_init(&self->outbound, &self->target, &self->local->pools);
    self->start_ns = link_now_ns(self);
    self->activity_ns = self->start_ns;
    self->start_wall_ns = esi_env_wall_ns(self->context->env);
    if (self->is_outbound) {
        start_dialling(self);
        return;
    }
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->stream), POLL_READ) != ES_OK) {
        esi_gateway_link_close_now(self, "Read Error");
        return;
    }
    start_stream(self, esi_gateway_server_tls(self->gateway));
}

/* What a peer calls itself is kept for people to read: the rest of a very long name tells
 * nothing. */
static char *keep_name(struct esi_str name)
{
    if (name.len > ESI_GATEWAY_NAME_MAX) {
        name.len = ESI_GATEWAY_NAME_MAX;
    }
    return esi_str_dup(name);
}

void esi_gateway_link_note_peer(struct esi_gateway_link *self, const struct esi_gateway_info *info)
{
    self->has_info = true;
    self->peer_gateway = keep_name(info->gateway);
    self->peer_server_name = keep_name(info->server_name);
    self->peer_server_id = keep_name(info->server_id);
}

/* --- liveness --- */

static uint64_t ping_interval_ns(const struct esi_gateway_link *self, uint64_t max_ns)
{
    return link_limits(self)->ping_interval_ns < max_ns ? link_limits(self)->ping_interval_ns
                                                        : max_ns;
}

void esi_gateway_link_set_first_ping(struct esi_gateway_link *self)
{
    const uint64_t first_ns = ping_interval_ns(self, FIRST_PING_NS);
    uint32_t random = 0;

    esi_actor_timer_cancel(&self->open_timer);
    esi_env_random(self->context->env, &random, sizeof random);
    /* Up to a fifth later, so that links that were made together are not pinged together. */
    esi_actor_timer_set(&self->ping_timer,
                        link_now_ns(self) + first_ns + first_ns / 5000 * (random % 1000));
}

void esi_gateway_link_set_open_timer(struct esi_gateway_link *self, uint64_t delay_ns)
{
    esi_actor_timer_set(&self->open_timer, link_now_ns(self) + delay_ns);
}

static void on_ping_timer(struct esi_gateway_link *self)
{
    if (self->state != LINK_STATE_OPEN) {
        return;
    }
    if (self->pings_out + 1 > link_limits(self)->ping_max) {
        esi_gateway_link_close_err(self, CLIENT_ERR_STALE_CONNECTION, "Stale Connection");
        return;
    }
    self->pings_out++;
    self->ping_sent_ns = link_now_ns(self);
    esi_gateway_link_output_push(self, ESI_CLIENT_PING);
    esi_actor_timer_set(&self->ping_timer,
                        link_now_ns(self) + ping_interval_ns(self, PING_INTERVAL_NS_MAX));
}

static void on_open_timer(struct esi_gateway_link *self)
{
    switch (self->state) {
    case LINK_STATE_CONNECTING:
        esi_gateway_link_close_now(self, "Dial Timeout");
        break;
    case LINK_STATE_HANDSHAKE:
        esi_gateway_link_close_now(self, "TLS Handshake Timeout");
        break;
    case LINK_STATE_OPENING:
        if (self->is_outbound) {
            esi_gateway_link_close_err(self, CLIENT_ERR_STALE_CONNECTION, "Stale Connection");
        } else {
            esi_gateway_link_close_err(self, CLIENT_ERR_AUTH_TIMEOUT, "Authentication Timeout");
        }
        break;
    case LINK_STATE_OPEN:
        if (!self->has_info) {
            esi_gateway_link_close_err(self, CLIENT_ERR_AUTH_TIMEOUT, "No INFO After CONNECT");
        }
        break;
    case LINK_STATE_CLOSING:
    case LINK_STATE_CLOSED:
        break;
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_gateway_link *self = self_of(actor);

    if (self->state == LINK_STATE_CLOSED) {
        return;
    }
    if (fired == &self->ping_timer.timer) {
        on_ping_timer(self);
    } else if (fired == &self->write_timer.timer) {
        esi_gateway_link_output_on_timer(self);
    } else if (fired == &self->open_timer.timer) {
        on_open_timer(self);
    } else if (fired == &self->tick_timer.timer) {
        esi_gateway_link_output_on_tick(self);
    } else if (fired == &self->loss_timer.timer) {
        esi_gateway_link_output_on_loss_timer(self);
    } else if (fired == &self->pause_timer.timer) {
        self->is_paused = false;
    }
}

/* --- the actor --- */

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_gateway_link *self = self_of(actor);

    (void)io;
    if ((events & (POLL_WRITE | POLL_HANGUP)) != 0) {
        self->is_write_blocked = false;
    }
    switch (self->state) {
    case LINK_STATE_CONNECTING:
        on_connected(self);
        break;
    case LINK_STATE_HANDSHAKE:
        if (esi_context_may_shake(self->local)) {
            shake_hands(self);
        }
        break;
    case LINK_STATE_OPENING:
    case LINK_STATE_OPEN:
        if (self->is_paused && (events & POLL_HANGUP) != 0) {
            /* As in connection.c. */
            esi_actor_io_unwatch(&self->io);
            self->is_unwatched = true;
        } else if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
            esi_gateway_link_input_process(self, true);
        }
        break;
    case LINK_STATE_CLOSING:
        esi_gateway_link_close_linger(self);
        break;
    case LINK_STATE_CLOSED:
        break;
    }
}

static void watch_again(struct esi_gateway_link *self)
{
    if (!is_link_ending(self) && self->is_paused) {
        return;
    }
    self->is_unwatched = false;
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->stream), POLL_READ) != ES_OK) {
        esi_gateway_link_close_now(self, "Read Error");
        esi_actor_continue(&self->actor);
    }
}

static void watch(struct esi_gateway_link *self)
{
    uint32_t events = 0;

    switch (self->state) {
    case LINK_STATE_CONNECTING:
        events = POLL_WRITE;
        break;
    case LINK_STATE_HANDSHAKE:
        events = esi_stream_wants(self->stream);
        events |= events == 0 ? POLL_READ : 0U;
        break;
    case LINK_STATE_OPENING:
    case LINK_STATE_OPEN:
        events = esi_stream_wants(self->stream);
        events |= !esi_gateway_link_input_is_waiting(self) && !self->is_paused ? POLL_READ : 0U;
        break;
    case LINK_STATE_CLOSING:
        events = esi_gateway_link_close_has_lingered(self) && !self->is_write_shut ? 0U : POLL_READ;
        break;
    case LINK_STATE_CLOSED:
        return;
    }
    if (self->is_write_blocked) {
        events |= POLL_WRITE;
    }
    if (self->is_unwatched) {
        watch_again(self);
    }
    esi_actor_io_change(&self->io, events);
}

/* Once a turn: a link holds little of its own beside what others count, but its peer chooses how
 * much of a TLS record comes at a time, and our interest may be large. */
static void count_memory(struct esi_gateway_link *self)
{
    struct esi_lease *lease = self->local->lease;
    const uint64_t stream_bytes = self->stream != NULL ? esi_stream_memory_bytes(self->stream) : 0;

    esi_ledger_settle(lease, MEMORY_LINKS, &self->own_bytes,
                      esi_ledger_heap_bytes(sizeof *self) + stream_bytes);
    esi_ledger_settle(lease, MEMORY_INTEREST, &self->interest_bytes,
                      esi_gateway_acceptor_memory_bytes(self));
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_gateway_link *self = self_of(actor);

    if (!esi_gateway_link_input_is_waiting(self) && (self->needs_read || self->is_stalled)) {
        esi_gateway_link_input_process(self, self->needs_read);
        if (self->needs_read && !self->is_paused && !esi_gateway_link_input_is_waiting(self)) {
            esi_actor_continue(actor);
        }
    }
    bool is_withdrawn = false;
    if (is_link_ending(self)) {
        esi_gateway_acceptor_withdraw(self);
        is_withdrawn = esi_gateway_dialler_withdraw(self);
        if (!is_withdrawn) {
            esi_actor_continue(actor);
        }
    }
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
    }
    esi_gateway_link_output_write(self);
    watch(self);
    esi_gateway_link_output_watch(self);
    esi_gateway_link_output_note_losses(self);
    count_memory(self);
    if (self->state == LINK_STATE_CLOSED && is_withdrawn) {
        esi_gateway_link_close_finish(self);
    }
}

static void stop(struct esi_actor *actor)
{
    /* What was published before the stop, and perhaps answered, is on its way to us: it goes out
     * first. */
    esi_actor_drain(actor);
    esi_gateway_link_close(self_of(actor), ESI_STR(""), "Server Shutdown");
}

static void cut(struct esi_actor *actor)
{
    esi_gateway_link_close_now(self_of(actor), "Server Shutdown");
}

static void moved(struct esi_actor *actor)
{
    struct esi_gateway_link *self = self_of(actor);

    self->local = esi_worker_local(esi_actor_home(actor));
    self->dialler.interest.lease = self->local->lease;
    self->outbound.pools = &self->local->pools;
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_gateway_link *self =
        ESI_CONTAINER_OF(actor, const struct esi_gateway_link, actor);
    const char *name = self->is_outbound ? self->dialler.wanted : self->peer_gateway;

    esi_bytes_printf(description->text, "cid %llu %s %s %s:%u", (unsigned long long)self->cid,
                     self->is_outbound ? "to" : "from", name != NULL ? name : "?", self->peer.host,
                     self->peer.port);
}

static void free_link(struct esi_actor *actor)
{
    struct esi_gateway_link *self = self_of(actor);

    esi_listener_release(self->ticket);
    esi_stream_free(self->stream);
    esi_env_close(self->context->env, self->sock);
    esi_route_ops_deinit(&self->ops);
    esi_gateway_dialler_deinit(self);
    esi_gateway_acceptor_deinit(self);
    free(self->peer_gateway);
    free(self->peer_server_name);
    free(self->peer_server_id);
    free(self);
}

const struct esi_actor_type esi_gateway_link_type = {
    .name = "gateway_link",
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
    .free = free_link,
};

/* A link that is not started yet. */
static enum es_err new_link(struct esi_context *context, struct esi_worker *home,
                            const struct esi_address *peer, struct esi_gateway_link **out)
{
    struct esi_gateway_link *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    self->gateway = context->gateway;
    self->peer = *peer;
    self->sock = ESI_ENV_NO_SOCKET;
    self->target.deliver = esi_gateway_link_output_deliver;
    self->target.is_link = true;
    const enum es_err err = esi_targets_add(context->targets, &self->target);
    if (err != ES_OK) {
        free(self);
        return err;
    }
    /* order: relaxed; only uniqueness matters. */
    self->cid = atomic_fetch_add_explicit(&context->next_cid, 1, memory_order_relaxed) + 1;
    esi_route_ops_init(&self->ops, context, &self->actor, LINK_ROUTED, LINK_DETACHED);
    esi_gateway_interest_init(&self->dialler.interest, &self->target, &self->ops,
                              context->config->gateway.max_interest);
    esi_gateway_acceptor_init(self);
    esi_actor_init(&self->actor, &esi_gateway_link_type, context->runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->open_timer);
    esi_actor_timer_init(&self->actor, &self->ping_timer);
    esi_actor_timer_init(&self->actor, &self->write_timer);
    esi_actor_timer_init(&self->actor, &self->pause_timer);
    esi_actor_timer_init(&self->actor, &self->tick_timer);
    esi_actor_timer_init(&self->actor, &self->loss_timer);
    *out = self;
    return ES_OK;
}

enum es_err esi_gateway_link_accept(struct esi_context *context, struct esi_worker *home, int sock,
                                    const struct esi_address *peer, struct esi_ticket *ticket)
{
    struct esi_stream *stream = NULL;
    struct esi_gateway_link *self = NULL;
    enum es_err err = esi_stream_new(context->env, sock, &stream);

    if (err != ES_OK) {
        esi_listener_release(ticket);
        return err;
    }
    const bool is_admitted = esi_gateway_admit(context->gateway);
    err = is_admitted ? new_link(context, home, peer, &self) : ES_FULL;
    if (err != ES_OK) {
        if (is_admitted) {
            esi_gateway_leave(context->gateway);
        }
        esi_stream_free(stream);
        esi_listener_release(ticket);
        return err;
    }
    self->stream = stream;
    self->ticket = ticket;
    esi_gateway_parser_init(&self->parser, GATEWAY_ACCEPTOR);
    esi_actor_start(&self->actor);
    return ES_OK;
}

enum es_err esi_gateway_link_dial(struct esi_context *context,
                                  const struct esi_gateway_link_options *options, uint64_t *link_id)
{
    struct esi_gateway_link *self = NULL;
    const enum es_err err =
        new_link(context, esi_runtime_place(context->runtime), &options->address, &self);

    if (err != ES_OK) {
        return err;
    }
    struct gateway_dialler *dialler = &self->dialler;
    self->is_outbound = true;
    dialler->remote_id = options->remote_id;
    dialler->is_configured = options->is_configured;
    dialler->user = options->user;
    dialler->password = options->password;
    dialler->wanted = esi_str_dup(esi_str_from(options->name));
    dialler->tls_name = esi_str_dup(esi_str_from(options->tls_name));
    dialler->tls = options->tls != NULL ? esi_tls_context_ref(options->tls) : NULL;
    if (dialler->wanted == NULL || dialler->tls_name == NULL) {
        esi_targets_remove(context->targets, &self->target);
        free_link(&self->actor);
        return ES_NO_MEMORY;
    }
    esi_gateway_parser_init(&self->parser, GATEWAY_DIALLER);
    *link_id = self->actor.id;
    esi_actor_start(&self->actor);
    return ES_OK;
}

/* --- visits --- */

static struct esi_str known(const char *text)
{
    return text != NULL ? esi_str_from(text) : ESI_STR("");
}

void esi_gateway_link_info(const struct esi_actor *actor, struct esi_gateway_link_info *out)
{
    const struct esi_gateway_link *self =
        ESI_CONTAINER_OF(actor, const struct esi_gateway_link, actor);
    const struct gateway_dialler *dialler = &self->dialler;
    const bool has_stream = self->stream != NULL;

    *out = (struct esi_gateway_link_info){
        .cid = self->cid,
        .is_outbound = self->is_outbound,
        .is_configured = dialler->is_configured,
        .is_open = self->has_info && !is_link_ending(self),
        .name = known(self->is_outbound ? dialler->wanted : self->peer_gateway),
        .server_name = known(self->peer_server_name),
        .server_id = known(self->peer_server_id),
        .peer = &self->peer,
        .start_wall_ns = self->start_wall_ns,
        .start_ns = self->start_ns,
        .last_activity_ns = self->activity_ns,
        .rtt_ns = self->rtt_ns,
        .pending_bytes = esi_outbound_pending_bytes(&self->outbound),
        .in_msgs = self->in_msgs,
        .in_bytes = self->in_bytes,
        .out_msgs = self->out_msgs,
        .out_bytes = self->out_bytes,
        .refused_msgs = self->refused_msgs,
        .lost_msgs = self->losses.noticed_msgs,
        .interest_mode = self->is_outbound ? esi_gateway_interest_mode_name(dialler->interest.mode)
                         : self->acceptor.is_announced ? "interest-only"
                                                       : "switching",
        .subscriptions = dialler->interest.plain.count,
        .queue_subscriptions = dialler->interest.queues.count,
        .tls_version = has_stream ? esi_stream_tls_version(self->stream) : "",
        .tls_cipher = has_stream ? esi_stream_tls_cipher(self->stream) : "",
        .identity = has_stream ? esi_stream_peer(self->stream) : NULL,
        .worker = esi_worker_index(esi_actor_home(actor)),
    };
}
