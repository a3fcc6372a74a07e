/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ownership and layout: moves that leave NULL behind, and the way from a part to its whole. */
#pragma once

#include <stddef.h>

/* Gives the pointer away: yields its value and leaves NULL in the variable. */
#define ESI_MOVE(pointer)                                                                          \
    ({                                                                                             \
        __typeof__(pointer) esi_moved = (pointer);                                                 \
        (pointer) = NULL;                                                                          \
        esi_moved;                                                                                 \
    })

/* The struct of the given type that holds *part as its member. */
#define ESI_CONTAINER_OF(part, type, member)                                                       \
    ((type *)(void *)((char *)(part)-offsetof(type, member)))

#define ESI_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ESI_LIKELY(x) __builtin_expect(!!(x), 1)
#define ESI_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ESI_CACHE_LINE 64
