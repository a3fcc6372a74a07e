/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: messages come out in the order in which they went in, whichever way each was pushed, and
 * none is lost. Method: random interleavings of remote and local pushes, takes and pops in one
 * thread, then several producers against one consumer (order between threads, too, is tested in
 * tests/stress).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/mailbox.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { STEPS = 100000, PRODUCERS = 4, PUSHES = 20000 };

struct numbered {
    struct esi_msg msg; /* first */
    uint32_t producer;
    uint32_t number;
};

static struct esi_mailbox mailbox;

static struct numbered *new_msg(uint32_t producer, uint32_t number)
{
    struct numbered *numbered = calloc(1, sizeof *numbered);

    if (numbered == NULL) {
        abort();
    }
    numbered->producer = producer;
    numbered->number = number;
    return numbered;
}

static void test_one_order_for_both_ways(void **state)
{
    uint32_t pushed = 0;
    uint32_t popped = 0;
    uint64_t random = 99;

    (void)state;
    esi_mailbox_init(&mailbox);
    assert_null(esi_mailbox_pop(&mailbox));
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        switch (random >> 62) {
        case 0:
            esi_mailbox_push(&mailbox, &new_msg(0, pushed++)->msg);
            break;
        case 1:
            esi_mailbox_push_local(&mailbox, &new_msg(0, pushed++)->msg);
            break;
        case 2:
            esi_mailbox_take(&mailbox);
            assert_int_equal(mailbox.depth, pushed - popped);
            break;
        default: {
            struct numbered *numbered = (struct numbered *)(void *)esi_mailbox_pop(&mailbox);
            if (numbered != NULL) {
                assert_int_equal(numbered->number, popped++);
                assert_null(numbered->msg.next);
                free(numbered);
            }
            break;
        }
        }
    }
    esi_mailbox_take(&mailbox);
    assert_int_equal(mailbox.depth, pushed - popped);
    struct esi_msg *msg;
    while ((msg = esi_mailbox_pop(&mailbox)) != NULL) {
        assert_int_equal(((struct numbered *)(void *)msg)->number, popped++);
        free(msg);
    }
    assert_int_equal(popped, pushed);
    assert_true(pushed > STEPS / 3);
    assert_int_equal(mailbox.depth, 0);
}

static void test_high_water_mark(void **state)
{
    (void)state;
    esi_mailbox_init(&mailbox);
    for (uint32_t i = 0; i < 5; i++) {
        esi_mailbox_push(&mailbox, &new_msg(0, i)->msg);
    }
    esi_mailbox_push_local(&mailbox, &new_msg(0, 5)->msg);
    assert_int_equal(mailbox.depth_max, 6);
    for (uint32_t i = 0; i < 6; i++) {
        free(esi_mailbox_pop(&mailbox));
    }
    assert_int_equal(mailbox.depth, 0);
    assert_int_equal(mailbox.depth_max, 6);
}

static void *produce(void *argument)
{
    const uint32_t producer = *(const uint32_t *)argument;

    for (uint32_t i = 0; i < PUSHES; i++) {
        esi_mailbox_push(&mailbox, &new_msg(producer, i)->msg);
    }
    return NULL;
}

static void test_each_producers_order(void **state)
{
    pthread_t threads[PRODUCERS];
    uint32_t numbers[PRODUCERS];
    uint32_t next[PRODUCERS] = {0};

    (void)state;
    esi_mailbox_init(&mailbox);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &numbers[i]), 0);
    }
    for (uint32_t count = 0; count < PRODUCERS * PUSHES;) {
        esi_mailbox_take(&mailbox);
        struct esi_msg *msg = esi_mailbox_pop(&mailbox);
        if (msg == NULL) {
            sched_yield();
            continue;
        }
        struct numbered *numbered = (struct numbered *)(void *)msg;
        assert_int_equal(numbered->number, next[numbered->producer]++);
        free(numbered);
        count++;
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
    }
    esi_mailbox_take(&mailbox);
    assert_null(esi_mailbox_pop(&mailbox));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_order_for_both_ways),
        cmocka_unit_test(test_high_water_mark),
        cmocka_unit_test(test_each_producers_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
