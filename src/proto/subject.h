/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Subjects: byte strings split at '.' into tokens. A token that is exactly '*' matches one token, a
 * last token that is exactly '>' matches one or more. Everything here is pure and bounded by the
 * length of its arguments; thread: any. "Pattern" is a subject whose wildcards count; "subject"
 * alone is taken literally, as NATS takes a published one.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

/* A walk over tokens; an empty subject has one empty token. */
struct esi_subject_cursor {
    const char *next; /* borrowed; NULL when the last token was given */
    const char *end;
};

/* Starts a walk over the tokens of a subject; the subject stays borrowed while the cursor is used.
 */
struct esi_subject_cursor esi_subject_tokens(struct esi_str subject);
/* Gives the next token (perhaps empty) in *token; false at the end, then *token is not written. */
bool esi_subject_next_token(struct esi_subject_cursor *cursor, struct esi_str *token);
/* The number of tokens: dots + 1. */
size_t esi_subject_token_count(struct esi_str subject);

/*
 * May be subscribed: no empty token, '>' only as the last one. False means: -ERR 'Invalid Subject',
 * connection stays.
 */
bool esi_subject_is_valid(struct esi_str pattern);
/* Has a token of no bytes: published so, it reaches nobody, not even '>'. */
bool esi_subject_has_empty_token(struct esi_str subject);
/* The pedantic publish check: no empty token and none that is exactly '*' or '>'. */
bool esi_subject_is_literal(struct esi_str subject);
/* Has a token that is exactly '*' or '>' (wherever it stands). */
bool esi_subject_has_wildcard(struct esi_str pattern);
/* Holds CR, LF, NUL, blank or tab: would break the framing of whoever it is forwarded to. */
bool esi_subject_has_forbidden_byte(struct esi_str subject);

/*
 * True when a message published on subject reaches a subscription on pattern. Wildcard tokens of
 * subject are literal; a subject with an empty token matches nothing. pattern is valid
 * (esi_subject_is_valid).
 */
bool esi_subject_matches(struct esi_str pattern, struct esi_str subject);
/* True when every subject that pattern matches is also matched by allowed. Both are valid patterns.
 */
bool esi_subject_is_subset(struct esi_str pattern, struct esi_str allowed);
/* True when some subject is matched by both valid patterns. */
bool esi_subject_overlaps(struct esi_str a, struct esi_str b);

/*
 * True for subjects that a client must not publish on: gateway replies, "_GR_." and the older
 * "$GR." with at least one byte behind. (nats-server guards the older form only in late versions; a
 * forged one would be stripped by the remote.)
 */
bool esi_subject_is_reserved_publish(struct esi_str subject);
/* True for replies that a client must not use: "_R_." alone too, "$JS.ACK.", "_GR_." and "$GR."
 * with a byte behind. */
bool esi_subject_is_reserved_reply(struct esi_str reply);
/*
 * True for queue groups that a client must not join: "_sys_", as nats-server, and the group by
 * which event-service takes events into its queue. A client in that group would be given events in
 * place of the queue, and they would be lost to their workers.
 */
bool esi_subject_is_reserved_queue(struct esi_str queue);
/* The queue group of the event queue: one name for all event-services, so that each event is queued
 * once. */
#define ESI_SUBJECT_EVENT_QUEUE ESI_STR("event-service")

/*
 * Appends the subject as Go's %q prints it, with the double quotes: the form inside -ERR texts.
 * Invalid UTF-8 becomes \xNN, control bytes their escapes, printable UTF-8 stays. Separators,
 * format and private-use characters are escaped; code points that no Unicode version has assigned
 * are printed as they are (Go escapes them).
 */
void esi_subject_quote(struct esi_str subject, struct esi_bytes *out);
