/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /metrics: not there yet; the table of its families is metrics.def. */
#include "actors/monitor_page.h"

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
    return esi_monitor_page_fail(page, 500, "not yet");
}
static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_DONE;
}
const struct esi_monitor_page_type esi_monitor_metrics_page = {
    .make = make, .begin = begin, .next = next, .free = free_page};
