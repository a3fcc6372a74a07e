/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTP/1.x, server side, for monitoring and for posting single events: bytes in, requests out;
 * answers in, bytes out. No sockets, no clock. The owner reads from its stream only while
 * esi_http1_room is not 0, and times the peer out itself: esi_http1_is_idle tells the time between
 * two requests from the time inside one.
 *
 * Refused here, with an answer and then the end of the connection: malformed or ambiguous requests
 * (400; among them a second Content-Length, a missing or second Host, folded header lines, bare CR
 * or NUL), unknown methods (501), known ones that are not served (405), bodies without a length
 * (411), over the limit (413), request lines that are too long (414), headers that are too many or
 * too long (431), other versions (505). 404 is the owner's answer.
 *
 * Memory of one connection: at most head_bytes_max + body_bytes_max for input, output_bytes_max for
 * output, and this struct (about 4 KiB). Input is wiped when it is consumed: a request can carry a
 * token. Thread: one at a time, the owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_http1;

enum { HTTP1_HEADERS_MAX = 64, HTTP1_QUERY_MAX = 32 };

enum esi_http1_method { HTTP1_GET, HTTP1_HEAD, HTTP1_POST };

struct esi_http1_limits {
    size_t head_bytes_max;   /* request line and headers; 0 = 8 KiB */
    size_t body_bytes_max;   /* 0 = no body at all, and then POST is not allowed */
    size_t output_bytes_max; /* answers not yet taken; 0 = 16 MiB */
};

/* A query parameter (both parts percent-decoded) or a header (the name as the peer wrote it, the
 * value trimmed). */
struct esi_http1_pair {
    struct esi_str name;
    struct esi_str value;
};

/* Everything is borrowed from the connection's input, until the request has been answered. */
struct esi_http1_request {
    enum esi_http1_method method;
    unsigned version_minor; /* 0 or 1 */
    bool keep_alive;        /* what the peer asked for, or its version's default */
    bool expects_continue;  /* it waits for "100 Continue" (sent by itself) */
    size_t body_bytes;      /* as announced */
    struct esi_str path;    /* percent-decoded; starts with '/'; holds no control character */
    struct esi_str body;    /* complete */
    size_t query_count;
    size_t header_count;
    struct esi_http1_pair query[HTTP1_QUERY_MAX];
    struct esi_http1_pair headers[HTTP1_HEADERS_MAX];
};

struct esi_http1_response {
    unsigned status;                /* 100 to 599 */
    const char *content_type;       /* NULL = none */
    struct esi_str body;            /* borrowed; for HEAD only its length is told */
    struct esi_http1_pair *headers; /* borrowed; more headers; one with CR, LF or NUL is left out */
    size_t header_count;
    bool close; /* end the connection after this answer */
};

/* Makes a connection. limits: borrowed; NULL = defaults. Fails with ES_NO_MEMORY. *out is owned by
 * the caller. */
ES_MUST_USE enum es_err esi_http1_new(const struct esi_http1_limits *limits,
                                      struct esi_http1 **out);
/* Wipes and frees. NULL is accepted. */
void esi_http1_free(struct esi_http1 *http);

/* How many more bytes feed would take now. 0: answer, or take output, before reading on; or the
 * connection ends. */
size_t esi_http1_room(const struct esi_http1 *http);
/* Takes up to len bytes from the peer. Returns how many were taken, at most esi_http1_room; the
   rest stays the owner's, to be fed again. Cannot fail otherwise: running out of memory ends the
   connection. */
size_t esi_http1_feed(struct esi_http1 *http, const void *data, size_t len);
/* The peer will send nothing more (end of file): what was asked is still answered, then the
 * connection is done. */
void esi_http1_feed_end(struct esi_http1 *http);
/*
 * The next request, to be answered by esi_http1_respond before there is another one.
 *   *out   borrowed, until it is answered
 * Returns ES_AGAIN when there is none yet (or the last one is unanswered), ES_CLOSED when there
 * will be none.
 */
ES_MUST_USE enum es_err esi_http1_next(struct esi_http1 *http,
                                       const struct esi_http1_request **out);
/* Answers the request that esi_http1_next gave; it is then gone. Requires that there is one. When
   the answer does not fit into the output bound, 500 without a body is sent instead and the
   connection ends. */
void esi_http1_respond(struct esi_http1 *http, const struct esi_http1_response *response);
/* Moves up to max bytes of output to the end of *out. Returns how many. */
size_t esi_http1_take_output(struct esi_http1 *http, struct esi_bytes *out, size_t max);
/* Bytes of output that wait. */
size_t esi_http1_output_len(const struct esi_http1 *http);
/* Bytes of memory that the connection holds. */
size_t esi_http1_memory_bytes(const struct esi_http1 *http);
/* Nothing more will come: once the output has been taken and written, close the transport. */
bool esi_http1_is_done(const struct esi_http1 *http);
/* Between two requests: nothing fed that is not answered. */
bool esi_http1_is_idle(const struct esi_http1 *http);

/*
 * Parses one complete head (request line and headers, with the empty line that ends it). Decodes
 * path and query in place. Used by the connection above and by what upgrades a connection.
 *   head     changed; must outlive *out
 *   *out     written always; of use only on success; body is left empty
 *   *status  on failure the HTTP status to answer
 * Returns ES_INVALID or ES_UNSUPPORTED (version or method unknown). Work is linear in len.
 */
ES_MUST_USE enum es_err esi_http1_parse_head(char *head, size_t len, struct esi_http1_request *out,
                                             unsigned *status);
/* The value of the first header of that name (any case); data is NULL where there is none. */
struct esi_str esi_http1_header(const struct esi_http1_request *request, const char *name);
/* The value of the first query parameter of that name; data is NULL where there is none. */
struct esi_str esi_http1_query(const struct esi_http1_request *request, const char *name);
/* The reason phrase of a status; "Unknown" for one that we do not know. */
const char *esi_http1_reason(unsigned status);
