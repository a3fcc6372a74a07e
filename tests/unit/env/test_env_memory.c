/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the memory a process may use follows the limits of its control groups. Method: made-up
 * /proc/self/cgroup lists and mounts in a temporary folder, and what the limit of each must be.
 */
#include "env/env_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct fixture {
    char root[64];
    char list[80];
};

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_root(void **state)
{
    static struct fixture fixture;

    snprintf(fixture.root, sizeof fixture.root, "/tmp/es_memory_XXXXXX");
    assert_non_null(mkdtemp(fixture.root));
    snprintf(fixture.list, sizeof fixture.list, "%s/list", fixture.root);
    *state = &fixture;
    return 0;
}

static int remove_root(void **state)
{
    const struct fixture *fixture = *state;
    char command[128];

    snprintf(command, sizeof command, "rm -r '%s'", fixture->root);
    return system(command);
}

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
