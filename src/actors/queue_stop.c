/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the queue stops. Events are kept in memory in this version: what is queued when the process
 * ends is lost, which the log says. So it stops in steps:
 *
 * Step     | accepts | dispatches | ends when
 * running  | yes     | yes        | the doors are closed, the peers gone, and it is told to stop
 * draining | no      | yes        | no event is open, the time is up, or the dispatching is paused
 * ending   | no      | no         | the handlers, told to stop, have given back what they had
 */
#include "actors/context.h"
#include "actors/handler.h"
#include "actors/queue_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"

static const uint64_t STOP_NS = 2500000000; /* when ending; handlers give up earlier */

static uint64_t now_ns(const struct esi_queue *queue)
{
    return esi_actor_now_ns(&queue->actor);
}

static size_t count_open(const struct esi_queue *queue)
{
    struct esi_journal_stats stats;

    esi_journal_stats(queue->journal, &stats);
    return stats.open_events;
}

/* Nothing more is given to handlers; what they have comes back. They are told by us, since the
 * runtime tells them only when we have finished. */
static void end_draining(struct esi_queue *queue)
{
    queue->is_draining = false;
    esi_actor_timer_cancel(&queue->retry_timer);
    esi_actor_timer_set(&queue->stop_timer, now_ns(queue) + STOP_NS);
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        if (queue->handlers[i].handler != NULL) {
            esi_handler_stop(queue->handlers[i].handler);
        }
    }
}

void esi_queue_stop_go_on(struct esi_queue *queue)
{
    if (queue->is_draining && (!queue->is_dispatching || count_open(queue) == 0)) {
        end_draining(queue);
    }
}

static void begin_draining(struct esi_queue *queue)
{
    const uint64_t timeout_ns = queue->context->config->queue.drain_timeout_ns;
    const size_t open_count = count_open(queue);

    if (timeout_ns == 0) {
        end_draining(queue);
        return;
    }
    queue->is_draining = true;
    esi_actor_timer_set(&queue->stop_timer, now_ns(queue) + timeout_ns);
    if (queue->is_dispatching && open_count > 0) {
        esi_log(LOG_QUEUE_DRAINING, ESI_LOG_U64("queued", open_count),
                ESI_LOG_U64("timeout_ms", timeout_ns / 1000000));
    }
}

void esi_queue_stop_begin(struct esi_queue *queue)
{
    queue->is_stopping = true;
    /* order: relaxed; a hint for senders that choose among members of a group. */
    atomic_store_explicit(&queue->target.is_gone, true, memory_order_relaxed);
    esi_queue_intake_end_holding(queue);
    const enum es_err err = esi_route_ops_remove(&queue->routes, ESI_MOVE(queue->sub));
    ESI_ASSERT(err == ES_OK); /* once, at the very end */
    esi_actor_timer_cancel(&queue->hold_timer);
    begin_draining(queue);
}

static void log_undelivered(const struct esi_queue *queue)
{
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        const struct esi_queue_handler *handler = &queue->handlers[i];
        struct esi_journal_handler_stats stats;
        esi_journal_handler_stats(queue->journal, i, &stats);
        if (stats.queued + stats.in_flight + stats.retrying > 0) {
            esi_log(LOG_QUEUE_UNDELIVERED, ESI_LOG_TEXT("handler", handler->registry->name),
                    ESI_LOG_U64("queued", stats.queued), ESI_LOG_U64("in_flight", stats.in_flight),
                    ESI_LOG_U64("retrying", stats.retrying),
                    ESI_LOG_TEXT("last_error", handler->error));
        }
    }
}

static void log_end(const struct esi_queue *queue)
{
    struct esi_journal_stats stats;
    struct esi_dead_letters_stats letters;

    esi_journal_stats(queue->journal, &stats);
    esi_dead_letters_stats(queue->letters, &letters);
    log_undelivered(queue);
    esi_log(LOG_QUEUE_STOPPED, ESI_LOG_U64("accepted", stats.accepted),
            ESI_LOG_U64("left", stats.open_events), ESI_LOG_U64("dead_letters", letters.count));
    if (stats.open_events > 0 || letters.count > 0) {
        esi_log(LOG_QUEUE_LOST, ESI_LOG_U64("queued", stats.open_events),
                ESI_LOG_U64("dead_letters", letters.count), ESI_LOG_TEXT("storage", "memory"));
    }
}

void esi_queue_stop_finish(struct esi_queue *queue)
{
    if (!queue->is_stopping || queue->is_draining || queue->actor.is_finished ||
        !esi_route_ops_is_idle(&queue->routes) || queue->actor.mailbox.head != NULL ||
        queue->intake.first != NULL || (queue->outstanding > 0 && !queue->is_patience_over)) {
        return;
    }
    esi_actor_timer_cancel(&queue->stop_timer);
    esi_targets_remove(queue->context->targets, &queue->target);
    log_end(queue);
    esi_actor_finish(&queue->actor);
}

void esi_queue_stop_expire(struct esi_queue *queue)
{
    if (queue->is_draining) {
        end_draining(queue);
    } else {
        queue->is_patience_over = true;
    }
}

void esi_queue_stop_cut(struct esi_queue *queue)
{
    if (queue->is_draining) {
        end_draining(queue);
    }
    queue->is_patience_over = true;
    esi_actor_continue(&queue->actor);
}
