/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: of an outbound link those messages go out, and only those, that the dialler's table of the
 * gateway protocol and our rules after A- say. Method: lines are fed in, the operations that come
 * of them are applied to a real subscription table, and subjects are asked: does it go out, plainly
 * or for a queue group?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/context.h"
#include "actors/gateway_interest.h"
#include "actors/route_ops.h"
#include "base/hashmap.h"

enum { INTEREST_MAX = 5000 };

struct world {
    struct esi_context *context;
    struct esi_target target;
    struct esi_route_ops ops;
    struct esi_gateway_interest interest;
};

static int set_up(void **state)
{
    struct world *world = aligned_alloc(ESI_CACHE_LINE, sizeof *world);

    memset(world, 0, sizeof *world);
    world->context = calloc(1, sizeof *world->context);
    world->context->router_count = 1;
    assert_int_equal(esi_subtable_new(1, &world->context->table), ES_OK);
    world->target.is_link = true;
    esi_route_ops_init(&world->ops, world->context, NULL, 0, 0);
    esi_gateway_interest_init(&world->interest, &world->target, &world->ops, INTEREST_MAX);
    *state = world;
    return 0;
}

/* What a router does with the collected operations; with nobody reading, memory is freed at once.
 */
static void apply(struct world *world)
{
    struct esi_route_batch *batch = world->ops.batches[0];
    struct esi_retired *retired = NULL;

    for (uint32_t i = 0; batch != NULL && i < batch->count; i++) {
        struct esi_sub *sub = batch->ops[i].sub;
        if (batch->ops[i].kind == ROUTE_ADD) {
            assert_int_equal(esi_subtable_add(world->context->table, sub, &retired), ES_OK);
        } else {
            esi_subtable_remove(world->context->table, sub, &retired);
            free(sub);
        }
    }
    free(batch);
    world->ops.batches[0] = NULL;
    esi_subtable_free_retired(retired);
}

static int tear_down(void **state)
{
    struct world *world = *state;

    while (!esi_gateway_interest_withdraw(&world->interest, 1)) {
        apply(world);
    }
    apply(world);
    assert_int_equal(esi_subtable_count(world->context->table), 0);
    esi_gateway_interest_deinit(&world->interest);
    esi_route_ops_deinit(&world->ops);
    esi_subtable_free(world->context->table);
    free(world->context);
    free(world);
    return 0;
}

static struct esi_str str(const char *text)
{
    return esi_str_from(text);
}

struct found {
    bool is_stored;
    bool is_optimistic;
    char groups[64]; /* each followed by a blank */
};

static void note(void *argument, struct esi_sub *sub)
{
    struct found *found = argument;

    if (sub->queue.len > 0) {
        const size_t used = strlen(found->groups);
        snprintf(found->groups + used, sizeof found->groups - used, "%.*s ",
                 ESI_STR_ARG(sub->queue));
    } else if ((sub->flags & SUB_OPTIMISTIC) != 0) {
        found->is_optimistic = true;
    } else {
        found->is_stored = true;
    }
}

/* As batch and link decide: what is optimistic can be refused, whatever else matches. */
static bool goes_out(struct world *world, const char *subject, const char *groups)
{
    struct found found = {.groups = ""};

    apply(world);
    esi_subtable_walk(world->context->table, str(subject), esi_hashmap_hash(str(subject)), note,
                      &found);
    assert_string_equal(found.groups, groups);
    return found.is_optimistic ? !esi_gateway_interest_is_refused(&world->interest, str(subject))
                               : found.is_stored;
}

static void assert_out(struct world *world, const char *subject)
{
    if (!goes_out(world, subject, "")) {
        fail_msg("%s must go out", subject);
    }
}

static void assert_not_out(struct world *world, const char *subject)
{
    if (goes_out(world, subject, "")) {
        fail_msg("%s must not go out", subject);
    }
}

static void sub(struct world *world, const char *subject, const char *queue)
{
    assert_int_equal(esi_gateway_interest_sub(&world->interest, str(subject), str(queue)), ES_OK);
}

static void unsub(struct world *world, const char *subject, const char *queue)
{
    assert_int_equal(esi_gateway_interest_unsub(&world->interest, str(subject), str(queue)), ES_OK);
}

static void open_link(struct world *world, bool iom)
{
    assert_int_equal(esi_gateway_interest_open(&world->interest, true, iom), ES_OK);
}

static void account_sub(struct world *world)
{
    assert_int_equal(esi_gateway_interest_account_sub(&world->interest), ES_OK);
}

static void account_unsub(struct world *world)
{
    assert_int_equal(esi_gateway_interest_account_unsub(&world->interest), ES_OK);
}

static void switch_with(struct world *world, const char *subject)
{
    esi_gateway_interest_switch(&world->interest);
    sub(world, subject, "");
    apply(world);
    assert_int_equal(esi_gateway_interest_complete(&world->interest), ES_OK);
}

static void interest_only_peer_gets_what_it_names(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    assert_not_out(world, "foo");
    sub(world, "foo", "q");
    assert_false(goes_out(world, "foo", "q "));
    switch_with(world, "bar");
    assert_out(world, "bar");
    assert_not_out(world, "other");
    sub(world, "w.*", "");
    assert_out(world, "w.x");
    assert_not_out(world, "w.x.y");
    unsub(world, "foo", "q");
    assert_false(goes_out(world, "foo", ""));
}

static void interest_is_not_counted(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    switch_with(world, "foo");
    sub(world, "foo", "");
    sub(world, "foo", "q");
    sub(world, "foo", "q");
    assert_true(goes_out(world, "foo", "q "));
    unsub(world, "foo", "");
    assert_false(goes_out(world, "foo", "q "));
    unsub(world, "foo", "q");
    unsub(world, "foo", "q");
    unsub(world, "never", "");
    assert_false(goes_out(world, "foo", ""));
    assert_int_equal(esi_subtable_count(world->context->table), 0);
}

static void subject_and_group_are_told_apart(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    sub(world, "ab", "c");
    sub(world, "a", "bc");
    assert_false(goes_out(world, "ab", "c "));
    assert_false(goes_out(world, "a", "bc "));
    unsub(world, "ab", "c");
    assert_false(goes_out(world, "ab", ""));
    assert_false(goes_out(world, "a", "bc "));
}

static void older_peer_gets_all_but_the_refused(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    assert_out(world, "foo");
    unsub(world, "foo", "");
    assert_not_out(world, "foo");
    assert_out(world, "bar");
    sub(world, "foo", "");
    assert_out(world, "foo");
    unsub(world, "foo", "");
    unsub(world, "a.b", "");
    sub(world, "*", "");
    assert_out(world, "foo");
    assert_not_out(world, "a.b");
    sub(world, "a.>", "");
    assert_out(world, "a.b");
}

static void refusal_counts_more_than_a_stored_wildcard(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    sub(world, "w.*", "");
    unsub(world, "w.x", "");
    assert_not_out(world, "w.x");
    assert_out(world, "w.y");
}

static void older_peer_silences_and_opens_the_account(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    account_unsub(world);
    assert_not_out(world, "foo");
    account_sub(world);
    assert_out(world, "foo");
    account_unsub(world);
    unsub(world, "bar", "");
    assert_not_out(world, "bar");
    assert_out(world, "foo");
}

static void older_peer_with_a_group_goes_on_getting_everything(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    sub(world, "foo", "q");
    unsub(world, "bar", "");
    account_unsub(world);
    assert_out(world, "bar");
    assert_true(goes_out(world, "foo", "q "));
}

static void older_peer_switches_without_a_gap(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    esi_gateway_interest_switch(&world->interest);
    assert_out(world, "new");
    sub(world, "keep", "");
    apply(world);
    assert_int_equal(esi_gateway_interest_complete(&world->interest), ES_OK);
    assert_not_out(world, "new");
    assert_out(world, "keep");
}

/* A message that was looked up while messages were sent unasked reaches the link when that has
 * ended. */
static void messages_on_their_way_survive_the_switch(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    unsub(world, "no", "");
    switch_with(world, "keep");
    assert_false(esi_gateway_interest_is_refused(&world->interest, str("keep")));
    sub(world, "q", "group");
    unsub(world, "keep", "");
    assert_true(esi_gateway_interest_is_refused(&world->interest, str("keep")));
    sub(world, "keep", "");
    assert_false(esi_gateway_interest_is_refused(&world->interest, str("keep")));
    account_unsub(world);
    assert_true(esi_gateway_interest_is_refused(&world->interest, str("keep")));
}

static void account_that_comes_back_is_served_optimistically(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    switch_with(world, "foo");
    account_unsub(world);
    assert_not_out(world, "other");
    account_sub(world);
    assert_out(world, "foo");
    assert_out(world, "other");
    unsub(world, "other", "");
    assert_not_out(world, "other");
    switch_with(world, "bar");
    assert_not_out(world, "new");
    assert_out(world, "bar");
}

static void group_after_refusal_makes_optimistic(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    switch_with(world, "foo");
    account_unsub(world);
    sub(world, "q1", "g");
    assert_out(world, "other");
    assert_true(goes_out(world, "q1", "g "));
    unsub(world, "other", "");
    assert_not_out(world, "other");
}

static void group_without_refusal_does_not(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    switch_with(world, "foo");
    sub(world, "q1", "g");
    account_sub(world);
    assert_not_out(world, "other");
}

static void completion_without_a_start_counts(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    sub(world, "foo", "");
    apply(world);
    assert_int_equal(esi_gateway_interest_complete(&world->interest), ES_OK);
    assert_out(world, "foo");
    assert_not_out(world, "other");
}

static void refusals_are_bounded(void **state)
{
    struct world *world = *state;
    char subject[32];

    open_link(world, false);
    for (int i = 0; i < ESI_GATEWAY_REFUSED_MAX + 10; i++) {
        snprintf(subject, sizeof subject, "r.%d", i);
        unsub(world, subject, "");
    }
    assert_not_out(world, "r.0");
    snprintf(subject, sizeof subject, "r.%d", ESI_GATEWAY_REFUSED_MAX + 5);
    assert_out(world, subject);
    sub(world, "r.*", "");
    assert_out(world, "r.0");
}

/* Wants "NUMBER" of the kind; the first answer that is not ES_OK. */
static enum es_err want_many(struct world *world, const char *group, int from, int to)
{
    char subject[16];

    for (int i = from; i < to; i++) {
        snprintf(subject, sizeof subject, "%d", i);
        const enum es_err err =
            esi_gateway_interest_sub(&world->interest, str(subject), str(group));
        if (err != ES_OK) {
            return err;
        }
        apply(world);
    }
    return ES_OK;
}

static void interest_is_bounded(void **state)
{
    struct world *world = *state;

    open_link(world, true);
    assert_int_equal(want_many(world, "", 0, INTEREST_MAX / 2), ES_OK);
    assert_int_equal(want_many(world, "g", 0, INTEREST_MAX / 2), ES_OK);
    assert_int_equal(want_many(world, "", INTEREST_MAX, INTEREST_MAX + 1), ES_FULL);
    assert_int_equal(want_many(world, "h", INTEREST_MAX, INTEREST_MAX + 1), ES_FULL);
    /* What is there already is not one more, and what goes makes room. */
    assert_int_equal(want_many(world, "", 0, 10), ES_OK);
    unsub(world, "7", "g");
    assert_int_equal(want_many(world, "h", INTEREST_MAX, INTEREST_MAX + 1), ES_OK);
    assert_int_equal(want_many(world, "", INTEREST_MAX, INTEREST_MAX + 1), ES_FULL);
}

/* One of many subjects of 60,000 bytes. */
static const char *long_subject(int number)
{
    static char subject[60001];

    memset(subject, 's', sizeof subject - 1);
    for (int at = 0; at < 6; at++, number /= 10) {
        subject[at] = (char)('0' + number % 10);
    }
    return subject;
}

static void text_of_interest_is_bounded(void **state)
{
    struct world *world = *state;
    int count = 0;

    open_link(world, true);
    for (enum es_err err = ES_OK; err == ES_OK; count++) {
        assert_true(count < INTEREST_MAX);
        err = esi_gateway_interest_sub(&world->interest, str(long_subject(count)), str(""));
        assert_true(err == ES_OK || err == ES_FULL);
    }
    assert_int_equal(count - 1, INTEREST_MAX * ESI_GATEWAY_SUBJECT_MEAN_MAX / 60000);
    assert_int_equal(esi_gateway_interest_sub(&world->interest, str("short"), str("")), ES_OK);
    unsub(world, long_subject(0), "");
    sub(world, long_subject(0), "");
}

static void groups_of_a_subject_are_bounded(void **state)
{
    struct world *world = *state;
    char group[16];

    open_link(world, true);
    for (int i = 0; i < ESI_GATEWAY_GROUPS_MAX; i++) {
        snprintf(group, sizeof group, "g%d", i);
        sub(world, "jobs", group);
        apply(world);
    }
    assert_int_equal(esi_gateway_interest_sub(&world->interest, str("jobs"), str("more")), ES_FULL);
    sub(world, "jobs", "g5");
    sub(world, "other", "more");
    unsub(world, "jobs", "g5");
    unsub(world, "jobs", "never");
    sub(world, "jobs", "more");
    assert_int_equal(esi_gateway_interest_sub(&world->interest, str("jobs"), str("g5")), ES_FULL);
}

static void names_of_groups_are_bounded(void **state)
{
    struct world *world = *state;
    static char group[ESI_GATEWAY_GROUPS_BYTES_MAX];

    open_link(world, true);
    memset(group, 'g', sizeof group - 1);
    sub(world, "jobs", group);
    unsub(world, "jobs", group);
    group[10000] = '\0';
    sub(world, "jobs", group);
    group[9000] = '\0';
    sub(world, "jobs", group);
    group[8000] = '\0';
    sub(world, "jobs", group);
    group[7000] = '\0';
    assert_int_equal(esi_gateway_interest_sub(&world->interest, str("jobs"), str(group)), ES_FULL);
    sub(world, "other", group);
    sub(world, "jobs", "short");
}

static void tokens_of_wildcards_are_bounded(void **state)
{
    struct world *world = *state;
    char subject[2 * 200 + 8];
    int count = 0;

    open_link(world, true);
    for (enum es_err err = ES_OK; err == ES_OK; count++) {
        assert_true(count < INTEREST_MAX);
        size_t len = (size_t)snprintf(subject, sizeof subject, "%d", count);
        for (int token = 0; token < 199; token++) {
            len += (size_t)snprintf(subject + len, sizeof subject - len, ".*");
        }
        err = esi_gateway_interest_sub(&world->interest, str(subject), str(""));
        apply(world);
        assert_true(err == ES_OK || err == ES_FULL);
    }
    assert_in_range(count - 1, 80, 100); /* 5000 * 256 / (200 * 64 + 400) is 97 */
    /* The same as literals is no more than its text. */
    for (int i = 0; subject[i] != '\0'; i++) {
        subject[i] = (char)(subject[i] == '*' ? 'x' : subject[i]);
    }
    sub(world, subject, "");
    unsub(world, "3", "");
    assert_true(world->interest.weight > 0);
}

static void text_of_refusals_is_bounded(void **state)
{
    struct world *world = *state;

    open_link(world, false);
    for (int i = 0; i < 1000; i++) {
        unsub(world, long_subject(i), "");
    }
    assert_int_equal(world->interest.refused.count, ESI_GATEWAY_REFUSED_BYTES_MAX / 60000);
    /* A wildcard takes them all back, and its work is told. */
    world->interest.work = 0;
    sub(world, "*", "");
    assert_int_equal(world->interest.work, ESI_GATEWAY_REFUSED_BYTES_MAX / 60000);
    assert_int_equal(world->interest.refused.count, 0);
    assert_int_equal(world->interest.refused_bytes, 0);
}

/* --- memory --- */

/* One of each kind: what it takes stands in the ledger, and is given back when it goes. */
static void all_that_is_stored_is_counted(void **state)
{
    struct world *world = *state;
    struct esi_gateway_interest *interest = &world->interest;
    struct esi_ledger *ledger = NULL;
    char subject[64];

    assert_int_equal(esi_ledger_new(64 << 20, 1, &ledger), ES_OK);
    interest->lease = esi_ledger_lease(ledger, 0);
    assert_int_equal(esi_gateway_interest_open(interest, true, false), ES_OK);
    uint64_t before = 0;
    for (int i = 0; i < 20; i++) {
        snprintf(subject, sizeof subject, i % 2 == 0 ? "a.%d" : "a.%d.*", i);
        const struct esi_str queue = i % 3 == 0 ? ESI_STR("group") : ESI_STR("");
        assert_int_equal(esi_gateway_interest_sub(interest, str(subject), queue), ES_OK);
        const uint64_t now = esi_ledger_owner_bytes(ledger, MEMORY_INTEREST);
        assert_in_range(now - before, 100, 2000);
        /* Again: nothing more. */
        assert_int_equal(esi_gateway_interest_sub(interest, str(subject), queue), ES_OK);
        assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_INTEREST), now);
        before = now;
    }
    for (int i = 0; i < 5; i++) {
        snprintf(subject, sizeof subject, "refused.%d", i);
        assert_int_equal(esi_gateway_interest_unsub(interest, str(subject), ESI_STR("")), ES_OK);
    }
    assert_true(esi_ledger_owner_bytes(ledger, MEMORY_INTEREST) > before + 5 * 50);
    assert_int_equal(esi_gateway_interest_sub(interest, str("refused.*"), ESI_STR("")), ES_OK);
    assert_int_equal(esi_gateway_interest_unsub(interest, str("refused.*"), ESI_STR("")), ES_OK);
    apply(world);
    for (int i = 0; i < 10; i++) {
        snprintf(subject, sizeof subject, i % 2 == 0 ? "a.%d" : "a.%d.*", i);
        const struct esi_str queue = i % 3 == 0 ? ESI_STR("group") : ESI_STR("");
        assert_int_equal(esi_gateway_interest_unsub(interest, str(subject), queue), ES_OK);
    }
    while (!esi_gateway_interest_withdraw(interest, 3)) {
        apply(world);
    }
    apply(world);
    esi_gateway_interest_deinit(interest);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_INTEREST), 0);
    assert_int_equal(interest->held_bytes, 0);
    interest->lease = NULL;
    esi_ledger_free(ledger);
}

/* Where memory has no room left new interest is ES_FULL, nothing of it stays, and what is stored
 * does. */
static void no_room_is_full(void **state)
{
    struct world *world = *state;
    struct esi_gateway_interest *interest = &world->interest;
    struct esi_ledger *ledger = NULL;

    assert_int_equal(esi_ledger_new(16 << 20, 1, &ledger), ES_OK);
    struct esi_lease *lease = esi_ledger_lease(ledger, 0);
    interest->lease = lease;
    assert_int_equal(esi_gateway_interest_open(interest, true, true), ES_OK);
    assert_int_equal(esi_gateway_interest_sub(interest, str("first"), ESI_STR("")), ES_OK);
    uint64_t taken = 0;
    while (esi_ledger_take(lease, MEMORY_QUEUE, 64)) {
        taken += 64;
    }
    const uint64_t before = esi_ledger_owner_bytes(ledger, MEMORY_INTEREST);
    assert_int_equal(esi_gateway_interest_sub(interest, str("second"), ESI_STR("")), ES_FULL);
    assert_int_equal(esi_gateway_interest_sub(interest, str("second"), str("group")), ES_FULL);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_INTEREST), before);
    assert_int_equal(interest->plain.count, 1);
    assert_int_equal(interest->queues.count + interest->groups.count, 0);
    esi_ledger_give(lease, MEMORY_QUEUE, taken);
    assert_int_equal(esi_gateway_interest_sub(interest, str("second"), str("group")), ES_OK);
    apply(world);
    while (!esi_gateway_interest_withdraw(interest, 1)) {
        apply(world);
    }
    apply(world);
    esi_gateway_interest_deinit(interest);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_INTEREST), 0);
    interest->lease = NULL;
    esi_ledger_free(ledger);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(all_that_is_stored_is_counted),
        CASE(no_room_is_full),
        CASE(interest_only_peer_gets_what_it_names),
        CASE(interest_is_not_counted),
        CASE(subject_and_group_are_told_apart),
        CASE(older_peer_gets_all_but_the_refused),
        CASE(refusal_counts_more_than_a_stored_wildcard),
        CASE(older_peer_silences_and_opens_the_account),
        CASE(older_peer_with_a_group_goes_on_getting_everything),
        CASE(older_peer_switches_without_a_gap),
        CASE(messages_on_their_way_survive_the_switch),
        CASE(account_that_comes_back_is_served_optimistically),
        CASE(group_after_refusal_makes_optimistic),
        CASE(group_without_refusal_does_not),
        CASE(completion_without_a_start_counts),
        CASE(refusals_are_bounded),
        CASE(interest_is_bounded),
        CASE(text_of_interest_is_bounded),
        CASE(groups_of_a_subject_are_bounded),
        CASE(names_of_groups_are_bounded),
        CASE(tokens_of_wildcards_are_bounded),
        CASE(text_of_refusals_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
