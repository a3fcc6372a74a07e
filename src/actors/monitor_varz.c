/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /varz: nats-server's names and types, and ours: event_service, tls_library, workers. */
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/gateway_link.h"
#include "actors/monitor_page.h"
#include "actors/monitor_text.h"
#include "base/own.h"
#include "net/tls.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

struct varz {
    struct esi_monitor_page page; /* first */
    bool has_sample;
    struct esi_monitor_totals living;
};

static struct varz *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct varz, page);
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct varz *self = calloc(1, sizeof *self);

    (void)query;
    return self != NULL ? &self->page : NULL;
}

static void free_page(struct esi_monitor_page *page)
{
    free(self_of(page));
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_SAMPLE;
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct varz *self = self_of(page);

    if (actor->type == &esi_connection_type) {
        struct esi_connection_info info;
        esi_connection_info(actor, &info);
        esi_monitor_page_count_client(&self->living, &info);
    } else if (actor->type == &esi_gateway_link_type) {
        struct esi_gateway_link_info info;
        esi_gateway_link_info(actor, &info);
        esi_monitor_page_count_link(&self->living, &info);
    }
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    /* order: relaxed; a figure on a page. */
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void write_identity(struct esi_json_writer *json, const struct esi_context *context)
{
    const struct esi_config *config = context->config;

    esi_json_writer_field_text(json, "server_name", config->service.name);
    esi_json_writer_field_str(json, "version", ESI_PROTOCOL_VERSION);
    esi_json_writer_field_u64(json, "proto", 1);
    esi_json_writer_field_text(json, "go", "");
    esi_json_writer_field_text(json, "event_service", ESI_VERSION);
    esi_json_writer_field_text(json, "tls_library", esi_tls_build_name());
    esi_json_writer_field_text(json, "host", config->service.host);
    esi_json_writer_field_u64(json, "port", context->client_bound.port);
    esi_json_writer_field_text(json, "config_digest", config->digest);
    if (context->auth_required) {
        esi_json_writer_field_bool(json, "auth_required", true);
    }
    if (context->client_tls != NULL) {
        esi_json_writer_field_bool(json, "tls_required", !config->tls.allow_plain);
        if (esi_tls_context_is_verifying(context->client_tls)) {
            esi_json_writer_field_bool(json, "tls_verify", true);
        }
        const int64_t not_after_s = esi_tls_context_not_after_s(context->client_tls);
        if (not_after_s > 0) {
            esi_monitor_page_field_wall(json, "tls_cert_not_after", not_after_s * 1000000000);
        }
    }
}

static void write_monitor(struct esi_json_writer *json, const struct esi_monitor_page *page)
{
    const struct esi_config_monitor *monitor = &page->context->config->monitor;
    const uint16_t port = page->facts->port;

    esi_json_writer_field_text(json, "http_host", monitor->host);
    esi_json_writer_field_u64(json, "http_port", monitor->tls.is_set ? 0 : port);
    esi_json_writer_field_text(json, "http_base_path", "");
    esi_json_writer_field_u64(json, "https_port", monitor->tls.is_set ? port : 0);
}

static void write_limits(struct esi_json_writer *json, const struct esi_context *context)
{
    const struct esi_config *config = context->config;

    esi_json_writer_field_u64(json, "max_connections", config->limits.max_connections);
    if (config->limits.max_subscriptions > 0) {
        esi_json_writer_field_u64(json, "max_subscriptions", config->limits.max_subscriptions);
    }
    esi_json_writer_field_u64(json, "ping_interval", config->limits.ping_interval_ns);
    esi_json_writer_field_u64(json, "ping_max", config->limits.ping_max);
    esi_json_writer_field_double(json, "auth_timeout", seconds(config->auth.timeout_ns));
    esi_json_writer_field_u64(json, "max_control_line", config->limits.max_control_line_bytes);
    esi_json_writer_field_u64(json, "max_payload", config->limits.max_payload_bytes);
    esi_json_writer_field_u64(json, "max_pending", config->limits.max_pending_bytes);
    esi_json_writer_field_double(json, "tls_timeout", seconds(config->tls.timeout_ns));
    esi_json_writer_field_u64(json, "write_deadline", config->limits.write_deadline_ns);
}

static void write_empty(struct esi_json_writer *json, const char *key)
{
    esi_json_writer_key(json, key);
    esi_json_writer_object_start(json);
    esi_json_writer_object_end(json);
}

static void write_parts(struct esi_json_writer *json, const struct esi_context *context)
{
    const struct esi_config_gateway *gateway = &context->config->gateway;

    write_empty(json, "cluster");
    esi_json_writer_key(json, "gateway");
    esi_json_writer_object_start(json);
    if (context->gateway != NULL) {
        esi_json_writer_field_text(json, "name", gateway->name);
        esi_json_writer_field_text(json, "host", gateway->host);
        esi_json_writer_field_u64(json, "port", esi_gateway_port(context->gateway));
        esi_json_writer_field_double(json, "auth_timeout",
                                     seconds(context->config->auth.timeout_ns));
        esi_json_writer_field_double(json, "tls_timeout", seconds(gateway->tls.timeout_ns));
        if (gateway->tls.is_set) {
            esi_json_writer_field_bool(json, "tls_required", true);
        }
    }
    esi_json_writer_object_end(json);
    write_empty(json, "leaf");
    write_empty(json, "mqtt");
    write_empty(json, "websocket");
    write_empty(json, "jetstream");
}

static void write_process(struct varz *self, struct esi_json_writer *json)
{
    const struct esi_monitor_page *page = &self->page;
    const struct esi_context *context = page->context;
    const uint32_t workers = esi_runtime_worker_count(context->runtime);
    char text[ESI_MONITOR_TEXT_MAX];

    esi_monitor_page_field_wall(json, "start", context->start_wall_ns);
    esi_monitor_page_field_wall(json, "config_load_time", context->start_wall_ns);
    esi_monitor_text_uptime(page->now_ns - context->start_ns, text);
    esi_json_writer_field_text(json, "uptime", text);
    esi_json_writer_field_u64(json, "mem", page->facts->mem_bytes);
    esi_json_writer_field_double(json, "cpu", page->facts->cpu_percent);
    esi_json_writer_field_u64(json, "cores", page->facts->cores);
    esi_json_writer_field_u64(json, "gomaxprocs", workers);
    esi_json_writer_field_u64(json, "workers", workers);
}

static void write_traffic(struct varz *self, struct esi_json_writer *json)
{
    const struct esi_context *context = self->page.context;
    const struct esi_counters *counters = &context->counters;
    const struct esi_monitor_totals *totals = esi_monitor_page_totals(&self->page, &self->living);
    const struct esi_monitor_sums all = esi_monitor_page_sum(totals);
    const uint64_t slow_gateways = load(&counters->slow_gateways);
    const uint64_t slow_consumers = load(&counters->slow_consumers);

    /* order: relaxed; a figure on a page. */
    const uint32_t connections = atomic_load_explicit(&counters->connections, memory_order_relaxed);
    esi_json_writer_field_u64(json, "connections", connections);
    esi_json_writer_field_u64(json, "total_connections", load(&counters->connections_total));
    esi_json_writer_field_u64(json, "routes", 0);
    esi_json_writer_field_u64(json, "remotes", 0);
    esi_json_writer_field_u64(json, "leafnodes", 0);
    esi_json_writer_field_u64(json, "in_msgs", all.in_msgs);
    esi_json_writer_field_u64(json, "out_msgs", all.out_msgs);
    esi_json_writer_field_u64(json, "in_bytes", all.in_bytes);
    esi_json_writer_field_u64(json, "out_bytes", all.out_bytes);
    esi_json_writer_field_u64(json, "in_client_msgs", totals->clients.in_msgs);
    esi_json_writer_field_u64(json, "out_client_msgs", totals->clients.out_msgs);
    esi_json_writer_field_u64(json, "in_client_bytes", totals->clients.in_bytes);
    esi_json_writer_field_u64(json, "out_client_bytes", totals->clients.out_bytes);
    esi_json_writer_field_u64(json, "slow_consumers", slow_consumers);
    esi_json_writer_key(json, "slow_consumer_stats");
    esi_json_writer_object_start(json);
    /* The two are counted one after the other: not more of the part than of the whole. */
    esi_json_writer_field_u64(json, "clients",
                              slow_consumers > slow_gateways ? slow_consumers - slow_gateways : 0);
    esi_json_writer_field_u64(json, "routes", 0);
    esi_json_writer_field_u64(json, "gateways", slow_gateways);
    esi_json_writer_field_u64(json, "leafs", 0);
    esi_json_writer_object_end(json);
    esi_json_writer_field_u64(json, "auth_failures", load(&counters->auth_failures));
    esi_json_writer_field_u64(json, "subscriptions", esi_subtable_count(context->table));
}

/* The ledger: bytes by owner, and what each class may have and has. */
static void write_memory(struct esi_json_writer *json, const struct esi_context *context)
{
    const struct esi_ledger *ledger = context->ledger;

    esi_json_writer_key(json, "memory");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "limit", ledger->limit_bytes);
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        const enum esi_memory_class class = (enum esi_memory_class)i;
        esi_json_writer_key(json, esi_ledger_class_name(class));
        esi_json_writer_object_start(json);
        esi_json_writer_field_u64(json, "limit", ledger->classes[i].limit_bytes);
        esi_json_writer_field_u64(json, "leased", esi_ledger_leased_bytes(ledger, class));
        esi_json_writer_field_bool(json, "short", esi_ledger_is_short(ledger, class));
        esi_json_writer_field_u64(json, "refused", load(&ledger->classes[i].refused));
        esi_json_writer_object_end(json);
    }
    esi_json_writer_key(json, "owners");
    esi_json_writer_object_start(json);
    for (int i = 0; i < MEMORY_OWNER_COUNT; i++) {
        const enum esi_memory_owner owner = (enum esi_memory_owner)i;
        esi_json_writer_field_u64(json, esi_ledger_owner_name(owner),
                                  esi_ledger_owner_bytes(ledger, owner));
    }
    esi_json_writer_object_end(json);
    esi_json_writer_field_u64(json, "slow_consumers",
                              load(&context->counters.memory_slow_consumers));
    esi_json_writer_field_u64(json, "pauses", load(&context->counters.memory_pauses));
    esi_json_writer_field_u64(json, "gateway_lost_msgs",
                              load(&context->counters.gateway_lost_msgs));
    esi_json_writer_object_end(json);
}

static void write_requests(const struct esi_monitor_facts *facts, struct esi_json_writer *json)
{
    esi_json_writer_key(json, "http_req_stats");
    esi_json_writer_object_start(json);
    for (int kind = 0; kind < MONITOR_KIND_COUNT; kind++) {
        if (facts->requests[kind] > 0) {
            esi_json_writer_field_u64(json, esi_monitor_query_path((enum esi_monitor_kind)kind),
                                      facts->requests[kind]);
        }
    }
    esi_json_writer_object_end(json);
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct varz *self = self_of(page);
    struct esi_json_writer *json = &page->json;

    if (!self->has_sample) {
        self->has_sample = true;
        return STEP_VISIT;
    }
    esi_monitor_page_start(page);
    write_identity(json, page->context);
    write_monitor(json, page);
    write_limits(json, page->context);
    write_parts(json, page->context);
    write_process(self, json);
    write_traffic(self, json);
    write_memory(json, page->context);
    write_requests(page->facts, json);
    return esi_monitor_page_end(page);
}

const struct esi_monitor_page_type esi_monitor_varz_page = {
    .make = make, .begin = begin, .visit = visit, .next = next, .free = free_page};
