/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A group without a limit says "max", or in version 1 a number near the largest one: more than any
 * machine has. */
#include "env/env_memory.h"

#include "env/env_cgroup.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static const uint64_t UNLIMITED_BYTES = UINT64_C(1) << 60;

static void look_at_group(void *argument, const char *folder, bool is_version_2)
{
    uint64_t *least = argument;
    char line[ESI_ENV_CGROUP_LINE_MAX];
    uint64_t bytes = 0;
    const char *name = is_version_2 ? "memory.max" : "memory.limit_in_bytes";

    if (esi_env_cgroup_read(folder, name, line, sizeof line) &&
        sscanf(line, "%" SCNu64, &bytes) == 1 && bytes > 0 && bytes < UNLIMITED_BYTES &&
        (*least == 0 || bytes < *least)) {
        *least = bytes;
    }
}

uint64_t esi_env_memory_limit(const char *cgroup_list, const char *root)
{
    const struct esi_env_cgroup where = {
        .list = cgroup_list, .root = root, .controller = "memory", .mounts = {"/memory"}};
    uint64_t least = 0;

    esi_env_cgroup_each(&where, look_at_group, &least);
    return least;
}

uint64_t esi_env_memory_usable(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    const uint64_t machine =
        pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    const uint64_t limit = esi_env_memory_limit("/proc/self/cgroup", "/sys/fs/cgroup");

    return limit != 0 && (machine == 0 || limit < machine) ? limit : machine;
}
