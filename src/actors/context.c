/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker makes for itself before its first turn, its pools filled, so that the first
 * messages do not pay for it. */
#include "actors/context.h"
#include "actors/outbound.h"
#include "base/own.h"
#include "env/env.h"
#include "runtime/runtime.h"

#include <stdlib.h>

enum {
    CACHE_ENTRIES = 131072, /* some 25 MB, where so many subjects are in use */
    BLOCKS_POPULATED = 8,
    DELIVERIES_POPULATED = 64,
    PAUSE_BYTES = 1024 * 1024,
    SHAKES_A_TURN = 4
};

/* Of subscriptions that have ended, a worker; beside limits.memory. Under a sanitizer none, or it
 * would not see that one is looked at after its end. */
#ifdef ESI_SANITIZED
enum { SUBS_KEPT_BYTES = 0 };
#else
enum { SUBS_KEPT_BYTES = 64 * 1024 };
#endif

void esi_context_local_free(void *argument, void *value)
{
    struct esi_local *local = value;

    (void)argument;
    if (local == NULL) {
        return;
    }
    esi_batch_free(local->batch);
    esi_match_cache_free(local->cache);
    if (local->read_block != NULL) {
        esi_block_unref(local->read_block, &local->pools.blocks, 1);
    }
    esi_outbound_forget_text(&local->pools);
    esi_pool_deinit(&local->pools.blocks);
    esi_pool_deinit(&local->pools.deliveries);
    esi_sub_pool_trim(&local->subs);
    free(local);
}

void *esi_context_local_new(void *argument, uint32_t worker_index)
{
    struct esi_context *context = argument;
    struct esi_local *local = calloc(1, sizeof *local);
    uint64_t seed = 0;

    if (local == NULL) {
        return NULL;
    }
    local->lease = context->ledger != NULL ? esi_ledger_lease(context->ledger, worker_index) : NULL;
    esi_pool_init(&local->pools.blocks, &context->block_depot);
    esi_pool_init(&local->pools.deliveries, &context->delivery_depot);
    local->pools.blocks.lease = local->lease;
    local->pools.deliveries.lease = local->lease;
    esi_sub_pool_init(&local->subs, SUBS_KEPT_BYTES);
    esi_pool_populate(&local->pools.blocks, BLOCKS_POPULATED);
    esi_pool_populate(&local->pools.deliveries, DELIVERIES_POPULATED);
    esi_env_random(context->env, &seed, sizeof seed);
    if (esi_match_cache_new(context->table, context->targets, CACHE_ENTRIES, &local->cache) !=
        ES_OK) {
        goto fail;
    }
    esi_match_cache_charge_to(local->cache, local->lease);
    const struct esi_batch_options options = {
        .table = context->table,
        .targets = context->targets,
        .cache = local->cache,
        .pools = &local->pools,
        .cluster = context->cluster_hash,
        .server = context->server_hash,
        .account = ESI_ACCOUNT,
        .random_seed = seed,
        .pause_bytes = context->config->limits.max_pending_bytes < 4 * (uint64_t)PAUSE_BYTES
                           ? context->config->limits.max_pending_bytes / 4 + 1
                           : PAUSE_BYTES,
        .block_bytes = context->config->limits.max_pending_bytes,
    };
    if (esi_batch_new(&options, &local->batch) != ES_OK) {
        goto fail;
    }
    return local;
fail:
    esi_context_local_free(argument, local);
    return NULL;
}

void esi_context_free_delivery(struct esi_msg *msg)
{
    struct esi_worker *worker = esi_worker_current();
    struct esi_local *local = worker != NULL ? esi_worker_local(worker) : NULL;

    esi_delivery_free((struct esi_delivery *)(void *)msg, 0, local != NULL ? &local->pools : NULL);
}

char *esi_context_read_room(struct esi_local *local, size_t needed, size_t *room_len)
{
    if (local->read_block != NULL && esi_block_is_unique(local->read_block)) {
        local->read_used = 0;
    }
    if (local->read_block == NULL || local->read_block->capacity - local->read_used < needed) {
        struct esi_block *fresh = esi_block_new_sized(&local->pools.blocks, needed);
        if (fresh == NULL) {
            return NULL;
        }
        if (local->read_block != NULL) {
            esi_block_unref(local->read_block, &local->pools.blocks, 1);
        }
        local->read_block = fresh;
        local->read_used = 0;
    }
    *room_len = local->read_block->capacity - local->read_used;
    return local->read_block->data + local->read_used;
}

bool esi_context_may_shake(struct esi_local *local)
{
    struct esi_worker_stats stats;

    esi_worker_stats(esi_worker_current(), &stats);
    if (local->shake_turn != stats.turns) {
        local->shake_turn = stats.turns;
        local->shakes = 0;
    }
    return local->shakes++ < SHAKES_A_TURN;
}
