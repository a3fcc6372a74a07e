/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hand-written TOML reader. Values nest on an explicit stack, tables by walking the tree along a
 * key; no recursion. Where a table came from (struct esi_node's origin) says who may still add to
 * it:
 *
 *   origin               opened by [header]   grows by dotted keys     passed by [header.below]
 *   NODE_BY_PATH         once                 yes                      yes
 *   NODE_BY_HEADER       no                   only under that header   yes
 *   NODE_BY_DOTTED_KEY   no                   yes                      yes
 *   NODE_CLOSED          no                   no                       no (inline)
 */
#include "config/toml_reader.h"

#include "base/bytes.h"
#include "base/num.h"
#include "base/utf8.h"
#include "config/report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCALAR_BYTES_MAX = 65536, END_OF_TEXT = -1 };

static const char no_growing_table[] = "is given already, and not as a table that can grow";

struct toml_reading {
    const char *text; /* borrowed */
    size_t len;
    size_t offset;
    struct esi_position at;       /* of the byte at offset */
    struct esi_node_tree *tree;   /* borrowed */
    struct esi_node_error *error; /* borrowed */
    struct esi_node *table;       /* where "key = value" goes now */
    struct esi_bytes scratch;     /* the key or string in hand */
    /* Open arrays and inline tables of the value in hand. */
    struct esi_node *open[ESI_NODE_DEPTH_MAX];
    size_t depth;
};

static enum es_err refuse_at(struct toml_reading *reading, struct esi_position at, const char *text)
{
    reading->error->at = at;
    snprintf(reading->error->text, sizeof reading->error->text, "%s", text);
    return ES_INVALID;
}

static enum es_err refuse(struct toml_reading *reading, const char *text)
{
    return refuse_at(reading, reading->at, text);
}

static enum es_err refuse_node(struct toml_reading *reading, struct esi_position at,
                               enum es_err err)
{
    switch ((int)err) {
    case ES_TOO_LARGE:
        (void)refuse_at(reading, at, "the file has too many values");
        return err;
    case ES_INVALID:
        return refuse_at(reading, at, "an empty key or a NUL byte is not allowed");
    default:
        (void)refuse_at(reading, at, "out of memory");
        return ES_NO_MEMORY;
    }
}

static enum es_err refuse_repeated(struct toml_reading *reading, struct esi_position at,
                                   const struct esi_node *first, const char *problem)
{
    reading->error->at = at;
    esi_report_repeated(first, problem, reading->error);
    return ES_INVALID;
}

/* The cursor. */

static int peek(const struct toml_reading *reading)
{
    return reading->offset < reading->len ? (unsigned char)reading->text[reading->offset]
                                          : END_OF_TEXT;
}

static int peek_next(const struct toml_reading *reading)
{
    return reading->offset + 1 < reading->len ? (unsigned char)reading->text[reading->offset + 1]
                                              : END_OF_TEXT;
}

static void advance(struct toml_reading *reading)
{
    const char passed = reading->text[reading->offset++];

    if (passed == '\n') {
        reading->at.line++;
        reading->at.column = 1;
    } else if (reading->offset >= reading->len ||
               ((unsigned char)reading->text[reading->offset] & 0xC0) != 0x80) {
        /* Counted when a whole character lies behind us. */
        reading->at.column++;
    }
}

static bool take(struct toml_reading *reading, char wanted)
{
    if (peek(reading) != (unsigned char)wanted) {
        return false;
    }
    advance(reading);
    return true;
}

static void skip_blanks(struct toml_reading *reading)
{
    while (peek(reading) == ' ' || peek(reading) == '\t') {
        advance(reading);
    }
}

static bool is_control(int c)
{
    return (c >= 0 && c < ' ' && c != '\t') || c == 0x7F;
}

/* Takes a comment and a line end, whichever are there. */
static enum es_err skip_line_end(struct toml_reading *reading)
{
    if (peek(reading) == '#') {
        while (peek(reading) != END_OF_TEXT && peek(reading) != '\n' && peek(reading) != '\r') {
            if (is_control(peek(reading))) {
                return refuse(reading, "a control character is not allowed");
            }
            advance(reading);
        }
    }
    if (peek(reading) == '\r' && peek_next(reading) == '\n') {
        advance(reading);
    }
    if (peek(reading) == '\n') {
        advance(reading);
    }
    return ES_OK;
}

/* Inside arrays: blanks, comments and line ends. */
static enum es_err skip_space(struct toml_reading *reading)
{
    enum es_err err = ES_OK;

    for (size_t before = reading->len + 1; err == ES_OK && before != reading->offset;) {
        before = reading->offset;
        skip_blanks(reading);
        err = skip_line_end(reading);
    }
    return err;
}

/* Strings. */

static enum es_err read_unicode_escape(struct toml_reading *reading, int digits)
{
    char utf8[4];
    uint32_t code = 0;

    for (int i = 0; i < digits; i++) {
        const int c = peek(reading);
        const int digit = c == END_OF_TEXT ? -1 : esi_num_hex_digit((char)c);
        if (digit < 0) {
            return refuse(reading, "\\u needs 4 and \\U 8 hexadecimal digits");
        }
        code = code << 4 | (uint32_t)digit;
        advance(reading);
    }
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        return refuse(reading, "the escape names no allowed character");
    }
    esi_bytes_append(&reading->scratch, utf8, esi_utf8_encode(code, utf8));
    return ES_OK;
}

static enum es_err read_escape(struct toml_reading *reading)
{
    static const char names[] = "btnfr\"\\";
    static const char meanings[] = "\b\t\n\f\r\"\\";

    const int c = peek(reading);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (name != NULL) {
        advance(reading);
        esi_bytes_append(&reading->scratch, &meanings[name - names], 1);
        return ES_OK;
    }
    if (c == 'u' || c == 'U') {
        advance(reading);
        return read_unicode_escape(reading, c == 'u' ? 4 : 8);
    }
    return refuse(reading, "unknown escape after \\");
}

/* A string in quotes into the scratch; the cursor stands at the opening quote. */
static enum es_err read_string(struct toml_reading *reading)
{
    const int quote = peek(reading);

    esi_bytes_clear(&reading->scratch);
    advance(reading);
    if (peek(reading) == quote && peek_next(reading) == quote) {
        return refuse(reading, "multi-line strings are not supported");
    }
    for (;;) {
        const int c = peek(reading);
        if (c == END_OF_TEXT || c == '\n' || c == '\r') {
            return refuse(reading, "the string is not closed in its line");
        }
        if (is_control(c)) {
            return refuse(reading, "a control character is not allowed");
        }
        if (c == quote) {
            advance(reading);
            break;
        }
        if (c == '\\' && quote == '"') {
            advance(reading);
            const enum es_err err = read_escape(reading);
            if (err != ES_OK) {
                return err;
            }
            continue;
        }
        esi_bytes_append(&reading->scratch, &reading->text[reading->offset], 1);
        advance(reading);
    }
    return reading->scratch.failed ? refuse(reading, "the string is too long") : ES_OK;
}

static bool is_bare_key_char(int c)
{
    return c > 0 && c < 0x80 && (isalnum(c) || c == '_' || c == '-');
}

/* One part of a dotted key into the scratch. */
static enum es_err read_key_part(struct toml_reading *reading, struct esi_position *at)
{
    skip_blanks(reading);
    *at = reading->at;
    if (peek(reading) == '"' || peek(reading) == '\'') {
        return read_string(reading);
    }
    esi_bytes_clear(&reading->scratch);
    while (is_bare_key_char(peek(reading))) {
        esi_bytes_append(&reading->scratch, &reading->text[reading->offset], 1);
        advance(reading);
    }
    if (reading->scratch.failed) {
        return refuse(reading, "the key is too long");
    }
    return reading->scratch.len > 0 ? ES_OK : refuse(reading, "a key was expected");
}

/* Tables. */

static enum es_err add_child(struct toml_reading *reading, struct esi_node *map,
                             struct esi_position at, enum esi_node_kind kind,
                             enum esi_node_origin origin, struct esi_node **out)
{
    struct esi_node *node = NULL;

    enum es_err err = esi_node_make(reading->tree, kind, at, (struct esi_str){0}, &node);
    if (err == ES_OK) {
        node->origin = origin;
        err = esi_node_insert(map, esi_bytes_str(&reading->scratch), at, node);
    }
    if (err != ES_OK) {
        return refuse_node(reading, at, err);
    }
    *out = node;
    return ES_OK;
}

/* One step along a header: into the table named by the scratch, into the last one of an array of
 * tables. */
static enum es_err pass_by_header(struct toml_reading *reading, struct esi_position at,
                                  struct esi_node **table)
{
    struct esi_node *child = esi_node_find(*table, esi_bytes_str(&reading->scratch));

    if (child == NULL) {
        return add_child(reading, *table, at, NODE_MAP, NODE_BY_PATH, table);
    }
    if (child->kind == NODE_LIST && child->origin == NODE_BY_HEADER) {
        *table = child->last;
        return ES_OK;
    }
    if (child->kind != NODE_MAP || child->origin == NODE_CLOSED) {
        return refuse_repeated(reading, at, child, no_growing_table);
    }
    *table = child;
    return ES_OK;
}

/* The last step of [header]. */
static enum es_err open_table(struct toml_reading *reading, struct esi_position at,
                              struct esi_node **table)
{
    struct esi_node *child = esi_node_find(*table, esi_bytes_str(&reading->scratch));

    if (child == NULL) {
        return add_child(reading, *table, at, NODE_MAP, NODE_BY_HEADER, table);
    }
    if (child->kind != NODE_MAP || child->origin != NODE_BY_PATH) {
        return refuse_repeated(reading, at, child,
                               child->kind == NODE_MAP ? "is given twice" : no_growing_table);
    }
    child->origin = NODE_BY_HEADER;
    child->at = at;
    child->key_at = at;
    *table = child;
    return ES_OK;
}

/* The last step of [[header]]. */
static enum es_err open_table_item(struct toml_reading *reading, struct esi_position at,
                                   struct esi_node **table)
{
    struct esi_node *list = esi_node_find(*table, esi_bytes_str(&reading->scratch));
    struct esi_node *item = NULL;

    if (list == NULL) {
        const enum es_err err = add_child(reading, *table, at, NODE_LIST, NODE_BY_HEADER, &list);
        if (err != ES_OK) {
            return err;
        }
    } else if (list->kind != NODE_LIST || list->origin != NODE_BY_HEADER) {
        return refuse_repeated(reading, at, list,
                               "is given already, and not as an array of tables");
    }
    const enum es_err err = esi_node_make(reading->tree, NODE_MAP, at, (struct esi_str){0}, &item);
    if (err != ES_OK) {
        return refuse_node(reading, at, err);
    }
    item->origin = NODE_BY_HEADER;
    esi_node_append(list, item);
    *table = item;
    return ES_OK;
}

/* "[a.b]" or "[[a.b]]"; the cursor stands at the first bracket. */
static enum es_err read_header(struct toml_reading *reading)
{
    struct esi_node *table = reading->tree->root;

    advance(reading);
    const bool is_item = take(reading, '[');
    for (size_t parts = 1;; parts++) {
        struct esi_position at;
        enum es_err err = read_key_part(reading, &at);
        if (err != ES_OK) {
            return err;
        }
        skip_blanks(reading);
        if (take(reading, '.')) {
            if (parts == ESI_NODE_DEPTH_MAX) {
                return refuse_at(reading, at, "nested too deeply");
            }
            err = pass_by_header(reading, at, &table);
            if (err != ES_OK) {
                return err;
            }
            continue;
        }
        if (!take(reading, ']') || (is_item && !take(reading, ']'))) {
            return refuse(reading, is_item ? "]] was expected" : "] was expected");
        }
        err = is_item ? open_table_item(reading, at, &table) : open_table(reading, at, &table);
        if (err == ES_OK) {
            reading->table = table;
        }
        return err;
    }
}

/* One step along a dotted key. */
static enum es_err pass_by_dotted_key(struct toml_reading *reading, struct esi_position at,
                                      struct esi_node **table)
{
    struct esi_node *child = esi_node_find(*table, esi_bytes_str(&reading->scratch));

    if (child == NULL) {
        return add_child(reading, *table, at, NODE_MAP, NODE_BY_DOTTED_KEY, table);
    }
    if (child->kind != NODE_MAP ||
        (child->origin != NODE_BY_DOTTED_KEY && child->origin != NODE_BY_PATH)) {
        return refuse_repeated(reading, at, child, no_growing_table);
    }
    child->origin = NODE_BY_DOTTED_KEY;
    *table = child;
    return ES_OK;
}

/* "a.b =" : leaves the last part in the scratch and its table in *table. */
static enum es_err read_dotted_key(struct toml_reading *reading, struct esi_node **table,
                                   struct esi_position *at)
{
    for (size_t parts = 1;; parts++) {
        enum es_err err = read_key_part(reading, at);
        if (err != ES_OK) {
            return err;
        }
        skip_blanks(reading);
        if (take(reading, '=')) {
            return ES_OK;
        }
        if (!take(reading, '.')) {
            return refuse(reading, "= was expected after the key");
        }
        if (parts == ESI_NODE_DEPTH_MAX) {
            return refuse_at(reading, *at, "nested too deeply");
        }
        err = pass_by_dotted_key(reading, *at, table);
        if (err != ES_OK) {
            return err;
        }
    }
}

/* Values. */

static bool is_word_char(int c)
{
    return c > 0 && c < 0x80 && (isalnum(c) || strchr("_+-.:", c) != NULL);
}

/* Digits with single underscores between them. */
static size_t digits_len(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len && (isdigit((unsigned char)text[at]) ||
                        (text[at] == '_' && at > 0 && text[at - 1] != '_' && at + 1 < len &&
                         isdigit((unsigned char)text[at + 1])))) {
        at++;
    }
    return at;
}

/* Integer or float of TOML: [+-]DIGITS[.DIGITS][e[+-]DIGITS], no leading zeros. */
static bool is_number(const char *text, size_t len)
{
    size_t at = len > 0 && (text[0] == '+' || text[0] == '-') ? 1 : 0;

    const size_t whole = digits_len(text + at, len - at);
    if (whole == 0 || (whole > 1 && text[at] == '0')) {
        return false;
    }
    at += whole;
    if (at < len && text[at] == '.') {
        const size_t fraction = digits_len(text + at + 1, len - at - 1);
        if (fraction == 0) {
            return false;
        }
        at += 1 + fraction;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        at += at < len && (text[at] == '+' || text[at] == '-') ? 1 : 0;
        const size_t exponent = digits_len(text + at, len - at);
        if (exponent == 0) {
            return false;
        }
        at += exponent;
    }
    return at == len;
}

/* A bare word: true, false or a number, into the scratch. */
static enum es_err read_word(struct toml_reading *reading)
{
    const struct esi_position at = reading->at;
    const char *word = reading->text + reading->offset;

    esi_bytes_clear(&reading->scratch);
    while (is_word_char(peek(reading))) {
        advance(reading);
    }
    const size_t len = (size_t)(reading->text + reading->offset - word);
    const struct esi_str s = {.data = word, .len = len};
    if (esi_str_equal(s, ESI_STR("true")) || esi_str_equal(s, ESI_STR("false"))) {
        esi_bytes_append_str(&reading->scratch, s);
        return ES_OK;
    }
    if (!is_number(word, len)) {
        return refuse_at(reading, at,
                         "a value was expected: a text in quotes, a decimal number, true, false, "
                         "[list] or {table}");
    }
    for (size_t i = word[0] == '+' ? 1 : 0; i < len; i++) {
        if (word[i] != '_') {
            esi_bytes_append(&reading->scratch, &word[i], 1);
        }
    }
    return reading->scratch.failed ? refuse_at(reading, at, "the number is too long") : ES_OK;
}

/* Puts a value into the innermost open list, or under the key that waits for it. */
static enum es_err place_value(struct toml_reading *reading, struct esi_node *map,
                               struct esi_str key, struct esi_position key_at,
                               struct esi_node *value)
{
    if (map == NULL) {
        esi_node_append(reading->open[reading->depth - 1], value);
        return ES_OK;
    }
    const enum es_err err = esi_node_insert(map, key, key_at, value);
    if (err == ES_EXISTS) {
        return refuse_repeated(reading, key_at, esi_node_find(map, key), "is given twice");
    }
    return err == ES_OK ? ES_OK : refuse_node(reading, key_at, err);
}

/*
 * The beginning of a value: a whole scalar, or the opening of a list or inline table.
 *   map, key   where it goes; map NULL: into the innermost open list
 */
static enum es_err begin_value(struct toml_reading *reading, struct esi_node *map,
                               struct esi_str key, struct esi_position key_at)
{
    struct esi_node *node = NULL;
    const struct esi_position at = reading->at;
    const int c = peek(reading);
    const bool is_quoted = c == '"' || c == '\'';
    enum esi_node_kind kind = NODE_SCALAR;
    enum es_err err = ES_OK;

    if (c == '[' || c == '{') {
        if (reading->depth == ESI_NODE_DEPTH_MAX) {
            return refuse(reading, "nested too deeply");
        }
        kind = c == '[' ? NODE_LIST : NODE_MAP;
        advance(reading);
    } else {
        err = is_quoted ? read_string(reading) : read_word(reading);
    }
    if (err != ES_OK) {
        return err;
    }
    err = esi_node_make(
        reading->tree, kind, at,
        kind == NODE_SCALAR ? esi_bytes_str(&reading->scratch) : (struct esi_str){0}, &node);
    if (err != ES_OK) {
        return refuse_node(reading, at, err);
    }
    node->is_quoted = is_quoted;
    err = place_value(reading, map, key, key_at, node);
    if (err == ES_OK && kind != NODE_SCALAR) {
        reading->open[reading->depth++] = node;
    }
    return err;
}

/* "key = value" without what follows a list's or table's opening. Keeps the key while the scratch
 * is used again. */
static enum es_err read_entry(struct toml_reading *reading, struct esi_node *table)
{
    struct esi_position at;

    enum es_err err = read_dotted_key(reading, &table, &at);
    if (err != ES_OK) {
        return err;
    }
    char *key = esi_str_dup(esi_bytes_str(&reading->scratch));
    if (key == NULL) {
        return refuse_node(reading, at, ES_NO_MEMORY);
    }
    const size_t key_len = reading->scratch.len;
    skip_blanks(reading);
    err = begin_value(reading, table, (struct esi_str){.data = key, .len = key_len}, at);
    free(key);
    return err;
}

/* After "[" or after a comma in a list: another item, or the end. */
static enum es_err continue_list(struct toml_reading *reading, bool is_after_item)
{
    enum es_err err = skip_space(reading);
    if (err != ES_OK) {
        return err;
    }
    if (is_after_item && peek(reading) != ']') {
        if (!take(reading, ',')) {
            return refuse(reading, ", or ] was expected");
        }
        err = skip_space(reading);
        if (err != ES_OK) {
            return err;
        }
    }
    if (take(reading, ']')) {
        reading->open[--reading->depth]->origin = NODE_CLOSED;
        return ES_OK;
    }
    return begin_value(reading, NULL, (struct esi_str){0}, reading->at);
}

/* The same in an inline table, which stands in one line and takes no comma at its end. */
static enum es_err continue_inline_table(struct toml_reading *reading, bool is_after_item)
{
    skip_blanks(reading);
    if (take(reading, '}')) {
        reading->open[--reading->depth]->origin = NODE_CLOSED;
        return ES_OK;
    }
    if (is_after_item && !take(reading, ',')) {
        return refuse(reading, ", or } was expected");
    }
    return read_entry(reading, reading->open[reading->depth - 1]);
}

/* A whole "key = value", with everything nested in it. */
static enum es_err read_key_value(struct toml_reading *reading)
{
    reading->depth = 0;
    enum es_err err = read_entry(reading, reading->table);
    while (err == ES_OK && reading->depth > 0) {
        const struct esi_node *open = reading->open[reading->depth - 1];
        const bool has_items = open->child_count > 0;
        err = open->kind == NODE_LIST ? continue_list(reading, has_items)
                                      : continue_inline_table(reading, has_items);
    }
    return err;
}

static enum es_err read_lines(struct toml_reading *reading)
{
    enum es_err err = esi_node_make(reading->tree, NODE_MAP, reading->at, (struct esi_str){0},
                                    &reading->tree->root);
    if (err != ES_OK) {
        return refuse_node(reading, reading->at, err);
    }
    reading->table = reading->tree->root;
    while (err == ES_OK) {
        err = skip_space(reading);
        if (err != ES_OK || peek(reading) == END_OF_TEXT) {
            return err;
        }
        err = peek(reading) == '[' ? read_header(reading) : read_key_value(reading);
        if (err != ES_OK) {
            return err;
        }
        skip_blanks(reading);
        const int c = peek(reading);
        const bool is_line_end =
            c == END_OF_TEXT || c == '\n' || c == '#' || (c == '\r' && peek_next(reading) == '\n');
        if (!is_line_end) {
            return refuse(reading, "the end of the line was expected");
        }
        err = skip_line_end(reading);
    }
    return err;
}

/* Looks at the whole text first, so that nothing later has to. */
static enum es_err check_utf8(struct toml_reading *reading)
{
    while (reading->offset < reading->len) {
        uint32_t code;
        const size_t count =
            esi_utf8_decode(reading->text + reading->offset, reading->len - reading->offset, &code);
        if (count == 0) {
            return refuse(reading, "not valid UTF-8");
        }
        for (size_t i = 0; i < count; i++) {
            advance(reading);
        }
    }
    reading->offset = 0;
    reading->at = (struct esi_position){.line = 1, .column = 1};
    return ES_OK;
}

enum es_err esi_toml_reader_read(struct esi_str text, struct esi_node_tree *tree,
                                 struct esi_node_error *error)
{
    if (esi_str_starts_with(text, ESI_STR("\xEF\xBB\xBF"))) {
        text.data += 3;
        text.len -= 3;
    }
    struct toml_reading reading = {.text = text.data != NULL ? text.data : "",
                                   .len = text.len,
                                   .at = {.line = 1, .column = 1},
                                   .tree = tree,
                                   .error = error};
    esi_bytes_init(&reading.scratch, SCALAR_BYTES_MAX);
    /* All at once: a buffer that grows would leave copies of secrets behind. */
    enum es_err err = ES_OK;
    if (esi_bytes_reserve(&reading.scratch, SCALAR_BYTES_MAX) == NULL) {
        err = refuse_node(&reading, reading.at, ES_NO_MEMORY);
    }
    if (err == ES_OK) {
        err = check_utf8(&reading);
    }
    if (err == ES_OK) {
        err = read_lines(&reading);
    }
    esi_bytes_wipe(&reading.scratch);
    return err;
}
