/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection of the publish API.
 *
 * State   | bytes in          | calls                  | leaves to
 * SHAKING | the TLS library's | -                      | OPEN, CLOSED
 * OPEN    | fed to gRPC       | answered               | CLOSING, CLOSED
 * CLOSING | fed to gRPC       | those in work answered | LINGER: all is written; CLOSED: time is up
 * LINGER  | read and dropped  | -                      | CLOSED: the peer closed, or time is up
 * CLOSED  | -                 | -                      | finished: the queue has answered all
 *
 * A deadline stands behind each state: the TLS handshake (tls.timeout), the HTTP/2 preface and each
 * request (in net/grpc_server), idleness (PINGs, as for NATS clients), a peer that takes nothing
 * (limits.write_deadline), the end.
 */
#include "actors/grpc_connection.h"
#include "actors/byte_pipe.h"
#include "actors/context.h"
#include "actors/listener.h"
#include "actors/queue.h"
#include "actors/tls_section.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "event/event.h"
#include "event/event_protobuf.h"
#include "net/grpc_server.h"
#include "net/stream.h"
#include "net/tls.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum connection_msg { GRPC_CONNECTION_PUBLISHED };

enum connection_state { STATE_SHAKING, STATE_OPEN, STATE_CLOSING, STATE_LINGER, STATE_CLOSED };

enum {
    CONNECTIONS_MAX = 1024, /* each may hold some MiB of requests */
    STREAMS_MAX = 64,
    REQUEST_FRAMING_BYTES = 4096, /* a PublishRequest around an event */
    LINGER_BYTES_MAX = 1024 * 1024
};

static const uint64_t CLOSE_NS = 1500000000;
static const uint64_t LINGER_NS = 500000000;

#define SERVICE "/chef.automate.domain.event.api.EventService/"

/* What all connections of the door share. */
struct esi_grpc_door {
    struct esi_tls_context *tls; /* owned; NULL: plain */
    _Atomic uint32_t connections;
};

struct esi_grpc_connection {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    struct esi_address peer;
    struct esi_ticket *ticket; /* owned; NULL once the handshake is done */
    enum connection_state state;
    struct esi_io io;
    struct esi_byte_pipe pipe;
    struct esi_grpc_server *server; /* owned */
    uint32_t publishes;             /* with the queue */
    bool is_input_over;             /* the client has closed its side */
    uint64_t ledger_bytes;          /* what it holds, as the ledger knows it */
    uint64_t activity_ns;
    uint64_t lingered_bytes;
    const char *close_reason;
    struct esi_actor_timer state_timer; /* of the handshake and of the end */
    struct esi_actor_timer call_timer;  /* what gRPC waits for */
    struct esi_actor_timer ping_timer;
    struct esi_actor_timer write_timer;
};

static struct esi_grpc_connection *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_grpc_connection, actor);
}

static uint64_t now_ns(const struct esi_grpc_connection *self)
{
    return esi_actor_now_ns(&self->actor);
}

/* --- the end --- */

static void close_now(struct esi_grpc_connection *self, const char *reason)
{
    if (self->state == STATE_CLOSED) {
        return;
    }
    if (self->close_reason == NULL) {
        self->close_reason = reason;
    }
    self->state = STATE_CLOSED;
    esi_log(LOG_GRPC_CLOSED, ESI_LOG_TEXT("remote", self->peer.host),
            ESI_LOG_U64("port", self->peer.port), ESI_LOG_TEXT("reason", self->close_reason));
    esi_listener_release(ESI_MOVE(self->ticket));
    esi_actor_io_unwatch(&self->io);
    esi_byte_pipe_deinit(&self->pipe);
    esi_actor_timer_cancel(&self->state_timer);
    esi_actor_timer_cancel(&self->call_timer);
    esi_actor_timer_cancel(&self->ping_timer);
    esi_actor_timer_cancel(&self->write_timer);
}

/* In order: no new calls, those in work are answered, then the stream ends. */
static void close_later(struct esi_grpc_connection *self, const char *reason)
{
    if (self->state != STATE_OPEN) {
        return;
    }
    self->close_reason = reason;
    self->state = STATE_CLOSING;
    esi_grpc_server_shutdown(self->server);
    esi_actor_timer_set(&self->state_timer, now_ns(self) + CLOSE_NS);
}

/* All is written: says so, and waits for the peer's end, so that its unread bytes cause no reset.
 */
static void end_stream(struct esi_grpc_connection *self)
{
    if (self->is_input_over) {
        close_now(self, "closed");
        return;
    }
    self->state = STATE_LINGER;
    esi_stream_shutdown_write(self->pipe.stream);
    esi_actor_timer_set(&self->state_timer, now_ns(self) + LINGER_NS);
}

static struct esi_lease *lease_of(const struct esi_grpc_connection *self)
{
    const struct esi_local *local = esi_worker_local(esi_actor_home(&self->actor));

    return local->lease;
}

/* Tells the ledger what the connection holds: once a turn, since its parts are bounded. */
static void count_memory(struct esi_grpc_connection *self)
{
    uint64_t bytes = esi_ledger_heap_bytes(sizeof *self) +
                     esi_grpc_server_memory_bytes(self->server) + self->pipe.output.capacity;

    if (self->pipe.stream != NULL) {
        bytes += esi_stream_memory_bytes(self->pipe.stream);
    }
    esi_ledger_settle(lease_of(self), MEMORY_GRPC, &self->ledger_bytes, bytes);
}

static void finish_if_done(struct esi_grpc_connection *self)
{
    if (self->state != STATE_CLOSED || self->publishes > 0 || self->actor.is_finished) {
        return;
    }
    esi_ledger_give(lease_of(self), MEMORY_GRPC, self->ledger_bytes);
    /* order: relaxed; a counter with a bound. */
    atomic_fetch_sub_explicit(&self->context->grpc_door->connections, 1, memory_order_relaxed);
    esi_actor_finish(&self->actor);
}

/* --- calls --- */

/* A call that is gone meanwhile needs no answer. */
static void respond(struct esi_grpc_connection *self, uint32_t call_id, enum esi_grpc_status status,
                    const char *text, struct esi_str message)
{
    const enum es_err err =
        esi_grpc_server_respond(self->server, call_id, status, text, message.data, message.len);

    if (err == ES_NO_MEMORY) {
        close_now(self, es_err_text(err));
    }
}

static void respond_success(struct esi_grpc_connection *self, uint32_t call_id, bool success)
{
    struct esi_bytes bytes;

    esi_bytes_init(&bytes, 0);
    esi_event_protobuf_append_response(&bytes, success);
    if (bytes.failed) {
        respond(self, call_id, GRPC_RESOURCE_EXHAUSTED, "out of memory", ESI_STR(""));
    } else {
        respond(self, call_id, GRPC_OK, NULL, esi_bytes_str(&bytes));
    }
    esi_bytes_deinit(&bytes);
}

static void log_refused(const struct esi_grpc_connection *self, const char *error,
                        const char *detail)
{
    esi_log(LOG_EVENT_REFUSED, ESI_LOG_TEXT("error", error),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_TEXT("detail", detail));
}

static void on_publish(struct esi_grpc_connection *self, const struct esi_grpc_event *call)
{
    uint8_t random[ESI_EVENT_RANDOM_BYTES];
    const struct esi_event_decode_options options = {
        .size_max = self->context->config->limits.max_payload_bytes, .random = random};
    struct esi_event *event = NULL;
    struct es_error reason = {.text = "the request is no PublishRequest"};
    struct esi_str body;

    enum es_err err = esi_event_protobuf_read_publish_request(call->message, &body);
    if (err == ES_NOT_FOUND) {
        respond_success(self, call->call_id, false);
        return;
    }
    if (err == ES_OK) {
        esi_env_random(self->context->env, random, sizeof random);
        err = esi_event_decode(body, &options, &event, &reason);
    }
    if (err == ES_NO_MEMORY) {
        respond(self, call->call_id, GRPC_RESOURCE_EXHAUSTED, reason.text, ESI_STR(""));
        return;
    }
    if (err != ES_OK) {
        esi_queue_count_refused(self->context->queue, err == ES_TOO_LARGE);
        log_refused(self, err == ES_TOO_LARGE ? "too_large" : "malformed", reason.text);
        respond(self, call->call_id, GRPC_INVALID_ARGUMENT, reason.text, ESI_STR(""));
        return;
    }
    struct esi_queue_publish *publish =
        esi_queue_publish_new(&self->actor, GRPC_CONNECTION_PUBLISHED, call->call_id, event);
    if (publish == NULL) {
        respond(self, call->call_id, GRPC_RESOURCE_EXHAUSTED, "out of memory", ESI_STR(""));
        return;
    }
    self->publishes++;
    esi_queue_publish(self->context->queue, publish);
}

static void on_published(struct esi_grpc_connection *self, const struct esi_queue_publish *publish)
{
    ESI_ASSERT(self->publishes > 0);
    self->publishes--;
    if (self->state != STATE_OPEN && self->state != STATE_CLOSING) {
        return;
    }
    switch (publish->verdict) {
    case QUEUE_ACCEPTED:
        respond_success(self, publish->tag, true);
        break;
    case QUEUE_FULL:
    case QUEUE_NO_MEMORY:
        respond(self, publish->tag, GRPC_RESOURCE_EXHAUSTED, publish->detail, ESI_STR(""));
        break;
    case QUEUE_STOPPING:
        respond(self, publish->tag, GRPC_UNAVAILABLE, "the server stops", ESI_STR(""));
        break;
    }
}

static void on_start_or_stop(struct esi_grpc_connection *self, const struct esi_grpc_event *call,
                             bool is_start)
{
    const enum es_err err = esi_queue_set_dispatching(self->context->queue, is_start);

    respond(self, call->call_id, err == ES_OK ? GRPC_OK : GRPC_RESOURCE_EXHAUSTED,
            err == ES_OK ? NULL : es_err_text(err), ESI_STR(""));
}

static void on_call(struct esi_grpc_connection *self, const struct esi_grpc_event *call)
{
    if (esi_str_equal(call->path, ESI_STR(SERVICE "Publish"))) {
        on_publish(self, call);
    } else if (esi_str_equal(call->path, ESI_STR(SERVICE "Start"))) {
        on_start_or_stop(self, call, true);
    } else if (esi_str_equal(call->path, ESI_STR(SERVICE "Stop"))) {
        on_start_or_stop(self, call, false);
    } else if (esi_str_equal(call->path, ESI_STR(SERVICE "Subscribe"))) {
        respond(self, call->call_id, GRPC_OK, NULL, ESI_STR(""));
    } else {
        respond(self, call->call_id, GRPC_UNIMPLEMENTED, "unknown service or method", ESI_STR(""));
    }
}

static void take_calls(struct esi_grpc_connection *self)
{
    struct esi_grpc_event event;

    while (self->state != STATE_CLOSED && esi_grpc_server_next(self->server, &event)) {
        if (event.kind == GRPC_EVENT_REQUEST) {
            on_call(self, &event);
        }
        /* A cancelled call needs nothing: its answer, when it comes, finds no call. */
    }
}

/* --- bytes --- */

static enum es_err feed(void *machine, const void *data, size_t len, uint64_t time_ns)
{
    return esi_grpc_server_feed(machine, data, len, time_ns);
}

static size_t take_output(void *machine, struct esi_bytes *out, size_t max)
{
    return esi_grpc_server_take_output(machine, out, max);
}

static enum es_err drop(void *machine, const void *data, size_t len, uint64_t time_ns)
{
    struct esi_grpc_connection *self = machine;

    (void)data;
    (void)time_ns;
    self->lingered_bytes += len;
    return self->lingered_bytes > LINGER_BYTES_MAX ? ES_CLOSED : ES_OK;
}

static void read_more(struct esi_grpc_connection *self)
{
    bool got = false;
    enum es_err err;

    if (!self->pipe.has_more_input || self->is_input_over) {
        return;
    }
    if (self->state == STATE_LINGER) {
        err = esi_byte_pipe_read(&self->pipe, drop, self, now_ns(self), &got);
        if (err != ES_OK) {
            close_now(self, "closed");
        }
        return;
    }
    if (!esi_grpc_server_wants_read(self->server)) {
        return; /* its answers are not taken: the write timer decides */
    }
    err = esi_byte_pipe_read(&self->pipe, feed, self->server, now_ns(self), &got);
    if (got) {
        self->activity_ns = now_ns(self);
    }
    if (err == ES_OK) {
        return;
    }
    self->is_input_over = err == ES_CLOSED;
    if (esi_grpc_server_wants_write(self->server) && !esi_grpc_server_is_done(self->server)) {
        /* The peer broke the rules, or went half away: what is to be said is still written. */
        close_later(self, err == ES_CLOSED ? "the client closed the connection"
                                           : "the client broke the protocol");
        self->pipe.has_more_input = false;
        if (err != ES_CLOSED) {
            esi_log(LOG_GRPC_FAULT, ESI_LOG_TEXT("remote", self->peer.host),
                    ESI_LOG_U64("port", self->peer.port), ESI_LOG_ERR(err));
        }
        return;
    }
    close_now(self, err == ES_CLOSED ? "the client closed the connection" : es_err_text(err));
}

static void write_more(struct esi_grpc_connection *self)
{
    bool progress = false;

    if (self->pipe.is_write_blocked) {
        return;
    }
    const enum es_err err =
        self->state == STATE_LINGER
            ? esi_stream_flush(self->pipe.stream)
            : esi_byte_pipe_write(&self->pipe, take_output, self->server, &progress);
    if (err == ES_OK) {
        esi_actor_timer_cancel(&self->write_timer);
        if (self->state != STATE_LINGER && esi_grpc_server_is_done(self->server)) {
            end_stream(self);
        }
        return;
    }
    if (err != ES_AGAIN) {
        close_now(self, "the client closed the connection");
        return;
    }
    if (self->state == STATE_LINGER) {
        self->pipe.is_write_blocked = true;
    }
    if (progress || !self->write_timer.timer.is_set) {
        esi_actor_timer_set(&self->write_timer,
                            now_ns(self) + self->context->config->limits.write_deadline_ns);
    }
}

static void open_for_business(struct esi_grpc_connection *self)
{
    self->state = STATE_OPEN;
    self->activity_ns = now_ns(self);
    self->pipe.has_more_input = true; /* bytes behind the handshake are not seen by the poller */
    esi_listener_release(ESI_MOVE(self->ticket));
    esi_actor_timer_cancel(&self->state_timer);
    esi_actor_timer_set(&self->ping_timer,
                        now_ns(self) + self->context->config->limits.ping_interval_ns);
    esi_log(LOG_GRPC_CONNECTED, ESI_LOG_TEXT("remote", self->peer.host),
            ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("tls", esi_stream_tls_version(self->pipe.stream)));
}

static void fail_handshake(struct esi_grpc_connection *self, const char *reason)
{
    esi_log(LOG_GRPC_TLS_FAILED, ESI_LOG_TEXT("remote", self->peer.host),
            ESI_LOG_U64("port", self->peer.port), ESI_LOG_TEXT("reason", reason));
    close_now(self, "TLS handshake failure");
}

static void shake_hands(struct esi_grpc_connection *self)
{
    const enum es_err err = esi_stream_handshake(self->pipe.stream);

    if (err == ES_OK) {
        open_for_business(self);
    } else if (err != ES_AGAIN) {
        fail_handshake(self, esi_stream_failure(self->pipe.stream));
    }
}

/* --- timers --- */

static void on_ping_timer(struct esi_grpc_connection *self)
{
    const uint64_t interval_ns = self->context->config->limits.ping_interval_ns;

    if (self->state != STATE_OPEN) {
        return;
    }
    if (esi_grpc_server_ping_age_ns(self->server, now_ns(self)) >= interval_ns) {
        close_now(self, "the client does not answer");
        return;
    }
    if (now_ns(self) - self->activity_ns >= interval_ns) {
        esi_grpc_server_ping(self->server, now_ns(self));
    }
    esi_actor_timer_set(&self->ping_timer, now_ns(self) + interval_ns);
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_grpc_connection *self = self_of(actor);

    if (self->state == STATE_CLOSED) {
        return;
    }
    if (fired == &self->state_timer.timer) {
        if (self->state == STATE_SHAKING) {
            fail_handshake(self, "the handshake took too long");
        } else {
            self->close_reason = "the client did not end in time";
            close_now(self, self->close_reason);
        }
    } else if (fired == &self->call_timer.timer) {
        esi_grpc_server_tick(self->server, now_ns(self));
    } else if (fired == &self->ping_timer.timer) {
        on_ping_timer(self);
    } else if (fired == &self->write_timer.timer) {
        close_now(self, "the client takes no answers");
    }
}

/* --- the actor --- */

static void start(struct esi_actor *actor)
{
    struct esi_grpc_connection *self = self_of(actor);
    struct esi_tls_context *tls = self->context->grpc_door->tls;

    self->activity_ns = now_ns(self);
    if (esi_actor_io_watch(&self->io, esi_stream_socket(self->pipe.stream), POLL_READ) != ES_OK) {
        close_now(self, es_err_text(ES_IO));
        return;
    }
    if (tls == NULL) {
        open_for_business(self);
        return;
    }
    self->state = STATE_SHAKING;
    esi_actor_timer_set(&self->state_timer, now_ns(self) + self->context->config->tls.timeout_ns);
    if (esi_stream_start_tls_server(self->pipe.stream, tls) != ES_OK) {
        fail_handshake(self, es_err_text(ES_NO_MEMORY));
        return;
    }
    shake_hands(self);
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_grpc_connection *self = self_of(actor);

    (void)io;
    if ((events & (POLL_WRITE | POLL_HANGUP)) != 0) {
        self->pipe.is_write_blocked = false;
    }
    if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
        self->pipe.has_more_input = true;
    }
    if (self->state == STATE_SHAKING &&
        esi_context_may_shake(esi_worker_local(esi_worker_current()))) {
        shake_hands(self);
    }
}

static void set_call_timer(struct esi_grpc_connection *self)
{
    const uint64_t deadline_ns = esi_grpc_server_deadline(self->server);

    if (deadline_ns == UINT64_MAX) {
        esi_actor_timer_cancel(&self->call_timer);
    } else {
        esi_actor_timer_set(&self->call_timer, deadline_ns);
    }
}

static void watch(struct esi_grpc_connection *self)
{
    if (self->state == STATE_SHAKING) {
        esi_actor_io_change(&self->io, esi_stream_wants(self->pipe.stream));
        return;
    }
    /* An end of the input that is watched would be reported again and again. */
    const bool wants_read = !self->is_input_over && (self->state == STATE_LINGER ||
                                                     esi_grpc_server_wants_read(self->server));
    esi_actor_io_change(&self->io, esi_byte_pipe_events(&self->pipe, wants_read));
    if ((self->pipe.has_more_input && wants_read) || self->pipe.has_more_output) {
        esi_actor_continue(&self->actor);
    }
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_grpc_connection *self = self_of(actor);

    if (self->state != STATE_SHAKING && self->state != STATE_CLOSED) {
        read_more(self);
    }
    if (self->state == STATE_OPEN || self->state == STATE_CLOSING) {
        take_calls(self);
    }
    if (self->state != STATE_SHAKING && self->state != STATE_CLOSED) {
        write_more(self);
    }
    if (self->state == STATE_OPEN || self->state == STATE_CLOSING) {
        set_call_timer(self);
    }
    count_memory(self);
    if (self->state != STATE_CLOSED) {
        watch(self);
    }
    finish_if_done(self);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_grpc_connection *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum connection_msg)msg->kind) {
    case GRPC_CONNECTION_PUBLISHED:
        on_published(self, (const struct esi_queue_publish *)(const void *)msg);
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    struct esi_grpc_connection *self = self_of(actor);

    if (self->state == STATE_SHAKING) {
        close_now(self, "the server stops");
    } else {
        /* So that calls that are held get their answers before the end. */
        esi_queue_end_holding(self->context->queue);
        close_later(self, "the server stops");
    }
}

static void cut(struct esi_actor *actor)
{
    close_now(self_of(actor), "the server cannot go on with it");
    esi_actor_continue(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_grpc_connection *self =
        ESI_CONTAINER_OF(actor, const struct esi_grpc_connection, actor);

    esi_bytes_printf(description->text, "%s:%u, %u calls", self->peer.host, self->peer.port,
                     esi_grpc_server_in_flight(self->server));
}

static void free_connection(struct esi_actor *actor)
{
    struct esi_grpc_connection *self = self_of(actor);

    esi_listener_release(self->ticket);
    esi_byte_pipe_deinit(&self->pipe);
    esi_grpc_server_free(self->server);
    free(self);
}

static const struct esi_actor_type connection_type = {
    .name = "grpc_connection",
    .stop_phase = STOP_PEERS,
    .may_move = true,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .cut = cut,
    .describe = describe,
    .free = free_connection,
};

/* Takes the socket, also on failure; the ticket only when it succeeds. */
static enum es_err make_connection(struct esi_context *context, struct esi_worker *home, int sock,
                                   const struct esi_address *peer, struct esi_ticket *ticket)
{
    const size_t request_max =
        (size_t)context->config->limits.max_payload_bytes + REQUEST_FRAMING_BYTES;
    const struct esi_grpc_server_options options = {
        .streams_max = STREAMS_MAX,
        .request_bytes_max = request_max,
        .inbound_bytes_max = request_max,
    };
    struct esi_stream *stream = NULL;
    struct esi_grpc_server *server = NULL;

    enum es_err err = esi_stream_new(context->env, sock, &stream);
    if (err != ES_OK) {
        return err;
    }
    struct esi_grpc_connection *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    err = self == NULL ? ES_NO_MEMORY
                       : esi_grpc_server_new(&options, esi_env_now_ns(context->env), &server);
    if (err != ES_OK) {
        esi_stream_free(stream);
        free(self);
        return err;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    self->peer = *peer;
    self->ticket = ticket;
    self->server = server;
    esi_byte_pipe_init(&self->pipe, stream);
    esi_actor_init(&self->actor, &connection_type, context->runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->state_timer);
    esi_actor_timer_init(&self->actor, &self->call_timer);
    esi_actor_timer_init(&self->actor, &self->ping_timer);
    esi_actor_timer_init(&self->actor, &self->write_timer);
    esi_actor_start(&self->actor);
    return ES_OK;
}

/* --- the door --- */

static enum es_err on_accepted(struct esi_context *context, struct esi_worker *home, int sock,
                               const struct esi_address *peer, struct esi_ticket *ticket)
{
    _Atomic uint32_t *connections = &context->grpc_door->connections;

    /* order: relaxed; a counter with a bound. */
    if (atomic_fetch_add_explicit(connections, 1, memory_order_relaxed) >= CONNECTIONS_MAX ||
        esi_ledger_is_short(context->ledger, MEMORY_INPUT)) {
        esi_env_close(context->env, sock);
        esi_listener_release(ticket);
        /* order: relaxed; as above. */
        atomic_fetch_sub_explicit(connections, 1, memory_order_relaxed);
        return ES_FULL;
    }
    const enum es_err err = make_connection(context, home, sock, peer, ticket);
    if (err != ES_OK) {
        esi_listener_release(ticket);
        /* order: relaxed; as above. */
        atomic_fetch_sub_explicit(connections, 1, memory_order_relaxed);
    }
    return err;
}

static enum es_err make_tls(struct esi_context *context, struct esi_tls_context **tls,
                            struct es_error *error)
{
    const struct esi_config_tls *config = &context->config->tls;

    if (!config->is_set) {
        return ES_OK;
    }
    struct esi_tls_certificate certificate;
    struct esi_tls_options options =
        esi_tls_section_options(config, TLS_SERVER, &config->allowed_names, &certificate);
    options.alpn = "h2";
    return esi_tls_context_new(context->env, &options, tls, error);
}

enum es_err esi_grpc_connection_listen(struct esi_context *context, struct esi_address *bound,
                                       struct es_error *error)
{
    const struct esi_config_grpc *config = &context->config->grpc;
    struct esi_grpc_door *door = calloc(1, sizeof *door);

    ESI_REQUIRE(context->queue != NULL && context->grpc_door == NULL);
    if (door == NULL) {
        return ES_NO_MEMORY;
    }
    context->grpc_door = door; /* freed with the context, also after a failure */
    enum es_err err = make_tls(context, &door->tls, error);
    if (err == ES_OK) {
        err = esi_listener_start(context, config->host, config->port, on_accepted, bound);
    }
    if (err == ES_OK) {
        esi_log(LOG_GRPC_LISTENING, ESI_LOG_TEXT("host", bound->host),
                ESI_LOG_U64("port", bound->port));
    }
    return err;
}

void esi_grpc_connection_free_door(struct esi_grpc_door *door)
{
    if (door != NULL) {
        esi_tls_context_unref(door->tls);
        free(door);
    }
}
