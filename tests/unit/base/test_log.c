/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: one event is one line, in both forms, whatever a peer's bytes are; repeats are folded and
 * counted; a rotated file is opened anew. Method: log to a file in a folder of its own and read it
 * back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX = 1024 * 1024, THREADS = 4, LINES_A_THREAD = 200 };

static char folder[64];
static char path[96];
static char content[FILE_MAX];

static void read_content(const char *from)
{
    const int fd = open(from, O_RDONLY);

    assert_true(fd >= 0);
    const ssize_t count = read(fd, content, sizeof content - 1);
    assert_true(count >= 0);
    content[count] = '\0';
    close(fd);
}

static size_t count_lines(const char *needle)
{
    size_t count = 0;

    for (char *line = content; *line != '\0';) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        count += strstr(line, needle) != NULL;
        *end = '\n';
        line = end + 1;
    }
    return count;
}

static int open_log(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/es-log-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/log", folder);
    esi_log_configure(LOG_TEXT, LOG_INFO);
    return esi_log_open(path) == ES_OK ? 0 : -1;
}

static int close_log(void **state)
{
    (void)state;
    const enum es_err err = esi_log_open(NULL);
    unlink(path);
    rmdir(folder);
    return err == ES_OK ? 0 : -1;
}

/* Folding counts by the second: begin one that has just begun, so that a test's lines fall into
 * one. */
static void wait_for_a_new_second(void)
{
    struct timespec start;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &start);
    do {
        clock_gettime(CLOCK_REALTIME, &now);
    } while (now.tv_sec == start.tv_sec);
}

static void test_text_line(void **state)
{
    struct stat info;

    (void)state;
    esi_log(LOG_SERVER_READY, ESI_LOG_U64("port", 4222), ESI_LOG_TEXT("name", "n1"),
            ESI_LOG_I64("d", -5));
    read_content(path);
    assert_non_null(
        strstr(content, " [INF] Server is ready - LOG_SERVER_READY port=4222 name=\"n1\" d=-5\n"));
    assert_int_equal(content[0], '[');
    assert_int_equal(count_lines(""), 1);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07027, 0);
}

static json_t *parse_line(const char *line)
{
    json_error_t error;
    json_t *object = json_loads(line, JSON_ALLOW_NUL, &error);

    if (object == NULL) {
        fail_msg("not JSON: %s in %s", error.text, line);
    }
    return object;
}

static void test_json_line(void **state)
{
    (void)state;
    esi_log_configure(LOG_JSON, LOG_INFO);
    esi_log(LOG_SERVER_READY, ESI_LOG_U64("port", 4222),
            ESI_LOG_STR("name", ESI_STR("a\"b\\c\r\n\x1b\xff\0d")));
    read_content(path);
    assert_int_equal(count_lines(""), 1);
    json_t *object = parse_line(content);
    assert_string_equal(json_string_value(json_object_get(object, "event")), "LOG_SERVER_READY");
    assert_int_equal(json_string_length(json_object_get(object, "name")), 12);
    assert_string_equal(json_string_value(json_object_get(object, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(object, "msg")), "Server is ready");
    assert_int_equal(json_integer_value(json_object_get(object, "port")), 4222);
    assert_non_null(strstr(json_string_value(json_object_get(object, "ts")), "T"));
    assert_non_null(strstr(content, "\"a\\\"b\\\\c\\u000d\\u000a\\u001b\\u00ff\\u0000d\""));
    json_decref(object);
}

static void test_levels(void **state)
{
    (void)state;
    esi_log_configure(LOG_TEXT, LOG_WARN);
    assert_true(esi_log_is_enabled(LOG_ERROR));
    assert_true(esi_log_is_enabled(LOG_WARN));
    assert_false(esi_log_is_enabled(LOG_INFO));
    esi_log(LOG_SERVER_READY);
    esi_log(LOG_SLOW_CONSUMER);
    read_content(path);
    assert_int_equal(count_lines(""), 1);
    assert_int_equal(count_lines("LOG_SLOW_CONSUMER"), 1);
}

/* A field of a peer's making may be as long as a control line, and each of its bytes may need six.
 */
static void test_a_long_field_stays_one_line(void **state)
{
    char *subject = test_malloc(4096);

    (void)state;
    memset(subject, 0xff, 4096);
    const struct esi_str field = {.data = subject, .len = 4096};
    for (int format = LOG_TEXT; format <= LOG_JSON; format++) {
        esi_log_configure((enum esi_log_format)format, LOG_INFO);
        esi_log(LOG_SERVER_READY, ESI_LOG_STR("subject", field), ESI_LOG_STR("reply", field),
                ESI_LOG_STR("queue", field), ESI_LOG_STR("sid", field), ESI_LOG_U64("last", 1));
        esi_log(LOG_SERVER_STOPPED);
    }
    test_free(subject);
    read_content(path);
    assert_int_equal(count_lines(""), 4);
    assert_int_equal(count_lines("LOG_SERVER_READY"), 2);
    assert_int_equal(count_lines("last"), 2);
    const char *line = strchr(strchr(content, '\n') + 1, '\n') + 1;
    char *end = strchr(line, '\n');
    *end = '\0';
    json_t *object = parse_line(line);
    assert_int_equal(json_integer_value(json_object_get(object, "last")), 1);
    json_decref(object);
}

static void test_repeats_are_folded(void **state)
{
    (void)state;
    wait_for_a_new_second();
    for (int i = 0; i < 100; i++) {
        esi_log(LOG_CLIENT_ERROR);
    }
    esi_log(LOG_SERVER_READY);
    wait_for_a_new_second();
    esi_log(LOG_CLIENT_ERROR);
    read_content(path);
    const size_t written = count_lines("- LOG_CLIENT_ERROR");
    assert_in_range(written, 2, 60);
    assert_int_equal(count_lines("LOG_SERVER_READY"), 1);
    const char *folded = strstr(content, "LOG_FOLDED event=\"LOG_CLIENT_ERROR\" count=");
    assert_non_null(folded);
    const unsigned long count = strtoul(strstr(folded, "count=") + 6, NULL, 10);
    /* Nothing is lost: what was not written was counted. */
    assert_int_equal(written + count, 101);
}

static void test_rotation(void **state)
{
    char old[112];

    (void)state;
    snprintf(old, sizeof old, "%s.1", path);
    esi_log(LOG_SERVER_READY);
    assert_int_equal(rename(path, old), 0);
    esi_log(LOG_SERVER_STOPPING);
    assert_int_equal(esi_log_reopen(), ES_OK);
    esi_log(LOG_SERVER_STOPPED);
    read_content(old);
    assert_int_equal(count_lines(""), 2);
    read_content(path);
    assert_int_equal(count_lines(""), 1);
    assert_int_equal(count_lines("LOG_SERVER_STOPPED"), 1);
    unlink(old);
}

static void test_a_file_that_cannot_be_opened(void **state)
{
    char missing[112];

    (void)state;
    snprintf(missing, sizeof missing, "%s/none/log", folder);
    assert_int_equal(esi_log_open(missing), ES_NOT_FOUND);
    /* The old one goes on. */
    esi_log(LOG_SERVER_READY);
    read_content(path);
    assert_int_equal(count_lines("LOG_SERVER_READY"), 1);
}

static void *log_many(void *argument)
{
    const uint64_t thread = *(const uint64_t *)argument;

    /* Different events, so that none is folded. */
    for (uint64_t i = 0; i < LINES_A_THREAD; i++) {
        esi_log((enum esi_log_event)(i % LOG_EVENT_COUNT), ESI_LOG_U64("thread", thread),
                ESI_LOG_U64("i", i));
    }
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    pthread_t threads[THREADS];
    uint64_t numbers[THREADS];

    (void)state;
    esi_log_configure(LOG_JSON, LOG_TRACE);
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &numbers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    read_content(path);
    size_t lines = 0;
    for (char *line = content; *line != '\0'; lines++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        json_decref(parse_line(line));
        line = end + 1;
    }
    assert_true(lines > LOG_EVENT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_line, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_json_line, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_levels, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_a_long_field_stays_one_line, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_repeats_are_folded, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_rotation, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_opened, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_lines_of_threads_do_not_mix, open_log, close_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
