/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event in its protobuf form: see event_protobuf.h.
 *
 * The schema stands in tables that mirror event.proto; within a message field numbers run from 1
 * without a gap, so a field's rule is found by its number. A nested message lies whole inside its
 * parent, so one cursor serves all levels, and a level is only the place where it ends, its rule,
 * and which of its fields were seen.
 */
#include "event/event_protobuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "event/event.pb-c.h"

#include "base/assert.h"
#include "base/own.h"
#include "event/wire.h"

enum kind { KIND_TEXT, KIND_BOOL, KIND_NULL, KIND_DOUBLE, KIND_SECONDS, KIND_NANOS, KIND_MESSAGE };

struct message_rule;

struct field_rule {
    const char *name;
    enum kind kind;
    bool is_repeated;
    const struct message_rule *message; /* KIND_MESSAGE */
};

struct message_rule {
    const char *name;
    const struct field_rule *fields; /* fields[n - 1] is the field with number n */
    uint32_t field_count;
    bool is_choice; /* a oneof: at most one field */
    bool is_level;  /* counts for the depth of data */
};

/* The schema. */
static const struct message_rule struct_rule;
static const struct message_rule list_rule;

static const struct field_rule value_fields[] = {
    {.name = "null_value", .kind = KIND_NULL},
    {.name = "number_value", .kind = KIND_DOUBLE},
    {.name = "string_value", .kind = KIND_TEXT},
    {.name = "bool_value", .kind = KIND_BOOL},
    {.name = "struct_value", .kind = KIND_MESSAGE, .message = &struct_rule},
    {.name = "list_value", .kind = KIND_MESSAGE, .message = &list_rule},
};
static const struct message_rule value_rule = {
    .name = "Value", .fields = value_fields, .field_count = 6, .is_choice = true};

static const struct field_rule list_fields[] = {
    {.name = "values", .kind = KIND_MESSAGE, .is_repeated = true, .message = &value_rule},
};
static const struct message_rule list_rule = {
    .name = "ListValue", .fields = list_fields, .field_count = 1, .is_level = true};

static const struct field_rule entry_fields[] = {
    {.name = "key", .kind = KIND_TEXT},
    {.name = "value", .kind = KIND_MESSAGE, .message = &value_rule},
};
static const struct message_rule entry_rule = {
    .name = "FieldsEntry", .fields = entry_fields, .field_count = 2};

static const struct field_rule struct_fields[] = {
    {.name = "fields", .kind = KIND_MESSAGE, .is_repeated = true, .message = &entry_rule},
};
static const struct message_rule struct_rule = {
    .name = "Struct", .fields = struct_fields, .field_count = 1, .is_level = true};

static const struct field_rule timestamp_fields[] = {
    {.name = "seconds", .kind = KIND_SECONDS},
    {.name = "nanos", .kind = KIND_NANOS},
};
static const struct message_rule timestamp_rule = {
    .name = "Timestamp", .fields = timestamp_fields, .field_count = 2};

static const struct field_rule type_fields[] = {
    {.name = "Name", .kind = KIND_TEXT},
};
static const struct message_rule type_rule = {
    .name = "EventType", .fields = type_fields, .field_count = 1};

static const struct field_rule producer_fields[] = {
    {.name = "ID", .kind = KIND_TEXT},
    {.name = "ProducerName", .kind = KIND_TEXT},
    {.name = "ProducerType", .kind = KIND_TEXT},
    {.name = "Tags", .kind = KIND_TEXT, .is_repeated = true},
};
static const struct message_rule producer_rule = {
    .name = "Producer", .fields = producer_fields, .field_count = 4};

/* Actor, Object and Target have the same fields. */
static const struct field_rule party_fields[] = {
    {.name = "ID", .kind = KIND_TEXT},
    {.name = "ObjectType", .kind = KIND_TEXT},
    {.name = "DisplayName", .kind = KIND_TEXT},
};
static const struct message_rule actor_rule = {
    .name = "Actor", .fields = party_fields, .field_count = 3};
static const struct message_rule object_rule = {
    .name = "Object", .fields = party_fields, .field_count = 3};
static const struct message_rule target_rule = {
    .name = "Target", .fields = party_fields, .field_count = 3};

enum { EVENT_ID = 1, EVENT_TYPE = 2, EVENT_PUBLISHED = 5 };

static const struct field_rule event_fields[] = {
    {.name = "EventID", .kind = KIND_TEXT},
    {.name = "Type", .kind = KIND_MESSAGE, .message = &type_rule},
    {.name = "Producer", .kind = KIND_MESSAGE, .message = &producer_rule},
    {.name = "Tags", .kind = KIND_TEXT, .is_repeated = true},
    {.name = "Published", .kind = KIND_MESSAGE, .message = &timestamp_rule},
    {.name = "Actor", .kind = KIND_MESSAGE, .message = &actor_rule},
    {.name = "Verb", .kind = KIND_TEXT},
    {.name = "Object", .kind = KIND_MESSAGE, .message = &object_rule},
    {.name = "Target", .kind = KIND_MESSAGE, .message = &target_rule},
    {.name = "data", .kind = KIND_MESSAGE, .message = &struct_rule},
};
static const struct message_rule event_rule = {
    .name = "EventMsg", .fields = event_fields, .field_count = 10};

static const struct field_rule response_fields[] = {
    {.name = "Success", .kind = KIND_BOOL},
};
static const struct message_rule response_rule = {
    .name = "EventResponse", .fields = response_fields, .field_count = 1};

/* 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: the range of google.protobuf.Timestamp. */
static const int64_t seconds_min = -62135596800;
static const int64_t seconds_max = 253402300799;

enum {
    NANOS_MAX = 999999999,
    /* A level of data is a Struct, an entry and a value at most; around it are the event and a
       message. */
    FRAMES_MAX = 3 * ESI_EVENT_PROTOBUF_DEPTH_MAX + 2,
    RESPONSE_BYTES_MAX = 4096
};

struct frame {
    const struct message_rule *rule;
    const char *end; /* where this message ends */
    uint32_t seen;   /* bit n: field n was there */
};

struct check {
    struct esi_str rest; /* from the cursor to the end of the innermost message */
    struct frame frames[FRAMES_MAX];
    uint32_t frame_count;
    uint32_t level_count; /* open frames that count for the depth */
    uint32_t field_count;
    uint32_t unknown_count;
    struct es_error *reason; /* borrowed, may be NULL */
};

static enum es_err ESI_PRINTF(2, 3) refuse(struct es_error *reason, const char *format, ...)
{
    va_list arguments;

    if (reason != NULL) {
        va_start(arguments, format);
        vsnprintf(reason->text, sizeof reason->text, format, arguments);
        va_end(arguments);
    }
    return ES_INVALID;
}

static enum esi_wire_type wire_type_of(enum kind kind)
{
    switch (kind) {
    case KIND_TEXT:
    case KIND_MESSAGE:
        return WIRE_LEN;
    case KIND_DOUBLE:
        return WIRE_I64;
    case KIND_BOOL:
    case KIND_NULL:
    case KIND_SECONDS:
    case KIND_NANOS:
        break;
    }
    return WIRE_VARINT;
}

/* Opens a message: the cursor stands at its first byte. */
static enum es_err enter(struct check *check, const struct message_rule *rule,
                         struct esi_str content)
{
    if (rule->is_level && check->level_count == ESI_EVENT_PROTOBUF_DEPTH_MAX) {
        return refuse(check->reason, "data is nested deeper than %d levels",
                      ESI_EVENT_PROTOBUF_DEPTH_MAX);
    }
    ESI_ASSERT(check->frame_count < FRAMES_MAX);
    check->frames[check->frame_count++] =
        (struct frame){.rule = rule, .end = content.data + content.len};
    check->level_count += rule->is_level;
    check->rest = content;
    return ES_OK;
}

/* Closes the innermost message; the cursor stands at its end and goes on in the one around it. */
static void leave(struct check *check)
{
    check->level_count -= check->frames[--check->frame_count].rule->is_level;
    if (check->frame_count > 0) {
        const char *at = check->rest.data;
        check->rest.len = (size_t)(check->frames[check->frame_count - 1].end - at);
    }
}

static enum es_err check_value(const struct check *check, const struct message_rule *message,
                               const struct field_rule *rule, const struct esi_wire_field *field)
{
    const int64_t number = (int64_t)field->value;

    switch (rule->kind) {
    case KIND_TEXT:
        if (!esi_wire_is_utf8(field->bytes)) {
            return refuse(check->reason, "%s.%s is not UTF-8", message->name, rule->name);
        }
        break;
    case KIND_SECONDS:
        if (number < seconds_min || number > seconds_max) {
            return refuse(check->reason, "Published is outside the years 1 to 9999");
        }
        break;
    case KIND_NANOS:
        if (number < 0 || number > NANOS_MAX) {
            return refuse(check->reason, "Published has nanos outside 0 to 999999999");
        }
        break;
    case KIND_BOOL:
    case KIND_NULL:
    case KIND_DOUBLE:
    case KIND_MESSAGE:
        break;
    }
    return ES_OK;
}

static enum es_err check_field(struct check *check, const struct esi_wire_field *field)
{
    struct frame *frame = &check->frames[check->frame_count - 1];
    const struct message_rule *message = frame->rule;

    if (++check->field_count > ESI_EVENT_PROTOBUF_FIELDS_MAX) {
        return refuse(check->reason, "more than %d fields", ESI_EVENT_PROTOBUF_FIELDS_MAX);
    }
    if (field->number > message->field_count) {
        if (++check->unknown_count > ESI_EVENT_PROTOBUF_UNKNOWN_MAX) {
            return refuse(check->reason, "more than %d unknown fields",
                          ESI_EVENT_PROTOBUF_UNKNOWN_MAX);
        }
        return ES_OK;
    }
    const struct field_rule *rule = &message->fields[field->number - 1];
    if (field->type != wire_type_of(rule->kind)) {
        return refuse(check->reason, "%s.%s has the wrong wire type", message->name, rule->name);
    }
    const uint32_t others = message->is_choice ? UINT32_MAX : 1U << field->number;
    if (!rule->is_repeated && (frame->seen & others) != 0) {
        return refuse(check->reason, "%s.%s is given twice", message->name, rule->name);
    }
    frame->seen |= 1U << field->number;
    if (rule->kind == KIND_MESSAGE) {
        return enter(check, rule->message, field->bytes);
    }
    return check_value(check, message, rule, field);
}

/* Checks one message with all that is nested in it. */
static enum es_err check_message(const struct message_rule *rule, struct esi_str body,
                                 struct es_error *reason)
{
    struct check check;
    struct esi_wire_field field;

    /* The frames are written when they are entered: no need to clear 2 KiB for each event. */
    check.frame_count = 0;
    check.level_count = 0;
    check.field_count = 0;
    check.unknown_count = 0;
    check.reason = reason;
    enum es_err err = enter(&check, rule, body);
    while (err == ES_OK && check.frame_count > 0) {
        err = esi_wire_next(&check.rest, &field);
        if (err == ES_OK) {
            err = check_field(&check, &field);
        } else if (err == ES_AGAIN) {
            leave(&check);
            err = ES_OK;
        } else {
            err = refuse(reason, "%s is not valid protobuf",
                         check.frames[check.frame_count - 1].rule->name);
        }
    }
    return err;
}

static void read_published(struct esi_str content, struct esi_event_protobuf_facts *facts)
{
    struct esi_wire_field field;

    facts->has_published = true;
    while (esi_wire_next(&content, &field) == ES_OK) {
        if (field.number == 1) {
            facts->published_s = (int64_t)field.value;
        } else if (field.number == 2) {
            facts->published_ns = (uint32_t)field.value;
        }
    }
}

static void read_type(struct esi_str content, struct esi_event_protobuf_facts *facts)
{
    struct esi_wire_field field;

    facts->type_content = content;
    while (esi_wire_next(&content, &field) == ES_OK) {
        if (field.number == 1) {
            facts->type = field.bytes;
            facts->type_name_field = field.whole;
        }
    }
}

enum es_err esi_event_protobuf_check(struct esi_str body, struct esi_event_protobuf_facts *facts,
                                     struct es_error *reason)
{
    struct esi_event_protobuf_facts found = {0};
    struct esi_wire_field field;

    const enum es_err err = check_message(&event_rule, body, reason);
    if (err != ES_OK) {
        return err;
    }
    while (esi_wire_next(&body, &field) == ES_OK) {
        if (field.number == EVENT_ID) {
            found.id = field.bytes;
            found.id_field = field.whole;
        } else if (field.number == EVENT_TYPE) {
            found.type_field = field.whole;
            read_type(field.bytes, &found);
        } else if (field.number == EVENT_PUBLISHED) {
            read_published(field.bytes, &found);
        }
    }
    *facts = found;
    return ES_OK;
}

enum es_err esi_event_protobuf_read_publish_request(struct esi_str body, struct esi_str *msg)
{
    struct esi_wire_field field;
    struct esi_str found = {0};
    uint32_t unknown_count = 0;
    enum es_err err;

    while ((err = esi_wire_next(&body, &field)) == ES_OK) {
        if (field.number != 1) {
            unknown_count++;
        } else if (field.type == WIRE_LEN && found.data == NULL) {
            found = field.bytes;
        } else {
            return ES_INVALID;
        }
        if (unknown_count > ESI_EVENT_PROTOBUF_UNKNOWN_MAX) {
            return ES_INVALID;
        }
    }
    if (err != ES_AGAIN) {
        return ES_INVALID;
    }
    if (found.data == NULL) {
        return ES_NOT_FOUND;
    }
    *msg = found;
    return ES_OK;
}

void esi_event_protobuf_append_publish_request(struct esi_bytes *out, struct esi_str msg)
{
    esi_wire_append_bytes(out, 1, msg);
}

enum es_err esi_event_protobuf_read_response(struct esi_str body, bool *success)
{
    struct esi_wire_field field;
    bool found = false;

    if (body.len > RESPONSE_BYTES_MAX) {
        return ES_TOO_LARGE;
    }
    const enum es_err err = check_message(&response_rule, body, NULL);
    if (err != ES_OK) {
        return err;
    }
    while (esi_wire_next(&body, &field) == ES_OK) {
        if (field.number == 1) {
            found = field.value != 0;
        }
    }
    *success = found;
    return ES_OK;
}

void esi_event_protobuf_append_response(struct esi_bytes *out, bool success)
{
    Chef__Automate__Domain__Event__Api__EventResponse response =
        CHEF__AUTOMATE__DOMAIN__EVENT__API__EVENT_RESPONSE__INIT;
    uint8_t packed[8];

    response.success = success;
    const size_t len = chef__automate__domain__event__api__event_response__pack(&response, packed);
    ESI_ASSERT(len <= sizeof packed);
    esi_bytes_append(out, packed, len);
}
