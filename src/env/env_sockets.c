/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Invariants: no call here raises SIGPIPE (sends carry MSG_NOSIGNAL); a descriptor is never used
 * after a failed close (Linux frees it even when close reports EINTR).
 */
#include "env/env_sockets.h"

#include "base/assert.h"
#include "base/own.h"
#include "env/env_files.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LISTEN_BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    WRITE_PARTS_MAX = 1024
};

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

enum es_err esi_env_sockets_resolve(struct esi_env *env, const char *host, uint16_t port,
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

enum es_err esi_env_sockets_listen(struct esi_env *env, const char *host, uint16_t port, int *sock,
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

enum es_err esi_env_sockets_accept(struct esi_env *env, int listener, int *sock,
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

enum es_err esi_env_sockets_connect(struct esi_env *env, const struct esi_address *address,
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

enum es_err esi_env_sockets_local_address(struct esi_env *env, int sock, struct esi_address *local)
{
    struct sockaddr_storage own = {0};
    socklen_t own_len = sizeof own;

    (void)env;
    return getsockname(sock, (struct sockaddr *)&own, &own_len) == 0 &&
                   format_address((const struct sockaddr *)&own, own_len, local)
               ? ES_OK
               : ES_IO;
}

enum es_err esi_env_sockets_connect_result(struct esi_env *env, int sock)
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

enum es_err esi_env_sockets_read(struct esi_env *env, int sock, void *buffer, size_t capacity,
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

enum es_err esi_env_sockets_writev(struct esi_env *env, int sock, const struct iovec *parts,
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

void esi_env_sockets_shutdown_write(struct esi_env *env, int sock)
{
    (void)env;
    /* Fails where the peer has gone already, which is as good. */
    (void)shutdown(sock, SHUT_WR);
}

void esi_env_sockets_close(struct esi_env *env, int sock)
{
    (void)env;
    if (sock != ESI_ENV_NO_SOCKET) {
        (void)close(sock);
    }
}
