/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a subject matches, by the size of the subscription table and by the number of tokens.
 * Walk: the table itself, which is what a miss of the match cache costs at least. Cached: a
 * worker's match cache that knows each subject. Subjects come in random order, so that with large
 * tables most of what is looked at is in no cache of the processor.
 */
#include "base/hashmap.h"
#include "base/own.h"
#include "broker/match_cache.h"
#include "broker/subtable.h"
#include "broker/target.h"
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUBJECTS_MIN = 4096, /* looked up in a pass, the same again where there are fewer */
    SUBJECTS_MAX = 1000000,
    CACHED_MAX = 65536,      /* of them that the match cache is asked for */
    CACHE_CAPACITY = 131072, /* a worker's */
    SUBJECT_BYTES_MAX = 128,
    DEPTH_MAX = 8,
    DEPTH_TABLE = 1000 /* subscriptions in tables by depth */
};

enum kind { KIND_LITERAL, KIND_STAR, KIND_REST };

struct world {
    struct esi_subtable *table;  /* owned */
    struct esi_targets *targets; /* owned */
    struct esi_target *target;   /* owned; the one of all subscriptions */
    struct esi_sub **subs;       /* owned */
    uint32_t sub_count;
    struct esi_match_cache *cache; /* owned */
    struct esi_str *subjects;      /* owned, and what they point to; in random order */
    uint32_t subject_count;
};

static void deliver(struct esi_target *target, struct esi_delivery *delivery)
{
    (void)target;
    (void)delivery;
    micro_fail("nothing is published here");
}

/* The subject of number i with so many tokens; as a pattern its last token is a wildcard. */
static void name_subject(char *out, uint32_t i, uint32_t depth, enum kind kind)
{
    static const char *const last[] = {"last", "*", ">"};
    size_t len = 0;

    for (uint32_t token = 0; token + 1 < depth; token++) {
        len += (size_t)snprintf(out + len, SUBJECT_BYTES_MAX - len, "token%u.",
                                token + 2 == depth ? i : token);
    }
    if (depth == 1 && kind == KIND_LITERAL) {
        snprintf(out, SUBJECT_BYTES_MAX, "token%u", i);
    } else {
        snprintf(out + len, SUBJECT_BYTES_MAX - len, "%s", last[kind]);
    }
}

static void subscribe(struct world *world, const char *subject)
{
    struct esi_retired *retired = NULL;
    struct esi_sub *sub =
        esi_sub_new(world->target, esi_str_from(subject), ESI_STR(""), ESI_STR("1"));

    if (sub == NULL || esi_subtable_add(world->table, sub, &retired) != ES_OK) {
        micro_fail("a subscription was not taken");
    }
    esi_subtable_free_retired(retired);
    world->subs[world->sub_count++] = sub;
}

static void choose_subjects(struct world *world, uint32_t count, uint32_t depth)
{
    uint64_t random = 42;

    world->subject_count = count < SUBJECTS_MIN ? SUBJECTS_MIN : count;
    if (world->subject_count > SUBJECTS_MAX) {
        world->subject_count = SUBJECTS_MAX;
    }
    world->subjects = micro_alloc(world->subject_count * sizeof *world->subjects);
    for (uint32_t i = 0; i < world->subject_count; i++) {
        char subject[SUBJECT_BYTES_MAX];
        name_subject(subject, (uint32_t)(micro_random(&random) % count), depth, KIND_LITERAL);
        char *copy = esi_str_dup(esi_str_from(subject));
        if (copy == NULL) {
            micro_fail("no memory");
        }
        world->subjects[i] = esi_str_from(copy);
    }
}

static void init_world(struct world *world, uint32_t count, uint32_t depth, enum kind kind)
{
    *world = (struct world){.subs = micro_alloc(count * sizeof *world->subs)};
    world->target = aligned_alloc(ESI_CACHE_LINE, sizeof *world->target);
    if (world->target == NULL) {
        micro_fail("no memory");
    }
    memset(world->target, 0, sizeof *world->target);
    world->target->deliver = deliver;
    if (esi_subtable_new(1, &world->table) != ES_OK ||
        esi_targets_new(1, &world->targets) != ES_OK ||
        esi_targets_add(world->targets, world->target) != ES_OK ||
        esi_match_cache_new(world->table, world->targets, CACHE_CAPACITY, &world->cache) != ES_OK) {
        micro_fail("no memory");
    }
    /* A wildcard alone stands for all of them. */
    const uint32_t distinct = depth == 1 && kind != KIND_LITERAL ? 1 : count;
    for (uint32_t i = 0; i < distinct; i++) {
        char subject[SUBJECT_BYTES_MAX];
        name_subject(subject, i, depth, kind);
        subscribe(world, subject);
    }
    choose_subjects(world, count, depth);
}

static void deinit_world(struct world *world)
{
    for (uint32_t i = 0; i < world->sub_count; i++) {
        struct esi_retired *retired = NULL;
        esi_subtable_remove(world->table, world->subs[i], &retired);
        esi_subtable_free_retired(retired);
        free(world->subs[i]);
    }
    for (uint32_t i = 0; i < world->subject_count; i++) {
        free((void *)(uintptr_t)world->subjects[i].data);
    }
    free(world->subjects);
    free(world->subs);
    esi_match_cache_free(world->cache);
    esi_targets_remove(world->targets, world->target);
    esi_targets_free(world->targets);
    esi_subtable_free(world->table);
    free(world->target);
}

static void found(void *argument, struct esi_sub *sub)
{
    struct micro_pass *pass = argument;

    pass->sum += sub->subject.len;
}

static void run_walk(void *argument, struct micro_pass *pass)
{
    const struct world *world = argument;

    for (uint32_t i = 0; i < world->subject_count; i++) {
        esi_subtable_walk(world->table, world->subjects[i], esi_hashmap_hash(world->subjects[i]),
                          found, pass);
    }
    pass->operations = world->subject_count;
    if (pass->sum == 0) {
        micro_fail("the table found nothing");
    }
}

static void run_cached(void *argument, struct micro_pass *pass)
{
    const struct world *world = argument;
    const uint32_t count = world->subject_count < CACHED_MAX ? world->subject_count : CACHED_MAX;

    for (uint32_t i = 0; i < count; i++) {
        const struct esi_match *match = esi_match_cache_find(world->cache, world->subjects[i],
                                                             esi_hashmap_hash(world->subjects[i]));
        if (match == NULL || match->plain_count == 0) {
            micro_fail("the match cache found nothing");
        }
        pass->sum += match->plain_count;
    }
    pass->operations = count;
}

static void measure_world(struct micro *micro, const char *what, uint32_t count, uint32_t depth,
                          enum kind kind)
{
    char walk[64];
    char cached[64];
    struct world world;

    snprintf(walk, sizeof walk, "walk, %s", what);
    snprintf(cached, sizeof cached, "cached, %s", what);
    if (!micro_wants(micro, "match", walk) && !micro_wants(micro, "match", cached)) {
        return;
    }
    init_world(&world, count, depth, kind);
    micro_measure(micro, "match", walk, run_walk, &world);
    /* An entry comes at the second use of its subject: the round that warms up makes them all. */
    micro_measure(micro, "match", cached, run_cached, &world);
    deinit_world(&world);
}

void micro_match(struct micro *micro)
{
    static const char *const kinds[] = {"literal", "*", ">"};
    static const uint32_t sizes[] = {1, 1000, 100000, 1000000};
    char what[48];

    for (uint32_t i = 0; i < ESI_COUNT_OF(sizes); i++) {
        for (uint32_t kind = 0; kind < ESI_COUNT_OF(kinds); kind++) {
            if (!micro_is_quick(micro) || sizes[i] <= 1000) {
                snprintf(what, sizeof what, "%u subscriptions, %s", sizes[i], kinds[kind]);
                measure_world(micro, what, sizes[i], 3, (enum kind)kind);
            }
        }
    }
    for (uint32_t depth = 1; depth <= DEPTH_MAX; depth++) {
        for (uint32_t kind = 0; kind < ESI_COUNT_OF(kinds); kind++) {
            snprintf(what, sizeof what, "%u tokens, %s", depth, kinds[kind]);
            measure_world(micro, what, DEPTH_TABLE, depth, (enum kind)kind);
        }
    }
}
