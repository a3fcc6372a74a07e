/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every group that binds a process is looked at, from its own up to the root. Method: made-up
 * lists, and the folders that are asked for; none of them has to exist.
 */
#include "env/env_cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct seen {
    char text[1024];
};

static void note(void *argument, const char *folder, bool is_version_2)
{
    struct seen *seen = argument;
    const size_t len = strlen(seen->text);

    snprintf(seen->text + len, sizeof seen->text - len, "%s:%d ", folder, is_version_2 ? 2 : 1);
}

static void expect(const char *list_text, const char *wanted)
{
    char path[] = "/tmp/es_cgroup_XXXXXX";
    struct seen seen = {.text = ""};

    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, list_text, strlen(list_text)), strlen(list_text));
    assert_int_equal(close(file), 0);
    const struct esi_env_cgroup where = {
        .list = path, .root = "/r", .controller = "memory", .mounts = {"/memory"}};
    esi_env_cgroup_each(&where, note, &seen);
    assert_string_equal(seen.text, wanted);
    assert_int_equal(unlink(path), 0);
}

static void version_2_goes_up_to_the_root(void **state)
{
    (void)state;
    expect("0::/a/b\n", "/r:2 /r/a/b:2 /r/a:2 /r:2 /r/unified/a/b:2 /r/unified/a:2 /r/unified:2 ");
    expect("0::/\n", "/r:2 /r/:2 /r:2 /r/unified/:2 /r/unified:2 ");
}

static void version_1_takes_its_controller_alone(void **state)
{
    (void)state;
    expect("5:cpu,cpuacct:/a\n4:memory:/m\n", "/r:2 /r/memory/m:1 /r/memory:1 ");
    expect("4:hugetlb,memory:/m\n", "/r:2 /r/memory/m:1 /r/memory:1 ");
    expect("4:memoryx:/m\n3:xmemory:/m\nnonsense\n7\n", "/r:2 ");
}

static void a_path_that_leaves_the_mount_is_not_followed(void **state)
{
    (void)state;
    expect("0::/../other\n", "/r:2 /r:2 /r/unified:2 ");
}

static void a_list_that_is_not_there_leaves_the_root(void **state)
{
    const struct esi_env_cgroup where = {
        .list = "/nonexistent/list", .root = "/r", .controller = "cpu", .mounts = {"/cpu"}};
    struct seen seen = {.text = ""};
    char line[ESI_ENV_CGROUP_LINE_MAX];

    (void)state;
    esi_env_cgroup_each(&where, note, &seen);
    assert_string_equal(seen.text, "/r:2 ");
    assert_false(esi_env_cgroup_read("/nonexistent", "memory.max", line, sizeof line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_goes_up_to_the_root),
        cmocka_unit_test(version_1_takes_its_controller_alone),
        cmocka_unit_test(a_path_that_leaves_the_mount_is_not_followed),
        cmocka_unit_test(a_list_that_is_not_there_leaves_the_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
