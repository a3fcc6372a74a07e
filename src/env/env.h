/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one door to the outside: clock, randomness, sockets, files, threads, name look-up. The real
 * environment is Linux (env_linux.c); a simulated one can stand in its place, which is why
 * everything goes through a table of functions, at the grain of a batch. Errors of the system are
 * mapped to enum es_err here and never passed on raw.
 *
 * Sockets are small integers that mean something to the environment alone. All sockets are
 * non-blocking.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct esi_env;
struct esi_poller;
struct esi_thread;

enum { ESI_ENV_HOST_MAX = 64, ESI_ENV_NO_SOCKET = -1 };

/* A numeric address. */
struct esi_address {
    char host[ESI_ENV_HOST_MAX]; /* "127.0.0.1" or "::1", ended by NUL */
    uint16_t port;
};

/* What a poller watches for and reports, as bits. */
enum esi_poll_event { POLL_READ = 1, POLL_WRITE = 2, POLL_HANGUP = 4 };

struct esi_poll_ready {
    void *tag;       /* as given to esi_env_poller_add; NULL: the poller was woken */
    uint32_t events; /* bits of enum esi_poll_event */
};

struct esi_file_info {
    uint64_t size_bytes;
    int64_t modified_ns; /* wall clock */
    uint64_t inode;
    uint32_t mode; /* permission bits */
};

/*
 * A thread of an environment without threads: does what there is to do now and returns, without
 * ever waiting. Returns false when the thread has ended.
 *   next_ns   when it wants to be called again at the latest, monotonic ns; 0: at once;
 *             UINT64_MAX: when its poller has something, or when it is woken
 */
typedef bool (*esi_env_step_fn)(void *argument, uint64_t *next_ns);

struct esi_env_ops {
    uint64_t (*now_ns)(struct esi_env *env);
    uint64_t (*thread_cpu_ns)(struct esi_env *env); /* NULL: not known */
    int64_t (*wall_ns)(struct esi_env *env);
    void (*random)(struct esi_env *env, void *out, size_t len);

    enum es_err (*listen)(struct esi_env *env, const char *host, uint16_t port, int *sock,
                          struct esi_address *bound);
    enum es_err (*accept)(struct esi_env *env, int listener, int *sock, struct esi_address *peer);
    enum es_err (*connect)(struct esi_env *env, const struct esi_address *address,
                           const struct esi_address *source, int *sock);
    enum es_err (*connect_result)(struct esi_env *env, int sock);
    enum es_err (*local_address)(struct esi_env *env, int sock, struct esi_address *local);
    enum es_err (*read)(struct esi_env *env, int sock, void *buffer, size_t capacity,
                        size_t *count);
    enum es_err (*writev)(struct esi_env *env, int sock, const struct iovec *parts,
                          size_t part_count, size_t *count);
    void (*shutdown_write)(struct esi_env *env, int sock);
    void (*close)(struct esi_env *env, int sock);

    enum es_err (*poller_new)(struct esi_env *env, struct esi_poller **poller);
    void (*poller_free)(struct esi_env *env, struct esi_poller *poller);
    enum es_err (*poller_add)(struct esi_env *env, struct esi_poller *poller, int sock,
                              uint32_t events, void *tag);
    void (*poller_change)(struct esi_env *env, struct esi_poller *poller, int sock, uint32_t events,
                          void *tag);
    void (*poller_remove)(struct esi_env *env, struct esi_poller *poller, int sock);
    size_t (*poller_wait)(struct esi_env *env, struct esi_poller *poller, int64_t timeout_ns,
                          struct esi_poll_ready *ready, size_t capacity);
    void (*poller_wake)(struct esi_env *env, struct esi_poller *poller);

    enum es_err (*thread_start)(struct esi_env *env, const char *name, void (*run)(void *argument),
                                void *argument, struct esi_thread **thread);
    void (*thread_join)(struct esi_env *env, struct esi_thread *thread);
    enum es_err (*thread_pin)(struct esi_env *env, uint32_t core); /* NULL: not possible */
    uint32_t (*core_at)(struct esi_env *env, uint32_t index);      /* NULL: the index itself */
    /* Instead of thread_start, where one thread runs a whole world (env_sim.h); NULL on Linux. */
    enum es_err (*stepped_start)(struct esi_env *env, const char *name, esi_env_step_fn step,
                                 void *argument, struct esi_poller *poller,
                                 struct esi_thread **thread);
    void (*stepped_wake)(struct esi_env *env, struct esi_thread *thread);
    void (*yield)(struct esi_env *env, uint64_t deadline_ns);
    uint32_t (*core_count)(struct esi_env *env);
    void (*nap)(struct esi_env *env, uint64_t duration_ns);
    uint64_t (*memory_bytes)(struct esi_env *env); /* NULL: not known */

    enum es_err (*resolve)(struct esi_env *env, const char *host, uint16_t port,
                           struct esi_address *addresses, size_t capacity, size_t *count);
    enum es_err (*file_read)(struct esi_env *env, const char *path, size_t size_max,
                             struct esi_bytes *out);
    enum es_err (*file_replace)(struct esi_env *env, const char *path, const void *data, size_t len,
                                uint32_t mode);
    enum es_err (*file_info)(struct esi_env *env, const char *path, struct esi_file_info *info);
    enum es_err (*file_lock)(struct esi_env *env, const char *path, int *lock);
    void (*file_unlock)(struct esi_env *env, int lock);
};

/* The head of every environment. */
struct esi_env {
    const struct esi_env_ops *ops;
};

/* The real environment. Static; thread: any. */
struct esi_env *esi_env_linux(void);

/* Monotonic time in nanoseconds. */
static inline uint64_t esi_env_now_ns(struct esi_env *env)
{
    return env->ops->now_ns(env);
}

/* Processor time that the calling thread has used, in nanoseconds; monotonic time where an
 * environment knows no other. Costs a system call. */
static inline uint64_t esi_env_thread_cpu_ns(struct esi_env *env)
{
    return env->ops->thread_cpu_ns != NULL ? env->ops->thread_cpu_ns(env) : env->ops->now_ns(env);
}

/* Wall-clock time in nanoseconds since 1970, UTC. */
static inline int64_t esi_env_wall_ns(struct esi_env *env)
{
    return env->ops->wall_ns(env);
}

/* Fills out with unpredictable bytes. */
static inline void esi_env_random(struct esi_env *env, void *out, size_t len)
{
    env->ops->random(env, out, len);
}

/*
 * Listens on a numeric host or name, TCP. Port 0: any free port. *bound tells the real one.
 * Errors: ES_IN_USE, ES_DENIED (a low port without rights), ES_NOT_FOUND (no such local address),
 * ES_IO.
 */
ES_MUST_USE static inline enum es_err esi_env_listen(struct esi_env *env, const char *host,
                                                     uint16_t port, int *sock,
                                                     struct esi_address *bound)
{
    return env->ops->listen(env, host, port, sock, bound);
}

/* Takes one waiting connection. ES_AGAIN: none; ES_FULL: out of descriptors; ES_IO: it was lost
 * meanwhile. */
ES_MUST_USE static inline enum es_err esi_env_accept(struct esi_env *env, int listener, int *sock,
                                                     struct esi_address *peer)
{
    return env->ops->accept(env, listener, sock, peer);
}

/*
 * Begins to connect. Returns ES_OK when under way: watch for POLL_WRITE, then ask
 * esi_env_connect_result.
 */
ES_MUST_USE static inline enum es_err esi_env_connect(struct esi_env *env,
                                                      const struct esi_address *address, int *sock)
{
    return env->ops->connect(env, address, NULL, sock);
}

/*
 * The same from a source (numeric, a port of 0: any): a pair of addresses has only so many free
 * ports in a minute. ES_INVALID, ES_NOT_FOUND: it is none of this machine's; the simulated
 * environment takes its own all the same.
 */
ES_MUST_USE static inline enum es_err esi_env_connect_from(struct esi_env *env,
                                                           const struct esi_address *address,
                                                           const struct esi_address *source,
                                                           int *sock)
{
    return env->ops->connect(env, address, source, sock);
}

/* The outcome of a connect: ES_OK, ES_AGAIN (not yet), ES_UNREACHABLE. */
ES_MUST_USE static inline enum es_err esi_env_connect_result(struct esi_env *env, int sock)
{
    return env->ops->connect_result(env, sock);
}

/* Our end of a connected socket. ES_IO: it has none any more. */
ES_MUST_USE static inline enum es_err esi_env_local_address(struct esi_env *env, int sock,
                                                            struct esi_address *local)
{
    return env->ops->local_address(env, sock, local);
}

/* Reads once. ES_OK with *count > 0; ES_AGAIN: nothing there; ES_CLOSED: end of stream or reset. */
ES_MUST_USE static inline enum es_err esi_env_read(struct esi_env *env, int sock, void *buffer,
                                                   size_t capacity, size_t *count)
{
    return env->ops->read(env, sock, buffer, capacity, count);
}

/* Writes once, gathered; part_count at most 1024. *count may be less than all. ES_AGAIN: no room;
 * ES_CLOSED: gone. */
ES_MUST_USE static inline enum es_err esi_env_writev(struct esi_env *env, int sock,
                                                     const struct iovec *parts, size_t part_count,
                                                     size_t *count)
{
    return env->ops->writev(env, sock, parts, part_count, count);
}

/*
 * Writes what the socket takes of the bytes, and takes that off their begin.
 * ES_OK: all is written; ES_AGAIN: the rest waits for room; ES_CLOSED: gone.
 */
ES_MUST_USE static inline enum es_err esi_env_write_bytes(struct esi_env *env, int sock,
                                                          struct esi_bytes *bytes)
{
    enum es_err err = ES_OK;

    while (bytes->len > 0 && err == ES_OK) {
        const struct iovec part = {.iov_base = bytes->data, .iov_len = bytes->len};
        size_t count = 0;
        err = esi_env_writev(env, sock, &part, 1, &count);
        if (err == ES_OK) {
            esi_bytes_consume(bytes, count);
        }
    }
    return err;
}

/* Ends the outgoing direction (FIN). */
static inline void esi_env_shutdown_write(struct esi_env *env, int sock)
{
    env->ops->shutdown_write(env, sock);
}

/* Closes the socket; ESI_ENV_NO_SOCKET is accepted. It must not be in a poller. */
static inline void esi_env_close(struct esi_env *env, int sock)
{
    env->ops->close(env, sock);
}

ES_MUST_USE static inline enum es_err esi_env_poller_new(struct esi_env *env,
                                                         struct esi_poller **poller)
{
    return env->ops->poller_new(env, poller);
}

/* NULL is accepted. */
static inline void esi_env_poller_free(struct esi_env *env, struct esi_poller *poller)
{
    env->ops->poller_free(env, poller);
}

/* Watches a socket, level-triggered. events: bits of enum esi_poll_event; hang-up is always
 * reported. */
ES_MUST_USE static inline enum es_err esi_env_poller_add(struct esi_env *env,
                                                         struct esi_poller *poller, int sock,
                                                         uint32_t events, void *tag)
{
    return env->ops->poller_add(env, poller, sock, events, tag);
}

static inline void esi_env_poller_change(struct esi_env *env, struct esi_poller *poller, int sock,
                                         uint32_t events, void *tag)
{
    env->ops->poller_change(env, poller, sock, events, tag);
}

static inline void esi_env_poller_remove(struct esi_env *env, struct esi_poller *poller, int sock)
{
    env->ops->poller_remove(env, poller, sock);
}

/* Waits up to timeout_ns (0: do not wait; negative: without limit) and fills ready. Returns the
 * count. */
static inline size_t esi_env_poller_wait(struct esi_env *env, struct esi_poller *poller,
                                         int64_t timeout_ns, struct esi_poll_ready *ready,
                                         size_t capacity)
{
    return env->ops->poller_wait(env, poller, timeout_ns, ready, capacity);
}

/* Ends a wait of this poller, now or the next one. Thread: any. Costs a system call. */
static inline void esi_env_poller_wake(struct esi_env *env, struct esi_poller *poller)
{
    env->ops->poller_wake(env, poller);
}

ES_MUST_USE static inline enum es_err esi_env_thread_start(struct esi_env *env, const char *name,
                                                           void (*run)(void *argument),
                                                           void *argument,
                                                           struct esi_thread **thread)
{
    return env->ops->thread_start(env, name, run, argument, thread);
}

/*
 * True for an environment that has no threads: what would be a thread is given to it as a step, and
 * what would block gives way to the others with esi_env_yield.
 */
static inline bool esi_env_is_stepped(const struct esi_env *env)
{
    return env->ops->stepped_start != NULL;
}

/* Where esi_env_is_stepped. poller: what the steps poll, borrowed; NULL: none. Joined as a thread
 * is. */
ES_MUST_USE static inline enum es_err esi_env_stepped_start(struct esi_env *env, const char *name,
                                                            esi_env_step_fn step, void *argument,
                                                            struct esi_poller *poller,
                                                            struct esi_thread **thread)
{
    return env->ops->stepped_start(env, name, step, argument, poller, thread);
}

/* The step has something to do now. */
static inline void esi_env_stepped_wake(struct esi_env *env, struct esi_thread *thread)
{
    env->ops->stepped_wake(env, thread);
}

/* Lets the others have one step, or time pass until the deadline. Never from within a step. */
static inline void esi_env_yield(struct esi_env *env, uint64_t deadline_ns)
{
    env->ops->yield(env, deadline_ns);
}

/* Sleeps for that long, to a few microseconds; a signal ends it early. Not in a stepped
 * environment. */
static inline void esi_env_nap(struct esi_env *env, uint64_t duration_ns)
{
    env->ops->nap(env, duration_ns);
}

/* Waits for the thread's end and frees it; NULL is accepted. */
static inline void esi_env_thread_join(struct esi_env *env, struct esi_thread *thread)
{
    env->ops->thread_join(env, thread);
}

/* The cores this process may use: affinity, then the cgroup quota (v2 and v1), at least 1. */
static inline uint32_t esi_env_core_count(struct esi_env *env)
{
    return env->ops->core_count(env);
}

/* The memory this process may use, in bytes: the machine's, then the cgroup limit (v2 and v1); 0
 * when it is not known, as in an environment without a machine. */
static inline uint64_t esi_env_memory_bytes(struct esi_env *env)
{
    return env->ops->memory_bytes != NULL ? env->ops->memory_bytes(env) : 0;
}

/* Keeps the calling thread on one core, by the system's number. ES_NOT_FOUND: the process may not
 * use it. ES_UNSUPPORTED. */
ES_MUST_USE static inline enum es_err esi_env_thread_pin(struct esi_env *env, uint32_t core)
{
    return env->ops->thread_pin != NULL ? env->ops->thread_pin(env, core) : ES_UNSUPPORTED;
}

/* The system's number of the index-th core that the calling thread may use; they go round. */
static inline uint32_t esi_env_core_at(struct esi_env *env, uint32_t index)
{
    return env->ops->core_at != NULL ? env->ops->core_at(env, index) : index;
}

/*
 * Looks a host name or numeric address up. Blocks: on service threads and at start only.
 * Errors: ES_NOT_FOUND, ES_IO. *count <= capacity.
 */
ES_MUST_USE static inline enum es_err esi_env_resolve(struct esi_env *env, const char *host,
                                                      uint16_t port, struct esi_address *addresses,
                                                      size_t capacity, size_t *count)
{
    return env->ops->resolve(env, host, port, addresses, capacity, count);
}

/*
 * Appends a whole file to out. Blocks: service threads and start only.
 * Errors: ES_NOT_FOUND, ES_DENIED, ES_TOO_LARGE (over size_max bytes), ES_IO, ES_NO_MEMORY.
 */
ES_MUST_USE static inline enum es_err esi_env_file_read(struct esi_env *env, const char *path,
                                                        size_t size_max, struct esi_bytes *out)
{
    return env->ops->file_read(env, path, size_max, out);
}

/* Replaces a file as a whole: temporary file in the same folder, sync, rename. Blocks. mode:
 * permission bits. */
ES_MUST_USE static inline enum es_err esi_env_file_replace(struct esi_env *env, const char *path,
                                                           const void *data, size_t len,
                                                           uint32_t mode)
{
    return env->ops->file_replace(env, path, data, len, mode);
}

/* What the file system tells of a path. Blocks briefly. ES_NOT_FOUND, ES_DENIED, ES_IO. */
ES_MUST_USE static inline enum es_err esi_env_file_info(struct esi_env *env, const char *path,
                                                        struct esi_file_info *info)
{
    return env->ops->file_info(env, path, info);
}

/*
 * Waits until nobody else holds this lock, among all processes that ask for it: read, change and
 * replace a file between lock and unlock, and no change of another is lost. path: the file, which
 * need not be there. Blocks. Ends with the process at the latest. Errors: ES_NOT_FOUND (no such
 * folder), ES_DENIED, ES_UNSUPPORTED (by the file system), ES_IO.
 */
ES_MUST_USE static inline enum es_err esi_env_file_lock(struct esi_env *env, const char *path,
                                                        int *lock)
{
    return env->ops->file_lock(env, path, lock);
}

static inline void esi_env_file_unlock(struct esi_env *env, int lock)
{
    env->ops->file_unlock(env, lock);
}
