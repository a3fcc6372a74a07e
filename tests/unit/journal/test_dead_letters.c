/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: given-up events are kept, found, listed, removed, and never let go without the caller being
 * told. Method: a store with small bounds is filled beyond them; references are counted through the
 * event itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/event.h"
#include "journal/dead_letters.h"

static struct esi_event *make_event(const char *id)
{
    char body[128];
    const struct esi_event_decode_options options = {.type_from_subject = ESI_STR("t")};
    struct esi_event *event = NULL;

    snprintf(body, sizeof body, "{\"EventID\":\"%s\"}", id);
    assert_int_equal(esi_event_decode(esi_str_from(body), &options, &event, NULL), ES_OK);
    return event;
}

static unsigned references(const struct esi_event *event)
{
    /* order: relaxed; one thread. */
    return atomic_load_explicit(&event->reference_count, memory_order_relaxed);
}

struct evictions {
    size_t count;
    uint64_t last_number;
};

static void note_eviction(void *argument, const struct esi_dead_letter *letter)
{
    struct evictions *evictions = argument;

    assert_true(letter->number > evictions->last_number);
    assert_int_equal(letter->event->type.len, 1);
    evictions->count++;
    evictions->last_number = letter->number;
}

static uint64_t add(struct esi_dead_letters *letters, struct esi_event *event,
                    struct evictions *evictions)
{
    const struct esi_dead_letters_new_letter letter = {
        .event = event,
        .handler = ESI_STR("feed"),
        .reason = ESI_STR("the worker said no"),
        .attempts = 5,
        .accepted_wall_ns = 10,
        .buried_wall_ns = 20,
    };
    uint64_t number = 0;

    assert_int_equal(esi_dead_letters_add(letters, &letter, &number, note_eviction, evictions),
                     ES_OK);
    return number;
}

static void keeps_and_shows_letters(void **state)
{
    struct esi_dead_letters *letters = NULL;
    struct evictions evictions = {0};
    struct esi_event *event = make_event("a");
    char long_reason[2000] = {0};

    (void)state;
    assert_int_equal(esi_dead_letters_new(10, 0, &letters), ES_OK);
    assert_int_equal(add(letters, event, &evictions), 1);
    assert_int_equal(references(event), 2);
    const struct esi_dead_letter *letter = esi_dead_letters_find(letters, 1);
    assert_non_null(letter);
    assert_ptr_equal(letter->event, event);
    assert_true(esi_str_equal(letter->handler, ESI_STR("feed")));
    assert_true(esi_str_equal(letter->reason, ESI_STR("the worker said no")));
    assert_int_equal(letter->attempts, 5);
    assert_int_equal(letter->accepted_wall_ns, 10);
    assert_int_equal(letter->buried_wall_ns, 20);
    memset(long_reason, 'x', sizeof long_reason - 1);
    const struct esi_dead_letters_new_letter unrouted = {.event = event,
                                                         .reason = esi_str_from(long_reason)};
    assert_int_equal(esi_dead_letters_add(letters, &unrouted, NULL, NULL, NULL), ES_OK);
    letter = esi_dead_letters_find(letters, 2);
    assert_int_equal(letter->handler.len, 0);
    assert_int_equal(letter->reason.len, ESI_DEAD_LETTERS_REASON_MAX);
    assert_int_equal(esi_dead_letters_remove(letters, 1), ES_OK);
    assert_int_equal(esi_dead_letters_remove(letters, 1), ES_NOT_FOUND);
    assert_null(esi_dead_letters_find(letters, 1));
    assert_int_equal(references(event), 2);
    esi_dead_letters_free(letters);
    assert_int_equal(references(event), 1);
    assert_int_equal(evictions.count, 0);
    esi_event_unref(event);
    esi_dead_letters_free(NULL);
}

static void lets_the_oldest_go_and_tells(void **state)
{
    struct esi_dead_letters *letters = NULL;
    struct evictions evictions = {0};
    struct esi_dead_letters_stats stats;

    (void)state;
    assert_int_equal(esi_dead_letters_new(3, 0, &letters), ES_OK);
    for (int i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof id, "id%d", i);
        struct esi_event *event = make_event(id);
        add(letters, event, &evictions);
        esi_event_unref(event);
    }
    assert_int_equal(evictions.count, 7);
    assert_int_equal(evictions.last_number, 7);
    esi_dead_letters_stats(letters, &stats);
    assert_int_equal(stats.count, 3);
    assert_int_equal(stats.added, 10);
    assert_int_equal(stats.evicted, 7);
    assert_null(esi_dead_letters_find_event(letters, ESI_STR("id6")));
    assert_non_null(esi_dead_letters_find_event(letters, ESI_STR("id7")));
    assert_null(esi_dead_letters_find(letters, 7));
    for (uint64_t number = 8; number <= 10; number++) {
        assert_int_equal(esi_dead_letters_find(letters, number)->number, number);
    }
    esi_dead_letters_free(letters);
}

static void bounds_the_bytes(void **state)
{
    struct esi_dead_letters *letters = NULL;
    struct evictions evictions = {0};
    struct esi_dead_letters_stats stats;
    struct esi_event *event = make_event("a");

    (void)state;
    assert_int_equal(esi_dead_letters_new(100, event->memory_bytes * 2 + 1, &letters), ES_OK);
    for (int i = 0; i < 5; i++) {
        add(letters, event, &evictions);
    }
    esi_dead_letters_stats(letters, &stats);
    assert_int_equal(stats.count, 2);
    assert_int_equal(stats.bytes, 2 * event->memory_bytes);
    assert_int_equal(evictions.count, 3);
    esi_dead_letters_free(letters);
    assert_int_equal(esi_dead_letters_new(100, 1, &letters), ES_OK);
    add(letters, event, &evictions);
    esi_dead_letters_stats(letters, &stats);
    assert_int_equal(stats.count, 1);
    esi_dead_letters_free(letters);
    esi_event_unref(event);
}

static size_t count_of_event(const struct esi_dead_letters *letters, const char *id)
{
    size_t count = 0;
    uint64_t last = UINT64_MAX;

    for (const struct esi_dead_letter *letter =
             esi_dead_letters_find_event(letters, esi_str_from(id));
         letter != NULL; letter = esi_dead_letters_older(letter)) {
        assert_true(letter->number < last);
        last = letter->number;
        count++;
    }
    return count;
}

static void finds_all_letters_of_an_event(void **state)
{
    struct esi_dead_letters *letters = NULL;
    struct evictions evictions = {0};
    static const uint64_t orders[][4] = {{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}, {3, 1, 4, 2}};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(esi_dead_letters_new(100, 0, &letters), ES_OK);
        for (int j = 0; j < 4; j++) {
            /* Four events with one ID: the table's key must outlive each of them. */
            struct esi_event *event = make_event("same");
            add(letters, event, &evictions);
            esi_event_unref(event);
        }
        for (size_t j = 0; j < 4; j++) {
            assert_int_equal(count_of_event(letters, "same"), 4 - j);
            assert_int_equal(esi_dead_letters_remove(letters, orders[i][j]), ES_OK);
        }
        assert_int_equal(count_of_event(letters, "same"), 0);
        esi_dead_letters_free(letters);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_and_shows_letters),
        cmocka_unit_test(lets_the_oldest_go_and_tells),
        cmocka_unit_test(bounds_the_bytes),
        cmocka_unit_test(finds_all_letters_of_an_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
