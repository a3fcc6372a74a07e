/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry: see registry.h. */
#include "event/registry.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"

struct known_handler {
    const char *name;
    const char *second_name; /* in rows; NULL: none */
    const char *service;
    const char *service_older; /* NULL: none */
    const char *tls_name;      /* NULL: the host of the address */
};

static const struct known_handler known_handlers[] = {
    {"feed", "compliance_ingest",
     "chef.automate.domain.compliance.ingest.ingest.ComplianceIngesterService", NULL,
     "compliance-service"},
    {"cfgingest", NULL, "chef.automate.domain.ingest.EventHandlerService",
     "chef.automate.domain.ingest.EventHandler", "ingest-service"},
    {"event_feed", NULL, "chef.automate.domain.event_feed.api.EventFeedService", NULL,
     "event-feed-service"},
};

static const struct known_handler custom_handler = {
    NULL, NULL, "chef.automate.domain.ingest.EventHandlerService",
    "chef.automate.domain.ingest.EventHandler", NULL};

static const struct {
    const char *pattern;
    const char *handler;
} default_routes[] = {
    {"scanJob*", "event_feed"},
    {"profile*", "event_feed"},
    {"nodeTerminated", "cfgingest"},
    {"compliance_ingest", "feed"},
};

struct route {
    char *pattern; /* owned */
    uint64_t handlers;
};

struct esi_registry {
    struct esi_registry_handler handlers[ESI_REGISTRY_HANDLERS_MAX]; /* their texts owned */
    size_t handler_count;
    struct route *routes; /* owned; the configured ones */
    size_t route_count;
    struct esi_hashmap exact; /* pattern without wildcard -> struct route */
    struct route **patterns;  /* owned array of the other routes */
    size_t pattern_count;
    uint64_t default_handlers[ESI_COUNT_OF(default_routes)];
};

static enum es_err ESI_PRINTF(3, 4)
    fail(enum es_err err, struct es_error *error, const char *format, ...)
{
    va_list arguments;

    if (error != NULL) {
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return err;
}

/* Takes the first token of *rest. Returns false when none is left. */
static bool next_token(struct esi_str *rest, struct esi_str *token)
{
    if (rest->data == NULL) {
        return false;
    }
    const char *dot = rest->len > 0 ? memchr(rest->data, '.', rest->len) : NULL;
    if (dot == NULL) {
        *token = *rest;
        *rest = (struct esi_str){0};
        return true;
    }
    *token = (struct esi_str){.data = rest->data, .len = (size_t)(dot - rest->data)};
    *rest = (struct esi_str){.data = dot + 1, .len = rest->len - token->len - 1};
    return true;
}

bool esi_registry_matches(struct esi_str pattern, struct esi_str type)
{
    struct esi_str wanted;
    struct esi_str token;

    while (next_token(&pattern, &wanted)) {
        if (!next_token(&type, &token)) {
            return false;
        }
        if (pattern.data == NULL && esi_str_equal(wanted, ESI_STR(">"))) {
            return true;
        }
        if (wanted.len > 0 && wanted.data[wanted.len - 1] == '*') {
            if (!esi_str_starts_with(token, (struct esi_str){wanted.data, wanted.len - 1})) {
                return false;
            }
        } else if (!esi_str_equal(wanted, token)) {
            return false;
        }
    }
    return type.data == NULL;
}

/* Why a text is no pattern, or NULL when it is one. */
static const char *pattern_fault(struct esi_str pattern)
{
    struct esi_str token;

    for (size_t i = 0; i < pattern.len; i++) {
        const unsigned char c = (unsigned char)pattern.data[i];
        if (c <= 0x20 || c == 0x7f) {
            return "blanks and control characters are not allowed";
        }
    }
    while (next_token(&pattern, &token)) {
        if (token.len == 0) {
            return "a token is empty";
        }
        const char *star = memchr(token.data, '*', token.len);
        if (star != NULL && star != token.data + token.len - 1) {
            return "'*' stands alone in a token or ends it";
        }
        const char *greater = memchr(token.data, '>', token.len);
        if (greater != NULL && (token.len != 1 || pattern.data != NULL)) {
            return "'>' is the last token or not there";
        }
    }
    return NULL;
}

static bool is_exact(const char *pattern)
{
    return strpbrk(pattern, "*>") == NULL;
}

static const struct known_handler *find_known(const char *name)
{
    for (size_t i = 0; i < ESI_COUNT_OF(known_handlers); i++) {
        const struct known_handler *known = &known_handlers[i];
        if (strcmp(known->name, name) == 0 ||
            (known->second_name != NULL && strcmp(known->second_name, name) == 0)) {
            return known;
        }
    }
    return &custom_handler;
}

static char *make_path(const char *service)
{
    char *path = NULL;

    return asprintf(&path, "/%s/HandleEvent", service) >= 0 ? path : NULL;
}

static enum es_err check_name(const char *name, struct es_error *error)
{
    const size_t len = name != NULL ? strlen(name) : 0;
    bool is_good = len > 0 && len <= ESI_REGISTRY_NAME_MAX;

    for (size_t i = 0; is_good && i < len; i++) {
        const char c = name[i];
        is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
    }
    if (!is_good) {
        (void)fail(ES_INVALID, error,
                   "'%s' is no name of a handler: 1 to %d of a-z A-Z 0-9 _ - . are allowed",
                   name != NULL ? name : "", ESI_REGISTRY_NAME_MAX);
        return ES_INVALID;
    }
    return ES_OK;
}

static char *copy_text(const char *text)
{
    return text != NULL ? esi_str_dup(esi_str_from(text)) : NULL;
}

/* Adds a handler; the texts that were not made are found missing here and freed with the registry.
 */
static enum es_err add_handler(struct esi_registry *registry,
                               const struct esi_registry_handler_row *row, struct es_error *error)
{
    const enum es_err err = check_name(row->name, error);
    if (err != ES_OK) {
        return err;
    }
    const struct known_handler *known = find_known(row->name);
    const char *name = known->name != NULL ? known->name : row->name;
    const char *older = row->service == NULL ? known->service_older : NULL;
    const char *tls_name = row->tls_name != NULL ? row->tls_name : known->tls_name;

    if (esi_registry_find(registry, esi_str_from(name)) != ESI_REGISTRY_NONE) {
        return fail(ES_INVALID, error, "the handler '%s' is given twice", name);
    }
    if (registry->handler_count == ESI_REGISTRY_HANDLERS_MAX) {
        return fail(ES_TOO_LARGE, error, "more than %d handlers", ESI_REGISTRY_HANDLERS_MAX);
    }
    struct esi_registry_handler *handler = &registry->handlers[registry->handler_count++];
    handler->name = copy_text(name);
    handler->address = copy_text(row->address);
    handler->path = make_path(row->service != NULL ? row->service : known->service);
    handler->path_older = older != NULL ? make_path(older) : NULL;
    handler->tls_name = copy_text(tls_name);
    if (handler->name == NULL || handler->path == NULL ||
        (handler->address == NULL) != (row->address == NULL) ||
        (handler->path_older == NULL) != (older == NULL) ||
        (handler->tls_name == NULL) != (tls_name == NULL)) {
        return fail(ES_NO_MEMORY, error, "%s", es_err_text(ES_NO_MEMORY));
    }
    return ES_OK;
}

/* The index of a handler that a route names; one without a row is added, without an address. */
static enum es_err find_or_add(struct esi_registry *registry, const char *name, int *index,
                               struct es_error *error)
{
    const struct esi_registry_handler_row row = {.name = name};

    enum es_err err = check_name(name, error);
    if (err != ES_OK) {
        return err;
    }
    const struct known_handler *known = find_known(name);
    const struct esi_str key = esi_str_from(known->name != NULL ? known->name : name);
    if (esi_registry_find(registry, key) == ESI_REGISTRY_NONE) {
        err = add_handler(registry, &row, error);
        if (err != ES_OK) {
            return err;
        }
    }
    *index = esi_registry_find(registry, key);
    return ES_OK;
}

static enum es_err fill_route(struct esi_registry *registry,
                              const struct esi_registry_route_row *row, struct route *route,
                              struct es_error *error)
{
    const char *pattern = row->pattern != NULL ? row->pattern : "";
    const char *fault = pattern_fault(esi_str_from(pattern));
    int index = 0;

    if (fault != NULL) {
        return fail(ES_INVALID, error, "'%s' is no event type or pattern: %s", pattern, fault);
    }
    if (row->handler_count == 0) {
        return fail(ES_INVALID, error, "the type '%s' has no handler: name one or more", pattern);
    }
    for (size_t i = 0; i < row->handler_count; i++) {
        const enum es_err err = find_or_add(registry, row->handlers[i], &index, error);
        if (err != ES_OK) {
            return err;
        }
        route->handlers |= (uint64_t)1 << index;
    }
    route->pattern = copy_text(pattern);
    return route->pattern != NULL ? ES_OK
                                  : fail(ES_NO_MEMORY, error, "%s", es_err_text(ES_NO_MEMORY));
}

static enum es_err add_routes(struct esi_registry *registry, const struct esi_registry_rows *rows,
                              struct es_error *error)
{
    if (rows->route_count > ESI_REGISTRY_ROUTES_MAX) {
        return fail(ES_TOO_LARGE, error, "more than %d types and patterns",
                    ESI_REGISTRY_ROUTES_MAX);
    }
    registry->routes = calloc(rows->route_count + 1, sizeof *registry->routes);
    registry->patterns = calloc(rows->route_count + 1, sizeof(struct route *));
    if (registry->routes == NULL || registry->patterns == NULL) {
        return fail(ES_NO_MEMORY, error, "%s", es_err_text(ES_NO_MEMORY));
    }
    for (size_t i = 0; i < rows->route_count; i++) {
        struct route *route = &registry->routes[registry->route_count++];
        enum es_err err = fill_route(registry, &rows->routes[i], route, error);
        if (err != ES_OK) {
            return err;
        }
        ESI_ASSERT(route->pattern != NULL);
        if (!is_exact(route->pattern)) {
            registry->patterns[registry->pattern_count++] = route;
            continue;
        }
        const struct esi_str key = esi_str_from(route->pattern);
        if (esi_hashmap_find(&registry->exact, key) != NULL) {
            return fail(ES_INVALID, error, "the type '%s' is given twice", route->pattern);
        }
        err = esi_hashmap_insert(&registry->exact, key, route);
        if (err != ES_OK) {
            return fail(err, error, "%s", es_err_text(err));
        }
    }
    return ES_OK;
}

enum es_err esi_registry_new(const struct esi_registry_rows *rows, struct esi_registry **registry,
                             struct es_error *error)
{
    struct esi_registry *made = calloc(1, sizeof *made);
    enum es_err err = ES_OK;
    int index = 0;

    if (made == NULL) {
        return fail(ES_NO_MEMORY, error, "%s", es_err_text(ES_NO_MEMORY));
    }
    esi_hashmap_init(&made->exact);
    for (size_t i = 0; err == ES_OK && i < rows->handler_count; i++) {
        err = add_handler(made, &rows->handlers[i], error);
    }
    for (size_t i = 0; err == ES_OK && i < ESI_COUNT_OF(known_handlers); i++) {
        err = find_or_add(made, known_handlers[i].name, &index, error);
    }
    for (size_t i = 0; err == ES_OK && i < ESI_COUNT_OF(default_routes); i++) {
        err = find_or_add(made, default_routes[i].handler, &index, error);
        made->default_handlers[i] = (uint64_t)1 << index;
    }
    if (err == ES_OK) {
        err = add_routes(made, rows, error);
    }
    if (err != ES_OK) {
        esi_registry_free(made);
        return err;
    }
    *registry = made;
    return ES_OK;
}

void esi_registry_free(struct esi_registry *registry)
{
    if (registry == NULL) {
        return;
    }
    for (size_t i = 0; i < registry->handler_count; i++) {
        free(registry->handlers[i].name);
        free(registry->handlers[i].address);
        free(registry->handlers[i].path);
        free(registry->handlers[i].path_older);
        free(registry->handlers[i].tls_name);
    }
    for (size_t i = 0; i < registry->route_count; i++) {
        free(registry->routes[i].pattern);
    }
    esi_hashmap_deinit(&registry->exact);
    free(registry->routes);
    free(registry->patterns);
    free(registry);
}

uint64_t esi_registry_route(const struct esi_registry *registry, struct esi_str type)
{
    const struct route *exact = esi_hashmap_find(&registry->exact, type);
    uint64_t handlers = exact != NULL ? exact->handlers : 0;

    for (size_t i = 0; i < registry->pattern_count; i++) {
        if (esi_registry_matches(esi_str_from(registry->patterns[i]->pattern), type)) {
            handlers |= registry->patterns[i]->handlers;
        }
    }
    for (size_t i = 0; handlers == 0 && i < ESI_COUNT_OF(default_routes); i++) {
        if (esi_registry_matches(esi_str_from(default_routes[i].pattern), type)) {
            handlers = registry->default_handlers[i];
        }
    }
    if (handlers == 0) {
        const int named = esi_registry_find(registry, type);
        handlers = named != ESI_REGISTRY_NONE ? (uint64_t)1 << named : 0;
    }
    return handlers;
}

size_t esi_registry_handler_count(const struct esi_registry *registry)
{
    return registry->handler_count;
}

const struct esi_registry_handler *esi_registry_handler(const struct esi_registry *registry,
                                                        size_t index)
{
    ESI_REQUIRE(index < registry->handler_count);
    return &registry->handlers[index];
}

int esi_registry_find(const struct esi_registry *registry, struct esi_str name)
{
    for (size_t i = 0; i < registry->handler_count; i++) {
        if (registry->handlers[i].name != NULL &&
            esi_str_equal(esi_str_from(registry->handlers[i].name), name)) {
            return (int)i;
        }
    }
    return ESI_REGISTRY_NONE;
}
