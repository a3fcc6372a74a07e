/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The batch is made once: as many copies of the same PUB as fit 64 KiB, as the buffers of common
 * clients do. Sending then means to write number and time into each copy and the whole with one
 * system call.
 */
#include "event_bench/bench_group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/num.h"
#include "event_bench/bench_payload.h"

enum {
    BATCH_BYTES = 64 * 1024,
    WINDOW_MIN = 2,
    SUBJECT_DIGITS = 7 /* BENCH_SUBJECTS_MAX has as many */
};

static const char queue_name[] = "event-bench";

/* The number of the subject that a message goes to: any mixing will do, but receivers must come to
 * the same. */
static uint64_t subject_number(const struct esi_bench_group *group, uint64_t sequence)
{
    const uint64_t mixed = (sequence + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return (mixed ^ mixed >> 32) % group->link->options->subjects;
}

static void write_subject_number(char *at, uint64_t number)
{
    for (int i = SUBJECT_DIGITS - 1; i >= 0; i--) {
        at[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* Receiving. */

/* Head, tail and address of a message. Returns false, after counting, when something is wrong. */
static bool inspect(struct esi_bench_group *group, const struct esi_bench_frame *message,
                    uint64_t *sequence)
{
    const struct esi_bench_options *options = group->link->options;
    const char *payload = message->payload.data;
    const size_t size = message->payload.len;

    if (size != options->size_bytes || !esi_bench_payload_is_whole(payload, size)) {
        group->faults.damaged++;
        return false;
    }
    if (options->check_payload) {
        const size_t tail = esi_bench_payload_has_tail(size) ? BENCH_TAIL_BYTES : 0;
        const char *pattern = group->batch + group->payload_at;
        if (memcmp(payload + BENCH_HEAD_BYTES, pattern + BENCH_HEAD_BYTES,
                   size - BENCH_HEAD_BYTES - tail) != 0) {
            group->faults.damaged++;
            return false;
        }
    }
    const uint64_t word = esi_bench_payload_read_u64(payload);
    *sequence = esi_bench_payload_sequence(word);
    if (esi_bench_payload_publisher(word) != group->index || *sequence >= group->sent) {
        group->faults.misrouted++;
        return false;
    }
    return true;
}

static void record_latency(struct esi_bench_group *group, const char *payload)
{
    const uint64_t sent_ns = esi_bench_payload_read_u64(payload + sizeof(uint64_t));
    const uint64_t now_ns = group->link->now_ns;

    /* In open loop a batch may be sent a little before the intended time of its last message. */
    esi_histogram_record(&group->tally->latency_ns, now_ns > sent_ns ? now_ns - sent_ns : 0);
}

static bool is_for_number(const struct esi_bench_group *group,
                          const struct esi_bench_frame *message, uint64_t number)
{
    const size_t prefix = strlen(group->subject);
    char digits[SUBJECT_DIGITS];
    uint64_t sid;

    write_subject_number(digits, number);
    return esi_num_parse(message->sid.data, message->sid.len, 10, &sid) && sid == number + 1 &&
           message->subject.len == prefix + SUBJECT_DIGITS &&
           memcmp(message->subject.data, group->subject, prefix) == 0 &&
           memcmp(message->subject.data + prefix, digits, SUBJECT_DIGITS) == 0;
}

/* The general parser tells subject and sid; the short way has compared them already. */
static bool is_for(const struct esi_bench_member *member, const struct esi_bench_frame *message,
                   uint64_t sequence)
{
    const struct esi_bench_group *group = member->group;

    if (group->number_at != 0) {
        return is_for_number(group, message, subject_number(group, sequence));
    }
    return message->sid.data == NULL ||
           (esi_str_equal(message->sid, esi_str_from(member->sid)) &&
            esi_str_equal(message->subject, esi_str_from(group->subject)));
}

/* Of a family: what the publisher's group knows of the same subscriber. Damaged heads stay here. */
static struct esi_bench_member *sibling_of(struct esi_bench_member *member,
                                           const struct esi_bench_frame *message)
{
    const struct esi_bench_group *family = member->group->family;

    if (message->payload.len < BENCH_HEAD_BYTES) {
        return member;
    }
    const uint64_t publisher =
        esi_bench_payload_publisher(esi_bench_payload_read_u64(message->payload.data));
    return publisher < member->group->family_count
               ? &family[publisher].members[member - family[0].members]
               : member;
}

/* Counts a message to a member. Returns true when it is a new one of ours. */
static bool account(struct esi_bench_member *member, const struct esi_bench_frame *message)
{
    struct esi_bench_group *group = member->group;
    uint64_t sequence;

    if (group->family != NULL) {
        member = sibling_of(member, message);
        group = member->group;
    }
    if (group->has_probed && message->payload.len == 0) {
        member->is_reached = true;
        return false;
    }
    if (!inspect(group, message, &sequence)) {
        return false;
    }
    if (!is_for(member, message, sequence)) {
        group->faults.misrouted++;
        return false;
    }
    const enum esi_bench_seen seen =
        esi_bench_check_see(group->is_shared ? &group->shared_check : &member->check, sequence);
    if (group->is_shared && seen != BENCH_SEEN_AGAIN) {
        /* The members may be out of step with each other, but each sees the publisher's order. */
        if (sequence < member->next) {
            group->faults.reordered++;
        } else {
            member->next = sequence + 1;
        }
    }
    member->received++;
    member->last_ns = group->link->now_ns;
    group->tally->delivered++;
    return seen != BENCH_SEEN_AGAIN;
}

static void on_delivery(struct esi_bench_client *client, const struct esi_bench_frame *message)
{
    struct esi_bench_member *member = client->owner;

    if (account(member, message) && member->group->tally->is_measuring) {
        record_latency(member->group, message->payload.data);
    }
}

static void append_publish(struct esi_bytes *out, struct esi_str subject, struct esi_str reply,
                           struct esi_str payload)
{
    char digits[20];

    esi_bytes_append(out, "PUB ", 4);
    esi_bytes_append_str(out, subject);
    if (reply.len > 0) {
        esi_bytes_append(out, " ", 1);
        esi_bytes_append_str(out, reply);
    }
    esi_bytes_append(out, " ", 1);
    esi_bytes_append(out, digits, esi_num_format(payload.len, digits));
    esi_bytes_append(out, "\r\n", 2);
    esi_bytes_append_str(out, payload);
    esi_bytes_append(out, "\r\n", 2);
}

static void on_request(struct esi_bench_client *client, const struct esi_bench_frame *message)
{
    struct esi_bench_member *member = client->owner;

    const bool is_probe = member->group->has_probed && message->payload.len == 0;
    if (account(member, message) || is_probe) {
        if (message->reply.len == 0) {
            esi_bench_client_fail(client->link, "a request came without its reply subject");
            return;
        }
        append_publish(&client->out, message->reply, (struct esi_str){0}, message->payload);
    }
}

/* A reply to a probe; or that nobody has got it, since interest was not known yet. */
static bool take_probe_reply(struct esi_bench_group *group, const struct esi_bench_frame *message)
{
    if (!group->has_probed || message->payload.len > 0) {
        return false;
    }
    if (message->header.len > 0) {
        return !group->is_answered;
    }
    group->is_answered = true;
    return true;
}

static void on_reply(struct esi_bench_client *client, const struct esi_bench_frame *message)
{
    struct esi_bench_group *group = client->owner;
    uint64_t sequence;

    if (take_probe_reply(group, message)) {
        return;
    }
    if (message->header.len > 0) {
        esi_bench_client_fail(client->link, "a request was answered by the status \"%.*s\"",
                              (int)(message->header.len < 40 ? message->header.len : 40),
                              message->header.data);
        return;
    }
    if (!esi_str_equal(message->sid, ESI_STR("1")) ||
        !esi_str_starts_with(message->subject, esi_str_from(group->inbox))) {
        group->faults.misrouted++;
        return;
    }
    if (!inspect(group, message, &sequence)) {
        return;
    }
    const enum esi_bench_seen seen = esi_bench_check_see(&group->reply_check, sequence);
    if (seen == BENCH_SEEN_LATE && !group->is_shared) {
        group->faults.reordered++; /* one responder answers in order */
    }
    group->replies++;
    group->reply_last_ns = client->link->now_ns;
    group->tally->delivered++;
    if (group->tally->is_measuring) {
        record_latency(group, message->payload.data);
    }
}

static void on_nothing(struct esi_bench_client *client, const struct esi_bench_frame *message)
{
    struct esi_bench_group *group = client->owner;

    (void)message;
    group->faults.misrouted++; /* a publisher has no subscription */
}

/* Sending. */

/* Whether nobody gets what is sent: then PONGs confirm it. */
static bool is_alone(const struct esi_bench_group *group)
{
    return group->member_count == 0 && !group->is_event;
}

uint64_t esi_bench_group_base(const struct esi_bench_group *group)
{
    if (is_alone(group)) {
        return group->source.pongs_due == 0 ? group->ping_mark : group->confirmed;
    }
    if (group->has_replies) {
        return group->reply_check.base;
    }
    if (group->is_shared) {
        return group->shared_check.base;
    }
    uint64_t base = UINT64_MAX;
    for (size_t i = 0; i < group->member_count; i++) {
        const uint64_t own = group->members[i].check.base;
        base = own < base ? own : base;
    }
    return base;
}

/* In open loop: how many more are due. */
static uint64_t count_due(const struct esi_bench_group *group, uint64_t now_ns, uint64_t *due_ns)
{
    if (now_ns < group->start_ns) {
        *due_ns = group->start_ns;
        return 0;
    }
    const double passed = (double)(now_ns - group->start_ns) / group->interval_ns;
    const uint64_t due = (uint64_t)passed + 1;
    if (due <= group->sent) {
        *due_ns = group->start_ns + (uint64_t)((double)group->sent * group->interval_ns) + 1;
        return 0;
    }
    return due - group->sent;
}

static uint64_t intended_ns(const struct esi_bench_group *group, uint64_t sequence, uint64_t now_ns)
{
    if (group->interval_ns <= 0) {
        return now_ns;
    }
    return group->start_ns + (uint64_t)((double)sequence * group->interval_ns);
}

/* Window and socket have room again. */
static void let_go(struct esi_bench_group *group, uint64_t now_ns)
{
    if (group->is_held) {
        group->is_held = false;
        group->free_ns = now_ns;
    }
}

/*
 * Open loop: what the generator is late by itself. A message could be sent when it was due and
 * nothing held it: time before that is the server's, also of all that has piled up meanwhile.
 */
static void note_lateness(struct esi_bench_group *group, uint64_t count, uint64_t now_ns)
{
    if (group->interval_ns <= 0 || !group->tally->is_measuring) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t due_ns = intended_ns(group, group->sent + i, now_ns);
        const uint64_t possible_ns = due_ns > group->free_ns ? due_ns : group->free_ns;
        esi_histogram_record(&group->tally->late_ns,
                             now_ns > possible_ns ? now_ns - possible_ns : 0);
    }
}

/* An event says the same as a plain message, in digits. */
static void stamp_event(const struct esi_bench_group *group, char *payload, uint64_t sequence,
                        uint64_t sent_ns)
{
    esi_bench_payload_stamp_text(payload + group->text_at,
                                 group->link->options->size_bytes - group->text_at,
                                 esi_bench_payload_word(group->index, sequence), sent_ns);
}

/* A PING behind what has been sent, one at a time; see esi_bench_group_base. */
static void confirm(struct esi_bench_group *group, uint64_t now_ns)
{
    struct esi_bench_client *source = &group->source;

    if (source->pongs_due > 0) {
        return;
    }
    if (group->confirmed < group->ping_mark) {
        if (group->tally->is_measuring) {
            esi_histogram_record(&group->tally->latency_ns, now_ns - group->ping_ns);
        }
        group->tally->delivered += group->ping_mark - group->confirmed;
        group->confirmed = group->ping_mark;
    }
    if (group->sent > group->confirmed && !esi_bench_client_is_busy(source)) {
        group->ping_mark = group->sent;
        group->ping_ns = now_ns;
        esi_bench_client_ping(source);
        esi_bench_client_flush(source);
    }
}

static void send_batch(struct esi_bench_group *group, uint64_t count, uint64_t now_ns)
{
    const size_t size = group->link->options->size_bytes;

    for (uint64_t i = 0; i < count; i++) {
        char *payload = group->batch + i * group->slot_bytes + group->payload_at;
        const uint64_t sequence = group->sent + i;
        if (group->is_event) {
            stamp_event(group, payload, sequence, intended_ns(group, sequence, now_ns));
            continue;
        }
        esi_bench_payload_stamp(payload, size, esi_bench_payload_word(group->index, sequence),
                                intended_ns(group, sequence, now_ns));
        if (group->number_at != 0) {
            write_subject_number(group->batch + i * group->slot_bytes + group->number_at,
                                 subject_number(group, sequence));
        }
    }
    group->sent += count;
    esi_bench_client_lend(&group->source, group->batch, count * group->slot_bytes);
}

static void send_requests(struct esi_bench_group *group, uint64_t count, uint64_t now_ns)
{
    const size_t size = group->link->options->size_bytes;
    const struct esi_str payload = {.data = group->batch, .len = size};
    const size_t prefix = strlen(group->inbox);
    char reply[sizeof group->inbox + 20];

    memcpy(reply, group->inbox, prefix);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t sequence = group->sent++;
        esi_bench_payload_stamp(group->batch, size, esi_bench_payload_word(group->index, sequence),
                                intended_ns(group, sequence, now_ns));
        const size_t digits = esi_num_format(sequence, reply + prefix);
        append_publish(&group->source.out, esi_str_from(group->subject),
                       (struct esi_str){.data = reply, .len = prefix + digits}, payload);
    }
}

enum esi_bench_push esi_bench_group_push(struct esi_bench_group *group, uint64_t now_ns,
                                         uint64_t *due_ns)
{
    struct esi_bench_client *source = &group->source;

    if (is_alone(group)) {
        confirm(group, now_ns);
    }
    if (esi_bench_client_is_busy(source) || group->sent >= group->target) {
        group->is_held = true;
        return BENCH_PUSH_WAIT;
    }
    const uint64_t room = group->window - (group->sent - esi_bench_group_base(group));
    const uint64_t left = group->target - group->sent;
    uint64_t count = group->slot_count;
    if (group->interval_ns > 0) {
        const uint64_t due = count_due(group, now_ns, due_ns);
        if (due == 0) {
            let_go(group, now_ns);
            return BENCH_PUSH_LATER;
        }
        count = due < count ? due : count;
    }
    count = left < count ? left : count;
    /* Batches cut to what little room the window has left would cost both sides a system call each;
     * requests are meant to be sent one by one. */
    const uint64_t half = group->window / 2;
    const uint64_t least = group->has_replies ? 1 : count < half ? count : half;
    if (room < least || room == 0) {
        group->is_held = true;
        return BENCH_PUSH_WAIT;
    }
    count = room < count ? room : count;
    let_go(group, now_ns);
    note_lateness(group, count, now_ns);
    if (group->has_replies) {
        send_requests(group, count, now_ns);
    } else {
        send_batch(group, count, now_ns);
    }
    esi_bench_client_flush(source);
    group->is_held = esi_bench_client_is_busy(source);
    return group->is_held ? BENCH_PUSH_WAIT : BENCH_PUSH_MORE;
}

/* Setting up and counting. */

static enum es_err make_batch(struct esi_bench_group *group)
{
    const size_t size = group->link->options->size_bytes;
    char line[160] = "";

    if (!group->has_replies) {
        const bool is_numbered = group->link->options->subjects > 1;
        group->text_at = group->is_event ? esi_bench_payload_event_head(NULL, size) : 0;
        const bool is_raw = group->link->options->is_raw;
        group->payload_at = (size_t)snprintf(line, sizeof line, "%s %s%s %zu\r\n",
                                             is_raw ? "MSG" : "PUB", group->subject,
                                             is_raw        ? " 1"
                                             : is_numbered ? "0000000"
                                                           : "",
                                             size);
        ESI_ASSERT(group->payload_at < sizeof line);
        group->number_at = is_numbered ? strlen("PUB ") + strlen(group->subject) : 0;
    }
    group->slot_bytes = group->payload_at + size + 2;
    group->slot_count = group->slot_bytes < BATCH_BYTES ? BATCH_BYTES / group->slot_bytes : 1;
    const uint64_t window = group->link->options->window_bytes / group->slot_bytes;
    group->window = window > WINDOW_MIN ? window : WINDOW_MIN;
    if (group->has_replies) {
        group->window = group->link->options->in_flight;
        group->slot_count = group->link->options->in_flight;
    }
    if (group->is_event) {
        group->window = group->link->options->in_flight;
        group->slot_count = group->slot_count < group->window ? group->slot_count : group->window;
    }
    const size_t copies = group->has_replies ? 1 : group->slot_count;
    group->batch = malloc(copies * group->slot_bytes);
    if (group->batch == NULL) {
        return ES_NO_MEMORY;
    }
    for (size_t i = 0; i < copies; i++) {
        char *slot = group->batch + i * group->slot_bytes;
        memcpy(slot, line, group->payload_at);
        esi_bench_payload_fill(slot + group->payload_at, size);
        if (group->is_event) {
            (void)esi_bench_payload_event_head(slot + group->payload_at, size);
        }
        slot[group->slot_bytes - 2] = '\r';
        slot[group->slot_bytes - 1] = '\n';
    }
    return ES_OK;
}

static enum es_err init_member(struct esi_bench_group *group, size_t position)
{
    const struct esi_bench_options *options = group->link->options;
    struct esi_bench_member *member = &group->members[position];
    /* Sids of their own also across the groups: then no two lines of the server are the same. */
    const uint64_t sid =
        options->is_sid_distinct ? group->index * group->member_count + position + 1 : 1;

    member->group = group;
    esi_bench_client_init(&member->client, group->link,
                          group->has_replies ? on_request : on_delivery, member);
    member->sid[esi_num_format(sid, member->sid)] = '\0';
    if (!group->has_replies && options->subjects == 1) {
        esi_bench_client_expect(&member->client, group->subject, sid, options->size_bytes);
    }
    return esi_bench_check_init(&member->check, group->window);
}

enum es_err esi_bench_group_init(struct esi_bench_group *group, struct esi_bench_link *link,
                                 struct esi_bench_tally *tally, uint64_t index)
{
    const struct esi_bench_options *options = link->options;

    group->link = link;
    group->tally = tally;
    group->index = index;
    group->has_replies = options->scenario == BENCH_REQUEST_REPLY;
    group->is_event = options->scenario == BENCH_EVENTS;
    group->is_shared = options->scenario == BENCH_QUEUE || group->is_event ||
                       (group->has_replies && options->subscribers > 1);
    group->target = UINT64_MAX;
    if (options->rate != 0) {
        group->interval_ns = 1e9 * (double)options->publishers / (double)options->rate;
    }
    if (group->is_event) {
        snprintf(group->subject, sizeof group->subject, "%s", options->subject);
    } else if (esi_bench_options_is_fan_in(options->scenario)) {
        snprintf(group->subject, sizeof group->subject, "%s.all", options->subject);
    } else {
        snprintf(group->subject, sizeof group->subject, "%s.%llu%s", options->subject,
                 (unsigned long long)index, options->subjects > 1 ? ".s." : "");
    }
    snprintf(group->inbox, sizeof group->inbox, "%s.%llu.", options->inbox,
             (unsigned long long)index);
    esi_bench_client_init(&group->source, link, group->has_replies ? on_reply : on_nothing, group);
    enum es_err err = make_batch(group);
    if (err == ES_OK) {
        err = esi_bench_check_init(&group->shared_check, group->window);
    }
    if (err == ES_OK) {
        err = esi_bench_check_init(&group->reply_check, group->window);
    }
    if (err != ES_OK) {
        return err;
    }
    if (options->scenario == BENCH_PUB || group->is_event) {
        return ES_OK;
    }
    const size_t count = options->subscribers + options->stalled;
    group->members = calloc(count, sizeof *group->members);
    if (group->members == NULL) {
        return ES_NO_MEMORY;
    }
    group->member_count = options->subscribers;
    group->stalled_count = options->stalled;
    for (size_t i = 0; i < count && err == ES_OK; i++) {
        err = init_member(group, i);
    }
    return err;
}

void esi_bench_group_deinit(struct esi_bench_group *group)
{
    for (size_t i = 0; i < group->member_count + group->stalled_count; i++) {
        esi_bench_client_deinit(&group->members[i].client);
        esi_bench_check_deinit(&group->members[i].check);
    }
    free(group->members);
    esi_bench_client_deinit(&group->source);
    esi_bench_check_deinit(&group->shared_check);
    esi_bench_check_deinit(&group->reply_check);
    free(group->batch);
    *group = (struct esi_bench_group){0};
}

size_t esi_bench_group_client_count(const struct esi_bench_group *group)
{
    return group->family != NULL && group != group->family
               ? 0
               : group->member_count + group->stalled_count;
}

/* Of the numbered subjects the first `wildcards` in a hundred are subscribed to by a wildcard in
 * the place of the token "s". */
static void append_numbered_subs(struct esi_bench_group *group, struct esi_bytes *out)
{
    const struct esi_bench_options *options = group->link->options;
    const int stem = (int)strlen(group->subject) - 2;

    for (uint64_t number = 0; number < options->subjects; number++) {
        esi_bytes_printf(out, "SUB %.*s%s.%07llu %s%llu\r\n", stem, group->subject,
                         number % 100 < options->wildcards ? "*" : "s", (unsigned long long)number,
                         group->is_shared ? "event-bench " : "", (unsigned long long)number + 1);
    }
}

static void append_subs(struct esi_bench_group *group, struct esi_bench_member *member)
{
    if (group->number_at != 0) {
        append_numbered_subs(group, &member->client.out);
        return;
    }
    esi_bytes_printf(&member->client.out, "SUB %s %s%s%s\r\n", group->subject,
                     group->is_shared ? queue_name : "", group->is_shared ? " " : "", member->sid);
}

void esi_bench_group_subscribe(struct esi_bench_group *group)
{
    for (size_t i = 0; i < esi_bench_group_client_count(group); i++) {
        struct esi_bench_member *member = &group->members[i];
        append_subs(group, member);
        esi_bench_client_ping(&member->client);
        esi_bench_client_flush(&member->client);
    }
    if (group->has_replies) {
        esi_bytes_printf(&group->source.out, "SUB %s* 1\r\n", group->inbox);
        esi_bench_client_ping(&group->source);
        esi_bench_client_flush(&group->source);
    }
}

void esi_bench_group_probe(struct esi_bench_group *group)
{
    char digits[SUBJECT_DIGITS + 1] = "";
    char reply[sizeof group->inbox + 8] = "";

    group->has_probed = true;
    if (group->has_replies) {
        snprintf(reply, sizeof reply, " %sprobe", group->inbox);
    }
    if (group->number_at != 0) {
        /* The last one: SUBs and interest travel in order. */
        write_subject_number(digits, group->link->options->subjects - 1);
    }
    esi_bytes_printf(&group->source.out, "PUB %s%s%s 0\r\n\r\n", group->subject, digits, reply);
    esi_bench_client_flush(&group->source);
}

bool esi_bench_group_is_reached(const struct esi_bench_group *group)
{
    size_t reached = 0;

    for (size_t i = 0; i < group->member_count; i++) {
        reached += group->members[i].is_reached ? 1 : 0;
    }
    return (!group->has_replies || group->is_answered) &&
           (reached == group->member_count || (group->is_shared && reached > 0));
}

void esi_bench_group_stall(struct esi_bench_group *group)
{
    for (size_t i = 0; i < group->stalled_count; i++) {
        esi_bench_client_stall(&group->members[group->member_count + i].client);
    }
}

static uint64_t count_replies(const struct esi_bench_group *group)
{
    return is_alone(group) ? esi_bench_group_base(group) : group->replies;
}

void esi_bench_group_mark_begin(struct esi_bench_group *group)
{
    group->sent_span.before = group->sent;
    group->replies_span.before = count_replies(group);
    for (size_t i = 0; i < group->member_count; i++) {
        group->members[i].received_span.before = group->members[i].received;
    }
}

void esi_bench_group_mark_end(struct esi_bench_group *group)
{
    group->sent_span.after = group->sent;
    group->replies_span.after = count_replies(group);
    for (size_t i = 0; i < group->member_count; i++) {
        group->members[i].received_span.after = group->members[i].received;
    }
}

static void add_check(struct esi_bench_faults *faults, const struct esi_bench_check *check)
{
    faults->duplicated += check->duplicated;
    faults->misrouted += check->alien;
}

struct esi_bench_faults esi_bench_group_faults(const struct esi_bench_group *group)
{
    struct esi_bench_faults faults = group->faults;

    add_check(&faults, &group->shared_check);
    add_check(&faults, &group->reply_check);
    for (size_t i = 0; i < group->member_count; i++) {
        add_check(&faults, &group->members[i].check);
        faults.reordered += group->members[i].check.late;
    }
    if (group->has_replies) {
        /* Which way a request or its reply was lost does not matter. */
        faults.lost = group->sent - group->reply_check.seen;
    } else if (is_alone(group)) {
        faults.lost = group->sent - esi_bench_group_base(group);
    } else if (group->is_shared) {
        faults.lost = group->sent - group->shared_check.seen;
    } else {
        for (size_t i = 0; i < group->member_count; i++) {
            faults.lost += group->sent - group->members[i].check.seen;
        }
    }
    return faults;
}
