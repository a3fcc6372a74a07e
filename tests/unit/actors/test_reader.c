/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a peer's bytes come as pieces in order, none lost and none twice, however much of each is
 * left over; a message larger than a block comes whole in a block of its own. Method: a socket
 * pair; what is sent is compared with what the pieces hold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/context.h"
#include "actors/reader.h"
#include "env/env.h"
#include "net/stream.h"

#include <sys/socket.h>
#include <unistd.h>

struct world {
    struct esi_pool_depot blocks;
    struct esi_local local;
    struct esi_stream *stream;
    struct esi_reader reader;
    struct esi_reader_piece piece;
    int peer;
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    int socks[2];

    esi_pool_depot_init(&world->blocks, ESI_BLOCK_OBJECT_BYTES, 4, 4);
    esi_pool_init(&world->local.pools.blocks, &world->blocks);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socks), 0);
    assert_int_equal(esi_stream_new(esi_env_linux(), socks[0], &world->stream), ES_OK);
    world->peer = socks[1];
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    esi_reader_deinit(&world->reader, &world->local);
    if (world->local.read_block != NULL) {
        assert_true(esi_block_is_unique(world->local.read_block));
        esi_block_unref(world->local.read_block, &world->local.pools.blocks, 1);
    }
    esi_stream_free(world->stream);
    if (world->peer >= 0) {
        close(world->peer);
    }
    esi_pool_deinit(&world->local.pools.blocks);
    esi_pool_depot_deinit(&world->blocks);
    free(world);
    return 0;
}

static void send_text(struct world *world, const char *data, size_t len)
{
    assert_int_equal(write(world->peer, data, len), len);
}

static enum es_err next(struct world *world, bool may_read)
{
    return esi_reader_next(&world->reader, &world->local, world->stream, may_read, &world->piece);
}

static void assert_piece(const struct world *world, const char *expected)
{
    assert_int_equal(world->piece.len, strlen(expected));
    assert_memory_equal(world->piece.data, expected, world->piece.len);
}

static void keep(struct world *world, size_t done, size_t needed)
{
    assert_int_equal(esi_reader_keep(&world->reader, &world->local, &world->piece, done, needed),
                     ES_OK);
}

static void what_is_left_comes_first(void **state)
{
    struct world *world = *state;

    send_text(world, "abcdef", 6);
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "abcdef");
    assert_int_equal(world->piece.read_len, 6);
    keep(world, 2, 0);
    assert_true(esi_reader_has_tail(&world->reader));
    send_text(world, "gh", 2);
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "cdefgh");
    assert_int_equal(world->piece.read_len, 2);
    keep(world, 6, 0);
    assert_false(esi_reader_has_tail(&world->reader));
}

static void what_is_left_is_given_without_reading(void **state)
{
    struct world *world = *state;

    assert_int_equal(next(world, false), ES_AGAIN);
    send_text(world, "abc", 3);
    assert_int_equal(next(world, true), ES_OK);
    keep(world, 1, 0);
    send_text(world, "d", 1);
    assert_int_equal(next(world, false), ES_OK);
    assert_piece(world, "bc");
    assert_int_equal(world->piece.read_len, 0);
    keep(world, 0, 0);
    /* With nothing new, what is left is given again: who waited may go on with it. */
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "bcd");
    keep(world, 0, 0);
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "bcd");
    keep(world, 3, 0);
}

static void nothing_and_the_end_are_told(void **state)
{
    struct world *world = *state;

    assert_int_equal(next(world, true), ES_AGAIN);
    close(world->peer);
    world->peer = -1;
    assert_int_equal(next(world, true), ES_CLOSED);
}

static void small_pieces_make_a_whole(void **state)
{
    struct world *world = *state;
    char all[257];

    for (size_t i = 0; i < 256; i++) {
        all[i] = (char)('a' + i % 26);
        send_text(world, &all[i], 1);
        assert_int_equal(next(world, true), ES_OK);
        keep(world, 0, 0);
    }
    all[256] = '\0';
    assert_int_equal(next(world, false), ES_OK);
    assert_piece(world, all);
    keep(world, 256, 0);
}

static void large_message_has_its_own_block(void **state)
{
    enum { LARGE = 300 * 1024, HEAD = 1000 };
    struct world *world = *state;
    char *all = test_malloc(LARGE);
    size_t sent = HEAD;

    for (size_t i = 0; i < LARGE; i++) {
        all[i] = (char)(i * 7 % 251);
    }
    send_text(world, all, HEAD);
    assert_int_equal(next(world, true), ES_OK);
    keep(world, 0, LARGE);
    assert_int_equal(next(world, false), ES_AGAIN);
    while (sent < LARGE) {
        const size_t part = LARGE - sent < 10000 ? LARGE - sent : 10000;
        send_text(world, all + sent, part);
        sent += part;
        assert_int_equal(next(world, true), sent < LARGE ? ES_AGAIN : ES_OK);
    }
    assert_int_equal(world->piece.len, LARGE);
    assert_memory_equal(world->piece.data, all, LARGE);
    assert_true(world->piece.owns_block);
    keep(world, LARGE, 0);
    send_text(world, "next", 4);
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "next");
    keep(world, 4, 0);
    test_free(all);
}

static void block_that_others_hold_is_not_written_over(void **state)
{
    struct world *world = *state;

    send_text(world, "first", 5);
    assert_int_equal(next(world, true), ES_OK);
    struct esi_block *shared = world->piece.block;
    const char *data = world->piece.data;
    esi_block_ref(shared, 1);
    keep(world, 5, 0);
    for (int i = 0; i < 10; i++) {
        send_text(world, "other", 5);
        assert_int_equal(next(world, true), ES_OK);
        keep(world, 5, 0);
    }
    assert_memory_equal(data, "first", 5);
    esi_block_unref(shared, &world->local.pools.blocks, 1);
}

/* A publisher whose reads cut messages needs no memory for each of them. */
static void tail_is_kept_from_read_to_read(void **state)
{
    struct world *world = *state;
    const struct esi_block *tail = NULL;

    for (int i = 0; i < 20; i++) {
        send_text(world, "whole cut", 9);
        assert_int_equal(next(world, true), ES_OK);
        keep(world, world->piece.len - 3, 0);
        assert_true(tail == NULL || tail == world->reader.tail);
        tail = world->reader.tail;
    }
    send_text(world, " end", 4);
    assert_int_equal(next(world, true), ES_OK);
    assert_piece(world, "cut end");
    keep(world, 7, 0);
    assert_null(world->reader.tail);
}

static void large_message_waits_for_memory(void **state)
{
    enum { LARGE = 300 * 1024 };
    struct world *world = *state;
    struct esi_ledger *ledger = NULL;

    assert_int_equal(esi_ledger_new(16 * 1024 * 1024, 1, &ledger), ES_OK);
    struct esi_lease *lease = esi_ledger_lease(ledger, 0);
    world->local.pools.blocks.lease = lease;
    const uint64_t taken = ledger->classes[MEMORY_INPUT].short_bytes;
    assert_true(esi_ledger_take(lease, MEMORY_PARTIAL_INPUT, taken));
    send_text(world, "begin", 5);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(next(world, i == 0), ES_OK);
        assert_piece(world, "begin");
        keep(world, 0, LARGE);
        assert_true(world->reader.awaits_memory);
        assert_false(esi_reader_is_large(&world->reader));
    }
    esi_ledger_give(lease, MEMORY_PARTIAL_INPUT, taken);
    assert_int_equal(next(world, false), ES_OK);
    keep(world, 0, LARGE);
    assert_false(world->reader.awaits_memory);
    assert_true(esi_reader_is_large(&world->reader));
    assert_true(esi_ledger_owner_bytes(ledger, MEMORY_PARTIAL_INPUT) > LARGE);
    /* Half of it in ten steps is quick enough for twenty, and then too little comes. */
    (void)esi_reader_is_lagging(&world->reader, 20);
    char *rest = test_calloc(1, LARGE - 5);
    size_t sent = 0;
    while (sent < LARGE / 2) {
        send_text(world, rest, 10000);
        sent += 10000;
        assert_int_equal(next(world, true), ES_AGAIN);
        if (sent % 30000 == 0) {
            assert_false(esi_reader_is_lagging(&world->reader, 20));
        }
    }
    (void)esi_reader_is_lagging(&world->reader, 20);
    send_text(world, rest, 5);
    assert_int_equal(next(world, true), ES_AGAIN);
    assert_true(esi_reader_is_lagging(&world->reader, 20));
    sent += 5;
    while (sent < LARGE - 5) {
        const size_t part = LARGE - 5 - sent < 10000 ? LARGE - 5 - sent : 10000;
        send_text(world, rest, part);
        sent += part;
        assert_int_equal(next(world, true), sent < LARGE - 5 ? ES_AGAIN : ES_OK);
    }
    /* It is on its way to others now, and no longer input. */
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_PARTIAL_INPUT), 0);
    assert_true(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS) > LARGE);
    keep(world, LARGE, 0);
    assert_false(esi_reader_is_lagging(&world->reader, 20));
    test_free(rest);
    /* The worker's block goes back to the ledger that it came from. */
    esi_block_unref(world->local.read_block, &world->local.pools.blocks, 1);
    world->local.read_block = NULL;
    esi_pool_trim(&world->local.pools.blocks);
    assert_int_equal(esi_ledger_owner_bytes(ledger, MEMORY_BLOCKS), 0);
    world->local.pools.blocks.lease = NULL;
    esi_ledger_free(ledger);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_is_left_comes_first),        CASE(what_is_left_is_given_without_reading),
        CASE(nothing_and_the_end_are_told),    CASE(small_pieces_make_a_whole),
        CASE(large_message_has_its_own_block), CASE(block_that_others_hold_is_not_written_over),
        CASE(tail_is_kept_from_read_to_read),  CASE(large_message_waits_for_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
