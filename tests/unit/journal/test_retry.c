/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a failed delivery is tried again at a growing, spread pace, or given up, as its class and
 * the policy say. Method: the functions are called over all statuses and over the ends of their
 * ranges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "journal/retry.h"

static const uint64_t second = 1000000000;

static void classifies_answers(void **state)
{
    (void)state;
    assert_int_equal(esi_retry_classify(RETRY_GRPC_OK, true), RETRY_DELIVERED);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_OK, false), RETRY_LATER);
    for (uint32_t status = 1; status < 40; status++) {
        /* Nothing but OK is success, whatever the body says. */
        assert_int_not_equal(esi_retry_classify(status, true), RETRY_DELIVERED);
        assert_int_equal(esi_retry_classify(status, true), esi_retry_classify(status, false));
    }
    assert_int_equal(esi_retry_classify(RETRY_GRPC_INVALID_ARGUMENT, false), RETRY_POISON);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_RESOURCE_EXHAUSTED, false), RETRY_OVERLOADED);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_UNAUTHENTICATED, false), RETRY_UNAUTHORIZED);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_PERMISSION_DENIED, false), RETRY_UNAUTHORIZED);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_UNIMPLEMENTED, false), RETRY_UNIMPLEMENTED);
    assert_int_equal(esi_retry_classify(RETRY_GRPC_UNAVAILABLE, false), RETRY_LATER);
    assert_int_equal(esi_retry_classify(17, false), RETRY_LATER);
    assert_int_equal(esi_retry_classify(UINT32_MAX, false), RETRY_LATER);
}

static void doubles_up_to_the_ceiling_and_spreads(void **state)
{
    const struct esi_retry_policy policy = {.delay_ns = second, .delay_max_ns = 10 * second};

    (void)state;
    assert_int_equal(esi_retry_delay_ns(&policy, 1, UINT64_MAX), second);
    assert_int_equal(esi_retry_delay_ns(&policy, 2, UINT64_MAX), 2 * second);
    assert_int_equal(esi_retry_delay_ns(&policy, 3, UINT64_MAX), 4 * second);
    assert_int_equal(esi_retry_delay_ns(&policy, 4, UINT64_MAX), 8 * second);
    assert_int_equal(esi_retry_delay_ns(&policy, 5, UINT64_MAX), 10 * second);
    assert_int_equal(esi_retry_delay_ns(&policy, UINT32_MAX, UINT64_MAX), 10 * second);
    assert_int_equal(esi_retry_delay_ns(&policy, 5, 0), 0);
    assert_int_equal(esi_retry_delay_ns(&policy, 5, UINT64_MAX / 2), 5 * second);
    /* Evenly: the average over evenly spread randomness is half the ceiling. */
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        sum += esi_retry_delay_ns(&policy, 4, i * (UINT64_MAX / 1000));
    }
    assert_in_range(sum / 1000, 3990000000ULL, 4010000000ULL);
}

static void survives_extreme_policies(void **state)
{
    const struct esi_retry_policy none = {0};
    const struct esi_retry_policy huge = {.delay_ns = UINT64_MAX / 2 + 2,
                                          .delay_max_ns = UINT64_MAX};
    const struct esi_retry_policy inverted = {.delay_ns = 10, .delay_max_ns = 5};

    (void)state;
    assert_int_equal(esi_retry_delay_ns(&none, 1000000, UINT64_MAX), 0);
    assert_true(esi_retry_delay_ns(&huge, 7, UINT64_MAX) == UINT64_MAX);
    assert_int_equal(esi_retry_delay_ns(&inverted, 1, UINT64_MAX), 5);
}

static enum esi_retry_verdict decide(const struct esi_retry_policy *policy,
                                     enum esi_retry_class failure, uint32_t attempts,
                                     uint32_t counted, uint64_t *delay_ns)
{
    const struct esi_retry_outcome outcome = {
        .failure = failure, .attempts = attempts, .counted = counted};

    return esi_retry_decide(policy, outcome, UINT64_MAX, delay_ns);
}

static void gives_up_only_for_the_events_own_faults(void **state)
{
    const struct esi_retry_policy policy = {
        .delay_ns = second, .delay_max_ns = 60 * second, .attempts_max = 3};
    const struct esi_retry_policy for_ever = {.delay_ns = second, .delay_max_ns = second};
    uint64_t delay = 77;

    (void)state;
    assert_int_equal(decide(&policy, RETRY_DELIVERED, 1, 0, &delay), RETRY_VERDICT_DONE);
    assert_int_equal(decide(&policy, RETRY_POISON, 1, 1, &delay), RETRY_VERDICT_GIVE_UP);
    assert_int_equal(decide(&policy, RETRY_LATER, 3, 3, &delay), RETRY_VERDICT_GIVE_UP);
    assert_int_equal(delay, 77);
    assert_int_equal(decide(&policy, RETRY_LATER, 9, 2, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(delay, 60 * second);
    assert_int_equal(decide(&for_ever, RETRY_LATER, 5000, 5000, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(decide(&policy, RETRY_UNREACHABLE, 1000, 0, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(decide(&policy, RETRY_OVERLOADED, 2, 0, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(delay, 2 * second);
    assert_int_equal(decide(&policy, RETRY_UNAUTHORIZED, 1, 0, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(delay, 60 * second);
    assert_int_equal(decide(&policy, RETRY_UNIMPLEMENTED, 1, 0, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(delay, 60 * second);
    assert_int_equal(decide(&policy, RETRY_LOST, 1000, 0, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(decide(&policy, RETRY_CRASHED, 4, 1, &delay), RETRY_VERDICT_AGAIN);
    assert_int_equal(decide(&policy, RETRY_CRASHED, 12, 100, &delay), RETRY_VERDICT_GIVE_UP);
    assert_int_equal(esi_retry_blame(RETRY_LATER), RETRY_BLAME_EVENT);
    assert_int_equal(esi_retry_blame(RETRY_CRASHED), RETRY_BLAME_EVENT);
    assert_int_equal(esi_retry_blame(RETRY_LOST), RETRY_BLAME_OPEN);
    assert_int_equal(esi_retry_blame(RETRY_UNREACHABLE), RETRY_BLAME_WORKER);
    assert_int_equal(esi_retry_blame(RETRY_OVERLOADED), RETRY_BLAME_WORKER);
    assert_int_equal(esi_retry_blame(RETRY_UNAUTHORIZED), RETRY_BLAME_WORKER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classifies_answers),
        cmocka_unit_test(doubles_up_to_the_ceiling_and_spreads),
        cmocka_unit_test(survives_extreme_policies),
        cmocka_unit_test(gives_up_only_for_the_events_own_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
