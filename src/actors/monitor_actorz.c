/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /actorz: how the actor runtime is doing. First what stands out, in words; then workers, routers
 * (they roam), actors summed up by type, and the actors themselves, sorted and cut as asked. Times
 * are nanoseconds. Waiting is counted a message, service a turn; both are taken at the grain of a
 * turn, and cost nothing more than the runtime always pays. Percentiles come from log-linear
 * histograms (runtime/time_histogram.h), which histograms=1 shows whole.
 */
#include "actors/context.h"
#include "actors/monitor_list.h"
#include "actors/monitor_page.h"
#include "actors/monitor_text.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { TYPES_MAX = 32, TEXT_BYTES_MAX = 1024 };

struct worker_row {
    struct esi_worker_stats stats;
    struct esi_worker_times times;
    struct esi_match_cache_stats cache;
    struct esi_batch_stats batch;
};

/* Sums over the actors of one type. */
struct type_row {
    const struct esi_actor_type *type;
    uint64_t actors;
    uint64_t depth;
    uint32_t depth_max;
    struct esi_actor_stats stats;
    struct esi_time_totals waiting;
    struct esi_time_totals service;
};

struct actorz {
    struct esi_monitor_page page; /* first */
    struct esi_monitor_list list;
    struct worker_row *workers; /* owned: one a worker */
    struct type_row types[TYPES_MAX];
    uint32_t type_count;
    uint64_t total; /* actors of the type asked for */
    bool has_routers;
    bool is_counted;              /* the first pass is over */
    bool is_second_pass;          /* the window is cut out */
    bool has_portion;             /* after work: there is one; else the page is complete */
    bool is_visited;              /* its actors have written */
    struct esi_bytes description; /* scratch */
};

static struct actorz *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct actorz, page);
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct actorz *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return NULL;
    }
    esi_monitor_list_init(&self->list, query->sort != SORT_ID, ESI_MONITOR_LIST_BYTES_MAX);
    esi_bytes_init(&self->description, TEXT_BYTES_MAX);
    return &self->page;
}

static size_t memory_bytes(const struct esi_monitor_page *page)
{
    const struct actorz *self = ESI_CONTAINER_OF(page, const struct actorz, page);

    return esi_monitor_list_memory_bytes(&self->list);
}

static void free_page(struct esi_monitor_page *page)
{
    struct actorz *self = self_of(page);

    esi_monitor_list_deinit(&self->list);
    esi_bytes_deinit(&self->description);
    free(self->workers);
    free(self);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    struct actorz *self = self_of(page);

    self->workers = calloc(esi_runtime_worker_count(page->context->runtime), sizeof *self->workers);
    if (self->workers == NULL) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    return STEP_ROUTERS;
}

/* --- in visits --- */

static void visit_worker(struct esi_monitor_page *page, struct esi_worker *worker)
{
    struct actorz *self = self_of(page);
    const struct esi_local *local = esi_worker_local(worker);
    struct worker_row *row = &self->workers[esi_worker_index(worker)];

    if (self->is_second_pass) {
        return;
    }
    esi_worker_stats(worker, &row->stats);
    row->times = *esi_worker_times(worker);
    if (local != NULL) {
        esi_match_cache_stats(local->cache, &row->cache);
        esi_batch_stats(local->batch, &row->batch);
    }
}

static uint64_t average(uint64_t sum, uint64_t count)
{
    return count > 0 ? sum / count : 0;
}

static uint64_t key_of(enum esi_monitor_sort sort, const struct esi_actor *actor)
{
    switch (sort) {
    case SORT_MESSAGES:
        return actor->stats.messages;
    case SORT_DEPTH:
        return actor->mailbox.depth;
    case SORT_DEPTH_MAX:
        return actor->mailbox.depth_max;
    case SORT_WAITING:
        return average(actor->stats.waiting_ns, actor->stats.messages);
    case SORT_WAITING_MAX:
        return actor->stats.waiting_ns_max;
    case SORT_SERVICE:
        return actor->stats.service_ns;
    case SORT_SERVICE_MAX:
        return actor->stats.service_ns_max;
    case SORT_ID:
    case SORT_CID:
    case SORT_START:
    case SORT_SUBS:
    case SORT_PENDING:
    case SORT_MSGS_TO:
    case SORT_MSGS_FROM:
    case SORT_BYTES_TO:
    case SORT_BYTES_FROM:
    case SORT_LAST:
    case SORT_IDLE:
    case SORT_UPTIME:
    case SORT_RTT:
    case SORT_STOP:
    case SORT_REASON:
        break;
    }
    return actor->id;
}

/* The type's row; the last one takes what is too many. */
static struct type_row *find_type(struct actorz *self, const struct esi_actor_type *type)
{
    for (uint32_t i = 0; i < self->type_count; i++) {
        if (self->types[i].type == type) {
            return &self->types[i];
        }
    }
    if (self->type_count == TYPES_MAX) {
        return &self->types[TYPES_MAX - 1];
    }
    struct type_row *row = &self->types[self->type_count++];
    row->type = type;
    return row;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void sum_up(struct actorz *self, const struct esi_actor *actor)
{
    struct type_row *row = find_type(self, actor->type);
    const struct esi_actor_stats *stats = &actor->stats;

    row->actors++;
    row->depth += actor->mailbox.depth;
    row->depth_max = (uint32_t)larger(row->depth_max, actor->mailbox.depth_max);
    row->stats.messages += stats->messages;
    row->stats.turns += stats->turns;
    row->stats.waiting_ns += stats->waiting_ns;
    row->stats.service_ns += stats->service_ns;
    row->stats.waiting_ns_max = larger(row->stats.waiting_ns_max, stats->waiting_ns_max);
    row->stats.service_ns_max = larger(row->stats.service_ns_max, stats->service_ns_max);
    esi_time_histogram_add_to(&actor->times.waiting, &row->waiting);
    esi_time_histogram_add_to(&actor->times.service, &row->service);
}

static void write_buckets(struct esi_json_writer *json, const char *key,
                          const struct esi_time_totals *totals)
{
    esi_json_writer_key(json, key);
    esi_json_writer_array_start(json);
    for (size_t i = 0; i < ESI_TIME_BUCKETS; i++) {
        if (totals->counts[i] > 0) {
            esi_json_writer_object_start(json);
            if (i < ESI_TIME_BUCKETS - 1) {
                esi_json_writer_field_u64(json, "below_ns", esi_time_histogram_end_ns(i));
            }
            esi_json_writer_field_u64(json, "count", totals->counts[i]);
            esi_json_writer_object_end(json);
        }
    }
    esi_json_writer_array_end(json);
}

/* How times are distributed: what half, 99% and 99.9% do not exceed. */
static void write_times(const struct actorz *self, struct esi_json_writer *json,
                        const struct esi_time_totals *waiting,
                        const struct esi_time_totals *service)
{
    esi_json_writer_field_u64(json, "waiting_ns_p50",
                              esi_time_histogram_percentile_ns(waiting, 50));
    esi_json_writer_field_u64(json, "waiting_ns_p99",
                              esi_time_histogram_percentile_ns(waiting, 99));
    esi_json_writer_field_u64(json, "waiting_ns_p999",
                              esi_time_histogram_percentile_ns(waiting, 99.9));
    esi_json_writer_field_u64(json, "service_ns_p50",
                              esi_time_histogram_percentile_ns(service, 50));
    esi_json_writer_field_u64(json, "service_ns_p99",
                              esi_time_histogram_percentile_ns(service, 99));
    esi_json_writer_field_u64(json, "service_ns_p999",
                              esi_time_histogram_percentile_ns(service, 99.9));
    if (self->page.query.has_histograms) {
        write_buckets(json, "waiting_histogram", waiting);
        write_buckets(json, "service_histogram", service);
    }
}

static void write_stats(struct esi_json_writer *json, const struct esi_actor_stats *stats)
{
    esi_json_writer_field_u64(json, "messages", stats->messages);
    esi_json_writer_field_u64(json, "turns", stats->turns);
    esi_json_writer_field_u64(json, "waiting_ns_avg", average(stats->waiting_ns, stats->messages));
    esi_json_writer_field_u64(json, "waiting_ns_max", stats->waiting_ns_max);
    esi_json_writer_field_u64(json, "service_ns", stats->service_ns);
    esi_json_writer_field_u64(json, "service_ns_avg", average(stats->service_ns, stats->turns));
    esi_json_writer_field_u64(json, "service_ns_max", stats->service_ns_max);
}

static void write_depth(struct esi_json_writer *json, uint64_t depth, uint64_t depth_max)
{
    esi_json_writer_field_u64(json, "depth", depth);
    esi_json_writer_field_u64(json, "depth_max", depth_max);
}

static void write_actor_times(const struct actorz *self, struct esi_json_writer *json,
                              const struct esi_actor *actor)
{
    struct esi_time_totals waiting = {.sum_ns = 0};
    struct esi_time_totals service = {.sum_ns = 0};

    esi_time_histogram_add_to(&actor->times.waiting, &waiting);
    esi_time_histogram_add_to(&actor->times.service, &service);
    write_times(self, json, &waiting, &service);
}

static void write_actor(struct actorz *self, const struct esi_actor *actor)
{
    struct esi_monitor_entry *entry = esi_monitor_list_find(&self->list, actor->id);
    struct esi_json_writer json;

    if (entry == NULL) {
        return;
    }
    const size_t start = self->list.portion.len;
    esi_bytes_clear(&self->description);
    if (actor->type->describe != NULL) {
        actor->type->describe(actor, &(struct esi_description){.text = &self->description});
    }
    esi_json_writer_init_part(&json, &self->list.portion, 2);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_u64(&json, "id", actor->id);
    esi_json_writer_field_text(&json, "type", actor->type->name);
    esi_json_writer_field_str(&json, "description", esi_bytes_str(&self->description));
    esi_json_writer_field_u64(&json, "worker", esi_worker_index(esi_actor_home(actor)));
    esi_json_writer_field_u64(&json, "moves", actor->stats.moves);
    write_depth(&json, actor->mailbox.depth, actor->mailbox.depth_max);
    write_stats(&json, &actor->stats);
    write_actor_times(self, &json, actor);
    esi_json_writer_object_end(&json);
    esi_monitor_list_end_item(&self->list, entry, start);
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct actorz *self = self_of(page);
    const char *type = page->query.type;

    if (self->is_second_pass) {
        write_actor(self, actor);
        return;
    }
    /* What stands before the mailbox counts as waiting, too; its home worker may take it in at any
     * time. */
    esi_mailbox_take(&actor->mailbox);
    sum_up(self, actor);
    if (type[0] == '\0' || strcmp(type, actor->type->name) == 0) {
        self->total++;
        esi_monitor_list_note(&self->list, key_of(page->query.sort, actor), actor->id);
    }
}

/* --- the page --- */

static double share(uint64_t part, uint64_t rest)
{
    return part + rest > 0 ? (double)part / (double)(part + rest) : 0.0;
}

/* What a person should look at first. */
static void write_headline(struct actorz *self, struct esi_json_writer *json)
{
    const uint32_t worker_count = esi_runtime_worker_count(self->page.context->runtime);
    uint32_t busiest = 0;
    const struct type_row *slowest = NULL;
    char text[ESI_MONITOR_TEXT_MAX];

    for (uint32_t i = 1; i < worker_count; i++) {
        if (self->workers[i].stats.busy_permille > self->workers[busiest].stats.busy_permille) {
            busiest = i;
        }
    }
    for (uint32_t i = 0; i < self->type_count; i++) {
        const struct type_row *row = &self->types[i];
        if (slowest == NULL || average(row->stats.waiting_ns, row->stats.messages) >
                                   average(slowest->stats.waiting_ns, slowest->stats.messages)) {
            slowest = row;
        }
    }
    esi_bytes_clear(&self->description);
    esi_bytes_printf(&self->description, "worker %u is busiest: %u%% of its last busy 100 ms",
                     busiest, self->workers[busiest].stats.busy_permille / 10);
    if (slowest != NULL && slowest->stats.messages > 0) {
        esi_monitor_text_duration(average(slowest->stats.waiting_ns, slowest->stats.messages),
                                  text);
        esi_bytes_printf(&self->description, "; messages wait longest for %s actors: %s on average",
                         slowest->type->name, text);
    }
    esi_json_writer_field_str(json, "headline", esi_bytes_str(&self->description));
}

static void write_cache(struct esi_json_writer *json, const struct esi_match_cache_stats *cache)
{
    esi_json_writer_key(json, "match_cache");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "entries", cache->entries);
    esi_json_writer_field_u64(json, "hits", cache->hits);
    esi_json_writer_field_u64(json, "misses", cache->misses);
    esi_json_writer_field_double(json, "hit_rate", share(cache->hits, cache->misses));
    esi_json_writer_object_end(json);
}

static void write_batch(struct esi_json_writer *json, const struct esi_batch_stats *batch)
{
    esi_json_writer_key(json, "batch");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "messages_in", batch->messages_in);
    esi_json_writer_field_u64(json, "messages_out", batch->messages_out);
    esi_json_writer_field_u64(json, "bytes_out", batch->bytes_out);
    esi_json_writer_field_u64(json, "deliveries", batch->deliveries);
    esi_json_writer_field_u64(json, "dropped", batch->dropped);
    esi_json_writer_object_end(json);
}

static void write_worker(const struct actorz *self, struct esi_json_writer *json, uint32_t index)
{
    const struct worker_row *row = &self->workers[index];
    const struct esi_worker_stats *stats = &row->stats;

    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "index", index);
    esi_json_writer_field_double(json, "busy_recently", (double)stats->busy_permille / 1000);
    esi_json_writer_field_double(json, "utilisation", share(stats->busy_ns, stats->idle_ns));
    esi_json_writer_field_u64(json, "busy_ns", stats->busy_ns);
    esi_json_writer_field_u64(json, "idle_ns", stats->idle_ns);
    esi_json_writer_field_u64(json, "actors", stats->actors);
    esi_json_writer_field_u64(json, "run_queue_length", stats->run_queue_length);
    esi_json_writer_field_u64(json, "run_queue_length_max", stats->run_queue_length_max);
    esi_json_writer_field_u64(json, "turns", stats->turns);
    esi_json_writer_field_u64(json, "sleeps", stats->sleeps);
    esi_json_writer_field_u64(json, "wakes_sent", stats->wakes_sent);
    esi_json_writer_field_u64(json, "wakes_received", stats->wakes_received);
    esi_json_writer_field_u64(json, "moves_in", stats->moves_in);
    esi_json_writer_field_u64(json, "moves_out", stats->moves_out);
    esi_json_writer_field_u64(json, "messages", stats->messages);
    esi_json_writer_field_u64(json, "messages_remote", stats->messages_remote);
    write_times(self, json, &row->times.waiting, &row->times.service);
    write_cache(json, &row->cache);
    write_batch(json, &row->batch);
    esi_json_writer_object_end(json);
}

static void write_workers(struct actorz *self, struct esi_json_writer *json)
{
    const uint32_t count = esi_runtime_worker_count(self->page.context->runtime);

    esi_json_writer_key(json, "workers");
    esi_json_writer_array_start(json);
    for (uint32_t i = 0; i < count; i++) {
        write_worker(self, json, i);
    }
    esi_json_writer_array_end(json);
}

static void write_routers(struct actorz *self, struct esi_json_writer *json)
{
    const struct esi_monitor_page *page = &self->page;

    esi_json_writer_key(json, "routers");
    esi_json_writer_array_start(json);
    for (uint32_t i = 0; i < page->context->router_count; i++) {
        const struct esi_router_report *report = &page->facts->routers[i];
        esi_json_writer_object_start(json);
        esi_json_writer_field_u64(json, "index", i);
        esi_json_writer_field_u64(json, "id", report->id);
        esi_json_writer_field_text(json, "type", "router");
        esi_json_writer_field_u64(json, "links_told", report->listener_count);
        write_depth(json, report->depth, report->depth_max);
        write_stats(json, &report->stats);
        esi_json_writer_object_end(json);
    }
    esi_json_writer_array_end(json);
}

static void write_types(struct actorz *self, struct esi_json_writer *json)
{
    esi_json_writer_key(json, "types");
    esi_json_writer_array_start(json);
    for (uint32_t i = 0; i < self->type_count; i++) {
        const struct type_row *row = &self->types[i];
        esi_json_writer_object_start(json);
        esi_json_writer_field_text(json, "type", row->type->name);
        esi_json_writer_field_u64(json, "actors", row->actors);
        write_depth(json, row->depth, row->depth_max);
        write_stats(json, &row->stats);
        write_times(self, json, &row->waiting, &row->service);
        esi_json_writer_object_end(json);
    }
    esi_json_writer_array_end(json);
}

static void finish(struct actorz *self)
{
    struct esi_monitor_page *page = &self->page;
    struct esi_json_writer *json = &page->json;
    char text[ESI_MONITOR_TEXT_MAX];

    esi_monitor_page_start(page);
    esi_monitor_text_uptime(page->now_ns - page->context->start_ns, text);
    esi_json_writer_field_text(json, "uptime", text);
    write_headline(self, json);
    write_workers(self, json);
    write_routers(self, json);
    write_types(self, json);
    esi_json_writer_field_u64(json, "num_actors", self->list.shown);
    esi_json_writer_field_u64(json, "total", self->total);
    esi_json_writer_field_u64(json, "offset", page->query.offset);
    esi_json_writer_field_u64(json, "limit", page->query.limit);
    if (self->list.is_truncated) {
        esi_json_writer_field_bool(json, "truncated", true);
    }
    esi_json_writer_key(json, "actors");
    esi_json_writer_raw(json, esi_bytes_str(&self->list.text));
    (void)esi_monitor_page_end(page);
}

/* With many actors this sorts and copies megabytes: not on a worker. */
static void work(struct esi_monitor_page *page)
{
    struct actorz *self = self_of(page);

    if (self->is_second_pass) {
        esi_monitor_list_end_portion(&self->list);
    } else {
        esi_monitor_list_cut(&self->list, page->query.offset, page->query.limit);
        self->is_second_pass = true;
    }
    self->has_portion = esi_monitor_list_next_portion(&self->list);
    if (!self->has_portion) {
        finish(self);
    }
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct actorz *self = self_of(page);

    if (!self->has_routers) {
        self->has_routers = true;
        return STEP_VISIT;
    }
    if (self->list.failed) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    if (!self->is_counted || self->is_visited) {
        self->is_counted = true;
        self->is_visited = false;
        return STEP_WORK;
    }
    if (!self->has_portion) {
        return STEP_DONE;
    }
    self->is_visited = true;
    return STEP_VISIT;
}

const struct esi_monitor_page_type esi_monitor_actorz_page = {.make = make,
                                                              .begin = begin,
                                                              .visit = visit,
                                                              .visit_worker = visit_worker,
                                                              .work = work,
                                                              .next = next,
                                                              .memory_bytes = memory_bytes,
                                                              .free = free_page};
