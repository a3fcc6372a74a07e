/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The public interface: shells around configuration and assembly, so that nothing of ours shows. */
#include <eventservice/eventservice.h>

#include "base/bytes.h"
#include "base/log.h"
#include "config/config.h"
#include "config/describe.h"
#include "env/env.h"
#include "server/assemble.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>

struct es_server {
    struct esi_assembly assembly;
    bool is_stopped;
};

static enum esi_config_program program_of(enum es_program program)
{
    return program == ES_EVENT_GATEWAY ? CONFIG_EVENT_GATEWAY : CONFIG_EVENT_SERVICE;
}

/* The text, owned by the caller; NULL where memory did not do for all of it. */
static char *take_text(struct esi_bytes *bytes)
{
    esi_bytes_append(bytes, "", 1);
    if (bytes->failed) {
        esi_bytes_deinit(bytes);
        return NULL;
    }
    return bytes->data;
}

/* The rules of a well-formed configuration; on failure it is freed, and *lines says why. */
static enum es_err check_rules(struct esi_config *config, struct esi_bytes *lines)
{
    struct es_error error = {.text = ""};
    const enum es_err err = esi_assemble_check(esi_env_linux(), config, &error);

    if (err != ES_OK) {
        esi_bytes_printf(lines, "%s: %s\n", config->path,
                         error.text[0] != '\0' ? error.text : es_err_text(err));
        esi_config_free(config);
    }
    return err;
}

static enum es_err wrap_config(enum es_err err, struct esi_config *config, struct esi_bytes *lines,
                               struct es_config **out, char **errors)
{
    struct es_config *wrapped = NULL;

    if (err == ES_OK) {
        err = check_rules(config, lines);
    }
    if (err == ES_OK) {
        wrapped = malloc(sizeof *wrapped);
        if (wrapped == NULL) {
            esi_config_free(config);
            err = ES_NO_MEMORY;
        } else {
            wrapped->config = config;
            *out = wrapped;
        }
    }
    if (err != ES_OK && errors != NULL) {
        *errors = take_text(lines);
    } else {
        esi_bytes_deinit(lines);
    }
    return err;
}

ES_API enum es_err es_config_load(const char *path, enum es_program program, struct es_config **out,
                                  char **errors)
{
    struct esi_config *config = NULL;
    struct esi_bytes lines;

    esi_bytes_init(&lines, 0);
    const enum es_err err =
        esi_config_load(esi_env_linux(), path, program_of(program), &config, &lines);
    return wrap_config(err, config, &lines, out, errors);
}

ES_API enum es_err es_config_parse(const char *name, const char *text, size_t len,
                                   enum es_program program, struct es_config **out, char **errors)
{
    const struct esi_config_source source = {
        .path = name, .text = {.data = text, .len = len}, .program = program_of(program)};
    struct esi_config *config = NULL;
    struct esi_bytes lines;

    esi_bytes_init(&lines, 0);
    const enum es_err err = esi_config_parse(esi_env_linux(), &source, &config, &lines);
    return wrap_config(err, config, &lines, out, errors);
}

ES_API char *es_config_print(const struct es_config *config)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_config_print(config->config, &text);
    return take_text(&text);
}

ES_API char *es_config_keys(enum es_program program)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 0);
    esi_describe_keys(program_of(program), &text);
    return take_text(&text);
}

ES_API void es_config_free(struct es_config *config)
{
    if (config != NULL) {
        esi_config_free(config->config);
        free(config);
    }
}

ES_API enum es_err es_server_start(const struct es_config *config, struct es_server **out,
                                   struct es_error *error)
{
    struct es_error ignored;

    if (config->config->has_masked_secret) {
        snprintf((error != NULL ? error : &ignored)->text, sizeof ignored.text,
                 "%.300s: a secret is \"" ESI_CONFIG_MASK
                 "\", as --check-config prints it; write the "
                 "real one, or KEY_file with the path of a file that holds it",
                 config->config->path);
        return ES_UNSUPPORTED;
    }
    struct es_server *server = malloc(sizeof *server);

    if (server == NULL) {
        return ES_NO_MEMORY;
    }
    server->is_stopped = false;
    const enum es_err err = esi_assemble_start(&server->assembly, esi_env_linux(), config->config,
                                               error != NULL ? error : &ignored);
    if (err != ES_OK) {
        free(server);
        return err;
    }
    *out = server;
    return ES_OK;
}

ES_API enum es_err es_server_stop(struct es_server *server, uint32_t timeout_ms)
{
    if (server->is_stopped) {
        return ES_OK;
    }
    server->is_stopped = true;
    return esi_assemble_stop(&server->assembly, (uint64_t)timeout_ms * 1000000);
}

ES_API void es_server_free(struct es_server *server)
{
    if (server != NULL) {
        (void)es_server_stop(server, 1000);
        free(server);
    }
}

ES_API uint16_t es_server_client_port(const struct es_server *server)
{
    return server->assembly.client_port;
}

ES_API uint16_t es_server_gateway_port(const struct es_server *server)
{
    return server->assembly.gateway_port;
}

ES_API uint16_t es_server_monitor_port(const struct es_server *server)
{
    return server->assembly.monitor_port;
}

ES_API enum es_err es_log_reopen(void)
{
    return esi_log_reopen();
}

ES_API const char *es_version(void)
{
    return ESI_VERSION;
}
