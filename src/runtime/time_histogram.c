/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is not on the way of a message: see time_histogram.h. */
#include "runtime/time_histogram.h"
#include "base/assert.h"

uint64_t esi_time_histogram_end_ns(size_t bucket)
{
    ESI_REQUIRE(bucket < ESI_TIME_BUCKETS);
    if (bucket == 0) {
        return (uint64_t)1 << ESI_TIME_BITS_MIN;
    }
    if (bucket == ESI_TIME_BUCKETS - 1) {
        return UINT64_MAX;
    }
    const unsigned bits = ESI_TIME_BITS_MIN + (unsigned)(bucket - 1) / 2;
    const uint64_t half = (uint64_t)1 << (bits - 1);
    return (bucket - 1) % 2 == 0 ? half * 3 : half * 4;
}

void esi_time_histogram_halve(struct esi_time_histogram *histogram)
{
    for (size_t i = 0; i < ESI_TIME_BUCKETS; i++) {
        histogram->counts[i] /= 2;
    }
}

void esi_time_histogram_add_to(const struct esi_time_histogram *histogram,
                               struct esi_time_totals *totals)
{
    for (size_t i = 0; i < ESI_TIME_BUCKETS; i++) {
        totals->counts[i] += histogram->counts[i];
    }
}

uint64_t esi_time_histogram_total(const struct esi_time_totals *totals)
{
    uint64_t count = 0;

    for (size_t i = 0; i < ESI_TIME_BUCKETS; i++) {
        count += totals->counts[i];
    }
    return count;
}

uint64_t esi_time_histogram_percentile_ns(const struct esi_time_totals *totals, double percent)
{
    const uint64_t count = esi_time_histogram_total(totals);
    uint64_t seen = 0;

    if (count == 0) {
        return 0;
    }
    for (size_t i = 0; i < ESI_TIME_BUCKETS - 1; i++) {
        seen += totals->counts[i];
        if ((double)seen * 100 >= (double)count * percent && seen > 0) {
            return esi_time_histogram_end_ns(i);
        }
    }
    return (uint64_t)1 << ESI_TIME_BITS_MAX;
}
