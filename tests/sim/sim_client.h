/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated NATS client: connects, subscribes and unsubscribes, publishes, asks for PONGs, stops
 * reading for a while, goes and comes back, as it is drawn. What it sees goes into the book.
 */
#pragma once

#include "sim_world.h"

/* Makes a client and its thread. */
struct sim_client *sim_client_new(struct sim_world *world, uint32_t index);
/* After PHASE_OVER: joins its thread and frees it. */
void sim_client_free(struct sim_client *client);
/* True when the client has nothing left to do in this phase: in PHASE_QUIET a PONG stands behind
 * all it did, in PHASE_LEAVE it is gone. */
bool sim_client_is_settled(const struct sim_client *client);
/* The phase has changed. */
void sim_client_wake(struct sim_client *client);
/* Checks that all has come that stands before its last answered PING. */
void sim_client_check_complete(struct sim_client *client);
/* Cuts the client off from its server, or heals that; resets its connection. */
void sim_client_cut(struct sim_client *client, bool is_cut);
void sim_client_reset(struct sim_client *client);
/* Why it waits, for the report of a failure. */
void sim_client_print(const struct sim_client *client);
