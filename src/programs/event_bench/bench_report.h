/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints a result: text in the words and columns of `nats bench`, or JSON. */
#pragma once

#include "base/bytes.h"
#include "event_bench/bench_result.h"

/*
 * Appends the report as text. Without result->has_figures only what was run, and where: figures of
 * a run that lost messages mean nothing.
 */
void esi_bench_report_text(const struct esi_bench_result *result, struct esi_bytes *out);

/* Appends one sentence that says why the generator was the bottleneck. */
void esi_bench_report_bottleneck(const struct esi_bench_result *result, struct esi_bytes *out);

/*
 * Appends one line that says what went wrong ("2 messages lost, 1 duplicated"), or nothing when
 * nothing did.
 */
void esi_bench_report_faults(const struct esi_bench_result *result, struct esi_bytes *out);
