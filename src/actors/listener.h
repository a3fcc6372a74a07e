/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listener: accepts on one listening socket and hands each connection to whoever it was made
 * for. */
#pragma once

#include "base/err.h"
#include "env/env.h"

#include <stdint.h>

struct esi_context;
struct esi_listener;
struct esi_worker;

/* Takes the socket, also on failure. Thread: the listener's worker. */
typedef enum es_err (*esi_listener_accepted_fn)(struct esi_context *context,
                                                struct esi_worker *home, int sock,
                                                const struct esi_address *peer);

/*
 * Listens and starts to accept.
 *   accepted  called for each connection, with the worker that it is to live on
 *   bound     the real address
 * Errors as esi_env_listen; ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_listener_start(struct esi_context *context, const char *host,
                                           uint16_t port, esi_listener_accepted_fn accepted,
                                           struct esi_address *bound);
