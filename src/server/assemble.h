/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Builds the actors of a server from its configuration. */
#pragma once

#include "actors/context.h"
#include "base/err.h"

struct esi_assembly {
    struct esi_context context;
    uint16_t client_port;
    uint16_t gateway_port;
    uint16_t monitor_port;
    uint16_t grpc_port;
};

/*
 * What only making it shows: permissions and the registry of events are made of a well-formed
 * configuration, and freed again. Errors: ES_INVALID, ES_TOO_LARGE (both with a text),
 * ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_assemble_check(struct esi_env *env, const struct esi_config *config,
                                           struct es_error *error);
/* What is behind the doors first, the doors last. On failure everything is taken down again, and
 * error says why. */
ES_MUST_USE enum es_err esi_assemble_start(struct esi_assembly *assembly, struct esi_env *env,
                                           const struct esi_config *config, struct es_error *error);
/* Stops the runtime in order and frees everything. ES_TIMEOUT: peers had to be cut off. */
enum es_err esi_assemble_stop(struct esi_assembly *assembly, uint64_t timeout_ns);
