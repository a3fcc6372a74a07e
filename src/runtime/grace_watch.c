/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why one look is enough. Who removes something does it before it looks at a count, with a full
 * fence between; a worker writes its count before it reads anything in a turn, with a full fence
 * between. So either the look sees the new count, and waits for it, or the turn sees the removal.
 */
#include "runtime/grace_watch.h"
#include "base/assert.h"
#include "base/rcu.h"
#include "runtime/actor.h"
#include "runtime/worker.h"

#include <stdlib.h>

enum es_err esi_grace_watch_init(struct esi_grace_watch *watch, struct esi_runtime *runtime,
                                 uint32_t worker_count)
{
    watch->runtime = runtime;
    watch->asked = NULL;
    watch->asked_tail = &watch->asked;
    watch->watched = NULL;
    watch->is_open = false;
    atomic_init(&watch->turn, 0);
    watch->met = calloc(worker_count, sizeof *watch->met);
    return watch->met != NULL ? ES_OK : ES_NO_MEMORY;
}

void esi_grace_watch_deinit(struct esi_grace_watch *watch)
{
    free(ESI_MOVE(watch->met));
}

static void count(struct esi_grace_watch *watch, uint64_t step)
{
    /* order: relaxed; our own value. */
    const uint64_t turn = atomic_load_explicit(&watch->turn, memory_order_relaxed);

    /* order: release; pairs with the acquire in read_turn: who sees it sees the end of what we read
     * before. */
    atomic_store_explicit(&watch->turn, turn + step, memory_order_release);
    /* order: seq_cst fence; pairs with itself on another worker: what we read from here on is newer
     * than what it has removed before it met the old count. */
    atomic_thread_fence(memory_order_seq_cst);
}

static uint64_t read_turn(const struct esi_worker *worker)
{
    /* order: acquire; pairs with the release in count. */
    return atomic_load_explicit(&worker->graces.turn, memory_order_acquire);
}

static void begin_watch(struct esi_grace_watch *watch)
{
    const uint32_t worker_count = esi_runtime_worker_count(watch->runtime);

    watch->watched = ESI_MOVE(watch->asked);
    watch->asked_tail = &watch->asked;
    for (uint32_t i = 0; i < worker_count; i++) {
        const struct esi_worker *worker = esi_runtime_worker(watch->runtime, i);
        const uint64_t turn = read_turn(worker);
        watch->met[i] = turn % 2 == 0 || &worker->graces == watch ? 0 : turn;
    }
}

static bool has_passed(struct esi_grace_watch *watch)
{
    const uint32_t worker_count = esi_runtime_worker_count(watch->runtime);

    for (uint32_t i = 0; i < worker_count; i++) {
        if (watch->met[i] != 0) {
            if (read_turn(esi_runtime_worker(watch->runtime, i)) == watch->met[i]) {
                return false;
            }
            watch->met[i] = 0;
        }
    }
    return true;
}

/* At the end of a turn of our own: nothing that was found in it is used any more. */
static void look(struct esi_grace_watch *watch)
{
    if (watch->watched == NULL) {
        if (ESI_LIKELY(watch->asked == NULL)) {
            return;
        }
        begin_watch(watch);
    }
    if (!has_passed(watch)) {
        return;
    }
    struct esi_grace *grace = ESI_MOVE(watch->watched);
    while (grace != NULL) {
        /* Read first: once sent it is the receiver's. */
        struct esi_grace *next = grace->next;
        esi_actor_send(grace->actor, &grace->msg);
        grace = next;
    }
}

void esi_grace_watch_leave(struct esi_grace_watch *watch)
{
    struct esi_grace *lists[] = {ESI_MOVE(watch->watched), ESI_MOVE(watch->asked)};

    watch->asked_tail = &watch->asked;
    for (size_t i = 0; i < ESI_COUNT_OF(lists); i++) {
        while (lists[i] != NULL) {
            struct esi_grace *next = lists[i]->next;
            esi_runtime_leave_grace(watch->runtime, lists[i]);
            lists[i] = next;
        }
    }
}

void esi_grace_watch_open(struct esi_grace_watch *watch)
{
    esi_rcu_register();
    count(watch, 1);
    watch->is_open = true;
}

void esi_grace_watch_close(struct esi_grace_watch *watch)
{
    watch->is_open = false;
    esi_grace_watch_leave(watch);
    count(watch, 1);
    esi_rcu_unregister();
}

void esi_grace_watch_next_turn(struct esi_grace_watch *watch)
{
    count(watch, 2);
    esi_rcu_quiescent();
    look(watch);
}

void esi_grace_watch_pause(struct esi_grace_watch *watch)
{
    count(watch, 1);
    esi_rcu_offline();
}

void esi_grace_watch_resume(struct esi_grace_watch *watch)
{
    esi_rcu_online();
    count(watch, 1);
}

bool esi_grace_watch_is_due(struct esi_grace_watch *watch)
{
    return watch->watched != NULL && has_passed(watch);
}

void esi_grace_watch_ask(struct esi_grace_watch *watch, struct esi_grace *grace)
{
    ESI_REQUIRE(watch->is_open);
    grace->next = NULL;
    *watch->asked_tail = grace;
    watch->asked_tail = &grace->next;
}
