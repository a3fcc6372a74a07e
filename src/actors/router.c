/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch is applied in order. When it has removed something, what it retired waits for one grace
 * period together with its detached message. What additions alone retire (a table that has grown)
 * is gathered by the router, for one grace period at a time. Interest changes of a batch reach
 * every listening link as one message, after the batch is in force.
 *
 * A turn asks for no memory that it could not do without: what waits for a grace period stands in
 * the batch, and a link that cannot be told of a change has a message in reserve that says so.
 */
#include "actors/router.h"
#include "base/assert.h"
#include "base/own.h"
#include "broker/interest.h"
#include "proto/gateway_writer.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum router_msg {
    ROUTER_BATCH,
    ROUTER_DETACHED,
    ROUTER_RETIRED,
    ROUTER_LISTEN,
    ROUTER_UNLISTEN,
    ROUTER_REPORT
};

enum {
    INTEREST_LINES_MAX = 256 * 1024 * 1024,
    /* Batches that wait for a grace period; above it answers are held, so that who subscribes and
     * unsubscribes all the time cannot retire faster than memory is freed. */
    GRACES_MAX = 256
};

struct esi_router_listener {
    struct esi_router_listener *next;
    struct esi_actor *link; /* a reference */
    uint32_t kind;
    /* owned; sent where there is no memory for another one; NULL: it was, and the link ends */
    struct esi_interest_msg *reserve;
    struct esi_msg listen;
    struct esi_msg unlisten;
};

struct esi_router {
    struct esi_actor actor;                /* first */
    struct esi_subtable *table;            /* borrowed */
    struct esi_str account;                /* borrowed */
    uint32_t index;                        /* which router it is */
    struct esi_interest interest;          /* with a queue; the others are counted by the table */
    struct esi_router_listener *listeners; /* owned */
    struct esi_bytes changes;              /* RS lines of the batch in hand */
    uint32_t graces_pending;               /* batches that wait for a grace period */
    struct esi_grace grace;                /* of what additions alone have retired */
    struct esi_retired *retired;           /* waits for it; NULL: it is not under way */
    struct esi_retired *retired_next;      /* for the next one */
    struct esi_msg *held_first;            /* answers that are held, in order */
    struct esi_msg *held_last;
};

/* The free of messages that are part of something else. */
static void keep(struct esi_msg *msg)
{
    (void)msg;
}

struct esi_route_batch *esi_router_batch_new(uint32_t capacity)
{
    struct esi_route_batch *batch = malloc(sizeof *batch + capacity * sizeof batch->ops[0]);

    if (batch != NULL) {
        *batch = (struct esi_route_batch){.capacity = capacity};
    }
    return batch;
}

struct esi_route_batch *esi_router_batch_grow(struct esi_route_batch *batch, uint32_t capacity)
{
    ESI_REQUIRE(capacity > batch->capacity);
    struct esi_route_batch *grown = realloc(batch, sizeof *batch + capacity * sizeof batch->ops[0]);

    if (grown != NULL) {
        grown->capacity = capacity;
    }
    return grown;
}

void esi_router_submit(struct esi_router *router, struct esi_route_batch *batch)
{
    batch->has_detached = false;
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->has_detached |= batch->ops[i].kind != ROUTE_ADD;
    }
    batch->err = ES_OK;
    batch->msg = (struct esi_msg){.kind = ROUTER_BATCH, .free = keep};
    esi_actor_send(&router->actor, &batch->msg);
}

static void note_change(struct esi_router *router, const struct esi_sub *sub, bool is_added)
{
    if (router->listeners == NULL) {
        return;
    }
    if (is_added) {
        esi_gateway_writer_sub(&router->changes, router->account, sub->subject, sub->queue);
    } else {
        esi_gateway_writer_unsub(&router->changes, router->account, sub->subject, sub->queue);
    }
}

static enum es_err add(struct esi_router *router, struct esi_sub *sub, struct esi_retired **retired)
{
    enum es_err err = esi_subtable_add(router->table, sub, retired);

    if (err != ES_OK || sub->target->is_link) {
        return err;
    }
    bool is_first = false;
    if (sub->queue.len == 0) {
        is_first = esi_subtable_plain_count(sub) == 1;
    } else {
        err = esi_interest_add(&router->interest, sub->subject, sub->queue, &is_first);
    }
    if (err != ES_OK) {
        esi_subtable_remove(router->table, sub, retired);
        return err;
    }
    if (is_first) {
        note_change(router, sub, true);
    }
    return ES_OK;
}

static void remove_sub(struct esi_router *router, struct esi_sub *sub, struct esi_retired **retired)
{
    if (!esi_sub_is_routed(sub)) {
        return; /* its ADD failed */
    }
    bool is_last = false;
    if (!sub->target->is_link) {
        is_last = sub->queue.len == 0
                      ? esi_subtable_plain_count(sub) == 1
                      : esi_interest_remove(&router->interest, sub->subject, sub->queue);
    }
    esi_subtable_remove(router->table, sub, retired);
    if (is_last) {
        note_change(router, sub, false);
    }
}

static void apply(struct esi_router *router, struct esi_route_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct esi_route_op *op = &batch->ops[i];
        switch (op->kind) {
        case ROUTE_ADD:
            if (batch->err == ES_OK) {
                batch->err = add(router, op->sub, &batch->retired);
            }
            break;
        case ROUTE_REMOVE:
            remove_sub(router, op->sub, &batch->retired);
            break;
        case ROUTE_REPLACE:
            if (esi_sub_is_routed(op->replaced)) {
                esi_subtable_replace(router->table, op->replaced, op->sub);
            }
            break;
        }
    }
}

static void free_interest(struct esi_msg *msg)
{
    struct esi_interest_msg *interest = (struct esi_interest_msg *)(void *)msg;

    esi_bytes_deinit(&interest->queues);
    esi_bytes_deinit(&interest->lines);
    free(interest);
}

static struct esi_interest_msg *new_interest(uint32_t kind)
{
    struct esi_interest_msg *interest = malloc(sizeof *interest);

    if (interest != NULL) {
        *interest = (struct esi_interest_msg){.msg = {.kind = kind, .free = free_interest}};
        esi_bytes_init(&interest->queues, INTEREST_LINES_MAX);
        esi_bytes_init(&interest->lines, INTEREST_LINES_MAX);
    }
    return interest;
}

/* A message to be filled for the link; where there is no memory, the one in reserve, that says that
 * something is missing; NULL: the link has been told so before. */
static struct esi_interest_msg *reach_interest(struct esi_router_listener *listener)
{
    struct esi_interest_msg *interest = new_interest(listener->kind);

    if (interest == NULL && listener->reserve != NULL) {
        interest = ESI_MOVE(listener->reserve);
        interest->lines.failed = true;
    }
    return interest;
}

static void tell_listeners(struct esi_router *router)
{
    const struct esi_bytes *changes = &router->changes;

    if (changes->len == 0 && !changes->failed) {
        return;
    }
    for (struct esi_router_listener *listener = router->listeners; listener != NULL;
         listener = listener->next) {
        struct esi_interest_msg *interest = reach_interest(listener);
        if (interest == NULL) {
            continue;
        }
        esi_bytes_append_str(&interest->lines, esi_bytes_str(changes));
        interest->lines.failed |= changes->failed;
        esi_actor_send(listener->link, &interest->msg);
    }
    esi_bytes_clear(&router->changes);
}

static void wait_for_grace(struct esi_router *router, struct esi_grace *grace, enum router_msg kind)
{
    *grace = (struct esi_grace){.msg = {.kind = kind, .free = keep}};
    esi_runtime_after_grace(router->actor.runtime, &router->actor, grace);
}

/* What an addition has retired is freed after a grace period, no later than with the next one. */
static void retire(struct esi_router *router, struct esi_retired *retired)
{
    while (retired != NULL) {
        struct esi_retired *next = retired->next;
        retired->next = router->retired_next;
        router->retired_next = retired;
        retired = next;
    }
    if (router->retired == NULL && router->retired_next != NULL) {
        router->retired = ESI_MOVE(router->retired_next);
        wait_for_grace(router, &router->grace, ROUTER_RETIRED);
    }
}

static void on_retired(struct esi_router *router)
{
    esi_subtable_free_retired(ESI_MOVE(router->retired));
    retire(router, NULL);
}

static void answer(struct esi_route_batch *batch)
{
    batch->is_held = false;
    esi_actor_send(batch->asker, &batch->in_force);
}

static void hold(struct esi_router *router, struct esi_route_batch *batch)
{
    batch->is_held = true;
    if (router->held_first == NULL) {
        router->held_first = &batch->in_force;
    } else {
        router->held_last->next = &batch->in_force;
    }
    router->held_last = &batch->in_force;
}

static void answer_first_held(struct esi_router *router)
{
    struct esi_msg *msg = router->held_first;

    router->held_first = msg->next;
    answer(ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force));
}

static void on_batch(struct esi_router *router, struct esi_route_batch *batch)
{
    apply(router, batch);
    tell_listeners(router);
    batch->in_force = (struct esi_msg){.kind = batch->in_force_kind, .free = keep};
    if (!batch->has_detached) {
        retire(router, ESI_MOVE(batch->retired));
        answer(batch);
        return;
    }
    router->graces_pending++;
    wait_for_grace(router, &batch->grace, ROUTER_DETACHED);
    if (router->graces_pending > GRACES_MAX) {
        hold(router, batch);
    } else {
        answer(batch);
    }
}

static void on_detached(struct esi_router *router, struct esi_route_batch *batch)
{
    router->graces_pending--;
    esi_subtable_free_retired(ESI_MOVE(batch->retired));
    /* One that is given back was in force before, and so were those before it. */
    while (router->held_first != NULL && (router->graces_pending < GRACES_MAX || batch->is_held)) {
        answer_first_held(router);
    }
    batch->detached = (struct esi_msg){.kind = batch->detached_kind, .free = keep};
    esi_actor_send(batch->asker, &batch->detached);
}

struct snapshot {
    const struct esi_router *router;
    struct esi_bytes *lines;
};

static void write_plain(void *argument, struct esi_str subject)
{
    const struct snapshot *snapshot = argument;

    esi_gateway_writer_sub(snapshot->lines, snapshot->router->account, subject, ESI_STR(""));
}

static void on_listen(struct esi_router *router, struct esi_router_listener *listener)
{
    struct esi_interest_msg *interest = reach_interest(listener);
    struct snapshot snapshot = {.router = router, .lines = &interest->lines};

    ESI_ASSERT(interest != NULL);
    listener->next = router->listeners;
    router->listeners = listener;
    interest->is_snapshot = true;
    esi_interest_write(&router->interest, router->account, &interest->queues, &interest->lines);
    esi_subtable_each_plain(router->table, router->index, write_plain, &snapshot);
    esi_actor_send(listener->link, &interest->msg);
}

static void free_listener(struct esi_router_listener *listener)
{
    if (listener->reserve != NULL) {
        free_interest(&listener->reserve->msg);
    }
    free(listener);
}

static void on_unlisten(struct esi_router *router, struct esi_router_listener *listener)
{
    struct esi_router_listener **at = &router->listeners;

    while (*at != listener) {
        at = &(*at)->next;
    }
    *at = listener->next;
    esi_actor_unref(listener->link);
    free_listener(listener);
}

enum es_err esi_router_listen(struct esi_router *router, struct esi_actor *link, uint32_t kind,
                              struct esi_router_listener **out)
{
    struct esi_router_listener *listener = malloc(sizeof *listener);

    if (listener == NULL) {
        return ES_NO_MEMORY;
    }
    *listener = (struct esi_router_listener){.link = link,
                                             .kind = kind,
                                             .reserve = new_interest(kind),
                                             .listen = {.kind = ROUTER_LISTEN, .free = keep},
                                             .unlisten = {.kind = ROUTER_UNLISTEN, .free = keep}};
    if (listener->reserve == NULL) {
        free(listener);
        return ES_NO_MEMORY;
    }
    esi_actor_ref(link);
    *out = listener;
    esi_actor_send(&router->actor, &listener->listen);
    return ES_OK;
}

void esi_router_unlisten(struct esi_router *router, struct esi_router_listener *listener)
{
    if (listener != NULL) {
        esi_actor_send(&router->actor, &listener->unlisten);
    }
}

void esi_router_report(struct esi_router *router, struct esi_router_report *report)
{
    report->msg = (struct esi_msg){.kind = ROUTER_REPORT, .free = keep};
    esi_actor_send(&router->actor, &report->msg);
}

static void on_report(const struct esi_router *router, struct esi_router_report *report)
{
    report->id = router->actor.id;
    report->stats = router->actor.stats;
    report->depth = router->actor.mailbox.depth;
    report->depth_max = router->actor.mailbox.depth_max;
    report->listener_count = 0;
    for (const struct esi_router_listener *at = router->listeners; at != NULL; at = at->next) {
        report->listener_count++;
    }
    report->msg = (struct esi_msg){.kind = report->answer_kind, .free = keep};
    esi_actor_send(report->asker, &report->msg);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_router *router = ESI_CONTAINER_OF(actor, struct esi_router, actor);

    switch ((enum router_msg)msg->kind) {
    case ROUTER_BATCH:
        on_batch(router, ESI_CONTAINER_OF(msg, struct esi_route_batch, msg));
        break;
    case ROUTER_DETACHED:
        on_detached(router, ESI_CONTAINER_OF(msg, struct esi_route_batch, grace.msg));
        break;
    case ROUTER_RETIRED:
        on_retired(router);
        break;
    case ROUTER_LISTEN:
        on_listen(router, ESI_CONTAINER_OF(msg, struct esi_router_listener, listen));
        break;
    case ROUTER_UNLISTEN:
        on_unlisten(router, ESI_CONTAINER_OF(msg, struct esi_router_listener, unlisten));
        break;
    case ROUTER_REPORT:
        on_report(router, ESI_CONTAINER_OF(msg, struct esi_router_report, msg));
        break;
    }
}

static const struct esi_actor_type router_type = {
    .name = "router",
    .stop_phase = STOP_PHASE_COUNT,
    .handle = handle,
};

enum es_err esi_router_new(struct esi_runtime *runtime, struct esi_subtable *table, uint32_t index,
                           struct esi_str account, struct esi_router **out)
{
    struct esi_router *router = aligned_alloc(ESI_CACHE_LINE, sizeof *router);

    if (router == NULL) {
        return ES_NO_MEMORY;
    }
    *router = (struct esi_router){.table = table, .index = index, .account = account};
    esi_interest_init(&router->interest);
    esi_bytes_init(&router->changes, INTEREST_LINES_MAX);
    esi_actor_init(&router->actor, &router_type, runtime, NULL);
    esi_actor_start(&router->actor);
    *out = router;
    return ES_OK;
}

void esi_router_free(struct esi_router *router)
{
    if (router == NULL) {
        return;
    }
    while (router->listeners != NULL) {
        struct esi_router_listener *next = router->listeners->next;
        free_listener(router->listeners);
        router->listeners = next;
    }
    esi_subtable_free_retired(router->retired);
    esi_subtable_free_retired(router->retired_next);
    esi_interest_deinit(&router->interest);
    esi_bytes_deinit(&router->changes);
    free(router);
}
