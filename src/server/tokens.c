/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The token file's edits: read, change as text, replace as a whole, under one lock. */
#include <eventservice/auth.h>

#include "auth/token_file.h"
#include "base/bytes.h"
#include "base/crypto.h"
#include "base/str.h"
#include "config/config.h"
#include "config/value.h"
#include "env/env.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NEW_FILE_MODE = 0600, TIME_TEXT_BYTES = 32, YEAR_MAX = 2261 };

static const int64_t NS_PER_S = 1000000000;

/* One command at work. */
struct edit {
    struct esi_env *env;
    const char *path; /* borrowed */
    int lock;         /* -1: none */
    uint32_t mode;
    struct esi_bytes before;
    struct esi_bytes after;
};

ESI_PRINTF(3, 4)
static enum es_err fail(struct es_error *error, enum es_err err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return err;
}

static enum es_err fail_file(struct es_error *error, enum es_err err, const struct edit *edit,
                             const char *what)
{
    return fail(error, err, "%.400s: cannot be %s: %s", edit->path, what, es_err_text(err));
}

/* Gives the lock back, frees, and leaves no failure without a reason. */
static enum es_err end_edit(struct edit *edit, enum es_err err, struct es_error *error)
{
    if (err != ES_OK && error->text[0] == '\0') {
        fail(error, err, "%s", es_err_text(err));
    }
    if (edit->lock >= 0) {
        esi_env_file_unlock(edit->env, edit->lock);
    }
    esi_bytes_deinit(&edit->before);
    esi_bytes_deinit(&edit->after);
    return err;
}

/* Reads what is there. The caller ends the edit, also on failure. */
static enum es_err begin_edit(struct edit *edit, const struct es_config *config, bool is_change,
                              struct es_error *error)
{
    struct esi_file_info info;

    *edit =
        (struct edit){.env = esi_env_linux(), .path = config->config->auth.token_file, .lock = -1};
    esi_bytes_init(&edit->before, (size_t)ESI_TOKEN_FILE_SIZE_MAX + 1);
    esi_bytes_init(&edit->after, (size_t)ESI_TOKEN_FILE_SIZE_MAX + 1);
    error->text[0] = '\0';
    if (edit->path == NULL) {
        return fail(error, ES_UNSUPPORTED,
                    "%.400s: there is no auth.token_file in this configuration",
                    config->config->path);
    }
    if (is_change) {
        const enum es_err err = esi_env_file_lock(edit->env, edit->path, &edit->lock);
        /* Without locks of the file system the replacement is still whole. */
        if (err != ES_OK && err != ES_UNSUPPORTED) {
            return fail_file(error, err, edit, "locked");
        }
    }
    enum es_err err = esi_env_file_info(edit->env, edit->path, &info);
    if (err == ES_NOT_FOUND) {
        edit->mode = NEW_FILE_MODE;
        return ES_OK;
    }
    if (err == ES_OK) {
        edit->mode = info.mode;
        err = esi_env_file_read(edit->env, edit->path, ESI_TOKEN_FILE_SIZE_MAX, &edit->before);
    }
    return err == ES_OK ? ES_OK : fail_file(error, err, edit, "read");
}

static enum es_err commit_edit(struct edit *edit, struct es_error *error)
{
    const enum es_err err =
        esi_env_file_replace(edit->env, edit->path, edit->after.data, edit->after.len, edit->mode);

    return err == ES_OK ? ES_OK : fail_file(error, err, edit, "written");
}

/* "24h" and the like; a number alone is more likely a slip. */
static bool is_duration(const char *text, uint64_t *ns)
{
    const size_t len = strlen(text);

    return len > 0 && (text[len - 1] < '0' || text[len - 1] > '9') &&
           esi_value_read_duration(text, ns);
}

/* A duration becomes a time; the form of anything else is checked together with its line in the
 * file. */
static enum es_err fix_expiry(struct esi_env *env, const char **expires, char text[TIME_TEXT_BYTES],
                              struct es_error *error)
{
    uint64_t from_now_ns = 0;
    struct tm tm;

    if (*expires == NULL || !is_duration(*expires, &from_now_ns)) {
        return ES_OK;
    }
    const time_t then_s =
        (time_t)(esi_env_wall_ns(env) / NS_PER_S) + (time_t)(from_now_ns / (uint64_t)NS_PER_S);
    if (gmtime_r(&then_s, &tm) == NULL || tm.tm_year + 1900 > YEAR_MAX) {
        return fail(error, ES_INVALID, "expires: %.40s from now is after the year %d", *expires,
                    YEAR_MAX);
    }
    strftime(text, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
    *expires = text;
    return ES_OK;
}

/* Below, a text without content means "not given": here it was given, and means something else to
 * whoever gave it. */
static enum es_err refuse_empty(const struct es_token_request *request, struct es_error *error)
{
    const struct {
        const char *name;
        const char *value;
    } fields[] = {{"expires", request->expires},
                  {"publish", request->publish},
                  {"subscribe", request->subscribe}};

    if (request->name == NULL) {
        return fail(error, ES_INVALID, "a token needs a name");
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].value != NULL && fields[i].value[0] == '\0') {
            return fail(error, ES_INVALID, "%s is empty", fields[i].name);
        }
    }
    return ES_OK;
}

static enum es_err add(struct edit *edit, const struct es_token_request *request, char **token,
                       struct es_error *error)
{
    char secret[ESI_TOKEN_FILE_SECRET_CAPACITY] = "";
    char time_text[TIME_TEXT_BYTES];
    struct esi_token_request line = {.name = request->name,
                                     .expires = request->expires,
                                     .publish = request->publish,
                                     .subscribe = request->subscribe};

    enum es_err err = refuse_empty(request, error);
    if (err == ES_OK) {
        err = fix_expiry(edit->env, &line.expires, time_text, error);
    }
    if (err == ES_OK) {
        err = esi_token_file_add(edit->env, edit->path, esi_bytes_str(&edit->before), &line,
                                 &edit->after, secret, error);
    }
    char *copy = err == ES_OK ? esi_str_dup(esi_str_from(secret)) : NULL;
    if (err == ES_OK && copy == NULL) {
        err = ES_NO_MEMORY;
    }
    if (err == ES_OK) {
        err = commit_edit(edit, error);
    }
    if (err == ES_OK) {
        *token = copy;
    } else {
        es_token_free(copy);
    }
    esi_crypto_wipe(secret, sizeof secret);
    return err;
}

ES_API enum es_err es_token_add(const struct es_config *config,
                                const struct es_token_request *request, char **token,
                                struct es_error *error)
{
    struct es_error ignored;
    struct edit edit;

    error = error != NULL ? error : &ignored;
    enum es_err err = begin_edit(&edit, config, true, error);
    if (err == ES_OK) {
        err = add(&edit, request, token, error);
    }
    return end_edit(&edit, err, error);
}

ES_API void es_token_free(char *token)
{
    esi_crypto_free_text(token);
}

ES_API enum es_err es_token_list(const struct es_config *config, char **table,
                                 struct es_error *error)
{
    struct es_error ignored;
    struct esi_token_file *file = NULL;
    struct edit edit;

    error = error != NULL ? error : &ignored;
    enum es_err err = begin_edit(&edit, config, false, error);
    if (err == ES_OK) {
        err = esi_token_file_parse(edit.path, esi_bytes_str(&edit.before), &file, error);
    }
    if (err == ES_OK) {
        esi_token_file_list(file, esi_env_wall_ns(edit.env), &edit.after);
        esi_bytes_append(&edit.after, "", 1);
        if (edit.after.failed) {
            err = ES_NO_MEMORY;
        } else {
            *table = edit.after.data;
            esi_bytes_init(&edit.after, 0);
        }
    }
    esi_token_file_free(file);
    return end_edit(&edit, err, error);
}

ES_API enum es_err es_token_revoke(const struct es_config *config, const char *name,
                                   struct es_error *error)
{
    struct es_error ignored;
    struct edit edit;

    error = error != NULL ? error : &ignored;
    enum es_err err = begin_edit(&edit, config, true, error);
    if (err == ES_OK) {
        err =
            esi_token_file_revoke(edit.path, esi_bytes_str(&edit.before), name, &edit.after, error);
    }
    if (err == ES_OK) {
        err = commit_edit(&edit, error);
    }
    return end_edit(&edit, err, error);
}
