/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what one actor collects for the subscription table is applied in order, is counted until it
 * is in force and until nobody sees what was removed, and nothing of it leaks. Method: an actor on
 * a real runtime with two routers adds, replaces and removes more than one batch holds; the table
 * is looked at after each step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/context.h"
#include "actors/route_ops.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "runtime_case.h"

enum { SUBS = 700, ASKER_ROUTED = 0, ASKER_DETACHED = 1, ASKER_GO = 2 };
enum step { STEP_ADD, STEP_REPLACE, STEP_REMOVE, STEP_ADD_AND_REMOVE, STEP_END };

struct asker {
    struct esi_actor actor; /* first */
    struct esi_context *context;
    struct esi_route_ops ops;
    struct esi_target target;
    struct esi_sub *subs[SUBS];
    struct esi_msg go;
    enum step step;
    bool was_waiting; /* something was pending right after it was handed over, or collected */
    sem_t done;       /* posted when the step is over */
};

static struct asker *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct asker, actor);
}

static struct esi_sub *new_sub(struct asker *self, uint32_t index)
{
    char subject[32];

    snprintf(subject, sizeof subject, "s%u.x", index);
    struct esi_sub *sub =
        esi_sub_new(&self->target, esi_str_from(subject), ESI_STR(""), ESI_STR("1"));
    case_check(sub != NULL);
    return sub;
}

static void collect(struct asker *self)
{
    for (uint32_t i = 0; i < SUBS; i++) {
        switch (self->step) {
        case STEP_ADD:
            self->subs[i] = new_sub(self, i);
            case_check(esi_route_ops_add(&self->ops, self->subs[i]) == ES_OK);
            case_check(esi_route_ops_is_collected(&self->ops, self->subs[i]));
            break;
        case STEP_REPLACE: {
            struct esi_sub *fresh = new_sub(self, i);
            case_check(!esi_route_ops_is_collected(&self->ops, self->subs[i]));
            case_check(esi_route_ops_replace(&self->ops, self->subs[i], fresh) == ES_OK);
            self->subs[i] = fresh;
            break;
        }
        case STEP_REMOVE:
            case_check(esi_route_ops_remove(&self->ops, self->subs[i]) == ES_OK);
            break;
        case STEP_ADD_AND_REMOVE:
            self->subs[i] = new_sub(self, i);
            case_check(esi_route_ops_add(&self->ops, self->subs[i]) == ES_OK);
            case_check(esi_route_ops_remove(&self->ops, self->subs[i]) == ES_OK);
            break;
        case STEP_END:
            return;
        }
    }
}

static void go(struct asker *self)
{
    if (self->step == STEP_END) {
        esi_actor_finish(&self->actor);
        return;
    }
    collect(self);
    self->was_waiting =
        esi_route_ops_has_collected(&self->ops) && !esi_route_ops_is_idle(&self->ops);
    esi_route_ops_submit(&self->ops);
    case_check(!esi_route_ops_has_collected(&self->ops));
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct asker *self = self_of(actor);

    if (msg->kind == ASKER_GO) {
        go(self);
        return;
    }
    if (msg->kind == ASKER_ROUTED) {
        case_check(esi_route_ops_in_force(&self->ops, ESI_CONTAINER_OF(msg, struct esi_route_batch,
                                                                       in_force)) == ES_OK);
    } else {
        esi_route_ops_detached(&self->ops, ESI_CONTAINER_OF(msg, struct esi_route_batch, detached));
    }
    if (esi_route_ops_is_idle(&self->ops)) {
        sem_post(&self->done);
    }
}

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void stop(struct esi_actor *actor)
{
    (void)actor; /* STEP_END comes first */
}

static void free_asker(struct esi_actor *actor)
{
    sem_post(&self_of(actor)->done);
}

static const struct esi_actor_type asker_type = {
    .name = "asker", .stop_phase = STOP_PEERS, .handle = handle, .stop = stop, .free = free_asker};

static void run_step(struct asker *self, enum step step)
{
    self->step = step;
    self->go = (struct esi_msg){.kind = ASKER_GO, .free = keep};
    esi_actor_send(&self->actor, &self->go);
    await(&self->done);
}

static void operations_take_effect_and_come_back(void **state)
{
    struct esi_context context = {.router_count = 2};
    struct asker *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    (void)state;
    memset(self, 0, sizeof *self);
    context.runtime = start_runtime(2);
    assert_int_equal(esi_subtable_new(2, &context.table), ES_OK);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(
            esi_router_new(context.runtime, context.table, i, ESI_STR("$G"), &context.routers[i]),
            ES_OK);
    }
    sem_init(&self->done, 0, 0);
    esi_actor_init(&self->actor, &asker_type, context.runtime,
                   esi_runtime_worker(context.runtime, 1));
    esi_route_ops_init(&self->ops, &context, &self->actor, ASKER_ROUTED, ASKER_DETACHED);
    esi_actor_start(&self->actor);
    run_step(self, STEP_ADD);
    assert_true(self->was_waiting);
    assert_int_equal(esi_subtable_count(context.table), SUBS);
    run_step(self, STEP_REPLACE);
    assert_int_equal(esi_subtable_count(context.table), SUBS);
    run_step(self, STEP_REMOVE);
    assert_int_equal(esi_subtable_count(context.table), 0);
    run_step(self, STEP_ADD_AND_REMOVE);
    assert_int_equal(esi_subtable_count(context.table), 0);
    run_step(self, STEP_END);
    stop_runtime(context.runtime);
    esi_route_ops_deinit(&self->ops);
    for (uint32_t i = 0; i < 2; i++) {
        esi_router_free(context.routers[i]);
    }
    esi_subtable_free(context.table);
    sem_destroy(&self->done);
    free(self);
}

static void what_was_never_handed_over_is_freed(void **state)
{
    struct esi_context context = {.router_count = 1};
    struct esi_target *target = aligned_alloc(ESI_CACHE_LINE, sizeof *target);
    struct esi_route_ops ops;

    (void)state;
    memset(target, 0, sizeof *target);
    assert_int_equal(esi_subtable_new(1, &context.table), ES_OK);
    struct esi_sub *sub = esi_sub_new(target, ESI_STR("a"), ESI_STR(""), ESI_STR("1"));
    esi_route_ops_init(&ops, &context, NULL, 0, 0);
    assert_true(esi_route_ops_is_idle(&ops));
    assert_int_equal(esi_route_ops_add(&ops, sub), ES_OK);
    assert_false(esi_route_ops_is_idle(&ops));
    esi_route_ops_deinit(&ops);
    free(sub);
    free(target);
    esi_subtable_free(context.table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_take_effect_and_come_back),
        cmocka_unit_test(what_was_never_handed_over_is_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
