/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor's state, shared by its three files: monitor.c (the actor: its socket, requests and
 * messages), monitor_steps.c (the page in hand), monitor_healthz.c (when who is told of the
 * health). All of it is touched on the monitor's worker only, but for the page in hand, which
 * belongs to who carries out its step (monitor_page.h).
 */
#pragma once

#include "actors/monitor_closed.h"
#include "actors/monitor_health.h"
#include "actors/monitor_page.h"
#include "actors/monitor_sample.h"
#include "base/list.h"
#include "env/env.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_context;
struct esi_monitor_client;
struct esi_queue_report;
struct esi_tls_context;

enum esi_monitor_msg {
    MONITOR_STOPPING,
    MONITOR_STEP_DONE,
    MONITOR_ROUTER_REPORTED,
    MONITOR_EVENTS_REPORTED,
    MONITOR_CONNECTION_CLOSED,
    MONITOR_HEALTH_VISITED,
    MONITOR_HEALTH_REPORTED
};

/* After which time the monitor looks again whether there is room. */
#define ESI_MONITOR_FULL_NS UINT64_C(50000000)

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
    struct esi_monitor_totals totals; /* as shown last */
    size_t held_bytes_max;            /* no new page is begun while more waits for slow peers */
    uint64_t page_bytes;              /* memory of the page in hand, when it was here last */
    uint64_t counted_bytes;           /* memory in all, as the ledger knows it */
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

/* --- monitor.c --- */

/* Answers what the client has asked for and can be answered now. */
void esi_monitor_serve(struct esi_monitor *self, struct esi_monitor_client *client);

/* --- monitor_steps.c --- */

/* Begins the page of the client that has waited longest, where one waits. There is none in hand. */
void esi_monitor_steps_begin(struct esi_monitor *self);
/* The step that was pending is done: goes on with the page, or lets it go. */
void esi_monitor_steps_done(struct esi_monitor *self);
/* MONITOR_ROUTER_REPORTED has come. */
void esi_monitor_steps_router_reported(struct esi_monitor *self);
/* MONITOR_EVENTS_REPORTED has come; what the report has is moved out. */
void esi_monitor_steps_events_reported(struct esi_monitor *self, struct esi_queue_report *report);
/* The workers have had their rest (visit_timer): the visit that waits for it begins. */
void esi_monitor_steps_begin_visit(struct esi_monitor *self);
/* At the end of a turn: goes on with a page that has let others have theirs. */
void esi_monitor_steps_resume(struct esi_monitor *self);
/* Nobody waits for pages any more; one with a step pending is let go when that is done. */
void esi_monitor_steps_stop(struct esi_monitor *self);

/* --- monitor_healthz.c --- */

/* Why pages cannot be made now; static. NULL: they can. */
const char *esi_monitor_healthz_why_not_ready(const struct esi_monitor *self);
/* Answers at once, as far as the health is known; else when a look has ended. */
void esi_monitor_healthz_answer(struct esi_monitor *self, struct esi_monitor_client *client,
                                const struct esi_monitor_query *query);
/* MONITOR_HEALTH_VISITED has come. */
void esi_monitor_healthz_visited(struct esi_monitor *self);
/* MONITOR_HEALTH_REPORTED has come. */
void esi_monitor_healthz_reported(struct esi_monitor *self, const struct esi_queue_report *report);
/* A look takes too long (health_timer): that is the answer, also for those who ask from here on. */
void esi_monitor_healthz_stalled(struct esi_monitor *self);
