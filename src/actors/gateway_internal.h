/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of the gateway actor, shared by the files that make it: gateway.c (making, messages,
 * what links ask, what monitoring sees), gateway_pursuit.c (reaching the remote clusters) and
 * gateway_gossip.c (what peers tell of clusters, and are told). All functions run in its turns.
 */
#pragma once

#include "actors/gateway.h"
#include "actors/gateway_remotes.h"
#include "actors/gateway_routes.h"
#include "base/list.h"
#include "base/own.h"
#include "base/str.h"
#include "env/env.h"
#include "proto/info.h"
#include "runtime/actor.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_config_gateway;
struct esi_config_remote;
struct esi_context;
struct esi_tls_context;

enum gateway_msg {
    GATEWAY_OPENED,
    GATEWAY_GOSSIPED,
    GATEWAY_INBOUND,
    GATEWAY_ENDED,
    GATEWAY_RESOLVED
};

/* As nats-server: a learned link at once, more or less, an explicit one after a second. */
static const uint64_t GATEWAY_JITTER_NS = 100000000;

enum gateway_pursuit_state { PURSUIT_WAITING, PURSUIT_RESOLVING, PURSUIT_DIALLING, PURSUIT_LINKED };

/* What is done about one remote cluster. */
struct gateway_pursuit {
    struct esi_actor_timer timer;      /* first */
    struct esi_gateway_remote *remote; /* owned by the list */
    struct esi_tls_context *tls;       /* borrowed: the gateway's; NULL: plain */
    enum gateway_pursuit_state state;
    uint32_t *order; /* owned: the round's addresses; room for all of them */
    uint32_t order_count;
    uint32_t order_next;
    struct esi_list in_lookups; /* while its next look-up waits for others to end */
    uint32_t failures;          /* rounds in a row */
    uint64_t round_ns;          /* when the last round began */
    uint64_t link_id;
    uint64_t linked_ns;
    bool was_linked; /* at some time */
};

struct esi_gateway {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    struct esi_address bound;
    struct esi_tls_context *server_tls;  /* owned; NULL: plain */
    struct esi_tls_context *client_tls;  /* owned: for learned remotes; NULL: plain */
    struct esi_tls_context **remote_tls; /* owned: one a configured remote; NULL: plain */
    struct esi_gateway_remotes remotes;
    uint32_t learned_lookups;         /* of hosts that peers have named, under way */
    struct esi_list lookups_waiting;  /* pursuits */
    struct esi_list inbounds;         /* gateway_gossip.c's */
    struct esi_gateway_routes routes; /* workers look at them too */
    /* written by any worker */
    _Alignas(ESI_CACHE_LINE) _Atomic uint32_t inbound_count;
};

/* What a link tells. */
struct gateway_news {
    struct esi_msg msg; /* first */
    uint64_t remote_id;
    struct esi_actor *link; /* a reference; NULL: no answer is wanted */
    uint32_t answer_kind;
    struct esi_gateway_info info; /* owned */
};

const struct esi_config_gateway *esi_gateway_config(const struct esi_gateway *self);
/* A random number below limit; 0 for 0. */
uint64_t esi_gateway_random(const struct esi_gateway *self, uint64_t limit);

static inline struct gateway_pursuit *pursuit_of(const struct esi_gateway_remote *remote)
{
    return remote->owner;
}

/* --- gateway_pursuit.c --- */

/* Begins to pursue a remote cluster that is not known yet; NULL when it cannot be. */
struct gateway_pursuit *esi_gateway_pursuit_new(struct esi_gateway *self, struct esi_str name,
                                                const struct esi_config_remote *config);
void esi_gateway_pursuit_free(struct gateway_pursuit *pursuit);
/* Tries the addresses of the remote, one after the other. */
void esi_gateway_pursuit_start_round(struct esi_gateway *self, struct gateway_pursuit *pursuit);
/* The cluster has linked to us: no need to wait a pause out. */
void esi_gateway_pursuit_hurry(struct esi_gateway *self, struct gateway_pursuit *pursuit);
/*
 * Gives up one learned cluster that was never reached and has no link to us, the one that failed
 * most often; false when there is none.
 */
bool esi_gateway_pursuit_make_room(struct esi_gateway *self);
void esi_gateway_pursuit_on_opened(struct esi_gateway *self, const struct gateway_news *news);
void esi_gateway_pursuit_on_resolved(struct esi_gateway *self, struct esi_msg *msg);
void esi_gateway_pursuit_on_ended(struct esi_gateway *self,
                                  const struct esi_gateway_ended_msg *ended);
const char *esi_gateway_pursuit_state_name(enum gateway_pursuit_state state);

/* --- gateway_gossip.c --- */

/* A peer has told of another cluster. */
void esi_gateway_gossip_on_told(struct esi_gateway *self, const struct gateway_news *news);
/* A cluster has opened a link to us; the link is sent what it is told. */
void esi_gateway_gossip_on_inbound(struct esi_gateway *self, const struct gateway_news *news);
void esi_gateway_gossip_on_inbound_ended(struct esi_gateway *self, uint64_t link_id);
/* How many links this cluster has to us. */
uint32_t esi_gateway_gossip_count_inbound(const struct esi_gateway *self, struct esi_str name);
/* Frees what is noted of links to us. */
void esi_gateway_gossip_deinit(struct esi_gateway *self);
