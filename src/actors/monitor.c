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
#include "actors/monitor_client.h"
#include "actors/monitor_page.h"
#include "actors/monitor_query.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "env/env.h"
#include "net/http1.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum monitor_msg { MONITOR_STOPPING, MONITOR_STEP_DONE, MONITOR_ROUTER_REPORTED };

enum {
    CLIENTS_MAX = 32,
    ACCEPTS_A_TURN = 16,
    HELD_BYTES_MAX =
        64 * 1024 * 1024, /* no new page is begun while more is waiting for slow peers */
    PROC_FILE_BYTES_MAX = 4096,
    VISIT_REST_FACTOR =
        4 /* after a visit the workers are left alone for so many times its duration */
};

static const uint64_t VISIT_REST_NS_MAX = 250000000;
static const uint64_t OUT_OF_DESCRIPTORS_NS = 100000000;
static const uint64_t FULL_NS = 50000000;
static const uint64_t EVICTION_NS_MIN = 250000000;
static const uint64_t CPU_WINDOW_NS = 500000000;

/* Memory and CPU of the process, read on a service thread. */
struct sample {
    struct esi_job job;
    struct esi_monitor *monitor; /* borrowed: a reference is held while the step is pending */
    bool is_ok;
    uint64_t rss_pages;
    uint64_t cpu_ticks;
};

struct esi_monitor {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    struct esi_address bound;
    int sock; /* owned */
    struct esi_io io;
    struct esi_actor_timer accept_timer;
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
    struct esi_msg step_msg;
    struct esi_visit visit;
    struct esi_actor_timer visit_timer;
    enum esi_monitor_step step; /* what is pending */
    uint32_t reports_pending;   /* of STEP_ROUTERS */
    uint64_t visit_start_ns;
    uint64_t visit_earliest_ns;
    struct sample sample;
    uint64_t cpu_ticks; /* at the begin of the window that cpu_percent was taken over */
    uint64_t cpu_ns;
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

/* --- the process's figures --- */

/* The number at *text, which moves behind it. */
static uint64_t take_number(const char **text)
{
    char *end = NULL;
    const uint64_t value = strtoull(*text, &end, 10);

    *text = end;
    return value;
}

static bool read_proc(struct esi_env *env, const char *path, struct esi_bytes *out)
{
    esi_bytes_clear(out);
    if (esi_env_file_read(env, path, PROC_FILE_BYTES_MAX, out) != ES_OK) {
        return false;
    }
    esi_bytes_append(out, "", 1);
    return !out->failed;
}

/* utime and stime are the 14th and 15th field; the second one, in brackets, may hold anything. */
static bool parse_stat(const char *text, uint64_t *ticks)
{
    const char *at = strrchr(text, ')');

    for (int field = 2; at != NULL && field < 14; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return false;
    }
    const uint64_t user = take_number(&at);
    *ticks = user + take_number(&at);
    return true;
}

static void run_sample(struct esi_job *job)
{
    struct sample *sample = ESI_CONTAINER_OF(job, struct sample, job);
    struct esi_monitor *monitor = sample->monitor;
    struct esi_env *env = monitor->context->env;
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    sample->is_ok = read_proc(env, "/proc/self/statm", &text);
    if (sample->is_ok) {
        const char *at = text.data;
        (void)take_number(&at);
        sample->rss_pages = take_number(&at);
        sample->is_ok =
            read_proc(env, "/proc/self/stat", &text) && parse_stat(text.data, &sample->cpu_ticks);
    }
    esi_bytes_deinit(&text);
    esi_actor_send(&monitor->actor, &monitor->step_msg);
}

static void take_sample(struct esi_monitor *self)
{
    const struct sample *sample = &self->sample;
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);

    if (!sample->is_ok) {
        return;
    }
    self->facts.mem_bytes = sample->rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    if (now_ns - self->cpu_ns >= CPU_WINDOW_NS) {
        const double used_s =
            (double)(sample->cpu_ticks - self->cpu_ticks) / (double)sysconf(_SC_CLK_TCK);
        self->facts.cpu_percent = used_s * 1e11 / (double)(now_ns - self->cpu_ns);
        self->cpu_ticks = sample->cpu_ticks;
        self->cpu_ns = now_ns;
    }
}

/* --- the page in hand --- */

static void visit_actor(struct esi_actor *actor, void *argument)
{
    struct esi_monitor_page *page = argument;

    if (page->type->visit != NULL) {
        page->type->visit(page, actor);
    }
}

static void visit_worker(struct esi_worker *worker, void *argument)
{
    struct esi_monitor_page *page = argument;

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
    self->visit = (struct esi_visit){.visit = visit_actor,
                                     .visit_worker = visit_worker,
                                     .argument = self->page,
                                     .asker = &self->actor,
                                     .done = &self->step_msg};
    esi_runtime_visit(self->context->runtime, &self->visit);
}

static void begin_sample(struct esi_monitor *self)
{
    begin_pending(self, STEP_SAMPLE);
    self->sample = (struct sample){.job = {.run = run_sample}, .monitor = self};
    esi_runtime_submit(self->context->runtime, &self->sample.job);
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

/* --- answers --- */

static void respond(struct esi_monitor_client *client, unsigned status, const char *content_type,
                    struct esi_str body)
{
    struct esi_http1_pair headers[] = {
        {.name = ESI_STR("X-Content-Type-Options"), .value = ESI_STR("nosniff")},
        {.name = ESI_STR("Cache-Control"), .value = ESI_STR("no-store")},
    };

    esi_monitor_client_respond(client,
                               &(struct esi_http1_response){.status = status,
                                                            .content_type = content_type,
                                                            .body = body,
                                                            .headers = headers,
                                                            .header_count = ESI_COUNT_OF(headers)});
}

static void respond_text(struct esi_monitor_client *client, unsigned status, const char *text)
{
    respond(client, status, "text/plain; charset=utf-8", esi_str_from(text));
}

static void respond_index(struct esi_monitor_client *client)
{
    static const char text[] =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>event-service</title></head>\n<body>\n"
        "<ul>\n"
        "<li><a href=\"varz\">varz</a>: the server</li>\n"
        "<li><a href=\"connz\">connz</a>: client connections</li>\n"
        "<li><a href=\"gatewayz\">gatewayz</a>: links to other clusters</li>\n"
        "<li><a href=\"actorz\">actorz</a>: workers and actors</li>\n"
        "<li><a href=\"eventz\">eventz</a>: queue, handlers, dead letters</li>\n"
        "<li><a href=\"healthz\">healthz</a>: ready or not</li>\n"
        "</ul>\n</body>\n</html>\n";

    respond(client, 200, "text/html; charset=utf-8", ESI_STR(text));
}

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

static void respond_health(const struct esi_monitor *self, struct esi_monitor_client *client)
{
    const char *why = why_not_ready(self);
    struct esi_json_writer json;
    struct esi_bytes body;

    esi_bytes_init(&body, 0);
    esi_json_writer_init(&json, &body, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_text(&json, "status", why == NULL ? "ok" : "error");
    if (why != NULL) {
        esi_json_writer_field_text(&json, "error", why);
    }
    esi_json_writer_object_end(&json);
    respond(client, why == NULL ? 200 : 503, "application/json", esi_bytes_str(&body));
    esi_bytes_deinit(&body);
}

static void on_request(struct esi_monitor *self, struct esi_monitor_client *client,
                       const struct esi_http1_request *request)
{
    char error[ESI_MONITOR_ERROR_MAX];
    struct esi_monitor_query query;

    if (request->method == HTTP1_POST) {
        respond_text(client, 405, "Method Not Allowed\n");
        return;
    }
    const enum es_err err = esi_monitor_query_read(request, &query, error);
    if (err != ES_OK) {
        respond_text(client, err == ES_NOT_FOUND ? 404 : 400, error);
        return;
    }
    self->facts.requests[query.kind]++;
    if (query.kind == MONITOR_INDEX) {
        respond_index(client);
    } else if (query.kind == MONITOR_HEALTHZ) {
        respond_health(self, client);
    } else if (why_not_ready(self) != NULL) {
        /* What pages show is being built, or taken down. */
        respond_text(client, 503, why_not_ready(self));
    } else {
        esi_monitor_client_await_page(client, &query, self->asked++);
    }
}

static void serve(struct esi_monitor *self, struct esi_monitor_client *client)
{
    const struct esi_http1_request *request;

    esi_monitor_client_settle(client);
    while ((request = esi_monitor_client_next(client)) != NULL) {
        on_request(self, client, request);
        esi_monitor_client_settle(client);
    }
    /* Asking for a request may have refused one. */
    esi_monitor_client_settle(client);
}

/* --- pages, one at a time --- */

static void finish_page(struct esi_monitor *self)
{
    struct esi_monitor_page *page = ESI_MOVE(self->page);
    struct esi_monitor_client *client = ESI_MOVE(self->page_client);

    if (client != NULL && client->phase == PHASE_PAGE) {
        if (page->status == 200) {
            respond(client, 200, "application/json", esi_bytes_str(&page->body));
        } else {
            respond_text(client, page->status,
                         "the page does not fit: ask for less with limit and offset");
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
            self->facts.events_err = ES_UNSUPPORTED;
            step = self->page->type->next(self->page);
            break;
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
        take_sample(self);
    }
    if (self->is_ended) {
        esi_monitor_page_free(ESI_MOVE(self->page));
        self->page_client = NULL;
    } else {
        run_steps(self, self->page->type->next(self->page));
    }
    esi_actor_unref(&self->actor);
}

/* The one that has waited longest, if there is memory for one more answer. */
static struct esi_monitor_client *next_waiting(const struct esi_monitor *self)
{
    struct esi_monitor_client *first = NULL;
    size_t held_bytes = 0;

    for (struct esi_list *link = self->clients.next; link != &self->clients; link = link->next) {
        struct esi_monitor_client *client = ESI_CONTAINER_OF(link, struct esi_monitor_client, link);
        held_bytes += esi_monitor_client_held_bytes(client);
        if (client->phase == PHASE_PAGE && (first == NULL || client->asked < first->asked)) {
            first = client;
        }
    }
    return held_bytes < HELD_BYTES_MAX ? first : NULL;
}

static void begin_page(struct esi_monitor *self)
{
    struct esi_monitor_client *client = next_waiting(self);
    enum esi_monitor_step step = STEP_DONE;

    if (client == NULL) {
        return;
    }
    self->page = esi_monitor_page_new(self->context, &self->facts, &client->query, &step);
    if (self->page == NULL) {
        esi_monitor_client_close(client);
        return;
    }
    self->page_client = client;
    run_steps(self, step);
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

/* Makes room for a new peer: the one goes that has kept us waiting for longest, if that was long
 * enough. */
static bool evict(struct esi_monitor *self)
{
    struct esi_monitor_client *slowest = NULL;
    uint64_t slowest_ns = EVICTION_NS_MIN;

    for (struct esi_list *link = self->clients.next; link != &self->clients; link = link->next) {
        struct esi_monitor_client *client = ESI_CONTAINER_OF(link, struct esi_monitor_client, link);
        const uint64_t idle_ns = esi_monitor_client_idle_ns(client);
        if (idle_ns >= slowest_ns) {
            slowest = client;
            slowest_ns = idle_ns;
        }
    }
    if (slowest == NULL) {
        return false;
    }
    esi_monitor_client_close(slowest);
    return true;
}

static uint32_t count_clients(const struct esi_monitor *self)
{
    uint32_t count = 0;

    for (struct esi_list *link = self->clients.next; link != &self->clients; link = link->next) {
        count += ESI_CONTAINER_OF(link, struct esi_monitor_client, link)->phase != PHASE_GONE;
    }
    return count;
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
        if (count_clients(self) >= CLIENTS_MAX && !evict(self)) {
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
            err = esi_monitor_client_new(&self->actor, sock, &client);
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
    if ((events & POLL_READ) != 0) {
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
    } else {
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
    if (self->is_full && count_clients(self) < CLIENTS_MAX) {
        self->is_full = false;
        esi_actor_timer_cancel(&self->accept_timer);
        esi_actor_io_change(&self->io, POLL_READ);
    }
}

static void turn_end(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    free_gone(self);
    if (self->is_ended) {
        if (!self->is_step_pending) {
            esi_actor_finish(actor);
        }
        return;
    }
    if (self->page == NULL) {
        begin_page(self);
        if (self->page == NULL && next_waiting(self) != NULL) {
            esi_actor_continue(actor);
        }
    }
}

static void stop(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    self->is_ended = true;
    esi_actor_timer_cancel(&self->accept_timer);
    esi_actor_timer_cancel(&self->visit_timer);
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
                     count_clients(self));
}

static void free_monitor(struct esi_actor *actor)
{
    struct esi_monitor *self = self_of(actor);

    /* By force: the stop was never told. */
    while (!esi_list_is_empty(&self->clients)) {
        esi_monitor_client_free(
            ESI_CONTAINER_OF(self->clients.next, struct esi_monitor_client, link));
    }
    esi_actor_timer_cancel(&self->accept_timer);
    esi_actor_timer_cancel(&self->visit_timer);
    esi_actor_io_unwatch(&self->io);
    esi_env_close(self->context->env, self->sock);
    esi_monitor_page_free(self->page);
    esi_bytes_deinit(&self->facts.events);
    free(self);
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
    .free = free_monitor,
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

enum es_err esi_monitor_start(struct esi_context *context, struct esi_address *bound)
{
    struct esi_runtime *runtime = context->runtime;
    /* The last worker: where placement fills workers up it has the least to do. */
    struct esi_worker *home = esi_runtime_worker(runtime, esi_runtime_worker_count(runtime) - 1);
    struct esi_address address;
    int sock = ESI_ENV_NO_SOCKET;

    const enum es_err err = esi_env_listen(context->env, context->config->monitor.host,
                                           context->config->monitor.port, &sock, &address);
    if (err != ES_OK) {
        return err;
    }
    struct esi_monitor *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);
    struct sentinel *sentinel = aligned_alloc(ESI_CACHE_LINE, sizeof *sentinel);
    if (self == NULL || sentinel == NULL) {
        free(self);
        free(sentinel);
        esi_env_close(context->env, sock);
        return ES_NO_MEMORY;
    }
    *self = (struct esi_monitor){.context = context, .bound = address, .sock = sock};
    self->facts.port = address.port;
    self->facts.cores = esi_env_core_count(context->env);
    self->cpu_ns = context->start_ns;
    esi_list_init(&self->clients);
    esi_actor_init(&self->actor, &monitor_type, runtime, home);
    esi_actor_io_init(&self->actor, &self->io);
    esi_actor_timer_init(&self->actor, &self->accept_timer);
    esi_actor_timer_init(&self->actor, &self->visit_timer);
    *sentinel = (struct sentinel){.monitor = self};
    esi_actor_ref(&self->actor);
    esi_actor_init(&sentinel->actor, &sentinel_type, runtime, home);
    esi_actor_start(&self->actor);
    esi_actor_start(&sentinel->actor);
    *bound = address;
    return ES_OK;
}
