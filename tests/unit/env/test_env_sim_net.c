/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the simulated network behaves as TCP does: order, windows, ends, resets, and cuts that hold
 * back. Method: two hosts, one connection; time passes in steps until what is awaited is there.
 */
#include "env/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define S UINT64_C(1000000000)

enum { WINDOW = 2000, PORT = 4222 };

struct pair {
    struct esi_env_sim *sim;
    struct esi_env *left;
    struct esi_env *right;
    int listener;
    int client; /* at the left */
    int server; /* at the right */
};

static void pass(struct esi_env_sim *sim, uint64_t duration_ns)
{
    const uint64_t end_ns = esi_env_sim_now_ns(sim) + duration_ns;

    while (esi_env_sim_now_ns(sim) < end_ns) {
        esi_env_sim_step(sim, end_ns);
    }
}

static struct pair marry(uint32_t short_permille)
{
    const struct esi_env_sim_options options = {.seed = 5,
                                                .latency_ns_max = S / 1000,
                                                .window_bytes_min = WINDOW,
                                                .window_bytes_max = WINDOW,
                                                .short_permille = short_permille};
    const struct esi_address address = {.host = "10.0.0.2", .port = PORT};
    struct esi_address bound;
    struct esi_address peer;
    struct pair pair = {0};

    assert_int_equal(esi_env_sim_new(&options, &pair.sim), ES_OK);
    pair.left = esi_env_sim_host(pair.sim, "10.0.0.1");
    pair.right = esi_env_sim_host(pair.sim, "10.0.0.2");
    assert_int_equal(esi_env_listen(pair.right, "10.0.0.2", PORT, &pair.listener, &bound), ES_OK);
    assert_int_equal(esi_env_accept(pair.right, pair.listener, &pair.server, &peer), ES_AGAIN);
    assert_int_equal(esi_env_connect(pair.left, &address, &pair.client), ES_OK);
    assert_int_equal(esi_env_connect_result(pair.left, pair.client), ES_AGAIN);
    pass(pair.sim, S);
    assert_int_equal(esi_env_connect_result(pair.left, pair.client), ES_OK);
    assert_int_equal(esi_env_accept(pair.right, pair.listener, &pair.server, &peer), ES_OK);
    assert_string_equal(peer.host, "10.0.0.1");
    assert_int_equal(esi_env_sim_connections(pair.sim, pair.left, pair.right), 1);
    return pair;
}

static size_t send_text(const struct pair *pair, const char *text, size_t len)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = len};
    size_t count = 0;
    const enum es_err err = esi_env_writev(pair->left, pair->client, &part, 1, &count);

    assert_true(err == ES_OK || err == ES_AGAIN);
    return count;
}

static void test_bytes_come_in_order_however_they_are_cut(void **state)
{
    struct pair pair = marry(900);
    char sent[WINDOW];
    char got[WINDOW];
    size_t sent_count = 0;
    size_t got_count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof sent; i++) {
        sent[i] = (char)(i * 31 % 251);
    }
    while (sent_count < sizeof sent) {
        sent_count += send_text(&pair, sent + sent_count, sizeof sent - sent_count);
    }
    assert_int_equal(send_text(&pair, "x", 1), 0); /* the window is full */
    pass(pair.sim, S);
    while (got_count < sizeof got) {
        size_t count = 0;
        assert_int_equal(
            esi_env_read(pair.right, pair.server, got + got_count, sizeof got - got_count, &count),
            ES_OK);
        got_count += count;
    }
    assert_memory_equal(sent, got, sizeof sent);
    assert_int_equal(send_text(&pair, "x", 1), 1);
    esi_env_sim_free(pair.sim);
}

/* More than a window, and writes cut short: what is left stays in the bytes, and follows. */
static void test_bytes_are_written_as_there_is_room(void **state)
{
    struct pair pair = marry(900);
    struct esi_bytes out;
    char sent[2 * WINDOW];
    char got[2 * WINDOW];
    size_t got_count = 0;

    (void)state;
    for (size_t i = 0; i < sizeof sent; i++) {
        sent[i] = (char)(i * 31 % 251);
    }
    esi_bytes_init(&out, 0);
    esi_bytes_append(&out, sent, sizeof sent);
    assert_int_equal(esi_env_write_bytes(pair.left, pair.client, &out), ES_AGAIN);
    assert_int_equal(out.len, sizeof sent - WINDOW);
    while (got_count < sizeof got) {
        size_t count = 0;
        pass(pair.sim, S);
        if (esi_env_read(pair.right, pair.server, got + got_count, sizeof got - got_count,
                         &count) == ES_OK) {
            got_count += count;
        }
        const enum es_err err = esi_env_write_bytes(pair.left, pair.client, &out);
        assert_int_equal(err, out.len == 0 ? ES_OK : ES_AGAIN);
    }
    assert_memory_equal(sent, got, sizeof sent);
    esi_bytes_append(&out, "x", 1);
    esi_env_sim_reset(pair.sim, pair.left, pair.right);
    assert_int_equal(esi_env_write_bytes(pair.left, pair.client, &out), ES_CLOSED);
    esi_bytes_deinit(&out);
    esi_env_sim_free(pair.sim);
}

static void test_an_end_comes_behind_the_bytes(void **state)
{
    struct pair pair = marry(0);
    char buffer[16];
    size_t count = 0;

    (void)state;
    assert_int_equal(send_text(&pair, "last", 4), 4);
    esi_env_close(pair.left, pair.client);
    assert_int_equal(esi_env_sim_sockets(pair.sim, pair.left), 0);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count),
                     ES_AGAIN);
    pass(pair.sim, S);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count), ES_OK);
    assert_int_equal(count, 4);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count),
                     ES_CLOSED);
    esi_env_sim_free(pair.sim);
}

static void test_a_cut_holds_bytes_until_it_is_healed(void **state)
{
    struct pair pair = marry(0);
    char buffer[16];
    size_t count = 0;

    (void)state;
    esi_env_sim_cut(pair.sim, pair.left, pair.right, true);
    assert_int_equal(send_text(&pair, "held", 4), 4);
    pass(pair.sim, 100 * S);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count),
                     ES_AGAIN);
    esi_env_sim_cut(pair.sim, pair.left, pair.right, false);
    pass(pair.sim, S);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count), ES_OK);
    assert_int_equal(count, 4);
    esi_env_sim_free(pair.sim);
}

static void test_a_reset_ends_both_sides(void **state)
{
    struct pair pair = marry(0);
    const struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};
    char buffer[16];
    size_t count = 0;

    (void)state;
    esi_env_sim_reset(pair.sim, pair.left, pair.right);
    assert_int_equal(esi_env_read(pair.right, pair.server, buffer, sizeof buffer, &count),
                     ES_CLOSED);
    assert_int_equal(esi_env_writev(pair.left, pair.client, &part, 1, &count), ES_CLOSED);
    assert_int_equal(esi_env_sim_connections(pair.sim, pair.left, pair.right), 0);
    assert_int_equal(esi_env_sim_changed_ns(pair.sim, pair.left, pair.right),
                     esi_env_sim_now_ns(pair.sim));
    esi_env_sim_free(pair.sim);
}

static void test_who_does_not_listen_refuses(void **state)
{
    struct pair pair = marry(0);
    const struct esi_address address = {.host = "10.0.0.2", .port = PORT + 1};
    struct esi_address bound;
    int sock = ESI_ENV_NO_SOCKET;

    (void)state;
    assert_int_equal(esi_env_connect(pair.left, &address, &sock), ES_OK);
    pass(pair.sim, S);
    assert_int_equal(esi_env_connect_result(pair.left, sock), ES_UNREACHABLE);
    assert_int_equal(esi_env_listen(pair.right, "10.0.0.2", PORT, &sock, &bound), ES_IN_USE);
    assert_int_equal(esi_env_listen(pair.right, "10.0.0.9", 0, &sock, &bound), ES_NOT_FOUND);
    esi_env_sim_free(pair.sim);
}

static void test_a_poller_tells_what_is_ready(void **state)
{
    struct pair pair = marry(0);
    struct esi_poller *poller = NULL;
    struct esi_poll_ready ready[4];
    int tag = 0;

    (void)state;
    assert_int_equal(esi_env_poller_new(pair.right, &poller), ES_OK);
    assert_int_equal(esi_env_poller_add(pair.right, poller, pair.server, POLL_READ, &tag), ES_OK);
    assert_int_equal(esi_env_poller_wait(pair.right, poller, -1, ready, 4), 0);
    assert_int_equal(send_text(&pair, "x", 1), 1);
    pass(pair.sim, S);
    assert_int_equal(esi_env_poller_wait(pair.right, poller, -1, ready, 4), 1);
    assert_ptr_equal(ready[0].tag, &tag);
    assert_int_equal(ready[0].events, POLL_READ);
    esi_env_poller_change(pair.right, poller, pair.server, POLL_WRITE, &tag);
    assert_int_equal(esi_env_poller_wait(pair.right, poller, -1, ready, 4), 1);
    assert_int_equal(ready[0].events, POLL_WRITE);
    esi_env_poller_remove(pair.right, poller, pair.server);
    esi_env_poller_wake(pair.right, poller);
    assert_int_equal(esi_env_poller_wait(pair.right, poller, -1, ready, 4), 1);
    assert_null(ready[0].tag);
    esi_env_poller_free(pair.right, poller);
    esi_env_sim_free(pair.sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_come_in_order_however_they_are_cut),
        cmocka_unit_test(test_bytes_are_written_as_there_is_room),
        cmocka_unit_test(test_an_end_comes_behind_the_bytes),
        cmocka_unit_test(test_a_cut_holds_bytes_until_it_is_healed),
        cmocka_unit_test(test_a_reset_ends_both_sides),
        cmocka_unit_test(test_who_does_not_listen_refuses),
        cmocka_unit_test(test_a_poller_tells_what_is_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
