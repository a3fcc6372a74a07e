/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a stop reaches every actor, in order of phases, and leaves nothing behind, whatever is
 * under way; jobs, grace periods and visits answer. Method: actors that note what they see in one
 * shared list, under each way to stop; the sanitizers find what is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/actor.h"
#include "runtime_case.h"

#include "base/own.h"

#include <pthread.h>
#include <string.h>

enum { NOTES_MAX = 64 };

struct part {
    struct esi_actor actor; /* first */
    void (*on_msg)(struct part *self, struct esi_msg *msg);
    void (*on_stop)(struct part *self);
    void (*on_cut)(struct part *self);
    struct part *other;
    sem_t *done;
    struct esi_grace kept;
    uint32_t number;
    bool is_silent; /* notes nothing at its stop */
    bool is_visited;
};

static struct esi_runtime *runtime;
static pthread_mutex_t notes_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t notes[NOTES_MAX];
static uint32_t note_count;
static _Atomic uint32_t parts_living;
static _Atomic uint32_t messages_living;
static pthread_t stopping_thread;

static void note(uint32_t value)
{
    pthread_mutex_lock(&notes_mutex);
    case_check(note_count < NOTES_MAX);
    notes[note_count++] = value;
    pthread_mutex_unlock(&notes_mutex);
}

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void free_counted(struct esi_msg *msg)
{
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_sub_explicit(&messages_living, 1, memory_order_relaxed);
    free(msg);
}

static void send_counted(struct part *part, uint32_t kind)
{
    struct esi_msg *msg = calloc(1, sizeof *msg);

    case_check(msg != NULL);
    msg->kind = kind;
    msg->free = free_counted;
    /* order: relaxed; see free_counted. */
    atomic_fetch_add_explicit(&messages_living, 1, memory_order_relaxed);
    esi_actor_send(&part->actor, msg);
}

static void part_handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct part *self = ESI_CONTAINER_OF(actor, struct part, actor);

    self->on_msg(self, msg);
}

static void part_stop(struct esi_actor *actor)
{
    struct part *self = ESI_CONTAINER_OF(actor, struct part, actor);

    if (!self->is_silent) {
        note(self->number);
    }
    if (self->on_stop != NULL) {
        self->on_stop(self);
    } else {
        esi_actor_finish(actor);
    }
}

static void part_cut(struct esi_actor *actor)
{
    struct part *self = ESI_CONTAINER_OF(actor, struct part, actor);

    if (self->on_cut != NULL) {
        self->on_cut(self);
    }
}

static void part_free(struct esi_actor *actor)
{
    struct part *self = ESI_CONTAINER_OF(actor, struct part, actor);

    if (self->other != NULL) {
        /* What an actor holds goes with it: the last words of one are the first of another. */
        struct esi_actor *other = &self->other->actor;
        send_counted(self->other, 0);
        esi_actor_unref(other);
    }
    free(self);
    /* order: relaxed; a counter that is looked at when all is quiet. */
    atomic_fetch_sub_explicit(&parts_living, 1, memory_order_relaxed);
}

#define PART_TYPE(phase)                                                                           \
    {                                                                                              \
        .name = "part", .stop_phase = (phase), .handle = part_handle, .stop = part_stop,           \
        .cut = part_cut, .free = part_free                                                         \
    }
static const struct esi_actor_type types[STOP_PHASE_COUNT] = {
    PART_TYPE(STOP_DOORS), PART_TYPE(STOP_PEERS), PART_TYPE(STOP_DRAIN), PART_TYPE(STOP_SERVICES)};

static struct part *new_part(uint32_t worker, enum esi_stop_phase phase, uint32_t number)
{
    struct part *part = aligned_alloc(ESI_CACHE_LINE, sizeof *part);

    case_check(part != NULL);
    memset(part, 0, sizeof *part);
    part->number = number;
    esi_actor_init(&part->actor, &types[phase], runtime, esi_runtime_worker(runtime, worker));
    /* order: relaxed; see part_free. */
    atomic_fetch_add_explicit(&parts_living, 1, memory_order_relaxed);
    return part;
}

static int set_up(void **state)
{
    (void)state;
    note_count = 0;
    runtime = start_runtime(3);
    return 0;
}

static void expect_all_gone(void)
{
    /* order: relaxed; all threads have ended. */
    assert_int_equal(atomic_load_explicit(&parts_living, memory_order_relaxed), 0);
    /* order: relaxed; all threads have ended. */
    assert_int_equal(atomic_load_explicit(&messages_living, memory_order_relaxed), 0);
}

/* --- stopping --- */

static void test_phases_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3 * STOP_PHASE_COUNT; i++) {
        const uint32_t phase = STOP_PHASE_COUNT - 1 - i % STOP_PHASE_COUNT;
        esi_actor_start(&new_part(i % 3, (enum esi_stop_phase)phase, phase)->actor);
    }
    stop_runtime(runtime);
    assert_int_equal(note_count, 3 * STOP_PHASE_COUNT);
    for (uint32_t i = 0; i < note_count; i++) {
        assert_int_equal(notes[i], i / 3);
    }
    expect_all_gone();
}

/* A door that, while it closes, still lets one in: the newcomer's start overtakes nothing, but it
 * too is stopped. */
static void start_another(struct part *self)
{
    struct part *late = new_part(2, STOP_DOORS, 9);

    esi_actor_start(&late->actor);
    esi_actor_finish(&self->actor);
}

static void test_who_comes_late_is_stopped_too(void **state)
{
    (void)state;
    struct part *door = new_part(0, STOP_DOORS, 1);
    door->on_stop = start_another;
    esi_actor_start(&door->actor);
    stop_runtime(runtime);
    assert_int_equal(note_count, 2);
    assert_int_equal(notes[1], 9);
    expect_all_gone();
}

static void send_on(struct part *self, struct esi_msg *msg)
{
    if (msg->kind > 0) {
        send_counted(self->other, msg->kind - 1);
    }
}

static void do_nothing(struct part *self)
{
    (void)self;
}

/* Three that know each other in a ring, and do not stop: ended by force, with messages between them
 * under way. */
static void test_patience_ends(void **state)
{
    struct part *parts[3];

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        parts[i] = new_part(i, STOP_PEERS, i);
        parts[i]->on_stop = do_nothing;
        parts[i]->on_msg = send_on;
    }
    for (uint32_t i = 0; i < 3; i++) {
        parts[i]->other = parts[(i + 1) % 3];
        esi_actor_ref(&parts[i]->other->actor);
    }
    /* A ring of references would keep itself alive: it is opened. */
    parts[2]->on_msg = NULL;
    esi_actor_unref(&parts[2]->other->actor);
    parts[2]->other = NULL;
    parts[1]->on_msg = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        esi_actor_start(&parts[i]->actor);
    }
    assert_int_equal(esi_runtime_stop(runtime, 20000000), ES_TIMEOUT);
    assert_true(esi_runtime_has_forced(runtime));
    esi_runtime_free(runtime);
    assert_int_equal(note_count, 3);
    expect_all_gone();
}

static void end_at_last(struct part *self)
{
    note(self->number + 10);
    esi_actor_finish(&self->actor);
}

/* They do not end when they are told to stop, only when they are cut off. */
static void start_late_parts(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct part *part = new_part(i, STOP_PEERS, 1);
        part->on_stop = do_nothing;
        part->on_cut = end_at_last;
        esi_actor_start(&part->actor);
    }
}

/* Who has no time at all, and ends when it is cut off: nobody is finished by force for that,
 * however late the message comes. */
static void test_who_ends_when_cut_off_is_not_forced(void **state)
{
    (void)state;
    start_late_parts();
    assert_int_equal(esi_runtime_stop(runtime, 0), ES_TIMEOUT);
    assert_false(esi_runtime_has_forced(runtime));
    esi_runtime_free(runtime);
    assert_int_equal(note_count, 6);
    expect_all_gone();
}

/* Who does not end in time is cut off: told once more, and only then is the next phase's turn. */
static void test_who_waits_too_long_is_cut_off(void **state)
{
    (void)state;
    start_late_parts();
    esi_actor_start(&new_part(0, STOP_SERVICES, 20)->actor);
    assert_int_equal(esi_runtime_stop(runtime, 20000000), ES_TIMEOUT);
    assert_false(esi_runtime_has_forced(runtime));
    esi_runtime_free(runtime);
    static const uint32_t wanted[] = {1, 1, 1, 11, 11, 11, 20};
    assert_int_equal(note_count, ESI_COUNT_OF(wanted));
    for (uint32_t i = 0; i < note_count; i++) {
        assert_int_equal(notes[i], wanted[i]);
    }
    expect_all_gone();
}

static void send_to_self(struct part *self)
{
    send_counted(self, 0);
}

static void end_by_msg(struct part *self, struct esi_msg *msg)
{
    (void)msg;
    esi_actor_finish(&self->actor);
}

/* Who brings work to its end has the time for that, also where the others have none at all. */
static void test_draining_has_a_time_of_its_own(void **state)
{
    const struct esi_runtime_options options = {
        .env = esi_env_linux(), .worker_count = 1, .drain_ns = CASE_DEADLINE_S * 1000000000ULL};

    (void)state;
    stop_runtime(runtime);
    case_check(esi_runtime_new(&options, &runtime) == ES_OK);
    struct part *part = new_part(0, STOP_DRAIN, 1);
    part->on_stop = send_to_self;
    part->on_msg = end_by_msg;
    esi_actor_start(&part->actor);
    assert_int_equal(esi_runtime_stop(runtime, 0), ES_OK);
    esi_runtime_free(runtime);
    assert_int_equal(note_count, 1);
    expect_all_gone();
}

/* --- jobs --- */

struct asked {
    struct esi_job job; /* first */
    struct part *part;
    struct esi_msg answer;
};

static void run_job(struct esi_job *job)
{
    struct asked *asked = (struct asked *)(void *)job;

    asked->answer = (struct esi_msg){.kind = 7, .free = keep};
    esi_actor_send(&asked->part->actor, &asked->answer);
}

static void take_answer(struct part *self, struct esi_msg *msg)
{
    struct asked *asked = ESI_CONTAINER_OF(msg, struct asked, answer);

    case_check(msg->kind == 7);
    free(asked);
    sem_post(self->done);
}

static void submit_job(struct part *part)
{
    struct asked *asked = calloc(1, sizeof *asked);

    case_check(asked != NULL);
    asked->job.run = run_job;
    asked->part = part;
    esi_runtime_submit(runtime, &asked->job);
}

static void test_jobs_answer(void **state)
{
    sem_t done;

    (void)state;
    sem_init(&done, 0, 0);
    struct part *part = new_part(1, STOP_PEERS, 1);
    part->on_msg = take_answer;
    part->done = &done;
    esi_actor_start(&part->actor);
    for (uint32_t i = 0; i < 100; i++) {
        submit_job(part);
    }
    await_count(&done, 100);
    stop_runtime(runtime);
    sem_destroy(&done);
    expect_all_gone();
}

struct lonely_job {
    struct esi_job job; /* first */
    sem_t done;
};

static void run_lonely(struct esi_job *job)
{
    sem_post(&((struct lonely_job *)(void *)job)->done);
}

static void submit_at_stop(struct part *self)
{
    struct lonely_job *lonely = ESI_CONTAINER_OF(self->done, struct lonely_job, done);

    lonely->job.run = run_lonely;
    esi_runtime_submit(runtime, &lonely->job);
    esi_actor_finish(&self->actor);
}

static void test_jobs_of_the_last_moment_run(void **state)
{
    struct lonely_job lonely;

    (void)state;
    sem_init(&lonely.done, 0, 0);
    struct part *part = new_part(2, STOP_SERVICES, 1);
    part->on_stop = submit_at_stop;
    part->done = &lonely.done;
    esi_actor_start(&part->actor);
    stop_runtime(runtime);
    assert_int_equal(sem_trywait(&lonely.done), 0);
    sem_destroy(&lonely.done);
    expect_all_gone();
}

/* --- grace periods --- */

static void tell(struct part *self, struct esi_msg *msg)
{
    case_check(msg == &self->kept.msg);
    sem_post(self->done);
}

static void test_grace_periods_end(void **state)
{
    sem_t done;

    (void)state;
    sem_init(&done, 0, 0);
    struct part *part = new_part(0, STOP_PEERS, 1);
    part->on_msg = tell;
    part->done = &done;
    part->kept.msg = (struct esi_msg){.free = keep};
    esi_actor_start(&part->actor);
    for (uint32_t i = 0; i < 50; i++) {
        esi_runtime_after_grace(runtime, &part->actor, &part->kept);
        await(&done);
    }
    stop_runtime(runtime);
    sem_destroy(&done);
    expect_all_gone();
}

/* Who is patient is answered too, alone and beside one who is not. */
static void test_patient_grace_periods_end(void **state)
{
    sem_t done;

    (void)state;
    sem_init(&done, 0, 0);
    struct part *patient = new_part(0, STOP_PEERS, 1);
    struct part *urgent = new_part(1, STOP_PEERS, 1);
    struct part *parts[] = {patient, urgent};
    for (size_t i = 0; i < 2; i++) {
        parts[i]->on_msg = tell;
        parts[i]->done = &done;
        parts[i]->kept.msg = (struct esi_msg){.free = keep};
        esi_actor_start(&parts[i]->actor);
    }
    for (uint32_t i = 0; i < 20; i++) {
        esi_runtime_after_some_grace(runtime, &patient->actor, &patient->kept);
        if (i % 2 == 0) {
            esi_runtime_after_grace(runtime, &urgent->actor, &urgent->kept);
            await(&done);
        }
        await(&done);
    }
    stop_runtime(runtime);
    sem_destroy(&done);
    expect_all_gone();
}

/* Asked for at the very end, when the reclaimer has gone: it is answered all the same, and its
 * memory freed. */
static void ask_in_last_words(struct part *self, struct esi_msg *msg)
{
    case_check(msg->kind == 0);
    (void)self;
}

static void ask_for_grace(struct part *self)
{
    esi_runtime_after_grace(runtime, &self->actor, &self->kept);
    self->kept.msg.free = keep;
}

static void test_grace_asked_for_at_the_end(void **state)
{
    (void)state;
    struct part *part = new_part(0, STOP_SERVICES, 1);
    part->on_msg = ask_in_last_words;
    part->on_stop = ask_for_grace;
    part->kept.msg = (struct esi_msg){.free = keep};
    esi_actor_ref(&part->actor);
    esi_actor_start(&part->actor);
    assert_int_equal(esi_runtime_stop(runtime, 20000000), ES_TIMEOUT);
    esi_runtime_free(runtime);
    /* Our reference was never given up, so it is still there, finished. */
    assert_true(part->actor.is_finished);
    free(part);
    /* order: relaxed; all threads have ended. */
    atomic_fetch_sub_explicit(&parts_living, 1, memory_order_relaxed);
    expect_all_gone();
}

/* Asks again and again as long as there are threads, so that there is a question left when they
 * have ended; then answers who waits. */
static void answer_when_alone(struct part *self, struct esi_msg *msg)
{
    struct part *waiting = self->other;

    (void)msg;
    if (!pthread_equal(pthread_self(), stopping_thread)) {
        ask_for_grace(self);
        return;
    }
    self->other = NULL;
    send_counted(waiting, 0);
    esi_actor_finish(&self->actor);
}

static void end_when_answered(struct part *self, struct esi_msg *msg)
{
    (void)msg;
    note(self->number);
    esi_actor_finish(&self->actor);
}

/* Who waits for an answer that is sure to come holds no reference for it. Finished by force before
 * it has come, it would get it with no reference left, and be freed twice. */
static void test_answers_come_before_the_end_by_force(void **state)
{
    struct part *waiting = new_part(0, STOP_PEERS, 1);
    struct part *answering = new_part(1, STOP_SERVICES, 2);

    (void)state;
    stopping_thread = pthread_self();
    waiting->is_silent = true;
    waiting->on_stop = do_nothing;
    waiting->on_msg = end_when_answered;
    answering->is_silent = true;
    answering->on_stop = ask_for_grace;
    answering->on_msg = answer_when_alone;
    answering->other = waiting;
    answering->kept.msg = (struct esi_msg){.free = keep};
    esi_actor_start(&waiting->actor);
    esi_actor_start(&answering->actor);
    assert_int_equal(esi_runtime_stop(runtime, 20000000), ES_TIMEOUT);
    esi_runtime_free(runtime);
    assert_int_equal(note_count, 1);
    assert_int_equal(notes[0], 1);
    expect_all_gone();
}

/* --- visits --- */

static void count_visited(struct esi_actor *actor, void *argument)
{
    uint32_t *counts = argument;

    case_check(esi_actor_home(actor) == esi_worker_current());
    counts[esi_worker_index(esi_actor_home(actor))]++;
}

static void count_workers(struct esi_worker *worker, void *argument)
{
    uint32_t *counts = argument;

    counts[3 + esi_worker_index(worker)]++;
}

static void test_visits_see_all(void **state)
{
    sem_t done;
    uint32_t counts[6] = {0};

    (void)state;
    sem_init(&done, 0, 0);
    struct part *asker = new_part(1, STOP_PEERS, 1);
    asker->on_msg = tell;
    asker->done = &done;
    asker->kept.msg = (struct esi_msg){.free = keep};
    esi_actor_start(&asker->actor);
    for (uint32_t i = 0; i < 5; i++) {
        esi_actor_start(&new_part(2, STOP_PEERS, 1)->actor);
    }
    struct esi_visit visit = {.visit = count_visited,
                              .visit_worker = count_workers,
                              .argument = counts,
                              .asker = &asker->actor,
                              .done = &asker->kept.msg};
    esi_runtime_visit(runtime, &visit);
    await(&done);
    assert_int_equal(counts[0], 0);
    assert_int_equal(counts[1], 1);
    assert_int_equal(counts[2], 5);
    for (uint32_t i = 3; i < 6; i++) {
        assert_int_equal(counts[i], 1);
    }
    stop_runtime(runtime);
    sem_destroy(&done);
    expect_all_gone();
}

static void finish_on_msg(struct part *self, struct esi_msg *msg)
{
    (void)msg;
    esi_actor_finish(&self->actor);
}

struct long_visit {
    struct esi_visit visit;
    uint32_t seen;
    uint32_t seen_again;
};

/* Each 50th is not done with at once. Half of these are told to end: whether they have when they
 * would be asked again is a matter of who is faster, but one that has ended is never asked. */
static void visit_slowly(struct esi_actor *actor, void *argument)
{
    struct long_visit *self = argument;
    struct part *part = ESI_CONTAINER_OF(actor, struct part, actor);

    case_check(!actor->is_finished);
    if (part->number % 50 != 0 || part->number == 0) {
        self->seen++;
    } else if (!part->is_visited) {
        part->is_visited = true;
        self->seen++;
        self->visit.is_unfinished = true;
        if (part->number % 100 == 0) {
            send_counted(part, 0);
        }
    } else {
        self->seen_again += part->number % 100 != 0;
    }
}

static void test_long_visit_goes_on(void **state)
{
    sem_t done;
    struct long_visit long_visit = {.seen = 0};

    (void)state;
    sem_init(&done, 0, 0);
    struct part *asker = new_part(0, STOP_SERVICES, 0);
    asker->on_msg = tell;
    asker->done = &done;
    asker->kept.msg = (struct esi_msg){.free = keep};
    esi_actor_start(&asker->actor);
    for (uint32_t i = 1; i <= 1000; i++) {
        struct part *part = new_part(1, STOP_PEERS, i);
        part->on_msg = finish_on_msg;
        part->is_silent = true;
        esi_actor_start(&part->actor);
    }
    long_visit.visit = (struct esi_visit){.visit = visit_slowly,
                                          .argument = &long_visit,
                                          .asker = &asker->actor,
                                          .done = &asker->kept.msg};
    esi_runtime_visit(runtime, &long_visit.visit);
    await(&done);
    assert_int_equal(long_visit.seen, 1001);
    assert_int_equal(long_visit.seen_again, 10);
    stop_runtime(runtime);
    sem_destroy(&done);
    expect_all_gone();
}

static void test_bounds_of_options(void **state)
{
    const struct esi_runtime_options options = {.env = esi_env_linux()};
    struct esi_runtime *defaults = NULL;

    (void)state;
    assert_int_equal(esi_runtime_new(&options, &defaults), ES_OK);
    assert_int_equal(esi_runtime_worker_count(defaults), esi_env_core_count(esi_env_linux()));
    stop_runtime(defaults);
    esi_runtime_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_phases_in_order, set_up),
        cmocka_unit_test_setup(test_who_comes_late_is_stopped_too, set_up),
        cmocka_unit_test_setup(test_patience_ends, set_up),
        cmocka_unit_test_setup(test_who_ends_when_cut_off_is_not_forced, set_up),
        cmocka_unit_test_setup(test_who_waits_too_long_is_cut_off, set_up),
        cmocka_unit_test_setup(test_draining_has_a_time_of_its_own, set_up),
        cmocka_unit_test_setup(test_jobs_answer, set_up),
        cmocka_unit_test_setup(test_jobs_of_the_last_moment_run, set_up),
        cmocka_unit_test_setup(test_grace_periods_end, set_up),
        cmocka_unit_test_setup(test_patient_grace_periods_end, set_up),
        cmocka_unit_test_setup(test_grace_asked_for_at_the_end, set_up),
        cmocka_unit_test_setup(test_answers_come_before_the_end_by_force, set_up),
        cmocka_unit_test_setup(test_visits_see_all, set_up),
        cmocka_unit_test_setup(test_long_visit_goes_on, set_up),
        cmocka_unit_test(test_bounds_of_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
