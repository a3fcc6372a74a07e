/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The servers of a world: their configuration, as it is drawn, their starts and stops, and what
 * they may still hold when everybody has left.
 */
#pragma once

#include "sim_world.h"

/* Draws how many servers there are and of what kind, and which gateways each knows. Before
 * sim_events_new. */
void sim_server_draw(struct sim_world *world);
/* Draws a server's configuration and reads it. */
void sim_server_load(struct sim_world *world, struct sim_server *server);
void sim_server_start(struct sim_world *world, struct sim_server *server);
/* Stops it, by force where it is not done by then. No socket may be left. */
void sim_server_stop(struct sim_world *world, struct sim_server *server, uint64_t timeout_ns);
/* After the stop. */
void sim_server_free(struct sim_server *server);
/* No class of memory has more than it may have. */
void sim_server_check_bounds(struct sim_world *world, const struct sim_server *server);
/* Nobody is connected any more: nothing is kept but what is for the next ones. */
void sim_server_check_empty(const struct sim_world *world, const struct sim_server *server);
