/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /gatewayz: the links to other clusters, as nats-server's; and ours: "remotes", the clusters that
 * are configured or were learned, with the state of reaching them. A link that is not open yet is
 * not shown.
 */
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/gateway_link.h"
#include "actors/monitor_page.h"
#include "base/own.h"
#include "runtime/actor.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINKS_MAX = 4096 };

/* A link that was visited: where its JSON lies in `text`. */
struct link_row {
    size_t name_start; /* in `names`, ended by NUL */
    const char *name;  /* the same, once nothing more is added to them */
    size_t text_start;
    size_t text_len;
    uint64_t cid;
    bool is_outbound;
};

struct gatewayz {
    struct esi_monitor_page page; /* first */
    struct link_row *rows;        /* owned */
    size_t row_count;
    size_t row_capacity;
    struct esi_bytes names;
    struct esi_bytes text;
    struct esi_bytes remotes; /* a JSON array */
    bool failed;
};

static struct gatewayz *self_of(struct esi_monitor_page *page)
{
    return ESI_CONTAINER_OF(page, struct gatewayz, page);
}

static struct esi_monitor_page *make(const struct esi_monitor_query *query)
{
    struct gatewayz *self = calloc(1, sizeof *self);

    (void)query;
    if (self == NULL) {
        return NULL;
    }
    esi_bytes_init(&self->names, ESI_MONITOR_LIST_BYTES_MAX);
    esi_bytes_init(&self->text, ESI_MONITOR_LIST_BYTES_MAX);
    esi_bytes_init(&self->remotes, ESI_MONITOR_LIST_BYTES_MAX);
    return &self->page;
}

static size_t memory_bytes(const struct esi_monitor_page *page)
{
    const struct gatewayz *self = ESI_CONTAINER_OF(page, const struct gatewayz, page);

    return self->names.capacity + self->text.capacity + self->remotes.capacity +
           self->row_capacity * sizeof *self->rows;
}

static void free_page(struct esi_monitor_page *page)
{
    struct gatewayz *self = self_of(page);

    esi_bytes_deinit(&self->names);
    esi_bytes_deinit(&self->text);
    esi_bytes_deinit(&self->remotes);
    free(self->rows);
    free(self);
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    (void)page;
    return STEP_VISIT;
}

/* --- in visits --- */

static struct link_row *add_row(struct gatewayz *self)
{
    if (self->row_count == LINKS_MAX) {
        self->failed = true;
        return NULL;
    }
    if (self->row_count == self->row_capacity) {
        const size_t capacity = self->row_capacity == 0 ? 16 : self->row_capacity * 2;
        struct link_row *rows = reallocarray(self->rows, capacity, sizeof *rows);
        if (rows == NULL) {
            self->failed = true;
            return NULL;
        }
        self->rows = rows;
        self->row_capacity = capacity;
    }
    return &self->rows[self->row_count++];
}

static void write_connection(const struct esi_monitor_page *page, struct esi_json_writer *json,
                             const struct esi_gateway_link_info *info)
{
    esi_json_writer_key(json, "connection");
    esi_json_writer_object_start(json);
    esi_json_writer_field_u64(json, "cid", info->cid);
    esi_json_writer_field_text(json, "kind", "Gateway");
    esi_json_writer_field_text(json, "ip", info->peer->host);
    esi_json_writer_field_u64(json, "port", info->peer->port);
    esi_monitor_page_fields_times(
        page, json,
        &(struct esi_monitor_times){.start_wall_ns = info->start_wall_ns,
                                    .start_ns = info->start_ns,
                                    .last_activity_ns = info->last_activity_ns,
                                    .rtt_ns = info->rtt_ns});
    esi_monitor_page_fields_traffic(
        json, &(struct esi_monitor_traffic){.pending_bytes = info->pending_bytes,
                                            .in_msgs = info->in_msgs,
                                            .out_msgs = info->out_msgs,
                                            .in_bytes = info->in_bytes,
                                            .out_bytes = info->out_bytes,
                                            .subscriptions =
                                                info->subscriptions + info->queue_subscriptions});
    /* As in nats-server: the peer's server id. */
    esi_monitor_page_field_optional(json, "name", info->server_id);
    esi_monitor_page_field_optional(json, "server_name", info->server_name);
    esi_monitor_page_fields_tls(json, info->tls_version, info->tls_cipher, info->identity);
    esi_json_writer_field_u64(json, "worker", info->worker);
    esi_json_writer_object_end(json);
}

/* nats-server's spelling, which tools compare. */
static const char *spell_mode(const char *mode)
{
    static const char *const spellings[] = {"Interest-Only", "Optimistic", "Transitioning"};

    for (size_t i = 0; i < ESI_COUNT_OF(spellings); i++) {
        if (strcasecmp(mode, spellings[i]) == 0) {
            return spellings[i];
        }
    }
    return mode;
}

static void write_accounts(struct esi_json_writer *json, const struct esi_gateway_link_info *info)
{
    esi_json_writer_key(json, "accounts");
    esi_json_writer_array_start(json);
    esi_json_writer_object_start(json);
    esi_json_writer_field_str(json, "name", ESI_ACCOUNT);
    esi_json_writer_field_text(json, "interest_mode", spell_mode(info->interest_mode));
    esi_json_writer_field_u64(json, "num_subs", info->subscriptions);
    esi_json_writer_field_u64(json, "num_queue_subs", info->queue_subscriptions);
    esi_json_writer_field_u64(json, "refused_msgs", info->refused_msgs);
    esi_json_writer_field_u64(json, "lost_msgs", info->lost_msgs);
    esi_json_writer_object_end(json);
    esi_json_writer_array_end(json);
}

static bool is_wanted(const struct esi_monitor_page *page, struct esi_str name)
{
    return page->query.gateway[0] == '\0' || esi_str_equal(name, esi_str_from(page->query.gateway));
}

static void visit_link(struct gatewayz *self, const struct esi_actor *actor)
{
    struct esi_gateway_link_info info;
    struct esi_json_writer json;

    esi_gateway_link_info(actor, &info);
    if (!info.is_open || info.name.len == 0 || !is_wanted(&self->page, info.name)) {
        return;
    }
    struct link_row *row = add_row(self);
    if (row == NULL) {
        return;
    }
    *row = (struct link_row){.name_start = self->names.len,
                             .text_start = self->text.len,
                             .cid = info.cid,
                             .is_outbound = info.is_outbound};
    /* A NUL in a peer's name, if it got here, would only shorten it on this page. */
    esi_bytes_append_str(&self->names, info.name);
    esi_bytes_append(&self->names, "", 1);
    /* Outbound ones stand by name in an object, inbound ones in an array under the name. */
    esi_json_writer_init_part(&json, &self->text, info.is_outbound ? 2 : 3);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "configured", info.is_configured);
    write_connection(&self->page, &json, &info);
    write_accounts(&json, &info);
    esi_json_writer_object_end(&json);
    row->text_len = self->text.len - row->text_start;
}

static void write_remote(void *argument, const struct esi_gateway_remote_info *info)
{
    struct esi_json_writer *json = argument;

    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "name", info->name);
    esi_json_writer_field_bool(json, "configured", info->is_configured);
    esi_json_writer_field_text(json, "state", info->state);
    esi_json_writer_field_u64(json, "urls", info->url_count);
    esi_json_writer_field_u64(json, "failures", info->failures);
    esi_json_writer_field_u64(json, "inbound", info->inbound_count);
    esi_json_writer_object_end(json);
}

static void visit(struct esi_monitor_page *page, struct esi_actor *actor)
{
    struct gatewayz *self = self_of(page);
    struct esi_json_writer json;

    if (actor->type == &esi_gateway_link_type) {
        visit_link(self, actor);
    } else if (actor->type == &esi_gateway_type) {
        esi_bytes_clear(&self->remotes);
        esi_json_writer_init_part(&json, &self->remotes, 1);
        esi_json_writer_array_start(&json);
        esi_gateway_each_remote(actor, write_remote, &json);
        esi_json_writer_array_end(&json);
    }
}

/* --- the page --- */

/* Outbound first, then by name, the newest first. */
static int compare_rows(const void *a, const void *b)
{
    const struct link_row *left = a;
    const struct link_row *right = b;

    if (left->is_outbound != right->is_outbound) {
        return left->is_outbound ? -1 : 1;
    }
    const int order = strcmp(left->name, right->name);
    if (order != 0) {
        return order;
    }
    return left->cid > right->cid ? -1 : left->cid < right->cid;
}

static void write_row(const struct gatewayz *self, struct esi_json_writer *json,
                      const struct link_row *row)
{
    esi_json_writer_raw(
        json, (struct esi_str){.data = self->text.data + row->text_start, .len = row->text_len});
}

/* One link a name: while an old one is going away, the new one. */
static size_t write_outbound(const struct gatewayz *self, struct esi_json_writer *json)
{
    const char *last = NULL;
    size_t i = 0;

    esi_json_writer_key(json, "outbound_gateways");
    esi_json_writer_object_start(json);
    for (; i < self->row_count && self->rows[i].is_outbound; i++) {
        const struct link_row *row = &self->rows[i];
        if (last == NULL || strcmp(last, row->name) != 0) {
            esi_json_writer_key(json, row->name);
            write_row(self, json, row);
        }
        last = row->name;
    }
    esi_json_writer_object_end(json);
    return i;
}

static void write_inbound(const struct gatewayz *self, struct esi_json_writer *json, size_t from)
{
    const char *last = NULL;

    esi_json_writer_key(json, "inbound_gateways");
    esi_json_writer_object_start(json);
    for (size_t i = from; i < self->row_count; i++) {
        const struct link_row *row = &self->rows[i];
        if (last == NULL || strcmp(last, row->name) != 0) {
            if (last != NULL) {
                esi_json_writer_array_end(json);
            }
            esi_json_writer_key(json, row->name);
            esi_json_writer_array_start(json);
        }
        write_row(self, json, row);
        last = row->name;
    }
    if (last != NULL) {
        esi_json_writer_array_end(json);
    }
    esi_json_writer_object_end(json);
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct gatewayz *self = self_of(page);
    const struct esi_config_gateway *gateway = &page->context->config->gateway;
    struct esi_json_writer *json = &page->json;

    if (self->failed || self->names.failed || self->text.failed || self->remotes.failed) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    for (size_t i = 0; i < self->row_count; i++) {
        self->rows[i].name = self->names.data + self->rows[i].name_start;
    }
    if (self->row_count > 1) {
        qsort(self->rows, self->row_count, sizeof *self->rows, compare_rows);
    }
    esi_monitor_page_start(page);
    if (page->context->gateway != NULL) {
        esi_json_writer_field_text(json, "name", gateway->name);
        esi_json_writer_field_text(json, "host", gateway->host);
        esi_json_writer_field_u64(json, "port", esi_gateway_port(page->context->gateway));
    }
    write_inbound(self, json, write_outbound(self, json));
    if (self->remotes.len > 0) {
        esi_json_writer_key(json, "remotes");
        esi_json_writer_raw(json, esi_bytes_str(&self->remotes));
    }
    return esi_monitor_page_end(page);
}

const struct esi_monitor_page_type esi_monitor_gatewayz_page = {.make = make,
                                                                .begin = begin,
                                                                .visit = visit,
                                                                .next = next,
                                                                .memory_bytes = memory_bytes,
                                                                .free = free_page};
