/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds matches: a walk over the subscription table collects, sorting puts equal formats, groups
 * and links side by side, and one piece of memory takes the result. What it collects in is kept, so
 * a match costs no allocation here. One thread's.
 *
 * Use: esi_match_builder_collect, then memory for esi_match_builder_bytes, then
 * esi_match_builder_write.
 */
#pragma once

#include "base/str.h"
#include "broker/match.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_match_list {
    struct esi_sub **subs; /* owned */
    uint32_t count;
    uint32_t capacity;
};

struct esi_match_builder {
    const struct esi_subtable *table;  /* borrowed */
    const struct esi_targets *targets; /* borrowed */
    size_t held_bytes;                 /* of memory that it has */
    /* What was found, in order. */
    struct esi_str subject; /* borrowed until the match is written */
    uint32_t bucket;
    const _Atomic uint64_t *bucket_now; /* the table's generation, and what it was */
    uint64_t bucket_generation;
    uint64_t wildcard_generation;
    struct esi_match_list plain;
    struct esi_match_list members;
    struct esi_match_list remote;
    struct esi_match_link_run *runs; /* owned: of remote */
    uint32_t run_count;
    uint32_t run_capacity;
    uint32_t flags; /* of all subscriptions that it has found */
    bool has_failed;
    /* The last token made no difference, nor would another: the match is right for the family. */
    bool is_for_family;
    bool has_repeated_target;
    /* Which targets the present match has: stamps[slot] == stamp. */
    uint32_t *stamps; /* owned */
    uint32_t stamp_capacity;
    uint32_t stamp;
};

/* All zero is empty; table and targets are the caller's to set. */
void esi_match_builder_deinit(struct esi_match_builder *builder);
/*
 * Looks up what a subject matches, in a read-side section of the caller. False when memory is
 * exhausted.
 *   hash  of the subject
 */
ES_MUST_USE bool esi_match_builder_collect(struct esi_match_builder *builder,
                                           struct esi_str subject, uint64_t hash);
/* What the match takes, its key included. */
size_t esi_match_builder_bytes(const struct esi_match_builder *builder, struct esi_str key);
/* Writes it to memory of so many bytes (aligned as malloc does); is_cached, is_of_family and bytes
 * are the caller's. */
struct esi_match *esi_match_builder_write(const struct esi_match_builder *builder,
                                          struct esi_str key, void *memory);
