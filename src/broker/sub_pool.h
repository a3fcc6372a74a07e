/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sub pool: memory of subscriptions that have ended, kept for the next ones. Who subscribes and
 * unsubscribes all the time would otherwise pay as much for the C library's allocator as for the
 * table. What is kept is bounded, and plain memory of malloc: whoever gets it may also free it. One
 * thread's.
 */
#pragma once

#include <stddef.h>

struct esi_sub_pool_object;

enum {
    ESI_SUB_POOL_GRAIN_BYTES = 16, /* as malloc rounds; sizes that differ by less are one */
    ESI_SUB_POOL_OBJECT_MAX = 512, /* larger ones are not kept */
    ESI_SUB_POOL_SIZES = ESI_SUB_POOL_OBJECT_MAX / ESI_SUB_POOL_GRAIN_BYTES
};

struct esi_sub_pool {
    struct esi_sub_pool_object *free[ESI_SUB_POOL_SIZES]; /* owned: lists of one size each */
    size_t kept_bytes;
    size_t kept_bytes_max;
};

/* kept_bytes_max 0: nothing is kept. */
void esi_sub_pool_init(struct esi_sub_pool *pool, size_t kept_bytes_max);
/* Frees what is kept: another use needs the memory, or the thread ends. */
void esi_sub_pool_trim(struct esi_sub_pool *pool);
/* Memory of at least so many bytes, with undefined content, owned by the caller; NULL when there is
 * none. pool NULL: straight from malloc. */
void *esi_sub_pool_take(struct esi_sub_pool *pool, size_t bytes);
/* Takes an object back that was taken for so many bytes, from any pool or none. pool NULL: frees
 * it. */
void esi_sub_pool_return(struct esi_sub_pool *pool, void *object, size_t bytes);
