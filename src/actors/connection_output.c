/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a client gets: deliveries that other connections published, lines of our own, and writing
 * both.
 */
#include "actors/connection_internal.h"
#include "base/bytes.h"
#include "net/stream.h"

static const uint64_t MAPPED_NS = 2000000000; /* as nats-server */

enum { OWN_LINES_BYTES_MAX = 1024 * 1024, BLOCK_FACTOR = 4, PREFETCH_AHEAD = 8 };

void esi_connection_output_take_own(struct esi_connection *self)
{
    const uint64_t pause_ns = esi_batch_flush(self->local->batch);
    struct esi_target *blocker = esi_batch_blocker(self->local->batch);

    if (blocker != NULL) {
        esi_connection_pressure_hold(self, blocker);
    } else if (pause_ns > 0 && !self->is_paused) {
        self->is_paused = true;
        esi_actor_timer_set(&self->pause_timer, connection_now_ns(self) + pause_ns);
    }
    esi_actor_drain(&self->actor);
}

void esi_connection_output_push(struct esi_connection *self, struct esi_str text)
{
    if (is_connection_ending(self)) {
        return;
    }
    if (esi_outbound_push_text(&self->outbound, text) != ES_OK) {
        esi_connection_close_now(self, "Out Of Memory");
    }
}

void esi_connection_output_answer(struct esi_connection *self, struct esi_str text)
{
    esi_connection_output_take_own(self);
    esi_connection_output_push(self, text);
}

void esi_connection_output_answer_bytes(struct esi_connection *self, struct esi_bytes *text)
{
    esi_connection_output_answer(self, esi_bytes_str(text));
    esi_bytes_deinit(text);
}

void esi_connection_output_answer_ok(struct esi_connection *self)
{
    if (self->connect.verbose) {
        esi_connection_output_answer(self, ESI_CLIENT_OK);
    }
}

static void check_pending(struct esi_connection *self)
{
    const struct esi_config_limits *limits = &self->context->config->limits;
    const uint64_t pending_bytes = esi_outbound_pending_bytes(&self->outbound);
    bool is_over = false;

    switch (limits->slow_consumer) {
    case CONFIG_SLOW_DISCONNECT:
        is_over = pending_bytes > limits->max_pending_bytes;
        break;
    case CONFIG_SLOW_DROP_NEW:
        /* Messages are left out above max_pending: more than that are answers to a peer that asks
         * and does not read. */
        is_over = self->outbound.queued_bytes > limits->max_pending_bytes + OWN_LINES_BYTES_MAX;
        break;
    case CONFIG_SLOW_BLOCK:
        /* Each publisher may have sent what it had read when it was told to wait. */
        is_over = pending_bytes > BLOCK_FACTOR * limits->max_pending_bytes + OWN_LINES_BYTES_MAX;
        break;
    }
    if (is_over) {
        esi_connection_close_slow(self, "Slow Consumer (Pending Bytes)");
    }
}

/* A message that is missing is never passed over in silence. */
static void check_missing(struct esi_connection *self)
{
    if (esi_connection_pressure_is_missing(self) && self->state == STATE_OPEN &&
        self->context->config->limits.slow_consumer != CONFIG_SLOW_DROP_NEW) {
        esi_connection_close_slow(self, "Slow Consumer (Memory)");
    }
}

/* While something waits: the peer has write_deadline to take some of it, and a connection that is
 * closing not for ever. */
static void arm_write_timer(struct esi_connection *self)
{
    uint64_t deadline_ns =
        connection_now_ns(self) + self->context->config->limits.write_deadline_ns;

    if (self->state == STATE_CLOSING && deadline_ns > self->close_deadline_ns) {
        deadline_ns = self->close_deadline_ns;
    }
    esi_actor_timer_set(&self->write_timer, deadline_ns);
}

void esi_connection_output_write(struct esi_connection *self)
{
    bool has_progress = false;

    check_missing(self);
    if (self->state == STATE_HANDSHAKE || self->state == STATE_CLOSED) {
        return;
    }
    if (self->is_write_blocked) {
        check_pending(self);
        return;
    }
    if (esi_outbound_is_empty(&self->outbound) && !esi_stream_has_buffered_output(self->stream)) {
        if (self->state == STATE_CLOSING) {
            esi_connection_close_end_stream(self);
        }
        return;
    }
    const enum es_err err =
        esi_outbound_write(&self->outbound, self->stream, connection_now_ns(self), &has_progress);
    self->is_overdue &= !has_progress;
    if (err == ES_OK) {
        if (self->state == STATE_CLOSING) {
            esi_connection_close_end_stream(self);
        } else {
            esi_actor_timer_cancel(&self->write_timer);
        }
        return;
    }
    if (err != ES_AGAIN) {
        esi_connection_close_now(self, "Write Error");
        return;
    }
    self->is_write_blocked = true;
    if (has_progress || !self->write_timer.timer.is_set) {
        arm_write_timer(self);
    }
    check_pending(self);
}

void esi_connection_output_deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    struct esi_connection *self = ESI_CONTAINER_OF(target, struct esi_connection, target);

    delivery->msg.kind = CONNECTION_DELIVER;
    delivery->msg.free = esi_context_free_delivery;
    esi_actor_send(&self->actor, &delivery->msg);
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
        esi_mapping_add(&self->mapped, reply, mapped, -1, connection_now_ns(self) + MAPPED_NS);
    }
    if (esi_permissions_allows_responses(self->verdict.permissions, &uses, &expires_ns)) {
        esi_mapping_add(&self->responses, reply, ESI_STR(""), uses,
                        expires_ns == 0 ? UINT64_MAX : connection_now_ns(self) + expires_ns);
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
        !client_sub->is_removed && esi_connection_subs_remove(self, client_sub) != ES_OK) {
        esi_connection_close_now(self, "Out Of Memory");
        return false;
    }
    return true;
}

/* drop_new: are messages left out now? From above max_pending, or past write_deadline, until half
 * of max_pending. */
static bool must_drop(struct esi_connection *self)
{
    const struct esi_config_limits *limits = &self->context->config->limits;
    const uint64_t pending_bytes = esi_outbound_pending_bytes(&self->outbound);
    const bool was_dropping = self->is_dropping;

    if (limits->slow_consumer != CONFIG_SLOW_DROP_NEW) {
        return false;
    }
    self->is_dropping = self->is_overdue || pending_bytes > limits->max_pending_bytes ||
                        (was_dropping && pending_bytes > limits->max_pending_bytes / 2);
    if (self->is_dropping && !was_dropping) {
        esi_connection_close_note_slow(self, "Slow Consumer (Messages Dropped)");
    }
    return self->is_dropping;
}

/* What is left out counts towards no maximum: another message may be claimed instead. */
static void return_claims(struct esi_connection *self, const struct esi_delivery *delivery)
{
    for (uint32_t i = 0; i < delivery->slice_count && self->counted_subs > 0; i++) {
        struct esi_client_sub *client_sub =
            esi_client_subs_at(&self->subs, delivery->slices[i].sub_slot);
        if (client_sub != NULL && client_sub->max > 0) {
            esi_sub_add_claims(client_sub->sub, delivery->slices[i].message_count);
        }
    }
}

void esi_connection_output_on_deliver(struct esi_connection *self, struct esi_delivery *delivery)
{
    if (is_connection_ending(self)) {
        esi_outbound_drop_bytes(&self->outbound, delivery->bytes);
        return; /* the runtime frees it */
    }
    if (must_drop(self)) {
        self->dropped_msgs += delivery->message_count;
        return_claims(self, delivery);
        esi_outbound_drop_bytes(&self->outbound, delivery->bytes);
        return;
    }
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        const struct esi_slice *slice = &delivery->slices[i];
        if (i + PREFETCH_AHEAD < delivery->slice_count) {
            esi_client_subs_prefetch(&self->subs, delivery->slices[i + PREFETCH_AHEAD].sub_slot);
        }
        if (self->state == STATE_CLOSED || !accept_slice(self, slice)) {
            esi_outbound_skip_slice(&self->outbound, slice);
            continue;
        }
        self->out_msgs += slice->message_count;
        self->out_bytes += slice->payload_len;
        if (esi_outbound_push_slice(&self->outbound, slice) != ES_OK) {
            esi_outbound_skip_slice(&self->outbound, slice);
            esi_connection_close_now(self, "Out Of Memory"); /* what follows is left out as well */
        }
    }
    /* The references have moved to the outbound queue. */
    delivery->slice_count = 0;
}
