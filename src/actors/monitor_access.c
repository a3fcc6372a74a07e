/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Digests are compared, so that the length tells nothing either. */
#include "actors/monitor_access.h"
#include "base/crypto.h"
#include "config/config.h"
#include "net/http1.h"

#include <string.h>
#include <strings.h>

static bool is_same(struct esi_str shown, const char *token)
{
    uint8_t shown_digest[ESI_CRYPTO_SHA256_BYTES];
    uint8_t token_digest[ESI_CRYPTO_SHA256_BYTES];

    esi_crypto_sha256(shown.data, shown.len, shown_digest);
    esi_crypto_sha256(token, strlen(token), token_digest);
    const bool is_equal = esi_crypto_equal(
        (struct esi_str){.data = (const char *)shown_digest, .len = sizeof shown_digest},
        (struct esi_str){.data = (const char *)token_digest, .len = sizeof token_digest});
    esi_crypto_wipe(shown_digest, sizeof shown_digest);
    esi_crypto_wipe(token_digest, sizeof token_digest);
    return is_equal;
}

bool esi_monitor_access_is_allowed(const struct esi_config *config,
                                   const struct esi_http1_request *request)
{
    static const char scheme[] = "Bearer ";
    const size_t scheme_len = sizeof scheme - 1;
    struct esi_str value = esi_http1_header(request, "Authorization");

    if (config->monitor.token == NULL) {
        return true;
    }
    if (value.len <= scheme_len || strncasecmp(value.data, scheme, scheme_len) != 0) {
        return false;
    }
    value.data += scheme_len;
    value.len -= scheme_len;
    while (value.len > 0 && value.data[0] == ' ') {
        value.data++;
        value.len--;
    }
    return is_same(value, config->monitor.token);
}
