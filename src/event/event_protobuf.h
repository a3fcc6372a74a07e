/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event in its protobuf form: checks bytes from outside, tells the facts that the broker needs,
 * and reads and writes the small messages around it.
 *
 * The check is one pass with a stack of its own: depth, field count and unknown fields are bounded
 * before anything is built, so hostile nesting costs neither stack nor memory. What it accepts is
 * refused by no protobuf library, and has one meaning only: a singular field that comes twice,
 * which the format would merge, is refused.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    ESI_EVENT_PROTOBUF_DEPTH_MAX = 32, /* of objects and lists in data; data itself is the first */
    ESI_EVENT_PROTOBUF_FIELDS_MAX = 1 << 18, /* fields of all messages of one event */
    ESI_EVENT_PROTOBUF_UNKNOWN_MAX =
        1024 /* of these, fields that the contract does not name; they are kept */
};

/* What a checked EventMsg says; all runs of bytes are borrowed from the body. */
struct esi_event_protobuf_facts {
    struct esi_str id;         /* empty: none */
    struct esi_str type;       /* empty: none */
    struct esi_str id_field;   /* the whole field, also when the ID in it is empty; len 0: absent */
    struct esi_str type_field; /* the whole field Type; len 0: absent */
    struct esi_str type_content;    /* what stands in it */
    struct esi_str type_name_field; /* the whole field Name in that; len 0: absent */
    bool has_published;
    int64_t published_s;   /* seconds since 1970, UTC */
    uint32_t published_ns; /* 0 to 999,999,999 */
};

/*
 * Checks an encoded EventMsg in full: wire format, types of fields, UTF-8, depth, counts, range of
 * Published.
 *   body     borrowed
 *   facts    written on success
 *   reason   gets a sentence for the publisher on failure; may be NULL
 * Returns ES_OK or ES_INVALID. Thread: any. Allocates nothing. Time: linear.
 */
ES_MUST_USE enum es_err esi_event_protobuf_check(struct esi_str body,
                                                 struct esi_event_protobuf_facts *facts,
                                                 struct es_error *reason);

/*
 * Finds the event in an encoded PublishRequest; the event itself is not checked yet.
 *   msg   written on success: the encoded EventMsg, borrowed from body
 * Returns ES_OK, ES_NOT_FOUND (a request without Msg: the contract answers Success=false),
 * ES_INVALID.
 */
ES_MUST_USE enum es_err esi_event_protobuf_read_publish_request(struct esi_str body,
                                                                struct esi_str *msg);
/* Appends a PublishRequest that holds this encoded EventMsg. */
void esi_event_protobuf_append_publish_request(struct esi_bytes *out, struct esi_str msg);

/*
 * Reads an EventResponse or a PublishResponse (the same bytes): one bool, and unknown fields, at
 * most 4 KiB. Returns ES_OK, ES_INVALID, ES_TOO_LARGE. Thread: any.
 */
ES_MUST_USE enum es_err esi_event_protobuf_read_response(struct esi_str body, bool *success);
/* Appends an EventResponse or a PublishResponse. */
void esi_event_protobuf_append_response(struct esi_bytes *out, bool success);
