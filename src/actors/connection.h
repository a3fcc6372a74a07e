/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connection: one client. Owns the socket, the TLS session, the parser, the subscriptions and what
 * waits to be written.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "env/env.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_actor_type;
struct esi_context;
struct esi_peer_identity;
struct esi_sub;
struct esi_ticket;
struct esi_verdict;
struct esi_worker;

extern const struct esi_actor_type esi_connection_type;

/*
 * Makes and starts a connection.
 *   home    the worker that it lives on
 *   sock    taken, also on failure
 *   ticket  likewise; given back when the client is authenticated, or has gone
 * Thread: a worker.
 */
ES_MUST_USE enum es_err esi_connection_start(struct esi_context *context, struct esi_worker *home,
                                             int sock, const struct esi_address *peer,
                                             struct esi_ticket *ticket);

/* What monitoring shows of a connection. Strings are borrowed for the visit. */
struct esi_connection_info {
    uint64_t cid;
    const struct esi_address *peer;
    int64_t start_wall_ns;
    uint64_t start_ns;         /* monotonic */
    uint64_t last_activity_ns; /* monotonic */
    uint64_t rtt_ns;           /* 0: unknown */
    uint64_t pending_bytes;
    uint64_t dropped_msgs; /* left out because the client was too slow, or memory too short */
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    uint32_t subscriptions;
    struct esi_str name;
    struct esi_str lang;
    struct esi_str version;
    const char *authorized_user; /* NULL: none */
    const char *tls_version;     /* "": plain */
    const char *tls_cipher;
    const struct esi_peer_identity *identity; /* NULL: no client certificate */
    uint32_t worker;
    bool is_open;
};

/* In a visit on the connection's worker; actor->type is esi_connection_type. */
void esi_connection_info(const struct esi_actor *actor, struct esi_connection_info *out);
/*
 * Calls each(argument, sub, delivered, max) for live subscriptions; max 0: no limit. It looks at
 * count_max places from *place (0: the first one) on, and leaves in *place where to go on. Returns
 * true when there is more. In a visit on the connection's worker.
 */
bool esi_connection_each_sub(const struct esi_actor *actor, uint32_t *place, uint32_t count_max,
                             void (*each)(void *argument, const struct esi_sub *sub,
                                          uint64_t delivered, uint64_t max),
                             void *argument);
/* How the connection was authenticated; borrowed. In a visit on its worker. */
const struct esi_verdict *esi_connection_verdict(const struct esi_actor *actor);
/* Closes with -ERR 'Authorization Violation': its token was revoked. In a visit on its worker. */
void esi_connection_revoke(struct esi_actor *actor);
