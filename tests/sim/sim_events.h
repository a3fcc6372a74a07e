/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events: each that a client publishes, what it was told about it, and what became of it at the
 * simulated worker services, which are part of this: they take events by our own gRPC server, and
 * answer well, badly, late or never, as it is drawn.
 *
 * Checked: an event that was accepted, and that no restart of event-service has lost with its
 * memory, is in the end delivered, or given up for a reason; where nothing goes wrong it is
 * delivered once; a worker gets nothing that was not published.
 */
#pragma once

#include "sim_world.h"

#include "base/bytes.h"
#include "base/str.h"

enum { SIM_WORKERS = 2 };

/* Makes the workers and their threads. */
struct sim_events *sim_events_new(struct sim_world *world);
/* After PHASE_OVER. NULL is accepted. */
void sim_events_free(struct sim_events *events);
/* Appends the part of event-service's configuration that names the workers. */
void sim_events_configure(struct sim_world *world, struct esi_bytes *out);

/*
 * A client publishes an event.
 *   reply   the subject for the answer, a text; "" for none
 * Appends the operation to out.
 */
void sim_events_publish(struct sim_events *events, const char *reply, struct esi_bytes *out);
/* The same for one that is published by gRPC: appends the event's body, tells its number. */
uint32_t sim_events_make(struct sim_events *events, struct esi_bytes *out);
/* An event-service has accepted it. */
void sim_events_accepted(struct sim_events *events, uint32_t number);
/* The number that the next event gets. */
uint32_t sim_events_next(const struct sim_events *events);
/* The answer about an event has come to its publisher. */
void sim_events_answered(struct sim_events *events, uint32_t number, struct esi_str answer);

/* All that was accepted has come to its end. */
bool sim_events_are_settled(const struct sim_events *events);
/* The phase has changed: workers take everything at once from PHASE_QUIET on. */
void sim_events_wake(struct sim_events *events);
/* A worker is gone for a while, with its connections; or its connections are reset. */
void sim_events_disturb(struct sim_events *events);
/* Tells what is missing, for the report of a failure. */
void sim_events_print(const struct sim_events *events);
