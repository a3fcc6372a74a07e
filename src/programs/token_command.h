/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event-gateway token add, list and revoke. */
#pragma once

#define TOKEN_COMMAND_USAGE                                                                        \
    "add NAME --config FILE [--expires TIME] [--publish SUBJECTS] [--subscribe SUBJECTS]\n"        \
    "       event-gateway token list --config FILE\n"                                              \
    "       event-gateway token revoke NAME --config FILE"

/* The whole command (argv[0] is "token"); returns the exit status. */
int esi_token_command_run(int argc, char **argv);
