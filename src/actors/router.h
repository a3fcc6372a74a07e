/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Router: the only writer of its part of the subscription table, and of the interest counts. A
 * roaming actor: sending a batch to an idle router runs it at once in the sender's thread.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/str.h"
#include "broker/subtable.h"
#include "runtime/actor.h"

#include <stdint.h>

struct esi_router;
struct esi_router_listener; /* that a link is told of interest */
struct esi_runtime;

enum esi_route_kind { ROUTE_ADD, ROUTE_REMOVE, ROUTE_REPLACE };

struct esi_route_op {
    enum esi_route_kind kind;
    struct esi_sub *sub;      /* ADD: to be added; REMOVE: to be removed; REPLACE: the new one */
    struct esi_sub *replaced; /* REPLACE: the old one */
};

/*
 * A batch of operations of one asker. It goes to the router and comes back twice, in the same
 * memory: as in_force when it is in force (all, or out of memory: err), then, when it removed or
 * replaced something, as detached, when no worker can see what was removed any more. The asker
 * frees it at its last message (has_detached tells which is the last). While much retired memory
 * waits to be freed the first answer is held back.
 */
struct esi_route_batch {
    struct esi_msg msg;      /* to the router */
    struct esi_msg in_force; /* to the asker */
    struct esi_msg detached; /* to the asker */
    struct esi_grace grace;  /* the router's: of what the batch removed */
    struct esi_retired *retired;
    struct esi_actor *asker; /* alive until the last message */
    uint32_t in_force_kind;  /* message kinds of the asker's choice */
    uint32_t detached_kind;
    enum es_err err; /* of an ADD: nothing of this and the later operations is in force */
    bool has_detached;
    bool is_held; /* the router's: the answer waits for memory to be freed */
    uint32_t count;
    uint32_t capacity;
    struct esi_route_op ops[];
};

/* An empty batch for up to capacity operations, owned by the caller (free); NULL when memory is
 * exhausted. */
struct esi_route_batch *esi_router_batch_new(uint32_t capacity);
/* The same with room for more, in another place; NULL when memory is exhausted: batch is as it was.
 * It was not submitted yet. */
struct esi_route_batch *esi_router_batch_grow(struct esi_route_batch *batch, uint32_t capacity);

/* index: which of the table's routers it is, from 0. */
ES_MUST_USE enum es_err esi_router_new(struct esi_runtime *runtime, struct esi_subtable *table,
                                       uint32_t index, struct esi_str account,
                                       struct esi_router **out);
/* After the runtime has stopped. NULL is accepted. */
void esi_router_free(struct esi_router *router);

/* Hands a batch over. Thread: a worker. */
void esi_router_submit(struct esi_router *router, struct esi_route_batch *batch);

/* Interest lines for a link: a snapshot once, then changes. Owned by the receiver, freed by
 * msg.free. Where `failed` is set some are missing, for want of memory: the link cannot go on. */
struct esi_interest_msg {
    struct esi_msg msg;
    bool is_snapshot;
    struct esi_bytes queues; /* snapshot: RS+ lines with a queue */
    struct esi_bytes lines;  /* snapshot: plain RS+ lines; change: RS+ and RS- lines in order */
};

/*
 * From now on the link is told of interest: first the snapshot, then each change, in order, as
 * messages of `kind`. The router holds a reference to it until esi_router_unlisten, to which *out
 * must be given once. Fails only with ES_NO_MEMORY. Thread: a worker.
 */
ES_MUST_USE enum es_err esi_router_listen(struct esi_router *router, struct esi_actor *link,
                                          uint32_t kind, struct esi_router_listener **out);
/* No more of it (what is under way still arrives); listener is taken, NULL is accepted. Thread: a
 * worker. */
void esi_router_unlisten(struct esi_router *router, struct esi_router_listener *listener);

/* A router's own figures, for monitoring: the question and, in the same memory, the answer. */
struct esi_router_report {
    struct esi_msg msg;      /* to the router and back; free: see esi_router_report */
    struct esi_actor *asker; /* alive until it is back */
    uint32_t answer_kind;    /* the asker's message kind */
    /* the answer */
    uint64_t id;
    struct esi_actor_stats stats;
    uint32_t depth; /* messages that wait */
    uint32_t depth_max;
    uint32_t listener_count; /* links that are told of interest */
};
/*
 * Asks a router. It roams, so that nobody else may read its figures. The report stays the asker's
 * and must live until the answer has come. Thread: any.
 */
void esi_router_report(struct esi_router *router, struct esi_router_report *report);
