/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event as JSON: see event_json.h.
 *
 * One table names the fields for both ways. In: nesting and counts are bounded by a look at the
 * brackets before the JSON library, which recurses, sees the text; its tree is turned into
 * protobuf-c's messages in an arena, level by level with a stack of our own, and packed. Out: the
 * encoding is walked as it lies there, so nothing is built at all.
 */
#include "event/event_json.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event/event.pb-c.h"

#include "base/assert.h"
#include "base/own.h"
#include "base/timestamp.h"
#include "event/event_protobuf.h"
#include "event/wire.h"

enum kind { KIND_TEXT, KIND_TEXTS, KIND_TIME, KIND_DATA, KIND_PART };

struct message;

struct field {
    const char *name;  /* in the contract */
    const char *alias; /* with a lower-case start; the same as name where that is so already */
    enum kind kind;
    size_t offset;              /* of the member in protobuf-c's struct */
    size_t count_offset;        /* KIND_TEXTS: of its count */
    const struct message *part; /* KIND_PART */
};

struct message {
    const ProtobufCMessageDescriptor *descriptor;
    const struct field *fields; /* fields[n - 1] has number n */
    uint32_t field_count;
};

typedef Chef__Automate__Domain__Event__Api__EventMsg event_struct;
typedef Chef__Automate__Domain__Event__Api__EventType type_struct;
typedef Chef__Automate__Domain__Event__Api__Producer producer_struct;
typedef Chef__Automate__Domain__Event__Api__Actor party_struct;
typedef Google__Protobuf__Struct data_struct;
typedef Google__Protobuf__Struct__FieldsEntry entry_struct;
typedef Google__Protobuf__Value value_struct;
typedef Google__Protobuf__ListValue list_struct;
typedef Google__Protobuf__Timestamp time_struct;

/* One table for the three: protobuf-c lays them out alike. */
#define SAME_PLACE(other, member)                                                                  \
    _Static_assert(offsetof(Chef__Automate__Domain__Event__Api__##other, member) ==                \
                       offsetof(party_struct, member),                                             \
                   "Actor, Object and Target are laid out alike")
SAME_PLACE(Object, id);
SAME_PLACE(Object, objecttype);
SAME_PLACE(Object, displayname);
SAME_PLACE(Target, id);
SAME_PLACE(Target, objecttype);
SAME_PLACE(Target, displayname);

static const struct field type_fields[] = {
    {"Name", "name", KIND_TEXT, offsetof(type_struct, name), 0, NULL},
};
static const struct message type_message = {
    &chef__automate__domain__event__api__event_type__descriptor, type_fields, 1};

static const struct field producer_fields[] = {
    {"ID", "id", KIND_TEXT, offsetof(producer_struct, id), 0, NULL},
    {"ProducerName", "producerName", KIND_TEXT, offsetof(producer_struct, producername), 0, NULL},
    {"ProducerType", "producerType", KIND_TEXT, offsetof(producer_struct, producertype), 0, NULL},
    {"Tags", "tags", KIND_TEXTS, offsetof(producer_struct, tags), offsetof(producer_struct, n_tags),
     NULL},
};
static const struct message producer_message = {
    &chef__automate__domain__event__api__producer__descriptor, producer_fields, 4};

static const struct field party_fields[] = {
    {"ID", "id", KIND_TEXT, offsetof(party_struct, id), 0, NULL},
    {"ObjectType", "objectType", KIND_TEXT, offsetof(party_struct, objecttype), 0, NULL},
    {"DisplayName", "displayName", KIND_TEXT, offsetof(party_struct, displayname), 0, NULL},
};
static const struct message actor_message = {&chef__automate__domain__event__api__actor__descriptor,
                                             party_fields, 3};
static const struct message object_message = {
    &chef__automate__domain__event__api__object__descriptor, party_fields, 3};
static const struct message target_message = {
    &chef__automate__domain__event__api__target__descriptor, party_fields, 3};

static const struct field event_fields[] = {
    {"EventID", "eventID", KIND_TEXT, offsetof(event_struct, eventid), 0, NULL},
    {"Type", "type", KIND_PART, offsetof(event_struct, type), 0, &type_message},
    {"Producer", "producer", KIND_PART, offsetof(event_struct, producer), 0, &producer_message},
    {"Tags", "tags", KIND_TEXTS, offsetof(event_struct, tags), offsetof(event_struct, n_tags),
     NULL},
    {"Published", "published", KIND_TIME, offsetof(event_struct, published), 0, NULL},
    {"Actor", "actor", KIND_PART, offsetof(event_struct, actor), 0, &actor_message},
    {"Verb", "verb", KIND_TEXT, offsetof(event_struct, verb), 0, NULL},
    {"Object", "object", KIND_PART, offsetof(event_struct, object), 0, &object_message},
    {"Target", "target", KIND_PART, offsetof(event_struct, target), 0, &target_message},
    {"data", "data", KIND_DATA, offsetof(event_struct, data), 0, NULL},
};
static const struct message event_message = {
    &chef__automate__domain__event__api__event_msg__descriptor, event_fields, 10};

enum {
    FIELDS_MAX = 10,                              /* of one message */
    DEPTH_MAX = ESI_EVENT_PROTOBUF_DEPTH_MAX + 1, /* of brackets: data's, and the event's own */
    CONTAINERS_MAX = 1 << 15,                     /* objects and lists: dear in the JSON library */
    VALUES_MAX = ESI_EVENT_PROTOBUF_FIELDS_MAX / 2, /* a value in a list is two fields */
    CHUNK_BYTES = 16 * 1024,
    ALIGNMENT = 16,
    DOUBLE_TEXT_MAX = 32
};

static enum es_err ESI_PRINTF(2, 3) refuse(struct es_error *reason, const char *format, ...)
{
    va_list arguments;

    if (reason != NULL) {
        va_start(arguments, format);
        vsnprintf(reason->text, sizeof reason->text, format, arguments);
        va_end(arguments);
        /* Keys and the library's words may hold bytes from outside: they must not break a log line
         * or a reply. */
        for (char *c = reason->text; *c != '\0'; c++) {
            if (*c < 0x20 || *c == 0x7f) {
                *c = '?';
            }
        }
    }
    return ES_INVALID;
}

/* Memory for the messages of one event, freed at once. */
struct chunk {
    struct chunk *next;
    size_t used;
    size_t capacity;
    _Alignas(ALIGNMENT) char data[];
};

struct decoder {
    struct chunk *chunks;    /* owned */
    struct es_error *reason; /* borrowed, may be NULL */
};

/* Cleared memory, or NULL. */
static void *allocate(struct decoder *decoder, size_t count, size_t size)
{
    struct chunk *chunk = decoder->chunks;
    const size_t bytes = (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    if (chunk == NULL || chunk->capacity - chunk->used < bytes) {
        const size_t capacity = bytes > CHUNK_BYTES ? bytes : (size_t)CHUNK_BYTES;
        chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL) {
            return NULL;
        }
        *chunk = (struct chunk){.next = decoder->chunks, .capacity = capacity};
        decoder->chunks = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += bytes;
    memset(memory, 0, bytes);
    return memory;
}

static void free_chunks(struct decoder *decoder)
{
    while (decoder->chunks != NULL) {
        struct chunk *chunk = decoder->chunks;
        decoder->chunks = chunk->next;
        free(chunk);
    }
}

/* Bounds nesting and counts by the brackets and commas outside of strings; whether it is JSON is
 * not asked here. */
static enum es_err check_shape(struct esi_str json, struct es_error *reason)
{
    size_t depth = 0;
    size_t container_count = 0;
    size_t value_count = 0;
    bool in_string = false;

    for (size_t i = 0; i < json.len; i++) {
        const char c = json.data[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            container_count++;
            value_count++;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',') {
            value_count++;
        }
        if (depth > DEPTH_MAX) {
            return refuse(reason, "data is nested deeper than %d levels",
                          ESI_EVENT_PROTOBUF_DEPTH_MAX);
        }
    }
    if (container_count > CONTAINERS_MAX || value_count > VALUES_MAX) {
        return refuse(reason, "more than %d objects and lists or %d values", CONTAINERS_MAX,
                      VALUES_MAX);
    }
    return ES_OK;
}

/* One open object or list of data. */
struct level {
    json_t *json; /* borrowed */
    void *iterator;
    size_t index;
    data_struct *object; /* one of the two */
    list_struct *list;
};

/* Makes the message for an object or list with room for its members, and opens it. */
static enum es_err open_level(struct decoder *decoder, json_t *json, struct level *level)
{
    *level = (struct level){.json = json};
    if (json_is_object(json)) {
        const size_t count = json_object_size(json);
        level->object = allocate(decoder, 1, sizeof *level->object);
        if (level->object == NULL) {
            return ES_NO_MEMORY;
        }
        google__protobuf__struct__init(level->object);
        level->object->fields = allocate(decoder, count, sizeof(entry_struct *));
        level->iterator = json_object_iter(json);
        return level->object->fields != NULL ? ES_OK : ES_NO_MEMORY;
    }
    level->list = allocate(decoder, 1, sizeof *level->list);
    if (level->list == NULL) {
        return ES_NO_MEMORY;
    }
    google__protobuf__list_value__init(level->list);
    level->list->values = allocate(decoder, json_array_size(json), sizeof(value_struct *));
    return level->list->values != NULL ? ES_OK : ES_NO_MEMORY;
}

/* Takes the level's next member: *json is NULL at the end; *value is its message, still empty. */
static enum es_err next_member(struct decoder *decoder, struct level *level, json_t **json,
                               value_struct **value)
{
    const char *key = NULL;

    *json = NULL;
    if (level->list != NULL) {
        *json = json_array_get(level->json, level->index++);
    } else if (level->iterator != NULL) {
        key = json_object_iter_key(level->iterator);
        *json = json_object_iter_value(level->iterator);
        level->iterator = json_object_iter_next(level->json, level->iterator);
    }
    if (*json == NULL) {
        return ES_OK;
    }
    *value = allocate(decoder, 1, sizeof **value);
    if (*value == NULL) {
        return ES_NO_MEMORY;
    }
    google__protobuf__value__init(*value);
    if (level->list != NULL) {
        level->list->values[level->list->n_values++] = *value;
        return ES_OK;
    }
    entry_struct *entry = allocate(decoder, 1, sizeof *entry);
    if (entry == NULL) {
        return ES_NO_MEMORY;
    }
    google__protobuf__struct__fields_entry__init(entry);
    /* protobuf-c has no const; packing only reads. The key lives as long as the JSON tree. */
    entry->key = (char *)(uintptr_t)key;
    entry->value = *value;
    level->object->fields[level->object->n_fields++] = entry;
    return ES_OK;
}

static void set_scalar(const json_t *json, value_struct *value)
{
    switch (json_typeof(json)) {
    case JSON_STRING:
        value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        value->string_value = (char *)(uintptr_t)json_string_value(json);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        value->number_value = json_number_value(json);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        value->bool_value = json_is_true(json);
        break;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
        break;
    }
}

static enum es_err set_data(struct decoder *decoder, json_t *json, data_struct **data)
{
    struct level levels[DEPTH_MAX];
    size_t depth = 1;
    json_t *member;
    value_struct *value = NULL;

    enum es_err err = open_level(decoder, json, &levels[0]);
    *data = levels[0].object;
    while (err == ES_OK && depth > 0) {
        err = next_member(decoder, &levels[depth - 1], &member, &value);
        if (err != ES_OK) {
            break;
        }
        if (member == NULL) {
            depth--;
        } else if (json_is_object(member) || json_is_array(member)) {
            /* check_shape has bounded the brackets. */
            ESI_ASSERT(depth < ESI_COUNT_OF(levels));
            struct level *level = &levels[depth++];
            err = open_level(decoder, member, level);
            if (level->object != NULL) {
                value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
                value->struct_value = level->object;
            } else {
                value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
                value->list_value = level->list;
            }
        } else {
            set_scalar(member, value);
        }
    }
    return err;
}

static enum es_err set_texts(struct decoder *decoder, const struct field *field, json_t *json,
                             char *message)
{
    const size_t count = json_array_size(json);

    if (!json_is_array(json)) {
        return refuse(decoder->reason, "%s must be a list of strings", field->name);
    }
    char **texts = allocate(decoder, count, sizeof *texts);
    if (texts == NULL) {
        return ES_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_array_get(json, i);
        if (!json_is_string(text)) {
            return refuse(decoder->reason, "%s must be a list of strings", field->name);
        }
        texts[i] = (char *)(uintptr_t)json_string_value(text);
    }
    memcpy(message + field->offset, &texts, sizeof texts);
    memcpy(message + field->count_offset, &count, sizeof count);
    return ES_OK;
}

static enum es_err set_time(struct decoder *decoder, const struct field *field, const json_t *json,
                            char *message)
{
    time_struct *time = allocate(decoder, 1, sizeof *time);

    if (time == NULL) {
        return ES_NO_MEMORY;
    }
    google__protobuf__timestamp__init(time);
    uint32_t nanos = 0;
    const struct esi_str text = {.data = json_string_value(json), .len = json_string_length(json)};
    if (!json_is_string(json) || !esi_timestamp_read(text, &time->seconds, &nanos)) {
        return refuse(decoder->reason, "%s must be a time as in 2020-02-29T12:00:00.5Z (RFC 3339)",
                      field->name);
    }
    time->nanos = (int32_t)nanos;
    memcpy(message + field->offset, &time, sizeof(time_struct *));
    return ES_OK;
}

static const struct field *find_field(const struct message *message, const char *key)
{
    for (uint32_t i = 0; i < message->field_count; i++) {
        if (strcmp(key, message->fields[i].name) == 0 ||
            strcmp(key, message->fields[i].alias) == 0) {
            return &message->fields[i];
        }
    }
    return NULL;
}

/* Fills a field that is no message of ours. */
static enum es_err set_field(struct decoder *decoder, const struct field *field, json_t *json,
                             char *message)
{
    data_struct *data = NULL;

    if (field->kind == KIND_TEXTS) {
        return set_texts(decoder, field, json, message);
    }
    if (field->kind == KIND_TIME) {
        return set_time(decoder, field, json, message);
    }
    if (field->kind == KIND_TEXT) {
        const char *text = json_string_value(json);
        if (text == NULL) {
            return refuse(decoder->reason, "%s must be a string", field->name);
        }
        memcpy(message + field->offset, &text, sizeof text);
        return ES_OK;
    }
    if (!json_is_object(json)) {
        return refuse(decoder->reason, "%s must be an object", field->name);
    }
    const enum es_err err = set_data(decoder, json, &data);
    memcpy(message + field->offset, &data, sizeof(data_struct *));
    return err;
}

/* Calls itself for the messages inside the event: the table has two levels, whatever the input. */
static enum es_err set_message(struct decoder *decoder, const struct message *rule,
                               const char *name, json_t *json, void **out)
{
    char *message = allocate(decoder, 1, rule->descriptor->sizeof_message);
    bool seen[FIELDS_MAX] = {false};
    const char *key;
    json_t *member;

    if (message == NULL) {
        return ES_NO_MEMORY;
    }
    if (!json_is_object(json)) {
        return refuse(decoder->reason, "%s must be an object", name);
    }
    protobuf_c_message_init(rule->descriptor, message);
    json_object_foreach(json, key, member)
    {
        const struct field *field = find_field(rule, key);
        enum es_err err = ES_OK;
        if (field == NULL) {
            return refuse(decoder->reason, "%s has no field '%.64s'", name, key);
        }
        if (seen[field - rule->fields]) {
            return refuse(decoder->reason, "%s.%s is given twice", name, field->name);
        }
        seen[field - rule->fields] = true;
        if (json_is_null(member)) {
            continue;
        }
        if (field->kind == KIND_PART) {
            void *part = NULL;
            err = set_message(decoder, field->part, field->name, member, &part);
            memcpy(message + field->offset, &part, sizeof part);
        } else {
            err = set_field(decoder, field, member, message);
        }
        if (err != ES_OK) {
            return err;
        }
    }
    *out = message;
    return ES_OK;
}

static enum es_err pack(const void *message, struct esi_bytes *out)
{
    const size_t len = protobuf_c_message_get_packed_size(message);
    char *room = esi_bytes_reserve(out, len);

    if (room == NULL) {
        return ES_NO_MEMORY;
    }
    out->len += protobuf_c_message_pack(message, (uint8_t *)room);
    return ES_OK;
}

enum es_err esi_event_json_decode(struct esi_str json, struct esi_bytes *out,
                                  struct es_error *reason)
{
    struct decoder decoder = {.reason = reason};
    json_error_t error;
    void *message = NULL;

    enum es_err err = check_shape(json, reason);
    if (err != ES_OK) {
        return err;
    }
    /* Numbers are doubles in data, so integers beyond 64 bits are fine. A zero character is refused
     * by default. */
    json_t *root =
        json_loadb(json.data, json.len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    if (root == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory) {
            return ES_NO_MEMORY;
        }
        return refuse(reason, "not valid JSON, line %d, column %d: %s", error.line, error.column,
                      error.text);
    }
    err = set_message(&decoder, &event_message, "EventMsg", root, &message);
    if (err == ES_OK) {
        err = pack(message, out);
    }
    if (err == ES_NO_MEMORY) {
        (void)refuse(reason, "the event cannot be kept: %s", es_err_text(err));
    }
    free_chunks(&decoder);
    json_decref(root);
    return err;
}

/* The other way: from the encoding to JSON text. */

static void append_string(struct esi_bytes *out, struct esi_str text)
{
    size_t plain_start = 0;

    esi_bytes_append_text(out, "\"");
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = (uint8_t)text.data[i];
        if (c >= 0x20 && c != 0x7f && c != '"' && c != '\\') {
            continue;
        }
        esi_bytes_append(out, text.data + plain_start, i - plain_start);
        plain_start = i + 1;
        if (c == '"' || c == '\\') {
            esi_bytes_printf(out, "\\%c", c);
        } else {
            esi_bytes_printf(out, "\\u%04x", c);
        }
    }
    esi_bytes_append(out, text.data + plain_start, text.len - plain_start);
    esi_bytes_append_text(out, "\"");
}

/* The shortest decimal that is read back as the same number. */
static enum es_err append_double(struct esi_bytes *out, double value)
{
    char text[DOUBLE_TEXT_MAX];

    if (!isfinite(value)) {
        return ES_UNSUPPORTED;
    }
    for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    esi_bytes_append_text(out, text);
    return ES_OK;
}

static void append_time(struct esi_bytes *out, struct esi_str content)
{
    struct esi_wire_field field;
    int64_t seconds = 0;
    uint32_t nanos = 0;

    while (esi_wire_next(&content, &field) == ES_OK) {
        if (field.number == 1) {
            seconds = (int64_t)field.value;
        } else if (field.number == 2) {
            nanos = (uint32_t)field.value;
        }
    }
    esi_bytes_append_text(out, "\"");
    esi_timestamp_append(out, seconds, nanos);
    esi_bytes_append_text(out, "\"");
}

/* One open object or list of data, as far as it is written. */
struct walk {
    struct esi_str rest;
    bool is_object;
    bool has_items;
};

static void open_walk(struct esi_bytes *out, struct walk *walk, struct esi_str content,
                      bool is_object)
{
    *walk = (struct walk){.rest = content, .is_object = is_object};
    esi_bytes_append_text(out, is_object ? "{" : "[");
}

/* Takes the next member of an object or list and writes what stands before its value. Returns false
 * at the end. */
static bool next_value(struct esi_bytes *out, struct walk *walk, struct esi_str *value)
{
    struct esi_wire_field field;
    struct esi_str key = ESI_STR("");

    do {
        if (esi_wire_next(&walk->rest, &field) != ES_OK) {
            esi_bytes_append_text(out, walk->is_object ? "}" : "]");
            return false;
        }
    } while (field.number != 1);
    esi_bytes_append_text(out, walk->has_items ? "," : "");
    walk->has_items = true;
    *value = field.bytes;
    if (walk->is_object) {
        struct esi_str entry = field.bytes;
        *value = (struct esi_str){0};
        while (esi_wire_next(&entry, &field) == ES_OK) {
            if (field.number == 1) {
                key = field.bytes;
            } else if (field.number == 2) {
                *value = field.bytes;
            }
        }
        append_string(out, key);
        esi_bytes_append_text(out, ":");
    }
    return true;
}

/* The field of a Value that says what it is; number 0 when there is none, which stands for null. */
static struct esi_wire_field find_kind(struct esi_str value)
{
    struct esi_wire_field field;

    while (esi_wire_next(&value, &field) == ES_OK) {
        if (field.number <= GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE) {
            return field;
        }
    }
    return (struct esi_wire_field){0};
}

static enum es_err append_scalar(struct esi_bytes *out, const struct esi_wire_field *kind)
{
    double number;

    if (kind->number == GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE) {
        append_string(out, kind->bytes);
    } else if (kind->number == GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE) {
        memcpy(&number, &kind->value, sizeof number);
        return append_double(out, number);
    } else if (kind->number == GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE) {
        esi_bytes_append_text(out, kind->value != 0 ? "true" : "false");
    } else {
        esi_bytes_append_text(out, "null");
    }
    return ES_OK;
}

static enum es_err append_data(struct esi_bytes *out, struct esi_str content)
{
    struct walk walks[ESI_EVENT_PROTOBUF_DEPTH_MAX];
    struct esi_str value;
    size_t depth = 1;
    enum es_err err = ES_OK;

    open_walk(out, &walks[0], content, true);
    while (err == ES_OK && depth > 0) {
        if (!next_value(out, &walks[depth - 1], &value)) {
            depth--;
            continue;
        }
        const struct esi_wire_field kind = find_kind(value);
        if (kind.number == GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE ||
            kind.number == GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE) {
            /* The check of the encoding has bounded the depth. */
            ESI_ASSERT(depth < ESI_COUNT_OF(walks));
            open_walk(out, &walks[depth++], kind.bytes,
                      kind.number == GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE);
        } else {
            err = append_scalar(out, &kind);
        }
    }
    return err;
}

static void append_texts(struct esi_bytes *out, struct esi_str message, uint32_t number)
{
    struct esi_wire_field field;
    const char *before = "[";

    while (esi_wire_next(&message, &field) == ES_OK) {
        if (field.number == number) {
            esi_bytes_append_text(out, before);
            append_string(out, field.bytes);
            before = ",";
        }
    }
    esi_bytes_append_text(out, "]");
}

/* Calls itself for the messages inside the event: the table has two levels, whatever the input. */
static enum es_err append_message(struct esi_bytes *out, const struct message *rule,
                                  struct esi_str message)
{
    struct esi_str found[FIELDS_MAX] = {{0}};
    struct esi_str rest = message;
    struct esi_wire_field part;
    const char *before = "";

    while (esi_wire_next(&rest, &part) == ES_OK) {
        if (part.number <= rule->field_count) {
            found[part.number - 1] = part.bytes;
        }
    }
    esi_bytes_append_text(out, "{");
    for (uint32_t i = 0; i < rule->field_count; i++) {
        const struct field *field = &rule->fields[i];
        const struct esi_str content = found[i];
        enum es_err err = ES_OK;
        if (content.data == NULL || (field->kind == KIND_TEXT && content.len == 0)) {
            continue;
        }
        esi_bytes_printf(out, "%s\"%s\":", before, field->name);
        before = ",";
        if (field->kind == KIND_TEXT) {
            append_string(out, content);
        } else if (field->kind == KIND_TEXTS) {
            append_texts(out, message, i + 1);
        } else if (field->kind == KIND_TIME) {
            append_time(out, content);
        } else if (field->kind == KIND_DATA) {
            err = append_data(out, content);
        } else {
            err = append_message(out, field->part, content);
        }
        if (err != ES_OK) {
            return err;
        }
    }
    esi_bytes_append_text(out, "}");
    return ES_OK;
}

enum es_err esi_event_json_encode(struct esi_str encoded, struct esi_bytes *out)
{
    const enum es_err err = append_message(out, &event_message, encoded);

    return err == ES_OK && out->failed ? ES_NO_MEMORY : err;
}
