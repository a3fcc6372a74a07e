/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /metrics: figures for Prometheus, as OpenMetrics text or in the older text form. The families,
 * their order, types and texts stand in metrics.def; here they get their values. What this server
 * does not have (a queue, a gateway) leaves its families out.
 */
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/gateway_link.h"
#include "actors/monitor_page.h"
#include "base/assert.h"
#include "base/own.h"
#include "net/tls.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum metric {
#define METRIC(id, name, type, unit, labels, help) id,
#include "actors/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_type { GAUGE, COUNTER, HISTOGRAM, INFO };

struct family {
    const char *name;
    enum metric_type type;
    const char *unit;
    const char *labels;
    const char *help;
};

static const struct family families[METRIC_COUNT] = {
#define METRIC(id, name, type, unit, labels, help) [id] = {name, type, unit, labels, help},
#include "actors/metrics.def"
#undef METRIC
};

enum { TYPES_MAX = 32, REMOTE_STATES = 4 };

static const char *const remote_states[REMOTE_STATES] = {"waiting", "resolving", "dialling",
                                                         "linked"};

struct worker_figures {
    struct esi_worker_stats stats;
    struct esi_worker_times times;
    struct esi_match_cache_stats cache;
    struct esi_batch_stats batch;
};

struct type_figures {
    const struct esi_actor_type *type;
    uint64_t actors;
    uint64_t depth;
};

struct metrics {
    struct esi_monitor_page page; /* first */
    enum esi_monitor_step step;   /* what was asked for last */
    /* from the visit */
    struct worker_figures *workers; /* owned: one a worker */
    struct type_figures types[TYPES_MAX];
    uint32_t type_count;
    struct esi_monitor_totals living;
    uint64_t client_pending;
    uint64_t link_pending;
    uint64_t links_inbound;
    uint64_t links_outbound;
    uint64_t remotes[REMOTE_STATES];
    /* the page */
    const struct family *family; /* whose samples are being written */
};

static struct metrics *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct metrics, page);
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct metrics *self = calloc(1, sizeof *self);

    (void)query;
    return self != NULL ? &self->page : NULL;
}

static void free_page(struct esi_monitor_page *page)
{
    struct metrics *self = self_of(page);

    free(self->workers);
    free(self);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    struct metrics *self = self_of(page);

    self->workers = calloc(esi_runtime_worker_count(page->context->runtime), sizeof *self->workers);
    if (self->workers == NULL) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    self->step = STEP_SAMPLE;
    return self->step;
}

/* --- in the visit --- */

static void visit_worker(struct esi_monitor_page *page, struct esi_worker *worker)
{
    struct worker_figures *figures = &self_of(page)->workers[esi_worker_index(worker)];
    const struct esi_local *local = esi_worker_local(worker);

    esi_worker_stats(worker, &figures->stats);
    figures->times = *esi_worker_times(worker);
    if (local != NULL) {
        esi_match_cache_stats(local->cache, &figures->cache);
        esi_batch_stats(local->batch, &figures->batch);
    }
}

static void count_connection(struct metrics *self, const struct esi_actor *actor)
{
    struct esi_connection_info info;

    esi_connection_info(actor, &info);
    esi_monitor_page_count_client(&self->living, &info);
    self->client_pending += info.pending_bytes;
}

static void count_link(struct metrics *self, const struct esi_actor *actor)
{
    struct esi_gateway_link_info info;

    esi_gateway_link_info(actor, &info);
    esi_monitor_page_count_link(&self->living, &info);
    self->link_pending += info.pending_bytes;
    if (info.is_open && info.name.len > 0) {
        self->links_inbound += !info.is_outbound;
        self->links_outbound += info.is_outbound;
    }
}

static void count_remote(void *argument, const struct esi_gateway_remote_info *info)
{
    struct metrics *self = argument;

    for (uint32_t i = 0; i < REMOTE_STATES; i++) {
        self->remotes[i] += strcmp(info->state, remote_states[i]) == 0;
    }
}

/* The type's place; the last one takes what is too many. */
static struct type_figures *find_type(struct metrics *self, const struct esi_actor_type *type)
{
    for (uint32_t i = 0; i < self->type_count; i++) {
        if (self->types[i].type == type) {
            return &self->types[i];
        }
    }
    if (self->type_count == TYPES_MAX) {
        return &self->types[TYPES_MAX - 1];
    }
    self->types[self->type_count].type = type;
    return &self->types[self->type_count++];
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct metrics *self = self_of(page);
    struct type_figures *type = find_type(self, actor->type);

    esi_mailbox_take(&actor->mailbox);
    type->actors++;
    type->depth += actor->mailbox.depth;
    if (actor->type == &esi_connection_type) {
        count_connection(self, actor);
    } else if (actor->type == &esi_gateway_link_type) {
        count_link(self, actor);
    } else if (actor->type == &esi_gateway_type) {
        esi_gateway_each_remote(actor, count_remote, self);
    }
}

/* --- writing --- */

static const char *suffix_of(const struct family *family)
{
    return family->type == COUNTER ? "_total" : family->type == INFO ? "_info" : "";
}

/* The lines that head a family. In the older form a counter's suffix is part of the family's name,
 * and there is no info. */
static void begin_family(struct metrics *self, enum metric metric)
{
    static const char *const types[] = {"gauge", "counter", "histogram", "info"};
    const struct family *family = &families[metric];
    struct esi_bytes *out = &self->page.body;
    const bool is_plain = self->page.query.has_plain_text;
    const char *suffix = is_plain ? suffix_of(family) : "";
    const char *type = types[is_plain && family->type == INFO ? GAUGE : family->type];

    self->family = family;
    esi_bytes_printf(out, "# TYPE %s%s %s\n", family->name, suffix, type);
    if (!is_plain && family->unit[0] != '\0') {
        esi_bytes_printf(out, "# UNIT %s %s\n", family->name, family->unit);
    }
    esi_bytes_printf(out, "# HELP %s%s %s\n", family->name, suffix, family->help);
}

/* A label's value: names from the configuration can hold anything. */
static void put_label_value(struct esi_bytes *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '\\':
            esi_bytes_append_text(out, "\\\\");
            break;
        case '"':
            esi_bytes_append_text(out, "\\\"");
            break;
        case '\n':
            esi_bytes_append_text(out, "\\n");
            break;
        default:
            esi_bytes_append(out, text, 1);
        }
    }
}

/* Name and label of a sample; value NULL: the family has no label. */
static void put_name(struct metrics *self, const char *suffix, const char *value)
{
    struct esi_bytes *out = &self->page.body;

    esi_bytes_printf(out, "%s%s", self->family->name, suffix);
    if (value != NULL) {
        esi_bytes_printf(out, "{%s=\"", self->family->labels);
        put_label_value(out, value);
        esi_bytes_append_text(out, "\"}");
    }
    esi_bytes_append_text(out, " ");
}

static void put_u64(struct metrics *self, const char *label, uint64_t value)
{
    put_name(self, suffix_of(self->family), label);
    esi_bytes_printf(&self->page.body, "%llu\n", (unsigned long long)value);
}

static void put_ns(struct esi_bytes *out, uint64_t ns)
{
    esi_bytes_printf(out, "%llu.%09llu", (unsigned long long)(ns / 1000000000),
                     (unsigned long long)(ns % 1000000000));
}

/* Seconds, from nanoseconds. */
static void put_time(struct metrics *self, const char *label, uint64_t ns)
{
    put_name(self, suffix_of(self->family), label);
    put_ns(&self->page.body, ns);
    esi_bytes_append_text(&self->page.body, "\n");
}

/* A family of one sample without a label. */
static void put_single(struct metrics *self, enum metric metric, uint64_t value)
{
    begin_family(self, metric);
    put_u64(self, NULL, value);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    /* order: relaxed; a figure on a page. */
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t load_u32(const _Atomic uint32_t *counter)
{
    /* order: relaxed; a figure on a page. */
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void put_build(struct metrics *self)
{
    const struct esi_context *context = self->page.context;
    struct esi_bytes *out = &self->page.body;

    begin_family(self, METRIC_BUILD);
    esi_bytes_printf(out, "%s_info{version=\"%s\",protocol_version=\"%.*s\",server_id=\"%s\"",
                     self->family->name, ESI_VERSION, (int)ESI_PROTOCOL_VERSION.len,
                     ESI_PROTOCOL_VERSION.data, context->server_id);
    esi_bytes_append_text(out, ",server_name=\"");
    put_label_value(out, context->config->service.name);
    esi_bytes_append_text(out, "\",tls_library=\"");
    put_label_value(out, esi_tls_build_name());
    esi_bytes_append_text(out, "\"} 1\n");
}

static void put_server(struct metrics *self)
{
    const struct esi_monitor_page *page = &self->page;
    const struct esi_monitor_facts *facts = page->facts;
    const struct esi_context *context = page->context;

    put_build(self);
    put_single(self, METRIC_READY, !facts->is_degraded);
    begin_family(self, METRIC_START_TIME);
    put_time(self, NULL, (uint64_t)context->start_wall_ns);
    begin_family(self, METRIC_CPU);
    put_time(self, NULL, (uint64_t)(facts->cpu_s * 1e9));
    put_single(self, METRIC_MEMORY, facts->mem_bytes);
    if (context->client_tls != NULL) {
        const int64_t not_after_s = esi_tls_context_not_after_s(context->client_tls);
        put_single(self, METRIC_CERTIFICATE, not_after_s > 0 ? (uint64_t)not_after_s : 0);
    }
    begin_family(self, METRIC_PAGES);
    for (int kind = 0; kind < MONITOR_KIND_COUNT; kind++) {
        put_u64(self, esi_monitor_query_path((enum esi_monitor_kind)kind), facts->requests[kind]);
    }
}

static void put_memory(struct metrics *self)
{
    const struct esi_ledger *ledger = self->page.context->ledger;

    begin_family(self, METRIC_MEMORY_LIMIT);
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        put_u64(self, esi_ledger_class_name((enum esi_memory_class)i),
                ledger->classes[i].limit_bytes);
    }
    begin_family(self, METRIC_MEMORY_LEASED);
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        const enum esi_memory_class class = (enum esi_memory_class)i;
        put_u64(self, esi_ledger_class_name(class), esi_ledger_leased_bytes(ledger, class));
    }
    begin_family(self, METRIC_MEMORY_REFUSED);
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        put_u64(self, esi_ledger_class_name((enum esi_memory_class)i),
                load(&ledger->classes[i].refused));
    }
    begin_family(self, METRIC_MEMORY_OWNED);
    for (int i = 0; i < MEMORY_OWNER_COUNT; i++) {
        const enum esi_memory_owner owner = (enum esi_memory_owner)i;
        put_u64(self, esi_ledger_owner_name(owner), esi_ledger_owner_bytes(ledger, owner));
    }
}

static void put_clients(struct metrics *self)
{
    const struct esi_context *context = self->page.context;
    const struct esi_counters *counters = &context->counters;
    const struct esi_monitor_sums all =
        esi_monitor_page_sum(esi_monitor_page_totals(&self->page, &self->living));

    put_single(self, METRIC_CONNECTIONS, load_u32(&counters->connections));
    put_single(self, METRIC_ACCEPTED, load(&counters->connections_total));
    put_single(self, METRIC_CONNECTIONS_MAX, context->config->limits.max_connections);
    put_single(self, METRIC_LISTENERS, load_u32(&counters->listeners));
    put_single(self, METRIC_SUBSCRIPTIONS, esi_subtable_count(context->table));
    put_single(self, METRIC_SLOW_CONSUMERS, load(&counters->slow_consumers));
    put_single(self, METRIC_AUTH_FAILURES, load(&counters->auth_failures));
    begin_family(self, METRIC_PENDING);
    put_u64(self, "client", self->client_pending);
    put_u64(self, "gateway", self->link_pending);
    put_single(self, METRIC_RECEIVED, all.in_msgs);
    put_single(self, METRIC_RECEIVED_BYTES, all.in_bytes);
    put_single(self, METRIC_SENT, all.out_msgs);
    put_single(self, METRIC_SENT_BYTES, all.out_bytes);
}

static void put_gateways(struct metrics *self)
{
    if (self->page.context->gateway == NULL) {
        return;
    }
    begin_family(self, METRIC_GATEWAY_LINKS);
    put_u64(self, "inbound", self->links_inbound);
    put_u64(self, "outbound", self->links_outbound);
    put_single(self, METRIC_GATEWAY_LOST, load(&self->page.context->counters.gateway_lost_msgs));
    begin_family(self, METRIC_GATEWAY_REMOTES);
    for (uint32_t i = 0; i < REMOTE_STATES; i++) {
        put_u64(self, remote_states[i], self->remotes[i]);
    }
}

/* --- workers: a row says where the figure stands --- */

static uint64_t figure_of(const struct worker_figures *worker, enum metric metric)
{
    const struct esi_worker_stats *stats = &worker->stats;
    const struct {
        enum metric metric;
        uint64_t value;
    } rows[] = {
        {METRIC_WORKER_BUSY, stats->busy_ns},
        {METRIC_WORKER_IDLE, stats->idle_ns},
        {METRIC_WORKER_TURNS, stats->turns},
        {METRIC_WORKER_SLEEPS, stats->sleeps},
        {METRIC_WORKER_WAKES, stats->wakes_sent},
        {METRIC_WORKER_MESSAGES, stats->messages},
        {METRIC_WORKER_REMOTE, stats->messages_remote},
        {METRIC_WORKER_MOVES_IN, stats->moves_in},
        {METRIC_WORKER_MOVES_OUT, stats->moves_out},
        {METRIC_WORKER_ACTORS, stats->actors},
        {METRIC_WORKER_QUEUE, stats->run_queue_length},
        {METRIC_CACHE_HITS, worker->cache.hits},
        {METRIC_CACHE_MISSES, worker->cache.misses},
        {METRIC_CACHE_ENTRIES, worker->cache.entries},
        {METRIC_DROPPED, worker->batch.dropped},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (rows[i].metric == metric) {
            return rows[i].value;
        }
    }
    return 0;
}

static void put_bucket(struct metrics *self, const char *label, uint64_t end_ns, uint64_t count)
{
    struct esi_bytes *out = &self->page.body;

    esi_bytes_printf(out, "%s_bucket{%s=\"%s\",le=\"", self->family->name, self->family->labels,
                     label);
    if (end_ns == UINT64_MAX) {
        esi_bytes_append_text(out, "+Inf");
    } else {
        put_ns(out, end_ns);
    }
    esi_bytes_printf(out, "\"} %llu\n", (unsigned long long)count);
}

/* Whole powers of two only: half the lines, and still closer than most boards ask for. */
static void put_histogram(struct metrics *self, const char *label,
                          const struct esi_time_totals *totals)
{
    uint64_t count = 0;

    for (size_t i = 0; i < ESI_TIME_BUCKETS; i++) {
        count += totals->counts[i];
        if (i % 2 == 0 || i == ESI_TIME_BUCKETS - 1) {
            put_bucket(self, label, esi_time_histogram_end_ns(i), count);
        }
    }
    put_name(self, "_count", label);
    esi_bytes_printf(&self->page.body, "%llu\n", (unsigned long long)count);
    put_name(self, "_sum", label);
    put_ns(&self->page.body, totals->sum_ns);
    esi_bytes_append_text(&self->page.body, "\n");
}

static void put_worker_family(struct metrics *self, enum metric metric)
{
    const uint32_t count = esi_runtime_worker_count(self->page.context->runtime);
    char label[16];

    begin_family(self, metric);
    for (uint32_t i = 0; i < count; i++) {
        const struct worker_figures *worker = &self->workers[i];
        snprintf(label, sizeof label, "%u", i);
        if (metric == METRIC_WAITING) {
            put_histogram(self, label, &worker->times.waiting);
        } else if (metric == METRIC_SERVICE) {
            put_histogram(self, label, &worker->times.service);
        } else if (self->family->unit[0] != '\0') {
            put_time(self, label, figure_of(worker, metric));
        } else {
            put_u64(self, label, figure_of(worker, metric));
        }
    }
}

static void put_workers(struct metrics *self)
{
    for (int metric = METRIC_WORKER_BUSY; metric <= METRIC_DROPPED; metric++) {
        put_worker_family(self, (enum metric)metric);
    }
}

static void put_actors(struct metrics *self)
{
    const struct esi_monitor_page *page = &self->page;
    const uint32_t routers = page->context->router_count;
    char label[16];

    begin_family(self, METRIC_ACTORS);
    for (uint32_t i = 0; i < self->type_count; i++) {
        put_u64(self, self->types[i].type->name, self->types[i].actors);
    }
    begin_family(self, METRIC_ACTOR_DEPTH);
    for (uint32_t i = 0; i < self->type_count; i++) {
        put_u64(self, self->types[i].type->name, self->types[i].depth);
    }
    begin_family(self, METRIC_ROUTER_MESSAGES);
    for (uint32_t i = 0; i < routers; i++) {
        snprintf(label, sizeof label, "%u", i);
        put_u64(self, label, page->facts->routers[i].stats.messages);
    }
    begin_family(self, METRIC_ROUTER_DEPTH);
    for (uint32_t i = 0; i < routers; i++) {
        snprintf(label, sizeof label, "%u", i);
        put_u64(self, label, page->facts->routers[i].depth);
    }
}

/* --- the queue --- */

static uint64_t handler_figure(const struct esi_queue_handler_figures *handler, enum metric metric)
{
    const struct {
        enum metric metric;
        uint64_t value;
    } rows[] = {
        {METRIC_HANDLER_UP, handler->is_up},
        {METRIC_HANDLER_QUEUED, handler->queued},
        {METRIC_HANDLER_FLIGHT, handler->in_flight},
        {METRIC_HANDLER_RETRYING, handler->retrying},
        {METRIC_HANDLER_SHARE, handler->share},
        {METRIC_HANDLER_OLDEST, handler->oldest_age_ns},
        {METRIC_HANDLER_DELIVERED, handler->delivered},
        {METRIC_HANDLER_FAILED, handler->failed},
        {METRIC_HANDLER_DEAD, handler->dead},
        {METRIC_HANDLER_CONNECTS, handler->connects},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (rows[i].metric == metric) {
            return rows[i].value;
        }
    }
    return 0;
}

static void put_handlers(struct metrics *self, const struct esi_queue_figures *queue)
{
    for (int i = METRIC_HANDLER_UP; i <= METRIC_HANDLER_CONNECTS; i++) {
        const enum metric metric = (enum metric)i;
        begin_family(self, metric);
        for (uint32_t handler = 0; handler < queue->handler_count; handler++) {
            const struct esi_queue_handler_figures *figures = &queue->handlers[handler];
            if (metric == METRIC_HANDLER_OLDEST) {
                put_time(self, figures->name, figures->oldest_age_ns);
            } else {
                put_u64(self, figures->name, handler_figure(figures, metric));
            }
        }
    }
}

static void put_queue(struct metrics *self)
{
    const struct esi_monitor_facts *facts = self->page.facts;
    const struct esi_queue_figures *queue = &facts->queue;

    if (facts->events_err != ES_OK) {
        return;
    }
    put_single(self, METRIC_QUEUE_EVENTS, queue->events);
    put_single(self, METRIC_QUEUE_LIMIT, queue->event_limit);
    put_single(self, METRIC_QUEUE_BYTES, queue->bytes);
    begin_family(self, METRIC_QUEUE_RECEIVED);
    for (uint32_t i = 0; i < ESI_QUEUE_ORIGINS; i++) {
        put_u64(self, esi_queue_report_origin_text(i), queue->received[i]);
    }
    begin_family(self, METRIC_QUEUE_REFUSED);
    for (uint32_t i = 0; i < ESI_QUEUE_REFUSALS; i++) {
        put_u64(self, esi_queue_report_refusal_text(i), queue->refused[i]);
    }
    put_single(self, METRIC_QUEUE_ACCEPTED, queue->accepted);
    put_single(self, METRIC_QUEUE_FINISHED, queue->finished);
    put_single(self, METRIC_QUEUE_UNROUTED, queue->unrouted);
    put_single(self, METRIC_QUEUE_HELD, queue->held);
    put_handlers(self, queue);
    put_single(self, METRIC_LETTERS, queue->letters);
    put_single(self, METRIC_LETTERS_BYTES, queue->letter_bytes);
    put_single(self, METRIC_LETTERS_ADDED, queue->letters_added);
    put_single(self, METRIC_LETTERS_LOST, queue->letters_lost);
}

/* --- the page --- */

static enum esi_monitor_step finish(struct metrics *self)
{
    struct esi_monitor_page *page = &self->page;

    put_server(self);
    put_memory(self);
    put_clients(self);
    put_gateways(self);
    put_workers(self);
    put_actors(self);
    put_queue(self);
    page->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (!page->query.has_plain_text) {
        esi_bytes_append_text(&page->body, "# EOF\n");
        page->content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    }
    if (page->body.failed) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    page->status = 200;
    return STEP_DONE;
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct metrics *self = self_of(page);

    switch (self->step) {
    case STEP_SAMPLE:
        self->step = STEP_ROUTERS;
        break;
    case STEP_ROUTERS:
        self->step = STEP_EVENTS;
        break;
    case STEP_EVENTS:
        self->step = STEP_VISIT;
        break;
    case STEP_VISIT:
    case STEP_WORK:
    case STEP_YIELD:
    case STEP_DONE:
        return finish(self);
    }
    return self->step;
}

const struct esi_monitor_page_type esi_monitor_metrics_page = {.make = make,
                                                               .begin = begin,
                                                               .visit = visit,
                                                               .visit_worker = visit_worker,
                                                               .next = next,
                                                               .free = free_page};
