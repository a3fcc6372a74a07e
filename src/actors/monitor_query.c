/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words are looked up in tables; numbers are summed up with checks, as they may be of any length.
 * Refusals quote at most 64 bytes of the peer's text, printable ones only.
 */
#include "actors/monitor_query.h"
#include "base/own.h"
#include "net/http1.h"
#include "proto/subject.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { SHOWN_BYTES_MAX = 64, EVENTZ_LIMIT_DEFAULT = 256 };

struct word {
    const char *text;
    int value;
};

static const char *const paths[MONITOR_KIND_COUNT] = {
    [MONITOR_INDEX] = "/",          [MONITOR_HEALTHZ] = "/healthz",   [MONITOR_VARZ] = "/varz",
    [MONITOR_CONNZ] = "/connz",     [MONITOR_GATEWAYZ] = "/gatewayz", [MONITOR_ACTORZ] = "/actorz",
    [MONITOR_EVENTZ] = "/eventz",   [MONITOR_SUBSZ] = "/subsz",       [MONITOR_ROUTEZ] = "/routez",
    [MONITOR_METRICS] = "/metrics",
};

static const struct word connz_sorts[] = {
    {"cid", SORT_CID},           {"start", SORT_START},           {"subs", SORT_SUBS},
    {"pending", SORT_PENDING},   {"msgs_to", SORT_MSGS_TO},       {"msgs_from", SORT_MSGS_FROM},
    {"bytes_to", SORT_BYTES_TO}, {"bytes_from", SORT_BYTES_FROM}, {"last", SORT_LAST},
    {"idle", SORT_IDLE},         {"uptime", SORT_UPTIME},         {"rtt", SORT_RTT},
    {"stop", SORT_STOP},         {"reason", SORT_REASON},         {NULL, 0},
};

static const struct word actorz_sorts[] = {
    {"id", SORT_ID},
    {"messages", SORT_MESSAGES},
    {"depth", SORT_DEPTH},
    {"depth_max", SORT_DEPTH_MAX},
    {"waiting", SORT_WAITING},
    {"wait", SORT_WAITING},
    {"waiting_max", SORT_WAITING_MAX},
    {"service", SORT_SERVICE},
    {"cpu", SORT_SERVICE},
    {"service_max", SORT_SERVICE_MAX},
    {NULL, 0},
};

/* As Go's strconv.ParseBool. */
static const struct word bools[] = {
    {"1", true},      {"t", true},      {"T", true},  {"true", true}, {"TRUE", true},
    {"True", true},   {"0", false},     {"f", false}, {"F", false},   {"false", false},
    {"FALSE", false}, {"False", false}, {NULL, 0},
};

static const struct word states[] = {
    {"open", STATES_OPEN},
    {"0", STATES_OPEN},
    {"closed", STATES_CLOSED},
    {"1", STATES_CLOSED},
    {"any", STATES_OPEN | STATES_CLOSED},
    {"all", STATES_OPEN | STATES_CLOSED},
    {"2", STATES_OPEN | STATES_CLOSED},
    {NULL, 0},
};

const char *esi_monitor_query_path(enum esi_monitor_kind kind)
{
    return paths[kind];
}

static bool find_word(const struct word *words, struct esi_str text, int *out)
{
    for (; words->text != NULL; words++) {
        if (esi_str_equal(text, esi_str_from(words->text))) {
            *out = words->value;
            return true;
        }
    }
    return false;
}

/* The peer's text for an answer: cut, and without control characters. */
static const char *show(struct esi_str text, char out[SHOWN_BYTES_MAX + 1])
{
    const size_t len = text.len < SHOWN_BYTES_MAX ? text.len : SHOWN_BYTES_MAX;

    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text.data[i];
        out[i] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    out[len] = '\0';
    return out;
}

static enum es_err refuse(char *error, const char *before, struct esi_str value, const char *after)
{
    char shown[SHOWN_BYTES_MAX + 1];

    snprintf(error, ESI_MONITOR_ERROR_MAX, "%s%s%s", before, show(value, shown), after);
    return ES_INVALID;
}

/* A kind of value, as Go's error texts name it and the function that reads it. */
struct go_kind {
    const char *name;
    const char *function;
};

static const struct go_kind go_int = {"int", "Atoi"};
static const struct go_kind go_uint64 = {"uint64", "ParseUint"};
static const struct go_kind go_bool = {"boolean", "ParseBool"};

static enum es_err refuse_value(char *error, const struct go_kind *kind, const char *option,
                                struct esi_str value, const char *why)
{
    char before[128];

    snprintf(before, sizeof before, "Error decoding %s for '%s': strconv.%s: parsing \"",
             kind->name, option, kind->function);
    return refuse(error, before, value, why);
}

static enum es_err read_bool(const struct esi_http1_request *request, const char *name, bool *out,
                             char *error)
{
    const struct esi_str value = esi_http1_query(request, name);
    int word = 0;

    if (value.len == 0) {
        return ES_OK;
    }
    if (!find_word(bools, value, &word)) {
        return refuse_value(error, &go_bool, name, value, "\": invalid syntax");
    }
    *out = word != 0;
    return ES_OK;
}

static bool is_digits(struct esi_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
    }
    return value.len > 0;
}

/* Digits only, checked. False: larger than max. */
static bool sum_digits(struct esi_str digits, uint64_t max, uint64_t *out)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < digits.len; i++) {
        if (__builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(digits.data[i] - '0'), &sum) || sum > max) {
            return false;
        }
    }
    *out = sum;
    return true;
}

/* A signed number as Go's Atoi; what is negative counts as missing, as in nats-server. */
static enum es_err read_int(const struct esi_http1_request *request, const char *name,
                            uint64_t fallback, uint64_t *out, char *error)
{
    const struct esi_str value = esi_http1_query(request, name);
    struct esi_str digits = value;

    if (value.len == 0) {
        *out = fallback;
        return ES_OK;
    }
    const bool is_negative = value.data[0] == '-';
    if (is_negative || value.data[0] == '+') {
        digits.data++;
        digits.len--;
    }
    if (!is_digits(digits)) {
        return refuse_value(error, &go_int, name, value, "\": invalid syntax");
    }
    if (!sum_digits(digits, INT64_MAX, out)) {
        return refuse_value(error, &go_int, name, value, "\": value out of range");
    }
    if (is_negative) {
        *out = fallback;
    }
    return ES_OK;
}

static enum es_err read_cid(const struct esi_http1_request *request,
                            struct esi_monitor_query *query, char *error)
{
    const struct esi_str value = esi_http1_query(request, "cid");

    if (value.len == 0) {
        return ES_OK;
    }
    if (!is_digits(value)) {
        return refuse_value(error, &go_uint64, "cid", value, "\": invalid syntax");
    }
    if (!sum_digits(value, UINT64_MAX, &query->cid)) {
        return refuse_value(error, &go_uint64, "cid", value, "\": value out of range");
    }
    query->has_cid = query->cid > 0;
    return ES_OK;
}

static enum es_err read_name(const struct esi_http1_request *request, const char *name, char *out,
                             char *error)
{
    const struct esi_str value = esi_http1_query(request, name);

    if (value.len >= ESI_MONITOR_NAME_MAX ||
        (value.len > 0 && memchr(value.data, '\0', value.len) != NULL)) {
        return refuse(error, "Error decoding ", esi_str_from(name), ": too long");
    }
    if (value.len > 0) {
        memcpy(out, value.data, value.len);
    }
    out[value.len] = '\0';
    return ES_OK;
}

static enum es_err read_window(const struct esi_http1_request *request, uint64_t limit_default,
                               struct esi_monitor_query *query, char *error)
{
    enum es_err err = read_int(request, "offset", 0, &query->offset, error);

    if (err == ES_OK) {
        err = read_int(request, "limit", limit_default, &query->limit, error);
    }
    if (err == ES_OK && query->limit == 0) {
        query->limit = limit_default;
    }
    return err;
}

static enum es_err read_sort(const struct esi_http1_request *request, const struct word *words,
                             struct esi_monitor_query *query, char *error)
{
    const struct esi_str value = esi_http1_query(request, "sort");
    int sort = words[0].value;

    if (value.len > 0 && !find_word(words, value, &sort)) {
        return refuse(error, "invalid sorting option: ", value, "");
    }
    query->sort = (enum esi_monitor_sort)sort;
    return ES_OK;
}

static enum es_err read_state(const struct esi_http1_request *request,
                              struct esi_monitor_query *query, char *error)
{
    const struct esi_str value = esi_http1_query(request, "state");

    if (value.len == 0) {
        return ES_OK;
    }
    for (const struct word *word = states; word->text != NULL; word++) {
        if (value.len == strlen(word->text) &&
            strncasecmp(value.data, word->text, value.len) == 0) {
            query->states = (uint32_t)word->value;
            return ES_OK;
        }
    }
    return refuse(error, "Error decoding state for ", value, "");
}

static enum es_err read_subs(const struct esi_http1_request *request,
                             struct esi_monitor_query *query, char *error)
{
    bool is_wanted = false;

    if (esi_str_equal(esi_http1_query(request, "subs"), ESI_STR("detail"))) {
        query->subs = SUBS_DETAIL;
        return ES_OK;
    }
    const enum es_err err = read_bool(request, "subs", &is_wanted, error);
    query->subs = is_wanted ? SUBS_LIST : SUBS_NONE;
    return err;
}

static enum es_err read_owner(const struct esi_http1_request *request,
                              struct esi_monitor_query *query, char *error)
{
    const struct esi_str account = esi_http1_query(request, "acc");
    enum es_err err = read_name(request, "user", query->user, error);

    if (err == ES_OK && query->user[0] != '\0' && !query->has_auth) {
        return refuse(error, "filter by user only allowed with auth option", ESI_STR(""), "");
    }
    if (err == ES_OK && account.len > 0) {
        if (!query->has_auth) {
            return refuse(error, "filter by account only allowed with auth option", ESI_STR(""),
                          "");
        }
        query->matches_nothing |= !esi_str_equal(account, ESI_STR("$G"));
    }
    if (err == ES_OK && esi_http1_query(request, "filter_subject").len > 0) {
        return refuse(error, "filter by subject is not supported", ESI_STR(""), "");
    }
    return err;
}

static enum es_err read_connz(const struct esi_http1_request *request,
                              struct esi_monitor_query *query, char *error)
{
    enum es_err err = read_sort(request, connz_sorts, query, error);

    query->states = STATES_OPEN;
    if (err == ES_OK) {
        err = read_bool(request, "auth", &query->has_auth, error);
    }
    if (err == ES_OK) {
        err = read_subs(request, query, error);
    }
    if (err == ES_OK) {
        err = read_window(request, ESI_MONITOR_LIMIT_DEFAULT, query, error);
    }
    if (err == ES_OK) {
        err = read_cid(request, query, error);
    }
    if (err == ES_OK) {
        err = read_state(request, query, error);
    }
    if (err == ES_OK && query->states != STATES_CLOSED &&
        (query->sort == SORT_STOP || query->sort == SORT_REASON)) {
        err = refuse(error, "sort by ", esi_http1_query(request, "sort"),
                     " only valid on closed connections");
    }
    if (err == ES_OK) {
        err = read_owner(request, query, error);
    }
    if (err == ES_OK && query->has_cid) {
        query->limit = 1;
    }
    return err;
}

static enum es_err read_actorz(const struct esi_http1_request *request,
                               struct esi_monitor_query *query, char *error)
{
    enum es_err err = read_sort(request, actorz_sorts, query, error);

    if (err == ES_OK) {
        err = read_window(request, ESI_MONITOR_LIMIT_DEFAULT, query, error);
    }
    if (err == ES_OK) {
        err = read_name(request, "type", query->type, error);
    }
    if (err == ES_OK) {
        err = read_bool(request, "histograms", &query->has_histograms, error);
    }
    return err;
}

static enum es_err read_eventz(const struct esi_http1_request *request,
                               struct esi_monitor_query *query, char *error)
{
    enum es_err err = read_name(request, "id", query->event, error);

    if (err == ES_OK) {
        err = read_window(request, EVENTZ_LIMIT_DEFAULT, query, error);
    }
    return err;
}

static enum es_err read_subsz(const struct esi_http1_request *request,
                              struct esi_monitor_query *query, char *error)
{
    const struct esi_str account = esi_http1_query(request, "acc");
    const struct esi_str test = esi_http1_query(request, "test");
    enum es_err err = read_subs(request, query, error);

    if (err == ES_OK) {
        err = read_window(request, ESI_MONITOR_LIMIT_DEFAULT, query, error);
    }
    if (err == ES_OK && test.len > 0) {
        if (test.len >= ESI_MONITOR_SUBJECT_MAX || !esi_subject_is_literal(test)) {
            return refuse(error, "invalid test subject, must be valid publish subject: ", test, "");
        }
        memcpy(query->test, test.data, test.len);
        query->test[test.len] = '\0';
    }
    query->matches_nothing = account.len > 0 && !esi_str_equal(account, ESI_STR("$G"));
    return err;
}

/* OpenMetrics, unless the asker names only the older form. */
static void read_accept(const struct esi_http1_request *request, struct esi_monitor_query *query)
{
    const struct esi_str accept = esi_http1_header(request, "Accept");

    query->has_plain_text =
        accept.len > 0 && memmem(accept.data, accept.len, "text/plain", 10) != NULL &&
        memmem(accept.data, accept.len, "application/openmetrics-text", 28) == NULL;
}

static bool find_kind(struct esi_str path, enum esi_monitor_kind *out)
{
    for (int kind = 0; kind < MONITOR_KIND_COUNT; kind++) {
        if (esi_str_equal(path, esi_str_from(paths[kind]))) {
            *out = (enum esi_monitor_kind)kind;
            return true;
        }
    }
    if (esi_str_equal(path, ESI_STR("/subscriptionsz"))) {
        *out = MONITOR_SUBSZ;
        return true;
    }
    return false;
}

enum es_err esi_monitor_query_read(const struct esi_http1_request *request,
                                   struct esi_monitor_query *out, char *error)
{
    struct esi_monitor_query query = {.limit = ESI_MONITOR_LIMIT_DEFAULT};
    enum es_err err = ES_OK;

    if (!find_kind(request->path, &query.kind)) {
        snprintf(error, ESI_MONITOR_ERROR_MAX, "404 page not found");
        return ES_NOT_FOUND;
    }
    switch (query.kind) {
    case MONITOR_CONNZ:
        err = read_connz(request, &query, error);
        break;
    case MONITOR_ACTORZ:
        err = read_actorz(request, &query, error);
        break;
    case MONITOR_EVENTZ:
        err = read_eventz(request, &query, error);
        break;
    case MONITOR_GATEWAYZ:
        err = read_name(request, "gw_name", query.gateway, error);
        break;
    case MONITOR_SUBSZ:
        err = read_subsz(request, &query, error);
        break;
    case MONITOR_METRICS:
        read_accept(request, &query);
        break;
    case MONITOR_INDEX:
    case MONITOR_HEALTHZ:
    case MONITOR_VARZ:
    case MONITOR_ROUTEZ:
    case MONITOR_KIND_COUNT:
        break;
    }
    if (err == ES_OK) {
        *out = query;
    }
    return err;
}
