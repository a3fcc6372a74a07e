/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: names and dates come out of a certificate as they stand in it, hosts are matched by the
 * rules, and no broken certificate leads past its end. Method: certificates made by OpenSSL for
 * each case, then cut and damaged at every byte, in memory of exactly their size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/own.h"
#include "net/certificate.h"

static char folder[] = "/tmp/event-service-test.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[160];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* Makes a self-signed certificate and reads its DER into memory of exactly its size. */
static unsigned char *make_der(const char *subject, const char *options, size_t *len)
{
    char command[4096];
    unsigned char *der;
    FILE *file;
    long size;

    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s/key "
             "-out %s/der "
             "-outform DER -days 10 -utf8 -subj '%s' %s 2>%s/log",
             folder, folder, subject, options, folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof(command), "%s/der", folder);
    file = fopen(command, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    der = malloc((size_t)size);
    assert_non_null(der);
    assert_int_equal(fread(der, 1, (size_t)size, file), size);
    fclose(file);
    *len = (size_t)size;
    return der;
}

static struct esi_peer_identity *make_identity(const char *subject, const char *options)
{
    struct esi_peer_identity *identity = NULL;
    size_t len;
    unsigned char *der = make_der(subject, options, &len);

    assert_int_equal(esi_certificate_read(der, len, &identity), ES_OK);
    free(der);
    return identity;
}

static void names_come_out_as_written(void **state)
{
    struct esi_peer_identity *identity = make_identity(
        "/C=DE/O=Example, Inc./OU=a\\+b/CN=Event \xc3\x9c",
        "-addext "
        "subjectAltName=DNS:One.example,email:x@y.example,IP:10.1.2.3,URI:https://z.example,"
        "DNS:*.two.example,IP:fd00::1");

    (void)state;
    assert_string_equal(identity->common_name, "Event \xc3\x9c");
    assert_string_equal(identity->subject, "C=DE,O=Example\\, Inc.,OU=a\\+b,CN=Event \xc3\x9c");
    assert_int_equal(identity->dns_name_count, 2);
    assert_string_equal(identity->dns_names[0], "One.example");
    assert_string_equal(identity->dns_names[1], "*.two.example");
    assert_int_equal(identity->ip_name_count, 2);
    assert_string_equal(identity->ip_names[0], "10.1.2.3");
    assert_string_equal(identity->ip_names[1], "fd00::1");
    assert_true(identity->is_authority); /* "openssl req -x509" makes authorities */
    assert_int_equal(identity->not_after_s - identity->not_before_s, 10 * 86400);
    assert_true(identity->not_before_s > 1700000000);

    assert_true(esi_certificate_has_name(identity, "one.EXAMPLE"));
    assert_true(esi_certificate_has_name(identity, "event \xc3\x9c"));
    assert_true(esi_certificate_has_name(identity, "FD00:0::1"));
    assert_true(esi_certificate_has_name(identity, "*.two.example"));
    assert_false(esi_certificate_has_name(identity, "a.two.example"));
    assert_false(esi_certificate_has_name(identity, "z.example"));
    assert_false(esi_certificate_has_name(identity, "x@y.example"));
    assert_false(esi_certificate_has_name(identity, ""));
    esi_certificate_free(identity);
}

static void hosts_are_matched_by_the_rules(void **state)
{
    struct esi_peer_identity *identity = make_identity(
        "/CN=common.example",
        "-addext subjectAltName=DNS:one.example,DNS:*.two.example,DNS:*.org,IP:10.1.2.3");

    (void)state;
    assert_true(esi_certificate_is_for_host(identity, "one.example"));
    assert_true(esi_certificate_is_for_host(identity, "ONE.example."));
    assert_true(esi_certificate_is_for_host(identity, "a.two.example"));
    assert_true(esi_certificate_is_for_host(identity, "10.1.2.3"));
    assert_false(
        esi_certificate_is_for_host(identity, "common.example")); /* there are other names */
    assert_false(esi_certificate_is_for_host(identity, "two.example"));
    assert_false(esi_certificate_is_for_host(identity, ".two.example"));
    assert_false(esi_certificate_is_for_host(identity, "a.b.two.example"));
    assert_false(esi_certificate_is_for_host(identity, "any.org"));
    assert_false(esi_certificate_is_for_host(identity, "one.example.evil"));
    assert_false(esi_certificate_is_for_host(identity, "10.1.2.4"));
    assert_false(esi_certificate_is_for_host(identity, ""));
    assert_false(esi_certificate_is_for_host(identity, "."));
    esi_certificate_free(identity);
}

static void common_name_counts_only_alone(void **state)
{
    struct esi_peer_identity *identity = make_identity("/CN=one.example", "");

    (void)state;
    assert_int_equal(identity->dns_name_count, 0);
    assert_true(esi_certificate_is_for_host(identity, "one.example"));
    assert_false(esi_certificate_is_for_host(identity, "two.example"));
    esi_certificate_free(identity);
    identity = make_identity("/O=nobody", "-addext basicConstraints=CA:FALSE");
    assert_string_equal(identity->common_name, "");
    assert_false(esi_certificate_is_for_host(identity, ""));
    assert_false(esi_certificate_has_name(identity, ""));
    esi_certificate_free(identity);
}

static void leaves_are_no_authorities(void **state)
{
    char options[512];
    struct esi_peer_identity *identity;
    FILE *file;

    (void)state;
    /* A configuration of its own, since "-addext" does not replace the default's extension. */
    snprintf(options, sizeof(options), "%s/cnf", folder);
    file = fopen(options, "w");
    assert_non_null(file);
    fputs("[req]\ndistinguished_name=d\nx509_extensions=x\n[d]\n[x]\nbasicConstraints=CA:FALSE\n",
          file);
    fclose(file);
    snprintf(options, sizeof(options), "-config %s/cnf", folder);
    identity = make_identity("/CN=leaf", options);
    assert_false(identity->is_authority);
    esi_certificate_free(identity);
}

/* Names that would read differently to a C program than to the authority that signed them. */
static void tricky_names_are_refused(void **state)
{
    static const char *const options[] = {
        "-addext 'subjectAltName=DER:30:0b:82:09:67:6f:6f:64:00:62:61:64:31'", /* "good" NUL "bad1"
                                                                                */
        "-addext 'subjectAltName=DER:30:06:82:04:61:0a:62:63'",                /* a line feed */
        "-addext 'subjectAltName=DER:30:06:82:04:61:c3:9c:63'",                /* beyond ASCII */
        "-addext 'subjectAltName=DER:30:05:87:03:01:02:03'",    /* an address of 3 bytes */
        "-addext 'subjectAltName=DER:30:06:82:05:61:62:63:64'", /* longer than the rest */
        "-addext 'subjectAltName=DER:04:01:00'",                /* no sequence */
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(options); i++) {
        struct esi_peer_identity *identity = NULL;
        size_t len;
        unsigned char *der = make_der("/CN=good", options[i], &len);

        assert_int_equal(esi_certificate_read(der, len, &identity), ES_INVALID);
        assert_null(identity);
        free(der);
    }
}

static void too_many_names_are_refused(void **state)
{
    char options[4096] = "-addext subjectAltName=DNS:a";
    struct esi_peer_identity *identity = NULL;
    size_t options_len = strlen(options);
    unsigned char *der;
    size_t len;

    (void)state;
    for (size_t i = 1; i < ESI_CERTIFICATE_NAMES_MAX; i++) {
        options_len +=
            (size_t)snprintf(options + options_len, sizeof(options) - options_len, ",DNS:a");
    }
    identity = make_identity("/CN=many", options);
    assert_int_equal(identity->dns_name_count, ESI_CERTIFICATE_NAMES_MAX);
    assert_string_equal(identity->dns_names[ESI_CERTIFICATE_NAMES_MAX - 1], "a");
    esi_certificate_free(identity);

    identity = NULL;
    snprintf(options + options_len, sizeof(options) - options_len, ",DNS:a");
    der = make_der("/CN=many", options, &len);
    assert_int_equal(esi_certificate_read(der, len, &identity), ES_TOO_LARGE);
    assert_null(identity);
    free(der);
}

/* Every cut and, in every place, a handful of values: nothing is read past the end (the sanitizer
 * would tell). */
static void damage_is_survived(void **state)
{
    static const unsigned char values[] = {0x00, 0x01, 0x30, 0x7f, 0x80, 0x81,
                                           0x82, 0x83, 0x84, 0xa3, 0xff};
    size_t len;
    size_t refused_count = 0;
    unsigned char *der =
        make_der("/O=x/CN=y", "-addext subjectAltName=DNS:one.example,IP:10.1.2.3", &len);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        struct esi_peer_identity *identity = NULL;
        unsigned char *copy = malloc(cut > 0 ? cut : 1);

        assert_non_null(copy);
        memcpy(copy, der, cut);
        assert_int_equal(esi_certificate_read(copy, cut, &identity), ES_INVALID);
        free(copy);
    }
    for (size_t i = 0; i < len; i++) {
        for (size_t j = 0; j < ESI_COUNT_OF(values); j++) {
            struct esi_peer_identity *identity = NULL;
            const unsigned char before = der[i];

            der[i] = values[j];
            if (esi_certificate_read(der, len, &identity) != ES_OK) {
                refused_count++;
                assert_null(identity);
            }
            esi_certificate_free(identity);
            der[i] = before;
        }
    }
    assert_true(refused_count > 200);
    free(der);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_come_out_as_written),
        cmocka_unit_test(hosts_are_matched_by_the_rules),
        cmocka_unit_test(common_name_counts_only_alone),
        cmocka_unit_test(leaves_are_no_authorities),
        cmocka_unit_test(tricky_names_are_refused),
        cmocka_unit_test(too_many_names_are_refused),
        cmocka_unit_test(damage_is_survived),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
