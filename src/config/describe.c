/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls follow the schema, never an input: their depth is that of the table. */
#include "config/describe.h"

#include "base/json_writer.h"
#include "base/own.h"
#include "config/schema.h"
#include "config/set.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256 };

struct description {
    struct esi_bytes *out;           /* borrowed */
    enum esi_config_program program; /* whose keys */
};

/* For people. */

/* What the row allows, as in messages. */
static void write_allowed(const struct esi_schema_row *row, struct esi_bytes *out)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_set_describe(row, &text);
    out->failed = out->failed || text.failed;
    /* In a message the examples stand between commas. */
    const bool has_comma = text.len > 0 && text.data[text.len - 1] == ',';
    esi_bytes_append(out, text.data, has_comma ? text.len - 1 : text.len);
    esi_bytes_deinit(&text);
}

static void write_key(const struct description *self, const char *path,
                      const struct esi_schema_row *row)
{
    const char *value = row->defaults[self->program];
    char from_file[PATH_BYTES];

    esi_bytes_printf(self->out, "%s%s%s\n    %s\n    ", path, value != NULL ? ": " : "",
                     value != NULL ? value : "", row->description);
    write_allowed(row, self->out);
    snprintf(from_file, sizeof from_file, "%.64s_file", row->name);
    /* auth.token_file is a key of its own, and no file that holds auth.token. */
    if (row->kind == KIND_SECRET && esi_schema_find(row->group, from_file) == NULL) {
        esi_bytes_printf(self->out, "; or %s: the path of a file that holds it", from_file);
    }
    esi_bytes_append_text(self->out, "\n");
}

static void write_group(const struct description *self, enum esi_schema_group group,
                        const char *prefix)
{
    const uint32_t program =
        self->program == CONFIG_EVENT_SERVICE ? SCHEMA_SERVICE : SCHEMA_GATEWAY;
    char path[PATH_BYTES];

    for (const struct esi_schema_row *row = esi_schema_next(group, NULL); row != NULL;
         row = esi_schema_next(group, row)) {
        if ((row->programs & program) == 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                 row->name != NULL ? row->name : "");
        const size_t len = strlen(path);
        switch (row->role) {
        case ROW_KEY:
            write_key(self, path, row);
            break;
        case ROW_SHORTHAND:
            esi_bytes_printf(self->out, "%s\n    %s; ", prefix, row->description);
            write_allowed(row, self->out);
            esi_bytes_append_text(self->out, "\n");
            break;
        case ROW_SECTION:
        case ROW_LIST:
        case ROW_MAP:
            snprintf(path + len, sizeof path - len, "%s",
                     row->role == ROW_LIST  ? "[]"
                     : row->role == ROW_MAP ? ".NAME"
                                            : "");
            write_group(self, row->target, path);
            break;
        case ROW_NAME:
        case ROW_ALIAS:
        case ROW_LATER:
            break;
        }
    }
}

void esi_describe_keys(enum esi_config_program program, struct esi_bytes *out)
{
    const struct description self = {.out = out, .program = program};

    write_group(&self, GROUP_ROOT, "");
}

/* For the generator. */

static const char *role_name(enum esi_schema_role role)
{
    static const char *const names[] = {
        [ROW_KEY] = "key",   [ROW_SECTION] = "section", [ROW_LIST] = "list",
        [ROW_MAP] = "map",   [ROW_ALIAS] = "alias",     [ROW_SHORTHAND] = "shorthand",
        [ROW_NAME] = "name", [ROW_LATER] = "later",
    };

    return names[role];
}

static const char *kind_name(enum esi_schema_kind kind)
{
    static const char *const names[] = {
        [KIND_NONE] = "none",
        [KIND_TEXT] = "text",
        [KIND_SECRET] = "secret",
        [KIND_PATH] = "path",
        [KIND_NEW_PATH] = "new_path",
        [KIND_HOST] = "host",
        [KIND_HOST_PORT] = "host_port",
        [KIND_PORT] = "port",
        [KIND_COUNT] = "count",
        [KIND_SIZE] = "size",
        [KIND_SIZE_32] = "size",
        [KIND_DURATION] = "duration",
        [KIND_FLAG] = "flag",
        [KIND_CHOICE] = "choice",
        [KIND_TEXTS] = "texts",
        [KIND_URLS] = "urls",
        [KIND_HANDLER_ADDRESS] = "handler_address",
    };

    return names[kind];
}

static void write_text(struct esi_json_writer *json, const char *key, const char *text)
{
    if (text != NULL) {
        esi_json_writer_field_text(json, key, text);
    }
}

static void write_value(struct esi_json_writer *json, const struct esi_schema_row *row)
{
    struct esi_bytes allowed;

    esi_json_writer_field_text(json, "kind", kind_name(row->kind));
    esi_json_writer_field_u64(json, "least", row->least);
    esi_json_writer_field_u64(json, "most", row->most);
    esi_bytes_init(&allowed, 0);
    write_allowed(row, &allowed);
    esi_json_writer_field_str(json, "allowed", esi_bytes_str(&allowed));
    json->out->failed = json->out->failed || allowed.failed;
    esi_bytes_deinit(&allowed);
    write_text(json, "default_event_service", row->defaults[CONFIG_EVENT_SERVICE]);
    write_text(json, "default_event_gateway", row->defaults[CONFIG_EVENT_GATEWAY]);
}

static void write_row(struct esi_json_writer *json, const struct esi_schema_row *row)
{
    esi_json_writer_object_start(json);
    esi_json_writer_field_text(json, "role", role_name(row->role));
    write_text(json, "name", row->name);
    write_text(json, "description", row->description);
    write_text(json, "words", row->words);
    esi_json_writer_field_bool(json, "event_service", (row->programs & SCHEMA_SERVICE) != 0);
    esi_json_writer_field_bool(json, "event_gateway", (row->programs & SCHEMA_GATEWAY) != 0);
    if (row->role == ROW_SECTION || row->role == ROW_LIST || row->role == ROW_MAP) {
        esi_json_writer_field_text(json, "target", esi_schema_group_name(row->target));
    }
    if (row->kind != KIND_NONE) {
        write_value(json, row);
    }
    esi_json_writer_object_end(json);
}

void esi_describe_json(struct esi_bytes *out)
{
    struct esi_json_writer json;

    esi_json_writer_init(&json, out, true);
    esi_json_writer_object_start(&json);
    for (unsigned group = GROUP_ROOT; group < GROUP_COUNT; group++) {
        esi_json_writer_key(&json, esi_schema_group_name((enum esi_schema_group)group));
        esi_json_writer_array_start(&json);
        for (const struct esi_schema_row *row = esi_schema_next((enum esi_schema_group)group, NULL);
             row != NULL; row = esi_schema_next((enum esi_schema_group)group, row)) {
            write_row(&json, row);
        }
        esi_json_writer_array_end(&json);
    }
    esi_json_writer_object_end(&json);
    esi_bytes_append_text(out, "\n");
}
