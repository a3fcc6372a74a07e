/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: RFC 3339 times are read and written exactly over the years 1 to 9999, and nothing else is
 * taken for one. Method: known pairs, each way of being wrong, and a walk over all days that must
 * agree with its own count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/timestamp.h"
#include "timestamp_case.h"

static void reads_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(good_times); i++) {
        int64_t seconds = 77;
        uint32_t nanos = 77;
        if (!esi_timestamp_read(esi_str_from(good_times[i].text), &seconds, &nanos)) {
            fail_msg("'%s' was refused", good_times[i].text);
        }
        assert_int_equal(seconds, good_times[i].seconds);
        assert_int_equal(nanos, good_times[i].nanos);
    }
}

static void refuses_what_is_no_time(void **state)
{
    static const char *const bad[] = {
        "",
        "2020",
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-01-01t00:00:00Z",
        "2020-01-01T00:00:00z",
        "2020-01-01 00:00:00Z",
        " 2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00.1234567890Z",
        "2020-01-01T00:00:00ZZ",
        "2020-01-01T00:00:00+2:00",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00:00+23:60",
        "2020-00-01T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2020-01-00T00:00:00Z",
        "2020-04-31T00:00:00Z",
        "2021-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59-00:01",
        "2020-01-01T00:00:0Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "+020-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t seconds = 77;
        uint32_t nanos = 77;
        if (esi_timestamp_read(esi_str_from(bad[i]), &seconds, &nanos)) {
            fail_msg("'%s' was taken for a time", bad[i]);
        }
        assert_int_equal(seconds, 77);
        assert_int_equal(nanos, 77);
    }
}

static void writes_times(void **state)
{
    static const struct {
        int64_t seconds;
        uint32_t nanos;
        const char *text;
    } cases[] = {
        {0, 0, "1970-01-01T00:00:00Z"},
        {-1, 4000, "1969-12-31T23:59:59.000004Z"},
        {951868799, 1, "2000-02-29T23:59:59.000000001Z"},
        {-62135596800, 20000000, "0001-01-01T00:00:00.020Z"},
        {253402300799, 999999999, "9999-12-31T23:59:59.999999999Z"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct esi_bytes out;
        esi_bytes_init(&out, 0);
        esi_timestamp_append(&out, cases[i].seconds, cases[i].nanos);
        esi_bytes_append(&out, "", 1);
        assert_string_equal(out.data, cases[i].text);
        esi_bytes_deinit(&out);
    }
}

static void agrees_with_the_calendar_in_every_month(void **state)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t day_number = -719162; /* of 0001-01-01, counted from 1970-01-01 */
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    for (int year = 1; year <= 9999; year++) {
        const int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        for (int month = 1; month <= 12; month++) {
            const int days = month_days[month - 1] + (month == 2 ? leap : 0);
            for (int day = 1; day <= days; day += day == 1 ? days - 1 : 1) {
                char text[64];
                int64_t seconds = 0;
                uint32_t nanos = 0;
                const int64_t expected = (day_number + day - 1) * 86400;
                snprintf(text, sizeof text, "%04d-%02d-%02dT00:00:00Z", year, month, day);
                assert_true(esi_timestamp_read(esi_str_from(text), &seconds, &nanos));
                assert_int_equal(seconds, expected);
                esi_bytes_clear(&out);
                esi_timestamp_append(&out, expected, 0);
                assert_true(esi_str_equal(esi_bytes_str(&out), esi_str_from(text)));
            }
            day_number += days;
        }
    }
    assert_int_equal(day_number, 2932897);
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_times),
        cmocka_unit_test(refuses_what_is_no_time),
        cmocka_unit_test(writes_times),
        cmocka_unit_test(agrees_with_the_calendar_in_every_month),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
