/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client sends: reading, parsing, publishing. The loop of a message is parse, dispatch and
 * on_publish; it neither locks nor allocates.
 */
#include "actors/connection_internal.h"
#include "actors/gateway.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hashmap.h"
#include "net/stream.h"
#include "proto/info.h"
#include "proto/subject.h"
#include "runtime/runtime.h"

static bool is_publish_allowed(struct esi_connection *self, struct esi_str subject)
{
    const struct esi_permissions *permissions = self->verdict.permissions;

    if (permissions == NULL) {
        return true;
    }
    const uint64_t hash = esi_hashmap_hash(subject) | 1;
    uint64_t *cached =
        self->allowed != NULL ? &self->allowed[(hash >> 1) % ALLOWED_CACHE_SIZE] : NULL;
    if (cached != NULL && *cached == hash) {
        return true;
    }
    if (esi_permissions_may_publish(permissions, subject)) {
        if (cached != NULL) {
            *cached = hash;
        }
        return true;
    }
    if (esi_mapping_is_empty(&self->responses)) {
        return false;
    }
    return esi_mapping_use(&self->responses, subject, connection_now_ns(self), NULL);
}

static bool may_publish(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_bytes text;

    if (esi_subject_is_reserved_publish(item->subject) ||
        !is_publish_allowed(self, item->subject)) {
        esi_bytes_init(&text, 0);
        esi_client_writer_publish_violation(&text, item->subject);
        esi_connection_output_answer_bytes(self, &text);
        return false;
    }
    if (item->reply.len > 0 && esi_subject_is_reserved_reply(item->reply)) {
        esi_bytes_init(&text, 0);
        esi_client_writer_reply_violation(&text, item->reply);
        esi_connection_output_answer_bytes(self, &text);
        return false;
    }
    return true;
}

struct own_search {
    const struct esi_connection *self;
    const struct esi_sub *found;
};

static void find_own_plain(void *argument, struct esi_sub *sub)
{
    struct own_search *search = argument;

    if (search->found != NULL || sub->target != &search->self->target || sub->queue.len > 0) {
        return;
    }
    const struct esi_client_sub *client_sub = esi_client_subs_at(&search->self->subs, sub->slot);
    if (client_sub != NULL && !client_sub->is_removed) { /* it may just have had its maximum */
        search->found = sub;
    }
}

/* Nobody got it: the requester is told on its own reply subject, when it listens there. */
static void answer_no_responders(struct esi_connection *self, struct esi_str reply)
{
    struct own_search search = {.self = self};

    esi_connection_output_take_own(self);
    esi_subtable_walk(self->context->table, reply, esi_hashmap_hash(reply), find_own_plain,
                      &search);
    if (search.found == NULL) {
        return;
    }
    struct esi_bytes text;
    esi_bytes_init(&text, 0);
    char *room = esi_bytes_reserve(
        &text, esi_client_writer_no_responders_size_max(reply.len, search.found->sid.len));
    if (room != NULL) {
        const char *end = esi_client_writer_no_responders(room, reply, search.found->sid);
        text.len = (size_t)(end - room);
        self->out_msgs++;
        self->out_bytes += sizeof "NATS/1.0 503\r\n\r\n" - 1;
        esi_connection_output_push(self, esi_bytes_str(&text));
    }
    esi_bytes_deinit(&text);
}

/* The answer to a request of a remote cluster goes back to that cluster alone. Returns false when
 * it is none. */
static bool answer_mapped(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_str mapped;

    if (esi_mapping_is_empty(&self->mapped) ||
        !esi_mapping_use(&self->mapped, item->subject, connection_now_ns(self), &mapped)) {
        return false;
    }
    const struct esi_publish publish = {.subject = mapped,
                                        .reply = item->reply,
                                        .body = item->body,
                                        .header_len = item->header_len,
                                        .total_len = item->total_len};
    esi_gateway_send_mapped(self->context, self->local->batch, &publish);
    return true;
}

static void on_publish(struct esi_connection *self, const struct esi_client_item *item)
{
    self->activity_ns = connection_now_ns(self);
    self->in_msgs++;
    self->in_bytes += item->total_len;
    if (!may_publish(self, item)) {
        return;
    }
    if (ESI_UNLIKELY(self->connect.pedantic) && !esi_subject_is_literal(item->subject)) {
        esi_connection_output_answer(self,
                                     esi_client_writer_err(CLIENT_ERR_INVALID_PUBLISH_SUBJECT));
    }
    esi_connection_output_answer_ok(self);
    if (ESI_UNLIKELY(!esi_mapping_is_empty(&self->mapped)) && answer_mapped(self, item)) {
        return;
    }
    const struct esi_publish publish = {.subject = item->subject,
                                        .reply = item->reply,
                                        .body = item->body,
                                        .header_len = item->header_len,
                                        .total_len = item->total_len};
    const uint32_t receivers = esi_batch_add(self->local->batch, &publish);
    if (receivers == 0 && item->reply.len > 0 && self->connect.no_responders &&
        self->connect.headers) {
        answer_no_responders(self, item->reply);
    }
}

static void on_ping(struct esi_connection *self)
{
    self->activity_ns = connection_now_ns(self);
    self->has_first_pong |= self->has_connect;
    esi_connection_output_answer(self, ESI_CLIENT_PONG);
}

static void on_pong(struct esi_connection *self)
{
    if (self->pings_out > 0) {
        self->rtt_ns = esi_env_now_ns(self->context->env) - self->ping_sent_ns;
        self->rtt_known_ns = connection_now_ns(self);
    }
    self->pings_out = 0;
}

static void on_fault(struct esi_connection *self, const struct esi_client_item *item)
{
    esi_connection_log_fault(self, item->reason);
    switch (item->fault) {
    case FAULT_UNKNOWN_OPERATION:
        esi_connection_close_err(self, CLIENT_ERR_UNKNOWN_OPERATION, "Protocol Violation");
        break;
    case FAULT_SILENT:
        esi_connection_close_with(self, ESI_STR(""), "Protocol Violation");
        break;
    case FAULT_MAX_PAYLOAD:
        esi_connection_close_err(self, CLIENT_ERR_MAX_PAYLOAD, "Maximum Message Payload Exceeded");
        break;
    case FAULT_CONTROL_LINE:
        esi_connection_close_err(self, CLIENT_ERR_MAX_CONTROL_LINE,
                                 "Maximum Control Line Exceeded");
        break;
    case FAULT_AUTHORIZATION:
        esi_connection_auth_refuse(self);
        break;
    case FAULT_NONE:
        break;
    }
}

static void check_info(struct esi_connection *self, struct esi_str json)
{
    struct esi_gateway_info info;

    if (esi_info_read_gateway(json, &info) != ES_OK) {
        esi_connection_log_fault(self, "wrong JSON in INFO");
        esi_connection_close_with(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    esi_info_gateway_deinit(&info);
}

static void dispatch(struct esi_connection *self, enum esi_client_op op,
                     const struct esi_client_item *item)
{
    switch (op) {
    case CLIENT_PUB:
        on_publish(self, item);
        break;
    case CLIENT_SUB:
        esi_connection_subs_on_sub(self, item);
        break;
    case CLIENT_UNSUB:
        esi_connection_subs_on_unsub(self, item);
        break;
    case CLIENT_PING:
        on_ping(self);
        break;
    case CLIENT_PONG:
        on_pong(self);
        break;
    case CLIENT_CONNECT:
        esi_connection_auth_on_connect(self, item->text);
        break;
    case CLIENT_INFO:
        check_info(self, item->text);
        break;
    case CLIENT_OK:
        break;
    case CLIENT_ERR:
        esi_connection_log_fault(self, "-ERR from a client");
        esi_connection_close_with(self, ESI_STR(""), "Parse Error");
        break;
    case CLIENT_FAULT:
        on_fault(self, item);
        break;
    case CLIENT_MORE:
        break;
    }
}

/*
 * Must this operation wait for something before it? What was collected for the routers is handed
 * over first, unless the operation joins it.
 */
static bool must_wait(struct esi_connection *self, enum esi_client_op op)
{
    const bool joins = op == CLIENT_SUB || op == CLIENT_UNSUB;

    if (!joins && esi_route_ops_has_collected(&self->ops)) {
        esi_connection_output_take_own(self);
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    if (op == CLIENT_PING && self->ops.detaches_pending > 0 &&
        esi_runtime_worker_count(self->context->runtime) > 1) {
        /* Drain: a worker that matched before the UNSUB may still deliver, until each has ended its
         * turn. */
        esi_connection_output_take_own(self);
        return self->ops.detaches_pending > 0;
    }
    return is_connection_waiting(self);
}

/* Must parsing stop here? A full batch has gone to its router, whose answer is there already in
 * most cases: then there is no need to keep the rest of the block for another turn. */
static bool is_blocked(struct esi_connection *self)
{
    if (ESI_UNLIKELY(self->ops.routes_pending > 0)) {
        esi_actor_drain(&self->actor);
    }
    return is_connection_waiting(self);
}

/* Parses what can be parsed now. Returns the number of bytes that are done with; *needed as
 * esi_reader_keep has it. */
static size_t parse(struct esi_connection *self, const char *data, size_t len,
                    struct esi_block *block, size_t *needed)
{
    const struct esi_ledger_class *memory = &self->context->ledger->classes[MEMORY_TRANSIT];
    struct esi_client_item item;
    size_t at = 0;

    *needed = 0;
    self->is_stalled = true;
    self->is_parsing = true;
    esi_batch_begin(self->local->batch, SOURCE_CLIENT, &self->target, self->connect.echo, block,
                    connection_now_ns(self));
    while (!is_blocked(self)) {
        size_t consumed = 0;
        const enum esi_client_op op =
            esi_client_parser_next(&self->parser, data + at, len - at, &consumed, &item);
        if (op == CLIENT_MORE) {
            at += consumed;
            *needed = item.needed;
            self->is_stalled = false;
            break;
        }
        if (ESI_UNLIKELY(op != CLIENT_PUB || esi_route_ops_has_collected(&self->ops)) &&
            must_wait(self, op)) {
            if (op == CLIENT_PING) {
                /* Not parsed again: its first bytes may have come by another read. */
                self->is_ping_held = true;
                at += consumed;
            }
            /* Others have begun in this piece, and are parsed again when it is their turn. */
            break;
        }
        at += consumed;
        dispatch(self, op, &item);
        if (op == CLIENT_CONNECT) {
            /* echo may have changed */
            esi_connection_output_take_own(self);
            esi_batch_begin(self->local->batch, SOURCE_CLIENT, &self->target, self->connect.echo,
                            block, connection_now_ns(self));
        }
        if (ESI_UNLIKELY(esi_ledger_is_class_short(memory))) {
            /* One message may become many: the rest waits, or the reserve would be used up. */
            break;
        }
    }
    esi_connection_output_take_own(self);
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    self->is_parsing = false;
    return self->state == STATE_OPEN ? at : len;
}

static void on_read_error(struct esi_connection *self, enum es_err err)
{
    if (err == ES_CLOSED) {
        /* A half-close counts as a close, but what waits is written first. */
        self->has_peer_ended = true;
        esi_connection_close_with(self, ESI_STR(""), "Client Closed");
    } else {
        if (err == ES_TLS) {
            esi_connection_log_fault(self, esi_stream_failure(self->stream));
        }
        esi_connection_close_now(self, "Read Error");
    }
}

/* Answers the PING that waited for UNSUBs before it. Returns false when it still does. */
static bool answer_held_ping(struct esi_connection *self)
{
    if (self->ops.detaches_pending > 0) {
        return false;
    }
    self->is_ping_held = false;
    on_ping(self);
    return self->state == STATE_OPEN;
}

/* Memory is short: what comes in would become more of what waits. One that is in the middle of a
 * large message has its memory already, and goes on. */
static bool must_pause(const struct esi_connection *self)
{
    return esi_ledger_is_short(self->context->ledger, MEMORY_TRANSIT) &&
           !esi_reader_is_large(&self->reader);
}

/* The last thing of a read: what TLS has deciphered already the poller does not see. */
static void look_for_more(struct esi_connection *self)
{
    if (self->stream == NULL) {
        self->needs_read = false;
        return;
    }
    self->needs_read = esi_stream_has_buffered_input(self->stream);
    if (self->tls_bytes > 0) {
        esi_connection_auth_count_tls(self); /* a record that has come in part is kept */
    }
}

void esi_connection_input_process(struct esi_connection *self, bool may_read)
{
    struct esi_reader_piece piece;
    size_t needed = 0;

    if (is_connection_waiting(self) || self->is_paused) {
        return;
    }
    if (self->is_ping_held && !answer_held_ping(self)) {
        return;
    }
    if (must_pause(self)) {
        esi_connection_pressure_pause(self);
        return;
    }
    if (esi_route_ops_has_collected(&self->ops)) {
        /* What a maximum has ended. Not while parsing: the first item may have begun in another
         * piece, and cannot wait. */
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
        if (is_connection_waiting(self)) {
            return;
        }
    }
    const enum es_err err = esi_reader_next(&self->reader, self->local, self->stream,
                                            may_read && !self->reader.awaits_memory, &piece);
    if (err == ES_NO_MEMORY) {
        esi_connection_pressure_pause(self); /* nothing was read, and nothing is lost */
        return;
    }
    if (err != ES_OK) {
        self->is_stalled = false;
        if (err != ES_AGAIN) {
            on_read_error(self, err);
        }
        look_for_more(self);
        return;
    }
    self->pause_doublings = 0;
    esi_outbound_note_read(&self->outbound);
    const size_t done = parse(self, piece.data, piece.len, piece.block, &needed);
    if (esi_reader_keep(&self->reader, self->local, &piece, done, needed) != ES_OK) {
        esi_connection_close_now(self, "Memory Limit Exceeded");
    }
    if (self->reader.awaits_memory && self->state == STATE_OPEN) {
        self->is_stalled = true;
        esi_connection_pressure_pause(self);
    }
    look_for_more(self);
}
