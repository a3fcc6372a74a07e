/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Token by token with cursors: no copies, no recursion, and time linear in the lengths. */
#include "proto/subject.h"
#include "base/own.h"
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

static bool is_star(struct esi_str token)
{
    return token.len == 1 && token.data[0] == '*';
}

static bool is_full(struct esi_str token)
{
    return token.len == 1 && token.data[0] == '>';
}

struct esi_subject_cursor esi_subject_tokens(struct esi_str subject)
{
    /* A NULL start would read as "ended"; an empty subject has one empty token. */
    const char *start = subject.data != NULL ? subject.data : "";

    return (struct esi_subject_cursor){.next = start, .end = start + subject.len};
}

bool esi_subject_next_token(struct esi_subject_cursor *cursor, struct esi_str *token)
{
    if (cursor->next == NULL) {
        return false;
    }
    const size_t left = (size_t)(cursor->end - cursor->next);
    const char *dot = memchr(cursor->next, '.', left);
    token->data = cursor->next;
    if (dot == NULL) {
        token->len = left;
        cursor->next = NULL;
    } else {
        token->len = (size_t)(dot - cursor->next);
        cursor->next = dot + 1;
    }
    return true;
}

size_t esi_subject_token_count(struct esi_str subject)
{
    size_t count = 1;

    for (size_t i = 0; i < subject.len; i++) {
        count += subject.data[i] == '.';
    }
    return count;
}

bool esi_subject_is_valid(struct esi_str pattern)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(pattern);
    struct esi_str token;

    while (esi_subject_next_token(&cursor, &token)) {
        if (token.len == 0 || (is_full(token) && cursor.next != NULL)) {
            return false;
        }
    }
    return true;
}

bool esi_subject_has_empty_token(struct esi_str subject)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(subject);
    struct esi_str token;

    while (esi_subject_next_token(&cursor, &token)) {
        if (token.len == 0) {
            return true;
        }
    }
    return false;
}

bool esi_subject_is_literal(struct esi_str subject)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(subject);
    struct esi_str token;

    while (esi_subject_next_token(&cursor, &token)) {
        if (token.len == 0 || is_star(token) || is_full(token)) {
            return false;
        }
    }
    return true;
}

bool esi_subject_has_wildcard(struct esi_str pattern)
{
    /* Most have none, and these two look at many bytes at a time. */
    if (pattern.len == 0 || (memchr(pattern.data, '*', pattern.len) == NULL &&
                             memchr(pattern.data, '>', pattern.len) == NULL)) {
        return false;
    }
    for (size_t i = 0; i < pattern.len; i++) {
        const char c = pattern.data[i];
        if ((c == '*' || c == '>') && (i == 0 || pattern.data[i - 1] == '.') &&
            (i + 1 == pattern.len || pattern.data[i + 1] == '.')) {
            return true;
        }
    }
    return false;
}

bool esi_subject_has_forbidden_byte(struct esi_str subject)
{
    for (size_t i = 0; i < subject.len; i++) {
        const char c = subject.data[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0') {
            return true;
        }
    }
    return false;
}

bool esi_subject_matches(struct esi_str pattern, struct esi_str subject)
{
    struct esi_subject_cursor patterns = esi_subject_tokens(pattern);
    struct esi_subject_cursor subjects = esi_subject_tokens(subject);
    struct esi_str wanted;
    struct esi_str found;

    if (esi_subject_has_empty_token(subject)) {
        return false;
    }
    while (esi_subject_next_token(&patterns, &wanted)) {
        if (!esi_subject_next_token(&subjects, &found)) {
            return false;
        }
        if (is_full(wanted) && patterns.next == NULL) {
            return true;
        }
        if (!is_star(wanted) && !esi_str_equal(wanted, found)) {
            return false;
        }
    }
    return subjects.next == NULL;
}

bool esi_subject_is_subset(struct esi_str pattern, struct esi_str allowed)
{
    struct esi_subject_cursor allowed_tokens = esi_subject_tokens(allowed);
    struct esi_subject_cursor tokens = esi_subject_tokens(pattern);
    struct esi_str wanted;
    struct esi_str found;

    while (esi_subject_next_token(&allowed_tokens, &wanted)) {
        if (!esi_subject_next_token(&tokens, &found)) {
            return false;
        }
        if (is_full(wanted)) {
            return true;
        }
        if (is_full(found)) {
            return false;
        }
        if (!is_star(wanted) && !esi_str_equal(wanted, found)) {
            return false;
        }
    }
    return tokens.next == NULL;
}

bool esi_subject_overlaps(struct esi_str a, struct esi_str b)
{
    struct esi_subject_cursor tokens_a = esi_subject_tokens(a);
    struct esi_subject_cursor tokens_b = esi_subject_tokens(b);
    struct esi_str token_a;
    struct esi_str token_b;

    while (esi_subject_next_token(&tokens_a, &token_a)) {
        if (!esi_subject_next_token(&tokens_b, &token_b)) {
            return false;
        }
        if (is_full(token_a) || is_full(token_b)) {
            return true;
        }
        if (!is_star(token_a) && !is_star(token_b) && !esi_str_equal(token_a, token_b)) {
            return false;
        }
    }
    return tokens_b.next == NULL;
}

/* True when s is prefix with at least one byte behind it. */
static bool goes_beyond(struct esi_str s, struct esi_str prefix)
{
    return s.len > prefix.len && esi_str_starts_with(s, prefix);
}

bool esi_subject_is_reserved_publish(struct esi_str subject)
{
    return goes_beyond(subject, ESI_STR("_GR_.")) || goes_beyond(subject, ESI_STR("$GR."));
}

bool esi_subject_is_reserved_reply(struct esi_str reply)
{
    return esi_str_starts_with(reply, ESI_STR("_R_.")) || goes_beyond(reply, ESI_STR("$JS.ACK.")) ||
           esi_subject_is_reserved_publish(reply);
}

bool esi_subject_is_reserved_queue(struct esi_str queue)
{
    return esi_str_equal(queue, ESI_STR("_sys_")) || esi_str_equal(queue, ESI_SUBJECT_EVENT_QUEUE);
}

/* What Go's IsPrint refuses above ASCII: control, separator, format, private use,
 * never-a-character. */
static bool is_printable(uint32_t code)
{
    static const struct {
        uint32_t first;
        uint32_t last;
    } hidden[] = {{0x00, 0x1f},       {0x7f, 0xa0},       {0xad, 0xad},       {0x600, 0x605},
                  {0x61c, 0x61c},     {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x8e2, 0x8e2},
                  {0x1680, 0x1680},   {0x180e, 0x180e},   {0x2000, 0x200f},   {0x2028, 0x202f},
                  {0x205f, 0x206f},   {0x3000, 0x3000},   {0xe000, 0xf8ff},   {0xfdd0, 0xfdef},
                  {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},
                  {0x110cd, 0x110cd}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff},
                  {0xe01f0, 0x10ffff}};

    for (size_t i = 0; i < ESI_COUNT_OF(hidden); i++) {
        if (code >= hidden[i].first && code <= hidden[i].last) {
            return false;
        }
    }
    return true;
}

static void quote_hidden(uint32_t code, struct esi_bytes *out)
{
    static const char letters[] = "abtnvfr"; /* for 0x07 to 0x0d */

    if (code >= 0x07 && code <= 0x0d) {
        const char escape[2] = {'\\', letters[code - 0x07]};
        esi_bytes_append(out, escape, sizeof escape);
    } else if (code < 0x80) {
        esi_bytes_printf(out, "\\x%02x", code);
    } else if (code < 0x10000) {
        esi_bytes_printf(out, "\\u%04x", code);
    } else {
        esi_bytes_printf(out, "\\U%08x", code);
    }
}

void esi_subject_quote(struct esi_str subject, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "\"");
    for (size_t i = 0; i < subject.len;) {
        uint32_t code = 0;
        const size_t len = esi_utf8_decode(subject.data + i, subject.len - i, &code);
        if (len == 0) {
            esi_bytes_printf(out, "\\x%02x", (unsigned)(unsigned char)subject.data[i]);
            i++;
            continue;
        }
        if (code == '"' || code == '\\') {
            esi_bytes_append_text(out, "\\");
        }
        if (is_printable(code)) {
            esi_bytes_append(out, subject.data + i, len);
        } else {
            quote_hidden(code, out);
        }
        i += len;
    }
    esi_bytes_append_text(out, "\"");
}
