/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pollers of the simulated network. None ever waits: a thread has its next turn when a socket that
 * its poller watches is ready. */
#include "env/env_sim_net_internal.h"

#include "base/assert.h"
#include "base/own.h"

#include <stdlib.h>

enum { POLLED_MAX = 1024 };

static uint32_t ready_events(const struct sim_socket *sock)
{
    uint32_t events = 0;

    switch (sock->state) {
    case SOCKET_LISTENING:
        events = sock->waiting_first != NULL ? POLL_READ : 0;
        break;
    case SOCKET_CONNECTING:
        break;
    case SOCKET_FAILED:
        events = POLL_READ | POLL_WRITE | POLL_HANGUP;
        break;
    case SOCKET_CONNECTED:
        if (esi_env_sim_net_stream_is_reset(sock)) {
            events = POLL_READ | POLL_WRITE | POLL_HANGUP;
            break;
        }
        if (esi_env_sim_net_stream_has_arrived(sock)) {
            events |= POLL_READ;
            events |= sock->first->kind == SEGMENT_FIN && sock->is_fin_sent ? POLL_HANGUP : 0;
        }
        if (esi_env_sim_net_socket_peer(sock) == NULL ||
            esi_env_sim_net_stream_room(sock) * 3 >=
                esi_env_sim_net_socket_peer(sock)->window_bytes) {
            events |= POLL_WRITE;
        }
        break;
    }
    return events & (sock->watched | POLL_HANGUP);
}

enum es_err esi_env_sim_net_poller_new(struct esi_env *env, struct esi_poller **out)
{
    struct esi_poller *poller = malloc(sizeof *poller);

    if (poller == NULL) {
        return ES_NO_MEMORY;
    }
    *poller = (struct esi_poller){.host = esi_env_sim_host_of(env)};
    esi_list_init(&poller->sockets);
    *out = poller;
    return ES_OK;
}

void esi_env_sim_net_poller_free(struct esi_env *env, struct esi_poller *poller)
{
    (void)env;
    if (poller != NULL) {
        ESI_REQUIRE(esi_list_is_empty(&poller->sockets));
        free(poller);
    }
}

void esi_env_sim_net_poller_own(struct esi_poller *poller, struct esi_thread *thread)
{
    poller->thread = thread;
}

static void notify(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;

    if (sock->poller != NULL && sock->poller->thread != NULL && ready_events(sock) != 0) {
        esi_env_sim_schedule(sim, sock->poller->thread, sim->now_ns);
    }
}

void esi_env_sim_net_poller_touch(struct esi_env_sim *sim, uint32_t index)
{
    if (sim->sockets[index] != NULL) {
        notify(sim->sockets[index]);
    }
}

enum es_err esi_env_sim_net_poller_add(struct esi_env *env, struct esi_poller *poller, int number,
                                       uint32_t events, void *tag)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);

    ESI_REQUIRE(tag != NULL && sock->poller == NULL);
    sock->poller = poller;
    sock->watched = events;
    sock->tag = tag;
    esi_list_append(&poller->sockets, &sock->in_poller);
    notify(sock);
    return ES_OK;
}

void esi_env_sim_net_poller_change(struct esi_env *env, struct esi_poller *poller, int number,
                                   uint32_t events, void *tag)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);

    ESI_REQUIRE(tag != NULL && sock->poller == poller);
    sock->watched = events;
    sock->tag = tag;
    notify(sock);
}

void esi_env_sim_net_poller_remove(struct esi_env *env, struct esi_poller *poller, int number)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);

    ESI_REQUIRE(sock->poller == poller);
    sock->poller = NULL;
    esi_list_remove(&sock->in_poller);
}

/* The ready sockets, in any order. */
static size_t collect(struct esi_poller *poller, struct esi_poll_ready *found)
{
    size_t count = 0;

    for (struct esi_list *link = poller->sockets.next; link != &poller->sockets;
         link = link->next) {
        const struct sim_socket *sock = ESI_CONTAINER_OF(link, struct sim_socket, in_poller);
        const uint32_t events = ready_events(sock);
        if (events != 0 && count < POLLED_MAX) {
            found[count++] = (struct esi_poll_ready){.tag = sock->tag, .events = events};
        }
    }
    for (size_t i = count; i > 1; i--) {
        const size_t other = (size_t)esi_env_sim_chance(poller->host->sim, CHANCE_TURNS, i);
        const struct esi_poll_ready swapped = found[other];
        found[other] = found[i - 1];
        found[i - 1] = swapped;
    }
    return count;
}

/* Never waits: the thread gets its next turn when there is something. */
size_t esi_env_sim_net_poller_wait(struct esi_env *env, struct esi_poller *poller,
                                   int64_t timeout_ns, struct esi_poll_ready *ready,
                                   size_t capacity)
{
    struct esi_poll_ready found[POLLED_MAX];
    size_t count = 0;

    (void)env;
    (void)timeout_ns;
    ESI_REQUIRE(capacity > 0);
    if (poller->is_woken) {
        poller->is_woken = false;
        ready[count++] = (struct esi_poll_ready){.tag = NULL};
    }
    const size_t found_count = collect(poller, found);
    for (size_t i = 0; i < found_count && count < capacity; i++) {
        ready[count++] = found[i];
    }
    return count;
}

void esi_env_sim_net_poller_wake(struct esi_env *env, struct esi_poller *poller)
{
    struct esi_env_sim *sim = esi_env_sim_host_of(env)->sim;

    poller->is_woken = true;
    if (poller->thread != NULL) {
        esi_env_sim_schedule(sim, poller->thread,
                             sim->now_ns + esi_env_sim_chance(sim, CHANCE_TURNS, 20000));
    }
}

bool esi_env_sim_net_poller_is_ready(const struct esi_poller *poller)
{
    if (poller->is_woken) {
        return true;
    }
    for (struct esi_list *link = poller->sockets.next; link != &poller->sockets;
         link = link->next) {
        if (ready_events(ESI_CONTAINER_OF(link, struct sim_socket, in_poller)) != 0) {
            return true;
        }
    }
    return false;
}
