/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The level of a timer is given by the highest bit in which its tick differs from the wheel's: all
 * timers of a slot of level n share the bits above 6(n+1), so a slot is reached exactly when the
 * wheel's tick enters it, and its timers are then dealt out to the levels below.
 */
#include "runtime/timer_wheel.h"
#include "base/assert.h"
#include "base/own.h"

#include <stddef.h>

enum { SLOT_BITS = 6 };
static const uint64_t TICK_NS = 1000000;

void esi_timer_wheel_init(struct esi_timer_wheel *wheel, uint64_t now_ns)
{
    wheel->now_tick = now_ns / TICK_NS;
    for (int level = 0; level < ESI_TIMER_LEVELS; level++) {
        wheel->in_use[level] = 0;
        for (int slot = 0; slot < ESI_TIMER_SLOTS; slot++) {
            esi_list_init(&wheel->slots[level][slot]);
        }
    }
}

void esi_timer_wheel_init_timer(struct esi_timer *timer)
{
    esi_list_init(&timer->link);
    timer->is_set = false;
}

static void insert(struct esi_timer_wheel *wheel, struct esi_timer *timer)
{
    const uint64_t differing = (timer->deadline_tick ^ wheel->now_tick) | (ESI_TIMER_SLOTS - 1);
    const unsigned highest = 63U - (unsigned)__builtin_clzll(differing);
    unsigned level = highest / SLOT_BITS;
    uint64_t tick = timer->deadline_tick;

    if (level >= ESI_TIMER_LEVELS) {
        /* Beyond the last wheel's present round, which takes over two years: when a whole round or
         * more away it waits in the slot that comes last, and is dealt out again when that comes.
         * Never in the current one: it would be dealt out at once, for ever. */
        level = ESI_TIMER_LEVELS - 1;
        const uint64_t last_tick =
            wheel->now_tick + ((uint64_t)(ESI_TIMER_SLOTS - 1) << (level * SLOT_BITS));
        tick = tick < last_tick ? tick : last_tick;
    }
    const unsigned slot = (unsigned)(tick >> (level * SLOT_BITS)) & (ESI_TIMER_SLOTS - 1);
    timer->level = (uint8_t)level;
    timer->slot = (uint8_t)slot;
    esi_list_append(&wheel->slots[level][slot], &timer->link);
    wheel->in_use[level] |= 1ULL << slot;
}

void esi_timer_wheel_cancel(struct esi_timer_wheel *wheel, struct esi_timer *timer)
{
    if (!timer->is_set) {
        return;
    }
    esi_list_remove(&timer->link);
    timer->is_set = false;
    if (esi_list_is_empty(&wheel->slots[timer->level][timer->slot])) {
        wheel->in_use[timer->level] &= ~(1ULL << timer->slot);
    }
}

void esi_timer_wheel_set(struct esi_timer_wheel *wheel, struct esi_timer *timer,
                         uint64_t deadline_ns)
{
    esi_timer_wheel_cancel(wheel, timer);
    /* Rounded up, and at least one tick ahead: never early, and the current slot is never added
     * to. */
    const uint64_t tick = deadline_ns / TICK_NS + 1;
    timer->deadline_tick = tick > wheel->now_tick ? tick : wheel->now_tick + 1;
    timer->is_set = true;
    insert(wheel, timer);
}

uint64_t esi_timer_wheel_deadline_ns(const struct esi_timer *timer)
{
    /* One nanosecond into the tick before: esi_timer_wheel_set rounds up, and 0 means that it is
     * not set. */
    return timer->is_set ? (timer->deadline_tick - 1) * TICK_NS + 1 : 0;
}

/* The tick at which the first slot in use is entered; UINT64_MAX when none is. *level and *slot
 * tell which. */
static uint64_t find_next(const struct esi_timer_wheel *wheel, unsigned *level, unsigned *slot)
{
    for (unsigned i = 0; i < ESI_TIMER_LEVELS; i++) {
        if (wheel->in_use[i] == 0) {
            continue;
        }
        const unsigned shift = i * SLOT_BITS;
        const unsigned current = (unsigned)(wheel->now_tick >> shift) & (ESI_TIMER_SLOTS - 1);
        /* Rotated so that bit 0 is the current slot. */
        const uint64_t rotated =
            current == 0
                ? wheel->in_use[i]
                : (wheel->in_use[i] >> current) | (wheel->in_use[i] << (ESI_TIMER_SLOTS - current));
        const unsigned distance = (unsigned)__builtin_ctzll(rotated);
        *level = i;
        *slot = (current + distance) & (ESI_TIMER_SLOTS - 1);
        const uint64_t base = wheel->now_tick >> shift;
        return (base + distance) << shift;
    }
    return UINT64_MAX;
}

uint64_t esi_timer_wheel_next_ns(const struct esi_timer_wheel *wheel)
{
    unsigned level = 0;
    unsigned slot = 0;
    const uint64_t tick = find_next(wheel, &level, &slot);

    return tick == UINT64_MAX ? UINT64_MAX : tick * TICK_NS;
}

/*
 * The wheel has entered this slot: all of its timers go to the levels below, before anything is
 * looked for there. (Were they dealt out one by one, the first that is not yet due would hide the
 * others.)
 */
static void deal_out(struct esi_timer_wheel *wheel, unsigned level, unsigned slot)
{
    struct esi_list *list = &wheel->slots[level][slot];

    while (!esi_list_is_empty(list)) {
        struct esi_timer *timer = ESI_CONTAINER_OF(list->next, struct esi_timer, link);
        esi_list_remove(&timer->link);
        insert(wheel, timer);
    }
    wheel->in_use[level] &= ~(1ULL << slot);
}

struct esi_timer *esi_timer_wheel_expire(struct esi_timer_wheel *wheel, uint64_t now_ns)
{
    const uint64_t target_tick = now_ns / TICK_NS;

    for (;;) {
        unsigned level = 0;
        unsigned slot = 0;
        const uint64_t tick = find_next(wheel, &level, &slot);
        if (tick > target_tick) {
            if (target_tick > wheel->now_tick) {
                wheel->now_tick = target_tick;
            }
            return NULL;
        }
        if (tick > wheel->now_tick) {
            wheel->now_tick = tick;
        }
        if (level > 0) {
            deal_out(wheel, level, slot);
            continue;
        }
        struct esi_timer *timer =
            ESI_CONTAINER_OF(wheel->slots[0][slot].next, struct esi_timer, link);
        ESI_DEBUG_ASSERT(timer->deadline_tick == wheel->now_tick);
        esi_timer_wheel_cancel(wheel, timer);
        return timer;
    }
}
