/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this machine allows at all: a server that does as little as can be done between one socket
 * and another, to compare real servers with. One thread, plain TCP, enough of the NATS protocol for
 * event-bench's pub-sub.
 *
 *   bench-limit relay PORT   reads a block, writes it on to the subscriber. No parsing: the
 *                            publisher sends what subscribers receive (event-bench --raw)
 *   bench-limit parse PORT   besides parses each PUB, looks the subject up in one hash table of
 *                            literal subjects, and formats MSG
 *
 * It trusts its peers and gives up at the first surprise: it measures, and serves nobody.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 1024,
    BLOCK_BYTES = 128 * 1024,
    LINE_BYTES_MAX = 4096,
    PAYLOAD_BYTES_MAX = 1 << 20,
    TAIL_BYTES_MAX = LINE_BYTES_MAX + PAYLOAD_BYTES_MAX + 2,
    OUT_BYTES =
        4 * (BLOCK_BYTES + TAIL_BYTES_MAX), /* a formatted line may be longer than its PUB */
    TABLE_SLOTS = 4096,                     /* a power of two, more than subscriptions */
    READY_MAX = 64
};

struct connection {
    int sock;
    bool is_source;  /* relay: has begun to publish */
    bool is_paused;  /* not read: its target has not taken all */
    size_t tail_len; /* begin of a line or message that is not all here */
    char *tail;      /* owned */
    char *out;       /* owned; what the socket has not taken, out_from..out_len */
    size_t out_from;
    size_t out_len;
    struct connection *waits_for_me; /* the source that is paused for this target */
    char sid[24];
};

/* A literal subject and its one subscriber. */
struct entry {
    size_t len;
    char subject[128];
    struct connection *subscriber;
};

static struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */
static struct entry table[TABLE_SLOTS];
static struct connection *last_subscriber;
static char block[TAIL_BYTES_MAX + BLOCK_BYTES];
static int poller;
static bool is_relay;

static void give_up(const char *what)
{
    fprintf(stderr, "bench-limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(const struct connection *connection, int operation)
{
    struct epoll_event event = {.events = connection->is_paused ? 0 : EPOLLIN,
                                .data = {.fd = connection->sock}};

    if (connection->out_len > connection->out_from) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(poller, operation, connection->sock, &event) != 0) {
        give_up("epoll_ctl");
    }
}

static void drop(struct connection *connection)
{
    connections[connection->sock] = NULL;
    close(connection->sock);
    for (size_t i = 0; i < TABLE_SLOTS; i++) {
        if (table[i].subscriber == connection) {
            table[i].len = 0;
            table[i].subscriber = NULL;
        }
    }
    if (last_subscriber == connection) {
        last_subscriber = NULL;
    }
    if (connection->waits_for_me != NULL) {
        connection->waits_for_me->is_paused = false;
        watch(connection->waits_for_me, EPOLL_CTL_MOD);
    }
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (connections[i] != NULL && connections[i]->waits_for_me == connection) {
            connections[i]->waits_for_me = NULL;
        }
    }
    free(connection->tail);
    free(connection->out);
    free(connection);
}

/* Writes what was put into out. */
static void flush(struct connection *connection)
{
    while (connection->out_from < connection->out_len) {
        const ssize_t count = write(connection->sock, connection->out + connection->out_from,
                                    connection->out_len - connection->out_from);
        if (count < 0) {
            if (errno != EAGAIN && errno != EPIPE && errno != ECONNRESET) {
                give_up("write");
            }
            return;
        }
        connection->out_from += (size_t)count;
    }
    connection->out_from = connection->out_len = 0;
}

static char *reserve(struct connection *connection, size_t len)
{
    if (connection->out_len + len > OUT_BYTES) {
        errno = ENOBUFS;
        give_up("a target takes too little");
    }
    return connection->out + connection->out_len;
}

static void append(struct connection *connection, const void *data, size_t len)
{
    memcpy(reserve(connection, len), data, len);
    connection->out_len += len;
}

/* A source goes on when its target has taken all. */
static void hand_over(struct connection *source, struct connection *target)
{
    const bool was_waiting = target->out_from > 0;

    flush(target);
    if (target->out_len > 0) {
        source->is_paused = true;
        target->waits_for_me = source;
        watch(source, EPOLL_CTL_MOD);
    }
    if (target->out_len > 0 || was_waiting) {
        watch(target, EPOLL_CTL_MOD);
    }
}

/* FNV-1a: short, and good enough for a table of a few subjects. */
static struct entry *find_entry(const char *subject, size_t len)
{
    uint64_t hash = 14695981039346656037U;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)subject[i]) * 1099511628211U;
    }
    struct entry *entry = &table[hash % TABLE_SLOTS];
    while (entry->len != 0 && (entry->len != len || memcmp(entry->subject, subject, len) != 0)) {
        entry = entry + 1 == table + TABLE_SLOTS ? table : entry + 1;
    }
    return entry;
}

/* The line ends with NUL: SUB SUBJECT [QUEUE] SID. */
static void on_sub(struct connection *connection, const char *line)
{
    const char *subject = line + 4;
    const size_t subject_len = strcspn(subject, " ");
    const char *sid = strrchr(line, ' ') + 1;

    if (subject_len >= sizeof table[0].subject || strlen(sid) >= sizeof connection->sid ||
        sid <= subject) {
        errno = EPROTO;
        give_up("SUB");
    }
    struct entry *entry = find_entry(subject, subject_len);
    entry->len = subject_len;
    memcpy(entry->subject, subject, subject_len);
    entry->subscriber = connection;
    memcpy(connection->sid, sid, strlen(sid) + 1);
    last_subscriber = connection;
}

/* Parses PUB SUBJECT SIZE and what follows. Returns the bytes used, 0 when it is not all here. */
static size_t take_publish(const char *data, size_t len, struct connection **target)
{
    const char *line_end = memchr(data, '\n', len < LINE_BYTES_MAX ? len : LINE_BYTES_MAX);

    if (line_end == NULL) {
        return 0;
    }
    const char *subject = data + 4;
    const char *blank = memchr(subject, ' ', (size_t)(line_end - subject));
    if (blank == NULL) {
        errno = EPROTO;
        give_up("PUB");
    }
    size_t size = 0;
    for (const char *digit = blank + 1; digit < line_end - 1; digit++) {
        size = size * 10 + (size_t)(*digit - '0');
    }
    const size_t head = (size_t)(line_end + 1 - data);
    if (size > PAYLOAD_BYTES_MAX) {
        errno = EPROTO;
        give_up("PUB");
    }
    if (len < head + size + 2) {
        return 0;
    }
    struct connection *subscriber = find_entry(subject, (size_t)(blank - subject))->subscriber;
    if (subscriber != NULL) {
        const size_t subject_len = (size_t)(blank - subject);
        const size_t sid_len = strlen(subscriber->sid);
        const size_t digits = (size_t)(line_end + 1 - blank - 1); /* with CR LF */
        char *out = reserve(subscriber, 4 + subject_len + 1 + sid_len + 1 + digits + size + 2);
        memcpy(out, "MSG ", 4);
        out += 4;
        memcpy(out, subject, subject_len);
        out += subject_len;
        *out++ = ' ';
        memcpy(out, subscriber->sid, sid_len);
        out += sid_len;
        *out++ = ' ';
        /* Digits, CR LF, payload, CR LF: they stand one after the other. */
        memcpy(out, blank + 1, digits + size + 2);
        subscriber->out_len += 4 + subject_len + 1 + sid_len + 1 + digits + size + 2;
        if (*target != NULL && *target != subscriber) {
            flush(*target);
        }
        *target = subscriber;
    }
    return head + size + 2;
}

/* A line that is no message. Returns the bytes used, 0 when it is not all here. */
static size_t take_line(struct connection *connection, char *data, size_t len)
{
    char *end = memchr(data, '\n', len);

    if (end == NULL) {
        return 0;
    }
    *end = '\0';
    if (end > data && end[-1] == '\r') {
        end[-1] = '\0';
    }
    if (strncmp(data, "PING", 4) == 0) {
        append(connection, "PONG\r\n", 6);
    } else if (strncmp(data, "SUB ", 4) == 0) {
        on_sub(connection, data);
    } else if (strncmp(data, "CONNECT ", 8) != 0 && strncmp(data, "PONG", 4) != 0) {
        errno = EPROTO;
        give_up(data);
    }
    return (size_t)(end + 1 - data);
}

static size_t take_all(struct connection *connection, char *data, size_t len,
                       struct connection **target)
{
    size_t at = 0;

    while (at < len) {
        size_t used = 0;
        if (len - at >= 4 && memcmp(data + at, "PUB ", 4) == 0) {
            used = take_publish(data + at, len - at, target);
        } else if (is_relay && len - at >= 4 && memcmp(data + at, "MSG ", 4) == 0 &&
                   last_subscriber != NULL) {
            connection->is_source = true;
            append(last_subscriber, data + at, len - at);
            *target = last_subscriber;
            return len;
        } else {
            used = take_line(connection, data + at, len - at);
        }
        if (used == 0) {
            break;
        }
        at += used;
    }
    return at;
}

/* Relay: straight from the block to the socket; only what it does not take is copied. */
static void pass_on(struct connection *source, size_t len)
{
    struct connection *target = last_subscriber;
    size_t done = 0;

    if (target == NULL) {
        return;
    }
    if (target->out_len == 0) {
        const ssize_t count = write(target->sock, block, len);
        done = count > 0 ? (size_t)count : 0;
    }
    if (done < len) {
        append(target, block + done, len - done);
        hand_over(source, target);
    }
}

static void on_readable(struct connection *connection)
{
    struct connection *target = NULL;

    memcpy(block, connection->tail, connection->tail_len);
    const ssize_t count = read(connection->sock, block + connection->tail_len, BLOCK_BYTES);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN) {
            drop(connection);
        }
        return;
    }
    const size_t len = connection->tail_len + (size_t)count;
    if (connection->is_source) {
        pass_on(connection, len);
        return;
    }
    const size_t used = take_all(connection, block, len, &target);
    connection->tail_len = len - used;
    if (connection->tail_len > TAIL_BYTES_MAX) {
        errno = EPROTO;
        give_up("a message is too long");
    }
    memcpy(connection->tail, block + used, connection->tail_len);
    if (target != NULL) {
        hand_over(connection, target);
    }
    if (connection->out_len > 0 && connection != target) {
        flush(connection);
        watch(connection, EPOLL_CTL_MOD);
    }
}

static void on_writable(struct connection *connection)
{
    flush(connection);
    if (connection->out_len == 0 && connection->waits_for_me != NULL) {
        connection->waits_for_me->is_paused = false;
        watch(connection->waits_for_me, EPOLL_CTL_MOD);
        connection->waits_for_me = NULL;
    }
    watch(connection, EPOLL_CTL_MOD);
}

static void accept_one(int listener)
{
    static const char info[] =
        "INFO {\"server_id\":\"limit\",\"server_name\":\"bench-limit\",\"version\":\"0.0.0\","
        "\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n";
    const int sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const int on = 1;

    if (sock < 0) {
        return;
    }
    if (sock >= CONNECTIONS_MAX) {
        errno = EMFILE;
        give_up("accept");
    }
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || (connection->tail = malloc(TAIL_BYTES_MAX)) == NULL ||
        (connection->out = malloc(OUT_BYTES)) == NULL) {
        give_up("memory");
    }
    connection->sock = sock;
    connections[sock] = connection;
    append(connection, info, sizeof info - 1);
    flush(connection);
    watch(connection, EPOLL_CTL_ADD);
}

static int listen_at(uint16_t port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;

    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1024) != 0) {
        give_up("listen");
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = listener}};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0) {
        give_up("epoll_ctl");
    }
    return listener;
}

int main(int argc, char **argv)
{
    struct epoll_event ready[READY_MAX];

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("bench-limit");
        return 0;
    }
    const long port = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (port < 1 || port > UINT16_MAX ||
        (strcmp(argv[1], "relay") != 0 && strcmp(argv[1], "parse") != 0)) {
        fputs("Usage: bench-limit relay|parse PORT\n", stderr);
        return 2;
    }
    is_relay = strcmp(argv[1], "relay") == 0;
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    const int listener = listen_at((uint16_t)port);
    for (;;) {
        const int count = epoll_wait(poller, ready, READY_MAX, -1);
        for (int i = 0; i < count; i++) {
            const int sock = ready[i].data.fd;
            if (sock == listener) {
                accept_one(listener);
                continue;
            }
            if ((ready[i].events & EPOLLOUT) != 0 && connections[sock] != NULL) {
                on_writable(connections[sock]);
            }
            if ((ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 &&
                connections[sock] != NULL) {
                on_readable(connections[sock]);
            }
        }
    }
}
