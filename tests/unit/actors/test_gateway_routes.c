/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a mapped reply finds the link of the cluster that it names, in both forms, as long as that
 * link is there. Method: routes are added and removed, replies of several clusters looked up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/gateway_routes.h"
#include "base/err.h"

static struct esi_gateway_route route_to(const char *name)
{
    return (struct esi_gateway_route){.cluster = esi_reply_map_hash(esi_str_from(name))};
}

static const struct esi_gateway_route *find(const struct esi_gateway_routes *routes,
                                            const char *subject)
{
    struct esi_reply_map map;

    assert_true(esi_reply_map_read(esi_str_from(subject), &map));
    return esi_gateway_routes_find(routes, &map);
}

static void cluster_is_found_while_it_is_there(void **state)
{
    struct esi_gateway_routes routes;
    struct esi_gateway_route f = route_to("F");
    struct esi_gateway_route a = route_to("A");

    (void)state;
    esi_gateway_routes_init(&routes);
    assert_null(find(&routes, "_GR_.yyrAQg.AKS6DY.x"));
    assert_int_equal(esi_gateway_routes_add(&routes, &f), ES_OK);
    assert_int_equal(esi_gateway_routes_add(&routes, &a), ES_OK);
    assert_ptr_equal(find(&routes, "_GR_.yyrAQg.AKS6DY.x"), &f);
    assert_ptr_equal(find(&routes, "_GR_.NUmM6c.zzzzzz.x"), &a);
    assert_ptr_equal(find(&routes, "$GR.f67a.x"), &f);
    assert_null(find(&routes, "_GR_.zzzzzz.AKS6DY.x"));
    assert_null(find(&routes, "$GR.0000.x"));
    esi_gateway_routes_remove(&routes, &f);
    assert_null(find(&routes, "_GR_.yyrAQg.AKS6DY.x"));
    assert_ptr_equal(find(&routes, "_GR_.NUmM6c.zzzzzz.x"), &a);
    assert_int_equal(esi_gateway_routes_add(&routes, &f), ES_OK);
    assert_ptr_equal(find(&routes, "$GR.f67a.x"), &f);
}

static void slots_are_bounded_and_used_again(void **state)
{
    static struct esi_gateway_route all[ESI_GATEWAY_ROUTES_MAX];
    struct esi_gateway_routes routes;
    struct esi_gateway_route more = route_to("F");
    char name[32];

    (void)state;
    esi_gateway_routes_init(&routes);
    for (int i = 0; i < ESI_GATEWAY_ROUTES_MAX; i++) {
        snprintf(name, sizeof name, "cluster-%d", i);
        all[i] = route_to(name);
        assert_int_equal(esi_gateway_routes_add(&routes, &all[i]), ES_OK);
    }
    assert_int_equal(esi_gateway_routes_add(&routes, &more), ES_FULL);
    esi_gateway_routes_remove(&routes, &all[9]);
    assert_int_equal(esi_gateway_routes_add(&routes, &more), ES_OK);
    assert_ptr_equal(find(&routes, "_GR_.yyrAQg.AKS6DY.x"), &more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_is_found_while_it_is_there),
        cmocka_unit_test(slots_are_bounded_and_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
