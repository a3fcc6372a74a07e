/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hashes as nats-server makes them: of the name's SHA-256, in its 62 letters; both ends must come
 * to the same. */
#include "proto/reply_map.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "proto/write_internal.h"

#define PREFIX ESI_STR("_GR_.")
#define OLD_PREFIX ESI_STR("$GR.")

_Static_assert(sizeof "_GR_.CCCCCC.SSSSSS." - 1 == ESI_REPLY_MAP_PREFIX_LEN, "prefix");
_Static_assert(sizeof "$GR.hhhh." - 1 == ESI_REPLY_MAP_OLD_PREFIX_LEN, "old prefix");

struct esi_reply_map_hash esi_reply_map_hash(struct esi_str name)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static const char digits[] = "0123456789abcdef";
    struct esi_reply_map_hash hash = {0};
    uint8_t sum[ESI_CRYPTO_SHA256_BYTES];

    esi_crypto_sha256(name.data, name.len, sum);
    for (size_t i = 0; i < ESI_REPLY_MAP_HASH_LEN; i++) {
        hash.text[i] = alphabet[sum[i] % (sizeof alphabet - 1)];
    }
    for (size_t i = 0; i < ESI_REPLY_MAP_OLD_HASH_LEN; i++) {
        hash.old_text[i] = digits[i % 2 == 0 ? sum[i / 2] >> 4 : sum[i / 2] & 0x0f];
    }
    return hash;
}

char *esi_reply_map_write(char *out, const struct esi_reply_map_hash *cluster,
                          const struct esi_reply_map_hash *server, struct esi_str reply)
{
    ESI_DEBUG_ASSERT(reply.len > 0);
    out = write_bytes(out, PREFIX.data, PREFIX.len);
    out = write_bytes(out, cluster->text, ESI_REPLY_MAP_HASH_LEN);
    *out++ = '.';
    out = write_bytes(out, server->text, ESI_REPLY_MAP_HASH_LEN);
    *out++ = '.';
    return write_bytes(out, reply.data, reply.len);
}

char *esi_reply_map_write_old(char *out, const struct esi_reply_map_hash *cluster,
                              struct esi_str reply)
{
    ESI_DEBUG_ASSERT(reply.len > 0);
    out = write_bytes(out, OLD_PREFIX.data, OLD_PREFIX.len);
    out = write_bytes(out, cluster->old_text, ESI_REPLY_MAP_OLD_HASH_LEN);
    *out++ = '.';
    return write_bytes(out, reply.data, reply.len);
}

/*
 * Only the prefix and the length say that a subject is mapped; the hashes are looked at by their
 * place. A subject whose dots stand elsewhere has hashes that no cluster has, so it is dropped
 * where they are compared.
 */
bool esi_reply_map_read(struct esi_str subject, struct esi_reply_map *map)
{
    const char *data = subject.data;

    if (subject.len > ESI_REPLY_MAP_PREFIX_LEN && esi_str_starts_with(subject, PREFIX)) {
        *map = (struct esi_reply_map){
            .cluster = {.data = data + PREFIX.len, .len = ESI_REPLY_MAP_HASH_LEN},
            .server = {.data = data + PREFIX.len + ESI_REPLY_MAP_HASH_LEN + 1,
                       .len = ESI_REPLY_MAP_HASH_LEN},
            .reply = {.data = data + ESI_REPLY_MAP_PREFIX_LEN,
                      .len = subject.len - ESI_REPLY_MAP_PREFIX_LEN},
        };
        return true;
    }
    if (subject.len > ESI_REPLY_MAP_OLD_PREFIX_LEN && esi_str_starts_with(subject, OLD_PREFIX)) {
        *map = (struct esi_reply_map){
            .cluster = {.data = data + OLD_PREFIX.len, .len = ESI_REPLY_MAP_OLD_HASH_LEN},
            .server = {.data = data + ESI_REPLY_MAP_OLD_PREFIX_LEN, .len = 0},
            .reply = {.data = data + ESI_REPLY_MAP_OLD_PREFIX_LEN,
                      .len = subject.len - ESI_REPLY_MAP_OLD_PREFIX_LEN},
            .is_old = true,
        };
        return true;
    }
    return false;
}
