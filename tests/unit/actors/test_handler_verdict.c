/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every result of a call leads to the outcome that the event deserves, and says why. Method:
 * a table of results, each judged on a living and on a dying connection; then the way from classes
 * to outcomes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "actors/handler.h"
#include "actors/handler_verdict.h"
#include "net/grpc_client.h"

static const char *note_of(const struct esi_handler_job *job)
{
    static char text[ESI_HANDLER_NOTE_MAX + 1];

    assert_true(job->note_len <= ESI_HANDLER_NOTE_MAX);
    memcpy(text, job->note, job->note_len);
    text[job->note_len] = '\0';
    return text;
}

static const struct {
    struct esi_grpc_result result;
    enum esi_retry_class alive;
    enum esi_retry_class dying;
    const char *note;
} results[] = {
    {{.status = GRPC_OK, .is_from_peer = true, .message = ESI_STR("\x08\x01")},
     RETRY_DELIVERED,
     RETRY_DELIVERED,
     "OK"},
    {{.status = GRPC_OK, .is_from_peer = true, .message = ESI_STR("\x08\x00")},
     RETRY_LATER,
     RETRY_LATER,
     "the worker answered Success=false"},
    {{.status = GRPC_OK, .is_from_peer = true}, /* proto3 leaves false out */
     RETRY_LATER,
     RETRY_LATER,
     "the worker answered Success=false"},
    {{.status = GRPC_OK, .is_from_peer = true, .message = ESI_STR("<html>")},
     RETRY_LATER,
     RETRY_LATER,
     "the worker's answer is no EventResponse"},
    {{.status = GRPC_INTERNAL, .is_from_peer = true, .status_text = ESI_STR("no disk")},
     RETRY_LATER,
     RETRY_LATER,
     "INTERNAL: no disk"},
    {{.status = GRPC_UNAVAILABLE, .is_from_peer = true, .status_text = ESI_STR("soon")},
     RETRY_LATER,
     RETRY_LATER,
     "UNAVAILABLE: soon"},
    {{.status = GRPC_INVALID_ARGUMENT, .is_from_peer = true}, RETRY_POISON, RETRY_POISON, NULL},
    {{.status = GRPC_RESOURCE_EXHAUSTED, .is_from_peer = true},
     RETRY_OVERLOADED,
     RETRY_OVERLOADED,
     NULL},
    {{.status = GRPC_PERMISSION_DENIED, .is_from_peer = true},
     RETRY_UNAUTHORIZED,
     RETRY_UNAUTHORIZED,
     NULL},
    {{.status = GRPC_UNIMPLEMENTED, .is_from_peer = true},
     RETRY_UNIMPLEMENTED,
     RETRY_UNIMPLEMENTED,
     NULL},
    /* not the worker's own words */
    {{.status = GRPC_DEADLINE_EXCEEDED, .status_text = ESI_STR("no answer in time")},
     RETRY_LATER,
     RETRY_LOST,
     "DEADLINE_EXCEEDED: no answer in time"},
    {{.status = GRPC_DEADLINE_EXCEEDED, .is_unstarted = true},
     RETRY_UNREACHABLE,
     RETRY_UNREACHABLE,
     NULL},
    {{.status = GRPC_INTERNAL, .status_text = ESI_STR("the answer has no message")},
     RETRY_LATER,
     RETRY_LOST,
     NULL},
    {{.status = GRPC_UNAVAILABLE, .is_unstarted = true}, RETRY_OVERLOADED, RETRY_UNREACHABLE, NULL},
};

static void judges_each_result(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        struct esi_handler_job job = {.attempt = 1};
        assert_int_equal(esi_handler_verdict_classify(&job, &results[i].result, false),
                         results[i].alive);
        if (results[i].note != NULL) {
            assert_string_equal(note_of(&job), results[i].note);
        }
        assert_int_equal(esi_handler_verdict_classify(&job, &results[i].result, true),
                         results[i].dying);
        job.is_alone = true;
        assert_int_equal(esi_handler_verdict_classify(&job, &results[i].result, true),
                         results[i].dying == RETRY_LOST ? RETRY_CRASHED : results[i].dying);
    }
}

static void cuts_long_notes(void **state)
{
    char text[GRPC_STATUS_TEXT_MAX];
    struct esi_handler_job job = {.attempt = 1};
    (void)state;

    memset(text, 'x', sizeof text);
    const struct esi_grpc_result result = {.status = GRPC_UNKNOWN,
                                           .is_from_peer = true,
                                           .status_text = {.data = text, .len = sizeof text}};
    assert_int_equal(esi_handler_verdict_classify(&job, &result, false), RETRY_LATER);
    assert_int_equal(job.note_len, ESI_HANDLER_NOTE_MAX - 1);
    assert_memory_equal(job.note, "UNKNOWN: xxx", 12);
}

static void decides_by_class_and_count(void **state)
{
    const struct esi_retry_policy policy = {
        .delay_ns = 1000, .delay_max_ns = 8000, .attempts_max = 3};
    (void)state;

    struct esi_handler_job job = {.attempt = 1};
    esi_handler_verdict_decide(&job, &policy, RETRY_DELIVERED, 0);
    assert_int_equal(job.outcome, HANDLER_DELIVERED);

    esi_handler_verdict_decide(&job, &policy, RETRY_LATER, UINT64_MAX);
    assert_int_equal(job.outcome, HANDLER_RETRY);
    assert_int_equal(job.blame, RETRY_BLAME_EVENT);
    assert_in_range(job.delay_ns, 900, 1000);

    job = (struct esi_handler_job){.attempt = 7, .counted = 1};
    esi_handler_verdict_decide(&job, &policy, RETRY_LATER, UINT64_MAX);
    assert_int_equal(job.outcome, HANDLER_RETRY);
    assert_in_range(job.delay_ns, 7900, 8000);

    job = (struct esi_handler_job){.attempt = 7, .counted = 2};
    esi_handler_verdict_decide(&job, &policy, RETRY_LATER, 0);
    assert_int_equal(job.outcome, HANDLER_DEAD);

    job = (struct esi_handler_job){.attempt = 70, .counted = 2};
    esi_handler_verdict_decide(&job, &policy, RETRY_UNREACHABLE, 0);
    assert_int_equal(job.outcome, HANDLER_RETRY);
    assert_int_equal(job.blame, RETRY_BLAME_WORKER);

    esi_handler_verdict_decide(&job, &policy, RETRY_LOST, 0);
    assert_int_equal(job.outcome, HANDLER_RETRY);
    assert_int_equal(job.blame, RETRY_BLAME_OPEN);

    esi_handler_verdict_decide(&job, &policy, RETRY_CRASHED, 0);
    assert_int_equal(job.outcome, HANDLER_DEAD);

    job = (struct esi_handler_job){.attempt = 1};
    esi_handler_verdict_decide(&job, &policy, RETRY_POISON, 0);
    assert_int_equal(job.outcome, HANDLER_DEAD);

    esi_handler_verdict_decide(&job, &policy, RETRY_UNAUTHORIZED, 0);
    assert_int_equal(job.outcome, HANDLER_RETRY);
    assert_int_equal(job.delay_ns, 8000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_each_result),
        cmocka_unit_test(cuts_long_notes),
        cmocka_unit_test(decides_by_class_and_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
