/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small log-linear histogram of durations for what exists many thousand times (actors): every
 * power of two nanoseconds is cut into two parts, from a microsecond to two seconds; what is
 * shorter or longer is counted at the ends. For measuring with 1.6% use base/histogram.h.
 *
 * Thread: one writer; it is read in the writer's thread, too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    ESI_TIME_BITS_MIN = 10, /* the first bucket counts what is below 2^10 ns: a microsecond */
    ESI_TIME_BITS_MAX = 31, /* the last one what is 2^31 ns or more: two seconds */
    ESI_TIME_BUCKETS = 2 + (ESI_TIME_BITS_MAX - ESI_TIME_BITS_MIN) * 2
};

/* Of one actor. A bucket that is full halves all of them: the shape stays, old times weigh less.
 * Small counts, for each idle connection has two of these. */
struct esi_time_histogram {
    uint16_t counts[ESI_TIME_BUCKETS];
};

/* A sum of many: never halved. */
struct esi_time_totals {
    uint64_t counts[ESI_TIME_BUCKETS];
    uint64_t sum_ns;
};

/* The bucket that counts a duration. */
static inline size_t esi_time_histogram_bucket(uint64_t ns)
{
    if (ns < (uint64_t)1 << ESI_TIME_BITS_MIN) {
        return 0;
    }
    const unsigned bits = 63U - (unsigned)__builtin_clzll(ns);
    if (bits >= ESI_TIME_BITS_MAX) {
        return ESI_TIME_BUCKETS - 1;
    }
    return 1 + (size_t)(bits - ESI_TIME_BITS_MIN) * 2 + (size_t)(ns >> (bits - 1) & 1);
}

/* The first duration that a bucket no longer counts; UINT64_MAX for the last one. */
uint64_t esi_time_histogram_end_ns(size_t bucket);
/* Halves every count. */
void esi_time_histogram_halve(struct esi_time_histogram *histogram);
/* Counts one duration, by its bucket. */
static inline void esi_time_histogram_count(struct esi_time_histogram *histogram, size_t bucket)
{
    if (++histogram->counts[bucket] == UINT16_MAX) {
        esi_time_histogram_halve(histogram);
    }
}
static inline void esi_time_histogram_count_total(struct esi_time_totals *totals, size_t bucket,
                                                  uint64_t ns)
{
    totals->counts[bucket]++;
    totals->sum_ns += ns;
}
/* Adds what a histogram has counted to *totals; it knows no sum. */
void esi_time_histogram_add_to(const struct esi_time_histogram *histogram,
                               struct esi_time_totals *totals);
/* How many durations were counted. */
uint64_t esi_time_histogram_total(const struct esi_time_totals *totals);
/*
 * What `percent` (0 to 100) of the durations do not exceed: the end of its bucket; 0 when there is
 * none; of the last bucket its begin, which is all that is known.
 */
uint64_t esi_time_histogram_percentile_ns(const struct esi_time_totals *totals, double percent);
