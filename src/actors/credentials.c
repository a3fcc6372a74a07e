/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A remembered verdict is a keyed digest in the user's own entry: one for each user, so that it
 * needs no bound and no eviction. (A bcrypt hash accepts more than one password: those that are
 * alike in their first 72 bytes. A map of all that were ever right could be made to grow.)
 */
#include "actors/credentials.h"
#include "actors/auth_check.h"
#include "base/assert.h"
#include "base/hashmap.h"
#include "config/config.h"
#include "env/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SALT_BYTES = 32, LISTS = 4 };

/* One user, the token of the configuration, or the health check. */
struct esi_credential {
    struct esi_str name;                 /* borrowed: literal or configuration */
    struct esi_permissions *permissions; /* owned reference; NULL: everything */
    const char *bcrypt_hash; /* borrowed from the configuration; NULL: the secret is plain */
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES]; /* of a plain secret */
    bool is_remembered;
    uint64_t remembered_until_ns;
    uint8_t remembered_key[ESI_CRYPTO_SHA256_BYTES];
};

struct esi_credentials {
    uint8_t salt[SALT_BYTES]; /* random: digests of questions mean nothing outside this process */
    uint64_t cache_ttl_ns;
    struct esi_credential *users; /* owned array */
    size_t user_count;
    struct esi_hashmap by_name;          /* user name -> struct esi_credential */
    struct esi_credential *no_auth_user; /* one of users, or NULL */
    const struct esi_credential
        *slow_user; /* one with a bcrypt hash, or NULL: the pattern for unknown users */
    bool has_token;
    struct esi_credential token;
    bool has_health_token;
    struct esi_credential health;
    bool has_gateway;
    struct esi_credential gateway;               /* gateway.user */
    struct esi_permissions *default_permissions; /* owned reference; NULL: everything */
};

/* --- making --- */

static size_t to_list(const struct esi_config_texts *texts, struct esi_str *items,
                      struct esi_permissions_list *list)
{
    for (size_t i = 0; i < texts->count; i++) {
        items[i] = esi_str_from(texts->items[i]);
    }
    *list = (struct esi_permissions_list){
        .entries = items, .count = texts->count, .is_given = texts->is_given};
    return texts->count;
}

static enum es_err compile(const struct esi_config_permissions *given, const char *where,
                           struct esi_permissions **out, struct es_error *error)
{
    const struct esi_config_texts *const texts[LISTS] = {
        &given->publish.allow, &given->publish.deny, &given->subscribe.allow,
        &given->subscribe.deny};
    struct esi_permissions_spec spec = {.allow_responses = given->responses.is_allowed,
                                        .responses_max = given->responses.max,
                                        .responses_expires_ns = given->responses.expires_ns};
    struct esi_permissions_list *const lists[LISTS] = {&spec.publish_allow, &spec.publish_deny,
                                                       &spec.subscribe_allow, &spec.subscribe_deny};
    struct es_error reason = {.text = ""};
    size_t total = 0;
    size_t used = 0;

    for (size_t i = 0; i < LISTS; i++) {
        total += texts[i]->count;
    }
    struct esi_str *items = calloc(total + 1, sizeof *items);
    if (items == NULL) {
        return ES_NO_MEMORY;
    }
    for (size_t i = 0; i < LISTS; i++) {
        used += to_list(texts[i], items + used, lists[i]);
    }
    const enum es_err err = esi_permissions_new(&spec, out, &reason);
    free(items);
    if (err != ES_OK) {
        snprintf(error->text, sizeof error->text, "%s: %.300s", where,
                 reason.text[0] != '\0' ? reason.text : es_err_text(err));
    }
    return err;
}

static void set_secret(struct esi_credential *credential, const char *secret)
{
    if (esi_crypto_is_bcrypt(esi_str_from(secret))) {
        credential->bcrypt_hash = secret;
    } else {
        esi_crypto_sha256(secret, strlen(secret), credential->digest);
    }
}

static enum es_err add_user(struct esi_credentials *credentials,
                            const struct esi_config_user *given, struct es_error *error)
{
    struct esi_credential *user = &credentials->users[credentials->user_count];
    char where[320];

    user->name = esi_str_from(given->user);
    set_secret(user, given->password);
    if (given->permissions.is_set) {
        snprintf(where, sizeof where, "the permissions of the user \"%.255s\"", given->user);
        const enum es_err err = compile(&given->permissions, where, &user->permissions, error);
        if (err != ES_OK) {
            return err;
        }
    } else {
        user->permissions = esi_permissions_ref(credentials->default_permissions);
    }
    credentials->user_count++;
    if (user->bcrypt_hash != NULL && credentials->slow_user == NULL) {
        credentials->slow_user = user;
    }
    return esi_hashmap_insert(&credentials->by_name, user->name, user);
}

static enum es_err fill(struct esi_credentials *credentials, const struct esi_config *config,
                        struct es_error *error)
{
    const struct esi_config_auth *auth = &config->auth;
    enum es_err err = ES_OK;

    if (config->gateway.user != NULL) {
        credentials->has_gateway = true;
        credentials->gateway.name = esi_str_from(config->gateway.user);
        set_secret(&credentials->gateway, config->gateway.password);
    }
    credentials->users = calloc(auth->user_count + 1, sizeof *credentials->users);
    if (credentials->users == NULL) {
        return ES_NO_MEMORY;
    }
    if (auth->default_permissions.is_set) {
        err = compile(&auth->default_permissions, "auth.default_permissions",
                      &credentials->default_permissions, error);
    }
    for (size_t i = 0; err == ES_OK && i < auth->user_count; i++) {
        err = add_user(credentials, &auth->users[i], error);
    }
    if (err == ES_OK && auth->no_auth_user != NULL) {
        credentials->no_auth_user =
            esi_hashmap_find(&credentials->by_name, esi_str_from(auth->no_auth_user));
        ESI_ASSERT(credentials->no_auth_user != NULL);
    }
    if (err == ES_OK && auth->token != NULL) {
        credentials->has_token = true;
        credentials->token.name = ESI_STR("token");
        credentials->token.permissions = esi_permissions_ref(credentials->default_permissions);
        set_secret(&credentials->token, auth->token);
    }
    return err;
}

enum es_err esi_credentials_new(const struct esi_config *config, struct esi_env *env,
                                struct esi_credentials **out, struct es_error *error)
{
    struct esi_credentials *credentials = calloc(1, sizeof *credentials);

    if (credentials == NULL) {
        return ES_NO_MEMORY;
    }
    esi_env_random(env, credentials->salt, sizeof credentials->salt);
    credentials->cache_ttl_ns = config->auth.cache_ttl_ns;
    esi_hashmap_init(&credentials->by_name);
    const enum es_err err = fill(credentials, config, error);
    if (err != ES_OK) {
        esi_credentials_free(credentials);
        return err;
    }
    *out = credentials;
    return ES_OK;
}

void esi_credentials_free(struct esi_credentials *credentials)
{
    if (credentials == NULL) {
        return;
    }
    for (size_t i = 0; i < credentials->user_count; i++) {
        esi_permissions_unref(credentials->users[i].permissions);
    }
    esi_permissions_unref(credentials->token.permissions);
    esi_permissions_unref(credentials->health.permissions);
    esi_permissions_unref(credentials->default_permissions);
    esi_hashmap_deinit(&credentials->by_name);
    if (credentials->users != NULL) {
        esi_crypto_wipe(credentials->users, credentials->user_count * sizeof *credentials->users);
    }
    free(credentials->users);
    esi_crypto_wipe(credentials, sizeof *credentials);
    free(credentials);
}

enum es_err esi_credentials_set_health_token(struct esi_credentials *credentials,
                                             struct esi_str token)
{
    static const struct esi_str subjects[] = {{.data = "_INBOX.>", .len = 8},
                                              {.data = "healthcheck.>", .len = 13}};
    const struct esi_permissions_list list = {.entries = subjects, .count = 2, .is_given = true};
    const struct esi_permissions_spec spec = {.publish_allow = list, .subscribe_allow = list};

    ESI_REQUIRE(!credentials->has_health_token && token.len > 0);
    const enum es_err err = esi_permissions_new(&spec, &credentials->health.permissions, NULL);
    if (err == ES_OK) {
        credentials->health.name = ESI_STR("health-check");
        esi_crypto_sha256(token.data, token.len, credentials->health.digest);
        credentials->has_health_token = true;
    }
    return err;
}

size_t esi_credentials_user_count(const struct esi_credentials *credentials)
{
    return credentials->user_count;
}

/* --- judging --- */

static bool is_digest(const uint8_t a[ESI_CRYPTO_SHA256_BYTES],
                      const uint8_t b[ESI_CRYPTO_SHA256_BYTES])
{
    return esi_crypto_equal(
        (struct esi_str){.data = (const char *)a, .len = ESI_CRYPTO_SHA256_BYTES},
        (struct esi_str){.data = (const char *)b, .len = ESI_CRYPTO_SHA256_BYTES});
}

void esi_credentials_accept(const struct esi_credential *who, struct esi_auth_check *check)
{
    if (who != NULL &&
        esi_verdict_accept(&check->verdict, who->name, who->permissions, 0) != ES_OK) {
        esi_verdict_deinit(&check->verdict);
    }
}

/* The digest of a question: who is asked for (nobody: the token), and the secret. */
static void make_key(const struct esi_credentials *credentials, struct esi_str user,
                     struct esi_str secret, uint8_t key[ESI_CRYPTO_SHA256_BYTES])
{
    struct {
        uint8_t salt[SALT_BYTES];
        uint8_t user[ESI_CRYPTO_SHA256_BYTES];
        uint8_t secret[ESI_CRYPTO_SHA256_BYTES];
    } parts;

    memcpy(parts.salt, credentials->salt, sizeof parts.salt);
    esi_crypto_sha256(user.data, user.len, parts.user);
    esi_crypto_sha256(secret.data, secret.len, parts.secret);
    esi_crypto_sha256(&parts, sizeof parts, key);
    esi_crypto_wipe(&parts, sizeof parts);
}

/* A secret against a bcrypt hash: remembered as right, or to be computed. */
static enum esi_credentials_answer judge_slowly(struct esi_credentials *credentials,
                                                struct esi_credential *who, const char *hash,
                                                struct esi_auth_check *check,
                                                struct esi_str *secret, uint64_t now_ns,
                                                struct esi_credentials_slow *slow)
{
    const struct esi_str user = secret == &check->pass ? check->user : ESI_STR("");

    slow->hash = hash;
    slow->who = who;
    slow->secret = secret;
    make_key(credentials, user, *secret, slow->key);
    if (who == NULL || !who->is_remembered || now_ns >= who->remembered_until_ns ||
        !is_digest(who->remembered_key, slow->key)) {
        return CREDENTIALS_SLOW;
    }
    esi_credentials_accept(who, check);
    return check->verdict.kind == VERDICT_ACCEPTED ? CREDENTIALS_ACCEPTED : CREDENTIALS_REFUSED;
}

void esi_credentials_remember(struct esi_credentials *credentials, struct esi_credential *who,
                              const uint8_t key[ESI_CRYPTO_SHA256_BYTES], uint64_t now_ns)
{
    if (who != NULL && credentials->cache_ttl_ns > 0) {
        who->is_remembered = true;
        who->remembered_until_ns = now_ns + credentials->cache_ttl_ns;
        memcpy(who->remembered_key, key, ESI_CRYPTO_SHA256_BYTES);
    }
}

static enum esi_credentials_answer judge_plainly(const struct esi_credential *who, bool is_right,
                                                 struct esi_auth_check *check)
{
    if (is_right) {
        esi_credentials_accept(who, check);
    }
    return check->verdict.kind == VERDICT_ACCEPTED ? CREDENTIALS_ACCEPTED : CREDENTIALS_REFUSED;
}

static enum esi_credentials_answer judge_user(struct esi_credentials *credentials,
                                              struct esi_auth_check *check, uint64_t now_ns,
                                              struct esi_credentials_slow *slow)
{
    static const uint8_t nobody[ESI_CRYPTO_SHA256_BYTES];
    struct esi_credential *user = esi_hashmap_find(&credentials->by_name, check->user);
    const struct esi_credential *pattern = user != NULL ? user : credentials->slow_user;
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES];

    if (pattern != NULL && pattern->bcrypt_hash != NULL) {
        return judge_slowly(credentials, user, pattern->bcrypt_hash, check, &check->pass, now_ns,
                            slow);
    }
    esi_crypto_sha256(check->pass.data, check->pass.len, digest);
    const bool is_right = is_digest(digest, user != NULL ? user->digest : nobody);
    esi_crypto_wipe(digest, sizeof digest);
    return judge_plainly(user, is_right && user != NULL, check);
}

/* All kinds of tokens that cost nothing are looked at before one that is slow. */
static enum esi_credentials_answer judge_token(struct esi_credentials *credentials,
                                               struct esi_auth_check *check,
                                               const struct esi_token_file *tokens, uint64_t now_ns,
                                               int64_t wall_ns, struct esi_credentials_slow *slow)
{
    struct esi_credential *token = &credentials->token;
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES];

    esi_crypto_sha256(check->token.data, check->token.len, digest);
    const bool is_token =
        credentials->has_token && token->bcrypt_hash == NULL && is_digest(digest, token->digest);
    const bool is_health =
        credentials->has_health_token && is_digest(digest, credentials->health.digest);
    esi_crypto_wipe(digest, sizeof digest);
    if (is_token) {
        return judge_plainly(token, true, check);
    }
    if (tokens != NULL &&
        esi_token_file_check(tokens, check->token, wall_ns, &check->verdict) == ES_OK) {
        return CREDENTIALS_ACCEPTED;
    }
    if (is_health) {
        return judge_plainly(&credentials->health, true, check);
    }
    if (credentials->has_token && token->bcrypt_hash != NULL) {
        return judge_slowly(credentials, token, token->bcrypt_hash, check, &check->token, now_ns,
                            slow);
    }
    return CREDENTIALS_REFUSED;
}

/* Both are always looked at, so that the time taken tells nothing. */
static enum esi_credentials_answer judge_gateway(struct esi_credentials *credentials,
                                                 struct esi_auth_check *check, uint64_t now_ns,
                                                 struct esi_credentials_slow *slow)
{
    struct esi_credential *gateway = &credentials->gateway;
    uint8_t digest[ESI_CRYPTO_SHA256_BYTES];

    if (!credentials->has_gateway) {
        return CREDENTIALS_REFUSED;
    }
    const bool is_user_right = esi_crypto_equal(check->user, gateway->name);
    if (gateway->bcrypt_hash != NULL) {
        return judge_slowly(credentials, is_user_right ? gateway : NULL, gateway->bcrypt_hash,
                            check, &check->pass, now_ns, slow);
    }
    esi_crypto_sha256(check->pass.data, check->pass.len, digest);
    const bool is_password_right = is_digest(digest, gateway->digest);
    esi_crypto_wipe(digest, sizeof digest);
    return judge_plainly(gateway, is_user_right && is_password_right, check);
}

enum esi_credentials_answer esi_credentials_judge(struct esi_credentials *credentials,
                                                  struct esi_auth_check *check,
                                                  const struct esi_token_file *tokens,
                                                  uint64_t now_ns, int64_t wall_ns,
                                                  struct esi_credentials_slow *slow)
{
    if (check->door == AUTH_DOOR_GATEWAY) {
        return judge_gateway(credentials, check, now_ns, slow);
    }
    if (!check->has_credentials) {
        return judge_plainly(credentials->no_auth_user, true, check);
    }
    if (check->user.len > 0 && credentials->user_count > 0) {
        return judge_user(credentials, check, now_ns, slow);
    }
    if (check->token.len > 0) {
        return judge_token(credentials, check, tokens, now_ns, wall_ns, slow);
    }
    return CREDENTIALS_REFUSED;
}
