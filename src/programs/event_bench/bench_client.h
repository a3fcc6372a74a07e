/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client connection: reads in large blocks that all connections of a thread share and keeps
 * only the unparsed tail; writes what was appended to `out`, and one large batch that its publisher
 * lends it. Plain TCP, or TLS after the server's INFO.
 *
 * Invariant: a batch that was written in part is finished before anything else is written.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "env/env.h"
#include "event_bench/bench_options.h"
#include "event_bench/bench_parser.h"

enum { BENCH_READ_BYTES = 128 * 1024, BENCH_EXPECTED_BYTES = 192 };

struct esi_bench_client;

/* What the first connection learned from the server's INFO. */
struct esi_bench_server {
    char name[128];
    char version[64];
    char go[64];
    uint64_t payload_bytes_max;
    bool is_known;
};

/* What the connections of one thread share. */
struct esi_bench_link {
    struct esi_env *env;                     /* borrowed */
    const struct esi_bench_options *options; /* borrowed */
    struct esi_poller *poller;               /* owned by the shard */
    struct esi_tls_context *tls;             /* borrowed; NULL: plain */
    char *block;                             /* owned by the shard; block_bytes */
    size_t block_bytes;
    size_t payload_max;
    uint64_t now_ns; /* taken after each read */
    struct esi_bench_server server;
    bool has_failed; /* then `error` says why; nothing goes on */
    struct es_error error;
};

enum esi_bench_client_state {
    BENCH_CLIENT_CLOSED,
    BENCH_CLIENT_CONNECTING, /* until the socket is writable */
    BENCH_CLIENT_GREETING,   /* until INFO has come */
    BENCH_CLIENT_SHAKING,    /* until the TLS handshake is done */
    BENCH_CLIENT_OPEN
};

/* Called for each message; message and its parts are borrowed for the call. */
typedef void (*esi_bench_message_fn)(struct esi_bench_client *client,
                                     const struct esi_bench_frame *message);

struct esi_bench_client {
    struct esi_bench_link *link;            /* borrowed */
    const struct esi_bench_address *server; /* borrowed: as the user has named it */
    enum esi_bench_client_state state;
    struct esi_stream *stream; /* owned */
    bool is_stalled;           /* reads no more; what becomes of it is of no interest */
    uint32_t watched;          /* bits of enum esi_poll_event */
    uint32_t pongs_due;        /* PINGs sent and not yet answered */
    struct esi_bytes tail;     /* begin of a frame that is not all here */
    struct esi_bytes out;
    size_t out_written;
    const char *batch; /* borrowed until batch_written == batch_len */
    size_t batch_len;
    size_t batch_written;
    uint64_t written_ns; /* when the last batch was finished */
    /* The control line of every message, when it is known before: comparing it is cheaper than
     * parsing. */
    char expected[BENCH_EXPECTED_BYTES];
    size_t expected_len;
    esi_bench_message_fn on_message;
    void *owner; /* borrowed, for on_message */
};

/* An unconnected client. Cannot fail. */
void esi_bench_client_init(struct esi_bench_client *client, struct esi_bench_link *link,
                           esi_bench_message_fn on_message, void *owner);
/* Closes and frees. Accepts a client that was never opened, or only zeroed. */
void esi_bench_client_deinit(struct esi_bench_client *client);

/*
 * Begins to connect; INFO and CONNECT follow by themselves, then `pongs_due` tells when the server
 * has answered. Failure is told by link->has_failed.
 *   server   borrowed: the server's name, for its certificate and for what is told
 *   address  where it was found
 *   source   address of ours to connect from; NULL: any
 */
void esi_bench_client_open(struct esi_bench_client *client, const struct esi_bench_address *server,
                           const struct esi_address *address, const struct esi_address *source);

/*
 * Announces that every message to this client is the same but for its payload: subject, sid, size.
 * Longer lines than fit are parsed in the general way.
 */
void esi_bench_client_expect(struct esi_bench_client *client, const char *subject, uint64_t sid,
                             size_t size_bytes);

/* Appends PING; a PONG lowers pongs_due again. */
void esi_bench_client_ping(struct esi_bench_client *client);

/* True while a lent batch is not written. */
static inline bool esi_bench_client_is_busy(const struct esi_bench_client *client)
{
    return client->batch_len != 0;
}

/* Lends a batch; the client must not be busy. It is written by the next flush. */
void esi_bench_client_lend(struct esi_bench_client *client, const char *batch, size_t len);

/* Writes what the socket takes; the rest follows when it is writable. */
void esi_bench_client_flush(struct esi_bench_client *client);

/* Takes it out of the poller: it reads no more, and its end is no failure. */
void esi_bench_client_stall(struct esi_bench_client *client);

/* Reacts to what the poller said: bits of enum esi_poll_event. */
void esi_bench_client_on_ready(struct esi_bench_client *client, uint32_t events);

/* Ends the run with this message, unless it has failed before. */
void esi_bench_client_fail(struct esi_bench_link *link, const char *format, ...) ESI_PRINTF(2, 3);
