/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of bench-micro share. A part is one function that calls micro_measure for each of
 * its cases; a case is a pass over prepared data, repeated until a round has lasted long enough.
 * Every pass adds up what it found, and the sum is reported: work whose result nobody uses is work
 * that a compiler leaves out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct micro;

/* What one pass has done. */
struct micro_pass {
    uint64_t operations;
    uint64_t sum;    /* of results, whatever they are */
    uint64_t cpu_ns; /* of the operations alone, where the pass measures itself; 0: it does not */
};

/* Whether a case of this name is asked for, so that nothing is prepared in vain. */
bool micro_wants(const struct micro *micro, const char *part, const char *name);
/* --quick: seconds for all, so only small tables. */
bool micro_is_quick(const struct micro *micro);
/*
 * Measures a case, if it is asked for, and keeps its figures.
 *   part, name  copied; no quotes or backslashes
 *   run         does one pass over what argument holds and tells what it did
 */
void micro_measure(struct micro *micro, const char *part, const char *name,
                   void (*run)(void *argument, struct micro_pass *pass), void *argument);

/* CPU time of the calling thread: what others do on the machine is not in it. */
uint64_t micro_thread_cpu_ns(void);
/* The next number of a series that a state other than 0 begins; the same in each run. */
uint64_t micro_random(uint64_t *state);
/* As malloc, but ends the program when there is no memory. Owned by the caller (free). */
void *micro_alloc(size_t bytes);
/* Ends the program with a message: what was measured would be something else. */
__attribute__((noreturn)) void micro_fail(const char *what);

/* The parts. */
void micro_parser(struct micro *micro);
void micro_match(struct micro *micro);
void micro_mailbox(struct micro *micro);
void micro_format(struct micro *micro);
void micro_timer(struct micro *micro);
