/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzz targets of both formats have in common. Included by one file a program. */
#pragma once

#include "base/assert.h"
#include "config/config.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 1 << 20 };

/* What is printed is a configuration: read again it is the same. */
static void read_again(const struct esi_config *config, struct esi_bytes *text)
{
    const struct esi_config_source source = {.path = "again.yaml",
                                             .text = esi_bytes_str(text),
                                             .program = config->program,
                                             .without_files = true};
    struct esi_config *again = NULL;
    struct esi_bytes errors;
    struct esi_bytes second;

    esi_bytes_init(&errors, 0);
    esi_bytes_init(&second, 0);
    const enum es_err err = esi_config_parse(NULL, &source, &again, &errors);
    if (err != ES_OK) {
        fprintf(stderr, "%.*s\n%.*s", ESI_STR_ARG(esi_bytes_str(text)),
                ESI_STR_ARG(esi_bytes_str(&errors)));
    }
    ESI_ASSERT(err == ES_OK);
    esi_config_print(again, &second);
    ESI_ASSERT(esi_str_equal(esi_bytes_str(text), esi_bytes_str(&second)));
    esi_config_free(again);
    esi_bytes_deinit(&second);
    esi_bytes_deinit(&errors);
}

/* Parses for both programs; checks that errors and result agree. */
static void try_config(const char *path, const uint8_t *data, size_t size)
{
    for (int program = CONFIG_EVENT_SERVICE; program <= CONFIG_EVENT_GATEWAY; program++) {
        const struct esi_config_source source = {.path = path,
                                                 .text = {.data = (const char *)data, .len = size},
                                                 .program = (enum esi_config_program)program,
                                                 .without_files = true};
        struct esi_config *config = NULL;
        struct esi_bytes errors;
        struct esi_bytes text;

        esi_bytes_init(&errors, 0);
        esi_bytes_init(&text, 0);
        const enum es_err err = esi_config_parse(NULL, &source, &config, &errors);
        ESI_ASSERT((err == ES_OK) == (errors.len == 0));
        ESI_ASSERT((err == ES_OK) == (config != NULL));
        if (err == ES_OK) {
            esi_config_print(config, &text);
            ESI_ASSERT(text.len > 0);
            if (text.len <= FILE_BYTES_MAX) {
                read_again(config, &text);
            }
        } else {
            ESI_ASSERT(errors.data[errors.len - 1] == '\n');
        }
        esi_config_free(config);
        esi_bytes_deinit(&text);
        esi_bytes_deinit(&errors);
    }
}
