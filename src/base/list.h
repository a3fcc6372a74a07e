/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An intrusive doubly linked ring with a head. One thread at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct esi_list {
    struct esi_list *next;
    struct esi_list *prev;
};

static inline void esi_list_init(struct esi_list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool esi_list_is_empty(const struct esi_list *head)
{
    return head->next == head;
}

/* Inserts node before `head`: at the tail when head is the list's head. */
static inline void esi_list_append(struct esi_list *head, struct esi_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Takes node out and leaves it a ring of its own, so that removing it again is harmless. */
static inline void esi_list_remove(struct esi_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    esi_list_init(node);
}
