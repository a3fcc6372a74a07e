/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The capacity doubles, so that appending costs the same however long the buffer has become. */
#include "base/bytes.h"
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 256 };

void esi_bytes_init(struct esi_bytes *bytes, size_t capacity_max)
{
    *bytes = (struct esi_bytes){.capacity_max = capacity_max};
}

void esi_bytes_deinit(struct esi_bytes *bytes)
{
    const size_t capacity_max = bytes->capacity_max;

    free(bytes->data);
    esi_bytes_init(bytes, capacity_max);
}

void esi_bytes_wipe(struct esi_bytes *bytes)
{
    if (bytes->data != NULL) {
        explicit_bzero(bytes->data, bytes->capacity);
    }
    esi_bytes_deinit(bytes);
}

void esi_bytes_clear(struct esi_bytes *bytes)
{
    bytes->len = 0;
    bytes->failed = false;
}

char *esi_bytes_reserve(struct esi_bytes *bytes, size_t extra)
{
    size_t needed;
    if (bytes->failed || __builtin_add_overflow(bytes->len, extra, &needed) ||
        (bytes->capacity_max != 0 && needed > bytes->capacity_max)) {
        bytes->failed = true;
        return NULL;
    }
    if (needed > bytes->capacity || bytes->data == NULL) {
        size_t capacity = bytes->capacity < CAPACITY_MIN ? CAPACITY_MIN : bytes->capacity;
        while (capacity < needed) {
            if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) {
                bytes->failed = true;
                return NULL;
            }
        }
        char *data = realloc(bytes->data, capacity);
        if (data == NULL) {
            bytes->failed = true;
            return NULL;
        }
        bytes->data = data;
        bytes->capacity = capacity;
    }
    return bytes->data + bytes->len;
}

void esi_bytes_append(struct esi_bytes *bytes, const void *data, size_t len)
{
    char *room = esi_bytes_reserve(bytes, len);

    if (room != NULL && len > 0) {
        memcpy(room, data, len);
        bytes->len += len;
    }
}

void esi_bytes_append_str(struct esi_bytes *bytes, struct esi_str s)
{
    esi_bytes_append(bytes, s.data, s.len);
}

void esi_bytes_append_text(struct esi_bytes *bytes, const char *text)
{
    esi_bytes_append(bytes, text, strlen(text));
}

void esi_bytes_printf(struct esi_bytes *bytes, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ESI_ASSERT(len >= 0);
    /* The NUL that is written too is no content, so it may stand behind the bound. */
    const size_t capacity_max = bytes->capacity_max;
    bytes->capacity_max += capacity_max != 0;
    char *room = esi_bytes_reserve(bytes, (size_t)len + 1);
    bytes->capacity_max = capacity_max;
    if (room == NULL) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(room, (size_t)len + 1, format, arguments);
    va_end(arguments);
    bytes->len += (size_t)len;
}

void esi_bytes_consume(struct esi_bytes *bytes, size_t count)
{
    ESI_REQUIRE(count <= bytes->len);
    bytes->len -= count;
    if (bytes->len > 0) {
        memmove(bytes->data, bytes->data + count, bytes->len);
    }
}
