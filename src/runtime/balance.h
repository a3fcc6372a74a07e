/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker knows about the load of its actors, and what it makes of it. Time goes in windows
 * of threads.rebalance; an actor counts its service and its peer in the worker's present one
 * (struct esi_actor_load). When a window ends, the worker decides who of those who were active
 * should live elsewhere (runtime/placement.h). A worker that sleeps decides nothing: its actors do
 * nothing. Private to the runtime layer; on the worker's own thread.
 *
 * Costs no shared write: a message that an actor sends counts in the sender's own struct.
 */
#pragma once

#include "base/list.h"
#include "runtime/actor.h"
#include "runtime/worker_mark.h"

#include <stdint.h>

struct esi_worker;

struct esi_balance {
    uint64_t window;             /* its number; from 1 */
    uint64_t window_end_ns;      /* UINT64_MAX: never */
    struct esi_worker_mark mark; /* where it began */
    uint64_t random;
    uint32_t overloaded_windows;
    uint32_t calm_windows;
    uint32_t active_count;
    struct esi_list
        active; /* actors by their first turn in this window; the busy ones come early */
};

void esi_balance_init(struct esi_worker *worker);
/* A window has ended: decides, and begins the next one. */
void esi_balance_end_window(struct esi_worker *worker);
/* The first turn of an actor in this window. */
void esi_balance_begin(struct esi_balance *balance, struct esi_actor *actor);
/* The actor leaves the worker. */
void esi_balance_forget(struct esi_balance *balance, struct esi_actor *actor);

/* An actor's turn has ended. */
static inline void esi_balance_note_turn(struct esi_balance *balance, struct esi_actor *actor,
                                         uint64_t service_ns)
{
    if (actor->load.window != balance->window) {
        esi_balance_begin(balance, actor);
    }
    actor->load.service_ns += service_ns;
}

/*
 * A message is sent in the turn of `from` (NULL: in none) to an actor that lives at home. The peer
 * is found by vote, which needs two words: a message to it counts for it, one to another against
 * it, and at zero the next one is the peer. Whoever gets more than half of all messages wins.
 */
static inline void esi_balance_note_message(struct esi_actor *from, const struct esi_actor *to,
                                            struct esi_worker *home)
{
    if (from == NULL || from == to || !to->type->may_move) {
        return;
    }
    struct esi_actor_load *load = &from->load;
    load->sent++;
    if (load->peer_votes == 0) {
        load->peer_id = to->id;
    }
    if (load->peer_id != to->id) {
        load->peer_votes--;
        return;
    }
    load->peer_votes++;
    load->peer_home = home != NULL ? home : load->peer_home;
}
