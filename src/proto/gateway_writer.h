/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines that we write on gateway links. The message line goes into room that the caller
 * guarantees; the rest is appended to a byte buffer. Subjects, queues and accounts must be free of
 * blanks, CR, LF and NUL: the parsers give no others. Thread: any.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stddef.h>

/* A message line; strings are borrowed. */
struct esi_gateway_msg {
    struct esi_str account;
    struct esi_str subject;
    struct esi_str reply;         /* empty: none */
    const struct esi_str *queues; /* the groups that the receiver must serve */
    size_t queue_count;           /* 0: plain interest only */
    size_t header_len;            /* bytes; 0: RMSG */
    size_t total_len;             /* bytes of header and payload */
};

/* The most bytes that esi_gateway_writer_msg writes for this line. */
size_t esi_gateway_writer_msg_size_max(const struct esi_gateway_msg *msg);
/* Writes the RMSG or HMSG line with CR LF into out. Returns its end. The caller appends header,
 * payload and CR LF. */
char *esi_gateway_writer_msg(char *out, const struct esi_gateway_msg *msg);

/* RS+ account subject, or with a queue RS+ account subject queue 1. */
void esi_gateway_writer_sub(struct esi_bytes *out, struct esi_str account, struct esi_str subject,
                            struct esi_str queue);
/* RS- account subject[ queue] */
void esi_gateway_writer_unsub(struct esi_bytes *out, struct esi_str account, struct esi_str subject,
                              struct esi_str queue);

/* The -ERR lines of gateway links; those shared with clients come from esi_client_writer_err. */
/* -ERR 'attempted to connect to gateway port' */
struct esi_str esi_gateway_writer_err_port(void);
/* -ERR 'Connection to gateway "own" rejected' */
void esi_gateway_writer_err_rejected(struct esi_bytes *out, struct esi_str own);
/* -ERR 'Attempt to connect to gateway "wanted" using wrong port' */
void esi_gateway_writer_err_wrong_port(struct esi_bytes *out, struct esi_str wanted);
/* -ERR 'Connection from "own" rejected, wanted to connect to "wanted", this is "found"' */
void esi_gateway_writer_err_wrong_gateway(struct esi_bytes *out, struct esi_str own,
                                          struct esi_str wanted, struct esi_str found);
/* -ERR 'Account absent from receive-all-subscriptions-start command' (or -complete), for cmd 2 (or
 * 3) */
struct esi_str esi_gateway_writer_err_account_absent(int cmd);
