/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real time on purpose: where an environment is stepped nobody waits for a condition. */
#include "runtime/timed_wait.h"

static const uint64_t NS_PER_S = 1000000000;

void esi_timed_wait_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec esi_timed_wait_deadline(uint64_t timeout_ns)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    const uint64_t ns = (uint64_t)deadline.tv_nsec + timeout_ns % NS_PER_S;
    deadline.tv_sec += (time_t)(timeout_ns / NS_PER_S + ns / NS_PER_S);
    deadline.tv_nsec = (long)(ns % NS_PER_S);
    return deadline;
}
