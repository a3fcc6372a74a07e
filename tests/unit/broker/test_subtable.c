/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a walk finds exactly the subscriptions whose pattern matches, through every order of adds,
 * removals and replacements; interest is told of as it is; generations rise where they must and
 * nowhere else; nothing is left when all are gone. Method: random patterns over a few tokens,
 * against esi_subject_matches on a flat list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker_case.h"

#include "base/hashmap.h"
#include "proto/subject.h"

enum { SUBS_MAX = 600, STEPS = 20000 };

struct modelled {
    struct esi_sub *sub; /* NULL: free */
    bool is_found;
};

static struct modelled model[SUBS_MAX];
static uint64_t random_state = 17;

static uint32_t draw_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 20) % limit);
}

static void draw_subject(char *out, size_t capacity, bool is_pattern)
{
    static const char *const tokens[] = {"a", "b", "c", "dd", "*", "*"};
    const uint32_t count = 1 + draw_below(5);
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        const bool is_rest = is_pattern && i + 1 == count && draw_below(4) == 0;
        len += (size_t)snprintf(out + len, capacity - len, "%s%s", i > 0 ? "." : "",
                                is_rest ? ">" : tokens[draw_below(is_pattern ? 6 : 4)]);
    }
}

static void mark_found(void *argument, struct esi_sub *sub)
{
    uint32_t *count = argument;

    broker_check(sub->slot < SUBS_MAX && model[sub->slot].sub == sub);
    broker_check(!model[sub->slot].is_found);
    model[sub->slot].is_found = true;
    (*count)++;
}

/* Returns how many match. */
static uint32_t compare(const struct esi_subtable *table, const char *subject)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        model[i].is_found = false;
    }
    esi_subtable_walk(table, esi_str_from(subject), esi_hashmap_hash(esi_str_from(subject)),
                      mark_found, &count);
    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        if (model[i].sub != NULL) {
            const bool matches = esi_subject_matches(model[i].sub->subject, esi_str_from(subject));
            if (matches != model[i].is_found) {
                fail_msg("%.*s on %s: found %d, expected %d", ESI_STR_ARG(model[i].sub->subject),
                         subject, model[i].is_found, matches);
            }
        }
    }
    return count;
}

struct told {
    uint32_t count; /* subjects told of */
    uint32_t wrong;
};

static void note_plain(void *argument, struct esi_str subject)
{
    struct told *told = argument;
    uint32_t found = 0;

    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        const struct esi_sub *sub = model[i].sub;
        if (sub != NULL && esi_str_equal(sub->subject, subject)) {
            found += !sub->target->is_link && sub->queue.len == 0;
        }
    }
    told->count++;
    told->wrong += found == 0;
}

/* Interest as the routers tell it, against the list. */
static void compare_plain(const struct esi_subtable *table, uint32_t router_count)
{
    struct told told = {0};
    uint32_t expected = 0;

    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        const struct esi_sub *sub = model[i].sub;
        uint32_t plain = 0;
        bool is_first = sub != NULL && !sub->target->is_link && sub->queue.len == 0;
        for (uint32_t j = 0; sub != NULL && j < SUBS_MAX; j++) {
            const struct esi_sub *other = model[j].sub;
            if (other != NULL && !other->target->is_link && other->queue.len == 0 &&
                esi_str_equal(other->subject, sub->subject)) {
                plain++;
                is_first = is_first && j >= i;
            }
        }
        if (sub != NULL) {
            assert_int_equal(esi_subtable_plain_count(sub), plain);
        }
        expected += is_first;
    }
    for (uint32_t router = 0; router < router_count; router++) {
        esi_subtable_each_plain(table, router, note_plain, &told);
    }
    assert_int_equal(told.wrong, 0);
    assert_int_equal(told.count, expected);
}

static void replace_sub(struct broker_case *broker, struct modelled *modelled)
{
    struct esi_sub *old = modelled->sub;
    struct esi_sub *fresh = esi_sub_new(old->target, old->subject, old->queue, old->sid);

    broker_check(fresh != NULL);
    fresh->slot = old->slot;
    esi_subtable_replace(broker->table, old, fresh);
    modelled->sub = fresh;
    free(old);
}

static void run(uint32_t router_count)
{
    struct broker_case broker;
    char subject[64];
    uint64_t matched = 0;
    uint64_t in_table = 0;

    broker_case_init(&broker, router_count);
    struct sink *sink = new_sink(&broker, false);
    struct sink *link = new_sink(&broker, true);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct modelled *modelled = &model[draw_below(SUBS_MAX)];
        if (modelled->sub == NULL) {
            draw_subject(subject, sizeof subject, true);
            modelled->sub = subscribe(draw_below(4) == 0 ? link : sink, subject,
                                      draw_below(4) == 0 ? "g" : "", "1", 0);
            modelled->sub->slot = (uint32_t)(modelled - model);
            in_table++;
        } else if (draw_below(4) == 0) {
            replace_sub(&broker, modelled);
        } else {
            unsubscribe(modelled->sub);
            modelled->sub = NULL;
            in_table--;
        }
        assert_int_equal(esi_subtable_count(broker.table), in_table);
        if (step % 10 == 0) {
            draw_subject(subject, sizeof subject, step % 20 == 0);
            matched += compare(broker.table, subject);
        }
        if (step % 1000 == 999) {
            compare_plain(broker.table, router_count);
        }
    }
    assert_true(matched > STEPS);
    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        if (model[i].sub != NULL) {
            unsubscribe(model[i].sub);
            model[i].sub = NULL;
        }
    }
    assert_int_equal(compare(broker.table, "a.b"), 0);
    compare_plain(broker.table, router_count);
    free_sink(sink);
    free_sink(link);
    broker_case_deinit(&broker);
}

static void test_against_a_model(void **state)
{
    (void)state;
    run(1);
    run(3);
    run(ESI_SUBTABLE_ROUTERS_MAX);
}

static void test_empty_tokens_match_nothing(void **state)
{
    struct broker_case broker;

    (void)state;
    broker_case_init(&broker, 1);
    struct sink *sink = new_sink(&broker, false);
    model[0].sub = subscribe(sink, ">", "", "1", 0);
    assert_int_equal(compare(broker.table, "a.b"), 1);
    assert_int_equal(compare(broker.table, "a..b"), 0);
    assert_int_equal(compare(broker.table, ".a"), 0);
    assert_int_equal(compare(broker.table, "a."), 0);
    unsubscribe(model[0].sub);
    model[0].sub = NULL;
    free_sink(sink);
    broker_case_deinit(&broker);
}

struct generations {
    uint64_t bucket;
    uint64_t other_bucket;
    uint64_t wildcard;
};

static struct generations read_generations(const struct esi_subtable *table)
{
    const uint32_t bucket = esi_subtable_bucket(ESI_STR("first.x"));
    uint32_t other = (bucket + 1) % ESI_SUBTABLE_BUCKETS;

    return (struct generations){
        .bucket = esi_subtable_generation(&esi_subtable_generations(table)[bucket]),
        .other_bucket = esi_subtable_generation(&esi_subtable_generations(table)[other]),
        .wildcard = esi_subtable_generation(esi_subtable_wildcard_generation(table))};
}

static void test_generations(void **state)
{
    struct broker_case broker;

    (void)state;
    broker_case_init(&broker, 2);
    struct sink *sink = new_sink(&broker, false);
    const struct generations g0 = read_generations(broker.table);
    struct esi_sub *literal = subscribe(sink, "first.a", "", "1", 0);
    const struct generations g1 = read_generations(broker.table);
    assert_true(g1.bucket > g0.bucket && g1.other_bucket == g0.other_bucket &&
                g1.wildcard == g0.wildcard);
    struct esi_sub *inner = subscribe(sink, "first.*.>", "", "2", 0);
    const struct generations g2 = read_generations(broker.table);
    assert_true(g2.bucket > g1.bucket && g2.wildcard == g1.wildcard);
    struct esi_sub *star = subscribe(sink, "*.a", "", "3", 0);
    const struct generations g3 = read_generations(broker.table);
    assert_true(g3.wildcard > g2.wildcard && g3.bucket == g2.bucket);
    unsubscribe(literal);
    const struct generations g4 = read_generations(broker.table);
    assert_true(g4.bucket > g3.bucket && g4.wildcard == g3.wildcard);
    unsubscribe(inner);
    unsubscribe(star);
    const struct generations g5 = read_generations(broker.table);
    assert_true(g5.bucket > g4.bucket && g5.wildcard > g4.wildcard);
    free_sink(sink);
    broker_case_deinit(&broker);
}

static uint32_t router_of(const struct esi_subtable *table, const char *subject)
{
    struct esi_sub *sub = esi_sub_new(NULL, esi_str_from(subject), ESI_STR(""), ESI_STR("1"));

    broker_check(sub != NULL);
    const uint32_t router = esi_subtable_router_of(table, sub);
    free(sub);
    return router;
}

static void test_routers_share_the_work(void **state)
{
    struct esi_subtable *table = NULL;
    uint32_t counts[4] = {0};
    char subject[32];

    (void)state;
    assert_int_equal(esi_subtable_new(4, &table), ES_OK);
    assert_int_equal(router_of(table, "*.a"), 0);
    assert_int_equal(router_of(table, ">"), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(subject, sizeof subject, "t%u.x", i);
        const uint32_t router = router_of(table, subject);
        assert_true(router < 4);
        counts[router]++;
        snprintf(subject, sizeof subject, "t%u.*", i);
        assert_int_equal(router_of(table, subject), router);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(counts[i] > 100);
    }
    esi_subtable_free(table);
}

static void test_young_subscriptions_are_told_of(void **state)
{
    struct broker_case broker;

    (void)state;
    broker_case_init(&broker, 1);
    struct sink *client = new_sink(&broker, false);
    struct sink *link = new_sink(&broker, true);
    assert_int_equal(esi_subtable_last_local_ns(broker.table), 0);
    struct esi_retired *retired = NULL;
    struct esi_sub *remote = esi_sub_new(&link->target, ESI_STR("a"), ESI_STR(""), ESI_STR(""));
    remote->created_ns = 77;
    assert_int_equal(esi_subtable_add(broker.table, remote, &retired), ES_OK);
    assert_int_equal(esi_subtable_last_local_ns(broker.table), 0);
    struct esi_sub *local = esi_sub_new(&client->target, ESI_STR("a"), ESI_STR(""), ESI_STR("1"));
    local->created_ns = 88;
    assert_int_equal(esi_subtable_add(broker.table, local, &retired), ES_OK);
    assert_int_equal(esi_subtable_last_local_ns(broker.table), 88);
    esi_subtable_free_retired(retired);
    unsubscribe(remote);
    unsubscribe(local);
    free_sink(client);
    free_sink(link);
    broker_case_deinit(&broker);
}

/* Many on one subject, removed in the worst orders: the work stays proportional, and what is left
 * is found. */
static void test_many_on_one_subject(void **state)
{
    enum { MANY = 20000 };
    struct broker_case broker;
    struct esi_sub **subs = test_malloc(MANY * sizeof *subs);

    (void)state;
    broker_case_init(&broker, 1);
    struct sink *sink = new_sink(&broker, false);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < MANY; i++) {
            subs[i] = subscribe(sink, round == 1 ? "hot.*" : "hot.one", "", "1", 0);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            const uint32_t at = round == 0 ? i : round == 1 ? MANY - 1 - i : i * 7919 % MANY;
            unsubscribe(subs[at]);
        }
        assert_int_equal(esi_subtable_count(broker.table), 0);
    }
    test_free(subs);
    free_sink(sink);
    broker_case_deinit(&broker);
}

/* As deep as a control line allows, with a star and a literal at each level. */
static void test_deep_subjects(void **state)
{
    enum { TOKENS = 2000 };
    struct broker_case broker;
    char *patterns[3];
    char *subject = test_malloc(2 * TOKENS);

    (void)state;
    broker_case_init(&broker, 1);
    struct sink *sink = new_sink(&broker, false);
    for (uint32_t p = 0; p < 3; p++) {
        patterns[p] = test_malloc(2 * TOKENS);
        for (uint32_t i = 0; i < TOKENS; i++) {
            patterns[p][2 * i] = p == 0 || (p == 2 && i + 1 < TOKENS) ? 'x' : '*';
            patterns[p][2 * i + 1] = i + 1 < TOKENS ? '.' : '\0';
            subject[2 * i] = 'x';
            subject[2 * i + 1] = i + 1 < TOKENS ? '.' : '\0';
        }
        model[p].sub = subscribe(sink, patterns[p], "", "1", 0);
        model[p].sub->slot = p;
    }
    assert_int_equal(compare(broker.table, subject), 3);
    subject[2 * TOKENS - 2] = 'y';
    assert_int_equal(compare(broker.table, subject), 2);
    for (uint32_t p = 0; p < 3; p++) {
        unsubscribe(model[p].sub);
        model[p].sub = NULL;
        test_free(patterns[p]);
    }
    test_free(subject);
    free_sink(sink);
    broker_case_deinit(&broker);
}

/* Deeper than a walk could follow without missing a branch: refused, whatever a control line may
 * hold. */
static void test_too_many_tokens_are_refused(void **state)
{
    struct broker_case broker;
    struct esi_retired *retired = NULL;
    const size_t tokens = ESI_SUBTABLE_TOKENS_MAX + 1;
    char *pattern = test_malloc(2 * tokens);

    (void)state;
    broker_case_init(&broker, 1);
    struct sink *sink = new_sink(&broker, false);
    for (size_t i = 0; i < tokens; i++) {
        pattern[2 * i] = '*';
        pattern[2 * i + 1] = '.';
    }
    const struct esi_str subject = {.data = pattern, .len = 2 * tokens - 1};
    struct esi_sub *sub = esi_sub_new(&sink->target, subject, ESI_STR(""), ESI_STR("1"));
    assert_int_equal(esi_subtable_add(broker.table, sub, &retired), ES_TOO_LARGE);
    assert_null(retired);
    assert_false(esi_sub_is_routed(sub));
    free(sub);
    free_sink(sink);
    broker_case_deinit(&broker);
    test_free(pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_empty_tokens_match_nothing),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_routers_share_the_work),
        cmocka_unit_test(test_young_subscriptions_are_told_of),
        cmocka_unit_test(test_many_on_one_subject),
        cmocka_unit_test(test_deep_subjects),
        cmocka_unit_test(test_too_many_tokens_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
