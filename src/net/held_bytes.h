/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes that wait in order in a buffer of their own: appended behind, taken from the front. Memory
 * is held only while there are any. One thread's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: empty. Those from `from` to `end` wait. */
struct esi_held_bytes {
    char *data; /* owned; NULL: no buffer */
    size_t from;
    size_t end;
    size_t capacity;
};

static inline size_t esi_held_bytes_count(const struct esi_held_bytes *held)
{
    return held->end - held->from;
}

/* The first of them; an empty string where there is none. */
static inline const char *esi_held_bytes_first(const struct esi_held_bytes *held)
{
    return held->data != NULL ? held->data + held->from : "";
}

/* Copies bytes behind those that wait. False when memory is exhausted: nothing is changed. */
bool esi_held_bytes_append(struct esi_held_bytes *held, const void *data, size_t len);
/* Drops the first `count`, of those that wait. */
void esi_held_bytes_consume(struct esi_held_bytes *held, size_t count);
/* Moves at most capacity bytes into the buffer. Returns how many. */
size_t esi_held_bytes_take(struct esi_held_bytes *held, void *buffer, size_t capacity);
/* Drops them all. */
void esi_held_bytes_free(struct esi_held_bytes *held);
