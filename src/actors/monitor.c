/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor: one actor with the listening socket and its peers. What can be said at once (/,
 * refusals, mostly /healthz) is answered at once; other pages are made one at a time, see
 * monitor_steps.c.
 *
 * The monitor stops last, with the services, so that /healthz tells "stopping" while peers are
 * drained. It learns of the stop by its sentinel.
 */
#include "actors/monitor.h"
#include "actors/context.h"
#include "actors/monitor_access.h"
#include "actors/monitor_answer.h"
#include "actors/monitor_client.h"
#include "actors/monitor_internal.h"
#include "actors/monitor_sentinel.h"
#include "actors/queue.h"
#include "actors/tls_section.h"
#include "base/log.h"
#include "base/own.h"
#include "net/http1.h"
#include "net/tls.h"

#include <stdlib.h>

enum {
    CLIENTS_MAX = 64,
    WAITING_MAX = 48, /* peers that wait for a page: the other places are for /healthz */
    ACCEPTS_A_TURN = 16,
    /* of answers that wait for slow peers */
    HELD_BYTES_MIN = 4 * 1024 * 1024,
    HELD_BYTES_MAX = 64 * 1024 * 1024,
    CLOSED_BYTES_MIN = 1024 * 1024 /* of connections that have ended */
};

static const uint64_t OUT_OF_DESCRIPTORS_NS = 100000000;

static struct esi_monitor *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_monitor, actor);
}

/* --- requests --- */

static void on_request(struct esi_monitor *self, struct esi_monitor_client *client,
                       const struct esi_http1_request *request)
{
    char error[ESI_MONITOR_ERROR_MAX];
    struct esi_monitor_query query;

    const bool is_trusted = esi_monitor_access_is_allowed(self->context->config, request);
    if (!is_trusted && !esi_str_equal(request->path, ESI_STR("/healthz"))) {
        esi_monitor_answer_refusal(client);
        return;
    }
    if (request->method == HTTP1_POST) {
        esi_monitor_answer_text(client, 405, "Method Not Allowed\n");
        return;
    }
    const enum es_err err = esi_monitor_query_read(request, &query, error);
    if (err != ES_OK) {
        esi_monitor_answer_text(client, err == ES_NOT_FOUND ? 404 : 400, error);
        return;
    }
    self->facts.requests[query.kind]++;
    query.is_trusted = is_trusted;
    if (query.kind == MONITOR_INDEX) {
        esi_monitor_answer_index(client);
    } else if (query.kind == MONITOR_HEALTHZ) {
        esi_monitor_healthz_answer(self, client, &query);
    } else if (esi_monitor_healthz_why_not_ready(self) != NULL) {
        /* What pages show is being built, or taken down. */
        esi_monitor_answer_text(client, 503, esi_monitor_healthz_why_not_ready(self));
    } else if (esi_monitor_client_count_waiting(&self->clients, false) >= WAITING_MAX) {
        esi_monitor_answer_text(client, 503, "too many pages are asked for at once");
    } else {
        esi_monitor_client_await_page(client, &query, self->asked++);
    }
}

void esi_monitor_serve(struct esi_monitor *self, struct esi_monitor_client *client)
{
    const struct esi_http1_request *request;

    do {
        esi_monitor_client_settle(client);
        while ((request = esi_monitor_client_next(client)) != NULL) {
            on_request(self, client, request);
            esi_monitor_client_settle(client);
        }
        /* Asking for a request may have refused one. */
        esi_monitor_client_settle(client);
        /* What TLS has deciphered already the poller does not tell of. */
    } while (esi_monitor_client_read_on(client));
}

/* --- the socket --- */

static void start(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);
    const enum es_err err = esi_actor_io_watch(&self->io, self->sock, POLL_READ);

    if (err != ES_OK) {
        esi_log(LOG_LISTENER_FAILED, ESI_LOG_U64("port", self->bound.port), ESI_LOG_ERR(err));
    }
}

static void pause_accepting(struct esi_monitor *self, uint64_t pause_ns)
{
    esi_actor_io_change(&self->io, 0);
    esi_actor_timer_set(&self->accept_timer, esi_actor_now_ns(&self->actor) + pause_ns);
}

static void accept_clients(struct esi_monitor *self)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct esi_monitor_client *client = NULL;
        struct esi_address peer;
        int sock = ESI_ENV_NO_SOCKET;
        if (esi_monitor_client_count(&self->clients) >= CLIENTS_MAX &&
            !esi_monitor_client_evict(&self->clients, false)) {
            /* The new ones wait before the door, until one leaves or has been silent for long
             * enough. */
            self->is_full = true;
            pause_accepting(self, ESI_MONITOR_FULL_NS);
            return;
        }
        enum es_err err = esi_env_accept(self->context->env, self->sock, &sock, &peer);
        if (err == ES_AGAIN) {
            return;
        }
        if (err == ES_FULL || err == ES_NO_MEMORY) {
            esi_log(LOG_LISTENER_FAILED, ESI_LOG_U64("port", self->bound.port), ESI_LOG_ERR(err));
            pause_accepting(self, OUT_OF_DESCRIPTORS_NS);
            return;
        }
        if (err == ES_OK) {
            err = esi_monitor_client_new(&self->actor, sock, self->tls,
                                         self->context->config->monitor.tls.timeout_ns, &client);
            if (err == ES_OK) {
                esi_list_append(&self->clients, &client->link);
            } else {
                esi_log(LOG_ACCEPT_REFUSED, ESI_LOG_TEXT("remote", peer.host), ESI_LOG_ERR(err));
            }
        }
    }
}

/* --- the actor --- */

static void ready(struct esi_actor *actor, struct esi_io *io, uint32_t events)
{
    struct esi_monitor *self = self_of(actor);

    if (io == &self->io) {
        accept_clients(self);
        return;
    }
    struct esi_monitor_client *client = ESI_CONTAINER_OF(io, struct esi_monitor_client, io);
    if ((events & POLL_HANGUP) != 0 && (events & POLL_READ) == 0) {
        /* Gone, and not even readable: the poller would tell us again and again. */
        esi_monitor_client_close(client);
        return;
    }
    if (client->phase == PHASE_HANDSHAKE) {
        esi_monitor_client_shake_hands(client);
    } else if ((events & POLL_READ) != 0) {
        esi_monitor_client_read(client);
    }
    esi_monitor_serve(self, client);
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_monitor *self = self_of(actor);

    if (fired == &self->accept_timer.timer) {
        esi_actor_io_change(&self->io, POLL_READ);
    } else if (fired == &self->visit_timer.timer) {
        esi_monitor_steps_begin_visit(self);
    } else if (fired == &self->health_timer.timer) {
        esi_monitor_healthz_stalled(self);
    } else if (fired != &self->memory_timer.timer) {
        struct esi_actor_timer *of_client = ESI_CONTAINER_OF(fired, struct esi_actor_timer, timer);
        esi_monitor_client_close(ESI_CONTAINER_OF(of_client, struct esi_monitor_client, timer));
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_monitor *self = self_of(actor);

    switch ((enum esi_monitor_msg)msg->kind) {
    case MONITOR_STOPPING:
        self->is_stopping = true;
        break;
    case MONITOR_STEP_DONE:
        esi_monitor_steps_done(self);
        break;
    case MONITOR_ROUTER_REPORTED:
        esi_monitor_steps_router_reported(self);
        break;
    case MONITOR_EVENTS_REPORTED:
        esi_monitor_steps_events_reported(self, (struct esi_queue_report *)(void *)msg);
        break;
    case MONITOR_CONNECTION_CLOSED:
        if (!self->is_ended) {
            esi_monitor_closed_add(&self->closed, (struct esi_monitor_closed_entry *)(void *)msg);
        }
        break;
    case MONITOR_HEALTH_VISITED:
        esi_monitor_healthz_visited(self);
        break;
    case MONITOR_HEALTH_REPORTED:
        esi_monitor_healthz_reported(self, (const struct esi_queue_report *)(void *)msg);
        break;
    }
}

static void free_gone(struct esi_monitor *self)
{
    for (struct esi_list *link = self->clients.next; link != &self->clients;) {
        struct esi_monitor_client *client = ESI_CONTAINER_OF(link, struct esi_monitor_client, link);
        link = link->next;
        if (client->phase == PHASE_GONE) {
            if (self->page_client == client) {
                self->page_client = NULL;
            }
            esi_monitor_client_free(client);
        }
    }
    if (self->is_full && esi_monitor_client_count(&self->clients) < CLIENTS_MAX) {
        self->is_full = false;
        esi_actor_timer_cancel(&self->accept_timer);
        esi_actor_io_change(&self->io, POLL_READ);
    }
}

/* Once a turn. While a step of the page is carried out by others it counts as it was before. */
static void count_memory(struct esi_monitor *self)
{
    const struct esi_local *local = esi_worker_local(esi_actor_home(&self->actor));

    if (!self->is_step_pending) {
        self->page_bytes = esi_monitor_page_memory_bytes(self->page);
    }
    esi_ledger_settle(local != NULL ? local->lease : NULL, MEMORY_MONITOR, &self->counted_bytes,
                      self->page_bytes + self->facts.events.capacity + self->closed.bytes +
                          esi_monitor_client_sum_memory(&self->clients));
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    free_gone(self);
    esi_monitor_steps_resume(self);
    count_memory(self);
    if (self->is_ended) {
        if (!self->is_step_pending && !self->health.is_looking) {
            esi_actor_finish(actor);
        }
        return;
    }
    if (self->page == NULL) {
        esi_monitor_steps_begin(self);
    }
}

static void stop(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    self->is_ended = true;
    esi_actor_timer_cancel(&self->accept_timer);
    esi_actor_timer_cancel(&self->memory_timer);
    esi_actor_timer_cancel(&self->visit_timer);
    esi_actor_timer_cancel(&self->health_timer);
    esi_actor_io_unwatch(&self->io);
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    for (struct esi_list *link = self->clients.next; link != &self->clients; link = link->next) {
        esi_monitor_client_close(ESI_CONTAINER_OF(link, struct esi_monitor_client, link));
    }
    esi_monitor_steps_stop(self);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_monitor *self = ESI_CONTAINER_OF(actor, const struct esi_monitor, actor);

    esi_bytes_printf(description->text, "%s:%u, %u peers", self->bound.host, self->bound.port,
                     esi_monitor_client_count(&self->clients));
}

/* Also for what is sent to us when we have ended: then nothing is left but the struct, which is
 * freed when nobody can send any more. */
static void release(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    /* By force: the stop was never told. */
    while (!esi_list_is_empty(&self->clients)) {
        esi_monitor_client_free(
            ESI_CONTAINER_OF(self->clients.next, struct esi_monitor_client, link));
    }
    esi_actor_timer_cancel(&self->accept_timer);
    esi_actor_timer_cancel(&self->memory_timer);
    esi_actor_timer_cancel(&self->visit_timer);
    esi_actor_timer_cancel(&self->health_timer);
    esi_actor_io_unwatch(&self->io);
    esi_env_close(self->context->env, self->sock);
    self->sock = ESI_ENV_NO_SOCKET;
    esi_monitor_page_free(ESI_MOVE(self->page));
    esi_bytes_deinit(&self->facts.events);
    esi_monitor_closed_deinit(&self->closed);
    esi_monitor_health_deinit(&self->health);
}

static const struct esi_actor_type monitor_type = {
    .name = "monitor",
    .stop_phase = STOP_SERVICES,
    .start = start,
    .handle = handle,
    .ready = ready,
    .timer = timer,
    .turn_end = turn_end,
    .stop = stop,
    .describe = describe,
    .free = release,
};

/* --- making and freeing --- */

static enum es_err make_tls(struct esi_context *context, struct esi_tls_context **out,
                            struct es_error *error)
{
    const struct esi_config_tls *config = &context->config->monitor.tls;
    struct esi_tls_certificate certificate;
    const struct esi_tls_options options =
        esi_tls_section_options(config, TLS_SERVER, &config->allowed_names, &certificate);

    return config->is_set ? esi_tls_context_new(context->env, &options, out, error) : ES_OK;
}

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded in the monitor */
}

/* What waits and what is remembered have a quarter each of the memory for what could be done
 * without, within bounds; match caches leave that much of it. */
static void bound_memory(struct esi_monitor *self)
{
    const uint64_t quarter = self->context->ledger->classes[MEMORY_AUXILIARY].limit_bytes / 4;

    self->held_bytes_max = quarter < HELD_BYTES_MIN   ? HELD_BYTES_MIN
                           : quarter > HELD_BYTES_MAX ? HELD_BYTES_MAX
                                                      : (size_t)quarter;
    if (quarter < self->closed.bytes_max) {
        self->closed.bytes_max = quarter < CLOSED_BYTES_MIN ? CLOSED_BYTES_MIN : (size_t)quarter;
    }
}

static void init_monitor(struct esi_monitor *self)
{
    struct esi_context *context = self->context;
    struct esi_runtime *runtime = context->runtime;
    const uint32_t worker_count = esi_runtime_worker_count(runtime);

    self->facts.port = self->bound.port;
    self->facts.cores = esi_env_core_count(context->env);
    self->facts.closed = &self->closed;
    self->facts.totals = &self->totals;
    esi_list_init(&self->clients);
    esi_monitor_sample_init(&self->sample, context->env, context->start_ns);
    esi_monitor_closed_init(&self->closed);
    bound_memory(self);
    /* The last worker: where placement fills workers up it has the least to do. */
    esi_actor_init(&self->actor, &monitor_type, runtime,
                   esi_runtime_worker(runtime, worker_count - 1));
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->accept_timer);
    esi_actor_timer_init(&self->actor, &self->memory_timer);
    esi_actor_timer_init(&self->actor, &self->visit_timer);
    esi_actor_timer_init(&self->actor, &self->health_timer);
    self->health.visited_kind = MONITOR_HEALTH_VISITED;
    self->health.reported_kind = MONITOR_HEALTH_REPORTED;
    esi_monitor_health_init(&self->health, context, &self->actor);
    self->stopping_msg = (struct esi_msg){.kind = MONITOR_STOPPING, .free = keep};
}

enum es_err esi_monitor_start(struct esi_context *context, struct esi_address *bound,
                              struct es_error *error)
{
    const struct esi_config_monitor *config = &context->config->monitor;
    struct esi_monitor *self = NULL;
    struct esi_tls_context *tls = NULL;
    struct esi_address address;
    int sock = ESI_ENV_NO_SOCKET;

    enum es_err err = make_tls(context, &tls, error);
    if (err == ES_OK) {
        err = esi_env_listen(context->env, config->host, config->port, &sock, &address);
    }
    if (err != ES_OK) {
        goto fail;
    }
    self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    if (self == NULL) {
        err = ES_NO_MEMORY;
        goto fail;
    }
    *self = (struct esi_monitor){.context = context, .tls = tls, .bound = address, .sock = sock};
    init_monitor(self);
    err = esi_monitor_sentinel_start(&self->actor, &self->stopping_msg);
    if (err != ES_OK) {
        goto fail;
    }
    context->monitor = self;
    *bound = address;
    esi_actor_start(&self->actor);
    return ES_OK;
fail:
    free(self);
    esi_env_close(context->env, sock);
    esi_tls_context_unref(tls);
    return err;
}

void esi_monitor_free(struct esi_monitor *monitor)
{
    if (monitor != NULL) {
        esi_tls_context_unref(monitor->tls);
        free(monitor);
    }
}

void esi_monitor_tell_closed(struct esi_monitor *monitor, const struct esi_connection_info *info,
                             const char *reason, const struct esi_monitor_slow *slow)
{
    struct esi_monitor_closed_entry *entry =
        esi_monitor_closed_entry_new(info, reason, slow, esi_worker_now_ns(esi_worker_current()));

    /* Out of memory: it is missing on a page. */
    if (entry != NULL) {
        entry->msg.kind = MONITOR_CONNECTION_CLOSED;
        esi_actor_send(&monitor->actor, &entry->msg);
    }
}
