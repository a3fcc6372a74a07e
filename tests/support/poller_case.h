/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of a poller and of the sockets in it have in common. Included by one file a
 * program, behind cmocka.h. */
#pragma once

#include "env/env.h"

#define SECOND_NS INT64_C(1000000000)

enum { DEADLINE_S = 20 };

static struct esi_env *env;

/* Waits until the poller reports something; returns the first report. */
static struct esi_poll_ready wait_one(struct esi_poller *poller)
{
    struct esi_poll_ready ready = {0};

    const size_t count = esi_env_poller_wait(env, poller, DEADLINE_S * SECOND_NS, &ready, 1);
    assert_int_equal(count, 1);
    return ready;
}
