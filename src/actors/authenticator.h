/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Authenticator: says who a peer is and what it may do, asynchronously, bounded in number and time:
 * the one gate for all that show a secret, clients and gateways. Users and token of the
 * configuration, and the token file, which is read again when it changes; connections of a revoked
 * token are closed.
 */
#pragma once

#include "actors/origin.h"
#include "auth/verdict.h"
#include "base/err.h"
#include "base/msg.h"

#include <stdint.h>

struct esi_actor;
struct esi_authenticator;
struct esi_context;

/* Which secrets count: those of clients, or the one of gateway.user. */
enum esi_auth_door { AUTH_DOOR_CLIENT, AUTH_DOOR_GATEWAY };

/* A question; it comes back to the asker with the verdict filled in. Owned by whoever has the
 * message. */
struct esi_auth_check {
    struct esi_msg msg;       /* first */
    struct esi_actor *asker;  /* a reference, given up by esi_authenticator_check_free */
    uint32_t answer_kind;     /* the asker's message kind for the answer */
    uint64_t cid;             /* for the log */
    enum esi_auth_door door;  /* set by the asker, else that of clients */
    struct esi_origin origin; /* where from; set by the asker, else the unknown one */
    struct esi_str user;      /* owned copies (may hold any byte); wiped before they are freed */
    struct esi_str pass;
    struct esi_str token;
    bool has_credentials;       /* any of them, or an nkey or jwt, was given */
    struct esi_verdict verdict; /* the answer */
};

/* A question with copies of the credentials; NULL when memory is exhausted. Takes a reference to
 * the asker. */
struct esi_auth_check *esi_authenticator_check_new(struct esi_actor *asker, uint32_t answer_kind,
                                                   uint64_t cid, struct esi_str user,
                                                   struct esi_str pass, struct esi_str token);
/* Frees a question or an answer; also its msg.free. */
void esi_authenticator_check_free(struct esi_auth_check *check);

/*
 * Makes and starts the authenticator of a server (call before the doors open). Fails with a text
 * when the configured token file is there but wrong.
 */
ES_MUST_USE enum es_err esi_authenticator_new(struct esi_context *context,
                                              struct esi_authenticator **out,
                                              struct es_error *error);
/*
 * Asks; the check is taken, and answered once: refused where the authenticator has stopped
 * meanwhile. Not after the stop has come to the services (STOP_SERVICES): whoever asks belongs to
 * an earlier phase. Thread: a worker.
 */
void esi_authenticator_check(struct esi_authenticator *authenticator, struct esi_auth_check *check);
