/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Authenticator: says who a peer is and what it may do, asynchronously, bounded in number and time:
 * the one gate for all that show a secret, clients and gateways. Users and token of the
 * configuration, and the token file, which is read again when it changes; connections of a revoked
 * token are closed.
 */
#pragma once

#include "base/err.h"

struct esi_auth_check;
struct esi_authenticator;
struct esi_context;

/*
 * Makes and starts the authenticator of a server (call before the doors open).
 *   context   borrowed
 *   out       lives as long as the runtime's actors do
 *   error     filled on failure, but for ES_NO_MEMORY: permissions or the token file are wrong, or
 *             the health check's token cannot be written
 * Blocks: reads and writes files.
 */
ES_MUST_USE enum es_err esi_authenticator_new(struct esi_context *context,
                                              struct esi_authenticator **out,
                                              struct es_error *error);
/*
 * Asks; the check is taken, and answered once: refused where the authenticator has stopped
 * meanwhile. Not after the stop has come to the services (STOP_SERVICES): whoever asks belongs to
 * an earlier phase. Thread: a worker.
 */
void esi_authenticator_check(struct esi_authenticator *authenticator, struct esi_auth_check *check);
