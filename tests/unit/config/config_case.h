/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small verbs for the tests of this folder: read a text as a configuration, look at what came of
 * it. */
#pragma once

#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads without files; returns the error lines, to be freed; *config is NULL where there are any.
 */
__attribute__((unused)) static char *read_text(const char *path, enum esi_config_program program,
                                               const char *text, struct esi_config **config)
{
    const struct esi_config_source source = {
        .path = path, .text = esi_str_from(text), .program = program, .without_files = true};
    struct esi_bytes errors;

    *config = NULL;
    esi_bytes_init(&errors, 0);
    const enum es_err err = esi_config_parse(NULL, &source, config, &errors);
    assert_int_equal(err == ES_OK, errors.len == 0);
    char *lines = strndup(errors.data != NULL ? errors.data : "", errors.len);
    assert_non_null(lines);
    esi_bytes_deinit(&errors);
    return lines;
}

/* The configuration that a good text means; fails with the errors otherwise. */
__attribute__((unused)) static struct esi_config *
expect_good(const char *path, enum esi_config_program program, const char *text)
{
    struct esi_config *config;

    char *errors = read_text(path, program, text, &config);
    assert_string_equal(errors, "");
    free(errors);
    return config;
}

/* All error lines of a bad text, exactly. */
__attribute__((unused)) static void expect_errors(const char *path, enum esi_config_program program,
                                                  const char *text, const char *lines)
{
    struct esi_config *config;

    char *errors = read_text(path, program, text, &config);
    assert_string_equal(errors, lines);
    assert_null(config);
    free(errors);
}
