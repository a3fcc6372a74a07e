/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch of a worker: what one read block of a publisher becomes for its targets.
 *
 * Consecutive messages with the same match form a run. At its end the run is formatted once for
 * each distinct line (same flags, same sid) into the worker's output block, contiguous, and each
 * target gets one slice of it. Large payloads are not copied: they travel as slices of the block
 * they were read into. When the block is done every touched target gets one delivery. A batch never
 * outlives a turn.
 *
 * Order: what one publisher sends reaches one target in that order, whatever subjects and
 * subscriptions it took.
 */
#pragma once

#include "base/block.h"
#include "base/err.h"
#include "base/msg.h"
#include "base/str.h"
#include "broker/match_cache.h"
#include "broker/target.h"
#include "proto/reply_map.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    ESI_DELIVERY_SLICES_MAX = 30,
    ESI_BATCH_RUN_MAX = 256, /* messages of a run */
    ESI_BATCH_PAUSE_NS_MAX = 10000000,
    ESI_BATCH_COPY_MAX = 8192 /* a payload of more bytes travels as a slice of its own */
};

/* A run of bytes for one target. */
struct esi_slice {
    struct esi_block *block;
    const char *data;
    uint32_t len;
    uint32_t sub_slot;      /* the target's number of the subscription; links: 0 */
    uint32_t message_count; /* messages that end in this slice */
    uint32_t payload_len;   /* bytes of headers and payloads in it: what is counted as traffic */
    uint32_t extra_len;     /* record: mapped reply that stands right before data, 0: none */
    /* record: where the reply stands in data; of a link: where the subject stands */
    uint32_t reply_offset;
    /* record: 0: none; of a link: 0: groups are named, the message must not be left out */
    uint32_t reply_len;
    bool owns_block;      /* holds the reference for itself and the slices before it */
    bool is_record;       /* one whole message's beginning, for a subscription with SUB_RECORDS */
    bool is_continued;    /* the message goes on in the next slice, of the same delivery */
    bool is_from_gateway; /* record: another cluster sent it */
};

/* What one batch brings to one target. Comes from a pool of its own size; see esi_delivery_free. */
struct esi_delivery {
    struct esi_msg msg; /* first; the target's deliver function fills it */
    struct esi_target *target;
    uint64_t bytes; /* sum of the slices */
    uint64_t message_count;
    uint32_t slice_count;
    struct esi_slice slices[ESI_DELIVERY_SLICES_MAX];
};

/* The pools that deliveries and blocks come from and go to: one worker's. */
struct esi_batch_pools {
    struct esi_pool blocks;
    struct esi_pool deliveries;
    /* owned reference: where lines of our own to all the worker's peers stand; NULL: none yet */
    struct esi_block *text;
    size_t text_used;
};

/* Gives up the block references of a delivery's slices from `from` on, and the delivery itself.
 * pools NULL: to the system. */
void esi_delivery_free(struct esi_delivery *delivery, uint32_t from, struct esi_batch_pools *pools);

/* Where a message comes from decides who may get it. */
enum esi_publish_source {
    SOURCE_CLIENT,       /* all: local subscriptions, groups, links */
    SOURCE_GATEWAY,      /* local subscriptions and the named groups; never another link */
    SOURCE_GATEWAY_REPLY /* a mapped reply that came home: local, all groups, and links */
};

/* One message. All strings are borrowed until the next flush, body lies in `block`. */
struct esi_publish {
    struct esi_str subject;
    struct esi_str reply; /* empty: none; what subscribers see */
    /* the mapped form of reply that the receiving client's answers must go to; empty: none */
    struct esi_str extra;
    struct esi_str queues; /* SOURCE_GATEWAY: the groups named, with blanks between */
    const char *body;      /* header_len bytes of header, payload, CR LF */
    size_t header_len;
    size_t total_len; /* header and payload */
};

struct esi_batch;

struct esi_batch_options {
    const struct esi_subtable *table;
    const struct esi_targets *targets;
    struct esi_match_cache *cache;     /* borrowed; the worker's */
    struct esi_batch_pools *pools;     /* borrowed; the worker's */
    struct esi_reply_map_hash cluster; /* for replies mapped on the way to links */
    struct esi_reply_map_hash server;
    struct esi_str account; /* borrowed: the account's name on links */
    uint64_t random_seed;
    uint64_t pause_bytes; /* a target with more waiting makes its publisher pause */
    uint64_t block_bytes; /* one that blocks and has more waiting holds its publishers back */
};

ES_MUST_USE enum es_err esi_batch_new(const struct esi_batch_options *options,
                                      struct esi_batch **out);
void esi_batch_free(struct esi_batch *batch);

/*
 * Begins with messages from one source.
 *   source      who publishes
 *   self        the publisher's own target, which gets nothing when !echo; NULL: none
 *   block       where bodies lie; borrowed until the flush
 *   now_ns      of the turn
 */
void esi_batch_begin(struct esi_batch *batch, enum esi_publish_source source,
                     struct esi_target *self, bool echo, struct esi_block *block, uint64_t now_ns);
/*
 * Adds a message. Returns how many will get it: 0 means nobody (no responders); this is right for
 * messages with a reply, others may be looked up later. When memory is
 * exhausted a message is dropped and counted, also for each target that should have had it
 * (lost_msgs), which must then not go on as if nothing were missing.
 */
uint32_t esi_batch_add(struct esi_batch *batch, const struct esi_publish *publish);
/* What was added is looked up: what is subscribed from here on does not get it. */
void esi_batch_settle(struct esi_batch *batch);
/*
 * Formats what is left and hands every delivery over. Returns for how long the publisher should
 * pause, in nanoseconds, at most ESI_BATCH_PAUSE_NS_MAX: 0, unless a target that is taking bytes
 * has more than pause_bytes waiting; then a millisecond for each time that they fit into what
 * waits, so that a publisher is slowed down to what its target takes.
 */
uint64_t esi_batch_flush(struct esi_batch *batch);

/*
 * The target that the last flush found above block_bytes, of those that block: the publisher must
 * not go on before it has taken some of it. NULL: none. Borrowed for the turn: who looks at it
 * later takes a reference.
 */
struct esi_target *esi_batch_blocker(const struct esi_batch *batch);

struct esi_batch_stats {
    uint64_t messages_in;
    uint64_t messages_out;
    uint64_t bytes_out;
    uint64_t deliveries;
    uint64_t dropped; /* memory was exhausted */
};
void esi_batch_stats(const struct esi_batch *batch, struct esi_batch_stats *out);

/* What is added from here on comes from another source; the publisher and its block stay the
 * same. */
void esi_batch_set_source(struct esi_batch *batch, enum esi_publish_source source);
/*
 * Adds a message for one gateway link alone, whatever its interest: an answer on a mapped subject.
 * A fresh reply is mapped as by esi_batch_add. Thread: the batch's worker.
 */
void esi_batch_send_link(struct esi_batch *batch, struct esi_target *target, bool has_headers,
                         const struct esi_publish *publish);
