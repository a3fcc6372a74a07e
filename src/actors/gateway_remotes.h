/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The remote clusters that the gateway knows, and where each can be reached: addresses from the
 * configuration, which stay and are tried first, and addresses learned from peers, which newer ones
 * replace. Everything learned is bounded and checked: a peer may lie. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "proto/info.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_config_remote;
struct esi_env;

enum {
    ESI_GATEWAY_REMOTES_MAX = 256,            /* learned ones */
    ESI_GATEWAY_NAME_MAX = 255,               /* bytes of a learned name */
    ESI_GATEWAY_HOST_MAX = 254,               /* bytes of a host, with the final NUL */
    ESI_GATEWAY_URLS_MAX = ESI_INFO_URLS_MAX, /* learned ones a remote */
    ESI_GATEWAY_URL_TEXT_MAX = ESI_GATEWAY_HOST_MAX + 8
};

struct esi_gateway_url {
    char host[ESI_GATEWAY_HOST_MAX]; /* a name or a numeric address, without brackets */
    uint16_t port;
    const char *user;     /* borrowed from the configuration; NULL: none */
    const char *password; /* borrowed, secret */
};

struct esi_gateway_remote {
    struct esi_list link;                   /* in esi_gateway_remotes.list */
    uint64_t id;                            /* never used again for another */
    char *name;                             /* owned */
    const struct esi_config_remote *config; /* borrowed; NULL: implicit */
    struct esi_gateway_url *urls;           /* owned: configured ones first, then learned ones */
    uint32_t configured_count;
    uint32_t url_count;
    uint32_t url_capacity;
    void *owner; /* what the gateway keeps with it */
};

struct esi_gateway_remotes {
    struct esi_list list;
    uint32_t count; /* of all */
    uint32_t learned_count;
    uint64_t next_id;
};

void esi_gateway_remotes_init(struct esi_gateway_remotes *remotes);
/* Frees all of them; `owner` is the caller's. */
void esi_gateway_remotes_deinit(struct esi_gateway_remotes *remotes);
/*
 * Adds one that is not there yet.
 *   config   borrowed, NULL: learned
 * Errors: ES_FULL, ES_INVALID (the name), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_gateway_remotes_add(struct esi_gateway_remotes *remotes,
                                                struct esi_str name,
                                                const struct esi_config_remote *config,
                                                struct esi_gateway_remote **out);
/* Takes it out and frees it. */
void esi_gateway_remotes_remove(struct esi_gateway_remotes *remotes,
                                struct esi_gateway_remote *remote);
struct esi_gateway_remote *esi_gateway_remotes_find(const struct esi_gateway_remotes *remotes,
                                                    struct esi_str name);
struct esi_gateway_remote *esi_gateway_remotes_by_id(const struct esi_gateway_remotes *remotes,
                                                     uint64_t id);

/* True when a cluster may be called so: not empty, not too long, without control bytes. */
bool esi_gateway_remotes_is_name(struct esi_str name);

/*
 * Adds what the INFO says; what cannot be an address is left out. Of too many learned ones the
 * oldest goes, so that false ones cannot keep the true one out.
 */
void esi_gateway_remotes_learn(struct esi_gateway_remote *remote,
                               const struct esi_gateway_info *info);
/* Forgets what was learned, and learns from the INFO; one without addresses changes nothing. */
void esi_gateway_remotes_relearn(struct esi_gateway_remote *remote,
                                 const struct esi_gateway_info *info);
/* True when the INFO names at least one address that can be used. */
bool esi_gateway_remotes_has_urls(const struct esi_gateway_info *info);
/*
 * Puts the order in which the addresses are tried into out (url_count numbers of addresses): at
 * random the configured ones, then at random the learned ones.
 */
void esi_gateway_remotes_shuffle(const struct esi_gateway_remote *remote, struct esi_env *env,
                                 uint32_t *out);
/*
 * The name that the certificate of this address must have: the host; where that is numeric, the
 * first name among the remote's addresses, else the number itself. For a configured address only
 * configured names count. Borrowed from the remote.
 */
const char *esi_gateway_remotes_tls_name(const struct esi_gateway_remote *remote,
                                         uint32_t url_index);
/* Writes "host:port", "[host]:port" for IPv6, ended by NUL. Returns its length. */
size_t esi_gateway_remotes_write_url(const char *host, uint16_t port,
                                     char out[ESI_GATEWAY_URL_TEXT_MAX]);
