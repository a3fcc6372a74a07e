/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: a broken assertion ends the process by SIGABRT and says on standard error what was broken,
 * where, and by which way; one that holds does nothing. Method: a child process for each, its
 * standard error read to the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/assert.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void break_requirement(int number)
{
    ESI_REQUIRE(number == 41);
}

static void break_assertion(int number)
{
    ESI_ASSERT(number < 42);
}

/* Runs a function in a child. Returns its wait status, with its standard error in text. */
static int run_child(void (*function)(int number), int number, char *text, size_t capacity)
{
    const struct rlimit no_core = {0, 0};
    int ends[2];
    int status = 0;
    size_t len = 0;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL); /* cmocka catches it */
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function(number);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && len + 1 < capacity; len += got > 0 ? (size_t)got : 0) {
        got = read(ends[0], text + len, capacity - len - 1);
    }
    text[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void expect_abort(void (*function)(int number), const char *kind, const char *condition)
{
    char text[8192];
    const int status = run_child(function, 42, text, sizeof text);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        fail_msg("expected an end by SIGABRT, got status %d", status);
    }
    if (strstr(text, kind) != text || strstr(text, condition) == NULL ||
        strstr(text, "test_assert.c:") == NULL) {
        fail_msg("expected '%s failed: %s (...test_assert.c:...)', got: %s", kind, condition, text);
    }
    const char *line_end = strchr(text, '\n');
    assert_non_null(line_end);
    assert_true(strlen(line_end) > 1); /* the backtrace */
}

static void test_what_is_broken_is_said(void **state)
{
    (void)state;
    expect_abort(break_requirement, "requirement failed: ", "number == 41");
    expect_abort(break_assertion, "assertion failed: ", "number < 42");
}

static void test_what_holds_says_nothing(void **state)
{
    char text[256];

    (void)state;
    assert_int_equal(run_child(break_requirement, 41, text, sizeof text), 0);
    assert_string_equal(text, "");
    assert_int_equal(run_child(break_assertion, 41, text, sizeof text), 0);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_broken_is_said),
        cmocka_unit_test(test_what_holds_says_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
