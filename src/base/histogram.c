/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layout of the buckets, with S = ESI_HISTOGRAM_SUB and b = ESI_HISTOGRAM_SUB_BITS:
 *   0 .. S-1               the values 0 .. S-1, one each
 *   S*(k+1) .. S*(k+2)-1   the values 2^(b+k) .. 2^(b+k+1)-1, each bucket 2^k wide
 */
#include "base/histogram.h"
#include "base/assert.h"

#include <math.h>
#include <string.h>

void esi_histogram_init(struct esi_histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min = UINT64_MAX;
}

size_t esi_histogram_bucket_index(uint64_t value)
{
    if (value < ESI_HISTOGRAM_SUB) {
        return (size_t)value;
    }
    if (value >> ESI_HISTOGRAM_VALUE_BITS != 0) {
        return ESI_HISTOGRAM_BUCKETS - 1;
    }
    const unsigned shift = 63U - (unsigned)__builtin_clzll(value) - ESI_HISTOGRAM_SUB_BITS;
    /* value >> shift lies in S .. 2S-1: its S is the one that makes the group k+1 of k = shift. */
    return (size_t)shift * ESI_HISTOGRAM_SUB + (size_t)(value >> shift);
}

uint64_t esi_histogram_bucket_top(size_t bucket_index)
{
    ESI_REQUIRE(bucket_index < ESI_HISTOGRAM_BUCKETS);
    if (bucket_index < ESI_HISTOGRAM_SUB) {
        return bucket_index;
    }
    const uint64_t shift = bucket_index / ESI_HISTOGRAM_SUB - 1;
    const uint64_t part = bucket_index % ESI_HISTOGRAM_SUB + ESI_HISTOGRAM_SUB;
    return ((part + 1) << shift) - 1;
}

void esi_histogram_record(struct esi_histogram *histogram, uint64_t value)
{
    const double real = (double)value;

    histogram->buckets[esi_histogram_bucket_index(value)]++;
    histogram->count++;
    histogram->sum += real;
    histogram->sum_of_squares += real * real;
    if (value < histogram->min) {
        histogram->min = value;
    }
    if (value > histogram->max) {
        histogram->max = value;
    }
}

void esi_histogram_merge(struct esi_histogram *into, const struct esi_histogram *from)
{
    for (size_t i = 0; i < ESI_HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
    into->count += from->count;
    into->sum += from->sum;
    into->sum_of_squares += from->sum_of_squares;
    if (from->min < into->min) {
        into->min = from->min;
    }
    if (from->max > into->max) {
        into->max = from->max;
    }
}

uint64_t esi_histogram_percentile(const struct esi_histogram *histogram, double percent)
{
    ESI_REQUIRE(percent >= 0 && percent <= 100);
    if (histogram->count == 0) {
        return 0;
    }
    /* The rank is rounded up; the small part taken off first keeps 99.9% of 1000 at 999 in binary
     * floating point. */
    const double exact = percent / 100 * (double)histogram->count - 1e-9 * (double)histogram->count;
    uint64_t rank = exact <= 0 ? 1 : (uint64_t)exact;
    if ((double)rank < exact) {
        rank++;
    }
    if (rank == 0) {
        rank = 1;
    }
    uint64_t seen = 0;
    for (size_t i = 0; i < ESI_HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            const uint64_t top = esi_histogram_bucket_top(i);
            return top < histogram->max ? top : histogram->max;
        }
    }
    /* The last bucket also counts what is above it, so its top says nothing. */
    return histogram->max;
}

uint64_t esi_histogram_min(const struct esi_histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->min;
}

double esi_histogram_mean(const struct esi_histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum / (double)histogram->count;
}

double esi_histogram_stddev(const struct esi_histogram *histogram)
{
    if (histogram->count == 0) {
        return 0;
    }
    const double mean = esi_histogram_mean(histogram);
    const double variance = histogram->sum_of_squares / (double)histogram->count - mean * mean;
    /* Rounding may leave the variance of equal values a little below 0. */
    return variance <= 0 ? 0 : sqrt(variance);
}
