/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: nobody publishes, subscribes or receives what the lists do not let him, and everybody what
 * they do. Method: the rows of the protocol reference; brute force against the set relations of
 * subjects; attempts to slip past a deny entry.
 */
#include "auth/permissions.h"
#include "base/own.h"
#include "proto/subject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LIST_MAX = 8 };

/* A list from literals, ended by NULL. */
struct list {
    struct esi_str entries[LIST_MAX];
    size_t count;
};

static struct list list_of(const char *first, ...)
{
    struct list list = {.count = 0};
    va_list arguments;

    va_start(arguments, first);
    for (const char *text = first; text != NULL; text = va_arg(arguments, const char *)) {
        assert_true(list.count < LIST_MAX);
        list.entries[list.count++] = esi_str_from(text);
    }
    va_end(arguments);
    return list;
}

#define LIST(...) list_of(__VA_ARGS__, NULL)

static struct esi_permissions *publish_rules(struct list allow, struct list deny)
{
    struct esi_permissions *permissions = NULL;
    const struct esi_permissions_spec spec = {.publish_allow = {allow.entries, allow.count, false},
                                              .publish_deny = {deny.entries, deny.count, false}};

    assert_int_equal(esi_permissions_new(&spec, &permissions, NULL), ES_OK);
    return permissions;
}

static struct esi_permissions *subscribe_rules(struct list allow, struct list deny)
{
    struct esi_permissions *permissions = NULL;
    const struct esi_permissions_spec spec = {
        .subscribe_allow = {allow.entries, allow.count, false},
        .subscribe_deny = {deny.entries, deny.count, false}};

    assert_int_equal(esi_permissions_new(&spec, &permissions, NULL), ES_OK);
    return permissions;
}

static const struct list nothing = {.count = 0};

static bool may_publish(struct esi_permissions *permissions, const char *subject)
{
    return esi_permissions_may_publish(permissions, esi_str_from(subject));
}

static bool may_subscribe(struct esi_permissions *permissions, const char *subject,
                          const char *queue)
{
    return esi_permissions_may_subscribe(permissions, esi_str_from(subject), esi_str_from(queue));
}

/* A message is kept back: the connection asks only where it was told to. */
static bool is_filtered(struct esi_permissions *permissions, const char *pattern, const char *queue,
                        const char *subject)
{
    return esi_permissions_needs_delivery_check(permissions, esi_str_from(pattern),
                                                esi_str_from(queue)) &&
           esi_permissions_is_delivery_denied(permissions, esi_str_from(subject),
                                              esi_str_from(queue));
}

static void test_publish(void **state)
{
    struct esi_permissions *permissions =
        publish_rules(LIST("a.>", "b"), LIST("a.secret", "a.x.*"));

    (void)state;
    assert_true(may_publish(permissions, "a.b"));
    assert_true(may_publish(permissions, "a.*"));
    assert_true(may_publish(permissions, "a.secret.more"));
    assert_true(may_publish(permissions, "b"));
    assert_true(may_publish(permissions, "a.x"));
    assert_false(may_publish(permissions, "a"));
    assert_false(may_publish(permissions, "b.c"));
    assert_false(may_publish(permissions, "c"));
    assert_false(may_publish(permissions, "a.secret"));
    assert_false(may_publish(permissions, "a.x.y"));
    assert_false(may_publish(permissions, "a..b"));
    assert_false(may_publish(permissions, ""));
    esi_permissions_unref(permissions);
    permissions = publish_rules(nothing, LIST("a.secret"));
    assert_true(may_publish(permissions, "anything"));
    assert_false(may_publish(permissions, "a.secret"));
    esi_permissions_unref(permissions);
    assert_true(may_publish(NULL, "anything"));
}

/* An empty list imposes nothing; one that is given and empty allows nothing. */
static void test_empty_lists(void **state)
{
    struct esi_permissions *permissions = publish_rules(nothing, nothing);
    const struct esi_permissions_spec given = {.publish_allow = {.is_given = true},
                                               .subscribe_allow = {.is_given = true}};

    (void)state;
    assert_true(may_publish(permissions, "a"));
    assert_true(may_subscribe(permissions, ">", ""));
    esi_permissions_unref(permissions);
    assert_int_equal(esi_permissions_new(&given, &permissions, NULL), ES_OK);
    assert_false(may_publish(permissions, "a"));
    assert_false(may_subscribe(permissions, "a", ""));
    assert_false(may_subscribe(permissions, "a", "q"));
    esi_permissions_unref(permissions);
}

static void test_subscribe_allow(void **state)
{
    struct esi_permissions *permissions = subscribe_rules(LIST("x.*", "y.>", "z"), nothing);

    (void)state;
    assert_true(may_subscribe(permissions, "x.y", ""));
    assert_true(may_subscribe(permissions, "x.*", ""));
    assert_true(may_subscribe(permissions, "x.*", "q"));
    assert_true(may_subscribe(permissions, "y.a.b", ""));
    assert_true(may_subscribe(permissions, "y.*.b", ""));
    assert_true(may_subscribe(permissions, "y.>", ""));
    assert_true(may_subscribe(permissions, "z", ""));
    assert_false(may_subscribe(permissions, ">", ""));
    assert_false(may_subscribe(permissions, "*", ""));
    assert_false(may_subscribe(permissions, "*.y", ""));
    /* The hole of nats-server: a literal match would let these in. */
    assert_false(may_subscribe(permissions, "x.>", ""));
    assert_false(may_subscribe(permissions, "*.*", ""));
    assert_false(may_subscribe(permissions, "y", ""));
    assert_false(may_subscribe(permissions, "z.>", ""));
    esi_permissions_unref(permissions);
    /* Every depth from several entries. */
    permissions = subscribe_rules(LIST("a.*", "a.*.*", "a.*.*.>", "b.*", "b.*.*.>"), nothing);
    assert_true(may_subscribe(permissions, "a.>", ""));
    assert_true(may_subscribe(permissions, "a.x.>", ""));
    assert_false(may_subscribe(permissions, "b.>", ""));
    esi_permissions_unref(permissions);
}

/* C199, C200: refused when all is denied, filtered when some is. */
static void test_subscribe_deny(void **state)
{
    struct esi_permissions *permissions = subscribe_rules(nothing, LIST("foo.bar", "z.>"));

    (void)state;
    assert_false(may_subscribe(permissions, "foo.bar", ""));
    assert_false(may_subscribe(permissions, "foo.bar", "q"));
    assert_false(may_subscribe(permissions, "z.q", ""));
    assert_false(may_subscribe(permissions, "z.*", ""));
    assert_false(may_subscribe(permissions, "z.>", ""));
    assert_true(may_subscribe(permissions, "z", ""));
    assert_true(may_subscribe(permissions, ">", ""));
    assert_true(may_subscribe(permissions, "foo.*", "q"));
    assert_true(is_filtered(permissions, ">", "", "foo.bar"));
    assert_true(is_filtered(permissions, ">", "", "z.q"));
    assert_false(is_filtered(permissions, ">", "", "foo.baz"));
    assert_true(is_filtered(permissions, "foo.*", "", "foo.bar"));
    assert_true(is_filtered(permissions, "foo.*", "q", "foo.bar"));
    assert_true(is_filtered(permissions, "*.bar", "", "foo.bar"));
    assert_true(is_filtered(permissions, "*.q", "", "z.q"));
    assert_true(is_filtered(permissions, "foo.>", "", "foo.bar"));
    assert_false(
        esi_permissions_needs_delivery_check(permissions, ESI_STR("foo.baz"), ESI_STR("")));
    assert_false(esi_permissions_needs_delivery_check(permissions, ESI_STR("bar.*"), ESI_STR("")));
    assert_false(esi_permissions_needs_delivery_check(permissions, ESI_STR("foo"), ESI_STR("")));
    assert_false(esi_permissions_needs_delivery_check(NULL, ESI_STR(">"), ESI_STR("")));
    esi_permissions_unref(permissions);
}

/* C170, C201 and the rows on queues. */
static void test_queues(void **state)
{
    struct esi_permissions *permissions =
        subscribe_rules(LIST("foo v1", "foo v2.*", "bar", "baz.>  w"), nothing);

    (void)state;
    assert_false(may_subscribe(permissions, "foo", ""));
    assert_true(may_subscribe(permissions, "foo", "v1"));
    assert_true(may_subscribe(permissions, "foo", "v2.x"));
    assert_false(may_subscribe(permissions, "foo", "v2"));
    assert_false(may_subscribe(permissions, "foo", "v3"));
    assert_true(may_subscribe(permissions, "bar", ""));
    assert_true(may_subscribe(permissions, "bar", "any"));
    assert_true(may_subscribe(permissions, "baz.*.x", "w"));
    assert_false(may_subscribe(permissions, "baz.*.x", ""));
    assert_false(may_subscribe(permissions, "bar", "_sys_"));
    assert_false(may_subscribe(NULL, "a", "_sys_"));
    assert_false(may_subscribe(NULL, "event.>", "event-service"));
    assert_false(may_subscribe(permissions, "bar", "event-service"));
    assert_true(may_subscribe(NULL, "event.>", ""));
    assert_true(may_subscribe(NULL, "event.>", "event-service2"));
    esi_permissions_unref(permissions);

    /* The stricter reading where an entry with and one without a queue cover the subject. */
    permissions = subscribe_rules(LIST("foo", "foo v1"), nothing);
    assert_true(may_subscribe(permissions, "foo", ""));
    assert_true(may_subscribe(permissions, "foo", "v1"));
    assert_false(may_subscribe(permissions, "foo", "v3"));
    esi_permissions_unref(permissions);

    permissions = subscribe_rules(nothing, LIST("> dev", "secret >", "a.b q.*"));
    assert_false(may_subscribe(permissions, "x", "dev"));
    assert_false(may_subscribe(permissions, ">", "dev"));
    assert_true(may_subscribe(permissions, "x", "prod"));
    assert_true(may_subscribe(permissions, ">", ""));
    assert_true(may_subscribe(permissions, "secret", ""));
    assert_false(may_subscribe(permissions, "secret", "any"));
    /* A queue name with an empty token is a name like any other and slips through nothing. */
    assert_false(may_subscribe(permissions, "secret", "q..x"));
    assert_false(may_subscribe(permissions, "secret", "."));
    assert_false(may_subscribe(permissions, "a.b", "q."));
    assert_true(may_subscribe(permissions, "a.*", "q.1"));
    assert_true(is_filtered(permissions, "a.*", "q.1", "a.b"));
    assert_false(is_filtered(permissions, "a.*", "other", "a.b"));
    assert_false(is_filtered(permissions, "a.*", "", "a.b"));
    esi_permissions_unref(permissions);
}

static void test_responses(void **state)
{
    struct esi_permissions *permissions = NULL;
    const struct esi_permissions_spec only = {
        .allow_responses = true, .responses_max = 2, .responses_expires_ns = 600000000};
    const struct esi_str deny[] = {ESI_STR("x")};
    int64_t max = 7;
    uint64_t expires_ns = 7;

    (void)state;
    assert_int_equal(esi_permissions_new(&only, &permissions, NULL), ES_OK);
    assert_false(may_publish(permissions, "other"));
    assert_true(may_subscribe(permissions, ">", ""));
    assert_true(esi_permissions_allows_responses(permissions, &max, &expires_ns));
    assert_int_equal(max, 2);
    assert_int_equal(expires_ns, 600000000);
    esi_permissions_unref(permissions);
    const struct esi_permissions_spec with_deny = {.allow_responses = true,
                                                   .publish_deny = {deny, 1, false}};
    assert_int_equal(esi_permissions_new(&with_deny, &permissions, NULL), ES_OK);
    assert_true(may_publish(permissions, "other"));
    assert_false(may_publish(permissions, "x"));
    esi_permissions_unref(permissions);
    permissions = publish_rules(LIST("a"), nothing);
    max = 7;
    assert_false(esi_permissions_allows_responses(permissions, &max, &expires_ns));
    assert_int_equal(max, 7);
    esi_permissions_unref(permissions);
    assert_false(esi_permissions_allows_responses(NULL, &max, &expires_ns));
}

static void test_faulty_entries(void **state)
{
    static const char *const bad[] = {"",      " ",   "a..b", ".a",    "a.",
                                      "a.>.b", ">.>", "a\tb", "a b c", "a\nb"};
    struct esi_permissions *permissions = NULL;
    struct es_error error;

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        const struct esi_str entries[] = {ESI_STR("good"), esi_str_from(bad[i])};
        const struct esi_permissions_spec spec = {.subscribe_deny = {entries, 2, false}};
        error.text[0] = '\0';
        assert_int_equal(esi_permissions_new(&spec, &permissions, &error), ES_INVALID);
        assert_null(permissions);
        assert_true(strlen(error.text) > 0);
    }
    const struct esi_str queued[] = {ESI_STR("a q")};
    const struct esi_permissions_spec spec = {.publish_allow = {queued, 1, false}};
    assert_int_equal(esi_permissions_new(&spec, &permissions, &error), ES_INVALID);
    assert_string_equal(error.text, "\"a q\": a publish entry has no queue");

    char deep[2 * ESI_PERMISSIONS_TOKENS_MAX + 2];
    for (size_t i = 0; i < sizeof deep; i++) {
        deep[i] = i % 2 == 0 ? '*' : '.';
    }
    const struct esi_str fits[] = {{.data = deep, .len = 2 * ESI_PERMISSIONS_TOKENS_MAX - 1}};
    const struct esi_str too_deep[] = {{.data = deep, .len = 2 * ESI_PERMISSIONS_TOKENS_MAX + 1}};
    const struct esi_permissions_spec good = {.publish_allow = {fits, 1, false}};
    const struct esi_permissions_spec over = {.publish_allow = {too_deep, 1, false}};
    assert_int_equal(esi_permissions_new(&over, &permissions, NULL), ES_TOO_LARGE);
    assert_int_equal(esi_permissions_new(&good, &permissions, NULL), ES_OK);
    assert_true(esi_permissions_may_publish(permissions, fits[0]));
    assert_false(esi_permissions_may_publish(permissions, too_deep[0]));
    esi_permissions_unref(permissions);
}

enum { WORD_MAX = 400, WORD_CAPACITY = 16 };

struct words {
    char text[WORD_MAX][WORD_CAPACITY];
    size_t count;
};

/* All sequences of 1 to depth tokens of the alphabet; '>' only as the last one. */
static void enumerate(struct words *words, const char *alphabet, size_t depth)
{
    const size_t letters = strlen(alphabet);
    size_t combinations = 1;

    words->count = 0;
    for (size_t tokens = 1; tokens <= depth; tokens++) {
        combinations *= letters;
        for (size_t n = 0; n < combinations; n++) {
            char word[WORD_CAPACITY] = {0};
            size_t rest = n;
            for (size_t t = 0; t < tokens; t++) {
                word[2 * t] = alphabet[rest % letters];
                word[2 * t + 1] = t + 1 < tokens ? '.' : '\0';
                rest /= letters;
            }
            if (esi_subject_is_valid(esi_str_from(word))) {
                assert_true(words->count < WORD_MAX);
                memcpy(words->text[words->count++], word, sizeof word);
            }
        }
    }
}

/*
 * Every pair of small patterns as list, every small pattern as subscription, every small subject as
 * message, against the pairwise set relations: what is allowed is never more than the union of the
 * entries, deny catches every overlap.
 */
static void check_pair(const struct words *patterns, const struct words *subjects,
                       struct esi_str first, struct esi_str second)
{
    const struct list pair = {.entries = {first, second}, .count = 2};
    struct esi_permissions *allow = subscribe_rules(pair, nothing);
    struct esi_permissions *deny = subscribe_rules(nothing, pair);

    for (size_t i = 0; i < patterns->count; i++) {
        const struct esi_str pattern = esi_str_from(patterns->text[i]);
        const struct esi_str none = {0};
        const bool covered =
            esi_subject_is_subset(pattern, first) || esi_subject_is_subset(pattern, second);
        const bool allowed = esi_permissions_may_subscribe(allow, pattern, none);
        if (covered && !allowed) {
            fail_msg("%s is covered by one entry and refused", patterns->text[i]);
        }
        const bool overlaps =
            esi_subject_overlaps(pattern, first) || esi_subject_overlaps(pattern, second);
        assert_int_equal(esi_permissions_needs_delivery_check(deny, pattern, none), overlaps);
        for (size_t s = 0; allowed && s < subjects->count; s++) {
            const struct esi_str subject = esi_str_from(subjects->text[s]);
            if (esi_subject_matches(pattern, subject) && !esi_subject_matches(first, subject) &&
                !esi_subject_matches(second, subject)) {
                fail_msg("%s lets %s in against %.*s and %.*s", patterns->text[i],
                         subjects->text[s], ESI_STR_ARG(first), ESI_STR_ARG(second));
            }
        }
    }
    for (size_t s = 0; s < subjects->count; s++) {
        const struct esi_str subject = esi_str_from(subjects->text[s]);
        const struct esi_str none = {0};
        assert_int_equal(esi_permissions_is_delivery_denied(deny, subject, none),
                         esi_subject_matches(first, subject) ||
                             esi_subject_matches(second, subject));
    }
    esi_permissions_unref(allow);
    esi_permissions_unref(deny);
}

static void test_by_brute_force(void **state)
{
    struct words *patterns = malloc(sizeof *patterns);
    struct words *subjects = malloc(sizeof *subjects);

    (void)state;
    assert_non_null(patterns);
    assert_non_null(subjects);
    enumerate(patterns, "ab*>", 3);
    enumerate(subjects, "abc", 4);
    for (size_t p = 0; p < patterns->count; p++) {
        for (size_t q = 0; q < patterns->count; q += 3) {
            check_pair(patterns, subjects, esi_str_from(patterns->text[p]),
                       esi_str_from(patterns->text[q]));
        }
    }
    free(patterns);
    free(subjects);
}

/* 100 000 entries: built and asked without anything quadratic (the test's time limit would tell).
 */
static void test_large_list(void **state)
{
    enum { COUNT = 100000 };
    char(*texts)[32] = malloc(COUNT * sizeof *texts);
    struct esi_str *entries = malloc(COUNT * sizeof *entries);
    struct esi_permissions *permissions = NULL;

    (void)state;
    assert_non_null(texts);
    assert_non_null(entries);
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(texts[i], sizeof texts[i], "tenant.%zu.*", i);
        entries[i] = esi_str_from(texts[i]);
    }
    const struct esi_permissions_spec spec = {.publish_allow = {entries, COUNT, true},
                                              .subscribe_deny = {entries, COUNT, true}};
    assert_int_equal(esi_permissions_new(&spec, &permissions, NULL), ES_OK);
    for (size_t i = 0; i < COUNT; i++) {
        char subject[40];
        snprintf(subject, sizeof subject, "tenant.%zu.x", i * 2);
        assert_int_equal(may_publish(permissions, subject), i * 2 < COUNT);
        snprintf(subject, sizeof subject, "tenant.%zu.*", i * 2);
        assert_int_equal(
            esi_permissions_needs_delivery_check(permissions, esi_str_from(subject), ESI_STR("")),
            i * 2 < COUNT);
    }
    esi_permissions_unref(permissions);
    free(entries);
    free(texts);
}

/* Shared: the set lives until the last reference is given back (the sanitizer tells). */
static void test_references(void **state)
{
    struct esi_permissions *permissions = publish_rules(LIST("a"), nothing);
    struct esi_permissions *other = esi_permissions_ref(permissions);

    (void)state;
    esi_permissions_unref(permissions);
    assert_true(may_publish(other, "a"));
    esi_permissions_unref(other);
    assert_null(esi_permissions_ref(NULL));
    esi_permissions_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish),         cmocka_unit_test(test_empty_lists),
        cmocka_unit_test(test_subscribe_allow), cmocka_unit_test(test_subscribe_deny),
        cmocka_unit_test(test_queues),          cmocka_unit_test(test_responses),
        cmocka_unit_test(test_faulty_entries),  cmocka_unit_test(test_by_brute_force),
        cmocka_unit_test(test_large_list),      cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
