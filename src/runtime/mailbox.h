/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mailbox: many producers, one consumer, intrusive, lock-free. Producers on other threads push onto
 * a stack by compare-and-swap; the consumer takes the whole stack by one exchange and reverses it
 * behind what it has already. Producers on the consumer's own thread append to its plain list,
 * after the stack has been taken, without any atomic read-modify-write.
 *
 * Invariant: if one push happens before another, its message is popped first, whoever pushed (so
 * cause comes before effect). A queue of the Vyukov kind does not give that: a finished push can
 * hide behind another's unfinished one.
 *
 * | operation | push            | push_local, take, pop                      |
 * | push      | free            | free                                       |
 * | the rest  | free            | excluded: the consumer's thread alone       |
 */
#pragma once

#include "base/msg.h"
#include "base/own.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct esi_mailbox {
    /* written by the consumer */
    struct esi_msg *head; /* oldest message that was taken */
    struct esi_msg *tail;
    uint32_t depth;     /* messages between head and tail */
    uint32_t depth_max; /* high-water mark */
    /* written by producers */
    _Alignas(ESI_CACHE_LINE) _Atomic(struct esi_msg *) pushed;
};

void esi_mailbox_init(struct esi_mailbox *mailbox);
/* Appends a message, taken. Thread: any. Never blocks, never allocates, cannot fail. */
void esi_mailbox_push(struct esi_mailbox *mailbox, struct esi_msg *msg);
/* Appends a message, taken, behind all that was pushed before. Thread: the consumer's. */
void esi_mailbox_push_local(struct esi_mailbox *mailbox, struct esi_msg *msg);
/* Moves what was pushed by other threads into the consumer's list. Thread: the consumer's. */
void esi_mailbox_take(struct esi_mailbox *mailbox);
/* The oldest message that was taken or pushed locally, or NULL; owned by the caller. Thread: the
 * consumer's. */
struct esi_msg *esi_mailbox_pop(struct esi_mailbox *mailbox);
