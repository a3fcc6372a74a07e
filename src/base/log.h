/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log: events from base/log_events.def (a stable id, a level, a sentence) with fields, as text
 * or JSON lines. Never a token, a payload, or a peer's bytes unescaped (field values are escaped
 * here). Repeats of one event are folded and counted. Nothing logs on the path of a message.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum esi_log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum esi_log_format { LOG_TEXT, LOG_JSON };

enum esi_log_event {
#define X(id, level, text, ...) id,
#include "base/log_events.def"
#undef X
    LOG_EVENT_COUNT
};

enum esi_log_field_kind { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 };

struct esi_log_field {
    enum esi_log_field_kind kind;
    const char *name;   /* a literal */
    struct esi_str str; /* borrowed */
    uint64_t u64;
    int64_t i64;
};

#define ESI_LOG_STR(n, s) ((struct esi_log_field){.kind = LOG_FIELD_STR, .name = (n), .str = (s)})
#define ESI_LOG_TEXT(n, text) ESI_LOG_STR(n, esi_str_from(text))
#define ESI_LOG_U64(n, v) ((struct esi_log_field){.kind = LOG_FIELD_U64, .name = (n), .u64 = (v)})
#define ESI_LOG_I64(n, v) ((struct esi_log_field){.kind = LOG_FIELD_I64, .name = (n), .i64 = (v)})
#define ESI_LOG_ERR(err) ESI_LOG_TEXT("err", es_err_text(err))

/* Writes one event with fields: esi_log(LOG_SERVER_READY, ESI_LOG_U64("port", port)). Thread: any.
 * Never fails. */
#define esi_log(event, ...)                                                                        \
    esi_log_write((event), (const struct esi_log_field[]){                                         \
                               __VA_ARGS__ __VA_OPT__(, ){.kind = LOG_FIELD_END}})

/* The function behind esi_log: fields end with LOG_FIELD_END. */
void esi_log_write(enum esi_log_event event, const struct esi_log_field *fields);
/* True when events of this level are written: to save the making of fields. */
bool esi_log_is_enabled(enum esi_log_level level);
/* Sets format and level for the process. Thread: any. */
void esi_log_configure(enum esi_log_format format, enum esi_log_level level);
/* Opens the file for appending (mode 0640); NULL means standard error. The old one is closed.
 * Thread: any. */
ES_MUST_USE enum es_err esi_log_open(const char *path);
/* Opens the same path again (after a log rotation). */
ES_MUST_USE enum es_err esi_log_reopen(void);
