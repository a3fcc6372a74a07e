/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls by which an event is published, at most a few at once; each has one result, also when the
 * connection is lost. A call that fails for any reason promises nothing about its event. */
#include "sim_publisher.h"

#include "base/own.h"
#include "event/event_protobuf.h"
#include "net/grpc_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { READ_BYTES = 8192, CALL_S = 10, CALLS_MAX = 8 };

struct sim_publisher {
    struct sim_world *world;
    struct esi_env *env;
    struct esi_thread *thread;
    struct esi_poller *poller;
    int sock; /* ESI_ENV_NO_SOCKET: none */
    bool is_connected;
    struct esi_grpc_client *grpc; /* owned; NULL where there is no socket */
    struct esi_bytes out;
    uint32_t numbers[CALLS_MAX]; /* events of the calls under way; their tags point here */
    bool is_used[CALLS_MAX];
    uint64_t act_ns; /* when to do the next thing */
};

static uint64_t now_of(const struct sim_publisher *publisher)
{
    return esi_env_sim_now_ns(publisher->world->sim);
}

static uint64_t draw(const struct sim_publisher *publisher, uint64_t limit)
{
    return esi_env_sim_draw(publisher->world->sim, limit);
}

static void take_results(struct sim_publisher *publisher)
{
    struct sim_world *world = publisher->world;
    struct esi_grpc_result result;

    while (esi_grpc_client_next(publisher->grpc, &result)) {
        uint32_t *place = result.tag;
        bool success = false;
        publisher->is_used[place - publisher->numbers] = false;
        if (result.status == GRPC_OK) {
            sim_check(world,
                      esi_event_protobuf_read_response(result.message, &success) == ES_OK &&
                          success,
                      "event %" PRIu32 " by gRPC: no success", *place);
            sim_events_accepted(world->events, *place);
            world->counts.called++;
        } else {
            sim_check(world,
                      !result.is_from_peer || result.status == GRPC_RESOURCE_EXHAUSTED ||
                          result.status == GRPC_UNAVAILABLE,
                      "event %" PRIu32 " by gRPC: status %d, %.*s", *place, (int)result.status,
                      ESI_STR_ARG(result.status_text));
        }
    }
}

static void hang_up(struct sim_publisher *publisher)
{
    esi_grpc_client_lost(publisher->grpc);
    take_results(publisher);
    esi_grpc_client_free(publisher->grpc);
    publisher->grpc = NULL;
    esi_env_poller_remove(publisher->env, publisher->poller, publisher->sock);
    esi_env_close(publisher->env, publisher->sock);
    publisher->sock = ESI_ENV_NO_SOCKET;
    esi_bytes_clear(&publisher->out);
    publisher->act_ns = now_of(publisher) + draw(publisher, 2 * SIM_S);
}

static void call_up(struct sim_publisher *publisher)
{
    struct sim_world *world = publisher->world;
    const struct sim_server *server = &world->servers[draw(publisher, world->server_count)];
    struct esi_address address = {.port = server->assembly.grpc_port};

    publisher->act_ns = now_of(publisher) + SIM_S;
    if (server->kind != SERVER_INNER || !server->is_up) {
        return;
    }
    snprintf(address.host, sizeof address.host, "%s", server->host);
    sim_check(world,
              esi_env_connect(publisher->env, &address, &publisher->sock) == ES_OK &&
                  esi_env_poller_add(publisher->env, publisher->poller, publisher->sock, POLL_WRITE,
                                     publisher) == ES_OK &&
                  esi_grpc_client_new(NULL, &publisher->grpc) == ES_OK,
              "no connection");
    publisher->is_connected = false;
}

static void publish(struct sim_publisher *publisher)
{
    struct sim_world *world = publisher->world;
    struct esi_bytes event;
    struct esi_bytes request;
    uint32_t call_id = 0;
    uint32_t place = 0;

    while (place < CALLS_MAX && publisher->is_used[place]) {
        place++;
    }
    if (place == CALLS_MAX || esi_grpc_client_capacity(publisher->grpc) == 0) {
        return;
    }
    esi_bytes_init(&event, 0);
    esi_bytes_init(&request, 0);
    publisher->numbers[place] = sim_events_make(world->events, &event);
    esi_event_protobuf_append_publish_request(&request, esi_bytes_str(&event));
    const struct esi_grpc_call call = {
        .path = ESI_STR("/chef.automate.domain.event.api.EventService/Publish"),
        .authority = ESI_STR("event-service"),
        .message = esi_bytes_str(&request),
        .timeout_ns = CALL_S * SIM_S,
        .tag = &publisher->numbers[place]};
    const enum es_err err =
        esi_grpc_client_call(publisher->grpc, &call, now_of(publisher), &call_id);
    publisher->is_used[place] = err == ES_OK;
    esi_bytes_deinit(&event);
    esi_bytes_deinit(&request);
}

/* False: the connection is over. */
static bool read_socket(struct sim_publisher *publisher)
{
    char buffer[READ_BYTES];
    size_t count = 0;

    const enum es_err err =
        esi_env_read(publisher->env, publisher->sock, buffer, sizeof buffer, &count);
    if (err == ES_AGAIN) {
        return true;
    }
    return err == ES_OK &&
           esi_grpc_client_feed(publisher->grpc, buffer, count, now_of(publisher)) == ES_OK;
}

static bool write_socket(struct sim_publisher *publisher)
{
    (void)esi_grpc_client_take_output(publisher->grpc, &publisher->out, SIZE_MAX);
    const enum es_err err = esi_env_write_bytes(publisher->env, publisher->sock, &publisher->out);
    return err == ES_OK || err == ES_AGAIN;
}

/* False: there is no connection any more. */
static bool go_on(struct sim_publisher *publisher)
{
    if (!publisher->is_connected) {
        const enum es_err err = esi_env_connect_result(publisher->env, publisher->sock);
        if (err != ES_OK) {
            return err == ES_AGAIN;
        }
        publisher->is_connected = true;
    }
    esi_grpc_client_tick(publisher->grpc, now_of(publisher));
    const bool is_alive = read_socket(publisher) && write_socket(publisher);
    take_results(publisher);
    return is_alive && !esi_grpc_client_is_done(publisher->grpc);
}

static void act(struct sim_publisher *publisher)
{
    if (publisher->world->phase != PHASE_ACTIVE) {
        publisher->act_ns = now_of(publisher) + SIM_S;
        return;
    }
    if (publisher->sock == ESI_ENV_NO_SOCKET) {
        call_up(publisher);
        return;
    }
    for (uint64_t count = 1 + draw(publisher, 3); count > 0 && publisher->is_connected; count--) {
        publish(publisher);
    }
    publisher->act_ns = now_of(publisher) + draw(publisher, SIM_S);
}

static bool step(void *argument, uint64_t *next_ns)
{
    struct sim_publisher *publisher = argument;
    struct esi_poll_ready ready[2];

    (void)esi_env_poller_wait(publisher->env, publisher->poller, 0, ready, ESI_COUNT_OF(ready));
    const bool is_over = publisher->world->phase >= PHASE_LEAVE;
    if (publisher->act_ns <= now_of(publisher)) {
        act(publisher);
    }
    if (publisher->sock != ESI_ENV_NO_SOCKET && (is_over || !go_on(publisher))) {
        hang_up(publisher);
    }
    if (publisher->sock != ESI_ENV_NO_SOCKET) {
        esi_env_poller_change(
            publisher->env, publisher->poller, publisher->sock,
            !publisher->is_connected || publisher->out.len > 0 ? POLL_READ | POLL_WRITE : POLL_READ,
            publisher);
    }
    *next_ns = publisher->act_ns;
    return publisher->world->phase != PHASE_OVER;
}

struct sim_publisher *sim_publisher_new(struct sim_world *world)
{
    struct sim_publisher *publisher = calloc(1, sizeof *publisher);

    sim_check(world, publisher != NULL, "no memory");
    publisher->world = world;
    publisher->env = esi_env_sim_host(world->sim, "10.0.4.1");
    publisher->sock = ESI_ENV_NO_SOCKET;
    publisher->act_ns = now_of(publisher) + draw(publisher, SIM_S);
    esi_bytes_init(&publisher->out, 0);
    sim_check(world,
              esi_env_poller_new(publisher->env, &publisher->poller) == ES_OK &&
                  esi_env_stepped_start(publisher->env, "publisher", step, publisher,
                                        publisher->poller, &publisher->thread) == ES_OK,
              "no publisher");
    return publisher;
}

void sim_publisher_free(struct sim_publisher *publisher)
{
    if (publisher == NULL) {
        return;
    }
    esi_env_thread_join(publisher->env, publisher->thread);
    esi_env_poller_free(publisher->env, publisher->poller);
    esi_bytes_deinit(&publisher->out);
    free(publisher);
}
