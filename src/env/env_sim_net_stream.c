/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What travels on a connection. A segment that ends it (FIN, RST) travels in the order of the
 * others; a reset also ends the writing at once when it arrives, and what arrived before it stays
 * readable, as on Linux. A cut holds segments back until it is healed.
 */
#include "env/env_sim_net_internal.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t HELD = UINT64_MAX; /* time of arrival behind a cut */

/* --- segments --- */

void esi_env_sim_net_stream_clear(struct sim_socket *sock)
{
    while (sock->first != NULL) {
        struct sim_segment *segment = sock->first;
        sock->first = segment->next;
        free(segment);
    }
    sock->last = NULL;
    sock->held_bytes = 0;
}

bool esi_env_sim_net_stream_has_arrived(const struct sim_socket *sock)
{
    return sock->first != NULL && sock->first->arrive_ns <= sock->host->sim->now_ns;
}

bool esi_env_sim_net_stream_is_reset(const struct sim_socket *sock)
{
    return sock->reset_at_ns <= sock->host->sim->now_ns;
}

/* Puts a segment behind what is on its way to the socket. */
static struct sim_segment *append_segment(struct sim_socket *to, enum segment_kind kind, size_t len,
                                          uint64_t arrive_ns)
{
    struct esi_env_sim *sim = to->host->sim;
    struct sim_segment *segment = malloc(sizeof *segment + len);

    ESI_ASSERT(segment != NULL);
    if (arrive_ns != HELD && to->last != NULL && to->last->arrive_ns == HELD) {
        arrive_ns = HELD;
    }
    if (arrive_ns < to->last_arrive_ns) {
        arrive_ns = to->last_arrive_ns;
    }
    *segment = (struct sim_segment){.arrive_ns = arrive_ns, .kind = kind, .len = len};
    if (to->last == NULL) {
        to->first = segment;
    } else {
        to->last->next = segment;
    }
    to->last = segment;
    to->held_bytes += len;
    if (arrive_ns != HELD) {
        to->last_arrive_ns = arrive_ns;
        if (kind == SEGMENT_RST && arrive_ns < to->reset_at_ns) {
            to->reset_at_ns = arrive_ns;
        }
        esi_env_sim_push(sim, arrive_ns, SIM_EVENT_SOCKET, to->index, 0);
    }
    return segment;
}

struct sim_segment *esi_env_sim_net_stream_send(struct sim_socket *from, enum segment_kind kind,
                                                size_t len)
{
    struct esi_env_sim *sim = from->host->sim;
    struct sim_socket *peer = esi_env_sim_net_socket_peer(from);
    const struct sim_host *other =
        peer != NULL ? peer->host : esi_env_sim_net_host(sim, from->remote.host);
    const uint64_t arrive_ns =
        esi_env_sim_net_is_cut_off(from, other) ? HELD : sim->now_ns + esi_env_sim_net_latency(sim);

    if (peer != NULL) {
        return append_segment(peer, kind, len, arrive_ns);
    }
    if (kind != SEGMENT_RST && from->reset_at_ns == UINT64_MAX) {
        const bool is_lost = arrive_ns == HELD;
        append_segment(from, SEGMENT_RST, 0,
                       is_lost ? HELD : arrive_ns + esi_env_sim_net_latency(sim));
    }
    return NULL;
}

void esi_env_sim_net_stream_release(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;
    uint64_t arrive_ns = sim->now_ns + RESEND_NS + esi_env_sim_net_latency(sim);

    for (struct sim_segment *segment = sock->first; segment != NULL; segment = segment->next) {
        if (segment->arrive_ns != HELD) {
            continue;
        }
        arrive_ns = arrive_ns < sock->last_arrive_ns ? sock->last_arrive_ns : arrive_ns;
        segment->arrive_ns = arrive_ns;
        sock->last_arrive_ns = arrive_ns;
        if (segment->kind == SEGMENT_RST && arrive_ns < sock->reset_at_ns) {
            sock->reset_at_ns = arrive_ns;
        }
        esi_env_sim_push(sim, arrive_ns, SIM_EVENT_SOCKET, sock->index, 0);
    }
}

void esi_env_sim_net_stream_reset(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;
    struct sim_segment **link = &sock->first;

    sock->last = NULL;
    while (*link != NULL && (*link)->arrive_ns <= sim->now_ns) {
        sock->last = *link;
        link = &(*link)->next;
    }
    while (*link != NULL) {
        struct sim_segment *segment = *link;
        *link = segment->next;
        sock->held_bytes -= segment->len - segment->offset;
        free(segment);
    }
    esi_env_sim_net_note_change(sock);
    sock->last_arrive_ns = sim->now_ns;
    append_segment(sock, SEGMENT_RST, 0, sim->now_ns);
    esi_env_sim_trace(sim, SIM_RESET, sock->index, 0, 0);
}

/* --- reading and writing --- */

/* A part of a count, sometimes. */
static size_t draw_short(struct esi_env_sim *sim, size_t count)
{
    return count > 1 && esi_env_sim_happens(sim, CHANCE_NETWORK, sim->options.short_permille)
               ? 1 + (size_t)esi_env_sim_chance(sim, CHANCE_NETWORK, count - 1)
               : count;
}

/* Bytes that could be read now, at most capacity. */
static size_t count_arrived(const struct sim_socket *sock, size_t capacity)
{
    size_t count = 0;

    for (const struct sim_segment *segment = sock->first;
         segment != NULL && segment->kind == SEGMENT_DATA && count < capacity &&
         segment->arrive_ns <= sock->host->sim->now_ns;
         segment = segment->next) {
        count += segment->len - segment->offset;
    }
    return count < capacity ? count : capacity;
}

static size_t take_arrived(struct sim_socket *sock, char *buffer, size_t capacity)
{
    size_t taken = 0;

    while (taken < capacity && esi_env_sim_net_stream_has_arrived(sock) &&
           sock->first->kind == SEGMENT_DATA) {
        struct sim_segment *segment = sock->first;
        const size_t left = segment->len - segment->offset;
        const size_t step = left < capacity - taken ? left : capacity - taken;
        memcpy(buffer + taken, segment->data + segment->offset, step);
        taken += step;
        segment->offset += step;
        sock->held_bytes -= step;
        if (segment->offset == segment->len) {
            sock->first = segment->next;
            sock->last = sock->first == NULL ? NULL : sock->last;
            free(segment);
        }
    }
    return taken;
}

enum es_err esi_env_sim_net_stream_read(struct esi_env *env, int number, void *buffer,
                                        size_t capacity, size_t *count)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);
    struct esi_env_sim *sim = sock->host->sim;

    ESI_REQUIRE(capacity > 0);
    const size_t there = count_arrived(sock, capacity);
    const size_t taken = take_arrived(sock, buffer, draw_short(sim, there));
    if (taken > 0) {
        *count = taken;
        esi_env_sim_trace(sim, SIM_READ, sock->index, taken, esi_env_sim_trace_hash(buffer, taken));
        if (esi_env_sim_net_socket_peer(sock) != NULL) {
            /* There is room again: the peer hears of it later. */
            esi_env_sim_push(sim, sim->now_ns + esi_env_sim_net_latency(sim), SIM_EVENT_SOCKET,
                             (uint32_t)sock->peer, 0);
        }
        return ES_OK;
    }
    return esi_env_sim_net_stream_has_arrived(sock) || esi_env_sim_net_stream_is_reset(sock) ||
                   sock->state == SOCKET_FAILED
               ? ES_CLOSED
               : ES_AGAIN;
}

size_t esi_env_sim_net_stream_room(const struct sim_socket *sock)
{
    const struct sim_socket *peer = esi_env_sim_net_socket_peer(sock);

    if (peer == NULL) {
        return SIZE_MAX; /* goes out, and is answered by a reset */
    }
    return peer->held_bytes < peer->window_bytes ? peer->window_bytes - peer->held_bytes : 0;
}

static void gather(const struct iovec *parts, size_t part_count, char *out, size_t len)
{
    for (size_t i = 0; i < part_count && len > 0; i++) {
        const size_t step = parts[i].iov_len < len ? parts[i].iov_len : len;
        memcpy(out, parts[i].iov_base, step);
        out += step;
        len -= step;
    }
}

enum es_err esi_env_sim_net_stream_writev(struct esi_env *env, int number,
                                          const struct iovec *parts, size_t part_count,
                                          size_t *count)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);
    struct esi_env_sim *sim = sock->host->sim;
    size_t total = 0;

    if (sock->state == SOCKET_CONNECTING) {
        return ES_AGAIN;
    }
    if (sock->state != SOCKET_CONNECTED || sock->is_fin_sent ||
        esi_env_sim_net_stream_is_reset(sock)) {
        return ES_CLOSED;
    }
    for (size_t i = 0; i < part_count; i++) {
        total += parts[i].iov_len;
    }
    const size_t room = esi_env_sim_net_stream_room(sock);
    if (total > 0 && room == 0) {
        return ES_AGAIN;
    }
    const size_t len = draw_short(sim, total < room ? total : room);
    struct sim_segment *segment = esi_env_sim_net_stream_send(sock, SEGMENT_DATA, len);
    if (segment != NULL) {
        gather(parts, part_count, segment->data, len);
    }
    esi_env_sim_trace(sim, SIM_WRITE, sock->index, len,
                      segment != NULL ? esi_env_sim_trace_hash(segment->data, len) : 0);
    *count = len;
    return ES_OK;
}

/* --- ends --- */

void esi_env_sim_net_stream_shutdown_write(struct esi_env *env, int number)
{
    struct sim_socket *sock = esi_env_sim_net_socket_find(env, number);

    if (sock->state == SOCKET_CONNECTED && !sock->is_fin_sent &&
        !esi_env_sim_net_stream_is_reset(sock)) {
        sock->is_fin_sent = true;
        (void)esi_env_sim_net_stream_send(sock, SEGMENT_FIN, 0);
        esi_env_sim_trace(sock->host->sim, SIM_FIN, sock->index, 0, 0);
    }
}

void esi_env_sim_net_stream_close(struct sim_socket *sock)
{
    if (sock->state != SOCKET_CONNECTED || esi_env_sim_net_stream_is_reset(sock)) {
        return;
    }
    bool has_unread = false;
    for (const struct sim_segment *segment = sock->first; segment != NULL;
         segment = segment->next) {
        has_unread |= segment->kind == SEGMENT_DATA;
    }
    if (has_unread) {
        /* Also for what is still on its way here: the system answers it by a reset. */
        (void)esi_env_sim_net_stream_send(sock, SEGMENT_RST, 0);
    } else if (!sock->is_fin_sent) {
        (void)esi_env_sim_net_stream_send(sock, SEGMENT_FIN, 0);
    }
}
