/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queue: takes typed events, from NATS subjects and from gRPC, into the bounded journal, answers their publishers, and
 * gives each event to the handlers that its type is routed to.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_context;
struct esi_queue;

/* Makes and starts the queue and a handler actor for each configured handler. */
ES_MUST_USE enum es_err esi_queue_new(struct esi_context *context, struct esi_queue **out, struct es_error *error);
