/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker's answer, or the lack of one, means for the event that was sent. Pure functions. */
#pragma once

#include "journal/retry.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_grpc_result;
struct esi_handler_job;

/* Sets the job's note, cut where it is long. */
void esi_handler_verdict_note(struct esi_handler_job *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The class of a result; the job's note says it in words.
 *   is_losing   the connection has ended: what did not come from the worker is not its answer
 */
enum esi_retry_class esi_handler_verdict_classify(struct esi_handler_job *job,
                                                  const struct esi_grpc_result *result,
                                                  bool is_losing);

/*
 * Fills the job's outcome, blame and delay_ns.
 *   random   64 unpredictable bits
 */
void esi_handler_verdict_decide(struct esi_handler_job *job, const struct esi_retry_policy *policy,
                                enum esi_retry_class failure, uint64_t random);
