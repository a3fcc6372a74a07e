/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gRPC server connection: one gRPC client of EventService. */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_address;
struct esi_context;

/* Listens on grpc.host:grpc.port and serves EventService. Errors as esi_env_listen, and of the TLS files. */
ES_MUST_USE enum es_err esi_grpc_connection_listen(struct esi_context *context, struct esi_address *bound,
                                                   struct es_error *error);
