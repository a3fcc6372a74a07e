/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What peers tell of clusters, and are told. A cluster that is named for the first time is pursued;
 * of a known one the addresses are added. Who links to us is told of all others, once. Nobody's
 * word is worth more than a try: clusters that are only talked of leave when there are too many,
 * those that have linked to us do not.
 */
#include "actors/context.h"
#include "actors/gateway_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "config/config.h"
#include "proto/info.h"

#include <stdlib.h>

enum { TOLD_BYTES_MAX = 256 * 1024 }; /* to one newcomer */

/* A link that a remote cluster has opened to us. */
struct inbound {
    struct esi_list in_gateway;
    uint64_t link_id;
    char *name; /* owned; of the cluster */
    char *url;  /* owned; where that server listens; empty: not said */
};

static struct inbound *inbound_at(struct esi_list *at)
{
    return ESI_CONTAINER_OF(at, struct inbound, in_gateway);
}

uint32_t esi_gateway_gossip_count_inbound(const struct esi_gateway *self, struct esi_str name)
{
    uint32_t count = 0;

    for (struct esi_list *at = self->inbounds.next; at != &self->inbounds; at = at->next) {
        count += esi_str_equal(esi_str_from(inbound_at(at)->name), name);
    }
    return count;
}

/* --- what we are told --- */

static struct gateway_pursuit *meet_new(struct esi_gateway *self,
                                        const struct esi_gateway_info *info, bool is_present)
{
    if (!esi_gateway_is_welcome(self, info->gateway) || !esi_gateway_remotes_has_urls(info)) {
        return NULL;
    }
    struct gateway_pursuit *pursuit = esi_gateway_pursuit_new(self, info->gateway, NULL);
    if (pursuit == NULL && is_present && esi_gateway_pursuit_make_room(self)) {
        pursuit = esi_gateway_pursuit_new(self, info->gateway, NULL);
    }
    if (pursuit == NULL) {
        esi_log(LOG_GATEWAY_REMOTE_IGNORED, ESI_LOG_STR("gateway", info->gateway));
        return NULL;
    }
    esi_gateway_remotes_learn(pursuit->remote, info);
    esi_log(LOG_GATEWAY_REMOTE_LEARNED, ESI_LOG_STR("gateway", info->gateway),
            ESI_LOG_STR("url", info->gateway_urls[0]));
    esi_gateway_pursuit_start_round(self, pursuit);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): five rounds fail before a remote is forgotten */
    return pursuit;
}

/* A cluster was named by a peer, or (is_present) has linked to us. */
static struct gateway_pursuit *meet(struct esi_gateway *self, const struct esi_gateway_info *info,
                                    bool is_present)
{
    if (info->gateway.len == 0 ||
        esi_str_equal(info->gateway, esi_str_from(esi_gateway_config(self)->name))) {
        return NULL;
    }
    struct esi_gateway_remote *known = esi_gateway_remotes_find(&self->remotes, info->gateway);
    if (known == NULL) {
        return meet_new(self, info, is_present);
    }
    esi_gateway_remotes_learn(known, info);
    return pursuit_of(known);
}

void esi_gateway_gossip_on_told(struct esi_gateway *self, const struct gateway_news *news)
{
    (void)meet(self, &news->info, false);
}

/* --- what we tell --- */

static void append_remote(const struct esi_gateway *self, const struct esi_gateway_remote *remote,
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

/* Tells the newcomer of all others that we know; configured ones stand first. */
static void send_gossip(const struct esi_gateway *self, const struct gateway_news *news)
{
    struct esi_gateway_gossip_msg *gossip = malloc(sizeof *gossip);

    /* Without an answer the link would announce nothing, for ever. */
    ESI_ASSERT(gossip != NULL);
    *gossip =
        (struct esi_gateway_gossip_msg){.msg = {.kind = news->answer_kind, .free = free_gossip}};
    esi_bytes_init(&gossip->lines, 0);
    for (struct esi_list *at = self->remotes.list.next;
         at != &self->remotes.list && gossip->lines.len < TOLD_BYTES_MAX; at = at->next) {
        const struct esi_gateway_remote *remote =
            ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        if (!esi_str_equal(esi_str_from(remote->name), news->info.gateway)) {
            append_remote(self, remote, &gossip->lines);
        }
    }
    esi_actor_send(news->link, &gossip->msg);
}

/* --- links to us --- */

/*
 * All servers of a cluster know each other and name each other's addresses. Two that do not are two
 * clusters by one name: we link to one of them only, and the other one never hears of what is
 * published here. The operator must know.
 */
static void warn_of_same_name(const struct esi_gateway *self, const struct esi_gateway_info *info)
{
    for (struct esi_list *at = self->inbounds.next; at != &self->inbounds; at = at->next) {
        const struct inbound *other = inbound_at(at);
        bool is_known = other->url[0] == '\0' || info->gateway_url.len == 0;
        if (!esi_str_equal(esi_str_from(other->name), info->gateway)) {
            continue;
        }
        for (size_t i = 0; !is_known && i < info->gateway_url_count; i++) {
            is_known = esi_str_equal(info->gateway_urls[i], esi_str_from(other->url));
        }
        if (!is_known) {
            esi_log(LOG_GATEWAY_SAME_NAME, ESI_LOG_STR("gateway", info->gateway),
                    ESI_LOG_TEXT("one", other->url), ESI_LOG_STR("other", info->gateway_url));
            return;
        }
    }
}

static void note_inbound(struct esi_gateway *self, const struct gateway_news *news)
{
    struct inbound *inbound = malloc(sizeof *inbound);
    char *name = esi_str_dup(news->info.gateway);
    char *url =
        esi_str_dup(news->info.gateway_url.len < ESI_GATEWAY_URL_TEXT_MAX ? news->info.gateway_url
                                                                          : ESI_STR(""));

    if (inbound == NULL || name == NULL || url == NULL) {
        /* It only says that a learned remote is worth pursuing. */
        free(inbound);
        free(name);
        free(url);
        return;
    }
    *inbound = (struct inbound){.link_id = news->link->id, .name = name, .url = url};
    esi_list_append(&self->inbounds, &inbound->in_gateway);
}

void esi_gateway_gossip_on_inbound(struct esi_gateway *self, const struct gateway_news *news)
{
    warn_of_same_name(self, &news->info);
    note_inbound(self, news);
    send_gossip(self, news);
    struct gateway_pursuit *pursuit = meet(self, &news->info, true);
    if (pursuit != NULL) {
        esi_gateway_pursuit_hurry(self, pursuit);
    }
}

static void forget_inbound(struct inbound *inbound)
{
    esi_list_remove(&inbound->in_gateway);
    free(inbound->name);
    free(inbound->url);
    free(inbound);
}

void esi_gateway_gossip_on_inbound_ended(struct esi_gateway *self, uint64_t link_id)
{
    for (struct esi_list *at = self->inbounds.next; at != &self->inbounds; at = at->next) {
        if (inbound_at(at)->link_id == link_id) {
            forget_inbound(inbound_at(at));
            return;
        }
    }
}

void esi_gateway_gossip_deinit(struct esi_gateway *self)
{
    while (!esi_list_is_empty(&self->inbounds)) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a ring: the first is another one each time */
        forget_inbound(inbound_at(self->inbounds.next));
    }
}
