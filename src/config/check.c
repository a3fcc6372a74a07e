/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions here call each other along the schema, never along the input: the depth of the calls is
 * that of the table in schema.def, whatever the file holds.
 */
#include "config/check.h"

#include "base/assert.h"
#include "config/set.h"
#include "config/value.h"
#include "env/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_PATH_BYTES = 512,
    FILE_PATH_BYTES = 4096,
    SECRET_BYTES_MAX = 65536,
    CHECKED_FILE_BYTES_MAX = 4 << 20,
    VALUE_BYTES_MAX = 65536,
    ITEMS_MAX = 10000
};

/* Where a file's name ends in "_file": the key before it may be read from there. */
static const char file_suffix[] = "_file";

struct walk {
    const struct esi_check_options *options; /* borrowed */
    struct esi_report *report;               /* borrowed */
    char key[KEY_PATH_BYTES];                /* where we are: "gateway.remotes[0].urls" */
    size_t key_len;
    struct esi_bytes value; /* a value's text with its variables replaced; may hold a secret */
    bool has_masked_secret;
};

static void check_group(struct walk *walk, enum esi_schema_group group, void *base,
                        const struct esi_node *node);

/* The path of keys. */

/* len: what snprintf says it wrote behind the old end; a path too long for the buffer is cut. */
static size_t grow_key(struct walk *walk, int len)
{
    const size_t before = walk->key_len;
    const size_t room = sizeof walk->key - before;

    ESI_ASSERT(len >= 0);
    walk->key_len = (size_t)len >= room ? sizeof walk->key - 1 : before + (size_t)len;
    return before;
}

static size_t push_name(struct walk *walk, const char *name)
{
    return grow_key(walk, snprintf(walk->key + walk->key_len, sizeof walk->key - walk->key_len,
                                   "%s%.64s", walk->key_len == 0 ? "" : ".", name));
}

static size_t push_index(struct walk *walk, size_t index)
{
    return grow_key(walk, snprintf(walk->key + walk->key_len, sizeof walk->key - walk->key_len,
                                   "[%zu]", index));
}

static void pop_key(struct walk *walk, size_t before)
{
    walk->key_len = before;
    walk->key[before] = '\0';
}

static void report_no_memory(struct walk *walk)
{
    walk->report->is_out_of_memory = true;
}

/* "X was found, Y is allowed". */
static void refuse_value(struct walk *walk, const struct esi_schema_row *row,
                         const struct esi_node *node)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 1024);
    if (node->kind != NODE_SCALAR) {
        esi_bytes_append_text(&text, esi_node_kind_text(node));
    } else if (node->text[0] == '\0') {
        esi_bytes_append_text(&text, "nothing");
    } else if (row->kind == KIND_SECRET || row->kind == KIND_URLS) {
        /* May hold a password. */
        esi_bytes_append_text(&text, "a text that does not fit");
    } else {
        /* As it stands in the file: what a variable holds may be a secret. */
        esi_report_quote(node->text, &text);
    }
    esi_bytes_append_text(&text, " was found, ");
    esi_set_describe(row, &text);
    esi_bytes_append_text(&text, " is allowed");
    esi_report_add(walk->report, node->at, walk->key, "%.*s", ESI_STR_ARG(esi_bytes_str(&text)));
    esi_bytes_deinit(&text);
}

/* Values. */

/* The text of a scalar with variables replaced, in walk->value; NULL: reported. */
static const char *expand_value(struct walk *walk, const struct esi_node *node)
{
    struct esi_str name;

    esi_bytes_clear(&walk->value);
    const enum es_err err = esi_value_expand(node->text, &walk->value, &name);
    switch ((int)err) {
    case ES_OK:
        esi_bytes_append(&walk->value, "", 1);
        if (!walk->value.failed) {
            return walk->value.data;
        }
        esi_report_add(walk->report, node->at, walk->key, "the value is too long");
        return NULL;
    case ES_NOT_FOUND:
        esi_report_add(walk->report, node->at, walk->key,
                       "the environment variable %.*s is not set", ESI_STR_ARG(name));
        return NULL;
    case ES_INVALID:
        esi_report_add(walk->report, node->at, walk->key,
                       "${ must be followed by a variable's name and }; write $${ for ${ itself");
        return NULL;
    default:
        esi_report_add(walk->report, node->at, walk->key, "the value is too long");
        return NULL;
    }
}

/* A file's path, seen from the folder of the configuration; false: too long. */
static bool resolve_path(const struct walk *walk, const char *path, char *out, size_t capacity)
{
    const struct esi_str folder = walk->options->folder;
    const int len = path[0] == '/' ? snprintf(out, capacity, "%s", path)
                                   : snprintf(out, capacity, "%.*s%s", ESI_STR_ARG(folder), path);

    return len >= 0 && (size_t)len < capacity;
}

/* The file must be there and readable; what it holds is looked at by those who use it. */
static void check_readable(struct walk *walk, const struct esi_node *node, const char *path)
{
    struct esi_bytes content;

    esi_bytes_init(&content, 0);
    const enum es_err err =
        esi_env_file_read(walk->options->env, path, CHECKED_FILE_BYTES_MAX, &content);
    if (err != ES_OK) {
        esi_report_add(walk->report, node->at, walk->key, "the file %s cannot be read: %s", path,
                       es_err_text(err));
    } else if (content.len == 0) {
        esi_report_add(walk->report, node->at, walk->key, "the file %s is empty", path);
    }
    esi_bytes_wipe(&content);
}

/* The file may come later; the folder that it will stand in must be there. */
static void check_folder(struct walk *walk, const struct esi_node *node, const char *path)
{
    char folder[FILE_PATH_BYTES];
    struct esi_file_info info;
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path) {
        return;
    }
    /* With the slash at its end: a file of that name is then not found. */
    const int len = (int)(slash - path);
    snprintf(folder, sizeof folder, "%.*s", len + 1, path);
    const enum es_err err = esi_env_file_info(walk->options->env, folder, &info);
    if (err != ES_OK) {
        esi_report_add(walk->report, node->at, walk->key, "the folder %.*s cannot be used: %s", len,
                       folder, es_err_text(err));
    }
}

static enum es_err set_path(struct walk *walk, const struct esi_schema_row *row, void *base,
                            const struct esi_node *node, const char *text)
{
    char path[FILE_PATH_BYTES];

    if (!resolve_path(walk, text, path, sizeof path)) {
        return ES_TOO_LARGE;
    }
    const enum es_err err = esi_set_text(row, base, path);
    if (err != ES_OK || walk->options->without_files) {
        return err;
    }
    if (row->kind == KIND_PATH) {
        check_readable(walk, node, path);
    } else {
        check_folder(walk, node, path);
    }
    return ES_OK;
}

/* True for what stands in place of a secret in a printed configuration. */
static bool is_masked(const struct esi_schema_row *row, const char *text)
{
    return row->kind == KIND_SECRET
               ? strcmp(text, ESI_CONFIG_MASK) == 0
               : row->kind == KIND_URLS && strstr(text, ":" ESI_CONFIG_MASK "@") != NULL;
}

/* One scalar into its field. */
static void set_scalar(struct walk *walk, const struct esi_schema_row *row, void *base,
                       const struct esi_node *node)
{
    enum es_err err = ES_INVALID;

    if (node->kind != NODE_SCALAR) {
        refuse_value(walk, row, node);
        return;
    }
    const bool is_null =
        !node->is_quoted &&
        (node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
    const char *text = is_null ? NULL : expand_value(walk, node);
    if (text == NULL && !is_null) {
        return;
    }
    if (text != NULL && text[0] != '\0') {
        walk->has_masked_secret = walk->has_masked_secret || is_masked(row, text);
        err = row->kind == KIND_PATH || row->kind == KIND_NEW_PATH
                  ? set_path(walk, row, base, node, text)
                  : esi_set_text(row, base, text);
    }
    if (err == ES_UNSUPPORTED) {
        esi_report_add(walk->report, node->at, walk->key,
                       "\"%.48s\" is not yet built in this version", node->text);
    } else if (err == ES_NO_MEMORY) {
        report_no_memory(walk);
    } else if (err != ES_OK) {
        refuse_value(walk, row, node);
    }
}

/* A list of scalars, or one scalar that stands for a list of one. */
static void set_list(struct walk *walk, const struct esi_schema_row *row, void *base,
                     const struct esi_node *node)
{
    size_t index = 0;

    esi_set_empty_list(row, base);
    if (node->kind != NODE_LIST) {
        set_scalar(walk, row, base, node);
        return;
    }
    for (const struct esi_node *item = node->first; item != NULL; item = item->next) {
        const size_t before = push_index(walk, index++);
        set_scalar(walk, row, base, item);
        pop_key(walk, before);
    }
}

static void set_value(struct walk *walk, const struct esi_schema_row *row, void *base,
                      const struct esi_node *node)
{
    if (row->kind == KIND_TEXTS || row->kind == KIND_URLS) {
        set_list(walk, row, base, node);
    } else {
        set_scalar(walk, row, base, node);
    }
}

/* A secret from the file that KEY_file names: its content without the last line end. */
static void set_secret_from_file(struct walk *walk, const struct esi_schema_row *row, void *base,
                                 const struct esi_node *node)
{
    char path[FILE_PATH_BYTES];
    struct esi_bytes content;
    enum es_err err;

    const bool is_scalar = node->kind == NODE_SCALAR && node->text[0] != '\0';
    const char *text = is_scalar ? expand_value(walk, node) : "";
    if (text == NULL) {
        return;
    }
    if (text[0] == '\0' || !resolve_path(walk, text, path, sizeof path)) {
        esi_report_add(walk->report, node->at, walk->key, "the path of a file is allowed");
        return;
    }
    esi_bytes_init(&content, 0);
    if (walk->options->without_files) {
        esi_bytes_append_text(&content, "not-read");
        err = ES_OK;
    } else {
        err = esi_env_file_read(walk->options->env, path, SECRET_BYTES_MAX, &content);
    }
    if (err != ES_OK) {
        esi_report_add(walk->report, node->at, walk->key, "the file %s cannot be read: %s", path,
                       es_err_text(err));
        esi_bytes_wipe(&content);
        return;
    }
    if (content.len > 0 && content.data[content.len - 1] == '\n') {
        content.len--;
    }
    if (content.len > 0 && content.data[content.len - 1] == '\r') {
        content.len--;
    }
    const bool has_nul = content.len > 0 && memchr(content.data, '\0', content.len) != NULL;
    esi_bytes_append(&content, "", 1);
    err = content.failed ? ES_NO_MEMORY
          : has_nul      ? ES_INVALID
                         : esi_set_text(row, base, content.data);
    if (err == ES_NO_MEMORY) {
        report_no_memory(walk);
    } else if (err != ES_OK) {
        esi_report_add(walk->report, node->at, walk->key,
                       "the file %s must hold one line of %llu to %llu printable characters", path,
                       (unsigned long long)row->least, (unsigned long long)row->most);
    }
    esi_bytes_wipe(&content);
}

/* Keys. */

/* The secret that "NAME_file" is about, or NULL. */
static const struct esi_schema_row *find_secret(enum esi_schema_group group, const char *name)
{
    char first[64];
    const size_t len = strlen(name);
    const size_t suffix_len = sizeof file_suffix - 1;

    if (len <= suffix_len || len - suffix_len >= sizeof first ||
        strcmp(name + len - suffix_len, file_suffix) != 0) {
        return NULL;
    }
    snprintf(first, sizeof first, "%.*s", (int)(len - suffix_len), name);
    const struct esi_schema_row *row = esi_schema_find(group, first);
    return row != NULL && row->role == ROW_KEY && row->kind == KIND_SECRET ? row : NULL;
}

static void refuse_unknown(struct walk *walk, enum esi_schema_group group,
                           const struct esi_node *node)
{
    const char *nearest = esi_schema_nearest(group, node->key);

    if (nearest != NULL) {
        esi_report_add(walk->report, node->key_at, walk->key, "unknown key; did you mean %s?",
                       nearest);
    } else {
        esi_report_add(walk->report, node->key_at, walk->key, "unknown key");
    }
}

/* Room for one more item at the end of a list's array, zeroed and with its defaults; NULL:
 * reported. */
static void *append_item(struct walk *walk, const struct esi_schema_row *row, void *base);

static void check_list(struct walk *walk, const struct esi_schema_row *row, void *base,
                       const struct esi_node *node)
{
    size_t index = 0;

    if (node->kind != NODE_LIST) {
        esi_report_add(walk->report, node->at, walk->key, "%s was found, a list of maps is allowed",
                       esi_node_kind_text(node));
        return;
    }
    for (const struct esi_node *child = node->first; child != NULL; child = child->next) {
        const size_t before = push_index(walk, index++);
        void *item = append_item(walk, row, base);
        if (item != NULL) {
            check_group(walk, row->target, item, child);
        }
        pop_key(walk, before);
    }
}

static void check_map(struct walk *walk, const struct esi_schema_row *row, void *base,
                      const struct esi_node *node)
{
    const struct esi_schema_row *name_row = esi_schema_find_role(row->target, ROW_NAME);

    ESI_ASSERT(name_row != NULL);
    if (node->kind != NODE_MAP) {
        esi_report_add(walk->report, node->at, walk->key, "%s was found, a map is allowed",
                       esi_node_kind_text(node));
        return;
    }
    for (const struct esi_node *child = node->first; child != NULL; child = child->next) {
        const size_t before = push_name(walk, child->key);
        void *item = append_item(walk, row, base);
        if (item != NULL) {
            const enum es_err err = esi_set_text(name_row, item, child->key);
            if (err == ES_NO_MEMORY) {
                report_no_memory(walk);
            } else if (err != ES_OK) {
                esi_report_add(walk->report, child->key_at, walk->key,
                               "a name of 1 to 128 printable characters is allowed");
            }
            check_group(walk, row->target, item, child);
        }
        pop_key(walk, before);
    }
}

static void check_row(struct walk *walk, const struct esi_schema_row *row, void *base,
                      const struct esi_node *node)
{
    switch (row->role) {
    case ROW_KEY:
        set_value(walk, row, base, node);
        return;
    case ROW_SECTION:
        if (row->flag_offset != SCHEMA_NO_OFFSET) {
            *((bool *)base + row->flag_offset) = true;
        }
        check_group(walk, row->target, esi_schema_field(row, base), node);
        return;
    case ROW_LIST:
        check_list(walk, row, base, node);
        return;
    case ROW_MAP:
        check_map(walk, row, base, node);
        return;
    case ROW_LATER:
        esi_report_add(walk->report, node->key_at, walk->key, "not yet built in this version");
        return;
    case ROW_ALIAS:
    case ROW_SHORTHAND:
    case ROW_NAME:
        break;
    }
    ESI_ASSERT(row->role != ROW_ALIAS);
}

/* One entry of a map that follows a group of the schema. */
static void check_entry(struct walk *walk, enum esi_schema_group group, void *base,
                        const struct esi_node *map, const struct esi_node *node)
{
    const struct esi_schema_row *row = esi_schema_find(group, node->key);

    if (row == NULL) {
        row = find_secret(group, node->key);
        if (row == NULL) {
            refuse_unknown(walk, group, node);
        } else if (esi_node_find(map, esi_str_from(row->name)) != NULL) {
            esi_report_add(walk->report, node->key_at, walk->key,
                           "%s is given too; one of both is allowed", row->name);
        } else {
            set_secret_from_file(walk, row, base, node);
        }
        return;
    }
    if (row->role == ROW_ALIAS) {
        if (esi_node_find(map, esi_str_from(row->words)) != NULL) {
            esi_report_add(walk->report, node->key_at, walk->key,
                           "this is a second name of %s, which is given too", row->words);
            return;
        }
        row = esi_schema_find(group, row->words);
        ESI_ASSERT(row != NULL);
    }
    const uint32_t program =
        walk->options->program == CONFIG_EVENT_SERVICE ? SCHEMA_SERVICE : SCHEMA_GATEWAY;
    if ((row->programs & program) == 0) {
        esi_report_add(walk->report, node->key_at, walk->key, "only %s has this key",
                       program == SCHEMA_SERVICE ? "event-gateway" : "event-service");
        return;
    }
    check_row(walk, row, base, node);
}

static void check_group(struct walk *walk, enum esi_schema_group group, void *base,
                        const struct esi_node *node)
{
    const struct esi_schema_row *shorthand = esi_schema_find_role(group, ROW_SHORTHAND);

    if (node->kind != NODE_MAP && shorthand != NULL) {
        set_value(walk, shorthand, base, node);
        return;
    }
    if (node->kind == NODE_SCALAR && !node->is_quoted && node->text[0] == '\0') {
        return; /* "section:" with everything below it commented out */
    }
    if (node->kind != NODE_MAP) {
        esi_report_add(walk->report, node->at, walk->key, "%s was found, a map is allowed",
                       esi_node_kind_text(node));
        return;
    }
    for (const struct esi_node *child = node->first; child != NULL; child = child->next) {
        const size_t before = push_name(walk, child->key);
        check_entry(walk, group, base, node, child);
        pop_key(walk, before);
    }
}

/* Defaults and freeing. */

static enum es_err set_group_defaults(enum esi_schema_group group, void *base,
                                      enum esi_config_program program)
{
    enum es_err err = ES_OK;

    for (const struct esi_schema_row *row = esi_schema_next(group, NULL);
         row != NULL && err == ES_OK; row = esi_schema_next(group, row)) {
        if (row->role == ROW_KEY && row->defaults[program] != NULL) {
            err = esi_set_text(row, base, row->defaults[program]);
            /* Anything else would be a default that its own row does not allow. */
            ESI_ASSERT(err == ES_OK || err == ES_NO_MEMORY);
        } else if (row->role == ROW_SECTION) {
            err = set_group_defaults(row->target, esi_schema_field(row, base), program);
        }
    }
    return err;
}

enum es_err esi_check_set_defaults(struct esi_draft *draft, enum esi_config_program program)
{
    draft->config.program = program;
    return set_group_defaults(GROUP_ROOT, draft, program);
}

/* The arrays have one type each; their pointers are moved as bytes, which is what all of them are
 * alike. */
static char *load_items(const struct esi_schema_row *row, void *base)
{
    char *items;

    memcpy(&items, esi_schema_field(row, base), sizeof items);
    return items;
}

static void store_items(const struct esi_schema_row *row, void *base, char *items)
{
    memcpy(esi_schema_field(row, base), &items, sizeof items);
}

static size_t *item_count(const struct esi_schema_row *row, void *base)
{
    return (size_t *)(void *)((char *)base + row->count_offset);
}

static void *append_item(struct walk *walk, const struct esi_schema_row *row, void *base)
{
    size_t *count = item_count(row, base);
    const size_t item_bytes = esi_schema_group_bytes(row->target);

    char *items =
        *count < ITEMS_MAX ? reallocarray(load_items(row, base), *count + 1, item_bytes) : NULL;
    if (items == NULL) {
        report_no_memory(walk);
        return NULL;
    }
    store_items(row, base, items);
    char *item = items + *count * item_bytes;
    memset(item, 0, item_bytes);
    (*count)++;
    if (set_group_defaults(row->target, item, walk->options->program) != ES_OK) {
        report_no_memory(walk);
    }
    return item;
}

static void free_items(const struct esi_schema_row *row, void *base)
{
    size_t *count = item_count(row, base);
    const size_t item_bytes = esi_schema_group_bytes(row->target);
    char *items = load_items(row, base);

    for (size_t i = 0; i < *count; i++) {
        esi_check_free_fields(row->target, items + i * item_bytes);
    }
    free(items);
    store_items(row, base, NULL);
    *count = 0;
}

void esi_check_free_fields(enum esi_schema_group group, void *base)
{
    for (const struct esi_schema_row *row = esi_schema_next(group, NULL); row != NULL;
         row = esi_schema_next(group, row)) {
        switch (row->role) {
        case ROW_KEY:
        case ROW_NAME:
        case ROW_SHORTHAND:
            esi_set_clear(row, base);
            break;
        case ROW_SECTION:
            esi_check_free_fields(row->target, esi_schema_field(row, base));
            break;
        case ROW_LIST:
        case ROW_MAP:
            free_items(row, base);
            break;
        case ROW_ALIAS:
        case ROW_LATER:
            break;
        }
    }
}

void esi_check_fill(const struct esi_check_options *options, const struct esi_node *root,
                    struct esi_draft *draft, struct esi_report *report)
{
    struct walk walk = {.options = options, .report = report};

    esi_bytes_init(&walk.value, VALUE_BYTES_MAX);
    /* All at once: a buffer that grows would leave copies of secrets behind. */
    if (esi_bytes_reserve(&walk.value, VALUE_BYTES_MAX) == NULL) {
        report->is_out_of_memory = true;
        return;
    }
    check_group(&walk, GROUP_ROOT, draft, root);
    draft->config.has_masked_secret = walk.has_masked_secret;
    esi_bytes_wipe(&walk.value);
}
