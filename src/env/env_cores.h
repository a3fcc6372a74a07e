/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many cores a process may really use: its affinity, and below that the CPU quota of its
 * control groups. A container with two cores' worth of quota on a machine of 64 must not start 64
 * workers: they would be throttled.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/*
 * The whole cores that the quotas allow, rounded down (a fraction of a core is no worker's home),
 * at least 1.
 *   cgroup_list   the file that names the process's groups ("/proc/self/cgroup"); borrowed
 *   root          where the groups are mounted ("/sys/fs/cgroup"); borrowed
 * The quota of every level from the process's own group up to the root counts, for version 2
 * (cpu.max) and version 1 (cpu.cfs_quota_us). Returns 0 where there is no quota. Thread: any; reads
 * a few files. Cannot fail.
 */
uint32_t esi_env_cores_quota(const char *cgroup_list, const char *root);

/* The cores this process may use, at least 1. Thread: any; reads a few files. Cannot fail. */
uint32_t esi_env_cores_count(void);

/* Keeps the calling thread on one core, by the system's number. ES_NOT_FOUND: the process may not
 * use it. */
ES_MUST_USE enum es_err esi_env_cores_pin(uint32_t core);

/* The system's number of the index-th core of the calling thread's affinity; they go round. Where
 * the affinity cannot be read, the index. Thread: any. */
uint32_t esi_env_cores_at(uint32_t index);
