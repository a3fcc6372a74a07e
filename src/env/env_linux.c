/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real environment: Linux. Its table, clocks, randomness and threads; the rest stands in
 * env_sockets.c, env_epoll.c, env_files.c, env_cores.c and env_memory.c. Invariant: no errno leaves
 * this layer.
 */
#include "env/env.h"

#include "base/assert.h"
#include "env/env_cores.h"
#include "env/env_epoll.h"
#include "env/env_files.h"
#include "env/env_memory.h"
#include "env/env_sockets.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>

enum { THREAD_NAME_BYTES = 16 };

#define NS_PER_S UINT64_C(1000000000)

struct esi_thread {
    pthread_t handle;
    void (*run)(void *argument);
    void *argument;
    char name[THREAD_NAME_BYTES];
};

/* Clock and randomness. */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    const int failed = clock_gettime(clock, &now);
    ESI_ASSERT(failed == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(struct esi_env *env)
{
    (void)env;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t thread_cpu_ns(struct esi_env *env)
{
    (void)env;
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static int64_t wall_ns(struct esi_env *env)
{
    (void)env;
    return (int64_t)read_clock(CLOCK_REALTIME);
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

/* Threads. */

static void *run_thread(void *argument)
{
    struct esi_thread *thread = argument;

    (void)pthread_setname_np(pthread_self(), thread->name);
    /* Without it a nap of tens of microseconds takes fifty more. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
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

static void nap(struct esi_env *env, uint64_t duration_ns)
{
    const struct timespec duration = {.tv_sec = (time_t)(duration_ns / NS_PER_S),
                                      .tv_nsec = (long)(duration_ns % NS_PER_S)};

    (void)env;
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL);
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
        .listen = esi_env_sockets_listen,
        .accept = esi_env_sockets_accept,
        .connect = esi_env_sockets_connect,
        .connect_result = esi_env_sockets_connect_result,
        .local_address = esi_env_sockets_local_address,
        .read = esi_env_sockets_read,
        .writev = esi_env_sockets_writev,
        .shutdown_write = esi_env_sockets_shutdown_write,
        .close = esi_env_sockets_close,
        .poller_new = esi_env_epoll_new,
        .poller_free = esi_env_epoll_free,
        .poller_add = esi_env_epoll_add,
        .poller_change = esi_env_epoll_change,
        .poller_remove = esi_env_epoll_remove,
        .poller_wait = esi_env_epoll_wait,
        .poller_wake = esi_env_epoll_wake,
        .thread_start = start_thread,
        .nap = nap,
        .thread_join = join_thread,
        .thread_pin = pin_thread,
        .core_at = find_core,
        .core_count = count_cores,
        .memory_bytes = memory_bytes,
        .resolve = esi_env_sockets_resolve,
        .file_read = read_file,
        .file_replace = replace_file,
        .file_info = tell_file_info,
        .file_lock = lock_file,
        .file_unlock = unlock_file,
    };
    static struct esi_env env = {.ops = &ops};

    return &env;
}
