/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gateway: the one actor that knows all remote clusters: which are configured or learned, which
 * link leads to each, when to dial again. The links themselves are actors of their own
 * (actors/gateway_link.h).
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_actor;
struct esi_actor_type;
struct esi_batch;
struct esi_context;
struct esi_gateway;
struct esi_gateway_info;
struct esi_gateway_routes;
struct esi_publish;
struct esi_tls_context;

extern const struct esi_actor_type esi_gateway_type;

/*
 * Makes and starts the gateway of a server whose configuration has one: it listens and dials.
 * *out, and context->gateway, are set before the door opens. Blocks (files): at start only.
 */
ES_MUST_USE enum es_err esi_gateway_new(struct esi_context *context, struct esi_gateway **out,
                                        struct es_error *error);
/* After the runtime has stopped. NULL is accepted. */
void esi_gateway_free(struct esi_gateway *gateway);

/*
 * Sends a message whose subject is a mapped reply (_GR_.cluster.server.reply, or the older form) to
 * the cluster that it names, by its outbound link alone, through the caller's batch; dropped when
 * there is none. Thread: a worker.
 */
void esi_gateway_send_mapped(struct esi_context *context, struct esi_batch *batch,
                             const struct esi_publish *publish);

/* The real port of the gateway listener. Thread: any. */
uint16_t esi_gateway_port(const struct esi_gateway *gateway);

/* --- for links. Thread: a worker --- */

/*
 * Appends our INFO line.
 *   local_host   our address on the link in question: what others are told where we listen on all
 *                addresses
 */
void esi_gateway_write_info(const struct esi_gateway *gateway, const char *local_host,
                            struct esi_bytes *out);
/* The TLS context for accepting; NULL: plain. */
struct esi_tls_context *esi_gateway_server_tls(const struct esi_gateway *gateway);
struct esi_gateway_routes *esi_gateway_routes_of(struct esi_gateway *gateway);
/* Counts an inbound link; false when there are too many. One that was admitted leaves at its end.
 */
bool esi_gateway_admit(struct esi_gateway *gateway);
void esi_gateway_leave(struct esi_gateway *gateway);
/* False when reject_unknown is on and the name is not configured. */
bool esi_gateway_is_welcome(const struct esi_gateway *gateway, struct esi_str name);

/*
 * What links tell. An info is taken: the caller's is left zeroed. Out of memory they return
 * ES_NO_MEMORY, and the link must be closed.
 */
/* An outbound link is open, or its peer has sent a later INFO: where the peer's cluster can be
 * reached. */
ES_MUST_USE enum es_err esi_gateway_tell_open(struct esi_gateway *gateway, uint64_t remote_id,
                                              struct esi_gateway_info *info);
/* A peer has told of another cluster. */
ES_MUST_USE enum es_err esi_gateway_tell_gossip(struct esi_gateway *gateway,
                                                struct esi_gateway_info *info);
/*
 * An inbound link is open. The gateway answers with a struct esi_gateway_gossip_msg of answer_kind,
 * and dials back when no link leads there.
 */
ES_MUST_USE enum es_err esi_gateway_tell_inbound(struct esi_gateway *gateway,
                                                 struct esi_actor *link, uint32_t answer_kind,
                                                 struct esi_gateway_info *info);

/* The answer to an inbound link: INFO lines (cmd 1) about the other clusters. Freed by msg.free. */
struct esi_gateway_gossip_msg {
    struct esi_msg msg; /* first */
    struct esi_bytes lines;
};

/* How far a link had come when it ended. */
enum esi_gateway_ending {
    ENDING_UNREACHED, /* no connection came about */
    ENDING_REFUSED,   /* one of the two sides did not want the other, or said nothing */
    ENDING_LOST       /* it was open */
};

/* Told once by each link that was told of. Embedded in the link: it cannot get lost. */
struct esi_gateway_ended_msg {
    struct esi_msg msg;
    uint64_t remote_id; /* outbound; 0: inbound */
    uint64_t link_id;   /* the link's actor id */
    enum esi_gateway_ending ending;
};
/* msg->msg.free is set by the caller; it must keep the link alive until then. */
void esi_gateway_tell_ended(struct esi_gateway *gateway, struct esi_gateway_ended_msg *msg);

/* --- visits, for monitoring: on the gateway's worker; actor->type is esi_gateway_type --- */

struct esi_gateway_remote_info {
    const char *name;   /* borrowed for the visit */
    const char *state;  /* "waiting", "resolving", "dialling", "linked" */
    bool is_configured; /* else learned */
    uint32_t url_count;
    uint32_t failures;      /* in a row */
    uint32_t inbound_count; /* links that it has opened to us */
};

/* Calls each(argument, info) for each remote cluster. */
void esi_gateway_each_remote(const struct esi_actor *actor,
                             void (*each)(void *argument,
                                          const struct esi_gateway_remote_info *info),
                             void *argument);
