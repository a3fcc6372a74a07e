/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: events of a type go to the handlers that the contract and the configuration say, and each
 * handler's worker is called by its right name. Method: registries from rows, with routes and paths
 * compared with the contract's tables and with event-service's proto files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/compliance_ingest.pb-c.h"
#include "event/event_feed.pb-c.h"
#include "event/ingest.pb-c.h"

#include "event/registry.h"

static struct esi_registry *make(const struct esi_registry_rows *rows)
{
    struct esi_registry *registry = NULL;
    struct es_error error = {{0}};

    if (esi_registry_new(rows, &registry, &error) != ES_OK) {
        fail_msg("%s", error.text);
    }
    return registry;
}

static void expect_route(const struct esi_registry *registry, const char *type,
                         const char *const *names)
{
    uint64_t expected = 0;

    for (; *names != NULL; names++) {
        const int index = esi_registry_find(registry, esi_str_from(*names));
        assert_int_not_equal(index, ESI_REGISTRY_NONE);
        expected |= (uint64_t)1 << index;
    }
    const uint64_t routed = esi_registry_route(registry, esi_str_from(type));
    if (routed != expected) {
        fail_msg("%s: expected handlers %llx, got %llx", type, (unsigned long long)expected,
                 (unsigned long long)routed);
    }
}

#define ROUTES_TO(registry, type, ...)                                                             \
    expect_route(registry, type, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void has_the_contracts_defaults(void **state)
{
    const struct esi_registry_rows rows = {0};
    struct esi_registry *registry = make(&rows);

    (void)state;
    ROUTES_TO(registry, "scanJobCreated", "event_feed");
    ROUTES_TO(registry, "scanJobUpdated", "event_feed");
    ROUTES_TO(registry, "scanJobDeleted", "event_feed");
    ROUTES_TO(registry, "profileCreated", "event_feed");
    ROUTES_TO(registry, "profileUpdate", "event_feed");
    ROUTES_TO(registry, "profileDeleted", "event_feed");
    ROUTES_TO(registry, "nodeTerminated", "cfgingest");
    ROUTES_TO(registry, "compliance_ingest", "feed");
    ROUTES_TO(registry, "cfgingest", "cfgingest");
    ROUTES_TO(registry, "event_feed", "event_feed");
    ROUTES_TO(registry, "feed", "feed");
    ROUTES_TO(registry, "unheard_of");
    ROUTES_TO(registry, "nodeTerminatedNot");
    ROUTES_TO(registry, "scanJob.Created");
    esi_registry_free(registry);
    esi_registry_free(NULL);
}

static const struct esi_registry_handler *handler_named(const struct esi_registry *registry,
                                                        const char *name)
{
    const int index = esi_registry_find(registry, esi_str_from(name));

    assert_int_not_equal(index, ESI_REGISTRY_NONE);
    return esi_registry_handler(registry, (size_t)index);
}

static void expect_path(const char *path, const ProtobufCServiceDescriptor *service)
{
    char expected[256];

    assert_string_equal(service->methods[0].name, "HandleEvent");
    assert_string_equal(service->methods[0].input->name, "chef.automate.domain.event.api.EventMsg");
    assert_string_equal(service->methods[0].output->name,
                        "chef.automate.domain.event.api.EventResponse");
    snprintf(expected, sizeof expected, "/%s/HandleEvent", service->name);
    assert_string_equal(path, expected);
}

static void calls_workers_by_the_contracts_names(void **state)
{
    const struct esi_registry_handler_row handlers[] = {
        {.name = "feed", .address = "0.0.0.0:10121"},
        {.name = "mine", .address = "https://example.test/events"},
        {.name = "named", .address = "h:1", .tls_name = "other", .service = "my.Service"},
    };
    const struct esi_registry_rows rows = {.handlers = handlers, .handler_count = 3};
    struct esi_registry *registry = make(&rows);

    (void)state;
    const struct esi_registry_handler *handler = handler_named(registry, "feed");
    assert_string_equal(handler->address, "0.0.0.0:10121");
    expect_path(
        handler->path,
        &chef__automate__domain__compliance__ingest__ingest__compliance_ingester_service__descriptor);
    assert_null(handler->path_older);
    assert_string_equal(handler->tls_name, "compliance-service");

    handler = handler_named(registry, "cfgingest");
    assert_null(handler->address);
    expect_path(handler->path, &chef__automate__domain__ingest__event_handler_service__descriptor);
    expect_path(handler->path_older, &chef__automate__domain__ingest__event_handler__descriptor);
    assert_string_equal(handler->tls_name, "ingest-service");

    handler = handler_named(registry, "event_feed");
    expect_path(handler->path,
                &chef__automate__domain__event_feed__api__event_feed_service__descriptor);
    assert_string_equal(handler->tls_name, "event-feed-service");

    handler = handler_named(registry, "mine");
    expect_path(handler->path, &chef__automate__domain__ingest__event_handler_service__descriptor);
    expect_path(handler->path_older, &chef__automate__domain__ingest__event_handler__descriptor);
    assert_null(handler->tls_name);

    handler = handler_named(registry, "named");
    assert_string_equal(handler->path, "/my.Service/HandleEvent");
    assert_null(handler->path_older);
    assert_string_equal(handler->tls_name, "other");

    /* Configured handlers come first, in their order. */
    assert_int_equal(esi_registry_handler_count(registry), 5);
    assert_string_equal(esi_registry_handler(registry, 0)->name, "feed");
    assert_string_equal(esi_registry_handler(registry, 2)->name, "named");
    esi_registry_free(registry);
}

static void follows_the_configured_routes(void **state)
{
    const struct esi_registry_handler_row handlers[] = {
        {.name = "cfgingest", .address = "127.0.0.1:1"},
        {.name = "audit", .address = "nats:audit.events"},
    };
    const char *const two[] = {"event_feed", "audit"};
    const char *const audit[] = {"audit"};
    const char *const second_name[] = {"compliance_ingest", "later"};
    const struct esi_registry_route_row routes[] = {
        {.pattern = "nodeTerminated", .handlers = two, .handler_count = 2},
        {.pattern = "report", .handlers = second_name, .handler_count = 2},
        {.pattern = "user.*", .handlers = audit, .handler_count = 1},
        {.pattern = "user.created", .handlers = second_name, .handler_count = 1},
        {.pattern = "log.>", .handlers = audit, .handler_count = 1},
        {.pattern = "scanJobD*", .handlers = audit, .handler_count = 1},
    };
    const struct esi_registry_rows rows = {
        .handlers = handlers, .handler_count = 2, .routes = routes, .route_count = 6};
    struct esi_registry *registry = make(&rows);

    (void)state;
    /* A configured row replaces the default of its type only. */
    ROUTES_TO(registry, "nodeTerminated", "event_feed", "audit");
    ROUTES_TO(registry, "scanJobDeleted", "audit");
    ROUTES_TO(registry, "scanJobCreated", "event_feed");
    ROUTES_TO(registry, "report", "feed", "later");
    ROUTES_TO(registry, "user.deleted", "audit");
    ROUTES_TO(registry, "user.created", "audit", "feed");
    ROUTES_TO(registry, "user.a.b");
    ROUTES_TO(registry, "user");
    ROUTES_TO(registry, "log.a.b.c", "audit");
    ROUTES_TO(registry, "log");
    ROUTES_TO(registry, "audit", "audit");
    assert_null(handler_named(registry, "later")->address);
    esi_registry_free(registry);
}

static void matches_patterns(void **state)
{
    static const struct {
        const char *pattern;
        const char *type;
        bool matches;
    } cases[] = {
        {"a", "a", true},        {"a", "ab", false},    {"ab", "a", false},
        {"*", "a", true},        {"*", "a.b", false},   {">", "a", true},
        {">", "a.b.c", true},    {"a.>", "a", false},   {"a.>", "a.b", true},
        {"*.b", "a.b", true},    {"*.b", "a.c", false}, {"a.*.c", "a.b.c", true},
        {"a*", "a", true},       {"a*", "abc", true},   {"a*", "abc.d", false},
        {"a*.d", "abc.d", true}, {"a.b", "a", false},   {"a", "a.b", false},
        {"a.*", "a.", true},     {"x*", "ax", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (esi_registry_matches(esi_str_from(cases[i].pattern), esi_str_from(cases[i].type)) !=
            cases[i].matches) {
            fail_msg("%s and %s: expected %d", cases[i].pattern, cases[i].type, cases[i].matches);
        }
    }
}

static void expect_refused(const struct esi_registry_rows *rows, enum es_err expected,
                           const char *part)
{
    struct esi_registry *registry = NULL;
    struct es_error error = {{0}};

    assert_int_equal(esi_registry_new(rows, &registry, &error), expected);
    assert_null(registry);
    if (strstr(error.text, part) == NULL) {
        fail_msg("expected an error with '%s', got '%s'", part, error.text);
    }
}

static void refuses_wrong_rows(void **state)
{
    static const char *const bad_patterns[] = {"",   "a..b", "a.", ".a",   "a b", "a*b",
                                               "**", ">.a",  "a>", "a.>b", "\x01"};
    static const char *const bad_names[] = {"", "a b", "a/b", "\xff"};
    const char *const names[] = {"feed"};
    struct esi_registry_handler_row handlers[ESI_REGISTRY_HANDLERS_MAX] = {{0}};
    char texts[ESI_REGISTRY_HANDLERS_MAX][16];
    struct esi_registry_route_row routes[2] = {{.handlers = names, .handler_count = 1},
                                               {.handlers = names, .handler_count = 1}};
    struct esi_registry_rows rows = {.handlers = handlers, .routes = routes, .route_count = 1};

    (void)state;
    for (size_t i = 0; i < sizeof bad_patterns / sizeof bad_patterns[0]; i++) {
        routes[0].pattern = bad_patterns[i];
        expect_refused(&rows, ES_INVALID, "is no event type or pattern");
    }
    routes[0].pattern = "a";
    routes[1].pattern = "a";
    rows.route_count = 2;
    expect_refused(&rows, ES_INVALID, "the type 'a' is given twice");
    rows.route_count = 1;
    routes[0].handler_count = 0;
    expect_refused(&rows, ES_INVALID, "has no handler");
    rows.route_count = 0;
    rows.handler_count = 1;
    for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++) {
        handlers[0].name = bad_names[i];
        expect_refused(&rows, ES_INVALID, "is no name of a handler");
    }
    handlers[0].name = "feed";
    handlers[1].name = "compliance_ingest";
    rows.handler_count = 2;
    expect_refused(&rows, ES_INVALID, "'feed' is given twice");
    for (size_t i = 0; i < ESI_REGISTRY_HANDLERS_MAX; i++) {
        snprintf(texts[i], sizeof texts[i], "h%zu", i);
        handlers[i].name = texts[i];
    }
    rows.handler_count = ESI_REGISTRY_HANDLERS_MAX - 3;
    esi_registry_free(make(&rows));
    rows.handler_count = ESI_REGISTRY_HANDLERS_MAX;
    expect_refused(&rows, ES_TOO_LARGE, "more than 64 handlers");
    rows.handler_count = 0;
    rows.route_count = ESI_REGISTRY_ROUTES_MAX + 1;
    expect_refused(&rows, ES_TOO_LARGE, "more than 4096");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_contracts_defaults),
        cmocka_unit_test(calls_workers_by_the_contracts_names),
        cmocka_unit_test(follows_the_configured_routes),
        cmocka_unit_test(matches_patterns),
        cmocka_unit_test(refuses_wrong_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
