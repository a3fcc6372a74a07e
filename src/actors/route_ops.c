/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One batch a router is collected at a time; a full one is handed over at once, so that operations
 * on one subject, which all belong to one router, keep their order. Most hold a few operations:
 * room for many is made when they come.
 */
#include "actors/route_ops.h"
#include "actors/context.h"
#include "base/assert.h"
#include "base/own.h"
#include "broker/interest.h"

#include <stdlib.h>

enum { BATCH_FIRST = 16, BATCH_MAX = 256 };

uint64_t esi_route_ops_memory_bytes(const struct esi_sub *sub)
{
    const bool is_counted = !sub->target->is_link && sub->queue.len > 0;

    return esi_subtable_memory_bytes(sub) +
           (is_counted ? esi_interest_place_bytes(sub->subject, sub->queue) : 0);
}

void esi_route_ops_init(struct esi_route_ops *ops, struct esi_context *context,
                        struct esi_actor *asker, uint32_t in_force_kind, uint32_t detached_kind)
{
    *ops = (struct esi_route_ops){.context = context,
                                  .asker = asker,
                                  .in_force_kind = in_force_kind,
                                  .detached_kind = detached_kind};
}

void esi_route_ops_deinit(struct esi_route_ops *ops)
{
    for (uint32_t i = 0; i < ESI_SUBTABLE_ROUTERS_MAX; i++) {
        free(ESI_MOVE(ops->batches[i]));
    }
}

static void submit_to(struct esi_route_ops *ops, uint32_t router)
{
    struct esi_route_batch *batch = ESI_MOVE(ops->batches[router]);

    ops->collected_count--;
    batch->asker = ops->asker;
    batch->in_force_kind = ops->in_force_kind;
    batch->detached_kind = ops->detached_kind;
    ops->routes_pending++;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->ops[i].kind != ROUTE_ADD) {
            ops->detaches_pending++;
            break;
        }
    }
    esi_router_submit(ops->context->routers[router], batch);
}

/* Room for one more operation of this router. */
static struct esi_route_batch *reach_batch(struct esi_route_ops *ops, uint32_t router)
{
    struct esi_route_batch *batch = ops->batches[router];

    if (batch != NULL && batch->count == BATCH_MAX) {
        submit_to(ops, router);
        batch = NULL;
    }
    if (batch == NULL) {
        batch = esi_router_batch_new(BATCH_FIRST);
        ops->collected_count += batch != NULL;
    } else if (batch->count == batch->capacity) {
        batch = esi_router_batch_grow(batch, BATCH_MAX);
    }
    if (batch != NULL) {
        ops->batches[router] = batch;
    }
    return batch;
}

static enum es_err note(struct esi_route_ops *ops, struct esi_route_op op)
{
    struct esi_route_batch *batch =
        reach_batch(ops, esi_subtable_router_of(ops->context->table, op.sub));

    if (batch == NULL) {
        return ES_NO_MEMORY;
    }
    batch->ops[batch->count++] = op;
    return ES_OK;
}

enum es_err esi_route_ops_add(struct esi_route_ops *ops, struct esi_sub *sub)
{
    return note(ops, (struct esi_route_op){.kind = ROUTE_ADD, .sub = sub});
}

enum es_err esi_route_ops_remove(struct esi_route_ops *ops, struct esi_sub *sub)
{
    return note(ops, (struct esi_route_op){.kind = ROUTE_REMOVE, .sub = sub});
}

enum es_err esi_route_ops_replace(struct esi_route_ops *ops, struct esi_sub *old,
                                  struct esi_sub *fresh)
{
    return note(ops, (struct esi_route_op){.kind = ROUTE_REPLACE, .sub = fresh, .replaced = old});
}

bool esi_route_ops_is_collected(const struct esi_route_ops *ops, const struct esi_sub *sub)
{
    const struct esi_route_batch *batch =
        ops->batches[esi_subtable_router_of(ops->context->table, sub)];

    for (uint32_t i = batch != NULL ? batch->count : 0; i > 0; i--) {
        if (batch->ops[i - 1].sub == sub) {
            return batch->ops[i - 1].kind == ROUTE_ADD;
        }
    }
    return false;
}

void esi_route_ops_submit(struct esi_route_ops *ops)
{
    for (uint32_t i = 0; i < ops->context->router_count; i++) {
        if (ops->batches[i] != NULL) {
            submit_to(ops, i);
        }
    }
}

bool esi_route_ops_is_idle(const struct esi_route_ops *ops)
{
    return ops->routes_pending == 0 && ops->detaches_pending == 0 &&
           !esi_route_ops_has_collected(ops);
}

enum es_err esi_route_ops_in_force(struct esi_route_ops *ops, struct esi_route_batch *batch)
{
    const enum es_err err = batch->err;

    ESI_ASSERT(ops->routes_pending > 0);
    ops->routes_pending--;
    if (!batch->has_detached) {
        free(batch);
    }
    return err;
}

void esi_route_ops_detached(struct esi_route_ops *ops, struct esi_route_batch *batch)
{
    ESI_ASSERT(ops->detaches_pending > 0);
    ops->detaches_pending--;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->ops[i].kind == ROUTE_REPLACE) {
            esi_sub_free(batch->ops[i].replaced, ops->pool);
        } else if (batch->ops[i].kind == ROUTE_REMOVE) {
            esi_sub_free(batch->ops[i].sub, ops->pool);
        }
    }
    free(batch);
}
