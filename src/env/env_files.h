/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole files for the Linux environment: read, replace, look at; and the mapping of the system's
 * errors. What the calls promise is said in env/env.h. They block: service threads and start only.
 */
#pragma once

#include "env/env.h"

/* The general meaning of an errno; calls with a meaning of their own look at it first. */
enum es_err esi_env_files_map_error(int error);

/* esi_env_file_read. On failure out keeps what it had. */
ES_MUST_USE enum es_err esi_env_files_read(const char *path, size_t size_max,
                                           struct esi_bytes *out);

/*
 * esi_env_file_replace: the old file or the new one is there at any moment, never a part.
 *   suffix   random, so that nobody can put something in the temporary file's place
 */
ES_MUST_USE enum es_err esi_env_files_replace(const char *path, struct esi_str data, uint32_t mode,
                                              uint64_t suffix);

/* esi_env_file_info. */
ES_MUST_USE enum es_err esi_env_files_info(const char *path, struct esi_file_info *info);

/* esi_env_file_lock: of the file's folder, since the file itself is replaced by another. */
ES_MUST_USE enum es_err esi_env_files_lock(const char *path, int *lock);
void esi_env_files_unlock(int lock);
