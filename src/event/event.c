/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The event: see event.h. */
#include "event/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "event/event_json.h"
#include "event/event_protobuf.h"
#include "event/wire.h"

enum { UUID_LEN = 36, FIELD_EVENT_ID = 1, FIELD_TYPE = 2, FIELD_TYPE_NAME = 1, QUOTED_MAX = 64 };

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

/* Text from outside for a reason: printable ASCII only, cut where it is long. */
static const char *quote(struct esi_str text, char out[QUOTED_MAX])
{
    size_t len = 0;

    for (; len < text.len && len < QUOTED_MAX - 4; len++) {
        const char c = text.data[len];
        out[len] = c >= 0x20 && c < 0x7f && c != '\'' ? c : '?';
    }
    memcpy(out + len, len < text.len ? "..." : "", len < text.len ? 4 : 1);
    return out;
}

static bool has_control(struct esi_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = (uint8_t)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool is_type(struct esi_str type)
{
    bool at_token_start = true;

    if (type.len == 0 || type.len > ESI_EVENT_TYPE_MAX || !esi_wire_is_utf8(type)) {
        return false;
    }
    for (size_t i = 0; i < type.len; i++) {
        const uint8_t c = (uint8_t)type.data[i];
        if (c <= 0x20 || c == 0x7f || c == '*' || c == '>' || (c == '.' && at_token_start)) {
            return false;
        }
        at_token_start = c == '.';
    }
    return !at_token_start;
}

bool esi_event_type_from_subject(struct esi_str subject, struct esi_str prefix,
                                 struct esi_str *type)
{
    if (!esi_str_starts_with(subject, prefix) || subject.len == prefix.len) {
        return false;
    }
    *type = (struct esi_str){.data = subject.data + prefix.len, .len = subject.len - prefix.len};
    return true;
}

/* RFC 4122, section 4.4. */
static void format_uuid(const uint8_t *random, char out[UUID_LEN])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[ESI_EVENT_RANDOM_BYTES];
    size_t at = 0;

    memcpy(bytes, random, sizeof bytes);
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof bytes; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            out[at++] = '-';
        }
        out[at++] = digits[bytes[i] >> 4];
        out[at++] = digits[bytes[i] & 0x0f];
    }
    ESI_ASSERT(at == UUID_LEN);
}

static enum es_err check_id_and_type(const struct esi_event_protobuf_facts *facts,
                                     struct esi_str type_from_subject, struct es_error *reason)
{
    char in_body[QUOTED_MAX];
    char in_subject[QUOTED_MAX];
    const struct esi_str type = facts->type.len > 0 ? facts->type : type_from_subject;

    if (facts->id.len > ESI_EVENT_ID_MAX || has_control(facts->id)) {
        return refuse(reason, "EventID is longer than %d bytes or holds control characters",
                      ESI_EVENT_ID_MAX);
    }
    if (type.len == 0) {
        return refuse(reason, "the event has no type: neither Type.Name nor a subject names one");
    }
    if (!is_type(type)) {
        return refuse(reason,
                      "'%s' is no event type: at most %d bytes, no blanks, no wildcards, no empty "
                      "token",
                      quote(type, in_body), ESI_EVENT_TYPE_MAX);
    }
    if (type_from_subject.len > 0 && !esi_str_equal(type, type_from_subject)) {
        return refuse(reason, "the event's type '%s' is not the subject's '%s'",
                      quote(type, in_body), quote(type_from_subject, in_subject));
    }
    return ES_OK;
}

/* Appends `whole` without the run `part`, which lies in it or is empty. */
static void append_without(struct esi_bytes *out, struct esi_str whole, struct esi_str part)
{
    if (part.len == 0) {
        esi_bytes_append_str(out, whole);
        return;
    }
    const size_t before = (size_t)(part.data - whole.data);
    esi_bytes_append(out, whole.data, before);
    esi_bytes_append(out, part.data + part.len, whole.len - before - part.len);
}

/*
 * Adds the ID or the type that the body lacks. What it has of that field (an empty text, unknown
 * fields beside the name) is replaced or taken over, since a field that came twice would be refused
 * when the event is read again.
 */
static void append_completed(struct esi_bytes *out, struct esi_str body,
                             const struct esi_event_protobuf_facts *facts, struct esi_str id,
                             struct esi_str type)
{
    struct esi_bytes type_content;

    esi_bytes_init(&type_content, 0);
    if (facts->id.len == 0) {
        esi_wire_append_bytes(out, FIELD_EVENT_ID, id);
    }
    if (facts->type.len == 0) {
        append_without(&type_content, facts->type_content, facts->type_name_field);
        esi_wire_append_bytes(&type_content, FIELD_TYPE_NAME, type);
        esi_wire_append_bytes(out, FIELD_TYPE, esi_bytes_str(&type_content));
    }
    const struct esi_str id_cut = facts->id.len == 0 ? facts->id_field : (struct esi_str){0};
    const struct esi_str type_cut = facts->type.len == 0 ? facts->type_field : (struct esi_str){0};
    const bool id_is_first = id_cut.len == 0 || type_cut.len == 0 || id_cut.data < type_cut.data;
    const struct esi_str first = id_is_first ? id_cut : type_cut;
    const struct esi_str second = id_is_first ? type_cut : id_cut;
    if (first.len == 0 || second.len == 0) {
        append_without(out, body, first.len > 0 ? first : second);
    } else {
        const size_t until_second = (size_t)(second.data - body.data);
        append_without(out, (struct esi_str){body.data, until_second}, first);
        const size_t behind = until_second + second.len;
        esi_bytes_append(out, body.data + behind, body.len - behind);
    }
    out->failed = out->failed || type_content.failed;
    esi_bytes_deinit(&type_content);
}

/* Makes the object from bytes that are checked and complete. */
static enum es_err make_event(struct esi_str encoded, const struct esi_event_protobuf_facts *facts,
                              struct esi_event **event)
{
    struct esi_event *made = malloc(sizeof *made + encoded.len);

    if (made == NULL) {
        return ES_NO_MEMORY;
    }
    *made = (struct esi_event){
        .has_published = facts->has_published,
        .published_s = facts->published_s,
        .published_ns = facts->published_ns,
        .memory_bytes = sizeof *made + encoded.len,
    };
    atomic_init(&made->reference_count, 1);
    memcpy(made->data, encoded.data, encoded.len);
    made->encoded = (struct esi_str){.data = made->data, .len = encoded.len};
    made->id = (struct esi_str){made->data + (facts->id.data - encoded.data), facts->id.len};
    made->type = (struct esi_str){made->data + (facts->type.data - encoded.data), facts->type.len};
    *event = made;
    return ES_OK;
}

/* Makes the event from a checked body, with the ID and type that it lacks. */
static enum es_err complete(struct esi_str body, const struct esi_event_protobuf_facts *facts,
                            const struct esi_event_decode_options *options,
                            struct esi_event **event)
{
    struct esi_event_protobuf_facts completed;
    struct esi_bytes bytes;
    char uuid[UUID_LEN];

    if (facts->id.len > 0 && facts->type.len > 0) {
        return make_event(body, facts, event);
    }
    if (facts->id.len == 0) {
        ESI_REQUIRE(options->random != NULL);
        format_uuid(options->random, uuid);
    }
    esi_bytes_init(&bytes, 0);
    append_completed(&bytes, body, facts, (struct esi_str){uuid, sizeof uuid},
                     options->type_from_subject);
    enum es_err err = bytes.failed ? ES_NO_MEMORY : ES_OK;
    if (err == ES_OK) {
        err = esi_event_protobuf_check(esi_bytes_str(&bytes), &completed, NULL);
        /* The one way to fail here: the field that was added is one too many. */
        if (err == ES_OK) {
            err = make_event(esi_bytes_str(&bytes), &completed, event);
        }
    }
    esi_bytes_deinit(&bytes);
    if (err == ES_OK) {
        (*event)->has_generated_id = facts->id.len == 0;
    }
    return err;
}

static bool is_json_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* LF is JSON's white space and protobuf's tag of EventID: the first byte behind the white space
 * gives a hint. */
static bool may_be_json(struct esi_str body)
{
    size_t at = 0;

    while (at < body.len && is_json_space(body.data[at])) {
        at++;
    }
    return at < body.len && body.data[at] == '{';
}

/* Reads a body of either form. *encoded is the body itself or, from JSON, lies in *bytes. */
static enum es_err read_body(struct esi_str body, struct esi_bytes *bytes, struct esi_str *encoded,
                             struct esi_event_protobuf_facts *facts, struct es_error *reason)
{
    const char first = body.data[0];
    enum es_err err = ES_INVALID;

    if (first == '\n' || (first != '{' && !is_json_space(first))) {
        err = esi_event_protobuf_check(body, facts, reason);
        if (err == ES_OK) {
            *encoded = body;
        }
        if (err == ES_OK || first != '\n' || !may_be_json(body)) {
            return err;
        }
    }
    err = esi_event_json_decode(body, bytes, reason);
    if (err != ES_OK) {
        return err;
    }
    *encoded = esi_bytes_str(bytes);
    if (encoded->len == 0) {
        /* An event without a field: a valid pointer all the same. */
        *encoded = ESI_STR("");
    }
    return esi_event_protobuf_check(*encoded, facts, reason);
}

enum es_err esi_event_decode(struct esi_str body, const struct esi_event_decode_options *options,
                             struct esi_event **event, struct es_error *reason)
{
    const size_t size_max =
        options->size_max != 0 ? options->size_max : (size_t)ESI_EVENT_SIZE_MAX_DEFAULT;
    struct esi_event_protobuf_facts facts;
    struct esi_str encoded;
    struct esi_bytes bytes;

    if (body.len == 0) {
        return refuse(reason, "the body is empty");
    }
    if (body.len > size_max) {
        (void)refuse(reason, "the event has %zu bytes; %zu are allowed", body.len, size_max);
        return ES_TOO_LARGE;
    }
    esi_bytes_init(&bytes, 0);
    enum es_err err = read_body(body, &bytes, &encoded, &facts, reason);
    if (err == ES_OK && encoded.len > size_max) {
        (void)refuse(reason, "the event has %zu bytes as protobuf; %zu are allowed", encoded.len,
                     size_max);
        err = ES_TOO_LARGE;
    }
    if (err == ES_OK) {
        err = check_id_and_type(&facts, options->type_from_subject, reason);
    }
    if (err == ES_OK) {
        err = complete(encoded, &facts, options, event);
        if (err != ES_OK) {
            (void)refuse(reason, "the event cannot be kept: %s", es_err_text(err));
        }
    }
    esi_bytes_deinit(&bytes);
    return err;
}

struct esi_event *esi_event_ref(struct esi_event *event)
{
    /* order: relaxed; who refs holds a reference already, so the event is visible to it. */
    const unsigned before =
        atomic_fetch_add_explicit(&event->reference_count, 1, memory_order_relaxed);
    ESI_ASSERT(before > 0);
    return event;
}

void esi_event_unref(struct esi_event *event)
{
    if (event == NULL) {
        return;
    }
    /* order: acq_rel; release ends this holder's reads, acquire in the last one sees all of them
     * before the free. */
    const unsigned before =
        atomic_fetch_sub_explicit(&event->reference_count, 1, memory_order_acq_rel);
    ESI_ASSERT(before > 0);
    if (before == 1) {
        free(event);
    }
}
