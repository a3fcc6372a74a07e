/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the simulated network share. A connected socket holds what its peer has sent:
 * segments with the times when they arrive, in order, at most a window of bytes.
 */
#pragma once

#include "env/env_sim_internal.h"

enum { NO_PEER = -1 };

/* Until what was lost is sent again. */
#define RESEND_NS UINT64_C(200000000)

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

/* --- env_sim_net_socket.c --- */

/* A host's socket by its number: there is one. */
struct sim_socket *esi_env_sim_net_socket_find(struct esi_env *env, int sock);
/* The other end; NULL: none, or closed. */
struct sim_socket *esi_env_sim_net_socket_peer(const struct sim_socket *sock);

/* --- env_sim_net_stream.c --- */

/* Frees what has come and was not read. */
void esi_env_sim_net_stream_clear(struct sim_socket *sock);
/* True when there is something to be read, or an end. */
bool esi_env_sim_net_stream_has_arrived(const struct sim_socket *sock);
bool esi_env_sim_net_stream_is_reset(const struct sim_socket *sock);
/* What the peer's window has room for. */
size_t esi_env_sim_net_stream_room(const struct sim_socket *sock);
/* A segment from one socket to its peer. Where the peer is closed its host answers with a reset,
 * and NULL is returned; else the segment, whose data the caller fills. */
struct sim_segment *esi_env_sim_net_stream_send(struct sim_socket *from, enum segment_kind kind,
                                                size_t len);
/* Everything that waits for the end of the cut is on its way again. */
void esi_env_sim_net_stream_release(struct sim_socket *sock);
/* The connection is gone for this side, now: what has not arrived never does. */
void esi_env_sim_net_stream_reset(struct sim_socket *sock);
/* Tells the peer of a close: by FIN, or by a reset where something is unread. */
void esi_env_sim_net_stream_close(struct sim_socket *sock);

/* --- env_sim_net.c --- */

/* NULL: there is none. */
struct sim_host *esi_env_sim_net_host(const struct esi_env_sim *sim, const char *name);
/* True when no packet comes from the socket's host to the other; NULL: there is no other. */
bool esi_env_sim_net_is_cut_off(const struct sim_socket *sock, const struct sim_host *other);
/* How long the next packet takes, in ns. */
uint64_t esi_env_sim_net_latency(struct esi_env_sim *sim);
/* The socket's connection begins or ends. */
void esi_env_sim_net_note_change(const struct sim_socket *sock);
