/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue's actor: the subscription on all events, messages from others and start. Nothing here
 * waits: what was changed by a turn's messages is acted upon once, at the turn's end.
 *
 * How it stops: queue_stop.c.
 */
#include "actors/queue.h"
#include "actors/context.h"
#include "actors/handler.h"
#include "actors/queue_internal.h"
#include "actors/tls_section.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/tls.h"
#include "proto/subject.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum queue_msg {
    QUEUE_DELIVERY,
    QUEUE_DELIVERY_KEPT, /* only in our own hands */
    QUEUE_PUBLISH,
    QUEUE_ROUTED,
    QUEUE_DETACHED,
    QUEUE_JOB_DONE,
    QUEUE_HANDLER_STATUS,
    QUEUE_ORDER,
    QUEUE_REPORT
};

/* All events in memory together: a limit of events alone would be none for large ones. */
static const uint64_t JOURNAL_BYTES_MAX = 1024ULL * 1024 * 1024;
static const uint64_t LETTERS_BYTES_MAX = 256ULL * 1024 * 1024;

enum order {
    ORDER_PAUSE,
    ORDER_RESUME,
    ORDER_END_HOLDING,
    ORDER_COUNT_MALFORMED,
    ORDER_COUNT_TOO_LARGE
};

struct order_msg {
    struct esi_msg msg;
    enum order order;
};

static struct esi_queue *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_queue, actor);
}

static uint64_t now_ns(const struct esi_queue *queue)
{
    return esi_actor_now_ns(&queue->actor);
}

/* --- messages from others --- */

static void free_msg(struct esi_msg *msg)
{
    free(msg);
}

/* The free of one on its way here; what the reaction has kept is freed when it was read. */
static void free_delivery(struct esi_msg *msg)
{
    if (msg->kind != QUEUE_DELIVERY_KEPT) {
        esi_context_free_delivery(msg);
    }
}

static void deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct esi_queue *queue = ESI_CONTAINER_OF(target, struct esi_queue, target);

    delivery->msg.kind = QUEUE_DELIVERY;
    delivery->msg.free = free_delivery;
    esi_actor_send(&queue->actor, &delivery->msg);
}

struct esi_queue_publish *esi_queue_publish_new(struct esi_actor *asker, uint32_t answer_kind,
                                                uint32_t tag, struct esi_event *event)
{
    struct esi_queue_publish *publish = malloc(sizeof *publish);

    if (publish == NULL) {
        esi_event_unref(event);
        return NULL;
    }
    *publish = (struct esi_queue_publish){.asker = asker,
                                          .event = event,
                                          .answer_kind = answer_kind,
                                          .tag = tag,
                                          .verdict = QUEUE_STOPPING};
    esi_actor_ref(asker);
    return publish;
}

void esi_queue_publish_free(struct esi_queue_publish *publish)
{
    if (publish != NULL) {
        esi_event_unref(publish->event);
        esi_actor_unref(publish->asker);
        free(publish);
    }
}

static void free_publish(struct esi_msg *msg)
{
    esi_queue_publish_free((struct esi_queue_publish *)(void *)msg);
}

/* The free of one on its way here, so that it is answered also when the queue has stopped. */
static void answer_publish(struct esi_msg *msg)
{
    struct esi_queue_publish *publish = (struct esi_queue_publish *)(void *)msg;

    if (!publish->is_held) {
        publish->msg.kind = publish->answer_kind;
        publish->msg.free = free_publish;
        esi_actor_send(publish->asker, &publish->msg);
    }
}

void esi_queue_publish(struct esi_queue *queue, struct esi_queue_publish *publish)
{
    publish->msg = (struct esi_msg){.kind = QUEUE_PUBLISH, .free = answer_publish};
    esi_actor_send(&queue->actor, &publish->msg);
}

static void answer_report(struct esi_msg *msg)
{
    struct esi_queue_report *report = (struct esi_queue_report *)(void *)msg;

    esi_queue_report_answer(report);
}

void esi_queue_report(struct esi_queue *queue, struct esi_queue_report *report)
{
    report->err = ES_CLOSED;
    report->msg = (struct esi_msg){.kind = QUEUE_REPORT, .free = answer_report};
    esi_actor_send(&queue->actor, &report->msg);
}

static enum es_err give_order(struct esi_queue *queue, enum order order)
{
    struct order_msg *msg = malloc(sizeof *msg);

    if (msg == NULL) {
        return ES_NO_MEMORY;
    }
    *msg = (struct order_msg){.msg = {.kind = QUEUE_ORDER, .free = free_msg}, .order = order};
    esi_actor_send(&queue->actor, &msg->msg);
    return ES_OK;
}

enum es_err esi_queue_set_dispatching(struct esi_queue *queue, bool is_dispatching)
{
    return give_order(queue, is_dispatching ? ORDER_RESUME : ORDER_PAUSE);
}

void esi_queue_end_holding(struct esi_queue *queue)
{
    (void)give_order(queue, ORDER_END_HOLDING);
}

void esi_queue_count_refused(struct esi_queue *queue, bool is_too_large)
{
    /* Without memory it is one too few. */
    (void)give_order(queue, is_too_large ? ORDER_COUNT_TOO_LARGE : ORDER_COUNT_MALFORMED);
}

/* --- dead letters --- */

static void log_evicted(void *argument, const struct esi_dead_letter *letter)
{
    struct esi_queue *queue = argument;

    queue->lost_letters++;
    esi_log(LOG_DEAD_LETTER_DROPPED, ESI_LOG_U64("number", letter->number),
            ESI_LOG_STR("id", letter->event->id), ESI_LOG_STR("type", letter->event->type));
}

enum es_err esi_queue_bury(struct esi_queue *queue, struct esi_event *event, struct esi_str handler,
                           struct esi_str reason, uint32_t attempts, uint64_t accepted_ns)
{
    const int64_t wall_ns = esi_env_wall_ns(queue->context->env);
    const struct esi_dead_letters_new_letter letter = {
        .event = event,
        .handler = handler,
        .reason = reason,
        .attempts = attempts,
        .accepted_wall_ns = wall_ns - (int64_t)(now_ns(queue) - accepted_ns),
        .buried_wall_ns = wall_ns,
    };
    return esi_dead_letters_add(queue->letters, &letter, NULL, log_evicted, queue);
}

/* --- orders --- */

static void set_dispatching(struct esi_queue *queue, bool is_dispatching)
{
    if (queue->is_dispatching != is_dispatching) {
        queue->is_dispatching = is_dispatching;
        esi_log(is_dispatching ? LOG_QUEUE_RESUMED : LOG_QUEUE_PAUSED);
    }
    if (is_dispatching) {
        queue->needs_dispatch |= queue->addressed;
    }
}

static void on_order(struct esi_queue *queue, enum order order)
{
    switch (order) {
    case ORDER_PAUSE:
        set_dispatching(queue, false);
        break;
    case ORDER_RESUME:
        set_dispatching(queue, true);
        break;
    case ORDER_END_HOLDING:
        esi_queue_intake_end_holding(queue);
        break;
    case ORDER_COUNT_MALFORMED:
        queue->intake.refused[REFUSED_MALFORMED]++;
        break;
    case ORDER_COUNT_TOO_LARGE:
        queue->intake.refused[REFUSED_TOO_LARGE]++;
        break;
    }
}

/* --- start and stop --- */

static void start(struct esi_actor *actor)
{
    struct esi_queue *queue = self_of(actor);

    queue->local = esi_worker_local(esi_actor_home(actor));
    queue->sub->created_ns = now_ns(queue);
    const enum es_err err = esi_route_ops_add(&queue->routes, queue->sub);
    /* At start; without the subscription no event would ever come. */
    ESI_ASSERT(err == ES_OK);
    esi_route_ops_submit(&queue->routes);
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        if (queue->handlers[i].handler != NULL) {
            esi_handler_start(queue->handlers[i].handler);
        }
    }
}

static void stop(struct esi_actor *actor)
{
    esi_queue_stop_begin(self_of(actor));
}

/* Tells the ledger what the events have: once a turn, since their number is bounded by the stores
 * themselves. */
static void count_memory(struct esi_queue *queue)
{
    struct esi_journal_stats journal;
    struct esi_dead_letters_stats letters;

    esi_journal_stats(queue->journal, &journal);
    esi_dead_letters_stats(queue->letters, &letters);
    const uint64_t bytes = journal.open_bytes + letters.bytes + queue->intake.held_bytes;
    if (bytes > queue->ledger_bytes) {
        esi_ledger_charge(queue->local->lease, MEMORY_QUEUE, bytes - queue->ledger_bytes);
    } else if (bytes < queue->ledger_bytes) {
        esi_ledger_give(queue->local->lease, MEMORY_QUEUE, queue->ledger_bytes - bytes);
    }
    queue->ledger_bytes = bytes;
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_queue *queue = self_of(actor);

    if (queue->has_freed_room) {
        queue->has_freed_room = false;
        esi_queue_intake_release(queue);
    }
    esi_queue_intake_work(queue);
    esi_queue_dispatch_work(queue);
    esi_queue_stop_go_on(queue);
    if (!queue->is_stopping || queue->is_draining) {
        esi_queue_dispatch_set_timer(queue);
    }
    esi_queue_intake_flush(queue);
    count_memory(queue);
    if (esi_route_ops_has_collected(&queue->routes)) {
        esi_route_ops_submit(&queue->routes);
    }
    esi_queue_stop_finish(queue);
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_queue *queue = self_of(actor);

    if (fired == &queue->retry_timer.timer) {
        queue->needs_dispatch |= queue->addressed;
    } else if (fired == &queue->hold_timer.timer) {
        esi_queue_intake_expire(queue);
    } else if (fired == &queue->stop_timer.timer) {
        esi_queue_stop_expire(queue);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_queue *queue = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum queue_msg)msg->kind) {
    case QUEUE_DELIVERY:
        msg->kind = QUEUE_DELIVERY_KEPT;
        esi_queue_intake_keep(queue, (struct esi_delivery *)(void *)msg);
        break;
    case QUEUE_DELIVERY_KEPT:
        break; /* nobody sends this */
    case QUEUE_PUBLISH:
        esi_queue_intake_publish(queue, (struct esi_queue_publish *)(void *)msg);
        break;
    case QUEUE_ROUTED: {
        const enum es_err err = esi_route_ops_in_force(
            &queue->routes, ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force));
        ESI_ASSERT(err == ES_OK); /* the first subscription of all: see start */
        break;
    }
    case QUEUE_DETACHED:
        esi_route_ops_detached(&queue->routes,
                               ESI_CONTAINER_OF(msg, struct esi_route_batch, detached));
        break;
    case QUEUE_JOB_DONE:
        esi_queue_dispatch_job_done(queue, (struct esi_handler_job *)(void *)msg);
        break;
    case QUEUE_HANDLER_STATUS:
        esi_queue_dispatch_handler_status(queue,
                                          (const struct esi_handler_status *)(const void *)msg);
        break;
    case QUEUE_ORDER:
        on_order(queue, ((const struct order_msg *)(const void *)msg)->order);
        break;
    case QUEUE_REPORT:
        esi_queue_report_fill(queue, (struct esi_queue_report *)(void *)msg);
        break;
    }
}

static void cut(struct esi_actor *actor)
{
    esi_queue_stop_cut(self_of(actor));
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_queue *queue = ESI_CONTAINER_OF(actor, const struct esi_queue, actor);
    struct esi_journal_stats stats;

    esi_journal_stats(queue->journal, &stats);
    esi_bytes_printf(description->text, "%zu events, %u publishers held, %u jobs out",
                     stats.open_events, queue->intake.held_count, queue->outstanding);
}

static void keep_memory(struct esi_actor *actor)
{
    (void)actor; /* the server's: esi_queue_free */
}

static const struct esi_actor_type queue_type = {
    .name = "queue",
    .stop_phase = STOP_DRAIN,
    .start = start,
    .handle = handle,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .cut = cut,
    .describe = describe,
    .free = keep_memory,
};

/* --- making it --- */

enum es_err esi_queue_make_registry(const struct esi_config *config, struct esi_registry **out,
                                    struct es_error *error)
{
    const struct esi_config_events *events = &config->events;
    struct esi_registry_handler_row *handlers = calloc(config->handler_count + 1, sizeof *handlers);
    struct esi_registry_route_row *routes = calloc(events->route_count + 1, sizeof *routes);
    enum es_err err = ES_NO_MEMORY;

    if (handlers == NULL || routes == NULL) {
        goto end;
    }
    for (size_t i = 0; i < config->handler_count; i++) {
        const struct esi_config_handler *handler = &config->handlers[i];
        handlers[i] = (struct esi_registry_handler_row){
            .name = handler->name, .address = handler->host, .tls_name = handler->tls_name};
    }
    for (size_t i = 0; i < events->route_count; i++) {
        const struct esi_config_route *route = &events->registry[i];
        routes[i] = (struct esi_registry_route_row){
            .pattern = route->pattern,
            .handlers = (const char *const *)route->handlers.items,
            .handler_count = route->handlers.count,
        };
    }
    const struct esi_registry_rows rows = {.handlers = handlers,
                                           .handler_count = config->handler_count,
                                           .routes = routes,
                                           .route_count = events->route_count};
    err = esi_registry_new(&rows, out, error);
end:
    free(handlers);
    free(routes);
    return err;
}

/* Our certificate to show, and whom to trust. */
static enum es_err make_handler_tls(struct esi_queue *queue, struct es_error *error)
{
    const struct esi_config *config = queue->context->config;
    bool is_needed = false;

    for (size_t i = 0; i < config->handler_count; i++) {
        is_needed |= config->handlers[i].is_tls;
    }
    if (!is_needed) {
        return ES_OK;
    }
    struct esi_tls_certificate certificate;
    /* A worker service is known by the name of its own handler, see event/registry.h. */
    struct esi_tls_options options =
        esi_tls_section_options(&config->tls, TLS_CLIENT, NULL, &certificate);
    options.verify_peer = true;
    options.alpn = "h2";
    return esi_tls_context_new(queue->context->env, &options, &queue->handler_tls, error);
}

static enum es_err make_handlers(struct esi_queue *queue)
{
    const struct esi_config *config = queue->context->config;

    queue->handler_count = (uint32_t)esi_registry_handler_count(queue->registry);
    queue->handlers = calloc(queue->handler_count, sizeof *queue->handlers);
    if (queue->handlers == NULL) {
        return ES_NO_MEMORY;
    }
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        struct esi_queue_handler *handler = &queue->handlers[i];
        handler->registry = esi_registry_handler(queue->registry, i);
        if (handler->registry->address == NULL) {
            esi_log(LOG_HANDLER_MISSING, ESI_LOG_TEXT("handler", handler->registry->name));
            continue;
        }
        /* Rows of the configuration come first, in its order. */
        ESI_ASSERT(i < config->handler_count);
        const struct esi_handler_options options = {
            .context = queue->context,
            .config = &config->handlers[i],
            .registry = handler->registry,
            .tls = config->handlers[i].is_tls ? queue->handler_tls : NULL,
            .asker = &queue->actor,
            .answer_kind = QUEUE_JOB_DONE,
            .status_kind = QUEUE_HANDLER_STATUS,
            .index = i,
        };
        const enum es_err err = esi_handler_new(&options, &handler->handler);
        if (err != ES_OK) {
            return err;
        }
        queue->addressed |= (uint64_t)1 << i;
    }
    return ES_OK;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum es_err make_stores(struct esi_queue *queue)
{
    /* Of limits.memory the events may have half of what stays, the dead letters an eighth of it:
     * connections and subscriptions have room beside a full queue. */
    const uint64_t lasting_bytes = queue->context->ledger->classes[MEMORY_LASTING].limit_bytes;
    const struct esi_journal_options options = {
        .event_limit = queue->context->config->service.event_limit,
        .bytes_max = least_of(JOURNAL_BYTES_MAX, lasting_bytes / 2),
        .history_max = ESI_JOURNAL_HISTORY_MAX_DEFAULT,
        .handler_count = queue->handler_count,
    };
    const enum es_err err = esi_journal_new(&options, &queue->journal);

    return err != ES_OK ? err
                        : esi_dead_letters_new(ESI_DEAD_LETTERS_COUNT_MAX_DEFAULT,
                                               least_of(LETTERS_BYTES_MAX, lasting_bytes / 8),
                                               &queue->letters);
}

static enum es_err make_subscription(struct esi_queue *queue)
{
    char subject[512];

    const int len =
        snprintf(subject, sizeof subject, "%s>", queue->context->config->events.subject_prefix);
    ESI_ASSERT(len > 0 && (size_t)len < sizeof subject); /* the configuration bounds the prefix */
    queue->target.deliver = deliver;
    const enum es_err err = esi_targets_add(queue->context->targets, &queue->target);
    if (err != ES_OK) {
        return err;
    }
    queue->sub =
        esi_sub_new(&queue->target, esi_str_from(subject), ESI_SUBJECT_EVENT_QUEUE, ESI_STR("1"));
    if (queue->sub == NULL) {
        esi_targets_remove(queue->context->targets, &queue->target);
        return ES_NO_MEMORY;
    }
    queue->sub->flags = SUB_HEADERS | SUB_RECORDS;
    return ES_OK;
}

enum es_err esi_queue_new(struct esi_context *context, struct esi_queue **out,
                          struct es_error *error)
{
    struct esi_queue *queue = aligned_alloc(ESI_CACHE_LINE, sizeof *queue);

    if (queue == NULL) {
        return ES_NO_MEMORY;
    }
    memset(queue, 0, sizeof *queue);
    queue->context = context;
    queue->is_dispatching = true;
    esi_queue_intake_init(queue);
    esi_actor_init(&queue->actor, &queue_type, context->runtime,
                   esi_runtime_worker(context->runtime, 0));
    esi_actor_ref(
        &queue->actor); /* the server's: never given up, so that late messages find an actor */
    esi_actor_timer_init(&queue->actor, &queue->retry_timer);
    esi_actor_timer_init(&queue->actor, &queue->hold_timer);
    esi_actor_timer_init(&queue->actor, &queue->stop_timer);
    esi_route_ops_init(&queue->routes, context, &queue->actor, QUEUE_ROUTED, QUEUE_DETACHED);
    enum es_err err = esi_queue_make_registry(context->config, &queue->registry, error);
    if (err == ES_OK) {
        err = make_handler_tls(queue, error);
    }
    if (err == ES_OK) {
        err = make_handlers(queue);
    }
    if (err == ES_OK) {
        err = make_stores(queue);
    }
    if (err == ES_OK) {
        err = make_subscription(queue);
    }
    if (err != ES_OK) {
        esi_queue_free(queue);
        return err;
    }
    *out = queue;
    esi_actor_start(&queue->actor);
    return ES_OK;
}

void esi_queue_free(struct esi_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    for (uint32_t i = 0; queue->handlers != NULL && i < queue->handler_count; i++) {
        esi_handler_free(queue->handlers[i].handler);
    }
    free(queue->handlers);
    esi_queue_intake_deinit(queue);
    esi_route_ops_deinit(&queue->routes);
    free(queue->sub);
    esi_journal_free(queue->journal);
    esi_dead_letters_free(queue->letters);
    esi_registry_free(queue->registry);
    esi_tls_context_unref(queue->handler_tls);
    free(queue);
}
