/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: readers of the subscription table never see what has been freed, never miss what was there
 * all the time, never find what does not match; when the writer rests, they find exactly what a
 * model holds. Method: one router thread adds, removes and replaces random literal and wildcard
 * subscriptions and destroys what it retired after each grace period, while readers walk; a set of
 * subscriptions stays through it all. Now and then all meet, and readers compare.
 */
#include "base/hashmap.h"
#include "base/own.h"
#include "base/rcu.h"
#include "broker_case.h"
#include "proto/subject.h"
#include "runtime_case.h"

#include <pthread.h>

enum {
    READERS = 3,
    SUBS = 300,
    FIXED = 12,
    SUBJECTS = 40,
    PHASES = 12,
    CHANGES = 400,
    WALKS_MIN = 300,
    RETIRED_MAX = 64
};

static struct broker_case broker;
static struct sink *sinks[3];
static struct esi_sub *subs[SUBS];   /* the router's; read by others when all meet */
static struct esi_sub *fixed[FIXED]; /* there all the time */
static char subjects[SUBJECTS][32];
static pthread_barrier_t barrier;
static _Atomic bool is_writing;
static _Atomic uint64_t walks;

static void draw_tokens(uint64_t *random, char *out, size_t capacity, bool is_pattern)
{
    static const char *const tokens[] = {"a", "b", "c", "dd", "*", "*"};
    const uint32_t count = 1 + draw_below(random, 4);
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        const bool is_rest = is_pattern && i + 1 == count && draw_below(random, 4) == 0;
        len += (size_t)snprintf(out + len, capacity - len, "%s%s", i > 0 ? "." : "",
                                is_rest ? ">" : tokens[draw_below(random, is_pattern ? 6 : 4)]);
    }
}

/* --- readers --- */

struct walked {
    struct esi_str subject;
    bool has_fixed[FIXED];
    uint32_t count;
};

static void look_at(void *argument, struct esi_sub *sub)
{
    struct walked *walked = argument;

    case_check(sub->target == &sinks[0]->target || sub->target == &sinks[1]->target ||
               sub->target == &sinks[2]->target);
    case_check(esi_subject_matches(sub->subject, walked->subject));
    if (sub->slot >= SUBS) {
        case_check(!walked->has_fixed[sub->slot - SUBS]);
        walked->has_fixed[sub->slot - SUBS] = true;
    }
    walked->count++;
}

static uint32_t walk(const char *text)
{
    struct walked walked = {.subject = esi_str_from(text)};

    esi_subtable_walk(broker.table, walked.subject, esi_hashmap_hash(walked.subject), look_at,
                      &walked);
    for (uint32_t i = 0; i < FIXED; i++) {
        case_check(walked.has_fixed[i] == esi_subject_matches(fixed[i]->subject, walked.subject));
    }
    return walked.count;
}

/* The writer rests: exactly what the model says. */
static void compare(void)
{
    for (uint32_t s = 0; s < SUBJECTS; s++) {
        uint32_t expected = 0;
        for (uint32_t i = 0; i < SUBS; i++) {
            expected +=
                subs[i] != NULL && esi_subject_matches(subs[i]->subject, esi_str_from(subjects[s]));
        }
        for (uint32_t i = 0; i < FIXED; i++) {
            expected += esi_subject_matches(fixed[i]->subject, esi_str_from(subjects[s]));
        }
        case_check(walk(subjects[s]) == expected);
    }
}

static void meet(void)
{
    /* A barrier is a sleep: offline, or the writer's grace period would wait for us. */
    esi_rcu_offline();
    pthread_barrier_wait(&barrier);
    esi_rcu_online();
}

static void *read_on(void *argument)
{
    uint64_t random = *(const uint64_t *)argument;

    esi_rcu_register();
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        meet();
        uint64_t count = 0;
        /* order: relaxed; the barrier orders the rest. */
        while (atomic_load_explicit(&is_writing, memory_order_relaxed)) {
            walk(subjects[draw_below(&random, SUBJECTS)]);
            count++;
            /* order: relaxed; a counter. */
            atomic_fetch_add_explicit(&walks, 1, memory_order_relaxed);
            if (count % 8 == 0) {
                esi_rcu_quiescent();
            }
        }
        meet();
        compare();
        meet();
    }
    esi_rcu_unregister();
    return NULL;
}

/* --- the router --- */

struct trash {
    struct esi_retired *retired;
    struct esi_sub *removed[RETIRED_MAX];
    uint32_t count;
};

/* As the router does: all that was retired in one go after one grace period. */
static void empty_trash(struct trash *trash)
{
    esi_rcu_wait();
    esi_subtable_free_retired(ESI_MOVE(trash->retired));
    for (uint32_t i = 0; i < trash->count; i++) {
        memset(trash->removed[i], 0xee, sizeof *trash->removed[i]);
        free(trash->removed[i]);
    }
    trash->count = 0;
}

static struct esi_sub *new_sub(uint64_t *random, const char *subject, uint32_t slot)
{
    static const char *const queues[] = {"", "", "g", "h"};
    struct esi_sub *sub = esi_sub_new(&sinks[draw_below(random, 3)]->target, esi_str_from(subject),
                                      esi_str_from(queues[draw_below(random, 4)]), ESI_STR("1"));

    case_check(sub != NULL);
    sub->slot = slot;
    return sub;
}

static void change_one(uint64_t *random, struct trash *trash)
{
    const uint32_t i = draw_below(random, SUBS);
    char pattern[32];

    if (subs[i] == NULL) {
        draw_tokens(random, pattern, sizeof pattern, draw_below(random, 3) > 0);
        subs[i] = new_sub(random, pattern, i);
        case_check(esi_subtable_add(broker.table, subs[i], &trash->retired) == ES_OK);
        return;
    }
    trash->removed[trash->count++] = subs[i];
    if (draw_below(random, 3) == 0) {
        struct esi_sub *fresh =
            esi_sub_new(subs[i]->target, subs[i]->subject, subs[i]->queue, ESI_STR("1"));
        case_check(fresh != NULL);
        fresh->slot = i;
        esi_subtable_replace(broker.table, subs[i], fresh);
        subs[i] = fresh;
    } else {
        esi_subtable_remove(broker.table, subs[i], &trash->retired);
        subs[i] = NULL;
    }
}

static void write_on(uint64_t *random, struct trash *trash)
{
    for (uint32_t i = 0; i < CHANGES; i++) {
        change_one(random, trash);
        if (trash->count >= RETIRED_MAX - 1 || draw_below(random, 40) == 0) {
            empty_trash(trash);
        }
    }
}

static void set_up(uint64_t *random)
{
    static const char *const patterns[FIXED] = {"a", "a.b",    "a.*",   "*.b",      ">",   "a.>",
                                                "*", "b.c.dd", "*.*.*", "dd.*.a.>", "a.a", "c"};

    broker_case_init(&broker, 3);
    for (uint32_t i = 0; i < 3; i++) {
        sinks[i] = new_sink(&broker, i == 2);
    }
    for (uint32_t i = 0; i < FIXED; i++) {
        struct esi_retired *retired = NULL;
        fixed[i] = new_sub(random, patterns[i], SUBS + i);
        case_check(esi_subtable_add(broker.table, fixed[i], &retired) == ES_OK);
        esi_subtable_free_retired(retired);
    }
    for (uint32_t i = 0; i < SUBJECTS; i++) {
        draw_tokens(random, subjects[i], sizeof subjects[i], false);
    }
}

int main(void)
{
    pthread_t threads[READERS];
    uint64_t seeds[READERS] = {11, 12, 13};
    uint64_t random = 10;
    struct trash trash = {.retired = NULL};

    set_up(&random);
    pthread_barrier_init(&barrier, NULL, READERS + 1);
    for (uint32_t i = 0; i < READERS; i++) {
        case_check(pthread_create(&threads[i], NULL, read_on, &seeds[i]) == 0);
    }
    for (uint32_t phase = 0; phase < PHASES; phase++) {
        /* order: relaxed; the barrier orders it. */
        atomic_store_explicit(&is_writing, true, memory_order_relaxed);
        pthread_barrier_wait(&barrier);
        do {
            write_on(&random, &trash);
            /* order: relaxed; a counter. On a busy machine the readers may not have had their
             * turn. */
        } while (atomic_load_explicit(&walks, memory_order_relaxed) < (phase + 1) * WALKS_MIN);
        /* order: relaxed; only an end is told. */
        atomic_store_explicit(&is_writing, false, memory_order_relaxed);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    empty_trash(&trash);
    for (uint32_t i = 0; i < SUBS; i++) {
        if (subs[i] != NULL) {
            unsubscribe(subs[i]);
        }
    }
    for (uint32_t i = 0; i < FIXED; i++) {
        unsubscribe(fixed[i]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        free_sink(sinks[i]);
    }
    broker_case_deinit(&broker);
    pthread_barrier_destroy(&barrier);
    return 0;
}
