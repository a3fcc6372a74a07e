/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: one text becomes the right field, or none. Method: rows of the real schema, values good and
 * bad. */
#include "config/set.h"

#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static const struct esi_schema_row *row_of(enum esi_schema_group group, const char *name)
{
    const struct esi_schema_row *row = esi_schema_find(group, name);

    assert_non_null(row);
    return row;
}

static void values_are_checked_for_kind_and_range(void **state)
{
    static struct esi_draft draft;
    static const struct {
        enum esi_schema_group group;
        const char *key;
        const char *text;
        enum es_err err;
    } cases[] = {
        {GROUP_SERVICE, "port", "65535", ES_OK},
        {GROUP_SERVICE, "port", "65536", ES_TOO_LARGE},
        {GROUP_SERVICE, "port", "x", ES_INVALID},
        {GROUP_SERVICE, "host", "[::1]", ES_OK},
        {GROUP_SERVICE, "host", "a b", ES_INVALID},
        {GROUP_SERVICE, "name", "a\x01", ES_INVALID},
        {GROUP_SERVICE, "insecure", "true", ES_OK},
        {GROUP_SERVICE, "insecure", "yes", ES_INVALID},
        {GROUP_LIMITS, "max_payload", "64MiB", ES_OK},
        {GROUP_LIMITS, "max_payload", "65MiB", ES_TOO_LARGE},
        {GROUP_LIMITS, "max_payload", "0", ES_TOO_LARGE},
        {GROUP_LIMITS, "ping_interval", "1h", ES_OK},
        {GROUP_LIMITS, "ping_interval", "1ns", ES_TOO_LARGE},
        {GROUP_LIMITS, "memory", "1GiB", ES_OK},
        {GROUP_LIMITS, "memory", "auto", ES_OK},
        {GROUP_LIMITS, "max_payload", "auto", ES_INVALID},
        {GROUP_THREADS, "workers", "3", ES_OK},
        {GROUP_THREADS, "workers", "auto", ES_OK},
        {GROUP_THREADS, "workers", "Auto", ES_INVALID},
        {GROUP_THREADS, "routers", "auto", ES_INVALID},
        {GROUP_LIMITS, "slow_consumer", "disconnect", ES_OK},
        {GROUP_LIMITS, "slow_consumer", "drop_new", ES_OK},
        {GROUP_LIMITS, "slow_consumer", "drop", ES_INVALID},
        {GROUP_GATEWAY, "advertise", "a.example:1", ES_OK},
        {GROUP_GATEWAY, "advertise", "a.example", ES_INVALID},
        {GROUP_LOG, "level", "trace", ES_OK},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(cases); i++) {
        assert_int_equal(esi_set_text(row_of(cases[i].group, cases[i].key), &draft, cases[i].text),
                         cases[i].err);
    }
    assert_int_equal(draft.config.service.port, 65535);
    assert_string_equal(draft.config.service.host, "::1");
    assert_null(draft.config.service.name);
    assert_true(draft.config.service.insecure);
    assert_int_equal(draft.config.limits.max_payload_bytes, 64 << 20);
    assert_int_equal(draft.config.limits.memory_bytes, 0);
    assert_int_equal(draft.config.threads.workers, 0);
    assert_int_equal(draft.config.limits.ping_interval_ns, UINT64_C(3600000000000));
    assert_int_equal(draft.config.log.level, LOG_TRACE);
    esi_set_clear(row_of(GROUP_SERVICE, "host"), &draft);
    assert_null(draft.config.service.host);
    esi_set_clear(row_of(GROUP_GATEWAY, "advertise"), &draft);
}

static void handler_addresses_have_schemes(void **state)
{
    struct esi_config_handler handler = {0};
    const struct esi_schema_row *row = row_of(GROUP_HANDLER, "address");

    (void)state;
    assert_int_equal(esi_set_text(row, &handler, "0.0.0.0:10121"), ES_OK);
    assert_string_equal(handler.host, "127.0.0.1");
    assert_int_equal(handler.port, 10121);
    assert_true(handler.is_tls && handler.is_bare);
    assert_int_equal(esi_set_text(row, &handler, "grpc://[::]:7"), ES_OK);
    assert_string_equal(handler.host, "::1");
    assert_false(handler.is_tls || handler.is_bare);
    assert_int_equal(esi_set_text(row, &handler, "grpcs://w.example:8"), ES_OK);
    assert_true(handler.is_tls && !handler.is_bare);
    assert_int_equal(esi_set_text(row, &handler, "https://w.example/x"), ES_UNSUPPORTED);
    assert_int_equal(esi_set_text(row, &handler, "nats:subject"), ES_UNSUPPORTED);
    assert_int_equal(esi_set_text(row, &handler, "ftp://w.example:8"), ES_INVALID);
    assert_int_equal(esi_set_text(row, &handler, "w.example"), ES_INVALID);
    assert_string_equal(handler.host, "w.example");
    esi_set_clear(row, &handler);
}

static void urls_are_taken_apart(void **state)
{
    struct esi_config_remote remote = {0};
    const struct esi_schema_row *row = row_of(GROUP_REMOTE, "urls");
    static const char *const bad[] = {
        "",          "nats://",         "http://h:1",    "nats://h",
        "u@h:1",     "nats://u:@h:1",   "nats://:p@h:1", "nats://h:1/x",
        "tls://h:0", "nats://u:p@h:1\n"};

    (void)state;
    assert_int_equal(esi_set_text(row, &remote, "nats://u:p@ss@h.example:1/"), ES_OK);
    assert_int_equal(esi_set_text(row, &remote, "tls://[::1]:2"), ES_OK);
    assert_int_equal(esi_set_text(row, &remote, "h:3"), ES_OK);
    for (size_t i = 0; i < ESI_COUNT_OF(bad); i++) {
        assert_int_equal(esi_set_text(row, &remote, bad[i]), ES_INVALID);
    }
    assert_int_equal(remote.url_count, 3);
    assert_string_equal(remote.urls[0].user, "u");
    assert_string_equal(remote.urls[0].password, "p@ss");
    assert_string_equal(remote.urls[0].host, "h.example");
    assert_string_equal(remote.urls[1].host, "::1");
    assert_null(remote.urls[2].user);
    assert_int_equal(remote.urls[2].port, 3);
    esi_set_clear(row, &remote);
    assert_int_equal(remote.url_count, 0);
}

static void lists_know_whether_they_were_given(void **state)
{
    struct esi_config_tls tls = {0};
    const struct esi_schema_row *row = row_of(GROUP_TLS, "allowed_names");

    (void)state;
    assert_false(tls.allowed_names.is_given);
    esi_set_empty_list(row, &tls);
    assert_true(tls.allowed_names.is_given);
    assert_int_equal(esi_set_text(row, &tls, "a"), ES_OK);
    assert_int_equal(esi_set_text(row, &tls, "b"), ES_OK);
    assert_int_equal(tls.allowed_names.count, 2);
    assert_string_equal(tls.allowed_names.items[1], "b");
    esi_set_clear(row, &tls);
    assert_false(tls.allowed_names.is_given);
}

static void what_is_allowed_is_described(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    esi_set_describe(row_of(GROUP_LIMITS, "slow_consumer"), &out);
    esi_bytes_append_text(&out, "|");
    esi_set_describe(row_of(GROUP_LIMITS, "max_payload"), &out);
    esi_bytes_append(&out, "", 1);
    assert_string_equal(
        out.data,
        "one of disconnect, drop_new, block|a size from 1 to 64MiB, such as 4096, 64KB or 1MiB,");
    esi_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_checked_for_kind_and_range),
        cmocka_unit_test(handler_addresses_have_schemes),
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(lists_know_whether_they_were_given),
        cmocka_unit_test(what_is_allowed_is_described),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
