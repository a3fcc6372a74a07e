/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which page of the monitor is asked for, with which options. Bad values are refused here with
 * nats-server's texts; what comes out is in range. Thread: any.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_http1_request;

enum esi_monitor_kind {
    MONITOR_INDEX,
    MONITOR_HEALTHZ,
    MONITOR_VARZ,
    MONITOR_CONNZ,
    MONITOR_GATEWAYZ,
    MONITOR_ACTORZ,
    MONITOR_EVENTZ,
    MONITOR_SUBSZ,
    MONITOR_ROUTEZ,
    MONITOR_METRICS,
    MONITOR_KIND_COUNT
};

enum esi_monitor_sort {
    /* /connz */
    SORT_CID,
    SORT_START,
    SORT_SUBS,
    SORT_PENDING,
    SORT_MSGS_TO,
    SORT_MSGS_FROM,
    SORT_BYTES_TO,
    SORT_BYTES_FROM,
    SORT_LAST,
    SORT_IDLE,
    SORT_UPTIME,
    SORT_RTT,
    SORT_STOP,
    SORT_REASON,
    /* /actorz */
    SORT_ID,
    SORT_MESSAGES,
    SORT_DEPTH,
    SORT_DEPTH_MAX,
    SORT_WAITING,
    SORT_WAITING_MAX,
    SORT_SERVICE,
    SORT_SERVICE_MAX
};

enum esi_monitor_subs { SUBS_NONE, SUBS_LIST, SUBS_DETAIL };
/* Which connections: bits. */
enum esi_monitor_state { STATES_OPEN = 1, STATES_CLOSED = 2 };
enum {
    ESI_MONITOR_LIMIT_DEFAULT = 1024,
    ESI_MONITOR_NAME_MAX = 320,
    ESI_MONITOR_SUBJECT_MAX = 4096,
    ESI_MONITOR_ERROR_MAX = 256
};

struct esi_monitor_query {
    enum esi_monitor_kind kind;
    enum esi_monitor_sort sort;
    enum esi_monitor_subs subs;
    uint32_t states; /* bits of enum esi_monitor_state */
    bool has_auth;
    bool has_cid;
    uint64_t cid;
    uint64_t offset;                    /* at most INT64_MAX */
    uint64_t limit;                     /* 1 to INT64_MAX */
    char user[ESI_MONITOR_NAME_MAX];    /* only connections of this user; "": all */
    char type[ESI_MONITOR_NAME_MAX];    /* only actors of this type; "": all */
    char event[ESI_MONITOR_NAME_MAX];   /* the event asked about; "": none */
    char gateway[ESI_MONITOR_NAME_MAX]; /* only links to this cluster; "": all */
    /* only subscriptions that a message on this subject would match; "": all */
    char test[ESI_MONITOR_SUBJECT_MAX];
    bool matches_nothing; /* of another account: there is none here */
    bool is_trusted;      /* /healthz: may know more than its status */
    bool has_histograms;  /* /actorz: whole, not only their percentiles */
    bool has_plain_text;  /* /metrics: the older text form is wanted */
};

/* The page's path: "/varz". Static. */
const char *esi_monitor_query_path(enum esi_monitor_kind kind);

/*
 * Reads a request.
 *   error   at least ESI_MONITOR_ERROR_MAX bytes; a sentence for the peer on failure
 * ES_OK; ES_NOT_FOUND: no such page; ES_INVALID: a bad option.
 */
ES_MUST_USE enum es_err esi_monitor_query_read(const struct esi_http1_request *request,
                                               struct esi_monitor_query *out, char *error);
