/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A parsed set keeps one copy of the text; names and lists point into it. Adding and revoking edit
 * the text, not the set, so that comments and order of the file survive.
 */
#include "auth/token_file.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "base/timestamp.h"
#include "proto/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 6, LIST_MAX = 1000, SECRET_BYTES = 24 };

static const int64_t NS_PER_S = 1000000000;
static const int64_t SECONDS_MAX = 9214646399; /* 2261-12-31T23:59:59Z */

/* A token and what `list` shows of it. */
struct stored {
    struct esi_token token; /* first: the public part */
    struct esi_str publish; /* texts as in the file; empty: the default */
    struct esi_str subscribe;
};

struct esi_token_file {
    char *text;            /* owned; names and lists point into it */
    struct stored *tokens; /* owned; in the order of the file */
    size_t count;
    struct esi_hashmap by_hash;         /* token.hash -> struct stored */
    struct esi_permissions *by_default; /* owned reference; made when first needed */
};

static const struct esi_str default_publish[] = {{.data = "event.>", .len = 7},
                                                 {.data = "habitat.event.*", .len = 15},
                                                 {.data = "_INBOX.>", .len = 8}};
static const struct esi_str default_subscribe[] = {{.data = "_INBOX.>", .len = 8}};

/* What is wrong with a line; the caller adds where. */
struct fault {
    char text[256];
};

__attribute__((format(printf, 3, 4))) static enum es_err
set_fault(struct fault *fault, enum es_err err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    return err;
}

static void set_error(struct es_error *error, const char *path, size_t line, const char *text)
{
    if (error != NULL) {
        snprintf(error->text, sizeof error->text, "%s:%zu: %s", path, line, text);
    }
}

static bool is_name(struct esi_str name)
{
    if (name.len == 0 || name.len > ESI_TOKEN_FILE_NAME_MAX || name.data[0] == '.' ||
        name.data[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        const char c = name.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return true;
}

/*
 * RFC 3339 to wall-clock nanoseconds; false also before 1970 and after 2261. A time that
 * would read as "never" (0) is one later. Fractions of a second are dropped: a token ends at most a
 * second early.
 */
static bool read_time(struct esi_str text, int64_t *wall_ns)
{
    int64_t seconds;
    uint32_t nanos;

    if (!esi_timestamp_read(text, &seconds, &nanos) || seconds < 0 || seconds > SECONDS_MAX) {
        return false;
    }
    *wall_ns = seconds > 0 ? seconds * NS_PER_S : 1;
    return true;
}

/* Splits at commas; every item is a subject, checked where the permissions are made. */
static enum es_err split_list(struct esi_str text, struct esi_str *items, size_t *count,
                              struct fault *fault)
{
    const char *at = text.data;
    const char *const end = text.data + text.len;

    *count = 0;
    for (;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        if (stop == at) {
            return set_fault(fault, ES_INVALID, "a list of subjects has an empty item");
        }
        if (*count == LIST_MAX) {
            return set_fault(fault, ES_TOO_LARGE, "more than %d subjects in one list", LIST_MAX);
        }
        items[(*count)++] = (struct esi_str){.data = at, .len = (size_t)(stop - at)};
        if (comma == NULL) {
            return ES_OK;
        }
        at = comma + 1;
    }
}

static enum es_err make_permissions(struct esi_str publish, struct esi_str subscribe,
                                    struct esi_permissions **permissions, struct fault *fault)
{
    struct esi_permissions_spec spec = {
        .publish_allow = {default_publish, ESI_COUNT_OF(default_publish), true},
        .subscribe_allow = {default_subscribe, ESI_COUNT_OF(default_subscribe), true},
    };
    struct es_error error = {{0}};
    struct esi_str *items = calloc((size_t)2 * LIST_MAX, sizeof *items);
    size_t count = 0;
    enum es_err err = ES_OK;

    if (items == NULL) {
        return set_fault(fault, ES_NO_MEMORY, "memory is exhausted");
    }
    if (publish.len > 0) {
        err = split_list(publish, items, &count, fault);
        spec.publish_allow = (struct esi_permissions_list){items, count, true};
    }
    if (err == ES_OK && subscribe.len > 0) {
        err = split_list(subscribe, items + LIST_MAX, &count, fault);
        spec.subscribe_allow = (struct esi_permissions_list){items + LIST_MAX, count, true};
    }
    if (err == ES_OK) {
        err = esi_permissions_new(&spec, permissions, &error);
        if (err != ES_OK) {
            set_fault(fault, err, "%.200s", error.text[0] != '\0' ? error.text : es_err_text(err));
        }
    }
    free(items);
    return err;
}

/* One option "key=value" into its place; each at most once and never empty. */
static enum es_err take_option(struct esi_str field, struct stored *stored, struct fault *fault)
{
    static const struct esi_str keys[] = {{.data = "expires=", .len = 8},
                                          {.data = "publish=", .len = 8},
                                          {.data = "subscribe=", .len = 10}};
    struct esi_str *const places[] = {NULL, &stored->publish, &stored->subscribe};

    for (size_t i = 0; i < ESI_COUNT_OF(keys); i++) {
        if (!esi_str_starts_with(field, keys[i])) {
            continue;
        }
        const struct esi_str value = {.data = field.data + keys[i].len,
                                      .len = field.len - keys[i].len};
        const bool is_set =
            places[i] != NULL ? places[i]->len > 0 : stored->token.expires_wall_ns != 0;
        if (is_set) {
            return set_fault(fault, ES_INVALID, "%.*s is given twice", (int)keys[i].len - 1,
                             keys[i].data);
        }
        if (value.len == 0) {
            return set_fault(fault, ES_INVALID, "%.*s has no value", (int)keys[i].len - 1,
                             keys[i].data);
        }
        if (places[i] != NULL) {
            *places[i] = value;
            return ES_OK;
        }
        return read_time(value, &stored->token.expires_wall_ns)
                   ? ES_OK
                   : set_fault(fault, ES_INVALID,
                               "expires is not a time like 2027-01-31T12:00:00Z (RFC 3339, 1970 to "
                               "2261)");
    }
    return set_fault(fault, ES_INVALID,
                     "unknown option; allowed are expires=, publish= and subscribe=");
}

/* Splits at blanks and tabs; false when there are more fields than room. */
static bool split_line(struct esi_str line, struct esi_str fields[FIELDS_MAX], size_t *count)
{
    size_t at = 0;

    *count = 0;
    while (at < line.len) {
        const size_t start = at;
        while (at < line.len && line.data[at] != ' ' && line.data[at] != '\t') {
            at++;
        }
        if (at > start) {
            if (*count == FIELDS_MAX) {
                return false;
            }
            fields[(*count)++] = (struct esi_str){.data = line.data + start, .len = at - start};
        }
        at++;
    }
    return true;
}

/* Parses a line with a token. On success *stored holds a reference to its permissions. */
static enum es_err parse_line(struct esi_str line, struct stored *stored, struct fault *fault)
{
    struct esi_str fields[FIELDS_MAX];
    struct stored parsed = {0};
    size_t count = 0;
    size_t hash_len = 0;

    if (!split_line(line, fields, &count) || count < 2) {
        return set_fault(
            fault, ES_INVALID,
            "expected: NAME SHA256HEX [expires=TIME] [publish=SUBJECTS] [subscribe=SUBJECTS]");
    }
    if (!is_name(fields[0])) {
        return set_fault(
            fault, ES_INVALID,
            "a name has 1 to %d letters, digits, '.', '_' and '-', the first none of '.' and '-'",
            ESI_TOKEN_FILE_NAME_MAX);
    }
    if (fields[1].len != (size_t)2 * ESI_CRYPTO_SHA256_BYTES ||
        esi_crypto_hex_decode(fields[1], parsed.token.hash, sizeof parsed.token.hash, &hash_len) !=
            ES_OK ||
        hash_len != sizeof parsed.token.hash) {
        return set_fault(fault, ES_INVALID,
                         "the second field is not a SHA-256 of 64 hexadecimal digits");
    }
    parsed.token.name = fields[0];
    for (size_t i = 2; i < count; i++) {
        const enum es_err err = take_option(fields[i], &parsed, fault);
        if (err != ES_OK) {
            return err;
        }
    }
    if (parsed.publish.len > 0 || parsed.subscribe.len > 0) {
        const enum es_err err =
            make_permissions(parsed.publish, parsed.subscribe, &parsed.token.permissions, fault);
        if (err != ES_OK) {
            return err;
        }
    }
    *stored = parsed;
    return ES_OK;
}

/* Takes the next line, without its LF and CR, off *rest; false at the end. */
static bool next_line(struct esi_str *rest, struct esi_str *line)
{
    if (rest->len == 0) {
        return false;
    }
    const char *lf = memchr(rest->data, '\n', rest->len);
    line->data = rest->data;
    line->len = lf != NULL ? (size_t)(lf - rest->data) : rest->len;
    const size_t used = lf != NULL ? line->len + 1 : line->len;
    rest->data += used;
    rest->len -= used;
    if (line->len > 0 && line->data[line->len - 1] == '\r') {
        line->len--;
    }
    return true;
}

/* True for lines that hold no token. */
static bool is_empty_line(struct esi_str line)
{
    size_t i = 0;

    while (i < line.len && (line.data[i] == ' ' || line.data[i] == '\t')) {
        i++;
    }
    return i == line.len || line.data[i] == '#';
}

static size_t count_token_lines(struct esi_str text)
{
    struct esi_str line;
    size_t count = 0;

    while (next_line(&text, &line)) {
        count += !is_empty_line(line);
    }
    return count;
}

/* Adds one line's token; names is a map of those seen. */
static enum es_err add_token(struct esi_token_file *file, struct esi_hashmap *names,
                             struct esi_str line, struct fault *fault)
{
    struct stored *stored = &file->tokens[file->count];
    const enum es_err err = parse_line(line, stored, fault);

    if (err != ES_OK) {
        return err;
    }
    /* From here on the set owns the permissions, whatever comes. */
    file->count++;
    const struct esi_str hash = {.data = (const char *)stored->token.hash,
                                 .len = sizeof stored->token.hash};
    if (esi_hashmap_find(names, stored->token.name) != NULL) {
        return set_fault(fault, ES_INVALID, "the name %.*s stands twice",
                         ESI_STR_ARG(stored->token.name));
    }
    if (esi_hashmap_find(&file->by_hash, hash) != NULL) {
        return set_fault(fault, ES_INVALID, "the hash of %.*s stands twice",
                         ESI_STR_ARG(stored->token.name));
    }
    if (esi_hashmap_insert(names, stored->token.name, stored) != ES_OK ||
        esi_hashmap_insert(&file->by_hash, hash, stored) != ES_OK) {
        return set_fault(fault, ES_NO_MEMORY, "memory is exhausted");
    }
    if (stored->token.permissions == NULL) {
        if (file->by_default == NULL) {
            const struct esi_str none = {0};
            const enum es_err made = make_permissions(none, none, &file->by_default, fault);
            if (made != ES_OK) {
                return made;
            }
        }
        stored->token.permissions = esi_permissions_ref(file->by_default);
    }
    return ES_OK;
}

static enum es_err add_tokens(struct esi_token_file *file, struct esi_str text, size_t *line_number,
                              struct fault *fault)
{
    struct esi_hashmap names;
    struct esi_str line;
    enum es_err err = ES_OK;

    esi_hashmap_init(&names);
    *line_number = 0;
    while (err == ES_OK && next_line(&text, &line)) {
        (*line_number)++;
        if (!is_empty_line(line)) {
            err = add_token(file, &names, line, fault);
        }
    }
    esi_hashmap_deinit(&names);
    return err;
}

enum es_err esi_token_file_parse(const char *path, struct esi_str text,
                                 struct esi_token_file **file, struct es_error *error)
{
    struct fault fault = {{0}};
    size_t line_number = 1;
    const size_t count = count_token_lines(text);
    struct esi_token_file *made = NULL;
    enum es_err err = ES_OK;

    if (text.len > ESI_TOKEN_FILE_SIZE_MAX || count > ESI_TOKEN_FILE_TOKENS_MAX) {
        err = set_fault(&fault, ES_TOO_LARGE, "more than %d tokens or %d bytes",
                        ESI_TOKEN_FILE_TOKENS_MAX, ESI_TOKEN_FILE_SIZE_MAX);
        goto fail;
    }
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        err = set_fault(&fault, ES_NO_MEMORY, "memory is exhausted");
        goto fail;
    }
    made->text = esi_str_dup(text);
    made->tokens = calloc(count + 1, sizeof *made->tokens);
    if (made->text == NULL || made->tokens == NULL) {
        err = set_fault(&fault, ES_NO_MEMORY, "memory is exhausted");
        goto fail;
    }
    esi_hashmap_init(&made->by_hash);
    const struct esi_str copy = {.data = made->text, .len = text.len};
    err = add_tokens(made, copy, &line_number, &fault);
    if (err != ES_OK) {
        goto fail;
    }
    *file = made;
    return ES_OK;

fail:
    set_error(error, path, line_number, fault.text);
    esi_token_file_free(made);
    return err;
}

void esi_token_file_free(struct esi_token_file *file)
{
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < file->count; i++) {
        esi_permissions_unref(file->tokens[i].token.permissions);
    }
    esi_permissions_unref(file->by_default);
    esi_hashmap_deinit(&file->by_hash);
    free(file->tokens);
    free(file->text);
    free(file);
}

size_t esi_token_file_count(const struct esi_token_file *file)
{
    return file->count;
}

const struct esi_token *esi_token_file_at(const struct esi_token_file *file, size_t index)
{
    ESI_REQUIRE(index < file->count);
    return &file->tokens[index].token;
}

const struct esi_token *esi_token_file_find(const struct esi_token_file *file,
                                            const uint8_t hash[ESI_CRYPTO_SHA256_BYTES])
{
    const struct esi_str key = {.data = (const char *)hash, .len = ESI_CRYPTO_SHA256_BYTES};
    const struct stored *stored = esi_hashmap_find(&file->by_hash, key);

    if (stored == NULL) {
        return NULL;
    }
    /* The map compares hashes of hashes first, so its timing tells nothing of a stored one; this
     * makes it certain. */
    const struct esi_str found = {.data = (const char *)stored->token.hash,
                                  .len = sizeof stored->token.hash};
    return esi_crypto_equal(found, key) ? &stored->token : NULL;
}

void esi_token_file_adopt(struct esi_token_file *file, const struct esi_token_file *former)
{
    if (former == NULL) {
        return;
    }
    for (size_t i = 0; i < file->count; i++) {
        struct stored *stored = &file->tokens[i];
        const struct esi_str key = {.data = (const char *)stored->token.hash,
                                    .len = sizeof stored->token.hash};
        const struct stored *before = esi_hashmap_find(&former->by_hash, key);
        if (before != NULL && esi_str_equal(stored->publish, before->publish) &&
            esi_str_equal(stored->subscribe, before->subscribe)) {
            esi_permissions_unref(stored->token.permissions);
            stored->token.permissions = esi_permissions_ref(before->token.permissions);
        }
    }
}

enum es_err esi_token_file_check(const struct esi_token_file *file, struct esi_str secret,
                                 int64_t wall_ns, struct esi_verdict *verdict)
{
    uint8_t hash[ESI_CRYPTO_SHA256_BYTES];

    esi_crypto_sha256(secret.data, secret.len, hash);
    const struct esi_token *token = secret.len > 0 ? esi_token_file_find(file, hash) : NULL;
    if (token == NULL || (token->expires_wall_ns != 0 && wall_ns >= token->expires_wall_ns)) {
        return ES_DENIED;
    }
    const enum es_err err =
        esi_verdict_accept(verdict, token->name, token->permissions, token->expires_wall_ns);
    if (err == ES_OK) {
        esi_verdict_set_token_hash(verdict, hash);
    }
    return err;
}

/* Appends " key=value" unless the value is absent. A blank or control byte in it would begin
 * another field or line. */
static enum es_err append_option(struct esi_bytes *line, const char *key, const char *value,
                                 struct fault *fault)
{
    if (value == NULL || value[0] == '\0') {
        return ES_OK;
    }
    for (const char *at = value; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || *at == 0x7f) {
            return set_fault(fault, ES_INVALID, "%s holds a blank or a control character", key);
        }
    }
    esi_bytes_append_text(line, " ");
    esi_bytes_append_text(line, key);
    esi_bytes_append_text(line, "=");
    esi_bytes_append_text(line, value);
    return ES_OK;
}

/* The line of a new token, checked by parsing it as it would be read back. */
static enum es_err write_line(struct esi_bytes *line, const struct esi_token_request *request,
                              const char *hash_hex, struct fault *fault)
{
    struct stored stored = {0};
    enum es_err err = ES_OK;

    if (!is_name(esi_str_from(request->name))) {
        return set_fault(
            fault, ES_INVALID,
            "a name has 1 to %d letters, digits, '.', '_' and '-', the first none of '.' and '-'",
            ESI_TOKEN_FILE_NAME_MAX);
    }
    esi_bytes_append_text(line, request->name);
    esi_bytes_append_text(line, " ");
    esi_bytes_append_text(line, hash_hex);
    err = append_option(line, "expires", request->expires, fault);
    if (err == ES_OK) {
        err = append_option(line, "publish", request->publish, fault);
    }
    if (err == ES_OK) {
        err = append_option(line, "subscribe", request->subscribe, fault);
    }
    if (err == ES_OK && line->failed) {
        err = set_fault(fault, ES_NO_MEMORY, "memory is exhausted");
    }
    if (err == ES_OK) {
        err = parse_line(esi_bytes_str(line), &stored, fault);
    }
    esi_permissions_unref(stored.token.permissions);
    return err;
}

static bool has_name(const struct esi_token_file *file, struct esi_str name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (esi_str_equal(file->tokens[i].token.name, name)) {
            return true;
        }
    }
    return false;
}

/* A fresh secret and its hash in hexadecimal digits. */
static void make_secret(struct esi_env *env, char secret[ESI_TOKEN_FILE_SECRET_CAPACITY],
                        char hash_hex[ESI_CRYPTO_SHA256_HEX_BYTES])
{
    uint8_t random[SECRET_BYTES];

    _Static_assert(ESI_CRYPTO_BASE64_CAPACITY(SECRET_BYTES) <= ESI_TOKEN_FILE_SECRET_CAPACITY,
                   "room");
    esi_env_random(env, random, sizeof random);
    const enum es_err err =
        esi_crypto_base64url_encode(random, sizeof random, secret, ESI_TOKEN_FILE_SECRET_CAPACITY);
    ESI_ASSERT(err == ES_OK);
    esi_crypto_wipe(random, sizeof random);
    esi_crypto_sha256_hex(secret, strlen(secret), hash_hex);
}

enum es_err esi_token_file_add(struct esi_env *env, const char *path, struct esi_str text,
                               const struct esi_token_request *request, struct esi_bytes *out,
                               char secret[ESI_TOKEN_FILE_SECRET_CAPACITY], struct es_error *error)
{
    char made[ESI_TOKEN_FILE_SECRET_CAPACITY];
    char hash_hex[ESI_CRYPTO_SHA256_HEX_BYTES];
    struct esi_token_file *file = NULL;
    struct fault fault = {{0}};
    struct esi_bytes line;

    ESI_REQUIRE(out->len == 0);
    enum es_err err = esi_token_file_parse(path, text, &file, error);
    if (err != ES_OK) {
        return err;
    }
    ESI_ASSERT(file != NULL);
    esi_bytes_init(&line, ESI_TOKEN_FILE_SIZE_MAX);
    make_secret(env, made, hash_hex);
    err = write_line(&line, request, hash_hex, &fault);
    if (err == ES_OK && has_name(file, esi_str_from(request->name))) {
        err = set_fault(&fault, ES_EXISTS, "there is a token named %s already", request->name);
    }
    if (err == ES_OK && file->count == ESI_TOKEN_FILE_TOKENS_MAX) {
        err = set_fault(&fault, ES_TOO_LARGE, "there are %d tokens already",
                        ESI_TOKEN_FILE_TOKENS_MAX);
    }
    if (err == ES_OK) {
        esi_bytes_append_str(out, text);
        if (text.len > 0 && text.data[text.len - 1] != '\n') {
            esi_bytes_append_text(out, "\n");
        }
        esi_bytes_append_str(out, esi_bytes_str(&line));
        esi_bytes_append_text(out, "\n");
        if (out->failed) {
            err = set_fault(&fault, ES_NO_MEMORY, "memory is exhausted");
        }
    }
    if (err == ES_OK) {
        memcpy(secret, made, sizeof made);
    } else if (error != NULL) {
        snprintf(error->text, sizeof error->text, "%s", fault.text);
    }
    esi_crypto_wipe(made, sizeof made);
    esi_bytes_deinit(&line);
    esi_token_file_free(file);
    return err;
}

enum es_err esi_token_file_revoke(const char *path, struct esi_str text, const char *name,
                                  struct esi_bytes *out, struct es_error *error)
{
    struct esi_token_file *file = NULL;
    struct esi_str rest = text;
    struct esi_str line;
    struct esi_str fields[FIELDS_MAX];
    size_t count = 0;
    bool found = false;

    ESI_REQUIRE(out->len == 0);
    const enum es_err err = esi_token_file_parse(path, text, &file, error);
    if (err != ES_OK) {
        return err;
    }
    esi_token_file_free(file);
    for (const char *start = rest.data; next_line(&rest, &line); start = rest.data) {
        if (!is_empty_line(line) && split_line(line, fields, &count) && count > 0 &&
            esi_str_equal(fields[0], esi_str_from(name))) {
            found = true;
        } else {
            esi_bytes_append(out, start, (size_t)(rest.data - start));
        }
    }
    if (!found && error != NULL) {
        snprintf(error->text, sizeof error->text, "%s: there is no token named %.100s", path, name);
    }
    if (!found) {
        return ES_NOT_FOUND;
    }
    return out->failed ? ES_NO_MEMORY : ES_OK;
}

/* "never", "2027-01-31T12:00:00Z", or that with "expired" before it. */
static void append_expiry(struct esi_bytes *out, int64_t expires_wall_ns, int64_t wall_ns)
{
    if (expires_wall_ns == 0) {
        esi_bytes_append_text(out, "never");
        return;
    }
    esi_bytes_append_text(out, wall_ns >= expires_wall_ns ? "expired " : "");
    esi_timestamp_append(out, expires_wall_ns / NS_PER_S, 0);
}

/* A subject may hold control bytes; a terminal must not see them. */
static void append_shown(struct esi_bytes *out, struct esi_str text)
{
    const size_t start = out->len;

    esi_bytes_append_str(out, text);
    for (size_t i = start; i < out->len; i++) {
        if ((unsigned char)out->data[i] < ' ' || out->data[i] == 0x7f) {
            out->data[i] = '?';
        }
    }
}

static void append_list(struct esi_bytes *out, struct esi_str text, const struct esi_str *defaults,
                        size_t default_count)
{
    if (text.len > 0) {
        append_shown(out, text);
        return;
    }
    for (size_t i = 0; i < default_count; i++) {
        esi_bytes_append_text(out, i > 0 ? "," : "");
        esi_bytes_append_str(out, defaults[i]);
    }
}

void esi_token_file_list(const struct esi_token_file *file, int64_t wall_ns, struct esi_bytes *out)
{
    esi_bytes_append_text(out, "NAME\tEXPIRES\tPUBLISH\tSUBSCRIBE\n");
    for (size_t i = 0; i < file->count; i++) {
        const struct stored *stored = &file->tokens[i];
        esi_bytes_append_str(out, stored->token.name);
        esi_bytes_append_text(out, "\t");
        append_expiry(out, stored->token.expires_wall_ns, wall_ns);
        esi_bytes_append_text(out, "\t");
        append_list(out, stored->publish, default_publish, ESI_COUNT_OF(default_publish));
        esi_bytes_append_text(out, "\t");
        append_list(out, stored->subscribe, default_subscribe, ESI_COUNT_OF(default_subscribe));
        esi_bytes_append_text(out, "\n");
    }
}
