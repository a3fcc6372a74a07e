/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the peer of one outbound link wants of one account: the dialler's table of the gateway
 * protocol. Its stored interest stands in the subscription table as subscriptions of the link;
 * "send all but what was refused" is one on ">".
 *
 * Modes, and what plain messages go out besides those that match stored interest, which always do:
 *
 * mode       | means                               | goes out
 * UNKNOWN    | nothing was said; a peer with iom    | nothing
 * OPTIMISTIC | nothing was said; a peer without iom, | all but the refused
 *            | or one that waits for us after A-     |
 * REFUSED    | A- came                             | nothing
 * SWITCHING  | cmd 2 came                          | as before it
 * COMPLETE   | cmd 3 came                          | nothing
 *
 * Where it differs from nats-server, and why: a server that answers A- forgets that it was
 * interest-only, and then waits for messages that a peer which saw gateway_iom never sends; so
 * after A- the next A+, or interest of a queue group, makes us optimistic until a new cmd 2. What
 * was stored by RS+ is kept through A-, and RS+ is stored in every mode. One thread's.
 */
#pragma once

#include "base/err.h"
#include "base/hashmap.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_lease;
struct esi_route_ops;
struct esi_sub;
struct esi_target;

enum {
    ESI_GATEWAY_REFUSED_MAX = 2048, /* a real server refuses 1000 subjects, then it switches */
    ESI_GATEWAY_REFUSED_BYTES_MAX = 1024 * 1024, /* of their text */
    ESI_GATEWAY_GROUPS_MAX = 1024,               /* queue groups on one subject */
    ESI_GATEWAY_GROUPS_BYTES_MAX = 32 * 1024,    /* of their names: they share one line of 64 KiB */
    ESI_GATEWAY_SUBJECT_MEAN_MAX = 256,          /* weight, when there are as many as may be */
    ESI_GATEWAY_TOKEN_WEIGHT = 64                /* of a token of a subject with wildcards */
};

enum esi_gateway_mode {
    MODE_UNKNOWN,
    MODE_OPTIMISTIC,
    MODE_REFUSED,
    MODE_SWITCHING,
    MODE_COMPLETE
};

struct esi_gateway_interest {
    struct esi_target *target; /* borrowed: the link's */
    struct esi_route_ops *ops; /* borrowed: the link's; where changes are noted */
    uint32_t flags;            /* of the subscriptions: bits of enum esi_sub_flag */
    bool has_iom;              /* the peer promises to be interest-only */
    enum esi_gateway_mode mode;
    uint32_t max;    /* subscriptions that the peer may have here */
    uint64_t weight; /* of what is stored: bytes of text, and for wildcards the tokens */
    uint64_t work;   /* refused subjects looked at: the caller sets it to 0 and ends its turn in
                            time */
    struct esi_hashmap plain;   /* subject -> struct esi_sub, owned */
    struct esi_hashmap queues;  /* subject and group -> struct entry, owned */
    struct esi_hashmap groups;  /* subject -> struct group_count, owned */
    struct esi_hashmap refused; /* subjects without interest while optimistic; owned */
    size_t refused_bytes;
    struct esi_sub *all;     /* owned; on ">", while optimistic; else NULL */
    size_t cursor;           /* of the withdrawal */
    struct esi_lease *lease; /* borrowed: the home worker's, set anew after a move; NULL: none */
    uint64_t held_bytes;     /* taken from it */
};

/*
 * max: subscriptions that the peer may have here. The caller sets `lease` before the first of them:
 * what is stored is taken from it, and is ES_FULL when limits.memory leaves no room.
 */
void esi_gateway_interest_init(struct esi_gateway_interest *interest, struct esi_target *target,
                               struct esi_route_ops *ops, uint32_t max);
/* Frees what is not in the subscription table; the rest has been withdrawn. */
void esi_gateway_interest_deinit(struct esi_gateway_interest *interest);
/*
 * The link is open; what follows comes from the peer.
 *   headers   the peer takes HMSG
 *   iom       the peer is interest-only: nothing is sent to it unasked
 * Errors of this and the next six: ES_NO_MEMORY, ES_FULL (bounds): the link must be closed.
 */
ES_MUST_USE enum es_err esi_gateway_interest_open(struct esi_gateway_interest *interest,
                                                  bool headers, bool iom);
/* RS+; the subject is valid. */
ES_MUST_USE enum es_err esi_gateway_interest_sub(struct esi_gateway_interest *interest,
                                                 struct esi_str subject, struct esi_str queue);
/* RS- */
ES_MUST_USE enum es_err esi_gateway_interest_unsub(struct esi_gateway_interest *interest,
                                                   struct esi_str subject, struct esi_str queue);
/* A+ */
ES_MUST_USE enum es_err esi_gateway_interest_account_sub(struct esi_gateway_interest *interest);
/* A- */
ES_MUST_USE enum es_err esi_gateway_interest_account_unsub(struct esi_gateway_interest *interest);
/* cmd 2 */
void esi_gateway_interest_switch(struct esi_gateway_interest *interest);
/* cmd 3; all that was said before it is in force. */
ES_MUST_USE enum es_err esi_gateway_interest_complete(struct esi_gateway_interest *interest);

/* True when a message on this subject, sent unasked when it was looked up, is to be left out
 * now. */
bool esi_gateway_interest_is_refused(const struct esi_gateway_interest *interest,
                                     struct esi_str subject);
/*
 * Notes the removal of up to `budget` subscriptions. Call until it returns true: all are; then
 * nothing but deinit is called any more.
 */
bool esi_gateway_interest_withdraw(struct esi_gateway_interest *interest, uint32_t budget);
/* The word for a mode in logs and monitoring. */
const char *esi_gateway_interest_mode_name(enum esi_gateway_mode mode);
