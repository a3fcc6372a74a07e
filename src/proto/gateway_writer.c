/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words of errors are nats-server's: peers compare them. */
#include "proto/gateway_writer.h"
#include "base/assert.h"
#include "proto/subject.h"
#include "proto/write_internal.h"

size_t esi_gateway_writer_msg_size_max(const struct esi_gateway_msg *msg)
{
    size_t size = sizeof "RMSG " + msg->account.len + 1 + msg->subject.len + 1 + 2 +
                  msg->reply.len + 1 + 2 * (ESI_SIZE_DIGITS_MAX + 1) + 2;

    for (size_t i = 0; i < msg->queue_count; i++) {
        size += msg->queues[i].len + 1;
    }
    return size;
}

char *esi_gateway_writer_msg(char *out, const struct esi_gateway_msg *msg)
{
    ESI_DEBUG_ASSERT(msg->header_len <= msg->total_len);
    out = write_bytes(out, msg->header_len > 0 ? "HMSG " : "RMSG ", 5);
    out = write_field(out, msg->account);
    out = write_field(out, msg->subject);
    /* The marker stands only where queues follow: alone it would read as a reply of that name. */
    if (msg->queue_count > 0) {
        out = write_bytes(out, msg->reply.len > 0 ? "+ " : "| ", 2);
    }
    if (msg->reply.len > 0) {
        out = write_field(out, msg->reply);
    }
    for (size_t i = 0; i < msg->queue_count; i++) {
        out = write_field(out, msg->queues[i]);
    }
    if (msg->header_len > 0) {
        out = write_size(out, msg->header_len);
        *out++ = ' ';
    }
    out = write_size(out, msg->total_len);
    return write_bytes(out, "\r\n", 2);
}

static void begin_interest(struct esi_bytes *out, const char *verb, struct esi_str account,
                           struct esi_str subject, struct esi_str queue)
{
    esi_bytes_append_text(out, verb);
    esi_bytes_append_str(out, account);
    esi_bytes_append_text(out, " ");
    esi_bytes_append_str(out, subject);
    if (queue.len > 0) {
        esi_bytes_append_text(out, " ");
        esi_bytes_append_str(out, queue);
    }
}

void esi_gateway_writer_sub(struct esi_bytes *out, struct esi_str account, struct esi_str subject,
                            struct esi_str queue)
{
    begin_interest(out, "RS+ ", account, subject, queue);
    esi_bytes_append_text(out, queue.len > 0 ? " 1\r\n" : "\r\n");
}

void esi_gateway_writer_unsub(struct esi_bytes *out, struct esi_str account, struct esi_str subject,
                              struct esi_str queue)
{
    begin_interest(out, "RS- ", account, subject, queue);
    esi_bytes_append_text(out, "\r\n");
}

struct esi_str esi_gateway_writer_err_port(void)
{
    return ESI_STR("-ERR 'attempted to connect to gateway port'\r\n");
}

void esi_gateway_writer_err_rejected(struct esi_bytes *out, struct esi_str own)
{
    esi_bytes_append_text(out, "-ERR 'Connection to gateway ");
    esi_subject_quote(own, out);
    esi_bytes_append_text(out, " rejected'\r\n");
}

void esi_gateway_writer_err_wrong_port(struct esi_bytes *out, struct esi_str wanted)
{
    esi_bytes_append_text(out, "-ERR 'Attempt to connect to gateway ");
    esi_subject_quote(wanted, out);
    esi_bytes_append_text(out, " using wrong port'\r\n");
}

void esi_gateway_writer_err_wrong_gateway(struct esi_bytes *out, struct esi_str own,
                                          struct esi_str wanted, struct esi_str found)
{
    esi_bytes_append_text(out, "-ERR 'Connection from ");
    esi_subject_quote(own, out);
    esi_bytes_append_text(out, " rejected, wanted to connect to ");
    esi_subject_quote(wanted, out);
    esi_bytes_append_text(out, ", this is ");
    esi_subject_quote(found, out);
    esi_bytes_append_text(out, "'\r\n");
}

struct esi_str esi_gateway_writer_err_account_absent(int cmd)
{
    ESI_REQUIRE(cmd == 2 || cmd == 3);
    return cmd == 2
               ? ESI_STR("-ERR 'Account absent from receive-all-subscriptions-start command'\r\n")
               : ESI_STR(
                     "-ERR 'Account absent from receive-all-subscriptions-complete command'\r\n");
}
