/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A verdict holds a copy of the name and one reference to the permissions; it begins as a refusal,
 * so that one that nobody filled lets nobody in. */
#include "auth/verdict.h"
#include "base/own.h"

#include <stdlib.h>
#include <string.h>

void esi_verdict_init(struct esi_verdict *verdict)
{
    *verdict = (struct esi_verdict){.kind = VERDICT_REFUSED};
}

void esi_verdict_deinit(struct esi_verdict *verdict)
{
    free(verdict->name);
    esi_permissions_unref(verdict->permissions);
    esi_verdict_init(verdict);
}

enum es_err esi_verdict_accept(struct esi_verdict *verdict, struct esi_str name,
                               struct esi_permissions *permissions, int64_t expires_wall_ns)
{
    char *copy = esi_str_dup(name);

    if (copy == NULL) {
        return ES_NO_MEMORY;
    }
    /* The reference is taken before the old one goes, so that accepting again with the same
     * permissions is safe. */
    struct esi_permissions *reference = esi_permissions_ref(permissions);
    esi_verdict_deinit(verdict);
    verdict->kind = VERDICT_ACCEPTED;
    verdict->name = copy;
    verdict->permissions = reference;
    verdict->expires_wall_ns = expires_wall_ns;
    return ES_OK;
}

void esi_verdict_set_token_hash(struct esi_verdict *verdict,
                                const uint8_t hash[ESI_CRYPTO_SHA256_BYTES])
{
    verdict->has_token_hash = true;
    memcpy(verdict->token_hash, hash, ESI_CRYPTO_SHA256_BYTES);
}
