/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: each change of the token file is seen once, as what it is, and half-written files are left
 * alone until they have settled. Method: real files, with the wall clock set by the test.
 */
#include "actors/token_watch.h"
#include "base/own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LINE "a a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff\n"
#define LINE_B "b b0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccddeeff\n"

static const int64_t second_ns = 1000000000;

static struct esi_env_ops ops;
static struct esi_env env = {&ops};
static int64_t ahead_ns; /* of the real clock */
static enum es_err read_fault;
static char folder[] = "/tmp/es_watch_XXXXXX";
static char path[64];

static int64_t shifted_wall_ns(struct esi_env *self)
{
    (void)self;
    return esi_env_wall_ns(esi_env_linux()) + ahead_ns;
}

static enum es_err faulty_read(struct esi_env *self, const char *name, size_t size_max,
                               struct esi_bytes *out)
{
    (void)self;
    return read_fault != ES_OK ? read_fault
                               : esi_env_file_read(esi_env_linux(), name, size_max, out);
}

static int set_up(void **state)
{
    (void)state;
    ops = *esi_env_linux()->ops;
    ops.wall_ns = shifted_wall_ns;
    ops.file_read = faulty_read;
    read_fault = ES_OK;
    ahead_ns = 10 * second_ns;
    snprintf(folder, sizeof folder, "/tmp/es_watch_XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokens", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

/* In place: same inode. */
static void write_text(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void expect(struct esi_token_watch *watch, enum esi_token_watch_outcome outcome)
{
    esi_token_watch_look(watch, NULL);
    assert_int_equal(watch->outcome, outcome);
    assert_int_equal(watch->file != NULL, outcome == TOKEN_WATCH_NEW);
}

static void changes_are_seen_once(void **state)
{
    struct esi_token_watch watch;

    (void)state;
    esi_token_watch_init(&watch, &env, path);
    expect(&watch, TOKEN_WATCH_MISSING);
    expect(&watch, TOKEN_WATCH_SAME);
    write_text(LINE);
    expect(&watch, TOKEN_WATCH_NEW);
    assert_int_equal(esi_token_file_count(watch.file), 1);
    expect(&watch, TOKEN_WATCH_SAME);
    write_text("# more\n" LINE);
    expect(&watch, TOKEN_WATCH_NEW);
    write_text("oops\n");
    expect(&watch, TOKEN_WATCH_REFUSED);
    assert_non_null(strstr(watch.error.text, "tokens:1: "));
    expect(&watch, TOKEN_WATCH_SAME);
    write_text("");
    expect(&watch, TOKEN_WATCH_NEW);
    assert_int_equal(esi_token_file_count(watch.file), 0);
    assert_int_equal(unlink(path), 0);
    expect(&watch, TOKEN_WATCH_MISSING);
    expect(&watch, TOKEN_WATCH_SAME);
    /* Back with the same content: whoever has the set already gets it again. */
    write_text("");
    expect(&watch, TOKEN_WATCH_NEW);
    esi_token_watch_deinit(&watch);
}

/* The clock of the file system does not tell two writes apart: the content does. */
static void writes_of_one_moment_are_told_apart(void **state)
{
    struct esi_token_watch watch;

    (void)state;
    esi_token_watch_init(&watch, &env, path);
    write_text(LINE);
    ahead_ns = second_ns;
    expect(&watch, TOKEN_WATCH_NEW);
    write_text(LINE_B);
    assert_int_equal(esi_env_file_info(&env, path, &watch.info), ES_OK);
    expect(&watch, TOKEN_WATCH_NEW);
    expect(&watch, TOKEN_WATCH_SAME);
    esi_token_watch_deinit(&watch);
}

static void young_files_settle_first(void **state)
{
    struct esi_token_watch watch;

    (void)state;
    esi_token_watch_init(&watch, &env, path);
    ahead_ns = 0;
    write_text(LINE);
    /* At start there is no set to keep, and nobody who would come back later. */
    expect(&watch, TOKEN_WATCH_NEW);
    write_text("");
    expect(&watch, TOKEN_WATCH_SAME);
    assert_true(watch.is_settling);
    write_text(LINE LINE_B);
    ahead_ns = second_ns;
    expect(&watch, TOKEN_WATCH_NEW);
    assert_false(watch.is_settling);
    assert_int_equal(esi_token_file_count(watch.file), 2);
    esi_token_watch_deinit(&watch);
}

static void faults_of_the_system_are_told_once(void **state)
{
    struct esi_token_watch watch;

    (void)state;
    esi_token_watch_init(&watch, &env, path);
    write_text(LINE);
    expect(&watch, TOKEN_WATCH_NEW);
    write_text("# more\n" LINE);
    read_fault = ES_FULL;
    expect(&watch, TOKEN_WATCH_REFUSED);
    assert_non_null(strstr(watch.error.text, "cannot be read"));
    expect(&watch, TOKEN_WATCH_SAME);
    read_fault = ES_DENIED;
    expect(&watch, TOKEN_WATCH_REFUSED);
    read_fault = ES_OK;
    expect(&watch, TOKEN_WATCH_NEW);
    assert_int_equal(esi_token_file_count(watch.file), 1);
    esi_token_watch_deinit(&watch);
}

static void sets_share_what_is_the_same(void **state)
{
    struct esi_token_watch watch;

    (void)state;
    esi_token_watch_init(&watch, &env, path);
    write_text(LINE);
    expect(&watch, TOKEN_WATCH_NEW);
    struct esi_token_file *former = ESI_MOVE(watch.file);
    write_text(LINE_B LINE);
    esi_token_watch_look(&watch, former);
    assert_ptr_equal(esi_token_file_at(watch.file, 1)->permissions,
                     esi_token_file_at(former, 0)->permissions);
    watch.garbage = former;
    esi_token_watch_deinit(&watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_are_seen_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writes_of_one_moment_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(young_files_settle_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(faults_of_the_system_are_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sets_share_what_is_the_same, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
