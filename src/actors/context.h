/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all actors of one server share: made by server/assemble.c before the first actor starts,
 * immutable afterwards except for the counters. And what each worker has for itself.
 */
#pragma once

#include "base/block.h"
#include "base/ledger.h"
#include "broker/batch.h"
#include "broker/match_cache.h"
#include "broker/sub_pool.h"
#include "broker/subtable.h"
#include "broker/target.h"
#include "config/config.h"
#include "env/env.h"
#include "proto/reply_map.h"

#include <stdatomic.h>
#include <stdint.h>

struct esi_authenticator;
struct esi_env;
struct esi_gateway;
struct esi_grpc_door;
struct esi_monitor;
struct esi_queue;
struct esi_router;
struct esi_runtime;
struct esi_tls_context;

/* Traffic of what has ended: the living count for themselves. */
struct esi_ended_traffic {
    _Atomic uint64_t in_msgs;
    _Atomic uint64_t in_bytes;
    _Atomic uint64_t out_msgs;
    _Atomic uint64_t out_bytes;
};

/* Counters that are written once a connection or event, by any thread; relaxed. */
struct esi_counters {
    _Atomic uint64_t connections_total;
    _Atomic uint32_t connections;
    _Atomic uint32_t listeners; /* connections that hold a subscription */
    _Atomic uint64_t slow_consumers;
    _Atomic uint64_t slow_gateways;         /* of them, links */
    _Atomic uint64_t memory_slow_consumers; /* of them: closed because memory was short */
    _Atomic uint64_t memory_pauses;         /* publishers not read for a while because of that */
    _Atomic uint64_t gateway_lost_msgs;     /* for links: there was no memory for them */
    /* limits.slow_consumer: drop_new, of connections that are closed */
    _Atomic uint64_t dropped_msgs;
    _Atomic uint64_t auth_failures;
    struct esi_ended_traffic ended_clients;
    struct esi_ended_traffic ended_links;
};

struct esi_context {
    struct esi_env *env;             /* borrowed */
    struct esi_runtime *runtime;     /* owned by the server */
    const struct esi_config *config; /* borrowed */
    struct esi_subtable *table;      /* of the one account */
    struct esi_targets *targets;
    uint32_t router_count;
    struct esi_router *routers[ESI_SUBTABLE_ROUTERS_MAX];
    struct esi_ledger *ledger; /* who holds how much memory */
    struct esi_pool_depot block_depot;
    struct esi_pool_depot delivery_depot;
    struct esi_tls_context *client_tls; /* NULL: plain clients */
    char server_id[57];                 /* of the form of a server nkey */
    struct esi_reply_map_hash cluster_hash;
    struct esi_reply_map_hash server_hash;
    uint64_t start_ns; /* monotonic */
    int64_t start_wall_ns;
    bool auth_required;
    bool judges_clients;                     /* else every client may come in */
    struct esi_authenticator *authenticator; /* NULL: nobody shows a secret */
    struct esi_gateway *gateway;             /* NULL: off */
    struct esi_queue *queue;                 /* NULL: none (event-gateway) */
    struct esi_grpc_door *grpc_door;         /* NULL: off */
    struct esi_monitor *monitor;             /* NULL: off; set before the first client comes */
    struct esi_address client_bound;         /* where clients connect; set before the first can */
    /* all doors are open; what stands above is then set for good */
    _Atomic bool is_ready;
    _Atomic uint64_t next_cid;
    struct esi_counters counters;
};

/* A worker's own: what esi_worker_local returns. */
struct esi_local {
    struct esi_lease *lease; /* borrowed: what is kept for peers is taken from it */
    struct esi_batch_pools pools;
    struct esi_sub_pool subs; /* memory of subscriptions that have ended */
    struct esi_match_cache *cache;
    struct esi_batch *batch;
    struct esi_block *read_block; /* where the next bytes of a peer are read to; NULL: none yet */
    size_t read_used;             /* bytes of it that slices may point into */
    uint64_t shake_turn;          /* the turn of the worker that shakes are counted in */
    uint32_t shakes;
};

/* The local_new and local_free of the runtime; argument: the context. */
void *esi_context_local_new(void *argument, uint32_t worker_index);
void esi_context_local_free(void *argument, void *local);

/* The free of a delivery that is sent as a message: what it holds goes back to the pools of the
 * worker at hand. Thread: any. */
void esi_context_free_delivery(struct esi_msg *msg);

/* Room for at least `needed` contiguous bytes in the worker's read block. Returns NULL when memory
 * is exhausted. */
char *esi_context_read_room(struct esi_local *local, size_t needed, size_t *room_len);

/*
 * May a server go on with a TLS handshake in this turn of its worker? A step costs about a
 * millisecond, and many at once would keep all others of the worker waiting. Who may not leaves its
 * bytes in the socket: the poller tells it again. Thread: the worker whose local it is.
 */
bool esi_context_may_shake(struct esi_local *local);

enum { ESI_READ_ROOM_MIN = 16 * 1024 };

/* The account that everything belongs to in this version. */
#define ESI_ACCOUNT ESI_STR("$G")
/* The protocol version that clients see. */
#define ESI_PROTOCOL_VERSION ESI_STR("2.11.0")
