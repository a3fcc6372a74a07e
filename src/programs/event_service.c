/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event-service: the internal server, with mutual TLS, the event queue and its handlers. */
#include "program.h"

int main(int argc, char **argv)
{
    static const struct program_command commands[] = {{NULL, NULL, NULL}};
    static const struct program program = {.name = "event-service",
                                           .purpose =
                                               "NATS server for the services of one platform",
                                           .kind = ES_EVENT_SERVICE,
                                           .commands = commands};

    return esi_program_main(&program, argc, argv);
}
