/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Goal: whole files are read and replaced as env/env.h promises. Method: real files in a temporary
 * folder. */
#include "env/env_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)

static struct esi_env *env;

static void files_are_replaced_and_read(void **state)
{
    char folder[] = "/tmp/es_env_XXXXXX";
    char path[64];
    struct esi_bytes out;
    struct esi_file_info info;

    (void)state;
    esi_bytes_init(&out, 0);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(esi_env_file_read(env, path, 100, &out), ES_NOT_FOUND);
    assert_int_equal(esi_env_file_info(env, path, &info), ES_NOT_FOUND);
    const mode_t mask = umask(077);
    assert_int_equal(esi_env_file_replace(env, path, "hello", 5, 0644), ES_OK);
    umask(mask);
    assert_int_equal(esi_env_file_info(env, path, &info), ES_OK);
    assert_int_equal(info.size_bytes, 5);
    assert_int_equal(info.mode, 0644);
    assert_true(info.modified_ns > INT64_C(1577836800) * SECOND_NS);
    const uint64_t inode = info.inode;

    esi_bytes_append_text(&out, ">");
    assert_int_equal(esi_env_file_read(env, path, 4, &out), ES_TOO_LARGE);
    assert_int_equal(out.len, 1);
    assert_int_equal(esi_env_file_read(env, path, 5, &out), ES_OK);
    assert_int_equal(out.len, 6);
    assert_memory_equal(out.data, ">hello", 6);

    assert_int_equal(esi_env_file_replace(env, path, "", 0, 0600), ES_OK);
    assert_int_equal(esi_env_file_info(env, path, &info), ES_OK);
    assert_int_equal(info.size_bytes, 0);
    assert_int_equal(info.mode, 0600);
    assert_int_not_equal(info.inode, inode);
    assert_int_equal(esi_env_file_read(env, path, 0, &out), ES_OK);
    assert_int_equal(out.len, 6);

    /* A failed replacement leaves nothing behind, so that the folder can be removed below. */
    char missing[96];
    snprintf(missing, sizeof missing, "%s/none/file", folder);
    assert_int_equal(esi_env_file_replace(env, missing, "x", 1, 0600), ES_NOT_FOUND);
    assert_int_not_equal(esi_env_file_replace(env, folder, "x", 1, 0600), ES_OK);
    assert_int_equal(esi_env_file_read(env, folder, 100, &out), ES_FOLDER);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    esi_bytes_deinit(&out);
}

/* Two processes add one to a number in a file, many times: no addition is lost. */
static void changes_under_the_lock_are_not_lost(void **state)
{
    char folder[] = "/tmp/es_env_XXXXXX";
    char path[64];
    char text[32];
    struct esi_bytes out;
    enum { ROUNDS = 50 };
    int lock = -1;
    int status = -1;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(esi_env_file_replace(env, path, "0", 1, 0600), ES_OK);
    const pid_t child = fork();
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(esi_env_file_lock(env, path, &lock), ES_OK);
        esi_bytes_init(&out, 0);
        assert_int_equal(esi_env_file_read(env, path, 32, &out), ES_OK);
        esi_bytes_append(&out, "", 1);
        snprintf(text, sizeof text, "%ld", strtol(out.data, NULL, 10) + 1);
        assert_int_equal(esi_env_file_replace(env, path, text, strlen(text), 0600), ES_OK);
        esi_bytes_deinit(&out);
        esi_env_file_unlock(env, lock);
    }
    if (child == 0) {
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(esi_env_file_read(env, path, 32, &out), ES_OK);
    assert_int_equal(out.len, 3);
    assert_memory_equal(out.data, "100", 3);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(esi_env_file_lock(env, path, &lock), ES_OK);
    esi_env_file_unlock(env, lock);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(esi_env_file_lock(env, path, &lock), ES_NOT_FOUND);
    esi_bytes_deinit(&out);
}

static void files_without_a_known_size_are_read(void **state)
{
    struct esi_bytes out;

    (void)state;
    esi_bytes_init(&out, 0);
    assert_int_equal(esi_env_file_read(env, "/proc/self/status", 1 << 20, &out), ES_OK);
    assert_true(out.len > 100);
    esi_bytes_clear(&out);
    assert_int_equal(esi_env_file_read(env, "/dev/zero", 1 << 20, &out), ES_TOO_LARGE);
    assert_int_equal(out.len, 0);
    esi_bytes_deinit(&out);
}

static void errors_are_mapped(void **state)
{
    (void)state;
    assert_int_equal(esi_env_files_map_error(ENOENT), ES_NOT_FOUND);
    assert_int_equal(esi_env_files_map_error(EACCES), ES_DENIED);
    assert_int_equal(esi_env_files_map_error(ENOSPC), ES_FULL);
    assert_int_equal(esi_env_files_map_error(EADDRINUSE), ES_IN_USE);
    assert_int_equal(esi_env_files_map_error(EIO), ES_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_replaced_and_read),
        cmocka_unit_test(changes_under_the_lock_are_not_lost),
        cmocka_unit_test(files_without_a_known_size_are_read),
        cmocka_unit_test(errors_are_mapped),
    };

    env = esi_env_linux();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
