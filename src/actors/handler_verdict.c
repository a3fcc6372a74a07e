/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker's own answer is judged by its status. What we or the transport put in the place of an
 * answer counts against the event only where the worker had it and was silent about it, or was lost
 * while it had nothing else.
 */
#include "actors/handler_verdict.h"
#include "actors/handler.h"
#include "event/event_protobuf.h"
#include "net/grpc_client.h"

#include <stdarg.h>
#include <stdio.h>

void esi_handler_verdict_note(struct esi_handler_job *job, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const int len = vsnprintf(job->note, sizeof job->note, format, arguments);
    va_end(arguments);
    job->note_len = len < 0 ? 0 : (uint32_t)len;
    if (job->note_len >= sizeof job->note) {
        job->note_len = sizeof job->note - 1;
    }
}

static enum esi_retry_class classify_status(const struct esi_handler_job *job,
                                            const struct esi_grpc_result *result, bool is_losing)
{
    if (result->is_from_peer) {
        return esi_retry_classify((uint32_t)result->status, false);
    }
    if (result->is_unstarted && !is_losing && result->status == GRPC_UNAVAILABLE) {
        return RETRY_OVERLOADED; /* it takes no more calls at once */
    }
    if (result->is_unstarted) {
        return RETRY_UNREACHABLE;
    }
    if (is_losing) {
        return job->is_alone ? RETRY_CRASHED : RETRY_LOST;
    }
    return esi_retry_classify((uint32_t)result->status, false);
}

enum esi_retry_class esi_handler_verdict_classify(struct esi_handler_job *job,
                                                  const struct esi_grpc_result *result,
                                                  bool is_losing)
{
    bool is_success = false;

    if (result->status != GRPC_OK) {
        esi_handler_verdict_note(job, "%s: %.*s", esi_grpc_status_name(result->status),
                                 ESI_STR_ARG(result->status_text));
        return classify_status(job, result, is_losing);
    }
    if (esi_event_protobuf_read_response(result->message, &is_success) != ES_OK) {
        esi_handler_verdict_note(job, "the worker's answer is no EventResponse");
        return RETRY_LATER;
    }
    esi_handler_verdict_note(job, is_success ? "OK" : "the worker answered Success=false");
    return esi_retry_classify(RETRY_GRPC_OK, is_success);
}

void esi_handler_verdict_decide(struct esi_handler_job *job, const struct esi_retry_policy *policy,
                                enum esi_retry_class failure, uint64_t random)
{
    job->blame = esi_retry_blame(failure);
    const struct esi_retry_outcome outcome = {
        .failure = failure,
        .attempts = job->attempt,
        .counted = job->counted + (job->blame == RETRY_BLAME_EVENT ? 1U : 0U),
    };

    switch (esi_retry_decide(policy, outcome, random, &job->delay_ns)) {
    case RETRY_VERDICT_DONE:
        job->outcome = HANDLER_DELIVERED;
        break;
    case RETRY_VERDICT_AGAIN:
        job->outcome = HANDLER_RETRY;
        break;
    case RETRY_VERDICT_GIVE_UP:
        job->outcome = HANDLER_DEAD;
        break;
    }
}
