/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two passes: the whole text is checked once, without recursion (open brackets stand on a small
 * stack), so that the walk over its fields need not check again. */
#include "proto/json_fields.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { REPLACEMENT = 0xfffd };

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')) {
        at++;
    }
    return at;
}

/* The value of four hexadecimal digits, or -1. */
static int32_t read_hex4(const char *at, const char *end)
{
    int32_t value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const int digit = esi_num_hex_digit(at[i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* Skips a string that starts at its quote; NULL when it is none. */
static const char *skip_string(const char *at, const char *end)
{
    if (at == end || *at != '"') {
        return NULL;
    }
    at++;
    while (at < end && *at != '"') {
        if ((unsigned char)*at < 0x20) {
            return NULL;
        }
        if (*at != '\\') {
            at++;
            continue;
        }
        at++;
        if (at == end || *at == '\0' || strchr("\"\\/bfnrtu", *at) == NULL) {
            return NULL;
        }
        if (*at == 'u') {
            if (read_hex4(at + 1, end) < 0) {
                return NULL;
            }
            at += 4;
        }
        at++;
    }
    return at < end ? at + 1 : NULL;
}

static const char *skip_digits(const char *at, const char *end)
{
    const char *start = at;

    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at > start ? at : NULL;
}

static const char *skip_number(const char *at, const char *end)
{
    if (at < end && *at == '-') {
        at++;
    }
    if (at < end && *at == '0') {
        at++;
    } else {
        at = skip_digits(at, end);
    }
    if (at != NULL && at < end && *at == '.') {
        at = skip_digits(at + 1, end);
    }
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) {
            at++;
        }
        at = skip_digits(at, end);
    }
    return at;
}

static const char *skip_word(const char *at, const char *end, struct esi_str word)
{
    return (size_t)(end - at) >= word.len && memcmp(at, word.data, word.len) == 0 ? at + word.len
                                                                                  : NULL;
}

static const char *skip_scalar(const char *at, const char *end)
{
    switch (*at) {
    case '"':
        return skip_string(at, end);
    case 't':
        return skip_word(at, end, ESI_STR("true"));
    case 'f':
        return skip_word(at, end, ESI_STR("false"));
    case 'n':
        return skip_word(at, end, ESI_STR("null"));
    default:
        return skip_number(at, end);
    }
}

/* A colon and the space around it; NULL when that is not there. */
static const char *skip_colon(const char *at, const char *end)
{
    at = skip_space(at, end);
    return at < end && *at == ':' ? skip_space(at + 1, end) : NULL;
}

/* A name, a colon and the space around them; NULL when that is not there. */
static const char *skip_name(const char *at, const char *end)
{
    at = skip_string(skip_space(at, end), end);
    return at != NULL ? skip_colon(at, end) : NULL;
}

/*
 * Behind a value: commas and closing brackets. Returns the place where the next value begins, or,
 * when *depth has come down to 0, the end of the outermost one; NULL when the text is wrong.
 */
static const char *skip_behind_value(const char *at, const char *end, const char *closers,
                                     size_t *depth)
{
    while (*depth > 0) {
        at = skip_space(at, end);
        if (at == end) {
            return NULL;
        }
        if (*at == closers[*depth - 1]) {
            (*depth)--;
            at++;
            continue;
        }
        if (*at != ',') {
            return NULL;
        }
        return closers[*depth - 1] == '}' ? skip_name(at + 1, end) : skip_space(at + 1, end);
    }
    return at;
}

/* Skips one value that starts at `at`, of any depth up to the bound; NULL when there is none. */
static const char *skip_value(const char *at, const char *end)
{
    char closers[ESI_JSON_FIELDS_DEPTH_MAX];
    size_t depth = 0;

    do {
        if (at == end) {
            return NULL;
        }
        if (*at == '{' || *at == '[') {
            if (depth == sizeof closers) {
                return NULL;
            }
            const char closer = *at == '{' ? '}' : ']';
            closers[depth++] = closer;
            at = skip_space(at + 1, end);
            if (at == end || *at != closer) {
                at = closer == '}' ? skip_name(at, end) : at;
                if (at == NULL) {
                    return NULL;
                }
                continue;
            }
        } else {
            at = skip_scalar(at, end);
        }
        at = at != NULL ? skip_behind_value(at, end, closers, &depth) : NULL;
    } while (at != NULL && depth > 0);
    return at;
}

static enum esi_json_type type_of(char first)
{
    switch (first) {
    case '{':
        return JSON_FIELD_OBJECT;
    case '[':
        return JSON_FIELD_ARRAY;
    case '"':
        return JSON_FIELD_STRING;
    case 't':
    case 'f':
        return JSON_FIELD_BOOL;
    case 'n':
        return JSON_FIELD_NULL;
    default:
        return JSON_FIELD_NUMBER;
    }
}

enum es_err esi_json_fields_open(struct esi_str json, struct esi_json_fields *fields)
{
    const char *const end = json.data != NULL ? json.data + json.len : NULL;
    const char *at = json.data != NULL ? skip_space(json.data, end) : NULL;

    if (at == end || (*at != '{' && *at != 'n')) {
        return ES_INVALID;
    }
    const char *behind = skip_value(at, end);
    if (behind == NULL || skip_space(behind, end) != end) {
        return ES_INVALID;
    }
    *fields = (struct esi_json_fields){.at = *at == '{' ? at + 1 : behind, .end = behind};
    return ES_OK;
}

/* The next value's text. The text was checked as a whole, so what is skipped here is well formed.
 */
static struct esi_json_value take_value(struct esi_json_fields *fields, const char *at)
{
    const char *behind = skip_value(at, fields->end);

    ESI_ASSERT(behind != NULL);
    const char *next = skip_space(behind, fields->end);
    fields->at = next < fields->end && *next == ',' ? next + 1 : next;
    return (struct esi_json_value){.type = type_of(*at),
                                   .raw = {.data = at, .len = (size_t)(behind - at)}};
}

/* Writes the decoded string between two quotes; room for 3 bytes each of the text. Returns the end.
 */
static char *decode_string(struct esi_str raw, char *out)
{
    static const char escapes[] = "b\bf\fn\nr\rt\t";
    const char *at = raw.data + 1;
    const char *const end = raw.data + raw.len - 1;

    while (at < end) {
        uint32_t code = 0;
        if (*at != '\\') {
            const size_t len = esi_utf8_decode(at, (size_t)(end - at), &code);
            at += len > 0 ? len : 1;
            out += esi_utf8_encode(len > 0 ? code : REPLACEMENT, out);
            continue;
        }
        const char letter = at[1];
        at += 2;
        if (letter != 'u') {
            const char *escape = strchr(escapes, letter);
            *out++ = escape != NULL ? escape[1] : letter;
            continue;
        }
        code = (uint32_t)read_hex4(at, end);
        at += 4;
        if (code >= 0xd800 && code <= 0xdbff && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
            const uint32_t low = (uint32_t)read_hex4(at + 2, end);
            if (low >= 0xdc00 && low <= 0xdfff) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                at += 6;
            }
        }
        out += esi_utf8_encode(code >= 0xd800 && code <= 0xdfff ? REPLACEMENT : code, out);
    }
    return out;
}

/* The name in lower case, or the empty one, which matches nothing, when it is too long to be one of
 * ours. */
static void decode_name(struct esi_str raw, char name[ESI_JSON_FIELDS_NAME_MAX + 1])
{
    char decoded[ESI_JSON_FIELDS_NAME_MAX * 6 * 3];

    name[0] = '\0';
    if (raw.len - 2 > ESI_JSON_FIELDS_NAME_MAX * 6) {
        return;
    }
    const size_t len = (size_t)(decode_string(raw, decoded) - decoded);
    if (len > ESI_JSON_FIELDS_NAME_MAX || memchr(decoded, '\0', len) != NULL) {
        return;
    }
    for (size_t i = 0; i < len; i++) {
        const char c = decoded[i];
        name[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    name[len] = '\0';
}

bool esi_json_fields_next(struct esi_json_fields *fields, struct esi_json_field *field)
{
    const char *at = skip_space(fields->at, fields->end);

    if (at == fields->end || *at == '}') {
        return false;
    }
    const char *behind = skip_string(at, fields->end);
    ESI_ASSERT(behind != NULL);
    decode_name((struct esi_str){.data = at, .len = (size_t)(behind - at)}, field->name);
    at = skip_colon(behind, fields->end);
    ESI_ASSERT(at != NULL);
    field->value = take_value(fields, at);
    return true;
}

enum es_err esi_json_fields_items(const struct esi_json_value *value, struct esi_json_fields *items)
{
    const char *const end = value->raw.data + value->raw.len;

    if (value->type != JSON_FIELD_ARRAY && value->type != JSON_FIELD_NULL) {
        return ES_INVALID;
    }
    *items = (struct esi_json_fields){
        .at = value->type == JSON_FIELD_ARRAY ? value->raw.data + 1 : end, .end = end};
    return ES_OK;
}

bool esi_json_fields_next_item(struct esi_json_fields *items, struct esi_json_value *value)
{
    const char *at = skip_space(items->at, items->end);

    if (at == items->end || *at == ']') {
        return false;
    }
    *value = take_value(items, at);
    return true;
}

enum es_err esi_json_fields_read_bool(const struct esi_json_value *value, bool *out)
{
    if (value->type == JSON_FIELD_NULL) {
        return ES_OK;
    }
    if (value->type != JSON_FIELD_BOOL) {
        return ES_INVALID;
    }
    *out = value->raw.data[0] == 't';
    return ES_OK;
}

enum es_err esi_json_fields_read_i64(const struct esi_json_value *value, int64_t *out)
{
    const bool is_negative = value->raw.data[0] == '-';
    int64_t number = 0;

    if (value->type == JSON_FIELD_NULL) {
        return ES_OK;
    }
    if (value->type != JSON_FIELD_NUMBER) {
        return ES_INVALID;
    }
    for (size_t i = is_negative ? 1 : 0; i < value->raw.len; i++) {
        const int digit = value->raw.data[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, digit, &number)) {
            return ES_INVALID;
        }
    }
    /* Gathered below zero, where there is one number more. */
    if (!is_negative && number == INT64_MIN) {
        return ES_INVALID;
    }
    *out = is_negative ? number : -number;
    return ES_OK;
}

enum es_err esi_json_fields_read_str(const struct esi_json_value *value, struct esi_str *out)
{
    if (value->type == JSON_FIELD_NULL) {
        return ES_OK;
    }
    if (value->type != JSON_FIELD_STRING) {
        return ES_INVALID;
    }
    /* Each byte of the text gives at most 3: an invalid byte becomes U+FFFD. */
    char *data = malloc((value->raw.len - 2) * 3 + 1);
    if (data == NULL) {
        return ES_NO_MEMORY;
    }
    char *end = decode_string(value->raw, data);
    *end = '\0';
    *out = (struct esi_str){.data = data, .len = (size_t)(end - data)};
    return ES_OK;
}
