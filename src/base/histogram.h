/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A log-linear histogram of unsigned values (nanoseconds, bytes, counts): every power of two is cut
 * into ESI_HISTOGRAM_SUB equal parts, so a reported value is at most 1/64 (1.6%) above the recorded
 * one, at any size; values below ESI_HISTOGRAM_SUB are exact. Fixed memory (19 KB), no allocation,
 * recording is a few instructions.
 *
 * Invariant: count is the sum of all buckets. One thread at a time; several writers each keep one
 * and merge.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    ESI_HISTOGRAM_SUB_BITS = 6,
    ESI_HISTOGRAM_SUB = 1 << ESI_HISTOGRAM_SUB_BITS,
    ESI_HISTOGRAM_VALUE_BITS =
        42, /* larger values (73 minutes in ns) are counted in the last bucket */
    ESI_HISTOGRAM_BUCKETS =
        (ESI_HISTOGRAM_VALUE_BITS - ESI_HISTOGRAM_SUB_BITS + 1) * ESI_HISTOGRAM_SUB
};

struct esi_histogram {
    uint64_t count;
    uint64_t min; /* exact; UINT64_MAX when empty */
    uint64_t max; /* exact, also above the last bucket */
    double sum;   /* a double, because a sum of nanoseconds may pass 64 bits */
    double sum_of_squares;
    uint64_t buckets[ESI_HISTOGRAM_BUCKETS];
};

/* Empties it. */
void esi_histogram_init(struct esi_histogram *histogram);

/* Counts one value. Never fails. */
void esi_histogram_record(struct esi_histogram *histogram, uint64_t value);

/* Adds all of `from` to `into`. */
void esi_histogram_merge(struct esi_histogram *into, const struct esi_histogram *from);

/*
 * The value that `percent` (0 to 100) of the recorded values do not exceed: the upper end of its
 * bucket, and never more than the largest recorded value. Returns 0 when empty.
 */
uint64_t esi_histogram_percentile(const struct esi_histogram *histogram, double percent);

/* The smallest recorded value, or 0 when empty. */
uint64_t esi_histogram_min(const struct esi_histogram *histogram);
/* Mean and standard deviation of the recorded values themselves, not of the buckets; 0 when empty.
 */
double esi_histogram_mean(const struct esi_histogram *histogram);
double esi_histogram_stddev(const struct esi_histogram *histogram);

/* The bucket that counts this value; below ESI_HISTOGRAM_BUCKETS. */
size_t esi_histogram_bucket_index(uint64_t value);
/* The largest value that this bucket (index < ESI_HISTOGRAM_BUCKETS) counts. */
uint64_t esi_histogram_bucket_top(size_t bucket_index);
