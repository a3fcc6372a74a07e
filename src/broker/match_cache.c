/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Building a match: the walk collects, sorting puts equal formats, groups and links side by side,
 * and one allocation takes the result. The lists for collecting are kept, so a match that is used
 * once allocates nothing.
 */
#include "broker/match_cache.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEEN_BITS = 17,
    /* The cache is judged after so many misses, or, stepped aside, so many look-ups: then it keeps
     * a part, for as large a part of the subjects, to see whether it would hit. */
    JUDGED_AFTER = 16384,
    ASIDE_PART = 16,
    ASIDE_SHIFT = 40,    /* bits of the hash that neither sets nor tables are chosen by */
    REPLACE_ONE_IN = 64, /* misses in a full set: more would cost more than the few hits bring */
    CAPACITY_MIN = 1024,
    SET_SLOTS =
        /* where a subject can stand: a set is two cache lines, and rarely full while the cache is
         * not */
    8,
    CACHE_BYTES_MAX =
        64 * 1024 *
        1024,       /* all entries; when reached they are forgotten, and the cache fills anew */
    ENTRY_PART = 4, /* of that, one entry at most; and so the slots */
    LINK_QUEUES_BYTES_MAX =
        32 * 1024 /* group names on one message line, so that it stays under 64 KiB */
};

struct growable {
    struct esi_sub **subs; /* owned */
    uint32_t count;
    uint32_t capacity;
};

/* The subscriptions of one link: a run of those found, sorted by link. */
struct link_run {
    uint32_t first;
    uint32_t count;
    uint32_t rtt_us; /* read once: what may change at any moment gives no order to sort by */
};

/* The hash stands beside the pointer, so that a look-up touches no other entry. */
struct slot {
    uint64_t hash;
    struct esi_match *match; /* owned; NULL: free */
};

struct esi_match_cache {
    const struct esi_subtable *table;  /* borrowed */
    const struct esi_targets *targets; /* borrowed */
    struct slot *slots;                /* owned; capacity a power of two */
    uint32_t capacity;
    uint32_t capacity_max;
    bool is_aside;
    uint32_t judged_count;   /* misses or look-ups since it was judged last */
    uint64_t judged_hits;    /* hits at that time */
    size_t bytes_max;        /* of all entries */
    struct esi_lease *lease; /* borrowed; NULL: nobody counts */
    /* Subjects seen once: a bit each, forgotten in whole when half full. */
    uint64_t seen[(1 << SEEN_BITS) / 64];
    uint32_t seen_count;
    struct esi_match_cache_stats stats;
    /* What the walk has found, before it is put in order. */
    struct esi_str subject;
    struct growable plain;
    struct growable members;
    struct growable remote;
    struct link_run *runs; /* owned: of remote */
    uint32_t run_count;
    uint32_t run_capacity;
    uint32_t flags; /* of all subscriptions that it has found */
    bool has_failed;
    /* Which targets the current match has: stamps[slot] == stamp. */
    uint32_t *stamps; /* owned */
    uint32_t stamp_capacity;
    uint32_t stamp;
    struct esi_match *scratch; /* owned: the last match that was not admitted */
    size_t scratch_bytes;
};

/* Memory of the cache has become more, or less, by that. */
static void note_more(struct esi_match_cache *cache, size_t bytes)
{
    cache->stats.held_bytes += bytes;
    esi_ledger_charge(cache->lease, MEMORY_MATCH_CACHES, bytes);
}

static void note_less(struct esi_match_cache *cache, size_t bytes)
{
    cache->stats.held_bytes -= bytes;
    esi_ledger_give(cache->lease, MEMORY_MATCH_CACHES, bytes);
}

static struct slot *new_slots(uint32_t capacity)
{
    struct slot *slots = aligned_alloc(ESI_CACHE_LINE, capacity * sizeof *slots);

    if (slots != NULL) {
        memset(slots, 0, capacity * sizeof *slots);
    }
    return slots;
}

enum es_err esi_match_cache_new(const struct esi_subtable *table, const struct esi_targets *targets,
                                uint32_t capacity, struct esi_match_cache **out)
{
    struct esi_match_cache *cache = calloc(1, sizeof *cache);

    if (cache == NULL) {
        return ES_NO_MEMORY;
    }
    cache->table = table;
    cache->targets = targets;
    cache->bytes_max = CACHE_BYTES_MAX;
    cache->capacity_max = 64;
    while (cache->capacity_max < capacity) {
        cache->capacity_max *= 2;
    }
    cache->capacity =
        cache->capacity_max < CAPACITY_MIN ? cache->capacity_max : (uint32_t)CAPACITY_MIN;
    cache->slots = new_slots(cache->capacity);
    if (cache->slots == NULL) {
        free(cache);
        return ES_NO_MEMORY;
    }
    note_more(cache, sizeof *cache + cache->capacity * sizeof *cache->slots);
    *out = cache;
    return ES_OK;
}

void esi_match_cache_charge_to(struct esi_match_cache *cache, struct esi_lease *lease)
{
    ESI_REQUIRE(cache->lease == NULL && cache->stats.entries == 0);
    if (lease == NULL) {
        return;
    }
    const struct esi_ledger *ledger = lease->ledger;
    const uint64_t part_bytes = ledger->classes[MEMORY_AUXILIARY].short_bytes / ledger->lease_count;
    cache->bytes_max = part_bytes < CACHE_BYTES_MAX ? (size_t)part_bytes : (size_t)CACHE_BYTES_MAX;
    cache->lease = lease;
    esi_ledger_charge(lease, MEMORY_MATCH_CACHES, cache->stats.held_bytes);
}

void esi_match_cache_free(struct esi_match_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    note_less(cache, cache->stats.held_bytes);
    for (uint32_t i = 0; i < cache->capacity; i++) {
        free(cache->slots[i].match);
    }
    free(cache->slots);
    free(cache->plain.subs);
    free(cache->members.subs);
    free(cache->remote.subs);
    free(cache->runs);
    free(cache->stamps);
    free(cache->scratch);
    free(cache);
}

void esi_match_cache_stats(const struct esi_match_cache *cache, struct esi_match_cache_stats *out)
{
    *out = cache->stats;
}

bool esi_match_cache_is_current(const struct esi_match_cache *cache, const struct esi_match *match)
{
    return match->generation ==
               esi_subtable_generation(&esi_subtable_generations(cache->table)[match->bucket]) &&
           match->wildcard_generation ==
               esi_subtable_generation(esi_subtable_wildcard_generation(cache->table));
}

static void add_found(struct esi_match_cache *cache, struct growable *list, struct esi_sub *sub)
{
    if (list->count == list->capacity) {
        const uint32_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct esi_sub **subs = realloc(list->subs, capacity * sizeof(struct esi_sub *));
        if (subs == NULL) {
            cache->has_failed = true;
            return;
        }
        note_more(cache, (capacity - list->capacity) * sizeof(struct esi_sub *));
        list->subs = subs;
        list->capacity = capacity;
    }
    list->subs[list->count++] = sub;
}

static void on_found(void *argument, struct esi_sub *sub)
{
    struct esi_match_cache *cache = argument;

    if (sub->permissions != NULL &&
        esi_permissions_is_delivery_denied(sub->permissions, cache->subject, sub->queue)) {
        return;
    }
    cache->flags |= sub->flags;
    if (sub->target->is_link) {
        add_found(cache, &cache->remote, sub);
    } else if (sub->queue.len > 0) {
        add_found(cache, &cache->members, sub);
    } else {
        add_found(cache, &cache->plain, sub);
    }
}

static int compare_str(struct esi_str a, struct esi_str b)
{
    const size_t len = a.len < b.len ? a.len : b.len;
    const int order = len == 0 ? 0 : memcmp(a.data, b.data, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* By format: flags, then sid; so that identical lines stand side by side. */
static int compare_format(const void *left, const void *right)
{
    const struct esi_sub *a = *(struct esi_sub *const *)left;
    const struct esi_sub *b = *(struct esi_sub *const *)right;

    if (a->flags != b->flags) {
        return a->flags < b->flags ? -1 : 1;
    }
    return compare_str(a->sid, b->sid);
}

static int compare_queue(const void *left, const void *right)
{
    const struct esi_sub *a = *(struct esi_sub *const *)left;
    const struct esi_sub *b = *(struct esi_sub *const *)right;

    return compare_str(a->queue, b->queue);
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
    const int order = compare_str(a->queue, b->queue);
    return order != 0 ? order : (int)(b->flags & SUB_OPTIMISTIC) - (int)(a->flags & SUB_OPTIMISTIC);
}

/* By round-trip time; equal ones by the link. */
static int compare_run(const void *left, const void *right)
{
    const struct link_run *a = left;
    const struct link_run *b = right;

    if (a->rtt_us != b->rtt_us) {
        return a->rtt_us < b->rtt_us ? -1 : 1;
    }
    return a->first < b->first ? -1 : 1;
}

static void sort(struct growable *list, int (*compare)(const void *, const void *))
{
    if (list->count > 1) {
        qsort(list->subs, list->count, sizeof(struct esi_sub *), compare);
    }
}

/* Notes a target; true when it stood there already. */
static bool stamp(struct esi_match_cache *cache, const struct esi_sub *sub)
{
    const uint32_t slot = sub->target->slot;

    if (slot >= cache->stamp_capacity) {
        const uint32_t capacity = esi_targets_slot_limit(cache->targets) * 2 + 64;
        uint32_t *stamps = realloc(cache->stamps, capacity * sizeof *stamps);
        if (stamps == NULL) {
            cache->has_failed = true;
            return false;
        }
        memset(stamps + cache->stamp_capacity, 0,
               (capacity - cache->stamp_capacity) * sizeof *stamps);
        note_more(cache, (capacity - cache->stamp_capacity) * sizeof *stamps);
        cache->stamps = stamps;
        cache->stamp_capacity = capacity;
    }
    if (cache->stamps[slot] == cache->stamp) {
        return true;
    }
    cache->stamps[slot] = cache->stamp;
    return false;
}

static bool find_repeated_target(struct esi_match_cache *cache)
{
    bool is_repeated = false;

    if (++cache->stamp == 0) {
        memset(cache->stamps, 0, cache->stamp_capacity * sizeof *cache->stamps);
        cache->stamp = 1;
    }
    for (uint32_t i = 0; i < cache->plain.count; i++) {
        is_repeated |= stamp(cache, cache->plain.subs[i]);
    }
    for (uint32_t i = 0; i < cache->members.count; i++) {
        is_repeated |= stamp(cache, cache->members.subs[i]);
    }
    return is_repeated;
}

/* Where the parts of a match lie in its one allocation. */
struct layout {
    struct esi_match *match;
    struct esi_sub **subs;
    struct esi_match_group *groups;
    struct esi_match_link *links;
    struct esi_str *queues;
    char *subject;
};

static size_t match_bytes(const struct esi_match_cache *cache, size_t subject_len)
{
    return sizeof(struct esi_match) +
           ((size_t)cache->plain.count + cache->members.count) * sizeof(struct esi_sub *) +
           cache->members.count * sizeof(struct esi_match_group) +
           cache->remote.count * (sizeof(struct esi_match_link) + sizeof(struct esi_str)) +
           subject_len;
}

static struct layout lay_out(const struct esi_match_cache *cache, void *memory)
{
    struct layout layout = {.match = memory};

    layout.subs = (struct esi_sub **)(void *)(layout.match + 1);
    layout.groups =
        (struct esi_match_group *)(void *)(layout.subs + cache->plain.count + cache->members.count);
    layout.links = (struct esi_match_link *)(void *)(layout.groups + cache->members.count);
    layout.queues = (struct esi_str *)(void *)(layout.links + cache->remote.count);
    layout.subject = (char *)(layout.queues + cache->remote.count);
    return layout;
}

static void fill_groups(struct esi_match *match, const struct growable *members,
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

static struct link_run *new_run(struct esi_match_cache *cache)
{
    if (cache->run_count == cache->run_capacity) {
        const uint32_t capacity = cache->run_capacity == 0 ? 16 : cache->run_capacity * 2;
        struct link_run *runs = realloc(cache->runs, capacity * sizeof *runs);
        if (runs == NULL) {
            cache->has_failed = true;
            return NULL;
        }
        note_more(cache, (capacity - cache->run_capacity) * sizeof *runs);
        cache->runs = runs;
        cache->run_capacity = capacity;
    }
    return &cache->runs[cache->run_count++];
}

/* Cuts what was found of links into runs of one link each, and puts those in order of their
 * round-trip time. */
static void order_links(struct esi_match_cache *cache)
{
    const struct growable *remote = &cache->remote;

    cache->run_count = 0;
    for (uint32_t i = 0; i < remote->count;) {
        const struct esi_target *target = remote->subs[i]->target;
        struct link_run *run = new_run(cache);
        if (run == NULL) {
            return;
        }
        /* order: relaxed; an order among links that may be a little old. */
        const uint32_t rtt_us = atomic_load_explicit(&target->rtt_us, memory_order_relaxed);
        *run = (struct link_run){.first = i, .rtt_us = rtt_us};
        while (i < remote->count && remote->subs[i]->target == target) {
            run->count++;
            i++;
        }
    }
    if (cache->run_count > 1) {
        qsort(cache->runs, cache->run_count, sizeof *cache->runs, compare_run);
    }
}

static int compare_group_name(const void *name, const void *group)
{
    return compare_str(*(const struct esi_str *)name,
                       ((const struct esi_match_group *)group)->name);
}

const struct esi_match_group *esi_match_cache_find_group(const struct esi_match *match,
                                                         struct esi_str name)
{
    return match->group_count == 0 ? NULL
                                   : bsearch(&name, match->groups, match->group_count,
                                             sizeof *match->groups, compare_group_name);
}

static int compare_queue_name(const void *name, const void *queue)
{
    return compare_str(*(const struct esi_str *)name, *(const struct esi_str *)queue);
}

/* Both the local groups and the groups of each link are in order of their names. */
static bool is_served(const struct esi_match *match, struct esi_str queue)
{
    if (esi_match_cache_find_group(match, queue) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < match->link_count; i++) {
        const struct esi_match_link *link = &match->links[i];
        if (link->queue_count > 0 && bsearch(&queue, link->queues, link->queue_count,
                                             sizeof *link->queues, compare_queue_name) != NULL) {
            return true;
        }
    }
    return false;
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
        if (queue.len > 0 && (is_repeated || is_served(match, queue) ||
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
static void fill_links(struct esi_match *match, const struct esi_match_cache *cache,
                       struct esi_str *queues)
{
    for (uint32_t i = 0; i < cache->run_count; i++) {
        const struct link_run *run = &cache->runs[i];
        queues = fill_link(match, &cache->remote.subs[run->first], run->count, queues);
    }
}

static void fill(struct esi_match_cache *cache, const struct layout *layout)
{
    struct esi_match *match = layout->match;

    match->plain = layout->subs;
    match->groups = layout->groups;
    match->links = layout->links;
    match->plain_count = cache->plain.count;
    match->group_count = 0;
    match->link_count = 0;
    if (cache->plain.count > 0) {
        memcpy(match->plain, cache->plain.subs, cache->plain.count * sizeof(struct esi_sub *));
    }
    fill_groups(match, &cache->members, layout->subs + cache->plain.count);
    fill_links(match, cache, layout->queues);
}

static bool was_seen(struct esi_match_cache *cache, uint64_t hash)
{
    const uint64_t bit = hash >> (64 - SEEN_BITS);
    uint64_t *word = &cache->seen[bit / 64];

    if ((*word >> (bit % 64) & 1) != 0) {
        return true;
    }
    if (++cache->seen_count > (1U << SEEN_BITS) / 2) {
        memset(cache->seen, 0, sizeof cache->seen);
        cache->seen_count = 1;
    }
    *word |= 1ULL << (bit % 64);
    return false;
}

static struct slot *set_in(struct slot *slots, uint32_t capacity, uint64_t hash)
{
    return &slots[(hash & (capacity / SET_SLOTS - 1)) * SET_SLOTS];
}

static struct slot *set_of(const struct esi_match_cache *cache, uint64_t hash)
{
    return set_in(cache->slots, cache->capacity, hash);
}

/* Twice the sets: what stood in one spreads over two, so none overflows. Without memory for it the
 * cache stays as it is. */
static void grow(struct esi_match_cache *cache)
{
    const uint32_t capacity = cache->capacity * 2;
    struct slot *slots = new_slots(capacity);

    if (slots == NULL) {
        return;
    }
    note_more(cache, (capacity - cache->capacity) * sizeof *slots);
    for (uint32_t i = 0; i < cache->capacity; i++) {
        const struct slot *old = &cache->slots[i];
        struct slot *slot = set_in(slots, capacity, old->hash);
        if (old->match != NULL) {
            while (slot->match != NULL) {
                slot++;
            }
            *slot = *old;
        }
    }
    free(cache->slots);
    cache->slots = slots;
    cache->capacity = capacity;
}

static struct slot *find_slot(const struct esi_match_cache *cache, struct esi_str subject,
                              uint64_t hash)
{
    struct slot *set = set_of(cache, hash);

    for (uint32_t i = 0; i < SET_SLOTS; i++) {
        if (set[i].hash == hash && set[i].match != NULL &&
            esi_str_equal(set[i].match->subject, subject)) {
            return &set[i];
        }
    }
    return NULL;
}

/*
 * The slot for a subject: its own, a free one, else any of its set, but then only now and then:
 * where one subject too many takes turns, most stay. None of the others is looked at, stale or not:
 * each stands in memory of its own. NULL: none this time.
 */
static struct slot *choose_slot(const struct esi_match_cache *cache, struct esi_str subject,
                                uint64_t hash)
{
    struct slot *set = set_of(cache, hash);
    struct slot *chosen = find_slot(cache, subject, hash);

    for (uint32_t i = 0; i < SET_SLOTS && chosen == NULL; i++) {
        chosen = set[i].match == NULL ? &set[i] : NULL;
    }
    if (chosen == NULL && cache->stats.misses % REPLACE_ONE_IN == 0) {
        chosen = &set[cache->stats.misses / REPLACE_ONE_IN % SET_SLOTS];
    }
    return chosen;
}

static void forget(struct esi_match_cache *cache, struct slot *slot)
{
    if (slot->match != NULL) {
        note_less(cache, slot->match->bytes);
        cache->stats.bytes -= slot->match->bytes;
        cache->stats.entries--;
        free(ESI_MOVE(slot->match));
    }
}

static void forget_all(struct esi_match_cache *cache)
{
    for (uint32_t i = 0; i < cache->capacity; i++) {
        forget(cache, &cache->slots[i]);
        cache->slots[i].hash = 0;
    }
}

/* As far as it may grow now. */
static uint32_t capacity_limit(const struct esi_match_cache *cache)
{
    const uint32_t part = cache->capacity_max / ASIDE_PART;

    return !cache->is_aside ? cache->capacity_max : part < SET_SLOTS ? (uint32_t)SET_SLOTS : part;
}

static bool may_grow(const struct esi_match_cache *cache)
{
    return cache->capacity < capacity_limit(cache) &&
           cache->capacity * sizeof *cache->slots < cache->bytes_max / ENTRY_PART;
}

/* Is this subject one of those that the cache is used for? */
static bool is_used_for(const struct esi_match_cache *cache, uint64_t hash)
{
    return ESI_LIKELY(!cache->is_aside) || (hash >> ASIDE_SHIFT) % ASIDE_PART == 0;
}

/* An entry that is hit takes as many looks into memory that is far away as the table does for a
 * subject with one subscription, and one that is not hit makes them twice as many. */
static void step_aside(struct esi_match_cache *cache)
{
    cache->is_aside = true;
    const uint32_t capacity = capacity_limit(cache);
    struct slot *slots = new_slots(capacity);
    if (slots == NULL) {
        cache->is_aside = false;
        return;
    }
    forget_all(cache);
    note_less(cache, cache->capacity * sizeof *slots);
    note_more(cache, capacity * sizeof *slots);
    free(cache->slots);
    cache->slots = slots;
    cache->capacity = capacity;
}

/* Now and then: does the cache pay? Called for each miss; stepped aside, for each look-up in it. */
static void judge(struct esi_match_cache *cache)
{
    if (++cache->judged_count < JUDGED_AFTER) {
        return;
    }
    const uint64_t hits = cache->stats.hits - cache->judged_hits;
    if (cache->is_aside) {
        cache->is_aside = hits < JUDGED_AFTER / 2; /* else it grows again as subjects come */
    } else if (!may_grow(cache) && hits < JUDGED_AFTER / 3) {
        step_aside(cache);
    }
    cache->judged_count = 0;
    cache->judged_hits = cache->stats.hits;
}

/* Where a match of this size goes; NULL: nowhere, it is used once. */
static struct slot *admit(struct esi_match_cache *cache, struct esi_str subject, uint64_t hash,
                          size_t bytes)
{
    if (!was_seen(cache, hash) || bytes > cache->bytes_max / ENTRY_PART) {
        return NULL;
    }
    if (cache->stats.bytes + bytes > cache->bytes_max) {
        forget_all(cache);
    }
    if (cache->stats.entries > cache->capacity / 4 * 3 && may_grow(cache)) {
        grow(cache);
    }
    return choose_slot(cache, subject, hash);
}

/* Memory for a match: a new entry's own, or the scratch. */
static void *reserve(struct esi_match_cache *cache, const struct slot *slot, size_t bytes)
{
    if (slot != NULL) {
        return malloc(bytes);
    }
    if (cache->scratch_bytes < bytes) {
        free(cache->scratch);
        note_less(cache, cache->scratch_bytes);
        cache->scratch_bytes = 0;
        cache->scratch = malloc(bytes * 2);
        if (cache->scratch != NULL) {
            cache->scratch_bytes = bytes * 2;
            note_more(cache, cache->scratch_bytes);
        }
    }
    return cache->scratch;
}

static const struct esi_match *build(struct esi_match_cache *cache, struct esi_str subject,
                                     uint64_t hash)
{
    const uint32_t bucket = esi_subtable_bucket(subject);
    /* Before the walk: a change during it leaves the match stale, never wrongly current. */
    const uint64_t generation =
        esi_subtable_generation(&esi_subtable_generations(cache->table)[bucket]);
    const uint64_t wildcard_generation =
        esi_subtable_generation(esi_subtable_wildcard_generation(cache->table));

    cache->subject = subject;
    cache->has_failed = false;
    cache->flags = 0;
    cache->plain.count = 0;
    cache->members.count = 0;
    cache->remote.count = 0;
    esi_subtable_walk(cache->table, subject, hash, on_found, cache);
    sort(&cache->plain, compare_format);
    sort(&cache->members, compare_queue);
    sort(&cache->remote, compare_link);
    order_links(cache);
    const bool is_repeated = find_repeated_target(cache);
    if (cache->has_failed) {
        return NULL;
    }
    const size_t len = match_bytes(cache, subject.len);
    const size_t bytes = esi_ledger_heap_bytes(len);
    struct slot *slot = is_used_for(cache, hash) ? admit(cache, subject, hash, bytes) : NULL;
    void *memory = reserve(cache, slot, len);
    if (memory == NULL) {
        return NULL;
    }
    const struct layout layout = lay_out(cache, memory);
    memcpy(layout.subject, subject.data, subject.len);
    *layout.match = (struct esi_match){.subject = {.data = layout.subject, .len = subject.len},
                                       .hash = hash,
                                       .generation = generation,
                                       .wildcard_generation = wildcard_generation,
                                       .bucket = bucket,
                                       .has_repeated_target = is_repeated,
                                       .has_counted = (cache->flags & SUB_COUNTED) != 0,
                                       .is_cached = slot != NULL,
                                       .bytes = bytes};
    fill(cache, &layout);
    const uint32_t fanout =
        layout.match->plain_count + layout.match->group_count + layout.match->link_count;
    if (fanout > cache->stats.fanout_max) {
        cache->stats.fanout_max = fanout;
    }
    if (slot != NULL) {
        forget(cache, slot);
        note_more(cache, bytes);
        cache->stats.bytes += bytes;
        cache->stats.entries++;
        *slot = (struct slot){.hash = hash, .match = layout.match};
    }
    return layout.match;
}

void esi_match_cache_prefetch(const struct esi_match_cache *cache, struct esi_str subject,
                              uint64_t hash, struct esi_match_hint *hint)
{
    if (is_used_for(cache, hash)) {
        const struct slot *set = set_of(cache, hash);
        __builtin_prefetch(set);
        __builtin_prefetch(set + SET_SLOTS / 2);
    }
    esi_subtable_prefetch(cache->table, subject, hash, &hint->table);
}

static const struct esi_match *guess(const struct esi_match_cache *cache, uint64_t hash)
{
    const struct slot *set = set_of(cache, hash);

    for (uint32_t i = 0; i < SET_SLOTS; i++) {
        if (set[i].hash == hash) {
            return set[i].match;
        }
    }
    return NULL;
}

void esi_match_cache_prefetch_places(const struct esi_match_cache *cache,
                                     struct esi_match_hint *hint)
{
    const uint64_t hash = hint->table.literal_hash;

    hint->match = is_used_for(cache, hash) ? guess(cache, hash) : NULL;
    if (hint->match != NULL) {
        __builtin_prefetch(hint->match);
        __builtin_prefetch((const char *)hint->match + ESI_CACHE_LINE);
    } else {
        esi_subtable_prefetch_places(&hint->table);
    }
}

void esi_match_cache_prefetch_found(const struct esi_match_cache *cache,
                                    const struct esi_match_hint *hint)
{
    if (hint->match == NULL) {
        esi_subtable_prefetch_found(&hint->table);
    } else if (hint->match->plain_count > 0 && esi_match_cache_is_current(cache, hint->match)) {
        __builtin_prefetch(hint->match->plain[0]);
        __builtin_prefetch((const char *)hint->match->plain[0] + ESI_CACHE_LINE);
    }
}

const struct esi_match *esi_match_cache_find_hashed(struct esi_match_cache *cache,
                                                    struct esi_str subject, uint64_t hash)
{
    const bool is_used = is_used_for(cache, hash);
    const struct slot *slot = is_used ? find_slot(cache, subject, hash) : NULL;

    if (ESI_LIKELY(slot != NULL && esi_match_cache_is_current(cache, slot->match))) {
        cache->stats.hits++;
        if (ESI_UNLIKELY(cache->is_aside)) {
            judge(cache);
        }
        return slot->match;
    }
    cache->stats.misses++;
    if (is_used) {
        judge(cache);
    }
    return build(cache, subject, hash);
}

const struct esi_match *esi_match_cache_find(struct esi_match_cache *cache, struct esi_str subject)
{
    return esi_match_cache_find_hashed(cache, subject, esi_hashmap_hash(subject));
}
