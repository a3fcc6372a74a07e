/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue's way out, from the journal to the handlers. A handler says how many jobs it wants to
 * have at once (its window, 0 while its worker is away); the queue takes so many from the journal
 * and sends them; each comes back with its outcome, which the journal is told.
 *
 * Invariant: an entry of the journal is in flight if and only if a job for it is with its handler
 * or on its way.
 */
#include "actors/context.h"
#include "actors/handler.h"
#include "actors/queue_internal.h"
#include "base/assert.h"
#include "base/log.h"

#include <string.h>

enum { DISPATCHED_A_TURN = 1024 };

static const uint64_t MEMORY_DELAY_NS = 1000000000;

static uint64_t now_ns(const struct esi_queue *queue)
{
    return esi_actor_now_ns(&queue->actor);
}

static bool may_dispatch(const struct esi_queue *queue, const struct esi_queue_handler *handler)
{
    return queue->is_dispatching && (!queue->is_stopping || queue->is_draining) &&
           handler->outstanding < handler->window;
}

/* Sends a handler what it may have. Returns how many jobs that were. */
static uint32_t dispatch_to(struct esi_queue *queue, uint32_t index, uint32_t bound)
{
    struct esi_queue_handler *handler = &queue->handlers[index];
    struct esi_journal_delivery delivery;
    uint32_t count = 0;

    while (count < bound && may_dispatch(queue, handler) &&
           esi_journal_take(queue->journal, index, now_ns(queue), &delivery) == ES_OK) {
        struct esi_handler_job *job = esi_handler_job_new(handler->handler, delivery.event);
        if (job == NULL) {
            const enum es_err err =
                esi_journal_give_back(queue->journal, index, delivery.seq, now_ns(queue));
            ESI_ASSERT(err == ES_OK);
            queue->is_out_of_memory = true;
            break; /* the timer comes back to it: what was given back is due */
        }
        job->seq = delivery.seq;
        job->attempt = delivery.attempt;
        job->counted = delivery.counted;
        job->losses = delivery.losses;
        job->accepted_ns = delivery.accepted_ns;
        handler->outstanding++;
        queue->outstanding++;
        count++;
        esi_handler_send(handler->handler, job);
    }
    return count;
}

void esi_queue_dispatch_work(struct esi_queue *queue)
{
    const uint64_t needs = queue->needs_dispatch;
    /* Each its part: one with a fast worker and a large window leaves the others theirs. */
    const uint32_t bound =
        DISPATCHED_A_TURN / (uint32_t)(needs != 0 ? __builtin_popcountll(needs) : 1);

    for (uint64_t rest = needs; rest != 0; rest &= rest - 1) {
        const uint32_t index = (uint32_t)__builtin_ctzll(rest);
        if (dispatch_to(queue, index, bound) < bound) {
            queue->needs_dispatch &= ~((uint64_t)1 << index);
        }
    }
    if (queue->needs_dispatch != 0) {
        esi_actor_continue(&queue->actor);
    }
}

void esi_queue_dispatch_set_timer(struct esi_queue *queue)
{
    uint64_t due_ns = UINT64_MAX;

    for (uint32_t i = 0; i < queue->handler_count; i++) {
        if (may_dispatch(queue, &queue->handlers[i])) {
            const uint64_t next_ns = esi_journal_next_due_ns(queue->journal, i);
            due_ns = next_ns < due_ns ? next_ns : due_ns;
        }
    }
    if (due_ns == UINT64_MAX) {
        esi_actor_timer_cancel(&queue->retry_timer);
        return;
    }
    if (queue->is_out_of_memory) {
        queue->is_out_of_memory = false;
        due_ns = now_ns(queue) + MEMORY_DELAY_NS;
    }
    esi_actor_timer_set(&queue->retry_timer, due_ns);
}

static void log_dead(const struct esi_handler_job *job, const struct esi_queue_handler *handler,
                     struct esi_str note)
{
    esi_log(LOG_EVENT_DEAD, ESI_LOG_STR("id", job->event->id),
            ESI_LOG_STR("type", job->event->type), ESI_LOG_TEXT("handler", handler->registry->name),
            ESI_LOG_U64("attempts", job->attempt), ESI_LOG_STR("reason", note));
}

/* The worker will not get this event. */
static enum es_err give_up(struct esi_queue *queue, struct esi_handler_job *job,
                           const struct esi_queue_handler *handler, struct esi_str note)
{
    struct esi_event *event = NULL;

    /* Kept there before it is let go here. */
    const enum es_err err = esi_queue_bury(queue, job->event, esi_str_from(handler->registry->name),
                                           note, job->attempt, job->accepted_ns);
    if (err != ES_OK) {
        return esi_journal_retry(queue->journal, job->handler_index, job->seq, now_ns(queue),
                                 now_ns(queue) + MEMORY_DELAY_NS, RETRY_BLAME_WORKER, note);
    }
    log_dead(job, handler, note);
    const enum es_err buried =
        esi_journal_bury(queue->journal, job->handler_index, job->seq, now_ns(queue), note, &event);
    esi_event_unref(event);
    return buried;
}

static void note_failure(struct esi_queue *queue, struct esi_queue_handler *handler,
                         struct esi_str note)
{
    const size_t len = note.len < ESI_HANDLER_NOTE_MAX ? note.len : (size_t)ESI_HANDLER_NOTE_MAX;

    if (len > 0) {
        memcpy(handler->error, note.data, len);
        handler->error[len] = '\0';
        handler->error_wall_ns = esi_env_wall_ns(queue->context->env);
    }
}

void esi_queue_dispatch_job_done(struct esi_queue *queue, struct esi_handler_job *job)
{
    struct esi_queue_handler *handler = &queue->handlers[job->handler_index];
    const struct esi_str note = {.data = job->note, .len = job->note_len};
    enum es_err err = ES_OK;

    ESI_ASSERT(handler->outstanding > 0 && queue->outstanding > 0);
    handler->outstanding--;
    queue->outstanding--;
    handler->window = job->window;
    queue->needs_dispatch |= (uint64_t)1 << job->handler_index;
    switch (job->outcome) {
    case HANDLER_GIVEN_BACK:
        err = esi_journal_give_back(queue->journal, job->handler_index, job->seq, now_ns(queue));
        break;
    case HANDLER_DELIVERED:
        err =
            esi_journal_deliver(queue->journal, job->handler_index, job->seq, now_ns(queue), note);
        queue->has_freed_room = true;
        break;
    case HANDLER_RETRY:
        handler->failed++;
        note_failure(queue, handler, note);
        err = esi_journal_retry(queue->journal, job->handler_index, job->seq, now_ns(queue),
                                now_ns(queue) + job->delay_ns, job->blame, note);
        break;
    case HANDLER_DEAD:
        handler->failed++;
        note_failure(queue, handler, note);
        err = give_up(queue, job, handler, note);
        queue->has_freed_room = true;
        break;
    }
    /* It was in flight: see the invariant. */
    ESI_ASSERT(err == ES_OK);
}

void esi_queue_dispatch_handler_status(struct esi_queue *queue,
                                       const struct esi_handler_status *status)
{
    struct esi_queue_handler *handler = &queue->handlers[status->handler_index];

    note_failure(queue, handler, (struct esi_str){.data = status->note, .len = status->note_len});
    if (status->state == HANDLER_UP && handler->state != HANDLER_UP) {
        handler->connects++;
        /* What failed with the worker that was away need not wait any longer. */
        esi_journal_wake(queue->journal, status->handler_index, now_ns(queue));
    }
    handler->state = status->state;
    handler->window = status->window;
    queue->needs_dispatch |= (uint64_t)1 << status->handler_index;
}
