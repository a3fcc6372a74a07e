/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a body from outside becomes an event with an ID and a type, unchanged where it came as
 * protobuf, or is refused with a reason. Method: bodies of both forms, complete and lacking, with
 * and without a subject; results are read by protobuf-c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <pthread.h>

#include "event/event.pb-c.h"

#include "event/event.h"

static const uint8_t random_bytes[ESI_EVENT_RANDOM_BYTES] = {
    0, 1, 2, 3, 4, 5, 0xff, 7, 0xff, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf};
static const char uuid_of_random_bytes[] = "00010203-0405-4f07-bf09-0a0b0c0d0e0f";

static struct esi_event_decode_options with_subject_type(const char *type)
{
    return (struct esi_event_decode_options){.type_from_subject = esi_str_from(type),
                                             .random = random_bytes};
}

static struct esi_event *decode(struct esi_str body, const char *type_from_subject)
{
    const struct esi_event_decode_options options = with_subject_type(type_from_subject);
    struct esi_event *event = NULL;
    struct es_error reason = {{0}};

    if (esi_event_decode(body, &options, &event, &reason) != ES_OK) {
        fail_msg("refused: %s", reason.text);
    }
    return event;
}

static void expect_refused(struct esi_str body, const char *type_from_subject, enum es_err expected,
                           const char *part_of_reason)
{
    const struct esi_event_decode_options options = with_subject_type(type_from_subject);
    struct esi_event *event = NULL;
    struct es_error reason = {{0}};

    assert_int_equal(esi_event_decode(body, &options, &event, &reason), expected);
    if (strstr(reason.text, part_of_reason) == NULL) {
        fail_msg("expected a reason with '%s', got '%s'", part_of_reason, reason.text);
    }
    assert_null(event);
}

static Chef__Automate__Domain__Event__Api__EventMsg *unpack(const struct esi_event *event)
{
    return chef__automate__domain__event__api__event_msg__unpack(
        NULL, event->encoded.len, (const uint8_t *)event->encoded.data);
}

static void assert_text(struct esi_str text, const char *expected)
{
    if (!esi_str_equal(text, esi_str_from(expected))) {
        fail_msg("expected '%s', got '%.*s'", expected, ESI_STR_ARG(text));
    }
}

static void keeps_protobuf_as_it_came(void **state)
{
    /* An unknown field, a field with a length that is longer than needed, fields out of order. */
    const struct esi_str body = ESI_STR("\x7a\x03\xff\x00\xff"
                                        "\x12\x05\x0a\x03"
                                        "abc"
                                        "\x0a\x82\x00"
                                        "id");

    (void)state;
    struct esi_event *event = decode(body, NULL);
    assert_true(esi_str_equal(event->encoded, body));
    assert_text(event->id, "id");
    assert_text(event->type, "abc");
    assert_false(event->has_generated_id);
    assert_true(event->memory_bytes >= body.len);
    assert_true(event->encoded.data != body.data);
    esi_event_unref(event);
}

static void reads_json(void **state)
{
    static const char *const bodies[] = {
        "{\"EventID\":\"id\",\"Type\":{\"Name\":\"abc\"},\"Published\":\"1970-01-01T00:00:02.5Z\"}",
        " {\"EventID\":\"id\",\"Type\":{\"Name\":\"abc\"},\"Published\":\"1970-01-01T00:00:02."
        "5Z\"}",
        "\n{\"EventID\":\"id\",\"Type\":{\"Name\":\"abc\"},\"Published\":\"1970-01-01T00:00:02."
        "5Z\"}",
        "\r\n\t "
        "{\"EventID\":\"id\",\"Type\":{\"Name\":\"abc\"},\"Published\":\"1970-01-01T00:00:02.5Z\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct esi_event *event = decode(esi_str_from(bodies[i]), "abc");
        assert_text(event->id, "id");
        assert_text(event->type, "abc");
        assert_true(event->has_published);
        assert_int_equal(event->published_s, 2);
        assert_int_equal(event->published_ns, 500000000);
        esi_event_unref(event);
    }
}

static void tells_the_forms_apart(void **state)
{
    (void)state;
    /* LF is the tag of EventID: an ID of 10 bytes that starts with a brace. */
    struct esi_event *event = decode(ESI_STR("\n\n{ {\"a\":1}}"), "t");
    assert_text(event->id, "{ {\"a\":1}}");
    esi_event_unref(event);
    expect_refused(ESI_STR("\n{\"nope\":1}"), "t", ES_INVALID, "no field 'nope'");
    expect_refused(ESI_STR("\n nope"), "t", ES_INVALID, "not valid protobuf");
    expect_refused(ESI_STR("  nope"), "t", ES_INVALID, "not valid JSON");
    expect_refused(ESI_STR("nope"), "t", ES_INVALID, "not valid protobuf");
    expect_refused(ESI_STR(""), "t", ES_INVALID, "empty");
}

static void gives_an_id_and_the_subjects_type(void **state)
{
    static const struct {
        struct esi_str body;
        size_t unknown_in_type;
    } cases[] = {
        {{"{}", 2}, 0},
        {{"\x3a\x01v", 3}, 0},
        /* An ID and a type that are there, but empty. */
        {{"\x0a\x00\x3a\x01v\x12\x00", 7}, 0},
        {{"\x12\x02\x0a\x00\x3a\x01v\x0a\x00", 9}, 0},
        /* A Type with an empty name and an unknown field before and after it. */
        {{"\x12\x08\x7a\x01x\x0a\x00\x7a\x01y\x3a\x01v", 13}, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct esi_event *event = decode(cases[i].body, "node.terminated");
        assert_text(event->id, uuid_of_random_bytes);
        assert_text(event->type, "node.terminated");
        assert_true(event->has_generated_id);
        Chef__Automate__Domain__Event__Api__EventMsg *msg = unpack(event);
        assert_non_null(msg);
        assert_string_equal(msg->eventid, uuid_of_random_bytes);
        assert_string_equal(msg->type->name, "node.terminated");
        assert_string_equal(msg->verb, i == 0 ? "" : "v");
        assert_int_equal(msg->type->base.n_unknown_fields, cases[i].unknown_in_type);
        chef__automate__domain__event__api__event_msg__free_unpacked(msg, NULL);
        /* What was completed is an event as any other: it can be read again, and nothing is added
         * then. */
        struct esi_event *again = decode(event->encoded, NULL);
        assert_true(esi_str_equal(again->encoded, event->encoded));
        assert_false(again->has_generated_id);
        esi_event_unref(again);
        esi_event_unref(event);
    }
}

static void gives_only_what_is_missing(void **state)
{
    (void)state;
    struct esi_event *event = decode(ESI_STR("\x12\x03\x0a\x01t"), NULL);
    assert_text(event->id, uuid_of_random_bytes);
    assert_text(event->type, "t");
    esi_event_unref(event);
    event = decode(ESI_STR("\x0a\x02id"), "t");
    assert_text(event->id, "id");
    assert_text(event->type, "t");
    assert_false(event->has_generated_id);
    esi_event_unref(event);
}

static void refuses_ids_and_types(void **state)
{
    char long_id[400];
    static const char *const bad_types[] = {"a b", "a..b", ".a",       "a.",      "a*",
                                            ">",   "a.>",  "a\\u0009", "a\\u007f"};

    (void)state;
    expect_refused(ESI_STR("{}"), NULL, ES_INVALID, "no type");
    expect_refused(ESI_STR("{\"Type\":{\"Name\":\"a\"}}"), "b", ES_INVALID,
                   "the event's type 'a' is not the subject's 'b'");
    expect_refused(ESI_STR("{\"EventID\":\"a\\u000ab\"}"), "t", ES_INVALID, "control characters");
    snprintf(long_id, sizeof long_id, "{\"EventID\":\"%0257d\"}", 1);
    expect_refused(esi_str_from(long_id), "t", ES_INVALID, "longer than 256 bytes");
    snprintf(long_id, sizeof long_id, "{\"EventID\":\"%0256d\"}", 1);
    esi_event_unref(decode(esi_str_from(long_id), "t"));
    snprintf(long_id, sizeof long_id, "{\"Type\":{\"Name\":\"%0257d\"}}", 1);
    expect_refused(esi_str_from(long_id), NULL, ES_INVALID, "no event type");
    for (size_t i = 0; i < sizeof bad_types / sizeof bad_types[0]; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"Type\":{\"Name\":\"%s\"}}", bad_types[i]);
        expect_refused(esi_str_from(body), NULL, ES_INVALID, "is no event type");
    }
    expect_refused(ESI_STR("\x0a\x01i"), "a..b", ES_INVALID, "is no event type");
}

static void bounds_the_size(void **state)
{
    struct esi_event_decode_options options = with_subject_type("t");
    struct esi_bytes body;
    struct esi_event *event = NULL;
    struct es_error reason;

    (void)state;
    options.size_max = 100;
    esi_bytes_init(&body, 0);
    esi_bytes_printf(&body, "{\"Verb\":\"%089d\"}", 1);
    assert_int_equal(body.len, 100);
    assert_int_equal(esi_event_decode(esi_bytes_str(&body), &options, &event, &reason), ES_OK);
    esi_event_unref(event);
    event = NULL;
    esi_bytes_clear(&body);
    esi_bytes_printf(&body, "{\"Verb\":\"%090d\"}", 1);
    assert_int_equal(esi_event_decode(esi_bytes_str(&body), &options, &event, &reason),
                     ES_TOO_LARGE);
    assert_string_equal(reason.text, "the event has 101 bytes; 100 are allowed");
    /* JSON that grows as protobuf. */
    esi_bytes_clear(&body);
    esi_bytes_append_text(&body, "{\"data\":{\"k\":[0,0,0,0,0,0,0,0,0,0,0,0]}}");
    assert_int_equal(esi_event_decode(esi_bytes_str(&body), &options, &event, &reason),
                     ES_TOO_LARGE);
    assert_non_null(strstr(reason.text, "as protobuf"));
    options.size_max = 0;
    esi_bytes_clear(&body);
    esi_bytes_printf(&body, "{\"Verb\":\"%0*d\"}", ESI_EVENT_SIZE_MAX_DEFAULT, 1);
    assert_int_equal(esi_event_decode(esi_bytes_str(&body), &options, &event, &reason),
                     ES_TOO_LARGE);
    assert_null(event);
    esi_bytes_deinit(&body);
}

static void finds_the_type_in_a_subject(void **state)
{
    struct esi_str type = {0};

    (void)state;
    assert_true(esi_event_type_from_subject(ESI_STR("event.a.b"), ESI_STR("event."), &type));
    assert_text(type, "a.b");
    assert_false(esi_event_type_from_subject(ESI_STR("event."), ESI_STR("event."), &type));
    assert_false(esi_event_type_from_subject(ESI_STR("events.a"), ESI_STR("event."), &type));
    assert_false(esi_event_type_from_subject(ESI_STR(""), ESI_STR("event."), &type));
    assert_text(type, "a.b");
}

static void *ref_and_unref(void *argument)
{
    for (int i = 0; i < 20000; i++) {
        struct esi_event *event = esi_event_ref(argument);
        assert_text(event->type, "t");
        esi_event_unref(event);
    }
    esi_event_unref(argument);
    return NULL;
}

/* Threads share one event and give it back in any order; the sanitizers see a leak, a double free
 * or a race. */
static void is_shared_by_threads(void **state)
{
    pthread_t threads[4];
    struct esi_event *event = decode(ESI_STR("\x0a\x02id"), "t");

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ref_and_unref, esi_event_ref(event)), 0);
    }
    esi_event_unref(event);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    esi_event_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_protobuf_as_it_came),
        cmocka_unit_test(reads_json),
        cmocka_unit_test(tells_the_forms_apart),
        cmocka_unit_test(gives_an_id_and_the_subjects_type),
        cmocka_unit_test(gives_only_what_is_missing),
        cmocka_unit_test(refuses_ids_and_types),
        cmocka_unit_test(bounds_the_size),
        cmocka_unit_test(finds_the_type_in_a_subject),
        cmocka_unit_test(is_shared_by_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
