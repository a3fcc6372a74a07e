/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the simulated environment share. */
#pragma once

#include "env/env_sim.h"

#include "base/list.h"

enum { SIM_HOSTS_MAX = 32, SIM_TRACE_LINES = 512, SIM_NOTE_BYTES = 104 };

/* Each kind of chance has a sequence of its own, so that a change in one leaves the others. */
enum sim_chance { CHANCE_NETWORK, CHANCE_TURNS, CHANCE_RANDOM, CHANCE_SCENARIO, CHANCE_COUNT };

struct sim_host {
    struct esi_env env; /* first */
    struct esi_env_sim *sim;
    char name[ESI_ENV_HOST_MAX];
    uint32_t index;
    uint16_t next_port;
    uint32_t sockets; /* open */
};

/* What the trace tells; see the table in env_sim_trace.c. */
enum sim_trace_kind {
    SIM_TURN,
    SIM_LISTEN,
    SIM_CONNECT,
    SIM_CONNECTED,
    SIM_REFUSED,
    SIM_ACCEPT,
    SIM_READ,
    SIM_WRITE,
    SIM_FIN,
    SIM_RESET,
    SIM_CLOSE,
    SIM_CUT,
    SIM_HEAL,
    SIM_NOTE,
    SIM_TRACE_KINDS
};

struct sim_trace_line {
    uint64_t at_ns;
    enum sim_trace_kind kind;
    uint64_t values[3];
    char note[SIM_NOTE_BYTES];
};

struct sim_trace {
    uint64_t digest;
    uint64_t count;
    bool is_printed;
    struct sim_trace_line lines[SIM_TRACE_LINES]; /* a ring */
};

enum sim_event_kind { SIM_EVENT_THREAD, SIM_EVENT_SOCKET, SIM_EVENT_SYN, SIM_EVENT_CALL };

struct sim_event {
    uint64_t at_ns;
    uint64_t tie; /* drawn: what happens at one time happens in any order */
    enum sim_event_kind kind;
    uint32_t index; /* of the thread; the socket */
    uint32_t tries; /* SIM_EVENT_SYN */
    void (*happen)(void *argument);
    void *argument;
};

struct sim_segment;
struct sim_socket;

struct sim_file {
    struct sim_file *next;
    char *path; /* owned */
    struct esi_bytes content;
    int64_t modified_ns;
    uint64_t inode;
    uint32_t mode;
};

struct esi_env_sim {
    struct esi_env_sim_options options;
    uint64_t now_ns;
    uint64_t chances[CHANCE_COUNT];
    struct sim_host *hosts[SIM_HOSTS_MAX]; /* owned */
    uint32_t host_count;
    bool is_cut[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
    uint64_t changed_ns[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* a connection began or ended */
    struct sim_event *events;                          /* owned: a heap, the next one first */
    size_t event_count;
    size_t event_capacity;
    struct esi_thread **threads; /* owned table; NULL: joined. Numbers are not used again */
    uint32_t thread_count;
    struct esi_thread *running;  /* NULL: no step is under way */
    uint64_t passed_ns;          /* on the clock of the running thread, since its step began */
    struct sim_socket **sockets; /* owned table; NULL: closed. Numbers are not used again */
    uint32_t socket_count;
    struct sim_file *files; /* owned */
    uint64_t next_inode;
    struct sim_trace trace;
};

static inline struct sim_host *esi_env_sim_host_of(const struct esi_env *env)
{
    return (struct sim_host *)(void *)(uintptr_t)env;
}

/* --- env_sim.c --- */

/* A number below limit (1 or more). */
uint64_t esi_env_sim_chance(struct esi_env_sim *sim, enum sim_chance chance, uint64_t limit);
/* True in that many of a thousand cases. */
bool esi_env_sim_happens(struct esi_env_sim *sim, enum sim_chance chance, uint32_t permille);
void esi_env_sim_push(struct esi_env_sim *sim, uint64_t at_ns, enum sim_event_kind kind,
                      uint32_t index, uint32_t tries);
/* The thread has something to do from then on. */
void esi_env_sim_schedule(struct esi_env_sim *sim, struct esi_thread *thread, uint64_t at_ns);
/* Grows a table of pointers, whose length is a power of two or 0, by one, NULL. Aborts without
 * memory: a test ends there. */
void *esi_env_sim_grow(void *table, uint32_t count, size_t entry_bytes);

/* --- env_sim_net_*.c: the calls of the table that are about sockets, streams and pollers --- */

enum es_err esi_env_sim_net_socket_listen(struct esi_env *env, const char *host, uint16_t port,
                                          int *sock, struct esi_address *bound);
enum es_err esi_env_sim_net_socket_accept(struct esi_env *env, int listener, int *sock,
                                          struct esi_address *peer);
enum es_err esi_env_sim_net_socket_connect(struct esi_env *env, const struct esi_address *address,
                                           const struct esi_address *source, int *sock);
enum es_err esi_env_sim_net_socket_connect_result(struct esi_env *env, int sock);
enum es_err esi_env_sim_net_socket_local_address(struct esi_env *env, int sock,
                                                 struct esi_address *local);
enum es_err esi_env_sim_net_stream_read(struct esi_env *env, int sock, void *buffer,
                                        size_t capacity, size_t *count);
enum es_err esi_env_sim_net_stream_writev(struct esi_env *env, int sock, const struct iovec *parts,
                                          size_t part_count, size_t *count);
void esi_env_sim_net_stream_shutdown_write(struct esi_env *env, int sock);
void esi_env_sim_net_socket_close(struct esi_env *env, int sock);

enum es_err esi_env_sim_net_poller_new(struct esi_env *env, struct esi_poller **poller);
void esi_env_sim_net_poller_free(struct esi_env *env, struct esi_poller *poller);
enum es_err esi_env_sim_net_poller_add(struct esi_env *env, struct esi_poller *poller, int sock,
                                       uint32_t events, void *tag);
void esi_env_sim_net_poller_change(struct esi_env *env, struct esi_poller *poller, int sock,
                                   uint32_t events, void *tag);
void esi_env_sim_net_poller_remove(struct esi_env *env, struct esi_poller *poller, int sock);
size_t esi_env_sim_net_poller_wait(struct esi_env *env, struct esi_poller *poller,
                                   int64_t timeout_ns, struct esi_poll_ready *ready,
                                   size_t capacity);
void esi_env_sim_net_poller_wake(struct esi_env *env, struct esi_poller *poller);
/* Whose steps poll it. */
void esi_env_sim_net_poller_own(struct esi_poller *poller, struct esi_thread *thread);
/* True when a wait would find something. */
bool esi_env_sim_net_poller_is_ready(const struct esi_poller *poller);

/* Something has arrived at a socket, or it has room again. */
void esi_env_sim_net_poller_touch(struct esi_env_sim *sim, uint32_t index);
/* A connection attempt comes to its listener. */
void esi_env_sim_net_socket_syn(struct esi_env_sim *sim, uint32_t index, uint32_t tries);
/* Closes all sockets that are left. */
void esi_env_sim_net_socket_end(struct esi_env_sim *sim);

/* --- env_sim_trace.c --- */

void esi_env_sim_trace(struct esi_env_sim *sim, enum sim_trace_kind kind, uint64_t a, uint64_t b,
                       uint64_t c);
/* A number that bytes are known by. */
uint64_t esi_env_sim_trace_hash(const void *data, size_t len);
