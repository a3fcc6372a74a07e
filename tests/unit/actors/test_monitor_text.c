/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: times on monitoring pages read as nats-server's do. Method: pairs of value and text, edges
 * of every unit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/monitor_text.h"

static const uint64_t S = 1000000000;

static void writes_uptimes(void **state)
{
    const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {S - 1, "0s"},
        {7 * S, "7s"},
        {59 * S, "59s"},
        {60 * S, "1m0s"},
        {3599 * S, "59m59s"},
        {3600 * S, "1h0m0s"},
        {(86400 + 2 * 3600 + 3 * 60 + 4) * S, "1d2h3m4s"},
        {364 * 86400 * S, "364d0h0m0s"},
        {(uint64_t)(2 * 365 + 5) * 86400 * S, "2y5d0h0m0s"},
        {UINT64_MAX, "584y343d23h34m33s"},
    };
    char text[ESI_MONITOR_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        esi_monitor_text_uptime(cases[i].ns, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void writes_durations(void **state)
{
    const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {1, "1ns"},
        {999, "999ns"},
        {1000, "1\xc2\xb5s"},
        {322000, "322\xc2\xb5s"},
        {197531, "197.531\xc2\xb5s"},
        {1000000, "1ms"},
        {1500000, "1.5ms"},
        {999999999, "999.999999ms"},
        {S, "1s"},
        {S + 1, "1.000000001s"},
        {90 * S + S / 4, "1m30.25s"},
        {3600 * S, "1h0m0s"},
        {25 * 3600 * S + 60 * S + S / 2, "25h1m0.5s"},
        {UINT64_MAX, "5124095h34m33.709551615s"},
    };
    char text[ESI_MONITOR_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        esi_monitor_text_duration(cases[i].ns, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void writes_points_in_time(void **state)
{
    char text[ESI_MONITOR_TEXT_MAX];

    (void)state;
    esi_monitor_text_time(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
    esi_monitor_text_time(951782400000000001, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000000001Z");
    esi_monitor_text_time(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
    /* A clock before 1970 is wrong in any case; the text stays well-formed. */
    esi_monitor_text_time(INT64_MIN, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_uptimes),
        cmocka_unit_test(writes_durations),
        cmocka_unit_test(writes_points_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
