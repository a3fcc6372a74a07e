/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: the digest of a trace tells two histories apart, and only then. Method: worlds with the
 * same and with other notes. */
#include "env/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static uint64_t digest_of(const char *first, const char *second, uint64_t pause_ns)
{
    const struct esi_env_sim_options options = {.seed = 1};
    struct esi_env_sim *sim = NULL;

    assert_int_equal(esi_env_sim_new(&options, &sim), ES_OK);
    esi_env_sim_note(sim, "%s", first);
    esi_env_sim_step(sim, esi_env_sim_now_ns(sim) + pause_ns);
    esi_env_sim_note(sim, "%s", second);
    assert_int_equal(esi_env_sim_steps(sim), 2);
    const uint64_t digest = esi_env_sim_digest(sim);
    esi_env_sim_free(sim);
    return digest;
}

static void test_the_digest_tells_histories_apart(void **state)
{
    const uint64_t digest = digest_of("one", "two", 1);

    (void)state;
    assert_int_equal(digest_of("one", "two", 1), digest);
    assert_int_not_equal(digest_of("two", "one", 1), digest);
    assert_int_not_equal(digest_of("one", "twp", 1), digest);
    assert_int_not_equal(digest_of("one", "two", 2), digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_digest_tells_histories_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
