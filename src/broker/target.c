/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots are given under a lock: once a connection, never on the path of a message. */
#include "broker/target.h"
#include "base/assert.h"

#include <pthread.h>
#include <stdlib.h>

struct esi_targets {
    /* Guards the slots that are free; taken where a peer comes or goes, never for a message. */
    pthread_mutex_t mutex;
    uint32_t slot_count_max;
    uint32_t free_count;
    uint32_t free_capacity;
    uint32_t *free_slots; /* owned */
    _Atomic uint32_t slot_limit;
};

enum es_err esi_targets_new(uint32_t slot_count_max, struct esi_targets **out)
{
    struct esi_targets *targets = calloc(1, sizeof *targets);

    if (targets == NULL) {
        return ES_NO_MEMORY;
    }
    pthread_mutex_init(&targets->mutex, NULL);
    targets->slot_count_max = slot_count_max;
    atomic_init(&targets->slot_limit, 0);
    *out = targets;
    return ES_OK;
}

void esi_targets_free(struct esi_targets *targets)
{
    if (targets != NULL) {
        pthread_mutex_destroy(&targets->mutex);
        free(targets->free_slots);
        free(targets);
    }
}

/* Room for every slot given so far, so that giving one back cannot fail. */
static enum es_err reserve_free_room(struct esi_targets *targets, uint32_t needed)
{
    if (needed <= targets->free_capacity) {
        return ES_OK;
    }
    const uint32_t capacity = needed < 64 ? 64 : needed * 2;
    uint32_t *slots = realloc(targets->free_slots, capacity * sizeof *slots);
    if (slots == NULL) {
        return ES_NO_MEMORY;
    }
    targets->free_slots = slots;
    targets->free_capacity = capacity;
    return ES_OK;
}

static enum es_err take_slot(struct esi_targets *targets, uint32_t *slot)
{
    if (targets->free_count > 0) {
        *slot = targets->free_slots[--targets->free_count];
        return ES_OK;
    }
    /* order: relaxed; written under the lock only. */
    const uint32_t limit = atomic_load_explicit(&targets->slot_limit, memory_order_relaxed);
    if (limit >= targets->slot_count_max) {
        return ES_FULL;
    }
    const enum es_err err = reserve_free_room(targets, limit + 1);
    if (err != ES_OK) {
        return err;
    }
    *slot = limit;
    /* order: release; pairs with the acquire in esi_targets_slot_limit. */
    atomic_store_explicit(&targets->slot_limit, limit + 1, memory_order_release);
    return ES_OK;
}

enum es_err esi_targets_add(struct esi_targets *targets, struct esi_target *target)
{
    uint32_t slot = 0;

    pthread_mutex_lock(&targets->mutex);
    const enum es_err err = take_slot(targets, &slot);
    pthread_mutex_unlock(&targets->mutex);
    if (err == ES_OK) {
        target->slot = slot;
        atomic_init(&target->pending_bytes, 0);
        atomic_init(&target->lost_msgs, 0);
        atomic_init(&target->progress_ns, 0);
        atomic_init(&target->rtt_us, 0);
        atomic_init(&target->is_gone, false);
    }
    return err;
}

void esi_targets_remove(struct esi_targets *targets, struct esi_target *target)
{
    pthread_mutex_lock(&targets->mutex);
    ESI_ASSERT(targets->free_count < targets->free_capacity);
    targets->free_slots[targets->free_count++] = target->slot;
    pthread_mutex_unlock(&targets->mutex);
}

uint32_t esi_targets_slot_limit(const struct esi_targets *targets)
{
    /* order: acquire; pairs with the release in take_slot. */
    return atomic_load_explicit(&targets->slot_limit, memory_order_acquire);
}
