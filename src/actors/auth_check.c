/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A check holds copies of what was shown: the connection's own text is overwritten by the next line
 * that it reads. */
#include "actors/auth_check.h"
#include "base/crypto.h"
#include "runtime/actor.h"

#include <stdlib.h>

/* A copy that is never NULL, so that "absent" and "memory exhausted" differ. */
static bool copy_secret(struct esi_str from, struct esi_str *to)
{
    *to = (struct esi_str){.data = esi_str_dup(from), .len = from.len};
    return to->data != NULL;
}

static void free_secret(struct esi_str secret)
{
    esi_crypto_free((void *)(uintptr_t)secret.data, secret.len);
}

static void free_check(struct esi_msg *msg)
{
    struct esi_auth_check *check = (struct esi_auth_check *)(void *)msg;

    free_secret(check->user);
    free_secret(check->pass);
    free_secret(check->token);
    esi_verdict_deinit(&check->verdict);
    esi_actor_unref(check->asker);
    free(check);
}

struct esi_auth_check *esi_auth_check_new(struct esi_actor *asker, uint32_t answer_kind,
                                          uint64_t cid, const struct esi_auth_shown *shown)
{
    struct esi_auth_check *check = calloc(1, sizeof *check);

    if (check == NULL) {
        return NULL;
    }
    esi_actor_ref(asker);
    check->asker = asker;
    check->answer_kind = answer_kind;
    check->cid = cid;
    check->has_credentials =
        shown->user.len > 0 || shown->pass.len > 0 || shown->token.len > 0 || shown->has_other;
    check->msg.free = free_check;
    esi_verdict_init(&check->verdict);
    if (!copy_secret(shown->user, &check->user) || !copy_secret(shown->pass, &check->pass) ||
        !copy_secret(shown->token, &check->token)) {
        free_check(&check->msg);
        return NULL;
    }
    return check;
}

void esi_auth_check_answer(struct esi_auth_check *check)
{
    check->msg.kind = check->answer_kind;
    esi_actor_send(check->asker, &check->msg);
}
