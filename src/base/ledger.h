/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ledger: how much memory the server holds, by whom it is held, and how much it may hold.
 *
 * The ceiling is divided into classes, so that one kind of use can never starve another:
 *
 *   TRANSIT   | 8 sixteenths | messages on their way: blocks, deliveries, what waits to be written
 *   LASTING   | 5 sixteenths | what stays: connections, TLS sessions, subscriptions, queued events
 *   INPUT     | 2 sixteenths | messages that have come in part
 *   AUXILIARY | 1 sixteenth  | what could be done without: match caches, monitoring
 *
 * Each worker has a lease: it takes from the classes in chunks and spends its chunks without
 * touching anything shared. Memory may be given back to another lease than it was taken from; the
 * sums are right.
 *
 * | operation                | take, charge, give of one lease | the same of another lease, bytes |
 * | take, charge, give       | excluded: one thread            | free                             |
 */
#pragma once

#include "base/err.h"
#include "base/own.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum esi_memory_class {
    MEMORY_TRANSIT,
    MEMORY_LASTING,
    MEMORY_INPUT,
    MEMORY_AUXILIARY,
    MEMORY_CLASS_COUNT
};

enum esi_memory_owner {
    MEMORY_BLOCKS,        /* read blocks and formatted messages, in use and kept in pools */
    MEMORY_DELIVERIES,    /* what brings them to their targets */
    MEMORY_OUTBOUND,      /* lists and own lines of what waits to be written */
    MEMORY_HANDLERS,      /* connections to worker services, with the calls on them */
    MEMORY_CONNECTIONS,   /* client connections themselves */
    MEMORY_LINKS,         /* gateway links themselves */
    MEMORY_TLS,           /* TLS sessions */
    MEMORY_SUBSCRIPTIONS, /* subscriptions and their place in the table */
    MEMORY_INTEREST,      /* interest of gateway peers, and ours on its way to them */
    MEMORY_QUEUE,         /* queued events and dead letters */
    MEMORY_PARTIAL_INPUT, /* bytes read and not yet parsed, large messages being read */
    MEMORY_GRPC,          /* gRPC clients and their requests, as far as they have come */
    MEMORY_MATCH_CACHES,  /* what subjects match, as each worker remembers it */
    MEMORY_MONITOR,       /* pages being made and waiting, connections that have ended */
    MEMORY_OWNER_COUNT
};

/* What one thread takes from; its owner's alone. */
struct esi_lease {
    /* written by its thread, read by any */
    _Alignas(ESI_CACHE_LINE) _Atomic int64_t owner_bytes[MEMORY_OWNER_COUNT];
    /* its thread's */
    struct esi_ledger *ledger;                /* borrowed */
    uint64_t spare_bytes[MEMORY_CLASS_COUNT]; /* taken from the class and not spent */
};

struct esi_ledger_class {
    uint64_t limit_bytes;
    uint64_t short_bytes; /* from here on memory is short */
    /* written by any thread, once a chunk; what all leases hold, spent or spare */
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t leased_bytes;
    _Atomic uint64_t refused; /* how often something was refused */
};

struct esi_ledger {
    uint64_t limit_bytes;
    uint64_t chunk_bytes;
    struct esi_ledger_class classes[MEMORY_CLASS_COUNT];
    uint32_t lease_count;
    struct esi_lease *leases; /* owned */
};

/*
 * Makes a ledger.
 *   limit_bytes   the ceiling
 *   lease_count   threads that take
 * Fails with ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_ledger_new(uint64_t limit_bytes, uint32_t lease_count,
                                       struct esi_ledger **out);
/* No thread uses a lease any more. NULL is accepted. */
void esi_ledger_free(struct esi_ledger *ledger);
/* The lease with this number, borrowed; one thread's. */
struct esi_lease *esi_ledger_lease(struct esi_ledger *ledger, uint32_t index);

/*
 * Takes bytes for an owner. Returns false when the owner's class has none left: nothing was taken,
 * and the refusal is counted. A lease of NULL refuses nothing and counts nothing. Thread: the
 * lease's.
 */
ES_MUST_USE bool esi_ledger_take(struct esi_lease *lease, enum esi_memory_owner owner,
                                 uint64_t bytes);
/* The same for what is there already and must be counted, even above the limit. */
void esi_ledger_charge(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t bytes);
/* Gives bytes back. */
void esi_ledger_give(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t bytes);

/*
 * For an owner that counts what it holds now and then: charges or gives back the difference.
 *   counted   what the ledger knows of this holder; becomes bytes
 */
void esi_ledger_settle(struct esi_lease *lease, enum esi_memory_owner owner, uint64_t *counted,
                       uint64_t bytes);

/* What the allocator takes for len bytes, in the C library of Linux. */
static inline uint64_t esi_ledger_heap_bytes(uint64_t len)
{
    return len <= 24 ? 32 : (len + 8 + 15) / 16 * 16;
}

/* What an owner holds now, in all leases. Thread: any; a sum of figures that may be moving. */
uint64_t esi_ledger_owner_bytes(const struct esi_ledger *ledger, enum esi_memory_owner owner);
/* An owner's name, as monitoring shows it. */
const char *esi_ledger_owner_name(enum esi_memory_owner owner);
/* The class that an owner takes from. */
enum esi_memory_class esi_ledger_class_of(enum esi_memory_owner owner);
/* A class's name, as monitoring shows it. */
const char *esi_ledger_class_name(enum esi_memory_class class);

/* What the leases of a class hold. Thread: any. */
static inline uint64_t esi_ledger_leased_bytes(const struct esi_ledger *ledger,
                                               enum esi_memory_class class)
{
    /* order: relaxed; a figure, nothing is published by it. */
    return atomic_load_explicit(&ledger->classes[class].leased_bytes, memory_order_relaxed);
}

/* True when three quarters of a class are taken: time to hold back what takes more of it. Thread:
 * any. */
static inline bool esi_ledger_is_class_short(const struct esi_ledger_class *class)
{
    /* order: relaxed; as above. */
    return atomic_load_explicit(&class->leased_bytes, memory_order_relaxed) >= class->short_bytes;
}

/* The same of a ledger's class. NULL is accepted and never short. */
static inline bool esi_ledger_is_short(const struct esi_ledger *ledger, enum esi_memory_class class)
{
    return ledger != NULL && esi_ledger_is_class_short(&ledger->classes[class]);
}
