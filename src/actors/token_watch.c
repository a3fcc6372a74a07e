/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A look goes from cheap to dear: what the file system tells, then the content's digest, then the
 * parser. An outcome other than TOKEN_WATCH_SAME is given once for each change.
 */
#include "actors/token_watch.h"
#include "base/bytes.h"
#include "base/own.h"

#include <stdio.h>
#include <string.h>

/* Coarser than any file system's clock that matters: FAT has two seconds. */
static const int64_t CLOCK_GRAIN_NS = 2000000000;
/* Who writes a file in place needs less than this between emptying it and the last byte, but for
 * sheer bad luck. */
static const int64_t SETTLE_NS = 200000000;

void esi_token_watch_init(struct esi_token_watch *watch, struct esi_env *env, const char *path)
{
    *watch = (struct esi_token_watch){.env = env, .path = path, .outcome = TOKEN_WATCH_SAME};
}

void esi_token_watch_deinit(struct esi_token_watch *watch)
{
    esi_token_file_free(ESI_MOVE(watch->file));
    esi_token_file_free(ESI_MOVE(watch->garbage));
}

static bool is_same_info(const struct esi_file_info *a, const struct esi_file_info *b)
{
    return a->size_bytes == b->size_bytes && a->modified_ns == b->modified_ns &&
           a->inode == b->inode;
}

/* It cannot be read: told once for each reason. */
static void note_failure(struct esi_token_watch *watch, enum es_err err)
{
    const bool is_known = watch->failure == err;

    watch->failure = err;
    watch->has_info = false;
    watch->has_digest = false;
    if (is_known) {
        return;
    }
    watch->outcome = err == ES_NOT_FOUND ? TOKEN_WATCH_MISSING : TOKEN_WATCH_REFUSED;
    snprintf(watch->error.text, sizeof watch->error.text, "%.400s: cannot be read: %s", watch->path,
             es_err_text(err));
}

static void parse(struct esi_token_watch *watch, struct esi_str text,
                  const struct esi_token_file *former)
{
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES];

    esi_crypto_sha256(text.data, text.len, digest);
    if (watch->has_digest && memcmp(digest, watch->digest, sizeof digest) == 0) {
        return;
    }
    const enum es_err err = esi_token_file_parse(watch->path, text, &watch->file, &watch->error);
    if (err == ES_OK) {
        esi_token_file_adopt(watch->file, former);
    }
    /* A lack of memory may pass: that content is looked at again. */
    watch->has_digest = err != ES_NO_MEMORY;
    memcpy(watch->digest, digest, sizeof digest);
    watch->outcome = err == ES_OK ? TOKEN_WATCH_NEW : TOKEN_WATCH_REFUSED;
}

/* Reads a file that has settled; *is_stable: it did not change meanwhile. */
static enum es_err read_file(struct esi_token_watch *watch, const struct esi_file_info *info,
                             struct esi_bytes *text, bool *is_stable)
{
    struct esi_file_info after;
    enum es_err err = esi_env_file_read(watch->env, watch->path, ESI_TOKEN_FILE_SIZE_MAX, text);

    if (err == ES_OK) {
        err = esi_env_file_info(watch->env, watch->path, &after);
    }
    if (err == ES_OK) {
        *is_stable = is_same_info(info, &after);
    }
    return err;
}

void esi_token_watch_look(struct esi_token_watch *watch, const struct esi_token_file *former)
{
    const bool is_first = !watch->has_looked;
    struct esi_file_info info;
    struct esi_bytes text;
    bool is_stable = true;

    esi_token_file_free(ESI_MOVE(watch->garbage));
    esi_token_file_free(ESI_MOVE(watch->file));
    watch->has_looked = true;
    watch->is_settling = false;
    watch->outcome = TOKEN_WATCH_SAME;
    enum es_err err = esi_env_file_info(watch->env, watch->path, &info);
    if (err == ES_OK && watch->has_info && !watch->may_be_newer &&
        is_same_info(&info, &watch->info)) {
        return;
    }
    const int64_t age_ns = err == ES_OK ? esi_env_wall_ns(watch->env) - info.modified_ns : 0;
    if (err == ES_OK && !is_first && age_ns >= 0 && age_ns < SETTLE_NS) {
        watch->is_settling = true;
        return;
    }
    esi_bytes_init(&text, (size_t)ESI_TOKEN_FILE_SIZE_MAX + 1);
    if (err == ES_OK) {
        err = read_file(watch, &info, &text, &is_stable);
    }
    if (err != ES_OK) {
        note_failure(watch, err);
    } else if (!is_stable && !is_first) {
        watch->is_settling = true;
    } else {
        watch->failure = ES_OK;
        watch->info = info;
        watch->has_info = true;
        watch->may_be_newer = !is_stable || (age_ns > -CLOCK_GRAIN_NS && age_ns < CLOCK_GRAIN_NS);
        parse(watch, esi_bytes_str(&text), former);
    }
    esi_bytes_deinit(&text);
}
