/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of pages, and the fields that several pages share. See monitor_page.h. */
#include "actors/monitor_page.h"
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/gateway_link.h"
#include "actors/monitor_text.h"
#include "base/assert.h"
#include "env/env.h"
#include "net/certificate.h"

#include <stdlib.h>

static const struct esi_monitor_page_type *const types[MONITOR_KIND_COUNT] = {
    [MONITOR_VARZ] = &esi_monitor_varz_page,         [MONITOR_CONNZ] = &esi_monitor_connz_page,
    [MONITOR_GATEWAYZ] = &esi_monitor_gatewayz_page, [MONITOR_ACTORZ] = &esi_monitor_actorz_page,
    [MONITOR_EVENTZ] = &esi_monitor_eventz_page,     [MONITOR_SUBSZ] = &esi_monitor_subsz_page,
    [MONITOR_ROUTEZ] = &esi_monitor_routez_page,     [MONITOR_METRICS] = &esi_monitor_metrics_page,
};

struct esi_monitor_page *esi_monitor_page_new(struct esi_context *context,
                                              const struct esi_monitor_facts *facts,
                                              const struct esi_monitor_query *query,
                                              enum esi_monitor_step *step)
{
    const struct esi_monitor_page_type *type = types[query->kind];

    ESI_REQUIRE(type != NULL);
    struct esi_monitor_page *page = type->make(query);
    if (page == NULL) {
        return NULL;
    }
    page->type = type;
    page->context = context;
    page->facts = facts;
    page->query = *query;
    page->now_ns = esi_env_now_ns(context->env);
    page->now_wall_ns = esi_env_wall_ns(context->env);
    esi_bytes_init(&page->body, ESI_MONITOR_BODY_BYTES_MAX);
    *step = type->begin(page);
    return page;
}

size_t esi_monitor_page_memory_bytes(const struct esi_monitor_page *page)
{
    if (page == NULL) {
        return 0;
    }
    return page->body.capacity +
           (page->type->memory_bytes != NULL ? page->type->memory_bytes(page) : 0);
}

void esi_monitor_page_free(struct esi_monitor_page *page)
{
    if (page != NULL) {
        esi_bytes_deinit(&page->body);
        page->type->free(page);
    }
}

void esi_monitor_page_count_client(struct esi_monitor_totals *living,
                                   const struct esi_connection_info *info)
{
    living->clients.in_msgs += info->in_msgs;
    living->clients.in_bytes += info->in_bytes;
    living->clients.out_msgs += info->out_msgs;
    living->clients.out_bytes += info->out_bytes;
}

void esi_monitor_page_count_link(struct esi_monitor_totals *living,
                                 const struct esi_gateway_link_info *info)
{
    living->links.in_msgs += info->in_msgs;
    living->links.in_bytes += info->in_bytes;
    living->links.out_msgs += info->out_msgs;
    living->links.out_bytes += info->out_bytes;
}

static void raise_total(uint64_t *total, uint64_t living, const _Atomic uint64_t *ended)
{
    /* order: relaxed; a figure on a page. */
    const uint64_t sum = living + atomic_load_explicit(ended, memory_order_relaxed);

    *total = sum > *total ? sum : *total;
}

static void raise_totals(struct esi_monitor_sums *totals, const struct esi_monitor_sums *living,
                         const struct esi_ended_traffic *ended)
{
    raise_total(&totals->in_msgs, living->in_msgs, &ended->in_msgs);
    raise_total(&totals->in_bytes, living->in_bytes, &ended->in_bytes);
    raise_total(&totals->out_msgs, living->out_msgs, &ended->out_msgs);
    raise_total(&totals->out_bytes, living->out_bytes, &ended->out_bytes);
}

/* One that ends between its visit and here is in both sums. The next page, where it is in one, must
 * not show less: who computes rates (Prometheus) would take that for a restart. */
const struct esi_monitor_totals *esi_monitor_page_totals(struct esi_monitor_page *page,
                                                         const struct esi_monitor_totals *living)
{
    const struct esi_counters *counters = &page->context->counters;
    struct esi_monitor_totals *totals = page->facts->totals;

    raise_totals(&totals->clients, &living->clients, &counters->ended_clients);
    raise_totals(&totals->links, &living->links, &counters->ended_links);
    return totals;
}

struct esi_monitor_sums esi_monitor_page_sum(const struct esi_monitor_totals *totals)
{
    const struct esi_monitor_sums *clients = &totals->clients;
    const struct esi_monitor_sums *links = &totals->links;

    return (struct esi_monitor_sums){.in_msgs = clients->in_msgs + links->in_msgs,
                                     .in_bytes = clients->in_bytes + links->in_bytes,
                                     .out_msgs = clients->out_msgs + links->out_msgs,
                                     .out_bytes = clients->out_bytes + links->out_bytes};
}

void esi_monitor_page_start(struct esi_monitor_page *page)
{
    esi_json_writer_init(&page->json, &page->body, true);
    esi_json_writer_object_start(&page->json);
    esi_json_writer_field_text(&page->json, "server_id", page->context->server_id);
    esi_monitor_page_field_wall(&page->json, "now", page->now_wall_ns);
}

enum esi_monitor_step esi_monitor_page_fail(struct esi_monitor_page *page, unsigned status,
                                            const char *failure)
{
    page->status = status;
    page->failure = failure;
    return STEP_DONE;
}

enum esi_monitor_step esi_monitor_page_end(struct esi_monitor_page *page)
{
    esi_json_writer_object_end(&page->json);
    if (page->body.failed) {
        return esi_monitor_page_fail(page, 500,
                                     "the page does not fit: ask for less with limit and offset");
    }
    page->status = 200;
    return STEP_DONE;
}

void esi_monitor_page_field_wall(struct esi_json_writer *json, const char *key, int64_t wall_ns)
{
    char text[ESI_MONITOR_TEXT_MAX];

    esi_monitor_text_time(wall_ns, text);
    esi_json_writer_field_text(json, key, text);
}

/* A point in time, given by the monotonic clock. */
static void field_moment(const struct esi_monitor_page *page, struct esi_json_writer *json,
                         const char *key, uint64_t moment_ns)
{
    const uint64_t ago_ns = page->now_ns > moment_ns ? page->now_ns - moment_ns : 0;

    esi_monitor_page_field_wall(json, key, page->now_wall_ns - (int64_t)ago_ns);
}

void esi_monitor_page_field_optional(struct esi_json_writer *json, const char *key,
                                     struct esi_str value)
{
    if (value.len > 0) {
        esi_json_writer_field_str(json, key, value);
    }
}

static uint64_t elapsed(uint64_t since_ns, uint64_t until_ns)
{
    return until_ns > since_ns ? until_ns - since_ns : 0;
}

void esi_monitor_page_fields_times(const struct esi_monitor_page *page,
                                   struct esi_json_writer *json,
                                   const struct esi_monitor_times *times)
{
    const uint64_t until_ns = times->stop_ns > 0 ? times->stop_ns : page->now_ns;
    char text[ESI_MONITOR_TEXT_MAX];

    esi_monitor_page_field_wall(json, "start", times->start_wall_ns);
    field_moment(page, json, "last_activity", times->last_activity_ns);
    if (times->stop_ns > 0) {
        field_moment(page, json, "stop", times->stop_ns);
        esi_json_writer_field_text(json, "reason", times->reason);
    }
    esi_monitor_text_duration(times->rtt_ns, text);
    esi_json_writer_field_text(json, "rtt", text);
    esi_monitor_text_uptime(elapsed(times->start_ns, until_ns), text);
    esi_json_writer_field_text(json, "uptime", text);
    esi_monitor_text_uptime(elapsed(times->last_activity_ns, until_ns), text);
    esi_json_writer_field_text(json, "idle", text);
}

void esi_monitor_page_fields_traffic(struct esi_json_writer *json,
                                     const struct esi_monitor_traffic *traffic)
{
    esi_json_writer_field_u64(json, "pending_bytes", traffic->pending_bytes);
    esi_json_writer_field_u64(json, "in_msgs", traffic->in_msgs);
    esi_json_writer_field_u64(json, "out_msgs", traffic->out_msgs);
    esi_json_writer_field_u64(json, "in_bytes", traffic->in_bytes);
    esi_json_writer_field_u64(json, "out_bytes", traffic->out_bytes);
    esi_json_writer_field_u64(json, "subscriptions", traffic->subscriptions);
}

void esi_monitor_page_fields_tls(struct esi_json_writer *json, const char *version,
                                 const char *cipher, const struct esi_peer_identity *identity)
{
    esi_monitor_page_field_optional(json, "tls_version", esi_str_from(version));
    esi_monitor_page_field_optional(json, "tls_cipher_suite", esi_str_from(cipher));
    if (identity == NULL) {
        return;
    }
    esi_json_writer_key(json, "tls_peer_certs");
    esi_json_writer_array_start(json);
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "subject", identity->subject);
    esi_json_writer_object_end(json);
    esi_json_writer_array_end(json);
}
