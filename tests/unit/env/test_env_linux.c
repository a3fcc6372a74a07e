/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: threads, clocks and randomness of the Linux environment keep the promises of env/env.h.
 * Method: a thread that tells what it sees of itself. */
#include "env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>

#define SECOND_NS INT64_C(1000000000)

static struct esi_env *env;

struct seen {
    char name[16];
    sigset_t mask;
};

static void look_around(void *argument)
{
    struct seen *seen = argument;

    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
}

static void threads_have_names_and_take_no_signals(void **state)
{
    struct seen seen = {0};
    struct esi_thread *thread = NULL;
    sigset_t own;

    (void)state;
    assert_int_equal(
        esi_env_thread_start(env, "a-name-that-is-too-long", look_around, &seen, &thread), ES_OK);
    esi_env_thread_join(env, thread);
    assert_string_equal(seen.name, "a-name-that-is-");
    assert_int_equal(sigismember(&seen.mask, SIGTERM), 1);
    assert_int_equal(sigismember(&seen.mask, SIGHUP), 1);
    assert_int_equal(sigismember(&seen.mask, SIGSEGV), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &own);
    assert_int_equal(sigismember(&own, SIGTERM), 0);
}

static void clocks_and_randomness_work(void **state)
{
    uint8_t a[300] = {0};
    uint8_t b[300] = {0};

    (void)state;
    const uint64_t first = esi_env_now_ns(env);
    assert_true(esi_env_now_ns(env) >= first);
    /* Later than 2020. */
    assert_true(esi_env_wall_ns(env) > INT64_C(1577836800) * SECOND_NS);
    esi_env_random(env, a, sizeof a);
    esi_env_random(env, b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    esi_env_random(env, a, 0);
    assert_true(esi_env_core_count(env) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_have_names_and_take_no_signals),
        cmocka_unit_test(clocks_and_randomness_work),
    };

    env = esi_env_linux();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
