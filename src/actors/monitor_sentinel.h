/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The monitor's sentinel: a small actor that is stopped with the doors, and tells the monitor so,
 * which is stopped last of all.
 */
#pragma once

#include "base/err.h"

struct esi_actor;
struct esi_msg;

/*
 * Makes and starts a sentinel on the monitor's home worker. It frees itself when it has stopped.
 *   monitor    initialised; the sentinel takes a reference
 *   stopping   sent to the monitor once, when the stop begins; borrowed: part of the monitor. Kind
 *              and free are set by the caller.
 * ES_NO_MEMORY. Thread: any.
 */
ES_MUST_USE enum es_err esi_monitor_sentinel_start(struct esi_actor *monitor,
                                                   struct esi_msg *stopping);
