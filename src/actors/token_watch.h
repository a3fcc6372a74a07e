/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The eye on the token file: reads it when it has changed, as a whole, and hands a new set over; a
 * file that is wrong hands nothing over, so that the set in force stays.
 *
 * A change is told by inode, size and time of modification, and then by the content. A file that
 * was written a moment ago may be half written: but for the first look, it is left until it has
 * settled. And it is read once more later: the clock of a file system may be too coarse to tell two
 * writes apart.
 *
 * Exclusion: at most one look at a time; between a look's begin and its end only the thread that
 * looks may touch the watch. The set it is given as `former` must stay alive and unchanged
 * meanwhile.
 */
#pragma once

#include "auth/token_file.h"
#include "base/crypto.h"
#include "base/err.h"
#include "env/env.h"

#include <stdbool.h>
#include <stdint.h>

enum esi_token_watch_outcome {
    TOKEN_WATCH_SAME,    /* as last time, also when it was wrong or not there */
    TOKEN_WATCH_NEW,     /* a new set */
    TOKEN_WATCH_MISSING, /* it was there, or this is the first look, and it is not there */
    TOKEN_WATCH_REFUSED  /* another fault than last time; error says which */
};

struct esi_token_watch {
    struct esi_env *env; /* borrowed */
    const char *path;    /* borrowed */
    bool has_looked;
    bool is_settling; /* look again soon */
    /* what was there last time */
    bool has_info;
    bool may_be_newer; /* the time of modification does not prove that it is the same */
    struct esi_file_info info;
    bool has_digest;
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES]; /* of the content */
    enum es_err failure;                     /* why it could not be read; ES_OK: it could */
    /* the result of a look */
    enum esi_token_watch_outcome outcome;
    struct esi_token_file *file; /* owned until it is moved out; NULL but for TOKEN_WATCH_NEW */
    struct es_error error;       /* for TOKEN_WATCH_REFUSED */
    struct esi_token_file
        *garbage; /* owned: a set that is no longer used, freed by the next look */
};

/* Nothing was seen yet. */
void esi_token_watch_init(struct esi_token_watch *watch, struct esi_env *env, const char *path);
void esi_token_watch_deinit(struct esi_token_watch *watch);
/*
 * Looks once and sets outcome, file and error.
 *   former   borrowed: the set in force; tokens that are the same keep their permissions object;
 *            NULL: none
 * Blocks: start and service threads only.
 */
void esi_token_watch_look(struct esi_token_watch *watch, const struct esi_token_file *former);
