/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the peer gets every byte once, in order, however little its socket takes at a time; every
 * block reference and every byte of the charge comes back; a slow peer pins no more than it is
 * charged. Method: an environment whose socket takes as much as the test says, random slices with
 * the batch's rule of ownership, and a flat copy of what must arrive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/outbound.h"
#include "env/env.h"
#include "net/stream.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 20000, SOURCES = 8 };

/* --- a socket that takes what the test allows --- */

static struct esi_env_ops socket_ops;
static struct esi_env socket_env = {.ops = &socket_ops};
static struct esi_bytes arrived;
static size_t socket_room;
static uint64_t writes;
static bool is_peer_gone;

static enum es_err take_bytes(struct esi_env *env, int sock, const struct iovec *parts,
                              size_t part_count, size_t *count)
{
    (void)env;
    (void)sock;
    size_t taken = 0;

    writes++;
    if (is_peer_gone) {
        return ES_CLOSED;
    }
    if (socket_room == 0) {
        return ES_AGAIN;
    }
    for (size_t i = 0; i < part_count && socket_room > 0; i++) {
        const size_t len = parts[i].iov_len < socket_room ? parts[i].iov_len : socket_room;
        esi_bytes_append(&arrived, parts[i].iov_base, len);
        socket_room -= len;
        taken += len;
    }
    *count = taken;
    return ES_OK;
}

static void close_nothing(struct esi_env *env, int sock)
{
    (void)env;
    (void)sock;
}

static struct esi_pool_depot block_depot;
static struct esi_pool_depot delivery_depot;
static struct esi_batch_pools pools;
static struct esi_target target;
static struct esi_outbound outbound;
static struct esi_stream *stream;
static struct esi_bytes expected;
static struct esi_block *sources[SOURCES];
static uint64_t random_state = 31;

static uint32_t draw_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 20) % limit);
}

static int set_up(void **state)
{
    (void)state;
    socket_ops.writev = take_bytes;
    socket_ops.close = close_nothing;
    is_peer_gone = false;
    socket_room = 0;
    writes = 0;
    esi_bytes_init(&arrived, 0);
    esi_bytes_init(&expected, 0);
    esi_pool_depot_init(&block_depot, ESI_BLOCK_OBJECT_BYTES, 4, 1000);
    esi_pool_depot_init(&delivery_depot, sizeof(struct esi_delivery), 4, 4);
    esi_pool_init(&pools.blocks, &block_depot);
    esi_pool_init(&pools.deliveries, &delivery_depot);
    memset(&target, 0, sizeof target);
    esi_outbound_init(&outbound, &target, &pools);
    for (uint32_t i = 0; i < SOURCES; i++) {
        sources[i] = esi_block_new(&pools.blocks);
        for (size_t j = 0; j < ESI_BLOCK_BYTES; j++) {
            sources[i]->data[j] = (char)(j * 31 + i * 7 + j / 251);
        }
    }
    return esi_stream_new(&socket_env, 5, &stream) == ES_OK ? 0 : -1;
}

static uint64_t count_free_blocks(void)
{
    uint64_t count = pools.blocks.free_count;

    /* order: relaxed; one thread. */
    count += (uint64_t)atomic_load_explicit(&block_depot.chain_count, memory_order_relaxed) *
             block_depot.chain_length;
    return count;
}

static int tear_down(void **state)
{
    (void)state;
    esi_outbound_deinit(&outbound);
    assert_int_equal(esi_outbound_pending_bytes(&outbound), 0);
    for (uint32_t i = 0; i < SOURCES; i++) {
        assert_true(esi_block_is_unique(sources[i]));
        esi_block_unref(sources[i], &pools.blocks, 1);
    }
    esi_outbound_forget_text(&pools);
    /* Every block that was ever made has come back. */
    assert_int_equal(count_free_blocks(), pools.blocks.allocation_count);
    esi_stream_free(stream);
    esi_pool_deinit(&pools.blocks);
    esi_pool_deinit(&pools.deliveries);
    esi_pool_depot_deinit(&block_depot);
    esi_pool_depot_deinit(&delivery_depot);
    esi_bytes_deinit(&arrived);
    esi_bytes_deinit(&expected);
    return 0;
}

static void charge(uint64_t bytes)
{
    /* order: relaxed; one thread. */
    atomic_fetch_add_explicit(&target.pending_bytes, bytes, memory_order_relaxed);
}

/* Pushes one piece of a source; owns: takes a reference with it, as the last slice of a block
 * does. */
static void push_piece(struct esi_block *block, size_t offset, size_t len, bool owns)
{
    const struct esi_slice slice = {
        .block = block, .data = block->data + offset, .len = (uint32_t)len, .owns_block = owns};

    if (owns) {
        esi_block_ref(block, 1);
    }
    charge(len);
    assert_int_equal(esi_outbound_push_slice(&outbound, &slice), ES_OK);
    esi_bytes_append(&expected, slice.data, len);
}

static void skip_piece(struct esi_block *block, size_t offset, size_t len, bool owns)
{
    const struct esi_slice slice = {
        .block = block, .data = block->data + offset, .len = (uint32_t)len, .owns_block = owns};

    if (owns) {
        esi_block_ref(block, 1);
    }
    charge(len);
    esi_outbound_skip_slice(&outbound, &slice);
}

/* One delivery: runs of slices of one block, of which the last holds the reference. */
static void deliver_random(void)
{
    for (uint32_t runs = 1 + draw_below(3); runs > 0; runs--) {
        struct esi_block *block = sources[draw_below(SOURCES)];
        size_t at = draw_below(1000);
        for (uint32_t slices = 1 + draw_below(4); slices > 0; slices--) {
            const size_t len = 1 + draw_below(draw_below(4) == 0 ? 15000 : 200);
            const bool is_last = slices == 1;
            if (draw_below(6) == 0) {
                skip_piece(block, at, len, is_last);
            } else {
                push_piece(block, at, len, is_last);
            }
            /* Often the next slice begins where this one ends. */
            at += len + (draw_below(2) == 0 ? 0 : 13);
        }
    }
}

static void expect_so_far(void)
{
    assert_true(arrived.len <= expected.len);
    if (arrived.len > 0) {
        assert_memory_equal(arrived.data, expected.data, arrived.len);
    }
    assert_int_equal(expected.len - arrived.len, esi_outbound_pending_bytes(&outbound));
    assert_int_equal(esi_outbound_is_empty(&outbound), arrived.len == expected.len);
    /* What arrived and was right need not be compared again. */
    const size_t done = arrived.len;
    esi_bytes_clear(&arrived);
    esi_bytes_consume(&expected, done);
}

/* The peer takes all there is. */
static void write_all(void)
{
    bool has_progress = true;

    while (!esi_outbound_is_empty(&outbound)) {
        assert_true(has_progress);
        const enum es_err err = esi_outbound_write(&outbound, stream, 1, &has_progress);
        assert_int_equal(err, esi_outbound_is_empty(&outbound) ? ES_OK : ES_AGAIN);
    }
    expect_so_far();
}

static void test_random_traffic(void **state)
{
    uint32_t blocked = 0;

    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        bool has_progress = true;
        if (draw_below(3) == 0) {
            static const char line[] = "-ERR 'something'\r\nPONG\r\nPING\r\n";
            const size_t len = draw_below(20) == 0 ? 2000 : 1 + draw_below(sizeof line - 1);
            char *text = test_malloc(2000);
            for (size_t i = 0; i < 2000; i++) {
                text[i] = line[i % (sizeof line - 1)];
            }
            assert_int_equal(
                esi_outbound_push_text(&outbound, (struct esi_str){.data = text, .len = len}),
                ES_OK);
            esi_bytes_append(&expected, text, len);
            test_free(text);
        }
        deliver_random();
        const uint32_t kind = draw_below(10);
        socket_room = kind < 3 ? 0 : kind < 8 ? draw_below(4000) : 200000;
        const bool had_room = socket_room > 0 && !esi_outbound_is_empty(&outbound);
        const enum es_err err = esi_outbound_write(&outbound, stream, 1000 + round, &has_progress);
        assert_int_equal(err, esi_outbound_is_empty(&outbound) ? ES_OK : ES_AGAIN);
        assert_int_equal(has_progress, had_room);
        blocked += err == ES_AGAIN;
        expect_so_far();
    }
    assert_true(blocked > ROUNDS / 2);
    socket_room = SIZE_MAX / 2;
    write_all();
}

/* Everything that waits goes out with few writes. */
static void test_gathered(void **state)
{
    bool has_progress = false;

    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        push_piece(sources[i % SOURCES], i * 100, 50, true);
    }
    socket_room = SIZE_MAX / 2;
    assert_int_equal(esi_outbound_write(&outbound, stream, 77, &has_progress), ES_OK);
    assert_true(has_progress);
    assert_int_equal(writes, 1);
    /* order: relaxed; one thread. */
    assert_int_equal(atomic_load_explicit(&target.progress_ns, memory_order_relaxed), 77);
    expect_so_far();
    /* Nothing to write: the socket is not asked. */
    assert_int_equal(esi_outbound_write(&outbound, stream, 78, &has_progress), ES_OK);
    assert_false(has_progress);
    assert_int_equal(writes, 1);
}

/* A slow peer: small pieces are copied together, so that the blocks they came from go back at
 * once. */
static void test_a_slow_peer_pins_little(void **state)
{
    bool has_progress = false;

    (void)state;
    for (uint32_t i = 0; i < 400; i++) {
        push_piece(sources[i % SOURCES], i * 64, 60, true);
    }
    const uint64_t before = pools.blocks.allocation_count;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    for (uint32_t i = 0; i < SOURCES; i++) {
        assert_true(esi_block_is_unique(sources[i]));
    }
    assert_int_equal(pools.blocks.allocation_count, before + 1);
    /* Lines before large bodies, as large messages bring them: no block for each line. */
    for (uint32_t i = 0; i < 200; i++) {
        push_piece(sources[0], i * 64, 60, true);
        push_piece(sources[1], i * 100, 17000, true);
    }
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_true(esi_block_is_unique(sources[0]));
    assert_true(pools.blocks.allocation_count <= before + 3);
    socket_room = SIZE_MAX / 2;
    write_all();
}

/* A peer that is blocked with a few bytes takes no block of the usual size, not even at first: many
 * may be blocked at once. What comes then goes into blocks that are twice as large each. */
static void test_few_bytes_take_no_block(void **state)
{
    bool has_progress = false;

    (void)state;
    const uint64_t free_blocks = count_free_blocks();
    const uint64_t made = pools.blocks.allocation_count;
    for (uint32_t i = 0; i < 10; i++) {
        push_piece(sources[i % SOURCES], i * 64, 60, true);
    }
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_non_null(outbound.copy);
    assert_int_equal(outbound.copy->capacity, 2 * outbound.queued_bytes);
    for (uint32_t i = 0; i < 60; i++) {
        push_piece(sources[i % SOURCES], i * 64, 60, true);
        assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    }
    assert_true(outbound.copy->capacity <= 2 * outbound.queued_bytes);
    assert_int_equal(count_free_blocks(), free_blocks);
    assert_int_equal(pools.blocks.allocation_count, made);
    for (uint32_t i = 0; i < SOURCES; i++) {
        assert_true(esi_block_is_unique(sources[i]));
    }
    socket_room = SIZE_MAX / 2;
    write_all();
}

/* Who has waited for a while holds its bytes, and no block beside them. */
static void test_what_waits_long_is_settled(void **state)
{
    bool has_progress = false;

    (void)state;
    const uint64_t free_blocks = count_free_blocks();
    const uint64_t made = pools.blocks.allocation_count;
    for (uint32_t i = 0; i < 20; i++) {
        push_piece(sources[i % SOURCES], i * 64, 60, true);
    }
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    for (uint32_t i = 0; i < 20; i++) {
        push_piece(sources[i % SOURCES], i * 64, 60, true);
    }
    esi_outbound_settle(&outbound);
    assert_int_equal(count_free_blocks() - free_blocks, pools.blocks.allocation_count - made);
    for (uint32_t i = 0; i < SOURCES; i++) {
        assert_true(esi_block_is_unique(sources[i]));
    }
    assert_int_equal(outbound.queued_bytes, 2400);
    esi_outbound_settle(&outbound); /* harmless */
    push_piece(sources[0], 5, 100, true);
    socket_room = 1000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_int_equal(outbound.queued_bytes, 1500);
    expect_so_far();
    esi_outbound_settle(&outbound);
    socket_room = SIZE_MAX / 2;
    write_all();
    assert_int_equal(outbound.queued_bytes, 0);
}

static void test_lagging(void **state)
{
    bool has_progress = false;

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        push_piece(sources[i % SOURCES], i, 1000, true);
    }
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_true(esi_outbound_is_lagging(&outbound, 40)); /* nothing was taken */
    socket_room = 3000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_false(esi_outbound_is_lagging(&outbound, 40)); /* 33 ticks will do */
    socket_room = 2000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    assert_true(esi_outbound_is_lagging(&outbound, 40)); /* 48 would be needed */
    socket_room = SIZE_MAX / 2;
    write_all();
    assert_false(esi_outbound_is_lagging(&outbound, 1));
}

/* A peer that takes everything at once: still nobody's turn is longer than a share, and nothing is
 * copied for that. */
static void test_a_quick_peer_gets_shares(void **state)
{
    const size_t share = 4 * 1024 * 1024;
    const size_t total = (size_t)600 * 17000;
    bool has_progress = false;
    size_t calls = 0;

    (void)state;
    for (uint32_t i = 0; i < 600; i++) {
        push_piece(sources[i % SOURCES], i % 300 * 100, 17000, true);
    }
    const uint64_t before = pools.blocks.allocation_count;
    socket_room = SIZE_MAX / 2;
    while (!esi_outbound_is_empty(&outbound)) {
        const uint64_t pending = esi_outbound_pending_bytes(&outbound);
        const enum es_err err = esi_outbound_write(&outbound, stream, 1, &has_progress);
        assert_true(has_progress);
        assert_true(pending - esi_outbound_pending_bytes(&outbound) <= share);
        assert_int_equal(err, esi_outbound_is_empty(&outbound) ? ES_OK : ES_AGAIN);
        calls++;
    }
    assert_int_equal(calls, (total + share - 1) / share);
    assert_int_equal(pools.blocks.allocation_count, before);
    expect_so_far();
}

/*
 * A peer that has stopped reading gets a small piece of each of many blocks, as a subscriber of a
 * quiet subject does on a busy server: few blocks are pinned, whatever their number.
 */
static void test_a_stalled_peer_pins_few_blocks(void **state)
{
    bool has_progress = false;

    (void)state;
    push_piece(sources[0], 0, 100, true);
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    const uint64_t before = pools.blocks.allocation_count;
    for (uint32_t i = 0; i < 5000; i++) {
        struct esi_block *block = esi_block_new(&pools.blocks);
        memset(block->data, (int)('a' + i % 26), 120);
        const struct esi_slice slices[] = {
            {.block = block, .data = block->data, .len = 40},
            {.block = block, .data = block->data + 50, .len = 30, .owns_block = true}};
        charge(70);
        esi_bytes_append(&expected, slices[0].data, 40);
        esi_bytes_append(&expected, slices[1].data, 30);
        assert_int_equal(esi_outbound_push_slice(&outbound, &slices[0]), ES_OK);
        assert_int_equal(esi_outbound_push_slice(&outbound, &slices[1]), ES_OK);
        if (i % 500 == 0) {
            /* It takes a little now and then. */
            socket_room = 100;
            assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
        }
    }
    /* Those of 32 parts, and the copies. */
    assert_true(pools.blocks.allocation_count - before < 32 + 5000 * 70 / ESI_BLOCK_BYTES + 8);
    socket_room = SIZE_MAX / 2;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    expect_so_far();
}

static void test_a_peer_that_is_gone(void **state)
{
    bool has_progress = true;

    (void)state;
    deliver_random();
    push_piece(sources[0], 0, 10, true);
    is_peer_gone = true;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_CLOSED);
    assert_false(has_progress);
    /* The rest is dropped by tear_down, which sees that nothing is left. */
    esi_bytes_clear(&expected);
}

/* What was skipped to the last slice leaves its reference with the piece before it. */
static void test_skipped_owners(void **state)
{
    bool has_progress = false;

    (void)state;
    push_piece(sources[0], 0, 10, false);
    skip_piece(sources[0], 10, 10, true);
    push_piece(sources[1], 0, 10, false);
    push_piece(sources[1], 20, 10, false);
    skip_piece(sources[1], 40, 10, false);
    skip_piece(sources[1], 60, 10, true);
    skip_piece(sources[2], 0, 10, true);
    assert_false(esi_block_is_unique(sources[0]));
    assert_false(esi_block_is_unique(sources[1]));
    assert_true(esi_block_is_unique(sources[2]));
    socket_room = 15;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    socket_room = 1000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    expect_so_far();
}

static void test_texts_reuse_their_memory(void **state)
{
    bool has_progress = false;

    (void)state;
    assert_int_equal(esi_outbound_push_text(&outbound, ESI_STR("PONG\r\n")), ES_OK);
    esi_bytes_append_text(&expected, "PONG\r\n");
    const struct esi_block *text = pools.text;
    for (uint32_t i = 0; i < 1000; i++) {
        socket_room = 1000;
        assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
        expect_so_far();
        assert_int_equal(esi_outbound_push_text(&outbound, ESI_STR("PONG\r\n")), ES_OK);
        esi_bytes_append_text(&expected, "PONG\r\n");
        assert_ptr_equal(pools.text, text);
    }
    socket_room = 1000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    expect_so_far();
}

/* Own lines of all peers of a worker stand in one block, and one of a size that fits none in a
 * block of its own; a peer that was told all holds no reference. */
static void test_texts_share_a_block(void **state)
{
    static char large[ESI_BLOCK_BYTES + 100];
    const struct esi_str line = {.data = large, .len = 1000};
    bool has_progress = false;

    (void)state;
    memset(large, 'x', sizeof large);
    for (uint32_t i = 0; i < 200; i++) { /* more than one block takes */
        assert_int_equal(esi_outbound_push_text(&outbound, line), ES_OK);
        esi_bytes_append_str(&expected, line);
    }
    assert_int_equal(
        esi_outbound_push_text(&outbound, (struct esi_str){.data = large, .len = sizeof large}),
        ES_OK);
    esi_bytes_append(&expected, large, sizeof large);
    socket_room = 1000000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    expect_so_far();
    assert_true(esi_block_is_unique(pools.text));
    assert_int_equal(pools.blocks.allocation_count, SOURCES + 4);
}

/* For monitoring: the subject of the oldest message that waits whole, whatever stands around it. */
static void expect_subject(const char *wanted)
{
    const struct esi_str subject = esi_outbound_subject(&outbound);

    assert_int_equal(subject.len, strlen(wanted));
    assert_memory_equal(subject.data, wanted, subject.len);
}

static void test_subjects_are_told(void **state)
{
    static const char text[] =
        "MSG a.b 1 3\r\nxyz\r\nHMSG c 2 12 12\r\nNATS/1.0\r\n\r\n\r\nMSG d 3 0\r\n\r\n";
    bool has_progress = false;

    (void)state;
    expect_subject("");
    assert_int_equal(esi_outbound_push_text(&outbound, ESI_STR("PING\r\n")), ES_OK);
    esi_bytes_append_text(&expected, "PING\r\n");
    expect_subject("");
    memcpy(sources[0]->data, text, sizeof text - 1);
    push_piece(sources[0], 0, sizeof text - 1, true);
    expect_subject("a.b");
    socket_room = strlen("PING\r\nMSG a.b 1");
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    expect_subject("c");
    socket_room = strlen(" 3\r\nxyz\r\nHMSG c");
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    expect_subject("d");
    socket_room = strlen(" 2 12 12\r\nNATS/1.0\r\n\r\n\r\nM");
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_AGAIN);
    expect_subject("");
    socket_room = 1000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    expect_so_far();
    /* Neither a line that is cut off nor an endless subject leads astray. */
    memcpy(sources[1]->data, "MSG short", 9);
    push_piece(sources[1], 0, 9, true);
    expect_subject("");
    memset(sources[1]->data + 4, 'x', 1000);
    push_piece(sources[1], 0, 1000, true);
    expect_subject("");
    socket_room = 2000;
    assert_int_equal(esi_outbound_write(&outbound, stream, 1, &has_progress), ES_OK);
    esi_bytes_clear(&expected);
    esi_bytes_clear(&arrived);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_traffic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gathered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_slow_peer_pins_little, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_few_bytes_take_no_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_waits_long_is_settled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lagging, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_quick_peer_gets_shares, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stalled_peer_pins_few_blocks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_peer_that_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_skipped_owners, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_texts_reuse_their_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_texts_share_a_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_subjects_are_told, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
