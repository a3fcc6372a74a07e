/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /healthz tells: whether every worker still has its turns, and what does not work as it
 * should. One look at a time: it passes by every actor and then asks the queue; its result is good
 * for a moment, so that no peer can make the workers do nothing else. Part of the monitor's actor,
 * except that a worker that is passed by notes it here.
 *
 * Unhealthy (503): a worker does not respond, or the event queue has stopped.
 * Degraded (200, each thing named): a configured gateway is not linked, a handler has no worker
 * service, the queue or a share of it is full, memory is short, a certificate ends soon.
 */
#pragma once

#include "base/bytes.h"
#include "base/json_writer.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_context;
struct esi_queue_report;

enum { ESI_MONITOR_HEALTH_TEXT_MAX = 96 };

struct esi_monitor_health {
    struct esi_context *context; /* borrowed */
    struct esi_actor *asker;     /* borrowed: the monitor */
    uint32_t visited_kind;       /* its messages */
    uint32_t reported_kind;
    struct esi_visit visit;
    struct esi_msg visited_msg;
    bool is_looking; /* a message will come; holds a reference to the asker */
    uint64_t begin_ns;
    uint64_t asked_end;        /* requests before this number are answered by the look under way */
    uint64_t fresh_until_ns;   /* the last result may be told until then */
    _Atomic uint32_t worker;   /* whose turn it is to be passed by */
    uint32_t degraded_count;   /* of the last result */
    struct esi_bytes degraded; /* likewise: a JSON array of sentences */
    char failure[ESI_MONITOR_HEALTH_TEXT_MAX]; /* likewise: why it is unhealthy; "": it is not */
    /* the look under way */
    struct esi_bytes found;
    struct esi_json_writer json;
    uint32_t found_count;
};

void esi_monitor_health_init(struct esi_monitor_health *health, struct esi_context *context,
                             struct esi_actor *asker);
void esi_monitor_health_deinit(struct esi_monitor_health *health);
/* Begins a look; there is none under way. Sends visited_kind. */
void esi_monitor_health_begin(struct esi_monitor_health *health, uint64_t now_ns,
                              uint64_t asked_end);
/* visited_kind has come. True: the look has ended; else reported_kind will come. */
bool esi_monitor_health_visited(struct esi_monitor_health *health, uint64_t now_ns);
/* reported_kind has come: the look has ended. */
void esi_monitor_health_reported(struct esi_monitor_health *health,
                                 const struct esi_queue_report *report, uint64_t now_ns);
/* The look takes too long: writes why. False: it does not. */
bool esi_monitor_health_is_stalled(const struct esi_monitor_health *health, uint64_t now_ns,
                                   char text[ESI_MONITOR_HEALTH_TEXT_MAX]);
/* When it will be too long. */
uint64_t esi_monitor_health_deadline_ns(const struct esi_monitor_health *health);
