/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References to a block are counted in the batch while it works, and settled with one atomic
 * operation a block when it is done. The hot loops are format_run and append_slice.
 */
#include "broker/batch.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "proto/client_writer.h"
#include "proto/gateway_parser.h"
#include "proto/gateway_writer.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAP_RECENT_NS = 2000000000,
    PROGRESS_RECENT_NS = 250000000,
    PAUSE_STEP_NS = 1000000,
    AHEAD_MAX =
        16, /* messages: enough for what they wait for to arrive, few enough to stay there */
    LONE_RUNS_MIN = 8,    /* from so many on it pays to look ahead, */
    AHEAD_SUBS_MIN = 8192 /* and from so many subscriptions on: fewer stay in the caches */
};

struct run_msg {
    struct esi_str reply;
    struct esi_str extra;
    const char *body;
    uint32_t header_len;
    uint32_t total_len;
    bool is_mapped; /* the reply is mapped on the way to links */
};

/* A message whose subject the memory was asked for. */
struct ahead {
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
    struct run_msg run[ESI_BATCH_RUN_MAX];
    struct esi_sub *choice[ESI_BATCH_RUN_MAX]; /* of the group being delivered */
    uint32_t *marks; /* owned; of the match's groups: marks[index] == mark */
    size_t mark_capacity;
    uint32_t mark;
    /* messages that wait for the memory, in order; they come before all that is added later */
    uint32_t ahead_count;
    uint32_t lone_runs; /* how many runs of one message were the last ones */
    struct ahead ahead[AHEAD_MAX];
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

enum es_err esi_batch_new(const struct esi_batch_options *options, struct esi_batch **out)
{
    struct esi_batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL) {
        return ES_NO_MEMORY;
    }
    batch->options = *options;
    batch->random = options->random_seed | 1;
    *out = batch;
    return ES_OK;
}

void esi_batch_free(struct esi_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    ESI_REQUIRE(batch->first == NULL && batch->run_count == 0);
    if (batch->out != NULL) {
        esi_block_unref(batch->out, &batch->options.pools->blocks, 1);
    }
    free(batch->by_target);
    free(batch->marks);
    free(batch);
}

void esi_batch_stats(const struct esi_batch *batch, struct esi_batch_stats *out)
{
    *out = batch->stats;
}

void esi_delivery_free(struct esi_delivery *delivery, uint32_t from, struct esi_batch_pools *pools)
{
    for (uint32_t i = from; i < delivery->slice_count; i++) {
        if (delivery->slices[i].owns_block) {
            esi_block_unref(delivery->slices[i].block, pools != NULL ? &pools->blocks : NULL, 1);
        }
    }
    esi_pool_return(pools != NULL ? &pools->deliveries : NULL, delivery);
}

static uint64_t next_random(struct esi_batch *batch)
{
    /* xorshift64*: the choice among equals needs no more. */
    batch->random ^= batch->random >> 12;
    batch->random ^= batch->random << 25;
    batch->random ^= batch->random >> 27;
    return batch->random * 0x2545f4914f6cdd1dULL;
}

/* There was no memory for messages of this target. */
static void lose(struct esi_batch *batch, struct esi_target *target, uint32_t message_count)
{
    batch->stats.dropped += message_count;
    /* order: relaxed; a count that the target looks at once a turn. */
    atomic_fetch_add_explicit(&target->lost_msgs, message_count, memory_order_relaxed);
}

/* --- the output block --- */

static void settle_out_refs(struct esi_batch *batch)
{
    if (batch->out_refs > 0) {
        esi_block_ref(batch->out, batch->out_refs);
        batch->out_refs = 0;
    }
}

/* Makes room for `bytes` in one piece. Returns the free room, or NULL when memory is exhausted. */
static char *reserve(struct esi_batch *batch, size_t bytes)
{
    if (ESI_LIKELY(batch->out != NULL && batch->out->capacity - batch->out_used >= bytes)) {
        return batch->out->data + batch->out_used;
    }
    struct esi_block *fresh = esi_block_new_sized(&batch->options.pools->blocks, bytes);
    if (fresh == NULL) {
        return NULL;
    }
    if (batch->out != NULL) {
        settle_out_refs(batch);
        esi_block_unref(batch->out, &batch->options.pools->blocks, 1);
    }
    batch->out = fresh;
    batch->out_used = 0;
    return fresh->data;
}

/* --- deliveries --- */

static bool grow_by_target(struct esi_batch *batch, uint32_t slot)
{
    const uint32_t limit = esi_targets_slot_limit(batch->options.targets);
    const uint32_t capacity = (limit > slot ? limit : slot + 1) * 2 + 64;
    struct esi_delivery **grown =
        realloc(batch->by_target, capacity * sizeof(struct esi_delivery *));

    if (grown == NULL) {
        return false;
    }
    memset(grown + batch->by_target_capacity, 0,
           (capacity - batch->by_target_capacity) * sizeof(struct esi_delivery *));
    batch->by_target = grown;
    batch->by_target_capacity = capacity;
    return true;
}

/*
 * A delivery of the target with room for as many slices; NULL when memory is exhausted. A message
 * that goes on in a next slice needs two at once: between two deliveries the target may get one of
 * another worker.
 */
static struct esi_delivery *reach_delivery(struct esi_batch *batch, struct esi_target *target,
                                           uint32_t slices)
{
    if (target->slot >= batch->by_target_capacity && !grow_by_target(batch, target->slot)) {
        return NULL;
    }
    struct esi_delivery *delivery = batch->by_target[target->slot];
    if (ESI_LIKELY(delivery != NULL && delivery->slice_count + slices <= ESI_DELIVERY_SLICES_MAX)) {
        return delivery;
    }
    delivery = esi_pool_take(&batch->options.pools->deliveries);
    if (delivery == NULL) {
        return NULL;
    }
    delivery->msg.next = NULL;
    delivery->target = target;
    delivery->bytes = 0;
    delivery->message_count = 0;
    delivery->slice_count = 0;
    if (batch->last == NULL) {
        batch->first = &delivery->msg;
    } else {
        batch->last->next = &delivery->msg;
    }
    batch->last = &delivery->msg;
    batch->by_target[target->slot] = delivery;
    return delivery;
}

static void count_ref(struct esi_batch *batch, const struct esi_block *block)
{
    if (block == batch->out) {
        batch->out_refs++;
    } else {
        ESI_DEBUG_ASSERT(block == batch->read_block);
        batch->read_refs++;
    }
}

static void append_slice(struct esi_batch *batch, struct esi_target *target,
                         const struct esi_slice *slice)
{
    struct esi_delivery *delivery = reach_delivery(batch, target, slice->is_continued ? 2 : 1);

    if (ESI_UNLIKELY(delivery == NULL)) {
        lose(batch, target, slice->message_count);
        return;
    }
    if (ESI_UNLIKELY(slice->block == batch->read_block) &&
        (delivery->slice_count == 0 || !delivery->slices[delivery->slice_count - 1].is_continued)) {
        /* Memory was exhausted when its line was to be written: no body without a line. */
        lose(batch, target, slice->message_count);
        return;
    }
    delivery->bytes += slice->len;
    delivery->message_count += slice->message_count;
    batch->stats.messages_out += slice->message_count;
    batch->stats.bytes_out += slice->len;
    if (delivery->slice_count > 0) {
        struct esi_slice *previous = &delivery->slices[delivery->slice_count - 1];
        if (previous->block == slice->block) {
            if (previous->data + previous->len == slice->data &&
                previous->sub_slot == slice->sub_slot && !previous->is_record &&
                !slice->is_record && !previous->is_continued && !slice->is_continued) {
                previous->len += slice->len;
                previous->message_count += slice->message_count;
                previous->payload_len += slice->payload_len;
                return;
            }
            /* One reference serves neighbours of one block; the last of them holds it. */
            previous->owns_block = false;
        } else {
            count_ref(batch, slice->block);
        }
    } else {
        count_ref(batch, slice->block);
    }
    struct esi_slice *added = &delivery->slices[delivery->slice_count++];
    *added = *slice;
    added->owns_block = true;
}

/* --- formatting a run --- */

/* Those who get the bytes being formatted. */
struct receivers {
    struct esi_sub *const *subs;
    uint32_t count;
};

/* A payload that is not copied; data NULL: none. */
struct body {
    const char *data;
    size_t len; /* CR LF included */
};

/* Gives a slice to each, and where its last message goes on, the body behind it. Both at once: a
 * target that stands here twice must not get two lines, and then two bodies. */
static void give(struct esi_batch *batch, const struct receivers *receivers,
                 struct esi_slice *slice, const struct body *body)
{
    struct esi_slice rest = {.block = batch->read_block,
                             .data = body->data,
                             .len = (uint32_t)body->len,
                             .message_count = 1,
                             .payload_len = (uint32_t)(body->len - 2)};

    slice->is_continued = body->data != NULL;
    for (uint32_t i = 0; i < receivers->count; i++) {
        const struct esi_sub *sub = receivers->subs[i];
        if (ESI_UNLIKELY(sub->target == batch->self && !batch->echo)) {
            continue;
        }
        slice->sub_slot = sub->slot;
        append_slice(batch, sub->target, slice);
        if (ESI_UNLIKELY(body->data != NULL)) {
            rest.sub_slot = sub->slot;
            append_slice(batch, sub->target, &rest);
        }
    }
}

static const struct body no_body;

/* What stands in the output block and was not given yet. */
struct formatted {
    size_t start;
    uint32_t message_count;
    uint32_t payload_len;
};

/* A line without a reply in the output block, and the sizes that it says; len 0: none. */
struct written_line {
    const char *data;
    size_t len;
    uint32_t header_len;
    uint32_t total_len;
};

/* Most messages of a run have no reply and the same sizes, so the same line: it is copied. */
static inline bool is_line_of(const struct written_line *line, const struct run_msg *msg)
{
    return line->len > 0 && msg->reply.len == 0 && line->total_len == msg->total_len &&
           line->header_len == msg->header_len;
}

static inline char *copy_line(const struct written_line *line, char *at)
{
    memcpy(at, line->data, line->len);
    return at + line->len;
}

static inline void note_line(struct written_line *line, const struct run_msg *msg,
                             const char *start, const char *end)
{
    if (msg->reply.len == 0) {
        line->data = start;
        line->len = (size_t)(end - start);
        line->header_len = msg->header_len;
        line->total_len = msg->total_len;
    }
}

/* Gives what was formatted, if anything, and the body that follows it, if any; what comes then
 * begins anew. */
static void give_formatted(struct esi_batch *batch, const struct receivers *receivers,
                           struct formatted *formatted, const struct body *body)
{
    if (batch->out_used > formatted->start) {
        struct esi_slice slice = {.block = batch->out,
                                  .data = batch->out->data + formatted->start,
                                  .len = (uint32_t)(batch->out_used - formatted->start),
                                  .message_count = formatted->message_count,
                                  .payload_len = formatted->payload_len};
        give(batch, receivers, &slice, body);
    }
    *formatted = (struct formatted){.start = batch->out_used};
}

/* Room for a message behind what is formatted already, which is given first where the block has no
 * more. NULL when memory is exhausted. */
static inline char *reserve_behind(struct esi_batch *batch, const struct receivers *receivers,
                                   struct formatted *formatted, struct written_line *line,
                                   size_t bytes)
{
    if (ESI_UNLIKELY(batch->out == NULL || batch->out->capacity - batch->out_used < bytes)) {
        give_formatted(batch, receivers, formatted, &no_body);
        line->len = 0;
        char *room = reserve(batch, bytes);
        formatted->start = batch->out_used;
        return room;
    }
    return batch->out->data + batch->out_used;
}

/* There is no room for a message of all of these. */
static void lose_for_all(struct esi_batch *batch, const struct receivers *receivers)
{
    for (uint32_t i = 0; i < receivers->count; i++) {
        struct esi_target *target = receivers->subs[i]->target;
        if (target != batch->self || batch->echo) {
            lose(batch, target, 1);
        }
    }
}

/* A message by itself, with what the target must know of it. */
static void format_record(struct esi_batch *batch, const struct receivers *receivers,
                          const struct run_msg *msg, struct esi_str sid, bool has_headers)
{
    const size_t skipped = has_headers ? 0 : msg->header_len;
    const size_t header_len = has_headers ? msg->header_len : 0;
    const size_t total_len = msg->total_len - skipped;
    const bool is_copied = total_len <= ESI_BATCH_COPY_MAX;
    const size_t line_max =
        esi_client_writer_msg_size_max(batch->subject.len, sid.len, msg->reply.len);
    char *at = reserve(batch, msg->extra.len + line_max + (is_copied ? total_len + 2 : 0));

    if (at == NULL) {
        lose_for_all(batch, receivers);
        return;
    }
    if (msg->extra.len > 0) {
        memcpy(at, msg->extra.data, msg->extra.len);
        at += msg->extra.len;
    }
    char *line = at;
    at = esi_client_writer_msg(at, batch->subject, sid, msg->reply, header_len, total_len);
    struct esi_slice slice = {.block = batch->out,
                              .data = line,
                              .message_count = is_copied ? 1 : 0,
                              .payload_len = is_copied ? (uint32_t)total_len : 0,
                              .extra_len = (uint32_t)msg->extra.len,
                              .reply_offset = (uint32_t)(batch->subject.len + sid.len),
                              .reply_len = (uint32_t)msg->reply.len,
                              .is_record = true,
                              .is_from_gateway = batch->source != SOURCE_CLIENT};
    /* "MSG " or "HMSG ", then subject, blank, sid, blank. */
    slice.reply_offset += (header_len > 0 ? 5U : 4U) + 2U;
    if (is_copied) {
        memcpy(at, msg->body + skipped, total_len + 2);
        at += total_len + 2;
    }
    slice.len = (uint32_t)(at - line);
    batch->out_used = (size_t)(at - batch->out->data);
    const struct body body = {.data = msg->body + skipped, .len = total_len + 2};
    give(batch, receivers, &slice, is_copied ? &no_body : &body);
}

/*
 * The hot loop: formats messages of the run for receivers that share flags and sid. `only` limits
 * it to the messages whose chosen member is this one (NULL: all).
 */
static inline __attribute__((always_inline)) void
format_run(struct esi_batch *batch, const struct receivers *receivers, const struct esi_sub *only)
{
    const struct esi_sub *format = receivers->subs[0];
    const bool has_headers = (format->flags & SUB_HEADERS) != 0;
    const bool has_records = (format->flags & SUB_RECORDS) != 0;
    const struct esi_str subject = batch->subject;
    const struct esi_str sid = format->sid;
    struct formatted formatted = {.start = batch->out_used};
    struct written_line line = {.len = 0};

    for (uint32_t i = 0; i < batch->run_count; i++) {
        const struct run_msg *msg = &batch->run[i];
        if (only != NULL && batch->choice[i] != only) {
            continue;
        }
        if (ESI_UNLIKELY(has_records || msg->extra.len > 0)) {
            give_formatted(batch, receivers, &formatted, &no_body);
            format_record(batch, receivers, msg, sid, has_headers);
            formatted.start = batch->out_used;
            line.len = 0; /* it may stand in another block */
            continue;
        }
        const size_t skipped = has_headers ? 0 : msg->header_len;
        const size_t total_len = msg->total_len - skipped;
        const bool is_copied = total_len <= ESI_BATCH_COPY_MAX;
        const size_t needed = esi_client_writer_msg_size_max(subject.len, sid.len, msg->reply.len) +
                              (is_copied ? total_len + 2 : 0);
        char *start = reserve_behind(batch, receivers, &formatted, &line, needed);
        if (ESI_UNLIKELY(start == NULL)) {
            lose_for_all(batch, receivers);
            continue;
        }
        char *at;
        if (is_line_of(&line, msg)) {
            at = copy_line(&line, start);
        } else {
            at = esi_client_writer_msg(start, subject, sid, msg->reply,
                                       has_headers ? msg->header_len : 0, total_len);
            note_line(&line, msg, start, at);
        }
        if (is_copied) {
            memcpy(at, msg->body + skipped, total_len + 2);
            batch->out_used = (size_t)(at - batch->out->data) + total_len + 2;
            formatted.message_count++;
            formatted.payload_len += (uint32_t)total_len;
        } else {
            batch->out_used = (size_t)(at - batch->out->data);
            const struct body body = {.data = msg->body + skipped, .len = total_len + 2};
            give_formatted(batch, receivers, &formatted, &body);
        }
    }
    give_formatted(batch, receivers, &formatted, &no_body);
}

static bool has_same_format(const struct esi_sub *a, const struct esi_sub *b)
{
    return a->flags == b->flags && esi_str_equal(a->sid, b->sid);
}

static void deliver_plain(struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;
    uint32_t first = 0;

    while (first < match->plain_count) {
        uint32_t end = first + 1;
        while (end < match->plain_count &&
               has_same_format(match->plain[first], match->plain[end])) {
            end++;
        }
        const struct receivers receivers = {.subs = &match->plain[first], .count = end - first};
        format_run(batch, &receivers, NULL);
        first = end;
    }
}

static bool may_get(const struct esi_batch *batch, const struct esi_sub *sub)
{
    /* order: relaxed; a hint that saves a message from a connection that is closing. */
    return (batch->echo || sub->target != batch->self) &&
           !atomic_load_explicit(&sub->target->is_gone, memory_order_relaxed);
}

/* As may_get, of a match that has subscriptions with a maximum: what is true is claimed. */
static bool claims(const struct esi_batch *batch, struct esi_sub *sub)
{
    return may_get(batch, sub) && ((sub->flags & SUB_COUNTED) == 0 || esi_sub_claim(sub));
}

/* A member by uniform chance, the next that can be delivered to when it cannot; NULL when none
 * can. */
static inline struct esi_sub *choose_member(struct esi_batch *batch,
                                            const struct esi_match_group *group, bool must_claim)
{
    const uint32_t start = (uint32_t)((next_random(batch) >> 32) * group->member_count >> 32);

    for (uint32_t i = 0; i < group->member_count; i++) {
        const uint32_t index =
            start + i < group->member_count ? start + i : start + i - group->member_count;
        if (must_claim ? claims(batch, group->members[index])
                       : may_get(batch, group->members[index])) {
            return group->members[index];
        }
    }
    return NULL;
}

/* The run to members of a group. Returns how many of it get each message: 1, for all it knows. */
static uint32_t deliver_group(struct esi_batch *batch, const struct esi_match_group *group)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        batch->choice[i] = choose_member(batch, group, false);
    }
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct esi_sub *chosen = batch->choice[i];
        if (chosen == NULL) {
            continue;
        }
        /* All messages of this member at once, so that they stand side by side; then none of them
         * is looked at again. */
        const struct receivers receivers = {.subs = &chosen, .count = 1};
        format_run(batch, &receivers, chosen);
        for (uint32_t j = i; j < batch->run_count; j++) {
            if (batch->choice[j] == chosen) {
                batch->choice[j] = NULL;
            }
        }
    }
    return 1;
}

/* Marks a group of the present match; false when it was marked already. */
static bool mark_group(struct esi_batch *batch, size_t index)
{
    if (index >= batch->mark_capacity) {
        const size_t capacity = batch->match->group_count * (size_t)2;
        uint32_t *marks = realloc(batch->marks, capacity * sizeof *marks);
        if (marks == NULL) {
            batch->stats.dropped++;
            return false;
        }
        memset(marks + batch->mark_capacity, 0, (capacity - batch->mark_capacity) * sizeof *marks);
        batch->marks = marks;
        batch->mark_capacity = capacity;
    }
    const bool is_new = batch->marks[index] != batch->mark;
    batch->marks[index] = batch->mark;
    return is_new;
}

/* What came by a gateway goes to the groups that its line names, once each, however many names and
 * groups there are. Returns the sum of what deliver does. */
static uint32_t deliver_named_groups(struct esi_batch *batch,
                                     uint32_t (*deliver)(struct esi_batch *,
                                                         const struct esi_match_group *))
{
    const struct esi_match *match = batch->match;
    struct esi_str queues = batch->queues;
    struct esi_str queue;
    uint32_t count = 0;

    if (++batch->mark == 0) {
        batch->mark = 1;
        batch->mark_capacity = 0; /* the old marks are cleared as it grows again */
    }
    while (esi_gateway_parser_next_queue(&queues, &queue)) {
        const struct esi_match_group *group = esi_match_cache_find_group(match, queue);
        if (group != NULL && mark_group(batch, (size_t)(group - match->groups))) {
            count += deliver(batch, group);
        }
    }
    return count;
}

/* How messages are written for one link. */
struct link_form {
    struct esi_target *target;
    struct esi_str subject;
    const struct esi_str *queues;
    uint32_t queue_count;
    uint32_t slot;
    bool has_headers;
    bool is_record; /* the link decides about each message */
};

/* The reply as a link's peer must see it. Written to `room`, which has ESI_REPLY_MAP_PREFIX_LEN
 * bytes more. */
static struct esi_str map_reply(const struct esi_batch *batch, const struct run_msg *msg,
                                const struct link_form *form, char *room)
{
    if (msg->extra.len > 0) {
        return msg->extra; /* it came mapped, by another cluster */
    }
    if (!msg->is_mapped) {
        return msg->reply;
    }
    char *end = form->target->old_reply_prefix
                    ? esi_reply_map_write_old(room, &batch->options.cluster, msg->reply)
                    : esi_reply_map_write(room, &batch->options.cluster, &batch->options.server,
                                          msg->reply);
    return (struct esi_str){.data = room, .len = (size_t)(end - room)};
}

static void deliver_link_msg(struct esi_batch *batch, const struct link_form *form,
                             const struct run_msg *msg)
{
    const size_t skipped = form->has_headers ? 0 : msg->header_len;
    const size_t total_len = msg->total_len - skipped;
    const bool is_copied = total_len <= ESI_BATCH_COPY_MAX;
    struct esi_gateway_msg line = {.account = batch->options.account,
                                   .subject = form->subject,
                                   .reply = msg->extra.len > 0 ? msg->extra : msg->reply,
                                   .queues = form->queues,
                                   .queue_count = form->queue_count,
                                   .header_len = form->has_headers ? msg->header_len : 0,
                                   .total_len = total_len};
    const size_t room_len = msg->is_mapped ? ESI_REPLY_MAP_PREFIX_LEN + msg->reply.len : 0;
    const size_t line_max = esi_gateway_writer_msg_size_max(&line) + ESI_REPLY_MAP_PREFIX_LEN;
    char *room = reserve(batch, room_len + line_max + (is_copied ? total_len + 2 : 0));
    if (room == NULL) {
        lose(batch, form->target, 1);
        return;
    }
    line.reply = map_reply(batch, msg, form, room);
    char *start = room + room_len;
    char *at = esi_gateway_writer_msg(start, &line);
    if (is_copied) {
        memcpy(at, msg->body + skipped, total_len + 2);
        at += total_len + 2;
    }
    struct esi_slice slice = {.block = batch->out,
                              .data = start,
                              .len = (uint32_t)(at - start),
                              .sub_slot = form->slot,
                              .message_count = is_copied ? 1 : 0,
                              .payload_len = is_copied ? (uint32_t)total_len : 0,
                              .is_record = form->is_record,
                              .is_continued = !is_copied};
    if (form->is_record && form->queue_count == 0) {
        /* "RMSG ", then account, blank, subject. */
        slice.reply_offset = (uint32_t)(5 + batch->options.account.len + 1);
        slice.reply_len = (uint32_t)form->subject.len;
    }
    batch->out_used = (size_t)(at - batch->out->data);
    append_slice(batch, form->target, &slice);
    if (!is_copied) {
        slice = (struct esi_slice){.block = batch->read_block,
                                   .data = msg->body + skipped,
                                   .len = (uint32_t)(total_len + 2),
                                   .sub_slot = form->slot,
                                   .message_count = 1,
                                   .payload_len = (uint32_t)total_len};
        append_slice(batch, form->target, &slice);
    }
}

/*
 * Plain messages follow each other in one slice; what the link must look at, what has a reply of
 * its own making and what is not copied goes by itself.
 */
static void deliver_link(struct esi_batch *batch, const struct esi_match_link *link)
{
    const struct link_form form = {.target = link->sub->target,
                                   .subject = batch->subject,
                                   .queues = link->queues,
                                   .queue_count = link->queue_count,
                                   .slot = link->sub->slot,
                                   .has_headers = (link->sub->flags & SUB_HEADERS) != 0,
                                   .is_record = (link->sub->flags & SUB_OPTIMISTIC) != 0};
    const struct receivers receivers = {.subs = &link->sub, .count = 1};
    struct esi_gateway_msg fields = {.account = batch->options.account,
                                     .subject = batch->subject,
                                     .queues = link->queues,
                                     .queue_count = link->queue_count};
    const size_t line_max = esi_gateway_writer_msg_size_max(&fields);
    struct formatted formatted = {.start = batch->out_used};
    struct written_line line = {.len = 0};

    for (uint32_t i = 0; i < batch->run_count; i++) {
        const struct run_msg *msg = &batch->run[i];
        const size_t skipped = form.has_headers ? 0 : msg->header_len;
        const size_t total_len = msg->total_len - skipped;
        if (ESI_UNLIKELY(form.is_record || msg->is_mapped || msg->extra.len > 0 ||
                         total_len > ESI_BATCH_COPY_MAX)) {
            give_formatted(batch, &receivers, &formatted, &no_body);
            deliver_link_msg(batch, &form, msg);
            formatted.start = batch->out_used;
            line.len = 0;
            continue;
        }
        char *start = reserve_behind(batch, &receivers, &formatted, &line,
                                     line_max + msg->reply.len + total_len + 2);
        if (ESI_UNLIKELY(start == NULL)) {
            lose(batch, form.target, 1);
            continue;
        }
        char *at;
        if (is_line_of(&line, msg)) {
            at = copy_line(&line, start);
        } else {
            fields.reply = msg->reply;
            fields.header_len = form.has_headers ? msg->header_len : 0;
            fields.total_len = total_len;
            at = esi_gateway_writer_msg(start, &fields);
            note_line(&line, msg, start, at);
        }
        memcpy(at, msg->body + skipped, total_len + 2);
        batch->out_used = (size_t)(at - batch->out->data) + total_len + 2;
        formatted.message_count++;
        formatted.payload_len += (uint32_t)total_len;
    }
    give_formatted(batch, &receivers, &formatted, &no_body);
}

static void flush_run(struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;

    if (batch->run_count == 0) {
        return;
    }
    deliver_plain(batch);
    if (batch->source == SOURCE_GATEWAY) {
        (void)deliver_named_groups(batch, deliver_group);
        batch->run_count = 0;
        return;
    }
    for (uint32_t i = 0; i < match->group_count; i++) {
        (void)deliver_group(batch, &match->groups[i]);
    }
    for (uint32_t i = 0; i < match->link_count; i++) {
        deliver_link(batch, &match->links[i]);
    }
    batch->run_count = 0;
}

/* --- subscriptions with a maximum --- */

/* A message to those who claimed it, all of one format. What is lost counts as not claimed, also
 * for those that got it: a claim too many only hides that nobody receives a message. */
static __attribute__((noinline)) void deliver_claimed(struct esi_batch *batch,
                                                      struct esi_sub *const *subs, uint32_t count)
{
    const struct receivers receivers = {.subs = subs, .count = count};
    const uint64_t dropped = batch->stats.dropped;

    format_run(batch, &receivers, NULL);
    if (ESI_UNLIKELY(batch->stats.dropped != dropped) && (subs[0]->flags & SUB_COUNTED) != 0) {
        for (uint32_t i = 0; i < count; i++) {
            esi_sub_add_claims(subs[i], 1);
        }
    }
}

static uint32_t deliver_plain_claimed(struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;
    uint32_t total = 0;
    uint32_t next = 0;

    while (next < match->plain_count) {
        const struct esi_sub *format = match->plain[next];
        uint32_t count = 0;
        while (next < match->plain_count && count < ESI_BATCH_RUN_MAX &&
               has_same_format(format, match->plain[next])) {
            struct esi_sub *sub = match->plain[next++];
            if (claims(batch, sub)) {
                batch->choice[count++] = sub;
            }
        }
        if (count > 0) {
            deliver_claimed(batch, batch->choice, count);
        }
        total += count;
    }
    return total;
}

static uint32_t deliver_group_claimed(struct esi_batch *batch, const struct esi_match_group *group)
{
    struct esi_sub *chosen = choose_member(batch, group, true);

    if (chosen == NULL) {
        return 0;
    }
    deliver_claimed(batch, &chosen, 1);
    return 1;
}

/*
 * The only message of its run, which has subscriptions with a maximum among its receivers. Its
 * publisher is told right away whether anybody gets it, so they claim it now, and it is formatted
 * now: nobody has to remember who did. Returns how many get it.
 */
static uint32_t deliver_by_claims(struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;
    uint32_t count = deliver_plain_claimed(batch);

    if (batch->source == SOURCE_GATEWAY) {
        count += deliver_named_groups(batch, deliver_group_claimed);
    } else {
        for (uint32_t i = 0; i < match->group_count; i++) {
            count += deliver_group_claimed(batch, &match->groups[i]);
        }
        for (uint32_t i = 0; i < match->link_count; i++) {
            deliver_link(batch, &match->links[i]);
        }
        count += match->link_count;
    }
    batch->run_count = 0;
    return count;
}

/* --- adding --- */

void esi_batch_begin(struct esi_batch *batch, enum esi_publish_source source,
                     struct esi_target *self, bool echo, struct esi_block *block, uint64_t now_ns)
{
    ESI_DEBUG_ASSERT(batch->run_count == 0 && batch->first == NULL);
    batch->source = source;
    batch->self = self;
    batch->echo = echo;
    batch->read_block = block;
    batch->now_ns = now_ns;
    batch->match = NULL;
    if (batch->out != NULL && esi_block_is_unique(batch->out)) {
        /* All targets are done with it: its lines are still in the processor's cache. */
        batch->out_used = 0;
    }
}

struct recent_search {
    uint64_t since_ns;
    bool is_found;
};

static void look_for_recent(void *argument, struct esi_sub *sub)
{
    struct recent_search *search = argument;

    search->is_found |= !sub->target->is_link && sub->created_ns >= search->since_ns;
}

/*
 * A reply whose subscription is so young that its interest may not have reached the other cluster
 * is mapped, so that the answer finds its way home without it (as nats-server does, for two
 * seconds).
 */
static bool must_map(const struct esi_batch *batch, struct esi_str reply)
{
    const uint64_t since_ns = batch->now_ns > MAP_RECENT_NS ? batch->now_ns - MAP_RECENT_NS : 0;

    if (reply.len == 0 || esi_subtable_last_local_ns(batch->options.table) < since_ns) {
        return false;
    }
    struct recent_search search = {.since_ns = since_ns};
    esi_subtable_walk(batch->options.table, reply, esi_hashmap_hash(reply), look_for_recent,
                      &search);
    return search.is_found;
}

static uint32_t count_receivers(const struct esi_batch *batch)
{
    const struct esi_match *match = batch->match;
    uint32_t count = batch->source != SOURCE_GATEWAY ? match->link_count : 0;

    if (match->has_counted) {
        return 0; /* each message is asked about by itself */
    }
    if (batch->echo || batch->self == NULL) {
        return count + match->plain_count + match->group_count;
    }
    for (uint32_t i = 0; i < match->plain_count; i++) {
        count += match->plain[i]->target != batch->self;
    }
    for (uint32_t i = 0; i < match->group_count; i++) {
        for (uint32_t j = 0; j < match->groups[i].member_count; j++) {
            if (match->groups[i].members[j]->target != batch->self) {
                count++;
                break;
            }
        }
    }
    return count;
}

static inline __attribute__((always_inline)) bool continues_run(const struct esi_batch *batch,
                                                                const struct esi_publish *publish)
{
    return batch->match != NULL && batch->run_count < ESI_BATCH_RUN_MAX &&
           !batch->match->has_repeated_target && esi_str_equal(batch->subject, publish->subject) &&
           esi_str_equal(batch->queues, publish->queues) &&
           esi_match_cache_is_current(batch->options.cache, batch->match);
}

/* Begins a run with a message on this subject; false when memory is exhausted. */
static inline bool begin_run(struct esi_batch *batch, const struct esi_publish *publish,
                             uint64_t hash)
{
    batch->lone_runs = batch->run_count > 1 ? 0 : batch->lone_runs + 1;
    flush_run(batch);
    batch->match = esi_match_cache_find_hashed(batch->options.cache, publish->subject, hash);
    batch->subject = publish->subject;
    batch->queues = publish->queues;
    if (batch->match == NULL) {
        batch->stats.dropped++;
        return false;
    }
    batch->receiver_count = count_receivers(batch);
    return true;
}

static inline void put_msg(struct esi_batch *batch, const struct esi_publish *publish)
{
    struct run_msg *msg = &batch->run[batch->run_count++];
    msg->reply = publish->reply;
    msg->extra = publish->extra;
    msg->body = publish->body;
    msg->header_len = (uint32_t)publish->header_len;
    msg->total_len = (uint32_t)publish->total_len;
    msg->is_mapped = batch->match->link_count > 0 && batch->source != SOURCE_GATEWAY &&
                     must_map(batch, publish->reply);
}

static __attribute__((noinline)) uint32_t add_by_claims(struct esi_batch *batch,
                                                        const struct esi_publish *publish)
{
    put_msg(batch, publish);
    return deliver_by_claims(batch);
}

/* Appends to the run, unless nobody gets it. */
static inline uint32_t append_msg(struct esi_batch *batch, const struct esi_publish *publish)
{
    if (batch->receiver_count == 0) {
        return batch->match->has_counted ? add_by_claims(batch, publish) : 0;
    }
    put_msg(batch, publish);
    return batch->receiver_count;
}

/* By now the memory has brought where to look; asks it for what will be found there, and then
 * delivers in order. */
static void settle_ahead(struct esi_batch *batch)
{
    const uint32_t count = batch->ahead_count;

    batch->ahead_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        esi_match_cache_prefetch_places(batch->options.cache, &batch->ahead[i].hint);
    }
    for (uint32_t i = 0; i < count; i++) {
        esi_match_cache_prefetch_found(batch->options.cache, &batch->ahead[i].hint);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct ahead *ahead = &batch->ahead[i];
        if (continues_run(batch, &ahead->publish) ||
            begin_run(batch, &ahead->publish, ahead->hash)) {
            append_msg(batch, &ahead->publish);
        }
    }
}

void esi_batch_settle(struct esi_batch *batch)
{
    if (batch->ahead_count > 0) {
        settle_ahead(batch);
    }
}

/* All that was added is with its targets' deliveries; the next message begins a run. */
static void end_run(struct esi_batch *batch)
{
    esi_batch_settle(batch);
    flush_run(batch);
    batch->match = NULL;
}

/*
 * Where each message has a subject of its own, and there are more than the processor's caches hold,
 * nearly all time would go by waiting for the memory, message by message. So their subjects are
 * looked at some messages ahead. Who has a reply must be told now whether anybody gets it.
 */
static bool looks_ahead(const struct esi_batch *batch, const struct esi_publish *publish)
{
    return batch->lone_runs >= LONE_RUNS_MIN && publish->reply.len == 0 &&
           esi_subtable_count(batch->options.table) >= AHEAD_SUBS_MIN;
}

/* The message waits for the memory, or comes behind others that do. */
static __attribute__((noinline)) uint32_t add_behind(struct esi_batch *batch,
                                                     const struct esi_publish *publish)
{
    const uint64_t hash = esi_hashmap_hash(publish->subject);

    if (looks_ahead(batch, publish)) {
        struct ahead *ahead = &batch->ahead[batch->ahead_count++];
        ahead->publish = *publish;
        ahead->hash = hash;
        ahead->hint.table = (struct esi_subtable_hint){0};
        if (batch->ahead_count > 1) {
            ahead->hint.table = (ahead - 1)->hint.table;
        }
        esi_match_cache_prefetch(batch->options.cache, publish->subject, hash, &ahead->hint);
        if (batch->ahead_count == AHEAD_MAX) {
            settle_ahead(batch);
        }
        return 1;
    }
    settle_ahead(batch);
    if (!continues_run(batch, publish) && !begin_run(batch, publish, hash)) {
        return 1;
    }
    return append_msg(batch, publish);
}

uint32_t esi_batch_add(struct esi_batch *batch, const struct esi_publish *publish)
{
    batch->stats.messages_in++;
    if (ESI_UNLIKELY(batch->ahead_count > 0)) {
        return add_behind(batch, publish);
    }
    if (!continues_run(batch, publish)) {
        if (ESI_UNLIKELY(looks_ahead(batch, publish))) {
            return add_behind(batch, publish);
        }
        if (!begin_run(batch, publish, esi_hashmap_hash(publish->subject))) {
            return 1;
        }
    }
    return append_msg(batch, publish);
}

void esi_batch_set_source(struct esi_batch *batch, enum esi_publish_source source)
{
    if (batch->source != source) {
        /* A run is of one source. */
        end_run(batch);
        batch->source = source;
    }
}

void esi_batch_send_link(struct esi_batch *batch, struct esi_target *target, bool has_headers,
                         const struct esi_publish *publish)
{
    const struct link_form form = {
        .target = target, .subject = publish->subject, .has_headers = has_headers};
    const struct run_msg msg = {.reply = publish->reply,
                                .extra = publish->extra,
                                .body = publish->body,
                                .header_len = (uint32_t)publish->header_len,
                                .total_len = (uint32_t)publish->total_len,
                                .is_mapped = must_map(batch, publish->reply)};

    end_run(batch);
    deliver_link_msg(batch, &form, &msg);
}

void esi_batch_send_text(struct esi_batch *batch, struct esi_target *target, struct esi_str line,
                         struct esi_str body)
{
    end_run(batch);
    char *at = reserve(batch, line.len + body.len);
    if (at == NULL) {
        batch->stats.dropped++;
        return;
    }
    memcpy(at, line.data, line.len);
    if (body.len > 0) {
        memcpy(at + line.len, body.data, body.len);
    }
    struct esi_slice slice = {.block = batch->out,
                              .data = at,
                              .len = (uint32_t)(line.len + body.len),
                              .message_count = 1,
                              .payload_len = (uint32_t)body.len};
    batch->out_used += line.len + body.len;
    append_slice(batch, target, &slice);
}

/* How long the publisher should wait for a target that takes bytes, but has too many waiting. */
static uint64_t hand_over(struct esi_batch *batch, struct esi_delivery *delivery)
{
    struct esi_target *target = delivery->target;
    const uint64_t bytes = delivery->bytes;

    batch->by_target[target->slot] = NULL;
    batch->stats.deliveries++;
    /* order: relaxed; a sum that decides about pauses and slow consumers, nothing is published by
     * it. */
    const uint64_t before =
        atomic_fetch_add_explicit(&target->pending_bytes, bytes, memory_order_relaxed);
    uint64_t pause_ns = 0;
    if (before + bytes > batch->options.pause_bytes) {
        if (target->blocks && before + bytes > batch->options.block_bytes &&
            before + bytes > batch->blocker_bytes) {
            batch->blocker = target;
            batch->blocker_bytes = before + bytes;
        }
        /* order: relaxed; a time that may be a turn old. */
        const uint64_t progress_ns =
            atomic_load_explicit(&target->progress_ns, memory_order_relaxed);
        if (progress_ns + PROGRESS_RECENT_NS > batch->now_ns) {
            pause_ns = (before + bytes) / batch->options.pause_bytes * PAUSE_STEP_NS;
        }
    }
    target->deliver(target, delivery);
    return pause_ns;
}

uint64_t esi_batch_flush(struct esi_batch *batch)
{
    uint64_t pause_ns = 0;

    end_run(batch);
    if (batch->out != NULL) {
        settle_out_refs(batch);
    }
    if (batch->read_refs > 0) {
        esi_block_ref(batch->read_block, batch->read_refs);
        batch->read_refs = 0;
    }
    struct esi_msg *next = batch->first;
    batch->first = NULL;
    batch->last = NULL;
    batch->blocker = NULL;
    batch->blocker_bytes = 0;
    while (next != NULL) {
        struct esi_delivery *delivery = (struct esi_delivery *)(void *)next;
        next = next->next;
        const uint64_t wanted_ns = hand_over(batch, delivery);
        pause_ns = wanted_ns > pause_ns ? wanted_ns : pause_ns;
    }
    return pause_ns < ESI_BATCH_PAUSE_NS_MAX ? pause_ns : ESI_BATCH_PAUSE_NS_MAX;
}

struct esi_target *esi_batch_blocker(const struct esi_batch *batch)
{
    return batch->blocker;
}
