/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A borrowed run of bytes: not ended by NUL, may hold any byte. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct esi_str {
    const char *data; /* borrowed */
    size_t len;
};

/* A string literal as a run of bytes. */
#define ESI_STR(literal) ((struct esi_str){.data = (literal), .len = sizeof(literal) - 1})
/* For printf's %.*s. */
#define ESI_STR_ARG(s) (int)(s).len, (s).data

static inline struct esi_str esi_str_from(const char *text)
{
    return (struct esi_str){.data = text, .len = text != NULL ? strlen(text) : 0};
}

static inline bool esi_str_equal(struct esi_str a, struct esi_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Negative, 0, positive: a stands before, is equal to, stands behind b in the order of bytes. */
static inline int esi_str_compare(struct esi_str a, struct esi_str b)
{
    const size_t len = a.len < b.len ? a.len : b.len;
    const int order = len == 0 ? 0 : memcmp(a.data, b.data, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static inline bool esi_str_starts_with(struct esi_str s, struct esi_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/*
 * A NUL-ended heap copy, owned by the caller (free). Returns NULL when memory is exhausted. Thread:
 * any.
 */
char *esi_str_dup(struct esi_str s);
