/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On two processors of a virtual machine one request at a time is waited for 15 us, and 64 of them
 * 25 us; a wait in vain counts 50 us. Where the peer shares the processor nearly all that is not
 * found at the first look is in vain. A try is a dozen waits long, so that a few odd ones do not
 * decide, and after it the first of them has no part in the average any more.
 */
#include "runtime/linger.h"

enum {
    WORTH_NS = 32000,
    RESTS = 1024,
    AVERAGED = 8 /* each wait is an eighth of the average */
};

bool esi_linger_begin(struct esi_linger *linger)
{
    if (linger->rests_left > 0) {
        linger->rests_left--;
        return false;
    }
    return true;
}

void esi_linger_end(struct esi_linger *linger, uint64_t awake_ns)
{
    linger->average_ns = (linger->average_ns * (AVERAGED - 1) + awake_ns) / AVERAGED;
    if (linger->average_ns > WORTH_NS) {
        *linger = (struct esi_linger){.rests_left = RESTS};
    }
}
