/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulated network. A connected socket holds what its peer has sent: segments with the times
 * when they arrive, in order, at most a window of bytes. A segment that ends a connection (FIN,
 * RST) travels in the same order; a reset also ends the writing at once when it arrives, and what
 * arrived before it stays readable, as on Linux. A cut holds segments back until it is healed.
 */
#include "env/env_sim_internal.h"

#include "base/assert.h"
#include "base/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NO_PEER = -1,
    SYN_TRIES_MAX = 6,
    SLOW_PERMILLE = 5, /* packets that are lost and sent again */
    WHOLE_BYTES_MAX = 1024,
    POLLED_MAX = 1024
};

#define NS_PER_S UINT64_C(1000000000)
static const uint64_t HELD = UINT64_MAX; /* time of arrival behind a cut */
static const uint64_t RESEND_NS = 200000000;

enum segment_kind { SEGMENT_DATA, SEGMENT_FIN, SEGMENT_RST };

struct sim_segment {
    struct sim_segment *next;
    uint64_t arrive_ns;
    enum segment_kind kind;
    size_t offset; /* read up to here */
    size_t len;
    char data[];
};

enum socket_state { SOCKET_LISTENING, SOCKET_CONNECTING, SOCKET_CONNECTED, SOCKET_FAILED };

struct sim_socket {
    struct sim_host *host; /* borrowed */
    uint32_t index;
    enum socket_state state;
    struct esi_address local;
    struct esi_address remote;
    int peer; /* NO_PEER, or its number, which may be closed */
    /* a listener's: accepted by the system, waiting to be taken */
    struct sim_socket *waiting_first;
    struct sim_socket *waiting_last;
    struct sim_socket *next_waiting;
    bool is_waiting;
    /* a stream's */
    struct sim_segment *first; /* owned */
    struct sim_segment *last;
    size_t held_bytes; /* in segments, not yet read */
    size_t window_bytes;
    uint64_t last_arrive_ns;
    uint64_t reset_at_ns;
    bool is_fin_sent;
    /* watched */
    struct esi_poller *poller; /* NULL: no */
    struct esi_list in_poller;
    uint32_t watched;
    void *tag;
};

struct esi_poller {
    struct sim_host *host;
    struct esi_thread *thread; /* NULL: not known yet */
    struct esi_list sockets;
    bool is_woken;
};

/* --- sockets --- */

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

static struct sim_socket *find_socket(struct esi_env *env, int sock)
{
    const struct sim_host *host = esi_env_sim_host_of(env);

    ESI_REQUIRE(sock >= 0 && (uint32_t)sock < host->sim->socket_count);
    struct sim_socket *found = host->sim->sockets[sock];
    ESI_REQUIRE(found != NULL && found->host == host);
    return found;
}

static struct sim_socket *peer_of(const struct sim_socket *sock)
{
    ESI_REQUIRE(sock->host != NULL);
    return sock->peer == NO_PEER ? NULL : sock->host->sim->sockets[sock->peer];
}

static void free_segments(struct sim_socket *sock)
{
    while (sock->first != NULL) {
        struct sim_segment *segment = sock->first;
        sock->first = segment->next;
        free(segment);
    }
    sock->last = NULL;
    sock->held_bytes = 0;
}

static void free_socket(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;

    free_segments(sock);
    sock->host->sockets--;
    sim->sockets[sock->index] = NULL;
    free(sock);
}

static struct sim_host *find_host(struct esi_env_sim *sim, const char *name)
{
    for (uint32_t i = 0; i < sim->host_count; i++) {
        if (strcmp(sim->hosts[i]->name, name) == 0) {
            return sim->hosts[i];
        }
    }
    return NULL;
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

static bool is_cut_off(const struct sim_socket *sock, const struct sim_host *other)
{
    return other != NULL && sock->host->sim->is_cut[sock->host->index][other->index];
}

/* How long the next packet takes. */
static uint64_t draw_latency(struct esi_env_sim *sim)
{
    uint64_t latency_ns =
        1000 + esi_env_sim_chance(sim, CHANCE_NETWORK, sim->options.latency_ns_max + 1);

    if (esi_env_sim_happens(sim, CHANCE_NETWORK, SLOW_PERMILLE)) {
        latency_ns += RESEND_NS;
    }
    return latency_ns;
}

/* --- segments --- */

static bool has_arrived(const struct sim_socket *sock)
{
    return sock->first != NULL && sock->first->arrive_ns <= sock->host->sim->now_ns;
}

static bool is_reset(const struct sim_socket *sock)
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

/* A segment from one socket to its peer. Where the peer is closed its host answers with a reset. */
static struct sim_segment *send_segment(struct sim_socket *from, enum segment_kind kind, size_t len)
{
    struct esi_env_sim *sim = from->host->sim;
    struct sim_socket *peer = peer_of(from);
    const struct sim_host *other = peer != NULL ? peer->host : find_host(sim, from->remote.host);
    const uint64_t arrive_ns = is_cut_off(from, other) ? HELD : sim->now_ns + draw_latency(sim);

    if (peer != NULL) {
        return append_segment(peer, kind, len, arrive_ns);
    }
    if (kind != SEGMENT_RST && from->reset_at_ns == UINT64_MAX) {
        const bool is_lost = arrive_ns == HELD;
        append_segment(from, SEGMENT_RST, 0, is_lost ? HELD : arrive_ns + draw_latency(sim));
    }
    return NULL;
}

/* Everything that waits for the end of the cut is on its way again. */
static void release_held(struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;
    uint64_t arrive_ns = sim->now_ns + RESEND_NS + draw_latency(sim);

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

static void note_change(const struct sim_socket *sock)
{
    struct esi_env_sim *sim = sock->host->sim;
    const struct sim_host *other = find_host(sim, sock->remote.host);

    if (other != NULL && sock->state == SOCKET_CONNECTED) {
        sim->changed_ns[sock->host->index][other->index] = sim->now_ns;
        sim->changed_ns[other->index][sock->host->index] = sim->now_ns;
    }
}

/* The connection is gone for this side, now: what has not arrived never does. */
static void reset_socket(struct sim_socket *sock)
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
    note_change(sock);
    sock->last_arrive_ns = sim->now_ns;
    append_segment(sock, SEGMENT_RST, 0, sim->now_ns);
    esi_env_sim_trace(sim, SIM_RESET, sock->index, 0, 0);
}

/* --- listening and connecting --- */

enum es_err esi_env_sim_net_listen(struct esi_env *env, const char *host, uint16_t port, int *sock,
                                   struct esi_address *bound)
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

enum es_err esi_env_sim_net_connect(struct esi_env *env, const struct esi_address *address,
                                    int *sock)
{
    struct sim_host *self = esi_env_sim_host_of(env);
    struct esi_env_sim *sim = self->sim;
    struct sim_socket *made = new_socket(self, SOCKET_CONNECTING);

    made->remote = *address;
    made->local.port = self->next_port++;
    snprintf(made->local.host, sizeof made->local.host, "%s", self->name);
    *sock = (int)made->index;
    esi_env_sim_trace(sim, SIM_CONNECT, made->index, self->index, address->port);
    esi_env_sim_push(sim, sim->now_ns + draw_latency(sim), SIM_EVENT_SYN, made->index, 1);
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

void esi_env_sim_net_syn(struct esi_env_sim *sim, uint32_t index, uint32_t tries)
{
    struct sim_socket *from = sim->sockets[index];

    if (from == NULL || from->state != SOCKET_CONNECTING) {
        return; /* given up meanwhile */
    }
    struct sim_host *host = find_host(sim, from->remote.host);
    if (host == NULL || is_cut_off(from, host)) {
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
    note_change(from);
    esi_env_sim_trace(sim, SIM_CONNECTED, from->index, made->index, 0);
    esi_env_sim_push(sim, sim->now_ns, SIM_EVENT_SOCKET, listener->index, 0);
    esi_env_sim_push(sim, sim->now_ns, SIM_EVENT_SOCKET, from->index, 0);
}

enum es_err esi_env_sim_net_accept(struct esi_env *env, int listener_number, int *sock,
                                   struct esi_address *peer)
{
    struct sim_socket *listener = find_socket(env, listener_number);
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

enum es_err esi_env_sim_net_connect_result(struct esi_env *env, int number)
{
    const struct sim_socket *sock = find_socket(env, number);

    switch (sock->state) {
    case SOCKET_CONNECTING:
        return ES_AGAIN;
    case SOCKET_CONNECTED:
        return is_reset(sock) ? ES_UNREACHABLE : ES_OK;
    case SOCKET_LISTENING:
    case SOCKET_FAILED:
        break;
    }
    return ES_UNREACHABLE;
}

enum es_err esi_env_sim_net_local_address(struct esi_env *env, int number,
                                          struct esi_address *local)
{
    *local = find_socket(env, number)->local;
    return ES_OK;
}

/* --- reading, writing, closing --- */

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

    while (taken < capacity && has_arrived(sock) && sock->first->kind == SEGMENT_DATA) {
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

enum es_err esi_env_sim_net_read(struct esi_env *env, int number, void *buffer, size_t capacity,
                                 size_t *count)
{
    struct sim_socket *sock = find_socket(env, number);
    struct esi_env_sim *sim = sock->host->sim;

    ESI_REQUIRE(capacity > 0);
    const size_t there = count_arrived(sock, capacity);
    const size_t taken = take_arrived(sock, buffer, draw_short(sim, there));
    if (taken > 0) {
        *count = taken;
        esi_env_sim_trace(sim, SIM_READ, sock->index, taken, esi_env_sim_trace_hash(buffer, taken));
        if (peer_of(sock) != NULL) {
            /* There is room again: the peer hears of it later. */
            esi_env_sim_push(sim, sim->now_ns + draw_latency(sim), SIM_EVENT_SOCKET,
                             (uint32_t)sock->peer, 0);
        }
        return ES_OK;
    }
    return has_arrived(sock) || is_reset(sock) || sock->state == SOCKET_FAILED ? ES_CLOSED
                                                                               : ES_AGAIN;
}

/* What the peer's window has room for. */
static size_t room_of(const struct sim_socket *sock)
{
    const struct sim_socket *peer = peer_of(sock);

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

enum es_err esi_env_sim_net_writev(struct esi_env *env, int number, const struct iovec *parts,
                                   size_t part_count, size_t *count)
{
    struct sim_socket *sock = find_socket(env, number);
    struct esi_env_sim *sim = sock->host->sim;
    size_t total = 0;

    if (sock->state == SOCKET_CONNECTING) {
        return ES_AGAIN;
    }
    if (sock->state != SOCKET_CONNECTED || sock->is_fin_sent || is_reset(sock)) {
        return ES_CLOSED;
    }
    for (size_t i = 0; i < part_count; i++) {
        total += parts[i].iov_len;
    }
    const struct sim_socket *peer = peer_of(sock);
    const size_t room = room_of(sock);
    if (total > 0 && room == 0) {
        return ES_AGAIN;
    }
    /* A send buffer with nothing in it takes a little as a whole. */
    const bool is_taken_whole =
        total <= WHOLE_BYTES_MAX && total <= room && (peer == NULL || peer->held_bytes == 0);
    const size_t len = is_taken_whole ? total : draw_short(sim, total < room ? total : room);
    struct sim_segment *segment = send_segment(sock, SEGMENT_DATA, len);
    if (segment != NULL) {
        gather(parts, part_count, segment->data, len);
    }
    esi_env_sim_trace(sim, SIM_WRITE, sock->index, len,
                      segment != NULL ? esi_env_sim_trace_hash(segment->data, len) : 0);
    *count = len;
    return ES_OK;
}

void esi_env_sim_net_shutdown_write(struct esi_env *env, int number)
{
    struct sim_socket *sock = find_socket(env, number);

    if (sock->state == SOCKET_CONNECTED && !sock->is_fin_sent && !is_reset(sock)) {
        sock->is_fin_sent = true;
        (void)send_segment(sock, SEGMENT_FIN, 0);
        esi_env_sim_trace(sock->host->sim, SIM_FIN, sock->index, 0, 0);
    }
}

static void close_stream(struct sim_socket *sock)
{
    if (sock->state != SOCKET_CONNECTED || is_reset(sock)) {
        return;
    }
    bool has_unread = false;
    for (const struct sim_segment *segment = sock->first; segment != NULL;
         segment = segment->next) {
        has_unread |= segment->kind == SEGMENT_DATA;
    }
    if (has_unread) {
        /* Also for what is still on its way here: the system answers it by a reset. */
        (void)send_segment(sock, SEGMENT_RST, 0);
    } else if (!sock->is_fin_sent) {
        (void)send_segment(sock, SEGMENT_FIN, 0);
    }
}

static void close_listener(struct sim_socket *listener)
{
    while (listener->waiting_first != NULL) {
        struct sim_socket *sock = listener->waiting_first;
        listener->waiting_first = sock->next_waiting;
        (void)send_segment(sock, SEGMENT_RST, 0);
        free_socket(sock);
    }
}

void esi_env_sim_net_close(struct esi_env *env, int number)
{
    if (number == ESI_ENV_NO_SOCKET) {
        return;
    }
    struct sim_socket *sock = find_socket(env, number);
    ESI_REQUIRE(sock->poller == NULL);
    esi_env_sim_trace(sock->host->sim, SIM_CLOSE, sock->index, 0, 0);
    if (sock->state == SOCKET_LISTENING) {
        close_listener(sock);
    } else {
        note_change(sock);
        close_stream(sock);
    }
    struct sim_socket *peer = peer_of(sock);
    if (peer != NULL) {
        /* What filled its window is gone. */
        esi_env_sim_push(sock->host->sim, sock->host->sim->now_ns, SIM_EVENT_SOCKET, peer->index,
                         0);
    }
    free_socket(sock);
}

/* --- pollers --- */

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
        if (is_reset(sock)) {
            events = POLL_READ | POLL_WRITE | POLL_HANGUP;
            break;
        }
        if (has_arrived(sock)) {
            events |= POLL_READ;
            events |= sock->first->kind == SEGMENT_FIN && sock->is_fin_sent ? POLL_HANGUP : 0;
        }
        if (peer_of(sock) == NULL || room_of(sock) * 3 >= peer_of(sock)->window_bytes) {
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

void esi_env_sim_net_touch(struct esi_env_sim *sim, uint32_t index)
{
    if (sim->sockets[index] != NULL) {
        notify(sim->sockets[index]);
    }
}

enum es_err esi_env_sim_net_poller_add(struct esi_env *env, struct esi_poller *poller, int number,
                                       uint32_t events, void *tag)
{
    struct sim_socket *sock = find_socket(env, number);

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
    struct sim_socket *sock = find_socket(env, number);

    ESI_REQUIRE(tag != NULL && sock->poller == poller);
    sock->watched = events;
    sock->tag = tag;
    notify(sock);
}

void esi_env_sim_net_poller_remove(struct esi_env *env, struct esi_poller *poller, int number)
{
    struct sim_socket *sock = find_socket(env, number);

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

/* --- what goes wrong --- */

/* True when the socket's connection is one between the two. */
static bool is_between(const struct sim_socket *sock, const struct sim_host *a,
                       const struct sim_host *b)
{
    const struct sim_host *other = find_host(sock->host->sim, sock->remote.host);

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
        if (sock != NULL && is_between(sock, first, second)) {
            release_held(sock);
        }
    }
}

void esi_env_sim_reset(struct esi_env_sim *sim, const struct esi_env *a, const struct esi_env *b)
{
    for (uint32_t i = 0; i < sim->socket_count; i++) {
        struct sim_socket *sock = sim->sockets[i];
        if (sock != NULL && is_between(sock, esi_env_sim_host_of(a), esi_env_sim_host_of(b))) {
            reset_socket(sock);
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
        if (sock != NULL && sock->host == esi_env_sim_host_of(a) && peer_of(sock) != NULL &&
            is_between(sock, esi_env_sim_host_of(a), esi_env_sim_host_of(b)) && !is_reset(sock) &&
            !is_reset(peer_of(sock))) {
            count++;
        }
    }
    return count;
}

void esi_env_sim_net_end(struct esi_env_sim *sim)
{
    for (uint32_t i = 0; i < sim->socket_count; i++) {
        if (sim->sockets[i] != NULL) {
            free_socket(sim->sockets[i]);
        }
    }
}
