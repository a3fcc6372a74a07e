/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A peer's phases: see monitor_client.h. Its deadline is set when a phase begins and not put off by
 * what happens in it, except by progress in writing, so that a peer that drips bytes gains nothing.
 */
#include "actors/monitor_client.h"
#include "actors/monitor_page.h"
#include "base/ledger.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/own.h"
#include "net/http1.h"
#include "net/stream.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum {
    READ_BYTES = 8 * 1024,
    WRITE_BYTES = 64 * 1024,
    WRITES_A_TURN = 4,
    LINGER_BYTES_MAX = 64 * 1024,
    HEAD_BYTES_MAX = 8 * 1024,
    /* A page and the head of its answer. */
    OUTPUT_BYTES_MAX = ESI_MONITOR_BODY_BYTES_MAX + 64 * 1024
};

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t REQUEST_S = 5;
static const uint64_t IDLE_S = 60;
static const uint64_t PAGE_S = 30;
static const uint64_t PROGRESS_S = 10;
static const uint64_t WRITE_S = 60;
static const uint64_t LINGER_S = 1;
static const uint64_t EVICTION_NS_MIN = 250000000;

static uint64_t now_ns(const struct esi_monitor_client *client)
{
    return esi_actor_now_ns(client->actor);
}

enum es_err esi_monitor_client_new(struct esi_actor *actor, int sock, struct esi_tls_context *tls,
                                   uint64_t handshake_ns, struct esi_monitor_client **out)
{
    const struct esi_http1_limits limits = {.head_bytes_max = HEAD_BYTES_MAX,
                                            .output_bytes_max = OUTPUT_BYTES_MAX};
    struct esi_stream *stream = NULL;
    struct esi_monitor_client *client = NULL;

    enum es_err err = esi_stream_new(esi_runtime_env(actor->runtime), sock, &stream);
    if (err != ES_OK) {
        return err;
    }
    client = calloc(1, sizeof *client);
    if (client == NULL) {
        esi_stream_free(stream);
        return ES_NO_MEMORY;
    }
    client->actor = actor;
    client->stream = stream;
    esi_list_init(&client->link);
    esi_bytes_init(&client->out, 2 * (size_t)WRITE_BYTES);
    esi_actor_io_init(actor, &client->io);
    esi_actor_timer_init(actor, &client->timer);
    err = esi_http1_new(&limits, &client->http);
    if (err == ES_OK && tls != NULL) {
        err = esi_stream_start_tls_server(stream, tls);
    }
    if (err == ES_OK) {
        err = esi_actor_io_watch(&client->io, esi_stream_socket(stream), POLL_READ);
    }
    if (err != ES_OK) {
        esi_monitor_client_free(client);
        return err;
    }
    client->phase = tls != NULL ? PHASE_HANDSHAKE : PHASE_REQUEST;
    client->since_ns = now_ns(client);
    esi_actor_timer_set(&client->timer,
                        client->since_ns + (tls != NULL ? handshake_ns : REQUEST_S * NS_PER_S));
    *out = client;
    return ES_OK;
}

void esi_monitor_client_free(struct esi_monitor_client *client)
{
    esi_monitor_client_close(client);
    esi_list_remove(&client->link);
    free(client);
}

void esi_monitor_client_close(struct esi_monitor_client *client)
{
    client->phase = PHASE_GONE;
    esi_actor_timer_cancel(&client->timer);
    esi_actor_io_unwatch(&client->io);
    esi_stream_free(ESI_MOVE(client->stream));
    esi_http1_free(ESI_MOVE(client->http));
    esi_bytes_deinit(&client->out);
}

/* Bytes of answers in memory. */
static size_t count_held(const struct esi_monitor_client *client)
{
    return client->http != NULL ? esi_http1_output_len(client->http) + client->out.len : 0;
}

/* Bytes of memory that the peer's connection holds, answers and TLS included. */
static size_t count_memory(const struct esi_monitor_client *client)
{
    size_t bytes = esi_ledger_heap_bytes(sizeof *client) + client->out.capacity;

    if (client->http != NULL) {
        bytes += esi_http1_memory_bytes(client->http);
    }
    if (client->stream != NULL) {
        bytes += esi_stream_memory_bytes(client->stream);
    }
    return bytes;
}

/*
 * For how long the monitor has waited for the peer. UINT64_MAX: it has its answer; 0: it waits for
 * the monitor, and is there.
 */
static uint64_t idle_ns_of(const struct esi_monitor_client *client)
{
    const uint64_t now = now_ns(client);

    switch (client->phase) {
    case PHASE_HANDSHAKE:
    case PHASE_REQUEST:
    case PHASE_IDLE:
        return now - client->since_ns;
    case PHASE_WRITE:
        return now - client->progress_ns;
    case PHASE_LINGER:
        return UINT64_MAX;
    case PHASE_PAGE:
        return client->has_ended ? now - client->since_ns : 0;
    case PHASE_GONE:
        break;
    }
    return 0;
}

/* What comes after the last answer is dropped, a bounded amount of it. */
static void drop_input(struct esi_monitor_client *client, size_t count)
{
    client->lingered_bytes += count;
    if (client->lingered_bytes > LINGER_BYTES_MAX) {
        esi_monitor_client_close(client);
    }
}

void esi_monitor_client_read(struct esi_monitor_client *client)
{
    char buffer[READ_BYTES];
    size_t count = 0;

    if (client->phase == PHASE_GONE || client->phase == PHASE_HANDSHAKE) {
        return;
    }
    const bool is_lingering = client->phase == PHASE_LINGER;
    const size_t room = is_lingering ? sizeof buffer : esi_http1_room(client->http);
    if (room == 0) {
        return;
    }
    const enum es_err err = esi_stream_read(client->stream, buffer,
                                            room < sizeof buffer ? room : sizeof buffer, &count);
    if (err == ES_AGAIN) {
        return;
    }
    if (err == ES_OK && is_lingering) {
        drop_input(client, count);
    } else if (err == ES_OK) {
        (void)esi_http1_feed(client->http, buffer, count); /* all of it: count <= room */
        esi_crypto_wipe(buffer, count);                    /* it may hold a token */
    } else if (err == ES_CLOSED && !is_lingering) {
        client->has_ended = true;
        esi_http1_feed_end(client->http);
    } else {
        esi_monitor_client_close(client);
    }
}

const struct esi_http1_request *esi_monitor_client_next(struct esi_monitor_client *client)
{
    const struct esi_http1_request *request = NULL;

    /* One after the other, so that a peer that does not take its answers can ask for no more. */
    if ((client->phase != PHASE_REQUEST && client->phase != PHASE_IDLE) ||
        esi_http1_next(client->http, &request) != ES_OK) {
        return NULL;
    }
    return request;
}

void esi_monitor_client_await_page(struct esi_monitor_client *client,
                                   const struct esi_monitor_query *query, uint64_t asked)
{
    client->phase = PHASE_PAGE;
    client->since_ns = now_ns(client);
    client->query = *query;
    client->asked = asked;
    esi_actor_timer_set(&client->timer, client->since_ns + PAGE_S * NS_PER_S);
}

void esi_monitor_client_respond(struct esi_monitor_client *client,
                                const struct esi_http1_response *response)
{
    esi_http1_respond(client->http, response);
    client->phase = PHASE_WRITE;
    client->since_ns = now_ns(client);
    client->progress_ns = client->since_ns;
    client->write_end_ns = client->since_ns + WRITE_S * NS_PER_S;
    esi_actor_timer_set(&client->timer, client->since_ns + PROGRESS_S * NS_PER_S);
}

/* Of what TLS has sealed already. ES_OK: nothing is left. */
static enum es_err flush_sealed(struct esi_monitor_client *client)
{
    return esi_stream_has_buffered_output(client->stream) ? esi_stream_flush(client->stream)
                                                          : ES_OK;
}

/* True when all is written. */
static bool write_some(struct esi_monitor_client *client)
{
    const enum es_err flushed = flush_sealed(client);

    if (flushed != ES_OK) {
        if (flushed != ES_AGAIN) {
            esi_monitor_client_close(client);
        }
        return false;
    }
    for (int i = 0; i < WRITES_A_TURN; i++) {
        size_t count = 0;
        if (client->out.len == 0) {
            (void)esi_http1_take_output(client->http, &client->out, WRITE_BYTES);
            if (client->out.failed) {
                esi_monitor_client_close(client);
                return false;
            }
        }
        if (client->out.len == 0) {
            return !esi_stream_has_buffered_output(client->stream);
        }
        const struct iovec part = {.iov_base = client->out.data, .iov_len = client->out.len};
        const enum es_err err = esi_stream_writev(client->stream, &part, 1, &count);
        if (err == ES_AGAIN) {
            return false;
        }
        if (err != ES_OK) {
            esi_monitor_client_close(client);
            return false;
        }
        esi_bytes_consume(&client->out, count);
        client->progress_ns = now_ns(client);
        const uint64_t deadline_ns = client->progress_ns + PROGRESS_S * NS_PER_S;
        if (client->phase == PHASE_WRITE) {
            esi_actor_timer_set(&client->timer, deadline_ns < client->write_end_ns
                                                    ? deadline_ns
                                                    : client->write_end_ns);
        }
    }
    return count_held(client) == 0 && !esi_stream_has_buffered_output(client->stream);
}

/* Begins a phase, if it is not the present one: its deadline is not put off by what happens in it.
 */
static void enter(struct esi_monitor_client *client, enum esi_monitor_phase phase, uint64_t seconds)
{
    if (client->phase != phase) {
        client->phase = phase;
        client->since_ns = now_ns(client);
        esi_actor_timer_set(&client->timer, client->since_ns + seconds * NS_PER_S);
    }
}

/* Nothing more will be answered: the end of the stream, then what the peer still sends is read and
 * dropped, because closing with unread bytes would make the kernel send a reset that can overtake
 * the answer. */
static void linger(struct esi_monitor_client *client)
{
    if (client->phase != PHASE_LINGER) {
        esi_stream_shutdown_write(client->stream);
        enter(client, PHASE_LINGER, LINGER_S);
    }
}

static void choose_phase(struct esi_monitor_client *client)
{
    if (esi_http1_is_done(client->http)) {
        linger(client);
    } else if (!esi_http1_is_idle(client->http)) {
        enter(client, PHASE_REQUEST, REQUEST_S);
    } else if (client->phase == PHASE_WRITE) {
        enter(client, PHASE_IDLE, IDLE_S);
    }
}

void esi_monitor_client_shake_hands(struct esi_monitor_client *client)
{
    const enum es_err err = esi_stream_handshake(client->stream);

    if (err == ES_AGAIN) {
        esi_actor_io_change(&client->io, esi_stream_wants(client->stream));
    } else if (err != ES_OK) {
        esi_log(LOG_MONITOR_TLS_FAILED, ESI_LOG_TEXT("reason", esi_stream_failure(client->stream)));
        esi_monitor_client_close(client);
    } else {
        enter(client, PHASE_REQUEST, REQUEST_S);
    }
}

bool esi_monitor_client_read_on(struct esi_monitor_client *client)
{
    if (client->phase == PHASE_GONE || client->phase == PHASE_HANDSHAKE ||
        !esi_stream_has_buffered_input(client->stream) ||
        (client->phase != PHASE_LINGER && esi_http1_room(client->http) == 0)) {
        return false;
    }
    esi_monitor_client_read(client);
    return true;
}

void esi_monitor_client_settle(struct esi_monitor_client *client)
{
    if (client->phase == PHASE_GONE || client->phase == PHASE_HANDSHAKE) {
        return;
    }
    const bool is_written = write_some(client);
    if (client->phase == PHASE_GONE) {
        return;
    }
    if (is_written && client->phase != PHASE_PAGE && client->phase != PHASE_LINGER) {
        choose_phase(client);
    }
    const bool may_read = client->phase == PHASE_LINGER || esi_http1_room(client->http) > 0;
    esi_actor_io_change(&client->io, (may_read ? (uint32_t)POLL_READ : 0U) |
                                         (is_written ? 0U : (uint32_t)POLL_WRITE) |
                                         (may_read ? esi_stream_wants(client->stream) : 0U));
}

/* --- all of them --- */

static struct esi_monitor_client *client_of(struct esi_list *link)
{
    return ESI_CONTAINER_OF(link, struct esi_monitor_client, link);
}

uint32_t esi_monitor_client_count(const struct esi_list *clients)
{
    uint32_t count = 0;

    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        count += client_of(link)->phase != PHASE_GONE;
    }
    return count;
}

size_t esi_monitor_client_sum_memory(const struct esi_list *clients)
{
    size_t bytes = 0;

    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        bytes += count_memory(client_of(link));
    }
    return bytes;
}

static bool is_waiting(const struct esi_monitor_client *client, bool is_for_health)
{
    return client->phase == PHASE_PAGE && (client->query.kind == MONITOR_HEALTHZ) == is_for_health;
}

uint32_t esi_monitor_client_count_waiting(const struct esi_list *clients, bool is_for_health)
{
    uint32_t count = 0;

    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        count += is_waiting(client_of(link), is_for_health);
    }
    return count;
}

struct esi_monitor_client *esi_monitor_client_next_for_health(const struct esi_list *clients,
                                                              uint64_t asked_end)
{
    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        struct esi_monitor_client *client = client_of(link);
        if (is_waiting(client, true) && client->asked < asked_end) {
            return client;
        }
    }
    return NULL;
}

/* Peers that have ended their direction may have gone altogether: they come after the others. */
static bool is_before(const struct esi_monitor_client *a, const struct esi_monitor_client *b)
{
    return a->has_ended != b->has_ended ? b->has_ended : a->asked < b->asked;
}

struct esi_monitor_client *esi_monitor_client_next_waiting(const struct esi_list *clients,
                                                           size_t *held_bytes)
{
    struct esi_monitor_client *first = NULL;

    *held_bytes = 0;
    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        struct esi_monitor_client *client = client_of(link);
        *held_bytes += count_held(client);
        if (is_waiting(client, false) && (first == NULL || is_before(client, first))) {
            first = client;
        }
    }
    return first;
}

bool esi_monitor_client_evict(const struct esi_list *clients, bool must_hold)
{
    struct esi_monitor_client *slowest = NULL;
    uint64_t slowest_ns = EVICTION_NS_MIN;

    for (struct esi_list *link = clients->next; link != clients; link = link->next) {
        struct esi_monitor_client *client = client_of(link);
        const uint64_t idle_ns = idle_ns_of(client);
        if (idle_ns >= slowest_ns && (!must_hold || count_held(client) > 0)) {
            slowest = client;
            slowest_ns = idle_ns;
        }
    }
    if (slowest != NULL) {
        esi_monitor_client_close(slowest);
    }
    return slowest != NULL;
}
