/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry: which handlers get an event of a type, and how a handler's worker is called.
 *
 * A type is looked for among the configured rows: the row with exactly this type and every pattern
 * that matches give their handlers together. Where no configured row matches, the defaults count
 * (scanJob*, profile* -> event_feed; nodeTerminated -> cfgingest; compliance_ingest -> feed); where
 * they do not match either, a handler whose name is the type gets it. An empty result means: not
 * routed, to the dead letters.
 *
 * A pattern is written as a NATS subject: tokens, `*` for one token, a last `>` for one or more;
 * and, beyond NATS, a token that ends with `*` matches tokens that start so (scanJob*).
 *
 * Handlers: `feed`, `cfgingest` and `event_feed` have the contract's services and TLS names;
 * "compliance_ingest" is a second name of `feed` in rows. Every other name is a custom handler: its
 * worker serves chef.automate.domain.ingest.EventHandlerService (or the older EventHandler), unless
 * `service` is given, and shows a certificate for the host of its address, unless `tls_name` is
 * given.
 *
 * Immutable once made: any thread may read it. A reload makes a new one; handlers are then told by
 * name, not by index.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_registry;

enum {
    ESI_REGISTRY_HANDLERS_MAX = 64, /* so that a set of handlers is the bits of one number */
    ESI_REGISTRY_ROUTES_MAX = 4096,
    ESI_REGISTRY_NAME_MAX = 64, /* bytes of a handler's name */
    ESI_REGISTRY_NONE = -1
};

/* A row of the configuration's `handlers`. Texts are borrowed for the call; NULL means: the
 * default. */
struct esi_registry_handler_row {
    const char *name;
    const char *address;  /* NULL: none */
    const char *tls_name; /* expected in the worker's certificate */
    const char *service;  /* full gRPC service name */
};

/* A row of the configuration's `events.registry`. */
struct esi_registry_route_row {
    const char *pattern;
    const char *const *handlers;
    size_t handler_count;
};

struct esi_registry_rows {
    const struct esi_registry_handler_row *handlers;
    size_t handler_count;
    const struct esi_registry_route_row *routes;
    size_t route_count;
};

/* A handler; owned by the registry. */
struct esi_registry_handler {
    char *name;
    char *address;    /* NULL: none is configured; its events go to the dead letters */
    char *path;       /* of the gRPC call: "/SERVICE/HandleEvent" */
    char *path_older; /* to try once where `path` is UNIMPLEMENTED, or NULL */
    char *tls_name;   /* NULL: the host of the address */
};

/*
 * Makes a registry. Handlers get their index in the order of the rows; then come those of the
 * defaults and of routes that have no row, without an address.
 *   rows       borrowed for the call
 *   registry   written on success; owned by the caller
 *   error      gets a sentence about what is wrong and what is allowed
 * Returns ES_OK, ES_INVALID, ES_TOO_LARGE (more than the bounds above), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_registry_new(const struct esi_registry_rows *rows,
                                         struct esi_registry **registry, struct es_error *error);
/* NULL is accepted. */
void esi_registry_free(struct esi_registry *registry);

/*
 * The handlers for a type, as bits: bit i is the handler with index i. 0: not routed. Time: linear
 * in the number of patterns, not of exact types. Thread: any.
 */
uint64_t esi_registry_route(const struct esi_registry *registry, struct esi_str type);

size_t esi_registry_handler_count(const struct esi_registry *registry);
/* index < count. Borrowed from the registry. */
const struct esi_registry_handler *esi_registry_handler(const struct esi_registry *registry,
                                                        size_t index);
/* The index of a handler by its name, or ESI_REGISTRY_NONE. */
int esi_registry_find(const struct esi_registry *registry, struct esi_str name);

/* True when the type matches the pattern. No recursion; time linear in their lengths. */
bool esi_registry_matches(struct esi_str pattern, struct esi_str type);
