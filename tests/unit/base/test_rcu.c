/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what a reader found stays whole until its next quiescent state; a sleeping reader holds
 * nothing up. Method: a writer replaces an object and destroys the old one after each grace period
 * while readers look at it; a reader that has gone offline and waits for the writer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rcu.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { READERS = 3, REPLACEMENTS = 300, WORDS = 16 };

struct object {
    uint32_t words[WORDS];
};

static _Atomic(struct object *) shared;
static _Atomic bool is_ending;
static _Atomic uint64_t reads;

static struct object *new_object(uint32_t value)
{
    struct object *object = malloc(sizeof *object);

    if (object == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < WORDS; i++) {
        object->words[i] = value;
    }
    return object;
}

static void *read_on(void *argument)
{
    uint32_t last = 0;

    (void)argument;
    esi_rcu_register();
    /* order: relaxed; only an end is told. */
    while (!atomic_load_explicit(&is_ending, memory_order_relaxed)) {
        esi_rcu_quiescent();
        const struct object *object = ESI_RCU_READ(shared);
        const uint32_t value = object->words[0];
        for (uint32_t round = 0; round < 20; round++) {
            for (uint32_t i = 0; i < WORDS; i++) {
                if (object->words[i] != value) {
                    abort();
                }
            }
        }
        if (value < last) {
            abort();
        }
        last = value;
        /* order: relaxed; a counter. */
        atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
    }
    esi_rcu_unregister();
    return NULL;
}

static void test_objects_outlive_their_readers(void **state)
{
    pthread_t threads[READERS];

    (void)state;
    ESI_RCU_PUBLISH(shared, new_object(1));
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    }
    /* order: relaxed; a counter. */
    while (atomic_load_explicit(&reads, memory_order_relaxed) < READERS) {
        sched_yield();
    }
    for (uint32_t i = 2; i < REPLACEMENTS + 2; i++) {
        struct object *old = ESI_RCU_OWN(shared);
        ESI_RCU_PUBLISH(shared, new_object(i));
        esi_rcu_wait();
        memset(old, 0xee, sizeof *old);
        free(old);
    }
    /* order: relaxed; only an end is told. */
    atomic_store_explicit(&is_ending, true, memory_order_relaxed);
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    /* order: relaxed; the threads are joined. */
    assert_true(atomic_load_explicit(&reads, memory_order_relaxed) > READERS);
    free(ESI_RCU_OWN(shared));
}

static sem_t is_offline;
static sem_t may_go_on;

static void *sleep_offline(void *argument)
{
    (void)argument;
    esi_rcu_register();
    esi_rcu_offline();
    sem_post(&is_offline);
    sem_wait(&may_go_on);
    esi_rcu_online();
    esi_rcu_quiescent();
    esi_rcu_unregister();
    return NULL;
}

/* The reader wakes only after the grace period has ended: a test that hangs here has failed. */
static void test_a_sleeper_holds_nothing_up(void **state)
{
    pthread_t thread;

    (void)state;
    sem_init(&is_offline, 0, 0);
    sem_init(&may_go_on, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, sleep_offline, NULL), 0);
    sem_wait(&is_offline);
    esi_rcu_wait();
    sem_post(&may_go_on);
    pthread_join(thread, NULL);
    sem_destroy(&is_offline);
    sem_destroy(&may_go_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_outlive_their_readers),
        cmocka_unit_test(test_a_sleeper_holds_nothing_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
