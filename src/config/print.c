/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The effective configuration as YAML: along the schema, so that no key can be forgotten. */
#include "config/print.h"

#include "config/value.h"

#include <string.h>

struct printing {
    struct esi_bytes *out; /* borrowed */
    uint32_t program;      /* SCHEMA_SERVICE or SCHEMA_GATEWAY */
    uint32_t depth;
    size_t name_count;  /* names written so far, comments not counted */
    bool is_item_start; /* the next line follows a list's "- " */
};

static void print_group(struct printing *printing, enum esi_schema_group group, const void *base);

static void indent(struct printing *printing)
{
    if (printing->is_item_start) {
        printing->is_item_start = false;
        return;
    }
    for (uint32_t i = 0; i < printing->depth; i++) {
        esi_bytes_append_text(printing->out, "  ");
    }
}

/* The bytes of a character that YAML takes for a line break or does not take at all, written as
 * \\uXXXX; 0: none stands here. */
static size_t escape_character(const unsigned char *text, struct esi_bytes *out)
{
    const bool is_control = text[0] == 0xC2 && text[1] >= 0x80 && text[1] <= 0x9F;
    const bool is_separator =
        text[0] == 0xE2 && text[1] == 0x80 && (text[2] == 0xA8 || text[2] == 0xA9);
    const bool is_mark = text[0] == 0xEF && ((text[1] == 0xBB && text[2] == 0xBF) ||
                                             (text[1] == 0xBF && text[2] >= 0xBE));

    if (is_control) {
        esi_bytes_printf(out, "\\u%04X", (unsigned)text[1]);
        return 2;
    }
    if (is_separator || is_mark) {
        const unsigned high = (text[0] & 0x0FU) << 12;
        const unsigned middle = (text[1] & 0x3FU) << 6;
        esi_bytes_printf(out, "\\u%04X", high | middle | (text[2] & 0x3FU));
        return 3;
    }
    return 0;
}

/* In double quotes: what stands in them is the same in YAML as in JSON. */
static void print_text(const char *text, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "\"");
    while (*text != '\0') {
        const size_t escaped = escape_character((const unsigned char *)text, out);
        if (escaped > 0) {
            text += escaped;
            continue;
        }
        if (*text == '"' || *text == '\\') {
            esi_bytes_append_text(out, "\\");
        }
        /* "${" would be read as a variable. */
        if (text[0] == '$' && text[1] == '{') {
            esi_bytes_append_text(out, "$");
        }
        esi_bytes_append(out, text, 1);
        text++;
    }
    esi_bytes_append_text(out, "\"");
}

static void print_texts(const struct esi_config_texts *texts, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "[");
    for (size_t i = 0; i < texts->count; i++) {
        esi_bytes_append_text(out, i > 0 ? ", " : "");
        print_text(texts->items[i], out);
    }
    esi_bytes_append_text(out, "]");
}

static void print_address(const char *host, uint16_t port, struct esi_bytes *out)
{
    const bool has_colon = strchr(host, ':') != NULL;

    esi_bytes_printf(out, "%s%s%s:%u", has_colon ? "[" : "", host, has_colon ? "]" : "",
                     (unsigned)port);
}

static void print_urls(const struct esi_config_url *urls, size_t count, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "[");
    for (size_t i = 0; i < count; i++) {
        struct esi_bytes url;

        esi_bytes_init(&url, 0);
        esi_bytes_append_text(&url, "nats://");
        if (urls[i].user != NULL) {
            esi_bytes_printf(&url, "%s:%s@", urls[i].user, ESI_CONFIG_MASK);
        }
        print_address(urls[i].host, urls[i].port, &url);
        esi_bytes_append(&url, "", 1);
        esi_bytes_append_text(out, i > 0 ? ", " : "");
        print_text(url.data != NULL ? url.data : "", out);
        out->failed = out->failed || url.failed;
        esi_bytes_deinit(&url);
    }
    esi_bytes_append_text(out, "]");
}

static void print_choice(const struct esi_schema_row *row, const void *field, struct esi_bytes *out)
{
    unsigned index;
    const char *word = row->words;

    memcpy(&index, field, sizeof index);
    for (unsigned i = 0; i < index; i++) {
        word += strcspn(word, "|") + 1;
    }
    esi_bytes_printf(out, "\"%.*s\"", (int)strcspn(word, "|"), word);
}

static void print_value(const struct esi_schema_row *row, const void *base, struct esi_bytes *out)
{
    const void *field = esi_schema_field_const(row, base);

    switch (row->kind) {
    case KIND_TEXT:
    case KIND_PATH:
    case KIND_NEW_PATH:
    case KIND_HOST:
    case KIND_HOST_PORT:
        print_text(*(char *const *)field, out);
        return;
    case KIND_PORT:
        esi_bytes_printf(out, "%u", (unsigned)*(const uint16_t *)field);
        return;
    case KIND_COUNT:
        esi_bytes_printf(out, "%u", *(const uint32_t *)field);
        return;
    case KIND_SIZE_32:
        esi_value_print_size(*(const uint32_t *)field, out);
        return;
    case KIND_SIZE:
        esi_value_print_size(*(const uint64_t *)field, out);
        return;
    case KIND_DURATION:
        esi_value_print_duration(*(const uint64_t *)field, out);
        return;
    case KIND_FLAG:
        esi_bytes_append_text(out, *(const bool *)field ? "true" : "false");
        return;
    case KIND_CHOICE:
        print_choice(row, field, out);
        return;
    case KIND_TEXTS:
        print_texts(field, out);
        return;
    case KIND_URLS: {
        const struct esi_config_url *const *urls = field;
        print_urls(*urls, *(const size_t *)(const void *)(urls + 1), out);
        return;
    }
    case KIND_HANDLER_ADDRESS: {
        const struct esi_config_handler *handler = base;
        esi_bytes_append_text(out, handler->is_tls ? "\"grpcs://" : "\"grpc://");
        print_address(handler->host, handler->port, out);
        esi_bytes_append_text(out, "\"");
        return;
    }
    case KIND_SECRET:
        print_text(ESI_CONFIG_MASK, out);
        return;
    case KIND_NONE:
        return;
    }
}

/* False for a value that was not given and has no default. */
static bool has_value(const struct esi_schema_row *row, const void *base)
{
    const void *field = esi_schema_field_const(row, base);

    switch ((int)row->kind) {
    case KIND_TEXT:
    case KIND_SECRET:
    case KIND_PATH:
    case KIND_NEW_PATH:
    case KIND_HOST:
    case KIND_HOST_PORT:
    case KIND_HANDLER_ADDRESS:
        return *(char *const *)field != NULL;
    case KIND_TEXTS:
        return ((const struct esi_config_texts *)field)->is_given;
    default:
        return true;
    }
}

/* Second names, whose values stand in the fields of the first ones. */
static bool is_second_name(const struct esi_schema_row *row)
{
    return row->role == ROW_KEY ? row->kind == KIND_PORT && row->defaults[0] == NULL
                                : row->target == GROUP_INTERNAL_MESSAGING ||
                                      row->target == GROUP_INTERNAL_EVENT_SERVICE;
}

/* A comment: what was not given and has no default cannot be written as a value. */
static void print_not_set(struct printing *printing, const struct esi_schema_row *row)
{
    indent(printing);
    esi_bytes_printf(printing->out, "# %s: not set\n", row->name);
}

static void print_name(struct printing *printing, const struct esi_schema_row *row)
{
    indent(printing);
    esi_bytes_printf(printing->out, "%s:", row->name);
    printing->name_count++;
}

static void print_key(struct printing *printing, const struct esi_schema_row *row, const void *base)
{
    if (!has_value(row, base)) {
        print_not_set(printing, row);
        return;
    }
    print_name(printing, row);
    esi_bytes_append_text(printing->out, " ");
    print_value(row, base, printing->out);
    esi_bytes_append_text(printing->out, "\n");
}

static void print_section(struct printing *printing, const struct esi_schema_row *row,
                          const void *base)
{
    if (row->flag_offset != SCHEMA_NO_OFFSET && !*((const bool *)base + row->flag_offset)) {
        print_not_set(printing, row);
        return;
    }
    print_name(printing, row);
    esi_bytes_append_text(printing->out, "\n");
    printing->depth++;
    print_group(printing, row->target, esi_schema_field_const(row, base));
    printing->depth--;
}

static const char *load_items(const struct esi_schema_row *row, const void *base, size_t *count)
{
    const char *items;

    memcpy(&items, esi_schema_field_const(row, base), sizeof items);
    memcpy(count, (const char *)base + row->count_offset, sizeof *count);
    return items;
}

static void print_list(struct printing *printing, const struct esi_schema_row *row,
                       const void *base)
{
    size_t count;
    const char *item = load_items(row, base, &count);

    if (count == 0) {
        print_not_set(printing, row);
        return;
    }
    print_name(printing, row);
    esi_bytes_append_text(printing->out, "\n");
    printing->depth++;
    for (size_t i = 0; i < count; i++, item += esi_schema_group_bytes(row->target)) {
        indent(printing);
        esi_bytes_append_text(printing->out, "- ");
        printing->depth++;
        printing->is_item_start = true;
        print_group(printing, row->target, item);
        printing->depth--;
    }
    printing->depth--;
}

static void print_map(struct printing *printing, const struct esi_schema_row *row, const void *base)
{
    size_t count;
    const char *item = load_items(row, base, &count);
    const struct esi_schema_row *name = esi_schema_find_role(row->target, ROW_NAME);
    const struct esi_schema_row *shorthand = esi_schema_find_role(row->target, ROW_SHORTHAND);
    /* An item that has no keys of its own is its shorthand's value. */
    const bool is_short = shorthand != NULL && esi_schema_find_role(row->target, ROW_KEY) == NULL;

    print_name(printing, row);
    esi_bytes_append_text(printing->out, count == 0 ? " {}\n" : "\n");
    printing->depth++;
    for (size_t i = 0; i < count; i++, item += esi_schema_group_bytes(row->target)) {
        indent(printing);
        print_text(*(char *const *)esi_schema_field_const(name, item), printing->out);
        if (is_short) {
            esi_bytes_append_text(printing->out, ": ");
            print_value(shorthand, item, printing->out);
            esi_bytes_append_text(printing->out, "\n");
            continue;
        }
        esi_bytes_append_text(printing->out, ":\n");
        printing->depth++;
        print_group(printing, row->target, item);
        printing->depth--;
    }
    printing->depth--;
}

static void print_group(struct printing *printing, enum esi_schema_group group, const void *base)
{
    const size_t names_before = printing->name_count;

    for (const struct esi_schema_row *row = esi_schema_next(group, NULL); row != NULL;
         row = esi_schema_next(group, row)) {
        if ((row->programs & printing->program) == 0 || is_second_name(row)) {
            continue;
        }
        switch (row->role) {
        case ROW_KEY:
            print_key(printing, row, base);
            break;
        case ROW_SECTION:
            print_section(printing, row, base);
            break;
        case ROW_LIST:
            print_list(printing, row, base);
            break;
        case ROW_MAP:
            print_map(printing, row, base);
            break;
        case ROW_ALIAS:
        case ROW_LATER:
        case ROW_NAME:
        case ROW_SHORTHAND:
            break;
        }
    }
    /* Comments alone are no map, but a value that is missing. */
    if (printing->name_count == names_before) {
        indent(printing);
        esi_bytes_append_text(printing->out, "{}\n");
    }
}

void esi_print_write(const struct esi_draft *draft, struct esi_bytes *out)
{
    struct printing printing = {
        .out = out,
        .program = draft->config.program == CONFIG_EVENT_SERVICE ? SCHEMA_SERVICE : SCHEMA_GATEWAY};

    print_group(&printing, GROUP_ROOT, draft);
}
