/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: sockets and addresses of the Linux environment keep the promises of env/env.h. Method: real
 * sockets on loopback with ports that the system gives; every wait is for an event, with a
 * deadline.
 */
#include "env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "poller_case.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* A listener that a new poller watches. */
static int listen_at(const char *host, struct esi_poller **poller, struct esi_address *bound)
{
    int listener = ESI_ENV_NO_SOCKET;

    assert_int_equal(esi_env_listen(env, host, 0, &listener, bound), ES_OK);
    assert_int_equal(esi_env_poller_new(env, poller), ES_OK);
    assert_int_equal(esi_env_poller_add(env, *poller, listener, POLL_READ, bound), ES_OK);
    return listener;
}

/* A connected pair over the given loopback address. */
static void marry(const char *host, int *client, int *server)
{
    struct esi_address bound;
    struct esi_address peer;
    struct esi_poller *poller = NULL;
    int listener = ESI_ENV_NO_SOCKET;

    assert_int_equal(esi_env_listen(env, host, 0, &listener, &bound), ES_OK);
    assert_string_equal(bound.host, host);
    assert_int_not_equal(bound.port, 0);
    assert_int_equal(esi_env_accept(env, listener, server, &peer), ES_AGAIN);
    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    assert_int_equal(esi_env_poller_add(env, poller, listener, POLL_READ, &listener), ES_OK);
    assert_int_equal(esi_env_connect(env, &bound, client), ES_OK);
    assert_ptr_equal(wait_one(poller).tag, &listener);
    assert_int_equal(esi_env_accept(env, listener, server, &peer), ES_OK);
    assert_string_equal(peer.host, host);
    esi_env_poller_remove(env, poller, listener);
    assert_int_equal(esi_env_poller_add(env, poller, *client, POLL_WRITE, client), ES_OK);
    const struct esi_poll_ready ready = wait_one(poller);
    assert_ptr_equal(ready.tag, client);
    assert_int_equal(ready.events, POLL_WRITE);
    assert_int_equal(esi_env_connect_result(env, *client), ES_OK);
    esi_env_poller_remove(env, poller, *client);
    esi_env_poller_free(env, poller);
    esi_env_close(env, listener);
}

/* A source that is asked for is what the other end sees. */
static void a_connection_comes_from_its_source(void **state)
{
    const struct esi_address source = {.host = "127.0.0.9"};
    const struct esi_address foreign = {.host = "192.0.2.1"};
    struct esi_address bound;
    struct esi_address peer;
    struct esi_poller *poller = NULL;
    int listener = ESI_ENV_NO_SOCKET;
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;

    (void)state;
    listener = listen_at("127.0.0.1", &poller, &bound);
    assert_int_not_equal(esi_env_connect_from(env, &bound, &foreign, &client), ES_OK);
    assert_int_equal(client, ESI_ENV_NO_SOCKET);
    assert_int_equal(esi_env_connect_from(env, &bound, &source, &client), ES_OK);
    wait_one(poller);
    assert_int_equal(esi_env_accept(env, listener, &server, &peer), ES_OK);
    assert_string_equal(peer.host, source.host);
    assert_int_not_equal(peer.port, 0);
    esi_env_poller_remove(env, poller, listener);
    esi_env_poller_free(env, poller);
    esi_env_close(env, server);
    esi_env_close(env, client);
    esi_env_close(env, listener);
}

static void send_text(int sock, const char *text)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    size_t count = 0;

    assert_int_equal(esi_env_writev(env, sock, &part, 1, &count), ES_OK);
    assert_int_equal(count, strlen(text));
}

static void exchange_over(const char *host)
{
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;
    struct esi_poller *poller = NULL;
    char buffer[64];
    size_t count = 0;

    marry(host, &client, &server);
    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    assert_int_equal(esi_env_poller_add(env, poller, server, POLL_READ, &server), ES_OK);
    assert_int_equal(esi_env_read(env, server, buffer, sizeof buffer, &count), ES_AGAIN);

    struct iovec parts[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
    assert_int_equal(esi_env_writev(env, client, parts, 3, &count), ES_OK);
    assert_int_equal(count, 5);
    const struct esi_poll_ready ready = wait_one(poller);
    assert_ptr_equal(ready.tag, &server);
    assert_int_equal(ready.events, POLL_READ);
    assert_int_equal(esi_env_read(env, server, buffer, sizeof buffer, &count), ES_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(buffer, "abcde", 5);

    /* A half-closed stream still carries the other direction. */
    esi_env_shutdown_write(env, client);
    assert_int_equal(wait_one(poller).events & POLL_READ, POLL_READ);
    assert_int_equal(esi_env_read(env, server, buffer, sizeof buffer, &count), ES_CLOSED);
    send_text(server, "xyz");
    esi_env_poller_remove(env, poller, server);
    assert_int_equal(esi_env_poller_add(env, poller, client, POLL_READ, &client), ES_OK);
    wait_one(poller);
    assert_int_equal(esi_env_read(env, client, buffer, sizeof buffer, &count), ES_OK);
    assert_int_equal(count, 3);
    esi_env_poller_remove(env, poller, client);
    esi_env_poller_free(env, poller);
    esi_env_close(env, client);
    esi_env_close(env, server);
}

static void bytes_travel_over_ipv4(void **state)
{
    (void)state;
    exchange_over("127.0.0.1");
}

static bool has_ipv6(void)
{
    const int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const bool has_it =
        probe >= 0 && bind(probe, (const struct sockaddr *)&loopback, sizeof loopback) == 0;
    close(probe);
    return has_it;
}

static void bytes_travel_over_ipv6(void **state)
{
    (void)state;
    if (!has_ipv6()) {
        fail_msg("left out: this machine has no IPv6 loopback address");
    }
    exchange_over("::1");
}

static void every_address_means_ipv4_too(void **state)
{
    struct esi_address bound;
    struct esi_address peer;
    struct esi_poller *poller = NULL;
    int listener = ESI_ENV_NO_SOCKET;
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;

    (void)state;
    if (!has_ipv6()) {
        fail_msg("left out: this machine has no IPv6 loopback address");
    }
    listener = listen_at("::", &poller, &bound);
    const struct esi_address address = {.host = "127.0.0.1", .port = bound.port};
    assert_int_equal(esi_env_connect(env, &address, &client), ES_OK);
    wait_one(poller);
    assert_int_equal(esi_env_accept(env, listener, &server, &peer), ES_OK);
    assert_string_equal(peer.host, "127.0.0.1");
    esi_env_poller_remove(env, poller, listener);
    esi_env_poller_free(env, poller);
    esi_env_close(env, client);
    esi_env_close(env, server);
    esi_env_close(env, listener);
}

static void sockets_are_prepared(void **state)
{
    int socks[2] = {ESI_ENV_NO_SOCKET, ESI_ENV_NO_SOCKET};

    (void)state;
    marry("127.0.0.1", &socks[0], &socks[1]);
    for (int i = 0; i < 2; i++) {
        int value = 0;
        socklen_t len = sizeof value;
        assert_int_equal(getsockopt(socks[i], IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
        assert_int_equal(value, 1);
        assert_int_equal(fcntl(socks[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        assert_int_equal(fcntl(socks[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        esi_env_close(env, socks[i]);
    }
    esi_env_close(env, ESI_ENV_NO_SOCKET);
}

static void writing_to_a_closed_peer_is_an_error_not_a_signal(void **state)
{
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;
    const struct iovec part = {"x", 1};
    size_t count = 0;
    enum es_err err = ES_OK;

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    marry("127.0.0.1", &client, &server);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    esi_env_close(env, server);
    for (int i = 0; i < 1000 && err == ES_OK; i++) {
        err = esi_env_writev(env, client, &part, 1, &count);
    }
    assert_int_equal(err, ES_CLOSED);
    assert_int_equal(esi_env_writev(env, client, &part, 1, &count), ES_CLOSED);
    char byte;
    assert_int_equal(esi_env_read(env, client, &byte, 1, &count), ES_CLOSED);
    esi_env_close(env, client);
}

static void a_full_socket_says_again_and_a_hangup_is_reported(void **state)
{
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;
    static char block[1 << 16];
    const struct iovec part = {block, sizeof block};
    struct esi_poller *poller = NULL;
    struct esi_poll_ready ready;
    size_t count = 0;
    enum es_err err = ES_OK;

    (void)state;
    marry("127.0.0.1", &client, &server);
    for (int i = 0; i < 10000 && err == ES_OK; i++) {
        err = esi_env_writev(env, client, &part, 1, &count);
    }
    assert_int_equal(err, ES_AGAIN);
    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    assert_int_equal(esi_env_poller_add(env, poller, client, POLL_WRITE, &client), ES_OK);
    assert_int_equal(esi_env_poller_wait(env, poller, 0, &ready, 1), 0);
    /* Watched for nothing, a hang-up is reported all the same. */
    esi_env_poller_change(env, poller, client, 0, &server);
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    esi_env_close(env, server);
    ready = wait_one(poller);
    assert_ptr_equal(ready.tag, &server);
    assert_int_equal(ready.events, POLL_HANGUP);
    esi_env_poller_remove(env, poller, client);
    esi_env_poller_free(env, poller);
    esi_env_close(env, client);
}

static void both_ends_know_their_own_address(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    struct esi_address ends[2];
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;

    (void)state;
    for (int i = 0; i < (has_ipv6() ? 2 : 1); i++) {
        marry(hosts[i], &client, &server);
        assert_int_equal(esi_env_local_address(env, client, &ends[0]), ES_OK);
        assert_int_equal(esi_env_local_address(env, server, &ends[1]), ES_OK);
        assert_string_equal(ends[0].host, hosts[i]);
        assert_string_equal(ends[1].host, hosts[i]);
        assert_int_not_equal(ends[0].port, 0);
        assert_int_not_equal(ends[0].port, ends[1].port);
        esi_env_close(env, client);
        esi_env_close(env, server);
    }
    assert_int_equal(esi_env_local_address(env, ESI_ENV_NO_SOCKET, &ends[0]), ES_IO);
}

static void a_taken_port_is_in_use(void **state)
{
    struct esi_address bound;
    struct esi_address again;
    int listener = ESI_ENV_NO_SOCKET;
    int second = ESI_ENV_NO_SOCKET;

    (void)state;
    assert_int_equal(esi_env_listen(env, "localhost", 0, &listener, &bound), ES_OK);
    assert_string_equal(bound.host, "127.0.0.1");
    assert_int_equal(esi_env_listen(env, "127.0.0.1", bound.port, &second, &again), ES_IN_USE);
    assert_int_equal(second, ESI_ENV_NO_SOCKET);
    esi_env_close(env, listener);
    assert_int_equal(esi_env_listen(env, "192.0.2.1", 0, &listener, &bound), ES_NOT_FOUND);
    assert_int_equal(esi_env_listen(env, "no-such-host.invalid", 0, &listener, &bound) < 0, true);
}

static void a_refused_connect_is_unreachable(void **state)
{
    struct esi_address bound;
    struct esi_poller *poller = NULL;
    int listener = ESI_ENV_NO_SOCKET;
    int client = ESI_ENV_NO_SOCKET;

    (void)state;
    /* Bound and not listening: nobody else can get this port meanwhile. */
    assert_int_equal(esi_env_listen(env, "127.0.0.1", 0, &listener, &bound), ES_OK);
    assert_int_equal(shutdown(listener, SHUT_RDWR), 0);
    const enum es_err err = esi_env_connect(env, &bound, &client);
    if (err == ES_OK) {
        assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
        assert_int_equal(esi_env_poller_add(env, poller, client, POLL_WRITE, &client), ES_OK);
        wait_one(poller);
        assert_int_equal(esi_env_connect_result(env, client), ES_UNREACHABLE);
        assert_int_equal(esi_env_connect_result(env, client), ES_UNREACHABLE);
        esi_env_poller_remove(env, poller, client);
        esi_env_poller_free(env, poller);
        esi_env_close(env, client);
    } else {
        assert_int_equal(err, ES_UNREACHABLE);
    }
    esi_env_close(env, listener);
    const struct esi_address name = {.host = "localhost", .port = 1};
    assert_int_equal(esi_env_connect(env, &name, &client), ES_INVALID);
}

static void accept_without_descriptors_is_full(void **state)
{
    struct esi_address bound;
    struct esi_address peer;
    struct rlimit before;
    int listener = ESI_ENV_NO_SOCKET;
    int client = ESI_ENV_NO_SOCKET;
    int server = ESI_ENV_NO_SOCKET;
    struct esi_poller *poller = NULL;

    (void)state;
    listener = listen_at("127.0.0.1", &poller, &bound);
    assert_int_equal(esi_env_connect(env, &bound, &client), ES_OK);
    wait_one(poller);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const enum es_err err = esi_env_accept(env, listener, &server, &peer);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(err, ES_FULL);
    esi_env_poller_remove(env, poller, listener);
    esi_env_poller_free(env, poller);
    esi_env_close(env, client);
    esi_env_close(env, listener);
}

static void names_are_resolved(void **state)
{
    struct esi_address found[4];
    size_t count = 0;

    (void)state;
    assert_int_equal(esi_env_resolve(env, "127.0.0.1", 4222, found, 4, &count), ES_OK);
    assert_int_equal(count, 1);
    assert_string_equal(found[0].host, "127.0.0.1");
    assert_int_equal(found[0].port, 4222);
    assert_int_equal(esi_env_resolve(env, "::1", 1, found, 4, &count), ES_OK);
    assert_string_equal(found[0].host, "::1");
    assert_int_equal(esi_env_resolve(env, "localhost", 7, found, 1, &count), ES_OK);
    assert_int_equal(count, 1);
    count = 99;
    assert_int_not_equal(esi_env_resolve(env, "no-such-host.invalid", 7, found, 4, &count), ES_OK);
    assert_int_equal(count, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_travel_over_ipv4),
        cmocka_unit_test(bytes_travel_over_ipv6),
        cmocka_unit_test(every_address_means_ipv4_too),
        cmocka_unit_test(sockets_are_prepared),
        cmocka_unit_test(writing_to_a_closed_peer_is_an_error_not_a_signal),
        cmocka_unit_test(a_full_socket_says_again_and_a_hangup_is_reported),
        cmocka_unit_test(both_ends_know_their_own_address),
        cmocka_unit_test(a_taken_port_is_in_use),
        cmocka_unit_test(a_connection_comes_from_its_source),
        cmocka_unit_test(a_refused_connect_is_unreachable),
        cmocka_unit_test(accept_without_descriptors_is_full),
        cmocka_unit_test(names_are_resolved),
    };

    env = esi_env_linux();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
