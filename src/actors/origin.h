/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What counts as one peer where places are shared out before anybody has shown who it is: an IPv4
 * address, or the /64 of an IPv6 address, which is what one machine or household is given.
 */
#pragma once

#include "base/str.h"

#include <stdint.h>

struct esi_address;

struct esi_origin {
    uint8_t bytes[16]; /* IPv6 form; the zero value: unknown, one origin as well */
};

/* The origin of a peer; an address that cannot be read is the unknown one. Thread: any. */
struct esi_origin esi_origin_of(const struct esi_address *peer);
/* Its bytes, as a key. Borrowed from origin. */
static inline struct esi_str esi_origin_key(const struct esi_origin *origin)
{
    return (struct esi_str){.data = (const char *)origin->bytes, .len = sizeof origin->bytes};
}
