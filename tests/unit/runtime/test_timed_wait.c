/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a wait ends at its deadline and not before, however the seconds fall. Method: deadlines
 * compared with the clock, and one wait that nobody ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/timed_wait.h"

#include <errno.h>

#define SECOND_NS INT64_C(1000000000)

static int64_t to_ns(struct timespec time)
{
    return (int64_t)time.tv_sec * SECOND_NS + time.tv_nsec;
}

static int64_t now_ns(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return to_ns(now);
}

static void test_deadlines_are_so_far_away(void **state)
{
    static const int64_t timeouts_ns[] = {
        0, 1, SECOND_NS - 1, SECOND_NS, 2 * SECOND_NS - 1, 86400 * SECOND_NS + SECOND_NS / 2};

    (void)state;
    for (size_t i = 0; i < sizeof timeouts_ns / sizeof *timeouts_ns; i++) {
        const int64_t before_ns = now_ns();
        const struct timespec deadline = esi_timed_wait_deadline((uint64_t)timeouts_ns[i]);
        assert_in_range(deadline.tv_nsec, 0, SECOND_NS - 1);
        assert_true(to_ns(deadline) >= before_ns + timeouts_ns[i]);
        assert_true(to_ns(deadline) <= now_ns() + timeouts_ns[i]);
    }
}

static void test_a_wait_ends_at_its_deadline(void **state)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    int result = 0;

    (void)state;
    esi_timed_wait_init(&cond);
    const struct timespec deadline = esi_timed_wait_deadline(2000000);
    pthread_mutex_lock(&mutex);
    while (result == 0) {
        result = pthread_cond_timedwait(&cond, &mutex, &deadline);
    }
    pthread_mutex_unlock(&mutex);
    assert_int_equal(result, ETIMEDOUT);
    assert_true(now_ns() >= to_ns(deadline));
    pthread_cond_destroy(&cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadlines_are_so_far_away),
        cmocka_unit_test(test_a_wait_ends_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
