/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: mapped replies are understood by real servers. Method: the hashes recorded from real
 * servers, and subjects taken apart and put together.
 */
#include "proto/reply_map.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_hashes(void **state)
{
    static const struct {
        const char *name;
        const char *hash;
        const char *old_hash;
    } rows[] = {
        {"A", "NUmM6c", "559a"},
        {"B", "b2oh2L", "df7e"},
        {"C", "jZ6RvV", "6b23"},
        {"F", "yyrAQg", "f67a"},
        {"NC5SCR7ECB5YPAGQ2XFE5Q3F2TMMK7CEOGIRVXVNEUCUVSPEP4ISU6IA", "BjCuC0", NULL},
        {"ND3CAR2HD3NRLY7G7QSQOCZNH22XFHWNP34F6EVTRD5O4MKEQ3XXZUAE", "lg4Svz", NULL},
        {"NATX3WB24I2BWQ63GRA3GZPIKGEPQSSHP33GBHOYOGYVP5H2UVXTS5CJ", "e5lnY2", NULL},
        {"NFAKEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AKS6DY", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        const struct esi_reply_map_hash hash = esi_reply_map_hash(esi_str_from(rows[i].name));
        assert_string_equal(hash.text, rows[i].hash);
        if (rows[i].old_hash != NULL) {
            assert_string_equal(hash.old_text, rows[i].old_hash);
        }
    }
}

static void test_write_and_read(void **state)
{
    const struct esi_reply_map_hash cluster = esi_reply_map_hash(ESI_STR("A"));
    const struct esi_reply_map_hash server =
        esi_reply_map_hash(ESI_STR("NC5SCR7ECB5YPAGQ2XFE5Q3F2TMMK7CEOGIRVXVNEUCUVSPEP4ISU6IA"));
    char out[ESI_REPLY_MAP_PREFIX_LEN + 11];
    struct esi_reply_map map;

    (void)state;
    const char *end = esi_reply_map_write(out, &cluster, &server, ESI_STR("inbox.fresh"));
    const struct esi_str mapped = {.data = out, .len = (size_t)(end - out)};
    assert_true(esi_str_equal(mapped, ESI_STR("_GR_.NUmM6c.BjCuC0.inbox.fresh")));
    assert_true(esi_reply_map_read(mapped, &map));
    assert_true(esi_str_equal(map.cluster, ESI_STR("NUmM6c")));
    assert_true(esi_str_equal(map.server, ESI_STR("BjCuC0")));
    assert_true(esi_str_equal(map.reply, ESI_STR("inbox.fresh")));
    assert_false(map.is_old);

    end = esi_reply_map_write_old(out, &cluster, ESI_STR("inbox.fresh"));
    const struct esi_str old = {.data = out, .len = (size_t)(end - out)};
    assert_true(esi_str_equal(old, ESI_STR("$GR.559a.inbox.fresh")));
    assert_true(esi_reply_map_read(old, &map));
    assert_true(esi_str_equal(map.cluster, ESI_STR("559a")));
    assert_int_equal(map.server.len, 0);
    assert_true(esi_str_equal(map.reply, ESI_STR("inbox.fresh")));
    assert_true(map.is_old);
}

static void test_not_mapped(void **state)
{
    struct esi_reply_map map;

    (void)state;
    assert_false(esi_reply_map_read(ESI_STR("_GR_.NUmM6c.BjCuC0."), &map));
    assert_true(esi_reply_map_read(ESI_STR("_GR_.NUmM6c.BjCuC0.x"), &map));
    assert_false(esi_reply_map_read(ESI_STR("_GR_.x"), &map));
    assert_false(esi_reply_map_read(ESI_STR("$GR.559a."), &map));
    assert_false(esi_reply_map_read(ESI_STR("_R_.aaaaaaaaaaaaaaaaaaaaaaaa"), &map));
    assert_false(esi_reply_map_read((struct esi_str){0}, &map));
    /* What stands behind the prefix is opaque. */
    assert_true(esi_reply_map_read(ESI_STR("_GR_.NUmM6c.BjCuC0.$JS.ACK.a.1@x"), &map));
    assert_true(esi_str_equal(map.reply, ESI_STR("$JS.ACK.a.1@x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_not_mapped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
