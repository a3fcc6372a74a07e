/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gateway actor: made at start, told by links, visited by monitoring. What it does about remote
 * clusters stands in gateway_pursuit.c and gateway_gossip.c.
 */
#include "actors/gateway.h"
#include "actors/context.h"
#include "actors/gateway_internal.h"
#include "actors/gateway_link.h"
#include "actors/listener.h"
#include "actors/tls_section.h"
#include "base/log.h"
#include "base/own.h"
#include "broker/batch.h"
#include "config/config.h"
#include "config/value.h"
#include "net/tls.h"
#include "proto/info.h"
#include "proto/reply_map.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* links that others open to us, those that have said nothing yet included */
    INBOUND_MAX = 1024
};

static struct esi_gateway *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_gateway, actor);
}

const struct esi_config_gateway *esi_gateway_config(const struct esi_gateway *self)
{
    return &self->context->config->gateway;
}

uint64_t esi_gateway_random(const struct esi_gateway *self, uint64_t limit)
{
    uint64_t random = 0;

    esi_env_random(self->context->env, &random, sizeof random);
    return limit > 0 ? random % limit : 0;
}

static bool is_configured_name(const struct esi_gateway *self, struct esi_str name)
{
    const struct esi_config_gateway *config = esi_gateway_config(self);

    for (size_t i = 0; i < config->remote_count; i++) {
        if (esi_str_equal(esi_str_from(config->remotes[i].name), name)) {
            return true;
        }
    }
    return false;
}

bool esi_gateway_is_welcome(const struct esi_gateway *self, struct esi_str name)
{
    return !esi_gateway_config(self)->reject_unknown || is_configured_name(self, name);
}

/* --- the actor --- */

static const struct gateway_news *news_of(const struct esi_msg *msg)
{
    return (const struct gateway_news *)(const void *)msg;
}

static void on_ended(struct esi_gateway *self, const struct esi_gateway_ended_msg *ended)
{
    if (ended->remote_id != 0) {
        esi_gateway_pursuit_on_ended(self, ended);
    } else {
        esi_gateway_gossip_on_inbound_ended(self, ended->link_id);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_gateway *self = self_of(actor);

    switch ((enum gateway_msg)msg->kind) {
    case GATEWAY_OPENED:
        esi_gateway_pursuit_on_opened(self, news_of(msg));
        break;
    case GATEWAY_GOSSIPED:
        esi_gateway_gossip_on_told(self, news_of(msg));
        break;
    case GATEWAY_INBOUND:
        esi_gateway_gossip_on_inbound(self, news_of(msg));
        break;
    case GATEWAY_ENDED:
        on_ended(self, (const struct esi_gateway_ended_msg *)(const void *)msg);
        break;
    case GATEWAY_RESOLVED:
        esi_gateway_pursuit_on_resolved(self, msg);
        break;
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_actor_timer *actor_timer = (struct esi_actor_timer *)(void *)fired;

    esi_gateway_pursuit_start_round(self_of(actor),
                                    ESI_CONTAINER_OF(actor_timer, struct gateway_pursuit, timer));
}

static void start(struct esi_actor *actor)
{
    struct esi_gateway *self = self_of(actor);
    const struct esi_config_gateway *config = esi_gateway_config(self);

    for (size_t i = 0; i < config->remote_count; i++) {
        struct gateway_pursuit *pursuit = esi_gateway_pursuit_new(
            self, esi_str_from(config->remotes[i].name), &config->remotes[i]);
        if (pursuit == NULL) {
            esi_log(LOG_GATEWAY_REMOTE_FORGOTTEN, ESI_LOG_TEXT("gateway", config->remotes[i].name));
            continue;
        }
        esi_gateway_pursuit_start_round(self, pursuit);
    }
}

static void stop(struct esi_actor *actor)
{
    struct esi_gateway *self = self_of(actor);

    /* Nothing is dialled any more; the links are told to stop themselves. */
    for (struct esi_list *at = self->remotes.list.next; at != &self->remotes.list; at = at->next) {
        esi_actor_timer_cancel(
            &pursuit_of(ESI_CONTAINER_OF(at, struct esi_gateway_remote, link))->timer);
    }
    esi_actor_finish(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    const struct esi_gateway *self = ESI_CONTAINER_OF(actor, const struct esi_gateway, actor);

    esi_bytes_printf(description->text, "%s %s:%u, %u remotes", esi_gateway_config(self)->name,
                     self->bound.host, self->bound.port, self->remotes.count);
}

static void free_nothing(struct esi_actor *actor)
{
    (void)
        actor; /* esi_gateway_free does: workers look at the routes until the runtime has stopped */
}

const struct esi_actor_type esi_gateway_type = {
    .name = "gateway",
    .stop_phase = STOP_DOORS,
    .start = start,
    .handle = handle,
    .timer = timer,
    .stop = stop,
    .describe = describe,
    .free = free_nothing,
};

/* --- for links --- */

static void free_news(struct esi_msg *msg)
{
    struct gateway_news *news = (struct gateway_news *)(void *)msg;

    esi_info_gateway_deinit(&news->info);
    if (news->link != NULL) {
        esi_actor_unref(news->link);
    }
    free(news);
}

static struct gateway_news *new_news(enum gateway_msg kind, struct esi_gateway_info *info)
{
    struct gateway_news *news = malloc(sizeof *news);

    if (news != NULL) {
        *news = (struct gateway_news){.msg = {.kind = kind, .free = free_news}, .info = *info};
        *info = (struct esi_gateway_info){.cmd = 0};
    }
    return news;
}

enum es_err esi_gateway_tell_open(struct esi_gateway *gateway, uint64_t remote_id,
                                  struct esi_gateway_info *info)
{
    struct gateway_news *news = new_news(GATEWAY_OPENED, info);

    if (news == NULL) {
        return ES_NO_MEMORY;
    }
    news->remote_id = remote_id;
    esi_actor_send(&gateway->actor, &news->msg);
    return ES_OK;
}

enum es_err esi_gateway_tell_gossip(struct esi_gateway *gateway, struct esi_gateway_info *info)
{
    struct gateway_news *news = new_news(GATEWAY_GOSSIPED, info);

    if (news == NULL) {
        return ES_NO_MEMORY;
    }
    esi_actor_send(&gateway->actor, &news->msg);
    return ES_OK;
}

enum es_err esi_gateway_tell_inbound(struct esi_gateway *gateway, struct esi_actor *link,
                                     uint32_t answer_kind, struct esi_gateway_info *info)
{
    struct gateway_news *news = new_news(GATEWAY_INBOUND, info);

    if (news == NULL) {
        return ES_NO_MEMORY;
    }
    esi_actor_ref(link);
    news->link = link;
    news->answer_kind = answer_kind;
    esi_actor_send(&gateway->actor, &news->msg);
    return ES_OK;
}

void esi_gateway_tell_ended(struct esi_gateway *gateway, struct esi_gateway_ended_msg *msg)
{
    msg->msg.kind = GATEWAY_ENDED;
    esi_actor_send(&gateway->actor, &msg->msg);
}

bool esi_gateway_admit(struct esi_gateway *gateway)
{
    /* order: relaxed; a counter with a bound. */
    if (atomic_fetch_add_explicit(&gateway->inbound_count, 1, memory_order_relaxed) < INBOUND_MAX) {
        return true;
    }
    esi_gateway_leave(gateway);
    return false;
}

void esi_gateway_leave(struct esi_gateway *gateway)
{
    /* order: relaxed; a counter with a bound. */
    atomic_fetch_sub_explicit(&gateway->inbound_count, 1, memory_order_relaxed);
}

uint16_t esi_gateway_port(const struct esi_gateway *gateway)
{
    return gateway->bound.port;
}

struct esi_tls_context *esi_gateway_server_tls(const struct esi_gateway *gateway)
{
    return gateway->server_tls;
}

struct esi_gateway_routes *esi_gateway_routes_of(struct esi_gateway *gateway)
{
    return &gateway->routes;
}

void esi_gateway_write_info(const struct esi_gateway *gateway, const char *local_host,
                            struct esi_bytes *out)
{
    const struct esi_context *context = gateway->context;
    const struct esi_config_gateway *config = esi_gateway_config(gateway);
    const bool is_any = esi_value_is_any(gateway->bound.host);
    char text[ESI_GATEWAY_URL_TEXT_MAX];
    struct esi_str url = esi_str_from(config->advertise);
    /* An address that has a meaning on its own link only is of no use to others. */
    const char *usable = strchr(local_host, '%') == NULL ? local_host : "";
    const char *host = is_any ? usable : gateway->bound.host;

    if (url.len == 0 && host[0] != '\0') {
        url = (struct esi_str){
            .data = text, .len = esi_gateway_remotes_write_url(host, gateway->bound.port, text)};
    }
    struct esi_gateway_info info = {
        .server_id = esi_str_from(context->server_id),
        .server_name = esi_str_from(context->config->service.name),
        .version = ESI_PROTOCOL_VERSION,
        .host = esi_str_from(host),
        .port = gateway->bound.port,
        .headers = true,
        .auth_required = config->user != NULL,
        .tls_required = gateway->server_tls != NULL,
        .tls_verify =
            gateway->server_tls != NULL && esi_tls_context_is_verifying(gateway->server_tls),
        .max_payload = context->config->limits.max_payload_bytes,
        .gateway = esi_str_from(config->name),
        .gateway_urls = {url},
        .gateway_url_count = url.len > 0 ? 1 : 0,
        .gateway_url = url,
        .reply_prefix_new = true,
        .interest_only = true,
    };
    esi_info_write_gateway(out, &info);
}

/* --- mapped replies --- */

void esi_gateway_send_mapped(struct esi_context *context, struct esi_batch *batch,
                             const struct esi_publish *publish)
{
    struct esi_reply_map map;

    if (context->gateway == NULL || !esi_reply_map_read(publish->subject, &map)) {
        return;
    }
    const struct esi_gateway_route *route =
        esi_gateway_routes_find(&context->gateway->routes, &map);
    if (route != NULL) {
        esi_batch_send_link(batch, route->target, route->has_headers, publish);
    }
}

/* --- making and freeing --- */

static enum es_err new_tls(struct esi_gateway *self, const struct esi_config_tls *config,
                           enum esi_tls_role role, struct esi_tls_context **out,
                           struct es_error *error)
{
    struct esi_tls_certificate certificate;
    const struct esi_tls_options options = esi_tls_section_options(
        config, role, &esi_gateway_config(self)->allowed_names, &certificate);

    return config->is_set ? esi_tls_context_new(self->context->env, &options, out, error) : ES_OK;
}

static enum es_err make_tls(struct esi_gateway *self, struct es_error *error)
{
    const struct esi_config_gateway *config = esi_gateway_config(self);
    enum es_err err = new_tls(self, &config->tls, TLS_SERVER, &self->server_tls, error);

    if (err == ES_OK) {
        err = new_tls(self, &config->tls, TLS_CLIENT, &self->client_tls, error);
    }
    if (err == ES_OK && config->remote_count > 0) {
        self->remote_tls = calloc(config->remote_count, sizeof(struct esi_tls_context *));
        err = self->remote_tls == NULL ? ES_NO_MEMORY : ES_OK;
    }
    for (size_t i = 0; err == ES_OK && i < config->remote_count; i++) {
        err = new_tls(self, &config->remotes[i].tls, TLS_CLIENT, &self->remote_tls[i], error);
    }
    return err;
}

void esi_gateway_free(struct esi_gateway *gateway)
{
    if (gateway == NULL) {
        return;
    }
    esi_gateway_gossip_deinit(gateway);
    for (struct esi_list *at = gateway->remotes.list.next; at != &gateway->remotes.list;
         at = at->next) {
        esi_gateway_pursuit_free(pursuit_of(ESI_CONTAINER_OF(at, struct esi_gateway_remote, link)));
    }
    esi_gateway_remotes_deinit(&gateway->remotes);
    for (size_t i = 0; gateway->remote_tls != NULL && i < esi_gateway_config(gateway)->remote_count;
         i++) {
        esi_tls_context_unref(gateway->remote_tls[i]);
    }
    free(gateway->remote_tls);
    esi_tls_context_unref(gateway->server_tls);
    esi_tls_context_unref(gateway->client_tls);
    free(gateway);
}

enum es_err esi_gateway_new(struct esi_context *context, struct esi_gateway **out,
                            struct es_error *error)
{
    const struct esi_config_gateway *config = &context->config->gateway;
    struct esi_gateway *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    memset(self, 0, sizeof *self);
    self->context = context;
    esi_gateway_remotes_init(&self->remotes);
    esi_list_init(&self->inbounds);
    esi_list_init(&self->lookups_waiting);
    esi_gateway_routes_init(&self->routes);
    enum es_err err = make_tls(self, error);
    if (err != ES_OK) {
        goto fail;
    }
    esi_actor_init(&self->actor, &esi_gateway_type, context->runtime,
                   esi_runtime_worker(context->runtime, 0));
    /* Never given up: links tell it of their end after it has stopped itself. */
    esi_actor_ref(&self->actor);
    /* Links that come in look for it there. */
    context->gateway = self;
    *out = self;
    err = esi_listener_start(context, config->host, config->port, esi_gateway_link_accept,
                             &self->bound);
    if (err != ES_OK) {
        context->gateway = NULL;
        *out = NULL;
        goto fail;
    }
    esi_log(LOG_GATEWAY_LISTENING, ESI_LOG_TEXT("name", config->name),
            ESI_LOG_TEXT("host", self->bound.host), ESI_LOG_U64("port", self->bound.port));
    esi_actor_start(&self->actor);
    return ES_OK;
fail:
    esi_gateway_free(self);
    return err;
}

/* --- visits --- */

void esi_gateway_each_remote(const struct esi_actor *actor,
                             void (*each)(void *argument,
                                          const struct esi_gateway_remote_info *info),
                             void *argument)
{
    const struct esi_gateway *self = ESI_CONTAINER_OF(actor, const struct esi_gateway, actor);

    for (struct esi_list *at = self->remotes.list.next; at != &self->remotes.list; at = at->next) {
        const struct esi_gateway_remote *remote =
            ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        const struct gateway_pursuit *pursuit = pursuit_of(remote);
        const struct esi_gateway_remote_info info = {
            .name = remote->name,
            .state = esi_gateway_pursuit_state_name(pursuit->state),
            .is_configured = remote->config != NULL,
            .url_count = remote->url_count,
            .failures = pursuit->failures,
            .inbound_count = esi_gateway_gossip_count_inbound(self, esi_str_from(remote->name)),
        };
        each(argument, &info);
    }
}
