/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes out on a gateway link: deliveries come in by the mailbox, lines of our own are appended
 * behind them, all of it is written with gathered writes. What the socket does not take waits,
 * bounded in bytes and in time without progress.
 */
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/stream.h"
#include "runtime/runtime.h"

enum {
    /* A link stands for many clients: this many times limits.max_pending may wait for it. */
    PENDING_FACTOR = 4,
    /* Changes of interest that may wait at least for an inbound link. */
    CHANGES_PENDING_MIN = 64 * 1024 * 1024
};

static const uint64_t PAUSE_NS = 5000000;
static const uint64_t TICK_NS = 250000000;
/* An episode of lost messages has ended when none was lost for so long. */
static const uint64_t LOSS_QUIET_NS = 2000000000;
static const uint64_t NS_PER_MS = 1000000;

/* --- deliveries --- */

void esi_gateway_link_output_deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct esi_gateway_link *self = ESI_CONTAINER_OF(target, struct esi_gateway_link, target);

    delivery->msg.kind = LINK_DELIVER;
    delivery->msg.free = esi_context_free_delivery;
    esi_actor_send(&self->actor, &delivery->msg);
}

/* --- lines of our own --- */

void esi_gateway_link_output_take(struct esi_gateway_link *self)
{
    const uint64_t pause_ns = self->is_parsing ? esi_batch_flush(self->local->batch) : 0;

    if (pause_ns > 0 && !self->is_paused) {
        self->is_paused = true;
        esi_actor_timer_set(&self->pause_timer, link_now_ns(self) + pause_ns);
    }
    esi_actor_drain(&self->actor);
}

void esi_gateway_link_output_push(struct esi_gateway_link *self, struct esi_str text)
{
    if (is_link_ending(self) || text.len == 0) {
        return;
    }
    if (esi_outbound_push_text(&self->outbound, text) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
}

void esi_gateway_link_output_push_info(struct esi_gateway_link *self)
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
    esi_gateway_link_output_push(self, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

void esi_gateway_link_output_answer(struct esi_gateway_link *self, struct esi_str text)
{
    esi_gateway_link_output_take(self);
    esi_gateway_link_output_push(self, text);
}

/* --- writing --- */

static void close_slow(struct esi_gateway_link *self, const char *reason)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.slow_consumers, 1, memory_order_relaxed);
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.slow_gateways, 1, memory_order_relaxed);
    esi_log(LOG_SLOW_CONSUMER, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_U64("pending_bytes", esi_outbound_pending_bytes(&self->outbound)),
            ESI_LOG_TEXT("reason", reason));
    esi_gateway_link_close_now(self, reason);
}

/* Interest is as much as there are subscriptions: a peer that has all of it yet to read has not
 * fallen behind. */
static uint64_t pending_max(const struct esi_gateway_link *self)
{
    const uint64_t messages = PENDING_FACTOR * link_limits(self)->max_pending_bytes;

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

void esi_gateway_link_output_write(struct esi_gateway_link *self)
{
    bool has_progress = false;

    if (self->stream == NULL || self->state == LINK_STATE_HANDSHAKE) {
        return;
    }
    if (self->is_write_blocked) {
        check_pending(self);
        return;
    }
    enum es_err err = esi_gateway_dialler_write_secret(self, &has_progress);
    if (err == ES_OK &&
        (!esi_outbound_is_empty(&self->outbound) || esi_stream_has_buffered_output(self->stream))) {
        bool has_written = false;
        err = esi_outbound_write(&self->outbound, self->stream, link_now_ns(self), &has_written);
        has_progress |= has_written;
    }
    if (err == ES_OK) {
        if (self->state == LINK_STATE_CLOSING) {
            esi_gateway_link_close_end_stream(self);
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
        uint64_t deadline_ns = link_now_ns(self) + link_limits(self)->write_deadline_ns;
        if (self->state == LINK_STATE_CLOSING && deadline_ns > self->close_deadline_ns) {
            deadline_ns = self->close_deadline_ns;
        }
        esi_actor_timer_set(&self->write_timer, deadline_ns);
    }
    check_pending(self);
}

void esi_gateway_link_output_on_timer(struct esi_gateway_link *self)
{
    if (self->state == LINK_STATE_CLOSING) {
        esi_gateway_link_close_now(self, self->close_reason);
    } else if (!esi_outbound_is_empty(&self->outbound) ||
               esi_stream_has_buffered_output(self->stream)) {
        close_slow(self, "Slow Consumer (Write Deadline)");
    }
}

/* --- messages that there was no memory for --- */

static uint64_t lost_in_episode(const struct esi_gateway_link *self)
{
    return self->losses.noticed_msgs - self->losses.before_msgs;
}

static void begin_losses(struct esi_gateway_link *self, uint64_t before_msgs)
{
    struct gateway_losses *losses = &self->losses;

    losses->is_losing = true;
    losses->begun_ns = losses->last_ns;
    losses->before_msgs = before_msgs;
    esi_actor_timer_set(&self->loss_timer, losses->last_ns + LOSS_QUIET_NS);
    esi_log(LOG_GATEWAY_LOSING, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("gateway", self->dialler.wanted), ESI_LOG_TEXT("remote", self->peer.host),
            ESI_LOG_U64("port", self->peer.port), ESI_LOG_U64("lost_msgs", lost_in_episode(self)),
            ESI_LOG_U64("pending_bytes", esi_outbound_pending_bytes(&self->outbound)));
}

void esi_gateway_link_output_note_losses(struct esi_gateway_link *self)
{
    struct gateway_losses *losses = &self->losses;
    const uint64_t before_msgs = losses->noticed_msgs;
    /* order: relaxed; a count, looked at once a turn. */
    const uint64_t lost_msgs = atomic_load_explicit(&self->target.lost_msgs, memory_order_relaxed);

    if (lost_msgs == before_msgs) {
        return;
    }
    losses->noticed_msgs = lost_msgs;
    losses->last_ns = link_now_ns(self);
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.gateway_lost_msgs, lost_msgs - before_msgs,
                              memory_order_relaxed);
    if (!losses->is_losing && !is_link_ending(self)) {
        begin_losses(self, before_msgs);
    }
}

void esi_gateway_link_output_end_losses(struct esi_gateway_link *self)
{
    struct gateway_losses *losses = &self->losses;

    esi_gateway_link_output_note_losses(self);
    if (!losses->is_losing) {
        return;
    }
    losses->is_losing = false;
    esi_log(LOG_GATEWAY_LOST, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("gateway", self->dialler.wanted), ESI_LOG_TEXT("remote", self->peer.host),
            ESI_LOG_U64("port", self->peer.port), ESI_LOG_U64("lost_msgs", lost_in_episode(self)),
            ESI_LOG_U64("duration_ms", (losses->last_ns - losses->begun_ns) / NS_PER_MS));
}

void esi_gateway_link_output_on_loss_timer(struct esi_gateway_link *self)
{
    /* First: a link that all messages are lost for has no other turns to notice them in. */
    esi_gateway_link_output_note_losses(self);
    const uint64_t end_ns = self->losses.last_ns + LOSS_QUIET_NS;
    if (link_now_ns(self) < end_ns) {
        esi_actor_timer_set(&self->loss_timer, end_ns);
    } else {
        esi_gateway_link_output_end_losses(self);
    }
}

/* --- short memory: as connection_pressure.c --- */

void esi_gateway_link_output_pause(struct esi_gateway_link *self)
{
    self->is_paused = true;
    esi_actor_timer_set(&self->pause_timer, link_now_ns(self) + PAUSE_NS);
}

void esi_gateway_link_output_watch(struct esi_gateway_link *self)
{
    if (self->outbound.is_blocked && !self->tick_timer.timer.is_set) {
        esi_actor_timer_set(&self->tick_timer, link_now_ns(self) + TICK_NS);
        (void)esi_outbound_is_lagging(&self->outbound, 1); /* counts anew */
    }
}

void esi_gateway_link_output_on_tick(struct esi_gateway_link *self)
{
    const uint64_t deadline_ns = link_limits(self)->write_deadline_ns;
    const uint32_t ticks = deadline_ns > TICK_NS ? (uint32_t)(deadline_ns / TICK_NS) : 1;
    const bool is_lagging =
        self->outbound.is_blocked && esi_outbound_is_lagging(&self->outbound, ticks);

    if (is_lagging && esi_ledger_is_short(self->context->ledger, MEMORY_TRANSIT)) {
        /* order: relaxed; a counter. */
        atomic_fetch_add_explicit(&self->context->counters.memory_slow_consumers, 1,
                                  memory_order_relaxed);
        close_slow(self, "Slow Consumer (Memory)");
        return;
    }
    esi_outbound_settle(&self->outbound);
}
