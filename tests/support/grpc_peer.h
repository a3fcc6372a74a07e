/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts tests/unit/net/grpc_peer.py, a peer by another hand, and talks to it over a loopback
 * socket. Runs in the repository's root. Header only: each test that uses it is a program of its
 * own.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct grpc_peer {
    pid_t pid;
    int to;   /* its standard input */
    int from; /* its standard output */
};

static inline uint64_t peer_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The interpreter that has Debian's grpcio. */
static inline bool peer_is_available(void)
{
    return system("/usr/bin/python3 -c 'import grpc' 2>/dev/null") == 0;
}

static inline bool peer_start(struct grpc_peer *peer, const char *role, const char *port)
{
    int to[2];
    int from[2];

    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
        return false;
    }
    peer->pid = fork();
    if (peer->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execl("/usr/bin/python3", "python3", "tests/unit/net/grpc_peer.py", role, port,
              (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = to[1];
    peer->from = from[0];
    return peer->pid > 0;
}

/* One line of its output, without the line end; waits at most 60 s. */
static inline bool peer_read_line(struct grpc_peer *peer, char *line, size_t size)
{
    size_t len = 0;
    const uint64_t end_ns = peer_now_ns() + 60000000000ULL;

    while (len + 1 < size && peer_now_ns() < end_ns) {
        struct pollfd ready = {.fd = peer->from, .events = POLLIN};
        if (poll(&ready, 1, 1000) <= 0) {
            continue;
        }
        if (read(peer->from, line + len, 1) != 1) {
            break;
        }
        if (line[len] == '\n') {
            line[len] = '\0';
            return true;
        }
        len++;
    }
    line[len] = '\0';
    return false;
}

/* Ends its input, and it with that; ends it by force after 20 s. Returns its exit status. */
static inline int peer_stop(struct grpc_peer *peer)
{
    int status = 0;
    const uint64_t end_ns = peer_now_ns() + 20000000000ULL;

    close(peer->to);
    while (waitpid(peer->pid, &status, WNOHANG) == 0) {
        if (peer_now_ns() > end_ns) {
            kill(peer->pid, SIGKILL);
        }
        poll(NULL, 0, 10);
    }
    close(peer->from);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A connected socket that does not block; -1 when there is nobody. */
static inline int peer_connect(unsigned port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A listening socket on a port that the system gives. */
static inline int peer_listen(unsigned *port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 5) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}
