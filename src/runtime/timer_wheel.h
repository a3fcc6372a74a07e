/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers of one worker: six wheels of 64 slots, one tick a millisecond; a timer moves to a finer
 * wheel as its time comes near. Setting and cancelling cost a list operation; a bitmap a wheel
 * finds the next slot in use, so a worker whose timers are far away sleeps that long. A timer never
 * fires early, and at most a tick late.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

enum { ESI_TIMER_LEVELS = 6, ESI_TIMER_SLOTS = 64 };

struct esi_timer {
    struct esi_list link;
    uint64_t deadline_tick;
    uint8_t level;
    uint8_t slot;
    bool is_set;
};

struct esi_timer_wheel {
    uint64_t now_tick; /* all timers at or before it have fired */
    uint64_t in_use[ESI_TIMER_LEVELS];
    struct esi_list slots[ESI_TIMER_LEVELS][ESI_TIMER_SLOTS];
};

void esi_timer_wheel_init(struct esi_timer_wheel *wheel, uint64_t now_ns);
/* Makes a timer usable: not set. */
void esi_timer_wheel_init_timer(struct esi_timer *timer);
/* Sets or moves the timer; the deadline is absolute, on the environment's monotonic clock. */
void esi_timer_wheel_set(struct esi_timer_wheel *wheel, struct esi_timer *timer,
                         uint64_t deadline_ns);
/* Harmless when it is not set. */
void esi_timer_wheel_cancel(struct esi_timer_wheel *wheel, struct esi_timer *timer);
/* A deadline that sets the timer to the same tick on another wheel; 0: it is not set. */
uint64_t esi_timer_wheel_deadline_ns(const struct esi_timer *timer);
/* When the wheel must be advanced next, in monotonic ns; UINT64_MAX when no timer is set. */
uint64_t esi_timer_wheel_next_ns(const struct esi_timer_wheel *wheel);
/* The next timer that is due at now_ns, no longer set; NULL when there is none. Call until NULL. */
struct esi_timer *esi_timer_wheel_expire(struct esi_timer_wheel *wheel, uint64_t now_ns);
