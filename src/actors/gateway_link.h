/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gateway link: one connection to another cluster. Outbound (we dialled): our messages go out and
 * the peer's interest comes in. Inbound (the peer dialled): the reverse.
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
struct esi_tls_context;
struct esi_worker;

extern const struct esi_actor_type esi_gateway_link_type;

/*
 * Starts an inbound link.
 *   home    the worker that it lives on
 *   sock    taken, also on failure
 *   ticket  likewise; given back when the peer has said who it is, or has gone
 * ES_FULL: too many. Thread: a worker.
 */
ES_MUST_USE enum es_err esi_gateway_link_accept(struct esi_context *context,
                                                struct esi_worker *home, int sock,
                                                const struct esi_address *peer,
                                                struct esi_ticket *ticket);

struct esi_gateway_link_options {
    uint64_t remote_id; /* the gateway's number for the remote cluster */
    const char *name;   /* its name; copied */
    bool is_configured; /* else learned */
    struct esi_address address;
    const char *user;            /* borrowed for the life of the server; NULL: none */
    const char *password;        /* the same; secret */
    struct esi_tls_context *tls; /* borrowed: a reference is taken; NULL: plain */
    const char *tls_name;        /* what the peer's certificate must be made out to; copied */
};

/*
 * Starts an outbound link: it connects, and tells the gateway when it is open and when it has
 * ended.
 *   link_id   its actor id, for esi_gateway_ended_msg
 * Errors: ES_NO_MEMORY, ES_FULL. Thread: a worker.
 */
ES_MUST_USE enum es_err esi_gateway_link_dial(struct esi_context *context,
                                              const struct esi_gateway_link_options *options,
                                              uint64_t *link_id);

/* What monitoring shows of a link. Strings are borrowed for the visit. */
struct esi_gateway_link_info {
    uint64_t cid;
    bool is_outbound;
    bool is_configured;  /* outbound: the remote stands in the configuration */
    bool is_open;        /* both sides have said who they are */
    struct esi_str name; /* the remote cluster; empty: not known yet */
    struct esi_str server_name;
    struct esi_str server_id;
    const struct esi_address *peer;
    int64_t start_wall_ns;
    uint64_t start_ns;         /* monotonic */
    uint64_t last_activity_ns; /* monotonic */
    uint64_t rtt_ns;           /* 0: unknown */
    uint64_t pending_bytes;
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    uint64_t refused_msgs;     /* outbound: left out because the peer has no interest */
    uint64_t lost_msgs;        /* outbound: there was no memory for them */
    const char *interest_mode; /* of the account */
    uint64_t subscriptions;    /* outbound: plain interest of the peer */
    uint64_t queue_subscriptions;
    const char *tls_version; /* "": plain */
    const char *tls_cipher;
    const struct esi_peer_identity *identity; /* NULL: no certificate */
    uint32_t worker;
};

/* In a visit on the link's worker; actor->type is esi_gateway_link_type. */
void esi_gateway_link_info(const struct esi_actor *actor, struct esi_gateway_link_info *out);
