/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /gatewayz: the links to other clusters, as nats-server's. */
#include "actors/context.h"
#include "actors/monitor_page.h"
#include "base/own.h"
#include "runtime/actor.h"

#include <stdlib.h>

struct gatewayz {
    struct esi_monitor_page page; /* first */
};

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct gatewayz *self = calloc(1, sizeof *self);

    (void)query;
    return self != NULL ? &self->page : NULL;
}

static void free_page(struct esi_monitor_page *page)
{
    free(ESI_CONTAINER_OF(page, struct gatewayz, page));
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_VISIT;
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    (void)page;
    (void)actor;
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    const struct esi_config_gateway *gateway = &page->context->config->gateway;
    struct esi_json_writer *json = &page->json;

    esi_monitor_page_start(page);
    if (gateway->is_on) {
        esi_json_writer_field_text(json, "name", gateway->name);
        esi_json_writer_field_text(json, "host", gateway->host);
        esi_json_writer_field_u64(json, "port", gateway->port);
    }
    esi_json_writer_key(json, "outbound_gateways");
    esi_json_writer_object_start(json);
    esi_json_writer_object_end(json);
    esi_json_writer_key(json, "inbound_gateways");
    esi_json_writer_object_start(json);
    esi_json_writer_object_end(json);
    return esi_monitor_page_end(page);
}

const struct esi_monitor_page_type esi_monitor_gatewayz_page = {
    .make = make, .begin = begin, .visit = visit, .next = next, .free = free_page};
