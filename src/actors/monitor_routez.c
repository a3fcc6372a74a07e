/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /routez: there are no routes in this version. The page is there for tools that ask for it. */
#include "actors/monitor_page.h"
#include "actors/context.h"

#include <stdlib.h>

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    (void)query;
    return calloc(1, sizeof(struct esi_monitor_page));
}

static void free_page(struct esi_monitor_page *page)
{
    free(page);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    struct esi_json_writer *json = &page->json;

    esi_monitor_page_start(page);
    esi_json_writer_field_text(json, "server_name", page->context->config->service.name);
    esi_json_writer_field_u64(json, "num_routes", 0);
    esi_json_writer_key(json, "routes");
    esi_json_writer_array_start(json);
    esi_json_writer_array_end(json);
    return esi_monitor_page_end(page);
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_DONE; /* never asked: begin has done it all */
}

const struct esi_monitor_page_type esi_monitor_routez_page = {
    .make = make, .begin = begin, .next = next, .free = free_page};
