/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stack of what others pushed is newest first; taking it turns it round, once a message. */
#include "runtime/mailbox.h"

#include <stddef.h>

void esi_mailbox_init(struct esi_mailbox *mailbox)
{
    mailbox->head = NULL;
    mailbox->tail = NULL;
    mailbox->depth = 0;
    mailbox->depth_max = 0;
    atomic_init(&mailbox->pushed, NULL);
}

void esi_mailbox_push(struct esi_mailbox *mailbox, struct esi_msg *msg)
{
    /* order: relaxed; only a guess, corrected by the exchange below. */
    struct esi_msg *newest = atomic_load_explicit(&mailbox->pushed, memory_order_relaxed);
    do {
        msg->next = newest;
        /* order: release; pairs with the acquire in esi_mailbox_take, which then sees the whole
         * message. */
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->pushed, &newest, msg,
                                                    memory_order_release, memory_order_relaxed));
}

static void append(struct esi_mailbox *mailbox, struct esi_msg *first, struct esi_msg *last,
                   uint32_t count)
{
    if (mailbox->tail == NULL) {
        mailbox->head = first;
    } else {
        mailbox->tail->next = first;
    }
    mailbox->tail = last;
    mailbox->depth += count;
    if (mailbox->depth > mailbox->depth_max) {
        mailbox->depth_max = mailbox->depth;
    }
}

void esi_mailbox_take(struct esi_mailbox *mailbox)
{
    /* order: relaxed; an empty mailbox is the common case and needs no shared write. A push that is
     * missed here has scheduled the actor again. */
    if (atomic_load_explicit(&mailbox->pushed, memory_order_relaxed) == NULL) {
        return;
    }
    /* order: acquire; pairs with the release in esi_mailbox_push. */
    struct esi_msg *newest = atomic_exchange_explicit(&mailbox->pushed, NULL, memory_order_acquire);
    struct esi_msg *last = newest;
    struct esi_msg *first = NULL;
    uint32_t count = 0;
    while (newest != NULL) {
        struct esi_msg *older = newest->next;
        newest->next = first;
        first = newest;
        newest = older;
        count++;
    }
    if (count > 0) {
        append(mailbox, first, last, count);
    }
}

void esi_mailbox_push_local(struct esi_mailbox *mailbox, struct esi_msg *msg)
{
    esi_mailbox_take(mailbox);
    msg->next = NULL;
    append(mailbox, msg, msg, 1);
}

struct esi_msg *esi_mailbox_pop(struct esi_mailbox *mailbox)
{
    struct esi_msg *msg = mailbox->head;

    if (msg != NULL) {
        mailbox->head = msg->next;
        if (mailbox->head == NULL) {
            mailbox->tail = NULL;
        }
        mailbox->depth--;
        msg->next = NULL;
    }
    return msg;
}
