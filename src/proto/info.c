/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nats-server leaves out when it is empty is left out here too: clients tell absent from
 * false. */
#include "proto/info.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/json_writer.h"
#include "base/own.h"
#include "proto/json_fields.h"

#include <stdlib.h>
#include <string.h>

/* A string that nats-server leaves out when it is empty. */
static void write_unless_empty(struct esi_json_writer *json, const char *key, struct esi_str value)
{
    if (value.len > 0) {
        esi_json_writer_field_str(json, key, value);
    }
}

/* A boolean that nats-server leaves out when it is false. */
static void write_if_true(struct esi_json_writer *json, const char *key, bool value)
{
    if (value) {
        esi_json_writer_field_bool(json, key, true);
    }
}

static void write_urls(struct esi_json_writer *json, const char *key, const struct esi_str *urls,
                       size_t count)
{
    if (count == 0) {
        return;
    }
    esi_json_writer_key(json, key);
    esi_json_writer_array_start(json);
    for (size_t i = 0; i < count; i++) {
        esi_json_writer_str(json, urls[i]);
    }
    esi_json_writer_array_end(json);
}

void esi_info_write_client(struct esi_bytes *out, const struct esi_client_info *info)
{
    struct esi_json_writer json;

    esi_bytes_append_text(out, "INFO ");
    esi_json_writer_init(&json, out, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_str(&json, "server_id", info->server_id);
    esi_json_writer_field_str(&json, "server_name",
                              info->server_name.len > 0 ? info->server_name : info->server_id);
    esi_json_writer_field_str(&json, "version", info->version);
    esi_json_writer_field_u64(&json, "proto", 1);
    /* Clients want a string there; there is no Go in it. */
    esi_json_writer_field_text(&json, "go", "none");
    esi_json_writer_field_str(&json, "host", info->host);
    esi_json_writer_field_u64(&json, "port", info->port);
    esi_json_writer_field_bool(&json, "headers", info->headers);
    write_if_true(&json, "auth_required", info->auth_required);
    write_if_true(&json, "tls_required", info->tls_required);
    write_if_true(&json, "tls_verify", info->tls_verify);
    write_if_true(&json, "tls_available", info->tls_available);
    esi_json_writer_field_i64(&json, "max_payload", info->max_payload);
    esi_json_writer_field_u64(&json, "client_id", info->client_id);
    esi_json_writer_field_str(&json, "client_ip", info->client_ip);
    write_unless_empty(&json, "nonce", info->nonce);
    write_unless_empty(&json, "cluster", info->cluster);
    write_urls(&json, "connect_urls", info->connect_urls, info->connect_url_count);
    write_if_true(&json, "ldm", info->lame_duck);
    write_unless_empty(&json, "event_service", info->product);
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(out, " \r\n");
}

/* The account of a cmd 2 or 3, as base64. Its name comes from the configuration, so its length is
 * bounded there. */
static void write_account(struct esi_json_writer *json, struct esi_str account)
{
    const size_t capacity = ESI_CRYPTO_BASE64_CAPACITY(account.len);
    char *text = malloc(capacity);

    if (text == NULL ||
        esi_crypto_base64_encode(account.data, account.len, text, capacity) != ES_OK) {
        json->out->failed = true;
    } else {
        esi_json_writer_field_text(json, "gateway_cmd_payload", text);
    }
    free(text);
}

void esi_info_write_gateway(struct esi_bytes *out, const struct esi_gateway_info *info)
{
    struct esi_json_writer json;

    ESI_REQUIRE(info->gateway_url_count <= ESI_INFO_URLS_MAX);
    esi_bytes_append_text(out, "INFO ");
    esi_json_writer_init(&json, out, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_str(&json, "server_id", info->server_id);
    esi_json_writer_field_str(&json, "server_name", info->server_name);
    esi_json_writer_field_str(&json, "version", info->version);
    esi_json_writer_field_i64(&json, "proto", info->proto);
    esi_json_writer_field_text(&json, "go", "");
    esi_json_writer_field_str(&json, "host", info->host);
    esi_json_writer_field_u64(&json, "port", info->port);
    esi_json_writer_field_bool(&json, "headers", info->headers);
    write_if_true(&json, "auth_required", info->auth_required);
    write_if_true(&json, "tls_required", info->tls_required);
    write_if_true(&json, "tls_verify", info->tls_verify);
    esi_json_writer_field_i64(&json, "max_payload", info->max_payload);
    write_unless_empty(&json, "gateway", info->gateway);
    write_urls(&json, "gateway_urls", info->gateway_urls, info->gateway_url_count);
    write_unless_empty(&json, "gateway_url", info->gateway_url);
    if (info->cmd != GATEWAY_CMD_NONE) {
        esi_json_writer_field_i64(&json, "gateway_cmd", info->cmd);
    }
    if (info->account.len > 0) {
        write_account(&json, info->account);
    }
    write_if_true(&json, "gateway_nrp", info->reply_prefix_new);
    write_if_true(&json, "gateway_iom", info->interest_only);
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(out, "\r\n");
}

/* All strings of an INFO that was read: at most one copy a value of the text, so bounded by the
 * line. */
struct owned_strings {
    size_t count;
    char *data[ESI_INFO_URLS_MAX + 16];
};

static enum es_err read_string(const struct esi_json_value *value, struct owned_strings *owned,
                               struct esi_str *out)
{
    struct esi_str text = {0};
    const enum es_err err = esi_json_fields_read_str(value, &text);

    if (err != ES_OK || text.data == NULL) {
        return err;
    }
    /* A duplicate replaces what the earlier one left, so the list stays as long as there are
     * fields. */
    for (size_t i = 0; i < owned->count; i++) {
        if (owned->data[i] == out->data) {
            free(owned->data[i]);
            owned->data[i] = (char *)(uintptr_t)text.data;
            *out = text;
            return ES_OK;
        }
    }
    ESI_ASSERT(owned->count < ESI_COUNT_OF(owned->data));
    owned->data[owned->count++] = (char *)(uintptr_t)text.data;
    *out = text;
    return ES_OK;
}

/* A later list replaces an earlier one item by item; what is left of the earlier one is kept but
 * not counted. */
static enum es_err read_urls(const struct esi_json_value *value, struct owned_strings *owned,
                             struct esi_gateway_info *info)
{
    struct esi_json_fields items;
    struct esi_json_value item;
    size_t count = 0;

    if (value->type == JSON_FIELD_NULL) {
        info->gateway_url_count = 0;
        return ES_OK;
    }
    enum es_err err = esi_json_fields_items(value, &items);
    while (err == ES_OK && esi_json_fields_next_item(&items, &item)) {
        if (item.type != JSON_FIELD_STRING) {
            err = ES_INVALID;
        } else if (count < ESI_INFO_URLS_MAX) {
            err = read_string(&item, owned, &info->gateway_urls[count]);
            count++;
        }
    }
    info->gateway_url_count = count;
    return err;
}

/* Replaces the account by what its base64 text stands for, in place: it gets shorter. */
static enum es_err decode_account(struct esi_gateway_info *info)
{
    size_t len = 0;

    if (info->account.len == 0) {
        info->account = (struct esi_str){0};
        return ES_OK;
    }
    char *data = (char *)(uintptr_t)info->account.data;
    char *decoded = malloc(info->account.len);
    if (decoded == NULL) {
        return ES_NO_MEMORY;
    }
    const enum es_err err =
        esi_crypto_base64_decode(info->account, decoded, info->account.len, &len);
    if (err == ES_OK) {
        memcpy(data, decoded, len);
        info->account.len = len;
    }
    free(decoded);
    return err == ES_OK ? ES_OK : ES_INVALID;
}

static enum es_err read_port(const struct esi_json_value *value, struct esi_gateway_info *info)
{
    int64_t port = info->port;
    const enum es_err err = esi_json_fields_read_i64(value, &port);

    /* Nobody dials by it (the URLs are used), so a number that is no port is only not kept. */
    if (err == ES_OK) {
        info->port = port >= 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
    }
    return err;
}

static enum es_err read_field(const struct esi_json_field *field, struct owned_strings *owned,
                              struct esi_gateway_info *info)
{
    const struct {
        const char *name;
        struct esi_str *place;
    } strings[] = {{"server_id", &info->server_id},
                   {"server_name", &info->server_name},
                   {"version", &info->version},
                   {"host", &info->host},
                   {"gateway", &info->gateway},
                   {"gateway_url", &info->gateway_url},
                   {"gateway_cmd_payload", &info->account}};
    const struct {
        const char *name;
        bool *place;
    } bools[] = {{"headers", &info->headers},
                 {"auth_required", &info->auth_required},
                 {"tls_required", &info->tls_required},
                 {"tls_verify", &info->tls_verify},
                 {"gateway_nrp", &info->reply_prefix_new},
                 {"gateway_iom", &info->interest_only}};
    const struct {
        const char *name;
        int64_t *place;
    } numbers[] = {
        {"proto", &info->proto}, {"max_payload", &info->max_payload}, {"gateway_cmd", &info->cmd}};

    for (size_t i = 0; i < ESI_COUNT_OF(strings); i++) {
        if (strcmp(field->name, strings[i].name) == 0) {
            return read_string(&field->value, owned, strings[i].place);
        }
    }
    for (size_t i = 0; i < ESI_COUNT_OF(bools); i++) {
        if (strcmp(field->name, bools[i].name) == 0) {
            return esi_json_fields_read_bool(&field->value, bools[i].place);
        }
    }
    for (size_t i = 0; i < ESI_COUNT_OF(numbers); i++) {
        if (strcmp(field->name, numbers[i].name) == 0) {
            return esi_json_fields_read_i64(&field->value, numbers[i].place);
        }
    }
    if (strcmp(field->name, "port") == 0) {
        return read_port(&field->value, info);
    }
    return strcmp(field->name, "gateway_urls") == 0 ? read_urls(&field->value, owned, info) : ES_OK;
}

enum es_err esi_info_read_gateway(struct esi_str json, struct esi_gateway_info *info)
{
    struct esi_json_fields walk;
    struct esi_json_field field;
    enum es_err err = esi_json_fields_open(json, &walk);

    if (err != ES_OK) {
        return err;
    }
    struct esi_gateway_info *next = calloc(1, sizeof *next);
    struct owned_strings *owned = calloc(1, sizeof *owned);
    if (next == NULL || owned == NULL) {
        free(next);
        free(owned);
        return ES_NO_MEMORY;
    }
    next->owned = owned;
    while (err == ES_OK && esi_json_fields_next(&walk, &field)) {
        err = read_field(&field, owned, next);
    }
    if (err == ES_OK) {
        err = decode_account(next);
    }
    if (err == ES_OK) {
        *info = *next;
    } else {
        esi_info_gateway_deinit(next);
    }
    free(next);
    return err;
}

void esi_info_gateway_deinit(struct esi_gateway_info *info)
{
    struct owned_strings *owned = info->owned;

    if (owned != NULL) {
        for (size_t i = 0; i < owned->count; i++) {
            free(owned->data[i]);
        }
        free(owned);
    }
    *info = (struct esi_gateway_info){0};
}
