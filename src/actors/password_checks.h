/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Password checks: the authenticator's questions that cost a bcrypt computation. They are computed
 * on service threads, the same question once, however many ask it at the same time. A part of the
 * authenticator: its worker's alone.
 *
 * What waits is bounded and served fairly by address (actors/fair_queue.h), and what runs leaves
 * one service thread for everything else that blocks.
 */
#pragma once

#include "actors/fair_queue.h"
#include "base/hashmap.h"

#include <stdint.h>

struct esi_actor;
struct esi_auth_check;
struct esi_context;
struct esi_credentials;
struct esi_credentials_slow;
struct esi_msg;

struct esi_password_checks {
    struct esi_actor *home;              /* borrowed: the authenticator */
    struct esi_context *context;         /* borrowed */
    struct esi_credentials *credentials; /* borrowed */
    uint32_t done_kind;                  /* home's message kind for esi_password_checks_on_done */
    struct esi_hashmap by_key;           /* question -> computation, waiting or running */
    struct esi_fair_queue queue;         /* those that wait; its places are for those that run */
};

/*
 * Nothing waits yet.
 *   home         borrowed, as are context and credentials: they outlive the checks
 *   done_kind    what home is told by when a computation has ended
 */
void esi_password_checks_init(struct esi_password_checks *checks, struct esi_actor *home,
                              struct esi_context *context, struct esi_credentials *credentials,
                              uint32_t done_kind);
/* After esi_password_checks_stop, or when nobody has asked. */
void esi_password_checks_deinit(struct esi_password_checks *checks);

/*
 * Has a check answered when its computation has ended; at once, with a refusal, when too much waits
 * already.
 *   check   taken
 *   slow    borrowed: what to compute; the secret is moved out of the check
 */
void esi_password_checks_add(struct esi_password_checks *checks, struct esi_auth_check *check,
                             const struct esi_credentials_slow *slow);
/* Home's reaction to done_kind: answers all who asked, and lets others begin. */
void esi_password_checks_on_done(struct esi_password_checks *checks, struct esi_msg *msg);
/* Refuses all who wait, also for what runs, which is not waited for. No more add or on_done. */
void esi_password_checks_stop(struct esi_password_checks *checks);

/* How many computations run, and wait. */
uint32_t esi_password_checks_running(const struct esi_password_checks *checks);
uint32_t esi_password_checks_waiting(const struct esi_password_checks *checks);
