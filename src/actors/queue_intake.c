/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue's way in. An event is accepted, refused, or, where the configuration says hold, kept
 * with its publisher until there is room or the time is up. The order among publishers that wait
 * for the same handler is kept: who comes later waits behind them; others go past. Waiting
 * publishers are bounded in number and bytes; what is over it is refused as full, so that nothing
 * that sends to us (a gateway link least of all) is ever stopped.
 */
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/queue_internal.h"
#include "actors/queue_record.h"
#include "base/assert.h"
#include "base/json_writer.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "proto/subject.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HELD_MAX = 4096,
    HELD_BYTES_MAX = 64 * 1024 * 1024,
    WARNED_TYPES_MAX = 1024,
    ANSWERS_BYTES_MAX = 16 * 1024 * 1024,
    RELEASED_A_TURN = 1024,
    READ_BYTES_A_TURN = 256 * 1024
};

static const struct esi_str SID = ESI_STR("1");

/* An event that came, and where its answer goes. Strings are borrowed. */
struct arrival {
    struct esi_event *event;
    enum esi_queue_origin origin;
    struct esi_str reply;              /* empty: nobody waits */
    struct esi_str mapped;             /* of another cluster's requester; empty: none */
    struct esi_queue_publish *publish; /* NULL: it came by NATS */
};

/* A publisher that waits for room. */
struct held {
    struct esi_list link;
    struct esi_event *event; /* a reference */
    uint64_t handlers;       /* bits: whose shares it needs room in */
    uint64_t deadline_ns;
    enum esi_queue_origin origin;
    struct esi_queue_publish *publish; /* owned; NULL: by NATS */
    struct esi_str reply;              /* both lie behind the struct */
    struct esi_str mapped;
    char texts[];
};

/* An answer to be published at the turn's end: offsets into answer_text. */
struct answer {
    size_t subject_at;
    size_t subject_len;
    size_t body_at;
    size_t body_len;
    bool is_mapped;
};

static uint64_t now_ns(const struct esi_queue *queue)
{
    return esi_actor_now_ns(&queue->actor);
}

void esi_queue_intake_init(struct esi_queue *queue)
{
    struct esi_queue_intake *intake = &queue->intake;

    esi_list_init(&intake->held);
    esi_bytes_init(&intake->answers, 0);
    esi_bytes_init(&intake->answer_text, ANSWERS_BYTES_MAX);
    esi_hashmap_init(&intake->warned_types);
    intake->random_used = sizeof intake->random;
    intake->is_holding = queue->context->config->queue.when_full == CONFIG_FULL_HOLD;
}

/* --- answers --- */

/* Where the answer goes; false: nobody waits for one, or it would come back to ourselves as an
 * event. */
static bool has_reply(const struct esi_queue *queue, struct esi_str reply)
{
    return reply.len > 0 && esi_subject_is_literal(reply) &&
           !esi_str_starts_with(reply, esi_str_from(queue->context->config->events.subject_prefix));
}

/* Begins an answer; its body is what is appended to answer_text until end_answer. */
static struct answer begin_answer(struct esi_queue *queue, struct esi_str reply,
                                  struct esi_str mapped)
{
    struct esi_bytes *text = &queue->intake.answer_text;
    const bool is_mapped = mapped.len > 0;
    const struct esi_str subject = is_mapped ? mapped : reply;
    struct answer answer = {
        .subject_at = text->len, .subject_len = subject.len, .is_mapped = is_mapped};

    esi_bytes_append_str(text, subject);
    answer.body_at = text->len;
    return answer;
}

static void end_answer(struct esi_queue *queue, struct answer *answer)
{
    struct esi_queue_intake *intake = &queue->intake;

    answer->body_len = intake->answer_text.len - answer->body_at;
    esi_bytes_append_str(&intake->answer_text, ESI_STR("\r\n"));
    if (!intake->answer_text.failed) {
        esi_bytes_append(&intake->answers, answer, sizeof *answer);
    }
    if (intake->answer_text.failed || intake->answers.failed) {
        /* This one is lost and its publisher's patience decides; those before it are whole, and
         * those behind it get another try. */
        intake->answer_text.len = answer->subject_at;
        intake->answer_text.failed = false;
        intake->answers.failed = false;
    }
}

static void answer_accepted(struct esi_queue *queue, const struct arrival *arrival,
                            bool is_dead_letter)
{
    struct esi_json_writer json;

    if (!has_reply(queue, arrival->reply)) {
        return;
    }
    struct answer answer = begin_answer(queue, arrival->reply, arrival->mapped);
    esi_json_writer_init(&json, &queue->intake.answer_text, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "success", true);
    esi_json_writer_field_str(&json, "id", arrival->event->id);
    if (is_dead_letter) {
        esi_json_writer_field_bool(&json, "dead_letter", true);
    }
    esi_json_writer_object_end(&json);
    end_answer(queue, &answer);
}

static void answer_refused(struct esi_queue *queue, struct esi_str reply, struct esi_str mapped,
                           enum esi_queue_refusal refusal, const char *detail)
{
    struct esi_json_writer json;

    if (!has_reply(queue, reply)) {
        return;
    }
    struct answer answer = begin_answer(queue, reply, mapped);
    esi_json_writer_init(&json, &queue->intake.answer_text, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "success", false);
    esi_json_writer_field_text(&json, "error", esi_queue_report_refusal_text(refusal));
    esi_json_writer_field_text(&json, "detail", detail);
    esi_json_writer_object_end(&json);
    end_answer(queue, &answer);
}

/* The publisher of an arrival is told that its event was not taken. */
static void refuse(struct esi_queue *queue, const struct arrival *arrival,
                   enum esi_queue_refusal refusal, const char *detail)
{
    struct esi_queue_publish *publish = arrival->publish;

    queue->intake.refused[refusal]++;
    esi_log(LOG_EVENT_REFUSED, ESI_LOG_TEXT("error", esi_queue_report_refusal_text(refusal)),
            ESI_LOG_STR("type", arrival->event->type), ESI_LOG_TEXT("detail", detail));
    if (publish == NULL) {
        answer_refused(queue, arrival->reply, arrival->mapped, refusal, detail);
        return;
    }
    publish->verdict = refusal == REFUSED_STOPPING ? QUEUE_STOPPING
                       : refusal == REFUSED_FULL   ? QUEUE_FULL
                                                   : QUEUE_NO_MEMORY;
    snprintf(publish->detail, sizeof publish->detail, "%s", detail);
}

void esi_queue_intake_flush(struct esi_queue *queue)
{
    struct esi_queue_intake *intake = &queue->intake;
    const struct answer *answers = (const struct answer *)(const void *)intake->answers.data;
    const size_t count = intake->answers.len / sizeof *answers;

    if (count == 0) {
        return;
    }
    struct esi_batch *batch = queue->local->batch;
    struct esi_block *block =
        esi_block_new_sized(&queue->local->pools.blocks, intake->answer_text.len);
    if (block != NULL) {
        memcpy(block->data, intake->answer_text.data, intake->answer_text.len);
        esi_batch_begin(batch, SOURCE_CLIENT, &queue->target, true, block, now_ns(queue));
        for (size_t i = 0; i < count; i++) {
            const struct esi_publish publish = {
                .subject = {.data = block->data + answers[i].subject_at,
                            .len = answers[i].subject_len},
                .body = block->data + answers[i].body_at,
                .total_len = answers[i].body_len,
            };
            if (answers[i].is_mapped) {
                esi_gateway_send_mapped(queue->context, batch, &publish);
            } else {
                (void)esi_batch_add(batch, &publish);
            }
        }
        (void)esi_batch_flush(batch);
        esi_block_unref(block, &queue->local->pools.blocks, 1);
    }
    esi_bytes_clear(&intake->answers);
    esi_bytes_clear(&intake->answer_text);
}

/* --- into the journal --- */

/* An unrouted type is told once; how often it came is counted. */
static void warn_unrouted(struct esi_queue *queue, struct esi_str type, const char *reason)
{
    struct esi_hashmap *warned = &queue->intake.warned_types;

    if (warned->count >= WARNED_TYPES_MAX || esi_hashmap_find(warned, type) != NULL) {
        return;
    }
    char *key = esi_str_dup(type);
    if (key == NULL || esi_hashmap_insert(warned, esi_str_from(key), key) != ES_OK) {
        free(key);
        return;
    }
    esi_log(LOG_EVENT_UNROUTED, ESI_LOG_STR("type", type), ESI_LOG_TEXT("reason", reason));
}

/* What has no worker goes to the dead letters: once a handler without an address, or once for "not
 * routed". */
static enum es_err bury_unaddressed(struct esi_queue *queue, struct esi_event *event,
                                    uint64_t missing)
{
    enum es_err err = ES_OK;

    if (missing == 0) {
        warn_unrouted(queue, event->type, "no handler is registered for this type");
        return esi_queue_bury(queue, event, ESI_STR(""),
                              ESI_STR("no handler is registered for this type"), 0, now_ns(queue));
    }
    for (uint64_t rest = missing; rest != 0 && err == ES_OK; rest &= rest - 1) {
        const char *name = queue->handlers[__builtin_ctzll(rest)].registry->name;
        warn_unrouted(queue, event->type, "its handler has no address");
        err = esi_queue_bury(queue, event, esi_str_from(name),
                             ESI_STR("the handler has no address"), 0, now_ns(queue));
    }
    return err;
}

/* The event is accepted when this returns ES_OK. */
static enum es_err admit(struct esi_queue *queue, struct esi_event *event,
                         enum esi_queue_origin origin, bool *is_dead_letter,
                         struct esi_journal_full *full)
{
    const uint64_t route = esi_registry_route(queue->registry, event->type);
    const uint64_t addressed = route & queue->addressed;
    const uint64_t missing = route & ~queue->addressed;
    uint64_t seq = 0;

    if (addressed != 0) {
        enum es_err err =
            esi_journal_accept(queue->journal, event, addressed, now_ns(queue), &seq, full);
        if (err != ES_OK) {
            return err;
        }
        err = esi_journal_set_mark(queue->journal, seq, (uint32_t)origin);
        ESI_ASSERT(err == ES_OK);
        queue->needs_dispatch |= addressed;
    }
    *is_dead_letter = addressed == 0;
    if (route == 0 || missing != 0) {
        queue->intake.unrouted++;
        const enum es_err err = bury_unaddressed(queue, event, missing);
        if (err != ES_OK && addressed == 0) {
            return err;
        }
        /* Accepted for the others all the same. */
        queue->lost_letters += err != ES_OK;
    }
    queue->intake.received[origin]++;
    return ES_OK;
}

static void ESI_PRINTF(3, 4) print(char *out, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(out, size, format, arguments);
    va_end(arguments);
}

static void describe_full(struct esi_queue *queue, const struct esi_journal_full *full, char *out,
                          size_t size)
{
    struct esi_journal_handler_stats stats;
    struct esi_queue_handler *handler;

    switch (full->bound) {
    case JOURNAL_FULL_EVENTS:
        print(out, size, "the queue holds as many events as it may: %u",
              queue->context->config->service.event_limit);
        break;
    case JOURNAL_FULL_BYTES:
        print(out, size, "the events in the queue have as many bytes as they may");
        break;
    case JOURNAL_FULL_SHARE:
        handler = &queue->handlers[full->handler];
        esi_journal_handler_stats(queue->journal, full->handler, &stats);
        print(out, size, "the handler %.64s holds its share of the queue: %zu events",
              handler->registry->name, stats.share);
        if (!handler->is_full_logged) {
            handler->is_full_logged = true;
            esi_log(LOG_QUEUE_FULL, ESI_LOG_TEXT("reason", out));
        }
        return;
    }
    if (!queue->intake.is_full_logged) {
        queue->intake.is_full_logged = true;
        esi_log(LOG_QUEUE_FULL, ESI_LOG_TEXT("reason", out));
    }
}

/* --- holding --- */

static void count_held(struct esi_queue *queue, const struct held *held, int step)
{
    for (uint64_t rest = held->handlers; rest != 0; rest &= rest - 1) {
        queue->handlers[__builtin_ctzll(rest)].held += (uint32_t)step;
    }
    queue->intake.held_count += (uint32_t)step;
    queue->intake.held_bytes += (uint64_t)((int64_t)step * (int64_t)held->event->memory_bytes);
}

static bool is_behind_held(const struct esi_queue *queue, uint64_t handlers)
{
    for (uint64_t rest = handlers; rest != 0; rest &= rest - 1) {
        if (queue->handlers[__builtin_ctzll(rest)].held > 0) {
            return true;
        }
    }
    return false;
}

static void set_hold_timer(struct esi_queue *queue)
{
    struct esi_list *list = &queue->intake.held;

    if (esi_list_is_empty(list)) {
        esi_actor_timer_cancel(&queue->hold_timer);
    } else {
        esi_actor_timer_set(&queue->hold_timer,
                            ESI_CONTAINER_OF(list->next, struct held, link)->deadline_ns);
    }
}

/* Keeps the arrival until there is room. Returns false when there are too many already. */
static bool hold(struct esi_queue *queue, const struct arrival *arrival)
{
    const struct esi_queue_intake *intake = &queue->intake;
    const size_t texts_len = arrival->reply.len + arrival->mapped.len;

    if (!intake->is_holding || intake->held_count >= HELD_MAX ||
        intake->held_bytes + arrival->event->memory_bytes > HELD_BYTES_MAX) {
        return false;
    }
    struct held *held = malloc(sizeof *held + texts_len);
    if (held == NULL) {
        return false;
    }
    *held = (struct held){
        .event = esi_event_ref(arrival->event),
        .handlers = esi_registry_route(queue->registry, arrival->event->type) & queue->addressed,
        .deadline_ns = now_ns(queue) + queue->context->config->queue.hold_timeout_ns,
        .origin = arrival->origin,
        .publish = arrival->publish,
        .reply = {.data = held->texts, .len = arrival->reply.len},
        .mapped = {.data = held->texts + arrival->reply.len, .len = arrival->mapped.len},
    };
    if (arrival->reply.len > 0) {
        memcpy(held->texts, arrival->reply.data, arrival->reply.len);
    }
    if (arrival->mapped.len > 0) {
        memcpy(held->texts + arrival->reply.len, arrival->mapped.data, arrival->mapped.len);
    }
    if (held->publish != NULL) {
        held->publish->is_held = true;
    }
    esi_list_append(&queue->intake.held, &held->link);
    count_held(queue, held, 1);
    set_hold_timer(queue);
    return true;
}

static struct arrival arrival_of(const struct held *held)
{
    return (struct arrival){.event = held->event,
                            .origin = held->origin,
                            .reply = held->reply,
                            .mapped = held->mapped,
                            .publish = held->publish};
}

/* Its answer has been given, or stands in the publish. */
static void let_go(struct esi_queue *queue, struct held *held)
{
    struct esi_queue_publish *publish = held->publish;

    esi_list_remove(&held->link);
    count_held(queue, held, -1);
    esi_event_unref(held->event);
    free(held);
    if (publish != NULL) {
        publish->is_held = false;
        publish->msg.free(&publish->msg);
    }
}

static void accept_arrival(struct esi_queue *queue, const struct arrival *arrival,
                           bool is_dead_letter)
{
    if (arrival->publish == NULL) {
        answer_accepted(queue, arrival, is_dead_letter);
    } else {
        arrival->publish->verdict = QUEUE_ACCEPTED;
        arrival->publish->is_dead_letter = is_dead_letter;
    }
}

void esi_queue_intake_release(struct esi_queue *queue)
{
    struct esi_list *list = &queue->intake.held;
    struct esi_list *next;
    uint64_t blocked = 0; /* handlers whose share is full: those behind must wait too */
    uint32_t released = 0;

    queue->intake.is_full_logged = false;
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        queue->handlers[i].is_full_logged &= queue->handlers[i].held > 0;
    }
    for (struct esi_list *link = list->next; link != list; link = next) {
        struct held *held = ESI_CONTAINER_OF(link, struct held, link);
        struct esi_journal_full full = {.bound = JOURNAL_FULL_EVENTS};
        bool is_dead_letter = false;
        next = link->next;
        if ((held->handlers & blocked) != 0) {
            continue;
        }
        const enum es_err err = admit(queue, held->event, held->origin, &is_dead_letter, &full);
        if (err == ES_FULL && full.bound == JOURNAL_FULL_SHARE) {
            blocked |= held->handlers;
            continue;
        }
        if (err != ES_OK) {
            break;
        }
        const struct arrival arrival = arrival_of(held);
        accept_arrival(queue, &arrival, is_dead_letter);
        let_go(queue, held);
        if (++released == RELEASED_A_TURN) {
            queue->has_freed_room = true;
            esi_actor_continue(&queue->actor);
            break;
        }
    }
    set_hold_timer(queue);
}

void esi_queue_intake_expire(struct esi_queue *queue)
{
    struct esi_list *list = &queue->intake.held;
    char detail[ESI_QUEUE_DETAIL_MAX];

    while (!esi_list_is_empty(list)) {
        struct held *held = ESI_CONTAINER_OF(list->next, struct held, link);
        if (held->deadline_ns > now_ns(queue)) {
            break;
        }
        const struct arrival arrival = arrival_of(held);
        print(detail, sizeof detail, "the queue had no room for %llu ms",
              (unsigned long long)(queue->context->config->queue.hold_timeout_ns / 1000000));
        refuse(queue, &arrival, REFUSED_FULL, detail);
        let_go(queue, held);
    }
    set_hold_timer(queue);
}

void esi_queue_intake_end_holding(struct esi_queue *queue)
{
    struct esi_list *list = &queue->intake.held;

    queue->intake.is_holding = false;
    while (!esi_list_is_empty(list)) {
        struct held *held = ESI_CONTAINER_OF(list->next, struct held, link);
        const struct arrival arrival = arrival_of(held);
        refuse(queue, &arrival, REFUSED_STOPPING, "the server stops");
        let_go(queue, held);
    }
    esi_actor_timer_cancel(&queue->hold_timer);
}

/* --- arrivals --- */

static void take_arrival(struct esi_queue *queue, const struct arrival *arrival)
{
    struct esi_journal_full full = {.bound = JOURNAL_FULL_EVENTS};
    char detail[ESI_QUEUE_DETAIL_MAX];
    bool is_dead_letter = false;

    if (queue->is_stopping) {
        refuse(queue, arrival, REFUSED_STOPPING, "the server stops");
        return;
    }
    if (queue->intake.held_count > 0 &&
        is_behind_held(queue, esi_registry_route(queue->registry, arrival->event->type) &
                                  queue->addressed)) {
        if (!hold(queue, arrival)) {
            refuse(queue, arrival, REFUSED_FULL, "too many publishers wait for room in the queue");
        }
        return;
    }
    const enum es_err err = admit(queue, arrival->event, arrival->origin, &is_dead_letter, &full);
    if (err == ES_OK) {
        accept_arrival(queue, arrival, is_dead_letter);
    } else if (err != ES_FULL) {
        refuse(queue, arrival, REFUSED_NO_MEMORY, es_err_text(err));
    } else {
        describe_full(queue, &full, detail, sizeof detail);
        if (!hold(queue, arrival)) {
            refuse(queue, arrival, REFUSED_FULL, detail);
        }
    }
}

/* 16 unpredictable bytes, for the ID of an event that came without one. */
static const uint8_t *next_random(struct esi_queue *queue)
{
    struct esi_queue_intake *intake = &queue->intake;

    if (intake->random_used == sizeof intake->random) {
        esi_env_random(queue->context->env, intake->random, sizeof intake->random);
        intake->random_used = 0;
    }
    return intake->random + intake->random_used;
}

static void take_record(struct esi_queue *queue, const struct esi_queue_record *record)
{
    const struct esi_config *config = queue->context->config;
    struct esi_event_decode_options options = {.size_max = config->limits.max_payload_bytes,
                                               .random = next_random(queue)};
    struct esi_event *event = NULL;
    struct es_error reason = {.text = "the subject names no type"};
    enum es_err err = ES_INVALID;

    if (esi_event_type_from_subject(record->subject, esi_str_from(config->events.subject_prefix),
                                    &options.type_from_subject)) {
        err = esi_event_decode(record->payload, &options, &event, &reason);
    }
    if (err != ES_OK) {
        const enum esi_queue_refusal refusal = err == ES_TOO_LARGE   ? REFUSED_TOO_LARGE
                                               : err == ES_NO_MEMORY ? REFUSED_NO_MEMORY
                                                                     : REFUSED_MALFORMED;
        queue->intake.refused[refusal]++;
        esi_log(LOG_EVENT_REFUSED, ESI_LOG_TEXT("error", esi_queue_report_refusal_text(refusal)),
                ESI_LOG_STR("subject", record->subject), ESI_LOG_TEXT("detail", reason.text));
        answer_refused(queue, record->reply, record->mapped, refusal, reason.text);
        return;
    }
    if (event->has_generated_id) {
        queue->intake.random_used += ESI_EVENT_RANDOM_BYTES;
    }
    const struct arrival arrival = {
        .event = event,
        .origin = record->is_from_gateway ? ORIGIN_GATEWAY : ORIGIN_NATS,
        .reply = record->reply,
        .mapped = record->mapped,
    };
    take_arrival(queue, &arrival);
    esi_event_unref(event);
}

/* So many bytes wait behind this that reading it would only let more gather: told unread. */
static void shed_record(struct esi_queue *queue, const struct esi_queue_record *record)
{
    static const char detail[] = "events come faster than they can be read";

    queue->intake.refused[REFUSED_FULL]++;
    esi_log(LOG_EVENT_REFUSED, ESI_LOG_TEXT("error", esi_queue_report_refusal_text(REFUSED_FULL)),
            ESI_LOG_STR("subject", record->subject), ESI_LOG_TEXT("detail", detail));
    answer_refused(queue, record->reply, record->mapped, REFUSED_FULL, detail);
}

static void read_delivery(struct esi_queue *queue, const struct esi_delivery *delivery)
{
    struct esi_queue_record record;
    uint32_t used = 0;

    /* order: relaxed; a sum that decides about pauses, nothing is published by it. */
    const uint64_t before = atomic_fetch_sub_explicit(&queue->target.pending_bytes, delivery->bytes,
                                                      memory_order_relaxed);
    /* order: relaxed; publishers are held back only for a target that makes progress. */
    atomic_store_explicit(&queue->target.progress_ns, now_ns(queue), memory_order_relaxed);
    const bool is_swamped =
        before - delivery->bytes > queue->context->config->limits.max_pending_bytes;
    for (uint32_t i = 0; i < delivery->slice_count; i += used) {
        if (esi_queue_record_read(&delivery->slices[i], delivery->slice_count - i, SID, &record,
                                  &used) != ES_OK) {
            continue;
        }
        if (is_swamped) {
            shed_record(queue, &record);
        } else {
            take_record(queue, &record);
        }
    }
}

void esi_queue_intake_keep(struct esi_queue *queue, struct esi_delivery *delivery)
{
    struct esi_queue_intake *intake = &queue->intake;

    delivery->msg.next = NULL;
    if (intake->last == NULL) {
        intake->first = &delivery->msg;
    } else {
        intake->last->next = &delivery->msg;
    }
    intake->last = &delivery->msg;
}

static struct esi_delivery *pop_delivery(struct esi_queue_intake *intake)
{
    struct esi_msg *msg = intake->first;

    if (msg == NULL) {
        return NULL;
    }
    intake->first = msg->next;
    if (intake->first == NULL) {
        intake->last = NULL;
    }
    return (struct esi_delivery *)(void *)msg;
}

void esi_queue_intake_work(struct esi_queue *queue)
{
    struct esi_queue_intake *intake = &queue->intake;
    uint64_t bytes = 0;

    while (intake->first != NULL && bytes < READ_BYTES_A_TURN) {
        struct esi_delivery *delivery = pop_delivery(intake);
        bytes += delivery->bytes;
        read_delivery(queue, delivery);
        esi_delivery_free(delivery, 0, &queue->local->pools);
    }
    if (intake->first != NULL) {
        esi_actor_continue(&queue->actor);
    }
}

void esi_queue_intake_publish(struct esi_queue *queue, struct esi_queue_publish *publish)
{
    const struct arrival arrival = {
        .event = publish->event, .origin = ORIGIN_GRPC, .publish = publish};

    take_arrival(queue, &arrival);
}

void esi_queue_intake_deinit(struct esi_queue *queue)
{
    struct esi_queue_intake *intake = &queue->intake;
    struct esi_delivery *delivery;
    size_t cursor = 0;
    struct esi_str key;
    void *value;

    while ((delivery = pop_delivery(intake)) != NULL) {
        esi_delivery_free(delivery, 0, NULL);
    }
    /* They were told at the stop, which comes to everybody, at the latest when all threads have
     * ended. */
    ESI_ASSERT(esi_list_is_empty(&intake->held));
    while (esi_hashmap_next(&intake->warned_types, &cursor, &key, &value)) {
        free(value);
    }
    esi_hashmap_deinit(&intake->warned_types);
    esi_bytes_deinit(&intake->answers);
    esi_bytes_deinit(&intake->answer_text);
}
