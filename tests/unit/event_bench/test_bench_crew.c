/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the processes of a run find each other, share what they have found, and miss who has died.
 * Method: real processes that leave by themselves before, between and after the meetings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "event_bench/bench_crew.h"

#include <signal.h>
#include <unistd.h>

enum { PROCESSES = 4 };

static const struct esi_bench_options options = {.scenario = BENCH_PUB_SUB,
                                                 .publishers = 8,
                                                 .subscribers = 2,
                                                 .processes = PROCESSES,
                                                 .threads = 2};

/* Ends a process that is not the first: it must not go on with the tests. */
static void leave(struct esi_bench_crew *crew)
{
    if (crew->index != 0) {
        esi_bench_crew_finish(crew);
        _exit(0);
    }
}

static void start(struct esi_bench_crew *crew)
{
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(esi_bench_crew_start(crew, &options), ES_OK);
    if (crew->index == 0) {
        assert_int_equal(crew->count, PROCESSES);
    }
}

static void meet_and_share(void **state)
{
    struct esi_bench_crew crew = {0};

    (void)state;
    start(&crew);
    const bool first = esi_bench_crew_meet(&crew, true);
    crew.board->parts[crew.index].delivered = 100 + crew.index;
    crew.board->rows[crew.index].messages = first ? 1 : 0;
    const bool second = esi_bench_crew_meet(&crew, true);
    leave(&crew);
    assert_true(first);
    assert_true(second);
    for (size_t i = 0; i < PROCESSES; i++) {
        assert_int_equal(crew.board->parts[i].delivered, 100 + i);
        assert_int_equal(crew.board->rows[i].messages, 1);
        assert_int_not_equal(crew.board->gate.pids[i], 0);
    }
    esi_bench_crew_finish(&crew);
}

/* One says that it cannot go on: all others hear it, in the same meeting. */
static void one_is_not_good(void **state)
{
    (void)state;
    for (size_t bad = 0; bad < PROCESSES; bad++) {
        struct esi_bench_crew crew = {0};
        start(&crew);
        const bool all_are_good = esi_bench_crew_meet(&crew, crew.index != bad);
        crew.board->rows[crew.index].messages = all_are_good ? 1 : 2;
        const bool met_again = esi_bench_crew_meet(&crew, true);
        leave(&crew);
        assert_false(all_are_good);
        assert_true(met_again);
        for (size_t i = 0; i < PROCESSES; i++) {
            assert_int_equal(crew.board->rows[i].messages, 2);
        }
        esi_bench_crew_finish(&crew);
    }
}

static void one_has_died(void **state)
{
    (void)state;
    for (size_t dead = 1; dead < PROCESSES; dead++) {
        struct esi_bench_crew crew = {0};
        start(&crew);
        if (crew.index == dead) {
            _exit(0);
        }
        const bool all_are_good = esi_bench_crew_meet(&crew, true);
        leave(&crew);
        assert_false(all_are_good);
        esi_bench_crew_finish(&crew);
    }
}

static void finish_without_start(void **state)
{
    struct esi_bench_crew crew = {0};

    (void)state;
    esi_bench_crew_finish(&crew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(meet_and_share),
        cmocka_unit_test(one_is_not_good),
        cmocka_unit_test(one_has_died),
        cmocka_unit_test(finish_without_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
