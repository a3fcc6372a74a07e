/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the first and the last subscription of each (subject, queue) are told, whatever comes
 * between, and a snapshot holds each once. Method: random adds and removes against counters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker/interest.h"

#include <stdlib.h>
#include <string.h>

static const char *const subjects[] = {"a", "a.b", "a.*", ">", "b.>", "a.b.c.d"};
static const char *const queues[] = {"", "q", "a", "b"};

enum { SUBJECTS = 6, QUEUES = 4, STEPS = 20000 };

static size_t count_lines(const struct esi_bytes *bytes)
{
    size_t count = 0;

    for (size_t i = 0; i < bytes->len; i++) {
        count += bytes->data[i] == '\n';
    }
    return count;
}

static void test_first_and_last(void **state)
{
    struct esi_interest interest;
    uint32_t counts[SUBJECTS][QUEUES] = {{0}};
    uint64_t random = 3;
    uint32_t lasts = 0;

    (void)state;
    esi_interest_init(&interest);
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        const uint32_t s = (uint32_t)(random >> 40) % SUBJECTS;
        const uint32_t q = (uint32_t)(random >> 50) % QUEUES;
        const struct esi_str subject = esi_str_from(subjects[s]);
        const struct esi_str queue = esi_str_from(queues[q]);
        if (counts[s][q] == 0 || random >> 63 == 0) {
            bool is_first = false;
            assert_int_equal(esi_interest_add(&interest, subject, queue, &is_first), ES_OK);
            assert_int_equal(is_first, counts[s][q] == 0);
            counts[s][q]++;
        } else {
            counts[s][q]--;
            assert_int_equal(esi_interest_remove(&interest, subject, queue), counts[s][q] == 0);
            lasts += counts[s][q] == 0;
        }
    }
    assert_true(lasts > 100);
    uint32_t plain_count = 0;
    uint32_t queue_count = 0;
    for (uint32_t s = 0; s < SUBJECTS; s++) {
        plain_count += counts[s][0] > 0;
        for (uint32_t q = 1; q < QUEUES; q++) {
            queue_count += counts[s][q] > 0;
        }
    }
    struct esi_bytes with_queue;
    struct esi_bytes plain;
    esi_bytes_init(&with_queue, 0);
    esi_bytes_init(&plain, 0);
    esi_interest_write(&interest, ESI_STR("$G"), &with_queue, &plain);
    assert_int_equal(count_lines(&plain), plain_count);
    assert_int_equal(count_lines(&with_queue), queue_count);
    esi_bytes_deinit(&with_queue);
    esi_bytes_deinit(&plain);
    esi_interest_deinit(&interest);
}

static void expect_snapshot(const struct esi_interest *interest, const char *queue_lines,
                            const char *plain_lines)
{
    struct esi_bytes with_queue;
    struct esi_bytes plain;

    esi_bytes_init(&with_queue, 0);
    esi_bytes_init(&plain, 0);
    esi_interest_write(interest, ESI_STR("$G"), &with_queue, &plain);
    esi_bytes_append(&with_queue, "", 1);
    esi_bytes_append(&plain, "", 1);
    assert_string_equal(with_queue.data, queue_lines);
    assert_string_equal(plain.data, plain_lines);
    esi_bytes_deinit(&with_queue);
    esi_bytes_deinit(&plain);
}

static void test_snapshot_lines(void **state)
{
    struct esi_interest interest;
    bool is_first;

    (void)state;
    esi_interest_init(&interest);
    expect_snapshot(&interest, "", "");
    assert_int_equal(esi_interest_add(&interest, ESI_STR("foo.*"), ESI_STR(""), &is_first), ES_OK);
    assert_int_equal(esi_interest_add(&interest, ESI_STR("bar"), ESI_STR("g"), &is_first), ES_OK);
    assert_int_equal(esi_interest_add(&interest, ESI_STR("bar"), ESI_STR("g"), &is_first), ES_OK);
    assert_false(is_first);
    expect_snapshot(&interest, "RS+ $G bar g 1\r\n", "RS+ $G foo.*\r\n");
    esi_interest_deinit(&interest);
}

/* Keys longer than what the remove keeps on its stack. */
static void test_long_subjects(void **state)
{
    struct esi_interest interest;
    char *subject = test_malloc(2000);
    bool is_first = false;

    (void)state;
    memset(subject, 'x', 2000);
    esi_interest_init(&interest);
    for (size_t len = 500; len <= 2000; len += 500) {
        const struct esi_str s = {.data = subject, .len = len};
        assert_int_equal(esi_interest_add(&interest, s, ESI_STR("queue"), &is_first), ES_OK);
        assert_true(is_first);
    }
    for (size_t len = 500; len <= 2000; len += 500) {
        const struct esi_str s = {.data = subject, .len = len};
        assert_true(esi_interest_remove(&interest, s, ESI_STR("queue")));
    }
    expect_snapshot(&interest, "", "");
    esi_interest_deinit(&interest);
    test_free(subject);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_and_last),
        cmocka_unit_test(test_snapshot_lines),
        cmocka_unit_test(test_long_subjects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
