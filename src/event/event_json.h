/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event as JSON: protobuf's JSON mapping for this one message, both ways.
 * In: a field's name in its proto form (EventID) or with a lower-case start (eventID, id); null
 * means absent; Published is RFC 3339; data is any JSON object. Unknown and doubled keys, other
 * types and deeper nesting are refused. Out: proto names in the order of their numbers, times with
 * 0, 3, 6 or 9 decimals and Z.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

/*
 * Makes an encoded EventMsg from JSON.
 *   json     borrowed; its size is bounded by the caller
 *   out      the encoding is appended on success
 *   reason   gets a sentence for the publisher on failure; may be NULL
 * Returns ES_OK, ES_INVALID, ES_NO_MEMORY. Thread: any.
 */
ES_MUST_USE enum es_err esi_event_json_decode(struct esi_str json, struct esi_bytes *out,
                                              struct es_error *reason);

/*
 * Appends an event as compact JSON. Fields that the contract does not name have no JSON form and
 * are left out.
 *   encoded   an EventMsg that esi_event_protobuf_check has accepted; borrowed
 *   out       on failure holds a part of the text
 * Returns ES_OK; ES_UNSUPPORTED (data holds NaN or an infinity: JSON has no such number);
 * ES_NO_MEMORY (also: over the buffer's bound). Thread: any. Recursion: none.
 */
ES_MUST_USE enum es_err esi_event_json_encode(struct esi_str encoded, struct esi_bytes *out);
