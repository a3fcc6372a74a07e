/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many local subscriptions there are on each (subject, queue): what gateway links announce is
 * its first and its last one. One router's; one thread at a time.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/hashmap.h"
#include "base/str.h"

#include <stdbool.h>

struct esi_interest {
    struct esi_hashmap map;
};

void esi_interest_init(struct esi_interest *interest);
void esi_interest_deinit(struct esi_interest *interest);
/* One more. *is_first is true when it is the first one. ES_NO_MEMORY: nothing changed. */
ES_MUST_USE enum es_err esi_interest_add(struct esi_interest *interest, struct esi_str subject,
                                         struct esi_str queue, bool *is_first);
/* One less; returns true when it was the last one. One of this kind was added before. */
bool esi_interest_remove(struct esi_interest *interest, struct esi_str subject,
                         struct esi_str queue);
/* What one (subject, queue) takes, in bytes of memory. */
uint64_t esi_interest_place_bytes(struct esi_str subject, struct esi_str queue);
/* All of it as RS+ lines: those with a queue into `queues`, plain ones into `plain`. */
void esi_interest_write(const struct esi_interest *interest, struct esi_str account,
                        struct esi_bytes *queues, struct esi_bytes *plain);
