/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timer wheel, by the number of timers: set, moved to another deadline while set, cancelled,
 * expired. Deadlines lie within two minutes, as those of pings and handshakes do, and timers are
 * taken in random order: a worker's connections are not touched in the order of their memory.
 */
#include "base/own.h"
#include "micro.h"
#include "runtime/timer_wheel.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_NS UINT64_C(1000000)
#define SPAN_NS (120000 * TICK_NS)

/* As far apart as timers inside of connections are. */
struct owner {
    _Alignas(ESI_CACHE_LINE) struct esi_timer timer;
};

struct clock {
    struct esi_timer_wheel wheel;
    struct owner *owners;   /* owned */
    uint32_t *order;        /* owned; numbers of owners */
    uint64_t *deadlines_ns; /* owned; from now on, by place in the order */
    uint32_t count;
    uint64_t now_ns;
};

static void init_clock(struct clock *clock, uint32_t count)
{
    uint64_t random = 42;

    *clock = (struct clock){.count = count, .now_ns = 1000 * TICK_NS};
    clock->owners = aligned_alloc(ESI_CACHE_LINE, count * sizeof *clock->owners);
    if (clock->owners == NULL) {
        micro_fail("no memory");
    }
    clock->order = micro_alloc(count * sizeof *clock->order);
    clock->deadlines_ns = micro_alloc(count * sizeof *clock->deadlines_ns);
    esi_timer_wheel_init(&clock->wheel, clock->now_ns);
    for (uint32_t i = 0; i < count; i++) {
        esi_timer_wheel_init_timer(&clock->owners[i].timer);
        clock->deadlines_ns[i] = TICK_NS + micro_random(&random) % SPAN_NS;
        /* Shuffles as it goes: each order of those so far is equally likely. */
        const uint32_t at = (uint32_t)(micro_random(&random) % (i + 1));
        clock->order[i] = clock->order[at];
        clock->order[at] = i;
    }
}

static void deinit_clock(struct clock *clock)
{
    free(clock->owners);
    free(clock->order);
    free(clock->deadlines_ns);
}

/* shift: a timer that is set moves to the deadline of another. */
static void set_all(struct clock *clock, uint32_t shift)
{
    for (uint32_t i = 0; i < clock->count; i++) {
        esi_timer_wheel_set(&clock->wheel, &clock->owners[clock->order[i]].timer,
                            clock->now_ns + clock->deadlines_ns[(i + shift) % clock->count]);
    }
}

static void cancel_all(struct clock *clock)
{
    for (uint32_t i = 0; i < clock->count; i++) {
        esi_timer_wheel_cancel(&clock->wheel, &clock->owners[clock->order[i]].timer);
    }
}

static uint64_t expire_all(struct clock *clock)
{
    uint64_t fired = 0;

    /* As a worker does: it sleeps until the wheel asks for it. */
    while (esi_timer_wheel_next_ns(&clock->wheel) != UINT64_MAX) {
        clock->now_ns = esi_timer_wheel_next_ns(&clock->wheel);
        while (esi_timer_wheel_expire(&clock->wheel, clock->now_ns) != NULL) {
            fired++;
        }
    }
    return fired;
}

static void finish(const struct clock *clock, struct micro_pass *pass, uint64_t took_ns)
{
    if (esi_timer_wheel_next_ns(&clock->wheel) != UINT64_MAX) {
        micro_fail("a timer is still set");
    }
    pass->cpu_ns = took_ns;
    pass->operations = clock->count;
    pass->sum = clock->wheel.now_tick;
}

static void run_set(void *argument, struct micro_pass *pass)
{
    struct clock *clock = argument;
    const uint64_t began_ns = micro_thread_cpu_ns();

    set_all(clock, 0);
    const uint64_t took_ns = micro_thread_cpu_ns() - began_ns;
    cancel_all(clock);
    finish(clock, pass, took_ns);
}

static void run_move(void *argument, struct micro_pass *pass)
{
    struct clock *clock = argument;

    set_all(clock, 0);
    const uint64_t began_ns = micro_thread_cpu_ns();
    set_all(clock, 1);
    const uint64_t took_ns = micro_thread_cpu_ns() - began_ns;
    cancel_all(clock);
    finish(clock, pass, took_ns);
}

static void run_cancel(void *argument, struct micro_pass *pass)
{
    struct clock *clock = argument;

    set_all(clock, 0);
    const uint64_t began_ns = micro_thread_cpu_ns();
    cancel_all(clock);
    finish(clock, pass, micro_thread_cpu_ns() - began_ns);
}

static void run_expire(void *argument, struct micro_pass *pass)
{
    struct clock *clock = argument;

    set_all(clock, 0);
    const uint64_t began_ns = micro_thread_cpu_ns();
    const uint64_t fired = expire_all(clock);
    finish(clock, pass, micro_thread_cpu_ns() - began_ns);
    if (fired != clock->count) {
        micro_fail("the wheel lost a timer");
    }
}

void micro_timer(struct micro *micro)
{
    static const uint32_t counts[] = {1000, 10000, 100000, 1000000};
    static const struct {
        const char *name;
        void (*run)(void *argument, struct micro_pass *pass);
    } operations[] = {
        {"set", run_set}, {"move", run_move}, {"cancel", run_cancel}, {"expire", run_expire}};

    for (uint32_t i = 0; i < ESI_COUNT_OF(counts); i++) {
        for (uint32_t k = 0; k < ESI_COUNT_OF(operations); k++) {
            char name[64];
            struct clock clock;
            snprintf(name, sizeof name, "%s, %u timers", operations[k].name, counts[i]);
            if (!micro_wants(micro, "timer", name) ||
                (micro_is_quick(micro) && counts[i] > 10000)) {
                continue;
            }
            init_clock(&clock, counts[i]);
            micro_measure(micro, "timer", name, operations[k].run, &clock);
            deinit_clock(&clock);
        }
    }
}
