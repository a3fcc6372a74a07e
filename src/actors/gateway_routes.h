/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which outbound link leads to which cluster: looked at by workers on the way of a mapped reply,
 * changed when a link opens or closes. A fixed number of slots; whoever takes one alone gives it
 * back.
 *
 * | operation   | find | add, remove |
 * | find        | free | free        |
 * | add, remove | free | free        |
 *
 * Invariant: what find returns is valid until the calling worker's turn ends, because a link lives
 * on for a grace period after it has removed its route.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "proto/reply_map.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_target;

/* One for each cluster that can be linked (1000 configured, 256 learned), and for links on their
 * way out. */
enum { ESI_GATEWAY_ROUTES_MAX = 2048 };

/* Embedded in the link; immutable while it is in the table. */
struct esi_gateway_route {
    struct esi_target *target; /* borrowed: the link's */
    struct esi_reply_map_hash cluster;
    bool has_headers; /* the peer takes HMSG */
    uint32_t slot;    /* the table's */
};

struct esi_gateway_routes {
    _Atomic(const struct esi_gateway_route *) slots[ESI_GATEWAY_ROUTES_MAX];
    _Atomic uint32_t slot_limit; /* one more than the largest slot ever used */
};

void esi_gateway_routes_init(struct esi_gateway_routes *routes);
/* Thread: any. ES_FULL: no slot is free; answers to that cluster are then dropped. */
ES_MUST_USE enum es_err esi_gateway_routes_add(struct esi_gateway_routes *routes,
                                               struct esi_gateway_route *route);
/* Takes it out; the caller keeps it for a grace period. Thread: any. */
void esi_gateway_routes_remove(struct esi_gateway_routes *routes, struct esi_gateway_route *route);
/* The route that a mapped reply names, or NULL. Thread: a worker, in its turn. */
const struct esi_gateway_route *esi_gateway_routes_find(const struct esi_gateway_routes *routes,
                                                        const struct esi_reply_map *map);
