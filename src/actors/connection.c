/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client connection.
 *
 * State     | bytes in                | deliveries | leaves to
 * FIRST     | looked at: TLS or plain | -          | HANDSHAKE, OPEN (allow_plain only)
 * HANDSHAKE | the TLS library's       | -          | OPEN, CLOSED
 * OPEN      | parsed                  | queued     | CLOSING, CLOSED
 * CLOSING   | read and dropped        | dropped    | CLOSED: all is written, the peer has closed
 *           |                         |            | CLOSED: time is up
 * CLOSED    | -                       | dropped    | finished: no router, no worker knows it
 *
 * Parsing stops where something must be in force before what follows: a run of SUB and UNSUB is
 * handed to the routers and answered; a CONNECT is judged; a PONG that follows an UNSUB waits for a
 * grace period. What is read but not parsed is kept by the reader. Reading stops meanwhile, and
 * while a target that takes bytes has too many waiting.
 */
#include "actors/connection.h"
#include "actors/authenticator.h"
#include "actors/client_subs.h"
#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/outbound.h"
#include "actors/reader.h"
#include "actors/route_ops.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/mapping.h"
#include "net/stream.h"
#include "net/tls.h"
#include "proto/client_parser.h"
#include "proto/client_writer.h"
#include "proto/connect.h"
#include "proto/info.h"
#include "proto/subject.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum connection_msg {
    CONNECTION_DELIVER,
    CONNECTION_ROUTED,
    CONNECTION_DETACHED,
    CONNECTION_AUTHENTICATED
};

enum connection_state { STATE_FIRST, STATE_HANDSHAKE, STATE_OPEN, STATE_CLOSING, STATE_CLOSED };

enum {
    MAPPED_MAX = 4096,
    RESPONSES_MAX = 4096,
    ALLOWED_CACHE_SIZE = 16,
    LINGER_BYTES_MAX = 1024 * 1024
};

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t MAPPED_NS = 2000000000; /* as nats-server */
/* an idle client is pinged early, for its round-trip time */
static const uint64_t FIRST_PING_NS = 2000000000;
static const uint64_t RTT_FRESH_NS = 3600000000000;
static const uint64_t LINGER_NS = 1000000000;

struct esi_connection {
    struct esi_actor actor; /* first */
    struct esi_target target;
    struct esi_context *context; /* borrowed */
    struct esi_local *local;     /* borrowed: the home worker's */
    uint64_t cid;
    struct esi_address peer;
    enum connection_state state;
    struct esi_stream *stream; /* owned */
    struct esi_io io;
    struct esi_outbound outbound;
    struct esi_client_parser parser;
    struct esi_connect connect;
    struct esi_verdict verdict;
    /* owned; of subscriptions that were being removed at a second CONNECT */
    struct esi_permissions *former_permissions;
    struct esi_client_subs subs;
    struct esi_mapping mapped;    /* replies of a remote cluster's requests */
    struct esi_mapping responses; /* allow_responses */
    struct esi_reader reader;
    struct esi_route_ops ops;
    uint32_t counted_subs; /* live subscriptions with a max */
    /* flags */
    bool is_parsing;
    bool is_authenticating;
    bool awaits_verdict_for_connect; /* else the verdict is on no_auth_user, without a CONNECT */
    bool has_connect;
    bool has_first_pong;
    bool is_refused;  /* one too many: told so and closed */
    bool is_listener; /* counted as one */
    bool is_write_blocked;
    bool is_paused;
    bool is_write_shut;
    bool skips_continued; /* the rest of a message that was left out */
    bool is_stalled;      /* what is left over waits for something before it, not for more bytes */
    bool needs_read;      /* decrypted bytes wait, which the poller does not see */
    const char *close_reason;
    struct esi_actor_timer auth_timer;
    struct esi_actor_timer ping_timer;
    struct esi_actor_timer write_timer;
    struct esi_actor_timer pause_timer;
    struct esi_actor_timer expiry_timer;
    /* counters */
    int64_t start_wall_ns;
    uint64_t start_ns;
    uint64_t activity_ns; /* the last line but a PONG, which only says that the peer is there */
    uint64_t ping_sent_ns;
    uint64_t rtt_ns;
    uint64_t rtt_known_ns;
    uint32_t pings_out;
    uint64_t lingered_bytes;
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    /* hashes of subjects that the permissions allow: direct-mapped */
    uint64_t allowed[ALLOWED_CACHE_SIZE];
};

static void finish_if_done(struct esi_connection *self);

static struct esi_connection *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_connection, actor);
}

static uint64_t now_ns(const struct esi_connection *self)
{
    return esi_actor_now_ns(&self->actor);
}

/* --- writing --- */

static void push_text(struct esi_connection *self, struct esi_str text);

/* Ends it at once: nothing more is written. */
static void close_now(struct esi_connection *self, const char *reason)
{
    if (self->state == STATE_CLOSED) {
        return;
    }
    self->state = STATE_CLOSED;
    if (self->close_reason == NULL) {
        self->close_reason = reason;
    }
    /* order: relaxed; a hint for senders that choose among members of a group. */
    atomic_store_explicit(&self->target.is_gone, true, memory_order_relaxed);
    esi_actor_io_unwatch(&self->io);
    esi_outbound_deinit(&self->outbound);
    esi_stream_free(ESI_MOVE(self->stream));
    esi_log(LOG_CLIENT_CLOSED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", self->close_reason));
    esi_actor_continue(&self->actor);
}

/* Puts everything that was sent to us up to now into the outbound queue: cause before effect. */
static void take_own_deliveries(struct esi_connection *self)
{
    const uint64_t pause_ns = esi_batch_flush(self->local->batch);

    if (pause_ns > 0 && !self->is_paused) {
        self->is_paused = true;
        esi_actor_timer_set(&self->pause_timer, now_ns(self) + pause_ns);
    }
    esi_actor_drain(&self->actor);
}

/* What was queued goes out first, then `text` (may be empty), then the end of the stream. */
static void close_with(struct esi_connection *self, struct esi_str text, const char *reason)
{
    if (self->state == STATE_CLOSING || self->state == STATE_CLOSED) {
        return;
    }
    if (self->is_parsing) {
        take_own_deliveries(self);
        if (self->state == STATE_CLOSING || self->state == STATE_CLOSED) {
            return;
        }
    }
    self->close_reason = reason;
    if (self->state == STATE_HANDSHAKE) {
        close_now(self, reason);
        return;
    }
    if (text.len > 0) {
        push_text(self, text);
    }
    if (self->state == STATE_CLOSED) {
        return;
    }
    self->state = STATE_CLOSING;
    /* order: relaxed; a hint for senders that choose among members of a group. */
    atomic_store_explicit(&self->target.is_gone, true, memory_order_relaxed);
    esi_actor_timer_set(&self->write_timer,
                        now_ns(self) + self->context->config->limits.write_deadline_ns);
    esi_actor_continue(&self->actor);
}

static void close_err(struct esi_connection *self, enum esi_client_err err, const char *reason)
{
    close_with(self, esi_client_writer_err(err), reason);
}

static void push_text(struct esi_connection *self, struct esi_str text)
{
    if (self->state == STATE_CLOSED || self->state == STATE_CLOSING) {
        return;
    }
    if (esi_outbound_push_text(&self->outbound, text) != ES_OK) {
        close_now(self, "Out Of Memory");
    }
}

/* A line of our own that must stand behind what was published before it. */
static void answer(struct esi_connection *self, struct esi_str text)
{
    take_own_deliveries(self);
    push_text(self, text);
}

static void answer_bytes(struct esi_connection *self, struct esi_bytes *text)
{
    answer(self, esi_bytes_str(text));
    esi_bytes_deinit(text);
}

static void close_slow(struct esi_connection *self, const char *reason)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.slow_consumers, 1, memory_order_relaxed);
    esi_log(LOG_SLOW_CONSUMER, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_U64("pending_bytes", esi_outbound_pending_bytes(&self->outbound)),
            ESI_LOG_TEXT("reason", reason));
    close_now(self, reason);
}

static void end_stream(struct esi_connection *self)
{
    if (!self->is_write_shut) {
        self->is_write_shut = true;
        esi_stream_shutdown_write(self->stream);
        /* The peer's unread bytes would make the kernel answer with a reset, and our last line
         * could be lost. */
        esi_actor_timer_set(&self->write_timer, now_ns(self) + LINGER_NS);
    }
}

static void check_pending(struct esi_connection *self)
{
    if (esi_outbound_pending_bytes(&self->outbound) >
        self->context->config->limits.max_pending_bytes) {
        close_slow(self, "Slow Consumer (Pending Bytes)");
    }
}

static void write_out(struct esi_connection *self)
{
    bool has_progress = false;

    if (self->state == STATE_HANDSHAKE) {
        return;
    }
    if (self->is_write_blocked) {
        check_pending(self);
        return;
    }
    if (esi_outbound_is_empty(&self->outbound) && !esi_stream_has_buffered_output(self->stream)) {
        if (self->state == STATE_CLOSING) {
            end_stream(self);
        }
        return;
    }
    const enum es_err err =
        esi_outbound_write(&self->outbound, self->stream, now_ns(self), &has_progress);
    if (err == ES_OK) {
        if (self->state == STATE_CLOSING) {
            end_stream(self);
        } else {
            esi_actor_timer_cancel(&self->write_timer);
        }
        return;
    }
    if (err != ES_AGAIN) {
        close_now(self, "Write Error");
        return;
    }
    self->is_write_blocked = true;
    if (has_progress || !self->write_timer.timer.is_set) {
        esi_actor_timer_set(&self->write_timer,
                            now_ns(self) + self->context->config->limits.write_deadline_ns);
    }
    check_pending(self);
}

/* --- deliveries --- */

static void free_delivery(struct esi_msg *msg)
{
    struct esi_worker *worker = esi_worker_current();
    struct esi_local *local = worker != NULL ? esi_worker_local(worker) : NULL;

    esi_delivery_free((struct esi_delivery *)(void *)msg, 0, local != NULL ? &local->pools : NULL);
}

static void deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct esi_connection *self = ESI_CONTAINER_OF(target, struct esi_connection, target);

    delivery->msg.kind = CONNECTION_DELIVER;
    delivery->msg.free = free_delivery;
    esi_actor_send(&self->actor, &delivery->msg);
}

static void remove_sub(struct esi_connection *self, struct esi_client_sub *client_sub)
{
    self->counted_subs -= client_sub->max > 0;
    esi_client_subs_forget(&self->subs, client_sub);
    esi_route_ops_remove(&self->ops, client_sub->sub);
}

/* Notes what a message allows its receiver to answer. */
static void note_record(struct esi_connection *self, const struct esi_slice *slice)
{
    const struct esi_str reply = {.data = slice->data + slice->reply_offset,
                                  .len = slice->reply_len};
    int64_t uses = 0;
    uint64_t expires_ns = 0;

    if (reply.len == 0) {
        return;
    }
    if (slice->extra_len > 0) {
        const struct esi_str mapped = {.data = slice->data - slice->extra_len,
                                       .len = slice->extra_len};
        esi_mapping_add(&self->mapped, reply, mapped, -1, now_ns(self) + MAPPED_NS);
    }
    if (esi_permissions_allows_responses(self->verdict.permissions, &uses, &expires_ns)) {
        esi_mapping_add(&self->responses, reply, ESI_STR(""), uses,
                        expires_ns == 0 ? UINT64_MAX : now_ns(self) + expires_ns);
    }
}

/* Is this slice to be written? Counts, and ends the subscription that has had its share. */
static bool accept_slice(struct esi_connection *self, const struct esi_slice *slice)
{
    if (self->skips_continued) {
        self->skips_continued = slice->is_continued;
        return false;
    }
    struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, slice->sub_slot);
    if (client_sub == NULL || (client_sub->max > 0 && client_sub->delivered >= client_sub->max)) {
        self->skips_continued = slice->is_continued;
        return false;
    }
    if (slice->is_record) {
        note_record(self, slice);
    }
    client_sub->delivered += slice->message_count;
    if (client_sub->max > 0 && client_sub->delivered >= client_sub->max &&
        !client_sub->is_removed) {
        remove_sub(self, client_sub);
    }
    return true;
}

static void on_deliver(struct esi_connection *self, struct esi_delivery *delivery)
{
    if (self->state == STATE_CLOSED || self->state == STATE_CLOSING) {
        esi_outbound_drop_bytes(&self->outbound, delivery->bytes);
        return; /* the runtime frees it */
    }
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        const struct esi_slice *slice = &delivery->slices[i];
        if (self->state == STATE_CLOSED || !accept_slice(self, slice)) {
            esi_outbound_skip_slice(&self->outbound, slice);
            continue;
        }
        self->out_msgs += slice->message_count;
        self->out_bytes += slice->payload_len;
        if (esi_outbound_push_slice(&self->outbound, slice) != ES_OK) {
            esi_outbound_skip_slice(&self->outbound, slice);
            close_now(self, "Out Of Memory"); /* what follows is left out as well */
        }
    }
    /* The references have moved to the outbound queue. */
    delivery->slice_count = 0;
}

/* --- subscriptions --- */

static void on_routed(struct esi_connection *self, struct esi_route_batch *batch)
{
    if (esi_route_ops_in_force(&self->ops, batch) != ES_OK) {
        close_with(self, ESI_STR(""), "Out Of Memory");
    }
    /* What waited for this goes on in the next turn, or right away in the parser that asked. */
    esi_actor_continue(&self->actor);
}

/* No worker sees what was removed any more: slots can be used again. */
static void on_detached(struct esi_connection *self, struct esi_route_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct esi_route_op *op = &batch->ops[i];
        if (op->kind == ROUTE_REMOVE) {
            struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, op->sub->slot);
            ESI_ASSERT(client_sub != NULL && client_sub->sub == op->sub);
            client_sub->sub = NULL; /* freed with the batch */
            esi_client_subs_free_slot(&self->subs, client_sub);
        }
    }
    esi_route_ops_detached(&self->ops, batch);
    esi_actor_continue(&self->actor);
}

static bool count_listener(struct esi_connection *self)
{
    if (self->is_listener) {
        return true;
    }
    /* order: relaxed; a counter with a bound. */
    const uint32_t before =
        atomic_fetch_add_explicit(&self->context->counters.listeners, 1, memory_order_relaxed);
    if (before >= self->context->config->service.listener_limit) {
        /* order: relaxed; as above. */
        atomic_fetch_sub_explicit(&self->context->counters.listeners, 1, memory_order_relaxed);
        return false;
    }
    self->is_listener = true;
    return true;
}

static void refuse_subscription(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_client_writer_subscribe_violation(&text, item->subject, item->queue, ESI_STR(""));
    answer_bytes(self, &text);
}

/* Everything that can be wrong with a SUB; the peer is told. */
static bool may_subscribe(struct esi_connection *self, const struct esi_client_item *item)
{
    const uint32_t max = self->context->config->limits.max_subscriptions;

    if (max > 0 && esi_client_subs_count(&self->subs) >= max) {
        answer(self, esi_client_writer_err(CLIENT_ERR_MAX_SUBSCRIPTIONS));
        return false;
    }
    if (!esi_subject_is_valid(item->subject)) {
        answer(self, esi_client_writer_err(CLIENT_ERR_INVALID_SUBJECT));
        return false;
    }
    if (esi_str_equal(item->queue, ESI_STR("_sys_")) ||
        !esi_permissions_may_subscribe(self->verdict.permissions, item->subject, item->queue)) {
        refuse_subscription(self, item);
        return false;
    }
    if (!count_listener(self)) {
        close_err(self, CLIENT_ERR_MAX_LISTENERS, "Maximum Listeners Exceeded");
        return false;
    }
    return true;
}

static void answer_ok(struct esi_connection *self)
{
    if (self->connect.verbose) {
        answer(self, ESI_CLIENT_OK);
    }
}

static bool has_responses(const struct esi_connection *self)
{
    int64_t max = 0;
    uint64_t expires_ns = 0;

    return esi_permissions_allows_responses(self->verdict.permissions, &max, &expires_ns);
}

static void on_sub(struct esi_connection *self, const struct esi_client_item *item)
{
    self->activity_ns = now_ns(self);
    if (self->counted_subs > 0) {
        /* What was published before may end a counted subscription, whose sid is then free
         * again. */
        take_own_deliveries(self);
    }
    if (!may_subscribe(self, item)) {
        return;
    }
    if (esi_client_subs_find(&self->subs, item->sid) == NULL) {
        struct esi_sub *sub = esi_sub_new(&self->target, item->subject, item->queue, item->sid);
        if (sub == NULL) {
            close_with(self, ESI_STR(""), "Out Of Memory");
            return;
        }
        sub->created_ns = now_ns(self);
        sub->flags =
            (self->connect.headers ? SUB_HEADERS : 0U) | (has_responses(self) ? SUB_RECORDS : 0U);
        if (esi_permissions_needs_delivery_check(self->verdict.permissions, item->subject,
                                                 item->queue)) {
            sub->permissions = self->verdict.permissions;
        }
        struct esi_client_sub *client_sub = esi_client_subs_add(&self->subs, sub);
        if (client_sub == NULL) {
            free(sub);
            close_with(self, ESI_STR(""), "Out Of Memory");
            return;
        }
        if (esi_route_ops_add(&self->ops, sub) != ES_OK) {
            esi_client_subs_forget(&self->subs, client_sub);
            esi_client_subs_free_slot(&self->subs, client_sub);
            close_with(self, ESI_STR(""), "Out Of Memory");
            return;
        }
    }
    answer_ok(self);
}

/* From now on messages for this subscription must be counted one by one. */
static void start_counting(struct esi_connection *self, struct esi_client_sub *client_sub)
{
    struct esi_sub *sub = client_sub->sub;

    if ((sub->flags & SUB_RECORDS) != 0) {
        return;
    }
    if (esi_route_ops_is_collected(&self->ops, sub)) {
        sub->flags |= SUB_RECORDS;
        return;
    }
    struct esi_sub *fresh = esi_sub_new(sub->target, sub->subject, sub->queue, sub->sid);
    if (fresh == NULL) {
        close_with(self, ESI_STR(""), "Out Of Memory");
        return;
    }
    fresh->permissions = sub->permissions;
    fresh->created_ns = sub->created_ns;
    fresh->slot = sub->slot;
    fresh->flags = sub->flags | SUB_RECORDS;
    client_sub->sub = fresh;
    /* The map's key lies in the subscription that goes away. */
    const enum es_err err = esi_hashmap_insert(&self->subs.by_sid, fresh->sid, client_sub);
    ESI_ASSERT(err == ES_OK);
    esi_route_ops_replace(&self->ops, sub, fresh);
}

static void on_unsub(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_client_sub *client_sub = esi_client_subs_find(&self->subs, item->sid);

    self->activity_ns = now_ns(self);
    if (client_sub != NULL) {
        /* Messages published before this line count, and have been sent by now. */
        take_own_deliveries(self);
        client_sub = esi_client_subs_find(&self->subs, item->sid);
    }
    if (client_sub != NULL) {
        if (item->has_max && client_sub->delivered < item->max) {
            self->counted_subs += client_sub->max == 0;
            client_sub->max = item->max;
            start_counting(self, client_sub);
        } else {
            remove_sub(self, client_sub);
        }
    }
    answer_ok(self);
}

/* --- publishing --- */

static bool is_publish_allowed(struct esi_connection *self, struct esi_str subject)
{
    const struct esi_permissions *permissions = self->verdict.permissions;

    if (permissions == NULL) {
        return true;
    }
    const uint64_t hash = esi_hashmap_hash(subject) | 1;
    uint64_t *cached = &self->allowed[(hash >> 1) % ALLOWED_CACHE_SIZE];
    if (*cached == hash) {
        return true;
    }
    if (esi_permissions_may_publish(permissions, subject)) {
        *cached = hash;
        return true;
    }
    if (esi_mapping_is_empty(&self->responses)) {
        return false;
    }
    return esi_mapping_use(&self->responses, subject, now_ns(self), NULL);
}

static bool may_publish(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_bytes text;

    if (esi_subject_is_reserved_publish(item->subject) ||
        !is_publish_allowed(self, item->subject)) {
        esi_bytes_init(&text, 0);
        esi_client_writer_publish_violation(&text, item->subject);
        answer_bytes(self, &text);
        return false;
    }
    if (item->reply.len > 0 && esi_subject_is_reserved_reply(item->reply)) {
        esi_bytes_init(&text, 0);
        esi_client_writer_reply_violation(&text, item->reply);
        answer_bytes(self, &text);
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

    if (search->found == NULL && sub->target == &search->self->target && sub->queue.len == 0) {
        search->found = sub;
    }
}

/* Nobody got it: the requester is told on its own reply subject, when it listens there. */
static void answer_no_responders(struct esi_connection *self, struct esi_str reply)
{
    struct own_search search = {.self = self};

    take_own_deliveries(self);
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
        push_text(self, esi_bytes_str(&text));
    }
    esi_bytes_deinit(&text);
}

/* The answer to a request of a remote cluster goes back to that cluster alone. Returns false when
 * it is none. */
static bool answer_mapped(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_str mapped;

    if (esi_mapping_is_empty(&self->mapped) ||
        !esi_mapping_use(&self->mapped, item->subject, now_ns(self), &mapped)) {
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
    self->activity_ns = now_ns(self);
    self->in_msgs++;
    self->in_bytes += item->total_len;
    if (!may_publish(self, item)) {
        return;
    }
    if (ESI_UNLIKELY(self->connect.pedantic) && !esi_subject_is_literal(item->subject)) {
        answer(self, esi_client_writer_err(CLIENT_ERR_INVALID_PUBLISH_SUBJECT));
    }
    answer_ok(self);
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

/* --- CONNECT and authentication --- */

static void write_info(struct esi_connection *self)
{
    const struct esi_context *context = self->context;
    const struct esi_config *config = context->config;
    struct esi_bytes text;
    const bool has_tls = context->client_tls != NULL;
    const bool may_be_plain = config->tls.allow_plain;
    const struct esi_client_info info = {
        .server_id = {.data = context->server_id, .len = sizeof context->server_id - 1},
        .server_name = esi_str_from(config->service.name),
        .version = ESI_PROTOCOL_VERSION,
        .product = ESI_STR(ESI_VERSION),
        .host = esi_str_from(config->service.host),
        .port = context->client_bound.port,
        .client_ip = esi_str_from(self->peer.host),
        .client_id = self->cid,
        .max_payload = config->limits.max_payload_bytes,
        .headers = true,
        .auth_required = context->auth_required,
        .tls_required = has_tls && !may_be_plain,
        .tls_verify = has_tls && esi_tls_context_is_verifying(context->client_tls),
        .tls_available = has_tls && may_be_plain,
    };

    esi_bytes_init(&text, 0);
    esi_info_write_client(&text, &info);
    push_text(self, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

static void set_first_ping(struct esi_connection *self)
{
    const uint64_t interval_ns = self->context->config->limits.ping_interval_ns;
    const uint64_t first_ns = interval_ns < FIRST_PING_NS ? interval_ns : FIRST_PING_NS;

    if (!self->has_first_pong) {
        /* Spread, so that many clients that came at once are not pinged at once. */
        esi_actor_timer_set(&self->ping_timer,
                            now_ns(self) + first_ns + first_ns / 100 * (self->cid % 16));
    }
}

static void accept_connect(struct esi_connection *self)
{
    const bool is_first = !self->has_connect;

    self->has_connect = true;
    self->parser.auth_pending = false;
    self->parser.headers_allowed = self->connect.headers;
    esi_actor_timer_cancel(&self->auth_timer);
    if (is_first) {
        esi_log(LOG_CLIENT_CONNECTED, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
                ESI_LOG_STR("name", self->connect.name), ESI_LOG_STR("lang", self->connect.lang),
                ESI_LOG_TEXT("user", self->verdict.name != NULL ? self->verdict.name : ""));
        set_first_ping(self);
    }
    answer_ok(self);
}

static void refuse_credentials(struct esi_connection *self)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.auth_failures, 1, memory_order_relaxed);
    esi_log(LOG_CLIENT_AUTH_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("name", self->connect.name));
    close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
}

static void ask_authenticator(struct esi_connection *self)
{
    struct esi_auth_check *check = esi_authenticator_check_new(
        &self->actor, CONNECTION_AUTHENTICATED, self->cid, self->connect.user, self->connect.pass,
        self->connect.auth_token);

    if (check == NULL) {
        close_with(self, ESI_STR(""), "Out Of Memory");
        return;
    }
    check->has_credentials |= self->connect.nkey.len > 0 || self->connect.jwt.len > 0;
    self->is_authenticating = true;
    esi_authenticator_check(self->context->authenticator, check);
}

static void on_authenticated(struct esi_connection *self, struct esi_auth_check *check)
{
    if (self->state != STATE_OPEN) {
        return;
    }
    self->is_authenticating = false;
    if (check->verdict.kind != VERDICT_ACCEPTED) {
        refuse_credentials(self);
        return;
    }
    if (self->verdict.permissions != check->verdict.permissions &&
        esi_client_subs_count(&self->subs) > 0) {
        /* A second CONNECT as somebody else: the live subscriptions were judged by, and point to,
         * the former rules. */
        close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
        return;
    }
    if (self->ops.detaches_pending > 0 && self->former_permissions == NULL) {
        /* Subscriptions just removed may still be looked at by others, with the rules they were
         * made under. */
        self->former_permissions = self->verdict.permissions;
        self->verdict.permissions = NULL;
    }
    esi_verdict_deinit(&self->verdict);
    self->verdict = check->verdict;
    esi_verdict_init(&check->verdict);
    memset(self->allowed, 0, sizeof self->allowed);
    if (self->verdict.expires_wall_ns > 0) {
        const int64_t left_ns = self->verdict.expires_wall_ns - esi_env_wall_ns(self->context->env);
        esi_actor_timer_set(&self->expiry_timer,
                            now_ns(self) + (left_ns > 0 ? (uint64_t)left_ns : 0));
    }
    if (self->awaits_verdict_for_connect) {
        self->awaits_verdict_for_connect = false;
        accept_connect(self);
    }
    esi_actor_continue(&self->actor);
}

static void log_fault(const struct esi_connection *self, const char *fault)
{
    esi_log(LOG_CLIENT_ERROR, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("fault", fault));
}

static void on_connect(struct esi_connection *self, struct esi_str json)
{
    if (esi_connect_read(json, CONNECT_CLIENT, &self->connect) != ES_OK) {
        log_fault(self, "wrong JSON in CONNECT");
        close_with(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    if (self->connect.account.len > 0 || self->connect.new_account) {
        refuse_credentials(self);
        return;
    }
    if (self->connect.protocol != 0 && self->connect.protocol != 1) {
        close_err(self, CLIENT_ERR_INVALID_PROTOCOL, "Bad Client Protocol Version");
        return;
    }
    if (self->connect.no_responders && !self->connect.headers) {
        close_err(self, CLIENT_ERR_NO_RESPONDERS_NEEDS_HEADERS, "No Responders Requires Headers");
        return;
    }
    if (self->context->authenticator != NULL) {
        self->awaits_verdict_for_connect = true;
        ask_authenticator(self);
    } else {
        accept_connect(self);
    }
}

/* --- parsing --- */

static void on_ping(struct esi_connection *self)
{
    self->activity_ns = now_ns(self);
    self->has_first_pong |= self->has_connect;
    answer(self, ESI_CLIENT_PONG);
}

static void on_pong(struct esi_connection *self)
{
    if (self->pings_out > 0) {
        self->rtt_ns = esi_env_now_ns(self->context->env) - self->ping_sent_ns;
        self->rtt_known_ns = now_ns(self);
    }
    self->pings_out = 0;
}

static void on_fault(struct esi_connection *self, const struct esi_client_item *item)
{
    log_fault(self, item->reason);
    switch (item->fault) {
    case FAULT_UNKNOWN_OPERATION:
        close_err(self, CLIENT_ERR_UNKNOWN_OPERATION, "Protocol Violation");
        break;
    case FAULT_SILENT:
        close_with(self, ESI_STR(""), "Protocol Violation");
        break;
    case FAULT_MAX_PAYLOAD:
        close_err(self, CLIENT_ERR_MAX_PAYLOAD, "Maximum Message Payload Exceeded");
        break;
    case FAULT_CONTROL_LINE:
        close_err(self, CLIENT_ERR_MAX_CONTROL_LINE, "Maximum Control Line Exceeded");
        break;
    case FAULT_AUTHORIZATION:
        refuse_credentials(self);
        break;
    case FAULT_NONE:
        break;
    }
}

static void check_info(struct esi_connection *self, struct esi_str json)
{
    struct esi_gateway_info info;

    if (esi_info_read_gateway(json, &info) != ES_OK) {
        log_fault(self, "wrong JSON in INFO");
        close_with(self, ESI_STR(""), "Protocol Violation");
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
        on_sub(self, item);
        break;
    case CLIENT_UNSUB:
        on_unsub(self, item);
        break;
    case CLIENT_PING:
        on_ping(self);
        break;
    case CLIENT_PONG:
        on_pong(self);
        break;
    case CLIENT_CONNECT:
        on_connect(self, item->text);
        break;
    case CLIENT_INFO:
        check_info(self, item->text);
        break;
    case CLIENT_OK:
        break;
    case CLIENT_ERR:
        log_fault(self, "-ERR from a client");
        close_with(self, ESI_STR(""), "Parse Error");
        break;
    case CLIENT_FAULT:
        on_fault(self, item);
        break;
    case CLIENT_MORE:
        break;
    }
}

static bool is_waiting(const struct esi_connection *self)
{
    return self->ops.routes_pending > 0 || self->is_authenticating || self->state != STATE_OPEN;
}

/*
 * Must this operation wait for something before it? What was collected for the routers is handed
 * over first, unless the operation joins it.
 */
static bool must_wait(struct esi_connection *self, enum esi_client_op op)
{
    const bool joins = op == CLIENT_SUB || op == CLIENT_UNSUB;

    if (!joins && esi_route_ops_has_collected(&self->ops)) {
        take_own_deliveries(self);
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    if (op == CLIENT_PING && self->ops.detaches_pending > 0 &&
        esi_runtime_worker_count(self->context->runtime) > 1) {
        /* Drain: a worker that matched before the UNSUB may still deliver, until each has ended its
         * turn. */
        take_own_deliveries(self);
        return self->ops.detaches_pending > 0;
    }
    return is_waiting(self);
}

/* Parses what can be parsed now. Returns the number of bytes that are done with; *needed as
 * esi_reader_keep has it. */
static size_t parse(struct esi_connection *self, const char *data, size_t len,
                    struct esi_block *block, size_t *needed)
{
    struct esi_client_item item;
    size_t at = 0;

    *needed = 0;
    self->is_stalled = true;
    self->is_parsing = true;
    esi_batch_begin(self->local->batch, SOURCE_CLIENT, &self->target, self->connect.echo, block,
                    now_ns(self));
    while (!is_waiting(self) || (self->ops.routes_pending > 0 && self->state == STATE_OPEN)) {
        size_t consumed = 0;
        if (self->ops.routes_pending > 0) {
            break;
        }
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
            /* Parsed again when it is its turn: after an item the parser remembers nothing. */
            break;
        }
        at += consumed;
        dispatch(self, op, &item);
        if (op == CLIENT_CONNECT) {
            /* echo may have changed */
            take_own_deliveries(self);
            esi_batch_begin(self->local->batch, SOURCE_CLIENT, &self->target, self->connect.echo,
                            block, now_ns(self));
        }
    }
    take_own_deliveries(self);
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    self->is_parsing = false;
    return self->state == STATE_OPEN ? at : len;
}

/* --- reading --- */

static void on_read_error(struct esi_connection *self, enum es_err err)
{
    if (err == ES_CLOSED) {
        /* A half-close counts as a close, but what waits is written first. */
        close_with(self, ESI_STR(""), "Client Closed");
    } else {
        if (err == ES_TLS) {
            log_fault(self, esi_stream_failure(self->stream));
        }
        close_now(self, "Read Error");
    }
}

static void process(struct esi_connection *self, bool may_read)
{
    struct esi_reader_piece piece;
    size_t needed = 0;

    if (is_waiting(self) || self->is_paused) {
        return;
    }
    const enum es_err err =
        esi_reader_next(&self->reader, self->local, self->stream, may_read, &piece);
    if (err != ES_OK) {
        self->is_stalled = false;
        if (err != ES_AGAIN) {
            on_read_error(self, err);
        }
        self->needs_read = self->stream != NULL && esi_stream_has_buffered_input(self->stream);
        return;
    }
    const size_t done = parse(self, piece.data, piece.len, piece.block, &needed);
    if (esi_reader_keep(&self->reader, self->local, &piece, done, needed) != ES_OK) {
        close_now(self, "Out Of Memory");
    }
    self->needs_read = self->stream != NULL && esi_stream_has_buffered_input(self->stream);
}

/* After the last line: what the peer still sends is read and dropped, within bounds. */
static void linger(struct esi_connection *self)
{
    size_t room_len = 0;
    size_t count = 0;
    char *room = esi_context_read_room(self->local, ESI_READ_ROOM_MIN, &room_len);
    const enum es_err err =
        room == NULL ? ES_NO_MEMORY : esi_stream_read(self->stream, room, room_len, &count);

    self->lingered_bytes += count;
    if ((err != ES_OK && err != ES_AGAIN) || self->lingered_bytes > LINGER_BYTES_MAX) {
        if (self->is_write_shut) {
            close_now(self, self->close_reason);
        } else if (err != ES_OK && err != ES_AGAIN && err != ES_CLOSED) {
            close_now(self, self->close_reason);
        } else {
            self->lingered_bytes = LINGER_BYTES_MAX;
        }
    }
}

/* --- TLS --- */

static void log_tls_failure(const struct esi_connection *self)
{
    esi_log(LOG_CLIENT_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", esi_stream_failure(self->stream)));
}

static void arm_auth_timer(struct esi_connection *self)
{
    if (self->context->auth_required) {
        const struct esi_config *config = self->context->config;
        const uint64_t timeout_ns =
            esi_stream_is_tls(self->stream) &&
                    config->auth.timeout_ns < config->tls.timeout_ns + NS_PER_S
                ? config->tls.timeout_ns + NS_PER_S
                : config->auth.timeout_ns;
        esi_actor_timer_set(&self->auth_timer, now_ns(self) + timeout_ns);
    }
}

static void open_for_business(struct esi_connection *self)
{
    self->state = STATE_OPEN;
    esi_actor_timer_cancel(&self->auth_timer);
    arm_auth_timer(self);
    esi_actor_timer_set(&self->ping_timer,
                        now_ns(self) + self->context->config->limits.ping_interval_ns);
    if (self->context->authenticator != NULL && !self->context->auth_required) {
        /* no_auth_user: what comes without CONNECT is done as that user. */
        ask_authenticator(self);
    }
}

static void shake_hands(struct esi_connection *self)
{
    const enum es_err err = esi_stream_handshake(self->stream);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        log_tls_failure(self);
        close_now(self, "TLS Handshake Failure");
        return;
    }
    open_for_business(self);
    self->needs_read = esi_stream_has_buffered_input(self->stream);
}

static void start_tls(struct esi_connection *self)
{
    if (esi_stream_start_tls_server(self->stream, self->context->client_tls) != ES_OK) {
        close_now(self, "TLS Handshake Failure");
        return;
    }
    self->state = STATE_HANDSHAKE;
    shake_hands(self);
}

/* allow_plain: the first byte tells a TLS record from a NATS line. */
static void look_at_first_bytes(struct esi_connection *self)
{
    char bytes[256];
    size_t count = 0;
    const enum es_err err = esi_stream_read(self->stream, bytes, sizeof bytes, &count);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK || esi_stream_unread(self->stream, bytes, count) != ES_OK) {
        close_now(self, "Client Closed");
        return;
    }
    if (bytes[0] == 0x16) {
        start_tls(self);
    } else {
        open_for_business(self);
        self->needs_read = true;
    }
}

/* --- the actor --- */

static void start(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);
    const struct esi_config *config = self->context->config;

    self->local = esi_worker_local(actor->home);
    esi_outbound_init(&self->outbound, &self->target, &self->local->pools);
    self->start_ns = now_ns(self);
    self->activity_ns = self->start_ns;
    self->start_wall_ns = esi_env_wall_ns(self->context->env);
    self->state = STATE_FIRST;
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->stream), POLL_READ) != ES_OK) {
        close_now(self, "Read Error");
        return;
    }
    write_info(self);
    if (self->is_refused) {
        self->state = STATE_OPEN;
        close_err(self, CLIENT_ERR_MAX_CONNECTIONS, "Maximum Connections Exceeded");
        return;
    }
    if (self->context->client_tls == NULL) {
        open_for_business(self);
        return;
    }
    bool has_progress = false;
    /* INFO goes out in clear, before the handshake takes the stream over. */
    if (esi_outbound_write(&self->outbound, self->stream, now_ns(self), &has_progress) != ES_OK) {
        close_now(self, "Write Error");
        return;
    }
    esi_actor_timer_set(&self->auth_timer, now_ns(self) + config->tls.timeout_ns);
    if (!config->tls.allow_plain) {
        start_tls(self);
    }
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_connection *self = self_of(actor);

    (void)io;
    if ((events & (POLL_WRITE | POLL_HANGUP)) != 0) {
        self->is_write_blocked = false;
    }
    switch (self->state) {
    case STATE_FIRST:
        look_at_first_bytes(self);
        break;
    case STATE_HANDSHAKE:
        shake_hands(self);
        break;
    case STATE_OPEN:
        if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
            process(self, true);
        }
        break;
    case STATE_CLOSING:
        linger(self);
        break;
    case STATE_CLOSED:
        break;
    }
}

static void watch(struct esi_connection *self)
{
    uint32_t events = esi_stream_wants(self->stream);

    if (self->state == STATE_HANDSHAKE || self->state == STATE_FIRST) {
        events |= events == 0 ? POLL_READ : 0U;
    } else if (self->state == STATE_CLOSING) {
        events |= self->lingered_bytes >= LINGER_BYTES_MAX && !self->is_write_shut ? 0U : POLL_READ;
    } else if (!is_waiting(self) && !self->is_paused && self->ops.detaches_pending == 0) {
        events |= POLL_READ;
    } else if (!is_waiting(self) && !self->is_paused && !esi_reader_has_tail(&self->reader)) {
        events |= POLL_READ;
    }
    if (self->is_write_blocked) {
        events |= POLL_WRITE;
    }
    esi_actor_io_change(&self->io, events);
}

/* Operations that removed everything: sent once, when the connection is on its way out. */
static void withdraw_subs(struct esi_connection *self)
{
    for (uint32_t i = 0; i < self->subs.slot_count; i++) {
        struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, i);
        if (client_sub != NULL && !client_sub->is_removed) {
            remove_sub(self, client_sub);
        }
    }
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);

    if (self->state == STATE_OPEN && (self->needs_read || self->is_stalled)) {
        process(self, self->needs_read);
        if (self->needs_read && !self->is_paused && !is_waiting(self)) {
            esi_actor_continue(actor);
        }
    }
    if (self->state == STATE_CLOSING || self->state == STATE_CLOSED) {
        withdraw_subs(self);
    }
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
    }
    if (self->state != STATE_CLOSED) {
        write_out(self);
    }
    if (self->state != STATE_CLOSED) {
        watch(self);
        return;
    }
    withdraw_subs(self);
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
    }
    finish_if_done(self);
}

static void add_to(_Atomic uint64_t *counter, uint64_t value)
{
    /* order: relaxed; a counter for monitoring. */
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static void finish_if_done(struct esi_connection *self)
{
    struct esi_counters *counters = &self->context->counters;

    if (self->actor.is_finished || self->ops.routes_pending > 0 || self->ops.detaches_pending > 0 ||
        self->actor.mailbox.head != NULL) {
        return;
    }
    esi_actor_timer_cancel(&self->auth_timer);
    esi_actor_timer_cancel(&self->ping_timer);
    esi_actor_timer_cancel(&self->write_timer);
    esi_actor_timer_cancel(&self->pause_timer);
    esi_actor_timer_cancel(&self->expiry_timer);
    esi_reader_deinit(&self->reader, self->local);
    add_to(&counters->in_msgs, self->in_msgs);
    add_to(&counters->in_bytes, self->in_bytes);
    add_to(&counters->out_msgs, self->out_msgs);
    add_to(&counters->out_bytes, self->out_bytes);
    if (!self->is_refused) {
        /* order: relaxed; a counter with a bound. */
        atomic_fetch_sub_explicit(&counters->connections, 1, memory_order_relaxed);
    }
    if (self->is_listener) {
        /* order: relaxed; a counter with a bound. */
        atomic_fetch_sub_explicit(&counters->listeners, 1, memory_order_relaxed);
    }
    esi_targets_remove(self->context->targets, &self->target);
    esi_actor_finish(&self->actor);
}

static void on_ping_timer(struct esi_connection *self)
{
    const struct esi_config *config = self->context->config;
    const uint64_t interval_ns = config->limits.ping_interval_ns;
    const uint64_t now = now_ns(self);
    const bool is_active = now - self->activity_ns < interval_ns && self->rtt_known_ns != 0 &&
                           now - self->rtt_known_ns < RTT_FRESH_NS;

    if (self->state != STATE_OPEN) {
        return;
    }
    if (!is_active) {
        if (self->pings_out + 1 > config->limits.ping_max) {
            close_err(self, CLIENT_ERR_STALE_CONNECTION, "Stale Connection");
            return;
        }
        if (self->has_first_pong || !self->has_connect || now - self->start_ns >= FIRST_PING_NS ||
            interval_ns < FIRST_PING_NS) {
            self->pings_out++;
            self->ping_sent_ns = now;
            push_text(self, ESI_CLIENT_PING);
        }
    }
    esi_actor_timer_set(&self->ping_timer, now + interval_ns);
}

static void on_write_timer(struct esi_connection *self)
{
    if (self->state == STATE_CLOSING) {
        close_now(self, self->close_reason);
    } else if (!esi_outbound_is_empty(&self->outbound) ||
               esi_stream_has_buffered_output(self->stream)) {
        close_slow(self, "Slow Consumer (Write Deadline)");
    }
}

static void on_auth_timer(struct esi_connection *self)
{
    if (self->state == STATE_HANDSHAKE || self->state == STATE_FIRST) {
        esi_log(LOG_CLIENT_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
                ESI_LOG_TEXT("reason", "the handshake took too long"));
        close_now(self, "TLS Handshake Failure");
        return;
    }
    close_err(self, CLIENT_ERR_AUTH_TIMEOUT, "Authentication Timeout");
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_connection *self = self_of(actor);

    if (self->state == STATE_CLOSED) {
        return;
    }
    if (fired == &self->ping_timer.timer) {
        on_ping_timer(self);
    } else if (fired == &self->write_timer.timer) {
        on_write_timer(self);
    } else if (fired == &self->auth_timer.timer) {
        on_auth_timer(self);
    } else if (fired == &self->pause_timer.timer) {
        self->is_paused = false;
    } else if (fired == &self->expiry_timer.timer) {
        close_err(self, CLIENT_ERR_USER_EXPIRED, "Authentication Expired");
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_connection *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum connection_msg)msg->kind) {
    case CONNECTION_DELIVER:
        on_deliver(self, (struct esi_delivery *)(void *)msg);
        break;
    case CONNECTION_ROUTED:
        on_routed(self, ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force));
        break;
    case CONNECTION_DETACHED:
        on_detached(self, ESI_CONTAINER_OF(msg, struct esi_route_batch, detached));
        break;
    case CONNECTION_AUTHENTICATED:
        on_authenticated(self, (struct esi_auth_check *)(void *)msg);
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    /* What was published before the stop, and perhaps answered, is on its way to us: it goes out
     * first. */
    esi_actor_drain(actor);
    /* nats-server ends connections without a line of its own when it stops. */
    close_with(self_of(actor), ESI_STR(""), "Server Shutdown");
}

static void cut(struct esi_actor *actor)
{
    close_now(self_of(actor), "Server Shutdown");
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);

    esi_bytes_printf(description->text, "cid %llu %s:%u", (unsigned long long)self->cid,
                     self->peer.host, self->peer.port);
}

static void free_connection(struct esi_actor *actor)
{
    struct esi_connection *self = self_of(actor);

    esi_stream_free(self->stream);
    esi_route_ops_deinit(&self->ops);
    esi_client_subs_deinit(&self->subs);
    esi_mapping_deinit(&self->mapped);
    esi_mapping_deinit(&self->responses);
    esi_connect_deinit(&self->connect);
    esi_verdict_deinit(&self->verdict);
    esi_permissions_unref(self->former_permissions);
    free(self);
}

const struct esi_actor_type esi_connection_type = {
    .name = "connection",
    .stop_phase = STOP_PEERS,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .cut = cut,
    .describe = describe,
    .free = free_connection,
};

enum es_err esi_connection_start(struct esi_context *context, struct esi_worker *home, int sock,
                                 const struct esi_address *peer)
{
    struct esi_stream *stream = NULL;
    enum es_err err = esi_stream_new(context->env, sock, &stream);

    if (err != ES_OK) {
        return err;
    }
    struct esi_connection *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    if (self == NULL) {
        esi_stream_free(stream);
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    self->stream = stream;
    self->peer = *peer;
    self->target.deliver = deliver;
    err = esi_targets_add(context->targets, &self->target);
    if (err != ES_OK) {
        esi_stream_free(stream);
        free(self);
        return err;
    }
    /* order: relaxed; only uniqueness matters. */
    self->cid = atomic_fetch_add_explicit(&context->next_cid, 1, memory_order_relaxed) + 1;
    esi_connect_init(&self->connect);
    esi_verdict_init(&self->verdict);
    esi_client_subs_init(&self->subs);
    esi_mapping_init(&self->mapped, MAPPED_MAX);
    esi_mapping_init(&self->responses, RESPONSES_MAX);
    esi_client_parser_init(&self->parser, context->config->limits.max_payload_bytes,
                           context->config->limits.max_control_line_bytes);
    self->parser.auth_pending = context->auth_required;
    add_to(&context->counters.connections_total, 1);
    /* order: relaxed; a counter with a bound. */
    const uint32_t before =
        atomic_fetch_add_explicit(&context->counters.connections, 1, memory_order_relaxed);
    self->is_refused = before >= context->config->limits.max_connections;
    if (self->is_refused) {
        /* order: relaxed; as above. One that is only being told so takes nobody's place. */
        atomic_fetch_sub_explicit(&context->counters.connections, 1, memory_order_relaxed);
    }
    esi_actor_init(&self->actor, &esi_connection_type, context->runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_route_ops_init(&self->ops, context, &self->actor, CONNECTION_ROUTED, CONNECTION_DETACHED);
    esi_actor_timer_init(&self->actor, &self->auth_timer);
    esi_actor_timer_init(&self->actor, &self->ping_timer);
    esi_actor_timer_init(&self->actor, &self->write_timer);
    esi_actor_timer_init(&self->actor, &self->pause_timer);
    esi_actor_timer_init(&self->actor, &self->expiry_timer);
    esi_actor_start(&self->actor);
    return ES_OK;
}

/* --- visits --- */

void esi_connection_info(const struct esi_actor *actor, struct esi_connection_info *out)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);
    const bool has_stream = self->stream != NULL;

    *out = (struct esi_connection_info){
        .cid = self->cid,
        .peer = &self->peer,
        .start_wall_ns = self->start_wall_ns,
        .start_ns = self->start_ns,
        .last_activity_ns = self->activity_ns,
        .rtt_ns = self->rtt_ns,
        .pending_bytes = esi_outbound_pending_bytes(&self->outbound),
        .in_msgs = self->in_msgs,
        .in_bytes = self->in_bytes,
        .out_msgs = self->out_msgs,
        .out_bytes = self->out_bytes,
        .subscriptions = esi_client_subs_count(&self->subs),
        .name = self->connect.name,
        .lang = self->connect.lang,
        .version = self->connect.version,
        .authorized_user = self->verdict.name,
        .tls_version = has_stream ? esi_stream_tls_version(self->stream) : "",
        .tls_cipher = has_stream ? esi_stream_tls_cipher(self->stream) : "",
        .identity = has_stream ? esi_stream_peer(self->stream) : NULL,
        .worker = esi_worker_index(actor->home),
        .is_open = self->state == STATE_OPEN,
    };
}

void esi_connection_each_sub(const struct esi_actor *actor,
                             void (*each)(void *argument, const struct esi_sub *sub,
                                          uint64_t delivered, uint64_t max),
                             void *argument)
{
    const struct esi_connection *self = ESI_CONTAINER_OF(actor, const struct esi_connection, actor);

    for (uint32_t i = 0; i < self->subs.slot_count; i++) {
        const struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, i);
        if (client_sub != NULL && !client_sub->is_removed) {
            each(argument, client_sub->sub, client_sub->delivered, client_sub->max);
        }
    }
}

const struct esi_verdict *esi_connection_verdict(const struct esi_actor *actor)
{
    return &ESI_CONTAINER_OF(actor, const struct esi_connection, actor)->verdict;
}

void esi_connection_revoke(struct esi_actor *actor)
{
    refuse_credentials(self_of(actor));
}
