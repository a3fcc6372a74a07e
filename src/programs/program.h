/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What event-service and event-gateway share: command line, signals, start and stop. Uses the
 * public interface alone. */
#pragma once

#include <eventservice/eventservice.h>

/* Exit statuses, as the contract has them. */
enum program_exit { EXIT_CLEAN = 0, EXIT_RUN_TIME = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 };

struct program {
    const char *name;
    const char *purpose; /* one line of --help */
    enum es_program kind;
    /* A sub-command's name and function (argc, argv from the sub-command on); ends with NULL. */
    const struct program_command {
        const char *name;
        const char *usage;
        int (*run)(int argc, char **argv);
    } * commands;
};

/* The whole of main. */
int esi_program_main(const struct program *program, int argc, char **argv);
