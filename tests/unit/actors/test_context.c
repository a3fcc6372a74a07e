/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a worker has all it needs, and the room it reads into is used again when nobody holds it,
 * never before. Method: references taken by hand, as deliveries take them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/context.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime_case.h"

#include <stdlib.h>
#include <string.h>

static struct esi_context *context;
static struct esi_config config;
static struct esi_local *local;

static int set_up(void **state)
{
    (void)state;
    context = calloc(1, sizeof *context);
    if (context == NULL) {
        return -1;
    }
    config.limits.max_pending_bytes = 64 * 1024 * 1024;
    context->env = esi_env_linux();
    context->config = &config;
    esi_pool_depot_init(&context->block_depot, ESI_BLOCK_OBJECT_BYTES, 4, 4);
    esi_pool_depot_init(&context->delivery_depot, sizeof(struct esi_delivery), 4, 4);
    if (esi_subtable_new(1, &context->table) != ES_OK ||
        esi_targets_new(10, &context->targets) != ES_OK) {
        return -1;
    }
    local = esi_context_local_new(context, 0);
    return local != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    esi_context_local_free(context, local);
    esi_context_local_free(context, NULL);
    esi_subtable_free(context->table);
    esi_targets_free(context->targets);
    esi_pool_depot_deinit(&context->block_depot);
    esi_pool_depot_deinit(&context->delivery_depot);
    free(context);
    return 0;
}

static void test_room_is_used_again(void **state)
{
    size_t room_len = 0;

    (void)state;
    const uint64_t allocations = local->pools.blocks.allocation_count;
    char *first = esi_context_read_room(local, ESI_READ_ROOM_MIN, &room_len);
    assert_non_null(first);
    assert_true(room_len >= ESI_READ_ROOM_MIN);
    for (uint32_t i = 0; i < 1000; i++) {
        /* Read, and nothing kept. */
        local->read_used += room_len;
        assert_ptr_equal(esi_context_read_room(local, ESI_READ_ROOM_MIN, &room_len), first);
    }
    assert_int_equal(local->pools.blocks.allocation_count, allocations);
}

static void test_what_is_held_is_not_written_over(void **state)
{
    size_t room_len = 0;

    (void)state;
    char *first = esi_context_read_room(local, ESI_READ_ROOM_MIN, &room_len);
    struct esi_block *block = local->read_block;
    memset(first, 'a', 1000);
    local->read_used += 1000;
    esi_block_ref(block, 1);
    /* Behind what is held there is still room in the same block. */
    char *second = esi_context_read_room(local, ESI_READ_ROOM_MIN, &room_len);
    assert_ptr_equal(second, first + 1000);
    local->read_used += room_len;
    /* Full: another block, and the old one lives as long as it is held. */
    char *third = esi_context_read_room(local, ESI_READ_ROOM_MIN, &room_len);
    assert_ptr_not_equal(local->read_block, block);
    memset(third, 'b', room_len);
    assert_int_equal(first[999], 'a');
    assert_true(esi_block_is_unique(block));
    esi_block_unref(block, &local->pools.blocks, 1);
}

static void test_large_room(void **state)
{
    size_t room_len = 0;

    (void)state;
    char *room = esi_context_read_room(local, 3 * ESI_BLOCK_BYTES, &room_len);
    assert_non_null(room);
    assert_true(room_len >= 3 * ESI_BLOCK_BYTES);
    memset(room, 1, room_len);
}

/* --- handshakes --- */

enum { TURNS = 3, ASKED_A_TURN = 7 };

static struct esi_local shaken;
static uint32_t granted[TURNS];
static uint32_t turn;
static sem_t shaker_done;

static void ask(struct esi_actor *actor)
{
    for (int i = 0; turn < TURNS && i < ASKED_A_TURN; i++) {
        granted[turn] += esi_context_may_shake(&shaken);
    }
    if (++turn < TURNS) {
        esi_actor_continue(actor);
    } else if (turn == TURNS) {
        (void)sem_post(&shaker_done);
    }
}

static void handle_nothing(struct esi_actor *actor, struct esi_msg *msg)
{
    (void)actor;
    (void)msg;
}

static void free_shaker(struct esi_actor *actor)
{
    free(actor);
}

static const struct esi_actor_type shaker_type = {.name = "shaker",
                                                  .stop_phase = STOP_PEERS,
                                                  .turn_end = ask,
                                                  .handle = handle_nothing,
                                                  .start = esi_actor_continue,
                                                  .stop = esi_actor_finish,
                                                  .free = free_shaker};

/* Few steps in a turn of the worker, however many ask; and as many again in the next. */
static void test_handshakes_take_turns(void **state)
{
    (void)state;
    memset(&shaken, 0, sizeof shaken);
    memset(granted, 0, sizeof granted);
    turn = 0;
    assert_int_equal(sem_init(&shaker_done, 0, 0), 0);
    struct esi_runtime *runtime = start_runtime(1);
    struct esi_actor *shaker = aligned_alloc(ESI_CACHE_LINE, sizeof *shaker);
    assert_non_null(shaker);
    esi_actor_init(shaker, &shaker_type, runtime, esi_runtime_worker(runtime, 0));
    esi_actor_start(shaker);
    await(&shaker_done);
    stop_runtime(runtime);
    sem_destroy(&shaker_done);
    uint32_t total = 0;
    for (int i = 0; i < TURNS; i++) {
        assert_true(granted[i] <= 4);
        total += granted[i];
    }
    /* Two turns of an actor may fall into one of the worker. */
    assert_true(total >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_room_is_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_held_is_not_written_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_room, set_up, tear_down),
        cmocka_unit_test(test_handshakes_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
