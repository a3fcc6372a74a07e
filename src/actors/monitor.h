/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Monitor: the HTTP pages of one server: /healthz /varz /connz /subsz /routez /gatewayz /actorz
 * /eventz /metrics.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_address;
struct esi_connection_info;
struct esi_context;
struct esi_monitor;
struct esi_monitor_slow;
struct es_error;

/*
 * Listens on monitor.host:monitor.port and serves; sets context->monitor, which is the caller's:
 * esi_monitor_free. Errors as esi_env_listen; with a text in *error, which is else left alone, as
 * esi_tls_context_new. Blocks (files): at start only.
 */
ES_MUST_USE enum es_err esi_monitor_start(struct esi_context *context, struct esi_address *bound,
                                          struct es_error *error);
/* After the runtime has stopped. NULL is accepted. */
void esi_monitor_free(struct esi_monitor *monitor);

/*
 * A client connection has ended: it is kept for a while, for /connz.
 *   reason   static
 *   slow     borrowed; NULL: it was no slow consumer
 * Thread: a worker. Cannot fail.
 */
void esi_monitor_tell_closed(struct esi_monitor *monitor, const struct esi_connection_info *info,
                             const char *reason, const struct esi_monitor_slow *slow);
