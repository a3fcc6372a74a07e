/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that malloc rounds to one size is asked for at the full size, so that any object of a size
 * serves any other of it. */
#include "broker/sub_pool.h"

#include <stdlib.h>

struct esi_sub_pool_object {
    struct esi_sub_pool_object *next;
};

/* malloc keeps a word of its own beside each object. */
static size_t size_index(size_t bytes)
{
    return (bytes + sizeof(void *) - 1) / ESI_SUB_POOL_GRAIN_BYTES;
}

static size_t full_bytes(size_t index)
{
    return (index + 1) * ESI_SUB_POOL_GRAIN_BYTES - sizeof(void *);
}

void esi_sub_pool_init(struct esi_sub_pool *pool, size_t kept_bytes_max)
{
    *pool = (struct esi_sub_pool){.kept_bytes_max = kept_bytes_max};
}

void esi_sub_pool_trim(struct esi_sub_pool *pool)
{
    for (size_t index = 0; index < ESI_SUB_POOL_SIZES; index++) {
        while (pool->free[index] != NULL) {
            struct esi_sub_pool_object *next = pool->free[index]->next;
            free(pool->free[index]);
            pool->free[index] = next;
        }
    }
    pool->kept_bytes = 0;
}

void *esi_sub_pool_take(struct esi_sub_pool *pool, size_t bytes)
{
    const size_t index = size_index(bytes);

    if (pool == NULL || index >= ESI_SUB_POOL_SIZES || pool->free[index] == NULL) {
        return malloc(full_bytes(index));
    }
    struct esi_sub_pool_object *object = pool->free[index];
    pool->free[index] = object->next;
    pool->kept_bytes -= full_bytes(index);
    return object;
}

void esi_sub_pool_return(struct esi_sub_pool *pool, void *object, size_t bytes)
{
    const size_t index = size_index(bytes);

    if (pool == NULL || index >= ESI_SUB_POOL_SIZES ||
        pool->kept_bytes + full_bytes(index) > pool->kept_bytes_max) {
        free(object);
        return;
    }
    struct esi_sub_pool_object *entry = object;
    entry->next = pool->free[index];
    pool->free[index] = entry;
    pool->kept_bytes += full_bytes(index);
}
