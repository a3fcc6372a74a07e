/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: whichever allocation fails while a file is read, the answer is "out of memory", and nothing
 * leaks or crashes (the address sanitizer's build sees both). Method: the linker leads our
 * allocations here; the n-th fails, for every n until reading succeeds.
 */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);

/* Allocations that still succeed; negative: all. */
static long allowed = -1;

static bool may_allocate(void)
{
    if (allowed < 0) {
        return true;
    }
    if (allowed == 0) {
        return false;
    }
    allowed--;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return may_allocate() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    return may_allocate() ? __real_realloc(old, size) : NULL;
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
    return may_allocate() ? __real_reallocarray(old, count, size) : NULL;
}

static void fail_every_allocation(const char *path, enum esi_config_program program,
                                  const char *text)
{
    const struct esi_config_source source = {
        .path = path, .text = esi_str_from(text), .program = program, .without_files = true};

    for (long n = 0; n < 10000; n++) {
        struct esi_config *config = NULL;
        struct esi_bytes errors;
        esi_bytes_init(&errors, 0);
        allowed = n;
        const enum es_err err = esi_config_parse(NULL, &source, &config, &errors);
        allowed = -1;
        esi_bytes_deinit(&errors);
        if (err == ES_OK) {
            /* A file of this size cannot be read without many allocations: they were really led
             * here. */
            assert_true(n > 50);
            assert_non_null(config);
            esi_config_free(config);
            return;
        }
        assert_int_equal(err, ES_NO_MEMORY);
        assert_null(config);
    }
    fail_msg("never succeeded");
}

static void yaml_survives_every_failed_allocation(void **state)
{
    (void)state;
    fail_every_allocation(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "service: {name: n, port: 1}\n"
        "internal_messaging: {port: 2, gateway_port: 3}\n"
        "tls: {cert_path: a, key_path: b, root_ca_path: c, allowed_names: [x, y]}\n"
        "auth: {token_file: t, users: [{user: u, password: p, permissions: {publish: [a, b]}}]}\n"
        "gateway: {user: u, password_file: f, remotes: [{name: r, urls: \"nats://u:p@h:1\"}]}\n"
        "handlers: {feed: \"0.0.0.0:1\", x: {address: \"grpc://w:1\"}}\n"
        "events: {registry: {\"a*\": [x]}}\n");
}

static void toml_survives_every_failed_allocation(void **state)
{
    (void)state;
    fail_every_allocation("f.toml", CONFIG_EVENT_GATEWAY,
                          "[service]\nport = '4222'\n[auth]\ntoken = \"t\\u00e9\"\n"
                          "[tls]\ncert_path = 'a'\nkey_path = 'b'\nroot_ca_path = 'c'\n"
                          "[internal_event_service]\nhost = '0.0.0.0'\n"
                          "[[frontend_tls]]\ncert_path = 'a'\nkey_path = 'b'\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_survives_every_failed_allocation),
        cmocka_unit_test(toml_survives_every_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
