/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gateway: the one actor that knows all remote clusters: which are configured or learned, which link leads to each, when
 * to dial again. The links themselves are actors of their own (actors/gateway_link.h).
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_batch;
struct esi_context;
struct esi_gateway;
struct esi_publish;

/* Makes and starts the gateway of a server whose configuration has one: it listens and dials. */
ES_MUST_USE enum es_err esi_gateway_new(struct esi_context *context, struct esi_gateway **out,
                                        struct es_error *error);

/*
 * Sends a message whose subject is a mapped reply (_GR_.cluster.server.reply, or the older form) to the cluster that it
 * names, by its outbound link alone, through the caller's batch; dropped when there is none. Thread: a worker.
 */
void esi_gateway_send_mapped(struct esi_context *context, struct esi_batch *batch,
                             const struct esi_publish *publish);

/* The real port of the gateway listener. Thread: any. */
uint16_t esi_gateway_port(const struct esi_gateway *gateway);
