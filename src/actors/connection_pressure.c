/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client connection does when memory is short, and when a target holds its publishers back.
 *
 * As publisher: while the memory for messages on their way is short it is not read, and neither
 * while a target that blocks (limits.slow_consumer: block) has more than max_pending waiting. Such
 * a target is looked at again and again, by a reference; it is closed when it takes nothing for
 * write_deadline, so nobody waits for ever.
 *
 * As peer: a tick runs while something waits to be written, or a message has come in part. When
 * memory is short then, whoever would need longer than write_deadline at the pace of the last tick
 * is closed, so that shortage ends: those without any progress are always among them.
 */
#include "actors/connection_internal.h"
#include "base/log.h"
#include "net/stream.h"

/* Doubled with each pause that follows another one, so that thousands who wait cost little. */
static const uint64_t PAUSE_NS = 5000000;
enum { PAUSE_DOUBLINGS_MAX = 3 };

static const uint64_t TICK_NS = 250000000;

static void pause(struct esi_connection *self)
{
    self->is_paused = true;
    esi_actor_timer_set(&self->pause_timer,
                        connection_now_ns(self) + (PAUSE_NS << self->pause_doublings));
    self->pause_doublings += self->pause_doublings < PAUSE_DOUBLINGS_MAX;
}

void esi_connection_pressure_pause(struct esi_connection *self)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.memory_pauses, 1, memory_order_relaxed);
    /* Blocks that nobody uses are no reason to wait. */
    esi_pool_trim(&self->local->pools.blocks);
    esi_pool_trim(&self->local->pools.deliveries);
    esi_sub_pool_trim(&self->local->subs);
    pause(self);
}

void esi_connection_pressure_hold(struct esi_connection *self, struct esi_target *target)
{
    if (self->blocker == NULL) {
        target->ref(target);
        self->blocker = target;
        pause(self);
    }
}

void esi_connection_pressure_let_go(struct esi_connection *self)
{
    if (self->blocker != NULL) {
        self->blocker->unref(self->blocker);
        self->blocker = NULL;
    }
}

void esi_connection_pressure_on_pause_timer(struct esi_connection *self)
{
    const struct esi_target *target = self->blocker;

    /* Half of it: a publisher that goes on for each message that is taken would only be woken more
     * often. */
    if (target != NULL &&
        /* order: relaxed; both are looked at again later. */
        !atomic_load_explicit(&target->is_gone, memory_order_relaxed) &&
        atomic_load_explicit(&target->pending_bytes, memory_order_relaxed) >
            self->context->config->limits.max_pending_bytes / 2) {
        pause(self);
        return;
    }
    esi_connection_pressure_let_go(self);
    self->is_paused = false;
}

bool esi_connection_pressure_is_missing(struct esi_connection *self)
{
    /* order: relaxed; a count, looked at once a turn. */
    const uint64_t lost = atomic_load_explicit(&self->target.lost_msgs, memory_order_relaxed);

    if (lost == self->lost_msgs) {
        return false;
    }
    self->dropped_msgs += lost - self->lost_msgs;
    self->lost_msgs = lost;
    return true;
}

void esi_connection_pressure_watch(struct esi_connection *self)
{
    if (!self->tick_timer.timer.is_set &&
        (self->outbound.is_blocked || esi_reader_has_tail(&self->reader))) {
        esi_actor_timer_set(&self->tick_timer, connection_now_ns(self) + TICK_NS);
        /* Both begin to count anew. */
        (void)esi_outbound_is_lagging(&self->outbound, 1);
        (void)esi_reader_is_lagging(&self->reader, 1);
    }
}

static void close_for_memory(struct esi_connection *self, const char *reason)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.memory_slow_consumers, 1,
                              memory_order_relaxed);
    esi_connection_close_slow(self, reason);
}

void esi_connection_pressure_on_tick(struct esi_connection *self)
{
    const struct esi_ledger *ledger = self->context->ledger;
    const uint64_t deadline_ns = self->context->config->limits.write_deadline_ns;
    const uint32_t ticks = deadline_ns > TICK_NS ? (uint32_t)(deadline_ns / TICK_NS) : 1;
    const bool is_slow_to_take =
        esi_outbound_is_lagging(&self->outbound, ticks) && self->outbound.is_blocked;
    const bool is_slow_to_send = esi_reader_is_lagging(&self->reader, ticks) && !self->is_paused &&
                                 !self->reader.awaits_memory && !is_connection_waiting(self);

    if (is_slow_to_take && esi_ledger_is_short(ledger, MEMORY_TRANSIT)) {
        close_for_memory(self, "Slow Consumer (Memory)");
        return;
    }
    if (is_slow_to_send && esi_ledger_is_short(ledger, MEMORY_INPUT)) {
        close_for_memory(self, "Slow Publisher (Memory)");
        return;
    }
    esi_outbound_settle(&self->outbound);
}
