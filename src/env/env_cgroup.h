/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control groups that a process is in, of version 1 and 2. Private to the env layer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { ESI_ENV_CGROUP_LINE_MAX = 4096 };

struct esi_env_cgroup {
    const char *list;       /* the file that names the groups ("/proc/self/cgroup") */
    const char *root;       /* where they are mounted ("/sys/fs/cgroup") */
    const char *controller; /* of version 1: "cpu" */
    const char *mounts[3];  /* of version 1, below root: "/cpu"; ends with NULL or the array */
};

typedef void (*esi_env_cgroup_look_fn)(void *argument, const char *folder, bool is_version_2);

/*
 * Calls look for the folder of every group that binds the process, from its own up to the root.
 * All strings are borrowed. Thread: any; reads a few files. Cannot fail.
 */
void esi_env_cgroup_each(const struct esi_env_cgroup *where, esi_env_cgroup_look_fn look,
                         void *argument);
/* The first line of a group's file, without its line feed; false where there is none. */
bool esi_env_cgroup_read(const char *folder, const char *name, char *line, size_t capacity);
