/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection at a time. What is written goes through a buffer that the socket takes as it can;
 * a PING remembers what stands before it, and its PONG, which must come in time, puts that in
 * force.
 */
#include "sim_client.h"

#include "sim_book.h"
#include "sim_events.h"
#include "sim_monitor.h"
#include "sim_tokens.h"

#include "base/bytes.h"
#include "base/num.h"
#include "base/own.h"
#include "base/str.h"
#include "proto/json_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PINGS_MAX = 64,
    READ_BYTES = 4096,
    OUT_BYTES_MAX = 256 * 1024, /* no more is published above it */
    FLOOD_BYTES_MAX = 2 * 1024 * 1024,
    PONG_S_MAX = 30,
    CONNECT_S_MAX = 60
};

/* Of the subscription for answers about events; beside those of the book. */
#define ANSWER_SID "900000"
static const char answer_prefix[] = "_R.";

enum state { CLIENT_AWAY, CLIENT_CONNECTING, CLIENT_GREETED, CLIENT_READY };

/* What a PONG will tell. */
struct ping {
    uint64_t sent_ns;
    uint32_t published_up_to; /* the last number before it */
    bool has_published;
    uint32_t sid_max; /* subscriptions up to this one are then in force */
    uint64_t mark;    /* writes before it, to find the UNSUBs before it */
};

struct sim_client {
    struct sim_world *world;
    struct esi_env *env;
    uint32_t index;
    struct esi_thread *thread;
    struct esi_poller *poller;
    enum state state;
    uint32_t server;
    struct sim_receiver receiver;
    uint64_t cid;             /* as the server told it */
    uint32_t starts;          /* of the server that told it */
    struct sim_secret secret; /* that it has shown; version 0: none */
    int sock;
    uint32_t watched;
    struct esi_bytes in;
    struct esi_bytes out;
    struct ping pings[PINGS_MAX]; /* a ring */
    uint32_t ping_first;
    uint32_t ping_count;
    uint64_t answered_ns; /* when the last PING was sent whose PONG has come */
    struct sim_sub subs[SIM_SUBS_MAX];
    uint64_t unsub_marks[SIM_SUBS_MAX];
    uint64_t mark;
    uint32_t next_sid;
    uint32_t last_number;
    bool has_published; /* since the last PING */
    bool is_settled;
    bool is_cut;
    uint64_t disturbed_ns;  /* when it was last cut off, healed or reset */
    uint64_t act_ns;        /* when to do the next thing */
    uint64_t read_ns;       /* does not read before */
    uint64_t heard_ns;      /* when it has last read something */
    uint64_t away_since_ns; /* wants a connection since */
    uint64_t pace_ns;       /* mean time between two things done */
};

static uint64_t now_of(const struct sim_client *client)
{
    return esi_env_sim_now_ns(client->world->sim);
}

static uint64_t draw(const struct sim_client *client, uint64_t limit)
{
    return esi_env_sim_draw(client->world->sim, limit);
}

static void plan(struct sim_client *client)
{
    client->act_ns = now_of(client) + 1 + draw(client, client->pace_ns * 2);
}

/* --- the connection --- */

static void forget_sub(struct sim_client *client, struct sim_sub *sub, bool is_broken)
{
    struct sim_world *world = client->world;

    if (sub->group >= 0) {
        if (is_broken) {
            sim_book_group_broken(world->book, sub->group);
        }
        if (sub->in_force_ns != 0 && sub->unsub_ns == 0 && sub->max == 0) {
            sim_book_group_left(world->book, sub->group, client->server);
        }
    }
    sim_book_sub_deinit(sub);
}

/* The connection is over, by whomever. */
static void drop(struct sim_client *client, const char *why)
{
    esi_env_sim_note(client->world->sim, "client %" PRIu32 " is away: %s", client->index, why);
    for (size_t i = 0; i < SIM_SUBS_MAX; i++) {
        if (client->subs[i].is_used) {
            forget_sub(client, &client->subs[i], true);
        }
    }
    if (client->state != CLIENT_AWAY) {
        esi_env_poller_remove(client->env, client->poller, client->sock);
        esi_env_close(client->env, client->sock);
    }
    client->sock = ESI_ENV_NO_SOCKET;
    client->state = CLIENT_AWAY;
    esi_bytes_clear(&client->in);
    esi_bytes_clear(&client->out);
    client->ping_count = 0;
    client->has_published = false;
    client->is_settled = false;
    client->read_ns = 0;
    client->away_since_ns = now_of(client);
    client->act_ns = now_of(client) + draw(client, SIM_S);
}

static void watch(struct sim_client *client)
{
    uint32_t events = 0;

    if (client->state == CLIENT_AWAY) {
        return;
    }
    events |= client->state == CLIENT_CONNECTING || client->out.len > 0 ? POLL_WRITE : 0;
    events |=
        client->state != CLIENT_CONNECTING && client->read_ns <= now_of(client) ? POLL_READ : 0;
    if (events != client->watched) {
        client->watched = events;
        esi_env_poller_change(client->env, client->poller, client->sock, events, client);
    }
}

static void go(struct sim_client *client)
{
    struct sim_world *world = client->world;
    struct esi_address address;

    client->server = (uint32_t)draw(client, world->server_count);
    const struct sim_server *server = &world->servers[client->server];
    address = server->assembly.context.client_bound;
    if (!server->is_up || esi_env_connect(client->env, &address, &client->sock) != ES_OK) {
        client->act_ns = now_of(client) + draw(client, SIM_S);
        return;
    }
    client->state = CLIENT_CONNECTING;
    client->watched = POLL_WRITE;
    sim_check(world,
              esi_env_poller_add(client->env, client->poller, client->sock, POLL_WRITE, client) ==
                  ES_OK,
              "client %" PRIu32, client->index);
    client->act_ns = now_of(client) + 20 * SIM_S;
}

static void greet(struct sim_client *client)
{
    client->state = CLIENT_GREETED;
    client->receiver = (struct sim_receiver){.client = client->index,
                                             .connection = sim_book_connection(client->world->book),
                                             .server = client->server,
                                             .has_echo = draw(client, 4) != 0};
    client->next_sid = 1;
    client->mark = 0;
    client->answered_ns = 0;
    client->act_ns = now_of(client) + PONG_S_MAX * SIM_S;
}

/* --- what it sends --- */

static void send_ping(struct sim_client *client)
{
    if (client->ping_count == PINGS_MAX) {
        return;
    }
    esi_bytes_append_text(&client->out, "PING\r\n");
    client->pings[(client->ping_first + client->ping_count++) % PINGS_MAX] =
        (struct ping){.sent_ns = now_of(client),
                      .published_up_to = client->last_number,
                      .has_published = client->has_published,
                      .sid_max = client->next_sid - 1,
                      .mark = client->mark};
    client->has_published = false;
}

static void send_connect(struct sim_client *client)
{
    struct sim_world *world = client->world;
    char text[SIM_SECRET_BYTES] = "outside-token";

    client->secret = (struct sim_secret){0};
    if (world->servers[client->server].kind == SERVER_OUTER && world->tokens != NULL) {
        client->secret = sim_tokens_draw(world->tokens);
        sim_tokens_text(client->secret, text);
    }
    esi_bytes_printf(
        &client->out,
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"headers\":true,"
        "\"echo\":%s,\"auth_token\":\"%s\"}\r\n",
        client->receiver.has_echo ? "true" : "false", text);
    send_ping(client);
}

static void subscribe(struct sim_client *client)
{
    struct sim_sub *sub = NULL;

    for (size_t i = 0; i < SIM_SUBS_MAX && sub == NULL; i++) {
        sub = client->subs[i].is_used ? NULL : &client->subs[i];
    }
    if (sub == NULL) {
        return;
    }
    const int group = draw(client, 3) == 0 ? (int)draw(client, SIM_GROUPS) : -1;
    const uint32_t pattern =
        group >= 0 ? sim_book_group_pattern(group) : (uint32_t)draw(client, SIM_PATTERNS);
    sim_book_sub_init(client->world->book, sub, client->next_sid++, pattern, group);
    esi_bytes_printf(&client->out, "SUB %s %s%s%" PRIu32 "\r\n", sim_book_patterns[pattern],
                     group >= 0 ? sim_book_groups[group] : "", group >= 0 ? " " : "", sub->sid);
    if (group < 0 && draw(client, 5) == 0) {
        /* At once: later, the server may have sent more already. */
        sub->max = 1 + (uint32_t)draw(client, 20);
        esi_bytes_printf(&client->out, "UNSUB %" PRIu32 " %" PRIu32 "\r\n", sub->sid, sub->max);
    }
    client->mark++;
}

static void unsubscribe(struct sim_client *client)
{
    struct sim_sub *sub = &client->subs[draw(client, SIM_SUBS_MAX)];

    if (!sub->is_used || sub->unsub_ns != 0 || sub->max != 0) {
        return;
    }
    if (sub->group >= 0 && sub->in_force_ns == 0) {
        return; /* so that who is a member is simple to say */
    }
    client->mark++;
    if (sub->group >= 0) {
        sim_book_group_left(client->world->book, sub->group, client->server);
    }
    sub->unsub_ns = now_of(client);
    client->unsub_marks[sub - client->subs] = client->mark;
    esi_bytes_printf(&client->out, "UNSUB %" PRIu32 "\r\n", sub->sid);
    send_ping(client);
}

static void publish_events(struct sim_client *client)
{
    struct sim_events *events = client->world->events;
    const uint64_t count = events == NULL ? 0 : 1 + draw(client, 5);
    char reply[64];

    for (uint64_t i = 0; i < count; i++) {
        snprintf(reply, sizeof reply, "%s%" PRIu32 ".%" PRIu32, answer_prefix,
                 client->receiver.connection, sim_events_next(events));
        sim_events_publish(events, draw(client, 5) == 0 ? "" : reply, &client->out);
    }
}

static size_t draw_payload_len(const struct sim_client *client)
{
    if (client->world->has_little_memory && draw(client, 2) == 0) {
        return 10000 + draw(client, 20000);
    }
    switch (draw(client, 12)) {
    case 0:
        return 9 + draw(client, 30000);
    case 1:
        return 9 + draw(client, 2000);
    default:
        return 9 + draw(client, 60);
    }
}

static uint32_t own_groups(const struct sim_client *client)
{
    uint32_t groups = 0;

    for (size_t i = 0; i < SIM_SUBS_MAX && !client->receiver.has_echo; i++) {
        const struct sim_sub *sub = &client->subs[i];
        groups |= sub->is_used && sub->group >= 0 ? 1U << sub->group : 0U;
    }
    return groups;
}

static void publish(struct sim_client *client)
{
    struct sim_world *world = client->world;
    const uint64_t count = 1 + draw(client, draw(client, 8) == 0 ? 200 : 10);
    const size_t out_bytes_max = world->has_little_memory ? FLOOD_BYTES_MAX : OUT_BYTES_MAX;
    uint32_t subject = (uint32_t)draw(client, SIM_SUBJECTS);

    for (uint64_t i = 0; i < count && client->out.len < out_bytes_max; i++) {
        if (draw(client, 3) == 0) {
            subject = (uint32_t)draw(client, SIM_SUBJECTS);
        }
        const size_t len = draw_payload_len(client);
        const uint32_t number =
            sim_book_publish(world->book, &client->receiver, subject, own_groups(client));
        if (draw(client, 6) == 0) {
            static const char headers[] = "NATS/1.0\r\nName: value\r\n\r\n";
            esi_bytes_printf(&client->out, "HPUB %s %zu %zu\r\n%s", sim_book_subjects[subject],
                             sizeof headers - 1, sizeof headers - 1 + len, headers);
        } else {
            esi_bytes_printf(&client->out, "PUB %s %zu\r\n", sim_book_subjects[subject], len);
        }
        sim_book_payload(number, len, &client->out);
        esi_bytes_append_text(&client->out, "\r\n");
        client->last_number = number;
        client->has_published = true;
    }
}

/* --- what it hears --- */

/* No more may come. Before its PONG more than the count may: they were on their way when the server
 * read it. */
static bool has_had_all(const struct sim_sub *sub)
{
    return sub->max != 0 && sub->in_force_ns != 0 && sub->received_count >= sub->max;
}

static void check_sub(struct sim_client *client, const struct sim_sub *sub, uint64_t before_ns)
{
    const uint64_t missing =
        sim_book_check_complete(client->world->book, &client->receiver, sub, before_ns);

    sim_monitor_claim(client->world->monitor, client->server, client->starts, client->cid, missing);
}

/* Returns 0 where it is not told. */
static uint64_t read_cid(struct esi_str info)
{
    struct esi_json_fields fields;
    struct esi_json_field field;
    int64_t cid = 0;

    if (esi_json_fields_open(info, &fields) == ES_OK) {
        while (esi_json_fields_next(&fields, &field)) {
            if (strcmp(field.name, "client_id") == 0 &&
                esi_json_fields_read_i64(&field.value, &cid) != ES_OK) {
                return 0;
            }
        }
    }
    return (uint64_t)cid;
}

static void take_pong(struct sim_client *client)
{
    struct sim_world *world = client->world;

    sim_check(world, client->ping_count > 0, "client %" PRIu32 " gets a PONG without a PING",
              client->index);
    const struct ping ping = client->pings[client->ping_first];
    client->ping_first = (client->ping_first + 1) % PINGS_MAX;
    client->ping_count--;
    client->answered_ns = ping.sent_ns;
    if (client->state == CLIENT_GREETED) {
        client->state = CLIENT_READY;
        world->counts.connections++;
        esi_env_sim_note(world->sim, "client %" PRIu32 " is connected to server %" PRIu32,
                         client->index, client->server);
        plan(client);
    }
    if (ping.has_published) {
        sim_book_confirm(world->book, client->receiver.connection, ping.published_up_to);
    }
    for (size_t i = 0; i < SIM_SUBS_MAX; i++) {
        struct sim_sub *sub = &client->subs[i];
        if (!sub->is_used || sub->sid > ping.sid_max) {
            continue;
        }
        if (sub->unsub_ns != 0 && client->unsub_marks[i] <= ping.mark) {
            check_sub(client, sub, sub->unsub_ns);
            forget_sub(client, sub, false);
            continue;
        }
        if (sub->in_force_ns == 0) {
            sub->in_force_ns = now_of(client);
            if (sub->group >= 0 && sub->max == 0) {
                sim_book_group_joined(world->book, sub->group, client->server);
            }
            if (has_had_all(sub)) {
                forget_sub(client, sub, false);
            }
        }
    }
}

static struct sim_sub *find_sub(struct sim_client *client, uint64_t sid)
{
    for (size_t i = 0; i < SIM_SUBS_MAX; i++) {
        if (client->subs[i].is_used && client->subs[i].sid == sid) {
            return &client->subs[i];
        }
    }
    return NULL;
}

static struct esi_str next_word(struct esi_str *rest)
{
    struct esi_str word = {.data = rest->data, .len = 0};

    while (word.len < rest->len && rest->data[word.len] != ' ') {
        word.len++;
    }
    const size_t step = word.len < rest->len ? word.len + 1 : word.len;
    rest->data += step;
    rest->len -= step;
    return word;
}

static uint64_t read_count(const struct sim_client *client, struct esi_str word)
{
    uint64_t value = 0;

    sim_check(client->world, esi_num_parse(word.data, word.len, 9, &value),
              "client %" PRIu32 " reads a number '%.*s'", client->index, ESI_STR_ARG(word));
    return value;
}

static void take_answer(const struct sim_client *client, struct esi_str subject,
                        struct esi_str answer)
{
    struct esi_str rest = {.data = subject.data + sizeof answer_prefix - 1,
                           .len = subject.len - (sizeof answer_prefix - 1)};

    while (rest.len > 0 && rest.data[0] != '.') {
        rest.data++;
        rest.len--;
    }
    sim_check(client->world, rest.len > 1, "an answer on %.*s", ESI_STR_ARG(subject));
    sim_events_answered(
        client->world->events,
        (uint32_t)read_count(client, (struct esi_str){.data = rest.data + 1, .len = rest.len - 1}),
        answer);
}

/* A message whose line is `rest`, its content `body`. Returns how much of body it takes; 0: not all
 * there yet. */
static size_t take_message(struct sim_client *client, struct esi_str rest, struct esi_str body,
                           bool has_headers)
{
    struct sim_world *world = client->world;
    struct esi_str words[5];
    size_t count = 0;

    while (rest.len > 0 && count < ESI_COUNT_OF(words)) {
        words[count++] = next_word(&rest);
    }
    const size_t numbers = has_headers ? 2 : 1;
    sim_check(world, count == numbers + 2 || count == numbers + 3,
              "client %" PRIu32 ": a message line of %zu words", client->index, count);
    const size_t headers = has_headers ? read_count(client, words[count - 2]) : 0;
    const size_t total = read_count(client, words[count - 1]);
    if (body.len < total + 2) {
        return 0;
    }
    const struct esi_str all = {.data = body.data + headers, .len = total - headers};
    if (esi_str_equal(words[1], ESI_STR(ANSWER_SID))) {
        take_answer(client, words[0], all);
        return total + 2;
    }
    struct sim_sub *sub = find_sub(client, read_count(client, words[1]));
    sim_check(world, sub != NULL, "client %" PRIu32 " gets a message for sid %.*s, which it left",
              client->index, ESI_STR_ARG(words[1]));
    sim_check(world, memcmp(body.data + total, "\r\n", 2) == 0, "client %" PRIu32 ": no line end",
              client->index);
    if (esi_str_starts_with(words[0], ESI_STR("event.")) ||
        esi_str_starts_with(words[0], esi_str_from(answer_prefix))) {
        return total + 2; /* events and their answers have a book of their own */
    }
    sim_book_deliver(world->book, &client->receiver, sub, words[0], all);
    if (has_had_all(sub)) {
        forget_sub(client, sub, false); /* one more would be for a sid that it left */
    }
    return total + 2;
}

/* One line. Returns bytes taken beyond it, or SIZE_MAX: wait for more; the connection may be
 * gone. */
static size_t take_line(struct sim_client *client, struct esi_str line, struct esi_str body)
{
    if (esi_str_starts_with(line, ESI_STR("MSG ")) || esi_str_starts_with(line, ESI_STR("HMSG "))) {
        const bool has_headers = line.data[0] == 'H';
        const size_t skip = has_headers ? 5 : 4;
        const size_t taken =
            take_message(client, (struct esi_str){.data = line.data + skip, .len = line.len - skip},
                         body, has_headers);
        return taken == 0 ? SIZE_MAX : taken;
    }
    if (esi_str_equal(line, ESI_STR("PING"))) {
        esi_bytes_append_text(&client->out, "PONG\r\n");
    } else if (esi_str_equal(line, ESI_STR("PONG"))) {
        take_pong(client);
    } else if (esi_str_starts_with(line, ESI_STR("INFO "))) {
        if (client->state == CLIENT_GREETED && client->ping_count == 0) {
            client->cid = read_cid((struct esi_str){.data = line.data + 5, .len = line.len - 5});
            client->starts = client->world->servers[client->server].starts;
            sim_check(client->world, client->cid != 0, "no client_id in %.*s", ESI_STR_ARG(line));
            send_connect(client);
        }
    } else if (client->secret.version != 0 &&
               (esi_str_equal(line, ESI_STR("-ERR 'Authorization Violation'")) ||
                esi_str_equal(line, ESI_STR("-ERR 'User Authentication Revoked'")))) {
        sim_tokens_check_refused(client->world->tokens, client->secret);
    } else if (esi_str_starts_with(line, ESI_STR("-ERR "))) {
        sim_check(client->world,
                  esi_str_equal(line, ESI_STR("-ERR 'Slow Consumer'")) ||
                      esi_str_equal(line, ESI_STR("-ERR 'Stale Connection'")) ||
                      esi_str_equal(line, ESI_STR("-ERR 'Server Shutdown'")),
                  "client %" PRIu32 " hears %.*s", client->index, ESI_STR_ARG(line));
    } else {
        sim_check(client->world, false, "client %" PRIu32 " hears '%.*s'", client->index,
                  ESI_STR_ARG(line));
    }
    return 0;
}

static void take_input(struct sim_client *client)
{
    size_t at = 0;

    for (;;) {
        const char *start = client->in.data + at;
        const size_t left = client->in.len - at;
        const char *end = left == 0 ? NULL : memmem(start, left, "\r\n", 2);
        if (end == NULL) {
            break;
        }
        const struct esi_str line = {.data = start, .len = (size_t)(end - start)};
        const struct esi_str body = {.data = end + 2, .len = left - line.len - 2};
        const size_t taken = take_line(client, line, body);
        if (taken == SIZE_MAX) {
            break;
        }
        at += line.len + 2 + taken;
    }
    esi_bytes_consume(&client->in, at);
}

static void read_socket(struct sim_client *client)
{
    char buffer[READ_BYTES];
    size_t count = 0;

    const enum es_err err = esi_env_read(client->env, client->sock, buffer, sizeof buffer, &count);
    if (err == ES_CLOSED) {
        drop(client, "the server has closed");
        return;
    }
    if (err == ES_OK) {
        client->heard_ns = now_of(client);
        esi_bytes_append(&client->in, buffer, count);
        take_input(client);
    }
}

static void write_socket(struct sim_client *client)
{
    if (client->state == CLIENT_AWAY || client->state == CLIENT_CONNECTING) {
        return;
    }
    if (esi_env_write_bytes(client->env, client->sock, &client->out) == ES_CLOSED) {
        drop(client, "nothing can be written");
    }
}

/* --- what it does --- */

void sim_client_check_complete(struct sim_client *client)
{
    for (size_t i = 0; i < SIM_SUBS_MAX; i++) {
        const struct sim_sub *sub = &client->subs[i];
        if (sub->is_used) {
            check_sub(client, sub,
                      sub->unsub_ns != 0 && sub->unsub_ns < client->answered_ns
                          ? sub->unsub_ns
                          : client->answered_ns);
        }
    }
}

/* Leaves with a PONG behind all it did, or without a word. */
static void leave(struct sim_client *client)
{
    sim_client_check_complete(client);
    drop(client, "it leaves");
    client->act_ns = now_of(client) + draw(client, 4 * SIM_S);
}

static void act_at_will(struct sim_client *client)
{
    switch (draw(client, 17)) {
    case 16:
        publish_events(client);
        break;
    case 0:
    case 1:
    case 2:
    case 3:
        subscribe(client);
        break;
    case 4:
    case 5:
        unsubscribe(client);
        break;
    case 6:
    case 7:
    case 8:
        send_ping(client);
        break;
    case 9:
        if (client->world->has_little_memory || draw(client, 4) == 0) {
            client->read_ns =
                now_of(client) + draw(client, draw(client, 4) == 0 ? 8 * SIM_S : SIM_S);
        }
        break;
    case 10:
        if (draw(client, 6) == 0) {
            leave(client);
            return;
        }
        break;
    default:
        publish(client);
        break;
    }
    plan(client);
}

static void act(struct sim_client *client)
{
    struct sim_world *world = client->world;

    if (client->act_ns > now_of(client)) {
        return;
    }
    switch (client->state) {
    case CLIENT_AWAY:
        if (world->phase < PHASE_LEAVE) {
            go(client);
        } else {
            client->is_settled = true;
            client->act_ns = UINT64_MAX;
        }
        return;
    case CLIENT_CONNECTING:
    case CLIENT_GREETED:
        drop(client, "no answer to the greeting");
        return;
    case CLIENT_READY:
        break;
    }
    if (world->phase == PHASE_ACTIVE) {
        act_at_will(client);
    } else if (world->phase == PHASE_QUIET) {
        if (!client->is_settled && client->ping_count == 0 && !client->has_published) {
            client->is_settled = true;
        }
        if (client->ping_count == 0) {
            send_ping(client);
        }
        client->act_ns = now_of(client) + SIM_S;
    } else {
        leave(client);
    }
}

static void check_patience(const struct sim_client *client)
{
    const struct sim_world *world = client->world;
    const uint64_t now_ns = now_of(client);

    if (client->is_cut) {
        return;
    }
    if (client->state == CLIENT_READY && client->secret.version != 0 && client->read_ns <= now_ns) {
        /* It may have slept until now, or have much to read before the word that it must go. */
        const uint64_t busy_ns =
            client->read_ns > client->heard_ns ? client->read_ns : client->heard_ns;
        sim_tokens_check_served(world->tokens, client->secret,
                                busy_ns > client->disturbed_ns ? busy_ns : client->disturbed_ns);
    }
    if (client->state == CLIENT_READY && client->ping_count > 0 && client->read_ns <= now_ns) {
        const uint64_t sent_ns = client->pings[client->ping_first].sent_ns;
        uint64_t since_ns = sent_ns > client->read_ns ? sent_ns : client->read_ns;
        since_ns = since_ns > client->heard_ns ? since_ns : client->heard_ns;
        since_ns = since_ns > client->disturbed_ns ? since_ns : client->disturbed_ns;
        sim_check(world, now_ns < since_ns + PONG_S_MAX * SIM_S,
                  "client %" PRIu32 " waits for a PONG for %d s", client->index, PONG_S_MAX);
    }
    if (client->state != CLIENT_READY && world->phase < PHASE_LEAVE) {
        uint64_t since_ns = client->away_since_ns;
        since_ns = since_ns > client->disturbed_ns ? since_ns : client->disturbed_ns;
        for (uint32_t i = 0; i < world->server_count; i++) {
            since_ns =
                world->servers[i].up_since_ns > since_ns ? world->servers[i].up_since_ns : since_ns;
        }
        sim_check(world, now_ns < since_ns + CONNECT_S_MAX * SIM_S,
                  "client %" PRIu32 " gets no connection for %d s", client->index, CONNECT_S_MAX);
    }
}

static bool step(void *argument, uint64_t *next_ns)
{
    struct sim_client *client = argument;
    struct esi_poll_ready ready[4];

    const size_t count =
        esi_env_poller_wait(client->env, client->poller, 0, ready, ESI_COUNT_OF(ready));
    if (client->state == CLIENT_CONNECTING && count > 0) {
        const enum es_err err = esi_env_connect_result(client->env, client->sock);
        if (err == ES_OK) {
            greet(client);
        } else if (err != ES_AGAIN) {
            drop(client, "not connected");
        }
    }
    if (client->state >= CLIENT_GREETED && client->read_ns <= now_of(client)) {
        read_socket(client);
    }
    act(client);
    write_socket(client);
    watch(client);
    check_patience(client);
    *next_ns = client->act_ns;
    if (client->read_ns > now_of(client) && client->read_ns < *next_ns) {
        *next_ns = client->read_ns;
    }
    if (client->world->phase == PHASE_OVER) {
        return false;
    }
    return true;
}

struct sim_client *sim_client_new(struct sim_world *world, uint32_t index)
{
    struct sim_client *client = calloc(1, sizeof *client);
    char host[32];

    sim_check(world, client != NULL, "no memory");
    snprintf(host, sizeof host, "10.0.1.%" PRIu32, index + 1);
    client->world = world;
    client->index = index;
    client->env = esi_env_sim_host(world->sim, host);
    client->sock = ESI_ENV_NO_SOCKET;
    client->pace_ns = (10 + draw(client, 1000)) * SIM_MS;
    client->away_since_ns = now_of(client);
    client->act_ns = now_of(client) + draw(client, SIM_S);
    esi_bytes_init(&client->in, 0);
    esi_bytes_init(&client->out, 0);
    sim_check(world,
              esi_env_poller_new(client->env, &client->poller) == ES_OK &&
                  esi_env_stepped_start(client->env, "client", step, client, client->poller,
                                        &client->thread) == ES_OK,
              "no client");
    return client;
}

void sim_client_wake(struct sim_client *client)
{
    client->is_settled = false;
    client->read_ns = client->read_ns > now_of(client) ? now_of(client) : client->read_ns;
    client->act_ns = now_of(client);
    esi_env_stepped_wake(client->env, client->thread);
}

bool sim_client_is_settled(const struct sim_client *client)
{
    return client->is_settled;
}

void sim_client_cut(struct sim_client *client, bool is_cut)
{
    client->is_cut = is_cut;
    client->disturbed_ns = now_of(client);
    for (int i = 0; i < SIM_GROUPS; i++) {
        /* Its server may have taken it for a member all the time. */
        sim_book_group_broken(client->world->book, i);
    }
    for (uint32_t i = 0; i < client->world->server_count; i++) {
        esi_env_sim_cut(client->world->sim, client->env, client->world->servers[i].env, is_cut);
    }
}

void sim_client_reset(struct sim_client *client)
{
    client->disturbed_ns = now_of(client);
    for (uint32_t i = 0; i < client->world->server_count; i++) {
        esi_env_sim_reset(client->world->sim, client->env, client->world->servers[i].env);
    }
}

void sim_client_print(const struct sim_client *client)
{
    printf("client %" PRIu32 ": state %d, server %" PRIu32 ", %" PRIu32
           " PINGs out, %zu bytes in, %zu bytes out\n",
           client->index, (int)client->state, client->server, client->ping_count, client->in.len,
           client->out.len);
}

void sim_client_free(struct sim_client *client)
{
    if (client->state != CLIENT_AWAY) {
        drop(client, "the end");
    }
    esi_env_thread_join(client->env, client->thread);
    esi_env_poller_free(client->env, client->poller);
    esi_bytes_deinit(&client->in);
    esi_bytes_deinit(&client->out);
    free(client);
}
