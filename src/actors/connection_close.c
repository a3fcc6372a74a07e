/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client connection's end: at once, or after its last line; and its last turn. */
#include "actors/connection_internal.h"
#include "actors/listener.h"
#include "actors/monitor.h"
#include "actors/monitor_closed.h"
#include "base/log.h"
#include "net/stream.h"

static const uint64_t LINGER_NS = 1000000000;

/* Who takes what still waits for it gets this many times write_deadline, and no more. */
enum { CLOSE_DEADLINES = 4 };

/* Monitoring shows for a while how it ended. */
static void tell_monitor(const struct esi_connection *self, const struct esi_monitor_slow *slow)
{
    struct esi_connection_info info;

    if (self->context->monitor != NULL) {
        esi_connection_info(&self->actor, &info);
        esi_monitor_tell_closed(self->context->monitor, &info, self->close_reason, slow);
    }
}

static void close_as(struct esi_connection *self, const char *reason,
                     const struct esi_monitor_slow *slow)
{
    if (self->state == STATE_CLOSED) {
        return;
    }
    self->state = STATE_CLOSED;
    if (self->close_reason == NULL) {
        self->close_reason = reason;
    }
    /* order: relaxed; a hint for senders that choose among members of a group. */
    atomic_store_explicit(&self->target.is_gone, true, memory_order_relaxed);
    tell_monitor(self, slow);
    esi_actor_io_unwatch(&self->io);
    esi_listener_release(ESI_MOVE(self->ticket));
    esi_outbound_deinit(&self->outbound);
    esi_stream_free(ESI_MOVE(self->stream));
    esi_log(LOG_CLIENT_CLOSED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", self->close_reason));
    esi_actor_continue(&self->actor);
}

void esi_connection_close_now(struct esi_connection *self, const char *reason)
{
    close_as(self, reason, NULL);
}

void esi_connection_close_with(struct esi_connection *self, struct esi_str text, const char *reason)
{
    if (is_connection_ending(self)) {
        return;
    }
    if (self->is_parsing) {
        esi_connection_output_take_own(self);
        if (is_connection_ending(self)) {
            return;
        }
    }
    self->close_reason = reason;
    if (self->state == STATE_HANDSHAKE) {
        esi_connection_close_now(self, reason);
        return;
    }
    if (text.len > 0) {
        esi_connection_output_push(self, text);
    }
    if (self->state == STATE_CLOSED) {
        return;
    }
    self->state = STATE_CLOSING;
    self->close_deadline_ns =
        connection_now_ns(self) + CLOSE_DEADLINES * self->context->config->limits.write_deadline_ns;
    /* order: relaxed; a hint for senders that choose among members of a group. */
    atomic_store_explicit(&self->target.is_gone, true, memory_order_relaxed);
    esi_actor_timer_set(&self->write_timer,
                        connection_now_ns(self) + self->context->config->limits.write_deadline_ns);
    esi_actor_continue(&self->actor);
}

void esi_connection_close_err(struct esi_connection *self, enum esi_client_err err,
                              const char *reason)
{
    esi_connection_close_with(self, esi_client_writer_err(err), reason);
}

static struct esi_monitor_slow describe_slow(const struct esi_connection *self)
{
    const uint64_t now_ns = connection_now_ns(self);
    /* order: relaxed; our own value. */
    const uint64_t progress_ns =
        atomic_load_explicit(&self->target.progress_ns, memory_order_relaxed);
    const uint64_t since_ns = progress_ns > self->start_ns ? progress_ns : self->start_ns;

    return (struct esi_monitor_slow){.subject = esi_outbound_subject(&self->outbound),
                                     .stalled_ns = now_ns > since_ns ? now_ns - since_ns : 0};
}

void esi_connection_close_note_slow(struct esi_connection *self, const char *reason)
{
    const struct esi_monitor_slow slow = describe_slow(self);

    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.slow_consumers, 1, memory_order_relaxed);
    esi_log(LOG_SLOW_CONSUMER, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_U64("pending_bytes", esi_outbound_pending_bytes(&self->outbound)),
            ESI_LOG_STR("subject", slow.subject),
            ESI_LOG_U64("stalled_ms", slow.stalled_ns / 1000000), ESI_LOG_TEXT("reason", reason));
}

void esi_connection_close_slow(struct esi_connection *self, const char *reason)
{
    const struct esi_monitor_slow slow = describe_slow(self);

    esi_connection_close_note_slow(self, reason);
    close_as(self, reason, &slow);
}

void esi_connection_close_end_stream(struct esi_connection *self)
{
    if (self->has_peer_ended && !esi_stream_is_tls(self->stream)) {
        /* Nothing unread is left that the kernel would answer with a reset. */
        esi_connection_close_now(self, self->close_reason);
    } else if (!self->is_write_shut) {
        self->is_write_shut = true;
        esi_stream_shutdown_write(self->stream);
        /* The peer's unread bytes would make the kernel answer with a reset, and our last line
         * could be lost. */
        esi_actor_timer_set(&self->write_timer, connection_now_ns(self) + LINGER_NS);
    }
}

void esi_connection_close_linger(struct esi_connection *self)
{
    size_t room_len = 0;
    size_t count = 0;
    char *room = esi_context_read_room(self->local, ESI_READ_ROOM_MIN, &room_len);
    const enum es_err err =
        room == NULL ? ES_NO_MEMORY : esi_stream_read(self->stream, room, room_len, &count);

    self->lingered_bytes += count;
    self->has_peer_ended |= err == ES_CLOSED;
    if ((err != ES_OK && err != ES_AGAIN) || self->lingered_bytes > LINGER_BYTES_MAX) {
        if (self->is_write_shut) {
            esi_connection_close_now(self, self->close_reason);
        } else if (err != ES_OK && err != ES_AGAIN && err != ES_CLOSED) {
            esi_connection_close_now(self, self->close_reason);
        } else {
            self->lingered_bytes = LINGER_BYTES_MAX;
        }
    }
}

static void add_to(_Atomic uint64_t *counter, uint64_t value)
{
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

void esi_connection_close_finish(struct esi_connection *self)
{
    struct esi_counters *counters = &self->context->counters;

    if (self->actor.is_finished || self->ops.routes_pending > 0 || self->ops.detaches_pending > 0 ||
        self->actor.mailbox.head != NULL || !esi_connection_subs_are_withdrawn(self)) {
        return;
    }
    esi_connection_pressure_let_go(self);
    esi_ledger_give(self->local->lease, MEMORY_CONNECTIONS, self->own_bytes);
    esi_ledger_give(self->local->lease, MEMORY_TLS, self->tls_bytes);
    esi_actor_timer_cancel(&self->auth_timer);
    esi_actor_timer_cancel(&self->ping_timer);
    esi_actor_timer_cancel(&self->write_timer);
    esi_actor_timer_cancel(&self->pause_timer);
    esi_actor_timer_cancel(&self->tick_timer);
    esi_actor_timer_cancel(&self->expiry_timer);
    esi_reader_deinit(&self->reader, self->local);
    add_to(&counters->ended_clients.in_msgs, self->in_msgs);
    add_to(&counters->ended_clients.in_bytes, self->in_bytes);
    add_to(&counters->ended_clients.out_msgs, self->out_msgs);
    add_to(&counters->ended_clients.out_bytes, self->out_bytes);
    add_to(&counters->dropped_msgs, self->dropped_msgs);
    if (!self->is_refused) {
        /* order: relaxed; a counter with a bound. */
        atomic_fetch_sub_explicit(&counters->connections, 1, memory_order_relaxed);
    }
    if (self->is_listener) {
        /* order: relaxed; a counter with a bound. */
        atomic_fetch_sub_explicit(&counters->listeners, 1, memory_order_relaxed);
    }
    esi_targets_remove(self->context->targets, &self->target);
    esi_actor_finish(&self->actor);
}
