/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Token reload: the tokens in force. Looks at the token file once a second, on a service thread;
 * a new set takes the place of the former one, and connections that came in by a token that is gone
 * or has other rules are closed. A file that is missing or wrong changes nothing. A part of the
 * authenticator: its worker's alone.
 *
 * Invariant: the set does not change while a sweep compares with it.
 */
#pragma once

#include "actors/token_sweep.h"
#include "actors/token_watch.h"
#include "base/err.h"
#include "base/msg.h"
#include "runtime/actor.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_context;

struct esi_token_reload {
    struct esi_actor *home;        /* borrowed: the authenticator */
    struct esi_context *context;   /* borrowed */
    struct esi_token_file *tokens; /* owned: the set in force; NULL: none */
    struct esi_actor_timer timer;  /* for the next look */
    /* the look under way */
    struct esi_token_watch watch;
    struct esi_job job;
    struct esi_msg looked;
    bool is_looking;
    /* sweeps over the connections */
    struct esi_token_sweep sweep;
    uint32_t sweeps_left;
    bool wants_look; /* when the sweep is over */
};

/* Home's message kinds. */
struct esi_token_reload_kinds {
    uint32_t looked; /* for esi_token_reload_on_looked */
    uint32_t swept;  /* for esi_token_reload_on_swept */
};

/* No set, no file. home and context outlive the reload. */
void esi_token_reload_init(struct esi_token_reload *reload, struct esi_actor *home,
                           struct esi_context *context, struct esi_token_reload_kinds kinds);
/* Nothing is under way: home has nobody left who holds it. */
void esi_token_reload_deinit(struct esi_token_reload *reload);

/*
 * The first look, where auth.token_file is set. A file that is not there is no error.
 *   error   filled on failure
 * Errors: ES_INVALID (the file is wrong or cannot be read), ES_NO_MEMORY. Thread: the one that
 * starts the server; reads the file.
 */
ES_MUST_USE enum es_err esi_token_reload_load(struct esi_token_reload *reload,
                                              struct es_error *error);
/* Home has started: looks again and again from here on, where there is a file. */
void esi_token_reload_start(struct esi_token_reload *reload);
/* Home's reactions to its messages and to its timer. */
void esi_token_reload_on_looked(struct esi_token_reload *reload);
void esi_token_reload_on_swept(struct esi_token_reload *reload);
void esi_token_reload_on_timer(struct esi_token_reload *reload);
/* No new look and no new sweep begins. Home may finish when no sweep is under way. */
void esi_token_reload_stop(struct esi_token_reload *reload);
/* A sweep is under way: the workers still look at the set. */
bool esi_token_reload_is_sweeping(const struct esi_token_reload *reload);
/* The set in force, borrowed until home's next reaction; NULL: none. */
const struct esi_token_file *esi_token_reload_tokens(const struct esi_token_reload *reload);
