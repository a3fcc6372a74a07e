/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers are given in order of publication, so they ascend for each publisher. */
#include "sim_book.h"

#include "base/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUMBER_DIGITS = 8,
    SETTLE_S = 5,
    NOTICE_S = 10, /* until a server sees that a peer is gone */
    RECENT_S = 60
};

struct publication {
    uint32_t client;
    uint32_t connection;
    uint8_t subject;
    uint8_t server;
    bool is_confirmed;
    bool is_taken[SIM_GROUPS]; /* by a member of the group */
    bool is_due[SIM_GROUPS];   /* a member was there from its publication to its PONG */
    uint64_t sent_ns;
    uint64_t confirmed_ns;
};

struct group {
    uint32_t members[SIM_SERVERS_MAX];  /* in force, and not about to leave */
    uint64_t since_ns[SIM_SERVERS_MAX]; /* when the first of them came; UINT64_MAX: there is none */
    uint64_t emptied_ns[SIM_SERVERS_MAX]; /* when the last of them left */
    uint64_t broken_ns;                   /* when a member was last lost */
};

struct sim_book {
    struct sim_world *world;
    struct publication *publications; /* owned */
    uint32_t count;
    size_t capacity;
    uint32_t connections;
    struct group groups[SIM_GROUPS];
};

const char *const sim_book_subjects[SIM_SUBJECTS] = {"a",     "a.b",       "a.c",    "a.b.c",
                                                     "x.y.z", "x.y.other", "lonely", "a.b.c.d"};
const char *const sim_book_patterns[SIM_PATTERNS] = {"a",     "a.*", "a.>",   "*.b.*",
                                                     "x.y.z", ">",   "x.*.>", "a.b"};
const char *const sim_book_groups[SIM_GROUPS] = {"workers", "others", "all"};

static const bool matches[SIM_PATTERNS][SIM_SUBJECTS] = {
    /*           a  a.b a.c a.b.c x.y.z x.y.other lonely a.b.c.d */
    /* a      */ {1, 0, 0, 0, 0, 0, 0, 0},
    /* a.*    */ {0, 1, 1, 0, 0, 0, 0, 0},
    /* a.>    */ {0, 1, 1, 1, 0, 0, 0, 1},
    /* *.b.*  */ {0, 0, 0, 1, 0, 0, 0, 0},
    /* x.y.z  */ {0, 0, 0, 0, 1, 0, 0, 0},
    /* >      */ {1, 1, 1, 1, 1, 1, 1, 1},
    /* x.*.>  */ {0, 0, 0, 0, 1, 1, 0, 0},
    /* a.b    */ {0, 1, 0, 0, 0, 0, 0, 0},
};

uint32_t sim_book_group_pattern(int group)
{
    static const uint32_t patterns[SIM_GROUPS] = {1, 4, 5};

    return patterns[group];
}

struct sim_book *sim_book_new(struct sim_world *world)
{
    struct sim_book *book = calloc(1, sizeof *book);

    sim_check(world, book != NULL, "no memory");
    book->world = world;
    return book;
}

void sim_book_free(struct sim_book *book)
{
    if (book != NULL) {
        free(book->publications);
        free(book);
    }
}

uint32_t sim_book_next(const struct sim_book *book)
{
    return book->count;
}

uint32_t sim_book_connection(struct sim_book *book)
{
    return book->connections++;
}

/* --- publishing --- */

uint32_t sim_book_publish(struct sim_book *book, const struct sim_receiver *publisher,
                          uint32_t subject, uint32_t own_groups)
{
    const uint32_t server = publisher->server;

    if (book->count == book->capacity) {
        book->capacity = book->capacity == 0 ? 1024 : book->capacity * 2;
        book->publications =
            realloc(book->publications, book->capacity * sizeof *book->publications);
        sim_check(book->world, book->publications != NULL, "no memory");
    }
    struct publication *publication = &book->publications[book->count];
    *publication = (struct publication){.client = publisher->client,
                                        .connection = publisher->connection,
                                        .subject = (uint8_t)subject,
                                        .server = (uint8_t)server,
                                        .sent_ns = esi_env_sim_now_ns(book->world->sim)};
    for (int i = 0; i < SIM_GROUPS; i++) {
        publication->is_due[i] =
            matches[sim_book_group_pattern(i)][subject] && (own_groups >> i & 1) == 0;
    }
    sim_tell(book->world, "client %" PRIu32 " publishes message %" PRIu32 " on %s",
             publisher->client, book->count, sim_book_subjects[subject]);
    book->world->counts.published++;
    return book->count++;
}

/* A member left as the last one of its server, and a message may have been sent there after that,
 * or may be on its way. */
static bool is_just_left(const struct sim_book *book, const struct publication *publication,
                         int index)
{
    for (uint32_t i = 0; i < book->world->server_count; i++) {
        if (i != publication->server &&
            book->groups[index].emptied_ns[i] + SETTLE_S * SIM_S > publication->sent_ns) {
            return true;
        }
    }
    return false;
}

/* Who takes the group's messages from this publication's server was there before it. */
static bool has_member_since(const struct sim_book *book, const struct publication *publication,
                             int index)
{
    const struct group *group = &book->groups[index];
    const uint32_t server = publication->server;

    if (group->members[server] > 0) {
        return group->since_ns[server] < publication->sent_ns;
    }
    if (is_just_left(book, publication, index)) {
        return false;
    }
    for (uint32_t i = 0; i < book->world->server_count; i++) {
        if (i != server && group->members[i] > 0 &&
            group->since_ns[i] + SETTLE_S * SIM_S < publication->sent_ns &&
            sim_world_is_linked_since(book->world, server, i, group->since_ns[i])) {
            return true;
        }
    }
    return false;
}

static char filler(uint32_t number, size_t at)
{
    return (char)('0' + ((number * 7 + (uint32_t)at) & 63));
}

void sim_book_payload(uint32_t number, size_t len, struct esi_bytes *out)
{
    esi_bytes_printf(out, "%0*" PRIx32 " ", NUMBER_DIGITS, number);
    char *room = esi_bytes_reserve(out, len - NUMBER_DIGITS - 1);
    for (size_t i = NUMBER_DIGITS + 1; i < len; i++) {
        room[i - NUMBER_DIGITS - 1] = filler(number, i);
    }
    out->len += len - NUMBER_DIGITS - 1;
}

void sim_book_confirm(struct sim_book *book, uint32_t connection, uint32_t up_to)
{
    for (uint32_t i = up_to + 1; i > 0; i--) {
        struct publication *publication = &book->publications[i - 1];
        if (publication->connection != connection) {
            continue;
        }
        if (publication->is_confirmed) {
            return; /* and all before it */
        }
        sim_tell(book->world, "message %" PRIu32 " is confirmed", i - 1);
        publication->is_confirmed = true;
        publication->confirmed_ns = esi_env_sim_now_ns(book->world->sim);
        for (int group = 0; group < SIM_GROUPS; group++) {
            publication->is_due[group] =
                publication->is_due[group] && has_member_since(book, publication, group);
        }
    }
}

/* --- receiving --- */

void sim_book_sub_init(struct sim_book *book, struct sim_sub *sub, uint32_t sid, uint32_t pattern,
                       int group)
{
    *sub = (struct sim_sub){
        .is_used = true, .sid = sid, .pattern = pattern, .group = group, .base = book->count};
}

void sim_book_sub_deinit(struct sim_sub *sub)
{
    free(sub->received);
    *sub = (struct sim_sub){0};
}

static bool has_received(const struct sim_sub *sub, uint32_t number)
{
    const size_t at = (size_t)(number - sub->base) / 8;

    return number >= sub->base && at < sub->received_bytes &&
           (sub->received[at] >> ((number - sub->base) % 8) & 1) != 0;
}

static void note_received(const struct sim_world *world, struct sim_sub *sub, uint32_t number)
{
    const size_t at = (size_t)(number - sub->base) / 8;

    if (at >= sub->received_bytes) {
        const size_t wanted = at * 2 + 64;
        sub->received = realloc(sub->received, wanted);
        sim_check(world, sub->received != NULL, "no memory");
        memset(sub->received + sub->received_bytes, 0, wanted - sub->received_bytes);
        sub->received_bytes = wanted;
    }
    sub->received[at] |= (uint8_t)(1U << ((number - sub->base) % 8));
}

static uint32_t read_number(const struct sim_world *world, struct esi_str payload)
{
    char digits[NUMBER_DIGITS + 1];
    char *end = NULL;

    sim_check(world, payload.len > NUMBER_DIGITS, "a payload of %zu bytes", payload.len);
    memcpy(digits, payload.data, NUMBER_DIGITS);
    digits[NUMBER_DIGITS] = '\0';
    const unsigned long number = strtoul(digits, &end, 16);
    sim_check(world, *end == '\0' && payload.data[NUMBER_DIGITS] == ' ', "payload '%s'", digits);
    return (uint32_t)number;
}

static void check_group(struct sim_book *book, const struct sim_receiver *receiver,
                        const struct sim_sub *sub, uint32_t number)
{
    if (sub->group >= 0) {
        bool *is_taken = &book->publications[number].is_taken[sub->group];
        sim_check(book->world, !*is_taken,
                  "group %s gets message %" PRIu32 " twice, now by client %" PRIu32,
                  sim_book_groups[sub->group], number, receiver->client);
        *is_taken = true;
    }
}

/* It went over a link that has been broken since: what was under way on the old one may come behind
 * what goes over the new one, as between any two NATS servers. */
static bool is_late(const struct sim_world *world, const struct sim_receiver *receiver,
                    const struct publication *publication)
{
    return publication->server != receiver->server &&
           sim_world_link_ok_since_ns(world, publication->server, receiver->server) >
               publication->sent_ns;
}

static void check_order(const struct sim_world *world, struct sim_receiver *receiver,
                        const struct publication *publication, uint32_t number)
{
    struct sim_seen *seen = &receiver->seen[publication->client];

    if (publication->connection < seen->connection) {
        return; /* two connections of one publisher: nothing is promised */
    }
    if (publication->connection > seen->connection) {
        *seen = (struct sim_seen){.connection = publication->connection};
    }
    if (seen->next > number && is_late(world, receiver, publication)) {
        return;
    }
    sim_check(world, seen->next <= number + 1,
              "client %" PRIu32 " gets message %" PRIu32 " after %" PRIu32 " of client %" PRIu32,
              receiver->client, number, seen->next - 1, publication->client);
    seen->next = number + 1;
}

void sim_book_deliver(struct sim_book *book, struct sim_receiver *receiver, struct sim_sub *sub,
                      struct esi_str subject, struct esi_str payload)
{
    const struct sim_world *world = book->world;
    const uint32_t number = read_number(world, payload);

    sim_tell(book->world, "client %" PRIu32 " gets message %" PRIu32 " for sid %" PRIu32 "%s%s",
             receiver->client, number, sub->sid, sub->group >= 0 ? " of group " : "",
             sub->group >= 0 ? sim_book_groups[sub->group] : "");
    sim_check(world, number < book->count, "message %" PRIu32 " was never published", number);
    const struct publication *publication = &book->publications[number];
    sim_check(world, esi_str_equal(subject, esi_str_from(sim_book_subjects[publication->subject])),
              "message %" PRIu32 " came on subject %.*s", number, ESI_STR_ARG(subject));
    sim_check(world, matches[sub->pattern][publication->subject],
              "subscription %s got message %" PRIu32 " on %s", sim_book_patterns[sub->pattern],
              number, sim_book_subjects[publication->subject]);
    for (size_t i = NUMBER_DIGITS + 1; i < payload.len; i++) {
        sim_check(world, payload.data[i] == filler(number, i),
                  "message %" PRIu32 " differs at byte %zu", number, i);
    }
    sim_check(world, receiver->has_echo || publication->connection != receiver->connection,
              "message %" PRIu32 " came back to client %" PRIu32 " that wants no echo", number,
              receiver->client);
    sim_check(world, !has_received(sub, number),
              "client %" PRIu32 " gets message %" PRIu32 " twice on sid %" PRIu32, receiver->client,
              number, sub->sid);
    check_order(world, receiver, publication, number);
    check_group(book, receiver, sub, number);
    if (number >= sub->base) {
        note_received(world, sub, number);
    }
    sub->received_count++;
    book->world->counts.delivered++;
}

/* True when the publication had to come to the subscription, whatever else happened. */
static bool is_required(const struct sim_book *book, const struct sim_receiver *receiver,
                        const struct sim_sub *sub, const struct publication *publication,
                        uint64_t before_ns)
{
    if (!publication->is_confirmed || !matches[sub->pattern][publication->subject] ||
        publication->sent_ns <= sub->in_force_ns || publication->confirmed_ns >= before_ns ||
        (!receiver->has_echo && publication->connection == receiver->connection)) {
        return false;
    }
    if (publication->server == receiver->server) {
        return true;
    }
    const uint64_t settled_ns = sub->in_force_ns + SETTLE_S * SIM_S;
    /* A message on its way over the link needs its time, too. */
    return publication->sent_ns > settled_ns &&
           sim_world_is_linked_since(book->world, publication->server, receiver->server,
                                     publication->sent_ns) &&
           publication->confirmed_ns + 3 * SETTLE_S * SIM_S < before_ns;
}

uint64_t sim_book_check_complete(struct sim_book *book, const struct sim_receiver *receiver,
                                 const struct sim_sub *sub, uint64_t before_ns)
{
    const bool may_miss = book->world->servers[receiver->server].drops_new;
    uint64_t missing = 0;

    if (sub->in_force_ns == 0 || sub->max != 0 || sub->group >= 0) {
        return 0;
    }
    for (uint32_t number = sub->base; number < book->count; number++) {
        const struct publication *publication = &book->publications[number];
        if (!is_required(book, receiver, sub, publication, before_ns)) {
            continue;
        }
        book->world->counts.required++;
        if (may_miss && !has_received(sub, number)) {
            sim_tell(book->world, "missing %" PRIu32 " at client %" PRIu32 " sid %" PRIu32, number,
                     receiver->client, sub->sid);
            missing++;
            continue;
        }
        sim_check(book->world, has_received(sub, number),
                  "message %" PRIu32 " of client %" PRIu32 " on %s is lost for client %" PRIu32
                  " sid %" PRIu32 " (%s)",
                  number, publication->client, sim_book_subjects[publication->subject],
                  receiver->client, sub->sid, sim_book_patterns[sub->pattern]);
    }
    return missing;
}

/* --- groups --- */

void sim_book_group_broken(struct sim_book *book, int group)
{
    sim_tell(book->world, "a member of group %s is lost", sim_book_groups[group]);
    book->groups[group].broken_ns = esi_env_sim_now_ns(book->world->sim);
}

void sim_book_group_joined(struct sim_book *book, int group, uint32_t server)
{
    sim_tell(book->world, "a member joins group %s", sim_book_groups[group]);
    if (book->groups[group].members[server]++ == 0) {
        book->groups[group].since_ns[server] = esi_env_sim_now_ns(book->world->sim);
    }
}

/* What is on its way to a server whose last member leaves is lost, as in any NATS server. */
static void excuse_recent(struct sim_book *book, int group, uint32_t server)
{
    const uint64_t now_ns = esi_env_sim_now_ns(book->world->sim);

    for (uint32_t i = book->count; i > 0; i--) {
        struct publication *publication = &book->publications[i - 1];
        if (publication->sent_ns + RECENT_S * SIM_S < now_ns) {
            return;
        }
        if (publication->server != server && publication->is_confirmed &&
            publication->confirmed_ns + SETTLE_S * SIM_S > now_ns &&
            book->groups[group].members[publication->server] == 0) {
            publication->is_due[group] = false;
        }
    }
}

void sim_book_group_left(struct sim_book *book, int group, uint32_t server)
{
    sim_check(book->world, book->groups[group].members[server] > 0, "group %d", group);
    sim_tell(book->world, "a member leaves group %s", sim_book_groups[group]);
    if (--book->groups[group].members[server] == 0) {
        book->groups[group].emptied_ns[server] = esi_env_sim_now_ns(book->world->sim);
        excuse_recent(book, group, server);
    }
}

void sim_book_check_groups(struct sim_book *book)
{
    for (uint32_t i = 0; i < book->world->server_count; i++) {
        if (book->world->servers[i].drops_new) {
            return; /* a member may miss any of them */
        }
    }
    for (uint32_t number = 0; number < book->count; number++) {
        const struct publication *publication = &book->publications[number];
        for (int i = 0; i < SIM_GROUPS; i++) {
            const struct group *group = &book->groups[i];
            if (!publication->is_due[i] || !publication->is_confirmed ||
                publication->sent_ns <= group->broken_ns + NOTICE_S * SIM_S ||
                !sim_world_is_joined_since(book->world, publication->server,
                                           publication->sent_ns)) {
                continue;
            }
            book->world->counts.required++;
            sim_check(book->world, publication->is_taken[i],
                      "message %" PRIu32 " of client %" PRIu32 " on %s is lost for group %s",
                      number, publication->client, sim_book_subjects[publication->subject],
                      sim_book_groups[i]);
        }
    }
}
