/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no bytes make the protobuf side of the event fail, and what it accepts means the same to
 * protobuf-c. Method: the input is checked; when accepted it is unpacked by protobuf-c (which must
 * agree on the facts), shown as JSON, made an event with ID and type, and read again. The input is
 * read as request and response as well.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "event/event.pb-c.h"

#include "base/assert.h"
#include "event/event.h"
#include "event/event_json.h"
#include "event/event_protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_same(const char *text, struct esi_str s)
{
    /* protobuf-c's texts end at the first zero character. */
    return strncmp(text, s.len > 0 ? s.data : "", s.len) == 0;
}

static void compare_with_protobuf_c(struct esi_str body,
                                    const struct esi_event_protobuf_facts *facts)
{
    Chef__Automate__Domain__Event__Api__EventMsg *msg =
        chef__automate__domain__event__api__event_msg__unpack(NULL, body.len,
                                                              (const uint8_t *)body.data);

    ESI_ASSERT(msg != NULL);
    ESI_ASSERT(is_same(msg->eventid, facts->id));
    ESI_ASSERT((msg->type != NULL) == (facts->type_field.len > 0));
    ESI_ASSERT(msg->type == NULL || is_same(msg->type->name, facts->type));
    ESI_ASSERT((msg->published != NULL) == facts->has_published);
    ESI_ASSERT(msg->published == NULL || (msg->published->seconds == facts->published_s &&
                                          msg->published->nanos == (int32_t)facts->published_ns));
    chef__automate__domain__event__api__event_msg__free_unpacked(msg, NULL);
}

static void show_as_json(struct esi_str encoded)
{
    struct esi_bytes json;
    struct esi_bytes again;

    esi_bytes_init(&json, 0);
    esi_bytes_init(&again, 0);
    if (esi_event_json_encode(encoded, &json) == ES_OK) {
        /* May be refused: doubled keys, zero characters, more values than JSON is allowed. */
        (void)!esi_event_json_decode(esi_bytes_str(&json), &again, NULL);
    }
    esi_bytes_deinit(&json);
    esi_bytes_deinit(&again);
}

static void make_event(struct esi_str body)
{
    static const uint8_t random[ESI_EVENT_RANDOM_BYTES] = {1, 2, 3};
    struct esi_event_decode_options options = {.type_from_subject = ESI_STR("t"), .random = random};
    struct esi_event *event;
    struct esi_event *again;
    struct es_error reason;

    if (esi_event_decode(body, &options, &event, &reason) != ES_OK) {
        options.type_from_subject = (struct esi_str){0};
        if (esi_event_decode(body, &options, &event, &reason) != ES_OK) {
            return;
        }
    }
    options = (struct esi_event_decode_options){.size_max = SIZE_MAX};
    ESI_ASSERT(esi_event_decode(event->encoded, &options, &again, &reason) == ES_OK);
    ESI_ASSERT(esi_str_equal(event->encoded, again->encoded));
    ESI_ASSERT(esi_str_equal(event->id, again->id) && esi_str_equal(event->type, again->type));
    esi_event_unref(event);
    esi_event_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str body = {.data = size > 0 ? (const char *)data : "", .len = size};
    struct esi_event_protobuf_facts facts;
    struct esi_str msg;
    struct es_error reason;
    bool success;

    if (esi_event_protobuf_check(body, &facts, &reason) == ES_OK) {
        compare_with_protobuf_c(body, &facts);
        show_as_json(body);
    }
    make_event(body);
    if (esi_event_protobuf_read_publish_request(body, &msg) == ES_OK) {
        (void)!esi_event_protobuf_check(msg, &facts, &reason);
    }
    (void)!esi_event_protobuf_read_response(body, &success);
    return 0;
}
