/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A lease keeps at most two chunks that it does not need, so what is leased and what is used differ
 * by two chunks a thread and class at most. Near the limit a lease takes just what it needs.
 */
#include "base/ledger.h"
#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

enum {
    SIXTEENTHS = 16,
    CHUNKS_A_LEASE = 64, /* a class should not be used up by spare chunks */
    CHUNK_BYTES_MIN = 16 * 1024,
    CHUNK_BYTES_MAX = 1024 * 1024
};

static const uint32_t class_sixteenths[MEMORY_CLASS_COUNT] = {
    [MEMORY_TRANSIT] = 8, [MEMORY_LASTING] = 5, [MEMORY_INPUT] = 2, [MEMORY_AUXILIARY] = 1};

static const char *const class_names[MEMORY_CLASS_COUNT] = {[MEMORY_TRANSIT] = "transit",
                                                            [MEMORY_LASTING] = "lasting",
                                                            [MEMORY_INPUT] = "input",
                                                            [MEMORY_AUXILIARY] = "auxiliary"};

static const struct {
    const char *name;
    enum esi_memory_class class;
} owners[MEMORY_OWNER_COUNT] = {
    [MEMORY_BLOCKS] = {"blocks", MEMORY_TRANSIT},
    [MEMORY_DELIVERIES] = {"deliveries", MEMORY_TRANSIT},
    [MEMORY_OUTBOUND] = {"outbound", MEMORY_TRANSIT},
    [MEMORY_HANDLERS] = {"handlers", MEMORY_TRANSIT},
    [MEMORY_CONNECTIONS] = {"connections", MEMORY_LASTING},
    [MEMORY_LINKS] = {"links", MEMORY_LASTING},
    [MEMORY_TLS] = {"tls", MEMORY_LASTING},
    [MEMORY_SUBSCRIPTIONS] = {"subscriptions", MEMORY_LASTING},
    [MEMORY_INTEREST] = {"interest", MEMORY_LASTING},
    [MEMORY_QUEUE] = {"queue", MEMORY_LASTING},
    [MEMORY_PARTIAL_INPUT] = {"partial_input", MEMORY_INPUT},
    [MEMORY_GRPC] = {"grpc", MEMORY_INPUT},
    [MEMORY_MATCH_CACHES] = {"match_caches", MEMORY_AUXILIARY},
    [MEMORY_MONITOR] = {"monitor", MEMORY_AUXILIARY},
};

enum es_err esi_ledger_new(uint64_t limit_bytes, uint32_t lease_count, struct esi_ledger **out)
{
    ESI_REQUIRE(lease_count > 0);
    struct esi_ledger *ledger = aligned_alloc(ESI_CACHE_LINE, sizeof *ledger);
    struct esi_lease *leases = aligned_alloc(ESI_CACHE_LINE, lease_count * sizeof *leases);
    if (ledger == NULL || leases == NULL) {
        free(ledger);
        free(leases);
        return ES_NO_MEMORY;
    }
    const uint64_t chunk_bytes = limit_bytes / SIXTEENTHS / CHUNKS_A_LEASE / lease_count;
    memset(ledger, 0, sizeof *ledger);
    memset(leases, 0, lease_count * sizeof *leases);
    ledger->limit_bytes = limit_bytes;
    ledger->chunk_bytes = chunk_bytes < CHUNK_BYTES_MIN   ? CHUNK_BYTES_MIN
                          : chunk_bytes > CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX
                                                          : chunk_bytes;
    for (int i = 0; i < MEMORY_CLASS_COUNT; i++) {
        struct esi_ledger_class *class = &ledger->classes[i];
        class->limit_bytes = limit_bytes / SIXTEENTHS * class_sixteenths[i];
        class->short_bytes = class->limit_bytes / 4 * 3;
        atomic_init(&class->leased_bytes, 0);
        atomic_init(&class->refused, 0);
    }
    for (uint32_t i = 0; i < lease_count; i++) {
        leases[i].ledger = ledger;
    }
    ledger->lease_count = lease_count;
    ledger->leases = leases;
    *out = ledger;
    return ES_OK;
}

void esi_ledger_free(struct esi_ledger *ledger)
{
    if (ledger != NULL) {
        free(ledger->leases);
        free(ledger);
    }
}

struct esi_lease *esi_ledger_lease(struct esi_ledger *ledger, uint32_t index)
{
    ESI_REQUIRE(index < ledger->lease_count);
    return &ledger->leases[index];
}

static void add_to_owner(struct esi_lease *lease, enum esi_memory_owner owner, int64_t bytes)
{
    _Atomic int64_t *sum = &lease->owner_bytes[owner];

    /* order: relaxed; one writer, its readers want a figure. */
    const int64_t before = atomic_load_explicit(sum, memory_order_relaxed);
    /* order: relaxed; as above. */
    atomic_store_explicit(sum, before + bytes, memory_order_relaxed);
}

static void lease_more(struct esi_ledger_class *class, uint64_t bytes)
{
    /* order: relaxed; a sum with a bound, nothing is published by it. */
    atomic_fetch_add_explicit(&class->leased_bytes, bytes, memory_order_relaxed);
}

static void lease_less(struct esi_ledger_class *class, uint64_t bytes)
{
    /* order: relaxed; as in lease_more. */
    atomic_fetch_sub_explicit(&class->leased_bytes, bytes, memory_order_relaxed);
}

/* Takes bytes from the class, within its limit. */
static bool try_lease(struct esi_ledger_class *class, uint64_t bytes)
{
    /* order: relaxed; as in lease_more. */
    const uint64_t before =
        atomic_fetch_add_explicit(&class->leased_bytes, bytes, memory_order_relaxed);

    if (bytes <= class->limit_bytes && before <= class->limit_bytes - bytes) {
        return true;
    }
    lease_less(class, bytes);
    return false;
}

bool esi_ledger_take(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t bytes)
{
    if (lease == NULL) {
        return true;
    }
    const enum esi_memory_class index = owners[owner].class;
    uint64_t *spare = &lease->spare_bytes[index];

    if (*spare < bytes) {
        struct esi_ledger_class *class = &lease->ledger->classes[index];
        const uint64_t needed = bytes - *spare;
        const uint64_t chunk = lease->ledger->chunk_bytes;
        if (needed < chunk && try_lease(class, chunk)) {
            *spare += chunk;
        } else if (try_lease(class, needed)) {
            *spare += needed;
        } else {
            /* order: relaxed; a counter. */
            atomic_fetch_add_explicit(&class->refused, 1, memory_order_relaxed);
            return false;
        }
    }
    *spare -= bytes;
    add_to_owner(lease, owner, (int64_t)bytes);
    return true;
}

void esi_ledger_charge(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t bytes)
{
    if (lease == NULL) {
        return;
    }
    const enum esi_memory_class index = owners[owner].class;
    uint64_t *spare = &lease->spare_bytes[index];

    if (*spare < bytes) {
        lease_more(&lease->ledger->classes[index], bytes - *spare);
        *spare = bytes;
    }
    *spare -= bytes;
    add_to_owner(lease, owner, (int64_t)bytes);
}

void esi_ledger_give(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t bytes)
{
    if (lease == NULL) {
        return;
    }
    const enum esi_memory_class index = owners[owner].class;
    const uint64_t chunk = lease->ledger->chunk_bytes;
    uint64_t *spare = &lease->spare_bytes[index];

    *spare += bytes;
    /* What was charged above the limit is nobody's to spend. */
    const bool is_over =
        esi_ledger_leased_bytes(lease->ledger, index) > lease->ledger->classes[index].limit_bytes;
    if (is_over || *spare > 2 * chunk) {
        const uint64_t kept = is_over ? 0 : chunk;
        lease_less(&lease->ledger->classes[index], *spare - kept);
        *spare = kept;
    }
    add_to_owner(lease, owner, -(int64_t)bytes);
}

void esi_ledger_settle(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t *counted,
                       uint64_t bytes)
{
    if (bytes > *counted) {
        esi_ledger_charge(lease, owner, bytes - *counted);
    } else if (bytes < *counted) {
        esi_ledger_give(lease, owner, *counted - bytes);
    }
    *counted = bytes;
}

uint64_t esi_ledger_owner_bytes(const struct esi_ledger *ledger, enum esi_memory_owner owner)
{
    int64_t sum = 0;

    for (uint32_t i = 0; i < ledger->lease_count; i++) {
        /* order: relaxed; a figure. */
        sum += atomic_load_explicit(&ledger->leases[i].owner_bytes[owner], memory_order_relaxed);
    }
    /* What was taken from one lease and given to another may be seen half way. */
    return sum > 0 ? (uint64_t)sum : 0;
}

const char *esi_ledger_owner_name(enum esi_memory_owner owner)
{
    return owners[owner].name;
}

enum esi_memory_class esi_ledger_class_of(enum esi_memory_owner owner)
{
    return owners[owner].class;
}

const char *esi_ledger_class_name(enum esi_memory_class class)
{
    return class_names[class];
}
