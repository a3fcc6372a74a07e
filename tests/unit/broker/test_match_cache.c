/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a match is what the table holds at the time of asking, cached or not; its parts stand in
 * the promised order; the cache admits at the second use, of a subject or of its family, and is
 * bounded in entries and memory. Method: small tables, and random changes compared with a match
 * made by a fresh cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker_case.h"

#include "base/hashmap.h"
#include "base/own.h"

static struct broker_case broker;

static int set_up(void **state)
{
    (void)state;
    broker_case_init(&broker, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    broker_case_deinit(&broker);
    return 0;
}

static const struct esi_match *find_in(struct esi_match_cache *cache, const char *subject)
{
    const struct esi_str text = esi_str_from(subject);
    const struct esi_match *match = esi_match_cache_find(cache, text, esi_hashmap_hash(text));

    broker_check(match != NULL);
    broker_check(esi_str_starts_with(text, match->key)); /* the subject, or its family's stem */
    return match;
}

static const struct esi_match *find(const char *subject)
{
    return find_in(broker.cache, subject);
}

static struct esi_match_cache_stats stats_of_cache(void)
{
    struct esi_match_cache_stats stats;

    esi_match_cache_stats(broker.cache, &stats);
    return stats;
}

static void test_admitted_at_second_use(void **state)
{
    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *sub = subscribe(sink, "a.*", "", "1", 0);
    assert_false(find("a.b")->is_cached);
    assert_int_equal(stats_of_cache().entries, 0);
    assert_true(find("a.b")->is_cached);
    assert_int_equal(stats_of_cache().entries, 1);
    const uint64_t misses = stats_of_cache().misses;
    const struct esi_match *match = find("a.b");
    assert_int_equal(match->plain_count, 1);
    assert_ptr_equal(match->plain[0], sub);
    assert_int_equal(stats_of_cache().misses, misses);
    assert_int_equal(stats_of_cache().hits, 1);
    unsubscribe(sub);
    free_sink(sink);
}

/* Inboxes of one requester, each used once, share one entry; what is subscribed for one of them
 * alone, and every change, is seen nevertheless. */
static void test_subjects_of_a_family_share_an_entry(void **state)
{
    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *inboxes = subscribe(sink, "in.a.*", "", "1", 0);
    assert_false(find("in.a.1")->is_cached);
    assert_true(find("in.a.2")->is_cached);
    assert_int_equal(stats_of_cache().entries, 1);
    const uint64_t misses = stats_of_cache().misses;
    for (uint32_t i = 3; i < 1000; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "in.a.%u", i);
        assert_int_equal(find(subject)->plain_count, 1);
    }
    assert_int_equal(stats_of_cache().misses, misses);
    assert_int_equal(stats_of_cache().entries, 1);
    /* Neither its stem nor one that ends there is a member. */
    assert_int_equal(find("in.a")->plain_count, 0);
    assert_int_equal(find("in.a.")->plain_count, 0);
    assert_int_equal(find("in.a.b.c")->plain_count, 0);
    assert_int_equal(find("in.b.1")->plain_count, 0);
    struct esi_sub *alone = subscribe(sink, "in.a.7", "", "2", 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(find("in.a.8")->plain_count, 1);
        assert_int_equal(find("in.a.9")->plain_count, 1);
        assert_int_equal(find("in.a.7")->plain_count, 2);
    }
    unsubscribe(alone);
    assert_int_equal(find("in.a.7")->plain_count, 1);
    struct esi_sub *by_last = subscribe(sink, "in.*.8", "", "3", 0);
    struct esi_sub *anywhere = subscribe(sink, "*.a.10", "", "4", 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(find("in.a.11")->plain_count, 1);
        assert_int_equal(find("in.a.12")->plain_count, 1);
        assert_int_equal(find("in.a.8")->plain_count, 2);
        assert_int_equal(find("in.a.10")->plain_count, 2);
    }
    unsubscribe(inboxes);
    assert_int_equal(find("in.a.12")->plain_count, 0);
    assert_int_equal(find("in.a.10")->plain_count, 1);
    unsubscribe(anywhere);
    unsubscribe(by_last);
    free_sink(sink);
}

/* Every change that concerns a cached subject is seen at once, and no other subject pays for it. */
static void test_staleness(void **state)
{
    (void)state;
    struct sink *sink = new_sink(&broker, false);
    find("a.b");
    find("a.b");
    find("other.b");
    find("other.b");
    struct esi_sub *literal = subscribe(sink, "a.b", "", "1", 0);
    const struct esi_match *match = find("a.b");
    assert_int_equal(match->plain_count, 1);
    assert_true(esi_match_is_current(match));
    struct esi_sub *star = subscribe(sink, "*.b", "", "2", 0);
    assert_false(esi_match_is_current(match));
    assert_int_equal(find("a.b")->plain_count, 2);
    assert_int_equal(find("other.b")->plain_count, 1);
    const uint64_t misses = stats_of_cache().misses;
    struct esi_sub *elsewhere = subscribe(sink, "a.c", "", "3", 0);
    assert_int_equal(find("other.b")->plain_count, 1);
    assert_int_equal(stats_of_cache().misses, misses);
    unsubscribe(literal);
    assert_int_equal(find("a.b")->plain_count, 1);
    unsubscribe(star);
    assert_int_equal(find("a.b")->plain_count, 0);
    assert_int_equal(find("other.b")->plain_count, 0);
    unsubscribe(elsewhere);
    free_sink(sink);
}

static void test_equal_formats_stand_side_by_side(void **state)
{
    enum { SUBS = 40 };
    struct esi_sub *subs[SUBS];
    struct sink *sinks[SUBS];
    static const char *const sids[] = {"1", "22", "3"};
    bool is_seen[3][2] = {{false}};

    (void)state;
    for (uint32_t i = 0; i < SUBS; i++) {
        sinks[i] = new_sink(&broker, false);
        subs[i] = subscribe(sinks[i], "s", "", sids[i * 7 % 3], i % 2 == 0 ? SUB_HEADERS : 0);
    }
    const struct esi_match *match = find("s");
    assert_int_equal(match->plain_count, SUBS);
    assert_false(match->has_repeated_target);
    for (uint32_t i = 0; i < SUBS; i++) {
        const struct esi_sub *sub = match->plain[i];
        const uint32_t sid = sub->sid.data[0] == '1' ? 0 : sub->sid.data[0] == '2' ? 1 : 2;
        const struct esi_sub *previous = i > 0 ? match->plain[i - 1] : NULL;
        if (previous == NULL || previous->flags != sub->flags ||
            !esi_str_equal(previous->sid, sub->sid)) {
            assert_false(is_seen[sid][sub->flags]);
            is_seen[sid][sub->flags] = true;
        }
    }
    for (uint32_t i = 0; i < SUBS; i++) {
        unsubscribe(subs[i]);
        free_sink(sinks[i]);
    }
}

static void test_groups(void **state)
{
    struct sink *one = new_sink(&broker, false);
    struct sink *two = new_sink(&broker, false);

    (void)state;
    struct esi_sub *subs[] = {
        subscribe(one, "a.b", "g1", "1", 0),
        subscribe(two, "a.*", "g1", "1", 0),
        subscribe(one, "a.>", "g2", "2", 0),
        subscribe(two, "x", "g1", "3", 0),
    };
    const struct esi_match *match = find("a.b");
    assert_int_equal(match->plain_count, 0);
    assert_int_equal(match->group_count, 2);
    assert_true(match->has_repeated_target);
    const struct esi_match_group *g1 = esi_match_find_group(match, ESI_STR("g1"));
    const struct esi_match_group *g2 = esi_match_find_group(match, ESI_STR("g2"));
    assert_int_equal(g1->member_count, 2);
    assert_int_equal(g2->member_count, 1);
    assert_ptr_equal(g2->members[0], subs[2]);
    assert_null(esi_match_find_group(match, ESI_STR("g")));
    assert_null(esi_match_find_group(match, ESI_STR("g3")));
    for (size_t i = 0; i < 4; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(one);
    free_sink(two);
}

static void test_one_target_twice_is_told(void **state)
{
    (void)state;
    struct sink *one = new_sink(&broker, false);
    struct esi_sub *first = subscribe(one, "a.b", "", "1", 0);
    assert_false(find("a.b")->has_repeated_target);
    struct esi_sub *second = subscribe(one, "a.*", "q", "2", 0);
    assert_true(find("a.b")->has_repeated_target);
    unsubscribe(first);
    assert_false(find("a.b")->has_repeated_target);
    unsubscribe(second);
    free_sink(one);
}

static void set_rtt(struct sink *link, uint32_t rtt_us)
{
    /* order: relaxed; one thread. */
    atomic_store_explicit(&link->target.rtt_us, rtt_us, memory_order_relaxed);
}

/* Near links first; a group goes to the first that has it, and to none when it is served here. */
static void test_links(void **state)
{
    struct sink *far_link = new_sink(&broker, true);
    struct sink *near_link = new_sink(&broker, true);
    struct sink *only_groups = new_sink(&broker, true);
    struct sink *local = new_sink(&broker, false);

    (void)state;
    set_rtt(far_link, 9000);
    set_rtt(near_link, 10);
    set_rtt(only_groups, 5000);
    struct esi_sub *subs[] = {
        subscribe(far_link, "a.b", "", "", 0),      subscribe(far_link, "a.b", "g1", "", 0),
        subscribe(far_link, "a.*", "g9", "", 0),    subscribe(near_link, "a.b", "g1", "", 0),
        subscribe(near_link, "a.>", "", "", 0),     subscribe(near_link, "a.*", "g1", "", 0),
        subscribe(near_link, "a.b", "here", "", 0), subscribe(only_groups, "a.b", "g1", "", 0),
        subscribe(local, "a.b", "here", "5", 0),
    };
    const struct esi_match *match = find("a.b");
    assert_int_equal(match->group_count, 1);
    assert_int_equal(match->link_count, 2);
    assert_ptr_equal(match->links[0].sub->target, &near_link->target);
    assert_true(match->links[0].has_plain);
    assert_int_equal(match->links[0].queue_count, 1);
    assert_true(esi_str_equal(match->links[0].queues[0], ESI_STR("g1")));
    assert_ptr_equal(match->links[1].sub->target, &far_link->target);
    assert_true(match->links[1].has_plain);
    assert_int_equal(match->links[1].queue_count, 1);
    assert_true(esi_str_equal(match->links[1].queues[0], ESI_STR("g9")));
    for (size_t i = 0; i < sizeof subs / sizeof subs[0]; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(far_link);
    free_sink(near_link);
    free_sink(only_groups);
    free_sink(local);
}

/* A peer's many groups on one subject: those that fit on a line are named, in no more than that
 * much work. */
static void test_group_names_of_a_line_are_bounded(void **state)
{
    enum { GROUPS = 20000, NAMES_BYTES_MAX = 60 * 1024 };
    struct sink *link = new_sink(&broker, true);
    struct esi_sub **subs = test_malloc(GROUPS * sizeof *subs);
    char name[16];
    size_t bytes = 0;

    (void)state;
    for (uint32_t i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "group%u", i);
        subs[i] = subscribe(link, "a", name, "", 0);
    }
    const struct esi_match *match = find("a");
    assert_int_equal(match->link_count, 1);
    assert_in_range(match->links[0].queue_count, 1000, GROUPS - 1);
    for (uint32_t i = 0; i < match->links[0].queue_count; i++) {
        bytes += match->links[0].queues[i].len + 1;
    }
    assert_in_range(bytes, 1000, NAMES_BYTES_MAX);
    for (uint32_t i = 0; i < GROUPS; i++) {
        unsubscribe(subs[i]);
    }
    test_free(subs);
    free_sink(link);
}

/* A subscription wider than its owner's rights gets only what it may. */
static void test_denied_deliveries_are_left_out(void **state)
{
    const struct esi_str denied[] = {ESI_STR("a.secret")};
    const struct esi_permissions_spec spec = {
        .subscribe_deny = {.entries = denied, .count = 1, .is_given = true}};
    struct esi_permissions *permissions = NULL;

    (void)state;
    assert_int_equal(esi_permissions_new(&spec, &permissions, NULL), ES_OK);
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *sub = subscribe(sink, "a.*", "", "1", 0);
    sub->permissions = permissions;
    /* As many as would make a family, were it not for the one that is denied. */
    assert_int_equal(find("a.b")->plain_count, 1);
    assert_int_equal(find("a.c")->plain_count, 1);
    assert_int_equal(find("a.d")->plain_count, 1);
    assert_int_equal(find("a.secret")->plain_count, 0);
    assert_int_equal(find("a.secret")->plain_count, 0);
    unsubscribe(sub);
    free_sink(sink);
    esi_permissions_unref(permissions);
}

/* However many subjects come, the number of entries stays bounded and every answer right. */
static void test_many_subjects(void **state)
{
    char subject[32];

    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *even = subscribe(sink, "*.even", "", "1", 0);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 20000; i++) {
            snprintf(subject, sizeof subject, "n%u.%s", i, i % 2 == 0 ? "even" : "odd");
            assert_int_equal(find(subject)->plain_count, i % 2 == 0);
        }
    }
    assert_in_range(stats_of_cache().entries, 1, 1024); /* it may step aside */
    unsubscribe(even);
    free_sink(sink);
}

/* A peer may choose both a long list of receivers and many subjects: memory is bounded all the
 * same. */
static void test_memory_is_bounded(void **state)
{
    enum { MEMBERS = 20000 };
    struct esi_sub **subs = test_malloc(MEMBERS * sizeof *subs);
    char subject[32];
    size_t bytes_max = 0;

    (void)state;
    struct sink *sink = new_sink(&broker, false);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        subs[i] = subscribe(sink, ">", "q", "1", 0);
    }
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 150; i++) {
            snprintf(subject, sizeof subject, "n%u", i);
            find(subject);
            assert_int_equal(find(subject)->groups[0].member_count, MEMBERS);
            bytes_max = stats_of_cache().bytes > bytes_max ? stats_of_cache().bytes : bytes_max;
        }
    }
    assert_in_range(bytes_max, 10 * 1024 * 1024, 64 * 1024 * 1024);
    assert_true(stats_of_cache().entries > 0);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        unsubscribe(subs[i]);
    }
    free_sink(sink);
    test_free(subs);
}

/* Random changes: what the cache says is what a cache says that has seen nothing before. */
static void test_against_a_fresh_cache(void **state)
{
    enum { SUBS = 20, STEPS = 16000 };
    static const char *const subjects[] = {"a", "b", "a.a", "a.b", "b.a", "b.b", "a.a.a", "b.a.b"};
    static const char *const patterns[] = {"a",     "b",     "a.a", "a.b", "a.*",
                                           "*.a",   "*",     ">",   "a.>", "b.>",
                                           "*.*.b", "b.a.b", "*.7", "a.7", "a.*.a"};
    static const char *const groups[] = {"", "", "g", "h"};
    struct esi_sub *subs[SUBS] = {NULL};
    struct sink *sinks[4];
    uint64_t random = 9;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        sinks[i] = new_sink(&broker, i == 3);
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        struct esi_sub **sub = &subs[(random >> 33) % SUBS];
        if (step % 4 != 0) {
            /* No change: what was kept is used. */
        } else if (*sub != NULL) {
            unsubscribe(*sub);
            *sub = NULL;
        } else {
            *sub = subscribe(sinks[(random >> 40) % 4],
                             patterns[(random >> 45) % ESI_COUNT_OF(patterns)],
                             groups[(random >> 50) % 4], "1", 0);
        }
        char subject[32];
        if ((random >> 60) % 2 == 0) {
            /* One of a family. */
            snprintf(subject, sizeof subject, "a.%u", (unsigned)(random >> 42) % 64);
        } else {
            snprintf(subject, sizeof subject, "%s", subjects[(random >> 55) % 8]);
        }
        struct esi_match_cache *fresh = NULL;
        assert_int_equal(esi_match_cache_new(broker.table, broker.targets, 64, &fresh), ES_OK);
        const struct esi_match *expected = find_in(fresh, subject);
        const struct esi_match *match = find(subject);
        assert_int_equal(match->plain_count, expected->plain_count);
        assert_int_equal(match->group_count, expected->group_count);
        assert_int_equal(match->link_count, expected->link_count);
        assert_int_equal(match->has_repeated_target, expected->has_repeated_target);
        for (uint32_t i = 0; i < match->group_count; i++) {
            assert_int_equal(match->groups[i].member_count, expected->groups[i].member_count);
            assert_true(esi_str_equal(match->groups[i].name, expected->groups[i].name));
        }
        for (uint32_t i = 0; i < match->link_count; i++) {
            assert_ptr_equal(match->links[i].sub->target, expected->links[i].sub->target);
            assert_int_equal(match->links[i].queue_count, expected->links[i].queue_count);
        }
        esi_match_cache_free(fresh);
    }
    assert_true(stats_of_cache().hits > STEPS / 50);
    for (uint32_t i = 0; i < SUBS; i++) {
        if (subs[i] != NULL) {
            unsubscribe(subs[i]);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        free_sink(sinks[i]);
    }
}

/* A cache that may hold many begins small and grows with the subjects in use: after a few rounds
 * nearly every look-up is a hit, and what it tells is right. */
static void test_grows_with_its_subjects(void **state)
{
    enum { SUBJECTS = 20000, ROUNDS = 8 };
    struct esi_match_cache *cache = NULL;
    struct esi_match_cache_stats before;
    struct esi_match_cache_stats after;
    char subject[32];

    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *even = subscribe(sink, "*.even", "", "1", 0);
    assert_int_equal(esi_match_cache_new(broker.table, broker.targets, 65536, &cache), ES_OK);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        esi_match_cache_stats(cache, &before);
        for (uint32_t i = 0; i < SUBJECTS; i++) {
            snprintf(subject, sizeof subject, "n%u.%s", i, i % 2 == 0 ? "even" : "odd");
            const struct esi_match *match = find_in(cache, subject);
            assert_int_equal(match->plain_count, i % 2 == 0);
        }
    }
    esi_match_cache_stats(cache, &after);
    assert_in_range(after.entries, SUBJECTS * 9 / 10, SUBJECTS);
    assert_true(after.hits - before.hits > SUBJECTS * 9 / 10);
    esi_match_cache_free(cache);
    unsubscribe(even);
    free_sink(sink);
}

/* Far more subjects than the cache may hold: it steps aside, what it tells stays right, and when
 * fewer are in use it comes back. */
static void test_steps_aside_and_comes_back(void **state)
{
    enum { SUBJECTS = 40000, CAPACITY = 4096, FEW = 500 };
    struct esi_match_cache *cache = NULL;
    struct esi_match_cache_stats stats;
    struct esi_match_cache_stats before;
    char subject[32];

    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *even = subscribe(sink, "*.even", "", "1", 0);
    assert_int_equal(esi_match_cache_new(broker.table, broker.targets, CAPACITY, &cache), ES_OK);
    for (uint32_t i = 0; i < 4 * SUBJECTS; i++) {
        snprintf(subject, sizeof subject, "n%u.%s", i % SUBJECTS, i % 2 == 0 ? "even" : "odd");
        assert_int_equal(find_in(cache, subject)->plain_count, i % 2 == 0);
    }
    esi_match_cache_stats(cache, &stats);
    assert_in_range(stats.entries, 0, CAPACITY / 16);
    /* One in sixteen subjects shows that it would hit; then nearly each look-up is a hit again. */
    for (uint32_t i = 0; i < 800 * FEW; i++) {
        snprintf(subject, sizeof subject, "n%u.%s", i % FEW, i % 2 == 0 ? "even" : "odd");
        assert_int_equal(find_in(cache, subject)->plain_count, i % 2 == 0);
    }
    esi_match_cache_stats(cache, &before);
    for (uint32_t i = 0; i < FEW; i++) {
        snprintf(subject, sizeof subject, "n%u.%s", i, i % 2 == 0 ? "even" : "odd");
        assert_int_equal(find_in(cache, subject)->plain_count, i % 2 == 0);
    }
    esi_match_cache_stats(cache, &stats);
    assert_true(stats.hits - before.hits > FEW * 9 / 10);
    esi_match_cache_free(cache);
    unsubscribe(even);
    free_sink(sink);
}

/* More subjects in turn than the cache holds: most of those that it holds are found, and few are
 * replaced. */
static void test_one_too_many_does_not_empty_it(void **state)
{
    enum { SUBJECTS = 1200 };
    char subject[32];

    (void)state;
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < SUBJECTS; i++) {
            snprintf(subject, sizeof subject, "turn.%u", i);
            find(subject);
        }
    }
    assert_true(stats_of_cache().hits > (uint64_t)18 * SUBJECTS / 3);
}

/*
 * What a cache holds stands in the ledger, all of it; its bound is its thread's part of the memory
 * for caches, so with little of that it forgets and fills anew, and never refuses to tell.
 */
static void test_the_ledger_knows_and_bounds_it(void **state)
{
    enum { SUBJECTS = 20000, LEASES = 2, LIMIT_BYTES = 32 * 1024 * 1024 };
    struct esi_match_cache *cache = NULL;
    struct esi_match_cache_stats stats;
    struct esi_ledger *ledger = NULL;
    char subject[32];

    (void)state;
    struct sink *sink = new_sink(&broker, false);
    struct esi_sub *all = subscribe(sink, ">", "", "1", 0);
    assert_int_equal(esi_ledger_new(LIMIT_BYTES, LEASES, &ledger), ES_OK);
    const uint64_t part_bytes = ledger->classes[MEMORY_AUXILIARY].limit_bytes / LEASES;
    assert_int_equal(esi_match_cache_new(broker.table, broker.targets, 65536, &cache), ES_OK);
    esi_match_cache_charge_to(cache, esi_ledger_lease(ledger, 1));
    const uint64_t empty_bytes = esi_ledger_owner_bytes(ledger, MEMORY_MATCH_CACHES);
    assert_in_range(empty_bytes, 1024, part_bytes / 4);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < SUBJECTS; i++) {
            snprintf(subject, sizeof subject, "n%u.%u", i, i);
            assert_int_equal(find_in(cache, subject)->plain_count, 1);
            esi_match_cache_stats(cache, &stats);
            assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_MATCH_CACHES), stats.held_bytes);
            assert_true(stats.bytes <= part_bytes);
        }
    }
    /* It was used, and had to be emptied: more would have come. */
    assert_true(stats.held_bytes > empty_bytes);
    assert_true(stats.entries < SUBJECTS);
    assert_false(esi_ledger_is_short(ledger, MEMORY_AUXILIARY));
    esi_match_cache_free(cache);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_MATCH_CACHES), 0);
    esi_ledger_free(ledger);
    unsubscribe(all);
    free_sink(sink);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_admitted_at_second_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_subjects_of_a_family_share_an_entry, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_staleness, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_equal_formats_stand_side_by_side, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_groups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_target_twice_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_group_names_of_a_line_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_denied_deliveries_are_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_subjects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_grows_with_its_subjects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steps_aside_and_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_too_many_does_not_empty_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_ledger_knows_and_bounds_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_against_a_fresh_cache, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
