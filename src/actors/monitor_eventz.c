/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /eventz: what the queue reports of itself, its handlers and dead letters; with ?id= where that
 * event is. */
#include "actors/monitor_page.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

struct eventz {
    struct esi_monitor_page page; /* first */
};

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct eventz *self = calloc(1, sizeof *self);

    (void)query;
    return self != NULL ? &self->page : NULL;
}

static void free_page(struct esi_monitor_page *page)
{
    free(ESI_CONTAINER_OF(page, struct eventz, page));
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_EVENTS;
}

/* The queue's object becomes a member of ours: each of its lines moves in by one step. No string in
 * JSON holds a line break. */
static void write_indented(struct esi_bytes *out, struct esi_str text)
{
    while (text.len > 0) {
        const char *end = memchr(text.data, '\n', text.len);
        const size_t len = end != NULL ? (size_t)(end - text.data) + 1 : text.len;
        esi_bytes_append(out, text.data, len);
        if (end != NULL && len < text.len) {
            esi_bytes_append_text(out, "  ");
        }
        text.data += len;
        text.len -= len;
    }
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    const struct esi_monitor_facts *facts = page->facts;
    struct esi_json_writer *json = &page->json;

    if (facts->events_err == ES_NOT_FOUND) {
        return esi_monitor_page_fail(page, 404, "no such event is known");
    }
    if (facts->events_err == ES_CLOSED) {
        return esi_monitor_page_fail(page, 503, "the event queue has stopped");
    }
    if (facts->events_err != ES_OK && facts->events_err != ES_UNSUPPORTED) {
        return esi_monitor_page_fail(page, 500, es_err_text(facts->events_err));
    }
    esi_monitor_page_start(page);
    esi_json_writer_key(json, page->query.event[0] != '\0' ? "event" : "events");
    if (facts->events_err == ES_UNSUPPORTED) {
        esi_json_writer_null(json);
    } else {
        /* Nothing yet: the value follows line by line. */
        esi_json_writer_raw(json, ESI_STR(""));
        write_indented(&page->body, esi_bytes_str(&facts->events));
    }
    return esi_monitor_page_end(page);
}

const struct esi_monitor_page_type esi_monitor_eventz_page = {
    .make = make, .begin = begin, .next = next, .free = free_page};
