/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a gateway link, both directions.
 *
 * State      | is waiting for                                   | deliveries | leaves to
 * CONNECTING | TCP (outbound)                                   | -          | HANDSHAKE, OPENING,
 * CLOSED HANDSHAKE  | TLS, which both sides start at once              | -          | OPENING,
 * CLOSED OPENING    | inbound: CONNECT; outbound: the peer's first INFO | -          | OPEN,
 * CLOSING, CLOSED OPEN       | lines                                            | queued     |
 * CLOSING, CLOSED CLOSING    | all is written and the peer has closed           | dropped    |
 * CLOSED CLOSED     | no router, no worker, no batch knows it any more | dropped    | finished
 *
 * An outbound link hands its peer's interest to the routers as one batch a run of lines; what
 * stands behind such a run is parsed when it is in force, so that the PONG to a PING says so. A
 * PONG of an inbound link says that the messages before its PING stand in the mailboxes of all
 * their receivers. Reading stops meanwhile, and while a receiver that takes bytes has too many
 * waiting.
 */
#include "actors/gateway_link.h"
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "actors/gateway_remotes.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/stream.h"
#include "net/tls.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINGER_BYTES_MAX = 1024 * 1024,
    /* A link stands for many clients: this many times limits.max_pending may wait for it. */
    PENDING_FACTOR = 4,
    /* Refused subjects that are compared with a peer's wildcards in one turn. */
    WORK_MAX = 64 * 1024,
    /* Changes of interest that may wait at least for an inbound link. */
    CHANGES_PENDING_MIN = 64 * 1024 * 1024
};

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t DIAL_NS = 1000000000; /* as nats-server: TCP within a second */
static const uint64_t AUTH_NS = 2000000000; /* as nats-server: CONNECT within two */
static const uint64_t FIRST_PING_NS = 1000000000;
static const uint64_t PING_INTERVAL_NS_MAX = 15000000000;
static const uint64_t LINGER_NS = 1000000000;

static struct esi_gateway_link *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_gateway_link, actor);
}

static uint64_t now_ns(const struct esi_gateway_link *self)
{
    return esi_actor_now_ns(&self->actor);
}

static const struct esi_config_limits *limits_of(const struct esi_gateway_link *self)
{
    return &self->context->config->limits;
}

/* --- telling the gateway --- */

static void free_ended(struct esi_msg *msg)
{
    struct esi_gateway_link *self = ESI_CONTAINER_OF(msg, struct esi_gateway_link, ended_msg.msg);

    esi_actor_unref(&self->actor);
}

static void log_end(const struct esi_gateway_link *self, bool was_open)
{
    const char *name = self->is_outbound ? self->dialler.wanted : self->peer_gateway;

    esi_log(was_open || self->actor.is_stopping ? LOG_GATEWAY_LINK_CLOSED : LOG_GATEWAY_LINK_FAILED,
            ESI_LOG_U64("cid", self->cid), ESI_LOG_TEXT("gateway", name != NULL ? name : ""),
            ESI_LOG_TEXT("direction", self->is_outbound ? "outbound" : "inbound"),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", self->close_reason));
}

/* Told once, when the link is on its way out: the gateway plans the next one from this moment on.
 */
static void tell_ended(struct esi_gateway_link *self, const char *reason)
{
    if (self->has_ended) {
        return;
    }
    self->has_ended = true;
    self->close_reason = reason;
    const bool was_open = self->has_info;
    log_end(self, was_open);
    /* order: relaxed; a hint for senders. */
    atomic_store_explicit(&self->target.is_gone, true, memory_order_relaxed);
    self->ended_msg = (struct esi_gateway_ended_msg){
        .msg = {.free = free_ended},
        .remote_id = self->is_outbound ? self->dialler.remote_id : 0,
        .link_id = self->actor.id,
        .ending = was_open                               ? ENDING_LOST
                  : self->state == LINK_STATE_CONNECTING ? ENDING_UNREACHED
                                                         : ENDING_REFUSED};
    esi_actor_ref(&self->actor);
    esi_gateway_tell_ended(self->gateway, &self->ended_msg);
}

/* --- closing and writing --- */

void esi_gateway_link_close_now(struct esi_gateway_link *self, const char *reason)
{
    if (self->state == LINK_STATE_CLOSED) {
        return;
    }
    tell_ended(self, reason);
    self->state = LINK_STATE_CLOSED;
    esi_listener_release(ESI_MOVE(self->ticket));
    esi_actor_io_unwatch(&self->io);
    esi_outbound_deinit(&self->outbound);
    esi_stream_free(ESI_MOVE(self->stream));
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    esi_actor_continue(&self->actor);
}

/* Puts everything that was sent to us up to now into the outbound queue: cause before effect. */
static void take_own_messages(struct esi_gateway_link *self)
{
    const uint64_t pause_ns = self->is_parsing ? esi_batch_flush(self->local->batch) : 0;

    if (pause_ns > 0 && !self->is_paused) {
        self->is_paused = true;
        esi_actor_timer_set(&self->pause_timer, now_ns(self) + pause_ns);
    }
    esi_actor_drain(&self->actor);
}

void esi_gateway_link_push(struct esi_gateway_link *self, struct esi_str text)
{
    if (is_link_ending(self) || text.len == 0) {
        return;
    }
    if (esi_outbound_push_text(&self->outbound, text) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
}

void esi_gateway_link_push_info(struct esi_gateway_link *self)
{
    struct esi_address local;
    struct esi_bytes text;

    /* Where we listen on all addresses, the one that this peer sees us at is the one to tell it. */
    if (esi_env_local_address(self->context->env, esi_stream_socket(self->stream), &local) !=
        ES_OK) {
        local = (struct esi_address){.host = ""};
    }
    esi_bytes_init(&text, 0);
    esi_gateway_write_info(self->gateway, local.host, &text);
    esi_gateway_link_push(self, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

void esi_gateway_link_answer(struct esi_gateway_link *self, struct esi_str text)
{
    take_own_messages(self);
    esi_gateway_link_push(self, text);
}

void esi_gateway_link_close(struct esi_gateway_link *self, struct esi_str text, const char *reason)
{
    if (is_link_ending(self)) {
        return;
    }
    if (self->is_parsing) {
        take_own_messages(self);
    }
    if (self->state == LINK_STATE_CONNECTING || self->state == LINK_STATE_HANDSHAKE) {
        esi_gateway_link_close_now(self, reason);
        return;
    }
    esi_gateway_link_push(self, text);
    if (is_link_ending(self)) {
        return;
    }
    tell_ended(self, reason);
    self->state = LINK_STATE_CLOSING;
    esi_actor_timer_set(&self->write_timer, now_ns(self) + limits_of(self)->write_deadline_ns);
    esi_actor_continue(&self->actor);
}

void esi_gateway_link_close_err(struct esi_gateway_link *self, enum esi_client_err err,
                                const char *reason)
{
    esi_gateway_link_close(self, esi_client_writer_err(err), reason);
}

static void close_slow(struct esi_gateway_link *self, const char *reason)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.slow_consumers, 1, memory_order_relaxed);
    esi_log(LOG_SLOW_CONSUMER, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_U64("pending_bytes", esi_outbound_pending_bytes(&self->outbound)),
            ESI_LOG_TEXT("reason", reason));
    esi_gateway_link_close_now(self, reason);
}

static void end_stream(struct esi_gateway_link *self)
{
    if (!self->is_write_shut) {
        self->is_write_shut = true;
        esi_stream_shutdown_write(self->stream);
        /* The peer's unread bytes would make the kernel answer with a reset, and our last line
         * could be lost. */
        esi_actor_timer_set(&self->write_timer, now_ns(self) + LINGER_NS);
    }
}

/* Interest is as much as there are subscriptions: a peer that has all of it yet to read has not
 * fallen behind. */
static uint64_t pending_max(const struct esi_gateway_link *self)
{
    const uint64_t messages = PENDING_FACTOR * limits_of(self)->max_pending_bytes;

    if (self->is_outbound) {
        return messages;
    }
    return (messages > CHANGES_PENDING_MIN ? messages : CHANGES_PENDING_MIN) +
           self->acceptor.announced_bytes;
}

static void check_pending(struct esi_gateway_link *self)
{
    if (esi_outbound_pending_bytes(&self->outbound) > pending_max(self)) {
        close_slow(self, "Slow Consumer (Pending Bytes)");
    }
}

static void write_out(struct esi_gateway_link *self)
{
    bool has_progress = false;

    if (self->stream == NULL || self->state == LINK_STATE_HANDSHAKE) {
        return;
    }
    if (self->is_write_blocked) {
        check_pending(self);
        return;
    }
    enum es_err err = ES_OK;
    if (!esi_outbound_is_empty(&self->outbound) || esi_stream_has_buffered_output(self->stream)) {
        err = esi_outbound_write(&self->outbound, self->stream, now_ns(self), &has_progress);
    }
    if (err == ES_OK) {
        if (self->state == LINK_STATE_CLOSING) {
            end_stream(self);
        } else {
            esi_actor_timer_cancel(&self->write_timer);
        }
        return;
    }
    if (err != ES_AGAIN) {
        esi_gateway_link_close_now(self, "Write Error");
        return;
    }
    self->is_write_blocked = true;
    if (has_progress || !self->write_timer.timer.is_set) {
        esi_actor_timer_set(&self->write_timer, now_ns(self) + limits_of(self)->write_deadline_ns);
    }
    check_pending(self);
}

/* --- messages --- */

static void free_delivery(struct esi_msg *msg)
{
    struct esi_worker *worker = esi_worker_current();
    struct esi_local *local = worker != NULL ? esi_worker_local(worker) : NULL;

    esi_delivery_free((struct esi_delivery *)(void *)msg, 0, local != NULL ? &local->pools : NULL);
}

static void deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct esi_gateway_link *self = ESI_CONTAINER_OF(target, struct esi_gateway_link, target);

    delivery->msg.kind = LINK_DELIVER;
    delivery->msg.free = free_delivery;
    esi_actor_send(&self->actor, &delivery->msg);
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

/* --- parsing --- */

static void on_ping(struct esi_gateway_link *self)
{
    /* A dialler says nothing before its CONNECT. */
    if (self->state == LINK_STATE_OPEN) {
        esi_gateway_link_answer(self, ESI_CLIENT_PONG);
    }
}

static void on_pong(struct esi_gateway_link *self)
{
    if (self->pings_out > 0) {
        const uint64_t rtt_ns = esi_env_now_ns(self->context->env) - self->ping_sent_ns;
        const uint64_t rtt_us = rtt_ns / 1000 + 1;
        self->rtt_ns = rtt_ns;
        /* order: relaxed; an order among links that may be a little old. */
        atomic_store_explicit(&self->target.rtt_us,
                              rtt_us > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt_us,
                              memory_order_relaxed);
    }
    self->pings_out = 0;
}

static void on_peer_error(struct esi_gateway_link *self, struct esi_str text)
{
    esi_log(LOG_GATEWAY_PEER_ERROR, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("error", text));
    esi_gateway_link_close(self, ESI_STR(""), "Parse Error");
}

static void on_fault(struct esi_gateway_link *self, const struct esi_gateway_item *item)
{
    esi_log(LOG_GATEWAY_FAULT, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("fault", item->reason));
    switch (item->fault) {
    case FAULT_UNKNOWN_OPERATION:
        esi_gateway_link_close_err(self, CLIENT_ERR_UNKNOWN_OPERATION, "Protocol Violation");
        break;
    case FAULT_SILENT:
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        break;
    case FAULT_MAX_PAYLOAD:
        esi_gateway_link_close_err(self, CLIENT_ERR_MAX_PAYLOAD,
                                   "Maximum Message Payload Exceeded");
        break;
    case FAULT_CONTROL_LINE:
        esi_gateway_link_close_err(self, CLIENT_ERR_MAX_CONTROL_LINE,
                                   "Maximum Control Line Exceeded");
        break;
    case FAULT_AUTHORIZATION:
        esi_gateway_link_close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
        break;
    case FAULT_NONE:
        break;
    }
}

static void dispatch(struct esi_gateway_link *self, enum esi_gateway_op op,
                     const struct esi_gateway_item *item)
{
    switch (op) {
    case GATEWAY_MSG:
        esi_gateway_acceptor_on_message(self, item);
        break;
    case GATEWAY_SUB:
    case GATEWAY_UNSUB:
    case GATEWAY_ACCOUNT_SUB:
    case GATEWAY_ACCOUNT_UNSUB:
        esi_gateway_dialler_on_interest(self, op, item);
        break;
    case GATEWAY_INFO:
        if (self->is_outbound) {
            esi_gateway_dialler_on_info(self, item->text);
        } else {
            esi_gateway_acceptor_on_info(self, item->text);
        }
        break;
    case GATEWAY_CONNECT:
        esi_gateway_acceptor_on_connect(self, item->text);
        break;
    case GATEWAY_PING:
        on_ping(self);
        break;
    case GATEWAY_PONG:
        on_pong(self);
        break;
    case GATEWAY_OK:
        break;
    case GATEWAY_ERR:
        on_peer_error(self, item->text);
        break;
    case GATEWAY_FAULT:
        on_fault(self, item);
        break;
    case GATEWAY_MORE:
        break;
    }
}

static bool is_waiting(const struct esi_gateway_link *self)
{
    /* What stands behind an INFO is answered when our interest has been told: so a PONG says that
     * it has. */
    const bool is_announcing = self->acceptor.is_listening && !self->acceptor.is_announced;

    return self->ops.routes_pending > 0 || self->acceptor.is_checking || is_announcing ||
           (self->state != LINK_STATE_OPENING && self->state != LINK_STATE_OPEN);
}

/* Interest lines join what is collected; everything else waits until that is in force. */
static bool must_wait(struct esi_gateway_link *self, enum esi_gateway_op op)
{
    if (op != GATEWAY_SUB && op != GATEWAY_UNSUB && esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    return is_waiting(self);
}

/* Parses what can be parsed now. Returns the number of bytes that are done with; *needed as the
 * parser has it. */
static size_t parse(struct esi_gateway_link *self, const struct esi_reader_piece *piece,
                    size_t *needed)
{
    struct esi_gateway_item item;
    size_t at = 0;

    *needed = 0;
    self->is_stalled = true;
    self->is_parsing = true;
    esi_batch_begin(self->local->batch, SOURCE_GATEWAY, NULL, true, piece->block, now_ns(self));
    self->dialler.interest.work = 0;
    while (!is_waiting(self)) {
        size_t consumed = 0;
        if (self->dialler.interest.work > WORK_MAX) {
            esi_actor_continue(&self->actor); /* others first */
            break;
        }
        const enum esi_gateway_op op = esi_gateway_parser_next(&self->parser, piece->data + at,
                                                               piece->len - at, &consumed, &item);
        if (op == GATEWAY_MORE) {
            at += consumed;
            *needed = item.needed;
            self->is_stalled = false;
            break;
        }
        if (op != GATEWAY_MSG && must_wait(self, op)) {
            /* Parsed again when it is its turn: after an item the parser remembers nothing. */
            break;
        }
        at += consumed;
        dispatch(self, op, &item);
    }
    take_own_messages(self);
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    self->is_parsing = false;
    return is_link_ending(self) ? piece->len : at;
}

/* --- reading --- */

static void log_tls_failure(const struct esi_gateway_link *self)
{
    esi_log(LOG_GATEWAY_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("direction", self->is_outbound ? "outbound" : "inbound"),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", esi_stream_failure(self->stream)));
}

static void on_read_error(struct esi_gateway_link *self, enum es_err err)
{
    if (err == ES_CLOSED) {
        /* A half-close counts as a close, but what waits is written first. */
        esi_gateway_link_close(self, ESI_STR(""), "Remote Closed");
    } else if (err == ES_TLS) {
        /* With TLS 1.3 a peer refuses our certificate when the handshake is done for us. */
        log_tls_failure(self);
        esi_gateway_link_close_now(self, "TLS Failure");
    } else {
        esi_gateway_link_close_now(self, err == ES_NO_MEMORY ? "Out Of Memory" : "Read Error");
    }
}

static void process(struct esi_gateway_link *self, bool may_read)
{
    struct esi_reader_piece piece;
    size_t needed = 0;

    if (is_waiting(self) || self->is_paused) {
        return;
    }
    const enum es_err err =
        esi_reader_next(&self->reader, self->local, self->stream, may_read, &piece);
    if (err == ES_OK) {
        if (piece.read_len > 0) {
            self->activity_ns = now_ns(self);
        }
        const size_t done = parse(self, &piece, &needed);
        if (esi_reader_keep(&self->reader, self->local, &piece, done, needed) != ES_OK) {
            esi_gateway_link_close_now(self, "Out Of Memory");
        }
    } else {
        self->is_stalled = false;
        if (err != ES_AGAIN) {
            on_read_error(self, err);
        }
    }
    self->needs_read = self->stream != NULL && esi_stream_has_buffered_input(self->stream);
}

/* After the last line: what the peer still sends is read and dropped, within bounds. */
static void linger(struct esi_gateway_link *self)
{
    size_t room_len = 0;
    size_t count = 0;
    char *room = esi_context_read_room(self->local, ESI_READ_ROOM_MIN, &room_len);
    const enum es_err err =
        room == NULL ? ES_NO_MEMORY : esi_stream_read(self->stream, room, room_len, &count);
    const bool has_failed = err != ES_OK && err != ES_AGAIN;

    self->lingered_bytes += count;
    if (!has_failed && self->lingered_bytes <= LINGER_BYTES_MAX) {
        return;
    }
    if (self->is_write_shut || (has_failed && err != ES_CLOSED)) {
        esi_gateway_link_close_now(self, self->close_reason);
    } else {
        /* Nothing more is read; what waits is still written. */
        self->lingered_bytes = LINGER_BYTES_MAX;
    }
}

/* --- beginning --- */

static void start_opening(struct esi_gateway_link *self)
{
    self->state = LINK_STATE_OPENING;
    if (self->is_outbound) {
        const uint64_t interval_ns = limits_of(self)->ping_interval_ns < PING_INTERVAL_NS_MAX
                                         ? limits_of(self)->ping_interval_ns
                                         : PING_INTERVAL_NS_MAX;
        esi_actor_timer_set(&self->open_timer,
                            now_ns(self) + (limits_of(self)->ping_max + 1) * interval_ns);
    } else {
        /* From the accept on. */
        const uint64_t timeout_ns = esi_stream_is_tls(self->stream)
                                        ? self->context->config->gateway.tls.timeout_ns + NS_PER_S
                                        : AUTH_NS;
        esi_actor_timer_set(&self->open_timer, self->start_ns + timeout_ns);
        esi_gateway_link_push_info(self);
    }
}

static void shake_hands(struct esi_gateway_link *self)
{
    const enum es_err err = esi_stream_handshake(self->stream);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        log_tls_failure(self);
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
    esi_actor_timer_set(&self->open_timer, now_ns(self) + tls_timeout_ns(self));
    shake_hands(self);
}

static void start_dialling(struct esi_gateway_link *self)
{
    self->state = LINK_STATE_CONNECTING;
    esi_actor_timer_set(&self->open_timer, now_ns(self) + DIAL_NS);
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
    esi_outbound_init(&self->outbound, &self->target, &self->local->pools);
    self->start_ns = now_ns(self);
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
    return limits_of(self)->ping_interval_ns < max_ns ? limits_of(self)->ping_interval_ns : max_ns;
}

void esi_gateway_link_set_first_ping(struct esi_gateway_link *self)
{
    const uint64_t first_ns = ping_interval_ns(self, FIRST_PING_NS);
    uint32_t random = 0;

    esi_actor_timer_cancel(&self->open_timer);
    esi_env_random(self->context->env, &random, sizeof random);
    /* Up to a fifth later, so that links that were made together are not pinged together. */
    esi_actor_timer_set(&self->ping_timer,
                        now_ns(self) + first_ns + first_ns / 5000 * (random % 1000));
}

void esi_gateway_link_set_open_timer(struct esi_gateway_link *self, uint64_t delay_ns)
{
    esi_actor_timer_set(&self->open_timer, now_ns(self) + delay_ns);
}

static void on_ping_timer(struct esi_gateway_link *self)
{
    if (self->state != LINK_STATE_OPEN) {
        return;
    }
    if (self->pings_out + 1 > limits_of(self)->ping_max) {
        esi_gateway_link_close_err(self, CLIENT_ERR_STALE_CONNECTION, "Stale Connection");
        return;
    }
    self->pings_out++;
    self->ping_sent_ns = now_ns(self);
    esi_gateway_link_push(self, ESI_CLIENT_PING);
    esi_actor_timer_set(&self->ping_timer,
                        now_ns(self) + ping_interval_ns(self, PING_INTERVAL_NS_MAX));
}

static void on_write_timer(struct esi_gateway_link *self)
{
    if (self->state == LINK_STATE_CLOSING) {
        esi_gateway_link_close_now(self, self->close_reason);
    } else if (!esi_outbound_is_empty(&self->outbound) ||
               esi_stream_has_buffered_output(self->stream)) {
        close_slow(self, "Slow Consumer (Write Deadline)");
    }
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
        on_write_timer(self);
    } else if (fired == &self->open_timer.timer) {
        on_open_timer(self);
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
        if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
            process(self, true);
        }
        break;
    case LINK_STATE_CLOSING:
        linger(self);
        break;
    case LINK_STATE_CLOSED:
        break;
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
        events |= !is_waiting(self) && !self->is_paused ? POLL_READ : 0U;
        break;
    case LINK_STATE_CLOSING:
        events = self->lingered_bytes >= LINGER_BYTES_MAX && !self->is_write_shut ? 0U : POLL_READ;
        break;
    case LINK_STATE_CLOSED:
        return;
    }
    if (self->is_write_blocked) {
        events |= POLL_WRITE;
    }
    esi_actor_io_change(&self->io, events);
}

static void add_to(_Atomic uint64_t *counter, uint64_t value)
{
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

/* While it lives a link counts for itself: no shared write a message. */
static void leave_traffic(const struct esi_gateway_link *self)
{
    struct esi_counters *counters = &self->context->counters;

    add_to(&counters->in_msgs, self->in_msgs);
    add_to(&counters->in_bytes, self->in_bytes);
    add_to(&counters->out_msgs, self->out_msgs);
    add_to(&counters->out_bytes, self->out_bytes);
}

static void finish_if_done(struct esi_gateway_link *self)
{
    if (self->actor.is_finished || !esi_route_ops_is_idle(&self->ops) ||
        !esi_gateway_dialler_is_forgotten(self) || self->actor.mailbox.head != NULL) {
        return;
    }
    esi_actor_timer_cancel(&self->open_timer);
    esi_actor_timer_cancel(&self->ping_timer);
    esi_actor_timer_cancel(&self->write_timer);
    esi_actor_timer_cancel(&self->pause_timer);
    esi_reader_deinit(&self->reader, self->local);
    leave_traffic(self);
    esi_targets_remove(self->context->targets, &self->target);
    if (!self->is_outbound) {
        esi_gateway_leave(self->gateway);
    }
    esi_actor_finish(&self->actor);
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_gateway_link *self = self_of(actor);

    if (!is_waiting(self) && (self->needs_read || self->is_stalled)) {
        process(self, self->needs_read);
        if (self->needs_read && !self->is_paused && !is_waiting(self)) {
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
    write_out(self);
    watch(self);
    if (self->state == LINK_STATE_CLOSED && is_withdrawn) {
        finish_if_done(self);
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
    self->target.deliver = deliver;
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
    err = esi_gateway_admit(context->gateway) ? new_link(context, home, peer, &self) : ES_FULL;
    if (err != ES_OK) {
        if (err != ES_FULL) {
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

void esi_gateway_link_each_sub(const struct esi_actor *actor,
                               bool (*each)(void *argument, const struct esi_sub *sub),
                               void *argument)
{
    const struct esi_gateway_link *self =
        ESI_CONTAINER_OF(actor, const struct esi_gateway_link, actor);

    esi_gateway_interest_each(&self->dialler.interest, each, argument);
}
