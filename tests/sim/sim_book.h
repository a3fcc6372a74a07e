/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The book: each publication with its number, which its payload carries, and what each subscription
 * has received. Kept by the test, which sees all sides at once, so that every claim can be checked:
 *
 *   order     the numbers of one publisher's connection come to a connection in ascending order,
 *             where no link between was broken
 *   doubles   a subscription gets a number once, a queue group in all
 *   loss      what a PONG stood behind comes to all whose SUB a PONG stood behind before, if no
 *             connection in between was disturbed; what a server leaves out because its receiver is
 *             slow (drop_new), it must have counted for that receiver
 *   strays    nothing comes that was not published, on a subject that does not match, after the
 *             PONG that follows an UNSUB, or with other content
 */
#pragma once

#include "sim_world.h"

#include "base/bytes.h"
#include "base/str.h"

struct sim_book;

/* Of one connection's one subscription. */
struct sim_sub {
    bool is_used;
    uint32_t sid;
    uint32_t pattern;
    int group;               /* -1: plain */
    uint64_t in_force_ns;    /* when the PONG behind the SUB came; 0: not yet */
    uint64_t unsub_ns;       /* when UNSUB was written; 0: not yet */
    uint32_t max;            /* 0: no count */
    uint32_t received_count; /* deliveries */
    uint32_t base;           /* the first number that it could receive */
    uint8_t *received;       /* owned: a bit a number, from base */
    size_t received_bytes;
};

/* What a connection has seen of one publisher. */
struct sim_seen {
    uint32_t connection; /* the newest of the publisher's */
    uint32_t next;       /* the last number that came from it, and one */
};

/* A connection: publications come from it, deliveries go to it. */
struct sim_receiver {
    uint32_t client;
    uint32_t connection;
    uint32_t server;
    bool has_echo;
    struct sim_seen seen[SIM_CLIENTS_MAX]; /* by publisher */
};

extern const char *const sim_book_subjects[SIM_SUBJECTS];
extern const char *const sim_book_patterns[SIM_PATTERNS];
extern const char *const sim_book_groups[SIM_GROUPS];
/* The pattern that members of a group subscribe to: always the same. */
uint32_t sim_book_group_pattern(int group);

struct sim_book *sim_book_new(struct sim_world *world);
void sim_book_free(struct sim_book *book);

/*
 * Enters a publication of a connection; returns its number.
 *   own_groups   bits of the groups that the connection is in without wanting an echo, so that
 *                nothing is promised to them
 */
uint32_t sim_book_publish(struct sim_book *book, const struct sim_receiver *publisher,
                          uint32_t subject, uint32_t own_groups);
/* Its payload, of at least 9 bytes. */
void sim_book_payload(uint32_t number, size_t len, struct esi_bytes *out);
/* A PONG stands behind all that the connection published up to (and with) this number. */
void sim_book_confirm(struct sim_book *book, uint32_t connection, uint32_t up_to);
/* The next number. */
uint32_t sim_book_next(const struct sim_book *book);

/* A new connection's number. */
uint32_t sim_book_connection(struct sim_book *book);

void sim_book_sub_init(struct sim_book *book, struct sim_sub *sub, uint32_t sid, uint32_t pattern,
                       int group);
void sim_book_sub_deinit(struct sim_sub *sub);

/* A message has come. */
void sim_book_deliver(struct sim_book *book, struct sim_receiver *receiver, struct sim_sub *sub,
                      struct esi_str subject, struct esi_str payload);
/*
 * Everything that was confirmed before a time must have come to the subscription: that of a PING or
 * UNSUB of the receiver's that is answered by now. Returns how many are missing, where the server
 * may leave some out (drop_new); else 0.
 */
uint64_t sim_book_check_complete(struct sim_book *book, const struct sim_receiver *receiver,
                                 const struct sim_sub *sub, uint64_t before_ns);
/* A member of a group is gone without a word: what it was sent may be lost. */
void sim_book_group_broken(struct sim_book *book, int group);
/* A member of a group is there: from now on the group's messages must arrive; or it has left. */
void sim_book_group_joined(struct sim_book *book, int group, uint32_t server);
void sim_book_group_left(struct sim_book *book, int group, uint32_t server);
/* At the end: all groups that had a member all the time have got everything. */
void sim_book_check_groups(struct sim_book *book);
