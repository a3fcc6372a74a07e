/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The form is that of Go's encoder, its escapes and its empty brackets included: existing tools
 * compare texts. */
#include "base/json_writer.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/own.h"
#include "base/utf8.h"

#include <math.h>

void esi_json_writer_init(struct esi_json_writer *json, struct esi_bytes *out, bool is_indented)
{
    *json = (struct esi_json_writer){.out = out, .is_indented = is_indented};
}

void esi_json_writer_init_part(struct esi_json_writer *json, struct esi_bytes *out, uint32_t depth)
{
    ESI_REQUIRE(depth < ESI_COUNT_OF(json->has_items));
    /* after_key: what stands before the value is written by whoever puts it in its place. */
    *json = (struct esi_json_writer){
        .out = out, .is_indented = true, .depth = depth, .after_key = true};
}

static void break_line(struct esi_json_writer *json)
{
    if (json->is_indented) {
        esi_bytes_append_text(json->out, "\n");
        for (uint32_t i = 0; i < json->depth; i++) {
            esi_bytes_append_text(json->out, "  ");
        }
    }
}

static void before_item(struct esi_json_writer *json)
{
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->depth == 0) {
        return;
    }
    if (json->has_items[json->depth]) {
        esi_bytes_append_text(json->out, ",");
    }
    json->has_items[json->depth] = true;
    break_line(json);
}

static void start(struct esi_json_writer *json, const char *bracket)
{
    before_item(json);
    esi_bytes_append_text(json->out, bracket);
    json->depth++;
    ESI_REQUIRE(json->depth < ESI_COUNT_OF(json->has_items));
    json->has_items[json->depth] = false;
}

static void end(struct esi_json_writer *json, const char *bracket)
{
    ESI_REQUIRE(json->depth > 0);
    const bool had_items = json->has_items[json->depth];
    json->depth--;
    if (had_items) {
        break_line(json);
    }
    esi_bytes_append_text(json->out, bracket);
}

void esi_json_writer_object_start(struct esi_json_writer *json)
{
    start(json, "{");
}

void esi_json_writer_object_end(struct esi_json_writer *json)
{
    end(json, "}");
}

void esi_json_writer_array_start(struct esi_json_writer *json)
{
    start(json, "[");
}

void esi_json_writer_array_end(struct esi_json_writer *json)
{
    end(json, "]");
}

/* Stands for itself in a string. */
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '<' && c != '>' && c != '&' && c != '"' && c != '\\';
}

static size_t plain_length(const char *data, size_t len)
{
    size_t i = 0;

    while (i < len && is_plain((unsigned char)data[i])) {
        i++;
    }
    return i;
}

static void append_string(struct esi_bytes *out, struct esi_str s)
{
    esi_bytes_append_text(out, "\"");
    for (size_t i = 0; i < s.len;) {
        const size_t plain_len = plain_length(s.data + i, s.len - i);
        if (plain_len > 0) {
            esi_bytes_append(out, s.data + i, plain_len);
            i += plain_len;
            continue;
        }
        const unsigned char c = (unsigned char)s.data[i];
        uint32_t code;
        const size_t len = esi_utf8_decode(s.data + i, s.len - i, &code);
        if (len == 0) {
            esi_bytes_append_text(out, "\\ufffd");
            i++;
            continue;
        }
        /* Go's encoder escapes < > & as well, and existing tools see it so. */
        if (c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&') {
            esi_bytes_printf(out, "\\u%04x", c);
        } else if (c == '"' || c == '\\') {
            esi_bytes_printf(out, "\\%c", c);
        } else {
            esi_bytes_append(out, s.data + i, len);
        }
        i += len;
    }
    esi_bytes_append_text(out, "\"");
}

void esi_json_writer_key(struct esi_json_writer *json, const char *key)
{
    before_item(json);
    append_string(json->out, esi_str_from(key));
    esi_bytes_append_text(json->out, json->is_indented ? ": " : ":");
    json->after_key = true;
}

void esi_json_writer_str(struct esi_json_writer *json, struct esi_str value)
{
    before_item(json);
    append_string(json->out, value);
}

static void append_digits(struct esi_bytes *out, uint64_t value)
{
    char digits[ESI_NUM_DIGITS_MAX];

    esi_bytes_append(out, digits, esi_num_format(value, digits));
}

void esi_json_writer_u64(struct esi_json_writer *json, uint64_t value)
{
    before_item(json);
    append_digits(json->out, value);
}

void esi_json_writer_i64(struct esi_json_writer *json, int64_t value)
{
    before_item(json);
    if (value < 0) {
        esi_bytes_append_text(json->out, "-");
    }
    append_digits(json->out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void esi_json_writer_double(struct esi_json_writer *json, double value)
{
    if (!isfinite(value)) {
        /* JSON has no word for it. */
        esi_json_writer_null(json);
        return;
    }
    before_item(json);
    esi_bytes_printf(json->out, "%.6g", value);
}

void esi_json_writer_bool(struct esi_json_writer *json, bool value)
{
    before_item(json);
    esi_bytes_append_text(json->out, value ? "true" : "false");
}

void esi_json_writer_null(struct esi_json_writer *json)
{
    before_item(json);
    esi_bytes_append_text(json->out, "null");
}

void esi_json_writer_raw(struct esi_json_writer *json, struct esi_str value)
{
    before_item(json);
    esi_bytes_append_str(json->out, value);
}

void esi_json_writer_field_str(struct esi_json_writer *json, const char *key, struct esi_str value)
{
    esi_json_writer_key(json, key);
    esi_json_writer_str(json, value);
}

void esi_json_writer_field_text(struct esi_json_writer *json, const char *key, const char *value)
{
    esi_json_writer_field_str(json, key, esi_str_from(value));
}

void esi_json_writer_field_u64(struct esi_json_writer *json, const char *key, uint64_t value)
{
    esi_json_writer_key(json, key);
    esi_json_writer_u64(json, value);
}

void esi_json_writer_field_i64(struct esi_json_writer *json, const char *key, int64_t value)
{
    esi_json_writer_key(json, key);
    esi_json_writer_i64(json, value);
}

void esi_json_writer_field_double(struct esi_json_writer *json, const char *key, double value)
{
    esi_json_writer_key(json, key);
    esi_json_writer_double(json, value);
}

void esi_json_writer_field_bool(struct esi_json_writer *json, const char *key, bool value)
{
    esi_json_writer_key(json, key);
    esi_json_writer_bool(json, value);
}
