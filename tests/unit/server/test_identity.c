/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a server's id is what the nkey format makes of its random bytes, so that tools accept it,
 * and two servers never have the same. Method: known bytes against ids computed by another program
 * (Python's base64 and binascii), and the real source of randomness.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "env/env.h"
#include "server/identity.h"

#include <string.h>

enum { RANDOM_BYTES = 32 };

struct fixed_env {
    struct esi_env env; /* first */
    uint8_t bytes[RANDOM_BYTES];
};

static void give_fixed(struct esi_env *env, void *out, size_t len)
{
    assert_int_equal(len, RANDOM_BYTES);
    memcpy(out, ((struct fixed_env *)(void *)env)->bytes, len);
}

static const struct esi_env_ops fixed_ops = {.random = give_fixed};

static void expect_id(const struct fixed_env *from, const char *wanted)
{
    struct fixed_env fixed = *from;
    char id[58];

    memset(id, '#', sizeof id);
    esi_identity_new(&fixed.env, id);
    assert_string_equal(id, wanted);
    assert_int_equal(id[57], '#');
}

static void test_known_bytes(void **state)
{
    struct fixed_env fixed = {.env = {.ops = &fixed_ops}};

    (void)state;
    expect_id(&fixed, "NAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB5PU");
    for (size_t i = 0; i < RANDOM_BYTES; i++) {
        fixed.bytes[i] = (uint8_t)i;
    }
    expect_id(&fixed, "NAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6CRG");
    memset(fixed.bytes, 0xff, sizeof fixed.bytes);
    expect_id(&fixed, "ND777777777777777777777777777777777777777777777777776QLQ");
}

static void test_two_servers_differ(void **state)
{
    char first[57];
    char second[57];

    (void)state;
    esi_identity_new(esi_env_linux(), first);
    esi_identity_new(esi_env_linux(), second);
    assert_int_equal(strlen(first), 56);
    assert_int_equal(strspn(first, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), 56);
    assert_int_equal(first[0], 'N');
    assert_string_not_equal(first, second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_bytes),
        cmocka_unit_test(test_two_servers_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
