/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no certificate of a peer harms its reader, and no name comes out of it that a C program
 * would read differently. Method: the input is read as a certificate; what is accepted is looked
 * through, and matched with its own names.
 */
#include "net/certificate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const char *name)
{
    for (; *name != '\0'; name++) {
        if ((unsigned char)*name < 0x20 || *name == 0x7f) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct esi_peer_identity *identity = NULL;

    if (esi_certificate_read(data, size, &identity) != ES_OK) {
        if (identity != NULL) {
            abort();
        }
        return 0;
    }
    if (identity->dns_name_count + identity->ip_name_count > ESI_CERTIFICATE_NAMES_MAX) {
        abort();
    }
    check_name(identity->common_name);
    check_name(identity->subject);
    (void)esi_certificate_is_for_host(identity, identity->common_name);
    for (size_t i = 0; i < identity->dns_name_count; i++) {
        check_name(identity->dns_names[i]);
        if (identity->dns_names[i][0] != '\0' &&
            !esi_certificate_has_name(identity, identity->dns_names[i])) {
            abort();
        }
        (void)esi_certificate_is_for_host(identity, identity->dns_names[i]);
    }
    for (size_t i = 0; i < identity->ip_name_count; i++) {
        if (!esi_certificate_is_for_host(identity, identity->ip_names[i])) {
            abort();
        }
    }
    esi_certificate_free(identity);
    return 0;
}
