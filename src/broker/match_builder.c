/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Collecting first, then writing: between the two the caller finds memory. */
#include "broker/match_builder.h"
#include "broker/subtable_walk.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Group names on one message line, so that it stays under 64 KiB. */
    LINK_QUEUES_BYTES_MAX = 32 * 1024
};

/* The subscriptions of one link: a run of those found, sorted by link. */
struct esi_match_link_run {
    uint32_t first;
    uint32_t count;
    uint32_t rtt_us; /* read once: what may change at any moment gives no order to sort by */
};

void esi_match_builder_deinit(struct esi_match_builder *builder)
{
    free(builder->plain.subs);
    free(builder->members.subs);
    free(builder->remote.subs);
    free(builder->runs);
    free(builder->stamps);
}

static void add_found(struct esi_match_builder *builder, struct esi_match_list *list,
                      struct esi_sub *sub)
{
    if (list->count == list->capacity) {
        const uint32_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct esi_sub **subs = realloc(list->subs, capacity * sizeof(struct esi_sub *));
        if (subs == NULL) {
            builder->has_failed = true;
            return;
        }
        builder->held_bytes += (capacity - list->capacity) * sizeof(struct esi_sub *);
        list->subs = subs;
        list->capacity = capacity;
    }
    list->subs[list->count++] = sub;
}

static void on_found(void *argument, struct esi_sub *sub)
{
    struct esi_match_builder *builder = argument;

    if (sub->permissions != NULL) {
        builder->is_for_family = false; /* another member of it may be treated otherwise */
        if (esi_permissions_is_delivery_denied(sub->permissions, builder->subject, sub->queue)) {
            return;
        }
    }
    builder->flags |= sub->flags;
    if (sub->target->is_link) {
        add_found(builder, &builder->remote, sub);
    } else if (sub->queue.len > 0) {
        add_found(builder, &builder->members, sub);
    } else {
        add_found(builder, &builder->plain, sub);
    }
}

/* By format: flags, then sid; so that identical lines stand side by side. */
static int compare_format(const void *left, const void *right)
{
    const struct esi_sub *a = *(struct esi_sub *const *)left;
    const struct esi_sub *b = *(struct esi_sub *const *)right;

    if (a->flags != b->flags) {
        return a->flags < b->flags ? -1 : 1;
    }
    return esi_str_compare(a->sid, b->sid);
}

static int compare_queue(const void *left, const void *right)
{
    const struct esi_sub *a = *(struct esi_sub *const *)left;
    const struct esi_sub *b = *(struct esi_sub *const *)right;

    return esi_str_compare(a->queue, b->queue);
}

/*
 * By link, then by group, plain interest first. "Send all" stands before other plain interest, so
 * that it represents the link: what was refused is then left out by the link, whatever else
 * matches.
 */
static int compare_link(const void *left, const void *right)
{
    const struct esi_sub *a = *(struct esi_sub *const *)left;
    const struct esi_sub *b = *(struct esi_sub *const *)right;

    if (a->target != b->target) {
        return a->target->slot < b->target->slot ? -1 : 1;
    }
    const int order = esi_str_compare(a->queue, b->queue);
    return order != 0 ? order : (int)(b->flags & SUB_OPTIMISTIC) - (int)(a->flags & SUB_OPTIMISTIC);
}

/* By round-trip time; equal ones by the link. */
static int compare_run(const void *left, const void *right)
{
    const struct esi_match_link_run *a = left;
    const struct esi_match_link_run *b = right;

    if (a->rtt_us != b->rtt_us) {
        return a->rtt_us < b->rtt_us ? -1 : 1;
    }
    return a->first < b->first ? -1 : 1;
}

static void sort(struct esi_match_list *list, int (*compare)(const void *, const void *))
{
    if (list->count > 1) {
        qsort(list->subs, list->count, sizeof(struct esi_sub *), compare);
    }
}

/* Notes a target; true when it stood there already. */
static bool stamp(struct esi_match_builder *builder, const struct esi_sub *sub)
{
    const uint32_t slot = sub->target->slot;

    if (slot >= builder->stamp_capacity) {
        const uint32_t capacity = esi_targets_slot_limit(builder->targets) * 2 + 64;
        uint32_t *stamps = realloc(builder->stamps, capacity * sizeof *stamps);
        if (stamps == NULL) {
            builder->has_failed = true;
            return false;
        }
        memset(stamps + builder->stamp_capacity, 0,
               (capacity - builder->stamp_capacity) * sizeof *stamps);
        builder->held_bytes += (capacity - builder->stamp_capacity) * sizeof *stamps;
        builder->stamps = stamps;
        builder->stamp_capacity = capacity;
    }
    if (builder->stamps[slot] == builder->stamp) {
        return true;
    }
    builder->stamps[slot] = builder->stamp;
    return false;
}

static bool find_repeated_target(struct esi_match_builder *builder)
{
    bool is_repeated = false;

    if (++builder->stamp == 0) {
        memset(builder->stamps, 0, builder->stamp_capacity * sizeof *builder->stamps);
        builder->stamp = 1;
    }
    for (uint32_t i = 0; i < builder->plain.count; i++) {
        is_repeated |= stamp(builder, builder->plain.subs[i]);
    }
    for (uint32_t i = 0; i < builder->members.count; i++) {
        is_repeated |= stamp(builder, builder->members.subs[i]);
    }
    return is_repeated;
}

static struct esi_match_link_run *new_run(struct esi_match_builder *builder)
{
    if (builder->run_count == builder->run_capacity) {
        const uint32_t capacity = builder->run_capacity == 0 ? 16 : builder->run_capacity * 2;
        struct esi_match_link_run *runs = realloc(builder->runs, capacity * sizeof *runs);
        if (runs == NULL) {
            builder->has_failed = true;
            return NULL;
        }
        builder->held_bytes += (capacity - builder->run_capacity) * sizeof *runs;
        builder->runs = runs;
        builder->run_capacity = capacity;
    }
    return &builder->runs[builder->run_count++];
}

/* Cuts what was found of links into runs of one link each, and puts those in order of their
 * round-trip time. */
static void order_links(struct esi_match_builder *builder)
{
    const struct esi_match_list *remote = &builder->remote;

    builder->run_count = 0;
    for (uint32_t i = 0; i < remote->count;) {
        const struct esi_target *target = remote->subs[i]->target;
        struct esi_match_link_run *run = new_run(builder);
        if (run == NULL) {
            return;
        }
        /* order: relaxed; an order among links that may be a little old. */
        const uint32_t rtt_us = atomic_load_explicit(&target->rtt_us, memory_order_relaxed);
        *run = (struct esi_match_link_run){.first = i, .rtt_us = rtt_us};
        while (i < remote->count && remote->subs[i]->target == target) {
            run->count++;
            i++;
        }
    }
    if (builder->run_count > 1) {
        qsort(builder->runs, builder->run_count, sizeof *builder->runs, compare_run);
    }
}

bool esi_match_builder_collect(struct esi_match_builder *builder, struct esi_str subject,
                               uint64_t hash)
{
    builder->subject = subject;
    builder->bucket = esi_subtable_bucket(subject);
    builder->bucket_now = &esi_subtable_generations(builder->table)[builder->bucket];
    /* Before the walk: a change during it leaves the match stale, never wrongly current. */
    builder->bucket_generation = esi_subtable_generation(builder->bucket_now);
    builder->wildcard_generation =
        esi_subtable_generation(esi_subtable_wildcard_generation(builder->table));
    builder->has_failed = false;
    builder->is_for_family = true;
    builder->flags = 0;
    builder->plain.count = 0;
    builder->members.count = 0;
    builder->remote.count = 0;
    const bool is_for_any_last =
        esi_subtable_walk(builder->table, subject, hash, on_found, builder);
    builder->is_for_family &= is_for_any_last;
    sort(&builder->plain, compare_format);
    sort(&builder->members, compare_queue);
    sort(&builder->remote, compare_link);
    order_links(builder);
    builder->has_repeated_target = find_repeated_target(builder);
    return !builder->has_failed;
}

/* --- writing --- */

/* Where the parts of a match lie in its one allocation. */
struct layout {
    struct esi_match *match;
    struct esi_sub **subs;
    struct esi_match_group *groups;
    struct esi_match_link *links;
    struct esi_str *queues;
    char *key;
};

size_t esi_match_builder_bytes(const struct esi_match_builder *builder, struct esi_str key)
{
    return sizeof(struct esi_match) +
           ((size_t)builder->plain.count + builder->members.count) * sizeof(struct esi_sub *) +
           builder->members.count * sizeof(struct esi_match_group) +
           builder->remote.count * (sizeof(struct esi_match_link) + sizeof(struct esi_str)) +
           key.len;
}

static struct layout lay_out(const struct esi_match_builder *builder, void *memory)
{
    struct layout layout = {.match = memory};

    layout.subs = (struct esi_sub **)(void *)(layout.match + 1);
    layout.groups = (struct esi_match_group *)(void *)(layout.subs + builder->plain.count +
                                                       builder->members.count);
    layout.links = (struct esi_match_link *)(void *)(layout.groups + builder->members.count);
    layout.queues = (struct esi_str *)(void *)(layout.links + builder->remote.count);
    layout.key = (char *)(layout.queues + builder->remote.count);
    return layout;
}

static void fill_groups(struct esi_match *match, const struct esi_match_list *members,
                        struct esi_sub **copy)
{
    for (uint32_t i = 0; i < members->count; i++) {
        struct esi_sub *sub = members->subs[i];
        if (match->group_count == 0 ||
            !esi_str_equal(match->groups[match->group_count - 1].name, sub->queue)) {
            match->groups[match->group_count++] =
                (struct esi_match_group){.name = sub->queue, .members = &copy[i]};
        }
        copy[i] = sub;
        match->groups[match->group_count - 1].member_count++;
    }
}

/* What one link gets: plain interest, and the groups that nobody before it serves. Returns the end
 * of its queues. */
static struct esi_str *fill_link(struct esi_match *match, struct esi_sub *const *subs,
                                 uint32_t count, struct esi_str *queues)
{
    struct esi_match_link *link = &match->links[match->link_count];
    size_t bytes = 0;

    *link = (struct esi_match_link){.queues = queues};
    for (uint32_t i = 0; i < count; i++) {
        const struct esi_str queue = subs[i]->queue;
        const bool is_repeated =
            link->queue_count > 0 && esi_str_equal(queues[link->queue_count - 1], queue);
        if (queue.len > 0 && (is_repeated || esi_match_is_served(match, queue) ||
                              bytes + queue.len + 1 > LINK_QUEUES_BYTES_MAX)) {
            continue;
        }
        if (link->sub == NULL) {
            link->sub = subs[i];
        }
        if (queue.len == 0) {
            link->has_plain = true;
        } else {
            queues[link->queue_count++] = queue;
            bytes += queue.len + 1;
        }
    }
    match->link_count += link->sub != NULL;
    return queues + link->queue_count;
}

/* The walk over links in ascending round-trip time: a group goes to the first that has it, and only
 * when nobody here serves it. */
static void fill_links(struct esi_match *match, const struct esi_match_builder *builder,
                       struct esi_str *queues)
{
    for (uint32_t i = 0; i < builder->run_count; i++) {
        const struct esi_match_link_run *run = &builder->runs[i];
        queues = fill_link(match, &builder->remote.subs[run->first], run->count, queues);
    }
}

struct esi_match *esi_match_builder_write(const struct esi_match_builder *builder,
                                          struct esi_str key, void *memory)
{
    const struct layout layout = lay_out(builder, memory);
    struct esi_match *match = layout.match;

    memcpy(layout.key, key.data, key.len);
    *match = (struct esi_match){.key = {.data = layout.key, .len = key.len},
                                .bucket_now = builder->bucket_now,
                                .wildcard_now = esi_subtable_wildcard_generation(builder->table),
                                .bucket_generation = builder->bucket_generation,
                                .wildcard_generation = builder->wildcard_generation,
                                .bucket = builder->bucket,
                                .plain_count = builder->plain.count,
                                .has_repeated_target = builder->has_repeated_target,
                                .has_counted = (builder->flags & SUB_COUNTED) != 0,
                                .plain = layout.subs,
                                .groups = layout.groups,
                                .links = layout.links};
    if (builder->plain.count > 0) {
        memcpy(match->plain, builder->plain.subs, builder->plain.count * sizeof(struct esi_sub *));
    }
    fill_groups(match, &builder->members, layout.subs + builder->plain.count);
    fill_links(match, builder, layout.queues);
    return match;
}
