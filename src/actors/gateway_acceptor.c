/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inbound side of a gateway link: the peer dialled. Its messages come in and are published
 * here; our interest goes out, from the first line on complete (interest-only), so that a message
 * without interest needs no answer.
 *
 * Opening: INFO out; CONNECT in, judged; INFO in. Then the routers are asked for their interest,
 * the gateway for what it knows of other clusters; when all have answered: groups, gossip, cmd 2,
 * plain interest, cmd 3. What changes meanwhile follows.
 */
#include "actors/auth_check.h"
#include "actors/authenticator.h"
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "actors/gateway_remotes.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "net/certificate.h"
#include "net/stream.h"
#include "proto/gateway_writer.h"
#include "proto/reply_map.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { OPENING_BYTES_MAX = 512 * 1024 * 1024 };

static const uint64_t INFO_NS = 10000000000; /* from a good CONNECT to the INFO behind it */

void esi_gateway_acceptor_init(struct esi_gateway_link *self)
{
    struct gateway_acceptor *acceptor = &self->acceptor;

    esi_connect_init(&acceptor->connect);
    acceptor->connect.verbose = false; /* of clients alone it is the default */
    esi_bytes_init(&acceptor->queues, OPENING_BYTES_MAX);
    esi_bytes_init(&acceptor->lines, OPENING_BYTES_MAX);
    esi_bytes_init(&acceptor->changes, OPENING_BYTES_MAX);
    esi_bytes_init(&acceptor->gossip, OPENING_BYTES_MAX);
}

static void drop_opening(struct gateway_acceptor *acceptor)
{
    esi_bytes_deinit(&acceptor->queues);
    esi_bytes_deinit(&acceptor->lines);
    esi_bytes_deinit(&acceptor->changes);
    esi_bytes_deinit(&acceptor->gossip);
}

void esi_gateway_acceptor_deinit(struct esi_gateway_link *self)
{
    esi_connect_deinit(&self->acceptor.connect);
    drop_opening(&self->acceptor);
}

/* --- CONNECT --- */

static void refuse_credentials(struct esi_gateway_link *self)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.auth_failures, 1, memory_order_relaxed);
    esi_gateway_link_close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
}

static void refuse_name(struct esi_gateway_link *self)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_gateway_writer_err_rejected(&text, esi_str_from(self->context->config->gateway.name));
    esi_gateway_link_close(self, esi_bytes_str(&text), "Wrong Gateway");
    esi_bytes_deinit(&text);
}

static bool is_acceptable_name(const struct esi_gateway_link *self, struct esi_str name)
{
    return esi_gateway_remotes_is_name(name) && esi_gateway_is_welcome(self->gateway, name);
}

/* The credentials are good: who is it? */
static void accept_connect(struct esi_gateway_link *self)
{
    const struct esi_connect *connect = &self->acceptor.connect;

    if (connect->gateway.len == 0) {
        esi_gateway_link_close(self, esi_gateway_writer_err_port(), "Incorrect Port");
        return;
    }
    if (!is_acceptable_name(self, connect->gateway)) {
        refuse_name(self);
        return;
    }
    if (self->state == LINK_STATE_OPENING) {
        self->state = LINK_STATE_OPEN;
        self->parser.auth_pending = false;
        esi_gateway_link_set_first_ping(self);
        /* A dialler sends INFO right behind CONNECT; one that does not holds a place for
         * nothing. */
        esi_gateway_link_set_open_timer(self, INFO_NS);
    }
}

void esi_gateway_acceptor_on_checked(struct esi_gateway_link *self,
                                     const struct esi_auth_check *check)
{
    self->acceptor.is_checking = false;
    if (is_link_ending(self)) {
        return;
    }
    if (check->verdict.kind == VERDICT_ACCEPTED) {
        accept_connect(self);
    } else {
        refuse_credentials(self);
    }
    esi_actor_continue(&self->actor);
}

static void judge_credentials(struct esi_gateway_link *self)
{
    const struct esi_connect *connect = &self->acceptor.connect;

    if (self->context->config->gateway.user == NULL) {
        accept_connect(self);
        return;
    }
    const struct esi_auth_shown shown = {.user = connect->user, .pass = connect->pass};
    struct esi_auth_check *check =
        esi_auth_check_new(&self->actor, LINK_CHECKED, self->cid, &shown);
    if (check == NULL) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return;
    }
    check->door = AUTH_DOOR_GATEWAY;
    check->origin = esi_origin_of(&self->peer);
    self->acceptor.is_checking = true;
    esi_authenticator_check(self->context->authenticator, check);
}

void esi_gateway_acceptor_on_connect(struct esi_gateway_link *self, struct esi_str json)
{
    struct esi_connect *connect = &self->acceptor.connect;

    if (esi_connect_read(json, CONNECT_GATEWAY, connect) != ES_OK) {
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    if (connect->account.len > 0 || connect->new_account) {
        refuse_credentials(self);
        return;
    }
    judge_credentials(self);
}

/* --- INFO --- */

static void ask_for_interest(struct esi_gateway_link *self)
{
    struct gateway_acceptor *acceptor = &self->acceptor;

    acceptor->is_listening = true;
    acceptor->snapshots_pending = self->context->router_count;
    for (uint32_t i = 0; i < self->context->router_count; i++) {
        if (esi_router_listen(self->context->routers[i], &self->actor, LINK_INTEREST,
                              &acceptor->listeners[i]) != ES_OK) {
            esi_gateway_link_close_now(self, "Out Of Memory");
            return;
        }
    }
}

static void register_link(struct esi_gateway_link *self, struct esi_gateway_info *info)
{
    const struct esi_peer_identity *identity = esi_stream_peer(self->stream);

    esi_actor_timer_cancel(&self->open_timer);
    esi_gateway_link_note_peer(self, info);
    esi_log(LOG_GATEWAY_LINK_OPEN, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_STR("gateway", info->gateway), ESI_LOG_TEXT("direction", "inbound"),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("server_name", info->server_name), ESI_LOG_STR("version", info->version),
            ESI_LOG_TEXT("certificate", identity != NULL ? identity->common_name : ""));
    esi_listener_release(ESI_MOVE(self->ticket));
    if (esi_gateway_tell_inbound(self->gateway, &self->actor, LINK_GOSSIP, info) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return;
    }
    ask_for_interest(self);
}

void esi_gateway_acceptor_on_info(struct esi_gateway_link *self, struct esi_str json)
{
    struct esi_gateway_info info;

    if (esi_info_read_gateway(json, &info) != ES_OK) {
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    /* A later one of the dialler means nothing: its addresses are learned on the links that we
     * dialled. */
    if (!self->has_info) {
        const struct esi_str own = esi_str_from(self->context->config->service.name);
        if (info.server_name.len > 0 && esi_str_equal(info.server_name, own)) {
            esi_gateway_link_close(self, ESI_STR(""), "Duplicate Server Name");
        } else if (!is_acceptable_name(self, info.gateway) &&
                   (info.gateway.len > 0 || !esi_gateway_is_welcome(self->gateway, info.gateway))) {
            refuse_name(self); /* it called itself another name in CONNECT */
        } else {
            register_link(self, &info);
        }
    }
    esi_info_gateway_deinit(&info);
}

/* --- our interest --- */

static void announce_switch(struct esi_gateway_link *self, enum esi_gateway_cmd cmd)
{
    const struct esi_gateway_info info = {.gateway =
                                              esi_str_from(self->context->config->gateway.name),
                                          .account = ESI_ACCOUNT,
                                          .cmd = cmd};
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_info_write_gateway(&text, &info);
    esi_gateway_link_output_push(self, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

static void announce_when_complete(struct esi_gateway_link *self)
{
    struct gateway_acceptor *acceptor = &self->acceptor;

    if (acceptor->snapshots_pending > 0 || !acceptor->has_gossip || acceptor->is_announced) {
        return;
    }
    acceptor->is_announced = true;
    acceptor->announced_bytes = acceptor->queues.len + acceptor->lines.len + acceptor->changes.len;
    esi_actor_continue(&self->actor); /* reading goes on */
    if (acceptor->queues.failed || acceptor->lines.failed || acceptor->changes.failed ||
        acceptor->gossip.failed) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return;
    }
    esi_gateway_link_output_push(self, esi_bytes_str(&acceptor->queues));
    esi_gateway_link_output_push(self, esi_bytes_str(&acceptor->gossip));
    announce_switch(self, GATEWAY_CMD_ALL_START);
    esi_gateway_link_output_push(self, esi_bytes_str(&acceptor->lines));
    announce_switch(self, GATEWAY_CMD_ALL_COMPLETE);
    esi_gateway_link_output_push(self, esi_bytes_str(&acceptor->changes));
    drop_opening(acceptor);
}

void esi_gateway_acceptor_on_interest(struct esi_gateway_link *self, struct esi_interest_msg *msg)
{
    struct gateway_acceptor *acceptor = &self->acceptor;

    if (is_link_ending(self)) {
        return;
    }
    if (msg->queues.failed || msg->lines.failed) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return;
    }
    if (msg->is_snapshot) {
        ESI_ASSERT(acceptor->snapshots_pending > 0);
        esi_bytes_append_str(&acceptor->queues, esi_bytes_str(&msg->queues));
        esi_bytes_append_str(&acceptor->lines, esi_bytes_str(&msg->lines));
        acceptor->snapshots_pending--;
        announce_when_complete(self);
    } else if (acceptor->is_announced) {
        esi_gateway_link_output_push(self, esi_bytes_str(&msg->lines));
    } else {
        esi_bytes_append_str(&acceptor->changes, esi_bytes_str(&msg->lines));
    }
}

void esi_gateway_acceptor_on_gossip(struct esi_gateway_link *self,
                                    struct esi_gateway_gossip_msg *msg)
{
    struct gateway_acceptor *acceptor = &self->acceptor;

    if (is_link_ending(self)) {
        return;
    }
    if (msg->lines.failed) {
        esi_gateway_link_close_now(self, "Out Of Memory"); /* the last line may be cut off */
        return;
    }
    esi_bytes_append_str(&acceptor->gossip, esi_bytes_str(&msg->lines));
    acceptor->has_gossip = true;
    announce_when_complete(self);
}

uint64_t esi_gateway_acceptor_memory_bytes(const struct esi_gateway_link *self)
{
    const struct gateway_acceptor *acceptor = &self->acceptor;

    return acceptor->queues.capacity + acceptor->lines.capacity + acceptor->changes.capacity +
           acceptor->gossip.capacity;
}

void esi_gateway_acceptor_withdraw(struct esi_gateway_link *self)
{
    if (self->acceptor.is_listening) {
        self->acceptor.is_listening = false;
        for (uint32_t i = 0; i < self->context->router_count; i++) {
            esi_router_unlisten(self->context->routers[i], ESI_MOVE(self->acceptor.listeners[i]));
        }
    }
}

/* --- the peer's messages --- */

/* An answer that comes home: published on what stands behind the prefix. Returns false when it is
 * for another cluster. */
static bool strip_subject(const struct esi_gateway_link *self, struct esi_publish *publish)
{
    const struct esi_reply_map_hash *own = &self->context->cluster_hash;
    struct esi_reply_map map;

    if (!esi_reply_map_read(publish->subject, &map)) {
        return true;
    }
    /* The server part is ours, or nobody's: we have no routes to other servers of the cluster. */
    if (!esi_str_equal(map.cluster, esi_str_from(map.is_old ? own->old_text : own->text))) {
        return false;
    }
    publish->subject = map.reply;
    return true;
}

void esi_gateway_acceptor_on_message(struct esi_gateway_link *self,
                                     const struct esi_gateway_item *item)
{
    struct esi_batch *batch = self->local->batch;
    struct esi_publish publish = {.subject = item->subject,
                                  .reply = item->reply,
                                  .queues = item->queues,
                                  .body = item->body,
                                  .header_len = item->header_len,
                                  .total_len = item->total_len};
    struct esi_reply_map map;

    self->in_msgs++;
    self->in_bytes += item->total_len;
    if (ESI_UNLIKELY(self->acceptor.connect.verbose)) {
        esi_gateway_link_output_answer(self, ESI_CLIENT_OK);
    }
    if (!esi_str_equal(item->account, ESI_ACCOUNT) || !strip_subject(self, &publish)) {
        return;
    }
    if (item->reply.len > 0 && esi_reply_map_read(item->reply, &map)) {
        /* Clients see the bare reply; who answers on it is led back to where it came from. */
        publish.reply = map.reply;
        publish.extra = item->reply;
    }
    esi_batch_set_source(batch, publish.subject.data == item->subject.data ? SOURCE_GATEWAY
                                                                           : SOURCE_GATEWAY_REPLY);
    (void)esi_batch_add(batch, &publish);
}
