/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what is said about two subjects is never a contradiction, so that no rule on one of them
 * can be passed by the other; mapped replies come apart as they were put together; what is quoted
 * ends no line. Method: the input, cut at its first LF, is taken as two subjects in both orders.
 */
#include "base/bytes.h"
#include "proto/reply_map.h"
#include "proto/subject.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_pair(struct esi_str a, struct esi_str b)
{
    const bool is_subset = esi_subject_is_subset(a, b);
    const bool overlaps = esi_subject_overlaps(a, b);

    require(overlaps == esi_subject_overlaps(b, a));
    require(!is_subset || overlaps);
    require(esi_subject_is_subset(a, a) && esi_subject_overlaps(a, a));
    if (esi_subject_is_literal(b)) {
        /* One subject alone: to match it, to overlap with it and to hold it are the same. */
        require(esi_subject_matches(a, b) == overlaps);
        require(esi_subject_is_subset(b, a) == overlaps);
    }
}

static void check_reply(struct esi_str reply)
{
    const struct esi_reply_map_hash cluster = esi_reply_map_hash(reply);
    const struct esi_reply_map_hash server = esi_reply_map_hash(ESI_STR("server"));
    struct esi_reply_map map;
    char *room = malloc(ESI_REPLY_MAP_PREFIX_LEN + reply.len + 1);

    require(room != NULL);
    const char *end = esi_reply_map_write(room, &cluster, &server, reply);
    const struct esi_str mapped = {.data = room, .len = (size_t)(end - room)};
    require(mapped.len == ESI_REPLY_MAP_PREFIX_LEN + reply.len);
    require(esi_reply_map_read(mapped, &map) && !map.is_old);
    require(esi_str_equal(map.reply, reply));
    require(esi_str_equal(map.cluster, esi_str_from(cluster.text)));
    require(esi_str_equal(map.server, esi_str_from(server.text)));
    require(esi_subject_is_reserved_publish(mapped) && esi_subject_is_reserved_reply(mapped));
    free(room);
    if (esi_reply_map_read(reply, &map)) {
        /* Whatever a link would take for a mapped reply no client may send. */
        require(esi_subject_is_reserved_publish(reply) && map.reply.len > 0);
    }
}

static void check_quoted(struct esi_str subject)
{
    struct esi_bytes out;

    esi_bytes_init(&out, 0);
    esi_subject_quote(subject, &out);
    require(!out.failed && out.len >= 2);
    for (size_t i = 0; i < out.len; i++) {
        require((unsigned char)out.data[i] >= 0x20 && out.data[i] != 0x7f);
    }
    esi_bytes_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1024) {
        return 0;
    }
    const uint8_t *cut = size > 0 ? memchr(data, '\n', size) : NULL;
    const size_t first_len = cut != NULL ? (size_t)(cut - data) : size;
    const struct esi_str a = {.data = (const char *)data, .len = first_len};
    const struct esi_str b = {.data = (const char *)data + (cut != NULL ? first_len + 1 : size),
                              .len = cut != NULL ? size - first_len - 1 : 0};

    check_quoted(a);
    if (a.len > 0) {
        check_reply(a);
    }
    if (esi_subject_is_valid(a) && esi_subject_is_valid(b)) {
        check_pair(a, b);
        check_pair(b, a);
    }
    return 0;
}
