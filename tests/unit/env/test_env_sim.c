/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the simulated world keeps its promises about time, chance, threads and files. Method: small
 * worlds, looked at from outside; the same seed is played twice.
 */
#include "env/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#define MS UINT64_C(1000000)

static struct esi_env_sim *make_world(uint64_t seed)
{
    const struct esi_env_sim_options options = {
        .seed = seed, .latency_ns_max = MS, .window_bytes_min = 1000, .window_bytes_max = 1000};
    struct esi_env_sim *sim = NULL;

    assert_int_equal(esi_env_sim_new(&options, &sim), ES_OK);
    return sim;
}

static uint32_t order[4];
static size_t order_count;

static void note_order(void *argument)
{
    order[order_count++] = *(const uint32_t *)argument;
}

static void test_time_passes_from_event_to_event(void **state)
{
    struct esi_env_sim *sim = make_world(1);
    const uint64_t start_ns = esi_env_sim_now_ns(sim);

    (void)state;
    uint32_t first = 1;
    uint32_t second = 2;
    order_count = 0;
    esi_env_sim_at(sim, start_ns + 20 * MS, note_order, &second);
    esi_env_sim_at(sim, start_ns + 10 * MS, note_order, &first);
    esi_env_sim_step(sim, start_ns + 100 * MS);
    assert_int_equal(order_count, 1);
    assert_int_equal(esi_env_sim_now_ns(sim), start_ns + 10 * MS);
    esi_env_sim_step(sim, start_ns + 100 * MS);
    assert_int_equal(order_count, 2);
    assert_true(order[0] == first && order[1] == second);
    esi_env_sim_step(sim, start_ns + 100 * MS);
    assert_int_equal(esi_env_sim_now_ns(sim), start_ns + 100 * MS);
    esi_env_sim_free(sim);
}

/* What a world gives out, in one number. */
static uint64_t play(uint64_t seed)
{
    struct esi_env_sim *sim = make_world(seed);
    struct esi_env *host = esi_env_sim_host(sim, "10.0.0.1");
    uint64_t number = 0;

    esi_env_random(host, &number, sizeof number);
    number ^= esi_env_sim_draw(sim, UINT64_MAX) ^ (uint64_t)esi_env_wall_ns(host);
    esi_env_sim_free(sim);
    return number;
}

static void test_a_seed_says_everything(void **state)
{
    (void)state;
    assert_int_equal(play(7), play(7));
    assert_int_not_equal(play(7), play(8));
}

struct counter {
    uint32_t steps;
    uint32_t end_at;
};

static bool count_step(void *argument, uint64_t *next_ns)
{
    struct counter *counter = argument;

    counter->steps++;
    *next_ns = UINT64_MAX;
    return counter->steps < counter->end_at;
}

static void test_a_thread_steps_when_woken_and_ends(void **state)
{
    struct esi_env_sim *sim = make_world(2);
    struct esi_env *host = esi_env_sim_host(sim, "10.0.0.1");
    struct counter counter = {.end_at = 3};
    struct esi_thread *thread = NULL;

    (void)state;
    assert_true(esi_env_is_stepped(host));
    assert_false(esi_env_is_stepped(esi_env_linux()));
    assert_int_equal(esi_env_stepped_start(host, "counter", count_step, &counter, NULL, &thread),
                     ES_OK);
    for (int i = 0; i < 3; i++) {
        esi_env_yield(host, esi_env_now_ns(host) + 1000 * MS);
    }
    assert_int_equal(counter.steps, 1); /* nobody has woken it */
    esi_env_stepped_wake(host, thread);
    esi_env_stepped_wake(host, thread);
    esi_env_yield(host, esi_env_now_ns(host) + 1000 * MS);
    assert_int_equal(counter.steps, 2);
    esi_env_stepped_wake(host, thread);
    esi_env_thread_join(host, thread);
    assert_int_equal(counter.steps, 3);
    esi_env_sim_free(sim);
}

static void test_files_are_read_as_they_were_written(void **state)
{
    struct esi_env_sim *sim = make_world(3);
    struct esi_env *host = esi_env_sim_host(sim, "10.0.0.1");
    struct esi_file_info info;
    struct esi_bytes text;

    (void)state;
    esi_bytes_init(&text, 0);
    assert_int_equal(esi_env_file_read(host, "/a", 10, &text), ES_NOT_FOUND);
    assert_int_equal(esi_env_file_replace(host, "/a", "one", 3, 0600), ES_OK);
    assert_int_equal(esi_env_file_replace(host, "/a", "second", 6, 0640), ES_OK);
    assert_int_equal(esi_env_file_read(host, "/a", 5, &text), ES_TOO_LARGE);
    assert_int_equal(esi_env_file_read(host, "/a", 6, &text), ES_OK);
    assert_true(esi_str_equal(esi_bytes_str(&text), ESI_STR("second")));
    assert_int_equal(esi_env_file_info(host, "/a", &info), ES_OK);
    assert_int_equal(info.size_bytes, 6);
    assert_int_equal(info.mode, 0640);
    assert_int_equal(esi_env_file_info(host, "/b", &info), ES_NOT_FOUND);
    esi_bytes_deinit(&text);
    esi_env_sim_free(sim);
}

static void test_only_addresses_are_names(void **state)
{
    struct esi_env_sim *sim = make_world(4);
    struct esi_env *host = esi_env_sim_host(sim, "10.0.0.1");
    struct esi_address address;
    size_t count = 0;

    (void)state;
    assert_ptr_equal(esi_env_sim_host(sim, "10.0.0.1"), host);
    assert_int_equal(esi_env_resolve(host, "10.0.0.2", 4222, &address, 1, &count), ES_OK);
    assert_int_equal(count, 1);
    assert_string_equal(address.host, "10.0.0.2");
    assert_int_equal(address.port, 4222);
    assert_int_equal(esi_env_resolve(host, "example", 1, &address, 1, &count), ES_NOT_FOUND);
    esi_env_sim_free(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_passes_from_event_to_event),
        cmocka_unit_test(test_a_seed_says_everything),
        cmocka_unit_test(test_a_thread_steps_when_woken_and_ends),
        cmocka_unit_test(test_files_are_read_as_they_were_written),
        cmocka_unit_test(test_only_addresses_are_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
