/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the core count follows CPU quotas of control groups. Method: made-up /proc/self/cgroup
 * lists and mounts in a temporary folder, and what the quota of each must be.
 */
#include "env/env_cores.h"

#include "cgroup_case.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void without_a_quota_there_is_no_limit(void **state)
{
    const struct fixture *fixture = *state;

    assert_int_equal(esi_env_cores_quota("/nonexistent/list", "/nonexistent/root"), 0);
    write_file(fixture->root, "list", "0::/a/b\n");
    write_file(fixture->root, "a/b/cpu.max", "max 100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 0);
}

static void version_2_takes_the_least_of_all_levels(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "0::/a/b\n");
    write_file(fixture->root, "a/b/cpu.max", "800000 100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 8);
    write_file(fixture->root, "a/cpu.max", "350000 100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 3);
    write_file(fixture->root, "cpu.max", "50000 100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 1);
}

static void a_path_of_the_host_falls_back_to_the_root(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "0::/../../kubepods/pod1\n");
    write_file(fixture->root, "cpu.max", "200000 100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 2);
    write_file(fixture->root, "list", "0::/docker/0123\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 2);
}

static void version_1_reads_quota_and_period(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "3:cpuset:/x\n2:cpuacct,cpu:/x/y\n1:name=systemd:/\n0::/\n");
    write_file(fixture->root, "cpu/x/y/cpu.cfs_quota_us", "-1\n");
    write_file(fixture->root, "cpu/x/y/cpu.cfs_period_us", "100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 0);
    write_file(fixture->root, "cpu/x/y/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 2);
    write_file(fixture->root, "cpuset/x/cpu.cfs_quota_us", "100000\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 2);
}

static void nonsense_is_passed_over(void **state)
{
    const struct fixture *fixture = *state;

    write_file(fixture->root, "list", "\nfoo\n:::\n0:\n0::relative\n5:cpu\n");
    write_file(fixture->root, "cpu.max", "0 0\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 0);
    write_file(fixture->root, "cpu.max", "-5 -5\n");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 0);
    write_file(fixture->root, "cpu.max", "");
    assert_int_equal(esi_env_cores_quota(fixture->list, fixture->root), 0);
}

static void affinity_bounds_the_count(void **state)
{
    cpu_set_t before;
    cpu_set_t one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const uint32_t count = esi_env_cores_count();
    assert_in_range(count, 1, (uint32_t)CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
            break;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(esi_env_cores_count(), 1);
    assert_true(CPU_ISSET(esi_env_cores_at(0), &one) && CPU_ISSET(esi_env_cores_at(7), &one));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void a_thread_is_kept_on_a_core(void **state)
{
    cpu_set_t before;
    cpu_set_t after;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    const uint32_t count = (uint32_t)CPU_COUNT(&before);
    const uint32_t last = esi_env_cores_at(count - 1);
    assert_true(CPU_ISSET(last, &before));
    assert_int_equal(esi_env_cores_at(count), esi_env_cores_at(0));
    assert_int_equal(esi_env_cores_pin(last), ES_OK);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_COUNT(&after) == 1 && CPU_ISSET(last, &after));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(esi_env_cores_pin(UINT32_MAX), ES_NOT_FOUND);
    assert_int_equal(esi_env_cores_pin(CPU_SETSIZE - 1), ES_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_quota_there_is_no_limit, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_2_takes_the_least_of_all_levels, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(a_path_of_the_host_falls_back_to_the_root, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(version_1_reads_quota_and_period, make_root, remove_root),
        cmocka_unit_test_setup_teardown(nonsense_is_passed_over, make_root, remove_root),
        cmocka_unit_test(affinity_bounds_the_count),
        cmocka_unit_test(a_thread_is_kept_on_a_core),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
