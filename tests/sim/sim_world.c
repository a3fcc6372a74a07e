/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One world: servers are started, clients come, things go wrong for a while; then nothing goes
 * wrong any more, what must have come is asked for, everybody leaves, and the servers must be as
 * empty as at the start.
 */
#include "sim_world.h"

#include "sim_book.h"
#include "sim_client.h"
#include "sim_events.h"
#include "sim_faults.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINK_CONNECTIONS = 2, /* one each way */
    KEPT_OUTBOUND_BYTES_MAX = 64 * 1024,
    KEPT_BLOCKS_BYTES_MAX = 16 * 1024 * 1024,
    LINK_SETTLE_S = 10,
    PHASE_S_MAX = 300,
    TRACE_LINES = 60
};

static const char *const hosts[SERVER_COUNT] = {"10.0.0.1", "10.0.0.2"};

_Noreturn void sim_world_fail(const struct sim_world *world, const char *condition,
                              const char *file, int line, const char *format, ...)
{
    const uint64_t now_ns = esi_env_sim_now_ns(world->sim);
    va_list arguments;

    esi_env_sim_print_last(world->sim, TRACE_LINES);
    for (uint32_t i = 0; i < world->client_count; i++) {
        if (world->clients[i] != NULL) {
            sim_client_print(world->clients[i]);
        }
    }
    if (world->events != NULL) {
        sim_events_print(world->events);
    }
    printf("FAILED: seed %" PRIu64 " at %" PRIu64 ".%09" PRIu64 ": ", world->seed, now_ns / SIM_S,
           now_ns % SIM_S);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(" [%s, %s:%d]\n", condition, strrchr(file, '/') != NULL ? strrchr(file, '/') + 1 : file,
           line);
    fflush(stdout);
    _Exit(1);
}

bool sim_world_is_linked_since(const struct sim_world *world, uint64_t since_ns)
{
    const struct sim_server *inner = &world->servers[SERVER_INNER];
    const struct sim_server *outer = &world->servers[SERVER_OUTER];

    if (!world->has_gateway || world->is_link_cut || !inner->is_up || !outer->is_up) {
        return false;
    }
    if (esi_env_sim_connections(world->sim, inner->env, outer->env) != LINK_CONNECTIONS) {
        return false;
    }
    /* It may also have fallen by itself, as one that is too slow does. */
    const uint64_t changed_ns = esi_env_sim_changed_ns(world->sim, inner->env, outer->env);
    const uint64_t ok_since_ns =
        world->link_ok_since_ns > changed_ns ? world->link_ok_since_ns : changed_ns;
    return ok_since_ns + LINK_SETTLE_S * SIM_S < since_ns;
}

/* --- servers --- */

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
}

/* Each drawn in a statement of its own: the order of a call's arguments is the compiler's. */
static void write_config(struct sim_world *world, enum sim_server_kind kind, bool has_log,
                         struct esi_bytes *out)
{
    const uint64_t ping_s = 5 + draw(world, 120);
    const uint64_t write_s = 2 + draw(world, 10);
    const uint64_t pending_kib = 256 + draw(world, 2048);
    const uint64_t workers = 1 + draw(world, 3);
    const uint64_t routers = 1 + draw(world, 2);
    const bool is_moving = draw(world, 2) == 0; /* connections, between workers, all the time */
    const uint64_t work_bound = 1 + draw(world, 64);

    esi_bytes_printf(out,
                     "service: {name: server-%d, host: %s, port: 4222, insecure: true%s}\n"
                     "limits: {ping_interval: %" PRIu64 "s, write_deadline: %" PRIu64 "s, "
                     "max_connections: 64, max_payload: 64KiB, max_pending: %" PRIu64 "KiB}\n"
                     "threads: {workers: %" PRIu64 ", routers: %" PRIu64
                     ", placement: %s, work_bound: %" PRIu64 "}\n"
                     "log: {level: %s}\n",
                     (int)kind, hosts[kind],
                     kind == SERVER_OUTER ? ", disable_frontend_tls: true" : "", ping_s, write_s,
                     pending_kib, workers, routers, is_moving ? "shuffle, rebalance: 20ms" : "fill",
                     work_bound, has_log ? "info" : "error");
    if (world->events != NULL && kind == SERVER_INNER) {
        sim_events_configure(world, out);
    }
    if (world->has_gateway && kind == SERVER_INNER) {
        esi_bytes_append_text(out, "gateway: {name: inner, port: 7222}\n");
    }
    if (kind == SERVER_OUTER) {
        esi_bytes_append_text(
            out, "gateway: {name: outer, port: 7222, remotes: [{name: inner, "
                 "urls: [\"nats://10.0.0.1:7222\"]}]}\n"
                 "auth: {token: outside-token, default_permissions: {publish: {allow: [\">\"]}, "
                 "subscribe: {allow: [\">\"]}}}\n");
    }
}

static void load_server(struct sim_world *world, enum sim_server_kind kind, bool has_log)
{
    struct sim_server *server = &world->servers[kind];
    struct esi_bytes text;
    struct esi_bytes errors;

    server->kind = kind;
    server->env = esi_env_sim_host(world->sim, hosts[kind]);
    esi_bytes_init(&text, 0);
    esi_bytes_init(&errors, 0);
    write_config(world, kind, has_log, &text);
    const struct esi_config_source source = {
        .path = "sim.yaml",
        .text = esi_bytes_str(&text),
        .program = kind == SERVER_INNER ? CONFIG_EVENT_SERVICE : CONFIG_EVENT_GATEWAY};
    const enum es_err err = esi_config_parse(server->env, &source, &server->config, &errors);
    sim_check(world, err == ES_OK, "%.*s", (int)errors.len, errors.data);
    esi_bytes_deinit(&text);
    esi_bytes_deinit(&errors);
}

static void start_server(struct sim_world *world, struct sim_server *server)
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
    esi_env_sim_note(world->sim, "server %d is up", (int)server->kind);
}

static void stop_server(struct sim_world *world, struct sim_server *server, uint64_t timeout_ns)
{
    esi_env_sim_note(world->sim, "server %d is told to stop", (int)server->kind);
    server->is_up = false;
    server->up_since_ns = UINT64_MAX / 2;
    (void)esi_assemble_stop(&server->assembly, timeout_ns);
    server->up_since_ns = esi_env_sim_now_ns(world->sim);
    esi_env_sim_note(world->sim, "server %d has stopped", (int)server->kind);
    sim_check(world, esi_env_sim_sockets(world->sim, server->env) == 0,
              "server %d leaves %" PRIu32 " sockets", (int)server->kind,
              esi_env_sim_sockets(world->sim, server->env));
}

static void check_owner(const struct sim_world *world, const struct sim_server *server,
                        enum esi_memory_owner owner, uint64_t bytes_max)
{
    const uint64_t bytes = esi_ledger_owner_bytes(server->assembly.context.ledger, owner);

    sim_check(world, bytes <= bytes_max, "server %d still holds %" PRIu64 " bytes of %s",
              (int)server->kind, bytes, esi_ledger_owner_name(owner));
}

/* Only what is kept for the next ones, the link, and dead letters may be left. */
static void check_memory(const struct sim_world *world, const struct sim_server *server)
{
    check_owner(world, server, MEMORY_CONNECTIONS, 0);
    check_owner(world, server, MEMORY_SUBSCRIPTIONS, 0);
    check_owner(world, server, MEMORY_PARTIAL_INPUT, 0);
    check_owner(world, server, MEMORY_TLS, 0);
    check_owner(world, server, MEMORY_OUTBOUND, world->has_gateway ? KEPT_OUTBOUND_BYTES_MAX : 0);
    check_owner(world, server, MEMORY_BLOCKS, KEPT_BLOCKS_BYTES_MAX);
    if (world->events == NULL) {
        check_owner(world, server, MEMORY_QUEUE, 0);
    }
}

/* Nobody is connected any more. */
static void check_empty(const struct sim_world *world, const struct sim_server *server)
{
    const struct esi_context *context = &server->assembly.context;
    /* order: relaxed; there is one thread. */
    const uint32_t connections =
        atomic_load_explicit(&context->counters.connections, memory_order_relaxed);
    /* order: relaxed; there is one thread. */
    const uint32_t listeners =
        atomic_load_explicit(&context->counters.listeners, memory_order_relaxed);

    sim_check(world, connections == 0 && listeners == 0,
              "server %d counts %" PRIu32 " connections, %" PRIu32 " listeners", (int)server->kind,
              connections, listeners);
    check_memory(world, server);
}

/* --- phases --- */

static void enter_phase(struct sim_world *world, enum sim_phase phase)
{
    world->phase = phase;
    esi_env_sim_note(world->sim, "phase %d", (int)phase);
    for (uint32_t i = 0; i < world->client_count; i++) {
        sim_client_wake(world->clients[i]);
    }
    if (world->events != NULL) {
        sim_events_wake(world->events);
    }
}

static void restart(struct sim_world *world, struct sim_server *server, bool is_death)
{
    if (is_death) {
        esi_env_sim_note(world->sim, "server %d dies", (int)server->kind);
        esi_env_sim_crash(world->sim, server->env);
    }
    stop_server(world, server, is_death ? 2 * SIM_S : 2 * SIM_S + draw(world, 4 * SIM_S));
    start_server(world, server);
}

static void run_for(struct sim_world *world, uint64_t duration_ns)
{
    const uint64_t end_ns = esi_env_sim_now_ns(world->sim) + duration_ns;
    bool is_death = false;

    while (esi_env_sim_now_ns(world->sim) < end_ns) {
        struct sim_server *server = sim_faults_next_restart(world, &is_death);
        if (server != NULL) {
            restart(world, server, is_death);
        }
        esi_env_sim_step(world->sim, end_ns);
    }
}

/* Until all clients have nothing left to do. */
static void run_to_settled(struct sim_world *world)
{
    const uint64_t end_ns = esi_env_sim_now_ns(world->sim) + PHASE_S_MAX * SIM_S;
    uint32_t settled = 0;

    while (settled < world->client_count) {
        esi_env_sim_step(world->sim, end_ns);
        sim_check(world, esi_env_sim_now_ns(world->sim) < end_ns,
                  "phase %d does not end: %" PRIu32 " of %" PRIu32 " clients are settled",
                  (int)world->phase, settled, world->client_count);
        settled = 0;
        for (uint32_t i = 0; i < world->client_count; i++) {
            settled += sim_client_is_settled(world->clients[i]) ? 1 : 0;
        }
    }
}

/* Until every event that was accepted has come to its end. */
static void run_events(struct sim_world *world)
{
    const uint64_t end_ns = esi_env_sim_now_ns(world->sim) + PHASE_S_MAX * SIM_S;

    while (world->events != NULL && !sim_events_are_settled(world->events)) {
        esi_env_sim_step(world->sim, end_ns);
        sim_check(world, esi_env_sim_now_ns(world->sim) < end_ns, "events do not end");
    }
}

static void run_active(struct sim_world *world, uint64_t duration_ns)
{
    enter_phase(world, PHASE_ACTIVE);
    sim_faults_start(world);
    run_for(world, duration_ns);
}

static void run_to_end(struct sim_world *world)
{
    sim_faults_heal(world);
    enter_phase(world, PHASE_QUIET);
    run_to_settled(world);
    run_for(world, 30 * SIM_S);
    sim_check(world,
              !world->has_gateway ||
                  sim_world_is_linked_since(world, esi_env_sim_now_ns(world->sim)),
              "the link does not come back");
    run_events(world);
    for (uint32_t i = 0; i < world->client_count; i++) {
        sim_client_check_complete(world->clients[i]);
    }
    sim_book_check_groups(world->book);
    enter_phase(world, PHASE_LEAVE);
    run_to_settled(world);
    run_for(world, 5 * SIM_S);
    for (int i = 0; i < SERVER_COUNT; i++) {
        if (world->servers[i].is_up) {
            check_empty(world, &world->servers[i]);
        }
    }
    enter_phase(world, PHASE_OVER);
}

static void set_up(struct sim_world *world, const struct sim_options *options)
{
    const struct esi_env_sim_options sim_options = {
        .seed = options->seed,
        .is_printed = options->is_printed,
    };
    struct esi_env_sim_options drawn = sim_options;

    /* A world of its own, only to draw how the real one is. */
    if (esi_env_sim_new(&sim_options, &world->sim) != ES_OK) {
        abort();
    }
    drawn.latency_ns_max = UINT64_C(1000) << draw(world, 16);
    /* At least 200 KB/s, or nothing is ever through. */
    drawn.window_bytes_min = 1024 + (size_t)(drawn.latency_ns_max / 5000);
    drawn.window_bytes_max = drawn.window_bytes_min + ((size_t)1024 << draw(world, 9));
    drawn.short_permille = (uint32_t)(draw(world, 3) == 0 ? 0 : draw(world, 500));
    drawn.stall_permille = (uint32_t)(draw(world, 2) == 0 ? 0 : draw(world, 10));
    drawn.full_permille = (uint32_t)(draw(world, 4) == 0 ? draw(world, 300) : 0);
    esi_env_sim_free(world->sim);
    if (esi_env_sim_new(&drawn, &world->sim) != ES_OK) {
        abort();
    }
    world->seed = options->seed;
    world->has_log = options->has_log;
    world->is_printed = options->is_printed;
    world->link_ok_since_ns = esi_env_sim_now_ns(world->sim);
    world->book = sim_book_new(world);
    world->has_gateway = draw(world, 3) != 0;
    world->events = draw(world, 2) == 0 ? sim_events_new(world) : NULL;
    for (int i = 0; i < (world->has_gateway ? SERVER_COUNT : 1); i++) {
        load_server(world, (enum sim_server_kind)i, options->has_log);
        start_server(world, &world->servers[i]);
    }
    world->client_count = 2 + (uint32_t)draw(world, SIM_CLIENTS_MAX - 1);
    for (uint32_t i = 0; i < world->client_count; i++) {
        world->clients[i] = sim_client_new(world, i);
    }
}

static void tear_down(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->client_count; i++) {
        sim_client_free(world->clients[i]);
        world->clients[i] = NULL;
    }
    sim_events_free(ESI_MOVE(world->events));
    for (int i = 0; i < SERVER_COUNT; i++) {
        if (world->servers[i].is_up) {
            stop_server(world, &world->servers[i], 2 * SIM_S);
        }
        esi_config_free(world->servers[i].config);
    }
    sim_book_free(world->book);
    esi_env_sim_free(world->sim);
}

void sim_world_play(const struct sim_options *options, struct sim_result *out)
{
    struct sim_world *world = calloc(1, sizeof *world);

    if (world == NULL) {
        abort();
    }
    set_up(world, options);
    run_active(world,
               options->duration_ns != 0 ? options->duration_ns : (10 + draw(world, 50)) * SIM_S);
    run_to_end(world);
    *out = (struct sim_result){.digest = esi_env_sim_digest(world->sim),
                               .steps = esi_env_sim_steps(world->sim),
                               .virtual_ns = esi_env_sim_now_ns(world->sim) - 1000 * SIM_S,
                               .published = world->counts.published,
                               .delivered = world->counts.delivered,
                               .required = world->counts.required,
                               .connections = world->counts.connections,
                               .faults = world->counts.faults,
                               .events = world->counts.events};
    tear_down(world);
    free(world);
}
