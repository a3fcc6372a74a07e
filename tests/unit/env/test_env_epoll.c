/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the Linux poller wakes when it is woken, never too early, and on kernels without
 * epoll_pwait2, too. Method: waits and wake-ups without sockets; what sockets report is tested with
 * them (test_env_sockets.c).
 */
#include "env/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "poller_case.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void wake_from_thread(void *argument)
{
    esi_env_poller_wake(env, argument);
}

static void a_wake_ends_one_wait(void **state)
{
    struct esi_poller *poller = NULL;
    struct esi_thread *thread = NULL;
    struct esi_poll_ready ready = {.tag = &poller};

    (void)state;
    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    assert_int_equal(esi_env_thread_start(env, "waker", wake_from_thread, poller, &thread), ES_OK);
    ready = wait_one(poller);
    assert_null(ready.tag);
    assert_int_equal(ready.events, 0);
    esi_env_thread_join(env, thread);
    /* Several wakes before a wait end it once, and it is consumed. */
    esi_env_poller_wake(env, poller);
    esi_env_poller_wake(env, poller);
    ready = wait_one(poller);
    assert_null(ready.tag);
    assert_int_equal(esi_env_poller_wait(env, poller, 0, &ready, 1), 0);
    esi_env_poller_free(env, poller);
    esi_env_poller_free(env, NULL);
    esi_env_thread_join(env, NULL);
}

static void wait_and_measure(struct esi_poller *poller)
{
    struct esi_poll_ready ready;

    const uint64_t start = esi_env_now_ns(env);
    assert_int_equal(esi_env_poller_wait(env, poller, 2500000, &ready, 1), 0);
    const uint64_t taken = esi_env_now_ns(env) - start;
    /* Never early. How late it may be is the machine's affair. */
    assert_true(taken >= 2500000);
    assert_true(taken < (uint64_t)DEADLINE_S * (uint64_t)SECOND_NS);
}

static void a_timeout_is_never_early(void **state)
{
    struct esi_poller *poller = NULL;

    (void)state;
    assert_int_equal(esi_env_poller_new(env, &poller), ES_OK);
    wait_and_measure(poller);
    esi_env_poller_free(env, poller);
}

/* In a child of its own: epoll_pwait2 answers ENOSYS there, as on an old kernel or in a sandbox. */
static void a_kernel_without_epoll_pwait2_is_served(void **state)
{
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const struct sock_fprog program = {.len = 4, .filter = code};
        struct esi_poller *poller = NULL;
        struct esi_poll_ready ready;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
            _exit(77);
        }
        if (esi_env_poller_new(env, &poller) != ES_OK) {
            _exit(1);
        }
        const uint64_t start = esi_env_now_ns(env);
        if (esi_env_poller_wait(env, poller, 2500000, &ready, 1) != 0 ||
            esi_env_now_ns(env) - start < 2500000) {
            _exit(2);
        }
        esi_env_poller_wake(env, poller);
        _exit(esi_env_poller_wait(env, poller, -1, &ready, 1) == 1 ? 0 : 3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        fail_msg("left out: no seccomp filter can be set here");
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wake_ends_one_wait),
        cmocka_unit_test(a_timeout_is_never_early),
        cmocka_unit_test(a_kernel_without_epoll_pwait2_is_served),
    };

    env = esi_env_linux();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
