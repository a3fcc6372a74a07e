/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client connection's beginning: INFO, the TLS handshake, CONNECT and the verdict on it, and the
 * time that all this may take.
 */
#include "actors/auth_check.h"
#include "actors/authenticator.h"
#include "actors/connection_internal.h"
#include "actors/listener.h"
#include "base/bytes.h"
#include "base/log.h"
#include "net/stream.h"
#include "net/tls.h"
#include "proto/info.h"

#include <stdlib.h>

static const uint64_t NS_PER_S = 1000000000;

enum { TLS_SESSION_BYTES = 16 * 1024 }; /* until the handshake is done: about what it takes */

void esi_connection_auth_write_info(struct esi_connection *self)
{
    const struct esi_context *context = self->context;
    const struct esi_config *config = context->config;
    struct esi_bytes text;
    const bool has_tls = context->client_tls != NULL;
    const bool may_be_plain = config->tls.allow_plain;
    const struct esi_client_info info = {
        .server_id = {.data = context->server_id, .len = sizeof context->server_id - 1},
        .server_name = esi_str_from(config->service.name),
        .version = ESI_PROTOCOL_VERSION,
        .product = ESI_STR(ESI_VERSION),
        .host = esi_str_from(config->service.host),
        .port = context->client_bound.port,
        .client_ip = esi_str_from(self->peer.host),
        .client_id = self->cid,
        .max_payload = config->limits.max_payload_bytes,
        .headers = true,
        .auth_required = context->auth_required,
        .tls_required = has_tls && !may_be_plain,
        .tls_verify = has_tls && esi_tls_context_is_verifying(context->client_tls),
        .tls_available = has_tls && may_be_plain,
    };

    esi_bytes_init(&text, 0);
    esi_info_write_client(&text, &info);
    esi_connection_output_push(self, esi_bytes_str(&text));
    esi_bytes_deinit(&text);
}

static void set_first_ping(struct esi_connection *self)
{
    const uint64_t interval_ns = self->context->config->limits.ping_interval_ns;
    const uint64_t first_ns = interval_ns < FIRST_PING_NS ? interval_ns : FIRST_PING_NS;

    if (!self->has_first_pong) {
        /* Spread, so that many clients that came at once are not pinged at once. */
        esi_actor_timer_set(&self->ping_timer,
                            connection_now_ns(self) + first_ns + first_ns / 100 * (self->cid % 16));
    }
}

static void accept_connect(struct esi_connection *self)
{
    const bool is_first = !self->has_connect;

    self->has_connect = true;
    self->parser.auth_pending = false;
    self->parser.headers_allowed = self->connect.headers;
    esi_actor_timer_cancel(&self->auth_timer);
    esi_listener_release(ESI_MOVE(self->ticket));
    if (is_first) {
        esi_log(LOG_CLIENT_CONNECTED, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
                ESI_LOG_STR("name", self->connect.name), ESI_LOG_STR("lang", self->connect.lang),
                ESI_LOG_TEXT("user", self->verdict.name != NULL ? self->verdict.name : ""));
        set_first_ping(self);
    }
    esi_connection_output_answer_ok(self);
}

void esi_connection_auth_refuse(struct esi_connection *self)
{
    /* order: relaxed; a counter. */
    atomic_fetch_add_explicit(&self->context->counters.auth_failures, 1, memory_order_relaxed);
    esi_log(LOG_CLIENT_AUTH_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_STR("name", self->connect.name));
    esi_connection_close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
}

static void ask_authenticator(struct esi_connection *self)
{
    const struct esi_auth_shown shown = {.user = self->connect.user,
                                         .pass = self->connect.pass,
                                         .token = self->connect.auth_token,
                                         .has_other = self->connect.nkey.len > 0 ||
                                                      self->connect.jwt.len > 0};
    struct esi_auth_check *check =
        esi_auth_check_new(&self->actor, CONNECTION_AUTHENTICATED, self->cid, &shown);

    if (check == NULL) {
        esi_connection_close_with(self, ESI_STR(""), "Out Of Memory");
        return;
    }
    check->origin = esi_origin_of(&self->peer);
    self->is_authenticating = true;
    esi_authenticator_check(self->context->authenticator, check);
}

void esi_connection_auth_on_verdict(struct esi_connection *self, struct esi_auth_check *check)
{
    if (self->state != STATE_OPEN) {
        return;
    }
    self->is_authenticating = false;
    if (check->verdict.kind != VERDICT_ACCEPTED) {
        esi_connection_auth_refuse(self);
        return;
    }
    if (self->verdict.permissions != check->verdict.permissions &&
        esi_client_subs_count(&self->subs) > 0) {
        /* A second CONNECT as somebody else: the live subscriptions were judged by the former
         * rules. */
        esi_connection_close_err(self, CLIENT_ERR_AUTHORIZATION, "Authentication Failure");
        return;
    }
    esi_verdict_deinit(&self->verdict);
    self->verdict = check->verdict;
    esi_verdict_init(&check->verdict);
    /* What other rules allowed is forgotten; without memory the rules are asked each time. */
    free(self->allowed);
    self->allowed = self->verdict.permissions != NULL
                        ? calloc(ALLOWED_CACHE_SIZE, sizeof *self->allowed)
                        : NULL;
    if (self->verdict.expires_wall_ns > 0) {
        const int64_t left_ns = self->verdict.expires_wall_ns - esi_env_wall_ns(self->context->env);
        esi_actor_timer_set(&self->expiry_timer,
                            connection_now_ns(self) + (left_ns > 0 ? (uint64_t)left_ns : 0));
    } else {
        esi_actor_timer_cancel(&self->expiry_timer); /* of the verdict before this one */
    }
    if (self->awaits_verdict_for_connect) {
        self->awaits_verdict_for_connect = false;
        accept_connect(self);
    }
    esi_actor_continue(&self->actor);
}

void esi_connection_auth_on_connect(struct esi_connection *self, struct esi_str json)
{
    if (esi_connect_read(json, CONNECT_CLIENT, &self->connect) != ES_OK) {
        esi_connection_log_fault(self, "wrong JSON in CONNECT");
        esi_connection_close_with(self, ESI_STR(""), "Protocol Violation");
        return;
    }
    if (self->connect.account.len > 0 || self->connect.new_account) {
        esi_connection_auth_refuse(self);
        return;
    }
    if (self->connect.protocol != 0 && self->connect.protocol != 1) {
        esi_connection_close_err(self, CLIENT_ERR_INVALID_PROTOCOL, "Bad Client Protocol Version");
        return;
    }
    if (self->connect.no_responders && !self->connect.headers) {
        esi_connection_close_err(self, CLIENT_ERR_NO_RESPONDERS_NEEDS_HEADERS,
                                 "No Responders Requires Headers");
        return;
    }
    if (self->context->judges_clients) {
        self->awaits_verdict_for_connect = true;
        ask_authenticator(self);
    } else {
        accept_connect(self);
    }
}

static void log_tls_failure(const struct esi_connection *self)
{
    esi_log(LOG_CLIENT_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
            ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
            ESI_LOG_TEXT("reason", esi_stream_failure(self->stream)));
}

static void arm_auth_timer(struct esi_connection *self)
{
    const struct esi_config *config = self->context->config;
    const uint64_t timeout_ns = esi_stream_is_tls(self->stream) &&
                                        config->auth.timeout_ns < config->tls.timeout_ns + NS_PER_S
                                    ? config->tls.timeout_ns + NS_PER_S
                                    : config->auth.timeout_ns;

    esi_actor_timer_set(&self->auth_timer, connection_now_ns(self) + timeout_ns);
}

void esi_connection_auth_open(struct esi_connection *self)
{
    self->state = STATE_OPEN;
    esi_actor_timer_cancel(&self->auth_timer);
    if (self->context->auth_required) {
        arm_auth_timer(self);
    } else {
        esi_listener_release(ESI_MOVE(self->ticket));
    }
    esi_actor_timer_set(&self->ping_timer,
                        connection_now_ns(self) + self->context->config->limits.ping_interval_ns);
    if (self->context->judges_clients && !self->context->auth_required) {
        /* no_auth_user: what comes without CONNECT is done as that user. */
        ask_authenticator(self);
    }
}

void esi_connection_auth_shake_hands(struct esi_connection *self)
{
    const enum es_err err = esi_stream_handshake(self->stream);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK) {
        log_tls_failure(self);
        esi_connection_close_now(self, "TLS Handshake Failure");
        return;
    }
    esi_connection_auth_count_tls(self);
    esi_connection_auth_open(self);
    self->needs_read = esi_stream_has_buffered_input(self->stream);
}

void esi_connection_auth_count_tls(struct esi_connection *self)
{
    /* The stream's own struct, a small part, is counted with the connection too. */
    esi_ledger_settle(self->local->lease, MEMORY_TLS, &self->tls_bytes,
                      esi_stream_memory_bytes(self->stream));
}

void esi_connection_auth_start_tls(struct esi_connection *self)
{
    if (!esi_ledger_take(self->local->lease, MEMORY_TLS, TLS_SESSION_BYTES)) {
        esi_connection_close_now(self, "Memory Limit Exceeded");
        return;
    }
    self->tls_bytes = TLS_SESSION_BYTES;
    if (esi_stream_start_tls_server(self->stream, self->context->client_tls) != ES_OK) {
        esi_connection_close_now(self, "TLS Handshake Failure");
        return;
    }
    self->state = STATE_HANDSHAKE;
    esi_connection_auth_shake_hands(self);
}

void esi_connection_auth_look_at_first_bytes(struct esi_connection *self)
{
    char bytes[256];
    size_t count = 0;
    const enum es_err err = esi_stream_read(self->stream, bytes, sizeof bytes, &count);

    if (err == ES_AGAIN) {
        return;
    }
    if (err != ES_OK || esi_stream_unread(self->stream, bytes, count) != ES_OK) {
        esi_connection_close_now(self, "Client Closed");
        return;
    }
    if (bytes[0] == 0x16) {
        esi_connection_auth_start_tls(self);
    } else {
        esi_connection_auth_open(self);
        self->needs_read = true;
    }
}

void esi_connection_auth_on_timer(struct esi_connection *self)
{
    if (self->state == STATE_HANDSHAKE || self->state == STATE_FIRST) {
        esi_log(LOG_CLIENT_TLS_FAILED, ESI_LOG_U64("cid", self->cid),
                ESI_LOG_TEXT("remote", self->peer.host), ESI_LOG_U64("port", self->peer.port),
                ESI_LOG_TEXT("reason", "the handshake took too long"));
        esi_connection_close_now(self, "TLS Handshake Failure");
        return;
    }
    esi_connection_close_err(self, CLIENT_ERR_AUTH_TIMEOUT, "Authentication Timeout");
}
