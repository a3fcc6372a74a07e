/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection a page: what an answer is ends with it. */
#include "sim_monitor.h"

#include "sim_page.h"

#include "base/bytes.h"
#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 16384, PATIENCE_S = 30, PAUSE_MS_MAX = 8000 };

struct claim {
    uint32_t server;
    uint32_t starts; /* of the server that the connection was to */
    uint64_t cid;
    uint64_t missing;
};

struct sim_monitor {
    struct sim_world *world;
    struct esi_env *env;
    struct esi_thread *thread;
    struct esi_poller *poller;
    int sock; /* ESI_ENV_NO_SOCKET: nothing is asked */
    uint32_t server;
    uint32_t starts; /* of the server, when it was asked */
    const char *path;
    bool is_connected;
    bool is_checking_claims;
    uint64_t asked_ns;
    uint64_t act_ns; /* when to ask next */
    struct esi_bytes in;
    struct esi_bytes out;
    uint64_t moves[SIM_SERVERS_MAX]; /* of actors, as last seen */
    struct claim *claims;            /* owned */
    size_t claim_count;
    size_t claim_capacity;
};

static uint64_t now_of(const struct sim_monitor *monitor)
{
    return esi_env_sim_now_ns(monitor->world->sim);
}

static uint64_t draw(const struct sim_monitor *monitor, uint64_t limit)
{
    return esi_env_sim_draw(monitor->world->sim, limit);
}

/* --- claims --- */

void sim_monitor_claim(struct sim_monitor *monitor, uint32_t server, uint32_t starts, uint64_t cid,
                       uint64_t missing)
{
    if (missing == 0) {
        return;
    }
    if (monitor->claim_count == monitor->claim_capacity) {
        monitor->claim_capacity = monitor->claim_capacity == 0 ? 16 : monitor->claim_capacity * 2;
        monitor->claims =
            realloc(monitor->claims, monitor->claim_capacity * sizeof *monitor->claims);
        sim_check(monitor->world, monitor->claims != NULL, "no memory");
    }
    monitor->claims[monitor->claim_count++] =
        (struct claim){.server = server, .starts = starts, .cid = cid, .missing = missing};
    monitor->world->counts.dropped += missing;
    sim_tell(monitor->world, "connection %" PRIu64 " of server %" PRIu32 " misses %" PRIu64, cid,
             server, missing);
}

/* What the page says was dropped for a connection; 0 also where it is not on it. */
static uint64_t dropped_of(const struct sim_monitor *monitor, struct esi_str page, uint64_t cid)
{
    struct esi_json_value list;
    struct esi_json_fields items;
    struct esi_json_value item;

    sim_check(monitor->world,
              sim_page_find(page, "connections", &list) &&
                  esi_json_fields_items(&list, &items) == ES_OK,
              "/connz has no connections");
    while (esi_json_fields_next_item(&items, &item)) {
        struct esi_json_value dropped;
        if (sim_page_number(monitor->world, item.raw, "cid") == cid &&
            sim_page_find(item.raw, "dropped_msgs", &dropped)) {
            return sim_page_number(monitor->world, item.raw, "dropped_msgs");
        }
    }
    return 0;
}

static void check_claims(const struct sim_monitor *monitor, struct esi_str page)
{
    for (size_t i = 0; i < monitor->claim_count; i++) {
        const struct claim *claim = &monitor->claims[i];
        if (claim->server != monitor->server || claim->starts != monitor->starts) {
            continue;
        }
        uint64_t missing = 0;
        for (size_t at = 0; at < monitor->claim_count; at++) {
            const struct claim *other = &monitor->claims[at];
            missing += other->server == claim->server && other->starts == claim->starts &&
                               other->cid == claim->cid
                           ? other->missing
                           : 0;
        }
        const uint64_t dropped = dropped_of(monitor, page, claim->cid);
        sim_check(monitor->world, missing <= dropped,
                  "connection %" PRIu64 " of server %" PRIu32 " misses %" PRIu64
                  " messages; %" PRIu64 " were dropped for it",
                  claim->cid, claim->server, missing, dropped);
    }
}

/* --- one page --- */

static void finish(struct sim_monitor *monitor)
{
    esi_env_poller_remove(monitor->env, monitor->poller, monitor->sock);
    esi_env_close(monitor->env, monitor->sock);
    monitor->sock = ESI_ENV_NO_SOCKET;
    monitor->act_ns = now_of(monitor) + draw(monitor, PAUSE_MS_MAX * SIM_MS);
}

static void ask(struct sim_monitor *monitor, uint32_t index, const char *path)
{
    struct sim_world *world = monitor->world;
    const struct sim_server *server = &world->servers[index];
    struct esi_address address = {.port = server->assembly.monitor_port};

    snprintf(address.host, sizeof address.host, "%s", server->host);
    sim_check(world,
              esi_env_connect(monitor->env, &address, &monitor->sock) == ES_OK &&
                  esi_env_poller_add(monitor->env, monitor->poller, monitor->sock, POLL_WRITE,
                                     monitor) == ES_OK,
              "no connection");
    monitor->server = index;
    monitor->starts = server->starts;
    monitor->path = path;
    monitor->is_connected = false;
    monitor->asked_ns = now_of(monitor);
    esi_bytes_clear(&monitor->in);
    esi_bytes_clear(&monitor->out);
    esi_bytes_printf(&monitor->out, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                     path, server->host);
}

static void ask_any(struct sim_monitor *monitor)
{
    static const char *const paths[] = {"/varz",
                                        "/connz",
                                        "/connz?state=all&limit=3&offset=1",
                                        "/connz?subs=1&sort=pending",
                                        "/gatewayz",
                                        "/subsz",
                                        "/subsz?subs=1",
                                        "/healthz",
                                        "/actorz",
                                        "/eventz",
                                        "/metrics"};
    struct sim_world *world = monitor->world;
    const uint32_t index = (uint32_t)draw(monitor, world->server_count);
    const char *path = paths[draw(monitor, ESI_COUNT_OF(paths))];

    if (world->servers[index].is_up) {
        ask(monitor, index, path);
        return;
    }
    monitor->act_ns = now_of(monitor) + SIM_S;
}

static bool is_same_server(const struct sim_monitor *monitor)
{
    const struct sim_server *server = &monitor->world->servers[monitor->server];

    return server->is_up && server->starts == monitor->starts;
}

static void take_end(struct sim_monitor *monitor)
{
    struct sim_world *world = monitor->world;

    if (monitor->in.len == 0 || memmem(monitor->in.data, monitor->in.len, "\r\n\r\n", 4) == NULL) {
        sim_check(world, !is_same_server(monitor), "server %" PRIu32 " does not answer %s",
                  monitor->server, monitor->path);
    } else if (is_same_server(monitor)) {
        const struct esi_str page = sim_page_check(world, &world->servers[monitor->server],
                                                   monitor->path, esi_bytes_str(&monitor->in));
        world->counts.pages++;
        if (strcmp(monitor->path, "/actorz") == 0 && page.len > 0) {
            monitor->moves[monitor->server] = sim_page_sum(world, page, "workers", "moves_in");
        }
        if (monitor->is_checking_claims && strncmp(monitor->path, "/connz", 6) == 0 &&
            page.len > 0) {
            check_claims(monitor, page);
        }
    }
    finish(monitor);
}

static void read_answer(struct sim_monitor *monitor)
{
    char buffer[READ_BYTES];
    size_t count = 0;

    for (;;) {
        const enum es_err err =
            esi_env_read(monitor->env, monitor->sock, buffer, sizeof buffer, &count);
        if (err == ES_AGAIN) {
            return;
        }
        if (err != ES_OK) {
            take_end(monitor);
            return;
        }
        esi_bytes_append(&monitor->in, buffer, count);
    }
}

static void write_request(struct sim_monitor *monitor)
{
    const enum es_err err = esi_env_write_bytes(monitor->env, monitor->sock, &monitor->out);

    (void)err; /* when it fails, reading tells why */
}

static void go_on(struct sim_monitor *monitor)
{
    if (!monitor->is_connected) {
        const enum es_err err = esi_env_connect_result(monitor->env, monitor->sock);
        if (err == ES_AGAIN) {
            return;
        }
        if (err != ES_OK) {
            sim_check(monitor->world, !is_same_server(monitor),
                      "server %" PRIu32 " does not listen for %s", monitor->server, monitor->path);
            finish(monitor);
            return;
        }
        monitor->is_connected = true;
    }
    write_request(monitor);
    read_answer(monitor);
    if (monitor->sock != ESI_ENV_NO_SOCKET) {
        esi_env_poller_change(monitor->env, monitor->poller, monitor->sock,
                              POLL_READ | (monitor->out.len > 0 ? POLL_WRITE : 0U), monitor);
    }
}

static bool step(void *argument, uint64_t *next_ns)
{
    struct sim_monitor *monitor = argument;
    struct esi_poll_ready ready[2];

    (void)esi_env_poller_wait(monitor->env, monitor->poller, 0, ready, ESI_COUNT_OF(ready));
    if (monitor->world->phase == PHASE_OVER) {
        if (monitor->sock != ESI_ENV_NO_SOCKET) {
            finish(monitor);
        }
        return false;
    }
    if (monitor->sock != ESI_ENV_NO_SOCKET) {
        go_on(monitor);
        sim_check(monitor->world,
                  monitor->sock == ESI_ENV_NO_SOCKET || !is_same_server(monitor) ||
                      now_of(monitor) < monitor->asked_ns + PATIENCE_S * SIM_S,
                  "server %" PRIu32 " does not answer %s in time", monitor->server, monitor->path);
    } else if (!monitor->is_checking_claims && monitor->act_ns <= now_of(monitor)) {
        ask_any(monitor);
    }
    *next_ns = monitor->sock != ESI_ENV_NO_SOCKET ? now_of(monitor) + SIM_S : monitor->act_ns;
    if (monitor->sock == ESI_ENV_NO_SOCKET && monitor->is_checking_claims) {
        *next_ns = UINT64_MAX;
    }
    return true;
}

/* --- from outside --- */

static void wait_for_answer(struct sim_monitor *monitor)
{
    const uint64_t end_ns = now_of(monitor) + 2 * PATIENCE_S * SIM_S;

    while (monitor->sock != ESI_ENV_NO_SOCKET) {
        esi_env_sim_step(monitor->world->sim, end_ns);
    }
}

void sim_monitor_check_claims(struct sim_monitor *monitor)
{
    wait_for_answer(monitor);
    monitor->is_checking_claims = true;
    for (uint32_t i = 0; i < monitor->world->server_count && monitor->claim_count > 0; i++) {
        ask(monitor, i, "/connz?state=all&limit=1024");
        wait_for_answer(monitor);
    }
    for (uint32_t i = 0; i < monitor->world->server_count; i++) {
        ask(monitor, i, "/actorz");
        wait_for_answer(monitor);
        /* Those that the servers found worth it; the others move all the time. */
        monitor->world->counts.moves +=
            monitor->world->servers[i].config->threads.placement == CONFIG_PLACEMENT_SHUFFLE
                ? 0
                : monitor->moves[i];
    }
    monitor->is_checking_claims = false;
    monitor->act_ns = now_of(monitor);
    esi_env_stepped_wake(monitor->env, monitor->thread);
}

struct sim_monitor *sim_monitor_new(struct sim_world *world)
{
    struct sim_monitor *monitor = calloc(1, sizeof *monitor);

    sim_check(world, monitor != NULL, "no memory");
    monitor->world = world;
    monitor->env = esi_env_sim_host(world->sim, "10.0.3.1");
    monitor->sock = ESI_ENV_NO_SOCKET;
    monitor->act_ns = now_of(monitor) + draw(monitor, PAUSE_MS_MAX * SIM_MS);
    esi_bytes_init(&monitor->in, 0);
    esi_bytes_init(&monitor->out, 0);
    sim_check(world,
              esi_env_poller_new(monitor->env, &monitor->poller) == ES_OK &&
                  esi_env_stepped_start(monitor->env, "monitor", step, monitor, monitor->poller,
                                        &monitor->thread) == ES_OK,
              "no monitor");
    return monitor;
}

void sim_monitor_free(struct sim_monitor *monitor)
{
    if (monitor == NULL) {
        return;
    }
    esi_env_thread_join(monitor->env, monitor->thread);
    esi_env_poller_free(monitor->env, monitor->poller);
    esi_bytes_deinit(&monitor->in);
    esi_bytes_deinit(&monitor->out);
    free(monitor->claims);
    free(monitor);
}
