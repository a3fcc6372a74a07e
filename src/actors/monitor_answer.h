/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of the monitor over HTTP. Thread: the monitor's worker. */
#pragma once

#include "base/str.h"

struct esi_monitor_client;

/* content_type: static; NULL: JSON. */
void esi_monitor_answer(struct esi_monitor_client *client, unsigned status,
                        const char *content_type, struct esi_str body);
void esi_monitor_answer_text(struct esi_monitor_client *client, unsigned status, const char *text);
/* 401: the token is missing, or wrong. */
void esi_monitor_answer_refusal(struct esi_monitor_client *client);
/* The list of pages. */
void esi_monitor_answer_index(struct esi_monitor_client *client);
/*
 * /healthz.
 *   failure    NULL: it is healthy
 *   degraded   a JSON array of what does not work as it should; empty: nothing
 */
void esi_monitor_answer_health(struct esi_monitor_client *client, const char *failure,
                               struct esi_str degraded);
