/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: bytes leave in the order in which they came, however they are cut, and an empty buffer
 * holds no memory. Method: pieces of many sizes go in and come out by turns, compared with a
 * counter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/held_bytes.h"

enum { PIECE_MAX = 97 };

static void append(struct esi_held_bytes *held, size_t *next, size_t len)
{
    char piece[PIECE_MAX];

    for (size_t i = 0; i < len; i++) {
        piece[i] = (char)((*next)++ % 251);
    }
    assert_true(esi_held_bytes_append(held, piece, len));
}

static void take(struct esi_held_bytes *held, size_t *next, size_t len)
{
    char piece[PIECE_MAX];
    const size_t waiting = esi_held_bytes_count(held);
    const size_t count = esi_held_bytes_take(held, piece, len);

    assert_int_equal(count, len < waiting ? len : waiting);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal((uint8_t)piece[i], (*next)++ % 251);
    }
}

static void bytes_keep_their_order(void **state)
{
    struct esi_held_bytes held = {0};
    size_t written = 0;
    size_t read = 0;

    (void)state;
    for (size_t i = 0; i < 3000; i++) {
        append(&held, &written, i * 31 % PIECE_MAX);
        take(&held, &read, i * 17 % (i % 700 < 350 ? PIECE_MAX / 2 : PIECE_MAX));
        assert_int_equal(esi_held_bytes_count(&held), written - read);
    }
    while (esi_held_bytes_count(&held) > 0) {
        take(&held, &read, PIECE_MAX);
    }
    assert_int_equal(read, written);
    assert_null(held.data);
}

static void the_front_is_looked_at_and_dropped(void **state)
{
    struct esi_held_bytes held = {0};

    (void)state;
    assert_string_equal(esi_held_bytes_first(&held), "");
    assert_true(esi_held_bytes_append(&held, "", 0));
    assert_null(held.data);
    assert_true(esi_held_bytes_append(&held, "abcdef", 6));
    esi_held_bytes_consume(&held, 0);
    esi_held_bytes_consume(&held, 2);
    assert_memory_equal(esi_held_bytes_first(&held), "cdef", 4);
    /* What is gone makes room when the buffer grows. */
    assert_true(esi_held_bytes_append(&held, "gh", 2));
    assert_int_equal(esi_held_bytes_count(&held), 6);
    assert_memory_equal(esi_held_bytes_first(&held), "cdefgh", 6);
    assert_int_equal(held.capacity, 8);
    esi_held_bytes_consume(&held, 6);
    assert_null(held.data);
    assert_true(esi_held_bytes_append(&held, "x", 1));
    esi_held_bytes_free(&held);
    assert_int_equal(esi_held_bytes_count(&held), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_keep_their_order),
        cmocka_unit_test(the_front_is_looked_at_and_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
