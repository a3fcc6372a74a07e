/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Servers look once a second, and leave a file that has just been written until it has settled. */
#include "sim_tokens.h"

#include "base/bytes.h"
#include "base/crypto.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTICE_S = 8 /* until every server goes by the new file, and its connections have ended */ };

struct token {
    uint32_t version;
    uint64_t changed_ns;
};

struct sim_tokens {
    struct sim_world *world;
    struct token tokens[SIM_TOKENS];
};

static uint64_t now_of(const struct sim_tokens *tokens)
{
    return esi_env_sim_now_ns(tokens->world->sim);
}

const char *sim_tokens_path(void)
{
    return "/etc/tokens";
}

void sim_tokens_text(struct sim_secret secret, char text[SIM_SECRET_BYTES])
{
    snprintf(text, SIM_SECRET_BYTES, "secret-%" PRIu32 "-%" PRIu32, secret.token, secret.version);
}

/* All hosts have the same files. */
static void write_file(const struct sim_tokens *tokens)
{
    struct esi_bytes file;
    char secret[SIM_SECRET_BYTES];
    char hash[ESI_CRYPTO_SHA256_HEX_BYTES];

    esi_bytes_init(&file, 0);
    for (uint32_t i = 0; i < SIM_TOKENS; i++) {
        sim_tokens_text((struct sim_secret){.token = i, .version = tokens->tokens[i].version},
                        secret);
        esi_crypto_sha256_hex(secret, strlen(secret), hash);
        esi_bytes_printf(&file, "token-%" PRIu32 " %.64s publish=> subscribe=>\n", i, hash);
    }
    const enum es_err err = esi_env_file_replace(tokens->world->servers[0].env, sim_tokens_path(),
                                                 file.data, file.len, 0600);
    sim_check(tokens->world, err == ES_OK, "no token file");
    esi_bytes_deinit(&file);
}

void sim_tokens_change(struct sim_tokens *tokens)
{
    const uint32_t index = (uint32_t)esi_env_sim_draw(tokens->world->sim, SIM_TOKENS);

    tokens->tokens[index].version++;
    tokens->tokens[index].changed_ns = now_of(tokens);
    esi_env_sim_note(tokens->world->sim, "token %" PRIu32 " has secret %" PRIu32, index,
                     tokens->tokens[index].version);
    write_file(tokens);
}

struct sim_secret sim_tokens_draw(struct sim_tokens *tokens)
{
    const uint32_t index = (uint32_t)esi_env_sim_draw(tokens->world->sim, SIM_TOKENS);
    const uint32_t newest = tokens->tokens[index].version;
    const bool is_old = newest > 1 && esi_env_sim_draw(tokens->world->sim, 8) == 0;

    return (struct sim_secret){.token = index, .version = is_old ? newest - 1 : newest};
}

void sim_tokens_check_served(const struct sim_tokens *tokens, struct sim_secret secret,
                             uint64_t disturbed_ns)
{
    const struct token *token = &tokens->tokens[secret.token];
    const uint64_t since_ns = disturbed_ns > token->changed_ns ? disturbed_ns : token->changed_ns;

    sim_check(tokens->world,
              secret.version == token->version || now_of(tokens) < since_ns + NOTICE_S * SIM_S,
              "secret %" PRIu32 " of token %" PRIu32 " is served, revoked at %" PRIu64 " ms",
              secret.version, secret.token, token->changed_ns / SIM_MS);
}

void sim_tokens_check_refused(const struct sim_tokens *tokens, struct sim_secret secret)
{
    const struct token *token = &tokens->tokens[secret.token];

    tokens->world->counts.refused++;
    sim_check(tokens->world,
              secret.version != token->version ||
                  now_of(tokens) < token->changed_ns + NOTICE_S * SIM_S,
              "secret %" PRIu32 " of token %" PRIu32 " is refused, valid from %" PRIu64 " ms on",
              secret.version, secret.token, token->changed_ns / SIM_MS);
}

struct sim_tokens *sim_tokens_new(struct sim_world *world)
{
    struct sim_tokens *tokens = calloc(1, sizeof *tokens);

    sim_check(world, tokens != NULL, "no memory");
    tokens->world = world;
    for (uint32_t i = 0; i < SIM_TOKENS; i++) {
        tokens->tokens[i].version = 1;
    }
    /* The simulated files have no folders; that there is one is all that is asked. */
    sim_check(world, esi_env_file_replace(world->servers[0].env, "/etc/", "", 0, 0700) == ES_OK,
              "no folder");
    write_file(tokens);
    return tokens;
}

void sim_tokens_free(struct sim_tokens *tokens)
{
    free(tokens);
}
