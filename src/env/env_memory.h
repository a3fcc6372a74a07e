/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much memory a process may really use: the machine's, and below that the limit of its control
 * groups. Private to the env layer. */
#pragma once

#include <stdint.h>

/*
 * The least memory limit of the process's control groups, in bytes; 0 where there is none.
 *   cgroup_list, root   as for esi_env_cores_quota
 * Version 2 (memory.max) and version 1 (memory.limit_in_bytes). Thread: any; reads a few files.
 * Cannot fail.
 */
uint64_t esi_env_memory_limit(const char *cgroup_list, const char *root);

/* The bytes that this process may use; 0 when not even the machine's size is known. Thread: any. */
uint64_t esi_env_memory_usable(void);
