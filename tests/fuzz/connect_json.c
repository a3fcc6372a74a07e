/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no JSON text harms the readers of CONNECT and INFO, and they agree with a general JSON
 * library on what is JSON. Method: the input goes into all of them. What jansson accepts as an
 * object must be accepted here where no known field has a wrong type, which is checked with the
 * walk that knows no fields; what is accepted here and is not JSON for jansson may differ only in
 * what Go tolerates (invalid UTF-8, lone surrogates, NUL, huge numbers, depth). A second CONNECT is
 * read over a first one, and a failed one must leave the first as it was.
 */
#include "proto/connect.h"
#include "proto/info.h"
#include "proto/json_fields.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* Plain ASCII without escapes of code points: there both readers must agree on every text but deep
 * ones. */
static bool is_plain(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] >= 0x80 || data[i] == 0 ||
            (data[i] == '\\' && i + 1 < size && data[i + 1] == 'u')) {
            return false;
        }
    }
    return true;
}

static size_t count_brackets(const uint8_t *data, size_t size)
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++) {
        count += data[i] == '[' || data[i] == '{';
    }
    return count;
}

static void compare_with_jansson(const char *text, const uint8_t *data, size_t size)
{
    struct esi_json_fields fields;
    struct esi_json_field field;
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_DECODE_ANY, &error);
    const bool theirs = root != NULL && (json_is_object(root) || json_is_null(root));
    const bool ours =
        esi_json_fields_open((struct esi_str){.data = text, .len = size}, &fields) == ES_OK;

    /* Numbers out of range are errors for jansson, not for Go: no verdict then. */
    const bool is_range_error =
        root == NULL && json_error_code(&error) == json_error_numeric_overflow;
    if (is_plain(data, size) && count_brackets(data, size) < ESI_JSON_FIELDS_DEPTH_MAX &&
        !is_range_error) {
        require(ours == theirs);
    }
    json_decref(root);
    while (ours && esi_json_fields_next(&fields, &field)) {
        struct esi_str string = {0};
        struct esi_json_fields items;
        struct esi_json_value item;
        int64_t number = 0;
        bool flag = false;
        if (esi_json_fields_read_str(&field.value, &string) == ES_OK) {
            free((char *)(uintptr_t)string.data);
        }
        (void)(esi_json_fields_read_i64(&field.value, &number) == ES_OK);
        (void)(esi_json_fields_read_bool(&field.value, &flag) == ES_OK);
        if (esi_json_fields_items(&field.value, &items) == ES_OK) {
            while (esi_json_fields_next_item(&items, &item)) {
                require(item.raw.len > 0);
            }
        }
    }
}

static void read_connects(struct esi_str json)
{
    struct esi_connect connect;

    esi_connect_init(&connect);
    require(esi_connect_read(ESI_STR("{\"auth_token\":\"first\",\"verbose\":false}"),
                             CONNECT_CLIENT, &connect) == ES_OK);
    if (esi_connect_read(json, CONNECT_CLIENT, &connect) != ES_OK) {
        require(esi_str_equal(connect.auth_token, ESI_STR("first")) && !connect.verbose);
    }
    if (esi_connect_read(json, CONNECT_GATEWAY, &connect) == ES_OK) {
        struct esi_bytes out;
        esi_bytes_init(&out, 0);
        esi_connect_write_gateway(&out, &connect);
        /* What is written is one line, whatever the strings held. */
        require(!out.failed && memchr(out.data, '\n', out.len) == out.data + out.len - 1);
        esi_bytes_deinit(&out);
    }
    esi_connect_deinit(&connect);
}

static void read_info(struct esi_str json)
{
    struct esi_gateway_info info = {0};

    if (esi_info_read_gateway(json, &info) == ES_OK) {
        struct esi_bytes out;
        esi_bytes_init(&out, 0);
        esi_info_write_gateway(&out, &info);
        require(!out.failed && memchr(out.data, '\n', out.len) == out.data + out.len - 1);
        esi_bytes_deinit(&out);
    }
    esi_info_gateway_deinit(&info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str json = {.data = (const char *)data, .len = size};

    if (size == 0 || size > 4096) {
        return 0;
    }
    compare_with_jansson(json.data, data, size);
    read_connects(json);
    read_info(json);
    return 0;
}
