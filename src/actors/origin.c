/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An IPv4 address stands in IPv6's mapped form, so that it is the same by whichever socket it
 * came. */
#include "actors/origin.h"
#include "env/env.h"

#include <arpa/inet.h>
#include <string.h>

enum { NETWORK_BYTES = 8, MAPPED_BYTES = 12 };

struct esi_origin esi_origin_of(const struct esi_address *peer)
{
    static const uint8_t mapped[MAPPED_BYTES] = {[10] = 0xff, [11] = 0xff};
    struct esi_origin origin = {.bytes = {0}};
    char host[sizeof peer->host];

    /* Without the zone of a link-local address. */
    const size_t len = strcspn(peer->host, "%");
    if (len >= sizeof host) {
        return origin;
    }
    memcpy(host, peer->host, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, origin.bytes + MAPPED_BYTES) == 1) {
        memcpy(origin.bytes, mapped, sizeof mapped);
    } else if (inet_pton(AF_INET6, host, origin.bytes) != 1) {
        memset(origin.bytes, 0, sizeof origin.bytes);
    } else if (memcmp(origin.bytes, mapped, sizeof mapped) != 0) {
        memset(origin.bytes + NETWORK_BYTES, 0, sizeof origin.bytes - NETWORK_BYTES);
    }
    return origin;
}
