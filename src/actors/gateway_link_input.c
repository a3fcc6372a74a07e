/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes in on a gateway link: read into the worker's block, parsed in place, handed to the
 * side that the link is (gateway_dialler.c, gateway_acceptor.c). Reading stops while something
 * before it has to be in force or is looked at elsewhere, and while a receiver that takes bytes has
 * too many waiting.
 */
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/stream.h"

#include <stdatomic.h>

/* Refused subjects that are compared with a peer's wildcards in one turn. */
enum { WORK_MAX = 64 * 1024 };

/* --- parsing --- */

static void on_ping(struct esi_gateway_link *self)
{
    /* A dialler says nothing before its CONNECT. */
    if (self->state == LINK_STATE_OPEN) {
        esi_gateway_link_output_answer(self, ESI_CLIENT_PONG);
    }
}

static void on_pong(struct esi_gateway_link *self)
{
    if (self->pings_out > 0) {
        const uint64_t rtt_ns = esi_env_now_ns(self->context->env) - self->ping_sent_ns;
        const uint64_t rtt_us = rtt_ns / 1000 + 1;
        self->rtt_ns = rtt_ns;
        /* order: relaxed; an order among links that may be a little old. */
        atomic_store_explicit(&self->target.rtt_us,
                              rtt_us > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt_us,
                              memory_order_relaxed);
    }
    self->pings_out = 0;
}

static void on_peer_error(struct esi_gateway_link *self, struct esi_str text)
{
    esi_log(LOG_GATEWAY_PEER_ERROR, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("error", text));
    esi_gateway_link_close(self, ESI_STR(""), "Parse Error");
}

static void on_fault(struct esi_gateway_link *self, const struct esi_gateway_item *item)
{
    esi_log(LOG_GATEWAY_FAULT, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("fault", item->reason));
    switch (item->fault) {
    case FAULT_UNKNOWN_OPERATION:
        esi_gateway_link_close_err(self, CLIENT_ERR_UNKNOWN_OPERATION, "Protocol Violation");
        break;
    case FAULT_SILENT:
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        break;
    case FAULT_MAX_PAYLOAD:
        esi_gateway_link_close_err(self, CLIENT_ERR_MAX_PAYLOAD,
                                   "Maximum Message Payload Exceeded");
        break;
    case FAULT_CONTROL_LINE:
        esi_gateway_link_close_err(self, CLIENT_ERR_MAX_CONTROL_LINE,
                                   "Maximum Control Line Exceeded");
        break;
    case FAULT_AUTHORIZATION:
        esi_gateway_link_close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
        break;
    case FAULT_NONE:
        break;
    }
}

static void dispatch(struct esi_gateway_link *self, enum esi_gateway_op op,
                     const struct esi_gateway_item *item)
{
    switch (op) {
    case GATEWAY_MSG:
        esi_gateway_acceptor_on_message(self, item);
        break;
    case GATEWAY_SUB:
    case GATEWAY_UNSUB:
    case GATEWAY_ACCOUNT_SUB:
    case GATEWAY_ACCOUNT_UNSUB:
        esi_gateway_dialler_on_interest(self, op, item);
        break;
    case GATEWAY_INFO:
        if (self->is_outbound) {
            esi_gateway_dialler_on_info(self, item->text);
        } else {
            esi_gateway_acceptor_on_info(self, item->text);
        }
        break;
    case GATEWAY_CONNECT:
        esi_gateway_acceptor_on_connect(self, item->text);
        break;
    case GATEWAY_PING:
        on_ping(self);
        break;
    case GATEWAY_PONG:
        on_pong(self);
        break;
    case GATEWAY_OK:
        break;
    case GATEWAY_ERR:
        on_peer_error(self, item->text);
        break;
    case GATEWAY_FAULT:
        on_fault(self, item);
        break;
    case GATEWAY_MORE:
        break;
    }
}

bool esi_gateway_link_input_is_waiting(const struct esi_gateway_link *self)
{
    /* What stands behind an INFO is answered when our interest has been told: so a PONG says that
     * it has. */
    const bool is_announcing = self->acceptor.is_listening && !self->acceptor.is_announced;

    return self->ops.routes_pending > 0 || self->acceptor.is_checking || is_announcing ||
           (self->state != LINK_STATE_OPENING && self->state != LINK_STATE_OPEN);
}

/* Interest lines join what is collected; everything else waits until that is in force. */
static bool must_wait(struct esi_gateway_link *self, enum esi_gateway_op op)
{
    if (op != GATEWAY_SUB && op != GATEWAY_UNSUB && esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    if (self->dialler.interest.work > WORK_MAX) {
        esi_actor_continue(&self->actor); /* others first */
        return true;
    }
    return esi_gateway_link_input_is_waiting(self);
}

/* Parses what can be parsed now. Returns the number of bytes that are done with; *needed as the
 * parser has it. */
static size_t parse(struct esi_gateway_link *self, const struct esi_reader_piece *piece,
                    size_t *needed)
{
    struct esi_gateway_item item;
    size_t at = 0;

    *needed = 0;
    self->is_stalled = true;
    self->is_parsing = true;
    esi_batch_begin(self->local->batch, SOURCE_GATEWAY, NULL, true, piece->block,
                    link_now_ns(self));
    self->dialler.interest.work = 0;
    while (!esi_gateway_link_input_is_waiting(self)) {
        size_t consumed = 0;
        const enum esi_gateway_op op = esi_gateway_parser_next(&self->parser, piece->data + at,
                                                               piece->len - at, &consumed, &item);
        if (op == GATEWAY_MORE) {
            at += consumed;
            *needed = item.needed;
            self->is_stalled = false;
            break;
        }
        if (op != GATEWAY_MSG && must_wait(self, op)) {
            /* Parsed again when it is its turn: after an item the parser remembers nothing. */
            break;
        }
        at += consumed;
        dispatch(self, op, &item);
    }
    esi_gateway_link_output_take(self);
    if (esi_route_ops_has_collected(&self->ops)) {
        esi_route_ops_submit(&self->ops);
        esi_actor_drain(&self->actor);
    }
    self->is_parsing = false;
    return is_link_ending(self) ? piece->len : at;
}

/* --- reading --- */

static void on_read_error(struct esi_gateway_link *self, enum es_err err)
{
    if (err == ES_CLOSED) {
        /* A half-close counts as a close, but what waits is written first. */
        esi_gateway_link_close(self, ESI_STR(""), "Remote Closed");
    } else if (err == ES_TLS) {
        /* With TLS 1.3 a peer refuses our certificate when the handshake is done for us. */
        esi_gateway_link_log_tls_failure(self);
        esi_gateway_link_close_now(self, "TLS Failure");
    } else {
        esi_gateway_link_close_now(self, err == ES_NO_MEMORY ? "Out Of Memory" : "Read Error");
    }
}

void esi_gateway_link_input_process(struct esi_gateway_link *self, bool may_read)
{
    struct esi_reader_piece piece;
    size_t needed = 0;

    if (esi_gateway_link_input_is_waiting(self) || self->is_paused) {
        return;
    }
    if (esi_ledger_is_short(self->context->ledger, MEMORY_TRANSIT) &&
        !esi_reader_is_large(&self->reader)) {
        esi_gateway_link_output_pause(self);
        return;
    }
    const enum es_err err = esi_reader_next(&self->reader, self->local, self->stream,
                                            may_read && !self->reader.awaits_memory, &piece);
    if (err == ES_NO_MEMORY) {
        esi_gateway_link_output_pause(self); /* nothing was read, and nothing is lost */
        return;
    }
    if (err == ES_OK) {
        esi_outbound_note_read(&self->outbound);
        if (piece.read_len > 0) {
            self->activity_ns = link_now_ns(self);
        }
        const size_t done = parse(self, &piece, &needed);
        if (esi_reader_keep(&self->reader, self->local, &piece, done, needed) != ES_OK) {
            esi_gateway_link_close_now(self, "Out Of Memory");
        } else if (self->reader.awaits_memory) {
            self->is_stalled = true;
            esi_gateway_link_output_pause(self);
        }
    } else {
        self->is_stalled = false;
        if (err != ES_AGAIN) {
            on_read_error(self, err);
        }
    }
    self->needs_read = self->stream != NULL && esi_stream_has_buffered_input(self->stream);
}
