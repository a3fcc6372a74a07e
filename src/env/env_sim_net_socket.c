/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets of the simulated network: listening, connecting, accepting, closing. Numbers are not used
 * again, so that one that is kept too long is found.
 */
#include "env/env_sim_net_internal.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SYN_TRIES_MAX = 6 };

#define NS_PER_S UINT64_C(1000000000)

static struct sim_socket *new_socket(struct sim_host *host, enum socket_state state)
{
    struct esi_env_sim *sim = host->sim;
    struct sim_socket *sock = calloc(1, sizeof *sock);

    ESI_ASSERT(sock != NULL);
    sock->host = host;
    sock->index = sim->socket_count;
    sock->state = state;
    sock->peer = NO_PEER;
    sock->reset_at_ns = UINT64_MAX;
    esi_list_init(&sock->in_poller);
    sim->sockets = esi_env_sim_grow(sim->sockets, sim->socket_count, sizeof(struct sim_socket *));
    sim->sockets[sim->socket_count++] = sock;
    host->sockets++;
    return sock;
}

struct sim_socket *esi_env_sim_net_socket_find(struct esi_env *env, int sock)
{
    const struct sim_host *host = esi_env_sim_host_of(env);

    ESI_REQUIRE(sock >= 0 && (uint32_t)sock < host->sim->socket_count);
    struct sim_socket *found = host->sim->sockets[sock];
    ESI_REQUIRE(found != NULL && found->host == host);
    return found;
}

struct sim_socket *esi_env_sim_net_socket_peer(const struct sim_socket *sock)
{
    ESI_REQUIRE(sock->host != NULL);
    return sock->peer == NO_PEER ? NULL : sock->host->sim->sockets[sock->peer];
}

static void free_socket(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;

    esi_env_sim_net_stream_clear(sock);
    sock->host->sockets--;
    sim->sockets[sock->index] = NULL;
    free(sock);
}

static struct sim_socket *find_listener(struct sim_host *host, uint16_t port)
{
    for (uint32_t i = 0; i < host->sim->socket_count; i++) {
        struct sim_socket *sock = host->sim->sockets[i];
        if (sock != NULL && sock->host == host && sock->state == SOCKET_LISTENING &&
            sock->local.port == port) {
            return sock;
        }
    }
    return NULL;
}

/* --- listening and connecting --- */

enum es_err esi_env_sim_net_socket_listen(struct esi_env *env, const char *host, uint16_t port,
                                          int *sock, struct esi_address *bound)
{
    struct sim_host *self = esi_env_sim_host_of(env);

    if (strcmp(host, self->name) != 0) {
        return ES_NOT_FOUND;
    }
    if (port == 0) {
        port = self->next_port++;
    }
    if (find_listener(self, port) != NULL) {
        return ES_IN_USE;
    }
    struct sim_socket *made = new_socket(self, SOCKET_LISTENING);
    made->local.port = port;
    snprintf(made->local.host, sizeof made->local.host, "%s", self->name);
    *bound = made->local;
    *sock = (int)made->index;
    esi_env_sim_trace(self->sim, SIM_LISTEN, made->index, self->index, port);
    return ES_OK;
}

enum es_err esi_env_sim_net_socket_connect(struct esi_env *env, const struct esi_address *address,
                                           const struct esi_address *source, int *sock)
{
    struct sim_host *self = esi_env_sim_host_of(env);
    struct esi_env_sim *sim = self->sim;
    struct sim_socket *made = new_socket(self, SOCKET_CONNECTING);

    (void)source; /* a host has one address */
    made->remote = *address;
    made->local.port = self->next_port++;
    snprintf(made->local.host, sizeof made->local.host, "%s", self->name);
    *sock = (int)made->index;
    esi_env_sim_trace(sim, SIM_CONNECT, made->index, self->index, address->port);
    esi_env_sim_push(sim, sim->now_ns + esi_env_sim_net_latency(sim), SIM_EVENT_SYN, made->index,
                     1);
    return ES_OK;
}

static void fail_connect(struct sim_socket *sock)
{
    sock->state = SOCKET_FAILED;
    esi_env_sim_trace(sock->host->sim, SIM_REFUSED, sock->index, 0, 0);
    esi_env_sim_push(sock->host->sim, sock->host->sim->now_ns, SIM_EVENT_SOCKET, sock->index, 0);
}

static void append_waiting(struct sim_socket *listener, struct sim_socket *sock)
{
    sock->is_waiting = true;
    if (listener->waiting_last == NULL) {
        listener->waiting_first = sock;
    } else {
        listener->waiting_last->next_waiting = sock;
    }
    listener->waiting_last = sock;
}

static size_t draw_window(struct esi_env_sim *sim)
{
    const struct esi_env_sim_options *options = &sim->options;
    const size_t span = options->window_bytes_max > options->window_bytes_min
                            ? options->window_bytes_max - options->window_bytes_min
                            : 0;

    return options->window_bytes_min + (size_t)esi_env_sim_chance(sim, CHANCE_NETWORK, span + 1);
}

void esi_env_sim_net_socket_syn(struct esi_env_sim *sim, uint32_t index, uint32_t tries)
{
    struct sim_socket *from = sim->sockets[index];

    if (from == NULL || from->state != SOCKET_CONNECTING) {
        return; /* given up meanwhile */
    }
    struct sim_host *host = esi_env_sim_net_host(sim, from->remote.host);
    if (host == NULL || esi_env_sim_net_is_cut_off(from, host)) {
        if (tries >= SYN_TRIES_MAX) {
            fail_connect(from);
        } else {
            esi_env_sim_push(sim, sim->now_ns + (NS_PER_S << (tries - 1)), SIM_EVENT_SYN, index,
                             tries + 1);
        }
        return;
    }
    struct sim_socket *listener = find_listener(host, from->remote.port);
    if (listener == NULL) {
        fail_connect(from);
        return;
    }
    struct sim_socket *made = new_socket(host, SOCKET_CONNECTED);
    made->local = listener->local;
    made->remote = from->local;
    made->peer = (int)from->index;
    made->window_bytes = draw_window(sim);
    append_waiting(listener, made);
    from->state = SOCKET_CONNECTED;
    from->peer = (int)made->index;
    from->window_bytes = draw_window(sim);
    esi_env_sim_net_note_change(from);
    esi_env_sim_trace(sim, SIM_CONNECTED, from->index, made->index, 0);
    esi_env_sim_push(sim, sim->now_ns, SIM_EVENT_SOCKET, listener->index, 0);
    esi_env_sim_push(sim, sim->now_ns, SIM_EVENT_SOCKET, from->index, 0);
}

enum es_err esi_env_sim_net_socket_accept(struct esi_env *env, int listener_number, int *sock,
                                          struct esi_address *peer)
{
    struct sim_socket *listener = esi_env_sim_net_socket_find(env, listener_number);
    struct esi_env_sim *sim = listener->host->sim;
    struct sim_socket *taken = listener->waiting_first;

    if (taken == NULL) {
        return ES_AGAIN;
    }
    if (esi_env_sim_happens(sim, CHANCE_NETWORK, sim->options.full_permille)) {
        return ES_FULL;
    }
    listener->waiting_first = taken->next_waiting;
    if (listener->waiting_first == NULL) {
        listener->waiting_last = NULL;
    }
    taken->next_waiting = NULL;
    taken->is_waiting = false;
    *sock = (int)taken->index;
    *peer = taken->remote;
    esi_env_sim_trace(sim, SIM_ACCEPT, listener->index, taken->index, 0);
    return ES_OK;
}

enum es_err esi_env_sim_net_socket_connect_result(struct esi_env *env, int number)
{
    const struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);

    switch (sock->state) {
    case SOCKET_CONNECTING:
        return ES_AGAIN;
    case SOCKET_CONNECTED:
        return esi_env_sim_net_stream_is_reset(sock) ? ES_UNREACHABLE : ES_OK;
    case SOCKET_LISTENING:
    case SOCKET_FAILED:
        break;
    }
    return ES_UNREACHABLE;
}

enum es_err esi_env_sim_net_socket_local_address(struct esi_env *env, int number,
                                                 struct esi_address *local)
{
    *local = esi_env_sim_net_socket_find(env, number)->local;
    return ES_OK;
}

/* --- closing --- */

static void close_listener(struct sim_socket *listener)
{
    while (listener->waiting_first != NULL) {
        struct sim_socket *sock = listener->waiting_first;
        listener->waiting_first = sock->next_waiting;
        (void)esi_env_sim_net_stream_send(sock, SEGMENT_RST, 0);
        free_socket(sock);
    }
}

void esi_env_sim_net_socket_close(struct esi_env *env, int number)
{
    if (number == ESI_ENV_NO_SOCKET) {
        return;
    }
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);
    ESI_REQUIRE(sock->poller == NULL);
    esi_env_sim_trace(sock->host->sim, SIM_CLOSE, sock->index, 0, 0);
    if (sock->state == SOCKET_LISTENING) {
        close_listener(sock);
    } else {
        esi_env_sim_net_note_change(sock);
        esi_env_sim_net_stream_close(sock);
    }
    struct sim_socket *peer = esi_env_sim_net_socket_peer(sock);
    if (peer != NULL) {
        /* What filled its window is gone. */
        esi_env_sim_push(sock->host->sim, sock->host->sim->now_ns, SIM_EVENT_SOCKET, peer->index,
                         0);
    }
    free_socket(sock);
}

void esi_env_sim_net_socket_end(struct esi_env_sim *sim)
{
    for (uint32_t i = 0; i < sim->socket_count; i++) {
        if (sim->sockets[i] != NULL) {
            free_socket(sim->sockets[i]);
        }
    }
}
