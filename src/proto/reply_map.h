/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapped replies: a reply subject with the address of the requester's cluster and server in front,
 * so that an answer finds home before the interest in the inbox has travelled there.
 * "_GR_.CCCCCC.SSSSSS.reply", or for peers without gateway_nrp the older "$GR.hhhh.reply". What
 * stands behind the prefix is opaque. Thread: any.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    ESI_REPLY_MAP_HASH_LEN = 6,
    ESI_REPLY_MAP_OLD_HASH_LEN = 4,
    ESI_REPLY_MAP_PREFIX_LEN = 19,
    ESI_REPLY_MAP_OLD_PREFIX_LEN = 9
};

/* The hashes of a gateway name or a server id, ended by NUL. */
struct esi_reply_map_hash {
    char text[ESI_REPLY_MAP_HASH_LEN + 1];
    char old_text[ESI_REPLY_MAP_OLD_HASH_LEN + 1]; /* used for gateway names only */
};

/* A mapped subject taken apart; borrowed from it. */
struct esi_reply_map {
    struct esi_str cluster; /* 6 characters, or 4 in the old form */
    struct esi_str server;  /* 6 characters; empty in the old form */
    struct esi_str reply;   /* at least one byte */
    bool is_old;
};

/* Hashes a gateway name (cluster part) or a server id (server part; not the server's name). */
struct esi_reply_map_hash esi_reply_map_hash(struct esi_str name);
/*
 * Writes the mapped form of reply.
 *   out  room for ESI_REPLY_MAP_PREFIX_LEN + reply.len bytes
 * Returns the end.
 */
char *esi_reply_map_write(char *out, const struct esi_reply_map_hash *cluster,
                          const struct esi_reply_map_hash *server, struct esi_str reply);
/* The same in the old form: ESI_REPLY_MAP_OLD_PREFIX_LEN + reply.len bytes. */
char *esi_reply_map_write_old(char *out, const struct esi_reply_map_hash *cluster,
                              struct esi_str reply);
/* Takes a mapped subject apart. Returns false when the subject is not mapped; then *map is not
 * written. */
bool esi_reply_map_read(struct esi_str subject, struct esi_reply_map *map);
