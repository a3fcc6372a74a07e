/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Points in time as RFC 3339 text: see timestamp.h. The calendar is the C library's. */
#include "base/timestamp.h"

#include "base/assert.h"
#include "base/num.h"

#include <time.h>

enum { NANOS_A_SECOND = 1000000000, FRACTION_DIGITS_MAX = 9 };

static const int64_t seconds_min = -62135596800;
static const int64_t seconds_max = 253402300799;

static void skip(struct esi_str *rest, size_t count)
{
    rest->data += count;
    rest->len -= count;
}

/* Reads exactly `count` digits and moves on. Returns false when they are not there. */
static bool read_digits(struct esi_str *rest, size_t count, int *value)
{
    uint64_t number;

    if (rest->len < count || !esi_num_parse(rest->data, count, count, &number)) {
        return false;
    }
    skip(rest, count);
    *value = (int)number;
    return true;
}

static bool read_mark(struct esi_str *rest, char mark)
{
    if (rest->len == 0 || rest->data[0] != mark) {
        return false;
    }
    skip(rest, 1);
    return true;
}

/* ".5" and the like, 1 to 9 digits; nothing is no fraction. */
static bool read_fraction(struct esi_str *rest, uint32_t *nanos)
{
    uint32_t scale = NANOS_A_SECOND;
    size_t count = 0;
    int digit;

    *nanos = 0;
    if (!read_mark(rest, '.')) {
        return true;
    }
    while (count < FRACTION_DIGITS_MAX && read_digits(rest, 1, &digit)) {
        scale /= 10;
        *nanos += (uint32_t)digit * scale;
        count++;
    }
    return count > 0;
}

/* Z, +HH:MM or -HH:MM. */
static bool read_zone(struct esi_str *rest, int *offset_s)
{
    int hours = 0;
    int minutes = 0;

    *offset_s = 0;
    if (read_mark(rest, 'Z')) {
        return true;
    }
    const bool is_west = read_mark(rest, '-');
    if ((!is_west && !read_mark(rest, '+')) || !read_digits(rest, 2, &hours) ||
        !read_mark(rest, ':') || !read_digits(rest, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    *offset_s = (hours * 60 + minutes) * (is_west ? -60 : 60);
    return true;
}

/* Seconds since 1970 of a date and time as they stand in the text; false where there is no such
 * day or time: the C library then makes another one of it. */
static bool count_seconds(const struct tm *given, int64_t *seconds)
{
    struct tm tm = *given;

    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *seconds = timegm(&tm);
    return given->tm_year >= 1 && tm.tm_mon == given->tm_mon - 1 && tm.tm_mday == given->tm_mday &&
           tm.tm_hour == given->tm_hour && tm.tm_min == given->tm_min && tm.tm_sec == given->tm_sec;
}

bool esi_timestamp_read(struct esi_str text, int64_t *seconds, uint32_t *nanos)
{
    struct tm tm = {0};
    uint32_t fraction;
    int64_t sum;
    int offset_s;

    if (!read_digits(&text, 4, &tm.tm_year) || !read_mark(&text, '-') ||
        !read_digits(&text, 2, &tm.tm_mon) || !read_mark(&text, '-') ||
        !read_digits(&text, 2, &tm.tm_mday) || !read_mark(&text, 'T') ||
        !read_digits(&text, 2, &tm.tm_hour) || !read_mark(&text, ':') ||
        !read_digits(&text, 2, &tm.tm_min) || !read_mark(&text, ':') ||
        !read_digits(&text, 2, &tm.tm_sec) || !read_fraction(&text, &fraction) ||
        !read_zone(&text, &offset_s) || text.len > 0 || !count_seconds(&tm, &sum)) {
        return false;
    }
    sum -= offset_s;
    if (sum < seconds_min || sum > seconds_max) {
        return false;
    }
    *seconds = sum;
    *nanos = fraction;
    return true;
}

void esi_timestamp_append(struct esi_bytes *out, int64_t seconds, uint32_t nanos)
{
    const time_t time = seconds;
    struct tm tm;

    ESI_REQUIRE(seconds >= seconds_min && seconds <= seconds_max && nanos < NANOS_A_SECOND);
    const struct tm *made = gmtime_r(&time, &tm);
    ESI_ASSERT(made != NULL);
    esi_bytes_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (nanos % 1000 != 0) {
        esi_bytes_printf(out, ".%09u", nanos);
    } else if (nanos % 1000000 != 0) {
        esi_bytes_printf(out, ".%06u", nanos / 1000);
    } else if (nanos != 0) {
        esi_bytes_printf(out, ".%03u", nanos / 1000000);
    }
    esi_bytes_append_text(out, "Z");
}
