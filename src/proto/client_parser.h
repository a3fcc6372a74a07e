/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's parser of the NATS client protocol: bytes in, facts out. No I/O, no allocation, no
 * copy: everything an item points to lies in the caller's buffer.
 *
 * Use: keep the unparsed bytes contiguous; call esi_client_parser_next with all of them; advance by
 * *consumed, whatever the result was; on CLIENT_MORE wait for bytes and call again with what was
 * not consumed and more behind it (it may have moved). How the bytes are cut makes no difference to
 * the items, and no cut makes the work quadratic.
 *
 * Invariants: a fault is found at the first byte that proves it; after CLIENT_FAULT the parser is
 * dead and repeats the fault. A parser that has consumed all its bytes and returned CLIENT_MORE or
 * an item holds no pointer.
 */
#pragma once

#include "base/str.h"
#include "proto/fault.h"
#include "proto/line_machine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum esi_client_op {
    CLIENT_MORE,  /* needed: bytes from data that this message will have, 0 when unknown */
    CLIENT_PUB,   /* PUB and HPUB: subject, reply, body, header_len, total_len, is_hpub */
    CLIENT_SUB,   /* subject, queue, sid */
    CLIENT_UNSUB, /* sid, max, has_max */
    CLIENT_PING,
    CLIENT_PONG,
    CLIENT_CONNECT, /* text: the JSON */
    CLIENT_INFO, /* text: the JSON (to be parsed, and closed silently if it is none; then ignored)
                  */
    CLIENT_OK,   /* the peer's +OK: ignore */
    CLIENT_ERR,  /* text: the peer's -ERR text; close silently */
    CLIENT_FAULT /* fault, reason */
};

/* Only the fields named at the op mean anything. All pointers lie in the caller's buffer. */
struct esi_client_item {
    struct esi_str subject; /* SUB: not yet checked with esi_subject_is_valid; free of CR, LF, NUL
                               and blanks */
    struct esi_str reply;   /* PUB: empty when absent */
    struct esi_str queue;   /* SUB: empty when absent */
    struct esi_str sid;
    struct esi_str text;
    const char
        *body; /* header_len bytes of header, then the payload, then CR LF (all in the buffer) */
    size_t header_len; /* 0 for PUB, and for an HPUB without header bytes */
    size_t total_len;  /* header and payload, at most 999999999 */
    size_t needed;
    uint64_t max; /* deliveries since SUB, when has_max */
    bool has_max; /* false: remove now */
    bool is_hpub;
    enum esi_fault fault;
    const char *reason; /* for the log: a static sentence */
};

/* Bytes of arguments while auth_pending, where max_control_line is more. */
enum { ESI_CLIENT_OPENING_LINE_MAX = 8 * 1024 };

struct esi_client_parser {
    /* Options: the caller may change them between calls. */
    int64_t max_payload;     /* bytes; -1: no limit */
    size_t max_control_line; /* bytes of arguments, without verb, blanks behind it, CR and LF */
    bool headers_allowed;    /* HPUB was negotiated; else it is FAULT_SILENT */
    bool auth_pending;       /* nothing but CONNECT may come */
    /* Progress inside an unfinished line or message. */
    struct esi_line_machine line;
    enum esi_fault fault;
    const char *reason;
};

/*
 * Makes a parser ready for a new connection.
 *   max_payload       bytes, -1: no limit
 *   max_control_line  bytes, at least 1
 * headers_allowed and auth_pending start false.
 */
void esi_client_parser_init(struct esi_client_parser *parser, int64_t max_payload,
                            size_t max_control_line);

/*
 * Finds the next operation.
 *   data, len  the unparsed bytes (data may be NULL when len is 0)
 *   consumed   always written: bytes to drop from the front. CLIENT_MORE may consume too (ignored
 *              text behind PING, long runs of blanks), so that these need no room
 *   item       the fields of the op returned
 * Thread: the parser's owner. Cannot fail other than by CLIENT_FAULT.
 */
enum esi_client_op esi_client_parser_next(struct esi_client_parser *parser, const char *data,
                                          size_t len, size_t *consumed,
                                          struct esi_client_item *item);
