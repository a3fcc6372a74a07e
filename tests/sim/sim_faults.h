/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong in a world, as it is drawn: the link between the servers is cut or reset, a
 * client is cut off or reset, a server is stopped or dies and is started again. */
#pragma once

#include "sim_world.h"

/* Begins; until the active phase ends. */
void sim_faults_start(struct sim_world *world);
/* Everybody reaches everybody again. */
void sim_faults_heal(struct sim_world *world);
/* A server that is to be restarted, and is not within one of its own steps; NULL: none. */
struct sim_server *sim_faults_next_restart(struct sim_world *world, bool *is_death);
