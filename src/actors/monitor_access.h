/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may see the pages of the monitor. Thread: any. */
#pragma once

#include <stdbool.h>

struct esi_config;
struct esi_http1_request;

/*
 * True when monitor.token is not set, or is what the request shows as "Authorization: Bearer
 * TOKEN". How long it takes does not tell how much of a wrong token is right.
 */
bool esi_monitor_access_is_allowed(const struct esi_config *config,
                                   const struct esi_http1_request *request);
