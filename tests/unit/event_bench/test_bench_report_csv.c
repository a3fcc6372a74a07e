/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a line of CSV has as many columns as its headings, whatever stands in names and errors, and
 * no figure where a run has none.
 * Method: one result, printed with friendly and hostile texts, split by the rules of RFC 4180.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "event_bench/bench_report_csv.h"

#include <stdio.h>
#include <string.h>

static struct esi_bench_options options;
static struct esi_bench_gate gate;
static struct esi_bench_result result;
static struct esi_bytes text;

static int set_up(void **state)
{
    (void)state;
    options =
        (struct esi_bench_options){.scenario = BENCH_PUB_SUB, .size_bytes = 128, .publishers = 3};
    result = (struct esi_bench_result){.options = &options, .gate = &gate, .seconds = 2};
    result.stamp.compiler = "cc";
    result.stamp.tls_library = "tls";
    result.sum.delivered = 1000;
    result.has_figures = true;
    esi_histogram_init(&result.sum.latency_ns);
    esi_histogram_record(&result.sum.latency_ns, 5000);
    esi_bytes_init(&text, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    esi_bytes_deinit(&text);
    return 0;
}

/* Copies column `wanted` (from 0) of a line to out, without quotes; returns how many there are. */
static size_t split(const char *line, size_t len, size_t wanted, char *out)
{
    size_t column = 0;
    size_t at = 0;
    bool is_quoted = false;

    for (size_t i = 0; i < len; i++) {
        if (line[i] == '"') {
            if (is_quoted && i + 1 < len && line[i + 1] == '"') {
                i++;
            } else {
                is_quoted = !is_quoted;
                continue;
            }
        } else if (line[i] == ',' && !is_quoted) {
            column++;
            continue;
        }
        if (column == wanted) {
            out[at++] = line[i];
        }
    }
    out[at] = '\0';
    assert_false(is_quoted);
    return column + 1;
}

/* The value below a heading. */
static const char *value_of(const char *name, const char *error)
{
    static char value[600];
    char heading[600];

    esi_bytes_clear(&text);
    esi_bench_report_csv(&result, true, error, &text);
    const char *line_end = memchr(text.data, '\n', text.len);
    assert_non_null(line_end);
    const size_t len = (size_t)(line_end - text.data);
    const size_t rest = text.len - len - 1;
    assert_int_equal(text.data[text.len - 1], '\n');
    assert_null(memchr(line_end + 1, '\n', rest - 1));
    const size_t count = split(text.data, len, 0, heading);
    for (size_t i = 0; i < count; i++) {
        (void)split(text.data, len, i, heading);
        if (strcmp(heading, name) == 0) {
            assert_int_equal(split(line_end + 1, rest - 1, i, value), count);
            return value;
        }
    }
    fail_msg("no column %s", name);
    return NULL;
}

static void figures(void **state)
{
    (void)state;
    assert_string_equal(value_of("scenario", ""), "pub-sub");
    assert_string_equal(value_of("publishers", ""), "3");
    assert_string_equal(value_of("delivered_per_second", ""), "500");
    assert_string_equal(value_of("p99_99_us", ""), "5");
    assert_string_equal(value_of("tls_library", ""), "tls");
    assert_string_equal(value_of("error", ""), "");
}

static void no_figures(void **state)
{
    (void)state;
    result.has_figures = false;
    result.sum.faults.lost = 7;
    assert_string_equal(value_of("delivered_per_second", "lost"), "");
    assert_string_equal(value_of("p50_us", "lost"), "");
    assert_string_equal(value_of("lost", "lost"), "7");
    assert_string_equal(value_of("error", "7 lost"), "7 lost");
}

/* Quotes, commas, lines and what a spreadsheet would compute. */
static void hostile_texts(void **state)
{
    (void)state;
    snprintf(result.sum.server.name, sizeof result.sum.server.name, "=1+1,\"x\"");
    assert_string_equal(value_of("server_name", "a\nb,\"c\""), "'=1+1,\"x\"");
    assert_string_equal(value_of("error", "a\nb,\"c\""), "a b,\"c\"");
}

static void heading_once(void **state)
{
    (void)state;
    esi_bench_report_csv(&result, false, "", &text);
    assert_null(memmem(text.data, text.len, "scenario", strlen("scenario")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(figures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_figures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heading_once, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
