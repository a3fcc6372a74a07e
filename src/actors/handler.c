/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A handler: its jobs, and the calls to its worker. How the connection comes and goes:
 * handler_connect.c.
 *
 * State     | is waiting for                | jobs       | leaves to
 * DOWN      | the time to connect again     | given back | RESOLVING
 * RESOLVING | the name, by a service thread | given back | DIALLING, DOWN
 * DIALLING  | TCP                           | given back | SHAKING, UP, DIALLING (next), DOWN
 * SHAKING   | TLS                           | given back | UP, DOWN
 * UP        | answers                       | called     | DOWN: the connection is lost or drained
 * DONE      | -                             | given back | finished
 *
 * In each state but UP the window is told as 0, so that the queue sends nothing; what was under way
 * comes back. When a connection is lost, calls in flight are retried, what was not begun is given
 * back. An event that may have killed its worker is called alone: journal/retry.h.
 *
 * UNIMPLEMENTED is answered by one more call under the handler's other name (the older one, or the
 * newer one where the older was remembered); the name that works is remembered.
 */
#include "actors/handler.h"
#include "actors/context.h"
#include "actors/handler_internal.h"
#include "actors/handler_verdict.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "event/event.h"
#include "event/registry.h"
#include "journal/retry.h"
#include "net/grpc_client.h"
#include "net/stream.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t STOP_NS = 1500000000; /* calls in flight get so long when the server stops */
static const uint64_t MEMORY_DELAY_NS = 1000000000;

static struct esi_handler *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_handler, actor);
}

static uint64_t now_ns(const struct esi_handler *self)
{
    return esi_actor_now_ns(&self->actor);
}

uint64_t esi_handler_random_bits(const struct esi_handler *self)
{
    uint64_t bits = 0;

    esi_env_random(self->options.context->env, &bits, sizeof bits);
    return bits;
}

/* --- jobs --- */

static void free_job(struct esi_msg *msg)
{
    struct esi_handler_job *job = (struct esi_handler_job *)(void *)msg;

    esi_event_unref(job->event);
    free(job);
}

/* Answers a job. Also the free of a job on its way here: one that is not looked at comes back. */
static void answer_job(struct esi_msg *msg)
{
    struct esi_handler_job *job = (struct esi_handler_job *)(void *)msg;

    if (esi_list_is_empty(&job->link)) {
        const struct esi_handler_options *options = &job->handler->options;
        job->msg.kind = options->answer_kind;
        job->msg.free = free_job;
        esi_actor_send(options->asker, &job->msg);
    }
}

struct esi_handler_job *esi_handler_job_new(struct esi_handler *handler, struct esi_event *event)
{
    struct esi_handler_job *job = malloc(sizeof *job);

    if (job == NULL) {
        return NULL;
    }
    *job = (struct esi_handler_job){
        .handler = handler,
        .event = esi_event_ref(event),
        .handler_index = handler->options.index,
        .outcome = HANDLER_GIVEN_BACK,
    };
    esi_list_init(&job->link);
    return job;
}

void esi_handler_send(struct esi_handler *handler, struct esi_handler_job *job)
{
    job->msg.kind = HANDLER_JOB;
    job->msg.free = answer_job;
    esi_actor_send(&handler->actor, &job->msg);
}

static uint32_t wanted(const struct esi_handler *self)
{
    const bool is_open = self->state == LINK_UP && !self->is_stopping && !self->is_losing &&
                         !esi_grpc_client_is_draining(self->client);

    return is_open ? self->window : 0;
}

/* The job is out of every list and has its outcome. */
static void finish_job(struct esi_handler *self, struct esi_handler_job *job)
{
    job->window = wanted(self);
    answer_job(&job->msg);
}

static void give_back(struct esi_handler *self, struct esi_handler_job *job)
{
    job->outcome = HANDLER_GIVEN_BACK;
    finish_job(self, job);
}

static void give_back_waiting(struct esi_handler *self)
{
    while (!esi_list_is_empty(&self->waiting)) {
        struct esi_handler_job *job =
            ESI_CONTAINER_OF(self->waiting.next, struct esi_handler_job, link);
        esi_list_remove(&job->link);
        give_back(self, job);
    }
}

/* --- telling the asker --- */

static void free_status(struct esi_msg *msg)
{
    free(msg);
}

static enum esi_handler_state shown_state(const struct esi_handler *self)
{
    switch (self->state) {
    case LINK_DOWN:
        break;
    case LINK_RESOLVING:
    case LINK_DIALLING:
    case LINK_SHAKING:
        return HANDLER_CONNECTING;
    case LINK_UP:
        return HANDLER_UP;
    case LINK_DONE:
        return HANDLER_STOPPED;
    }
    return HANDLER_DOWN;
}

void esi_handler_tell_status(struct esi_handler *self, const char *note)
{
    struct esi_handler_status *status = calloc(1, sizeof *status);

    if (status == NULL) {
        /* A queue that is never told of a connected worker would send it nothing for ever. */
        esi_actor_timer_set(&self->status_timer, now_ns(self) + MEMORY_DELAY_NS);
        return;
    }
    status->msg = (struct esi_msg){.kind = self->options.status_kind, .free = free_status};
    status->handler_index = self->options.index;
    status->state = shown_state(self);
    status->window = wanted(self);
    const size_t len = strlen(note);
    status->note_len = (uint32_t)(len < sizeof status->note ? len : sizeof status->note);
    memcpy(status->note, note, status->note_len);
    esi_actor_send(self->options.asker, &status->msg);
}

const char *esi_handler_state_text(enum esi_handler_state state)
{
    switch (state) {
    case HANDLER_DOWN:
        break;
    case HANDLER_CONNECTING:
        return "connecting";
    case HANDLER_UP:
        return "connected";
    case HANDLER_STOPPED:
        return "stopped";
    }
    return "down";
}

/* --- outcomes --- */

static void note_overload(struct esi_handler *self)
{
    self->successes = 0;
    if (!self->is_halved) {
        self->is_halved = true;
        self->window = self->window > 1 ? self->window / 2 : 1;
    }
}

static void note_success(struct esi_handler *self)
{
    if (self->window < self->options.config->in_flight_max && ++self->successes >= self->window) {
        self->successes = 0;
        self->window++;
    }
}

static void log_refusal(struct esi_handler *self, const struct esi_handler_job *job)
{
    if (!self->is_refusal_logged) {
        self->is_refusal_logged = true;
        esi_log(LOG_WORKER_REFUSES, ESI_LOG_TEXT("handler", self->options.registry->name),
                ESI_LOG_TEXT("address", self->authority),
                ESI_LOG_STR("answer", ((struct esi_str){.data = job->note, .len = job->note_len})));
    }
}

/* What follows from the class of an outcome; the note is set. */
static void conclude(struct esi_handler *self, struct esi_handler_job *job,
                     enum esi_retry_class failure)
{
    const struct esi_config_retry *retry = &self->options.config->retry;
    const struct esi_retry_policy policy = {.delay_ns = retry->delay_ns,
                                            .delay_max_ns = retry->delay_max_ns,
                                            .attempts_max = retry->attempts_max};

    esi_handler_verdict_decide(job, &policy, failure, esi_handler_random_bits(self));
    if (failure == RETRY_DELIVERED) {
        note_success(self);
    } else if (failure == RETRY_OVERLOADED) {
        note_overload(self);
    } else if (failure == RETRY_UNAUTHORIZED || failure == RETRY_UNIMPLEMENTED) {
        log_refusal(self, job);
    }
    finish_job(self, job);
}

/* A worker of another age: the other name is tried once. Returns false when there is none. */
static bool try_other_path(struct esi_handler *self, struct esi_handler_job *job)
{
    if (job->has_tried_other_path || self->options.registry->path_older == NULL ||
        self->is_losing || self->is_stopping) {
        return false;
    }
    job->has_tried_other_path = true;
    job->is_older_path = !job->is_older_path;
    /* Before those that were not called yet. */
    esi_list_append(self->waiting.next, &job->link);
    return true;
}

static void on_result(struct esi_handler *self, const struct esi_grpc_result *result)
{
    struct esi_handler_job *job = result->tag;

    self->calling--;
    self->is_calling_alone = false; /* if it did, this was the one */
    if (result->is_from_peer) {
        self->failures = 0;
    }
    if (result->is_unstarted && wanted(self) == 0) {
        give_back(self, job);
        return;
    }
    if (result->status == GRPC_UNIMPLEMENTED && try_other_path(self, job)) {
        return;
    }
    if (result->status == GRPC_OK) {
        self->uses_older_path = job->is_older_path;
    }
    conclude(self, job, esi_handler_verdict_classify(job, result, self->is_losing));
}

static void take_results(struct esi_handler *self)
{
    struct esi_grpc_result result;

    while (esi_grpc_client_next(self->client, &result)) {
        on_result(self, &result);
    }
}

/* --- calling --- */

void esi_handler_end_calls(struct esi_handler *self)
{
    self->is_losing = true;
    esi_grpc_client_lost(self->client);
    take_results(self);
    give_back_waiting(self);
    self->is_losing = false;
    ESI_ASSERT(self->calling == 0);
    esi_grpc_client_free(ESI_MOVE(self->client));
}

static enum es_err feed(void *machine, const void *data, size_t len, uint64_t time_ns)
{
    return esi_grpc_client_feed(machine, data, len, time_ns);
}

static size_t take_output(void *machine, struct esi_bytes *out, size_t max)
{
    return esi_grpc_client_take_output(machine, out, max);
}

static enum es_err call(struct esi_handler *self, struct esi_handler_job *job)
{
    const struct esi_registry_handler *registry = self->options.registry;
    uint32_t call_id = 0;

    if (!job->has_tried_other_path) {
        job->is_older_path = self->uses_older_path;
    }
    const struct esi_grpc_call spec = {
        .path = esi_str_from(job->is_older_path ? registry->path_older : registry->path),
        .authority = esi_str_from(self->authority),
        .message = job->event->encoded,
        .timeout_ns = self->options.config->timeout_ns,
        .tag = job,
    };

    return esi_grpc_client_call(self->client, &spec, now_ns(self), &call_id);
}

static void count_memory(struct esi_handler *self)
{
    const struct esi_local *local = esi_worker_local(esi_actor_home(&self->actor));
    uint64_t bytes = self->pipe.output.capacity;

    if (self->pipe.stream != NULL) {
        bytes += esi_stream_memory_bytes(self->pipe.stream);
    }
    if (self->client != NULL) {
        bytes += esi_grpc_client_memory_bytes(self->client);
    }
    esi_ledger_settle(local->lease, MEMORY_HANDLERS, &self->ledger_bytes, bytes);
}

static bool must_be_alone(const struct esi_handler_job *job)
{
    return job->losses >= RETRY_LOSSES_MAX;
}

/* One call at a time: where the job, or the one that is called, must be alone; and where memory for
 * messages is short, so that the worker goes on getting events. */
static bool must_wait(const struct esi_handler *self, const struct esi_handler_job *job)
{
    return self->calling > 0 &&
           (self->is_calling_alone || must_be_alone(job) ||
            esi_ledger_is_short(self->options.context->ledger, MEMORY_TRANSIT));
}

static void start_calls(struct esi_handler *self)
{
    while (!esi_list_is_empty(&self->waiting)) {
        struct esi_handler_job *job =
            ESI_CONTAINER_OF(self->waiting.next, struct esi_handler_job, link);
        if (must_wait(self, job)) {
            return; /* goes on when an answer has come */
        }
        const enum es_err err = call(self, job);
        if (err == ES_FULL) {
            return; /* likewise */
        }
        esi_list_remove(&job->link);
        if (err == ES_OK) {
            self->heard_ns = self->calling == 0 ? now_ns(self) : self->heard_ns;
            self->calling++;
            job->is_alone = must_be_alone(job);
            self->is_calling_alone = job->is_alone;
            count_memory(self); /* the request is large where its event is */
        } else if (err == ES_CLOSED) {
            give_back(self, job);
        } else {
            esi_handler_verdict_note(job, "the call could not be made: %s", es_err_text(err));
            job->outcome = HANDLER_RETRY;
            job->blame = RETRY_BLAME_WORKER;
            job->delay_ns = MEMORY_DELAY_NS;
            finish_job(self, job);
        }
    }
}

static void on_job(struct esi_handler *self, struct esi_handler_job *job)
{
    if (wanted(self) > 0) {
        /* In the list it is kept: see answer_job. */
        esi_list_append(&self->waiting, &job->link);
    } else {
        job->window = 0;
    }
}

/* A call's time is up, and what has come is read. Returns false when the connection is lost. */
static bool end_due_calls(struct esi_handler *self)
{
    self->has_due_calls = false;
    esi_grpc_client_tick(self->client, now_ns(self));
    take_results(self);
    if (now_ns(self) - self->heard_ns >= 2 * self->options.config->timeout_ns) {
        /* Not a byte in all that time: the peer is gone without a word, or hangs. (A PING would
         * tell sooner, but gRPC servers end connections that ping more often than each five
         * minutes.) */
        esi_handler_connect_lose(self, "the worker does not answer");
        return false;
    }
    return true;
}

/* Reads, writes and calls as far as possible. */
static void pump(struct esi_handler *self)
{
    bool got = false;
    bool progress = false;
    enum es_err err = ES_OK;

    if (self->pipe.has_more_input) {
        err = esi_byte_pipe_read(&self->pipe, feed, self->client, now_ns(self), &got);
    }
    if (got) {
        self->heard_ns = now_ns(self);
    }
    if (err != ES_OK) {
        /* What came before the end are answers; the rest of the calls has ended with the
         * connection. */
        self->is_losing = err != ES_CLOSED;
        take_results(self);
        esi_handler_connect_lose(self, err == ES_CLOSED ? "the worker closed the connection"
                                                        : es_err_text(err));
        return;
    }
    take_results(self);
    if (self->has_due_calls && !self->pipe.has_more_input && !end_due_calls(self)) {
        return;
    }
    start_calls(self);
    err = esi_byte_pipe_write(&self->pipe, take_output, self->client, &progress);
    if (err != ES_OK && err != ES_AGAIN) {
        esi_handler_connect_lose(self, "the worker closed the connection");
        return;
    }
    take_results(self);
}

static void end_drained(struct esi_handler *self)
{
    give_back_waiting(self);
    if (self->calling > 0) {
        return;
    }
    /* In order, as when a worker limits the age of its connections: nothing to be warned of. */
    esi_handler_connect_end(self, "");
}

static void set_call_timer(struct esi_handler *self)
{
    const uint64_t deadline_ns = esi_grpc_client_deadline(self->client);

    if (deadline_ns == UINT64_MAX) {
        esi_actor_timer_cancel(&self->call_timer);
    } else {
        esi_actor_timer_set(&self->call_timer, deadline_ns);
    }
}

/* Timers come before sockets, and where this process was held up both are late: the answers that
 * wait in the socket are read first, in this turn. */
static void on_call_timer(struct esi_handler *self)
{
    self->has_due_calls = true;
    self->pipe.has_more_input = true;
}

/* --- the actor --- */

static void finish_if_stopped(struct esi_handler *self)
{
    if (!self->is_stopping || self->state == LINK_DONE || self->calling > 0) {
        return;
    }
    ESI_ASSERT(esi_list_is_empty(&self->waiting));
    esi_handler_connect_drop(self);
    esi_grpc_client_free(ESI_MOVE(self->client));
    esi_actor_timer_cancel(&self->stop_timer);
    self->state = LINK_DONE;
    esi_handler_tell_status(self, "");
    esi_actor_timer_cancel(&self->status_timer);
    esi_actor_finish(&self->actor);
}

static void start(struct esi_actor *actor)
{
    esi_handler_connect_begin(self_of(actor));
}

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_handler *self = self_of(actor);

    (void)io;
    if ((events & (POLL_WRITE | POLL_HANGUP)) != 0) {
        self->pipe.is_write_blocked = false;
    }
    if ((events & (POLL_READ | POLL_HANGUP)) != 0) {
        self->pipe.has_more_input = true;
    }
    esi_handler_connect_continue(self);
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_handler *self = self_of(actor);

    if (fired == &self->connect_timer.timer) {
        esi_handler_connect_timer(self);
    } else if (fired == &self->call_timer.timer) {
        on_call_timer(self);
    } else if (fired == &self->status_timer.timer) {
        esi_handler_tell_status(self, "");
    } else if (fired == &self->stop_timer.timer && self->state == LINK_UP) {
        esi_handler_connect_lose(self, "the server stops");
    }
}

static void watch(struct esi_handler *self)
{
    switch (self->state) {
    case LINK_DIALLING:
        esi_actor_io_change(&self->io, POLL_WRITE);
        break;
    case LINK_SHAKING:
        esi_actor_io_change(&self->io, esi_stream_wants(self->pipe.stream));
        break;
    case LINK_UP:
        esi_actor_io_change(&self->io, esi_byte_pipe_events(&self->pipe, true));
        break;
    case LINK_DOWN:
    case LINK_RESOLVING:
    case LINK_DONE:
        break;
    }
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_handler *self = self_of(actor);

    if (self->state == LINK_UP) {
        pump(self);
    }
    if (self->state == LINK_UP && esi_grpc_client_is_draining(self->client)) {
        end_drained(self);
    }
    self->is_halved = false;
    if (self->state == LINK_UP) {
        set_call_timer(self);
        if (self->pipe.has_more_input || self->pipe.has_more_output) {
            esi_actor_continue(actor);
        }
    }
    watch(self);
    count_memory(self);
    finish_if_stopped(self);
}

/* By the asker or by the runtime, or by both. */
static void stop(struct esi_actor *actor)
{
    struct esi_handler *self = self_of(actor);

    if (self->is_stopping) {
        return;
    }
    self->is_stopping = true;
    give_back_waiting(self);
    esi_actor_timer_cancel(&self->connect_timer);
    if (self->state == LINK_UP) {
        esi_grpc_client_shutdown(self->client);
    }
    esi_actor_timer_set(&self->stop_timer, now_ns(self) + STOP_NS);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_handler *self = self_of(actor);

    /* No default: the compiler then names a message that nobody handles. */
    switch ((enum esi_handler_msg)msg->kind) {
    case HANDLER_JOB:
        on_job(self, (struct esi_handler_job *)(void *)msg);
        break;
    case HANDLER_RESOLVED:
        esi_handler_connect_resolved(self);
        break;
    case HANDLER_STOP:
        stop(actor);
        break;
    }
}

static void cut(struct esi_actor *actor)
{
    struct esi_handler *self = self_of(actor);

    if (self->state == LINK_DIALLING || self->state == LINK_SHAKING || self->state == LINK_UP) {
        esi_handler_connect_lose(self, "the socket cannot be watched");
    }
    esi_actor_continue(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_handler *self = ESI_CONTAINER_OF(actor, const struct esi_handler, actor);

    esi_bytes_printf(description->text, "%s %s %s, %u calls, window %u",
                     self->options.registry->name, self->authority,
                     esi_handler_state_text(shown_state(self)), self->calling, self->window);
}

static void keep_memory(struct esi_actor *actor)
{
    (void)actor; /* the maker's: esi_handler_free */
}

static const struct esi_actor_type handler_type = {
    .name = "handler",
    .stop_phase = STOP_SERVICES,
    .may_move = true,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .cut = cut,
    .describe = describe,
    .free = keep_memory,
};

enum es_err esi_handler_new(const struct esi_handler_options *options, struct esi_handler **out)
{
    struct esi_runtime *runtime = options->context->runtime;
    struct esi_handler *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->options = *options;
    const bool is_v6 = strchr(options->config->host, ':') != NULL;
    snprintf(self->authority, sizeof self->authority, is_v6 ? "[%s]:%u" : "%s:%u",
             options->config->host, options->config->port);
    self->window = options->config->in_flight_max;
    esi_list_init(&self->waiting);
    esi_actor_init(&self->actor, &handler_type, runtime, esi_runtime_place(runtime));
    esi_actor_ref(
        &self->actor); /* the maker's: never given up, so that late messages find an actor */
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->connect_timer);
    esi_actor_timer_init(&self->actor, &self->call_timer);
    esi_actor_timer_init(&self->actor, &self->status_timer);
    esi_actor_timer_init(&self->actor, &self->stop_timer);
    *out = self;
    return ES_OK;
}

void esi_handler_start(struct esi_handler *handler)
{
    esi_actor_start(&handler->actor);
}

static void keep_msg(struct esi_msg *msg)
{
    (void)msg; /* embedded in the handler */
}

void esi_handler_stop(struct esi_handler *handler)
{
    handler->stop_msg = (struct esi_msg){.kind = HANDLER_STOP, .free = keep_msg};
    esi_actor_send(&handler->actor, &handler->stop_msg);
}

const char *esi_handler_address(const struct esi_handler *handler)
{
    return handler->authority;
}

void esi_handler_free(struct esi_handler *handler)
{
    if (handler != NULL) {
        esi_byte_pipe_deinit(&handler->pipe);
        esi_grpc_client_free(handler->client);
        free(handler);
    }
}
