/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a sample tells the memory and the CPU of this process. Method: an actor takes one after the
 * process has touched memory and used a core; the kernel's own figures, read another way, are the
 * measure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "actors/monitor_sample.h"
#include "base/own.h"
#include "runtime/actor.h"
#include "runtime_case.h"

enum { TOUCHED_BYTES = 64 * 1024 * 1024 };

static const uint64_t NS_PER_S = 1000000000;

struct asker {
    struct esi_actor actor; /* first */
    struct esi_monitor_sample sample;
    struct esi_msg done;
    sem_t has_come;
};

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);

    (void)msg;
    esi_monitor_sample_end(&self->sample, esi_env_now_ns(esi_env_linux()));
    case_check(sem_post(&self->has_come) == 0);
}

static void stop(struct esi_actor *actor)
{
    esi_actor_finish(actor);
}

static void free_asker(struct esi_actor *actor)
{
    (void)actor; /* the test's own */
}

static const struct esi_actor_type asker_type = {
    .name = "asker", .stop_phase = STOP_PEERS, .handle = handle, .stop = stop, .free = free_asker};

static void take(struct asker *asker, struct esi_runtime *runtime)
{
    asker->done = (struct esi_msg){.free = keep};
    esi_monitor_sample_begin(&asker->sample, runtime, &asker->actor, &asker->done);
    await(&asker->has_come);
}

static double used_cpu_s(void)
{
    struct rusage usage;

    case_check(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void tells_memory_and_cpu(void **state)
{
    static struct asker asker;
    struct esi_env *env = esi_env_linux();
    struct esi_runtime *runtime = start_runtime(1);
    const uint64_t start_ns = esi_env_now_ns(env);
    const double cpu_start_s = used_cpu_s();

    (void)state;
    case_check(sem_init(&asker.has_come, 0, 0) == 0);
    esi_actor_init(&asker.actor, &asker_type, runtime, esi_runtime_worker(runtime, 0));
    esi_actor_start(&asker.actor);
    esi_monitor_sample_init(&asker.sample, env, start_ns);
    take(&asker, runtime);
    const uint64_t before_bytes = asker.sample.mem_bytes;
    assert_true(before_bytes > 0);
    assert_true(before_bytes % 4096 == 0);
    assert_true(asker.sample.cpu_percent == 0.0); /* the window is still too short to tell */

    char *touched = malloc(TOUCHED_BYTES);
    assert_non_null(touched);
    while (esi_env_now_ns(env) - start_ns < NS_PER_S) {
        memset(touched, (int)(esi_env_now_ns(env) & 0xff), TOUCHED_BYTES);
    }
    take(&asker, runtime);
    assert_true(asker.sample.mem_bytes >= before_bytes + TOUCHED_BYTES / 4 * 3);
    const double spent_s = (double)(esi_env_now_ns(env) - start_ns) / 1e9;
    const double expected = (used_cpu_s() - cpu_start_s) / spent_s * 100;
    /* Ticks before the start count too: they are few. */
    assert_true(asker.sample.cpu_percent > expected / 2);
    assert_true(asker.sample.cpu_percent < expected * 2 + 10);
    const double first_percent = asker.sample.cpu_percent;
    take(&asker, runtime);
    assert_true(asker.sample.cpu_percent == first_percent); /* no window, no new figure */
    free(touched);
    stop_runtime(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tells_memory_and_cpu)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
