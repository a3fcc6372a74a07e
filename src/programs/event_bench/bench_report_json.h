/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The result as one JSON object, for programs. The names in it are stable: bench/compare and others
 * read them. */
#pragma once

#include "base/bytes.h"
#include "event_bench/bench_result.h"

/*
 * Appends the object. "valid" is false when verification failed; the figures are then left out.
 *   error  what stopped the run, or an empty string
 */
void esi_bench_report_json(const struct esi_bench_result *result, const char *error,
                           struct esi_bytes *out);
