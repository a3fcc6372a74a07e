/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real environment: Linux. Sockets are file descriptors, non-blocking and close-on-exec. The
 * poller is epoll, level-triggered, with an eventfd for wake-ups whose readiness is consumed inside
 * the wait.
 *
 * Invariants: no call here raises SIGPIPE (sends carry MSG_NOSIGNAL); no errno leaves this layer; a
 * descriptor is never used after a failed close (Linux frees it even when close reports EINTR).
 */
#include "env/env.h"

#include "base/assert.h"
#include "base/own.h"
#include "env/env_cores.h"
#include "env/env_memory.h"
#include "env/env_files.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LISTEN_BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    WAIT_EVENTS_MAX = 256, /* on the stack; more are reported by the next wait */
    WRITE_PARTS_MAX = 1024,
    THREAD_NAME_BYTES = 16
};

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

struct esi_poller {
    int epoll_fd;
    int wake_fd;     /* eventfd; its tag in epoll is the poller's own address */
    bool has_pwait2; /* false once the kernel (or a sandbox) refused it; touched by the waiting
                        thread only */
};

struct esi_thread {
    pthread_t handle;
    void (*run)(void *argument);
    void *argument;
    char name[THREAD_NAME_BYTES];
};

/* Clock and randomness. */

static uint64_t now_ns(struct esi_env *env)
{
    struct timespec now;

    (void)env;
    const int failed = clock_gettime(CLOCK_MONOTONIC, &now);
    ESI_ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t thread_cpu_ns(struct esi_env *env)
{
    struct timespec now;

    (void)env;
    const int failed = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    ESI_ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int64_t wall_ns(struct esi_env *env)
{
    struct timespec now;

    (void)env;
    const int failed = clock_gettime(CLOCK_REALTIME, &now);
    ESI_ASSERT(failed == 0);
    return (int64_t)now.tv_sec * (int64_t)NS_PER_S + (int64_t)now.tv_nsec;
}

static void fill_random(struct esi_env *env, void *out, size_t len)
{
    char *at = out;

    (void)env;
    while (len > 0) {
        const ssize_t count = getrandom(at, len, 0);
        if (count < 0) {
            /* Only a signal may interrupt it. Going on without randomness would make guessable
             * tokens. */
            ESI_ASSERT(errno == EINTR);
            continue;
        }
        at += count;
        len -= (size_t)count;
    }
}

/* Addresses. */

static enum es_err map_lookup_error(int error)
{
    switch (error) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
    case EAI_FAMILY:
        return ES_NOT_FOUND;
    case EAI_MEMORY:
        return ES_NO_MEMORY;
    default:
        return ES_IO;
    }
}

/* Looks up; the caller frees *list with freeaddrinfo. */
static enum es_err look_up(const char *host, uint16_t port, int flags, struct addrinfo **list)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    char service[8];

    snprintf(service, sizeof service, "%u", (unsigned)port);
    const int failed = getaddrinfo(host, service, &hints, list);
    return failed == 0 ? ES_OK : map_lookup_error(failed);
}

static uint16_t port_of(const struct sockaddr *address)
{
    /* Copied out: a sockaddr may be of another type than the one it is seen as. */
    struct sockaddr_in in = {0};
    struct sockaddr_in6 in6 = {0};

    if (address->sa_family == AF_INET6) {
        memcpy(&in6, address, sizeof in6);
        return ntohs(in6.sin6_port);
    }
    memcpy(&in, address, sizeof in);
    return ntohs(in.sin_port);
}

static bool format_address(const struct sockaddr *address, socklen_t len, struct esi_address *out)
{
    struct esi_address result = {.port = port_of(address)};

    if (address->sa_family == AF_INET) {
        /* The common case, and one in which getnameinfo has nothing to add but time. */
        struct sockaddr_in in = {0};
        memcpy(&in, address, sizeof in);
        *out = result;
        return inet_ntop(AF_INET, &in.sin_addr, out->host, sizeof out->host) != NULL;
    }
    if (getnameinfo(address, len, result.host, sizeof result.host, NULL, 0, NI_NUMERICHOST) != 0) {
        return false;
    }
    /* A client of IPv4 at an IPv6 socket is shown as what it is. */
    static const char mapped[] = "::ffff:";
    if (strncmp(result.host, mapped, sizeof mapped - 1) == 0 && strchr(result.host, '.') != NULL) {
        memmove(result.host, result.host + sizeof mapped - 1,
                strlen(result.host) - sizeof mapped + 2);
    }
    *out = result;
    return true;
}

static enum es_err resolve(struct esi_env *env, const char *host, uint16_t port,
                           struct esi_address *addresses, size_t capacity, size_t *count)
{
    struct addrinfo *list = NULL;
    size_t found = 0;

    (void)env;
    const enum es_err err = look_up(host, port, 0, &list);
    if (err != ES_OK) {
        return err;
    }
    for (const struct addrinfo *at = list; at != NULL && found < capacity; at = at->ai_next) {
        if ((at->ai_family == AF_INET || at->ai_family == AF_INET6) &&
            format_address(at->ai_addr, at->ai_addrlen, &addresses[found])) {
            found++;
        }
    }
    freeaddrinfo(list);
    if (found == 0) {
        return ES_NOT_FOUND;
    }
    *count = found;
    return ES_OK;
}

/* Sockets. */

static void set_option(int sock, int level, int option, int value)
{
    /* What these options tune is speed, or a restart without waiting: their failure is no reason to
     * refuse. */
    (void)setsockopt(sock, level, option, &value, sizeof value);
}

static enum es_err listen_at(const struct addrinfo *at, int *sock, struct esi_address *bound)
{
    struct sockaddr_storage real = {0};
    socklen_t real_len = sizeof real;
    enum es_err err;

    const int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return esi_env_files_map_error(errno);
    }
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (at->ai_family == AF_INET6) {
        /* "::" means every address, of IPv4 too, whatever net.ipv6.bindv6only says. */
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    /* Linux gives it to each accepted connection. */
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&real, &real_len) != 0) {
        err = esi_env_files_map_error(errno);
        goto fail;
    }
    if (!format_address((const struct sockaddr *)&real, real_len, bound)) {
        err = ES_IO;
        goto fail;
    }
    *sock = fd;
    return ES_OK;

fail:
    close(fd);
    return err;
}

static enum es_err open_listener(struct esi_env *env, const char *host, uint16_t port, int *sock,
                                 struct esi_address *bound)
{
    /* IPv4 first: "localhost" is then 127.0.0.1, which is what clients are told most. */
    static const int families[] = {AF_INET, AF_INET6};
    struct addrinfo *list = NULL;

    (void)env;
    enum es_err err = look_up(host, port, AI_PASSIVE, &list);
    if (err != ES_OK) {
        return err;
    }
    err = ES_NOT_FOUND;
    for (size_t i = 0; i < ESI_COUNT_OF(families); i++) {
        for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
            if (at->ai_family != families[i]) {
                continue;
            }
            err = listen_at(at, sock, bound);
            /* A taken port is told, not evaded by listening on the other family alone. */
            if (err == ES_OK || err == ES_IN_USE || err == ES_DENIED) {
                freeaddrinfo(list);
                return err;
            }
        }
    }
    freeaddrinfo(list);
    return err;
}

static enum es_err accept_one(struct esi_env *env, int listener, int *sock,
                              struct esi_address *peer)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    int fd;

    (void)env;
    do {
        len = sizeof address;
        fd = accept4(listener, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        switch (errno) {
        case EAGAIN:
            return ES_AGAIN;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            return ES_FULL;
        default:
            return ES_IO;
        }
    }
    if (!format_address((const struct sockaddr *)&address, len, peer)) {
        close(fd);
        return ES_IO;
    }
    *sock = fd;
    return ES_OK;
}

static enum es_err bind_source(int fd, const struct esi_address *source)
{
    struct addrinfo *list = NULL;
    enum es_err err = look_up(source->host, source->port, AI_NUMERICHOST, &list);

    if (err != ES_OK) {
        return err == ES_NOT_FOUND ? ES_INVALID : err;
    }
    /* The port is chosen when the other end is known: it need be free only towards that one. */
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (bind(fd, list->ai_addr, list->ai_addrlen) != 0) {
        err = esi_env_files_map_error(errno);
    }
    freeaddrinfo(list);
    return err;
}

static enum es_err begin_connect(struct esi_env *env, const struct esi_address *address,
                                 const struct esi_address *source, int *sock)
{
    struct addrinfo *list = NULL;

    (void)env;
    enum es_err err = look_up(address->host, address->port, AI_NUMERICHOST, &list);
    if (err != ES_OK) {
        return err == ES_NOT_FOUND ? ES_INVALID : err;
    }
    const int fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err = esi_env_files_map_error(errno);
        goto done;
    }
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    err = source != NULL ? bind_source(fd, source) : ES_OK;
    if (err != ES_OK) {
        close(fd);
        goto done;
    }
    /* EINTR: the attempt goes on in the background, as EINPROGRESS says too. */
    if (connect(fd, list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS &&
        errno != EINTR) {
        const int error = errno;
        err = error == ENOBUFS || error == ENOMEM ? ES_NO_MEMORY : ES_UNREACHABLE;
        close(fd);
        goto done;
    }
    *sock = fd;
    err = ES_OK;

done:
    freeaddrinfo(list);
    return err;
}

/* A connect to a free local port of the ephemeral range can meet itself: TCP's simultaneous open.
 */
static bool is_connected_to_itself(int sock, const struct sockaddr_storage *peer,
                                   socklen_t peer_len)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof own;

    return getsockname(sock, (struct sockaddr *)&own, &own_len) == 0 && own_len == peer_len &&
           memcmp(&own, peer, own_len) == 0;
}

static enum es_err local_address(struct esi_env *env, int sock, struct esi_address *local)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof own;

    (void)env;
    return getsockname(sock, (struct sockaddr *)&own, &own_len) == 0 &&
                   format_address((const struct sockaddr *)&own, own_len, local)
               ? ES_OK
               : ES_IO;
}

static enum es_err connect_result(struct esi_env *env, int sock)
{
    struct pollfd watched = {.fd = sock, .events = POLLOUT};
    struct sockaddr_storage peer = {0};
    socklen_t peer_len = sizeof peer;
    int error = 0;
    socklen_t error_len = sizeof error;

    (void)env;
    const int ready = poll(&watched, 1, 0);
    if (ready == 0 || (ready < 0 && errno == EINTR)) {
        return ES_AGAIN;
    }
    if (ready < 0 || getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &error_len) != 0 ||
        error != 0 || getpeername(sock, (struct sockaddr *)&peer, &peer_len) != 0 ||
        is_connected_to_itself(sock, &peer, peer_len)) {
        return ES_UNREACHABLE;
    }
    return ES_OK;
}

static enum es_err read_socket(struct esi_env *env, int sock, void *buffer, size_t capacity,
                               size_t *count)
{
    ssize_t len;

    (void)env;
    ESI_REQUIRE(capacity > 0);
    do {
        len = recv(sock, buffer, capacity, 0);
    } while (len < 0 && errno == EINTR);
    if (len > 0) {
        *count = (size_t)len;
        return ES_OK;
    }
    /* Whatever else TCP reports (reset, timed out, unreachable), this stream carries nothing any
     * more. */
    return len < 0 && errno == EAGAIN ? ES_AGAIN : ES_CLOSED;
}

static enum es_err write_socket(struct esi_env *env, int sock, const struct iovec *parts,
                                size_t part_count, size_t *count)
{
    /* sendmsg does not write through msg_iov; only its type lacks the const. */
    const struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                                   .msg_iovlen = part_count};
    ssize_t len;

    (void)env;
    ESI_REQUIRE(part_count <= WRITE_PARTS_MAX);
    do {
        len = sendmsg(sock, &message, MSG_NOSIGNAL);
    } while (len < 0 && errno == EINTR);
    if (len >= 0) {
        *count = (size_t)len;
        return ES_OK;
    }
    return errno == EAGAIN ? ES_AGAIN : ES_CLOSED;
}

static void shutdown_write(struct esi_env *env, int sock)
{
    (void)env;
    /* Fails where the peer has gone already, which is as good. */
    (void)shutdown(sock, SHUT_WR);
}

static void close_socket(struct esi_env *env, int sock)
{
    (void)env;
    if (sock != ESI_ENV_NO_SOCKET) {
        (void)close(sock);
    }
}

/* The poller. */

static void free_poller(struct esi_env *env, struct esi_poller *poller)
{
    (void)env;
    if (poller == NULL) {
        return;
    }
    if (poller->wake_fd >= 0) {
        close(poller->wake_fd);
    }
    if (poller->epoll_fd >= 0) {
        close(poller->epoll_fd);
    }
    free(poller);
}

static enum es_err make_poller(struct esi_env *env, struct esi_poller **out)
{
    struct esi_poller *poller = malloc(sizeof *poller);
    if (poller == NULL) {
        return ES_NO_MEMORY;
    }
    *poller = (struct esi_poller){.epoll_fd = -1, .wake_fd = -1, .has_pwait2 = true};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = poller};
    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->epoll_fd < 0) {
        goto fail;
    }
    poller->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (poller->wake_fd < 0 ||
        epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &event) != 0) {
        goto fail;
    }
    *out = poller;
    return ES_OK;

fail:;
    const enum es_err err = esi_env_files_map_error(errno);
    free_poller(env, poller);
    return err;
}

static struct epoll_event watch_for(uint32_t events, void *tag)
{
    return (struct epoll_event){.events = ((events & POLL_READ) != 0 ? (uint32_t)EPOLLIN : 0) |
                                          ((events & POLL_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = tag};
}

static enum es_err add_to_poller(struct esi_env *env, struct esi_poller *poller, int sock,
                                 uint32_t events, void *tag)
{
    struct epoll_event event = watch_for(events, tag);

    (void)env;
    /* NULL is how a wake-up is reported. */
    ESI_REQUIRE(tag != NULL);
    if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, sock, &event) != 0) {
        return esi_env_files_map_error(errno);
    }
    return ES_OK;
}

static void change_in_poller(struct esi_env *env, struct esi_poller *poller, int sock,
                             uint32_t events, void *tag)
{
    struct epoll_event event = watch_for(events, tag);

    (void)env;
    ESI_REQUIRE(tag != NULL);
    const int failed = epoll_ctl(poller->epoll_fd, EPOLL_CTL_MOD, sock, &event);
    ESI_REQUIRE(failed == 0);
}

static void remove_from_poller(struct esi_env *env, struct esi_poller *poller, int sock)
{
    (void)env;
    const int failed = epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, sock, NULL);
    ESI_REQUIRE(failed == 0);
}

/* epoll_wait knows milliseconds: rounded up, so that a timer is never found not yet due. */
static int wait_coarse(const struct esi_poller *poller, int64_t timeout_ns,
                       struct epoll_event *events, int capacity)
{
    int timeout_ms = -1;

    if (timeout_ns >= 0) {
        const int64_t rounded = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0 ? 1 : 0);
        timeout_ms = rounded > INT_MAX ? INT_MAX : (int)rounded;
    }
    return epoll_wait(poller->epoll_fd, events, capacity, timeout_ms);
}

static int wait_for_events(struct esi_poller *poller, int64_t timeout_ns,
                           struct epoll_event *events, int capacity)
{
    /* Where nothing is waited for, no time need be read. */
    if (!poller->has_pwait2 || timeout_ns == 0) {
        return wait_coarse(poller, timeout_ns, events, capacity);
    }
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / (int64_t)NS_PER_S),
                                     .tv_nsec = (long)(timeout_ns % (int64_t)NS_PER_S)};
    const int count =
        epoll_pwait2(poller->epoll_fd, events, capacity, timeout_ns < 0 ? NULL : &timeout, NULL);
    if (count < 0 && (errno == ENOSYS || errno == EPERM)) {
        poller->has_pwait2 = false;
        return wait_coarse(poller, timeout_ns, events, capacity);
    }
    return count;
}

static struct esi_poll_ready report_event(const struct esi_poller *poller,
                                          const struct epoll_event *event)
{
    if (event->data.ptr == poller) {
        uint64_t count;
        /* Consumed here, or a level-triggered poller would report it for ever. EAGAIN: another wait
         * took it. */
        const ssize_t got = read(poller->wake_fd, &count, sizeof count);
        (void)got;
        return (struct esi_poll_ready){.tag = NULL, .events = 0};
    }
    return (struct esi_poll_ready){
        .tag = event->data.ptr,
        .events = ((event->events & EPOLLIN) != 0 ? (uint32_t)POLL_READ : 0) |
                  ((event->events & EPOLLOUT) != 0 ? (uint32_t)POLL_WRITE : 0) |
                  ((event->events & (EPOLLHUP | EPOLLERR)) != 0 ? (uint32_t)POLL_HANGUP : 0)};
}

static size_t wait_poller(struct esi_env *env, struct esi_poller *poller, int64_t timeout_ns,
                          struct esi_poll_ready *ready, size_t capacity)
{
    struct epoll_event events[WAIT_EVENTS_MAX];

    (void)env;
    ESI_REQUIRE(capacity > 0);
    const int room = capacity < WAIT_EVENTS_MAX ? (int)capacity : WAIT_EVENTS_MAX;
    const int count = wait_for_events(poller, timeout_ns, events, room);
    if (count < 0) {
        /* A signal: the caller sees an early return with nothing ready. */
        ESI_ASSERT(errno == EINTR);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        ready[i] = report_event(poller, &events[i]);
    }
    return (size_t)count;
}

static void wake_poller(struct esi_env *env, struct esi_poller *poller)
{
    const uint64_t one = 1;

    (void)env;
    /* Fails only when the counter is full, and then the poller is awake already. */
    const ssize_t written = write(poller->wake_fd, &one, sizeof one);
    (void)written;
}

/* Threads. */

static void *run_thread(void *argument)
{
    struct esi_thread *thread = argument;

    (void)pthread_setname_np(pthread_self(), thread->name);
    thread->run(thread->argument);
    return NULL;
}

static enum es_err start_thread(struct esi_env *env, const char *name, void (*run)(void *argument),
                                void *argument, struct esi_thread **out)
{
    sigset_t blocked;
    sigset_t before;

    (void)env;
    struct esi_thread *thread = malloc(sizeof *thread);
    if (thread == NULL) {
        return ES_NO_MEMORY;
    }
    *thread = (struct esi_thread){.run = run, .argument = argument};
    snprintf(thread->name, sizeof thread->name, "%s", name);
    /* Signals are the main thread's affair; those of our own faults stay deliverable, for the crash
     * report. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGABRT);
    sigdelset(&blocked, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int failed = pthread_create(&thread->handle, NULL, run_thread, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        free(thread);
        return failed == EAGAIN ? ES_FULL : esi_env_files_map_error(failed);
    }
    *out = thread;
    return ES_OK;
}

static void join_thread(struct esi_env *env, struct esi_thread *thread)
{
    (void)env;
    if (thread == NULL) {
        return;
    }
    const int failed = pthread_join(thread->handle, NULL);
    ESI_REQUIRE(failed == 0);
    free(thread);
}

static uint64_t memory_bytes(struct esi_env *env)
{
    (void)env;
    return esi_env_memory_usable();
}

static enum es_err pin_thread(struct esi_env *env, uint32_t core)
{
    (void)env;
    return esi_env_cores_pin(core);
}

static uint32_t find_core(struct esi_env *env, uint32_t index)
{
    (void)env;
    return esi_env_cores_at(index);
}

static uint32_t count_cores(struct esi_env *env)
{
    (void)env;
    return esi_env_cores_count();
}

/* Files: env_files.c does the work. */

static enum es_err read_file(struct esi_env *env, const char *path, size_t size_max,
                             struct esi_bytes *out)
{
    (void)env;
    return esi_env_files_read(path, size_max, out);
}

static enum es_err replace_file(struct esi_env *env, const char *path, const void *data, size_t len,
                                uint32_t mode)
{
    uint64_t suffix = 0;

    fill_random(env, &suffix, sizeof suffix);
    return esi_env_files_replace(path, (struct esi_str){.data = data, .len = len}, mode, suffix);
}

static enum es_err tell_file_info(struct esi_env *env, const char *path, struct esi_file_info *info)
{
    (void)env;
    return esi_env_files_info(path, info);
}

static enum es_err lock_file(struct esi_env *env, const char *path, int *lock)
{
    (void)env;
    return esi_env_files_lock(path, lock);
}

static void unlock_file(struct esi_env *env, int lock)
{
    (void)env;
    esi_env_files_unlock(lock);
}

struct esi_env *esi_env_linux(void)
{
    static const struct esi_env_ops ops = {
        .now_ns = now_ns,
        .thread_cpu_ns = thread_cpu_ns,
        .wall_ns = wall_ns,
        .random = fill_random,
        .listen = open_listener,
        .accept = accept_one,
        .connect = begin_connect,
        .connect_result = connect_result,
        .local_address = local_address,
        .read = read_socket,
        .writev = write_socket,
        .shutdown_write = shutdown_write,
        .close = close_socket,
        .poller_new = make_poller,
        .poller_free = free_poller,
        .poller_add = add_to_poller,
        .poller_change = change_in_poller,
        .poller_remove = remove_from_poller,
        .poller_wait = wait_poller,
        .poller_wake = wake_poller,
        .thread_start = start_thread,
        .thread_join = join_thread,
        .thread_pin = pin_thread,
        .core_at = find_core,
        .core_count = count_cores,
        .memory_bytes = memory_bytes,
        .resolve = resolve,
        .file_read = read_file,
        .file_replace = replace_file,
        .file_info = tell_file_info,
        .file_lock = lock_file,
        .file_unlock = unlock_file,
    };
    static struct esi_env env = {.ops = &ops};

    return &env;
}
