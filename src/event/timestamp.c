/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Points in time as RFC 3339 text: see timestamp.h. */
#include "event/timestamp.h"

#include <stddef.h>

#include "base/assert.h"

enum { NANOS_A_SECOND = 1000000000, SECONDS_A_DAY = 86400 };

static const int64_t seconds_min = -62135596800;
static const int64_t seconds_max = 253402300799;

/* Days since 1970-01-01 of a date in the Gregorian calendar; year 1 and later. */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    /* Years from March on, so that the leap day is a year's last; 400 years have 146097 days. */
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t cycle = y / 400;
    const int64_t year_of_cycle = y - cycle * 400;
    const int64_t month_from_march = month > 2 ? month - 3 : month + 9;
    const int64_t day_of_year = (153 * month_from_march + 2) / 5 + day - 1;

    return cycle * 146097 + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 +
           day_of_year - 719468;
}

static void date_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    const int64_t z = days + 719468; /* since 0000-03-01; not negative from year 1 on */
    const int64_t cycle = z / 146097;
    const int64_t day_of_cycle = z - cycle * 146097;
    const int64_t year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36524 - day_of_cycle / 146096) / 365;
    const int64_t day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    const int64_t month_from_march = (5 * day_of_year + 2) / 153;

    *day = (unsigned)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *month = (unsigned)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *year = year_of_cycle + cycle * 400 + (*month <= 2);
}

static unsigned days_of_month(unsigned year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && is_leap ? 1U : 0U);
}

/* Reads exactly `count` digits at *at and moves on. Returns false when they are not there. */
static bool read_digits(const char **at, size_t count, unsigned *value)
{
    unsigned sum = 0;

    for (size_t i = 0; i < count; i++, (*at)++) {
        if (**at < '0' || **at > '9') {
            return false;
        }
        sum = sum * 10 + (unsigned)(**at - '0');
    }
    *value = sum;
    return true;
}

static bool read_mark(const char **at, char mark)
{
    if (**at != mark) {
        return false;
    }
    (*at)++;
    return true;
}

/* ".5" and the like, 1 to 9 digits; nothing is no fraction. */
static bool read_fraction(const char **at, unsigned *nanos)
{
    unsigned scale = NANOS_A_SECOND;

    *nanos = 0;
    if (!read_mark(at, '.')) {
        return true;
    }
    const char *start = *at;
    while (**at >= '0' && **at <= '9' && *at - start < 9) {
        scale /= 10;
        *nanos += (unsigned)(**at - '0') * scale;
        (*at)++;
    }
    return *at > start;
}

/* Z, +HH:MM or -HH:MM, to the end of the text. */
static bool read_zone(const char **at, int64_t *offset_s)
{
    unsigned hours = 0;
    unsigned minutes = 0;
    const char sign = **at;

    (*at) += sign != '\0';
    if (sign == '+' || sign == '-') {
        if (!read_digits(at, 2, &hours) || !read_mark(at, ':') || !read_digits(at, 2, &minutes) ||
            hours > 23 || minutes > 59) {
            return false;
        }
    } else if (sign != 'Z') {
        return false;
    }
    *offset_s = (int64_t)(hours * 60 + minutes) * (sign == '-' ? -60 : 60);
    return **at == '\0';
}

bool esi_timestamp_read(const char *text, int64_t *seconds, uint32_t *nanos)
{
    unsigned year;
    unsigned month;
    unsigned day;
    unsigned hour;
    unsigned minute;
    unsigned second;
    unsigned fraction;
    int64_t offset_s;
    const char *at = text;

    if (!read_digits(&at, 4, &year) || !read_mark(&at, '-') || !read_digits(&at, 2, &month) ||
        !read_mark(&at, '-') || !read_digits(&at, 2, &day) || !read_mark(&at, 'T') ||
        !read_digits(&at, 2, &hour) || !read_mark(&at, ':') || !read_digits(&at, 2, &minute) ||
        !read_mark(&at, ':') || !read_digits(&at, 2, &second) || !read_fraction(&at, &fraction) ||
        !read_zone(&at, &offset_s)) {
        return false;
    }
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month) ||
        hour > 23 || minute > 59 || second > 59) {
        return false;
    }
    const int64_t sum = days_from_date(year, month, day) * SECONDS_A_DAY +
                        (int64_t)(hour * 3600 + minute * 60 + second) - offset_s;
    if (sum < seconds_min || sum > seconds_max) {
        return false;
    }
    *seconds = sum;
    *nanos = fraction;
    return true;
}

void esi_timestamp_append(struct esi_bytes *out, int64_t seconds, uint32_t nanos)
{
    int64_t year;
    unsigned month;
    unsigned day;

    ESI_REQUIRE(seconds >= seconds_min && seconds <= seconds_max && nanos < NANOS_A_SECOND);
    const int64_t second_of_day = ((seconds % SECONDS_A_DAY) + SECONDS_A_DAY) % SECONDS_A_DAY;
    const int64_t minute_of_day = second_of_day / 60;
    date_from_days((seconds - second_of_day) / SECONDS_A_DAY, &year, &month, &day);
    esi_bytes_printf(out, "%04lld-%02u-%02uT%02d:%02d:%02d", (long long)year, month, day,
                     (int)(minute_of_day / 60), (int)(minute_of_day % 60),
                     (int)(second_of_day % 60));
    if (nanos % 1000 != 0) {
        esi_bytes_printf(out, ".%09u", nanos);
    } else if (nanos % 1000000 != 0) {
        esi_bytes_printf(out, ".%06u", nanos / 1000);
    } else if (nanos != 0) {
        esi_bytes_printf(out, ".%03u", nanos / 1000000);
    }
    esi_bytes_append_text(out, "Z");
}
