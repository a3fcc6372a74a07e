/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is gone from the front is not moved over at once, only when the buffer has to grow. */
#include "net/held_bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

bool esi_held_bytes_append(struct esi_held_bytes *held, const void *data, size_t len)
{
    const size_t rest = esi_held_bytes_count(held);

    if (len == 0) {
        return true;
    }
    if (held->capacity - held->end < len) {
        /* At least twice as much as there is, so that bytes that trickle in are not copied again
         * for each. */
        const size_t capacity = len > rest ? rest + len : 2 * rest;
        char *moved = malloc(capacity);
        if (moved == NULL) {
            return false;
        }
        memcpy(moved, esi_held_bytes_first(held), rest);
        free(held->data);
        *held = (struct esi_held_bytes){.data = moved, .end = rest, .capacity = capacity};
    }
    memcpy(held->data + held->end, data, len);
    held->end += len;
    return true;
}

void esi_held_bytes_consume(struct esi_held_bytes *held, size_t count)
{
    ESI_REQUIRE(count <= esi_held_bytes_count(held));
    held->from += count;
    if (held->from == held->end) {
        esi_held_bytes_free(held);
    }
}

size_t esi_held_bytes_take(struct esi_held_bytes *held, void *buffer, size_t capacity)
{
    const size_t rest = esi_held_bytes_count(held);
    const size_t count = rest < capacity ? rest : capacity;

    if (count > 0) {
        memcpy(buffer, esi_held_bytes_first(held), count);
        esi_held_bytes_consume(held, count);
    }
    return count;
}

void esi_held_bytes_free(struct esi_held_bytes *held)
{
    free(held->data);
    *held = (struct esi_held_bytes){0};
}
