/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The head of every message between actors. It stands in base because both the runtime and the
 * broker's batches use it. */
#pragma once

#include <stdint.h>

struct esi_msg {
    struct esi_msg *next; /* the mailbox's link */
    /* called by the runtime after the reaction, also when the actor is gone */
    void (*free)(struct esi_msg *msg);
    /* set by the runtime: when it was sent, at the grain of the sender's turn */
    uint64_t sent_ns;
    uint32_t kind; /* an enumerator of the receiving actor */
};
