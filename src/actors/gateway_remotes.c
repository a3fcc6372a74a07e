/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses stand in one array, configured ones first: so forgetting what was learned is a shorter
 * count. What a peer calls an address counts as one only when host and port are valid by the
 * configuration's own rules.
 */
#include "actors/gateway_remotes.h"
#include "base/num.h"
#include "base/own.h"
#include "config/config.h"
#include "config/value.h"
#include "env/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_DIGITS_MAX = 5 };

void esi_gateway_remotes_init(struct esi_gateway_remotes *remotes)
{
    esi_list_init(&remotes->list);
    remotes->count = 0;
    remotes->learned_count = 0;
    remotes->next_id = 1;
}

static void free_remote(struct esi_gateway_remote *remote)
{
    free(remote->name);
    free(remote->urls);
    free(remote);
}

void esi_gateway_remotes_remove(struct esi_gateway_remotes *remotes,
                                struct esi_gateway_remote *remote)
{
    esi_list_remove(&remote->link);
    remotes->count--;
    remotes->learned_count -= remote->config == NULL;
    free_remote(remote);
}

void esi_gateway_remotes_deinit(struct esi_gateway_remotes *remotes)
{
    while (!esi_list_is_empty(&remotes->list)) {
        struct esi_list *first = remotes->list.next;
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a ring: the first is another one each time */
        esi_gateway_remotes_remove(remotes,
                                   ESI_CONTAINER_OF(first, struct esi_gateway_remote, link));
    }
}

struct esi_gateway_remote *esi_gateway_remotes_find(const struct esi_gateway_remotes *remotes,
                                                    struct esi_str name)
{
    for (struct esi_list *at = remotes->list.next; at != &remotes->list; at = at->next) {
        struct esi_gateway_remote *remote = ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        if (esi_str_equal(esi_str_from(remote->name), name)) {
            return remote;
        }
    }
    return NULL;
}

struct esi_gateway_remote *esi_gateway_remotes_by_id(const struct esi_gateway_remotes *remotes,
                                                     uint64_t id)
{
    for (struct esi_list *at = remotes->list.next; at != &remotes->list; at = at->next) {
        struct esi_gateway_remote *remote = ESI_CONTAINER_OF(at, struct esi_gateway_remote, link);
        if (remote->id == id) {
            return remote;
        }
    }
    return NULL;
}

bool esi_gateway_remotes_is_name(struct esi_str name)
{
    if (name.len == 0 || name.len > ESI_GATEWAY_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        const unsigned char byte = (unsigned char)name.data[i];
        if (byte < ' ' || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

/* --- addresses --- */

static bool set_host(struct esi_gateway_url *url, struct esi_str host)
{
    if (host.len == 0 || host.len >= sizeof url->host ||
        memchr(host.data, '\0', host.len) != NULL) {
        return false;
    }
    memcpy(url->host, host.data, host.len);
    url->host[host.len] = '\0';
    return esi_value_is_host(url->host);
}

/* "host:port" or "[host]:port", with or without a scheme in front. */
static bool read_url(struct esi_str text, struct esi_gateway_url *url)
{
    uint64_t port = 0;

    const char *scheme_end = memmem(text.data, text.len, "://", 3);
    if (scheme_end != NULL) {
        text.len -= (size_t)(scheme_end + 3 - text.data);
        text.data = scheme_end + 3;
    }
    const char *colon = memrchr(text.data, ':', text.len);
    if (colon == NULL) {
        return false;
    }
    const size_t digits = (size_t)(text.data + text.len - colon - 1);
    if (!esi_num_parse(colon + 1, digits, PORT_DIGITS_MAX, &port) || port == 0 ||
        port > UINT16_MAX) {
        return false;
    }
    struct esi_str host = {.data = text.data, .len = (size_t)(colon - text.data)};
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host = (struct esi_str){.data = host.data + 1, .len = host.len - 2};
    } else if (memchr(host.data, ':', host.len) != NULL) {
        return false;
    }
    *url = (struct esi_gateway_url){.port = (uint16_t)port};
    return set_host(url, host);
}

static bool has_url(const struct esi_gateway_remote *remote, const struct esi_gateway_url *url)
{
    for (uint32_t i = 0; i < remote->url_count; i++) {
        if (remote->urls[i].port == url->port && strcasecmp(remote->urls[i].host, url->host) == 0) {
            return true;
        }
    }
    return false;
}

static enum es_err append_url(struct esi_gateway_remote *remote, const struct esi_gateway_url *url)
{
    if (remote->url_count == remote->url_capacity) {
        const uint32_t capacity = remote->url_capacity == 0 ? 4 : remote->url_capacity * 2;
        struct esi_gateway_url *urls = realloc(remote->urls, capacity * sizeof *urls);
        if (urls == NULL) {
            return ES_NO_MEMORY;
        }
        remote->urls = urls;
        remote->url_capacity = capacity;
    }
    remote->urls[remote->url_count++] = *url;
    return ES_OK;
}

static enum es_err append_configured(struct esi_gateway_remote *remote,
                                     const struct esi_config_remote *config)
{
    for (size_t i = 0; i < config->url_count; i++) {
        const struct esi_config_url *from = &config->urls[i];
        struct esi_gateway_url url = {
            .port = from->port, .user = from->user, .password = from->password};
        if (!set_host(&url, esi_str_from(from->host))) {
            continue; /* the configuration's check lets no such host through */
        }
        const enum es_err err = append_url(remote, &url);
        if (err != ES_OK) {
            return err;
        }
    }
    remote->configured_count = remote->url_count;
    return ES_OK;
}

enum es_err esi_gateway_remotes_add(struct esi_gateway_remotes *remotes, struct esi_str name,
                                    const struct esi_config_remote *config,
                                    struct esi_gateway_remote **out)
{
    if (!esi_gateway_remotes_is_name(name)) {
        return ES_INVALID;
    }
    if (remotes->learned_count >= ESI_GATEWAY_REMOTES_MAX && config == NULL) {
        return ES_FULL;
    }
    struct esi_gateway_remote *remote = calloc(1, sizeof *remote);
    if (remote == NULL) {
        return ES_NO_MEMORY;
    }
    esi_list_init(&remote->link);
    remote->config = config;
    remote->name = esi_str_dup(name);
    if (remote->name == NULL || (config != NULL && append_configured(remote, config) != ES_OK)) {
        free_remote(remote);
        return ES_NO_MEMORY;
    }
    remote->id = remotes->next_id++;
    esi_list_append(&remotes->list, &remote->link);
    remotes->count++;
    remotes->learned_count += config == NULL;
    *out = remote;
    return ES_OK;
}

static void drop_oldest_learned(struct esi_gateway_remote *remote)
{
    struct esi_gateway_url *oldest = &remote->urls[remote->configured_count];

    remote->url_count--;
    memmove(oldest, oldest + 1, (remote->url_count - remote->configured_count) * sizeof *oldest);
}

void esi_gateway_remotes_learn(struct esi_gateway_remote *remote,
                               const struct esi_gateway_info *info)
{
    for (size_t i = 0; i < info->gateway_url_count; i++) {
        struct esi_gateway_url url;
        if (!read_url(info->gateway_urls[i], &url) || has_url(remote, &url)) {
            continue;
        }
        if (remote->url_count - remote->configured_count >= ESI_GATEWAY_URLS_MAX) {
            drop_oldest_learned(remote);
        }
        if (append_url(remote, &url) != ES_OK) {
            return;
        }
    }
}

bool esi_gateway_remotes_has_urls(const struct esi_gateway_info *info)
{
    for (size_t i = 0; i < info->gateway_url_count; i++) {
        struct esi_gateway_url url;
        if (read_url(info->gateway_urls[i], &url)) {
            return true;
        }
    }
    return false;
}

void esi_gateway_remotes_relearn(struct esi_gateway_remote *remote,
                                 const struct esi_gateway_info *info)
{
    if (esi_gateway_remotes_has_urls(info)) {
        remote->url_count = remote->configured_count;
        esi_gateway_remotes_learn(remote, info);
    }
}

static void shuffle_range(struct esi_env *env, uint32_t from, uint32_t to, uint32_t *out)
{
    for (uint32_t i = from; i < to; i++) {
        uint32_t random = 0;
        esi_env_random(env, &random, sizeof random);
        const uint32_t at = from + random % (i - from + 1);
        out[i] = out[at];
        out[at] = i;
    }
}

void esi_gateway_remotes_shuffle(const struct esi_gateway_remote *remote, struct esi_env *env,
                                 uint32_t *out)
{
    shuffle_range(env, 0, remote->configured_count, out);
    shuffle_range(env, remote->configured_count, remote->url_count, out);
}

const char *esi_gateway_remotes_tls_name(const struct esi_gateway_remote *remote,
                                         uint32_t url_index)
{
    const char *host = remote->urls[url_index].host;
    /* What a peer says must not widen what the configuration demands. */
    const uint32_t count =
        url_index < remote->configured_count ? remote->configured_count : remote->url_count;

    for (uint32_t i = 0; esi_value_is_numeric(host) && i < count; i++) {
        if (!esi_value_is_numeric(remote->urls[i].host)) {
            return remote->urls[i].host;
        }
    }
    return host;
}

size_t esi_gateway_remotes_write_url(const char *host, uint16_t port,
                                     char out[ESI_GATEWAY_URL_TEXT_MAX])
{
    const bool is_ipv6 = strchr(host, ':') != NULL;
    const int len =
        snprintf(out, ESI_GATEWAY_URL_TEXT_MAX, is_ipv6 ? "[%s]:%u" : "%s:%u", host, port);

    return len < ESI_GATEWAY_URL_TEXT_MAX ? (size_t)len : ESI_GATEWAY_URL_TEXT_MAX - 1;
}
