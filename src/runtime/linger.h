/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a worker that waits for an answer should wait awake. It pays where the answer comes from
 * another processor, soon: a processor that has gone to sleep takes tens of microseconds to wake.
 * It costs where nobody answers soon, and most where the peer lives on the worker's own processor,
 * which it cannot have as long as the worker looks for its answer. The two are not told apart but
 * by trying: where waits awake take too long on average, the next ones are slept through, and then
 * it is tried again; the more tries fail one after the other, the longer the rest between. Pure;
 * private to the runtime layer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What one wait stays awake at most. */
enum { ESI_LINGER_NS = 50000 };

struct esi_linger {
    uint64_t average_ns; /* of the waits awake since the last rest, those in vain included */
    uint32_t tried;      /* how many those are */
    uint32_t rests;      /* waits that were slept through last */
    uint32_t rests_left; /* waits that are slept through before the next try */
};

/* An answer is waited for: may the worker stay awake? Counts the wait. */
bool esi_linger_begin(struct esi_linger *linger);
/*
 * What came of it.
 *   awake_ns   how long the wait stayed awake. Not for what was found at the first look: it would
 *              have been found without waiting, too.
 */
void esi_linger_end(struct esi_linger *linger, uint64_t awake_ns);
