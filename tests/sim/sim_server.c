/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One event-service, or two, and up to three event-gateways, each linked with each: who does not
 * know another from its configuration learns of it from the others.
 */
#include "sim_server.h"

#include "sim_events.h"
#include "sim_tokens.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    KEPT_OUTBOUND_BYTES_MAX = 64 * 1024,
    KEPT_BLOCKS_BYTES_MAX = 16 * 1024 * 1024,
    GATEWAY_PORT = 7222,
    OVER_LIMIT_BYTES_MAX = 256 * 1024,
    LITTLE_MEMORY_BYTES = 16 * 1024 * 1024
};

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
}

/* --- what they are --- */

static void add_server(struct sim_world *world, enum sim_server_kind kind)
{
    struct sim_server *server = &world->servers[world->server_count];

    *server = (struct sim_server){.kind = kind, .index = world->server_count};
    snprintf(server->host, sizeof server->host, "10.0.0.%" PRIu32, server->index + 1);
    server->env = esi_env_sim_host(world->sim, server->host);
    world->server_count++;
}

void sim_server_draw(struct sim_world *world)
{
    uint64_t inner_count = 1;
    uint64_t outer_count = 0;

    switch (draw(world, 8)) {
    case 0:
    case 1:
        break;
    case 2:
    case 3:
    case 4:
        outer_count = 1;
        break;
    case 5:
    case 6:
        outer_count = 2 + draw(world, 2);
        break;
    default:
        inner_count = 2;
        outer_count = 1 + draw(world, 2);
        break;
    }
    for (uint64_t i = 0; i < inner_count; i++) {
        add_server(world, SERVER_INNER);
    }
    for (uint64_t i = 0; i < outer_count; i++) {
        add_server(world, SERVER_OUTER);
    }
}

/* The first event-service is known to all, so that all come to know each other. */
static void write_gateway(struct sim_world *world, struct sim_server *server, struct esi_bytes *out)
{
    const char *separator = "";

    if (world->server_count == 1) {
        return;
    }
    esi_bytes_printf(out, "gateway: {name: gw-%" PRIu32 ", port: %d, remotes: [", server->index,
                     (int)GATEWAY_PORT);
    for (uint32_t i = 0; i < world->server_count; i++) {
        if (i == server->index || (server->index == 0 && i == 0)) {
            continue;
        }
        server->knows[i] = i == 0 || draw(world, 4) == 0;
        if (server->knows[i]) {
            esi_bytes_printf(out, "%s{name: gw-%" PRIu32 ", urls: [\"nats://%s:%d\"]}", separator,
                             i, world->servers[i].host, (int)GATEWAY_PORT);
            separator = ", ";
        }
    }
    esi_bytes_append_text(out, "]}\n");
}

/* What becomes of clients that do not keep up; with little room for each, so that it happens. */
static void write_slow_consumer(struct sim_world *world, struct sim_server *server,
                                struct esi_bytes *out)
{
    static const char *const modes[] = {"disconnect", "disconnect", "drop_new", "block"};
    const char *mode = modes[draw(world, ESI_COUNT_OF(modes))];
    const uint64_t pending_kib =
        draw(world, 3) == 0 ? 32 + draw(world, 64) : 256 + draw(world, 2048);

    server->drops_new = strcmp(mode, "drop_new") == 0;
    esi_bytes_printf(out, ", max_pending: %" PRIu64 "KiB, slow_consumer: %s", pending_kib, mode);
}

/* Each drawn in a statement of its own: the order of a call's arguments is the compiler's. */
static void write_config(struct sim_world *world, struct sim_server *server, struct esi_bytes *out)
{
    const uint64_t ping_s = 5 + draw(world, 120);
    const uint64_t write_s = 2 + draw(world, 10);
    const uint64_t workers = 1 + draw(world, 3);
    const uint64_t routers = 1 + draw(world, 2);
    /* shuffle: connections move between workers all the time; else by load, and by who talks */
    static const char *const placements[] = {"shuffle", "fill", "spread"};
    const char *placement = placements[draw(world, ESI_COUNT_OF(placements))];
    const uint64_t rebalance_ms = 20 + draw(world, 250);
    const uint64_t work_bound = 1 + draw(world, 64);

    esi_bytes_printf(out,
                     "service: {name: server-%" PRIu32 ", host: %s, port: 4222, insecure: true%s}\n"
                     "monitor: {host: %s, port: 8222}\n"
                     "log: {level: %s}\n",
                     server->index, server->host,
                     server->kind == SERVER_OUTER ? ", disable_frontend_tls: true" : "",
                     server->host, world->has_log ? "info" : "error");
    esi_bytes_printf(out,
                     "limits: {ping_interval: %" PRIu64 "s, write_deadline: %" PRIu64
                     "s, max_connections: 64, max_payload: 32KiB",
                     ping_s, write_s);
    write_slow_consumer(world, server, out);
    esi_bytes_printf(out,
                     "}\nthreads: {workers: %" PRIu64 ", routers: %" PRIu64
                     ", placement: %s, rebalance: %" PRIu64 "ms, work_bound: %" PRIu64 "}\n",
                     workers, routers, placement, rebalance_ms, work_bound);
    if (world->events != NULL && server->kind == SERVER_INNER) {
        sim_events_configure(world, out);
    }
    write_gateway(world, server, out);
    if (server->kind == SERVER_OUTER && world->tokens != NULL) {
        esi_bytes_printf(out, "auth: {token_file: %s, cache_ttl: 2s}\n", sim_tokens_path());
    } else if (server->kind == SERVER_OUTER) {
        esi_bytes_append_text(
            out, "auth: {token: outside-token, default_permissions: {publish: {allow: [\">\"]}, "
                 "subscribe: {allow: [\">\"]}}}\n");
    }
}

void sim_server_load(struct sim_world *world, struct sim_server *server)
{
    struct esi_bytes text;
    struct esi_bytes errors;

    esi_bytes_init(&text, 0);
    esi_bytes_init(&errors, 0);
    write_config(world, server, &text);
    const struct esi_config_source source = {
        .path = "sim.yaml",
        .text = esi_bytes_str(&text),
        .program = server->kind == SERVER_INNER ? CONFIG_EVENT_SERVICE : CONFIG_EVENT_GATEWAY};
    const enum es_err err = esi_config_parse(server->env, &source, &server->config, &errors);
    sim_check(world, err == ES_OK, "%.*s", (int)errors.len, errors.data);
    esi_bytes_deinit(&text);
    esi_bytes_deinit(&errors);
    server->has_little_memory = world->has_little_memory;
    if (server->has_little_memory) {
        /* Less than a file may say, so that a few clients use it up. */
        server->config->threads.workers = 1;
        server->config->limits.memory_bytes = LITTLE_MEMORY_BYTES;
        server->config->limits.max_pending_bytes = LITTLE_MEMORY_BYTES;
    }
}

/* --- starts and stops --- */

void sim_server_start(struct sim_world *world, struct sim_server *server)
{
    struct es_error error;

    const enum es_err err =
        esi_assemble_start(&server->assembly, server->env, server->config, &error);
    sim_check(world, err == ES_OK, "%s", error.text);
    if (!world->has_log) {
        esi_log_configure(LOG_TEXT, (enum esi_log_level)(LOG_ERROR - 1)); /* nothing at all */
    }
    server->is_up = true;
    server->starts++;
    server->up_since_ns = esi_env_sim_now_ns(world->sim);
    esi_env_sim_note(world->sim, "server %" PRIu32 " is up", server->index);
}

void sim_server_stop(struct sim_world *world, struct sim_server *server, uint64_t timeout_ns)
{
    esi_env_sim_note(world->sim, "server %" PRIu32 " is told to stop", server->index);
    server->is_up = false;
    server->up_since_ns = UINT64_MAX / 2;
    (void)esi_assemble_stop(&server->assembly, timeout_ns);
    server->up_since_ns = esi_env_sim_now_ns(world->sim);
    esi_env_sim_note(world->sim, "server %" PRIu32 " has stopped", server->index);
    sim_check(world, esi_env_sim_sockets(world->sim, server->env) == 0,
              "server %" PRIu32 " leaves %" PRIu32 " sockets", server->index,
              esi_env_sim_sockets(world->sim, server->env));
}

void sim_server_free(struct sim_server *server)
{
    esi_config_free(server->config);
    server->config = NULL;
}

/* --- what they hold --- */

void sim_server_check_bounds(struct sim_world *world, const struct sim_server *server)
{
    const struct esi_ledger *ledger = server->assembly.context.ledger;

    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        const enum esi_memory_class class = (enum esi_memory_class)i;
        const uint64_t leased = esi_ledger_leased_bytes(ledger, class);
        const uint64_t limit = ledger->classes[i].limit_bytes;
        /* What is there already is counted even above the limit: links, connections, own lines. */
        sim_check(world, leased <= limit + OVER_LIMIT_BYTES_MAX,
                  "server %" PRIu32 " holds %" PRIu64 " bytes of class %s, which may have %" PRIu64,
                  server->index, leased, esi_ledger_class_name(class), limit);
    }
    world->counts.shortages += esi_ledger_is_short(ledger, MEMORY_TRANSIT) ? 1 : 0;
}

static void check_owner(const struct sim_world *world, const struct sim_server *server,
                        enum esi_memory_owner owner, uint64_t bytes_max)
{
    const uint64_t bytes = esi_ledger_owner_bytes(server->assembly.context.ledger, owner);

    sim_check(world, bytes <= bytes_max, "server %" PRIu32 " still holds %" PRIu64 " bytes of %s",
              server->index, bytes, esi_ledger_owner_name(owner));
}

/* Only what is kept for the next ones, the link, and dead letters may be left. */
static void check_memory(const struct sim_world *world, const struct sim_server *server)
{
    check_owner(world, server, MEMORY_CONNECTIONS, 0);
    check_owner(world, server, MEMORY_SUBSCRIPTIONS, 0);
    check_owner(world, server, MEMORY_PARTIAL_INPUT, 0);
    check_owner(world, server, MEMORY_TLS, 0);
    check_owner(world, server, MEMORY_OUTBOUND,
                world->server_count > 1 ? KEPT_OUTBOUND_BYTES_MAX : 0);
    check_owner(world, server, MEMORY_BLOCKS, KEPT_BLOCKS_BYTES_MAX);
    if (world->events == NULL) {
        check_owner(world, server, MEMORY_QUEUE, 0);
    }
}

/* Nobody is connected any more. */
void sim_server_check_empty(const struct sim_world *world, const struct sim_server *server)
{
    const struct esi_context *context = &server->assembly.context;
    /* order: relaxed; there is one thread. */
    const uint32_t connections =
        atomic_load_explicit(&context->counters.connections, memory_order_relaxed);
    /* order: relaxed; there is one thread. */
    const uint32_t listeners =
        atomic_load_explicit(&context->counters.listeners, memory_order_relaxed);

    sim_check(world, connections == 0 && listeners == 0,
              "server %" PRIu32 " counts %" PRIu32 " connections, %" PRIu32 " listeners",
              server->index, connections, listeners);
    check_memory(world, server);
}
