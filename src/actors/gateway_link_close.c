/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a gateway link: in order (what was queued goes out, then a last line, then the end of
 * the stream; what the peer still sends is read and dropped within bounds) or at once. The gateway
 * is told once, on the way out; the actor finishes when nobody can find it any more.
 */
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "actors/listener.h"
#include "base/log.h"
#include "base/own.h"
#include "net/stream.h"

#include <stdatomic.h>

enum {
    LINGER_BYTES_MAX = 1024 * 1024,
    /* Who takes what still waits for it gets this many times write_deadline, and no more. */
    CLOSE_DEADLINES = 4
};

static const uint64_t LINGER_NS = 1000000000;

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
    esi_gateway_link_output_end_losses(self);
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

/* --- in order, or at once --- */

void esi_gateway_link_close_now(struct esi_gateway_link *self, const char *reason)
{
    if (self->state == LINK_STATE_CLOSED) {
        return;
    }
    tell_ended(self, reason);
    self->state = LINK_STATE_CLOSED;
    esi_gateway_dialler_forget_secret(self);
    esi_listener_release(ESI_MOVE(self->ticket));
    esi_actor_io_unwatch(&self->io);
    esi_outbound_deinit(&self->outbound);
    esi_stream_free(ESI_MOVE(self->stream));
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    esi_actor_continue(&self->actor);
}

void esi_gateway_link_close(struct esi_gateway_link *self, struct esi_str text, const char *reason)
{
    if (is_link_ending(self)) {
        return;
    }
    if (self->is_parsing) {
        esi_gateway_link_output_take(self);
    }
    if (self->state == LINK_STATE_CONNECTING || self->state == LINK_STATE_HANDSHAKE) {
        esi_gateway_link_close_now(self, reason);
        return;
    }
    esi_gateway_link_output_push(self, text);
    if (is_link_ending(self)) {
        return;
    }
    tell_ended(self, reason);
    self->state = LINK_STATE_CLOSING;
    self->close_deadline_ns =
        link_now_ns(self) + CLOSE_DEADLINES * link_limits(self)->write_deadline_ns;
    esi_actor_timer_set(&self->write_timer,
                        link_now_ns(self) + link_limits(self)->write_deadline_ns);
    esi_actor_continue(&self->actor);
}

void esi_gateway_link_close_err(struct esi_gateway_link *self, enum esi_client_err err,
                                const char *reason)
{
    esi_gateway_link_close(self, esi_client_writer_err(err), reason);
}

void esi_gateway_link_close_end_stream(struct esi_gateway_link *self)
{
    if (!self->is_write_shut) {
        self->is_write_shut = true;
        esi_stream_shutdown_write(self->stream);
        /* The peer's unread bytes would make the kernel answer with a reset, and our last line
         * could be lost. */
        esi_actor_timer_set(&self->write_timer, link_now_ns(self) + LINGER_NS);
    }
}

void esi_gateway_link_close_linger(struct esi_gateway_link *self)
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

bool esi_gateway_link_close_has_lingered(const struct esi_gateway_link *self)
{
    return self->lingered_bytes >= LINGER_BYTES_MAX;
}

/* --- nothing is left --- */

static void add_to(_Atomic uint64_t *counter, uint64_t value)
{
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

/* While it lives a link counts for itself: no shared write a message. */
static void leave_traffic(const struct esi_gateway_link *self)
{
    struct esi_counters *counters = &self->context->counters;

    add_to(&counters->ended_links.in_msgs, self->in_msgs);
    add_to(&counters->ended_links.in_bytes, self->in_bytes);
    add_to(&counters->ended_links.out_msgs, self->out_msgs);
    add_to(&counters->ended_links.out_bytes, self->out_bytes);
}

void esi_gateway_link_close_finish(struct esi_gateway_link *self)
{
    if (self->actor.is_finished || !esi_route_ops_is_idle(&self->ops) ||
        !esi_gateway_dialler_is_forgotten(self) || self->actor.mailbox.head != NULL) {
        return;
    }
    esi_actor_timer_cancel(&self->open_timer);
    esi_actor_timer_cancel(&self->ping_timer);
    esi_actor_timer_cancel(&self->write_timer);
    esi_actor_timer_cancel(&self->pause_timer);
    esi_actor_timer_cancel(&self->tick_timer);
    esi_actor_timer_cancel(&self->loss_timer);
    esi_reader_deinit(&self->reader, self->local);
    leave_traffic(self);
    esi_ledger_give(self->local->lease, MEMORY_LINKS, self->own_bytes);
    esi_ledger_give(self->local->lease, MEMORY_INTEREST, self->interest_bytes);
    esi_targets_remove(self->context->targets, &self->target);
    if (!self->is_outbound) {
        esi_gateway_leave(self->gateway);
    }
    esi_actor_finish(&self->actor);
}
