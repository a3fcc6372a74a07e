/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line an event, written with one write(2), so lines of several threads do not mix. The text
 * form is
 *   [pid] 2026/11/24 06:53:39.123456 [INF] sentence - id key=value ...
 * (nats-server's shape, which people grep), the JSON form {"ts","level","event","msg",fields...}
 * with RFC 3339 nanoseconds. An event that comes more than REPEATS_MAX times in one second is
 * folded; the count follows later.
 */
#include "base/log.h"
#include "base/bytes.h"
#include "base/own.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS_MAX = 20, VALUE_BYTES_MAX = 1024 };

struct event_info {
    const char *id;
    enum esi_log_level level;
    const char *text;
};

static const struct event_info events[LOG_EVENT_COUNT] = {
#define X(event_id, event_level, event_text, ...)                                                  \
    [event_id] = {.id = #event_id, .level = (event_level), .text = (event_text)},
#include "base/log_events.def"
#undef X
};

static const char *const level_tags[] = {"ERR", "WRN", "INF", "DBG", "TRC"};
static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

/* Guards everything below except the level, which is read without it. */
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = STDERR_FILENO;
static char *log_path;
static enum esi_log_format log_format = LOG_TEXT;
static _Atomic int log_level = LOG_INFO;
static struct {
    time_t second;
    uint32_t count;
    uint32_t folded;
} repeats[LOG_EVENT_COUNT];

bool esi_log_is_enabled(enum esi_log_level level)
{
    /* order: relaxed; a line more or less around a change of level harms nobody. */
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void esi_log_configure(enum esi_log_format format, enum esi_log_level level)
{
    pthread_mutex_lock(&log_mutex);
    log_format = format;
    pthread_mutex_unlock(&log_mutex);
    /* order: relaxed; see esi_log_is_enabled. */
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

static enum es_err open_locked(const char *path)
{
    const int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

    if (fd < 0) {
        return errno == EACCES || errno == EPERM ? ES_DENIED
               : errno == ENOENT                 ? ES_NOT_FOUND
                                                 : ES_IO;
    }
    if (log_fd != STDERR_FILENO) {
        close(log_fd);
    }
    log_fd = fd;
    return ES_OK;
}

enum es_err esi_log_open(const char *path)
{
    enum es_err err = ES_OK;

    pthread_mutex_lock(&log_mutex);
    if (path != NULL) {
        err = open_locked(path);
    } else if (log_fd != STDERR_FILENO) {
        close(log_fd);
        log_fd = STDERR_FILENO;
    }
    if (err == ES_OK) {
        free(log_path);
        log_path = path != NULL ? esi_str_dup(esi_str_from(path)) : NULL;
    }
    pthread_mutex_unlock(&log_mutex);
    return err;
}

enum es_err esi_log_reopen(void)
{
    pthread_mutex_lock(&log_mutex);
    const enum es_err err = log_path != NULL ? open_locked(log_path) : ES_OK;
    pthread_mutex_unlock(&log_mutex);
    return err;
}

/*
 * A peer's bytes never reach the log raw: control bytes, quotes, backslashes and non-ASCII are
 * escaped. What is longer than a value needs to be for people to see what it is, is cut.
 */
static void append_escaped(struct esi_bytes *line, struct esi_str s)
{
    const size_t len = s.len < VALUE_BYTES_MAX ? s.len : VALUE_BYTES_MAX;

    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)s.data[i];
        if (c == '"' || c == '\\') {
            esi_bytes_printf(line, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            esi_bytes_printf(line, "\\u%04x", c);
        } else {
            esi_bytes_append(line, &s.data[i], 1);
        }
    }
    if (len < s.len) {
        esi_bytes_append_text(line, "...");
    }
}

static void append_value(struct esi_bytes *line, const struct esi_log_field *field)
{
    switch (field->kind) {
    case LOG_FIELD_STR:
        esi_bytes_append_text(line, "\"");
        append_escaped(line, field->str);
        esi_bytes_append_text(line, "\"");
        break;
    case LOG_FIELD_U64:
        esi_bytes_printf(line, "%llu", (unsigned long long)field->u64);
        break;
    case LOG_FIELD_I64:
        esi_bytes_printf(line, "%lld", (long long)field->i64);
        break;
    case LOG_FIELD_END:
        break;
    }
}

static void append_text_line(struct esi_bytes *line, const struct event_info *info,
                             const struct timespec *now, const struct esi_log_field *fields)
{
    struct tm tm;
    char when[32];

    gmtime_r(&now->tv_sec, &tm);
    strftime(when, sizeof when, "%Y/%m/%d %H:%M:%S", &tm);
    esi_bytes_printf(line, "[%d] %s.%06ld [%s] %s - %s", (int)getpid(), when, now->tv_nsec / 1000,
                     level_tags[info->level], info->text, info->id);
    for (const struct esi_log_field *field = fields; field->kind != LOG_FIELD_END; field++) {
        esi_bytes_printf(line, " %s=", field->name);
        append_value(line, field);
    }
}

static void append_json_line(struct esi_bytes *line, const struct event_info *info,
                             const struct timespec *now, const struct esi_log_field *fields)
{
    struct tm tm;
    char when[32];

    gmtime_r(&now->tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    esi_bytes_printf(line, "{\"ts\":\"%s.%09ldZ\",\"level\":\"%s\",\"event\":\"%s\",\"msg\":\"%s\"",
                     when, now->tv_nsec, level_names[info->level], info->id, info->text);
    for (const struct esi_log_field *field = fields; field->kind != LOG_FIELD_END; field++) {
        esi_bytes_printf(line, ",\"%s\":", field->name);
        append_value(line, field);
    }
    esi_bytes_append_text(line, "}");
}

static void write_line(enum esi_log_event event, const struct timespec *now,
                       const struct esi_log_field *fields)
{
    struct esi_bytes line;

    /* No bound beside those of its values: a line that is cut would run into the next one. */
    esi_bytes_init(&line, 0);
    if (log_format == LOG_JSON) {
        append_json_line(&line, &events[event], now, fields);
    } else {
        append_text_line(&line, &events[event], now, fields);
    }
    esi_bytes_append_text(&line, "\n");
    if (line.len > 0) {
        line.data[line.len - 1] = '\n'; /* also when memory is exhausted */
        /* A log that cannot be written must not take the server down. */
        const ssize_t written = write(log_fd, line.data, line.len);
        (void)written;
    }
    esi_bytes_deinit(&line);
}

/* True when the event is to be written; false when it is folded. */
static bool count_repeat(enum esi_log_event event, const struct timespec *now)
{
    if (repeats[event].second != now->tv_sec) {
        const uint32_t folded = repeats[event].folded;
        repeats[event].second = now->tv_sec;
        repeats[event].count = 0;
        repeats[event].folded = 0;
        if (folded > 0) {
            write_line(LOG_FOLDED, now,
                       (const struct esi_log_field[]){ESI_LOG_TEXT("event", events[event].id),
                                                      ESI_LOG_U64("count", folded),
                                                      {.kind = LOG_FIELD_END}});
        }
    }
    if (repeats[event].count >= REPEATS_MAX) {
        repeats[event].folded++;
        return false;
    }
    repeats[event].count++;
    return true;
}

void esi_log_write(enum esi_log_event event, const struct esi_log_field *fields)
{
    struct timespec now;

    if (!esi_log_is_enabled(events[event].level)) {
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&log_mutex);
    if (count_repeat(event, &now)) {
        write_line(event, &now, fields);
    }
    pthread_mutex_unlock(&log_mutex);
}
