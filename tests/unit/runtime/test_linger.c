/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: waits awake go on as long as answers come soon, end where they do not, and are tried again.
 * Method: waits of given lengths; what is counted is how many of them were allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/linger.h"

enum { SOON_NS = 15000, LATER_NS = 25000, WAITS = 20000 };

/* So many waits, each nth of them in vain: how many were awake? */
static uint32_t count_awake(struct esi_linger *linger, uint32_t waits, uint64_t awake_ns,
                            uint32_t nth_in_vain)
{
    uint32_t awake = 0;

    for (uint32_t i = 1; i <= waits; i++) {
        if (esi_linger_begin(linger)) {
            awake++;
            esi_linger_end(linger, i % nth_in_vain == 0 ? ESI_LINGER_NS : awake_ns);
        }
    }
    return awake;
}

static void test_stays_awake_while_answers_come_soon(void **state)
{
    struct esi_linger linger = {0};

    (void)state;
    assert_int_equal(count_awake(&linger, WAITS, SOON_NS, UINT32_MAX), WAITS);
    assert_int_equal(count_awake(&linger, WAITS, LATER_NS, UINT32_MAX), WAITS);
}

static void test_one_in_vain_decides_nothing(void **state)
{
    struct esi_linger linger = {0};

    (void)state;
    assert_int_equal(count_awake(&linger, WAITS, SOON_NS, 50), WAITS);
}

static void test_gives_up_where_nobody_answers(void **state)
{
    struct esi_linger linger = {0};
    uint32_t awake = 0;

    (void)state;
    awake = count_awake(&linger, WAITS, ESI_LINGER_NS, UINT32_MAX);
    assert_in_range(awake, 20, WAITS / 50);
    /* The longer it goes on, the fewer. */
    awake = count_awake(&linger, WAITS, ESI_LINGER_NS, UINT32_MAX);
    assert_in_range(awake, 20, WAITS / 100);
}

/* It may have been a bad moment only. */
static void test_tries_again(void **state)
{
    struct esi_linger linger = {0};

    (void)state;
    count_awake(&linger, WAITS, ESI_LINGER_NS, UINT32_MAX);
    count_awake(&linger, WAITS, SOON_NS, UINT32_MAX);
    assert_int_equal(count_awake(&linger, WAITS, SOON_NS, UINT32_MAX), WAITS);
}

/* A bad moment among good ones is made up for soon. */
static void test_a_bad_moment_is_soon_over(void **state)
{
    struct esi_linger linger = {0};

    (void)state;
    count_awake(&linger, WAITS, ESI_LINGER_NS, UINT32_MAX);
    for (uint32_t i = 0; i < 20; i++) {
        count_awake(&linger, 2000, SOON_NS, UINT32_MAX);
        count_awake(&linger, 20, ESI_LINGER_NS, UINT32_MAX);
        assert_in_range(count_awake(&linger, 2000, SOON_NS, UINT32_MAX), 1900, 2000);
    }
}

/* Nothing is said by what was found at once: the mere beginning of a wait changes nothing. */
static void test_first_looks_are_no_answer(void **state)
{
    struct esi_linger linger = {0};
    uint32_t allowed = 0;

    (void)state;
    for (uint32_t i = 0; i < WAITS; i++) {
        allowed += esi_linger_begin(&linger);
    }
    assert_int_equal(allowed, WAITS);
    assert_in_range(count_awake(&linger, WAITS, ESI_LINGER_NS, UINT32_MAX), 1, WAITS / 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stays_awake_while_answers_come_soon),
        cmocka_unit_test(test_one_in_vain_decides_nothing),
        cmocka_unit_test(test_gives_up_where_nobody_answers),
        cmocka_unit_test(test_tries_again),
        cmocka_unit_test(test_a_bad_moment_is_soon_over),
        cmocka_unit_test(test_first_looks_are_no_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
