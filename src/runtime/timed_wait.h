/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conditions that are waited for until a deadline, by the clock that nobody sets. For the helping
 * threads and the start and stop of a runtime; workers wait for their pollers. Private to the
 * runtime layer.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* As pthread_cond_init; ended by pthread_cond_destroy. */
void esi_timed_wait_init(pthread_cond_t *cond);
/* The deadline for pthread_cond_timedwait on such a condition, timeout_ns from now. */
struct timespec esi_timed_wait_deadline(uint64_t timeout_ns);
