/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /connz: client connections, as nats-server's: open ones are visited, those that have ended come
 * from the monitor's ring. Differences: subscriptions of closed ones are not kept; of an open one
 * at most SUBS_MAX are listed (/subsz has all); when the page's bound is met, "truncated" says so
 * and the rest is asked for with offset.
 */
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/monitor_closed.h"
#include "actors/monitor_list.h"
#include "actors/monitor_page.h"
#include "actors/monitor_text.h"
#include "base/own.h"
#include "runtime/actor.h"

#include <stdlib.h>
#include <string.h>

enum {
    SUBS_MAX = 16384,   /* listed with one connection: a millisecond or two of its worker */
    CLOSED_A_TURN = 256 /* of the ring, written in one turn of the monitor */
};

enum phase {
    PHASE_NOTING,   /* the first pass; see monitor_list.h */
    PHASE_CUTTING,  /* the window is cut out */
    PHASE_OPEN,     /* the portion's open ones write */
    PHASE_CLOSED,   /* its closed ones */
    PHASE_GATHERING /* what they wrote is put together */
};

struct connz {
    struct esi_monitor_page page; /* first */
    struct esi_monitor_list list;
    uint64_t total;
    enum phase phase;
    bool has_portion;       /* after a cut, or gathering: there is one; else the page is complete */
    uint64_t closed_number; /* PHASE_CLOSED: of the last one that was looked at */
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
    return sort != SORT_CID && sort != SORT_START && sort != SORT_IDLE && sort != SORT_UPTIME &&
           sort != SORT_STOP && sort != SORT_REASON;
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

static size_t memory_bytes(const struct esi_monitor_page *page)
{
    const struct connz *self = ESI_CONTAINER_OF(page, const struct connz, page);

    return esi_monitor_list_memory_bytes(&self->list);
}

static void free_page(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    esi_monitor_list_deinit(&self->list);
    free(self);
}

static uint64_t elapsed(uint64_t since_ns, uint64_t until_ns)
{
    return until_ns > since_ns ? until_ns - since_ns : 0;
}

/* Reasons in the order of the alphabet, as far as eight letters tell. */
static uint64_t key_of_text(const char *text)
{
    uint64_t key = 0;

    for (int i = 0; i < 8; i++) {
        key = key << 8 | (unsigned char)*text;
        text += *text != '\0';
    }
    return key;
}

/* closed: NULL for one that is open. */
static uint64_t key_of(const struct esi_monitor_page *page, const struct esi_connection_info *info,
                       const struct esi_monitor_closed_entry *closed)
{
    const uint64_t until_ns = closed != NULL ? closed->stop_ns : page->now_ns;

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
        return elapsed(info->last_activity_ns, until_ns);
    case SORT_UPTIME:
        return elapsed(info->start_ns, until_ns);
    case SORT_RTT:
        return info->rtt_ns;
    case SORT_STOP:
        return closed != NULL ? closed->stop_ns : UINT64_MAX;
    case SORT_REASON:
        return key_of_text(closed != NULL ? closed->reason : "");
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

static void note(struct connz *self, const struct esi_connection_info *info,
                 const struct esi_monitor_closed_entry *closed)
{
    const struct esi_monitor_query *query = &self->page.query;

    if (!is_wanted(query, info)) {
        return;
    }
    self->total++;
    if (!query->has_cid || query->cid == info->cid) {
        esi_monitor_list_note(&self->list, key_of(&self->page, info, closed), info->cid);
    }
}

/* What is kept of a closed one, in the form of an open one. */
static struct esi_connection_info info_of(const struct esi_monitor_closed_entry *entry)
{
    return (struct esi_connection_info){
        .cid = entry->cid,
        .peer = &entry->peer,
        .start_wall_ns = entry->start_wall_ns,
        .start_ns = entry->start_ns,
        .last_activity_ns = entry->last_activity_ns,
        .rtt_ns = entry->rtt_ns,
        .pending_bytes = entry->pending_bytes,
        .dropped_msgs = entry->dropped_msgs,
        .in_msgs = entry->in_msgs,
        .in_bytes = entry->in_bytes,
        .out_msgs = entry->out_msgs,
        .out_bytes = entry->out_bytes,
        .subscriptions = (uint32_t)entry->subscriptions,
        .name = entry->name,
        .lang = entry->lang,
        .version = entry->version,
        .authorized_user = entry->user.len > 0 ? entry->user.data : NULL,
        .tls_version = entry->tls_version.data,
        .tls_cipher = entry->tls_cipher.data,
        .worker = entry->worker,
    };
}

static struct esi_monitor_closed_entry *entry_of(struct esi_list *link)
{
    return ESI_CONTAINER_OF(link, struct esi_monitor_closed_entry, link);
}

static void note_closed(struct connz *self)
{
    const struct esi_monitor_closed *closed = self->page.facts->closed;

    for (struct esi_list *link = closed->entries.next; link != &closed->entries;
         link = link->next) {
        const struct esi_connection_info info = info_of(entry_of(link));
        note(self, &info, entry_of(link));
    }
}

static enum esi_monitor_step begin(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    if ((page->query.states & STATES_CLOSED) != 0) {
        note_closed(self);
    }
    if ((page->query.states & STATES_OPEN) != 0) {
        return STEP_VISIT;
    }
    self->phase = PHASE_CUTTING;
    return STEP_WORK;
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
    uint32_t place = 0;

    if (self->page.query.subs == SUBS_NONE || info->subscriptions == 0) {
        return;
    }
    esi_json_writer_key(json, has_detail ? "subscriptions_list_detail" : "subscriptions_list");
    esi_json_writer_array_start(json);
    const bool has_more = esi_connection_each_sub(
        actor, &place, SUBS_MAX, has_detail ? write_sub_detail : write_sub_subject, &writer);
    esi_json_writer_array_end(json);
    if (has_more) {
        esi_json_writer_field_bool(json, "subscriptions_list_truncated", true);
    }
}

static void write_slow(struct esi_json_writer *json, const struct esi_monitor_closed_entry *closed)
{
    char text[ESI_MONITOR_TEXT_MAX];

    if (!closed->is_slow) {
        return;
    }
    esi_json_writer_key(json, "slow_consumer");
    esi_json_writer_object_start(json);
    esi_monitor_page_field_optional(json, "subject", closed->slow_subject);
    esi_monitor_text_duration(closed->stalled_ns / 1000000 * 1000000, text);
    esi_json_writer_field_text(json, "stalled", text);
    esi_json_writer_object_end(json);
}

static void write_certificate(struct esi_json_writer *json, struct esi_str subject)
{
    if (subject.len == 0) {
        return;
    }
    esi_json_writer_key(json, "tls_peer_certs");
    esi_json_writer_array_start(json);
    esi_json_writer_object_start(json);
    esi_json_writer_field_str(json, "subject", subject);
    esi_json_writer_object_end(json);
    esi_json_writer_array_end(json);
}

/* actor: NULL for a closed one, closed: NULL for an open one. */
static void write(struct connz *self, const struct esi_connection_info *info,
                  const struct esi_actor *actor, const struct esi_monitor_closed_entry *closed)
{
    struct esi_monitor_entry *entry = esi_monitor_list_find(&self->list, info->cid);
    struct esi_json_writer json;

    if (entry == NULL || entry->text_len > 0) {
        return; /* not in the portion; or it was open when we came by, and has ended since */
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
                                    .rtt_ns = info->rtt_ns,
                                    .stop_ns = closed != NULL ? closed->stop_ns : 0,
                                    .reason = closed != NULL ? closed->reason : NULL});
    esi_monitor_page_fields_traffic(
        &json, &(struct esi_monitor_traffic){.pending_bytes = info->pending_bytes,
                                             .in_msgs = info->in_msgs,
                                             .out_msgs = info->out_msgs,
                                             .in_bytes = info->in_bytes,
                                             .out_bytes = info->out_bytes,
                                             .subscriptions = info->subscriptions});
    if (info->dropped_msgs > 0) {
        esi_json_writer_field_u64(&json, "dropped_msgs", info->dropped_msgs);
    }
    esi_monitor_page_field_optional(&json, "name", info->name);
    esi_monitor_page_field_optional(&json, "lang", info->lang);
    esi_monitor_page_field_optional(&json, "version", info->version);
    esi_monitor_page_fields_tls(&json, info->tls_version, info->tls_cipher,
                                self->page.query.has_auth ? info->identity : NULL);
    if (self->page.query.has_auth) {
        if (closed != NULL) {
            write_certificate(&json, closed->certificate);
        }
        esi_monitor_page_field_optional(&json, "authorized_user",
                                        esi_str_from(info->authorized_user));
        esi_json_writer_field_str(&json, "account", ESI_ACCOUNT);
    }
    if (closed != NULL) {
        write_slow(&json, closed);
    } else {
        write_subs(self, &json, actor, info);
    }
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
    if (self->phase == PHASE_NOTING) {
        note(self, &info, NULL);
    } else {
        write(self, &info, actor, NULL);
    }
}

/* Some more of the portion's closed ones. False: all have been looked at. */
static bool write_closed(struct connz *self)
{
    const struct esi_monitor_closed *closed = self->page.facts->closed;
    uint32_t count = 0;

    for (struct esi_list *link = closed->entries.next; link != &closed->entries;
         link = link->next) {
        const struct esi_monitor_closed_entry *entry = entry_of(link);
        if (entry->number <= self->closed_number) {
            continue;
        }
        if (count++ == CLOSED_A_TURN) {
            return true;
        }
        const struct esi_connection_info info = info_of(entry);
        write(self, &info, NULL, entry);
        self->closed_number = entry->number;
    }
    return false;
}

static void finish(struct connz *self)
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
    (void)esi_monitor_page_end(page);
}

/* With many connections this sorts and copies megabytes: not on a worker. */
static void work(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    if (self->phase == PHASE_CUTTING) {
        esi_monitor_list_cut(&self->list, page->query.offset, page->query.limit);
    } else {
        esi_monitor_list_end_portion(&self->list);
    }
    self->has_portion = esi_monitor_list_next_portion(&self->list);
    if (!self->has_portion) {
        finish(self);
    }
}

static enum esi_monitor_step begin_portion(struct connz *self)
{
    if (!self->has_portion) {
        return STEP_DONE;
    }
    self->closed_number = 0;
    if ((self->page.query.states & STATES_OPEN) != 0) {
        self->phase = PHASE_OPEN;
        return STEP_VISIT;
    }
    self->phase = PHASE_CLOSED;
    return STEP_YIELD;
}

static enum esi_monitor_step next(struct esi_monitor_page *page)
{
    struct connz *self = self_of(page);

    if (self->list.failed) {
        return esi_monitor_page_fail(page, 500, "out of memory");
    }
    switch (self->phase) {
    case PHASE_NOTING:
        self->phase = PHASE_CUTTING;
        return STEP_WORK;
    case PHASE_CUTTING:
    case PHASE_GATHERING:
        return begin_portion(self);
    case PHASE_OPEN:
        if ((page->query.states & STATES_CLOSED) != 0) {
            self->phase = PHASE_CLOSED;
            return STEP_YIELD;
        }
        break;
    case PHASE_CLOSED:
        if (write_closed(self)) {
            return STEP_YIELD;
        }
        break;
    }
    self->phase = PHASE_GATHERING;
    return STEP_WORK;
}

const struct esi_monitor_page_type esi_monitor_connz_page = {.make = make,
                                                             .begin = begin,
                                                             .visit = visit,
                                                             .work = work,
                                                             .next = next,
                                                             .memory_bytes = memory_bytes,
                                                             .free = free_page};
