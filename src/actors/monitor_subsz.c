/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /subsz: figures of the subscription table and the match caches, and with subs=1 the clients'
 * subscriptions, in the order of workers and connections. One pass: the window asked for is written
 * as it comes by, and a connection with very many is looked at over several turns. The table also
 * holds subscriptions of links and of the queue: num_subscriptions counts them, the list does not.
 */
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/monitor_page.h"
#include "base/own.h"
#include "broker/subtable.h"
#include "proto/subject.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum { PLACES_A_TURN = 4096, ARRAY_END_BYTES = 16 };

struct subsz {
    struct esi_monitor_page page; /* first */
    struct esi_match_cache_stats cache;
    uint64_t messages_in;
    uint64_t messages_out;
    uint64_t seen;  /* subscriptions that are wanted, whether in the window or not */
    uint64_t shown; /* of them, in `text` */
    bool is_truncated;
    struct esi_bytes text; /* the array, as a member of the page's object */
    struct esi_json_writer list;
    uint32_t place; /* in the connection in hand */
    uint64_t cid;   /* likewise */
};

static struct subsz *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct subsz, page);
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct subsz *self = calloc(1, sizeof *self);

    (void)query;
    if (self == NULL) {
        return NULL;
    }
    esi_bytes_init(&self->text, ESI_MONITOR_LIST_BYTES_MAX + ARRAY_END_BYTES);
    esi_json_writer_init_part(&self->list, &self->text, 1);
    esi_json_writer_array_start(&self->list);
    return &self->page;
}

static size_t memory_bytes(const struct esi_monitor_page *page)
{
    const struct subsz *self = ESI_CONTAINER_OF(page, const struct subsz, page);

    return self->text.capacity;
}

static void free_page(struct esi_monitor_page *page)
{
    struct subsz *self = self_of(page);

    esi_bytes_deinit(&self->text);
    free(self);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_VISIT;
}

/* --- in visits --- */

static void visit_worker(struct esi_monitor_page *page, struct esi_worker *worker)
{
    struct subsz *self = self_of(page);
    const struct esi_local *local = esi_worker_local(worker);
    struct esi_match_cache_stats cache;
    struct esi_batch_stats batch;

    if (local == NULL) {
        return;
    }
    esi_match_cache_stats(local->cache, &cache);
    esi_batch_stats(local->batch, &batch);
    self->cache.entries += cache.entries;
    self->cache.hits += cache.hits;
    self->cache.misses += cache.misses;
    if (cache.fanout_max > self->cache.fanout_max) {
        self->cache.fanout_max = cache.fanout_max;
    }
    self->messages_in += batch.messages_in;
    self->messages_out += batch.messages_out;
}

static void write_sub(struct subsz *self, const struct esi_sub *sub, uint64_t delivered)
{
    struct esi_json_writer *json = &self->list;
    const size_t start = self->text.len;

    esi_json_writer_object_start(json);
    esi_json_writer_field_str(json, "account", ESI_ACCOUNT);
    esi_json_writer_field_str(json, "subject", sub->subject);
    esi_monitor_page_field_optional(json, "qgroup", sub->queue);
    esi_json_writer_field_str(json, "sid", sub->sid);
    esi_json_writer_field_u64(json, "msgs", delivered);
    esi_json_writer_field_u64(json, "cid", self->cid);
    esi_json_writer_object_end(json);
    if (self->text.failed || self->text.len > ESI_MONITOR_LIST_BYTES_MAX) {
        /* The bound was met: what is missing has to be asked for by offset. */
        self->text.len = start;
        self->text.failed = false;
        self->is_truncated = true;
        return;
    }
    self->shown++;
}

static void see(void *argument, const struct esi_sub *sub, uint64_t delivered, uint64_t max)
{
    struct subsz *self = argument;
    const struct esi_monitor_query *query = &self->page.query;

    (void)max;
    if (query->test[0] != '\0' && !esi_subject_matches(sub->subject, esi_str_from(query->test))) {
        return;
    }
    if (self->seen++ >= query->offset && self->shown < query->limit && !self->is_truncated) {
        write_sub(self, sub, delivered);
    }
}

/* None of the connection's subscriptions can be in the window: they need no look. */
static bool is_outside(const struct subsz *self, uint64_t count)
{
    const struct esi_monitor_query *query = &self->page.query;

    if (query->test[0] != '\0') {
        return false;
    }
    return self->shown >= query->limit || self->is_truncated ||
           (self->seen < query->offset && count <= query->offset - self->seen);
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct subsz *self = self_of(page);
    struct esi_connection_info info;

    if (actor->type != &esi_connection_type || page->query.subs == SUBS_NONE ||
        page->query.matches_nothing) {
        return;
    }
    esi_connection_info(actor, &info);
    if (self->cid != info.cid) {
        self->cid = info.cid;
        self->place = 0;
    }
    if (!info.is_open) {
        return;
    }
    if (self->place == 0 && is_outside(self, info.subscriptions)) {
        self->seen += info.subscriptions;
        return;
    }
    page->is_unfinished = esi_connection_each_sub(actor, &self->place, PLACES_A_TURN, see, self);
}

/* --- the page --- */

static double ratio(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct subsz *self = self_of(page);
    struct esi_json_writer *json = &page->json;
    struct esi_subtable_stats table;

    esi_subtable_stats(page->context->table, &table);
    esi_monitor_page_start(page);
    esi_json_writer_field_u64(json, "num_subscriptions", table.inserts - table.removes);
    esi_json_writer_field_u64(json, "num_cache", self->cache.entries);
    esi_json_writer_field_u64(json, "num_inserts", table.inserts);
    esi_json_writer_field_u64(json, "num_removes", table.removes);
    esi_json_writer_field_u64(json, "num_matches", self->cache.hits + self->cache.misses);
    esi_json_writer_field_double(json, "cache_hit_rate",
                                 ratio(self->cache.hits, self->cache.hits + self->cache.misses));
    esi_json_writer_field_u64(json, "max_fanout", self->cache.fanout_max);
    esi_json_writer_field_double(json, "avg_fanout", ratio(self->messages_out, self->messages_in));
    esi_json_writer_field_u64(json, "total", self->seen);
    esi_json_writer_field_u64(json, "offset", page->query.offset);
    esi_json_writer_field_u64(json, "limit", page->query.limit);
    if (page->query.subs != SUBS_NONE) {
        esi_json_writer_array_end(&self->list);
        if (self->is_truncated) {
            esi_json_writer_field_bool(json, "truncated", true);
        }
        esi_json_writer_key(json, "subscriptions_list");
        esi_json_writer_raw(json, esi_bytes_str(&self->text));
    }
    return esi_monitor_page_end(page);
}

const struct esi_monitor_page_type esi_monitor_subsz_page = {.make = make,
                                                             .begin = begin,
                                                             .visit = visit,
                                                             .visit_worker = visit_worker,
                                                             .next = next,
                                                             .memory_bytes = memory_bytes,
                                                             .free = free_page};
