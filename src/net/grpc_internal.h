/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What both sides of gRPC need: one message read from a stream's bytes, the memory that long
 * messages share, numbers for calls, and the text forms of headers. Thread: one at a time, the
 * connection owner's.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "net/grpc.h"
#include "net/http2.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GRPC_PREFIX_BYTES = 5,
    GRPC_STREAM_WINDOW_BYTES = 65535, /* what a peer may send before its message is let in */
    GRPC_CALLS_SLOTS_MAX = 65536
};

/* The memory for messages that are longer than a stream's window. */
struct esi_grpc_pool {
    struct esi_http2 *http2; /* borrowed */
    size_t bytes_max;
    size_t bytes_reserved;
    size_t bytes_held; /* memory of all messages as far as they have come, the short ones too */
    struct esi_list waiting; /* readers whose message has no room yet, in order of arrival */
};

/* Reads exactly one message. */
struct esi_grpc_reader {
    struct esi_list link;            /* in the pool's waiting */
    struct esi_http2_stream *stream; /* borrowed; the owner clears it when the stream is gone */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    size_t prefix_len;
    char *message;       /* owned; NULL until bytes of it come */
    size_t capacity;     /* bytes allocated */
    size_t message_len;  /* as announced */
    size_t received_len; /* of it */
    size_t withheld;     /* bytes taken from the window and not given back */
    size_t reserved;     /* of the pool */
};

void esi_grpc_pool_init(struct esi_grpc_pool *pool, struct esi_http2 *http2, size_t bytes_max);
void esi_grpc_reader_init(struct esi_grpc_reader *reader, struct esi_http2_stream *stream);
/* Frees the message and gives its share of the pool to those that wait. */
void esi_grpc_reader_deinit(struct esi_grpc_reader *reader, struct esi_grpc_pool *pool);
/*
 * Takes body bytes of the stream.
 *   message_max  a longer message is refused
 *   *why         on failure a sentence, static
 * Returns GRPC_OK, or the status that the call must end with.
 */
ES_MUST_USE enum esi_grpc_status esi_grpc_reader_feed(struct esi_grpc_reader *reader,
                                                      struct esi_grpc_pool *pool,
                                                      struct esi_str data, size_t message_max,
                                                      const char **why);
/* One whole message is there. */
bool esi_grpc_reader_is_complete(const struct esi_grpc_reader *reader);
/* No byte has come. */
bool esi_grpc_reader_is_empty(const struct esi_grpc_reader *reader);

/* Numbers for calls: a slot and a generation, so that an old number finds nothing. */
struct esi_grpc_slots {
    void **calls;          /* owned; count */
    uint16_t *generations; /* owned; count */
    uint16_t *free_slots;  /* owned; a stack */
    uint32_t count;
    uint32_t free_count;
};

/* count: 1 to GRPC_CALLS_SLOTS_MAX. */
ES_MUST_USE enum es_err esi_grpc_slots_init(struct esi_grpc_slots *slots, uint32_t count);
void esi_grpc_slots_deinit(struct esi_grpc_slots *slots);
/* Fails with ES_FULL. */
ES_MUST_USE enum es_err esi_grpc_slots_add(struct esi_grpc_slots *slots, void *call, uint32_t *id);
/* Memory of the numbers. */
size_t esi_grpc_slots_memory_bytes(const struct esi_grpc_slots *slots);
/* The call, or NULL. */
void *esi_grpc_slots_find(const struct esi_grpc_slots *slots, uint32_t id);
void esi_grpc_slots_remove(struct esi_grpc_slots *slots, uint32_t id);

/* Appends prefix and message to a body. */
void esi_grpc_append_message(struct esi_bytes *body, struct esi_str message);
/* grpc-timeout: at most 8 digits and a unit, never longer than asked, never 0. out: 16 bytes; ended
 * by NUL. */
void esi_grpc_format_timeout(uint64_t timeout_ns, char *out);
/* Reads grpc-timeout. False when it is malformed. *out only on success; saturates. */
ES_MUST_USE bool esi_grpc_parse_timeout(struct esi_str text, uint64_t *out);
/* grpc-message: percent-encodes up to GRPC_STATUS_TEXT_MAX bytes. out: 3 * GRPC_STATUS_TEXT_MAX +
 * 1; ended by NUL. */
void esi_grpc_encode_text(struct esi_str text, char *out);
/* grpc-message: decodes and leaves only printable ASCII ('?' for the rest). out:
   GRPC_STATUS_TEXT_MAX bytes. Returns the length. */
size_t esi_grpc_decode_text(struct esi_str text, char *out);
/* The status number of a grpc-status header; GRPC_UNKNOWN when it is none. */
enum esi_grpc_status esi_grpc_parse_status(struct esi_str text);
/* application/grpc, with or without a suffix. */
bool esi_grpc_is_content_type(struct esi_str value);
