/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target: whoever messages are delivered to, a client connection or a gateway link. The broker
 * knows this part of it; the actor embeds it and gives the function that puts a delivery into its
 * mailbox.
 */
#pragma once

#include "base/err.h"
#include "base/own.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_delivery;
struct esi_target;

struct esi_target {
    /* Takes the delivery. Thread: any. */
    void (*deliver)(struct esi_target *target, struct esi_delivery *delivery);
    /* One more, or one fewer, who looks at the target beyond a turn. Thread: any; ref in a turn in
     * which the target was matched. Needed only where blocks is set. */
    void (*ref)(struct esi_target *target);
    void (*unref)(struct esi_target *target);
    uint32_t slot; /* unique among living targets; small, so that arrays can be indexed by it */
    bool is_link;  /* a gateway link: messages are formatted as RMSG */
    bool blocks;   /* its publishers wait while it has more than max_pending waiting */
    bool old_reply_prefix; /* a link whose peer knows only the older form of mapped replies */
    /* written by senders and by the home worker, once a batch */
    /* handed over and not yet written or dropped */
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t pending_bytes;
    /* messages that could not be handed over, because there was no memory; never falls */
    _Atomic uint64_t lost_msgs;
    /* written by the home worker */
    _Alignas(ESI_CACHE_LINE) _Atomic uint64_t progress_ns; /* when the peer last took bytes */
    _Atomic uint32_t rtt_us;                               /* orders links; 0: not measured */
    /* closing: pick another member of the group */
    _Atomic bool is_gone;
};

/* The slots of all targets of one broker. */
struct esi_targets;

ES_MUST_USE enum es_err esi_targets_new(uint32_t slot_count_max, struct esi_targets **out);
void esi_targets_free(struct esi_targets *targets);
/*
 * Prepares a target and gives it a slot. ES_FULL when slot_count_max are taken. Thread: any; takes
 * a lock, once a connection.
 */
ES_MUST_USE enum es_err esi_targets_add(struct esi_targets *targets, struct esi_target *target);
/* Gives the slot back, after no worker can reach the target any more. Thread: any. */
void esi_targets_remove(struct esi_targets *targets, struct esi_target *target);
/* One more than the largest slot given so far. Thread: any. */
uint32_t esi_targets_slot_limit(const struct esi_targets *targets);
