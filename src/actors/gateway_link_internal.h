/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a gateway link, shared by the files that make it: gateway_link.c (life, opening,
 * timers, what monitoring sees), gateway_link_input.c (reading, parsing), gateway_link_output.c
 * (deliveries, writing), gateway_link_close.c (its end), gateway_dialler.c (outbound: we dialled)
 * and gateway_acceptor.c (inbound: the peer dialled). All functions run on its worker.
 */
#pragma once

#include "actors/context.h"
#include "actors/gateway.h"
#include "actors/gateway_interest.h"
#include "actors/gateway_routes.h"
#include "actors/listener.h"
#include "actors/outbound.h"
#include "actors/reader.h"
#include "actors/route_ops.h"
#include "base/bytes.h"
#include "broker/target.h"
#include "env/env.h"
#include "proto/client_writer.h"
#include "proto/connect.h"
#include "proto/gateway_parser.h"
#include "proto/info.h"
#include "runtime/actor.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_auth_check;
struct esi_context;
struct esi_delivery;
struct esi_interest_msg;
struct esi_local;
struct esi_stream;
struct esi_tls_context;

enum gateway_link_msg {
    LINK_DELIVER,
    LINK_ROUTED,
    LINK_DETACHED,
    LINK_UNROUTED, /* no worker can find the link by its cluster any more */
    LINK_INTEREST,
    LINK_GOSSIP,
    LINK_CHECKED
};

enum gateway_link_state {
    LINK_STATE_CONNECTING,
    LINK_STATE_HANDSHAKE,
    LINK_STATE_OPENING,
    LINK_STATE_OPEN,
    LINK_STATE_CLOSING,
    LINK_STATE_CLOSED
};

/* Outbound: what the link has of its own. */
struct gateway_dialler {
    uint64_t remote_id;
    bool is_configured;
    char *wanted;                /* owned: the name that the peer must have */
    const char *user;            /* borrowed */
    const char *password;        /* borrowed, secret */
    struct esi_bytes secret;     /* CONNECT, until all of it is written; wiped */
    size_t secret_written;       /* bytes of it */
    struct esi_tls_context *tls; /* a reference; NULL: plain */
    char *tls_name;              /* owned */
    struct esi_gateway_interest interest;
    struct esi_gateway_route route;
    bool is_routed;       /* route stands in the table, or may still be seen there */
    bool skips_continued; /* the rest of a message that was left out */
    uint32_t news_left;   /* of clusters, that the gateway may be told until news_refill_ns */
    uint64_t news_refill_ns;
    struct esi_grace unrouted;
};

/* Inbound: what the link has of its own. */
struct gateway_acceptor {
    struct esi_connect connect;
    bool is_checking;  /* the authenticator looks at the password */
    bool is_listening; /* the routers tell us of interest */
    bool is_announced; /* all interest was sent: from here on, changes */
    bool has_gossip;
    struct esi_router_listener *listeners[ESI_SUBTABLE_ROUTERS_MAX]; /* owned */
    uint32_t snapshots_pending;
    uint64_t announced_bytes; /* of the interest that was there when the link opened */
    struct esi_bytes queues;  /* RS+ lines of groups, until announced */
    struct esi_bytes lines;   /* plain RS+ lines, until announced */
    struct esi_bytes changes; /* what changed after a snapshot, until announced */
    struct esi_bytes gossip;
};

/* Messages for the peer that there was no memory for. An episode ends when none was lost for a
 * while. */
struct gateway_losses {
    uint64_t noticed_msgs; /* of target.lost_msgs: what we know of */
    uint64_t before_msgs;  /* the same, when the episode began */
    uint64_t begun_ns;
    uint64_t last_ns;
    bool is_losing; /* an episode goes on */
};

struct esi_gateway_link {
    struct esi_actor actor; /* first */
    struct esi_target target;
    struct esi_context *context; /* borrowed */
    struct esi_gateway *gateway; /* borrowed */
    struct esi_local *local;     /* borrowed: the home worker's */
    uint64_t cid;
    struct esi_address peer;
    struct esi_ticket *ticket; /* owned; inbound: NULL once the peer has said who it is */
    bool is_outbound;
    enum gateway_link_state state;
    struct esi_stream *stream; /* owned; NULL: not connected yet, or closed */
    int sock;                  /* owned while there is no stream */
    struct esi_io io;
    struct esi_outbound outbound;
    uint64_t own_bytes;      /* charged for the link itself */
    uint64_t interest_bytes; /* for our interest on its way to the peer */
    struct esi_gateway_parser parser;
    struct esi_reader reader;
    struct esi_route_ops ops;
    struct gateway_dialler dialler;   /* outbound */
    struct gateway_acceptor acceptor; /* inbound */
    bool has_info;                    /* the peer has said who it is: */
    char *peer_gateway;               /* owned; NULL: not said */
    char *peer_server_name;           /* owned; NULL: not said */
    char *peer_server_id;             /* owned; NULL: not said */
    /* flags */
    bool is_parsing;
    bool is_write_blocked;
    bool is_paused;
    bool is_unwatched; /* hung up during a pause: see ready in gateway_link.c */
    bool is_write_shut;
    bool is_stalled; /* what is left over waits for something before it, not for more bytes */
    bool needs_read; /* decrypted bytes wait, which the poller does not see */
    bool has_ended;  /* the gateway was told */
    const char *close_reason;
    struct esi_actor_timer open_timer; /* connecting, handshake, opening */
    struct esi_actor_timer ping_timer;
    struct esi_actor_timer write_timer;
    struct esi_actor_timer pause_timer;
    struct esi_actor_timer tick_timer; /* set while something waits to be written */
    struct esi_actor_timer loss_timer; /* set while messages are lost */
    struct gateway_losses losses;
    struct esi_gateway_ended_msg ended_msg;
    /* counters */
    int64_t start_wall_ns;
    uint64_t start_ns;
    uint64_t activity_ns;
    uint64_t ping_sent_ns;
    uint64_t rtt_ns;
    uint32_t pings_out;
    uint64_t lingered_bytes;
    uint64_t close_deadline_ns; /* CLOSING: the latest end, whatever the peer takes */
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    uint64_t refused_msgs;
};

static inline bool is_link_ending(const struct esi_gateway_link *self)
{
    return self->state == LINK_STATE_CLOSING || self->state == LINK_STATE_CLOSED;
}

static inline uint64_t link_now_ns(const struct esi_gateway_link *self)
{
    return esi_actor_now_ns(&self->actor);
}

static inline const struct esi_config_limits *link_limits(const struct esi_gateway_link *self)
{
    return &self->context->config->limits;
}

/* --- gateway_link.c --- */

/* The link ends when it is not open by then. */
void esi_gateway_link_set_open_timer(struct esi_gateway_link *self, uint64_t delay_ns);
/* Both sides have said who they are: the opening's timer ends, liveness is watched. */
void esi_gateway_link_set_first_ping(struct esi_gateway_link *self);
/* Notes what the peer's first INFO says of it. */
void esi_gateway_link_note_peer(struct esi_gateway_link *self, const struct esi_gateway_info *info);
void esi_gateway_link_log_tls_failure(const struct esi_gateway_link *self);

/* --- gateway_link_input.c --- */

/* What came in and is not parsed yet has to wait for something before it. */
bool esi_gateway_link_input_is_waiting(const struct esi_gateway_link *self);
/* Parses what is there, and what can be read where may_read. Once a turn. */
void esi_gateway_link_input_process(struct esi_gateway_link *self, bool may_read);

/* --- gateway_link_output.c --- */

/* The target's deliver function. Thread: any. */
void esi_gateway_link_output_deliver(struct esi_target *target, struct esi_delivery *delivery);
/* Puts everything that was sent to us up to now into the outbound queue: cause before effect. */
void esi_gateway_link_output_take(struct esi_gateway_link *self);
/* Appends a line of our own; nothing when the link is ending. */
void esi_gateway_link_output_push(struct esi_gateway_link *self, struct esi_str text);
/* Appends our INFO. */
void esi_gateway_link_output_push_info(struct esi_gateway_link *self);
/* The same as push, behind all that was sent to us up to now: cause before effect. */
void esi_gateway_link_output_answer(struct esi_gateway_link *self, struct esi_str text);
/* Writes what the socket takes. Once a turn. */
void esi_gateway_link_output_write(struct esi_gateway_link *self);
/* At the end of a turn: sets the tick where something waits. */
void esi_gateway_link_output_watch(struct esi_gateway_link *self);
/* When memory is short, a peer that would need longer than write_deadline is closed. */
void esi_gateway_link_output_on_tick(struct esi_gateway_link *self);
/* Memory is short: nothing is read for a while. */
void esi_gateway_link_output_pause(struct esi_gateway_link *self);
/* Once a turn: tells of messages that are lost because memory is exhausted. */
void esi_gateway_link_output_note_losses(struct esi_gateway_link *self);
/* The loss timer: tells of the end of an episode in which none was lost for a while. */
void esi_gateway_link_output_on_loss_timer(struct esi_gateway_link *self);
/* The link goes: an episode ends with it. */
void esi_gateway_link_output_end_losses(struct esi_gateway_link *self);
/* The peer has taken nothing until its deadline. */
void esi_gateway_link_output_on_timer(struct esi_gateway_link *self);

/* --- gateway_link_close.c --- */

/* What was queued goes out first, then text (may be empty), then the end of the stream. */
void esi_gateway_link_close(struct esi_gateway_link *self, struct esi_str text, const char *reason);
void esi_gateway_link_close_err(struct esi_gateway_link *self, enum esi_client_err err,
                                const char *reason);
/* Ends it at once: nothing more is written. */
void esi_gateway_link_close_now(struct esi_gateway_link *self, const char *reason);
/* All is written: tells the peer that nothing follows. */
void esi_gateway_link_close_end_stream(struct esi_gateway_link *self);
/* After the last line: what the peer still sends is read and dropped, within bounds. */
void esi_gateway_link_close_linger(struct esi_gateway_link *self);
/* Enough was read and dropped. */
bool esi_gateway_link_close_has_lingered(const struct esi_gateway_link *self);
/* Finishes the actor of a closed link when nobody can find it any more. */
void esi_gateway_link_close_finish(struct esi_gateway_link *self);

/* --- gateway_dialler.c --- */

void esi_gateway_dialler_deinit(struct esi_gateway_link *self);
void esi_gateway_dialler_on_info(struct esi_gateway_link *self, struct esi_str json);
/*
 * Writes what is left of our CONNECT, which goes before all else. *has_progress is set when some of
 * it went. ES_OK: nothing is left of it; ES_AGAIN: the socket takes no more; or as
 * esi_stream_writev.
 */
ES_MUST_USE enum es_err esi_gateway_dialler_write_secret(struct esi_gateway_link *self,
                                                         bool *has_progress);
void esi_gateway_dialler_forget_secret(struct esi_gateway_link *self);
void esi_gateway_dialler_on_interest(struct esi_gateway_link *self, enum esi_gateway_op op,
                                     const struct esi_gateway_item *item);
void esi_gateway_dialler_on_deliver(struct esi_gateway_link *self, struct esi_delivery *delivery);
/* Takes back all that others can find the link by; true when there is nothing more to note. Once a
 * turn. */
bool esi_gateway_dialler_withdraw(struct esi_gateway_link *self);
/* Nobody can find the link any more. */
bool esi_gateway_dialler_is_forgotten(const struct esi_gateway_link *self);

/* --- gateway_acceptor.c --- */

void esi_gateway_acceptor_init(struct esi_gateway_link *self);
void esi_gateway_acceptor_deinit(struct esi_gateway_link *self);
void esi_gateway_acceptor_on_connect(struct esi_gateway_link *self, struct esi_str json);
void esi_gateway_acceptor_on_info(struct esi_gateway_link *self, struct esi_str json);
void esi_gateway_acceptor_on_message(struct esi_gateway_link *self,
                                     const struct esi_gateway_item *item);
void esi_gateway_acceptor_on_interest(struct esi_gateway_link *self, struct esi_interest_msg *msg);
void esi_gateway_acceptor_on_gossip(struct esi_gateway_link *self,
                                    struct esi_gateway_gossip_msg *msg);
void esi_gateway_acceptor_on_checked(struct esi_gateway_link *self,
                                     const struct esi_auth_check *check);
/* Bytes of memory of our interest on its way to the peer. */
uint64_t esi_gateway_acceptor_memory_bytes(const struct esi_gateway_link *self);
/* No more interest is told. */
void esi_gateway_acceptor_withdraw(struct esi_gateway_link *self);
