/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page of the monitor under construction. It is made in steps that the monitor carries out one at
 * a time: a page never waits, it says what it needs next. A page belongs to one worker at a time:
 * the monitor's, or, during a visit, the one that is visited.
 */
#pragma once

#include "actors/monitor_query.h"
#include "actors/queue.h"
#include "actors/router.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/json_writer.h"
#include "broker/subtable.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_connection_info;
struct esi_context;
struct esi_gateway_link_info;
struct esi_monitor_closed;
struct esi_monitor_page;
struct esi_worker;

enum esi_monitor_step {
    STEP_VISIT,   /* all actors, on their workers */
    STEP_SAMPLE,  /* memory and CPU of the process, into the facts */
    STEP_ROUTERS, /* the routers' own figures, into the facts */
    STEP_EVENTS,  /* the queue's report, into the facts */
    STEP_WORK,    /* `work`, on a service thread: what would hold a worker up */
    STEP_YIELD,   /* others have their turn: what is long goes on in the next one */
    STEP_DONE     /* body and status are complete */
};

enum {
    ESI_MONITOR_LIST_BYTES_MAX = 15 * 1024 * 1024,
    ESI_MONITOR_BODY_BYTES_MAX = 16 * 1024 * 1024
};

/* What has come in and gone out. */
struct esi_monitor_sums {
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
};

struct esi_monitor_totals {
    struct esi_monitor_sums clients;
    struct esi_monitor_sums links;
};

/* What the monitor knows beside the context. Changed between steps only. */
struct esi_monitor_facts {
    uint64_t requests[MONITOR_KIND_COUNT];
    uint16_t port;
    uint32_t cores;
    uint64_t mem_bytes;
    double cpu_percent;
    double cpu_s;                            /* of the process, since its start */
    const struct esi_monitor_closed *closed; /* borrowed: the monitor's */
    struct esi_monitor_totals *totals;       /* likewise: since the start, as shown last */
    struct esi_router_report routers[ESI_SUBTABLE_ROUTERS_MAX];
    enum es_err events_err;         /* of STEP_EVENTS; ES_UNSUPPORTED: there is no queue */
    struct esi_bytes events;        /* owned: one JSON object, indented */
    struct esi_queue_figures queue; /* the same in numbers */
    bool is_degraded;               /* as /healthz told last */
};

/* A kind of page. */
struct esi_monitor_page_type {
    /* Allocates the page, zeroed but for its own part; NULL when memory is exhausted. */
    struct esi_monitor_page *(*make)(const struct esi_monitor_query *query);
    /* The step to begin with. */
    enum esi_monitor_step (*begin)(struct esi_monitor_page *page);
    /* In a visit, on the visited worker. May be NULL. */
    void (*visit)(struct esi_monitor_page *page, struct esi_actor *actor);
    void (*visit_worker)(struct esi_monitor_page *page, struct esi_worker *worker);
    /* On a service thread; nothing else touches the page meanwhile. NULL: never asked for. */
    void (*work)(struct esi_monitor_page *page);
    /* The step asked for has been done: what next? */
    enum esi_monitor_step (*next)(struct esi_monitor_page *page);
    /* Bytes of memory that the page holds beside its body. NULL: nothing to speak of. */
    size_t (*memory_bytes)(const struct esi_monitor_page *page);
    void (*free)(struct esi_monitor_page *page);
};

struct esi_monitor_page {
    const struct esi_monitor_page_type *type;
    struct esi_context *context;           /* borrowed */
    const struct esi_monitor_facts *facts; /* borrowed */
    struct esi_monitor_query query;
    uint64_t now_ns; /* monotonic, when it was begun */
    int64_t now_wall_ns;
    unsigned status;          /* of HTTP */
    const char *failure;      /* static: why the status is not 200 */
    const char *content_type; /* static; NULL: JSON */
    bool is_unfinished;       /* set by `visit`: once more for the same actor, in a later turn */
    struct esi_bytes body;
    struct esi_json_writer json; /* into body */
};

/*
 * Begins a page that needs steps (not the index, not /healthz).
 *   *step   the first one
 * NULL when memory is exhausted. Owned by the caller: esi_monitor_page_free.
 */
struct esi_monitor_page *esi_monitor_page_new(struct esi_context *context,
                                              const struct esi_monitor_facts *facts,
                                              const struct esi_monitor_query *query,
                                              enum esi_monitor_step *step);
/* Bytes of memory that the page holds. NULL is accepted. Between steps only. */
size_t esi_monitor_page_memory_bytes(const struct esi_monitor_page *page);
/* NULL is accepted. */
void esi_monitor_page_free(struct esi_monitor_page *page);

/* --- for the kinds of pages --- */

/* The outer object with server_id and now. */
void esi_monitor_page_start(struct esi_monitor_page *page);
/* Counts a living connection, or link, that a visit meets. */
void esi_monitor_page_count_client(struct esi_monitor_totals *living,
                                   const struct esi_connection_info *info);
void esi_monitor_page_count_link(struct esi_monitor_totals *living,
                                 const struct esi_gateway_link_info *info);
/*
 * The totals since the start: of the living, and of those that have ended. They never go back.
 *   living   as the page's visit met them
 */
const struct esi_monitor_totals *esi_monitor_page_totals(struct esi_monitor_page *page,
                                                         const struct esi_monitor_totals *living);
/* Clients and links together. */
struct esi_monitor_sums esi_monitor_page_sum(const struct esi_monitor_totals *totals);
/* Ends the page without a body. failure: static, a sentence for the peer. */
enum esi_monitor_step esi_monitor_page_fail(struct esi_monitor_page *page, unsigned status,
                                            const char *failure);
/* Ends the outer object; the status becomes 200, or 500 when it did not fit. */
enum esi_monitor_step esi_monitor_page_end(struct esi_monitor_page *page);
/* A connection's or link's traffic, as nats-server names it. */
struct esi_monitor_traffic {
    uint64_t pending_bytes;
    uint64_t in_msgs;
    uint64_t out_msgs;
    uint64_t in_bytes;
    uint64_t out_bytes;
    uint64_t subscriptions;
};
void esi_monitor_page_fields_traffic(struct esi_json_writer *json,
                                     const struct esi_monitor_traffic *traffic);
/* A connection's or link's times. */
struct esi_monitor_times {
    int64_t start_wall_ns;
    uint64_t start_ns;         /* monotonic */
    uint64_t last_activity_ns; /* monotonic */
    uint64_t rtt_ns;
    uint64_t stop_ns;   /* monotonic; 0: it lives */
    const char *reason; /* of the stop */
};
void esi_monitor_page_fields_times(const struct esi_monitor_page *page,
                                   struct esi_json_writer *json,
                                   const struct esi_monitor_times *times);
struct esi_peer_identity;
/* What TLS says of a peer; nothing for a plain one. identity: NULL leaves its certificate out. */
void esi_monitor_page_fields_tls(struct esi_json_writer *json, const char *version,
                                 const char *cipher, const struct esi_peer_identity *identity);
/* A point in time, by the wall clock. */
void esi_monitor_page_field_wall(struct esi_json_writer *json, const char *key, int64_t wall_ns);
/* A text that is left out when it is empty. */
void esi_monitor_page_field_optional(struct esi_json_writer *json, const char *key,
                                     struct esi_str value);

extern const struct esi_monitor_page_type esi_monitor_varz_page;
extern const struct esi_monitor_page_type esi_monitor_connz_page;
extern const struct esi_monitor_page_type esi_monitor_gatewayz_page;
extern const struct esi_monitor_page_type esi_monitor_actorz_page;
extern const struct esi_monitor_page_type esi_monitor_eventz_page;
extern const struct esi_monitor_page_type esi_monitor_subsz_page;
extern const struct esi_monitor_page_type esi_monitor_routez_page;
extern const struct esi_monitor_page_type esi_monitor_metrics_page;
