/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of the library: counted, bounded, wiped.
 *
 * The library is not safe where memory runs out: version 1.52 frees an item twice when a stream's
 * DATA cannot be queued. So a peer that drives it over the ceiling is ended at the next check,
 * while allocations still succeed; only far above it, or when the system has none, they fail. Then
 * the library is not called again, not even to free its session: all its blocks are in a list, and
 * are freed from there.
 */
#include "net/http2_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/own.h"

enum { MEMORY_EXCESS_BYTES_MAX = 4 << 20 /* above the ceiling: far more than a slice can cause */ };

union allocation {
    struct {
        struct esi_list link; /* in the connection's allocations */
        size_t len;
    };
    max_align_t align;
};

static void *allocate(size_t len, void *user)
{
    struct esi_http2 *http2 = user;
    union allocation *block = NULL;

    if (len <= MEMORY_EXCESS_BYTES_MAX &&
        http2->session_bytes + len <= http2->limits.session_bytes_max + MEMORY_EXCESS_BYTES_MAX) {
        block = malloc(sizeof *block + len);
    }
    if (block == NULL) {
        http2->has_no_memory = true;
        return NULL;
    }
    block->len = len;
    http2->session_bytes += len;
    esi_list_append(&http2->allocations, &block->link);
    return block + 1;
}

static void release(void *pointer, void *user)
{
    struct esi_http2 *http2 = user;

    if (pointer == NULL) {
        return;
    }
    union allocation *block = (union allocation *)pointer - 1;
    ESI_ASSERT(http2->session_bytes >= block->len);
    http2->session_bytes -= block->len;
    esi_list_remove(&block->link);
    explicit_bzero(block, sizeof *block + block->len);
    free(block);
}

void esi_http2_memory_free_all(struct esi_http2 *http2)
{
    for (struct esi_list *at = http2->allocations.next, *next; at != &http2->allocations;
         at = next) {
        next = at->next;
        release(ESI_CONTAINER_OF(at, union allocation, link) + 1, http2);
    }
    ESI_ASSERT(http2->session_bytes == 0);
}

static void *allocate_zeroed(size_t count, size_t size, void *user)
{
    size_t len;

    if (__builtin_mul_overflow(count, size, &len)) {
        return NULL;
    }
    void *pointer = allocate(len, user);
    if (pointer != NULL) {
        memset(pointer, 0, len);
    }
    return pointer;
}

static void *reallocate(void *old, size_t len, void *user)
{
    if (old == NULL) {
        return allocate(len, user);
    }
    void *pointer = allocate(len, user);
    if (pointer != NULL) {
        const size_t old_len = ((union allocation *)old - 1)->len;
        memcpy(pointer, old, old_len < len ? old_len : len);
        release(old, user);
    }
    return pointer;
}

void esi_http2_memory_init(struct esi_http2 *http2, nghttp2_mem *mem)
{
    esi_list_init(&http2->allocations);
    *mem = (nghttp2_mem){.mem_user_data = http2,
                         .malloc = allocate,
                         .free = release,
                         .calloc = allocate_zeroed,
                         .realloc = reallocate};
}
