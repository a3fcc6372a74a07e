/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines go to the caller's buffer as they come. What stands in the file is quoted: shortened,
 * without control bytes. */
#include "config/report.h"

#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024, QUOTED_CHARS_MAX = 48 };

void esi_report_init(struct esi_report *report, const char *file, struct esi_bytes *out)
{
    *report = (struct esi_report){.file = file, .out = out};
}

static void add_line(struct esi_report *report, struct esi_position at, const char *key,
                     const char *message)
{
    report->count++;
    if (report->count > REPORT_LINES_MAX) {
        return;
    }
    esi_bytes_printf(report->out, "%s:%u:%u: ", report->file, at.line, at.column);
    if (key != NULL && key[0] != '\0') {
        esi_bytes_printf(report->out, "%s: ", key);
    }
    esi_bytes_printf(report->out, "%s\n", message);
}

void esi_report_add(struct esi_report *report, struct esi_position at, const char *key,
                    const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    add_line(report, at, key, message);
}

void esi_report_add_key(struct esi_report *report, const char *key, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list arguments;
    bool is_exact = false;
    struct esi_position at = {.line = 1, .column = 1};

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (report->root != NULL) {
        const struct esi_node *node = esi_node_at(report->root, key, &is_exact);
        at = is_exact && node->kind == NODE_SCALAR ? node->at : node->key_at;
    }
    add_line(report, at, key, message);
}

void esi_report_finish(struct esi_report *report)
{
    if (report->count > REPORT_LINES_MAX) {
        esi_bytes_printf(report->out, "%s: %zu more errors\n", report->file,
                         report->count - REPORT_LINES_MAX);
    }
}

void esi_report_quote(const char *text, struct esi_bytes *out)
{
    size_t shown = 0;

    esi_bytes_append_text(out, "\"");
    for (; text[shown] != '\0' && shown < QUOTED_CHARS_MAX; shown++) {
        const unsigned char c = (unsigned char)text[shown];
        if (c < ' ' || c == 0x7F) {
            esi_bytes_printf(out, "\\x%02x", c);
        } else if (c == '"' || c == '\\') {
            esi_bytes_printf(out, "\\%c", c);
        } else {
            esi_bytes_append(out, &text[shown], 1);
        }
    }
    /* A character is not cut in its middle: terminals would show rubbish. */
    while (text[shown] != '\0' && ((unsigned char)text[shown] & 0xC0) == 0x80) {
        esi_bytes_append(out, &text[shown], 1);
        shown++;
    }
    esi_bytes_append_text(out, text[shown] != '\0' ? "...\"" : "\"");
}

void esi_report_repeated(const struct esi_node *first, const char *problem,
                         struct esi_node_error *error)
{
    struct esi_bytes name;

    esi_bytes_init(&name, 0);
    esi_report_quote(first->key, &name);
    snprintf(error->text, sizeof error->text, "%.*s %s; it stands at %u:%u first",
             ESI_STR_ARG(esi_bytes_str(&name)), problem, first->key_at.line, first->key_at.column);
    esi_bytes_deinit(&name);
}
