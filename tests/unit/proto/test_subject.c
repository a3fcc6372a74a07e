/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: subjects are judged, matched and quoted as nats-server does it. Method: the tables of odd
 * subjects and of matching row by row; the set relations against brute force over all small
 * patterns and subjects.
 */
#include "proto/subject.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct esi_str str(const char *text)
{
    return esi_str_from(text);
}

/* The table of odd subjects: may it be subscribed, does '>' get it when published, is it fine for
 * pedantic. */
static void test_odd_subjects(void **state)
{
    static const struct {
        const char *subject;
        bool is_valid;
        bool reaches_full;
        bool is_literal;
    } rows[] = {
        {"foo", true, true, true},       {"foo.bar", true, true, true},
        {"FOO", true, true, true},       {"foo-bar_1", true, true, true},
        {"foo/bar", true, true, true},   {"\"foo\"", true, true, true},
        {"fo'o", true, true, true},      {"foo..bar", false, false, false},
        {".foo", false, false, false},   {"foo.", false, false, false},
        {".", false, false, false},      {"..", false, false, false},
        {"", false, false, false},       {"*", true, true, false},
        {"foo.*", true, true, false},    {"foo.*.bar", true, true, false},
        {"*.*", true, true, false},      {"foo*", true, true, true},
        {"*foo", true, true, true},      {"fo*o", true, true, true},
        {"foo.b*r", true, true, true},   {"foo.**", true, true, true},
        {">", true, true, false},        {"foo.>", true, true, false},
        {"foo.*.>", true, true, false},  {"foo.>.bar", false, true, false},
        {">.foo", false, true, false},   {">.>", false, true, false},
        {"foo.>.", false, false, false}, {"foo>", true, true, true},
        {"foo.>>", true, true, true},    {"f\x01o", true, true, true},
        {"f\xc3\xa9", true, true, true}, {"\xff\xfe", true, true, true},
        {"$SYS.x", true, true, true},    {"_INBOX.a.b", true, true, true},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        const struct esi_str subject = str(rows[i].subject);
        if (esi_subject_is_valid(subject) != rows[i].is_valid ||
            esi_subject_matches(ESI_STR(">"), subject) != rows[i].reaches_full ||
            esi_subject_has_empty_token(subject) == rows[i].reaches_full ||
            esi_subject_is_literal(subject) != rows[i].is_literal) {
            fail_msg("subject \"%s\" is judged wrongly", rows[i].subject);
        }
    }
}

static void test_matching(void **state)
{
    static const struct {
        const char *pattern;
        const char *subject;
        bool matches;
    } rows[] = {
        {"foo.bar", "foo.bar", true},
        {"foo.bar", "foo", false},
        {"foo.bar", "foo.bar.baz", false},
        {"foo.bar", "FOO.bar", false},
        {"foo.bar", "foo.*", false},
        {"foo.*", "foo.bar", true},
        {"foo.*", "foo.*", true},
        {"foo.*", "foo.>", true},
        {"foo.*", "foo", false},
        {"foo.*", "foo.bar.baz", false},
        {"foo.*", "foo.", false},
        {"*.bar", "foo.bar", true},
        {"*.bar", "bar", false},
        {"foo.*.*", "foo.a.b", true},
        {"foo.*.*", "foo.a", false},
        {"*", "foo", true},
        {"*", "*", true},
        {"*", ">", true},
        {"*", "foo.bar", false},
        {"foo.>", "foo.bar", true},
        {"foo.>", "foo.a.b", true},
        {"foo.>", "foo.*", true},
        {"foo.>", "foo", false},
        {">", "foo..bar", false},
        {">", ".foo", false},
        {">", "foo.", false},
        {"fo*o", "fo*o", true},
        {"fo*o", "foxo", false},
        {"foo.*.>", "foo.a.b", true},
        {"foo.*.>", "foo.a.b.c", true},
        {"foo.*.>", "foo.a", false},
        {"foo.>", "foo.>.bar", true},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (esi_subject_matches(str(rows[i].pattern), str(rows[i].subject)) != rows[i].matches) {
            fail_msg("%s against %s", rows[i].pattern, rows[i].subject);
        }
    }
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

    words->count = 0;
    size_t combinations = 1;
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
            if (esi_subject_is_valid(str(word))) {
                assert_true(words->count < WORD_MAX);
                memcpy(words->text[words->count++], word, sizeof word);
            }
        }
    }
}

/*
 * Patterns of up to 3 tokens over a, b, *, > against subjects of up to 4 tokens over a, b, c: 'c'
 * stands for every token that no pattern names and the fourth token for every depth beyond, so
 * these subjects tell all sets apart.
 */
static void test_sets_by_brute_force(void **state)
{
    struct words *patterns = malloc(sizeof *patterns);
    struct words *subjects = malloc(sizeof *subjects);
    size_t subsets = 0;

    (void)state;
    assert_non_null(patterns);
    assert_non_null(subjects);
    enumerate(patterns, "ab*>", 3);
    enumerate(subjects, "abc", 4);
    for (size_t p = 0; p < patterns->count; p++) {
        for (size_t q = 0; q < patterns->count; q++) {
            bool is_subset = true;
            bool overlaps = false;
            for (size_t s = 0; s < subjects->count; s++) {
                const bool in_p =
                    esi_subject_matches(str(patterns->text[p]), str(subjects->text[s]));
                const bool in_q =
                    esi_subject_matches(str(patterns->text[q]), str(subjects->text[s]));
                is_subset = is_subset && (!in_p || in_q);
                overlaps = overlaps || (in_p && in_q);
            }
            subsets += is_subset;
            if (esi_subject_is_subset(str(patterns->text[p]), str(patterns->text[q])) !=
                    is_subset ||
                esi_subject_overlaps(str(patterns->text[p]), str(patterns->text[q])) != overlaps) {
                fail_msg("%s and %s: subset %d, overlap %d expected", patterns->text[p],
                         patterns->text[q], is_subset, overlaps);
            }
        }
    }
    /* Each pattern is a subset of itself and most of '>', so the loop above has seen both answers.
     */
    assert_true(subsets > patterns->count);
    free(patterns);
    free(subjects);
}

static void test_tokens(void **state)
{
    struct esi_subject_cursor cursor = esi_subject_tokens(ESI_STR("a..b"));
    struct esi_str token;

    (void)state;
    assert_true(esi_subject_next_token(&cursor, &token) && esi_str_equal(token, ESI_STR("a")));
    assert_true(esi_subject_next_token(&cursor, &token) && token.len == 0);
    assert_true(esi_subject_next_token(&cursor, &token) && esi_str_equal(token, ESI_STR("b")));
    assert_false(esi_subject_next_token(&cursor, &token));
    assert_int_equal(esi_subject_token_count(ESI_STR("a..b")), 3);
    cursor = esi_subject_tokens((struct esi_str){0});
    assert_true(esi_subject_next_token(&cursor, &token) && token.len == 0);
    assert_false(esi_subject_next_token(&cursor, &token));
}

static void test_wildcards_and_forbidden(void **state)
{
    (void)state;
    assert_true(esi_subject_has_wildcard(ESI_STR("*")));
    assert_true(esi_subject_has_wildcard(ESI_STR("a.*.b")));
    assert_true(esi_subject_has_wildcard(ESI_STR("a.>")));
    assert_false(esi_subject_has_wildcard(ESI_STR("a.b*.>>")));
    assert_false(esi_subject_has_wildcard(ESI_STR("")));
    assert_true(esi_subject_has_forbidden_byte((struct esi_str){.data = "a\0b", .len = 3}));
    assert_true(esi_subject_has_forbidden_byte(ESI_STR("a\rb")));
    assert_true(esi_subject_has_forbidden_byte(ESI_STR("a\nb")));
    assert_true(esi_subject_has_forbidden_byte(ESI_STR("a b")));
    assert_true(esi_subject_has_forbidden_byte(ESI_STR("a\tb")));
    assert_false(esi_subject_has_forbidden_byte(ESI_STR("a\x01\xff")));
}

static void test_reserved(void **state)
{
    (void)state;
    assert_true(esi_subject_is_reserved_publish(ESI_STR("_GR_.x")));
    assert_true(esi_subject_is_reserved_publish(ESI_STR("$GR.x")));
    assert_false(esi_subject_is_reserved_publish(ESI_STR("_GR_.")));
    assert_false(esi_subject_is_reserved_publish(ESI_STR("_R_.x")));
    assert_false(esi_subject_is_reserved_publish(ESI_STR("$GNR.x")));
    assert_true(esi_subject_is_reserved_reply(ESI_STR("_R_.")));
    assert_true(esi_subject_is_reserved_reply(ESI_STR("_R_.x")));
    assert_true(esi_subject_is_reserved_reply(ESI_STR("$JS.ACK.x")));
    assert_false(esi_subject_is_reserved_reply(ESI_STR("$JS.ACK.")));
    assert_true(esi_subject_is_reserved_reply(ESI_STR("_GR_.x")));
    assert_false(esi_subject_is_reserved_reply(ESI_STR("_INBOX.x")));
    assert_false(esi_subject_is_reserved_reply(ESI_STR("")));
    assert_true(esi_subject_is_reserved_queue(ESI_STR("_sys_")));
    assert_true(esi_subject_is_reserved_queue(ESI_STR("event-service")));
    assert_true(esi_subject_is_reserved_queue(ESI_SUBJECT_EVENT_QUEUE));
    assert_false(esi_subject_is_reserved_queue(ESI_STR("")));
    assert_false(esi_subject_is_reserved_queue(ESI_STR("event-servic")));
    assert_false(esi_subject_is_reserved_queue(ESI_STR("event-service ")));
}

static void expect_quoted(struct esi_str subject, const char *expected)
{
    struct esi_bytes out;

    esi_bytes_init(&out, 0);
    esi_subject_quote(subject, &out);
    assert_false(out.failed);
    if (out.len != strlen(expected) || memcmp(out.data, expected, out.len) != 0) {
        fail_msg("quoted as %.*s, expected %s", (int)out.len, out.data, expected);
    }
    esi_bytes_deinit(&out);
}

/* As Go's %q: checked against the lines that a real server sent, and Go's documented escapes. */
static void test_quote(void **state)
{
    (void)state;
    expect_quoted(ESI_STR("a.secret"), "\"a.secret\"");
    expect_quoted(ESI_STR("c\"\xc3\xa9\x01\xff"), "\"c\\\"\xc3\xa9\\x01\\xff\"");
    expect_quoted(ESI_STR("a\\b\a\b\t\n\v\f\r\x1b\x7f"),
                  "\"a\\\\b\\a\\b\\t\\n\\v\\f\\r\\x1b\\x7f\"");
    expect_quoted((struct esi_str){.data = "\0", .len = 1}, "\"\\x00\"");
    expect_quoted(ESI_STR("\xc2\xa0|\xe2\x80\xa8|\xef\xbb\xbf"), "\"\\u00a0|\\u2028|\\ufeff\"");
    expect_quoted(ESI_STR("\xf3\xa0\x80\x81"), "\"\\U000e0001\"");
    expect_quoted(ESI_STR("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"");
    expect_quoted(ESI_STR("\xc0\xaf\xe2\x82"), "\"\\xc0\\xaf\\xe2\\x82\"");
    expect_quoted(ESI_STR("\xe4\xbd\xa0 \xf0\x9f\x98\x80"), "\"\xe4\xbd\xa0 \xf0\x9f\x98\x80\"");
    expect_quoted((struct esi_str){0}, "\"\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_odd_subjects),
        cmocka_unit_test(test_matching),
        cmocka_unit_test(test_sets_by_brute_force),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_wildcards_and_forbidden),
        cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_quote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
