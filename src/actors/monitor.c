/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor: one actor with the listening socket and its peers. What can be said at once (/,
 * /healthz, refusals) is answered at once; other pages are made one at a time, step by step, in the
 * order they were asked for, so that at most one visit walks through the workers. Visits keep a
 * distance from each other, so that no peer can make the workers spend more than a small part of
 * their time on them.
 *
 * The monitor stops last, with the services, so that /healthz tells "stopping" while peers are
 * drained. It learns of the stop by its sentinel, a small actor that is stopped with the doors.
 */
#include "actors/monitor.h"
#include "actors/context.h"
#include "actors/monitor_answer.h"
#include "actors/monitor_access.h"
#include "actors/monitor_client.h"
#include "actors/monitor_closed.h"
#include "actors/monitor_health.h"
#include "actors/monitor_page.h"
#include "actors/monitor_query.h"
#include "actors/monitor_sample.h"
#include "actors/queue.h"
#include "actors/tls_section.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "env/env.h"
#include "net/http1.h"
#include "net/tls.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum monitor_msg {
    MONITOR_STOPPING,
    MONITOR_STEP_DONE,
    MONITOR_ROUTER_REPORTED,
    MONITOR_EVENTS_REPORTED,
    MONITOR_CONNECTION_CLOSED,
    MONITOR_HEALTH_VISITED,
    MONITOR_HEALTH_REPORTED
};

enum {
    CLIENTS_MAX = 64,
    WAITING_MAX = 48, /* peers that wait for a page: the other places are for /healthz */
    ACCEPTS_A_TURN = 16,
    HELD_BYTES_MAX =
        64 * 1024 * 1024, /* no new page is begun while more is waiting for slow peers */
    VISIT_REST_FACTOR =
        4 /* after a visit the workers are left alone for so many times its duration */
};

static const uint64_t VISIT_REST_NS_MAX = 250000000;
static const uint64_t OUT_OF_DESCRIPTORS_NS = 100000000;
static const uint64_t FULL_NS = 50000000;

struct esi_monitor {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    struct esi_tls_context *tls; /* owned; NULL: plain */
    struct esi_address bound;
    int sock; /* owned */
    struct esi_io io;
    struct esi_actor_timer accept_timer;
    struct esi_actor_timer memory_timer;
    struct esi_list clients;
    bool is_full;     /* peers wait before the door */
    bool is_stopping; /* the doors are being closed */
    bool is_ended;    /* our own turn to stop has come */
    uint64_t asked;
    struct esi_monitor_facts facts;
    /* the page in hand */
    struct esi_monitor_page *page;          /* owned; NULL: none */
    struct esi_monitor_client *page_client; /* who waits for it; NULL: has left */
    bool is_step_pending;                   /* a message will say that it is done */
    bool has_yielded;                       /* or our own next turn */
    uint64_t yield_turn;                    /* the present one then */
    struct esi_msg step_msg;
    struct esi_visit visit;
    struct esi_actor_timer visit_timer;
    enum esi_monitor_step step; /* what is pending */
    uint32_t reports_pending;   /* of STEP_ROUTERS */
    uint64_t visit_start_ns;
    uint64_t visit_earliest_ns;
    struct esi_monitor_sample sample;
    struct esi_job job; /* STEP_WORK */
    struct esi_monitor_closed closed;
    struct esi_monitor_health health;
    struct esi_actor_timer health_timer;
    struct esi_msg stopping_msg;
};

struct sentinel {
    struct esi_actor actor;      /* first */
    struct esi_monitor *monitor; /* a reference */
};

static struct esi_monitor *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_monitor, actor);
}

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded in the monitor */
}

/* --- the page in hand --- */

static void visit_actor(struct esi_actor *actor, void *argument)
{
    struct esi_monitor *self = argument;

    self->page->is_unfinished = false;
    self->page->type->visit(self->page, actor);
    self->visit.is_unfinished = self->page->is_unfinished;
}

static void visit_worker(struct esi_worker *worker, void *argument)
{
    struct esi_monitor_page *page = ((struct esi_monitor *)argument)->page;

    if (page->type->visit_worker != NULL) {
        page->type->visit_worker(page, worker);
    }
}

static void begin_pending(struct esi_monitor *self, enum esi_monitor_step step)
{
    self->is_step_pending = true;
    self->step = step;
    self->step_msg = (struct esi_msg){.kind = MONITOR_STEP_DONE, .free = keep};
    /* Whoever answers needs us to be there. */
    esi_actor_ref(&self->actor);
}

static void begin_visit(struct esi_monitor *self)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);

    if (now_ns < self->visit_earliest_ns) {
        esi_actor_timer_set(&self->visit_timer, self->visit_earliest_ns);
        return;
    }
    begin_pending(self, STEP_VISIT);
    self->visit_start_ns = now_ns;
    self->visit = (struct esi_visit){.visit = self->page->type->visit != NULL ? visit_actor : NULL,
                                     .visit_worker = visit_worker,
                                     .argument = self,
                                     .asker = &self->actor,
                                     .done = &self->step_msg};
    esi_runtime_visit(self->context->runtime, &self->visit);
}

static void begin_sample(struct esi_monitor *self)
{
    begin_pending(self, STEP_SAMPLE);
    esi_monitor_sample_begin(&self->sample, self->context->runtime, &self->actor, &self->step_msg);
}

static void run_work(struct esi_job *job)
{
    struct esi_monitor *self = ESI_CONTAINER_OF(job, struct esi_monitor, job);

    self->page->type->work(self->page);
    esi_actor_send(&self->actor, &self->step_msg);
}

static void begin_work(struct esi_monitor *self)
{
    begin_pending(self, STEP_WORK);
    self->job = (struct esi_job){.run = run_work};
    esi_runtime_submit(self->context->runtime, &self->job);
}

/* The rest of the page is made in another turn of ours. */
static void begin_yield(struct esi_monitor *self)
{
    begin_pending(self, STEP_YIELD);
    self->yield_turn = self->actor.stats.turns;
    self->has_yielded = true;
    esi_actor_continue(&self->actor);
}

static void end_sample(struct esi_monitor *self)
{
    esi_monitor_sample_end(&self->sample, esi_actor_now_ns(&self->actor));
    self->facts.mem_bytes = self->sample.mem_bytes;
    self->facts.cpu_percent = self->sample.cpu_percent;
    self->facts.cpu_s = self->sample.cpu_s;
}

static void end_visit(struct esi_monitor *self)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    const uint64_t rest_ns = (now_ns - self->visit_start_ns) * VISIT_REST_FACTOR;

    self->visit_earliest_ns = now_ns + (rest_ns < VISIT_REST_NS_MAX ? rest_ns : VISIT_REST_NS_MAX);
}

static void begin_routers(struct esi_monitor *self)
{
    struct esi_context *context = self->context;

    begin_pending(self, STEP_ROUTERS);
    self->reports_pending = context->router_count;
    for (uint32_t i = 0; i < context->router_count; i++) {
        self->facts.routers[i] = (struct esi_router_report){.asker = &self->actor,
                                                            .answer_kind = MONITOR_ROUTER_REPORTED};
        esi_router_report(context->routers[i], &self->facts.routers[i]);
    }
}

static struct esi_queue_report *new_report(struct esi_monitor *self)
{
    const struct esi_monitor_query *query = &self->page->query;
    const uint64_t limit_max = query->kind == MONITOR_EVENTZ ? ESI_QUEUE_REPORT_LIMIT_MAX : 1;

    return esi_queue_report_new(&self->actor, MONITOR_EVENTS_REPORTED, esi_str_from(query->event),
                                (size_t)query->offset,
                                (size_t)(query->limit < limit_max ? query->limit : limit_max));
}

/* Returns true when there is nothing to wait for. */
static bool begin_events(struct esi_monitor *self)
{
    esi_bytes_deinit(&self->facts.events);
    self->facts.events_err = ES_UNSUPPORTED;
    if (self->context->queue == NULL) {
        return true;
    }
    struct esi_queue_report *report = new_report(self);
    if (report == NULL) {
        self->facts.events_err = ES_NO_MEMORY;
        return true;
    }
    begin_pending(self, STEP_EVENTS);
    esi_queue_report(self->context->queue, report);
    return false;
}

static void take_events(struct esi_monitor *self, struct esi_queue_report *report)
{
    self->facts.events_err = report->err;
    self->facts.events = report->json;
    self->facts.queue = report->figures;
    esi_bytes_init(&report->json, 0);
}

/* --- answers --- */

/* NULL: ready. */
static const char *why_not_ready(const struct esi_monitor *self)
{
    if (self->is_stopping) {
        return "server is stopping";
    }
    /* order: acquire; pairs with the release at the end of the start: ports and gateway are then to
     * be seen. */
    if (!atomic_load_explicit(&self->context->is_ready, memory_order_acquire)) {
        return "server is starting";
    }
    return NULL;
}

static void tell_health(struct esi_monitor *self, struct esi_monitor_client *client,
                        bool is_trusted)
{
    const struct esi_monitor_health *health = &self->health;

    esi_monitor_answer_health(
        client, health->failure[0] != '\0' ? health->failure : NULL,
        is_trusted && health->degraded_count > 0 ? esi_bytes_str(&health->degraded) : ESI_STR(""));
}

static void look_at_health(struct esi_monitor *self)
{
    esi_monitor_health_begin(&self->health, esi_actor_now_ns(&self->actor), self->asked);
    esi_actor_timer_set(&self->health_timer, esi_monitor_health_deadline_ns(&self->health));
}

/* At once, as far as it is known; else when a look has ended. */
static void answer_health(struct esi_monitor *self, struct esi_monitor_client *client,
                          const struct esi_monitor_query *query)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    char text[ESI_MONITOR_HEALTH_TEXT_MAX];

    if (why_not_ready(self) != NULL) {
        esi_monitor_answer_health(client, why_not_ready(self), ESI_STR(""));
    } else if (esi_monitor_health_is_stalled(&self->health, now_ns, text)) {
        esi_monitor_answer_health(client, text, ESI_STR(""));
    } else if (now_ns < self->health.fresh_until_ns) {
        tell_health(self, client, query->is_trusted);
    } else {
        esi_monitor_client_await_page(client, query, self->asked++);
        if (!self->health.is_looking) {
            look_at_health(self);
        }
    }
}

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
        answer_health(self, client, &query);
    } else if (why_not_ready(self) != NULL) {
        /* What pages show is being built, or taken down. */
        esi_monitor_answer_text(client, 503, why_not_ready(self));
    } else if (esi_monitor_client_count_waiting(&self->clients, false) >= WAITING_MAX) {
        esi_monitor_answer_text(client, 503, "too many pages are asked for at once");
    } else {
        esi_monitor_client_await_page(client, &query, self->asked++);
    }
}

static void serve(struct esi_monitor *self, struct esi_monitor_client *client)
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

/* --- health --- */

/* Answers who has asked before the look began; those who came later have one of their own. */
static void end_health(struct esi_monitor *self)
{
    struct esi_monitor_client *client;

    esi_actor_timer_cancel(&self->health_timer);
    self->facts.is_degraded = self->health.degraded_count > 0 || self->health.failure[0] != '\0';
    while ((client = esi_monitor_client_next_for_health(&self->clients, self->health.asked_end)) !=
           NULL) {
        tell_health(self, client, client->query.is_trusted);
        serve(self, client);
    }
    if (!self->is_ended && !self->health.is_looking &&
        esi_monitor_client_count_waiting(&self->clients, true) > 0) {
        look_at_health(self);
    }
}

static void on_health_visited(struct esi_monitor *self)
{
    if (esi_monitor_health_visited(&self->health, esi_actor_now_ns(&self->actor))) {
        end_health(self);
    }
}

static void on_health_reported(struct esi_monitor *self, const struct esi_queue_report *report)
{
    esi_monitor_health_reported(&self->health, report, esi_actor_now_ns(&self->actor));
    end_health(self);
}

/* The look has not come back: that is the answer, also for those who ask from here on. */
static void on_health_timer(struct esi_monitor *self)
{
    struct esi_monitor_client *client;
    char text[ESI_MONITOR_HEALTH_TEXT_MAX];

    if (!esi_monitor_health_is_stalled(&self->health, esi_actor_now_ns(&self->actor), text)) {
        return;
    }
    self->facts.is_degraded = true;
    while ((client = esi_monitor_client_next_for_health(&self->clients, UINT64_MAX)) != NULL) {
        esi_monitor_answer_health(client, text, ESI_STR(""));
        serve(self, client);
    }
}

/* --- pages, one at a time --- */

static void finish_page(struct esi_monitor *self)
{
    struct esi_monitor_page *page = ESI_MOVE(self->page);
    struct esi_monitor_client *client = ESI_MOVE(self->page_client);

    if (client != NULL && client->phase == PHASE_PAGE) {
        if (page->status == 200) {
            esi_monitor_answer(client, 200, page->content_type, esi_bytes_str(&page->body));
        } else {
            esi_monitor_answer_text(client, page->status, page->failure);
        }
        serve(self, client);
    }
    esi_monitor_page_free(page);
}

/* Carries a page on as far as it goes without waiting. */
static void run_steps(struct esi_monitor *self, enum esi_monitor_step step)
{
    for (;;) {
        switch (step) {
        case STEP_VISIT:
            begin_visit(self);
            return;
        case STEP_SAMPLE:
            begin_sample(self);
            return;
        case STEP_ROUTERS:
            begin_routers(self);
            return;
        case STEP_EVENTS:
            if (!begin_events(self)) {
                return;
            }
            step = self->page->type->next(self->page);
            break;
        case STEP_WORK:
            begin_work(self);
            return;
        case STEP_YIELD:
            begin_yield(self);
            return;
        case STEP_DONE:
            finish_page(self);
            return;
        }
    }
}

static void on_step_done(struct esi_monitor *self)
{
    ESI_REQUIRE(self->is_step_pending);
    self->is_step_pending = false;
    if (self->step == STEP_VISIT) {
        end_visit(self);
    } else if (self->step == STEP_SAMPLE) {
        end_sample(self);
    }
    if (self->is_ended || self->page_client == NULL) {
        /* Nobody waits for it. */
        esi_monitor_page_free(ESI_MOVE(self->page));
        self->page_client = NULL;
    } else {
        run_steps(self, self->page->type->next(self->page));
    }
    esi_actor_unref(&self->actor);
}

static void begin_page(struct esi_monitor *self)
{
    size_t held_bytes = 0;
    struct esi_monitor_client *client =
        esi_monitor_client_next_waiting(&self->clients, &held_bytes);
    enum esi_monitor_step step = STEP_DONE;

    if (client == NULL) {
        return;
    }
    if (held_bytes >= HELD_BYTES_MAX) {
        if (esi_monitor_client_evict(&self->clients, true)) {
            esi_actor_continue(&self->actor);
        } else {
            /* Firing it alone brings another turn. */
            esi_actor_timer_set(&self->memory_timer, esi_actor_now_ns(&self->actor) + FULL_NS);
        }
        return;
    }
    self->page = esi_monitor_page_new(self->context, &self->facts, &client->query, &step);
    if (self->page == NULL) {
        esi_monitor_client_close(client);
        esi_actor_continue(&self->actor);
        return;
    }
    self->page_client = client;
    run_steps(self, step);
    if (self->page == NULL) {
        /* It needed no waiting: on with the next one. */
        esi_actor_continue(&self->actor);
    }
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
            pause_accepting(self, FULL_NS);
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
    serve(self, client);
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_monitor *self = self_of(actor);

    if (fired == &self->accept_timer.timer) {
        esi_actor_io_change(&self->io, POLL_READ);
    } else if (fired == &self->visit_timer.timer) {
        begin_visit(self);
    } else if (fired == &self->health_timer.timer) {
        on_health_timer(self);
    } else if (fired != &self->memory_timer.timer) {
        struct esi_actor_timer *of_client = ESI_CONTAINER_OF(fired, struct esi_actor_timer, timer);
        esi_monitor_client_close(ESI_CONTAINER_OF(of_client, struct esi_monitor_client, timer));
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_monitor *self = self_of(actor);

    switch ((enum monitor_msg)msg->kind) {
    case MONITOR_STOPPING:
        self->is_stopping = true;
        break;
    case MONITOR_STEP_DONE:
        on_step_done(self);
        break;
    case MONITOR_ROUTER_REPORTED:
        if (--self->reports_pending == 0) {
            on_step_done(self);
        }
        break;
    case MONITOR_EVENTS_REPORTED:
        take_events(self, (struct esi_queue_report *)(void *)msg);
        on_step_done(self);
        break;
    case MONITOR_CONNECTION_CLOSED:
        if (!self->is_ended) {
            esi_monitor_closed_add(&self->closed, (struct esi_monitor_closed_entry *)(void *)msg);
        }
        break;
    case MONITOR_HEALTH_VISITED:
        on_health_visited(self);
        break;
    case MONITOR_HEALTH_REPORTED:
        on_health_reported(self, (const struct esi_queue_report *)(void *)msg);
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

static void turn_end(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    free_gone(self);
    if (self->has_yielded && self->yield_turn != actor->stats.turns) {
        self->has_yielded = false;
        on_step_done(self);
    }
    if (self->is_ended) {
        if (!self->is_step_pending && !self->health.is_looking) {
            esi_actor_finish(actor);
        }
        return;
    }
    if (self->page == NULL) {
        begin_page(self);
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
    if (!self->is_step_pending) {
        esi_monitor_page_free(ESI_MOVE(self->page));
        self->page_client = NULL;
    }
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

/* --- the sentinel --- */

static struct sentinel *sentinel_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct sentinel, actor);
}

static void handle_nothing(struct esi_actor *actor, struct esi_msg *msg)
{
    (void)actor;
    (void)msg; /* nobody sends to it */
}

static void stop_sentinel(struct esi_actor *actor)
{
    struct esi_monitor *monitor = sentinel_of(actor)->monitor;

    monitor->stopping_msg = (struct esi_msg){.kind = MONITOR_STOPPING, .free = keep};
    esi_actor_send(&monitor->actor, &monitor->stopping_msg);
    esi_actor_finish(actor);
}

static void describe_sentinel(const struct esi_actor *actor, struct esi_description *description)
{
    (void)actor;
    esi_bytes_append_text(description->text, "tells the monitor of the stop");
}

static void free_sentinel(struct esi_actor *actor)
{
    struct sentinel *self = sentinel_of(actor);

    esi_actor_unref(&self->monitor->actor);
    free(self);
}

static const struct esi_actor_type sentinel_type = {
    .name = "monitor_sentinel",
    .stop_phase = STOP_DOORS,
    .handle = handle_nothing,
    .stop = stop_sentinel,
    .describe = describe_sentinel,
    .free = free_sentinel,
};

static enum es_err make_tls(struct esi_context *context, struct esi_tls_context **out,
                            struct es_error *error)
{
    const struct esi_config_tls *config = &context->config->monitor.tls;
    struct esi_tls_certificate certificate;
    const struct esi_tls_options options =
        esi_tls_section_options(config, TLS_SERVER, &config->allowed_names, &certificate);

    return config->is_set ? esi_tls_context_new(context->env, &options, out, error) : ES_OK;
}

enum es_err esi_monitor_start(struct esi_context *context, struct esi_address *bound,
                              struct es_error *error)
{
    struct esi_runtime *runtime = context->runtime;
    /* The last worker: where placement fills workers up it has the least to do. */
    struct esi_worker *home = esi_runtime_worker(runtime, esi_runtime_worker_count(runtime) - 1);
    struct esi_tls_context *tls = NULL;
    struct esi_address address;
    int sock = ESI_ENV_NO_SOCKET;

    enum es_err err = make_tls(context, &tls, error);
    if (err != ES_OK) {
        return err;
    }
    err = esi_env_listen(context->env, context->config->monitor.host, context->config->monitor.port,
                         &sock, &address);
    if (err != ES_OK) {
        esi_tls_context_unref(tls);
        return err;
    }
    struct esi_monitor *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    struct sentinel *sentinel = aligned_alloc(ESI_CACHE_LINE, sizeof *sentinel);
    if (self == NULL || sentinel == NULL) {
        free(self);
        free(sentinel);
        esi_tls_context_unref(tls);
        esi_env_close(context->env, sock);
        return ES_NO_MEMORY;
    }
    *self = (struct esi_monitor){.context = context, .tls = tls, .bound = address, .sock = sock};
    self->facts.port = address.port;
    self->facts.cores = esi_env_core_count(context->env);
    esi_monitor_sample_init(&self->sample, context->env, context->start_ns);
    esi_list_init(&self->clients);
    esi_monitor_closed_init(&self->closed);
    self->facts.closed = &self->closed;
    esi_actor_init(&self->actor, &monitor_type, runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->accept_timer);
    esi_actor_timer_init(&self->actor, &self->memory_timer);
    esi_actor_timer_init(&self->actor, &self->visit_timer);
    esi_actor_timer_init(&self->actor, &self->health_timer);
    self->health.visited_kind = MONITOR_HEALTH_VISITED;
    self->health.reported_kind = MONITOR_HEALTH_REPORTED;
    esi_monitor_health_init(&self->health, context, &self->actor);
    context->monitor = self;
    *sentinel = (struct sentinel){.monitor = self};
    esi_actor_ref(&self->actor);
    esi_actor_init(&sentinel->actor, &sentinel_type, runtime, home);
    esi_actor_start(&self->actor);
    esi_actor_start(&sentinel->actor);
    *bound = address;
    return ES_OK;
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
