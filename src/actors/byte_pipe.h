/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte pipe: between a stream and a protocol machine that takes bytes and gives bytes (one side of
 * gRPC). It reads and writes a bounded amount a turn and remembers what the poller cannot know. One
 * thread's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_stream;

/* Takes all bytes. Not ES_OK: the machine has ended and takes no more. */
typedef enum es_err (*esi_byte_pipe_feed_fn)(void *machine, const void *data, size_t len,
                                             uint64_t now_ns);
/* Appends up to max bytes of output. Returns how many. */
typedef size_t (*esi_byte_pipe_take_fn)(void *machine, struct esi_bytes *out, size_t max);

struct esi_byte_pipe {
    struct esi_stream *stream; /* owned; NULL: closed */
    struct esi_bytes output;   /* taken from the machine, in part written */
    size_t written;
    bool is_write_blocked; /* until POLL_WRITE */
    bool has_more_input;   /* the turn's share is used up: read again in the next turn */
    bool has_more_output;  /* likewise */
};

/* Takes the stream. */
void esi_byte_pipe_init(struct esi_byte_pipe *pipe, struct esi_stream *stream);
/* Closes the stream at once. It must not be watched any more. Harmless when closed. */
void esi_byte_pipe_deinit(struct esi_byte_pipe *pipe);

/*
 * Reads what there is, up to a turn's share, and feeds it.
 *   *got   bytes came, also when it fails later
 * ES_OK: the connection lives; else as esi_stream_read, or what feed returned.
 */
ES_MUST_USE enum es_err esi_byte_pipe_read(struct esi_byte_pipe *pipe, esi_byte_pipe_feed_fn feed,
                                           void *machine, uint64_t now_ns, bool *got);
/*
 * Writes what the machine has, up to a turn's share.
 *   *progress   the peer's socket took bytes
 * ES_OK: nothing is left. ES_AGAIN: something is (is_write_blocked, or has_more_output). Else: the
 * peer is gone.
 */
ES_MUST_USE enum es_err esi_byte_pipe_write(struct esi_byte_pipe *pipe, esi_byte_pipe_take_fn take,
                                            void *machine, bool *progress);
/* What to watch for: bits of enum esi_poll_event. */
uint32_t esi_byte_pipe_events(const struct esi_byte_pipe *pipe, bool wants_read);
