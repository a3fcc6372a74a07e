/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scenarios without messages: what a server is asked to do beside delivering.
 *   connect  clients come, are greeted, send CONNECT and PING, get their PONG and leave
 *   churn    one client a thread subscribes to subjects that nobody had before, and gives them up
 *   idle     clients that have subscribed to something and say nothing: memory and wake-ups
 *
 * They run in a shard without groups. An operation is a connection, or one SUB or UNSUB.
 */
#pragma once

#include "event_bench/bench_shard.h"

/* True for the scenarios that run here. */
bool esi_bench_control_has(enum esi_bench_scenario scenario);

/*
 * Runs to the end. Blocks. Failure: link.has_failed, has_stalled.
 * argument: the shard, whose `address` was set. Thread: any, one.
 */
void esi_bench_control_run(void *argument);
