/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Affinity, and below that the quotas of control groups. */
#include "env/env_cores.h"

#include "env/env_cgroup.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CPU_COUNT_MAX = 65536 };

/* Takes the smaller of *least (0: none yet) and quota / period. */
static void take_quota(int64_t quota, int64_t period, uint32_t *least)
{
    if (quota <= 0 || period <= 0) {
        return;
    }
    int64_t cores = quota / period;
    if (cores < 1) {
        cores = 1;
    }
    if (cores < CPU_COUNT_MAX && (*least == 0 || cores < (int64_t)*least)) {
        *least = (uint32_t)cores;
    }
}

static void look_at_group(void *argument, const char *folder, bool is_version_2)
{
    uint32_t *least = argument;
    char line[ESI_ENV_CGROUP_LINE_MAX];
    int64_t quota = 0;
    int64_t period = 0;

    if (is_version_2) {
        if (esi_env_cgroup_read(folder, "cpu.max", line, sizeof line) &&
            sscanf(line, "%" SCNd64 " %" SCNd64, &quota, &period) == 2) {
            take_quota(quota, period, least);
        }
        return;
    }
    if (esi_env_cgroup_read(folder, "cpu.cfs_quota_us", line, sizeof line) &&
        sscanf(line, "%" SCNd64, &quota) == 1 &&
        esi_env_cgroup_read(folder, "cpu.cfs_period_us", line, sizeof line) &&
        sscanf(line, "%" SCNd64, &period) == 1) {
        take_quota(quota, period, least);
    }
}

uint32_t esi_env_cores_quota(const char *cgroup_list, const char *root)
{
    const struct esi_env_cgroup where = {.list = cgroup_list,
                                         .root = root,
                                         .controller = "cpu",
                                         .mounts = {"/cpu", "/cpu,cpuacct", "/cpuacct,cpu"}};
    uint32_t least = 0;

    esi_env_cgroup_each(&where, look_at_group, &least);
    return least;
}

/* The cores of the affinity mask; 0 when the mask cannot be read. */
static uint32_t count_affinity(void)
{
    for (int cpus = CPU_SETSIZE; cpus <= CPU_COUNT_MAX; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (set == NULL) {
            return 0;
        }
        const size_t set_bytes = CPU_ALLOC_SIZE((size_t)cpus);
        const int failed = sched_getaffinity(0, set_bytes, set);
        const int count = failed == 0 ? CPU_COUNT_S(set_bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) {
            return (uint32_t)count;
        }
    }
    return 0;
}

uint32_t esi_env_cores_count(void)
{
    uint32_t count = count_affinity();
    if (count == 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 && online < CPU_COUNT_MAX ? (uint32_t)online : 1;
    }
    const uint32_t quota = esi_env_cores_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    return quota != 0 && quota < count ? quota : count;
}

enum es_err esi_env_cores_pin(uint32_t core)
{
    enum es_err err = ES_NOT_FOUND;

    if (core >= CPU_COUNT_MAX) {
        return ES_NOT_FOUND;
    }
    cpu_set_t *set = CPU_ALLOC(CPU_COUNT_MAX);
    if (set == NULL) {
        return ES_NO_MEMORY;
    }
    const size_t set_bytes = CPU_ALLOC_SIZE(CPU_COUNT_MAX);
    CPU_ZERO_S(set_bytes, set);
    CPU_SET_S(core, set_bytes, set);
    if (sched_setaffinity(0, set_bytes, set) == 0) {
        err = ES_OK;
    }
    CPU_FREE(set);
    return err;
}

/* The number of the set's index-th member, where it has so many. */
static uint32_t find_member(const cpu_set_t *set, size_t set_bytes, uint32_t index)
{
    uint32_t left = index % (uint32_t)CPU_COUNT_S(set_bytes, set);
    uint32_t core = 0;

    for (;; core++) {
        if (CPU_ISSET_S(core, set_bytes, set) && left-- == 0) {
            return core;
        }
    }
}

uint32_t esi_env_cores_at(uint32_t index)
{
    const size_t set_bytes = CPU_ALLOC_SIZE(CPU_COUNT_MAX);
    cpu_set_t *set = CPU_ALLOC(CPU_COUNT_MAX);
    uint32_t core = index;

    if (set == NULL) {
        return index;
    }
    CPU_ZERO_S(set_bytes, set);
    if (sched_getaffinity(0, set_bytes, set) == 0 && CPU_COUNT_S(set_bytes, set) > 0) {
        core = find_member(set, set_bytes, index);
    }
    CPU_FREE(set);
    return core;
}
