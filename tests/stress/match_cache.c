/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a subscription that is in force is in every later match, one that was taken out and is
 * known to be is in none, with a warm cache as without. Method: a router thread numbers its
 * subscriptions and tells after each change what is in force; readers with caches of their own
 * first look at what was told, then ask, and check that the answer is not older.
 */
#include "base/own.h"
#include "base/rcu.h"
#include "broker_case.h"

#include "base/hashmap.h"
#include "proto/subject.h"
#include "runtime_case.h"

#include <pthread.h>

enum { READERS = 3, SUBJECTS = 6, CHANGES = 2000, ASKED_MIN = 5000, LIVE_MAX = 12, TRASH_MAX = 32 };

static const char *const subjects[SUBJECTS] = {"a.a", "a.b", "b.a", "b.b", "a", "c.c.c"};
/* Each matches some of the subjects; two begin with a wildcard. */
static const char *const patterns[] = {"a.a", "a.b", "b.a", "b.b", "a",  "c.c.c",
                                       "a.*", "b.*", "*.a", ">",   "c.>"};

/*
 * Of one pattern: subscriptions are added with numbers 1, 2, 3... and removed in the same order, so
 * that those from `gone` + 1 to `added` are in force.
 */
struct lane {
    _Atomic uint64_t added;
    _Atomic uint64_t gone;
    struct esi_sub *live[LIVE_MAX];
    uint64_t random;
};

enum { LANES = sizeof patterns / sizeof patterns[0] };

static struct broker_case broker;
static struct sink *sink;
static struct lane lanes[LANES];
static _Atomic bool is_ending;
static _Atomic uint64_t asked;
static _Atomic uint64_t cached;

/* --- readers --- */

static void check_match(const struct esi_match *match, const char *subject, const uint64_t *added,
                        const uint64_t *gone)
{
    uint64_t counts[LANES] = {0};

    for (uint32_t i = 0; i < match->plain_count; i++) {
        const struct esi_sub *sub = match->plain[i];
        const uint32_t lane = sub->slot;
        case_check(lane < LANES);
        case_check(esi_str_equal(sub->subject, esi_str_from(patterns[lane])));
        /* created_ns is its number. */
        case_check(sub->created_ns > gone[lane]);
        counts[lane] += sub->created_ns <= added[lane];
    }
    (void)subject;
    for (uint32_t i = 0; i < LANES; i++) {
        /* Those that were in force when we looked, less those that may have gone since: at least
         * the newest one, if any was there, unless it has gone since, which the writer does only to
         * make room. */
        if (counts[i] > 0) {
            case_check(counts[i] <= added[i] - gone[i]);
        }
    }
}

/* Does this pattern match this subject? Worked out beforehand. */
static bool does_match[LANES][SUBJECTS];

static void ask(struct esi_match_cache *cache, uint64_t *random)
{
    const uint32_t s = draw_below(random, SUBJECTS);
    uint64_t added[LANES];
    uint64_t gone[LANES];

    for (uint32_t i = 0; i < LANES; i++) {
        /* order: acquire; pairs with the release of the writer: who sees the number sees the
         * change. */
        gone[i] = atomic_load_explicit(&lanes[i].gone, memory_order_acquire);
        /* order: acquire; as above. */
        added[i] = atomic_load_explicit(&lanes[i].added, memory_order_acquire);
    }
    const struct esi_match *match = esi_match_cache_find(
        cache, esi_str_from(subjects[s]), esi_hashmap_hash(esi_str_from(subjects[s])));
    case_check(match != NULL);
    check_match(match, subjects[s], added, gone);
    for (uint32_t i = 0; i < LANES; i++) {
        /* order: acquire; as above. What has gone by now cannot be asked for. */
        const uint64_t gone_since = atomic_load_explicit(&lanes[i].gone, memory_order_acquire);
        bool has_newest = false;
        for (uint32_t j = 0; j < match->plain_count; j++) {
            has_newest |= match->plain[j]->slot == i && match->plain[j]->created_ns == added[i];
        }
        if (does_match[i][s] && added[i] > gone_since + 1) {
            /* Not removed by then, not even being removed. */
            case_check(has_newest);
        } else if (!does_match[i][s]) {
            case_check(!has_newest);
        }
    }
    /* order: relaxed; counters. */
    atomic_fetch_add_explicit(&cached, match->is_cached, memory_order_relaxed);
}

static void *read_on(void *argument)
{
    uint64_t random = *(const uint64_t *)argument;
    struct esi_match_cache *cache = NULL;
    uint64_t count = 0;

    case_check(esi_match_cache_new(broker.table, broker.targets, 64, &cache) == ES_OK);
    esi_rcu_register();
    /* order: relaxed; only an end is told. */
    while (!atomic_load_explicit(&is_ending, memory_order_relaxed)) {
        ask(cache, &random);
        /* order: relaxed; a counter. */
        atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
        if (++count % 4 == 0) {
            /* A turn ends. The cache stays. */
            esi_rcu_quiescent();
        }
    }
    esi_rcu_unregister();
    esi_match_cache_free(cache);
    return NULL;
}

/* --- the router --- */

struct trash {
    struct esi_retired *retired;
    struct esi_sub *subs[TRASH_MAX];
    uint32_t count;
};

static void empty_trash(struct trash *trash)
{
    esi_rcu_wait();
    esi_subtable_free_retired(ESI_MOVE(trash->retired));
    for (uint32_t i = 0; i < trash->count; i++) {
        memset(trash->subs[i], 0xee, sizeof *trash->subs[i]);
        free(trash->subs[i]);
    }
    trash->count = 0;
}

static void add_one(uint32_t lane, struct trash *trash)
{
    /* order: relaxed; our own value. */
    const uint64_t number = atomic_load_explicit(&lanes[lane].added, memory_order_relaxed) + 1;
    struct esi_sub *sub =
        esi_sub_new(&sink->target, esi_str_from(patterns[lane]), ESI_STR(""), ESI_STR("1"));

    case_check(sub != NULL);
    sub->slot = lane;
    sub->created_ns = number;
    lanes[lane].live[number % LIVE_MAX] = sub;
    case_check(esi_subtable_add(broker.table, sub, &trash->retired) == ES_OK);
    /* order: release; pairs with the acquire in ask: it is in force for whoever sees the number. */
    atomic_store_explicit(&lanes[lane].added, number, memory_order_release);
}

static void remove_one(uint32_t lane, struct trash *trash)
{
    /* order: relaxed; our own value. */
    const uint64_t number = atomic_load_explicit(&lanes[lane].gone, memory_order_relaxed) + 1;
    struct esi_sub *sub = lanes[lane].live[number % LIVE_MAX];

    case_check(sub->created_ns == number);
    esi_subtable_remove(broker.table, sub, &trash->retired);
    trash->subs[trash->count++] = sub;
    /* order: release; pairs with the acquire in ask: it is out of force for whoever sees the
     * number. */
    atomic_store_explicit(&lanes[lane].gone, number, memory_order_release);
}

static uint64_t count_live(uint32_t lane)
{
    /* order: relaxed; our own values. */
    const uint64_t added = atomic_load_explicit(&lanes[lane].added, memory_order_relaxed);
    /* order: relaxed; our own values. */
    return added - atomic_load_explicit(&lanes[lane].gone, memory_order_relaxed);
}

static void write_on(uint64_t *random, struct trash *trash)
{
    for (uint32_t i = 0; i < CHANGES; i++) {
        const uint32_t lane = draw_below(random, LANES);
        const uint64_t live = count_live(lane);
        if (live < LIVE_MAX - 1 && (live == 0 || draw_below(random, 2) == 0)) {
            add_one(lane, trash);
        } else {
            remove_one(lane, trash);
        }
        if (trash->count == TRASH_MAX || draw_below(random, 20) == 0) {
            empty_trash(trash);
        }
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        while (count_live(lane) > 0) {
            remove_one(lane, trash);
            if (trash->count == TRASH_MAX) {
                empty_trash(trash);
            }
        }
    }
}

static void work_out_matches(void)
{
    for (uint32_t i = 0; i < LANES; i++) {
        for (uint32_t s = 0; s < SUBJECTS; s++) {
            does_match[i][s] =
                esi_subject_matches(esi_str_from(patterns[i]), esi_str_from(subjects[s]));
        }
    }
}

int main(void)
{
    pthread_t threads[READERS];
    uint64_t seeds[READERS] = {21, 22, 23};
    uint64_t random = 5;
    struct trash trash = {.retired = NULL};

    broker_case_init(&broker, 1);
    sink = new_sink(&broker, false);
    work_out_matches();
    for (uint32_t i = 0; i < READERS; i++) {
        case_check(pthread_create(&threads[i], NULL, read_on, &seeds[i]) == 0);
    }
    do {
        write_on(&random, &trash);
        /* order: relaxed; a counter. On a busy machine the readers may not have had their turn. */
    } while (atomic_load_explicit(&asked, memory_order_relaxed) < ASKED_MIN);
    /* order: relaxed; only an end is told. */
    atomic_store_explicit(&is_ending, true, memory_order_relaxed);
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    empty_trash(&trash);
    /* order: relaxed; all threads have ended. */
    case_check(atomic_load_explicit(&cached, memory_order_relaxed) > 100);
    free_sink(sink);
    broker_case_deinit(&broker);
    return 0;
}
