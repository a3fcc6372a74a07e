/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no text harms the token file's reader, and editing keeps what it does not touch. Method: a
 * file that parses must still parse with a token added to it, and be what it was (but for a missing
 * last line end) with that token revoked.
 */
#include "auth/token_file.h"
#include "base/own.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void fill(struct esi_env *env, void *out, size_t len)
{
    (void)env;
    memset(out, 0x5a, len);
}

static void check_set(const struct esi_token_file *file)
{
    struct esi_bytes out;

    for (size_t i = 0; i < esi_token_file_count(file); i++) {
        const struct esi_token *token = esi_token_file_at(file, i);
        require(esi_token_file_find(file, token->hash) == token);
        require(token->permissions != NULL && token->name.len > 0 && token->expires_wall_ns >= 0);
        (void)esi_permissions_may_publish(token->permissions, token->name);
        (void)esi_permissions_may_subscribe(token->permissions, token->name, ESI_STR(""));
    }
    esi_bytes_init(&out, 0);
    esi_token_file_list(file, 1, &out);
    require(!out.failed);
    esi_bytes_deinit(&out);
}

static void edit(struct esi_str text, size_t count)
{
    static const struct esi_env_ops ops = {.random = fill};
    static struct esi_env env = {&ops};
    const struct esi_token_request request = {.name = "added", .publish = "a.>", .subscribe = "b"};
    char secret[ESI_TOKEN_FILE_SECRET_CAPACITY];
    struct esi_token_file *file = NULL;
    struct esi_verdict verdict;
    struct esi_bytes more;
    struct esi_bytes less;
    struct es_error error;

    esi_bytes_init(&more, 0);
    esi_bytes_init(&less, 0);
    esi_verdict_init(&verdict);
    if (esi_token_file_add(&env, "f", text, &request, &more, secret, &error) == ES_OK) {
        require(esi_token_file_parse("f", esi_bytes_str(&more), &file, &error) == ES_OK);
        require(esi_token_file_count(file) == count + 1);
        require(esi_token_file_check(file, esi_str_from(secret), 1, &verdict) == ES_OK);
        esi_token_file_free(file);
        require(esi_token_file_revoke("f", esi_bytes_str(&more), "added", &less, &error) == ES_OK);
        require(less.len == text.len || (less.len == text.len + 1 && less.data[text.len] == '\n'));
        require(text.len == 0 || memcmp(less.data, text.data, text.len) == 0);
    }
    esi_verdict_deinit(&verdict);
    esi_bytes_deinit(&more);
    esi_bytes_deinit(&less);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct esi_str text = {.data = (const char *)data, .len = size};
    struct esi_token_file *file = NULL;
    struct es_error error = {{0}};

    if (size > 8192) {
        return 0;
    }
    if (esi_token_file_parse("f", text, &file, &error) != ES_OK) {
        require(file == NULL && strncmp(error.text, "f:", 2) == 0);
        return 0;
    }
    check_set(file);
    edit(text, esi_token_file_count(file));
    esi_token_file_free(file);
    return 0;
}
