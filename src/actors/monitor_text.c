/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer arithmetic only: a double would round nanoseconds. */
#include "actors/monitor_text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

static const uint64_t NS_PER_S = 1000000000;

void esi_monitor_text_uptime(uint64_t ns, char out[ESI_MONITOR_TEXT_MAX])
{
    const uint64_t s = ns / NS_PER_S;
    const unsigned long long days = s / 86400;
    const unsigned hours = (unsigned)(s / 3600 % 24);
    const unsigned minutes = (unsigned)(s / 60 % 60);
    const unsigned seconds = (unsigned)(s % 60);

    if (days >= 365) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%lluy%llud%uh%um%us", days / 365, days % 365, hours,
                 minutes, seconds);
    } else if (days > 0) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%llud%uh%um%us", days, hours, minutes, seconds);
    } else if (hours > 0) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%uh%um%us", hours, minutes, seconds);
    } else if (minutes > 0) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%um%us", minutes, seconds);
    } else {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%us", seconds);
    }
}

/* Writes value/unit with its decimals, without zeros at the end. Returns the length. */
static size_t write_decimal(uint64_t value, uint64_t unit, char *out, size_t capacity)
{
    int len = snprintf(out, capacity, "%llu", (unsigned long long)(value / unit));
    uint64_t rest = value % unit;

    if (rest > 0) {
        out[len++] = '.';
        while (rest > 0) {
            unit /= 10;
            out[len++] = (char)('0' + rest / unit);
            rest %= unit;
        }
        out[len] = '\0';
    }
    return (size_t)len;
}

void esi_monitor_text_duration(uint64_t ns, char out[ESI_MONITOR_TEXT_MAX])
{
    size_t len = 0;

    if (ns == 0) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "0s");
        return;
    }
    if (ns < 1000) {
        snprintf(out, ESI_MONITOR_TEXT_MAX, "%lluns", (unsigned long long)ns);
        return;
    }
    if (ns < NS_PER_S) {
        const bool is_micro = ns < 1000000;
        len = write_decimal(ns, is_micro ? 1000 : 1000000, out, ESI_MONITOR_TEXT_MAX);
        snprintf(out + len, ESI_MONITOR_TEXT_MAX - len, "%s", is_micro ? "\xc2\xb5s" : "ms");
        return;
    }
    const unsigned long long hours = ns / NS_PER_S / 3600;
    const unsigned minutes = (unsigned)(ns / NS_PER_S / 60 % 60);
    if (hours > 0) {
        len = (size_t)snprintf(out, ESI_MONITOR_TEXT_MAX, "%lluh%um", hours, minutes);
    } else if (minutes > 0) {
        len = (size_t)snprintf(out, ESI_MONITOR_TEXT_MAX, "%um", minutes);
    }
    len += write_decimal(ns % (60 * NS_PER_S), NS_PER_S, out + len, ESI_MONITOR_TEXT_MAX - len);
    snprintf(out + len, ESI_MONITOR_TEXT_MAX - len, "s");
}

void esi_monitor_text_time(int64_t wall_ns, char out[ESI_MONITOR_TEXT_MAX])
{
    const int64_t safe_ns = wall_ns > 0 ? wall_ns : 0;
    const time_t seconds = (time_t)(safe_ns / (int64_t)NS_PER_S);
    struct tm parts = {0};

    gmtime_r(&seconds, &parts);
    snprintf(out, ESI_MONITOR_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09uZ", parts.tm_year + 1900,
             parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
             (unsigned)(safe_ns % (int64_t)NS_PER_S));
}
