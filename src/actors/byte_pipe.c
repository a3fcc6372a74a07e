/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariant: bytes between `written` and the end of `output` are the oldest that the peer has not
 * got; the machine is asked for more only when there are none.
 */
#include "actors/byte_pipe.h"
#include "env/env.h"
#include "net/stream.h"

enum {
    READ_BYTES = 16 * 1024,
    READS_A_TURN = 8,
    WRITE_BYTES = 64 * 1024,
    WRITES_A_TURN = 8,
    OUTPUT_KEPT_BYTES = 256 * 1024 /* a larger buffer is given back when it is empty */
};

void esi_byte_pipe_init(struct esi_byte_pipe *pipe, struct esi_stream *stream)
{
    *pipe = (struct esi_byte_pipe){.stream = stream};
    esi_bytes_init(&pipe->output, 0);
}

void esi_byte_pipe_deinit(struct esi_byte_pipe *pipe)
{
    esi_stream_free(pipe->stream);
    esi_bytes_deinit(&pipe->output);
    *pipe = (struct esi_byte_pipe){0};
}

enum es_err esi_byte_pipe_read(struct esi_byte_pipe *pipe, esi_byte_pipe_feed_fn feed,
                               void *machine, uint64_t now_ns, bool *got)
{
    char buffer[READ_BYTES];

    pipe->has_more_input = false;
    for (int i = 0; i < READS_A_TURN; i++) {
        size_t count = 0;
        enum es_err err = esi_stream_read(pipe->stream, buffer, sizeof buffer, &count);
        if (err == ES_AGAIN) {
            return ES_OK;
        }
        if (err != ES_OK) {
            return err;
        }
        *got = true;
        err = feed(machine, buffer, count, now_ns);
        if (err != ES_OK) {
            return err;
        }
        if (count < sizeof buffer && !esi_stream_has_buffered_input(pipe->stream)) {
            return ES_OK;
        }
    }
    pipe->has_more_input = true;
    return ES_OK;
}

/* Makes sure that there is something to write. Returns false when there is not. */
static bool fill(struct esi_byte_pipe *pipe, esi_byte_pipe_take_fn take, void *machine)
{
    if (pipe->written < pipe->output.len) {
        return true;
    }
    pipe->written = 0;
    if (pipe->output.capacity > OUTPUT_KEPT_BYTES) {
        esi_bytes_deinit(&pipe->output);
    } else {
        esi_bytes_clear(&pipe->output);
    }
    return take(machine, &pipe->output, WRITE_BYTES) > 0;
}

enum es_err esi_byte_pipe_write(struct esi_byte_pipe *pipe, esi_byte_pipe_take_fn take,
                                void *machine, bool *progress)
{
    pipe->has_more_output = false;
    for (int i = 0; i < WRITES_A_TURN; i++) {
        size_t count = 0;
        if (!fill(pipe, take, machine)) {
            const enum es_err err = esi_stream_flush(pipe->stream);
            pipe->is_write_blocked = err == ES_AGAIN;
            return err;
        }
        const struct iovec part = {.iov_base = pipe->output.data + pipe->written,
                                   .iov_len = pipe->output.len - pipe->written};
        const enum es_err err = esi_stream_writev(pipe->stream, &part, 1, &count);
        if (err != ES_OK) {
            pipe->is_write_blocked = err == ES_AGAIN;
            return err;
        }
        pipe->written += count;
        *progress = true;
    }
    pipe->has_more_output = true;
    return ES_AGAIN;
}

uint32_t esi_byte_pipe_events(const struct esi_byte_pipe *pipe, bool wants_read)
{
    return esi_stream_wants(pipe->stream) | (wants_read ? (uint32_t)POLL_READ : 0U) |
           (pipe->is_write_blocked ? (uint32_t)POLL_WRITE : 0U);
}
