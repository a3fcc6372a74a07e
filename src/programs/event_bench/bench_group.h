/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One publisher (or requester) with its subscribers (or responders): they share a subject that no
 * other group uses, so that everything about a message can be checked inside the group. A group
 * belongs to one thread.
 *
 * With fan-in the groups of a shard are a family: one subject, and subscribers that get what all
 * publishers send. The first group has their connections, each group accounts for its own messages.
 * A group without members has its messages confirmed by PONGs (pub), or seen by a worker service
 * (events).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/histogram.h"
#include "event_bench/bench_check.h"
#include "event_bench/bench_client.h"

struct esi_bench_group;

/* What the groups of one thread count together. */
struct esi_bench_tally {
    uint64_t delivered;  /* messages received by subscribers, responders and requesters */
    uint64_t operations; /* of scenarios without messages, while measuring */
    bool is_measuring;
    struct esi_histogram
        latency_ns; /* one way; of requests: until the reply. While measuring only */
    /* Open loop: how late the generator itself was with each message, while measuring. */
    struct esi_histogram late_ns;
};

/* A count when measuring began and when it ended. */
struct esi_bench_span {
    uint64_t before;
    uint64_t after;
};

struct esi_bench_faults {
    uint64_t lost;
    uint64_t duplicated;
    uint64_t reordered;
    uint64_t damaged;   /* length, tail or pattern is wrong */
    uint64_t misrouted; /* not for this subscription */
};

/* A subscriber or responder. */
struct esi_bench_member {
    struct esi_bench_client client;
    struct esi_bench_group *group; /* borrowed */
    struct esi_bench_check check;  /* where each member gets every message */
    uint64_t next;                 /* in a queue group: numbers below must not come any more */
    uint64_t received;
    struct esi_bench_span received_span;
    uint64_t last_ns; /* when the last message came */
    bool is_reached;  /* a probe has come */
    char sid[24];
};

struct esi_bench_group {
    struct esi_bench_link *link;   /* borrowed */
    struct esi_bench_tally *tally; /* borrowed */
    uint64_t index;
    struct esi_bench_client source;   /* publisher or requester */
    struct esi_bench_member *members; /* owned: member_count, then stalled_count */
    size_t member_count;
    size_t stalled_count;
    struct esi_bench_check shared_check; /* of a queue group as a whole */
    struct esi_bench_check reply_check;  /* of the replies to the requester */
    char subject[96];                    /* with many subjects: what stands before the number */
    char inbox[96];                      /* prefix of reply subjects, ends with a dot */
    bool is_shared;                      /* the members form a queue group */
    bool has_replies;                    /* request-reply */
    bool is_event;                       /* messages are events */
    struct esi_bench_group *family;      /* borrowed: the first of those that share their
                                            subscribers; NULL: none do */
    size_t family_count;
    uint64_t confirmed; /* without members: the PONG to a PING behind all below has come */
    uint64_t ping_mark; /* what will be confirmed by the PING on its way */
    uint64_t ping_ns;   /* when it was sent */
    bool is_held;       /* by the window or the socket: until they let it go, the server is late */
    uint64_t free_ns;   /* open loop: when they did the last time */
    char *batch;        /* owned; slot_count copies of one PUB, or of requests the payload alone */
    size_t slot_count;
    size_t slot_bytes;
    size_t payload_at; /* within a slot */
    size_t text_at;    /* of events: the part that is ours, within the payload */
    size_t number_at;  /* with many subjects: of the subject's digits, within a slot */
    bool has_probed;
    bool is_answered;   /* of requesters: the reply to a probe has come */
    uint64_t window;    /* most numbers that may be sent and not yet seen */
    double interval_ns; /* between two messages in open loop; 0: as fast as it goes */
    uint64_t start_ns;  /* of the open loop */
    uint64_t sent;      /* numbers below are sent, or stand in the batch */
    uint64_t target;    /* send no number from here on */
    uint64_t replies;   /* received by the requester, or events by the worker service */
    uint64_t reply_last_ns;
    struct esi_bench_span sent_span;
    struct esi_bench_span replies_span; /* of publishers alone: what is confirmed */
    struct esi_bench_faults faults;     /* without lost, which is known at the end */
};

/*
 * Prepares the group's buffers and clients; connects nothing.
 *   group  zeroed memory of the caller; deinit also after a failure
 *   index  below BENCH_PUBLISHERS_MAX, unique in the run
 * Errors: ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_bench_group_init(struct esi_bench_group *group,
                                             struct esi_bench_link *link,
                                             struct esi_bench_tally *tally, uint64_t index);
void esi_bench_group_deinit(struct esi_bench_group *group);

/* Members with a connection here, those that are to stall included. */
size_t esi_bench_group_client_count(const struct esi_bench_group *group);

/* Appends the SUB of every member and of the requester, each followed by PING, and flushes. */
void esi_bench_group_subscribe(struct esi_bench_group *group);

/* Publishes a message without payload, which tells who is reached; a responder answers it. Only
 * where servers are linked. */
void esi_bench_group_probe(struct esi_bench_group *group);
/* Whether a probe has come to every subscriber; of a queue group: to one. And its reply to the
 * requester: replies may take another link. */
bool esi_bench_group_is_reached(const struct esi_bench_group *group);
/* The subscribers that are to stall stop reading from here on. */
void esi_bench_group_stall(struct esi_bench_group *group);

/* Whether the group can send more at once, must wait for its peers, or until a moment. */
enum esi_bench_push { BENCH_PUSH_MORE, BENCH_PUSH_WAIT, BENCH_PUSH_LATER };

/*
 * Sends what window, target and rate allow, at most one batch.
 *   now_ns   present time
 *   due_ns   written for BENCH_PUSH_LATER: when the next message is due
 */
enum esi_bench_push esi_bench_group_push(struct esi_bench_group *group, uint64_t now_ns,
                                         uint64_t *due_ns);

/* All numbers below were received by everybody who should. */
uint64_t esi_bench_group_base(const struct esi_bench_group *group);

/* Takes the counts at the begin or the end of measuring. */
void esi_bench_group_mark_begin(struct esi_bench_group *group);
void esi_bench_group_mark_end(struct esi_bench_group *group);

/* What went wrong, up to now: what was sent and not received counts as lost. */
struct esi_bench_faults esi_bench_group_faults(const struct esi_bench_group *group);
