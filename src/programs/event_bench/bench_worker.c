/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A listener and a few connections, each with a gRPC server of its own. */
#include "event_bench/bench_worker.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "env/env.h"
#include "event_bench/bench_payload.h"
#include "event_bench/bench_shard.h"
#include "net/grpc_server.h"

enum { CONNECTIONS_MAX = 16, READ_BYTES = 64 * 1024, STREAMS_MAX = 4096 };

struct connection {
    int sock; /* ESI_ENV_NO_SOCKET: free */
    struct esi_grpc_server *grpc;
    struct esi_bytes out;
    uint32_t watched;
};

struct esi_bench_worker {
    struct esi_bench_shard *shard; /* borrowed */
    struct esi_env *env;           /* borrowed */
    int listener;
    struct connection connections[CONNECTIONS_MAX];
    char block[READ_BYTES];
};

/* EventResponse{Success = true}. */
static const char success[] = {1 << 3, 1};

static void close_connection(struct esi_bench_worker *worker, struct connection *connection)
{
    if (connection->sock == ESI_ENV_NO_SOCKET) {
        return;
    }
    esi_env_poller_remove(worker->env, worker->shard->link.poller, connection->sock);
    esi_env_close(worker->env, connection->sock);
    esi_grpc_server_free(connection->grpc);
    esi_bytes_deinit(&connection->out);
    *connection = (struct connection){.sock = ESI_ENV_NO_SOCKET};
}

static enum es_err open_connection(struct esi_bench_worker *worker, struct connection *connection,
                                   int sock)
{
    const struct esi_grpc_server_options options = {.streams_max = STREAMS_MAX};

    *connection = (struct connection){.sock = sock, .watched = POLL_READ};
    esi_bytes_init(&connection->out, 0);
    enum es_err err = esi_grpc_server_new(&options, worker->shard->link.now_ns, &connection->grpc);
    if (err == ES_OK) {
        err = esi_env_poller_add(worker->env, worker->shard->link.poller, sock, POLL_READ,
                                 connection);
    }
    return err;
}

static void accept_one(struct esi_bench_worker *worker)
{
    struct esi_address peer;
    int sock = ESI_ENV_NO_SOCKET;

    if (esi_env_accept(worker->env, worker->listener, &sock, &peer) != ES_OK) {
        return;
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        if (worker->connections[i].sock == ESI_ENV_NO_SOCKET) {
            if (open_connection(worker, &worker->connections[i], sock) != ES_OK) {
                esi_bench_client_fail(&worker->shard->link, "the worker service has no memory");
            }
            return;
        }
    }
    esi_env_close(worker->env, sock);
    esi_bench_client_fail(&worker->shard->link, "the worker service got too many connections");
}

/* text: the part of the event that event-bench wrote (see bench_payload.h). */
static void count_event(struct esi_bench_group *group, struct esi_str text)
{
    const uint64_t word = esi_bench_payload_read_text(text.data);
    const uint64_t sequence = esi_bench_payload_sequence(word);
    const uint64_t sent_ns = esi_bench_payload_read_text(text.data + BENCH_WORD_DIGITS);
    const uint64_t now_ns = group->link->now_ns;

    if (text.len != group->link->options->size_bytes - group->text_at ||
        !esi_bench_payload_text_is_whole(text.data, text.len)) {
        group->faults.damaged++;
        return;
    }
    if (sequence >= group->sent) {
        group->faults.misrouted++;
        return;
    }
    /* Workers are called side by side: only the number of times counts. */
    if (esi_bench_check_see(&group->shared_check, sequence) == BENCH_SEEN_AGAIN) {
        return;
    }
    group->replies++;
    group->reply_last_ns = now_ns;
    group->tally->delivered++;
    if (group->tally->is_measuring) {
        esi_histogram_record(&group->tally->latency_ns, now_ns > sent_ns ? now_ns - sent_ns : 0);
    }
}

/* The event is somebody's: the mark stands before what says whose. */
static void take_event(struct esi_bench_worker *worker, struct esi_str message)
{
    struct esi_bench_shard *shard = worker->shard;
    const size_t mark = sizeof esi_bench_payload_mark - 1;
    const char *at = memmem(message.data, message.len, esi_bench_payload_mark, mark);
    const size_t size_bytes = shard->link.options->size_bytes;
    const size_t text_bytes = size_bytes - esi_bench_payload_event_head(NULL, size_bytes);

    if (at == NULL || (size_t)(message.data + message.len - at) < mark + text_bytes) {
        shard->groups[0].faults.damaged++;
        return;
    }
    const struct esi_str text = {.data = at + mark, .len = text_bytes};
    const uint64_t publisher = esi_bench_payload_publisher(esi_bench_payload_read_text(text.data));
    if (publisher >= shard->group_count) {
        shard->groups[0].faults.misrouted++;
        return;
    }
    count_event(&shard->groups[publisher], text);
}

static bool read_connection(struct esi_bench_worker *worker, struct connection *connection)
{
    struct esi_bench_link *link = &worker->shard->link;
    struct esi_grpc_event request;
    size_t count = 0;
    const enum es_err err =
        esi_env_read(worker->env, connection->sock, worker->block, sizeof worker->block, &count);

    if (err == ES_AGAIN) {
        return true;
    }
    link->now_ns = esi_env_now_ns(link->env);
    if (err != ES_OK ||
        esi_grpc_server_feed(connection->grpc, worker->block, count, link->now_ns) != ES_OK) {
        return false;
    }
    while (esi_grpc_server_next(connection->grpc, &request)) {
        if (request.kind == GRPC_EVENT_REQUEST) {
            take_event(worker, request.message);
            if (esi_grpc_server_respond(connection->grpc, request.call_id, GRPC_OK, NULL, success,
                                        sizeof success) == ES_NO_MEMORY) {
                return false;
            }
        }
    }
    return true;
}

static bool write_connection(struct esi_bench_worker *worker, struct connection *connection)
{
    (void)esi_grpc_server_take_output(connection->grpc, &connection->out, SIZE_MAX);
    const enum es_err err = esi_env_write_bytes(worker->env, connection->sock, &connection->out);
    return err == ES_OK || err == ES_AGAIN;
}

bool esi_bench_worker_has(const struct esi_bench_worker *worker, const void *tag)
{
    const char *first = (const char *)worker;

    return (const char *)tag >= first && (const char *)tag < first + sizeof *worker;
}

void esi_bench_worker_on_ready(struct esi_bench_worker *worker, void *tag)
{
    struct connection *connection = tag;

    if (tag == worker) {
        accept_one(worker);
        return;
    }
    if (!read_connection(worker, connection) || !write_connection(worker, connection) ||
        esi_grpc_server_is_done(connection->grpc)) {
        close_connection(worker, connection); /* the server calls again, or events stay lost */
        return;
    }
    const uint32_t events = POLL_READ | (connection->out.len > 0 ? POLL_WRITE : 0U);
    if (events != connection->watched) {
        connection->watched = events;
        esi_env_poller_change(worker->env, worker->shard->link.poller, connection->sock, events,
                              connection);
    }
}

enum es_err esi_bench_worker_start(struct esi_bench_shard *shard, struct esi_bench_worker **out)
{
    const struct esi_bench_address *address = &shard->link.options->worker;
    struct esi_bench_worker *worker = calloc(1, sizeof *worker);
    struct esi_address bound;

    if (worker == NULL) {
        return ES_NO_MEMORY;
    }
    worker->shard = shard;
    worker->env = shard->link.env;
    worker->listener = ESI_ENV_NO_SOCKET;
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        worker->connections[i].sock = ESI_ENV_NO_SOCKET;
    }
    enum es_err err =
        esi_env_listen(worker->env, address->host, address->port, &worker->listener, &bound);
    if (err == ES_OK) {
        err = esi_env_poller_add(worker->env, shard->link.poller, worker->listener, POLL_READ,
                                 worker);
    }
    if (err != ES_OK) {
        esi_bench_worker_stop(worker);
        return err;
    }
    *out = worker;
    return ES_OK;
}

void esi_bench_worker_stop(struct esi_bench_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        close_connection(worker, &worker->connections[i]);
    }
    if (worker->listener != ESI_ENV_NO_SOCKET) {
        esi_env_poller_remove(worker->env, worker->shard->link.poller, worker->listener);
        esi_env_close(worker->env, worker->listener);
    }
    free(worker);
}
