/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One published message as the queue's subscription gets it: a record slice ("MSG subject sid
 * [reply] size", or HMSG), with its payload behind the line or in the next slice.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_slice;

struct esi_queue_record {
    struct esi_str subject;
    struct esi_str reply; /* empty: nobody waits for an answer */
    struct esi_str
        mapped; /* where the answer must go instead: another cluster's requester; empty: to reply */
    struct esi_str header; /* with its last empty line; empty: none */
    struct esi_str payload;
    bool is_from_gateway;
};

/*
 * Reads the record that begins at slices[0]; everything is borrowed from the slices.
 *   count   slices of the delivery from this one on, at least 1
 *   used    how many slices the message takes; written also on failure
 * ES_INVALID: it is not one whole message (only memory that ran out where it was made can do that).
 */
ES_MUST_USE enum es_err esi_queue_record_read(const struct esi_slice *slices, uint32_t count,
                                              struct esi_str sid, struct esi_queue_record *record,
                                              uint32_t *used);
