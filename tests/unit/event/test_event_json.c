/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an event may be written as JSON by protobuf's mapping, and is shown so; all else is refused
 * with a reason. Method: texts are decoded, compared with what protobuf-c reads in the result,
 * encoded, and decoded again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/event.pb-c.h"

#include "event/event_json.h"
#include "event/event_protobuf.h"
#include "timestamp_case.h"

typedef Chef__Automate__Domain__Event__Api__EventMsg event_msg;

static event_msg *unpack(const struct esi_bytes *bytes)
{
    return chef__automate__domain__event__api__event_msg__unpack(NULL, bytes->len,
                                                                 (const uint8_t *)bytes->data);
}

static void free_msg(event_msg *msg)
{
    chef__automate__domain__event__api__event_msg__free_unpacked(msg, NULL);
}

/* Decodes and encodes again: the text must come out as given. */
static void expect_same(const char *text)
{
    struct esi_bytes encoded;
    struct esi_bytes json;
    struct es_error reason = {{0}};
    struct esi_event_protobuf_facts facts;

    esi_bytes_init(&encoded, 0);
    esi_bytes_init(&json, 0);
    if (esi_event_json_decode(esi_str_from(text), &encoded, &reason) != ES_OK) {
        fail_msg("'%s' was refused: %s", text, reason.text);
    }
    assert_int_equal(esi_event_protobuf_check(esi_bytes_str(&encoded), &facts, NULL), ES_OK);
    assert_int_equal(esi_event_json_encode(esi_bytes_str(&encoded), &json), ES_OK);
    esi_bytes_append(&json, "", 1);
    assert_string_equal(json.data, text);
    esi_bytes_deinit(&encoded);
    esi_bytes_deinit(&json);
}

static void expect_refused(const char *text, const char *part_of_reason)
{
    struct esi_bytes out;
    struct es_error reason = {{0}};

    esi_bytes_init(&out, 0);
    assert_int_equal(esi_event_json_decode(esi_str_from(text), &out, &reason), ES_INVALID);
    if (strstr(reason.text, part_of_reason) == NULL) {
        fail_msg("'%.100s': expected a reason with '%s', got '%s'", text, part_of_reason,
                 reason.text);
    }
    for (const char *c = reason.text; *c != '\0'; c++) {
        assert_false(*c < 0x20 || *c == 0x7f);
    }
    assert_int_equal(out.len, 0);
    assert_int_equal(esi_event_json_decode(esi_str_from(text), &out, NULL), ES_INVALID);
    esi_bytes_deinit(&out);
}

static void maps_every_field(void **state)
{
    (void)state;
    expect_same("{\"EventID\":\"e1\",\"Type\":{\"Name\":\"scanJobCreated\"},"
                "\"Producer\":{\"ID\":\"p\",\"ProducerName\":\"n\",\"ProducerType\":\"t\","
                "\"Tags\":[\"a\",\"\"]},"
                "\"Tags\":[\"x\",\"caf\xc3\xa9\"],\"Published\":\"2020-02-29T12:00:00.500Z\","
                "\"Actor\":{\"ID\":\"a\",\"ObjectType\":\"User\",\"DisplayName\":\"A \\\"B\\\"\"},"
                "\"Verb\":\"create\",\"Object\":{\"ID\":\"o\"},\"Target\":{},"
                "\"data\":{\"s\":\"\\u0001\\\\\",\"n\":1.5,\"i\":-3,\"t\":true,\"f\":false,"
                "\"z\":null,\"o\":{\"k\":[1,[],{}]},\"\":0}}");
    expect_same("{}");
    expect_same("{\"data\":{}}");
}

static void puts_fields_into_the_message(void **state)
{
    const char *text =
        " {\"eventID\":\"e1\", \"type\":{\"name\":\"t\"}, \"producer\":{\"id\":\"p\","
        "\"producerName\":\"pn\",\"tags\":[\"1\",\"2\"]}, \"verb\":\"v\",\n"
        "\"object\":{\"objectType\":\"ot\",\"displayName\":\"dn\"},\"actor\":null,"
        "\"published\":\"1970-01-01T00:00:01Z\","
        "\"data\":{\"n\":123456789012345678901234567890,\"l\":[null,\"x\"]}}";
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    assert_int_equal(esi_event_json_decode(esi_str_from(text), &out, NULL), ES_OK);
    event_msg *msg = unpack(&out);
    assert_non_null(msg);
    assert_string_equal(msg->eventid, "e1");
    assert_string_equal(msg->type->name, "t");
    assert_string_equal(msg->producer->id, "p");
    assert_string_equal(msg->producer->producername, "pn");
    assert_int_equal(msg->producer->n_tags, 2);
    assert_string_equal(msg->producer->tags[1], "2");
    assert_string_equal(msg->verb, "v");
    assert_string_equal(msg->object->objecttype, "ot");
    assert_string_equal(msg->object->displayname, "dn");
    assert_null(msg->actor);
    assert_int_equal(msg->published->seconds, 1);
    assert_int_equal(msg->data->n_fields, 2);
    assert_true(msg->data->fields[0]->value->number_value == 123456789012345678901234567890.0);
    assert_int_equal(msg->data->fields[1]->value->list_value->n_values, 2);
    assert_string_equal(msg->data->fields[1]->value->list_value->values[1]->string_value, "x");
    free_msg(msg);
    esi_bytes_deinit(&out);
}

static void reads_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good_times); i++) {
        char text[128];
        struct esi_bytes out;
        esi_bytes_init(&out, 0);
        snprintf(text, sizeof text, "{\"Published\":\"%s\"}", good_times[i].text);
        assert_int_equal(esi_event_json_decode(esi_str_from(text), &out, NULL), ES_OK);
        event_msg *msg = unpack(&out);
        assert_non_null(msg);
        assert_int_equal(msg->published->seconds, good_times[i].seconds);
        assert_int_equal(msg->published->nanos, good_times[i].nanos);
        free_msg(msg);
        esi_bytes_deinit(&out);
    }
}

static void shows_times(void **state)
{
    (void)state;
    expect_same("{\"Published\":\"2024-02-29T01:02:03.000004Z\"}");
    expect_same("{\"Published\":\"1970-01-01T00:00:00Z\"}");
    expect_refused("{\"Published\":\"2021-02-29T00:00:00Z\"}", "RFC 3339");
    expect_refused("{\"Published\":1}", "RFC 3339");
}

static void shows_numbers_exactly(void **state)
{
    (void)state;
    expect_same("{\"data\":{\"n\":0.1}}");
    expect_same("{\"data\":{\"n\":0.30000000000000004}}");
    expect_same("{\"data\":{\"n\":4.94065645841247e-324,\"m\":1.7976931348623157e+308}}");
    expect_same("{\"data\":{\"n\":123456789}}");
    expect_same("{\"data\":{\"n\":-0}}");
}

static void refuses_what_the_mapping_does_not_know(void **state)
{
    (void)state;
    expect_refused("{", "not valid JSON");
    expect_refused("[]", "EventMsg must be an object");
    expect_refused("{} x", "not valid JSON");
    expect_refused("{\"EventID\":\"a\" \x01}", "not valid JSON");
    expect_refused("{\"EventID\":\"\xff\"}", "not valid JSON");
    expect_refused("{\"EventID\":\"a\\u0000b\"}", "not valid JSON");
    expect_refused("{\"data\":{\"n\":1e999}}", "not valid JSON");
    expect_refused("{\"data\":{\"n\":NaN}}", "not valid JSON");
    expect_refused("{\"EventID\":\"a\",\"EventID\":\"b\"}", "not valid JSON");
    expect_refused("{\"data\":{\"k\":1,\"k\":2}}", "not valid JSON");
    expect_refused("{\"EventID\":\"a\",\"eventID\":\"b\"}", "EventMsg.EventID is given twice");
    expect_refused("{\"EventId\":\"a\"}", "EventMsg has no field 'EventId'");
    expect_refused("{\"Type\":{\"Nam\\ne\":\"a\"}}", "Type has no field 'Nam?e'");
    expect_refused("{\"Type\":\"scanJobCreated\"}", "Type must be an object");
    expect_refused("{\"EventID\":1}", "EventID must be a string");
    expect_refused("{\"Tags\":\"a\"}", "Tags must be a list of strings");
    expect_refused("{\"Tags\":[\"a\",1]}", "Tags must be a list of strings");
    expect_refused("{\"data\":[1]}", "data must be an object");
}

static char *nested(size_t levels, char open, char close)
{
    char *text = malloc(2 * levels + 64);
    size_t at = 0;

    assert_non_null(text);
    at += (size_t)snprintf(text, 64, "{\"data\":{\"k\":");
    for (size_t i = 1; i < levels; i++) {
        text[at++] = open;
    }
    for (size_t i = 1; i < levels; i++) {
        text[at++] = close;
    }
    snprintf(text + at, 3, "}}");
    return text;
}

static void bounds_depth_and_counts(void **state)
{
    struct esi_bytes many;

    (void)state;
    char *text = nested(ESI_EVENT_PROTOBUF_DEPTH_MAX, '[', ']');
    expect_same(text);
    free(text);
    text = nested(ESI_EVENT_PROTOBUF_DEPTH_MAX + 1, '[', ']');
    expect_refused(text, "deeper than 32 levels");
    free(text);
    text = nested(100000, '[', ']');
    expect_refused(text, "deeper than 32 levels");
    free(text);
    /* Brackets in strings do not count. */
    expect_same(
        "{\"data\":{\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\":\"\\\"{{{{{{{{{{{{{{{{{{{{{"
        "{{{{{{{{{{{{{{{{{{{{\"}}");

    esi_bytes_init(&many, 0);
    esi_bytes_append_text(&many, "{\"data\":{\"k\":[{}");
    for (size_t i = 0; i < 40000; i++) {
        esi_bytes_append_text(&many, ",{}");
    }
    esi_bytes_append(&many, "]}}", 4);
    expect_refused(many.data, "more than 32768 objects and lists");
    esi_bytes_clear(&many);
    esi_bytes_append_text(&many, "{\"data\":{\"k\":[0");
    for (size_t i = 0; i < 140000; i++) {
        esi_bytes_append_text(&many, ",0");
    }
    esi_bytes_append(&many, "]}}", 4);
    expect_refused(many.data, "131072 values");
    esi_bytes_deinit(&many);
}

static void shows_what_only_protobuf_can_say(void **state)
{
    struct esi_bytes json;

    (void)state;
    esi_bytes_init(&json, 0);
    /* data{fields{key:"k" value{}}, fields{}}: a Value without a kind, an entry without anything.
     */
    assert_int_equal(esi_event_json_encode(
                         ESI_STR("\x52\x09\x0a\x05\x0a\x01k\x12\x00\x0a\x00\x7a\x01\xff"), &json),
                     ES_OK);
    assert_true(esi_str_equal(esi_bytes_str(&json), ESI_STR("{\"data\":{\"k\":null,\"\":null}}")));
    esi_bytes_clear(&json);
    /* The value before the key; a text with a zero character. */
    assert_int_equal(
        esi_event_json_encode(ESI_STR("\x52\x0b\x0a\x09\x12\x04\x1a\x02x\x00\x0a\x01k"), &json),
        ES_OK);
    assert_true(esi_str_equal(esi_bytes_str(&json), ESI_STR("{\"data\":{\"k\":\"x\\u0000\"}}")));
    esi_bytes_clear(&json);
    /* An infinity. */
    assert_int_equal(
        esi_event_json_encode(
            ESI_STR("\x52\x0f\x0a\x0d\x12\x0b\x11\x00\x00\x00\x00\x00\x00\xf0\x7f\x7a\x00"), &json),
        ES_UNSUPPORTED);
    esi_bytes_deinit(&json);
    esi_bytes_init(&json, 4);
    assert_int_equal(esi_event_json_encode(ESI_STR("\x0a\x05"
                                                   "abcde"),
                                           &json),
                     ES_NO_MEMORY);
    esi_bytes_deinit(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_every_field),
        cmocka_unit_test(puts_fields_into_the_message),
        cmocka_unit_test(reads_times),
        cmocka_unit_test(shows_times),
        cmocka_unit_test(shows_numbers_exactly),
        cmocka_unit_test(refuses_what_the_mapping_does_not_know),
        cmocka_unit_test(bounds_depth_and_counts),
        cmocka_unit_test(shows_what_only_protobuf_can_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
