/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An actor's way from one home worker to another. Private to the runtime layer.
 *
 * The claim is_scheduled is what makes it safe: whoever holds it alone may bring the actor to a
 * worker. An actor that leaves holds its own claim until it has arrived, so it stands in no list
 * but its new home's inbound one; what is sent to it meanwhile gathers in its mailbox, in order,
 * and schedules nobody. Its home is NULL on the way, so no thread takes it for its own.
 */
#pragma once

#include <stdbool.h>

struct esi_actor;
struct esi_worker;

/*
 * The actor goes where load.move_to says, if it may, instead of having its turn. Returns true when
 * it has gone: it is not touched any more. False: it has its turn; the wish is kept where a sender
 * or a visit stood in its way, else dropped. Thread: its home, in place of its turn.
 */
bool esi_move_depart(struct esi_actor *actor);
/* The same for an actor that is scheduled and stands in no list: the caller holds its claim. */
bool esi_move_depart_claimed(struct esi_actor *actor);
/* The actor, taken out of the worker's inbound list, is at home here from now on. The caller then
 * gives its claim back. */
void esi_move_arrive(struct esi_worker *worker, struct esi_actor *actor);
