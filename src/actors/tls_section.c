/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See tls_section.h. The configuration cannot do it: its layer knows no network. */
#include "actors/tls_section.h"
#include "config/config.h"

struct esi_tls_options esi_tls_section_options(const struct esi_config_tls *section,
                                               enum esi_tls_role role,
                                               const struct esi_config_texts *allowed,
                                               struct esi_tls_certificate *certificate)
{
    *certificate = (struct esi_tls_certificate){.cert_path = section->cert_path,
                                                .key_path = section->key_path};
    return (struct esi_tls_options){
        .role = role,
        .min_version = section->min_version == CONFIG_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .certificates = certificate,
        .certificate_count = 1,
        .root_ca_path = section->root_ca_path,
        .verify_peer = section->root_ca_path != NULL,
        .allowed_names = allowed != NULL ? (const char *const *)allowed->items : NULL,
        .allowed_name_count = allowed != NULL ? allowed->count : 0,
    };
}
