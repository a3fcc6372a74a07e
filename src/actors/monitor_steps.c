/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page in hand, step by step. One at a time, in the order they were asked for, so that at most
 * one visit of a page walks through the workers; visits keep a distance from each other, so that no
 * peer can make the workers spend more than a small part of their time on them.
 *
 * Invariant: while a step is pending the monitor has a reference to itself, and whoever carries the
 * step out answers once.
 */
#include "actors/context.h"
#include "actors/monitor_answer.h"
#include "actors/monitor_client.h"
#include "actors/monitor_internal.h"
#include "actors/queue.h"
#include "base/assert.h"
#include "base/own.h"

enum {
    /* after a visit the workers are left alone for so many times its duration */
    VISIT_REST_FACTOR = 4
};

static const uint64_t VISIT_REST_NS_MAX = 250000000;

static void keep(struct esi_msg *msg)
{
    (void)msg; /* embedded in the monitor */
}

/* --- steps --- */

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

void esi_monitor_steps_begin_visit(struct esi_monitor *self)
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

/* --- pages --- */

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
        esi_monitor_serve(self, client);
    }
    esi_monitor_page_free(page);
}

/* Carries a page on as far as it goes without waiting. */
static void run_steps(struct esi_monitor *self, enum esi_monitor_step step)
{
    for (;;) {
        switch (step) {
        case STEP_VISIT:
            esi_monitor_steps_begin_visit(self);
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

void esi_monitor_steps_done(struct esi_monitor *self)
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

void esi_monitor_steps_begin(struct esi_monitor *self)
{
    size_t held_bytes = 0;
    struct esi_monitor_client *client =
        esi_monitor_client_next_waiting(&self->clients, &held_bytes);
    enum esi_monitor_step step = STEP_DONE;

    if (client == NULL) {
        return;
    }
    if (held_bytes >= self->held_bytes_max) {
        if (esi_monitor_client_evict(&self->clients, true)) {
            esi_actor_continue(&self->actor);
        } else {
            /* Firing it alone brings another turn. */
            esi_actor_timer_set(&self->memory_timer,
                                esi_actor_now_ns(&self->actor) + ESI_MONITOR_FULL_NS);
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

void esi_monitor_steps_router_reported(struct esi_monitor *self)
{
    if (--self->reports_pending == 0) {
        esi_monitor_steps_done(self);
    }
}

void esi_monitor_steps_events_reported(struct esi_monitor *self, struct esi_queue_report *report)
{
    self->facts.events_err = report->err;
    self->facts.events = report->json;
    self->facts.queue = report->figures;
    esi_bytes_init(&report->json, 0);
    esi_monitor_steps_done(self);
}

void esi_monitor_steps_resume(struct esi_monitor *self)
{
    if (self->has_yielded && self->yield_turn != self->actor.stats.turns) {
        self->has_yielded = false;
        esi_monitor_steps_done(self);
    }
}

void esi_monitor_steps_stop(struct esi_monitor *self)
{
    if (!self->is_step_pending) {
        esi_monitor_page_free(ESI_MOVE(self->page));
        self->page_client = NULL;
    }
}
