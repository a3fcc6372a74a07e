/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a subscription is found by its sid as long as it lives, and by its slot as long as
 * deliveries may carry that; slots stay few. Method: random adds, forgets and releases against a
 * list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "actors/client_subs.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDS = 40, STEPS = 20000 };

struct modelled {
    struct esi_sub *live;       /* known by its sid */
    struct esi_sub *removed[8]; /* their slots are still taken */
    uint32_t removed_count;
};

static struct modelled model[SIDS];
static uint64_t random_state = 21;

static uint32_t draw_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % limit);
}

static const char *sid_of(const struct modelled *modelled)
{
    static char sid[8];

    snprintf(sid, sizeof sid, "%u", (uint32_t)(modelled - model));
    return sid;
}

static struct esi_sub *new_sub(const char *sid)
{
    struct esi_sub *sub = esi_sub_new(NULL, ESI_STR("a.b"), ESI_STR(""), esi_str_from(sid));

    assert_non_null(sub);
    return sub;
}

static void check(const struct esi_client_subs *subs)
{
    uint32_t live = 0;
    uint32_t taken = 0;
    char sid[8];

    for (uint32_t i = 0; i < SIDS; i++) {
        snprintf(sid, sizeof sid, "%u", i);
        const struct esi_client_sub *found = esi_client_subs_find(subs, esi_str_from(sid));
        assert_ptr_equal(found != NULL ? found->sub : NULL, model[i].live);
        live += model[i].live != NULL;
        taken += (model[i].live != NULL) + model[i].removed_count;
        for (uint32_t j = 0; j < model[i].removed_count; j++) {
            struct esi_sub *removed = model[i].removed[j];
            assert_ptr_equal(esi_client_subs_at(subs, removed->slot)->sub, removed);
        }
        if (model[i].live != NULL) {
            assert_ptr_equal(esi_client_subs_at(subs, model[i].live->slot)->sub, model[i].live);
        }
    }
    assert_int_equal(esi_client_subs_count(subs), live);
    uint32_t seen = 0;
    for (uint32_t slot = 0; slot < subs->slot_count; slot++) {
        seen += esi_client_subs_at(subs, slot) != NULL;
    }
    assert_int_equal(seen, taken);
    assert_null(esi_client_subs_at(subs, subs->slot_count));
    assert_null(esi_client_subs_at(subs, UINT32_MAX));
}

static void test_against_a_list(void **state)
{
    struct esi_client_subs subs;
    uint32_t taken = 0;
    uint32_t taken_max = 0;
    char sid[8];

    (void)state;
    esi_client_subs_init(&subs);
    for (uint32_t step = 0; step < STEPS; step++) {
        const uint32_t i = draw_below(SIDS);
        struct modelled *modelled = &model[i];
        const uint32_t what = draw_below(3);
        if (what == 0 && modelled->live == NULL) {
            snprintf(sid, sizeof sid, "%u", i);
            modelled->live = new_sub(sid);
            assert_non_null(esi_client_subs_add(&subs, modelled->live));
            taken++;
        } else if (what == 1 && modelled->live != NULL && modelled->removed_count < 8) {
            struct esi_client_sub *client_sub = esi_client_subs_find(&subs, modelled->live->sid);
            if (draw_below(4) == 0) {
                struct esi_sub *fresh = new_sub(sid_of(modelled));
                esi_client_subs_replace(&subs, client_sub, fresh);
                assert_int_equal(fresh->slot, modelled->live->slot);
                free(modelled->live);
                modelled->live = fresh;
            }
            esi_client_subs_forget(&subs, client_sub);
            esi_client_subs_forget(&subs, client_sub);
            modelled->removed[modelled->removed_count++] = modelled->live;
            modelled->live = NULL;
        } else if (what == 2 && modelled->removed_count > 0) {
            const struct esi_sub *removed = modelled->removed[--modelled->removed_count];
            esi_client_subs_free_slot(&subs, esi_client_subs_at(&subs, removed->slot));
            taken--;
        }
        taken_max = taken > taken_max ? taken : taken_max;
        if (step % 100 == 0) {
            check(&subs);
        }
    }
    check(&subs);
    assert_true(taken_max > SIDS / 2);
    /* Slots are used again: there are never more than were taken at once. */
    assert_true(subs.slot_count <= taken_max);
    esi_client_subs_deinit(&subs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
