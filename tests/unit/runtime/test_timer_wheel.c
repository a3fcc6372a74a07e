/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a timer fires once, never early, at most a tick late when the wheel is advanced as it asks;
 * a cancelled one never. Method: random timers at all scales against a flat model, over virtual
 * time, and the edges where a timer moves from wheel to wheel or lies beyond the last one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/own.h"
#include "runtime/timer_wheel.h"

#include <stdlib.h>
#include <string.h>

enum { TIMERS = 200, STEPS = 40000 };

#define TICK_NS ((uint64_t)1000000)
/* One round of the last wheel, in ticks: about 2.2 years. */
#define ROUND_TICKS ((uint64_t)1 << 36)

struct modelled {
    struct esi_timer timer;
    uint64_t deadline_ns; /* 0: not set */
};

static struct esi_timer_wheel wheel;
static struct modelled timers[TIMERS];
static uint64_t random_state = 42;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t first_deadline_ns(void)
{
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 0; i < TIMERS; i++) {
        if (timers[i].deadline_ns != 0 && timers[i].deadline_ns < first) {
            first = timers[i].deadline_ns;
        }
    }
    return first;
}

/* Advances to now_ns: what fires was due, and what is due has fired. */
static uint32_t advance(uint64_t now_ns)
{
    struct esi_timer *timer;
    uint32_t count = 0;

    while ((timer = esi_timer_wheel_expire(&wheel, now_ns)) != NULL) {
        struct modelled *modelled = ESI_CONTAINER_OF(timer, struct modelled, timer);
        assert_false(timer->is_set);
        assert_true(modelled->deadline_ns != 0);
        assert_true(modelled->deadline_ns <= now_ns);
        modelled->deadline_ns = 0;
        count++;
    }
    for (uint32_t i = 0; i < TIMERS; i++) {
        if (timers[i].deadline_ns != 0 && timers[i].deadline_ns < now_ns &&
            now_ns - timers[i].deadline_ns >= TICK_NS) {
            fail_msg("at %llu ns a timer for %llu ns has not fired", (unsigned long long)now_ns,
                     (unsigned long long)timers[i].deadline_ns);
        }
    }
    return count;
}

static void reset(uint64_t now_ns)
{
    esi_timer_wheel_init(&wheel, now_ns);
    for (uint32_t i = 0; i < TIMERS; i++) {
        esi_timer_wheel_init_timer(&timers[i].timer);
        timers[i].deadline_ns = 0;
    }
}

static void set(struct modelled *modelled, uint64_t deadline_ns)
{
    esi_timer_wheel_set(&wheel, &modelled->timer, deadline_ns);
    modelled->deadline_ns = deadline_ns;
}

/* A span of any scale from below a tick to some years. */
static uint64_t draw_span_ns(void)
{
    const unsigned bits = (unsigned)(next_random() % 58);

    return next_random() & (((uint64_t)1 << bits) - 1);
}

static void run_against_model(uint64_t start_ns)
{
    uint64_t now_ns = start_ns;
    uint32_t fired = 0;
    uint32_t cancelled = 0;

    reset(now_ns);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct modelled *modelled = &timers[next_random() % TIMERS];
        switch (next_random() % 4) {
        case 0:
        case 1:
            set(modelled, now_ns + 1 + draw_span_ns());
            break;
        case 2:
            cancelled += modelled->deadline_ns != 0;
            esi_timer_wheel_cancel(&wheel, &modelled->timer);
            modelled->deadline_ns = 0;
            break;
        default: {
            const uint64_t next_ns = esi_timer_wheel_next_ns(&wheel);
            const uint64_t first_ns = first_deadline_ns();
            assert_int_equal(next_ns == UINT64_MAX, first_ns == UINT64_MAX);
            /* The wheel asks in time for the first deadline. */
            assert_true(next_ns == UINT64_MAX || next_ns <= first_ns + TICK_NS);
            /* Sometimes as it asks, sometimes early, sometimes late. */
            if (next_random() % 2 == 0 && next_ns != UINT64_MAX) {
                now_ns = next_ns > now_ns ? next_ns : now_ns;
            } else {
                now_ns += draw_span_ns() / 64;
            }
            fired += advance(now_ns);
            break;
        }
        }
    }
    assert_true(fired > STEPS / 20 && cancelled > STEPS / 100);
}

static void test_against_a_model(void **state)
{
    (void)state;
    run_against_model(0);
    run_against_model(123456789012345);
}

/* A machine that is up for more than two years passes the end of the last wheel's round. */
static void test_against_a_model_at_the_round_end(void **state)
{
    (void)state;
    run_against_model((ROUND_TICKS - 1000) * TICK_NS);
    run_against_model((5 * ROUND_TICKS - 1) * TICK_NS);
}

/* Only as often as the wheel asks: each timer is still at most a tick late, and few steps are
 * needed. */
static void test_following_the_wheel_is_exact(void **state)
{
    static const uint64_t starts[] = {0,      63,       64,         4095,
                                      262143, 16777215, 1073741823, ROUND_TICKS - 1};

    (void)state;
    for (size_t s = 0; s < ESI_COUNT_OF(starts); s++) {
        for (unsigned bits = 0; bits < 42; bits++) {
            const uint64_t start_ns = starts[s] * TICK_NS + 500;
            const uint64_t deadline_ns = start_ns + ((uint64_t)1 << bits) * TICK_NS;
            reset(start_ns);
            set(&timers[0], deadline_ns);
            uint64_t now_ns = start_ns;
            uint32_t steps = 0;
            while (timers[0].deadline_ns != 0) {
                const uint64_t next_ns = esi_timer_wheel_next_ns(&wheel);
                assert_true(next_ns > now_ns);
                now_ns = next_ns;
                advance(now_ns);
                steps++;
                assert_true(steps < 200);
            }
            assert_true(now_ns >= deadline_ns && now_ns - deadline_ns <= TICK_NS);
            assert_int_equal(esi_timer_wheel_next_ns(&wheel), UINT64_MAX);
        }
    }
}

/* A deadline whole rounds away falls into the slot that is current now; the wheel must not look at
 * it for ever. */
static void test_far_deadlines_end_the_search(void **state)
{
    (void)state;
    for (uint64_t rounds = 1; rounds < 4; rounds++) {
        reset(7 * TICK_NS);
        set(&timers[0], (7 + rounds * ROUND_TICKS) * TICK_NS);
        set(&timers[1], UINT64_MAX - TICK_NS);
        set(&timers[2], UINT64_MAX);
        set(&timers[3], 100 * TICK_NS);
        assert_int_equal(advance(50 * TICK_NS), 0);
        assert_int_equal(advance(101 * TICK_NS), 1);
        assert_int_equal(advance((6 + rounds * ROUND_TICKS) * TICK_NS), 0);
        assert_int_equal(advance((8 + rounds * ROUND_TICKS) * TICK_NS), 1);
        assert_true(timers[1].timer.is_set && timers[2].timer.is_set);
        esi_timer_wheel_cancel(&wheel, &timers[1].timer);
        esi_timer_wheel_cancel(&wheel, &timers[2].timer);
        assert_int_equal(esi_timer_wheel_next_ns(&wheel), UINT64_MAX);
    }
}

static void test_past_deadlines_fire_at_the_next_tick(void **state)
{
    (void)state;
    reset(1000 * TICK_NS);
    set(&timers[0], 1);
    set(&timers[1], 1000 * TICK_NS);
    assert_null(esi_timer_wheel_expire(&wheel, 1000 * TICK_NS));
    assert_int_equal(esi_timer_wheel_next_ns(&wheel), 1001 * TICK_NS);
    assert_int_equal(advance(1001 * TICK_NS), 2);
}

/* Both ends of life: set again from its own expiry, and cancelled while others of its slot are
 * being given out. */
static void test_changes_during_expiry(void **state)
{
    struct esi_timer *timer;
    uint32_t count = 0;

    (void)state;
    reset(0);
    for (uint32_t i = 0; i < 10; i++) {
        set(&timers[i], 5 * TICK_NS);
    }
    while ((timer = esi_timer_wheel_expire(&wheel, 10 * TICK_NS)) != NULL) {
        count++;
        if (timer == &timers[0].timer) {
            esi_timer_wheel_cancel(&wheel, &timers[5].timer);
            esi_timer_wheel_cancel(&wheel, &timers[0].timer);
            esi_timer_wheel_set(&wheel, &timers[0].timer, 10 * TICK_NS);
        }
    }
    assert_int_equal(count, 9);
    assert_ptr_equal(esi_timer_wheel_expire(&wheel, 11 * TICK_NS), &timers[0].timer);
    assert_null(esi_timer_wheel_expire(&wheel, 11 * TICK_NS));
}

/* Whatever the time of the other wheel, a timer taken there fires at the same tick. */
static void test_a_deadline_goes_to_another_wheel(void **state)
{
    static struct esi_timer_wheel other;
    struct esi_timer timer;

    (void)state;
    for (uint32_t round = 0; round < 1000; round++) {
        const uint64_t now_ns = next_random() % (1000 * ROUND_TICKS);
        const uint64_t deadline_ns = now_ns + next_random() % (100000 * TICK_NS);
        esi_timer_wheel_init(&wheel, now_ns);
        esi_timer_wheel_init(&other, now_ns - now_ns % (100 * TICK_NS));
        esi_timer_wheel_init_timer(&timer);
        assert_int_equal(esi_timer_wheel_deadline_ns(&timer), 0);
        esi_timer_wheel_set(&wheel, &timer, deadline_ns);
        const uint64_t carried_ns = esi_timer_wheel_deadline_ns(&timer);
        const uint64_t tick = timer.deadline_tick;
        esi_timer_wheel_cancel(&wheel, &timer);
        esi_timer_wheel_set(&other, &timer, carried_ns);
        assert_int_equal(timer.deadline_tick, tick);
        assert_true(tick * TICK_NS > deadline_ns);
        esi_timer_wheel_cancel(&other, &timer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_against_a_model_at_the_round_end),
        cmocka_unit_test(test_following_the_wheel_is_exact),
        cmocka_unit_test(test_far_deadlines_end_the_search),
        cmocka_unit_test(test_past_deadlines_fire_at_the_next_tick),
        cmocka_unit_test(test_changes_during_expiry),
        cmocka_unit_test(test_a_deadline_goes_to_another_wheel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
