/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growable byte buffer. Appending never fails half-way: when memory is exhausted or the bound is
 * reached, the buffer is marked failed, keeps what it had, and ignores what follows; the caller
 * looks once at the end.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_bytes {
    char *data;          /* owned; NULL when empty */
    size_t len;          /* bytes in use */
    size_t capacity;     /* bytes allocated */
    size_t capacity_max; /* bound; 0 = none */
    bool failed;         /* an append did not fit */
};

/* An empty buffer with a bound in bytes (0 = none). Allocates nothing. */
void esi_bytes_init(struct esi_bytes *bytes, size_t capacity_max);
/* Frees the memory and leaves an empty buffer with the same bound. */
void esi_bytes_deinit(struct esi_bytes *bytes);
/* Overwrites the memory, then as esi_bytes_deinit: for what held a secret. (A buffer that grew left
 * copies behind: reserve enough before.) */
void esi_bytes_wipe(struct esi_bytes *bytes);
/* Forgets the content and the failure, keeps the memory. */
void esi_bytes_clear(struct esi_bytes *bytes);
/* Makes room for `extra` more bytes. Returns a pointer to the free room, or NULL (then marked
 * failed). */
char *esi_bytes_reserve(struct esi_bytes *bytes, size_t extra);
void esi_bytes_append(struct esi_bytes *bytes, const void *data, size_t len);
void esi_bytes_append_str(struct esi_bytes *bytes, struct esi_str s);
void esi_bytes_append_text(struct esi_bytes *bytes, const char *text);
void esi_bytes_printf(struct esi_bytes *bytes, const char *format, ...) ESI_PRINTF(2, 3);
/* Removes the first `count` bytes (count <= len). */
void esi_bytes_consume(struct esi_bytes *bytes, size_t count);
/* The content as a borrowed run; valid until the next change. */
static inline struct esi_str esi_bytes_str(const struct esi_bytes *bytes)
{
    return (struct esi_str){.data = bytes->data, .len = bytes->len};
}
