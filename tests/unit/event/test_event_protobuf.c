/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: an encoded event is accepted exactly when it obeys the contract and the bounds, and its
 * facts are told. Method: messages made by protobuf-c, bent by hand, are checked; what is accepted
 * is read by protobuf-c as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "event/event.pb-c.h"

#include "event/event_protobuf.h"
#include "event/wire.h"

static void append_field(struct esi_bytes *out, uint32_t number, struct esi_str content)
{
    esi_wire_append_bytes(out, number, content);
}

/* Checks and compares the verdict with protobuf-c's: what is accepted there too has the same ID and
 * type. */
static enum es_err check(struct esi_str body, struct esi_event_protobuf_facts *facts,
                         struct es_error *reason)
{
    char *copy = malloc(body.len + 1);
    assert_non_null(copy);
    memcpy(copy, body.data, body.len);
    struct esi_str exact = {copy, body.len};
    const enum es_err err = esi_event_protobuf_check(exact, facts, reason);

    if (err == ES_OK) {
        Chef__Automate__Domain__Event__Api__EventMsg *msg =
            chef__automate__domain__event__api__event_msg__unpack(NULL, body.len,
                                                                  (const uint8_t *)body.data);
        assert_non_null(msg);
        assert_int_equal(strlen(msg->eventid), facts->id.len);
        assert_memory_equal(msg->eventid, facts->id.data, facts->id.len);
        assert_int_equal(msg->type != NULL, facts->type_field.len > 0);
        if (msg->type != NULL) {
            assert_int_equal(strlen(msg->type->name), facts->type.len);
        }
        assert_int_equal(msg->published != NULL, facts->has_published);
        if (msg->published != NULL) {
            assert_int_equal(msg->published->seconds, facts->published_s);
            assert_int_equal(msg->published->nanos, facts->published_ns);
        }
        chef__automate__domain__event__api__event_msg__free_unpacked(msg, NULL);
    }
    free(copy);
    return err;
}

static void expect_refused(struct esi_str body, const char *part_of_reason)
{
    struct esi_event_protobuf_facts facts = {0};
    struct es_error reason = {{0}};

    assert_int_equal(check(body, &facts, &reason), ES_INVALID);
    if (strstr(reason.text, part_of_reason) == NULL) {
        fail_msg("expected a reason with '%s', got '%s'", part_of_reason, reason.text);
    }
    assert_null(facts.id.data);
    assert_int_equal(esi_event_protobuf_check(body, &facts, NULL), ES_INVALID);
}

static void tells_the_facts(void **state)
{
    Chef__Automate__Domain__Event__Api__EventMsg msg =
        CHEF__AUTOMATE__DOMAIN__EVENT__API__EVENT_MSG__INIT;
    Chef__Automate__Domain__Event__Api__EventType type =
        CHEF__AUTOMATE__DOMAIN__EVENT__API__EVENT_TYPE__INIT;
    Google__Protobuf__Timestamp published = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    char id[] = "id-1";
    char name[] = "scanJobCreated";
    uint8_t packed[256];
    struct esi_event_protobuf_facts facts;

    (void)state;
    msg.eventid = id;
    type.name = name;
    msg.type = &type;
    published.seconds = -1;
    published.nanos = 999999999;
    msg.published = &published;
    const size_t len = chef__automate__domain__event__api__event_msg__pack(&msg, packed);
    const struct esi_str body = {(const char *)packed, len};
    assert_int_equal(esi_event_protobuf_check(body, &facts, NULL), ES_OK);
    assert_true(esi_str_equal(facts.id, ESI_STR("id-1")));
    assert_true(esi_str_equal(facts.type, ESI_STR("scanJobCreated")));
    assert_true(facts.has_published);
    assert_int_equal(facts.published_s, -1);
    assert_int_equal(facts.published_ns, 999999999);
    assert_ptr_equal(facts.id_field.data, packed);
    assert_int_equal(facts.id_field.len, 6);
}

static void accepts_an_event_without_fields(void **state)
{
    struct esi_event_protobuf_facts facts;

    (void)state;
    assert_int_equal(check(ESI_STR(""), &facts, NULL), ES_OK);
    assert_int_equal(facts.id.len, 0);
    assert_int_equal(facts.id_field.len, 0);
    assert_false(facts.has_published);
}

static void refuses_what_breaks_the_contract(void **state)
{
    (void)state;
    expect_refused(ESI_STR("\x0a\x05"
                           "ab"),
                   "not valid protobuf");
    expect_refused(ESI_STR("\x08\x01"), "EventMsg.EventID has the wrong wire type");
    expect_refused(ESI_STR("\x0a\x02\xc3("), "EventMsg.EventID is not UTF-8");
    expect_refused(ESI_STR("\x0a\x01"
                           "a\x0a\x01"
                           "b"),
                   "EventMsg.EventID is given twice");
    expect_refused(ESI_STR("\x12\x00\x12\x00"), "EventMsg.Type is given twice");
    expect_refused(ESI_STR("\x12\x06\x0a\x01"
                           "a\x0a\x01"
                           "b"),
                   "EventType.Name is given twice");
    expect_refused(ESI_STR("\x12\x02\x0a\x05"), "EventType is not valid protobuf");
    /* The last byte of the inner message belongs to the outer one. */
    expect_refused(ESI_STR("\x12\x02\x0a\x01"
                           "a"),
                   "EventType is not valid protobuf");
    expect_refused(ESI_STR("\x2a\x0b\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
                   "outside the years 1 to 9999");
    expect_refused(ESI_STR("\x2a\x06\x10\x80\x94\xeb\xdc\x03"), "nanos");
    expect_refused(ESI_STR("\x2a\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "nanos");
    /* A Value with two kinds: true, and a list. */
    expect_refused(ESI_STR("\x52\x08\x0a\x06\x12\x04\x20\x01\x32\x00"),
                   "Value.list_value is given twice");
    expect_refused(ESI_STR("{\"EventID\":1}"), "not valid protobuf");
}

static void keeps_and_bounds_unknown_fields(void **state)
{
    struct esi_event_protobuf_facts facts;
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    for (size_t i = 0; i < ESI_EVENT_PROTOBUF_UNKNOWN_MAX; i++) {
        append_field(&bytes, 15, ESI_STR("\xff not text"));
    }
    assert_int_equal(check(esi_bytes_str(&bytes), &facts, NULL), ES_OK);
    append_field(&bytes, 14, ESI_STR("one more"));
    expect_refused(esi_bytes_str(&bytes), "unknown fields");
    esi_bytes_deinit(&bytes);
}

/* An event whose data is nested: lists or objects in turn, `levels` in all. Every other level is an
 * object. */
static void append_nested(struct esi_bytes *out, int levels)
{
    struct esi_bytes inner;
    struct esi_bytes outer;

    esi_bytes_init(&inner, 0);
    esi_bytes_init(&outer, 0);
    for (int i = 1; i < levels; i++) {
        /* Value{struct_value or list_value: what there is}, then the Struct or ListValue around it.
         */
        esi_bytes_clear(&outer);
        append_field(&outer, (levels - i) % 2 != 0 ? 6 : 5, esi_bytes_str(&inner));
        esi_bytes_clear(&inner);
        if ((levels - i) % 2 != 0) {
            struct esi_bytes entry;
            esi_bytes_init(&entry, 0);
            append_field(&entry, 2, esi_bytes_str(&outer));
            append_field(&inner, 1, esi_bytes_str(&entry));
            esi_bytes_deinit(&entry);
        } else {
            append_field(&inner, 1, esi_bytes_str(&outer));
        }
    }
    append_field(out, 10, esi_bytes_str(&inner));
    assert_false(inner.failed || outer.failed);
    esi_bytes_deinit(&inner);
    esi_bytes_deinit(&outer);
}

/* As above with objects only: the most messages a level. */
static void append_nested_objects(struct esi_bytes *out, int levels)
{
    struct esi_bytes inner;
    struct esi_bytes value;
    struct esi_bytes entry;

    esi_bytes_init(&inner, 0);
    esi_bytes_init(&value, 0);
    esi_bytes_init(&entry, 0);
    for (int i = 1; i < levels; i++) {
        esi_bytes_clear(&value);
        append_field(&value, 5, esi_bytes_str(&inner));
        esi_bytes_clear(&entry);
        append_field(&entry, 2, esi_bytes_str(&value));
        esi_bytes_clear(&inner);
        append_field(&inner, 1, esi_bytes_str(&entry));
    }
    append_field(out, 10, esi_bytes_str(&inner));
    esi_bytes_deinit(&inner);
    esi_bytes_deinit(&value);
    esi_bytes_deinit(&entry);
}

static void bounds_the_depth(void **state)
{
    struct esi_event_protobuf_facts facts;
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    append_nested_objects(&bytes, ESI_EVENT_PROTOBUF_DEPTH_MAX);
    assert_int_equal(check(esi_bytes_str(&bytes), &facts, NULL), ES_OK);
    esi_bytes_clear(&bytes);
    append_nested_objects(&bytes, ESI_EVENT_PROTOBUF_DEPTH_MAX + 1);
    expect_refused(esi_bytes_str(&bytes), "deeper than 32 levels");
    esi_bytes_clear(&bytes);
    append_nested_objects(&bytes, 20000);
    expect_refused(esi_bytes_str(&bytes), "deeper than 32 levels");
    esi_bytes_clear(&bytes);
    append_nested(&bytes, 2001);
    expect_refused(esi_bytes_str(&bytes), "deeper than 32 levels");
    esi_bytes_clear(&bytes);
    append_nested(&bytes, ESI_EVENT_PROTOBUF_DEPTH_MAX);
    assert_int_equal(check(esi_bytes_str(&bytes), &facts, NULL), ES_OK);
    esi_bytes_deinit(&bytes);
}

static void bounds_the_number_of_fields(void **state)
{
    struct esi_event_protobuf_facts facts;
    struct esi_bytes bytes;

    (void)state;
    esi_bytes_init(&bytes, 0);
    for (size_t i = 0; i < ESI_EVENT_PROTOBUF_FIELDS_MAX; i++) {
        append_field(&bytes, 4, ESI_STR(""));
    }
    assert_int_equal(esi_event_protobuf_check(esi_bytes_str(&bytes), &facts, NULL), ES_OK);
    append_field(&bytes, 4, ESI_STR(""));
    expect_refused(esi_bytes_str(&bytes), "more than 262144 fields");
    esi_bytes_deinit(&bytes);
}

static void reads_and_writes_publish_requests(void **state)
{
    Chef__Automate__Domain__Event__Api__PublishRequest *request;
    struct esi_bytes bytes;
    struct esi_str msg = {0};

    (void)state;
    esi_bytes_init(&bytes, 0);
    esi_event_protobuf_append_publish_request(&bytes, ESI_STR("\x0a\x01"
                                                              "a"));
    request = chef__automate__domain__event__api__publish_request__unpack(
        NULL, bytes.len, (const uint8_t *)bytes.data);
    assert_non_null(request);
    assert_string_equal(request->msg->eventid, "a");
    chef__automate__domain__event__api__publish_request__free_unpacked(request, NULL);
    assert_int_equal(esi_event_protobuf_read_publish_request(esi_bytes_str(&bytes), &msg), ES_OK);
    assert_true(esi_str_equal(msg, ESI_STR("\x0a\x01"
                                           "a")));
    esi_bytes_deinit(&bytes);

    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR(""), &msg), ES_NOT_FOUND);
    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR("\x12\x00"), &msg),
                     ES_NOT_FOUND);
    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR("\x0a\x00"), &msg), ES_OK);
    assert_int_equal(msg.len, 0);
    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR("\x0a\x05"), &msg),
                     ES_INVALID);
    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR("\x08\x05"), &msg),
                     ES_INVALID);
    assert_int_equal(esi_event_protobuf_read_publish_request(ESI_STR("\x0a\x00\x0a\x00"), &msg),
                     ES_INVALID);
}

static void reads_and_writes_responses(void **state)
{
    struct esi_bytes bytes;
    bool success = true;
    char *large = calloc(1, 5000);

    (void)state;
    assert_non_null(large);
    esi_bytes_init(&bytes, 0);
    esi_event_protobuf_append_response(&bytes, true);
    assert_true(esi_str_equal(esi_bytes_str(&bytes), ESI_STR("\x08\x01")));
    esi_bytes_clear(&bytes);
    esi_event_protobuf_append_response(&bytes, false);
    assert_int_equal(bytes.len, 0);
    esi_bytes_deinit(&bytes);

    assert_int_equal(esi_event_protobuf_read_response(ESI_STR(""), &success), ES_OK);
    assert_false(success);
    assert_int_equal(esi_event_protobuf_read_response(ESI_STR("\x08\x01"), &success), ES_OK);
    assert_true(success);
    assert_int_equal(esi_event_protobuf_read_response(ESI_STR("\x08\x00\x12\x01x"), &success),
                     ES_OK);
    assert_false(success);
    success = true;
    assert_int_equal(esi_event_protobuf_read_response(ESI_STR("\x0a\x01"), &success), ES_INVALID);
    assert_int_equal(esi_event_protobuf_read_response(ESI_STR("<html>"), &success), ES_INVALID);
    assert_int_equal(esi_event_protobuf_read_response((struct esi_str){large, 5000}, &success),
                     ES_TOO_LARGE);
    assert_true(success);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_facts),
        cmocka_unit_test(accepts_an_event_without_fields),
        cmocka_unit_test(refuses_what_breaks_the_contract),
        cmocka_unit_test(keeps_and_bounds_unknown_fields),
        cmocka_unit_test(bounds_the_depth),
        cmocka_unit_test(bounds_the_number_of_fields),
        cmocka_unit_test(reads_and_writes_publish_requests),
        cmocka_unit_test(reads_and_writes_responses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
