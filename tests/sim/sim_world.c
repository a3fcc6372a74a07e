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
#include "sim_monitor.h"
#include "sim_publisher.h"
#include "sim_server.h"
#include "sim_tokens.h"

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
    LINK_SETTLE_S = 10,
    PHASE_S_MAX = 300,
    LOOK_MS = 20,
    TRACE_LINES = 60
};

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

struct sim_link *sim_world_link(const struct sim_world *world, uint32_t a, uint32_t b)
{
    struct sim_world *changed = (struct sim_world *)(uintptr_t)world;

    return a < b ? &changed->links[a][b] : &changed->links[b][a];
}

uint64_t sim_world_link_ok_since_ns(const struct sim_world *world, uint32_t a, uint32_t b)
{
    const struct sim_link *link = sim_world_link(world, a, b);
    /* It may also have fallen by itself, as one that is too slow does. */
    const uint64_t changed_ns =
        esi_env_sim_changed_ns(world->sim, world->servers[a].env, world->servers[b].env);

    return link->ok_since_ns > changed_ns ? link->ok_since_ns : changed_ns;
}

bool sim_world_is_linked_since(const struct sim_world *world, uint32_t a, uint32_t b,
                               uint64_t since_ns)
{
    const struct sim_server *left = &world->servers[a];
    const struct sim_server *right = &world->servers[b];
    const struct sim_link *link = sim_world_link(world, a, b);

    if (link->is_cut || !left->is_up || !right->is_up) {
        return false;
    }
    if (esi_env_sim_connections(world->sim, left->env, right->env) != LINK_CONNECTIONS) {
        return false;
    }
    return sim_world_link_ok_since_ns(world, a, b) + LINK_SETTLE_S * SIM_S < since_ns;
}

bool sim_world_is_joined_since(const struct sim_world *world, uint32_t server, uint64_t since_ns)
{
    for (uint32_t i = 0; i < world->server_count; i++) {
        if (i != server && !sim_world_is_linked_since(world, server, i, since_ns)) {
            return false;
        }
    }
    return true;
}

uint32_t sim_world_inner_starts(const struct sim_world *world)
{
    uint32_t starts = 0;

    for (uint32_t i = 0; i < world->server_count; i++) {
        starts += world->servers[i].kind == SERVER_INNER ? world->servers[i].starts : 0;
    }
    return starts;
}

/* --- servers --- */

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
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
        esi_env_sim_note(world->sim, "server %" PRIu32 " dies", server->index);
        esi_env_sim_crash(world->sim, server->env);
    }
    sim_server_stop(world, server, is_death ? 2 * SIM_S : 2 * SIM_S + draw(world, 4 * SIM_S));
    sim_server_start(world, server);
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

static void look_at_memory(void *argument)
{
    struct sim_world *world = argument;

    for (uint32_t i = 0; i < world->server_count; i++) {
        if (world->servers[i].is_up) {
            sim_server_check_bounds(world, &world->servers[i]);
        }
    }
    if (world->phase < PHASE_LEAVE) {
        esi_env_sim_at(world->sim, esi_env_sim_now_ns(world->sim) + LOOK_MS * SIM_MS,
                       look_at_memory, world);
    }
}

static void run_active(struct sim_world *world, uint64_t duration_ns)
{
    enter_phase(world, PHASE_ACTIVE);
    sim_faults_start(world);
    look_at_memory(world);
    run_for(world, duration_ns);
}

static void run_to_end(struct sim_world *world)
{
    sim_faults_heal(world);
    enter_phase(world, PHASE_QUIET);
    run_to_settled(world);
    run_for(world, 30 * SIM_S);
    for (uint32_t i = 0; i < world->server_count; i++) {
        sim_check(world, sim_world_is_joined_since(world, i, esi_env_sim_now_ns(world->sim)),
                  "a link of server %" PRIu32 " does not come back", i);
    }
    run_events(world);
    for (uint32_t i = 0; i < world->client_count; i++) {
        sim_client_check_complete(world->clients[i]);
    }
    sim_monitor_check_claims(world->monitor);
    sim_book_check_groups(world->book);
    enter_phase(world, PHASE_LEAVE);
    run_to_settled(world);
    run_for(world, 5 * SIM_S);
    for (uint32_t i = 0; i < world->server_count; i++) {
        if (world->servers[i].is_up) {
            sim_server_check_empty(world, &world->servers[i]);
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
    drawn.look_ns_max = draw(world, 2) == 0 ? 0 : UINT64_C(1000) << draw(world, 12);
    esi_env_sim_free(world->sim);
    if (esi_env_sim_new(&drawn, &world->sim) != ES_OK) {
        abort();
    }
    world->seed = options->seed;
    world->has_log = options->has_log;
    world->is_printed = options->is_printed;
    world->book = sim_book_new(world);
    world->has_little_memory = draw(world, 10) == 0;
    sim_server_draw(world);
    for (uint32_t a = 0; a < world->server_count; a++) {
        for (uint32_t b = a + 1; b < world->server_count; b++) {
            world->links[a][b] = (struct sim_link){
                .world = world, .a = a, .b = b, .ok_since_ns = esi_env_sim_now_ns(world->sim)};
        }
    }
    world->tokens = draw(world, 2) == 0 ? sim_tokens_new(world) : NULL;
    world->events = draw(world, 2) == 0 ? sim_events_new(world) : NULL;
    for (uint32_t i = 0; i < world->server_count; i++) {
        sim_server_load(world, &world->servers[i]);
        sim_server_start(world, &world->servers[i]);
    }
    world->monitor = sim_monitor_new(world);
    world->publisher =
        world->events != NULL && draw(world, 2) == 0 ? sim_publisher_new(world) : NULL;
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
    sim_publisher_free(ESI_MOVE(world->publisher));
    sim_events_free(ESI_MOVE(world->events));
    sim_monitor_free(ESI_MOVE(world->monitor));
    for (uint32_t i = 0; i < world->server_count; i++) {
        if (world->servers[i].is_up) {
            sim_server_stop(world, &world->servers[i], 2 * SIM_S);
        }
        sim_server_free(&world->servers[i]);
    }
    sim_tokens_free(world->tokens);
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
                               .events = world->counts.events,
                               .called = world->counts.called,
                               .pages = world->counts.pages,
                               .dropped = world->counts.dropped,
                               .shortages = world->counts.shortages,
                               .moves = world->counts.moves,
                               .refused = world->counts.refused};
    tear_down(world);
    free(world);
}
