/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what an asker hands over is in force when it is told so, is out of every worker's sight
 * when it is told that, and links learn of the first and last interest in order, after a snapshot.
 * Method: an asker and a link as actors, which note what they are told; the test's thread sends and
 * waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/router.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "broker/subtable_walk.h"
#include "runtime_case.h"

#include <stdatomic.h>
#include <string.h>

enum { IN_FORCE = 1, DETACHED = 2, INTEREST = 3, MARK = 4, FLOOD = 300, ANSWERED_MAX = 256 };

struct asker {
    struct esi_actor actor; /* first */
    sem_t in_force;
    sem_t detached;
    sem_t interest;
    sem_t mark;
    struct esi_bytes lines; /* what the link was told, in order */
    enum es_err err;
    bool has_snapshot;
    bool is_incomplete; /* the last lines that the link was told */
};

static struct esi_runtime *runtime;
static struct esi_subtable *table;
static struct esi_router *router;
static struct esi_target client;
static struct esi_target link_target;
static struct asker *asker;
static sem_t freed;

/* While set, buffers cannot grow. */
static _Atomic bool is_memory_short;
/* While set, there is no message for interest. */
static _Atomic bool are_messages_short;

void *__real_realloc(void *data, size_t size);
void *__wrap_realloc(void *data, size_t size);

void *__wrap_realloc(void *data, size_t size)
{
    /* order: seq_cst; a test. */
    return atomic_load_explicit(&is_memory_short, memory_order_seq_cst)
               ? NULL
               : __real_realloc(data, size);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    /* order: seq_cst; a test. */
    return size == sizeof(struct esi_interest_msg) &&
                   atomic_load_explicit(&are_messages_short, memory_order_seq_cst)
               ? NULL
               : __real_malloc(size);
}

static struct esi_router_listener *start_listening(void)
{
    struct esi_router_listener *listener = NULL;

    assert_int_equal(esi_router_listen(router, &asker->actor, INTEREST, &listener), ES_OK);
    await(&asker->interest);
    return listener;
}

static void on_interest(struct asker *self, const struct esi_interest_msg *msg)
{
    /* The snapshot comes first, and once. */
    case_check(msg->is_snapshot == !self->has_snapshot);
    self->has_snapshot = true;
    self->is_incomplete = msg->queues.failed || msg->lines.failed;
    esi_bytes_append_str(&self->lines, esi_bytes_str(&msg->queues));
    esi_bytes_append_str(&self->lines, esi_bytes_str(&msg->lines));
    sem_post(&self->interest);
}

static void asker_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);
    struct esi_route_batch *batch;

    switch (msg->kind) {
    case IN_FORCE:
        batch = ESI_CONTAINER_OF(msg, struct esi_route_batch, in_force);
        self->err = batch->err;
        if (!batch->has_detached) {
            free(batch);
        }
        sem_post(&self->in_force);
        break;
    case DETACHED:
        batch = ESI_CONTAINER_OF(msg, struct esi_route_batch, detached);
        for (uint32_t i = 0; i < batch->count; i++) {
            free(batch->ops[i].kind == ROUTE_REMOVE    ? batch->ops[i].sub
                 : batch->ops[i].kind == ROUTE_REPLACE ? batch->ops[i].replaced
                                                       : NULL);
        }
        free(batch);
        sem_post(&self->detached);
        break;
    case MARK:
        sem_post(&self->mark);
        break;
    default:
        on_interest(self, (const struct esi_interest_msg *)(const void *)msg);
        break;
    }
}

static void asker_stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void asker_free(struct esi_actor *actor)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);

    esi_bytes_deinit(&self->lines);
    sem_destroy(&self->in_force);
    sem_destroy(&self->detached);
    sem_destroy(&self->interest);
    sem_destroy(&self->mark);
    free(self);
    sem_post(&freed);
}

static const struct esi_actor_type asker_type = {.name = "asker",
                                                 .stop_phase = STOP_PEERS,
                                                 .handle = asker_handle,
                                                 .stop = asker_stop,
                                                 .free = asker_free};

static int set_up(void **state)
{
    (void)state;
    sem_init(&freed, 0, 0);
    link_target.is_link = true;
    runtime = start_runtime(2);
    case_check(esi_subtable_new(1, &table) == ES_OK);
    case_check(esi_router_new(runtime, table, 0, ESI_STR("$G"), &router) == ES_OK);
    asker = aligned_alloc(ESI_CACHE_LINE, sizeof *asker);
    case_check(asker != NULL);
    memset(asker, 0, sizeof *asker);
    sem_init(&asker->in_force, 0, 0);
    sem_init(&asker->detached, 0, 0);
    sem_init(&asker->interest, 0, 0);
    sem_init(&asker->mark, 0, 0);
    esi_bytes_init(&asker->lines, 0);
    esi_actor_init(&asker->actor, &asker_type, runtime, esi_runtime_worker(runtime, 1));
    esi_actor_start(&asker->actor);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stop_runtime(runtime);
    await(&freed);
    esi_router_free(router);
    esi_subtable_free(table);
    sem_destroy(&freed);
    return 0;
}

static struct esi_sub *new_sub(struct esi_target *target, const char *subject, const char *queue)
{
    struct esi_sub *sub =
        esi_sub_new(target, esi_str_from(subject), esi_str_from(queue), ESI_STR("1"));

    case_check(sub != NULL);
    return sub;
}

static struct esi_route_batch *new_batch(void)
{
    struct esi_route_batch *batch = esi_router_batch_new(16);

    case_check(batch != NULL);
    batch->asker = &asker->actor;
    batch->in_force_kind = IN_FORCE;
    batch->detached_kind = DETACHED;
    return batch;
}

static void add_op(struct esi_route_batch *batch, enum esi_route_kind kind, struct esi_sub *sub,
                   struct esi_sub *replaced)
{
    batch->ops[batch->count++] =
        (struct esi_route_op){.kind = kind, .sub = sub, .replaced = replaced};
}

static void submit_one(enum esi_route_kind kind, struct esi_sub *sub, struct esi_sub *replaced)
{
    struct esi_route_batch *batch = new_batch();

    add_op(batch, kind, sub, replaced);
    esi_router_submit(router, batch);
    await(&asker->in_force);
}

static void count_found(void *argument, struct esi_sub *sub)
{
    (void)sub;
    (*(uint32_t *)argument)++;
}

static uint32_t count_matches(const char *subject)
{
    uint32_t count = 0;

    esi_subtable_walk(table, esi_str_from(subject), esi_hashmap_hash(esi_str_from(subject)),
                      count_found, &count);
    return count;
}

static void test_in_force_and_detached(void **state)
{
    (void)state;
    struct esi_sub *sub = new_sub(&client, "a.*", "");
    submit_one(ROUTE_ADD, sub, NULL);
    assert_int_equal(asker->err, ES_OK);
    assert_int_equal(count_matches("a.b"), 1);
    assert_int_equal(sem_trywait(&asker->detached), -1);
    struct esi_sub *fresh = new_sub(&client, "a.*", "");
    submit_one(ROUTE_REPLACE, fresh, sub);
    assert_int_equal(count_matches("a.b"), 1);
    await(&asker->detached);
    submit_one(ROUTE_REMOVE, fresh, NULL);
    assert_int_equal(count_matches("a.b"), 0);
    await(&asker->detached);
}

/* All of one batch, in its order; a subscription that comes and goes within it leaves nothing. */
static void test_a_batch_is_applied_in_order(void **state)
{
    struct esi_route_batch *batch = new_batch();

    (void)state;
    struct esi_sub *stays = new_sub(&client, "x", "");
    struct esi_sub *goes = new_sub(&client, "x", "");
    struct esi_sub *never = new_sub(&client, "x", "");
    add_op(batch, ROUTE_ADD, goes, NULL);
    add_op(batch, ROUTE_ADD, stays, NULL);
    add_op(batch, ROUTE_REMOVE, goes, NULL);
    /* What was never added is removed without harm: its ADD may have failed. */
    add_op(batch, ROUTE_REMOVE, never, NULL);
    esi_router_submit(router, batch);
    await(&asker->in_force);
    await(&asker->detached);
    assert_int_equal(count_matches("x"), 1);
    submit_one(ROUTE_REMOVE, stays, NULL);
    await(&asker->detached);
    assert_int_equal(esi_subtable_count(table), 0);
}

static void expect_lines(const char *lines)
{
    esi_bytes_append(&asker->lines, "", 1);
    assert_string_equal(asker->lines.data, lines);
    esi_bytes_clear(&asker->lines);
}

static void test_interest(void **state)
{
    (void)state;
    struct esi_sub *first = new_sub(&client, "a", "");
    struct esi_sub *queue = new_sub(&client, "q", "g");
    struct esi_sub *remote = new_sub(&link_target, "far", "");
    submit_one(ROUTE_ADD, first, NULL);
    submit_one(ROUTE_ADD, queue, NULL);
    submit_one(ROUTE_ADD, remote, NULL);
    struct esi_router_listener *listener = start_listening();
    expect_lines("RS+ $G q g 1\r\nRS+ $G a\r\n");
    struct esi_sub *second = new_sub(&client, "a", "");
    struct esi_sub *other = new_sub(&client, "b.>", "");
    struct esi_route_batch *batch = new_batch();
    add_op(batch, ROUTE_ADD, second, NULL);
    add_op(batch, ROUTE_ADD, other, NULL);
    add_op(batch, ROUTE_REMOVE, queue, NULL);
    esi_router_submit(router, batch);
    await(&asker->in_force);
    await(&asker->detached);
    await(&asker->interest);
    /* Only what is first or last of its kind, one message a batch. */
    expect_lines("RS+ $G b.>\r\nRS- $G q g\r\n");
    submit_one(ROUTE_REMOVE, first, NULL);
    await(&asker->detached);
    assert_int_equal(sem_trywait(&asker->interest), -1);
    submit_one(ROUTE_REMOVE, second, NULL);
    await(&asker->detached);
    await(&asker->interest);
    expect_lines("RS- $G a\r\n");
    esi_router_unlisten(router, listener);
    submit_one(ROUTE_REMOVE, other, NULL);
    await(&asker->detached);
    submit_one(ROUTE_REMOVE, remote, NULL);
    await(&asker->detached);
    assert_int_equal(sem_trywait(&asker->interest), -1);
}

/* A change that memory was too short to tell is not passed over in silence, and the next one is
 * told again. */
static void test_tells_of_missing_interest(void **state)
{
    struct esi_sub *subs[2];

    (void)state;
    subs[0] = new_sub(&client, "a", "");
    subs[1] = new_sub(&client, "b", "");
    submit_one(ROUTE_ADD, subs[0], NULL);
    submit_one(ROUTE_ADD, subs[1], NULL);
    struct esi_router_listener *listener = start_listening();
    assert_false(asker->is_incomplete);
    esi_bytes_clear(&asker->lines);
    for (int i = 0; i < 2; i++) {
        const bool is_short = i == 0;
        /* order: seq_cst; a test. */
        atomic_store_explicit(&is_memory_short, is_short, memory_order_seq_cst);
        submit_one(ROUTE_REMOVE, subs[i], NULL);
        await(&asker->detached);
        await(&asker->interest);
        assert_int_equal(asker->is_incomplete, is_short);
    }
    expect_lines("RS- $G b\r\n");
    esi_router_unlisten(router, listener);
}

/* Where there is not even a message, one that was kept for it says once that something is missing;
 * where one cannot be kept, nobody can listen. */
static void test_tells_of_missing_messages(void **state)
{
    struct esi_router_listener *listener = NULL;
    struct esi_sub *first = new_sub(&client, "a", "");
    struct esi_sub *second = new_sub(&client, "b", "");

    (void)state;
    /* order: seq_cst; a test, here and below. */
    atomic_store_explicit(&are_messages_short, true, memory_order_seq_cst);
    assert_int_equal(esi_router_listen(router, &asker->actor, INTEREST, &listener), ES_NO_MEMORY);
    /* order: seq_cst; as above. */
    atomic_store_explicit(&are_messages_short, false, memory_order_seq_cst);
    listener = start_listening();
    assert_false(asker->is_incomplete);
    /* order: seq_cst; as above. */
    atomic_store_explicit(&are_messages_short, true, memory_order_seq_cst);
    submit_one(ROUTE_ADD, first, NULL);
    await(&asker->interest);
    assert_true(asker->is_incomplete);
    submit_one(ROUTE_ADD, second, NULL);
    assert_int_equal(sem_trywait(&asker->interest), -1);
    /* order: seq_cst; as above. */
    atomic_store_explicit(&are_messages_short, false, memory_order_seq_cst);
    submit_one(ROUTE_REMOVE, first, NULL);
    await(&asker->detached);
    await(&asker->interest);
    assert_false(asker->is_incomplete);
    esi_router_unlisten(router, listener);
    submit_one(ROUTE_REMOVE, second, NULL);
    await(&asker->detached);
}

/* An actor that stays in its turn, so that no grace period ends. */
struct sleeper {
    struct esi_actor actor; /* first */
    struct esi_msg msg;
    sem_t is_in;
    sem_t may_go;
};

static void sleeper_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct sleeper *self = ESI_CONTAINER_OF(actor, struct sleeper, actor);

    (void)msg;
    sem_post(&self->is_in);
    await(&self->may_go);
}

static void sleeper_free(struct esi_actor *actor)
{
    (void)actor; /* the test's */
}

static const struct esi_actor_type sleeper_type = {.name = "sleeper",
                                                   .stop_phase = STOP_PEERS,
                                                   .handle = sleeper_handle,
                                                   .stop = asker_stop,
                                                   .free = sleeper_free};

static void keep_msg(struct esi_msg *msg)
{
    (void)msg;
}

/* Who subscribes and unsubscribes faster than memory is freed is answered later, in order. */
static void test_answers_wait_for_retired_memory(void **state)
{
    static struct sleeper sleeper;
    struct esi_msg mark = {.kind = MARK, .free = keep_msg};

    (void)state;
    memset(&sleeper, 0, sizeof sleeper);
    sem_init(&sleeper.is_in, 0, 0);
    sem_init(&sleeper.may_go, 0, 0);
    esi_actor_init(&sleeper.actor, &sleeper_type, runtime, esi_runtime_worker(runtime, 0));
    esi_actor_start(&sleeper.actor);
    sleeper.msg.free = keep_msg;
    esi_actor_send(&sleeper.actor, &sleeper.msg);
    await(&sleeper.is_in);
    for (int i = 0; i < FLOOD; i++) {
        struct esi_route_batch *batch = new_batch();
        struct esi_sub *sub = new_sub(&client, "flood", "");
        add_op(batch, ROUTE_ADD, sub, NULL);
        add_op(batch, ROUTE_REMOVE, sub, NULL);
        esi_router_submit(router, batch);
    }
    for (int i = 0; i < ANSWERED_MAX; i++) {
        await(&asker->in_force);
    }
    /* What was sent before the mark has been handled by then. */
    esi_actor_send(&asker->actor, &mark);
    await(&asker->mark);
    assert_int_equal(sem_trywait(&asker->in_force), -1);
    assert_int_equal(sem_trywait(&asker->detached), -1);
    sem_post(&sleeper.may_go);
    for (int i = 0; i < FLOOD; i++) {
        await(&asker->detached);
    }
    for (int i = ANSWERED_MAX; i < FLOOD; i++) {
        assert_int_equal(sem_trywait(&asker->in_force), 0);
    }
    assert_int_equal(esi_subtable_count(table), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_force_and_detached, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_batch_is_applied_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tells_of_missing_interest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tells_of_missing_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_wait_for_retired_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
