/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of bits is used only between base and top, so nothing has to be cleared when it is
 * reused. */
#include "event_bench/bench_check.h"

#include <stdlib.h>

enum { WORD_BITS = 64 };

static uint64_t *word_of(const struct esi_bench_check *check, uint64_t sequence)
{
    return &check->bits[sequence % check->bit_count / WORD_BITS];
}

static uint64_t bit_of(uint64_t sequence)
{
    return UINT64_C(1) << (sequence % WORD_BITS);
}

enum es_err esi_bench_check_init(struct esi_bench_check *check, uint64_t ahead_max)
{
    *check = (struct esi_bench_check){.bit_count = WORD_BITS};
    while (check->bit_count < ahead_max) {
        check->bit_count *= 2;
    }
    check->bits = calloc(check->bit_count / WORD_BITS, sizeof *check->bits);
    return check->bits != NULL ? ES_OK : ES_NO_MEMORY;
}

void esi_bench_check_deinit(struct esi_bench_check *check)
{
    free(check->bits);
    *check = (struct esi_bench_check){0};
}

/* Moves base over what was seen. Each number is passed once in its life. */
static void advance_base(struct esi_bench_check *check)
{
    while (check->base < check->top && (*word_of(check, check->base) & bit_of(check->base)) != 0) {
        check->base++;
    }
}

enum esi_bench_seen esi_bench_check_see_out_of_order(struct esi_bench_check *check,
                                                     uint64_t sequence)
{
    if (sequence < check->base) {
        check->duplicated++;
        return BENCH_SEEN_AGAIN;
    }
    if (sequence >= check->top) {
        if (sequence - check->base >= check->bit_count) {
            check->alien++;
            return BENCH_SEEN_ALIEN;
        }
        for (uint64_t missing = check->top; missing < sequence; missing++) {
            *word_of(check, missing) &= ~bit_of(missing);
        }
        *word_of(check, sequence) |= bit_of(sequence);
        check->top = sequence + 1;
        check->seen++;
        advance_base(check);
        return BENCH_SEEN_IN_ORDER;
    }
    if ((*word_of(check, sequence) & bit_of(sequence)) != 0) {
        check->duplicated++;
        return BENCH_SEEN_AGAIN;
    }
    *word_of(check, sequence) |= bit_of(sequence);
    check->seen++;
    check->late++;
    advance_base(check);
    return BENCH_SEEN_LATE;
}
