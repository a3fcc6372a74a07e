/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Affinity and control groups. Paths in /proc/self/cgroup are those of the host where the cgroup
 * namespace is not the container's own, and are then not to be found under /sys/fs/cgroup: what
 * cannot be opened is passed over, and the mount's root, which is the container's own group there,
 * is always looked at.
 */
#include "env/env_cores.h"

#include "base/own.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4096, LINE_BYTES_MAX = 4096, CPU_COUNT_MAX = 65536 };

/* The first line of a small file, without its line feed. */
static bool read_line(const char *path, char *line, size_t capacity)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const bool is_read = fgets(line, (int)capacity, file) != NULL;
    fclose(file);
    if (is_read) {
        line[strcspn(line, "\n")] = '\0';
    }
    return is_read;
}

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

static void look_at_group(const char *folder, bool is_version_2, uint32_t *least)
{
    char path[PATH_BYTES_MAX + 32];
    char line[LINE_BYTES_MAX];
    int64_t quota = 0;
    int64_t period = 0;

    if (is_version_2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        if (read_line(path, line, sizeof line) &&
            sscanf(line, "%" SCNd64 " %" SCNd64, &quota, &period) == 2) {
            take_quota(quota, period, least);
        }
        return;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%" SCNd64, &quota) != 1) {
        return;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (read_line(path, line, sizeof line) && sscanf(line, "%" SCNd64, &period) == 1) {
        take_quota(quota, period, least);
    }
}

/* From mount + group up to the mount itself: a parent's quota binds its children. */
static void look_upwards(const char *mount, const char *group, bool is_version_2, uint32_t *least)
{
    char folder[PATH_BYTES_MAX];
    const size_t mount_len = strlen(mount);

    if (strstr(group, "..") != NULL ||
        snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder) {
        snprintf(folder, sizeof folder, "%s", mount);
    }
    for (;;) {
        look_at_group(folder, is_version_2, least);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < mount_len) {
            return;
        }
        *slash = '\0';
    }
}

/* True when the list "cpu,cpuacct" names the controller cpu. */
static bool names_cpu(const char *controllers)
{
    for (const char *at = controllers; *at != '\0';) {
        const size_t len = strcspn(at, ",");
        if (len == 3 && memcmp(at, "cpu", 3) == 0) {
            return true;
        }
        at += len;
        at += *at == ',' ? 1 : 0;
    }
    return false;
}

/* One line of the list: "ID:CONTROLLERS:PATH"; version 2 has ID 0 and no controllers. */
static void look_at_entry(char *line, const char *root, uint32_t *least)
{
    static const char *const mounts_1[] = {"/cpu", "/cpu,cpuacct", "/cpuacct,cpu"};
    char mount[PATH_BYTES_MAX];

    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) {
        return;
    }
    controllers++;
    *group++ = '\0';
    if (*controllers == '\0') {
        look_upwards(root, group, true, least);
        snprintf(mount, sizeof mount, "%s/unified", root);
        look_upwards(mount, group, true, least);
        return;
    }
    if (!names_cpu(controllers)) {
        return;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(mounts_1); i++) {
        snprintf(mount, sizeof mount, "%s%s", root, mounts_1[i]);
        look_upwards(mount, group, false, least);
    }
}

uint32_t esi_env_cores_quota(const char *cgroup_list, const char *root)
{
    char line[LINE_BYTES_MAX];
    uint32_t least = 0;

    look_at_group(root, true, &least);
    FILE *file = fopen(cgroup_list, "re");
    if (file == NULL) {
        return least;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        look_at_entry(line, root, &least);
    }
    fclose(file);
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
