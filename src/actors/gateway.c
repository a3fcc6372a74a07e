/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gateway. Each remote cluster has one outbound link at most; how it comes about:
 *
 * State     | event                     | next
 * WAITING   | its timer                 | a round begins: its addresses in random order; RESOLVING
 * RESOLVING | an address of the host    | DIALLING
 *           | no such host              | the round's next address (RESOLVING), or WAITING
 * DIALLING  | the link is open          | LINKED
 *           | not reached               | the round's next address (RESOLVING), or WAITING
 *           | refused by either side    | WAITING
 * LINKED    | the link has ended        | WAITING
 *
 * A round that fails is followed by a pause that doubles up to a bound. A learned remote that
 * cannot be reached, and that has no link to us either, is forgotten after some rounds. Any state:
 * forgotten or stopping, answers that are on their way are told by the number of the remote, and
 * ignored.
 */
#include "actors/gateway.h"
#include "actors/context.h"
#include "actors/gateway_link.h"
#include "actors/gateway_remotes.h"
#include "actors/gateway_routes.h"
#include "actors/listener.h"
#include "base/assert.h"
#include "base/hashmap.h"
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

enum gateway_msg {
    GATEWAY_OPENED,
    GATEWAY_GOSSIPED,
    GATEWAY_INBOUND,
    GATEWAY_ENDED,
    GATEWAY_RESOLVED
};

enum {
    INBOUND_MAX =
        1024, /* links that others open to us, those that have said nothing yet included */
    ADDRESSES_MAX = 16, /* of one host name */
    FORGOTTEN_AFTER_ROUNDS = 5,
    BACKOFF_DOUBLINGS_MAX = 16
};

static const uint64_t PAUSE_NS =
    1000000000; /* as nats-server: between rounds, and before an explicit redial */
static const uint64_t PAUSE_NS_MAX = 10000000000;
static const uint64_t JITTER_NS = 100000000; /* as nats-server */
static const uint64_t BRIEF_NS =
    1000000000; /* a link that was open for less has failed, in effect */

enum remote_state { REMOTE_WAITING, REMOTE_RESOLVING, REMOTE_DIALLING, REMOTE_LINKED };

/* What is done about one remote cluster. */
struct pursuit {
    struct esi_actor_timer timer;      /* first */
    struct esi_gateway_remote *remote; /* owned by the list */
    struct esi_tls_context *tls;       /* borrowed: the gateway's; NULL: plain */
    enum remote_state state;
    uint32_t *order; /* owned: the round's addresses; room for all of them */
    uint32_t order_count;
    uint32_t order_next;
    uint32_t failures; /* rounds in a row */
    uint64_t link_id;
    uint64_t linked_ns;
};

/* A link that a remote cluster has opened to us. */
struct inbound {
    struct esi_list in_gateway;
    uint64_t link_id;
    char *name; /* owned; of the cluster */
};

struct esi_gateway {
    struct esi_actor actor;      /* first */
    struct esi_context *context; /* borrowed */
    struct esi_address bound;
    struct esi_tls_context *server_tls;  /* owned; NULL: plain */
    struct esi_tls_context *client_tls;  /* owned: for learned remotes; NULL: plain */
    struct esi_tls_context **remote_tls; /* owned: one a configured remote; NULL: plain */
    struct esi_gateway_remotes remotes;
    struct esi_list inbounds;
    struct esi_gateway_routes routes;
    /* written by any worker */
    _Alignas(ESI_CACHE_LINE) _Atomic uint32_t inbound_count;
};

/* What a link tells. */
struct news {
    struct esi_msg msg; /* first */
    uint64_t remote_id;
    struct esi_actor *link; /* a reference; NULL: no answer is wanted */
    uint32_t answer_kind;
    struct esi_gateway_info info; /* owned */
};

/* A host name being looked up by a service thread. */
struct lookup {
    struct esi_job job; /* first */
    struct esi_msg msg;
    struct esi_gateway *gateway;
    uint64_t remote_id;
    uint32_t url_index;
    char host[ESI_GATEWAY_HOST_MAX];
    uint16_t port;
    enum es_err err;
    struct esi_address addresses[ADDRESSES_MAX];
    size_t address_count;
};

static struct esi_gateway *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct esi_gateway, actor);
}

static const struct esi_config_gateway *config_of(const struct esi_gateway *self)
{
    return &self->context->config->gateway;
}

static struct pursuit *pursuit_of(const struct esi_gateway_remote *remote)
{
    return remote->owner;
}

static struct pursuit *find_pursuit(const struct esi_gateway *self, uint64_t remote_id)
{
    const struct esi_gateway_remote *remote = esi_gateway_remotes_by_id(&self->remotes, remote_id);

    return remote != NULL ? pursuit_of(remote) : NULL;
}

static uint64_t random_below(const struct esi_gateway *self, uint64_t limit)
{
    uint64_t random = 0;

    esi_env_random(self->context->env, &random, sizeof random);
    return limit > 0 ? random % limit : 0;
}

static bool is_configured_name(const struct esi_gateway *self, struct esi_str name)
{
    const struct esi_config_gateway *config = config_of(self);

    for (size_t i = 0; i < config->remote_count; i++) {
        if (esi_str_equal(esi_str_from(config->remotes[i].name), name)) {
            return true;
        }
    }
    return false;
}

bool esi_gateway_is_welcome(const struct esi_gateway *self, struct esi_str name)
{
    return !config_of(self)->reject_unknown || is_configured_name(self, name);
}

/* --- dialling --- */

static void wait_for(struct esi_gateway *self, struct pursuit *pursuit, uint64_t delay_ns)
{
    pursuit->state = REMOTE_WAITING;
    esi_actor_timer_set(&pursuit->timer, esi_actor_now_ns(&self->actor) + delay_ns);
}

static uint32_t count_inbound(const struct esi_gateway *self, struct esi_str name)
{
    uint32_t count = 0;

    for (struct esi_list *at = self->inbounds.next; at != &self->inbounds; at = at->next) {
        count += esi_str_equal(esi_str_from(ESI_CONTAINER_OF(at, struct inbound, in_gateway)->name),
                               name);
    }
    return count;
}

static void forget(struct esi_gateway *self, struct pursuit *pursuit)
{
    struct esi_gateway_remote *remote = pursuit->remote;

    esi_log(LOG_GATEWAY_REMOTE_FORGOTTEN, ESI_LOG_TEXT("gateway", remote->name));
    esi_actor_timer_cancel(&pursuit->timer);
    free(pursuit->order);
    free(pursuit);
    esi_gateway_remotes_remove(&self->remotes, remote);
}

/* A round has come to nothing. */
static void end_round(struct esi_gateway *self, struct pursuit *pursuit)
{
    const struct esi_gateway_remote *remote = pursuit->remote;

    pursuit->failures++;
    if (remote->config == NULL && pursuit->failures >= FORGOTTEN_AFTER_ROUNDS &&
        count_inbound(self, esi_str_from(remote->name)) == 0) {
        forget(self, pursuit);
        return;
    }
    const uint32_t doublings = pursuit->failures - 1 < BACKOFF_DOUBLINGS_MAX
                                   ? pursuit->failures - 1
                                   : BACKOFF_DOUBLINGS_MAX;
    uint64_t delay_ns = PAUSE_NS << doublings;
    if (delay_ns > PAUSE_NS_MAX) {
        delay_ns = PAUSE_NS_MAX;
    }
    wait_for(self, pursuit, delay_ns + random_below(self, delay_ns / 10));
}

static void free_lookup(struct esi_msg *msg)
{
    free(ESI_CONTAINER_OF(msg, struct lookup, msg));
}

static void run_lookup(struct esi_job *job)
{
    struct lookup *lookup = ESI_CONTAINER_OF(job, struct lookup, job);

    lookup->err = esi_env_resolve(lookup->gateway->context->env, lookup->host, lookup->port,
                                  lookup->addresses, ADDRESSES_MAX, &lookup->address_count);
    lookup->msg = (struct esi_msg){.kind = GATEWAY_RESOLVED, .free = free_lookup};
    esi_actor_send(&lookup->gateway->actor, &lookup->msg);
}

/* Tries the round's next address. */
static void try_next(struct esi_gateway *self, struct pursuit *pursuit)
{
    if (pursuit->order_next >= pursuit->order_count) {
        end_round(self, pursuit);
        return;
    }
    const uint32_t index = pursuit->order[pursuit->order_next++];
    struct lookup *lookup = index < pursuit->remote->url_count ? malloc(sizeof *lookup) : NULL;
    if (lookup == NULL) {
        end_round(self, pursuit); /* out of memory, or the address was replaced meanwhile */
        return;
    }
    const struct esi_gateway_url *url = &pursuit->remote->urls[index];
    *lookup = (struct lookup){.job = {.run = run_lookup},
                              .gateway = self,
                              .remote_id = pursuit->remote->id,
                              .url_index = index,
                              .port = url->port};
    memcpy(lookup->host, url->host, sizeof lookup->host);
    pursuit->state = REMOTE_RESOLVING;
    esi_runtime_submit(self->context->runtime, &lookup->job);
}

static void start_round(struct esi_gateway *self, struct pursuit *pursuit)
{
    const uint32_t count = pursuit->remote->url_count;
    uint32_t *order = count > 0 ? realloc(pursuit->order, count * sizeof *order) : NULL;

    pursuit->order_next = 0;
    pursuit->order_count = 0;
    if (order != NULL) {
        pursuit->order = order;
        pursuit->order_count = count;
        esi_gateway_remotes_shuffle(pursuit->remote, self->context->env, order);
    }
    try_next(self, pursuit);
}

static void dial(struct esi_gateway *self, struct pursuit *pursuit, const struct lookup *lookup)
{
    const struct esi_gateway_remote *remote = pursuit->remote;
    const struct esi_gateway_url *url = &remote->urls[lookup->url_index];
    const struct esi_gateway_link_options options = {
        .remote_id = remote->id,
        .name = remote->name,
        .is_configured = remote->config != NULL,
        /* One of the host's addresses at random: those that fail are found by later rounds. */
        .address = lookup->addresses[random_below(self, lookup->address_count)],
        .user = url->user,
        .password = url->password,
        .tls = pursuit->tls,
        .tls_name = esi_gateway_remotes_tls_name(remote, lookup->url_index),
    };

    pursuit->state = REMOTE_DIALLING;
    if (esi_gateway_link_dial(self->context, &options, &pursuit->link_id) != ES_OK) {
        end_round(self, pursuit);
    }
}

static void on_resolved(struct esi_gateway *self, const struct lookup *lookup)
{
    struct pursuit *pursuit = find_pursuit(self, lookup->remote_id);

    if (pursuit == NULL || pursuit->state != REMOTE_RESOLVING) {
        return;
    }
    /* Newly learned addresses may have taken the place of the one that was looked up. */
    const struct esi_gateway_remote *remote = pursuit->remote;
    const bool is_still_there = lookup->url_index < remote->url_count &&
                                strcmp(remote->urls[lookup->url_index].host, lookup->host) == 0 &&
                                remote->urls[lookup->url_index].port == lookup->port;
    if (lookup->err != ES_OK) {
        esi_log(LOG_GATEWAY_UNKNOWN_HOST, ESI_LOG_TEXT("gateway", remote->name),
                ESI_LOG_TEXT("host", lookup->host), ESI_LOG_ERR(lookup->err));
    }
    if (lookup->err != ES_OK || !is_still_there) {
        try_next(self, pursuit);
        return;
    }
    dial(self, pursuit, lookup);
}

/* --- remotes --- */

static struct esi_tls_context *tls_of(const struct esi_gateway *self,
                                      const struct esi_config_remote *config)
{
    return config == NULL ? self->client_tls : self->remote_tls[config - config_of(self)->remotes];
}

/* Begins to pursue a remote cluster that is not known yet; NULL when it cannot be. */
static struct pursuit *add_remote(struct esi_gateway *self, struct esi_str name,
                                  const struct esi_config_remote *config)
{
    struct esi_gateway_remote *remote = NULL;
    struct pursuit *pursuit = calloc(1, sizeof *pursuit);

    if (pursuit == NULL ||
        esi_gateway_remotes_add(&self->remotes, name, config, &remote) != ES_OK) {
        free(pursuit);
        return NULL;
    }
    remote->owner = pursuit;
    pursuit->remote = remote;
    pursuit->tls = tls_of(self, config);
    pursuit->state = REMOTE_WAITING;
    esi_actor_timer_init(&self->actor, &pursuit->timer);
    return pursuit;
}

/* A cluster was named by a peer. New ones are dialled; of known ones the addresses are added. */
static struct pursuit *meet(struct esi_gateway *self, const struct esi_gateway_info *info)
{
    if (info->gateway.len == 0 ||
        esi_str_equal(info->gateway, esi_str_from(config_of(self)->name))) {
        return NULL;
    }
    struct esi_gateway_remote *known = esi_gateway_remotes_find(&self->remotes, info->gateway);
    if (known != NULL) {
        esi_gateway_remotes_learn(known, info);
        return pursuit_of(known);
    }
    if (!esi_gateway_is_welcome(self, info->gateway) || !esi_gateway_remotes_has_urls(info)) {
        return NULL;
    }
    struct pursuit *pursuit = add_remote(self, info->gateway, NULL);
    if (pursuit != NULL) {
        esi_gateway_remotes_learn(pursuit->remote, info);
        esi_log(LOG_GATEWAY_REMOTE_LEARNED, ESI_LOG_STR("gateway", info->gateway),
                ESI_LOG_STR("url", info->gateway_urls[0]));
        start_round(self, pursuit);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): five rounds fail before a remote is forgotten */
    return pursuit;
}

static void on_opened(struct esi_gateway *self, const struct news *news)
{
    struct pursuit *pursuit = find_pursuit(self, news->remote_id);

    if (pursuit == NULL) {
        return;
    }
    esi_gateway_remotes_relearn(pursuit->remote, &news->info);
    if (pursuit->state == REMOTE_DIALLING) {
        pursuit->state = REMOTE_LINKED;
        pursuit->linked_ns = esi_actor_now_ns(&self->actor);
    }
}

static void append_gossip(const struct esi_gateway *self, const struct esi_gateway_remote *remote,
                          struct esi_bytes *out)
{
    char texts[ESI_INFO_URLS_MAX][ESI_GATEWAY_URL_TEXT_MAX];
    struct esi_gateway_info info = {.server_id = esi_str_from(self->context->server_id),
                                    .gateway = esi_str_from(remote->name),
                                    .cmd = GATEWAY_CMD_GOSSIP};

    for (uint32_t i = 0; i < remote->url_count && i < ESI_INFO_URLS_MAX; i++) {
        const size_t len =
            esi_gateway_remotes_write_url(remote->urls[i].host, remote->urls[i].port, texts[i]);
        info.gateway_urls[info.gateway_url_count++] =
            (struct esi_str){.data = texts[i], .len = len};
    }
    if (info.gateway_url_count > 0) {
        esi_info_write_gateway(out, &info);
    }
}

static void free_gossip(struct esi_msg *msg)
{
    struct esi_gateway_gossip_msg *gossip = (struct esi_gateway_gossip_msg *)(void *)msg;

    esi_bytes_deinit(&gossip->lines);
    free(gossip);
}

/* Tells the newcomer of all others that we know. */
static void send_gossip(const struct esi_gateway *self, const struct news *news)
{
    struct esi_gateway_gossip_msg *gossip = malloc(sizeof *gossip);

    /* Without an answer the link would announce nothing, for ever. */
    ESI_ASSERT(gossip != NULL);
    *gossip =
        (struct esi_gateway_gossip_msg){.msg = {.kind = news->answer_kind, .free = free_gossip}};
    esi_bytes_init(&gossip->lines, 0);
    for (struct esi_list *at = self->remotes.list.next; at != &self->remotes.list; at = at->next) {
        const struct esi_gateway_remote *remote =
            ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        if (!esi_str_equal(esi_str_from(remote->name), news->info.gateway)) {
            append_gossip(self, remote, &gossip->lines);
        }
    }
    esi_actor_send(news->link, &gossip->msg);
}

static void note_inbound(struct esi_gateway *self, const struct news *news)
{
    struct inbound *inbound = malloc(sizeof *inbound);
    char *name = esi_str_dup(news->info.gateway);

    if (inbound == NULL || name == NULL) {
        /* It only says that a learned remote is worth pursuing. */
        free(inbound);
        free(name);
        return;
    }
    *inbound = (struct inbound){.link_id = news->link->id, .name = name};
    esi_list_append(&self->inbounds, &inbound->in_gateway);
}

static void on_inbound(struct esi_gateway *self, const struct news *news)
{
    note_inbound(self, news);
    send_gossip(self, news);
    struct pursuit *pursuit = meet(self, &news->info);
    if (pursuit != NULL && pursuit->state == REMOTE_WAITING && pursuit->failures > 0) {
        /* It is there: no need to wait the pause out. */
        wait_for(self, pursuit, random_below(self, JITTER_NS));
    }
}

static void on_link_lost(struct esi_gateway *self, struct pursuit *pursuit)
{
    const bool was_brief = esi_actor_now_ns(&self->actor) - pursuit->linked_ns < BRIEF_NS;
    const uint64_t pause_ns = pursuit->remote->config != NULL || was_brief ? PAUSE_NS : 0;

    pursuit->failures = 0;
    wait_for(self, pursuit, pause_ns + random_below(self, JITTER_NS));
}

static void on_outbound_ended(struct esi_gateway *self, const struct esi_gateway_ended_msg *ended)
{
    struct pursuit *pursuit = find_pursuit(self, ended->remote_id);

    if (pursuit == NULL || pursuit->link_id != ended->link_id ||
        (pursuit->state != REMOTE_DIALLING && pursuit->state != REMOTE_LINKED)) {
        return;
    }
    switch (ended->ending) {
    case ENDING_UNREACHED:
        try_next(self, pursuit);
        break;
    case ENDING_REFUSED:
        end_round(self, pursuit);
        break;
    case ENDING_LOST:
        on_link_lost(self, pursuit);
        break;
    }
}

static void on_inbound_ended(struct esi_gateway *self, uint64_t link_id)
{
    for (struct esi_list *at = self->inbounds.next; at != &self->inbounds; at = at->next) {
        struct inbound *inbound = ESI_CONTAINER_OF(at, struct inbound, in_gateway);
        if (inbound->link_id == link_id) {
            esi_list_remove(at);
            free(inbound->name);
            free(inbound);
            return;
        }
    }
}

/* --- the actor --- */

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct esi_gateway *self = self_of(actor);

    switch ((enum gateway_msg)msg->kind) {
    case GATEWAY_OPENED:
        on_opened(self, (const struct news *)(const void *)msg);
        break;
    case GATEWAY_GOSSIPED:
        (void)meet(self, &((const struct news *)(const void *)msg)->info);
        break;
    case GATEWAY_INBOUND:
        on_inbound(self, (const struct news *)(const void *)msg);
        break;
    case GATEWAY_ENDED: {
        const struct esi_gateway_ended_msg *ended =
            (const struct esi_gateway_ended_msg *)(const void *)msg;
        if (ended->remote_id != 0) {
            on_outbound_ended(self, ended);
        } else {
            on_inbound_ended(self, ended->link_id);
        }
        break;
    }
    case GATEWAY_RESOLVED:
        on_resolved(self, ESI_CONTAINER_OF(msg, struct lookup, msg));
        break;
    }
}

static void timer(struct esi_actor *actor, struct esi_timer *fired)
{
    struct esi_actor_timer *actor_timer = (struct esi_actor_timer *)(void *)fired;

    start_round(self_of(actor), ESI_CONTAINER_OF(actor_timer, struct pursuit, timer));
}

static void start(struct esi_actor *actor)
{
    struct esi_gateway *self = self_of(actor);
    const struct esi_config_gateway *config = config_of(self);

    for (size_t i = 0; i < config->remote_count; i++) {
        struct pursuit *pursuit =
            add_remote(self, esi_str_from(config->remotes[i].name), &config->remotes[i]);
        if (pursuit == NULL) {
            esi_log(LOG_GATEWAY_REMOTE_FORGOTTEN, ESI_LOG_TEXT("gateway", config->remotes[i].name));
            continue;
        }
        start_round(self, pursuit);
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

    esi_bytes_printf(description->text, "%s %s:%u, %u remotes", config_of(self)->name,
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
    struct news *news = (struct news *)(void *)msg;

    esi_info_gateway_deinit(&news->info);
    if (news->link != NULL) {
        esi_actor_unref(news->link);
    }
    free(news);
}

static struct news *new_news(enum gateway_msg kind, struct esi_gateway_info *info)
{
    struct news *news = malloc(sizeof *news);

    if (news != NULL) {
        *news = (struct news){.msg = {.kind = kind, .free = free_news}, .info = *info};
        *info = (struct esi_gateway_info){.cmd = 0};
    }
    return news;
}

enum es_err esi_gateway_tell_open(struct esi_gateway *gateway, uint64_t remote_id,
                                  struct esi_gateway_info *info)
{
    struct news *news = new_news(GATEWAY_OPENED, info);

    if (news == NULL) {
        return ES_NO_MEMORY;
    }
    news->remote_id = remote_id;
    esi_actor_send(&gateway->actor, &news->msg);
    return ES_OK;
}

enum es_err esi_gateway_tell_gossip(struct esi_gateway *gateway, struct esi_gateway_info *info)
{
    struct news *news = new_news(GATEWAY_GOSSIPED, info);

    if (news == NULL) {
        return ES_NO_MEMORY;
    }
    esi_actor_send(&gateway->actor, &news->msg);
    return ES_OK;
}

enum es_err esi_gateway_tell_inbound(struct esi_gateway *gateway, struct esi_actor *link,
                                     uint32_t answer_kind, struct esi_gateway_info *info)
{
    struct news *news = new_news(GATEWAY_INBOUND, info);

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
    const struct esi_config_gateway *config = config_of(gateway);
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
    const struct esi_config_texts *allowed = &config_of(self)->allowed_names;
    const struct esi_tls_certificate certificate = {.cert_path = config->cert_path,
                                                    .key_path = config->key_path};
    const struct esi_tls_options options = {
        .role = role,
        .min_version = config->min_version == CONFIG_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .certificates = &certificate,
        .certificate_count = 1,
        .root_ca_path = config->root_ca_path,
        .verify_peer = config->root_ca_path != NULL,
        .allowed_names = (const char *const *)allowed->items,
        .allowed_name_count = allowed->count,
    };

    return config->is_set ? esi_tls_context_new(self->context->env, &options, out, error) : ES_OK;
}

static enum es_err make_tls(struct esi_gateway *self, struct es_error *error)
{
    const struct esi_config_gateway *config = config_of(self);
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
    while (!esi_list_is_empty(&gateway->inbounds)) {
        struct esi_list *first = gateway->inbounds.next;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a ring: the first is another one each time */
        on_inbound_ended(gateway, ESI_CONTAINER_OF(first, struct inbound, in_gateway)->link_id);
    }
    for (struct esi_list *at = gateway->remotes.list.next; at != &gateway->remotes.list;
         at = at->next) {
        struct pursuit *pursuit = pursuit_of(ESI_CONTAINER_OF(at, struct esi_gateway_remote, link));
        free(pursuit->order);
        free(pursuit);
    }
    esi_gateway_remotes_deinit(&gateway->remotes);
    for (size_t i = 0; gateway->remote_tls != NULL && i < config_of(gateway)->remote_count; i++) {
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

static const char *state_name(enum remote_state state)
{
    static const char *const names[] = {[REMOTE_WAITING] = "waiting",
                                        [REMOTE_RESOLVING] = "resolving",
                                        [REMOTE_DIALLING] = "dialling",
                                        [REMOTE_LINKED] = "linked"};

    return names[state];
}

void esi_gateway_each_remote(const struct esi_actor *actor,
                             void (*each)(void *argument,
                                          const struct esi_gateway_remote_info *info),
                             void *argument)
{
    const struct esi_gateway *self = ESI_CONTAINER_OF(actor, const struct esi_gateway, actor);

    for (struct esi_list *at = self->remotes.list.next; at != &self->remotes.list; at = at->next) {
        const struct esi_gateway_remote *remote =
            ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        const struct pursuit *pursuit = pursuit_of(remote);
        const struct esi_gateway_remote_info info = {
            .name = remote->name,
            .state = state_name(pursuit->state),
            .is_configured = remote->config != NULL,
            .url_count = remote->url_count,
            .failures = pursuit->failures,
            .inbound_count = count_inbound(self, esi_str_from(remote->name)),
        };
        each(argument, &info);
    }
}
