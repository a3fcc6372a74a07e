/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network between the hosts: how long a packet takes, and what goes wrong on the way. */
#include "env/env_sim_net_internal.h"

#include <string.h>

enum { SLOW_PERMILLE = 5 /* packets that are lost and sent again */ };

struct sim_host *esi_env_sim_net_host(const struct esi_env_sim *sim, const char *name)
{
    for (uint32_t i = 0; i < sim->host_count; i++) {
        if (strcmp(sim->hosts[i]->name, name) == 0) {
            return sim->hosts[i];
        }
    }
    return NULL;
}

bool esi_env_sim_net_is_cut_off(const struct sim_socket *sock, const struct sim_host *other)
{
    return other != NULL && sock->host->sim->is_cut[sock->host->index][other->index];
}

uint64_t esi_env_sim_net_latency(struct esi_env_sim *sim)
{
    uint64_t latency_ns =
        1000 + esi_env_sim_chance(sim, CHANCE_NETWORK, sim->options.latency_ns_max + 1);

    if (esi_env_sim_happens(sim, CHANCE_NETWORK, SLOW_PERMILLE)) {
        latency_ns += RESEND_NS;
    }
    return latency_ns;
}

void esi_env_sim_net_note_change(const struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;
    const struct sim_host *other = esi_env_sim_net_host(sim, sock->remote.host);

    if (other != NULL && sock->state == SOCKET_CONNECTED) {
        sim->changed_ns[sock->host->index][other->index] = sim->now_ns;
        sim->changed_ns[other->index][sock->host->index] = sim->now_ns;
    }
}

/* --- what goes wrong --- */

/* True when the socket's connection is one between the two. */
static bool is_between(const struct esi_env_sim *sim, const struct sim_socket *sock,
                       const struct sim_host *a, const struct sim_host *b)
{
    const struct sim_host *other = esi_env_sim_net_host(sim, sock->remote.host);

    return sock->state == SOCKET_CONNECTED &&
           ((sock->host == a && other == b) || (sock->host == b && other == a));
}

void esi_env_sim_cut(struct esi_env_sim *sim, const struct esi_env *a, const struct esi_env *b,
                     bool is_cut)
{
    const struct sim_host *first = esi_env_sim_host_of(a);
    const struct sim_host *second = esi_env_sim_host_of(b);

    sim->is_cut[first->index][second->index] = is_cut;
    sim->is_cut[second->index][first->index] = is_cut;
    esi_env_sim_trace(sim, is_cut ? SIM_CUT : SIM_HEAL, first->index, second->index, 0);
    for (uint32_t i = 0; i < sim->socket_count && !is_cut; i++) {
        struct sim_socket *sock = sim->sockets[i];
        if (sock != NULL && is_between(sim, sock, first, second)) {
            esi_env_sim_net_stream_release(sock);
        }
    }
}

void esi_env_sim_reset(struct esi_env_sim *sim, const struct esi_env *a, const struct esi_env *b)
{
    for (uint32_t i = 0; i < sim->socket_count; i++) {
        struct sim_socket *sock = sim->sockets[i];
        if (sock != NULL && is_between(sim, sock, esi_env_sim_host_of(a), esi_env_sim_host_of(b))) {
            esi_env_sim_net_stream_reset(sock);
        }
    }
}

void esi_env_sim_crash(struct esi_env_sim *sim, const struct esi_env *host)
{
    for (uint32_t i = 0; i < sim->host_count; i++) {
        esi_env_sim_reset(sim, host, &sim->hosts[i]->env);
    }
}

uint64_t esi_env_sim_changed_ns(const struct esi_env_sim *sim, const struct esi_env *a,
                                const struct esi_env *b)
{
    return sim->changed_ns[esi_env_sim_host_of(a)->index][esi_env_sim_host_of(b)->index];
}

uint32_t esi_env_sim_connections(const struct esi_env_sim *sim, const struct esi_env *a,
                                 const struct esi_env *b)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sim->socket_count; i++) {
        const struct sim_socket *sock = sim->sockets[i];
        if (sock != NULL && sock->host == esi_env_sim_host_of(a) &&
            esi_env_sim_net_socket_peer(sock) != NULL &&
            is_between(sim, sock, esi_env_sim_host_of(a), esi_env_sim_host_of(b)) &&
            !esi_env_sim_net_stream_is_reset(sock) &&
            !esi_env_sim_net_stream_is_reset(esi_env_sim_net_socket_peer(sock))) {
            count++;
        }
    }
    return count;
}
