/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event-gateway health-check. */
#pragma once

#define HEALTH_CHECK_USAGE "--config FILE [--timeout MILLISECONDS]"

/* The whole command (argv[0] is "health-check"); returns the exit status. */
int esi_health_check_run(int argc, char **argv);
