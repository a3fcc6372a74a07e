/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a client connection, shared by the files that make it: connection.c (life, timers,
 * what monitoring sees), connection_auth.c (INFO, the TLS handshake, CONNECT), connection_input.c
 * (reading, parsing, publishing), connection_subs.c (SUB and UNSUB), connection_output.c
 * (deliveries, writing), connection_pressure.c (short memory, targets that hold back) and
 * connection_close.c (its end). All functions run on its worker.
 */
#pragma once

#include "actors/client_subs.h"
#include "actors/connection.h"
#include "actors/context.h"
#include "actors/outbound.h"
#include "actors/reader.h"
#include "actors/route_ops.h"
#include "auth/verdict.h"
#include "base/own.h"
#include "broker/mapping.h"
#include "broker/target.h"
#include "env/env.h"
#include "proto/client_parser.h"
#include "proto/client_writer.h"
#include "proto/connect.h"
#include "runtime/actor.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_auth_check;
struct esi_bytes;
struct esi_delivery;
struct esi_stream;
struct esi_ticket;

enum connection_msg {
    CONNECTION_DELIVER,
    CONNECTION_ROUTED,
    CONNECTION_DETACHED,
    CONNECTION_AUTHENTICATED
};

enum connection_state { STATE_FIRST, STATE_HANDSHAKE, STATE_OPEN, STATE_CLOSING, STATE_CLOSED };

enum {
    ALLOWED_CACHE_SIZE = 16,
    LINGER_BYTES_MAX = 1024 * 1024,
    SMALL_PARTS_BYTES = 256 /* of a connection: maps and lists, as far as they are small */
};

/* an idle client is pinged early, for its round-trip time */
static const uint64_t FIRST_PING_NS = 2000000000;

struct esi_connection {
    struct esi_actor actor; /* first */
    struct esi_target target;
    struct esi_context *context; /* borrowed */
    struct esi_local *local;     /* borrowed: the home worker's */
    uint64_t cid;
    struct esi_address peer;
    struct esi_ticket *ticket; /* owned; NULL once it is known who the client is */
    enum connection_state state;
    struct esi_stream *stream; /* owned */
    struct esi_io io;
    struct esi_outbound outbound;
    struct esi_client_parser parser;
    struct esi_connect connect;
    struct esi_verdict verdict;
    struct esi_client_subs subs;
    struct esi_mapping mapped;    /* replies of a remote cluster's requests */
    struct esi_mapping responses; /* allow_responses */
    struct esi_reader reader;
    struct esi_route_ops ops;
    uint32_t counted_subs; /* live subscriptions with a max */
    /* a reference: the target that must take some of what waits before we go on; NULL: none */
    struct esi_target *blocker;
    uint32_t pause_doublings; /* of the next pause for memory or a blocker */
    uint32_t withdrawn_slots; /* on its way out: of its subscriptions, those that were looked at */
    uint64_t own_bytes;       /* charged for the connection itself */
    uint64_t tls_bytes;       /* charged for the TLS session; 0: plain */
    /* flags */
    bool is_parsing;
    bool is_authenticating;
    bool awaits_verdict_for_connect; /* else the verdict is on no_auth_user, without a CONNECT */
    bool has_connect;
    bool has_first_pong;
    bool is_refused;  /* one too many: told so and closed */
    bool is_listener; /* counted as one */
    bool is_write_blocked;
    bool is_dropping; /* drop_new: messages are left out until the peer has taken enough */
    bool is_overdue;  /* drop_new: the peer has taken nothing for write_deadline */
    bool is_paused;
    bool is_unwatched; /* hung up during a pause: see ready */
    bool is_write_shut;
    bool has_peer_ended;  /* all that it sent was read */
    bool skips_continued; /* the rest of a message that was left out */
    bool is_stalled;      /* what is left over waits for something before it, not for more bytes */
    bool is_ping_held;    /* a PING was parsed that waits for UNSUBs before it */
    bool needs_read;      /* decrypted bytes wait, which the poller does not see */
    const char *close_reason;
    struct esi_actor_timer auth_timer;
    struct esi_actor_timer ping_timer;
    struct esi_actor_timer write_timer;
    struct esi_actor_timer pause_timer;
    /* set while something waits to be written, or has come in part */
    struct esi_actor_timer tick_timer;
    struct esi_actor_timer expiry_timer;
    /* counters */
    int64_t start_wall_ns;
    uint64_t start_ns;
    uint64_t activity_ns; /* the last line but a PONG, which only says that the peer is there */
    uint64_t ping_sent_ns;
    uint64_t rtt_ns;
    uint64_t rtt_known_ns;
    uint32_t pings_out;
    uint64_t lingered_bytes;
    uint64_t close_deadline_ns; /* CLOSING: the latest end, whatever the peer takes */
    uint64_t dropped_msgs;      /* left out because the peer was too slow, or memory too short */
    uint64_t lost_msgs;         /* of target.lost_msgs: what we know of */
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    /* owned; hashes of ALLOWED_CACHE_SIZE subjects that the permissions allow, direct-mapped; NULL:
     * not kept, where there are no permissions */
    uint64_t *allowed;
};

static inline uint64_t connection_now_ns(const struct esi_connection *self)
{
    return esi_actor_now_ns(&self->actor);
}

static inline bool is_connection_ending(const struct esi_connection *self)
{
    return self->state == STATE_CLOSING || self->state == STATE_CLOSED;
}

/* Something must come before what stands next in the input. */
static inline bool is_connection_waiting(const struct esi_connection *self)
{
    return self->ops.routes_pending > 0 || self->is_authenticating || self->state != STATE_OPEN;
}

/* --- connection.c --- */

/* The peer has broken the protocol. */
void esi_connection_log_fault(const struct esi_connection *self, const char *fault);

/* --- connection_auth.c --- */

/* Appends our INFO. */
void esi_connection_auth_write_info(struct esi_connection *self);
/* TLS or not: the first byte tells. */
void esi_connection_auth_look_at_first_bytes(struct esi_connection *self);
void esi_connection_auth_start_tls(struct esi_connection *self);
void esi_connection_auth_shake_hands(struct esi_connection *self);
/* Charges what the TLS session takes now. */
void esi_connection_auth_count_tls(struct esi_connection *self);
/* NATS lines may come from here on. */
void esi_connection_auth_open(struct esi_connection *self);
void esi_connection_auth_on_connect(struct esi_connection *self, struct esi_str json);
void esi_connection_auth_on_verdict(struct esi_connection *self, struct esi_auth_check *check);
void esi_connection_auth_on_timer(struct esi_connection *self);
/* Closes with -ERR 'Authorization Violation'. */
void esi_connection_auth_refuse(struct esi_connection *self);

/* --- connection_input.c --- */

/* Reads (may_read) and parses what there is. */
void esi_connection_input_process(struct esi_connection *self, bool may_read);

/* --- connection_subs.c --- */

void esi_connection_subs_on_sub(struct esi_connection *self, const struct esi_client_item *item);
void esi_connection_subs_on_unsub(struct esi_connection *self, const struct esi_client_item *item);
void esi_connection_subs_on_routed(struct esi_connection *self, struct esi_route_batch *batch);
void esi_connection_subs_on_detached(struct esi_connection *self, struct esi_route_batch *batch);
/* ES_NO_MEMORY: it is still there; the connection must end. */
ES_MUST_USE enum es_err esi_connection_subs_remove(struct esi_connection *self,
                                                   struct esi_client_sub *client_sub);
/* The connection is on its way out: removes a bounded part of those that are left, and asks for
 * another turn until there is none. */
void esi_connection_subs_withdraw(struct esi_connection *self);
/* True when all are removed, or being removed. */
bool esi_connection_subs_are_withdrawn(const struct esi_connection *self);

/* --- connection_output.c --- */

/* The target's deliver. Thread: any. */
void esi_connection_output_deliver(struct esi_target *target, struct esi_delivery *delivery);
void esi_connection_output_on_deliver(struct esi_connection *self, struct esi_delivery *delivery);
/* Puts everything that was sent to us up to now into the outbound queue: cause before effect. */
void esi_connection_output_take_own(struct esi_connection *self);
/* Appends a line of our own; nothing when the connection is ending. */
void esi_connection_output_push(struct esi_connection *self, struct esi_str text);
/* The same, behind what was published before it. */
void esi_connection_output_answer(struct esi_connection *self, struct esi_str text);
/* The same; text is freed. */
void esi_connection_output_answer_bytes(struct esi_connection *self, struct esi_bytes *text);
/* +OK for a verbose client. */
void esi_connection_output_answer_ok(struct esi_connection *self);
/* Writes what there is, as far as the socket takes it. */
void esi_connection_output_write(struct esi_connection *self);

/* --- connection_pressure.c --- */

/* Memory is short: nothing is read for a while. */
void esi_connection_pressure_pause(struct esi_connection *self);
/* Nothing is read before the target, matched in this turn, has taken some of what waits for it. */
void esi_connection_pressure_hold(struct esi_connection *self, struct esi_target *target);
void esi_connection_pressure_let_go(struct esi_connection *self);
void esi_connection_pressure_on_pause_timer(struct esi_connection *self);
/* True when there was no memory for messages to us since the last call; they are counted as
 * dropped. */
bool esi_connection_pressure_is_missing(struct esi_connection *self);
/* At the end of a turn: sets the tick where it is needed. */
void esi_connection_pressure_watch(struct esi_connection *self);
void esi_connection_pressure_on_tick(struct esi_connection *self);

/* --- connection_close.c --- */

/* Ends it at once: nothing more is written. */
void esi_connection_close_now(struct esi_connection *self, const char *reason);
/* What was queued goes out first, then `text` (may be empty), then the end of the stream. */
void esi_connection_close_with(struct esi_connection *self, struct esi_str text,
                               const char *reason);
void esi_connection_close_err(struct esi_connection *self, enum esi_client_err err,
                              const char *reason);
/* Counts and logs a slow consumer. */
void esi_connection_close_note_slow(struct esi_connection *self, const char *reason);
/* Ends it at once as a slow consumer. */
void esi_connection_close_slow(struct esi_connection *self, const char *reason);
/* All is written: the last line is followed by the end of the stream. */
void esi_connection_close_end_stream(struct esi_connection *self);
/* What the peer still sends after our last line is read and dropped, within bounds. */
void esi_connection_close_linger(struct esi_connection *self);
/* Closed: finishes when nobody knows the connection any more. */
void esi_connection_close_finish(struct esi_connection *self);
