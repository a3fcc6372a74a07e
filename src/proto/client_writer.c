/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The caller has reserved the room (..._size_max), so the message path writes without checks. */
#include "proto/client_writer.h"
#include "base/assert.h"
#include "base/own.h"
#include "proto/subject.h"
#include "proto/write_internal.h"

#define LINE(text) "-ERR '" text "'\r\n"

/* The words are nats-server's, capitals included: clients compare them. */
static const char *const err_lines[CLIENT_ERR_COUNT] = {
    [CLIENT_ERR_UNKNOWN_OPERATION] = LINE("Unknown Protocol Operation"),
    [CLIENT_ERR_MAX_CONTROL_LINE] = LINE("maximum control line exceeded"),
    [CLIENT_ERR_MAX_PAYLOAD] = LINE("Maximum Payload Violation"),
    [CLIENT_ERR_INVALID_SUBJECT] = LINE("Invalid Subject"),
    [CLIENT_ERR_INVALID_PUBLISH_SUBJECT] = LINE("Invalid Publish Subject"),
    [CLIENT_ERR_AUTHORIZATION] = LINE("Authorization Violation"),
    [CLIENT_ERR_AUTH_TIMEOUT] = LINE("Authentication Timeout"),
    [CLIENT_ERR_USER_EXPIRED] = LINE("User Authentication Expired"),
    [CLIENT_ERR_ACCOUNT_EXPIRED] = LINE("Account Authentication Expired"),
    [CLIENT_ERR_USER_REVOKED] = LINE("User Authentication Revoked"),
    [CLIENT_ERR_MAX_ACCOUNT_CONNECTIONS] = LINE("maximum account active connections exceeded"),
    [CLIENT_ERR_MAX_CONNECTIONS] = LINE("maximum connections exceeded"),
    [CLIENT_ERR_MAX_SUBSCRIPTIONS] = LINE("maximum subscriptions exceeded"),
    [CLIENT_ERR_MAX_LISTENERS] = LINE("maximum listeners exceeded"),
    [CLIENT_ERR_STALE_CONNECTION] = LINE("Stale Connection"),
    [CLIENT_ERR_INVALID_PROTOCOL] = LINE("invalid client protocol"),
    [CLIENT_ERR_NO_RESPONDERS_NEEDS_HEADERS] = LINE("no responders requires headers support"),
    [CLIENT_ERR_THROTTLED] = LINE("Connection throttling is active. Please try again later."),
};

#define NO_RESPONDERS " 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"

struct esi_str esi_client_writer_err(enum esi_client_err err)
{
    ESI_REQUIRE((unsigned)err < CLIENT_ERR_COUNT);
    return esi_str_from(err_lines[err]);
}

size_t esi_client_writer_msg_size_max(size_t subject_len, size_t sid_len, size_t reply_len)
{
    return sizeof "HMSG " + subject_len + 1 + sid_len + 1 + reply_len + 1 +
           2 * (ESI_SIZE_DIGITS_MAX + 1) + 2;
}

char *esi_client_writer_msg(char *out, struct esi_str subject, struct esi_str sid,
                            struct esi_str reply, size_t header_len, size_t total_len)
{
    ESI_DEBUG_ASSERT(header_len <= total_len);
    out = header_len > 0 ? write_bytes(out, "HMSG ", 5) : write_bytes(out, "MSG ", 4);
    out = write_field(out, subject);
    out = write_field(out, sid);
    if (reply.len > 0) {
        out = write_field(out, reply);
    }
    if (header_len > 0) {
        out = write_size(out, header_len);
        *out++ = ' ';
    }
    out = write_size(out, total_len);
    return write_bytes(out, "\r\n", 2);
}

size_t esi_client_writer_no_responders_size_max(size_t reply_len, size_t sid_len)
{
    return sizeof "HMSG " + reply_len + 1 + sid_len + sizeof NO_RESPONDERS;
}

char *esi_client_writer_no_responders(char *out, struct esi_str reply, struct esi_str sid)
{
    out = write_bytes(out, "HMSG ", 5);
    out = write_field(out, reply);
    out = write_bytes(out, sid.data, sid.len);
    return write_bytes(out, NO_RESPONDERS, sizeof NO_RESPONDERS - 1);
}

/* "-ERR 'Permissions Violation for <what> "<subject>"", still open behind it. */
static void begin_violation(struct esi_bytes *out, const char *what, struct esi_str subject)
{
    esi_bytes_append_text(out, "-ERR 'Permissions Violation for ");
    esi_bytes_append_text(out, what);
    esi_bytes_append_text(out, " ");
    esi_subject_quote(subject, out);
}

void esi_client_writer_publish_violation(struct esi_bytes *out, struct esi_str subject)
{
    begin_violation(out, "Publish to", subject);
    esi_bytes_append_text(out, "'\r\n");
}

void esi_client_writer_reply_violation(struct esi_bytes *out, struct esi_str reply)
{
    begin_violation(out, "Publish with Reply of", reply);
    esi_bytes_append_text(out, "'\r\n");
}

void esi_client_writer_subscribe_violation(struct esi_bytes *out, struct esi_str subject,
                                           struct esi_str queue, struct esi_str sid)
{
    begin_violation(out, "Subscription to", subject);
    if (queue.len > 0) {
        esi_bytes_append_text(out, " using queue ");
        esi_subject_quote(queue, out);
    }
    if (sid.len > 0) {
        esi_bytes_append_text(out, " (sid ");
        esi_subject_quote(sid, out);
        esi_bytes_append_text(out, ")");
    }
    esi_bytes_append_text(out, "'\r\n");
}

void esi_client_writer_too_many_tokens(struct esi_bytes *out, struct esi_str subject)
{
    begin_violation(out, "Subscription to", subject);
    esi_bytes_append_text(out, ", too many tokens'\r\n");
}
