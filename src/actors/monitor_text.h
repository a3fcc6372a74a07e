/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Times as nats-server's monitoring writes them, because existing tools parse them so. Thread: any.
 */
#pragma once

#include <stdint.h>

enum { ESI_MONITOR_TEXT_MAX = 48 };

/* How long something is up, whole seconds: "7s", "1d2h3m4s", "2y5d0h0m0s". */
void esi_monitor_text_uptime(uint64_t ns, char out[ESI_MONITOR_TEXT_MAX]);
/* A duration as Go prints it: "0s", "322µs", "1.5ms", "2m0.25s". */
void esi_monitor_text_duration(uint64_t ns, char out[ESI_MONITOR_TEXT_MAX]);
/* A point in time, RFC 3339 in UTC with up to nine decimals; ns since 1970, before the year 10000.
 */
void esi_monitor_text_time(int64_t wall_ns, char out[ESI_MONITOR_TEXT_MAX]);
