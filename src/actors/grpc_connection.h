/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gRPC server connection: one gRPC client of EventService. Publish hands the event to the queue and
 * is answered when it is accepted; Start and Stop switch the dispatching to handlers; Subscribe
 * answers nothing.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_address;
struct esi_context;
struct esi_grpc_door;

/*
 * Listens on grpc.host:grpc.port and serves EventService, with the main TLS settings;
 * context->grpc_door is set. Blocks (files): at start only. Errors as esi_env_listen, and of the
 * TLS files.
 */
ES_MUST_USE enum es_err esi_grpc_connection_listen(struct esi_context *context,
                                                   struct esi_address *bound,
                                                   struct es_error *error);
/* After the runtime has stopped: frees what the connections shared. NULL is accepted. */
void esi_grpc_connection_free_door(struct esi_grpc_door *door);
