/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parser of the NATS gateway protocol, both roles. Same use and same invariants as
 * proto/client_parser.h: pass all unparsed bytes, advance by *consumed, pass the rest again with
 * more behind it.
 *
 * Messages flow only from dialler to acceptor and interest only back; what comes from the wrong
 * side is a fault here, so that it can never be delivered (it crashes real servers).
 */
#pragma once

#include "base/str.h"
#include "proto/fault.h"
#include "proto/line_machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What we are on this connection. */
enum esi_gateway_role {
    GATEWAY_ACCEPTOR, /* inbound: RMSG, HMSG, CONNECT, INFO come in */
    GATEWAY_DIALLER   /* outbound: INFO, RS+, RS-, A+, A- come in */
};

enum esi_gateway_op {
    GATEWAY_MORE, /* needed */
    GATEWAY_MSG,  /* RMSG and HMSG: account, subject, reply, queues, queue_count, body, lengths,
                     is_hmsg */
    GATEWAY_SUB, /* RS+: account, subject, queue, weight. Ignore it when the subject is not valid */
    GATEWAY_UNSUB,         /* RS-: account, subject, queue */
    GATEWAY_ACCOUNT_SUB,   /* A+: account */
    GATEWAY_ACCOUNT_UNSUB, /* A-: account */
    GATEWAY_INFO,          /* text: the JSON */
    GATEWAY_CONNECT,       /* text: the JSON */
    GATEWAY_PING,
    GATEWAY_PONG,
    GATEWAY_OK,   /* ignore */
    GATEWAY_ERR,  /* text: the peer's -ERR; log it escaped, close */
    GATEWAY_FAULT /* fault, reason */
};

/* Only the fields named at the op mean anything. All pointers lie in the caller's buffer. */
struct esi_gateway_item {
    struct esi_str account;
    struct esi_str
        subject; /* not checked with esi_subject_is_valid; free of CR, LF, NUL and blanks */
    struct esi_str reply; /* empty: none */
    struct esi_str queue; /* RS+, RS-; empty: plain interest */
    struct esi_str
        queues; /* MSG: the queue names with blanks between; esi_gateway_parser_next_queue */
    size_t queue_count;
    struct esi_str text;
    const char
        *body; /* header_len bytes of header, then the payload, then CR LF (all in the buffer) */
    size_t header_len; /* 0: no headers */
    size_t total_len;  /* header and payload */
    size_t needed;     /* bytes from data + *consumed that the message will have; 0: unknown */
    uint32_t weight;   /* of a queue; 1 where the peer wrote no usable number */
    bool is_hmsg;
    enum esi_fault fault;
    const char *reason; /* for the log: a static sentence */
};

struct esi_gateway_parser {
    /* Options: the caller may change them between calls. */
    enum esi_gateway_role role;
    size_t max_payload; /* bytes of header and payload that we accept; more is FAULT_MAX_PAYLOAD */
    size_t max_control_line; /* bytes of arguments */
    bool auth_pending;       /* acceptor, before a good CONNECT: nothing else may come */
    /* Progress inside an unfinished line or message. */
    struct esi_line_machine line;
    enum esi_fault fault;
    const char *reason;
};

enum {
    ESI_GATEWAY_CONTROL_LINE_MAX = 64 * 1024,
    ESI_GATEWAY_OPENING_LINE_MAX = 8 * 1024, /* while auth_pending */
    ESI_GATEWAY_PAYLOAD_MAX = 64 * 1024 * 1024
};

/* Makes a parser ready with the two caps above; auth_pending starts true for the acceptor, false
 * for the dialler. */
void esi_gateway_parser_init(struct esi_gateway_parser *parser, enum esi_gateway_role role);

/* Finds the next operation: as esi_client_parser_next. */
enum esi_gateway_op esi_gateway_parser_next(struct esi_gateway_parser *parser, const char *data,
                                            size_t len, size_t *consumed,
                                            struct esi_gateway_item *item);

/*
 * Walks the queue names of a message: takes the first name off *queues (set it to item->queues
 * before) into *queue. Returns false at the end.
 */
bool esi_gateway_parser_next_queue(struct esi_str *queues, struct esi_str *queue);
