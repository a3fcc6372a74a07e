/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What monitoring sees of the queue: the overview, and the way of one event. */
#include "actors/context.h"
#include "actors/queue_internal.h"
#include "base/json_writer.h"
#include "base/timestamp.h"
#include "env/env.h"

#include <stdlib.h>
#include <string.h>

enum { REPORT_BYTES_MAX = 4 * 1024 * 1024 };

static const int64_t NS_PER_S = 1000000000;

/* --- the message --- */

struct esi_queue_report *esi_queue_report_new(struct esi_actor *asker, uint32_t answer_kind,
                                              struct esi_str id, size_t offset, size_t limit)
{
    if (id.len > ESI_QUEUE_REPORT_ID_MAX) {
        return NULL;
    }
    struct esi_queue_report *report = calloc(1, sizeof *report);
    if (report == NULL) {
        return NULL;
    }
    report->asker = asker;
    report->answer_kind = answer_kind;
    report->offset = offset;
    report->limit = limit == 0 ? (size_t)ESI_QUEUE_REPORT_LIMIT_DEFAULT : limit;
    if (report->limit > ESI_QUEUE_REPORT_LIMIT_MAX) {
        report->limit = ESI_QUEUE_REPORT_LIMIT_MAX;
    }
    if (id.len > 0) {
        memcpy(report->id, id.data, id.len);
    }
    esi_bytes_init(&report->json, REPORT_BYTES_MAX);
    esi_actor_ref(asker);
    return report;
}

void esi_queue_report_free(struct esi_queue_report *report)
{
    if (report != NULL) {
        esi_bytes_deinit(&report->json);
        esi_actor_unref(report->asker);
        free(report);
    }
}

static void free_report(struct esi_msg *msg)
{
    esi_queue_report_free((struct esi_queue_report *)(void *)msg);
}

void esi_queue_report_answer(struct esi_queue_report *report)
{
    report->msg.kind = report->answer_kind;
    report->msg.free = free_report;
    esi_actor_send(report->asker, &report->msg);
}

/* --- parts --- */

struct clock {
    uint64_t now_ns;
    int64_t wall_ns;
};

static void write_wall(struct esi_json_writer *json, const char *key, int64_t wall_ns)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_timestamp_append(&text, wall_ns / NS_PER_S, (uint32_t)(wall_ns % NS_PER_S));
    esi_json_writer_field_str(json, key, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

/* A monotonic time, past or to come, as wall-clock time. */
static void write_time(struct esi_json_writer *json, const struct clock *clock, const char *key,
                       uint64_t time_ns)
{
    write_wall(json, key, clock->wall_ns + (int64_t)(time_ns - clock->now_ns));
}

const char *esi_queue_report_origin_text(uint32_t mark)
{
    switch ((enum esi_queue_origin)mark) {
    case ORIGIN_NATS:
        return "nats";
    case ORIGIN_GATEWAY:
        return "gateway";
    case ORIGIN_GRPC:
        return "grpc";
    case ORIGIN_COUNT:
        break;
    }
    return "unknown";
}

_Static_assert(ESI_QUEUE_ORIGINS == (int)ORIGIN_COUNT, "queue.h counts them");
_Static_assert(ESI_QUEUE_REFUSALS == (int)REFUSED_COUNT, "queue.h counts them");

const char *esi_queue_report_refusal_text(uint32_t refusal)
{
    switch ((enum esi_queue_refusal)refusal) {
    case REFUSED_MALFORMED:
        return "malformed";
    case REFUSED_TOO_LARGE:
        return "too_large";
    case REFUSED_FULL:
        return "full";
    case REFUSED_STOPPING:
        return "stopping";
    case REFUSED_NO_MEMORY:
        return "no_memory";
    case REFUSED_COUNT:
        break;
    }
    return "unknown";
}

static void write_queue(struct esi_json_writer *json, const struct esi_queue *queue)
{
    const struct esi_queue_intake *intake = &queue->intake;
    struct esi_journal_stats stats;

    esi_journal_stats(queue->journal, &stats);
    esi_json_writer_key(json, "queue");
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "state",
                               queue->is_stopping      ? "stopping"
                               : queue->is_dispatching ? "running"
                                                       : "paused");
    esi_json_writer_field_text(json, "storage", "memory");
    esi_json_writer_field_u64(json, "events", stats.open_events);
    esi_json_writer_field_u64(json, "event_limit", stats.event_limit);
    esi_json_writer_field_u64(json, "bytes", stats.open_bytes);
    esi_json_writer_field_u64(json, "accepted", stats.accepted);
    esi_json_writer_field_u64(json, "finished", stats.finished);
    esi_json_writer_field_u64(json, "remembered", stats.history_count);
    esi_json_writer_field_u64(json, "held", intake->held_count);
    esi_json_writer_field_u64(json, "held_bytes", intake->held_bytes);
    esi_json_writer_field_u64(json, "unrouted", intake->unrouted);
    esi_json_writer_key(json, "received");
    esi_json_writer_object_start(json);
    for (uint32_t i = 0; i < ORIGIN_COUNT; i++) {
        esi_json_writer_field_u64(json, esi_queue_report_origin_text(i), intake->received[i]);
    }
    esi_json_writer_object_end(json);
    esi_json_writer_key(json, "refused");
    esi_json_writer_object_start(json);
    for (uint32_t i = 0; i < REFUSED_COUNT; i++) {
        esi_json_writer_field_u64(json, esi_queue_report_refusal_text(i), intake->refused[i]);
    }
    esi_json_writer_object_end(json);
    esi_json_writer_object_end(json);
}

static void write_handler(struct esi_json_writer *json, const struct esi_queue *queue,
                          uint32_t index, const struct clock *clock)
{
    const struct esi_queue_handler *handler = &queue->handlers[index];
    const bool has_worker = handler->handler != NULL;
    struct esi_journal_handler_stats stats;

    esi_journal_handler_stats(queue->journal, index, &stats);
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "name", handler->registry->name);
    esi_json_writer_field_text(json, "address",
                               has_worker ? esi_handler_address(handler->handler) : "");
    esi_json_writer_field_text(json, "state",
                               has_worker ? esi_handler_state_text(handler->state) : "no address");
    esi_json_writer_field_u64(json, "in_flight", stats.in_flight);
    esi_json_writer_field_u64(json, "window", handler->window);
    esi_json_writer_field_u64(json, "queued", stats.queued);
    esi_json_writer_field_u64(json, "retrying", stats.retrying);
    esi_json_writer_field_u64(json, "share", stats.share);
    esi_json_writer_field_u64(json, "held", handler->held);
    esi_json_writer_field_u64(json, "delivered", stats.delivered);
    esi_json_writer_field_u64(json, "failed", handler->failed);
    esi_json_writer_field_u64(json, "dead", stats.dead);
    esi_json_writer_field_u64(json, "connects", handler->connects);
    if (stats.has_oldest) {
        write_time(json, clock, "oldest", stats.oldest_accepted_ns);
    }
    if (handler->error[0] != '\0') {
        esi_json_writer_field_text(json, "last_error", handler->error);
        write_wall(json, "last_error_time", handler->error_wall_ns);
    }
    esi_json_writer_object_end(json);
}

static void write_letter(struct esi_json_writer *json, const struct esi_dead_letter *letter)
{
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "number", letter->number);
    esi_json_writer_field_str(json, "id", letter->event->id);
    esi_json_writer_field_str(json, "type", letter->event->type);
    esi_json_writer_field_str(json, "handler", letter->handler);
    esi_json_writer_field_str(json, "reason", letter->reason);
    esi_json_writer_field_u64(json, "attempts", letter->attempts);
    esi_json_writer_field_u64(json, "bytes", letter->event->encoded.len);
    write_wall(json, "accepted", letter->accepted_wall_ns);
    write_wall(json, "time", letter->buried_wall_ns);
    esi_json_writer_object_end(json);
}

/* The newest first. Numbers are without gaps but for those that were let go or taken out. */
static void write_letters(struct esi_json_writer *json, const struct esi_queue *queue,
                          const struct esi_queue_report *report)
{
    struct esi_dead_letters_stats stats;
    size_t seen = 0;
    size_t shown = 0;

    esi_dead_letters_stats(queue->letters, &stats);
    esi_json_writer_key(json, "dead_letters");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "count", stats.count);
    esi_json_writer_field_u64(json, "count_max", stats.count_max);
    esi_json_writer_field_u64(json, "bytes", stats.bytes);
    esi_json_writer_field_u64(json, "added", stats.added);
    esi_json_writer_field_u64(json, "lost", queue->lost_letters);
    esi_json_writer_field_u64(json, "offset", report->offset);
    esi_json_writer_field_u64(json, "limit", report->limit);
    esi_json_writer_key(json, "letters");
    esi_json_writer_array_start(json);
    for (uint64_t number = stats.added; number > 0 && seen < stats.count && shown < report->limit;
         number--) {
        const struct esi_dead_letter *letter = esi_dead_letters_find(queue->letters, number);
        if (letter != NULL && seen++ >= report->offset) {
            write_letter(json, letter);
            shown++;
        }
    }
    esi_json_writer_array_end(json);
    esi_json_writer_object_end(json);
}

static void write_overview(struct esi_json_writer *json, const struct esi_queue *queue,
                           const struct esi_queue_report *report, const struct clock *clock)
{
    write_queue(json, queue);
    esi_json_writer_key(json, "handlers");
    esi_json_writer_array_start(json);
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        write_handler(json, queue, i, clock);
    }
    esi_json_writer_array_end(json);
    write_letters(json, queue, report);
}

static void count_handler(const struct esi_queue *queue, uint32_t index, uint64_t now_ns,
                          struct esi_queue_handler_figures *out)
{
    const struct esi_queue_handler *handler = &queue->handlers[index];
    struct esi_journal_handler_stats stats;

    esi_journal_handler_stats(queue->journal, index, &stats);
    *out = (struct esi_queue_handler_figures){
        .name = handler->registry->name,
        .has_worker = handler->handler != NULL,
        .is_up = handler->handler != NULL && handler->state == HANDLER_UP,
        .queued = stats.queued,
        .in_flight = stats.in_flight,
        .retrying = stats.retrying,
        .share = stats.share,
        .delivered = stats.delivered,
        .failed = handler->failed,
        .dead = stats.dead,
        .connects = handler->connects,
        .oldest_age_ns = stats.has_oldest && now_ns > stats.oldest_accepted_ns
                             ? now_ns - stats.oldest_accepted_ns
                             : 0,
    };
}

static void count_all(const struct esi_queue *queue, uint64_t now_ns, struct esi_queue_figures *out)
{
    struct esi_journal_stats journal;
    struct esi_dead_letters_stats letters;

    esi_journal_stats(queue->journal, &journal);
    esi_dead_letters_stats(queue->letters, &letters);
    *out = (struct esi_queue_figures){
        .events = journal.open_events,
        .event_limit = journal.event_limit,
        .bytes = journal.open_bytes,
        .accepted = journal.accepted,
        .finished = journal.finished,
        .unrouted = queue->intake.unrouted,
        .held = queue->intake.held_count,
        .letters = letters.count,
        .letter_bytes = letters.bytes,
        .letters_added = letters.added,
        .letters_lost = queue->lost_letters,
    };
    memcpy(out->received, queue->intake.received, sizeof out->received);
    memcpy(out->refused, queue->intake.refused, sizeof out->refused);
    for (; out->handler_count < queue->handler_count && out->handler_count < ESI_QUEUE_HANDLERS_MAX;
         out->handler_count++) {
        count_handler(queue, out->handler_count, now_ns, &out->handlers[out->handler_count]);
    }
}

/* --- one event --- */

static void write_entry(struct esi_json_writer *json, const struct esi_queue *queue,
                        const struct esi_journal_entry_view *entry, const struct clock *clock)
{
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "handler", queue->handlers[entry->handler].registry->name);
    esi_json_writer_field_text(json, "state", esi_journal_state_text(entry->state));
    esi_json_writer_field_u64(json, "attempts", entry->attempts);
    write_time(json, clock, "since", entry->changed_ns);
    if (entry->state == JOURNAL_RETRYING) {
        write_time(json, clock, "next", entry->next_ns);
    }
    if (entry->state == JOURNAL_DELIVERED) {
        write_time(json, clock, "delivered", entry->changed_ns);
        esi_json_writer_field_str(json, "answer", entry->note);
    } else if (entry->note.len > 0) {
        esi_json_writer_field_str(json, "last_error", entry->note);
    }
    esi_json_writer_object_end(json);
}

static void write_record(struct esi_json_writer *json, const struct esi_queue *queue,
                         const struct esi_journal_view *view, const struct clock *clock)
{
    esi_json_writer_field_str(json, "type", view->type);
    esi_json_writer_field_text(json, "state", view->is_open ? "open" : "finished");
    esi_json_writer_field_text(json, "received_by", esi_queue_report_origin_text(view->mark));
    write_time(json, clock, "accepted", view->accepted_ns);
    esi_json_writer_field_u64(json, "number", view->seq);
    esi_json_writer_key(json, "handlers");
    esi_json_writer_array_start(json);
    for (uint32_t i = 0; i < view->entry_count; i++) {
        write_entry(json, queue, &view->entries[i], clock);
    }
    esi_json_writer_array_end(json);
}

static enum es_err write_event(struct esi_json_writer *json, const struct esi_queue *queue,
                               struct esi_str id, const struct clock *clock)
{
    struct esi_journal_view view;
    size_t shown = 0;
    const bool is_known = esi_journal_find(queue->journal, id, &view) == ES_OK;
    const struct esi_dead_letter *letter = esi_dead_letters_find_event(queue->letters, id);

    if (!is_known && letter == NULL) {
        return ES_NOT_FOUND;
    }
    esi_json_writer_field_str(json, "id", id);
    if (is_known) {
        write_record(json, queue, &view, clock);
    } else {
        esi_json_writer_field_str(json, "type", letter->event->type);
        esi_json_writer_field_text(json, "state", "dead letter");
        write_wall(json, "accepted", letter->accepted_wall_ns);
    }
    esi_json_writer_key(json, "dead_letters");
    esi_json_writer_array_start(json);
    for (; letter != NULL && shown < ESI_QUEUE_REPORT_LIMIT_MAX;
         letter = esi_dead_letters_older(letter)) {
        write_letter(json, letter);
        shown++;
    }
    esi_json_writer_array_end(json);
    return ES_OK;
}

void esi_queue_report_fill(const struct esi_queue *queue, struct esi_queue_report *report)
{
    const struct clock clock = {.now_ns = esi_env_now_ns(queue->context->env),
                                .wall_ns = esi_env_wall_ns(queue->context->env)};
    struct esi_json_writer json;

    report->err = ES_OK;
    esi_json_writer_init(&json, &report->json, true);
    esi_json_writer_object_start(&json);
    if (report->id[0] == '\0') {
        write_overview(&json, queue, report, &clock);
        count_all(queue, clock.now_ns, &report->figures);
    } else {
        report->err = write_event(&json, queue, esi_str_from(report->id), &clock);
    }
    esi_json_writer_object_end(&json);
    if (report->err == ES_OK && report->json.failed) {
        report->err = ES_NO_MEMORY;
    }
    if (report->err != ES_OK) {
        esi_bytes_deinit(&report->json);
    }
}
