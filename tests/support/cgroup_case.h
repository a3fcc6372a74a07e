/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A folder that stands for the tree of control groups, and a file that stands for the process's own
 * list of them, for tests of what limits a control group sets. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

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

    snprintf(fixture.root, sizeof fixture.root, "/tmp/es_cgroup_XXXXXX");
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
