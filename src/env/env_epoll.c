/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * epoll, level-triggered, with an eventfd for wake-ups whose readiness is consumed inside the wait.
 */
#include "env/env_epoll.h"

#include "base/assert.h"
#include "env/env_files.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_EVENTS_MAX = 256 }; /* on the stack; more are reported by the next wait */

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

struct esi_poller {
    int epoll_fd;
    int wake_fd;     /* eventfd; its tag in epoll is the poller's own address */
    bool has_pwait2; /* false once the kernel (or a sandbox) refused it; touched by the waiting
                        thread only */
};

void esi_env_epoll_free(struct esi_env *env, struct esi_poller *poller)
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

enum es_err esi_env_epoll_new(struct esi_env *env, struct esi_poller **out)
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
    esi_env_epoll_free(env, poller);
    return err;
}

static struct epoll_event watch_for(uint32_t events, void *tag)
{
    return (struct epoll_event){.events = ((events & POLL_READ) != 0 ? (uint32_t)EPOLLIN : 0) |
                                          ((events & POLL_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = tag};
}

enum es_err esi_env_epoll_add(struct esi_env *env, struct esi_poller *poller, int sock,
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

void esi_env_epoll_change(struct esi_env *env, struct esi_poller *poller, int sock, uint32_t events,
                          void *tag)
{
    struct epoll_event event = watch_for(events, tag);

    (void)env;
    ESI_REQUIRE(tag != NULL);
    const int failed = epoll_ctl(poller->epoll_fd, EPOLL_CTL_MOD, sock, &event);
    ESI_REQUIRE(failed == 0);
}

void esi_env_epoll_remove(struct esi_env *env, struct esi_poller *poller, int sock)
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
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                                     .tv_nsec = (long)(timeout_ns % NS_PER_S)};
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

size_t esi_env_epoll_wait(struct esi_env *env, struct esi_poller *poller, int64_t timeout_ns,
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

void esi_env_epoll_wake(struct esi_env *env, struct esi_poller *poller)
{
    const uint64_t one = 1;

    (void)env;
    /* Fails only when the counter is full, and then the poller is awake already. */
    const ssize_t written = write(poller->wake_fd, &one, sizeof one);
    (void)written;
}
