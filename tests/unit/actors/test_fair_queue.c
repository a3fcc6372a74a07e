/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: nobody who floods keeps others from getting on, and nothing grows beyond its bound. Method:
 * a few origins, places given and taken by hand; then many random steps beside a plain model.
 */
#include "actors/fair_queue.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS = 64, ORIGINS = 5 };

static struct esi_fair_queue queue;
static struct esi_fair_item items[ITEMS];

static struct esi_origin origin(uint8_t number)
{
    return (struct esi_origin){.bytes = {[0] = number}};
}

static enum es_err push(size_t at, uint8_t number)
{
    const struct esi_origin from = origin(number);

    return esi_fair_queue_push(&queue, &from, &items[at]);
}

/* Who is next, by its number; -1: nobody. */
static int admit(void)
{
    struct esi_fair_line *line = esi_fair_queue_turn(&queue);

    if (line == NULL) {
        return -1;
    }
    struct esi_fair_item *item = esi_fair_queue_oldest_of(line);
    esi_fair_queue_admit(&queue, item);
    return (int)(item - items);
}

static void begin(uint32_t waiting_max, uint32_t held_max)
{
    memset(items, 0, sizeof items);
    esi_fair_queue_init(&queue, waiting_max, held_max);
}

static void test_turns(void **state)
{
    (void)state;
    begin(64, 64);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(push(i, 1), ES_OK);
    }
    assert_int_equal(push(10, 2), ES_OK);
    assert_int_equal(push(11, 3), ES_OK);
    /* One of the many, then those who came last. */
    assert_int_equal(admit(), 0);
    assert_int_equal(admit(), 10);
    assert_int_equal(admit(), 11);
    assert_int_equal(admit(), 1);
    assert_int_equal(admit(), 2);
    esi_fair_queue_deinit(&queue);
}

/* One alone gets half of the places; one more finds one all the same. */
static void test_places(void **state)
{
    (void)state;
    begin(64, 8);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(push(i, 1), ES_OK);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(admit(), i);
    }
    assert_int_equal(admit(), -1);
    for (size_t i = 20; i < 23; i++) {
        assert_int_equal(push(i, 2), ES_OK);
    }
    assert_int_equal(admit(), 20);
    assert_int_equal(admit(), 21);
    assert_int_equal(admit(), -1); /* two are free: two is all that a second one may have */
    assert_int_equal(push(23, 3), ES_OK);
    assert_int_equal(admit(), 23);
    assert_int_equal(queue.held, 7);
    /* The flood goes on when it has given back more than it may have now, and no further. */
    esi_fair_queue_release(&queue, &items[0]);
    assert_int_equal(admit(), -1);
    esi_fair_queue_release(&queue, &items[1]);
    assert_int_equal(admit(), 4);
    assert_int_equal(admit(), -1);
    esi_fair_queue_release(&queue, &items[20]);
    assert_int_equal(admit(), 22);
    assert_int_equal(admit(), -1);
    esi_fair_queue_deinit(&queue);
}

static void test_one_place(void **state)
{
    (void)state;
    begin(4, 1);
    assert_int_equal(push(0, 1), ES_OK);
    assert_int_equal(push(1, 1), ES_OK);
    assert_int_equal(push(2, 2), ES_OK);
    assert_int_equal(admit(), 0);
    assert_int_equal(admit(), -1);
    esi_fair_queue_release(&queue, &items[0]);
    assert_int_equal(admit(), 2);
    esi_fair_queue_release(&queue, &items[2]);
    assert_int_equal(admit(), 1);
    esi_fair_queue_release(&queue, &items[1]);
    assert_int_equal(queue.lines.count, 0);
    esi_fair_queue_deinit(&queue);
}

static void test_waiting_is_bounded(void **state)
{
    (void)state;
    begin(8, 1);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(push(i, 1), ES_OK);
    }
    assert_int_equal(push(4, 1), ES_FULL);
    assert_int_equal(push(4, 2), ES_OK);
    assert_int_equal(push(5, 2), ES_OK);
    assert_int_equal(push(6, 2), ES_FULL);
    assert_int_equal(push(6, 3), ES_OK);
    assert_int_equal(push(7, 4), ES_OK);
    assert_int_equal(push(8, 5), ES_FULL); /* all are taken */
    assert_int_equal(queue.lines.count, 4);
    esi_fair_queue_remove(&queue, &items[6]);
    assert_int_equal(queue.lines.count, 3);
    assert_int_equal(push(8, 5), ES_OK);
    esi_fair_queue_deinit(&queue);
}

static void test_ages(void **state)
{
    (void)state;
    begin(8, 8);
    assert_null(esi_fair_queue_oldest(&queue));
    assert_int_equal(push(0, 1), ES_OK);
    assert_int_equal(push(1, 1), ES_OK);
    assert_int_equal(push(2, 2), ES_OK);
    assert_ptr_equal(esi_fair_queue_oldest(&queue), &items[0]);
    esi_fair_queue_renew(&queue, &items[0]);
    assert_ptr_equal(esi_fair_queue_oldest(&queue), &items[1]);
    const struct esi_fair_line *line = esi_fair_queue_turn(&queue);
    assert_ptr_equal(esi_fair_queue_oldest_of(line), &items[1]);
    assert_ptr_equal(esi_fair_queue_newest_of(line), &items[0]);
    esi_fair_queue_remove(&queue, &items[1]);
    assert_ptr_equal(esi_fair_queue_oldest(&queue), &items[2]);
    esi_fair_queue_deinit(&queue);
}

static void expect_within(const uint32_t *held, const uint32_t *waiting)
{
    uint32_t held_total = 0;
    uint32_t waiting_total = 0;

    for (size_t i = 0; i < ORIGINS; i++) {
        held_total += held[i];
        waiting_total += waiting[i];
        /* What one may have is what was free before its last one. */
        assert_true(held[i] <= queue.held_max / 2 + 1);
    }
    assert_int_equal(held_total, queue.held);
    assert_int_equal(waiting_total, queue.waiting);
    assert_true(held_total <= queue.held_max && waiting_total <= queue.waiting_max);
}

static void test_at_random(void **state)
{
    enum { OUT, WAITS, HOLDS } where[ITEMS] = {OUT};
    uint8_t whose[ITEMS] = {0};
    uint32_t held[ORIGINS] = {0};
    uint32_t waiting[ORIGINS] = {0};
    uint32_t seed = 1;

    (void)state;
    begin(20, 10);
    for (int step = 0; step < 100000; step++) {
        seed = seed * 1664525U + 1013904223U;
        const size_t at = (seed >> 8) % ITEMS;
        const uint8_t from = (uint8_t)((seed >> 20) % ORIGINS);
        if (where[at] == OUT && push(at, from) == ES_OK) {
            where[at] = WAITS;
            whose[at] = from;
            waiting[from]++;
        } else if (where[at] == HOLDS) {
            esi_fair_queue_release(&queue, &items[at]);
            held[whose[at]]--;
            where[at] = OUT;
        } else if (where[at] == WAITS && (seed >> 28) == 0) {
            esi_fair_queue_remove(&queue, &items[at]);
            waiting[whose[at]]--;
            where[at] = OUT;
        } else if (where[at] == WAITS && (seed >> 28) == 1) {
            esi_fair_queue_renew(&queue, &items[at]);
        } else {
            const int next = admit();
            if (next >= 0) {
                assert_int_equal(where[next], WAITS);
                where[next] = HOLDS;
                waiting[whose[next]]--;
                held[whose[next]]++;
            }
        }
        expect_within(held, waiting);
    }
    esi_fair_queue_deinit(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),     cmocka_unit_test(test_places),
        cmocka_unit_test(test_one_place), cmocka_unit_test(test_waiting_is_bounded),
        cmocka_unit_test(test_ages),      cmocka_unit_test(test_at_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
