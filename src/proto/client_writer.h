/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the server writes to clients: MSG and HMSG lines, the 503 status, -ERR lines. The functions
 * of the message path write into room that the caller guarantees and return the end; the rest
 * appends to a byte buffer. Thread: any.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stddef.h>

#define ESI_CLIENT_PING ESI_STR("PING\r\n")
#define ESI_CLIENT_PONG ESI_STR("PONG\r\n")
#define ESI_CLIENT_OK ESI_STR("+OK\r\n")

/* The -ERR lines without a variable part. */
enum esi_client_err {
    CLIENT_ERR_UNKNOWN_OPERATION,
    CLIENT_ERR_MAX_CONTROL_LINE,
    CLIENT_ERR_MAX_PAYLOAD,
    CLIENT_ERR_INVALID_SUBJECT,
    CLIENT_ERR_INVALID_PUBLISH_SUBJECT,
    CLIENT_ERR_AUTHORIZATION,
    CLIENT_ERR_AUTH_TIMEOUT,
    CLIENT_ERR_USER_EXPIRED,
    CLIENT_ERR_ACCOUNT_EXPIRED,
    CLIENT_ERR_USER_REVOKED,
    CLIENT_ERR_MAX_ACCOUNT_CONNECTIONS,
    CLIENT_ERR_MAX_CONNECTIONS,
    CLIENT_ERR_MAX_SUBSCRIPTIONS,
    CLIENT_ERR_MAX_LISTENERS,
    CLIENT_ERR_STALE_CONNECTION,
    CLIENT_ERR_INVALID_PROTOCOL,
    CLIENT_ERR_NO_RESPONDERS_NEEDS_HEADERS,
    CLIENT_ERR_THROTTLED,
    CLIENT_ERR_COUNT
};

/* The whole line "-ERR '...'\r\n". Static. */
struct esi_str esi_client_writer_err(enum esi_client_err err);

/* The most bytes that esi_client_writer_msg writes for these lengths. */
size_t esi_client_writer_msg_size_max(size_t subject_len, size_t sid_len, size_t reply_len);
/*
 * Writes "MSG subject sid [reply ]total\r\n", or with header_len > 0
 * "HMSG subject sid [reply ]header total\r\n".
 *   out         room for esi_client_writer_msg_size_max bytes
 *   reply       empty: none
 *   header_len  bytes; 0: MSG
 *   total_len   bytes of header and payload
 * Returns the end of what was written. The caller appends header, payload and CR LF.
 */
char *esi_client_writer_msg(char *out, struct esi_str subject, struct esi_str sid,
                            struct esi_str reply, size_t header_len, size_t total_len);

/* The most bytes that esi_client_writer_no_responders writes. */
size_t esi_client_writer_no_responders_size_max(size_t reply_len, size_t sid_len);
/* Writes the whole status message 503 (2.9 - 2.11 form) for the requester's reply subject and sid.
 * Returns its end. */
char *esi_client_writer_no_responders(char *out, struct esi_str reply, struct esi_str sid);

/* -ERR 'Permissions Violation for Publish to "subject"' */
void esi_client_writer_publish_violation(struct esi_bytes *out, struct esi_str subject);
/* -ERR 'Permissions Violation for Publish with Reply of "reply"' */
void esi_client_writer_reply_violation(struct esi_bytes *out, struct esi_str reply);
/*
 * -ERR 'Permissions Violation for Subscription to "subject"[ using queue "queue"][ (sid "sid")]'
 * queue and sid are left out when empty; a sid is given where a reload took a live subscription
 * away.
 */
void esi_client_writer_subscribe_violation(struct esi_bytes *out, struct esi_str subject,
                                           struct esi_str queue, struct esi_str sid);
/* -ERR 'Permissions Violation for Subscription to "subject", too many tokens' */
void esi_client_writer_too_many_tokens(struct esi_bytes *out, struct esi_str subject);
