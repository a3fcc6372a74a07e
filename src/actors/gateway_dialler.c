/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outbound side of a gateway link: we dialled, the peer says first who it is. Its interest
 * comes in and goes to the routers; our messages go out. Nothing is written before the peer's first
 * INFO has been judged.
 */
#include "actors/context.h"
#include "actors/gateway_link_internal.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "broker/subtable.h"
#include "net/stream.h"
#include "net/tls.h"
#include "proto/gateway_writer.h"
#include "proto/subject.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_BYTES = 512, /* all of a CONNECT but its texts */
    JSON_BYTES_MAX = 6,  /* of a character */
    WITHDRAWN_A_TURN = 4096,
    NEWS_MAX = 512 /* a peer may tell of so many clusters at a time: more than there can be */
};

static const uint64_t NEWS_INTERVAL_NS = 10000000000;

static struct esi_str own_name(const struct esi_gateway_link *self)
{
    return esi_str_from(self->context->config->gateway.name);
}

static void keep(struct esi_msg *msg)
{
    (void)msg; /* part of the link */
}

void esi_gateway_dialler_deinit(struct esi_gateway_link *self)
{
    struct gateway_dialler *dialler = &self->dialler;

    esi_gateway_dialler_forget_secret(self);
    esi_gateway_interest_deinit(&dialler->interest);
    esi_tls_context_unref(ESI_MOVE(dialler->tls));
    free(ESI_MOVE(dialler->wanted));
    free(ESI_MOVE(dialler->tls_name));
}

/* --- INFO --- */

static void close_wrong_port(struct esi_gateway_link *self)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_gateway_writer_err_wrong_port(&text, esi_str_from(self->dialler.wanted));
    esi_gateway_link_close(self, esi_bytes_str(&text), "Wrong Port");
    esi_bytes_deinit(&text);
}

static void close_wrong_gateway(struct esi_gateway_link *self, struct esi_str found)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_gateway_writer_err_wrong_gateway(&text, own_name(self), esi_str_from(self->dialler.wanted),
                                         found);
    esi_gateway_link_close(self, esi_bytes_str(&text), "Wrong Gateway");
    esi_bytes_deinit(&text);
}

/* What is asked of every INFO: of the first, and of the later ones as far as they say it. */
static bool is_acceptable(struct esi_gateway_link *self, const struct esi_gateway_info *info)
{
    if (!self->has_info && info->gateway.len == 0) {
        close_wrong_port(self);
        return false;
    }
    if ((!self->has_info || info->cmd != GATEWAY_CMD_GOSSIP) &&
        !esi_str_equal(info->gateway, esi_str_from(self->dialler.wanted))) {
        close_wrong_gateway(self, info->gateway);
        return false;
    }
    if (info->server_name.len > 0 &&
        esi_str_equal(info->server_name, esi_str_from(self->context->config->service.name))) {
        esi_gateway_link_close(self, ESI_STR(""), "Duplicate Server Name");
        return false;
    }
    return true;
}

void esi_gateway_dialler_forget_secret(struct esi_gateway_link *self)
{
    esi_bytes_wipe(&self->dialler.secret);
    self->dialler.secret_written = 0;
}

enum es_err esi_gateway_dialler_write_secret(struct esi_gateway_link *self, bool *has_progress)
{
    struct gateway_dialler *dialler = &self->dialler;

    if (dialler->secret.data == NULL) {
        return ES_OK;
    }
    const struct iovec part = {.iov_base = dialler->secret.data + dialler->secret_written,
                               .iov_len = dialler->secret.len - dialler->secret_written};
    size_t count = 0;
    const enum es_err err = esi_stream_writev(self->stream, &part, 1, &count);
    if (err != ES_OK) {
        return err;
    }
    *has_progress = true;
    dialler->secret_written += count;
    if (count < part.iov_len) {
        return ES_AGAIN;
    }
    esi_gateway_dialler_forget_secret(self);
    return ES_OK;
}

/* CONNECT waits in a place of its own, before all lines of the outbound queue, whose copies would
 * not be wiped. */
static bool introduce_ourselves(struct esi_gateway_link *self)
{
    const struct esi_config_gateway *config = &self->context->config->gateway;
    const struct gateway_dialler *dialler = &self->dialler;
    struct esi_bytes *secret = &self->dialler.secret;
    struct esi_connect connect;

    ESI_ASSERT(esi_outbound_is_empty(&self->outbound));
    esi_connect_init(&connect);
    /* Borrowed strings: this one is not deinitialised. */
    connect.name = esi_str_from(self->context->server_id);
    connect.gateway = own_name(self);
    connect.tls_required = dialler->tls != NULL;
    if (dialler->user != NULL) {
        connect.user = esi_str_from(dialler->user);
        connect.pass = esi_str_from(dialler->password);
    } else if (config->user != NULL && !esi_crypto_is_bcrypt(esi_str_from(config->password))) {
        /* What only a hash is known of cannot be sent. */
        connect.user = esi_str_from(config->user);
        connect.pass = esi_str_from(config->password);
    }
    /* Room for all of it at once: a buffer that grows leaves a copy behind. */
    esi_bytes_init(secret, 0);
    (void)esi_bytes_reserve(secret, CONNECT_BYTES +
                                        JSON_BYTES_MAX * (connect.name.len + connect.gateway.len +
                                                          connect.user.len + connect.pass.len));
    esi_connect_write_gateway(secret, &connect);
    if (secret->failed) {
        esi_gateway_link_close_now(self, "Out Of Memory");
        return false;
    }
    esi_gateway_link_output_push_info(self);
    return !is_link_ending(self);
}

/* From here on publishers find the link. */
static void open_link(struct esi_gateway_link *self, struct esi_gateway_info *info)
{
    struct gateway_dialler *dialler = &self->dialler;
    const bool headers = info->headers;
    const bool iom = info->interest_only;

    if (!introduce_ourselves(self)) {
        return;
    }
    self->state = LINK_STATE_OPEN;
    self->target.old_reply_prefix = !info->reply_prefix_new;
    esi_gateway_link_set_first_ping(self);
    esi_log(LOG_GATEWAY_LINK_OPEN, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("gateway", dialler->wanted), ESI_LOG_TEXT("direction", "outbound"),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("server_name", info->server_name), ESI_LOG_STR("version", info->version));
    esi_gateway_link_note_peer(self, info);
    dialler->route =
        (struct esi_gateway_route){.target = &self->target,
                                   .cluster = esi_reply_map_hash(esi_str_from(dialler->wanted)),
                                   .has_headers = headers};
    if (esi_gateway_routes_add(esi_gateway_routes_of(self->gateway), &dialler->route) == ES_OK) {
        dialler->is_routed = true;
    }
    if (esi_gateway_interest_open(&dialler->interest, headers, iom) != ES_OK ||
        esi_gateway_tell_open(self->gateway, dialler->remote_id, info) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
}

/* A command about an account. */
static void on_switch(struct esi_gateway_link *self, const struct esi_gateway_info *info)
{
    const bool is_start = info->cmd == GATEWAY_CMD_ALL_START;

    if (info->account.data == NULL) {
        esi_gateway_link_close(self, esi_gateway_writer_err_account_absent(is_start ? 2 : 3),
                               "Account Absent");
        return;
    }
    if (!esi_str_equal(info->account, ESI_ACCOUNT)) {
        return;
    }
    if (is_start) {
        esi_gateway_interest_switch(&self->dialler.interest);
    } else if (esi_gateway_interest_complete(&self->dialler.interest) != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
}

/* The gateway has other things to do than to listen to one peer. */
static bool may_tell(struct esi_gateway_link *self)
{
    struct gateway_dialler *dialler = &self->dialler;
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);

    if (now_ns >= dialler->news_refill_ns) {
        dialler->news_refill_ns = now_ns + NEWS_INTERVAL_NS;
        dialler->news_left = NEWS_MAX;
    }
    if (dialler->news_left == 0) {
        return false;
    }
    dialler->news_left--;
    if (dialler->news_left == 0) {
        esi_log(LOG_GATEWAY_GOSSIP_FLOOD, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_TEXT("gateway", dialler->wanted));
    }
    return true;
}

static void on_later_info(struct esi_gateway_link *self, struct esi_gateway_info *info)
{
    enum es_err err = ES_OK;

    if ((info->cmd == GATEWAY_CMD_NONE || info->cmd == GATEWAY_CMD_GOSSIP) && !may_tell(self)) {
        return;
    }
    switch (info->cmd) {
    case GATEWAY_CMD_NONE:
        err = esi_gateway_tell_open(self->gateway, self->dialler.remote_id, info);
        break;
    case GATEWAY_CMD_GOSSIP:
        err = esi_gateway_tell_gossip(self->gateway, info);
        break;
    case GATEWAY_CMD_ALL_START:
    case GATEWAY_CMD_ALL_COMPLETE:
        on_switch(self, info);
        break;
    default:
        esi_log(LOG_GATEWAY_ODD_COMMAND, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_I64("command", info->cmd));
        break;
    }
    if (err != ES_OK) {
        esi_gateway_link_close_now(self, "Out Of Memory");
    }
}

void esi_gateway_dialler_on_info(struct esi_gateway_link *self, struct esi_str json)
{
    struct esi_gateway_info info;

    if (esi_info_read_gateway(json, &info) != ES_OK) {
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    if (is_acceptable(self, &info)) {
        if (self->state == LINK_STATE_OPENING) {
            open_link(self, &info);
        } else {
            on_later_info(self, &info);
        }
    }
    esi_info_gateway_deinit(&info);
}

/* --- interest --- */

static enum es_err take_interest(struct esi_gateway_interest *interest, enum esi_gateway_op op,
                                 const struct esi_gateway_item *item)
{
    switch (op) {
    case GATEWAY_SUB:
        return esi_gateway_interest_sub(interest, item->subject, item->queue);
    case GATEWAY_UNSUB:
        return esi_gateway_interest_unsub(interest, item->subject, item->queue);
    case GATEWAY_ACCOUNT_SUB:
        return esi_gateway_interest_account_sub(interest);
    case GATEWAY_ACCOUNT_UNSUB:
        return esi_gateway_interest_account_unsub(interest);
    case GATEWAY_MORE:
    case GATEWAY_MSG:
    case GATEWAY_INFO:
    case GATEWAY_CONNECT:
    case GATEWAY_PING:
    case GATEWAY_PONG:
    case GATEWAY_OK:
    case GATEWAY_ERR:
    case GATEWAY_FAULT:
        break;
    }
    ESI_ASSERT(false);
    return ES_OK;
}

/* A wildcard of more tokens than the table takes reaches nothing that a client here can publish: a
 * subject of so many does not fit into a control line of 4 KiB. It is no reason to end the link. */
static bool is_storable(struct esi_str subject)
{
    return esi_subject_is_valid(subject) &&
           (!esi_subject_has_wildcard(subject) ||
            esi_subject_token_count(subject) <= ESI_SUBTABLE_TOKENS_MAX);
}

void esi_gateway_dialler_on_interest(struct esi_gateway_link *self, enum esi_gateway_op op,
                                     const struct esi_gateway_item *item)
{
    const bool has_subject = op == GATEWAY_SUB || op == GATEWAY_UNSUB;

    if (self->state != LINK_STATE_OPEN) {
        esi_gateway_link_close(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    if (!esi_str_equal(item->account, ESI_ACCOUNT) ||
        (has_subject && !is_storable(item->subject))) {
        return;
    }
    const enum es_err err = take_interest(&self->dialler.interest, op, item);
    if (err != ES_OK) {
        esi_gateway_link_close_now(self, err == ES_FULL ? "Maximum Subscriptions Exceeded"
                                                        : "Out Of Memory");
    }
}

/* --- deliveries --- */

/* Is this slice to be written? A message that was sent unasked is left out when the peer has
 * refused its subject. */
static bool accept_slice(struct esi_gateway_link *self, const struct esi_slice *slice)
{
    struct gateway_dialler *dialler = &self->dialler;

    if (dialler->skips_continued) {
        dialler->skips_continued = slice->is_continued;
        return false;
    }
    if (slice->is_record && slice->reply_len > 0) {
        const struct esi_str subject = {.data = slice->data + slice->reply_offset,
                                        .len = slice->reply_len};
        if (esi_gateway_interest_is_refused(&dialler->interest, subject)) {
            dialler->skips_continued = slice->is_continued;
            self->refused_msgs++;
            return false;
        }
    }
    return true;
}

void esi_gateway_dialler_on_deliver(struct esi_gateway_link *self, struct esi_delivery *delivery)
{
    if (self->state != LINK_STATE_OPEN) {
        esi_outbound_drop_bytes(&self->outbound, delivery->bytes);
        return; /* the runtime frees it */
    }
    bool has_failed = false;
    for (uint32_t i = 0; i < delivery->slice_count; i++) {
        const struct esi_slice *slice = &delivery->slices[i];
        if (has_failed || !accept_slice(self, slice)) {
            esi_outbound_skip_slice(&self->outbound, slice);
            continue;
        }
        if (esi_outbound_push_slice(&self->outbound, slice) != ES_OK) {
            has_failed = true;
            esi_gateway_link_close_now(self, "Out Of Memory");
            esi_outbound_skip_slice(&self->outbound, slice);
            continue;
        }
        self->out_msgs += slice->message_count;
        self->out_bytes += slice->payload_len;
    }
    /* The references have moved to the outbound queue. */
    delivery->slice_count = 0;
}

/* --- the end --- */

bool esi_gateway_dialler_withdraw(struct esi_gateway_link *self)
{
    struct gateway_dialler *dialler = &self->dialler;

    if (dialler->is_routed && dialler->unrouted.msg.free == NULL) {
        esi_gateway_routes_remove(esi_gateway_routes_of(self->gateway), &dialler->route);
        dialler->unrouted.msg = (struct esi_msg){.kind = LINK_UNROUTED, .free = keep};
        esi_runtime_after_grace(self->context->runtime, &self->actor, &dialler->unrouted);
    }
    return esi_gateway_interest_withdraw(&dialler->interest, WITHDRAWN_A_TURN);
}

bool esi_gateway_dialler_is_forgotten(const struct esi_gateway_link *self)
{
    return !self->dialler.is_routed;
}
