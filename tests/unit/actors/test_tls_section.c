/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a TLS section of the configuration means the same at every door: who is asked for a
 * certificate, which versions and names are good. Method: sections in, options out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/tls_section.h"
#include "config/config.h"

static char cert_path[] = "cert.pem";
static char key_path[] = "key.pem";
static char root_ca_path[] = "ca.pem";
static char name[] = "peer";
static char *names[] = {name};
static const struct esi_config_texts allowed = {.items = names, .count = 1, .is_given = true};

static void asks_for_no_certificate_without_an_authority(void **state)
{
    const struct esi_config_tls section = {
        .is_set = true, .cert_path = cert_path, .key_path = key_path};
    struct esi_tls_certificate certificate;

    (void)state;
    const struct esi_tls_options options =
        esi_tls_section_options(&section, TLS_SERVER, NULL, &certificate);
    assert_int_equal(options.role, TLS_SERVER);
    assert_int_equal(options.min_version, TLS_VERSION_1_2);
    assert_int_equal(options.certificate_count, 1);
    assert_ptr_equal(options.certificates, &certificate);
    assert_string_equal(certificate.cert_path, "cert.pem");
    assert_string_equal(certificate.key_path, "key.pem");
    assert_null(options.root_ca_path);
    assert_false(options.verify_peer);
    assert_false(options.insecure);
    assert_int_equal(options.allowed_name_count, 0);
}

static void verifies_with_an_authority(void **state)
{
    const struct esi_config_tls section = {.is_set = true,
                                           .cert_path = cert_path,
                                           .key_path = key_path,
                                           .root_ca_path = root_ca_path,
                                           .min_version = CONFIG_TLS_1_3};
    struct esi_tls_certificate certificate;

    (void)state;
    const struct esi_tls_options options =
        esi_tls_section_options(&section, TLS_CLIENT, &allowed, &certificate);
    assert_int_equal(options.role, TLS_CLIENT);
    assert_int_equal(options.min_version, TLS_VERSION_1_3);
    assert_string_equal(options.root_ca_path, "ca.pem");
    assert_true(options.verify_peer);
    assert_int_equal(options.allowed_name_count, 1);
    assert_string_equal(options.allowed_names[0], "peer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_no_certificate_without_an_authority),
        cmocka_unit_test(verifies_with_an_authority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
