/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One table of fields serves reading, freeing and wiping. A CONNECT is read into a copy, which
 * takes the place of the original when all of it was right. */
#include "proto/connect.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/json_writer.h"
#include "base/own.h"
#include "proto/json_fields.h"

#include <stdlib.h>
#include <string.h>

enum field_type { FIELD_BOOL, FIELD_I64, FIELD_STR };

struct field {
    const char *name;
    size_t offset; /* in struct esi_connect */
    enum field_type type;
    bool gateway_only;
};

#define FIELD(n, t)                                                                                \
    {                                                                                              \
        .name = #n, .offset = offsetof(struct esi_connect, n), .type = (t)                         \
    }
#define GATEWAY_FIELD(n, t)                                                                        \
    {                                                                                              \
        .name = #n, .offset = offsetof(struct esi_connect, n), .type = (t), .gateway_only = true   \
    }

/* Strings first: their index is their bit in a set of owned ones. */
static const struct field fields[] = {
    FIELD(user, FIELD_STR),
    FIELD(pass, FIELD_STR),
    FIELD(auth_token, FIELD_STR),
    FIELD(nkey, FIELD_STR),
    FIELD(sig, FIELD_STR),
    FIELD(jwt, FIELD_STR),
    FIELD(name, FIELD_STR),
    FIELD(lang, FIELD_STR),
    FIELD(version, FIELD_STR),
    FIELD(account, FIELD_STR),
    FIELD(remote_account, FIELD_STR),
    GATEWAY_FIELD(cluster, FIELD_STR),
    GATEWAY_FIELD(gateway, FIELD_STR),
    FIELD(protocol, FIELD_I64),
    FIELD(verbose, FIELD_BOOL),
    FIELD(pedantic, FIELD_BOOL),
    FIELD(echo, FIELD_BOOL),
    FIELD(tls_required, FIELD_BOOL),
    FIELD(headers, FIELD_BOOL),
    FIELD(no_responders, FIELD_BOOL),
    FIELD(new_account, FIELD_BOOL),
};

static void *field_at(struct esi_connect *connect, const struct field *field)
{
    return (char *)connect + field->offset;
}

/* Wiped whatever it held: which strings are secret is not worth a mistake. */
static void free_string(struct esi_str *string)
{
    if (string->len > 0) {
        char *data = (char *)(uintptr_t)string->data;
        esi_crypto_wipe(data, string->len);
        free(data);
    }
    *string = ESI_STR("");
}

void esi_connect_init(struct esi_connect *connect)
{
    *connect = (struct esi_connect){.verbose = true, .pedantic = true, .echo = true};
    for (size_t i = 0; i < ESI_COUNT_OF(fields); i++) {
        if (fields[i].type == FIELD_STR) {
            *(struct esi_str *)field_at(connect, &fields[i]) = ESI_STR("");
        }
    }
}

void esi_connect_deinit(struct esi_connect *connect)
{
    for (size_t i = 0; i < ESI_COUNT_OF(fields); i++) {
        if (fields[i].type == FIELD_STR) {
            free_string(field_at(connect, &fields[i]));
        }
    }
    esi_connect_init(connect);
}

/* An empty string is the static one, so that "owned" is "longer than 0". */
static enum es_err read_string(const struct esi_json_value *value, struct esi_str *out)
{
    struct esi_str text = {0};
    const enum es_err err = esi_json_fields_read_str(value, &text);

    if (err != ES_OK || text.data == NULL) {
        return err;
    }
    free_string(out);
    if (text.len == 0) {
        free((char *)(uintptr_t)text.data);
    } else {
        *out = text;
    }
    return ES_OK;
}

/* Reads one field into next; strings that next shares with the original are replaced, not freed. */
static enum es_err read_field(const struct field *field, size_t index,
                              const struct esi_json_value *value, struct esi_connect *next,
                              uint32_t *replaced)
{
    void *place = field_at(next, field);

    switch (field->type) {
    case FIELD_BOOL:
        return esi_json_fields_read_bool(value, place);
    case FIELD_I64:
        return esi_json_fields_read_i64(value, place);
    case FIELD_STR:
        break;
    }
    if (value->type == JSON_FIELD_STRING && (*replaced & (1U << index)) == 0) {
        *replaced |= 1U << index;
        *(struct esi_str *)place = ESI_STR("");
    }
    return read_string(value, place);
}

static enum es_err read_fields(struct esi_json_fields *walk, enum esi_connect_kind kind,
                               struct esi_connect *next, uint32_t *replaced)
{
    struct esi_json_field found;

    while (esi_json_fields_next(walk, &found)) {
        for (size_t i = 0; i < ESI_COUNT_OF(fields); i++) {
            if ((fields[i].gateway_only && kind != CONNECT_GATEWAY) ||
                fields[i].name[0] != found.name[0] || strcmp(fields[i].name, found.name) != 0) {
                continue;
            }
            const enum es_err err = read_field(&fields[i], i, &found.value, next, replaced);
            if (err != ES_OK) {
                return err;
            }
        }
    }
    return ES_OK;
}

enum es_err esi_connect_read(struct esi_str json, enum esi_connect_kind kind,
                             struct esi_connect *connect)
{
    struct esi_connect next = *connect;
    struct esi_json_fields walk;
    uint32_t replaced = 0;

    _Static_assert(ESI_COUNT_OF(fields) <= 32, "one bit a field");
    enum es_err err = esi_json_fields_open(json, &walk);
    if (err == ES_OK) {
        err = read_fields(&walk, kind, &next, &replaced);
    }
    /* The strings that lost: the former ones after success, the new ones after a failure. */
    struct esi_connect *loser = err == ES_OK ? connect : &next;
    for (size_t i = 0; i < ESI_COUNT_OF(fields); i++) {
        if ((replaced & (1U << i)) != 0) {
            free_string(field_at(loser, &fields[i]));
        }
    }
    if (err == ES_OK) {
        *connect = next;
    }
    return err;
}

void esi_connect_write_gateway(struct esi_bytes *out, const struct esi_connect *connect)
{
    struct esi_json_writer json;

    esi_bytes_append_text(out, "CONNECT ");
    esi_json_writer_init(&json, out, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_bool(&json, "echo", false);
    esi_json_writer_field_bool(&json, "verbose", false);
    esi_json_writer_field_bool(&json, "pedantic", false);
    if (connect->user.len > 0) {
        esi_json_writer_field_str(&json, "user", connect->user);
    }
    if (connect->pass.len > 0) {
        esi_json_writer_field_str(&json, "pass", connect->pass);
    }
    esi_json_writer_field_bool(&json, "tls_required", connect->tls_required);
    esi_json_writer_field_bool(&json, "headers", false);
    esi_json_writer_field_str(&json, "name", connect->name);
    esi_json_writer_field_text(&json, "cluster", "");
    esi_json_writer_field_str(&json, "gateway", connect->gateway);
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(out, "\r\n");
}
