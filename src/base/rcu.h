/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read-copy-update, the only door to liburcu (QSBR flavour). A registered thread reads from one
 * quiescent state to the next; what it found stays valid for that long. No worker ever waits for a
 * grace period: the reclaimer thread does.
 *
 * | operation      | registered reader, online | offline thread | writer (one a structure)  |
 * | read pointer   | free                      | forbidden      | free                      |
 * | publish        | only the one writer       | forbidden      | free                      |
 * | rcu_wait       | forbidden (deadlock)      | reclaimer only | asks the reclaimer        |
 */
#pragma once

#include <stdatomic.h>

/* Registers the calling thread as a reader, online. Pairs with esi_rcu_unregister. */
void esi_rcu_register(void);
void esi_rcu_unregister(void);
/* Nothing found before this call is used after it. Once a loop turn. */
void esi_rcu_quiescent(void);
/* Before and after a sleep: an offline thread holds no grace period up. */
void esi_rcu_offline(void);
void esi_rcu_online(void);
/* Waits for a grace period. The caller must not be a registered online reader. */
void esi_rcu_wait(void);

/* order: release; pairs with the acquire in ESI_RCU_READ, which then sees the whole object. */
#define ESI_RCU_PUBLISH(pointer, value)                                                            \
    atomic_store_explicit(&(pointer), (value), memory_order_release)
/* order: acquire; pairs with the release in ESI_RCU_PUBLISH. */
#define ESI_RCU_READ(pointer) atomic_load_explicit(&(pointer), memory_order_acquire)
/* order: relaxed; the one writer reads what it wrote itself. */
#define ESI_RCU_OWN(pointer) atomic_load_explicit(&(pointer), memory_order_relaxed)
