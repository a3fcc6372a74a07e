/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /connz: the open connections, as nats-server's. Differences: closed ones are not kept, so
 * state=closed is an empty list and state=any is state=open; when the page's bound is met,
 * "truncated" says so and the rest is asked for with offset.
 */
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/monitor_list.h"
#include "actors/monitor_page.h"
#include "base/own.h"
#include "runtime/actor.h"

#include <stdlib.h>
#include <string.h>

struct connz {
    struct esi_monitor_page page; /* first */
    struct esi_monitor_list list;
    uint64_t total;
    bool is_second_pass;
};

struct sub_writer {
    struct esi_json_writer *json;
    uint64_t cid;
};

static struct connz *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct connz, page);
}

/* The directions are nats-server's. */
static bool is_descending(enum esi_monitor_sort sort)
{
    return sort != SORT_CID && sort != SORT_START && sort != SORT_IDLE && sort != SORT_UPTIME;
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct connz *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return NULL;
    }
    esi_monitor_list_init(&self->list, is_descending(query->sort), ESI_MONITOR_LIST_BYTES_MAX);
    return &self->page;
}

static void free_page(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    esi_monitor_list_deinit(&self->list);
    free(self);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_VISIT;
}

static uint64_t elapsed(const struct esi_monitor_page *page, uint64_t since_ns)
{
    return page->now_ns > since_ns ? page->now_ns - since_ns : 0;
}

static uint64_t key_of(const struct esi_monitor_page *page, const struct esi_connection_info *info)
{
    switch (page->query.sort) {
    case SORT_START:
        return (uint64_t)info->start_wall_ns;
    case SORT_SUBS:
        return info->subscriptions;
    case SORT_PENDING:
        return info->pending_bytes;
    case SORT_MSGS_TO:
        return info->out_msgs;
    case SORT_MSGS_FROM:
        return info->in_msgs;
    case SORT_BYTES_TO:
        return info->out_bytes;
    case SORT_BYTES_FROM:
        return info->in_bytes;
    case SORT_LAST:
        return info->last_activity_ns;
    case SORT_IDLE:
        return elapsed(page, info->last_activity_ns);
    case SORT_UPTIME:
        return elapsed(page, info->start_ns);
    case SORT_RTT:
        return info->rtt_ns;
    case SORT_CID:
    case SORT_ID:
    case SORT_MESSAGES:
    case SORT_DEPTH:
    case SORT_DEPTH_MAX:
    case SORT_WAITING:
    case SORT_WAITING_MAX:
    case SORT_SERVICE:
    case SORT_SERVICE_MAX:
        break;
    }
    return info->cid;
}

static bool is_wanted(const struct esi_monitor_query *query, const struct esi_connection_info *info)
{
    if (query->matches_nothing) {
        return false;
    }
    return query->user[0] == '\0' ||
           (info->authorized_user != NULL && strcmp(info->authorized_user, query->user) == 0);
}

static void note(struct connz *self, const struct esi_connection_info *info)
{
    const struct esi_monitor_query *query = &self->page.query;

    if (!is_wanted(query, info)) {
        return;
    }
    self->total++;
    if (!query->has_cid || query->cid == info->cid) {
        esi_monitor_list_note(&self->list, key_of(&self->page, info), info->cid);
    }
}

static void write_sub_subject(void *argument, const struct esi_sub *sub, uint64_t delivered,
                              uint64_t max)
{
    struct sub_writer *writer = argument;

    (void)delivered;
    (void)max;
    esi_json_writer_str(writer->json, sub->subject);
}

static void write_sub_detail(void *argument, const struct esi_sub *sub, uint64_t delivered,
                             uint64_t max)
{
    struct sub_writer *writer = argument;
    struct esi_json_writer *json = writer->json;

    esi_json_writer_object_start(json);
    esi_json_writer_field_str(json, "account", ESI_ACCOUNT);
    esi_json_writer_field_str(json, "subject", sub->subject);
    esi_monitor_page_field_optional(json, "qgroup", sub->queue);
    esi_json_writer_field_str(json, "sid", sub->sid);
    esi_json_writer_field_u64(json, "msgs", delivered);
    if (max > 0) {
        esi_json_writer_field_u64(json, "max", max);
    }
    esi_json_writer_field_u64(json, "cid", writer->cid);
    esi_json_writer_object_end(json);
}

static void write_subs(struct connz *self, struct esi_json_writer *json,
                       const struct esi_actor *actor, const struct esi_connection_info *info)
{
    const bool has_detail = self->page.query.subs == SUBS_DETAIL;
    struct sub_writer writer = {.json = json, .cid = info->cid};

    if (self->page.query.subs == SUBS_NONE || info->subscriptions == 0) {
        return;
    }
    esi_json_writer_key(json, has_detail ? "subscriptions_list_detail" : "subscriptions_list");
    esi_json_writer_array_start(json);
    esi_connection_each_sub(actor, has_detail ? write_sub_detail : write_sub_subject, &writer);
    esi_json_writer_array_end(json);
}

static void write(struct connz *self, const struct esi_actor *actor,
                  const struct esi_connection_info *info)
{
    struct esi_monitor_entry *entry = esi_monitor_list_find(&self->list, info->cid);
    struct esi_json_writer json;

    if (entry == NULL) {
        return;
    }
    const size_t start = self->list.portion.len;
    esi_json_writer_init_part(&json, &self->list.portion, 2);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_u64(&json, "cid", info->cid);
    esi_json_writer_field_text(&json, "kind", "Client");
    esi_json_writer_field_text(&json, "type", "nats");
    esi_json_writer_field_text(&json, "ip", info->peer->host);
    esi_json_writer_field_u64(&json, "port", info->peer->port);
    esi_monitor_page_fields_times(
        &self->page, &json,
        &(struct esi_monitor_times){.start_wall_ns = info->start_wall_ns,
                                    .start_ns = info->start_ns,
                                    .last_activity_ns = info->last_activity_ns,
                                    .rtt_ns = info->rtt_ns});
    esi_monitor_page_fields_traffic(
        &json, &(struct esi_monitor_traffic){.pending_bytes = info->pending_bytes,
                                             .in_msgs = info->in_msgs,
                                             .out_msgs = info->out_msgs,
                                             .in_bytes = info->in_bytes,
                                             .out_bytes = info->out_bytes,
                                             .subscriptions = info->subscriptions});
    esi_monitor_page_field_optional(&json, "name", info->name);
    esi_monitor_page_field_optional(&json, "lang", info->lang);
    esi_monitor_page_field_optional(&json, "version", info->version);
    esi_monitor_page_fields_tls(&json, info->tls_version, info->tls_cipher,
                                self->page.query.has_auth ? info->identity : NULL);
    if (self->page.query.has_auth) {
        esi_monitor_page_field_optional(&json, "authorized_user",
                                        esi_str_from(info->authorized_user));
        esi_json_writer_field_str(&json, "account", ESI_ACCOUNT);
    }
    write_subs(self, &json, actor, info);
    esi_json_writer_field_u64(&json, "worker", info->worker);
    esi_json_writer_object_end(&json);
    esi_monitor_list_end_item(&self->list, entry, start);
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct connz *self = self_of(page);
    struct esi_connection_info info;

    if (actor->type != &esi_connection_type) {
        return;
    }
    esi_connection_info(actor, &info);
    if (!info.is_open) {
        return;
    }
    if (self->is_second_pass) {
        write(self, actor, &info);
    } else {
        note(self, &info);
    }
}

static enum esi_monitor_step finish(struct connz *self)
{
    struct esi_monitor_page *page = &self->page;
    struct esi_json_writer *json = &page->json;

    esi_monitor_page_start(page);
    esi_json_writer_field_u64(json, "num_connections", self->list.shown);
    esi_json_writer_field_u64(json, "total", self->total);
    esi_json_writer_field_u64(json, "offset", page->query.offset);
    esi_json_writer_field_u64(json, "limit", page->query.limit);
    if (self->list.is_truncated) {
        esi_json_writer_field_bool(json, "truncated", true);
    }
    esi_json_writer_key(json, "connections");
    esi_json_writer_raw(json, esi_bytes_str(&self->list.text));
    return esi_monitor_page_end(page);
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    if (self->is_second_pass) {
        esi_monitor_list_end_portion(&self->list);
    } else {
        self->is_second_pass = true;
        esi_monitor_list_cut(&self->list, page->query.offset, page->query.limit);
    }
    if (self->list.failed) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    return esi_monitor_list_next_portion(&self->list) ? STEP_VISIT : finish(self);
}

const struct esi_monitor_page_type esi_monitor_connz_page = {
    .make = make, .begin = begin, .visit = visit, .next = next, .free = free_page};
