/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a worker learns by itself, without the reclaimer, that a grace period has passed, and never
 * while another one is in a turn that began before it asked. Method: an actor that asks, and then
 * has turn after turn or nothing to do, beside one on another worker that stays in one turn for as
 * long as the test wants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/actor.h"
#include "runtime_case.h"

#include "base/own.h"

enum { TURNS = 2000, ROUNDS = 200 };
enum part_msg { PART_GO, PART_TURN, PART_ENDED };

struct part {
    struct esi_actor actor; /* first */
    struct esi_msg go;
    struct esi_msg turn;
    struct esi_grace grace;
    uint32_t turns_left;
    bool stays;          /* in its turn, until it is let go */
    bool is_in_dialogue; /* its worker may wait awake */
    sem_t is_in_turn;
    sem_t is_let_go;
    sem_t has_turned;
    sem_t has_ended;
    _Atomic bool is_held; /* by the test: an answer now would be wrong */
};

static struct esi_runtime *runtime;
static sem_t freed;

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct part *self = ESI_CONTAINER_OF(actor, struct part, actor);

    switch ((enum part_msg)msg->kind) {
    case PART_GO:
        if (self->stays) {
            sem_post(&self->is_in_turn);
            await(&self->is_let_go);
            return;
        }
        self->grace.msg = (struct esi_msg){.kind = PART_ENDED, .free = keep};
        esi_runtime_after_grace(runtime, &self->actor, &self->grace);
        if (self->is_in_dialogue) {
            esi_worker_note_answer(esi_worker_current());
        }
        self->turn = (struct esi_msg){.kind = PART_TURN, .free = keep};
        esi_actor_send(&self->actor, &self->turn);
        break;
    case PART_TURN:
        if (self->turns_left > 0) {
            self->turns_left--;
            esi_actor_send(&self->actor, &self->turn);
        } else {
            sem_post(&self->has_turned);
        }
        break;
    case PART_ENDED:
        /* order: acquire; pairs with the release in release_other. */
        case_check(!atomic_load_explicit(&self->is_held, memory_order_acquire));
        sem_post(&self->has_ended);
        break;
    }
}

static void stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void free_part(struct esi_actor *actor)
{
    free(ESI_CONTAINER_OF(actor, struct part, actor));
    sem_post(&freed);
}

static const struct esi_actor_type part_type = {
    .name = "part", .stop_phase = STOP_PEERS, .handle = handle, .stop = stop, .free = free_part};

static struct part *new_part(uint32_t worker, bool stays)
{
    struct part *part = aligned_alloc(ESI_CACHE_LINE, (sizeof *part + 63) / 64 * 64);

    case_check(part != NULL);
    memset(part, 0, sizeof *part);
    part->stays = stays;
    sem_init(&part->is_in_turn, 0, 0);
    sem_init(&part->is_let_go, 0, 0);
    sem_init(&part->has_turned, 0, 0);
    sem_init(&part->has_ended, 0, 0);
    esi_actor_init(&part->actor, &part_type, runtime, esi_runtime_worker(runtime, worker));
    esi_actor_start(&part->actor);
    return part;
}

static void go(struct part *part)
{
    part->go = (struct esi_msg){.kind = PART_GO, .free = keep};
    esi_actor_send(&part->actor, &part->go);
}

static void release_other(struct part *asker, struct part *other)
{
    /* order: release; pairs with the acquire of the asker's reaction. */
    atomic_store_explicit(&asker->is_held, false, memory_order_release);
    sem_post(&other->is_let_go);
}

/* The asker asks while the other is in a turn, which ends when the asker has had its own. */
static void ask_beside_a_turn(struct part *asker, struct part *other, uint32_t turns)
{
    go(other);
    await(&other->is_in_turn);
    asker->turns_left = turns;
    /* order: relaxed; nobody looks yet. */
    atomic_store_explicit(&asker->is_held, true, memory_order_relaxed);
    go(asker);
    await(&asker->has_turned);
    release_other(asker, other);
    await(&asker->has_ended);
}

static void end(void)
{
    stop_runtime(runtime);
    await_count(&freed, 2);
    sem_destroy(&freed);
}

/* The asker has turns, and then sleeps: in both cases it is not told while the other is in its
 * turn. */
static void test_waits_for_a_turn_that_began_before(void **state)
{
    (void)state;
    sem_init(&freed, 0, 0);
    runtime = start_runtime(2);
    struct part *asker = new_part(0, false);
    struct part *other = new_part(1, true);
    for (uint32_t i = 0; i < 2; i++) {
        ask_beside_a_turn(asker, other, i == 0 ? TURNS : 0);
    }
    end();
}

/* The asker's worker waits awake when the other turn ends, or sleeps already: both may be. */
static void test_is_told_while_it_waits_awake(void **state)
{
    (void)state;
    sem_init(&freed, 0, 0);
    runtime = start_runtime(2);
    struct part *asker = new_part(0, false);
    struct part *other = new_part(1, true);
    asker->is_in_dialogue = true;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        ask_beside_a_turn(asker, other, 0);
    }
    end();
}

/* The other one sleeps, or has short turns all the time: the asker is told, again and again. */
static void test_ends_beside_one_that_sleeps_or_turns(void **state)
{
    (void)state;
    sem_init(&freed, 0, 0);
    runtime = start_runtime(2);
    struct part *asker = new_part(0, false);
    struct part *other = new_part(1, false);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        other->turns_left = i % 2 == 0 ? 0 : 50;
        if (i % 2 != 0) {
            go(other);
        }
        asker->turns_left = 1;
        go(asker);
        await(&asker->has_turned);
        await(&asker->has_ended);
        if (i % 2 != 0) {
            await(&other->has_turned);
            await(&other->has_ended);
        }
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_for_a_turn_that_began_before),
        cmocka_unit_test(test_is_told_while_it_waits_awake),
        cmocka_unit_test(test_ends_beside_one_that_sleeps_or_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
