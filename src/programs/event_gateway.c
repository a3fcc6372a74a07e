/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event-gateway: the server for clients from outside, who come in by tokens, and the way from there
 * to event-service. */
#include "health_check.h"
#include "program.h"
#include "token_command.h"

int main(int argc, char **argv)
{
    static const struct program_command commands[] = {
        {"token", TOKEN_COMMAND_USAGE, esi_token_command_run},
        {"health-check", HEALTH_CHECK_USAGE, esi_health_check_run},
        {NULL, NULL, NULL}};
    static const struct program program = {
        .name = "event-gateway",
        .purpose = "NATS server for clients from outside, linked to event-service",
        .kind = ES_EVENT_GATEWAY,
        .commands = commands};

    return esi_program_main(&program, argc, argv);
}
