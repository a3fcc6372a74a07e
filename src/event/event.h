/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event: immutable, shared by reference, checked once when it comes in.
 * Invariants: `encoded` is an EventMsg that esi_event_protobuf_check accepts, with an ID and a
 * type; bytes that came as protobuf are kept as they came (unknown fields too), but for an ID or
 * type that had to be added; id and type point into `encoded`.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    ESI_EVENT_SIZE_MAX_DEFAULT = 1 << 20, /* bytes of a body */
    ESI_EVENT_ID_MAX = 256,               /* bytes */
    ESI_EVENT_TYPE_MAX = 256,             /* bytes */
    ESI_EVENT_RANDOM_BYTES = 16           /* what an ID of ours is made of */
};

struct esi_event {
    atomic_uint reference_count;
    bool has_generated_id; /* the body had none */
    bool has_published;
    int64_t published_s;   /* seconds since 1970, UTC; 0 when !has_published */
    uint32_t published_ns; /* 0 to 999,999,999 */
    struct esi_str id;
    struct esi_str type;
    struct esi_str encoded; /* protobuf EventMsg: what a worker is sent */
    size_t memory_bytes;    /* what this object costs in all */
    char data[];
};

struct esi_event_decode_options {
    size_t size_max;                  /* most bytes of a body; 0: ESI_EVENT_SIZE_MAX_DEFAULT */
    struct esi_str type_from_subject; /* empty: the body must name its type */
    const uint8_t
        *random; /* ESI_EVENT_RANDOM_BYTES unpredictable bytes, borrowed; used for at most one ID */
};

/*
 * Makes an event from a body that came from outside. '{', blank, tab or CR as the first byte means
 * JSON, all else is protobuf; a body that starts with LF (which is also the tag of EventID) is JSON
 * when it is no protobuf and '{' is its first byte that is not white space. A missing ID becomes a
 * version 4 UUID; a missing type is taken from the subject; a type that differs from the subject's
 * is refused, as is an ID or type over its bound or with control characters, and a type that is not
 * a possible NATS subject of one or more tokens without wildcards.
 *   body     borrowed
 *   event    written on success: one reference, owned by the caller
 *   reason   gets a sentence for the publisher on failure; may be NULL. It may hold bytes of the
 *            body, escaped
 * Returns ES_OK, ES_INVALID, ES_TOO_LARGE, ES_NO_MEMORY. Thread: any.
 */
ES_MUST_USE enum es_err esi_event_decode(struct esi_str body,
                                         const struct esi_event_decode_options *options,
                                         struct esi_event **event, struct es_error *reason);

/* Shares: one reference more. Returns the event. Thread: any. */
struct esi_event *esi_event_ref(struct esi_event *event);
/* Gives one reference back; the last frees the event. NULL is accepted. Thread: any. */
void esi_event_unref(struct esi_event *event);

/*
 * The type that a subject names: what follows the prefix.
 *   prefix   with its dot: "event."
 *   type     written on success; borrowed from subject
 * Returns false when the subject does not start so or nothing follows.
 */
bool esi_event_type_from_subject(struct esi_str subject, struct esi_str prefix,
                                 struct esi_str *type);
