/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ThreadSanitizer cannot see the ordering that liburcu makes with inline assembly. So every
 * quiescent state is told to it as a release and the end of a grace period as an acquire on one
 * tag; races inside the library itself are suppressed by name (tests/support/tsan.supp), ours stay
 * visible.
 */
#include "base/rcu.h"

#define URCU_API_MAP
#include <urcu/urcu-qsbr.h>

#ifdef ESI_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
static char grace_period_tag;
#define TELL_RELEASE() __tsan_release(&grace_period_tag)
#define TELL_ACQUIRE() __tsan_acquire(&grace_period_tag)
#else
#define TELL_RELEASE() ((void)0)
#define TELL_ACQUIRE() ((void)0)
#endif

void esi_rcu_register(void)
{
    rcu_register_thread();
}

void esi_rcu_unregister(void)
{
    TELL_RELEASE();
    rcu_unregister_thread();
}

void esi_rcu_quiescent(void)
{
    TELL_RELEASE();
    rcu_quiescent_state();
}

void esi_rcu_offline(void)
{
    TELL_RELEASE();
    rcu_thread_offline();
}

void esi_rcu_online(void)
{
    rcu_thread_online();
}

void esi_rcu_wait(void)
{
    TELL_RELEASE();
    synchronize_rcu();
    TELL_ACQUIRE();
}
