/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A subscription: made by the actor whose target it is, found by those who publish, told apart from
 * others on its subject by the router (broker/subtable.h).
 */
#pragma once

#include "auth/permissions.h"
#include "base/err.h"
#include "base/str.h"
#include "broker/rcu_map.h"
#include "broker/target.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_sub_pool;

enum esi_sub_flag {
    SUB_HEADERS = 1, /* the client takes HMSG; else headers are stripped */
    /* each message is handed over by itself, with its reply: counts, responses, filters */
    SUB_RECORDS = 2,
    SUB_OPTIMISTIC = 4, /* a link's ">" that stands for "send all but what was refused" */
    /* it ends with a maximum: each message is claimed before it is handed over; with SUB_RECORDS */
    SUB_COUNTED = 8
};

/* The index of a subscription outside the table. */
#define ESI_SUB_NOT_ROUTED UINT32_MAX

/*
 * A subscription. Owned by its target's actor; immutable while it is in the table, except for the
 * router's part. What is looked at for each message stands in the first cache line.
 */
struct esi_sub {
    union {
        struct esi_rcu_entry entry;
        struct { /* the same by the names of a subscription */
            uint64_t hash;
            struct esi_str subject; /* subject, queue and sid lie behind the struct */
            uint16_t kind;          /* the table's */
            uint16_t traits;        /* what it must know of the subject */
            uint32_t index;         /* written by the router: where it stands among others */
        };
    };
    /* borrowed: lives until the removal's grace period has passed */
    struct esi_target *target;
    struct esi_str sid;                  /* empty for links */
    uint32_t slot;                       /* the target's own number for it */
    uint32_t flags;                      /* bits of enum esi_sub_flag */
    struct esi_permissions *permissions; /* a reference; not NULL: each delivery is asked about */
    struct esi_str queue;                /* empty: plain */
    uint64_t created_ns;                 /* monotonic */
    /* written by the router: the list or the node of the trie that it stands in */
    struct esi_rcu_entry *home;
    _Atomic int64_t claims_left; /* SUB_COUNTED: see esi_sub_claim */
};

/* A subscription with copies of its strings, owned by the caller (esi_sub_free; free, where it was
 * given no permissions); NULL when memory is exhausted. */
struct esi_sub *esi_sub_new(struct esi_target *target, struct esi_str subject, struct esi_str queue,
                            struct esi_str sid);
/* The same with memory of a pool, of which this thread is the only user. */
struct esi_sub *esi_sub_new_pooled(struct esi_sub_pool *pool, struct esi_target *target,
                                   struct esi_str subject, struct esi_str queue,
                                   struct esi_str sid);
/* Frees it: its memory goes to a pool; NULL: to the system. sub may be NULL. */
void esi_sub_free(struct esi_sub *sub, struct esi_sub_pool *pool);
/* What the allocator takes for it. */
uint64_t esi_sub_heap_bytes(const struct esi_sub *sub);
/* Has its subject a wildcard? */
bool esi_sub_is_pattern(const struct esi_sub *sub);
/* Is a wildcard the first token of its subject? */
bool esi_sub_begins_with_wildcard(const struct esi_sub *sub);
/* The bucket of its subject: see esi_subtable_bucket. */
uint32_t esi_sub_bucket(const struct esi_sub *sub);
/* True from its addition to its removal. Thread: the part's router. */
bool esi_sub_is_routed(const struct esi_sub *sub);

/*
 * A subscription with a maximum (SUB_COUNTED) is handed over no more messages than it may still
 * have: who hands one over claims it first. False: it has had, or will have, all of them, so it
 * receives nothing of this one. Its owner counts what arrives, and ends it. Thread: any.
 */
ES_MUST_USE bool esi_sub_claim(struct esi_sub *sub);
/* The maximum has become more (or less, when negative), or what was claimed did not arrive. Thread:
 * any. */
void esi_sub_add_claims(struct esi_sub *sub, int64_t count);
