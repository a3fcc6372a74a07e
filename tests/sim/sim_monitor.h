/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who watches the servers: asks for one page of one of them after the other while all else goes on,
 * and checks each answer (sim_page.h). In the end it asks what was dropped for which connection,
 * and compares that with what is missing.
 */
#pragma once

#include "sim_world.h"

/* Makes the watcher and its thread. */
struct sim_monitor *sim_monitor_new(struct sim_world *world);
/* After PHASE_OVER. NULL is accepted. */
void sim_monitor_free(struct sim_monitor *monitor);

/*
 * Messages are missing at a connection, where the server leaves out what is too much
 * (slow_consumer: drop_new): it must have counted as many for it.
 *   starts   of the server when the connection came: a later life has other connections
 *   cid      as the server told it, in INFO
 */
void sim_monitor_claim(struct sim_monitor *monitor, uint32_t server, uint32_t starts, uint64_t cid,
                       uint64_t missing);
/* Asks all servers and checks the claims, where the server is still the same one. Lets time pass:
 * not within a step. */
void sim_monitor_check_claims(struct sim_monitor *monitor);
