/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Monitor: the HTTP pages of one server: /healthz /varz /connz /gatewayz /actorz /eventz. */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct esi_address;
struct esi_context;

/* Listens on monitor.host:monitor.port and serves. Errors as esi_env_listen. */
ES_MUST_USE enum es_err esi_monitor_start(struct esi_context *context, struct esi_address *bound);
