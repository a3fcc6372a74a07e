/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accounts for the numbered messages of one publisher: each must be seen once.
 *
 * Invariants: all numbers below `base` were seen; of base..top-1 the bitmap knows which; none from
 * `top` on was seen. top - base never passes the bitmap's size, because the publisher never is
 * further ahead than that.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/own.h"

struct esi_bench_check {
    uint64_t base;
    uint64_t top;
    uint64_t seen; /* different numbers */
    uint64_t duplicated;
    uint64_t late;  /* seen after a higher one */
    uint64_t alien; /* further ahead than the publisher can be */
    uint64_t *bits; /* owned; a ring */
    uint64_t bit_count;
};

/* How seeing a number ended. */
enum esi_bench_seen { BENCH_SEEN_IN_ORDER, BENCH_SEEN_LATE, BENCH_SEEN_AGAIN, BENCH_SEEN_ALIEN };

/*
 * Starts at number 0.
 *   ahead_max  how many numbers may be out of sight between base and top
 * Errors: ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_bench_check_init(struct esi_bench_check *check, uint64_t ahead_max);
void esi_bench_check_deinit(struct esi_bench_check *check);

/* The general case of esi_bench_check_see. */
enum esi_bench_seen esi_bench_check_see_out_of_order(struct esi_bench_check *check,
                                                     uint64_t sequence);

/* Counts one number. Thread: the check's only one. */
static inline enum esi_bench_seen esi_bench_check_see(struct esi_bench_check *check,
                                                      uint64_t sequence)
{
    if (ESI_LIKELY(sequence == check->base && check->top == sequence)) {
        check->base++;
        check->top++;
        check->seen++;
        return BENCH_SEEN_IN_ORDER;
    }
    return esi_bench_check_see_out_of_order(check, sequence);
}
