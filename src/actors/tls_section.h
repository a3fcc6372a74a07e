/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a TLS section of the configuration to the options of a TLS context: the same for every door
 * and every call, so that a section means the same wherever it stands.
 */
#pragma once

#include "net/tls.h"

struct esi_config_texts;
struct esi_config_tls;

/*
 * The options that a section stands for. With root_ca the peer must show a certificate, without it
 * none is asked for.
 *   section       borrowed by the result; is_set, or at least with what min_version says
 *   role          server, or client
 *   allowed       names of which the peer must show one; borrowed by the result; NULL: any
 *   certificate   is filled with the section's own and borrowed by the result
 * The caller may still change what its peers need otherwise. Thread: any. Cannot fail.
 */
struct esi_tls_options esi_tls_section_options(const struct esi_config_tls *section,
                                               enum esi_tls_role role,
                                               const struct esi_config_texts *allowed,
                                               struct esi_tls_certificate *certificate);
