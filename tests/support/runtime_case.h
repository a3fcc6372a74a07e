/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small verbs for tests with a running runtime: start and stop it, wait for an event with a
 * deadline, random numbers of a thread's own. What fails aborts with a line, since it may be found
 * on any thread.
 */
#pragma once

#include "env/env.h"
#include "runtime/runtime.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CASE_DEADLINE_S = 90 };

#define case_check(x) ((x) ? (void)0 : case_fail(#x, __FILE__, __LINE__))

__attribute__((noreturn, unused)) static void case_fail(const char *what, const char *file,
                                                        int line)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

/* Waits for count posts; a missing one is a failure after a long while. */
__attribute__((unused)) static void await_at(sem_t *event, uint64_t count, const char *file,
                                             int line)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += CASE_DEADLINE_S;
    while (count > 0) {
        if (sem_timedwait(event, &deadline) == 0) {
            count--;
        } else {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            if (now.tv_sec >= deadline.tv_sec) {
                case_fail("the event came in time", file, line);
            }
        }
    }
}
#define await(event) await_at((event), 1, __FILE__, __LINE__)
#define await_count(event, count) await_at((event), (count), __FILE__, __LINE__)

__attribute__((unused)) static struct esi_runtime *start_runtime(uint32_t worker_count)
{
    const struct esi_runtime_options options = {
        .env = esi_env_linux(), .worker_count = worker_count, .placement = PLACEMENT_SPREAD};
    struct esi_runtime *runtime = NULL;

    case_check(esi_runtime_new(&options, &runtime) == ES_OK);
    return runtime;
}

__attribute__((unused)) static void stop_runtime(struct esi_runtime *runtime)
{
    case_check(esi_runtime_stop(runtime, (uint64_t)CASE_DEADLINE_S * 1000000000U) == ES_OK);
    esi_runtime_free(runtime);
}

/* xorshift64*; the state must not be 0. */
__attribute__((unused)) static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

__attribute__((unused)) static uint32_t draw_below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)((draw(state) >> 32) % limit);
}

__attribute__((unused)) static void free_plain_msg(struct esi_msg *msg)
{
    free(msg);
}
