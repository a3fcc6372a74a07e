/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a peer may publish and subscribe: compiled once from lists, immutable and shared from then
 * on. One set of functions for publish, subscribe, delivery, replay and links, so that no path can
 * forget a rule.
 *
 * Rules: allowed = (no allow list, or covered by it) and not denied. A list is a set of valid
 * patterns; a subscribe entry may name a queue pattern as well ("foo v1"). Cost of a question:
 * about one hash look-up a token, however long the list is; no allocation, no lock.
 *
 * Threads: every function but new may be called from any thread at once; the count is atomic.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_permissions;

/* Tokens in one entry at most; bounds the work of a look-up. */
enum { ESI_PERMISSIONS_TOKENS_MAX = 64 };

/* One list as configured. Entries are borrowed: "subject", in subscribe lists also "subject queue".
 */
struct esi_permissions_list {
    const struct esi_str *entries;
    size_t count;
    bool is_given; /* with count 0: an allow list that allows nothing. Else an empty list imposes
                      nothing */
};

struct esi_permissions_spec {
    struct esi_permissions_list publish_allow;
    struct esi_permissions_list publish_deny;
    struct esi_permissions_list subscribe_allow;
    struct esi_permissions_list subscribe_deny;
    bool allow_responses;          /* without a publish list: publishing anything else is denied */
    int64_t responses_max;         /* replies for each message; -1: no limit */
    uint64_t responses_expires_ns; /* time for them; 0: no limit */
};

/*
 * Compiles a spec (borrowed for the call). On success *permissions holds one reference of the
 * caller.
 *   error  filled with the faulty entry on ES_INVALID and ES_TOO_LARGE; may be NULL
 * Errors: ES_INVALID (not a valid subject, a queue in a publish list), ES_TOO_LARGE (too many
 * tokens), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_permissions_new(const struct esi_permissions_spec *spec,
                                            struct esi_permissions **permissions,
                                            struct es_error *error);
/* One more reference; returns its argument. NULL (everything is allowed) is accepted by all
 * functions below. */
struct esi_permissions *esi_permissions_ref(struct esi_permissions *permissions);
/* Gives a reference back; the last one frees. */
void esi_permissions_unref(struct esi_permissions *permissions);

/* May a message be published on subject (taken literally)? Reserved subjects are not looked at
 * here. */
bool esi_permissions_may_publish(const struct esi_permissions *permissions, struct esi_str subject);
/*
 * May subject (a valid pattern) be subscribed, with a queue group or an empty queue? The allow
 * check is a subset test: every subject that the pattern can match is allowed by the list.
 * (nats-server matches the pattern as a literal, so that allow x.* lets x.> in; no known client
 * needs that.) A pattern wider than a deny entry is allowed: its messages are filtered at delivery.
 * Reserved queues (esi_subject_is_reserved_queue) are always refused.
 */
bool esi_permissions_may_subscribe(const struct esi_permissions *permissions,
                                   struct esi_str subject, struct esi_str queue);
/* Must each message for this accepted subscription be asked about with
 * esi_permissions_is_delivery_denied? */
bool esi_permissions_needs_delivery_check(const struct esi_permissions *permissions,
                                          struct esi_str subject, struct esi_str queue);
/* Is a message on subject (literal) kept from a subscription with this queue (empty: plain)? */
bool esi_permissions_is_delivery_denied(const struct esi_permissions *permissions,
                                        struct esi_str subject, struct esi_str queue);

/*
 * Does a message with a reply that is delivered to this peer let it publish on that reply for a
 * while?
 *   max         replies for each such message, -1: no limit
 *   expires_ns  0: no limit
 * Both are written only when the answer is true.
 */
bool esi_permissions_allows_responses(const struct esi_permissions *permissions, int64_t *max,
                                      uint64_t *expires_ns);
