/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker is a thread with a listener and a few connections, each with a gRPC server. */
#include "sim_events.h"

#include "base/own.h"
#include "event/event_protobuf.h"
#include "net/grpc_server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECTIONS_MAX = 4,
    ANSWERS_MAX = 64,
    READ_BYTES = 8192,
    PORT = 9000,
    GRPC_PORT = 5555,
    ID_DIGITS = 8
};

struct event {
    uint32_t starts; /* of event-service when it was accepted; 0: not accepted */
    uint32_t delivered;
    bool is_unrouted;
    bool is_given_up; /* the worker said that it will never take it */
};

struct connection {
    int sock; /* ESI_ENV_NO_SOCKET: free */
    struct esi_grpc_server *grpc;
    struct esi_bytes out;
    uint32_t watched;
};

/* An answer that comes later. */
struct answer {
    bool is_used;
    uint32_t connection;
    uint32_t call_id;
    uint32_t number;
    uint64_t at_ns;
};

struct worker {
    struct sim_world *world;
    struct sim_events *events;
    uint32_t index;
    struct esi_env *env;
    struct esi_thread *thread;
    struct esi_poller *poller;
    int listener; /* ESI_ENV_NO_SOCKET: it is away */
    uint64_t back_ns;
    struct connection connections[CONNECTIONS_MAX];
    struct answer answers[ANSWERS_MAX];
};

struct sim_events {
    struct sim_world *world;
    struct event *events; /* owned */
    uint32_t count;
    size_t capacity;
    bool is_disturbed; /* something went wrong that may deliver an event twice */
    struct worker workers[SIM_WORKERS];
};

/* The last one has no handler. */
static const char *const types[] = {"w0", "w1", "nobody"};
enum { TYPE_UNROUTED = 2 };

static const char *const hosts[SIM_WORKERS] = {"10.0.2.1", "10.0.2.2"};

static uint64_t draw(struct sim_world *world, uint64_t limit)
{
    return esi_env_sim_draw(world->sim, limit);
}

static uint64_t now_of(const struct worker *worker)
{
    return esi_env_sim_now_ns(worker->world->sim);
}

/* --- the events --- */

void sim_events_configure(struct sim_world *world, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "handlers:\n");
    for (int i = 0; i < SIM_WORKERS; i++) {
        const uint64_t timeout_ms = 500 + draw(world, 5000);
        const uint64_t in_flight = 1 + draw(world, 20);
        esi_bytes_printf(out,
                         "  w%d: {address: \"grpc://%s:%d\", timeout: %" PRIu64
                         "ms, in_flight_max: %" PRIu64
                         ", retry: {attempts_max: 1000, delay: 100ms, delay_max: 2s}}\n",
                         i, hosts[i], (int)PORT, timeout_ms, in_flight);
    }
    esi_bytes_printf(out, "grpc: {port: %d}\n", (int)GRPC_PORT);
    esi_bytes_append_text(out, "events: {registry: {both: [w0, w1]}}\n");
}

uint32_t sim_events_next(const struct sim_events *events)
{
    return events->count;
}

static void add_event(struct sim_events *events, uint32_t type)
{
    struct sim_world *world = events->world;

    if (events->count == events->capacity) {
        events->capacity = events->capacity == 0 ? 256 : events->capacity * 2;
        events->events = realloc(events->events, events->capacity * sizeof *events->events);
        sim_check(world, events->events != NULL, "no memory");
    }
    world->counts.events++;
    events->events[events->count++] = (struct event){.is_unrouted = type == TYPE_UNROUTED};
}

static uint32_t draw_type(const struct sim_events *events)
{
    return (uint32_t)(draw(events->world, 8) == 0 ? TYPE_UNROUTED : draw(events->world, 2));
}

/* A body of some length, with a type or, where it is in the subject, without. */
static void append_body(const struct sim_events *events, const char *type, struct esi_bytes *out)
{
    esi_bytes_printf(out, "{\"EventID\":\"%0*" PRIx32 "\",", (int)ID_DIGITS, events->count);
    if (type != NULL) {
        esi_bytes_printf(out, "\"Type\":{\"Name\":\"%s\"},", type);
    }
    esi_bytes_printf(out, "\"Verb\":\"%.*s\"}", (int)draw(events->world, 60),
                     "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefgh");
}

void sim_events_publish(struct sim_events *events, const char *reply, struct esi_bytes *out)
{
    const uint32_t type = draw_type(events);
    struct esi_bytes body;

    esi_bytes_init(&body, 0);
    append_body(events, NULL, &body);
    esi_bytes_printf(out, "PUB event.%s %s%s%zu\r\n%.*s\r\n", types[type], reply,
                     reply[0] != '\0' ? " " : "", body.len, (int)body.len, body.data);
    esi_bytes_deinit(&body);
    add_event(events, type);
}

uint32_t sim_events_make(struct sim_events *events, struct esi_bytes *out)
{
    const uint32_t type = draw_type(events);

    append_body(events, types[type], out);
    add_event(events, type);
    return events->count - 1;
}

void sim_events_accepted(struct sim_events *events, uint32_t number)
{
    const struct sim_world *world = events->world;
    struct event *event = &events->events[number];

    sim_check(world, event->starts == 0, "event %" PRIu32 " is accepted twice", number);
    event->starts = sim_world_inner_starts(world);
    sim_tell(world, "event %" PRIu32 " is accepted", number);
}

void sim_events_answered(struct sim_events *events, uint32_t number, struct esi_str answer)
{
    const struct sim_world *world = events->world;

    sim_check(world, number < events->count, "an answer about event %" PRIu32, number);
    if (esi_str_starts_with(answer, ESI_STR("{\"success\":true"))) {
        sim_events_accepted(events, number);
        return;
    }
    sim_check(world,
              memmem(answer.data, answer.len, "\"full\"", 6) != NULL ||
                  memmem(answer.data, answer.len, "\"stopping\"", 10) != NULL,
              "event %" PRIu32 ": %.*s", number, ESI_STR_ARG(answer));
}

/* It must have come to its end by now, or will. */
static bool is_due(const struct sim_events *events, const struct event *event)
{
    return event->starts != 0 && !event->is_unrouted && event->delivered == 0 &&
           !event->is_given_up && event->starts == sim_world_inner_starts(events->world);
}

bool sim_events_are_settled(const struct sim_events *events)
{
    for (uint32_t i = 0; i < events->count; i++) {
        if (is_due(events, &events->events[i])) {
            return false;
        }
    }
    return true;
}

void sim_events_print(const struct sim_events *events)
{
    uint32_t shown = 0;

    for (uint32_t i = 0; i < events->count && shown < 10; i++) {
        if (is_due(events, &events->events[i])) {
            printf("event %" PRIu32 " was accepted and has not ended\n", i);
            shown++;
        }
    }
}

/* --- the workers --- */

static void close_connection(struct worker *worker, struct connection *connection)
{
    const uint32_t index = (uint32_t)(connection - worker->connections);

    if (connection->sock == ESI_ENV_NO_SOCKET) {
        return;
    }
    for (int i = 0; i < ANSWERS_MAX; i++) {
        if (worker->answers[i].is_used && worker->answers[i].connection == index) {
            worker->answers[i].is_used = false;
        }
    }
    esi_env_poller_remove(worker->env, worker->poller, connection->sock);
    esi_env_close(worker->env, connection->sock);
    connection->sock = ESI_ENV_NO_SOCKET;
    esi_grpc_server_free(connection->grpc);
    connection->grpc = NULL;
    esi_bytes_deinit(&connection->out);
}

static void come(struct worker *worker)
{
    struct esi_address bound;

    sim_check(worker->world,
              esi_env_listen(worker->env, hosts[worker->index], PORT, &worker->listener, &bound) ==
                      ES_OK &&
                  esi_env_poller_add(worker->env, worker->poller, worker->listener, POLL_READ,
                                     worker) == ES_OK,
              "no worker");
}

static void go(struct worker *worker)
{
    if (worker->listener != ESI_ENV_NO_SOCKET) {
        esi_env_poller_remove(worker->env, worker->poller, worker->listener);
        esi_env_close(worker->env, worker->listener);
        worker->listener = ESI_ENV_NO_SOCKET;
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        close_connection(worker, &worker->connections[i]);
    }
}

static void accept_one(struct worker *worker)
{
    struct esi_address peer;
    int sock = ESI_ENV_NO_SOCKET;

    if (worker->listener == ESI_ENV_NO_SOCKET ||
        esi_env_accept(worker->env, worker->listener, &sock, &peer) != ES_OK) {
        return;
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &worker->connections[i];
        if (connection->sock != ESI_ENV_NO_SOCKET) {
            continue;
        }
        *connection = (struct connection){.sock = sock, .watched = POLL_READ};
        esi_bytes_init(&connection->out, 0);
        sim_check(worker->world,
                  esi_grpc_server_new(NULL, now_of(worker), &connection->grpc) == ES_OK &&
                      esi_env_poller_add(worker->env, worker->poller, sock, POLL_READ,
                                         connection) == ES_OK,
                  "no connection");
        return;
    }
    esi_env_close(worker->env, sock);
}

static uint32_t read_number(const struct sim_world *world, struct esi_str body)
{
    struct esi_event_protobuf_facts facts;
    char digits[ID_DIGITS + 1] = {0};
    char *end = NULL;

    sim_check(world, esi_event_protobuf_check(body, &facts, NULL) == ES_OK,
              "a worker gets no event");
    sim_check(world, facts.id.len == ID_DIGITS, "a worker gets event '%.*s'",
              ESI_STR_ARG(facts.id));
    memcpy(digits, facts.id.data, ID_DIGITS);
    const unsigned long number = strtoul(digits, &end, 16);
    sim_check(world, *end == '\0', "a worker gets event '%s'", digits);
    return (uint32_t)number;
}

static void respond(struct worker *worker, struct connection *connection, uint32_t call_id,
                    enum esi_grpc_status status, bool success)
{
    struct esi_bytes message;

    esi_bytes_init(&message, 0);
    esi_event_protobuf_append_response(&message, success);
    const enum es_err err =
        esi_grpc_server_respond(connection->grpc, call_id, status, NULL, message.data, message.len);
    sim_check(worker->world, err == ES_OK || err == ES_NOT_FOUND, "respond");
    esi_bytes_deinit(&message);
}

static void deliver(struct worker *worker, struct connection *connection, uint32_t call_id,
                    uint32_t number)
{
    struct sim_events *events = worker->events;
    struct event *event = &events->events[number];

    event->delivered++;
    sim_tell(worker->world, "event %" PRIu32 " is delivered", number);
    sim_check(worker->world, event->delivered == 1 || events->is_disturbed,
              "event %" PRIu32 " is delivered twice", number);
    respond(worker, connection, call_id, GRPC_OK, true);
}

static void answer_later(struct worker *worker, uint32_t connection, uint32_t call_id,
                         uint32_t number)
{
    for (int i = 0; i < ANSWERS_MAX; i++) {
        if (!worker->answers[i].is_used) {
            worker->answers[i] = (struct answer){
                .is_used = true,
                .connection = connection,
                .call_id = call_id,
                .number = number,
                .at_ns =
                    now_of(worker) +
                    draw(worker->world, draw(worker->world, 10) == 0 ? 8 * SIM_S : SIM_S / 10)};
            return;
        }
    }
    respond(worker, &worker->connections[connection], call_id, GRPC_UNAVAILABLE, false);
}

static void take_request(struct worker *worker, struct connection *connection,
                         const struct esi_grpc_event *request)
{
    struct sim_events *events = worker->events;
    struct sim_world *world = worker->world;
    const uint32_t number = read_number(world, request->message);

    sim_check(world, number < events->count && !events->events[number].is_unrouted,
              "worker %" PRIu32 " gets event %" PRIu32, worker->index, number);
    switch (world->phase >= PHASE_QUIET ? 0 : draw(world, 24)) {
    case 1:
        respond(worker, connection, request->call_id, GRPC_UNAVAILABLE, false);
        break;
    case 2:
        respond(worker, connection, request->call_id, GRPC_OK, false);
        break;
    case 3:
        respond(worker, connection, request->call_id, GRPC_RESOURCE_EXHAUSTED, false);
        break;
    case 4:
        events->events[number].is_given_up = true;
        respond(worker, connection, request->call_id, GRPC_INVALID_ARGUMENT, false);
        break;
    case 5:
        break; /* never answered */
    case 6:
    case 7:
    case 8:
    case 9:
        events->is_disturbed = true; /* the answer may come too late */
        answer_later(worker, (uint32_t)(connection - worker->connections), request->call_id,
                     number);
        break;
    default:
        deliver(worker, connection, request->call_id, number);
        break;
    }
}

static bool read_connection(struct worker *worker, struct connection *connection)
{
    char buffer[READ_BYTES];
    size_t count = 0;
    struct esi_grpc_event request;

    const enum es_err err =
        esi_env_read(worker->env, connection->sock, buffer, sizeof buffer, &count);
    if (err == ES_AGAIN) {
        return true;
    }
    if (err != ES_OK ||
        esi_grpc_server_feed(connection->grpc, buffer, count, now_of(worker)) != ES_OK) {
        return false;
    }
    while (esi_grpc_server_next(connection->grpc, &request)) {
        if (request.kind == GRPC_EVENT_REQUEST) {
            take_request(worker, connection, &request);
        }
    }
    return true;
}

static bool write_connection(struct worker *worker, struct connection *connection)
{
    (void)esi_grpc_server_take_output(connection->grpc, &connection->out, SIZE_MAX);
    const enum es_err err = esi_env_write_bytes(worker->env, connection->sock, &connection->out);
    return err == ES_OK || err == ES_AGAIN;
}

static uint64_t answer_due(struct worker *worker)
{
    uint64_t next_ns = UINT64_MAX;

    for (int i = 0; i < ANSWERS_MAX; i++) {
        struct answer *answer = &worker->answers[i];
        if (!answer->is_used) {
            continue;
        }
        if (answer->at_ns <= now_of(worker)) {
            answer->is_used = false;
            deliver(worker, &worker->connections[answer->connection], answer->call_id,
                    answer->number);
        } else if (answer->at_ns < next_ns) {
            next_ns = answer->at_ns;
        }
    }
    return next_ns;
}

static void serve(struct worker *worker, struct connection *connection)
{
    if (connection->sock == ESI_ENV_NO_SOCKET) {
        return;
    }
    esi_grpc_server_tick(connection->grpc, now_of(worker));
    if (!read_connection(worker, connection) || !write_connection(worker, connection) ||
        esi_grpc_server_is_done(connection->grpc)) {
        worker->events->is_disturbed = true;
        close_connection(worker, connection);
        return;
    }
    const uint32_t events = POLL_READ | (connection->out.len > 0 ? POLL_WRITE : 0U);
    if (events != connection->watched) {
        connection->watched = events;
        esi_env_poller_change(worker->env, worker->poller, connection->sock, events, connection);
    }
}

static bool step(void *argument, uint64_t *next_ns)
{
    struct worker *worker = argument;
    struct esi_poll_ready ready[CONNECTIONS_MAX + 2];

    (void)esi_env_poller_wait(worker->env, worker->poller, 0, ready, ESI_COUNT_OF(ready));
    if (worker->world->phase == PHASE_OVER) {
        go(worker);
        return false;
    }
    if (worker->listener == ESI_ENV_NO_SOCKET && worker->back_ns <= now_of(worker)) {
        come(worker);
    }
    accept_one(worker);
    *next_ns = answer_due(worker);
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        serve(worker, &worker->connections[i]);
    }
    if (worker->listener == ESI_ENV_NO_SOCKET && worker->back_ns < *next_ns) {
        *next_ns = worker->back_ns;
    }
    return true;
}

void sim_events_disturb(struct sim_events *events)
{
    struct sim_world *world = events->world;
    struct worker *worker = &events->workers[draw(world, SIM_WORKERS)];

    events->is_disturbed = true;
    if (draw(world, 2) == 0) {
        esi_env_sim_note(world->sim, "worker %" PRIu32 " is reset", worker->index);
        for (uint32_t i = 0; i < world->server_count; i++) {
            esi_env_sim_reset(world->sim, worker->env, world->servers[i].env);
        }
        return;
    }
    esi_env_sim_note(world->sim, "worker %" PRIu32 " goes", worker->index);
    go(worker);
    worker->back_ns = now_of(worker) + draw(world, 20 * SIM_S);
    esi_env_stepped_wake(worker->env, worker->thread);
}

void sim_events_wake(struct sim_events *events)
{
    for (int i = 0; i < SIM_WORKERS; i++) {
        struct worker *worker = &events->workers[i];
        worker->back_ns = now_of(worker);
        esi_env_stepped_wake(worker->env, worker->thread);
    }
}

struct sim_events *sim_events_new(struct sim_world *world)
{
    struct sim_events *events = calloc(1, sizeof *events);

    sim_check(world, events != NULL, "no memory");
    events->world = world;
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        struct worker *worker = &events->workers[i];
        *worker = (struct worker){.world = world,
                                  .events = events,
                                  .index = i,
                                  .env = esi_env_sim_host(world->sim, hosts[i]),
                                  .listener = ESI_ENV_NO_SOCKET};
        for (int at = 0; at < CONNECTIONS_MAX; at++) {
            worker->connections[at].sock = ESI_ENV_NO_SOCKET;
        }
        sim_check(world,
                  esi_env_poller_new(worker->env, &worker->poller) == ES_OK &&
                      esi_env_stepped_start(worker->env, "worker", step, worker, worker->poller,
                                            &worker->thread) == ES_OK,
                  "no worker");
    }
    return events;
}

void sim_events_free(struct sim_events *events)
{
    if (events == NULL) {
        return;
    }
    for (int i = 0; i < SIM_WORKERS; i++) {
        struct worker *worker = &events->workers[i];
        esi_env_thread_join(worker->env, worker->thread);
        esi_env_poller_free(worker->env, worker->poller);
    }
    free(events->events);
    free(events);
}
