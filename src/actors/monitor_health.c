/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See monitor_health.h. A worker that hangs keeps the look from ending, and so tells of itself. */
#include "actors/monitor_health.h"
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/queue.h"
#include "base/ledger.h"
#include "env/env.h"
#include "net/tls.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FOUND_BYTES_MAX = 64 * 1024 };

static const uint64_t STALLED_NS = 5000000000;
/* For so many times its duration a look's result is told again, and at most so long. */
static const uint64_t FRESH_FACTOR = 4;
static const uint64_t FRESH_NS_MAX = 250000000;
static const int64_t CERTIFICATE_S = (int64_t)7 * 24 * 3600;

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded */
}

void esi_monitor_health_init(struct esi_monitor_health *health, struct esi_context *context,
                             struct esi_actor *asker)
{
    health->context = context;
    health->asker = asker;
    esi_bytes_init(&health->degraded, FOUND_BYTES_MAX);
    esi_bytes_init(&health->found, FOUND_BYTES_MAX);
}

void esi_monitor_health_deinit(struct esi_monitor_health *health)
{
    esi_bytes_deinit(&health->degraded);
    esi_bytes_deinit(&health->found);
}

/* --- what is found --- */

static void add(struct esi_monitor_health *health, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct esi_monitor_health *health, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    esi_json_writer_str(&health->json, esi_str_from(text));
    health->found_count++;
}

static void look_at_remote(void *argument, const struct esi_gateway_remote_info *info)
{
    if (info->is_configured && strcmp(info->state, "linked") != 0) {
        add(argument, "gateway %.128s is not linked: %s", info->name, info->state);
    }
}

static void look_at_memory(struct esi_monitor_health *health)
{
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        const enum esi_memory_class class = (enum esi_memory_class)i;
        /* What could be done without may be used up: nobody is refused because of that. */
        if (class != MEMORY_AUXILIARY && esi_ledger_is_short(health->context->ledger, class)) {
            add(health, "memory is short (%s)", esi_ledger_class_name(class));
        }
    }
}

static void look_at_certificate(struct esi_monitor_health *health)
{
    const struct esi_context *context = health->context;
    const int64_t now_s = esi_env_wall_ns(context->env) / 1000000000;
    const int64_t end_s =
        context->client_tls != NULL ? esi_tls_context_not_after_s(context->client_tls) : 0;

    if (end_s > 0 && end_s <= now_s) {
        add(health, "the certificate for clients has expired");
    } else if (end_s > 0 && end_s - now_s < CERTIFICATE_S) {
        add(health, "the certificate for clients expires within 7 days");
    }
}

static void look_at_queue(struct esi_monitor_health *health, const struct esi_queue_figures *queue)
{
    if (queue->events >= queue->event_limit) {
        add(health, "the event queue is full");
    }
    for (uint32_t i = 0; i < queue->handler_count; i++) {
        const struct esi_queue_handler_figures *handler = &queue->handlers[i];
        if (handler->has_worker && !handler->is_up) {
            add(health, "handler %.128s has no connection to its worker service", handler->name);
        }
        if (handler->share > 0 &&
            handler->queued + handler->in_flight + handler->retrying >= handler->share) {
            add(health, "handler %.128s has filled its share of the event queue", handler->name);
        }
    }
}

/* --- the look --- */

static void visit_worker(struct esi_worker *worker, void *argument)
{
    struct esi_monitor_health *health = argument;

    /* order: relaxed; only said to people, by the monitor, which may see an older one. */
    atomic_store_explicit(&health->worker, esi_worker_index(worker) + 1, memory_order_relaxed);
}

static void visit(struct esi_actor *actor, void *argument)
{
    if (actor->type == &esi_gateway_type) {
        esi_gateway_each_remote(actor, look_at_remote, argument);
    }
}

void esi_monitor_health_begin(struct esi_monitor_health *health, uint64_t now_ns,
                              uint64_t asked_end)
{
    health->is_looking = true;
    health->begin_ns = now_ns;
    health->asked_end = asked_end;
    health->found_count = 0;
    esi_bytes_clear(&health->found);
    esi_json_writer_init(&health->json, &health->found, false);
    esi_json_writer_array_start(&health->json);
    /* order: relaxed; as above. */
    atomic_store_explicit(&health->worker, 0, memory_order_relaxed);
    health->visited_msg = (struct esi_msg){.kind = health->visited_kind, .free = keep};
    health->visit = (struct esi_visit){.visit = visit,
                                       .visit_worker = visit_worker,
                                       .argument = health,
                                       .asker = health->asker,
                                       .done = &health->visited_msg};
    esi_actor_ref(health->asker);
    esi_runtime_visit(health->context->runtime, &health->visit);
}

static void end(struct esi_monitor_health *health, const char *failure, uint64_t now_ns)
{
    const uint64_t fresh_ns = (now_ns - health->begin_ns) * FRESH_FACTOR;

    look_at_memory(health);
    look_at_certificate(health);
    esi_json_writer_array_end(&health->json);
    snprintf(health->failure, sizeof health->failure, "%s", failure);
    esi_bytes_clear(&health->degraded);
    /* Out of memory, or too much to say: the number alone is told. */
    esi_bytes_append_str(&health->degraded,
                         health->found.failed ? ESI_STR("[]") : esi_bytes_str(&health->found));
    health->degraded_count = health->found_count;
    health->fresh_until_ns = now_ns + (fresh_ns < FRESH_NS_MAX ? fresh_ns : FRESH_NS_MAX);
    health->is_looking = false;
    esi_actor_unref(health->asker);
}

bool esi_monitor_health_visited(struct esi_monitor_health *health, uint64_t now_ns)
{
    if (health->context->queue == NULL) {
        end(health, "", now_ns);
        return true;
    }
    struct esi_queue_report *report =
        esi_queue_report_new(health->asker, health->reported_kind, ESI_STR(""), 0, 1);
    if (report == NULL) {
        end(health, "out of memory", now_ns);
        return true;
    }
    esi_queue_report(health->context->queue, report);
    return false;
}

void esi_monitor_health_reported(struct esi_monitor_health *health,
                                 const struct esi_queue_report *report, uint64_t now_ns)
{
    if (report->err == ES_OK) {
        look_at_queue(health, &report->figures);
    }
    end(health, report->err == ES_CLOSED ? "the event queue has stopped" : "", now_ns);
}

uint64_t esi_monitor_health_deadline_ns(const struct esi_monitor_health *health)
{
    return health->begin_ns + STALLED_NS;
}

bool esi_monitor_health_is_stalled(const struct esi_monitor_health *health, uint64_t now_ns,
                                   char text[ESI_MONITOR_HEALTH_TEXT_MAX])
{
    if (!health->is_looking || now_ns < esi_monitor_health_deadline_ns(health)) {
        return false;
    }
    /* order: relaxed; as in visit_worker. */
    const uint32_t worker = atomic_load_explicit(&health->worker, memory_order_relaxed);
    const uint64_t seconds = (now_ns - health->begin_ns) / 1000000000;
    if (worker < esi_runtime_worker_count(health->context->runtime)) {
        snprintf(text, ESI_MONITOR_HEALTH_TEXT_MAX, "worker %u has not responded for %llu s",
                 worker, (unsigned long long)seconds);
    } else {
        snprintf(text, ESI_MONITOR_HEALTH_TEXT_MAX,
                 "the event queue, or a worker, has not responded for %llu s",
                 (unsigned long long)seconds);
    }
    return true;
}
