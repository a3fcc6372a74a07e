/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "Other rules" is "another permissions object": a new set takes over those of the former one where
 * the lists are the same (esi_token_file_adopt). */
#include "actors/token_sweep.h"
#include "actors/connection.h"
#include "auth/token_file.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/own.h"
#include "runtime/actor.h"

void esi_token_sweep_init(struct esi_token_sweep *sweep, struct esi_actor *home,
                          struct esi_runtime *runtime, uint32_t done_kind)
{
    *sweep = (struct esi_token_sweep){.home = home, .runtime = runtime, .done_kind = done_kind};
}

static bool is_still_good(const struct esi_token *token, const struct esi_verdict *verdict)
{
    const bool is_shortened =
        token != NULL && token->expires_wall_ns != 0 &&
        (verdict->expires_wall_ns == 0 || token->expires_wall_ns < verdict->expires_wall_ns);

    return token != NULL && token->permissions == verdict->permissions && !is_shortened;
}

/* In each actor's place: runs on its worker. */
static void look_at(struct esi_actor *actor, void *argument)
{
    struct esi_token_sweep *sweep = argument;
    struct esi_connection_info info;

    if (actor->type != &esi_connection_type) {
        return;
    }
    const struct esi_verdict *verdict = esi_connection_verdict(actor);
    if (!verdict->has_token_hash ||
        is_still_good(esi_token_file_find(sweep->tokens, verdict->token_hash), verdict)) {
        return;
    }
    esi_connection_info(actor, &info);
    if (info.is_open) {
        esi_connection_revoke(actor);
        sweep->closed_count++;
    }
}

/* The message is a part of the sweep: home is kept as long as it is under way. */
static void free_done(struct esi_msg *msg)
{
    esi_actor_unref(ESI_CONTAINER_OF(msg, struct esi_token_sweep, done)->home);
}

void esi_token_sweep_start(struct esi_token_sweep *sweep, const struct esi_token_file *tokens)
{
    ESI_REQUIRE(!sweep->is_under_way && tokens != NULL);
    sweep->is_under_way = true;
    sweep->tokens = tokens;
    sweep->closed_count = 0;
    sweep->done = (struct esi_msg){.kind = sweep->done_kind, .free = free_done};
    sweep->visit = (struct esi_visit){
        .visit = look_at, .argument = sweep, .asker = sweep->home, .done = &sweep->done};
    esi_actor_ref(sweep->home);
    esi_runtime_visit(sweep->runtime, &sweep->visit);
}

void esi_token_sweep_on_done(struct esi_token_sweep *sweep)
{
    sweep->is_under_way = false;
    if (sweep->closed_count > 0) {
        esi_log(LOG_TOKENS_REVOKED, ESI_LOG_U64("connections", sweep->closed_count));
    }
}
