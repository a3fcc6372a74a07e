/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of a batch share: batch.c takes messages, collects them in runs and hands the
 * deliveries over; batch_run.c writes a run for those who get it; batch_output.c keeps what is
 * written, and the deliveries. One thread's.
 */
#pragma once

#include "broker/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Messages: enough for what they wait for to arrive, few enough to stay there. */
enum { ESI_BATCH_AHEAD_MAX = 16 };

/* A message of a run. */
struct esi_batch_msg {
    struct esi_str reply;
    struct esi_str extra;
    const char *body;
    uint32_t header_len;
    uint32_t total_len;
    bool is_mapped; /* the reply is mapped on the way to links */
};

/* A message whose subject the memory was asked for. */
struct esi_batch_ahead {
    struct esi_publish publish;
    uint64_t hash; /* of its subject */
    struct esi_match_hint hint;
};

struct esi_batch {
    struct esi_batch_options options;
    /* the publisher */
    enum esi_publish_source source;
    struct esi_target *self;
    bool echo;
    uint64_t now_ns;
    struct esi_block *read_block; /* borrowed */
    uint32_t read_refs;           /* handed out, not yet counted in the block */
    /* the run */
    const struct esi_match *match;
    struct esi_str subject;
    struct esi_str queues;
    /* of each of its messages; 0 also where each must be asked about, and none is collected */
    uint32_t receiver_count;
    uint32_t run_count;
    uint32_t run_max; /* messages that it may have; 0: there is no match */
    struct esi_batch_msg run[ESI_BATCH_RUN_MAX];
    struct esi_sub *claimed[ESI_BATCH_RUN_MAX]; /* plain ones that claimed its only message */
    /* Of the group being delivered: each member's messages of the run, a chain that begins at
     * chosen[member] and goes on at next[message]; ESI_BATCH_RUN_MAX ends it. */
    uint16_t chosen[ESI_BATCH_RUN_MAX];
    uint16_t next[ESI_BATCH_RUN_MAX];
    uint32_t *marks; /* owned; of the match's groups: marks[index] == mark */
    size_t mark_capacity;
    uint32_t mark;
    /* messages that wait for the memory, in order; they come before all that is added later */
    uint32_t ahead_count;
    uint32_t lone_runs; /* how many runs of one message were the last ones */
    struct esi_batch_ahead ahead[ESI_BATCH_AHEAD_MAX];
    /* the output block */
    struct esi_block *out; /* owned: one reference of our own */
    size_t out_used;
    uint32_t out_refs; /* handed out, not yet counted in the block */
    /* deliveries */
    struct esi_delivery **by_target; /* owned; index: slot */
    uint32_t by_target_capacity;
    struct esi_msg *first;
    struct esi_msg *last;
    struct esi_target *blocker; /* borrowed for the turn; see esi_batch_blocker */
    uint64_t blocker_bytes;
    uint64_t random;
    struct esi_batch_stats stats;
};

/* How messages are written for one link. */
struct esi_batch_link_form {
    struct esi_target *target;
    struct esi_str subject;
    const struct esi_str *queues;
    uint32_t queue_count;
    uint32_t slot;
    bool has_headers;
    bool is_record; /* the link decides about each message */
};

/* --- batch_output.c --- */

/* There was no memory for messages of this target. */
void esi_batch_output_lose(struct esi_batch *batch, struct esi_target *target,
                           uint32_t message_count);
/* Makes room for `bytes` in one piece. Returns the free room behind out_used, or NULL when memory
 * is exhausted. */
char *esi_batch_output_reserve(struct esi_batch *batch, size_t bytes);
/* Appends a slice, copied, to the target's delivery; where there is no memory its messages are
 * lost. */
void esi_batch_output_append(struct esi_batch *batch, struct esi_target *target,
                             const struct esi_slice *slice);
/* Counts the references in the output block that were handed out. */
void esi_batch_output_settle(struct esi_batch *batch);

/* --- batch_run.c --- */

/* Writes the run for all who get it; it is empty then. */
void esi_batch_run_flush(struct esi_batch *batch);
/*
 * The only message of its run, which has subscriptions with a maximum among its receivers: they
 * claim it, and it is written, now. Returns how many get it; the run is empty then.
 */
uint32_t esi_batch_run_deliver_claimed(struct esi_batch *batch);
/* Writes one message for one link. */
void esi_batch_run_send_link(struct esi_batch *batch, const struct esi_batch_link_form *form,
                             const struct esi_batch_msg *msg);
