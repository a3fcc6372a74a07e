/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client connection's subscriptions: SUB and UNSUB, and the answers of the routers. */
#include "actors/connection_internal.h"
#include "base/assert.h"
#include "base/bytes.h"
#include "proto/subject.h"

#include <stdlib.h>

enum {
    WITHDRAWN_A_TURN = 1024,
    /* Its slot, and its place by sid: tables that grow by doubling. */
    SLOT_BYTES = sizeof(struct esi_client_sub) * 3 / 2 + 2 * sizeof(struct esi_client_sid)
};

/* Where there is no memory to remove one: until the next try. */
static const uint64_t RETRY_NS = 10000000;

/* What a subscription takes here, in the table, and in the routers' count of interest. */
static uint64_t memory_of(const struct esi_sub *sub)
{
    return esi_route_ops_memory_bytes(sub) + SLOT_BYTES;
}

enum es_err esi_connection_subs_remove(struct esi_connection *self,
                                       struct esi_client_sub *client_sub)
{
    const enum es_err err = esi_route_ops_remove(&self->ops, client_sub->sub);

    if (err == ES_OK) {
        self->counted_subs -= client_sub->max > 0;
        esi_client_subs_forget(&self->subs, client_sub);
    }
    return err;
}

void esi_connection_subs_on_routed(struct esi_connection *self, struct esi_route_batch *batch)
{
    if (esi_route_ops_in_force(&self->ops, batch) != ES_OK) {
        esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
    }
    /* What waited for this goes on in the next turn, or right away in the parser that asked. */
    esi_actor_continue(&self->actor);
}

void esi_connection_subs_on_detached(struct esi_connection *self, struct esi_route_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct esi_route_op *op = &batch->ops[i];
        if (op->kind == ROUTE_REMOVE) {
            struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, op->sub->slot);
            ESI_ASSERT(client_sub != NULL && client_sub->sub == op->sub);
            esi_ledger_give(self->local->lease, MEMORY_SUBSCRIPTIONS, memory_of(op->sub));
            /* freed with the batch */
            (void)esi_client_subs_release_slot(&self->subs, client_sub);
        }
    }
    esi_route_ops_detached(&self->ops, batch);
    esi_actor_continue(&self->actor);
}

void esi_connection_subs_withdraw(struct esi_connection *self)
{
    for (uint32_t i = 0; i < WITHDRAWN_A_TURN && !esi_connection_subs_are_withdrawn(self); i++) {
        struct esi_client_sub *client_sub = esi_client_subs_at(&self->subs, self->withdrawn_slots);
        if (client_sub != NULL && !client_sub->is_removed &&
            esi_connection_subs_remove(self, client_sub) != ES_OK) {
            /* It must not be freed while it is in the table. */
            esi_actor_timer_set(&self->pause_timer, connection_now_ns(self) + RETRY_NS);
            return;
        }
        self->withdrawn_slots++;
    }
    if (!esi_connection_subs_are_withdrawn(self)) {
        esi_actor_continue(&self->actor);
    }
}

bool esi_connection_subs_are_withdrawn(const struct esi_connection *self)
{
    return self->withdrawn_slots >= self->subs.slot_count;
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
    esi_connection_output_answer_bytes(self, &text);
}

static void refuse_tokens(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_client_writer_too_many_tokens(&text, item->subject);
    esi_connection_output_answer_bytes(self, &text);
}

/* What no SUB may do, not even one that repeats a live sid; the peer is told. NATS: in this
 * order. */
static bool may_subscribe(struct esi_connection *self, const struct esi_client_item *item)
{
    const struct esi_config_limits *limits = &self->context->config->limits;

    if (!esi_permissions_may_subscribe(self->verdict.permissions, item->subject, item->queue)) {
        refuse_subscription(self, item);
        return false;
    }
    if (limits->max_subscription_tokens > 0 &&
        esi_subject_token_count(item->subject) > limits->max_subscription_tokens) {
        refuse_tokens(self, item);
        return false;
    }
    if (limits->max_subscriptions > 0 &&
        esi_client_subs_count(&self->subs) >= limits->max_subscriptions) {
        esi_connection_output_answer(self, esi_client_writer_err(CLIENT_ERR_MAX_SUBSCRIPTIONS));
        return false;
    }
    return true;
}

/* What a new subscription must fulfil besides; the peer is told. */
static bool may_add(struct esi_connection *self, const struct esi_client_item *item)
{
    if (!esi_subject_is_valid(item->subject)) {
        esi_connection_output_answer(self, esi_client_writer_err(CLIENT_ERR_INVALID_SUBJECT));
        return false;
    }
    if (!count_listener(self)) {
        esi_connection_close_err(self, CLIENT_ERR_MAX_LISTENERS, "Maximum Listeners Exceeded");
        return false;
    }
    return true;
}

static bool has_responses(const struct esi_connection *self)
{
    int64_t max = 0;
    uint64_t expires_ns = 0;

    return esi_permissions_allows_responses(self->verdict.permissions, &max, &expires_ns);
}

/* ES_FULL: limits.memory leaves no room for it; ES_NO_MEMORY. */
static enum es_err add_sub(struct esi_connection *self, const struct esi_client_item *item)
{
    struct esi_sub *sub = esi_sub_new_pooled(&self->local->subs, &self->target, item->subject,
                                             item->queue, item->sid);

    if (sub == NULL) {
        return ES_NO_MEMORY;
    }
    const uint64_t bytes = memory_of(sub);
    if (!esi_ledger_take(self->local->lease, MEMORY_SUBSCRIPTIONS, bytes)) {
        esi_sub_free(sub, &self->local->subs);
        return ES_FULL;
    }
    sub->created_ns = connection_now_ns(self);
    sub->flags =
        (self->connect.headers ? SUB_HEADERS : 0U) | (has_responses(self) ? SUB_RECORDS : 0U);
    if (esi_permissions_needs_delivery_check(self->verdict.permissions, item->subject,
                                             item->queue)) {
        sub->permissions = esi_permissions_ref(self->verdict.permissions);
    }
    struct esi_client_sub *client_sub = esi_client_subs_add(&self->subs, sub);
    if (client_sub == NULL) {
        esi_sub_free(sub, &self->local->subs);
    } else if (esi_route_ops_add(&self->ops, sub) != ES_OK) {
        esi_client_subs_forget(&self->subs, client_sub);
        esi_client_subs_free_slot(&self->subs, client_sub);
    } else {
        return ES_OK;
    }
    esi_ledger_give(self->local->lease, MEMORY_SUBSCRIPTIONS, bytes);
    return ES_NO_MEMORY;
}

void esi_connection_subs_on_sub(struct esi_connection *self, const struct esi_client_item *item)
{
    self->activity_ns = connection_now_ns(self);
    esi_batch_settle(self->local->batch);
    if (self->counted_subs > 0) {
        /* What was published before may end a counted subscription, whose sid is then free
         * again. */
        esi_connection_output_take_own(self);
    }
    if (!may_subscribe(self, item)) {
        return;
    }
    if (esi_client_subs_find(&self->subs, item->sid) == NULL) {
        if (!may_add(self, item)) {
            return;
        }
        const enum es_err err = add_sub(self, item);
        if (err == ES_FULL) {
            /* The client goes on with the subscriptions it has. */
            esi_connection_output_answer(self, esi_client_writer_err(CLIENT_ERR_MAX_SUBSCRIPTIONS));
            return;
        }
        if (err != ES_OK) {
            esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
            return;
        }
    }
    esi_connection_output_answer_ok(self);
}

/* The subscription as one whose messages are claimed; the one in the table cannot become it. NULL:
 * there was no memory, and the connection is closed. */
static struct esi_sub *reach_counted(struct esi_connection *self, struct esi_client_sub *client_sub)
{
    struct esi_sub *sub = client_sub->sub;

    if (esi_route_ops_is_collected(&self->ops, sub)) {
        sub->flags |= SUB_RECORDS | SUB_COUNTED;
        return sub;
    }
    struct esi_sub *fresh = esi_sub_new(sub->target, sub->subject, sub->queue, sub->sid);
    if (fresh == NULL) {
        esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
        return NULL;
    }
    fresh->permissions = esi_permissions_ref(sub->permissions);
    fresh->created_ns = sub->created_ns;
    fresh->flags = sub->flags | SUB_RECORDS | SUB_COUNTED;
    if (esi_route_ops_replace(&self->ops, sub, fresh) != ES_OK) {
        esi_sub_free(fresh, NULL);
        esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
        return NULL;
    }
    esi_client_subs_replace(&self->subs, client_sub, fresh);
    return fresh;
}

/*
 * Sets the maximum, or another one. Each message is claimed from now on, so that nobody counts the
 * subscription as a receiver of more; what was handed over before and not yet arrived is known only
 * when it does.
 */
static void set_max(struct esi_connection *self, struct esi_client_sub *client_sub, uint64_t max)
{
    const uint64_t counted = client_sub->max > 0 ? client_sub->max : client_sub->delivered;
    struct esi_sub *sub = client_sub->sub;

    self->counted_subs += client_sub->max == 0;
    client_sub->max = max;
    if ((sub->flags & SUB_COUNTED) == 0) {
        sub = reach_counted(self, client_sub);
    }
    if (sub != NULL) {
        esi_sub_add_claims(sub, (int64_t)(max - counted));
    }
}

void esi_connection_subs_on_unsub(struct esi_connection *self, const struct esi_client_item *item)
{
    self->activity_ns = connection_now_ns(self);
    /* What was published before this line is for the subscription still, and arrives by its slot.
     */
    esi_batch_settle(self->local->batch);
    if (item->has_max) {
        /* It counts, too. */
        esi_connection_output_take_own(self);
    }
    struct esi_client_sub *client_sub = esi_client_subs_find(&self->subs, item->sid);
    if (client_sub != NULL) {
        if (item->has_max && client_sub->delivered < item->max) {
            set_max(self, client_sub, item->max);
        } else if (esi_connection_subs_remove(self, client_sub) != ES_OK) {
            esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
            return;
        }
    }
    esi_connection_output_answer_ok(self);
}
