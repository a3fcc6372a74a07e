/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no text makes the JSON side of the event fail, and what it accepts keeps its meaning.
 * Method: the input is decoded; when accepted the encoding must pass the check, and JSON made of it
 * must decode to the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "event/event_json.h"
#include "event/event_protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str text = {.data = size > 0 ? (const char *)data : "", .len = size};
    struct esi_event_protobuf_facts facts;
    struct esi_bytes encoded;
    struct esi_bytes json;
    struct esi_bytes again;
    struct es_error reason;

    esi_bytes_init(&encoded, 0);
    esi_bytes_init(&json, 0);
    esi_bytes_init(&again, 0);
    if (esi_event_json_decode(text, &encoded, &reason) == ES_OK &&
        esi_event_protobuf_check(esi_bytes_str(&encoded), &facts, &reason) == ES_OK) {
        ESI_ASSERT(esi_event_json_encode(esi_bytes_str(&encoded), &json) == ES_OK);
        ESI_ASSERT(esi_event_json_decode(esi_bytes_str(&json), &again, &reason) == ES_OK);
        ESI_ASSERT(esi_str_equal(esi_bytes_str(&encoded), esi_bytes_str(&again)));
    }
    esi_bytes_deinit(&encoded);
    esi_bytes_deinit(&json);
    esi_bytes_deinit(&again);
    return 0;
}
