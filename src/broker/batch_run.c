/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A run for those who get it: formatted once for each distinct line, contiguous, and given to each
 * receiver as one slice; groups choose a member for each message, links get lines of their own. The
 * hot loop is format_run. A target gets the messages in the order of the run.
 */
#include "base/own.h"
#include "broker/batch_internal.h"
#include "proto/client_writer.h"
#include "proto/gateway_parser.h"
#include "proto/gateway_writer.h"

#include <stdlib.h>
#include <string.h>

/* --- clients --- */

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
        esi_batch_output_append(batch, sub->target, slice);
        if (ESI_UNLIKELY(body->data != NULL)) {
            rest.sub_slot = sub->slot;
            esi_batch_output_append(batch, sub->target, &rest);
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
static inline bool is_line_of(const struct written_line *line, const struct esi_batch_msg *msg)
{
    return line->len > 0 && msg->reply.len == 0 && line->total_len == msg->total_len &&
           line->header_len == msg->header_len;
}

static inline char *copy_line(const struct written_line *line, char *at)
{
    memcpy(at, line->data, line->len);
    return at + line->len;
}

static inline void note_line(struct written_line *line, const struct esi_batch_msg *msg,
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
        char *room = esi_batch_output_reserve(batch, bytes);
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
            esi_batch_output_lose(batch, target, 1);
        }
    }
}

/* A message by itself, with what the target must know of it. */
static void format_record(struct esi_batch *batch, const struct receivers *receivers,
                          const struct esi_batch_msg *msg, struct esi_str sid, bool has_headers)
{
    const size_t skipped = has_headers ? 0 : msg->header_len;
    const size_t header_len = has_headers ? msg->header_len : 0;
    const size_t total_len = msg->total_len - skipped;
    const bool is_copied = total_len <= ESI_BATCH_COPY_MAX;
    const size_t line_max =
        esi_client_writer_msg_size_max(batch->subject.len, sid.len, msg->reply.len);
    char *at = esi_batch_output_reserve(batch, msg->extra.len + line_max +
                                                   (is_copied ? total_len + 2 : 0));

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

/* The run's messages from `first` on: all of them, or a chain. */
struct messages {
    uint32_t first;
    const uint16_t *next; /* NULL: all */
};

static const struct messages all_messages = {.first = 0, .next = NULL};

/* The hot loop: formats messages of the run for receivers that share flags and sid. */
static inline __attribute__((always_inline)) void format_run(struct esi_batch *batch,
                                                             const struct receivers *receivers,
                                                             const struct messages messages)
{
    const struct esi_sub *format = receivers->subs[0];
    const bool has_headers = (format->flags & SUB_HEADERS) != 0;
    const bool has_records = (format->flags & SUB_RECORDS) != 0;
    const struct esi_str subject = batch->subject;
    const struct esi_str sid = format->sid;
    struct formatted formatted = {.start = batch->out_used};
    struct written_line line = {.len = 0};

    for (uint32_t i = messages.first; i < batch->run_count;
         i = messages.next != NULL ? messages.next[i] : i + 1) {
        const struct esi_batch_msg *msg = &batch->run[i];
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
        format_run(batch, &receivers, all_messages);
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

static uint64_t next_random(struct esi_batch *batch)
{
    /* xorshift64*: the choice among equals needs no more. */
    batch->random ^= batch->random >> 12;
    batch->random ^= batch->random << 25;
    batch->random ^= batch->random >> 27;
    return batch->random * 0x2545f4914f6cdd1dULL;
}

/* The index of a member by uniform chance, of the next that can be delivered to when it cannot;
 * member_count when none can. */
static inline uint32_t choose_member(struct esi_batch *batch, const struct esi_match_group *group,
                                     bool must_claim)
{
    const uint32_t start = (uint32_t)((next_random(batch) >> 32) * group->member_count >> 32);

    for (uint32_t i = 0; i < group->member_count; i++) {
        const uint32_t index =
            start + i < group->member_count ? start + i : start + i - group->member_count;
        if (must_claim ? claims(batch, group->members[index])
                       : may_get(batch, group->members[index])) {
            return index;
        }
    }
    return group->member_count;
}

/* A chain of the run's messages to one member. A function of its own: the hot loop then has all
 * registers to itself. */
static __attribute__((noinline)) void format_chain(struct esi_batch *batch, struct esi_sub *member,
                                                   uint32_t first)
{
    const struct receivers receivers = {.subs = &member, .count = 1};

    format_run(batch, &receivers, (struct messages){.first = first, .next = batch->next});
}

/* So many members that hardly one gets two messages of the run: chains would not pay. */
static bool is_large(const struct esi_batch *batch, const struct esi_match_group *group)
{
    return group->member_count > ESI_BATCH_RUN_MAX || group->member_count > 2 * batch->run_count;
}

static void deliver_large_group(struct esi_batch *batch, const struct esi_match_group *group)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        const uint32_t member = choose_member(batch, group, false);
        if (member < group->member_count) {
            batch->next[i] = ESI_BATCH_RUN_MAX;
            format_chain(batch, group->members[member], i);
        }
    }
}

/* The run to members of a group, what each gets side by side. Returns how many of it get each
 * message: 1, for all it knows. */
static uint32_t deliver_group(struct esi_batch *batch, const struct esi_match_group *group)
{
    if (is_large(batch, group)) {
        deliver_large_group(batch, group);
        return 1;
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        batch->chosen[i] = ESI_BATCH_RUN_MAX;
    }
    /* From the end on, so that a chain begins with the first of its messages. */
    for (uint32_t i = batch->run_count; i-- > 0;) {
        const uint32_t member = choose_member(batch, group, false);
        if (member < group->member_count) {
            batch->next[i] = batch->chosen[member];
            batch->chosen[member] = (uint16_t)i;
        }
    }
    for (uint32_t i = 0; i < group->member_count; i++) {
        if (batch->chosen[i] < ESI_BATCH_RUN_MAX) {
            format_chain(batch, group->members[i], batch->chosen[i]);
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
        const struct esi_match_group *group = esi_match_find_group(match, queue);
        if (group != NULL && mark_group(batch, (size_t)(group - match->groups))) {
            count += deliver(batch, group);
        }
    }
    return count;
}

/* The reply as a link's peer must see it. Written to `room`, which has ESI_REPLY_MAP_PREFIX_LEN
 * bytes more. */
static struct esi_str map_reply(const struct esi_batch *batch, const struct esi_batch_msg *msg,
                                const struct esi_batch_link_form *form, char *room)
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

void esi_batch_run_send_link(struct esi_batch *batch, const struct esi_batch_link_form *form,
                             const struct esi_batch_msg *msg)
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
    char *room =
        esi_batch_output_reserve(batch, room_len + line_max + (is_copied ? total_len + 2 : 0));
    if (room == NULL) {
        esi_batch_output_lose(batch, form->target, 1);
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
    esi_batch_output_append(batch, form->target, &slice);
    if (!is_copied) {
        slice = (struct esi_slice){.block = batch->read_block,
                                   .data = msg->body + skipped,
                                   .len = (uint32_t)(total_len + 2),
                                   .sub_slot = form->slot,
                                   .message_count = 1,
                                   .payload_len = (uint32_t)total_len};
        esi_batch_output_append(batch, form->target, &slice);
    }
}

/*
 * Plain messages follow each other in one slice; what the link must look at, what has a reply of
 * its own making and what is not copied goes by itself.
 */
static void deliver_link(struct esi_batch *batch, const struct esi_match_link *link)
{
    const struct esi_batch_link_form form = {.target = link->sub->target,
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
        const struct esi_batch_msg *msg = &batch->run[i];
        const size_t skipped = form.has_headers ? 0 : msg->header_len;
        const size_t total_len = msg->total_len - skipped;
        if (ESI_UNLIKELY(form.is_record || msg->is_mapped || msg->extra.len > 0 ||
                         total_len > ESI_BATCH_COPY_MAX)) {
            give_formatted(batch, &receivers, &formatted, &no_body);
            esi_batch_run_send_link(batch, &form, msg);
            formatted.start = batch->out_used;
            line.len = 0;
            continue;
        }
        char *start = reserve_behind(batch, &receivers, &formatted, &line,
                                     line_max + msg->reply.len + total_len + 2);
        if (ESI_UNLIKELY(start == NULL)) {
            esi_batch_output_lose(batch, form.target, 1);
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

void esi_batch_run_flush(struct esi_batch *batch)
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

    format_run(batch, &receivers, all_messages);
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
                batch->claimed[count++] = sub;
            }
        }
        if (count > 0) {
            deliver_claimed(batch, batch->claimed, count);
        }
        total += count;
    }
    return total;
}

static uint32_t deliver_group_claimed(struct esi_batch *batch, const struct esi_match_group *group)
{
    const uint32_t member = choose_member(batch, group, true);

    if (member == group->member_count) {
        return 0;
    }
    deliver_claimed(batch, &group->members[member], 1);
    return 1;
}

/*
 * The only message of its run, which has subscriptions with a maximum among its receivers. Its
 * publisher is told right away whether anybody gets it, so they claim it now, and it is formatted
 * now: nobody has to remember who did. Returns how many get it.
 */
uint32_t esi_batch_run_deliver_claimed(struct esi_batch *batch)
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
