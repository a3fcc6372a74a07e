/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: every check is answered exactly once and rightly, however many ask at once, also when the
 * runtime stops; equal questions are computed together and others stay bounded. Method: a real
 * runtime, askers on two workers, a bcrypt hash that takes some milliseconds.
 */
#include "actors/auth_check.h"
#include "actors/authenticator.h"
#include "actors/context.h"
#include "base/own.h"
#include "config/config.h"
#include "runtime/actor.h"
#include "runtime_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* bcrypt, cost 6, of "hashed-pw". */
#define HASHED_PW "$2b$06$abcdefghijklmnopqrstuudBpc86IiLI9BlTTehWTxiBwVHyVY8fG"

enum asker_msg { ASKER_ANSWER, ASKER_ASK };

/* Asks on its worker, as a connection does, and counts what comes back. */
struct asker {
    struct esi_actor actor; /* first */
    struct esi_authenticator *authenticator;
    struct esi_auth_check *next_check; /* to be sent at the next ASKER_ASK */
    struct esi_msg ask;
    uint32_t asked;
    uint32_t accepted;
    uint32_t refused;
    bool is_stopping;
};

static struct esi_config *config;
static struct esi_context context;
static struct asker *askers[2];
static sem_t answered;
static sem_t asked;
static sem_t freed;
static bool is_patient;            /* an asker does not end before it has all answers */
static _Atomic uint32_t totals[3]; /* asked, accepted, refused: of askers that are gone */

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void finish_if_done(struct asker *self)
{
    if (self->is_stopping && !self->actor.is_finished &&
        (!is_patient || self->asked == self->accepted + self->refused)) {
        esi_actor_finish(&self->actor);
    }
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);
    struct esi_auth_check *check = (struct esi_auth_check *)(void *)msg;

    switch ((enum asker_msg)msg->kind) {
    case ASKER_ANSWER:
        self->accepted += check->verdict.kind == VERDICT_ACCEPTED;
        self->refused += check->verdict.kind == VERDICT_REFUSED;
        (void)sem_post(&answered);
        finish_if_done(self);
        break;
    case ASKER_ASK:
        while (self->next_check != NULL) {
            check = self->next_check;
            self->next_check = (struct esi_auth_check *)(void *)check->msg.next;
            self->asked++;
            esi_authenticator_check(self->authenticator, check);
        }
        (void)sem_post(&asked);
        break;
    }
}

/* Who waits for an answer that never comes ends the test by its deadline. */
static void stop(struct esi_actor *actor)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);

    self->is_stopping = true;
    finish_if_done(self);
}

static void free_asker(struct esi_actor *actor)
{
    struct asker *self = ESI_CONTAINER_OF(actor, struct asker, actor);

    const uint32_t counts[] = {self->asked, self->accepted, self->refused};
    for (size_t i = 0; i < ESI_COUNT_OF(counts); i++) {
        /* order: relaxed; read after all threads have ended. */
        atomic_fetch_add_explicit(&totals[i], counts[i], memory_order_relaxed);
    }
    free(self);
    (void)sem_post(&freed);
}

static const struct esi_actor_type asker_type = {.name = "asker",
                                                 .stop_phase = STOP_SERVICES,
                                                 .handle = handle,
                                                 .stop = stop,
                                                 .free = free_asker};

static void start(const char *auth)
{
    const struct esi_config_source source = {.path = "test.yaml",
                                             .text = esi_str_from(auth),
                                             .program = CONFIG_EVENT_SERVICE,
                                             .without_files = true};
    struct esi_authenticator *authenticator = NULL;
    struct esi_bytes errors;
    struct es_error error = {.text = ""};

    esi_bytes_init(&errors, 0);
    if (esi_config_parse(esi_env_linux(), &source, &config, &errors) != ES_OK) {
        fail_msg("%.*s", ESI_STR_ARG(esi_bytes_str(&errors)));
    }
    esi_bytes_deinit(&errors);
    for (size_t i = 0; i < ESI_COUNT_OF(totals); i++) {
        atomic_init(&totals[i], 0);
    }
    assert_int_equal(sem_init(&answered, 0, 0), 0);
    assert_int_equal(sem_init(&asked, 0, 0), 0);
    assert_int_equal(sem_init(&freed, 0, 0), 0);
    is_patient = true;
    context.env = esi_env_linux();
    context.config = config;
    context.runtime = start_runtime(ESI_COUNT_OF(askers));
    assert_int_equal(esi_authenticator_new(&context, &authenticator, &error), ES_OK);
    for (uint32_t i = 0; i < ESI_COUNT_OF(askers); i++) {
        askers[i] = aligned_alloc(ESI_CACHE_LINE, sizeof *askers[i]);
        assert_non_null(askers[i]);
        memset(askers[i], 0, sizeof *askers[i]);
        askers[i]->authenticator = authenticator;
        esi_actor_init(&askers[i]->actor, &asker_type, context.runtime,
                       esi_runtime_worker(context.runtime, i));
        esi_actor_start(&askers[i]->actor);
    }
}

static void end(void)
{
    stop_runtime(context.runtime);
    await_count(&freed, ESI_COUNT_OF(askers));
    assert_true(!is_patient || totals[0] == totals[1] + totals[2]);
    esi_config_free(ESI_MOVE(config));
    sem_destroy(&answered);
    sem_destroy(&asked);
    sem_destroy(&freed);
}

/* Prepares a check; ask_all sends them all at once. */
static void prepare(uint32_t asker, const char *user, const char *pass)
{
    struct asker *self = askers[asker];
    const struct esi_auth_shown shown = {.user = esi_str_from(user), .pass = esi_str_from(pass)};
    struct esi_auth_check *check = esi_auth_check_new(&self->actor, ASKER_ANSWER, 1, &shown);

    assert_non_null(check);
    check->msg.next = self->next_check == NULL ? NULL : &self->next_check->msg;
    self->next_check = check;
}

static void ask_all(void)
{
    for (uint32_t i = 0; i < ESI_COUNT_OF(askers); i++) {
        askers[i]->ask = (struct esi_msg){.kind = ASKER_ASK, .free = keep};
        esi_actor_send(&askers[i]->actor, &askers[i]->ask);
    }
    await_count(&asked, ESI_COUNT_OF(askers));
}

static void every_check_is_answered(void **state)
{
    enum { ROUNDS = 200 };
    char wrong[32];

    (void)state;
    start("auth:\n  timeout: 60s\n  users:\n    - {user: p, password: pp}\n"
          "    - {user: h, password: \"" HASHED_PW "\"}\n");
    for (uint32_t i = 0; i < ROUNDS; i++) {
        snprintf(wrong, sizeof wrong, "wrong-%u", i % 50);
        prepare(i % 2, "p", "pp");
        prepare(i % 2, "p", wrong);
        prepare(i % 2, "h", "hashed-pw");
        prepare(i % 2, i % 3 == 0 ? "h" : "nobody", wrong);
    }
    ask_all();
    await_count(&answered, (uint64_t)4 * ROUNDS);
    end();
    assert_int_equal(totals[1], 2 * ROUNDS);
    assert_int_equal(totals[2], 2 * ROUNDS);
}

/* One hash may be computed at a time and 16 may wait: 1000 equal questions are one of them. */
static void equal_questions_are_computed_once(void **state)
{
    enum { COUNT = 1000 };

    (void)state;
    start("auth:\n  timeout: 60s\n  cache_ttl: 0s\n  concurrency_max: 1\n  users:\n"
          "    - {user: h, password: \"" HASHED_PW "\"}\n");
    for (uint32_t i = 0; i < COUNT; i++) {
        prepare(i % 2, "h", "hashed-pw");
    }
    ask_all();
    await_count(&answered, COUNT);
    end();
    assert_int_equal(totals[1], COUNT);
}

/* What is over the bound is refused at once, the others are computed. */
static void different_questions_are_bounded(void **state)
{
    enum { COUNT = 500 };
    char wrong[32];

    (void)state;
    start("auth:\n  timeout: 60s\n  concurrency_max: 1\n  users:\n"
          "    - {user: h, password: \"" HASHED_PW "\"}\n");
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        prepare(i % 2, "h", wrong);
    }
    ask_all();
    await_count(&answered, COUNT);
    prepare(0, "h", "hashed-pw");
    ask_all();
    await(&answered);
    end();
    assert_int_equal(totals[2], COUNT);
    assert_int_equal(totals[1], 1);
}

/* One address that asks without end does not keep another one out. */
static void one_address_has_a_share(void **state)
{
    enum { COUNT = 500 };
    char wrong[32];

    (void)state;
    start("auth:\n  timeout: 60s\n  concurrency_max: 1\n  users:\n"
          "    - {user: h, password: \"" HASHED_PW "\"}\n");
    prepare(0, "h", "hashed-pw"); /* the last is sent first */
    askers[0]->next_check->origin.bytes[0] = 1;
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        prepare(0, "h", wrong);
        askers[0]->next_check->origin.bytes[0] = 2;
    }
    ask_all();
    await_count(&answered, COUNT + 1);
    end();
    assert_int_equal(totals[1], 1);
    assert_int_equal(totals[2], COUNT);
}

/* Whoever has waited longer than auth.timeout is answered without a computation. */
static void questions_grow_old(void **state)
{
    enum { COUNT = 400 };
    char wrong[32];

    (void)state;
    start("auth:\n  timeout: 1ms\n  concurrency_max: 64\n  users:\n"
          "    - {user: h, password: \"" HASHED_PW "\"}\n");
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(wrong, sizeof wrong, "wrong-%u", i);
        prepare(i % 2, "h", wrong);
    }
    ask_all();
    await_count(&answered, COUNT);
    end();
    assert_int_equal(totals[2], COUNT);
}

/*
 * A stop in the middle: whoever waits is answered, what is being computed is not waited for. In
 * every second round the askers are gone before the answers come: nothing leaks.
 */
static void a_stop_answers_all(void **state)
{
    enum { COUNT = 300 };
    char wrong[32];

    (void)state;
    for (uint32_t round = 0; round < 8; round++) {
        start("auth:\n  timeout: 60s\n  users:\n    - {user: h, password: \"" HASHED_PW "\"}\n");
        for (uint32_t i = 0; i < COUNT; i++) {
            snprintf(wrong, sizeof wrong, "wrong-%u", i);
            prepare(i % 2, "h", wrong);
        }
        is_patient = round % 2 == 0;
        ask_all();
        await_count(&answered, round / 2);
        end();
        assert_int_equal(totals[1], 0);
    }
}

static void wrong_permissions_make_none(void **state)
{
    const struct esi_config_source source = {
        .path = "test.yaml",
        .text =
            ESI_STR("auth:\n  users:\n    - {user: u, password: p, permissions: {publish: [a]}}\n"),
        .program = CONFIG_EVENT_SERVICE,
        .without_files = true};
    struct esi_authenticator *authenticator = NULL;
    struct esi_bytes errors;
    struct es_error error = {.text = ""};

    (void)state;
    esi_bytes_init(&errors, 0);
    assert_int_equal(esi_config_parse(esi_env_linux(), &source, &config, &errors), ES_OK);
    /* Past the checks of the configuration. */
    snprintf(config->auth.users[0].permissions.publish.allow.items[0], 2, ".");
    context.config = config;
    context.runtime = start_runtime(1);
    assert_int_equal(esi_authenticator_new(&context, &authenticator, &error), ES_INVALID);
    assert_non_null(strstr(error.text, "the permissions of the user \"u\""));
    stop_runtime(context.runtime);
    esi_config_free(ESI_MOVE(config));
    esi_bytes_deinit(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_check_is_answered),
        cmocka_unit_test(equal_questions_are_computed_once),
        cmocka_unit_test(different_questions_are_bounded),
        cmocka_unit_test(one_address_has_a_share),
        cmocka_unit_test(questions_grow_old),
        cmocka_unit_test(a_stop_answers_all),
        cmocka_unit_test(wrong_permissions_make_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
