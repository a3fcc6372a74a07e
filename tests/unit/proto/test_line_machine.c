/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the machine under both parsers finds lines and payloads at any cut, and never looks at a
 * byte twice in a way that adds up. Method: a table of two verbs of its own; the rest is proved by
 * the tests of the parsers.
 */
#include "proto/line_machine.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct esi_line_verb verbs[] = {
    {"GO", 2, LINE_FORM_BLANK_ARGS}, {"GET", 3, LINE_FORM_ARGS}, {"HUM", 3, LINE_FORM_REST}};

static enum esi_line_result next(struct esi_line_machine *machine, struct esi_str data,
                                 size_t *used, struct esi_line *line)
{
    *used = 0;
    return esi_line_machine_next(machine, verbs, ESI_COUNT_OF(verbs), 8, data, used, line);
}

static void test_lines(void **state)
{
    struct esi_line_machine machine;
    struct esi_line line;
    size_t used = 0;

    (void)state;
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("go  a b \r\nx"), &used, &line), LINE_WHOLE);
    assert_int_equal(machine.verb, 0);
    assert_int_equal(used, 4);
    assert_true(esi_str_equal(line.args, ESI_STR("a b ")));
    assert_int_equal(line.line_len, 6);
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("GETx\n"), &used, &line), LINE_WHOLE);
    assert_int_equal(machine.verb, 1);
    assert_true(esi_str_equal(line.args, ESI_STR("x")));
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("hum what ever\n"), &used, &line), LINE_WHOLE);
    assert_int_equal(machine.verb, 2);
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("GOx"), &used, &line), LINE_UNKNOWN);
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("G"), &used, &line), LINE_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(next(&machine, ESI_STR("GX"), &used, &line), LINE_UNKNOWN);
}

static void test_resume_and_limit(void **state)
{
    struct esi_line_machine machine;
    struct esi_line line;
    size_t used = 0;

    (void)state;
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("GO "), &used, &line), LINE_MORE);
    assert_int_equal(used, 3);
    assert_int_equal(next(&machine, ESI_STR("12345678"), &used, &line), LINE_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(machine.scanned, 8);
    assert_int_equal(next(&machine, ESI_STR("12345678\r"), &used, &line), LINE_MORE);
    assert_int_equal(next(&machine, ESI_STR("12345678\r\n"), &used, &line), LINE_WHOLE);
    assert_true(esi_str_equal(line.args, ESI_STR("12345678")));
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("GO 123456789"), &used, &line), LINE_TOO_LONG);
}

static void test_body(void **state)
{
    struct esi_line_machine machine;
    struct esi_line line;
    size_t used = 0;

    (void)state;
    esi_line_machine_reset(&machine);
    assert_int_equal(next(&machine, ESI_STR("GO 3\r\nab"), &used, &line), LINE_WHOLE);
    assert_int_equal(esi_line_machine_body(&machine, &line, 3, 8 - used), LINE_MORE);
    assert_int_equal(machine.needed, 3 + 3 + 2);
    assert_int_equal(next(&machine, ESI_STR("3\r\nabc\r"), &used, &line), LINE_MORE);
    assert_int_equal(next(&machine, ESI_STR("3\r\nabc\r\n"), &used, &line), LINE_WHOLE);
    assert_int_equal(line.line_len, 3);
    assert_int_equal(next(&machine, ESI_STR("3\r\nabcX"), &used, &line), LINE_BROKEN);
    assert_int_equal(next(&machine, ESI_STR("3\r\nabc\rX"), &used, &line), LINE_BROKEN);
}

static void test_split(void **state)
{
    struct esi_str fields[2];
    size_t count = 0;

    (void)state;
    assert_true(esi_line_machine_split(ESI_STR(" a \t bc  d"), fields, 2, &count));
    assert_int_equal(count, 3);
    assert_true(esi_str_equal(fields[0], ESI_STR("a")) && esi_str_equal(fields[1], ESI_STR("bc")));
    assert_true(esi_line_machine_split(ESI_STR(" "), fields, 2, &count));
    assert_int_equal(count, 0);
    assert_false(esi_line_machine_split(ESI_STR("a\rb"), fields, 2, &count));
    assert_false(esi_line_machine_split(ESI_STR("a \n"), fields, 2, &count));
    assert_false(
        esi_line_machine_split((struct esi_str){.data = "a b c\0", .len = 6}, fields, 2, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_resume_and_limit),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
