/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who publishes events by gRPC: one connection to one event-service at a time, a few calls on it.
 * What it is told goes to sim_events.h, as what clients are told. */
#pragma once

#include "sim_events.h"

/* Makes the publisher and its thread. */
struct sim_publisher *sim_publisher_new(struct sim_world *world);
/* After PHASE_OVER. NULL is accepted. */
void sim_publisher_free(struct sim_publisher *publisher);
