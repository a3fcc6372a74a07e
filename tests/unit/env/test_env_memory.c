/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the memory a process may use follows the limits of its control groups. Method: made-up
 * /proc/self/cgroup lists and mounts in a temporary folder, and what the limit of each must be.
 */
#include "env/env_memory.h"

#include "cgroup_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void the_least_limit_counts(void **state)
{
    const struct fixture *fixture = *state;

    assert_int_equal(esi_env_memory_limit("/nonexistent/list", "/nonexistent/root"), 0);
    write_file(fixture->root, "list", "0::/a/b\n");
    write_file(fixture->root, "a/b/memory.max", "max\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 0);
    write_file(fixture->root, "a/b/memory.max", "1073741824\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 1073741824);
    write_file(fixture->root, "a/memory.max", "536870912\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 536870912);
    write_file(fixture->root, "a/memory.max", "2147483648\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 1073741824);
}

static void version_1_without_a_limit_names_a_number_too(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "9:memory:/c\n");
    write_file(fixture->root, "memory/c/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 0);
    write_file(fixture->root, "memory/memory.limit_in_bytes", "268435456\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 268435456);
}

static void nonsense_is_no_limit(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "0::/\n");
    write_file(fixture->root, "memory.max", "0\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 0);
    write_file(fixture->root, "memory.max", "lots\n");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 0);
    write_file(fixture->root, "memory.max", "");
    assert_int_equal(esi_env_memory_limit(fixture->list, fixture->root), 0);
}

static void this_machine_has_memory(void **state)
{
    (void)state;
    assert_true(esi_env_memory_usable() > 16 * 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_least_limit_counts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_1_without_a_limit_names_a_number_too, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(nonsense_is_no_limit, make_root, remove_root),
        cmocka_unit_test(this_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
