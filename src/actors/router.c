/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch is applied in order; what it retires waits for one grace period together with the batch's
 * detached message. Interest changes of a batch reach every listening link as one message, after
 * the batch is in force.
 */
#include "actors/router.h"
#include "base/assert.h"
#include "base/own.h"
#include "broker/interest.h"
#include "proto/gateway_writer.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum router_msg { ROUTER_BATCH, ROUTER_GRACE_ENDED, ROUTER_LISTEN, ROUTER_UNLISTEN, ROUTER_REPORT };

enum {
    INTEREST_LINES_MAX = 256 * 1024 * 1024,
    /* Batches whose retired memory waits for a grace period; above it answers are held, so that who
     * subscribes and unsubscribes all the time cannot retire faster than memory is freed. */
    GRACES_MAX = 256
};

struct listener {
    struct listener *next;
    struct esi_actor *link; /* a reference */
    uint32_t kind;
};

struct esi_router {
    struct esi_actor actor;       /* first */
    struct esi_subtable *table;   /* borrowed */
    struct esi_str account;       /* borrowed */
    uint32_t index;               /* which router it is */
    struct esi_interest interest; /* with a queue; the others are counted by the table */
    struct listener *listeners;   /* owned */
    struct esi_bytes changes;     /* RS lines of the batch in hand */
    uint32_t graces_pending;      /* batches that wait for a grace period */
    struct esi_msg *held_first;   /* answers that are held, in order */
    struct esi_msg *held_last;
};

struct listen_msg {
    struct esi_msg msg;
    struct esi_actor *link; /* a reference */
    uint32_t kind;
};

/* Waits for a grace period: memory to free and a batch to give back. */
struct grace_msg {
    struct esi_grace grace; /* first */
    struct esi_retired *retired;
    struct esi_route_batch *batch; /* NULL: nothing to tell */
};

static void free_msg(struct esi_msg *msg)
{
    free(msg);
}

static void keep(struct esi_msg *msg)
{
    (void)msg; /* part of the batch, which its asker frees */
}

struct esi_route_batch *esi_router_batch_new(uint32_t capacity)
{
    struct esi_route_batch *batch = malloc(sizeof *batch + capacity * sizeof batch->ops[0]);

    if (batch != NULL) {
        *batch = (struct esi_route_batch){.capacity = capacity};
    }
    return batch;
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

static void apply(struct esi_router *router, struct esi_route_batch *batch,
                  struct esi_retired **retired)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct esi_route_op *op = &batch->ops[i];
        switch (op->kind) {
        case ROUTE_ADD:
            if (batch->err == ES_OK) {
                batch->err = add(router, op->sub, retired);
            }
            break;
        case ROUTE_REMOVE:
            remove_sub(router, op->sub, retired);
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

static struct esi_interest_msg *new_interest(const struct listener *listener, bool is_snapshot)
{
    struct esi_interest_msg *interest = malloc(sizeof *interest);

    /* Interest that is lost would stay wrong for the life of the link. */
    ESI_ASSERT(interest != NULL);
    *interest = (struct esi_interest_msg){.msg = {.kind = listener->kind, .free = free_interest},
                                          .is_snapshot = is_snapshot};
    esi_bytes_init(&interest->queues, INTEREST_LINES_MAX);
    esi_bytes_init(&interest->lines, INTEREST_LINES_MAX);
    return interest;
}

static void tell_listeners(struct esi_router *router)
{
    const struct esi_bytes *changes = &router->changes;

    if (changes->len == 0 && !changes->failed) {
        return;
    }
    for (struct listener *listener = router->listeners; listener != NULL;
         listener = listener->next) {
        struct esi_interest_msg *interest = new_interest(listener, false);
        esi_bytes_append_str(&interest->lines, esi_bytes_str(changes));
        interest->lines.failed |= changes->failed;
        esi_actor_send(listener->link, &interest->msg);
    }
    esi_bytes_clear(&router->changes);
}

static void wait_for_grace(struct esi_router *router, struct esi_retired *retired,
                           struct esi_route_batch *batch)
{
    struct grace_msg *grace = malloc(sizeof *grace);

    /* Without it what was removed could never be freed safely. */
    ESI_ASSERT(grace != NULL);
    *grace = (struct grace_msg){.grace = {.msg = {.kind = ROUTER_GRACE_ENDED, .free = free_msg}},
                                .retired = retired,
                                .batch = batch};
    router->graces_pending++;
    esi_runtime_after_grace(router->actor.runtime, &router->actor, &grace->grace);
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
    struct esi_retired *retired = NULL;

    apply(router, batch, &retired);
    tell_listeners(router);
    const bool has_detached = batch->has_detached;
    const bool must_wait = retired != NULL || has_detached;
    if (must_wait) {
        wait_for_grace(router, retired, has_detached ? batch : NULL);
    }
    batch->in_force = (struct esi_msg){.kind = batch->in_force_kind, .free = keep};
    if (must_wait && router->graces_pending > GRACES_MAX) {
        hold(router, batch);
    } else {
        answer(batch);
    }
}

static void on_grace_ended(struct esi_router *router, struct grace_msg *grace)
{
    router->graces_pending--;
    esi_subtable_free_retired(grace->retired);
    /* One that is given back was in force before, and so were those before it. */
    while (router->held_first != NULL && (router->graces_pending < GRACES_MAX ||
                                          (grace->batch != NULL && grace->batch->is_held))) {
        answer_first_held(router);
    }
    if (grace->batch != NULL) {
        struct esi_route_batch *batch = grace->batch;
        batch->detached = (struct esi_msg){.kind = batch->detached_kind, .free = keep};
        esi_actor_send(batch->asker, &batch->detached);
    }
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

static void on_listen(struct esi_router *router, const struct listen_msg *listen)
{
    struct listener *listener = malloc(sizeof *listener);

    ESI_ASSERT(listener != NULL);
    *listener =
        (struct listener){.next = router->listeners, .link = listen->link, .kind = listen->kind};
    router->listeners = listener;
    struct esi_interest_msg *interest = new_interest(listener, true);
    struct snapshot snapshot = {.router = router, .lines = &interest->lines};
    esi_interest_write(&router->interest, router->account, &interest->queues, &interest->lines);
    esi_subtable_each_plain(router->table, router->index, write_plain, &snapshot);
    esi_actor_send(listener->link, &interest->msg);
}

static void on_unlisten(struct esi_router *router, const struct listen_msg *listen)
{
    for (struct listener **link = &router->listeners; *link != NULL; link = &(*link)->next) {
        struct listener *listener = *link;
        if (listener->link == listen->link) {
            *link = listener->next;
            esi_actor_unref(listener->link);
            free(listener);
            break;
        }
    }
    esi_actor_unref(listen->link);
}

static void send_listen(struct esi_router *router, struct esi_actor *link, enum router_msg msg_kind,
                        uint32_t kind)
{
    struct listen_msg *listen = malloc(sizeof *listen);

    ESI_ASSERT(listen != NULL);
    *listen = (struct listen_msg){
        .msg = {.kind = msg_kind, .free = free_msg}, .link = link, .kind = kind};
    esi_actor_ref(link);
    esi_actor_send(&router->actor, &listen->msg);
}

void esi_router_listen(struct esi_router *router, struct esi_actor *link, uint32_t kind)
{
    send_listen(router, link, ROUTER_LISTEN, kind);
}

void esi_router_unlisten(struct esi_router *router, struct esi_actor *link)
{
    send_listen(router, link, ROUTER_UNLISTEN, 0);
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
    for (const struct listener *at = router->listeners; at != NULL; at = at->next) {
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
    case ROUTER_GRACE_ENDED:
        on_grace_ended(router, (struct grace_msg *)(void *)msg);
        break;
    case ROUTER_LISTEN:
        on_listen(router, (const struct listen_msg *)(void *)msg);
        break;
    case ROUTER_UNLISTEN:
        on_unlisten(router, (const struct listen_msg *)(void *)msg);
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
        struct listener *next = router->listeners->next;
        free(router->listeners);
        router->listeners = next;
    }
    esi_interest_deinit(&router->interest);
    esi_bytes_deinit(&router->changes);
    free(router);
}
