/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations of one actor on the subscription table: collected in order, handed over as one batch a
 * router, counted until they are in force and until nobody sees any more what was removed. One
 * thread's.
 *
 * The owner passes the two messages that come back to esi_route_ops_in_force and
 * esi_route_ops_detached, and must not finish before esi_route_ops_is_idle.
 */
#pragma once

#include "actors/router.h"
#include "base/err.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_context;

struct esi_route_ops {
    struct esi_context *context; /* borrowed */
    struct esi_actor *asker;     /* borrowed: the owner */
    /* borrowed, set by the owner: gets the memory of what was removed; NULL: the system does */
    struct esi_sub_pool *pool;
    uint32_t in_force_kind; /* the owner's message kinds */
    uint32_t detached_kind;
    uint32_t routes_pending;   /* batches not yet in force */
    uint32_t detaches_pending; /* batches whose removals may still be seen by a worker */
    uint32_t collected_count;  /* batches being collected */
    struct esi_route_batch *batches[ESI_SUBTABLE_ROUTERS_MAX]; /* owned: being collected */
};

void esi_route_ops_init(struct esi_route_ops *ops, struct esi_context *context,
                        struct esi_actor *asker, uint32_t in_force_kind, uint32_t detached_kind);
/* Frees what was collected and never handed over. */
void esi_route_ops_deinit(struct esi_route_ops *ops);

/* What a subscription takes, in bytes of memory: in the table (esi_subtable_memory_bytes), and, of
 * a client, its place in the routers' count of interest. Thread: any. */
uint64_t esi_route_ops_memory_bytes(const struct esi_sub *sub);

/* Notes that sub is to be added; it is borrowed until it is removed. Fails only with ES_NO_MEMORY
 * (this and the next two): nothing is noted. */
ES_MUST_USE enum es_err esi_route_ops_add(struct esi_route_ops *ops, struct esi_sub *sub);
/* Notes that sub is to be removed; it is then taken, and freed when nobody sees it any more. After
 * a failure it is still in the table: try again. */
ES_MUST_USE enum es_err esi_route_ops_remove(struct esi_route_ops *ops, struct esi_sub *sub);
/* Notes that fresh takes the place of old (see esi_subtable_replace); old is then taken, and freed
 * as with a removal. */
ES_MUST_USE enum es_err esi_route_ops_replace(struct esi_route_ops *ops, struct esi_sub *old,
                                              struct esi_sub *fresh);
/* True while the addition of this subscription stands in a batch that no router has seen: then it
 * may still change. */
bool esi_route_ops_is_collected(const struct esi_route_ops *ops, const struct esi_sub *sub);
/* Hands over what was collected. In most cases the answer stands in the owner's mailbox when this
 * returns. */
void esi_route_ops_submit(struct esi_route_ops *ops);
static inline bool esi_route_ops_has_collected(const struct esi_route_ops *ops)
{
    return ops->collected_count > 0; /* asked once a message */
}
/* Nothing is collected, on its way, or waiting for others to forget it. */
bool esi_route_ops_is_idle(const struct esi_route_ops *ops);

/* The owner's reactions to the two messages of a batch. In force: the batch's error, ES_OK or
 * ES_NO_MEMORY. */
enum es_err esi_route_ops_in_force(struct esi_route_ops *ops, struct esi_route_batch *batch);
void esi_route_ops_detached(struct esi_route_ops *ops, struct esi_route_batch *batch);
