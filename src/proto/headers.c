/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A block is walked line by line, in place; nothing is indexed, since few headers are looked at. */
#include "proto/headers.h"

#include <string.h>
#include <strings.h>

#define FIRST_LINE ESI_STR("NATS/1.0")

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct esi_str trim(const char *start, const char *end)
{
    while (start < end && is_blank(*start)) {
        start++;
    }
    while (end > start && is_blank(end[-1])) {
        end--;
    }
    return (struct esi_str){.data = start, .len = (size_t)(end - start)};
}

/* Takes one line without its CR LF (or LF) off the cursor; false at the end. */
static bool next_line(struct esi_headers_cursor *cursor, const char **start, const char **end)
{
    if (cursor->next == cursor->end) {
        return false;
    }
    const char *lf = memchr(cursor->next, '\n', (size_t)(cursor->end - cursor->next));
    *start = cursor->next;
    *end = lf != NULL ? lf : cursor->end;
    cursor->next = lf != NULL ? lf + 1 : cursor->end;
    if (*end > *start && (*end)[-1] == '\r') {
        (*end)--;
    }
    return true;
}

struct esi_headers_cursor esi_headers_lines(struct esi_str block)
{
    const struct esi_str text = block.data != NULL ? block : ESI_STR("");
    struct esi_headers_cursor cursor = {.next = text.data, .end = text.data + text.len};
    const char *start = NULL;
    const char *end = NULL;

    if (!esi_str_starts_with(text, FIRST_LINE) || !next_line(&cursor, &start, &end)) {
        cursor.next = cursor.end;
    }
    return cursor;
}

bool esi_headers_next(struct esi_headers_cursor *cursor, struct esi_str *name,
                      struct esi_str *value)
{
    const char *start = NULL;
    const char *end = NULL;

    while (next_line(cursor, &start, &end)) {
        if (start == end) {
            cursor->next = cursor->end;
            return false;
        }
        const char *colon = memchr(start, ':', (size_t)(end - start));
        if (colon == NULL || colon == start) {
            continue;
        }
        *name = (struct esi_str){.data = start, .len = (size_t)(colon - start)};
        *value = trim(colon + 1, end);
        return true;
    }
    return false;
}

bool esi_headers_find(struct esi_str block, struct esi_str name, struct esi_str *value)
{
    struct esi_headers_cursor cursor = esi_headers_lines(block);
    struct esi_str found;
    struct esi_str text;

    while (esi_headers_next(&cursor, &found, &text)) {
        if (found.len == name.len && strncasecmp(found.data, name.data, name.len) == 0) {
            *value = text;
            return true;
        }
    }
    return false;
}

uint32_t esi_headers_status(struct esi_str block)
{
    uint32_t status = 0;
    const size_t start = FIRST_LINE.len + 1;

    if (!esi_str_starts_with(block, FIRST_LINE) || block.len < start + 3 ||
        block.data[FIRST_LINE.len] != ' ') {
        return 0;
    }
    for (size_t i = start; i < start + 3; i++) {
        if (block.data[i] < '0' || block.data[i] > '9') {
            return 0;
        }
        status = status * 10 + (uint32_t)(block.data[i] - '0');
    }
    return status;
}

void esi_headers_begin(struct esi_bytes *out)
{
    esi_bytes_append_text(out, "NATS/1.0\r\n");
}

/* A line break inside a name or value would forge another header. */
static void append_clean(struct esi_bytes *out, struct esi_str text)
{
    const size_t start = out->len;

    esi_bytes_append_str(out, text);
    for (size_t i = start; i < out->len; i++) {
        if (out->data[i] == '\r' || out->data[i] == '\n' || out->data[i] == '\0') {
            out->data[i] = ' ';
        }
    }
}

void esi_headers_add(struct esi_bytes *out, struct esi_str name, struct esi_str value)
{
    append_clean(out, name);
    esi_bytes_append_text(out, ": ");
    append_clean(out, value);
    esi_bytes_append_text(out, "\r\n");
}

void esi_headers_end(struct esi_bytes *out)
{
    esi_bytes_append_text(out, "\r\n");
}
