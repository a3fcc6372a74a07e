/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token file of the event-gateways, which changes under way: a token gets a new secret, and the
 * old one is revoked.
 *
 * Checked: who shows a secret that is in the file for long enough is let in; who shows one that was
 * revoked long enough ago is not; a connection whose secret is revoked ends in time.
 */
#pragma once

#include "sim_world.h"

#include "base/str.h"

enum { SIM_TOKENS = 3, SIM_SECRET_BYTES = 32 };

/* A secret that a client shows. */
struct sim_secret {
    uint32_t token;
    uint32_t version; /* of the token, from 1; 0: none */
};

/* Makes the set and its file. */
struct sim_tokens *sim_tokens_new(struct sim_world *world);
void sim_tokens_free(struct sim_tokens *tokens);
/* Where the file is, for configurations. */
const char *sim_tokens_path(void);
/* One token gets a new secret. */
void sim_tokens_change(struct sim_tokens *tokens);

/* A token's newest secret, mostly, or the one before. */
struct sim_secret sim_tokens_draw(struct sim_tokens *tokens);
/* Its text. */
void sim_tokens_text(struct sim_secret secret, char text[SIM_SECRET_BYTES]);
/* A server has let its bearer in, or is serving him still. */
void sim_tokens_check_served(const struct sim_tokens *tokens, struct sim_secret secret,
                             uint64_t disturbed_ns);
/* A server has refused its bearer, or sent him away (is_revoked). */
void sim_tokens_check_refused(const struct sim_tokens *tokens, struct sim_secret secret);
