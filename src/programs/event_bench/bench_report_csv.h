/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints a result as one line of comma-separated values (RFC 4180, lines end with LF). */
#pragma once

#include "base/bytes.h"
#include "event_bench/bench_result.h"

/*
 * Appends the line of a result, whose figures are empty where it has none.
 *   has_heading  puts the line of headings before it
 *   error        what went wrong, or why there are no figures; ends with NUL; empty: nothing
 */
void esi_bench_report_csv(const struct esi_bench_result *result, bool has_heading,
                          const char *error, struct esi_bytes *out);
