/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listener: accepts on one listening socket and hands each connection to whoever it was made for;
 * not all at once. A connection holds a place from then on until it has shown who it is, or has
 * ended. There are limits.max_handshakes places for each door, shared fairly by the peers'
 * addresses (actors/fair_queue.h); who finds none waits for a while, unread. So what peers cost
 * that nobody knows yet is bounded, and one that floods stands in its own way.
 */
#pragma once

#include "base/err.h"
#include "env/env.h"

#include <stdint.h>

struct esi_context;
struct esi_listener;
struct esi_ticket; /* a place */
struct esi_worker;

/*
 * Makes something live on `home` of an accepted connection.
 *   sock    taken, also on failure
 *   ticket  taken, also on failure; given back with esi_listener_release once it is known who the
 *           peer is, or when the connection has ended
 * Thread: the listener's worker.
 */
typedef enum es_err (*esi_listener_accepted_fn)(struct esi_context *context,
                                                struct esi_worker *home, int sock,
                                                const struct esi_address *peer,
                                                struct esi_ticket *ticket);

/*
 * Listens and starts to accept.
 *   accepted  called for each connection, with the worker that it is to live on
 *   bound     the real address
 * Errors as esi_env_listen; ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_listener_start(struct esi_context *context, const char *host,
                                           uint16_t port, esi_listener_accepted_fn accepted,
                                           struct esi_address *bound);
/* Gives a place back; taken. NULL is accepted. Thread: any, also when the listener has stopped. */
void esi_listener_release(struct esi_ticket *ticket);
