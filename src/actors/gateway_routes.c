/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Few links, looked up by all workers: an array is walked, without a lock. A slot is taken and
 * given back by its link alone; the limit only rises, so that it never hides a route.
 */
#include "actors/gateway_routes.h"
#include "base/assert.h"
#include "base/rcu.h"

#include <stddef.h>

void esi_gateway_routes_init(struct esi_gateway_routes *routes)
{
    for (uint32_t i = 0; i < ESI_GATEWAY_ROUTES_MAX; i++) {
        atomic_init(&routes->slots[i], NULL);
    }
    atomic_init(&routes->slot_limit, 0);
}

static void raise_limit(struct esi_gateway_routes *routes, uint32_t limit)
{
    /* order: relaxed; corrected by the exchange. */
    uint32_t before = atomic_load_explicit(&routes->slot_limit, memory_order_relaxed);

    while (before < limit &&
           /* order: release; pairs with the acquire in esi_gateway_routes_find: the route stands in
              its slot. */
           !atomic_compare_exchange_weak_explicit(&routes->slot_limit, &before, limit,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

enum es_err esi_gateway_routes_add(struct esi_gateway_routes *routes,
                                   struct esi_gateway_route *route)
{
    for (uint32_t i = 0; i < ESI_GATEWAY_ROUTES_MAX; i++) {
        const struct esi_gateway_route *expected = NULL;
        route->slot = i;
        /* order: release; pairs with the acquire in esi_gateway_routes_find, which then sees the
         * whole route. */
        if (atomic_compare_exchange_strong_explicit(&routes->slots[i], &expected, route,
                                                    memory_order_release, memory_order_relaxed)) {
            raise_limit(routes, i + 1);
            return ES_OK;
        }
    }
    return ES_FULL;
}

void esi_gateway_routes_remove(struct esi_gateway_routes *routes, struct esi_gateway_route *route)
{
    ESI_REQUIRE(route->slot < ESI_GATEWAY_ROUTES_MAX);
    ESI_RCU_PUBLISH(routes->slots[route->slot], NULL);
}

const struct esi_gateway_route *esi_gateway_routes_find(const struct esi_gateway_routes *routes,
                                                        const struct esi_reply_map *map)
{
    /* order: acquire; pairs with the release in raise_limit. */
    const uint32_t limit = atomic_load_explicit(&routes->slot_limit, memory_order_acquire);

    /* rcu-read: gateway route (looks at no more slots than were ever used, calls nothing; used
     * until the turn ends) */
    for (uint32_t i = 0; i < limit; i++) {
        const struct esi_gateway_route *route = ESI_RCU_READ(routes->slots[i]);
        if (route == NULL) {
            continue;
        }
        const char *hash = map->is_old ? route->cluster.old_text : route->cluster.text;
        if (esi_str_equal(map->cluster, esi_str_from(hash))) {
            return route;
        }
    }
    return NULL;
}
