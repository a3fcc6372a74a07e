/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Token sweep: one pass over the connections of all workers, which closes those whose token is not
 * in the set any more, or has other rules or a shorter life there. A part of the authenticator: its
 * worker's alone, but for what a pass does on each worker in turn.
 */
#pragma once

#include "base/msg.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;
struct esi_token_file;

struct esi_token_sweep {
    struct esi_actor *home;      /* borrowed: the authenticator */
    struct esi_runtime *runtime; /* borrowed */
    uint32_t done_kind;          /* home's message kind for the end of a pass */
    bool is_under_way;
    /* of the pass under way */
    const struct esi_token_file *tokens; /* borrowed */
    uint64_t closed_count;               /* written by one worker after the other */
    struct esi_visit visit;
    struct esi_msg done;
};

/* No pass is under way. home and runtime outlive the sweep. */
void esi_token_sweep_init(struct esi_token_sweep *sweep, struct esi_actor *home,
                          struct esi_runtime *runtime, uint32_t done_kind);
/*
 * Begins a pass; none is under way. Home gets a message of done_kind at its end.
 *   tokens   borrowed and unchanged until then
 */
void esi_token_sweep_start(struct esi_token_sweep *sweep, const struct esi_token_file *tokens);
/* Home's reaction to done_kind: the pass is over, and is told in the log where it has closed
 * something. */
void esi_token_sweep_on_done(struct esi_token_sweep *sweep);
