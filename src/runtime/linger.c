/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On two processors of a virtual machine one request at a time is waited for 15 us, and 64 of them
 * 25 us; a wait in vain counts 50 us. Where the peer shares the processor nearly all that is not
 * found at the first look is in vain. A try ends after eight waits in vain, so that a few odd ones
 * do not decide.
 */
#include "runtime/linger.h"

enum {
    WORTH_NS = 32000,
    AVERAGED = 8, /* each wait is an eighth of the average */
    RESTS_MIN = 64,
    RESTS_MAX = 1024,
    LONG_TRY = 64 /* after so many waits it was a good try that met with a bad moment */
};

bool esi_linger_begin(struct esi_linger *linger)
{
    if (linger->rests_left > 0) {
        linger->rests_left--;
        return false;
    }
    return true;
}

static uint32_t next_rests(const struct esi_linger *linger)
{
    if (linger->tried > LONG_TRY || linger->rests == 0) {
        return RESTS_MIN;
    }
    return linger->rests < RESTS_MAX ? linger->rests * 2 : RESTS_MAX;
}

void esi_linger_end(struct esi_linger *linger, uint64_t awake_ns)
{
    linger->average_ns = (linger->average_ns * (AVERAGED - 1) + awake_ns) / AVERAGED;
    linger->tried++;
    if (linger->average_ns > WORTH_NS) {
        const uint32_t rests = next_rests(linger);
        *linger = (struct esi_linger){.rests = rests, .rests_left = rests};
    }
}
