/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The question that a connection puts to the authenticator: "who is this, and what may it do?" It
 * is a message: it goes to the authenticator (actors/authenticator.h), and comes back to the asker
 * with the verdict filled in.
 *
 * Invariant: whoever holds a check owns it. It is answered once, or freed by its msg.free, as any
 * message is.
 */
#pragma once

#include "actors/origin.h"
#include "auth/verdict.h"
#include "base/msg.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_actor;

/* Which secrets count: those of clients, or the one of gateway.user. */
enum esi_auth_door { AUTH_DOOR_CLIENT, AUTH_DOOR_GATEWAY };

/* What a peer has shown; empty: not given. */
struct esi_auth_shown {
    struct esi_str user;
    struct esi_str pass;
    struct esi_str token;
    bool has_other; /* an nkey or jwt was given, which counts for nothing but is not nothing */
};

struct esi_auth_check {
    struct esi_msg msg;       /* first */
    struct esi_actor *asker;  /* a reference */
    uint32_t answer_kind;     /* the asker's message kind for the answer */
    uint64_t cid;             /* for the log */
    enum esi_auth_door door;  /* set by the asker, else that of clients */
    struct esi_origin origin; /* where from; set by the asker, else the unknown one */
    struct esi_str user;      /* owned copies (may hold any byte); wiped before they are freed */
    struct esi_str pass;
    struct esi_str token;
    bool has_credentials;       /* the peer has shown something */
    struct esi_verdict verdict; /* the answer; a refusal until somebody fills it in */
};

/*
 * Makes a check.
 *   asker        gets the answer; the check holds a reference to it
 *   answer_kind  the asker's message kind for the answer
 *   cid          of the connection, for the log
 *   shown        borrowed for the call: copied
 * Returns NULL when memory is exhausted. Thread: a worker.
 */
struct esi_auth_check *esi_auth_check_new(struct esi_actor *asker, uint32_t answer_kind,
                                          uint64_t cid, const struct esi_auth_shown *shown);
/* Sends the check (taken) back to its asker with the verdict as it is. Thread: any. */
void esi_auth_check_answer(struct esi_auth_check *check);
