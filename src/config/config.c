/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way from a file to a checked configuration: read into a tree, fill a draft from it by the
 * schema, translate second names, check; the first step that fails keeps the draft to itself. */
#include "config/config.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/own.h"
#include "config/check.h"
#include "config/node.h"
#include "config/print.h"
#include "config/report.h"
#include "config/set.h"
#include "config/toml_reader.h"
#include "config/translate.h"
#include "config/yaml_reader.h"
#include "env/env.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20, FOLDER_BYTES = 4096 };

static bool has_extension(const char *path, const char *extension)
{
    const size_t len = strlen(path);
    const size_t extension_len = strlen(extension);

    return len > extension_len && strcasecmp(path + len - extension_len, extension) == 0;
}

/* By its first line that says something: "[section]" and "key = value" are TOML, "key: value" is
 * YAML. */
static bool looks_like_toml(struct esi_str text)
{
    for (size_t i = 0; i < text.len;) {
        const char *line = text.data + i;
        const char *end = memchr(line, '\n', text.len - i);
        const size_t len = end != NULL ? (size_t)(end - line) : text.len - i;
        size_t blank = 0;
        while (blank < len && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r')) {
            blank++;
        }
        if (blank < len && line[blank] != '#') {
            const char *equals = memchr(line, '=', len);
            const char *colon = memchr(line, ':', len);
            return line[blank] == '[' || (equals != NULL && (colon == NULL || equals < colon));
        }
        i += len + 1;
    }
    return false;
}

static enum es_err read_tree(const struct esi_config_source *source, struct esi_node_tree *tree,
                             struct esi_node_error *error)
{
    const bool is_yaml =
        has_extension(source->path, ".yaml") || has_extension(source->path, ".yml");
    const bool is_toml =
        has_extension(source->path, ".toml") || (!is_yaml && looks_like_toml(source->text));

    return is_toml ? esi_toml_reader_read(source->text, tree, error)
                   : esi_yaml_reader_read(source->text, tree, error);
}

/*
 * The folder that the file stands in, with its slash. Absolute, so that what is in effect means the
 * same wherever it is read; without files the current folder is not looked at, and the answer as
 * relative as the path.
 */
static struct esi_str folder_of(const struct esi_config_source *source, char out[FOLDER_BYTES])
{
    const char *slash = strrchr(source->path, '/');
    const size_t len = slash == NULL ? 0 : (size_t)(slash - source->path) + 1;

    if (source->path[0] != '/' && !source->without_files && getcwd(out, FOLDER_BYTES) != NULL) {
        const size_t start = strlen(out);
        if (start + len + 1 < FOLDER_BYTES) {
            out[start] = '/';
            memcpy(out + start + 1, source->path, len);
            return (struct esi_str){.data = out, .len = start + 1 + len};
        }
    }
    return (struct esi_str){.data = source->path, .len = len};
}

/* The digest of what esi_print_write says. */
static enum es_err set_digest(struct esi_draft *draft)
{
    static const char method[] = "sha256:";
    struct esi_bytes text;

    _Static_assert(sizeof method - 1 + ESI_CRYPTO_SHA256_HEX_BYTES == ESI_CONFIG_DIGEST_BYTES,
                   "the digest fits");
    esi_bytes_init(&text, 0);
    esi_print_write(draft, &text);
    if (!text.failed) {
        memcpy(draft->config.digest, method, sizeof method);
        esi_crypto_sha256_hex(text.data, text.len, draft->config.digest + sizeof method - 1);
    }
    const enum es_err err = text.failed ? ES_NO_MEMORY : ES_OK;
    esi_bytes_deinit(&text);
    return err;
}

/* Fills the draft from a tree; the report says what was wrong. */
static enum es_err fill_draft(struct esi_env *env, const struct esi_config_source *source,
                              const struct esi_node *root, struct esi_draft *draft,
                              struct esi_report *report)
{
    char folder[FOLDER_BYTES];
    const struct esi_check_options options = {.env = env,
                                              .program = source->program,
                                              .without_files = source->without_files,
                                              .folder = folder_of(source, folder)};

    const enum es_err err = esi_check_set_defaults(draft, source->program);
    if (err != ES_OK) {
        return err;
    }
    draft->config.path = esi_str_dup(esi_str_from(source->path));
    if (draft->config.path == NULL) {
        return ES_NO_MEMORY;
    }
    report->root = root;
    esi_check_fill(&options, root, draft, report);
    if (!report->is_out_of_memory) {
        esi_translate_complete(draft, report);
    }
    if (report->is_out_of_memory) {
        return ES_NO_MEMORY;
    }
    return report->count == 0 ? set_digest(draft) : ES_INVALID;
}

enum es_err esi_config_parse(struct esi_env *env, const struct esi_config_source *source,
                             struct esi_config **out, struct esi_bytes *errors)
{
    struct esi_node_tree tree;
    struct esi_node_error error = {0};
    struct esi_report report;

    ESI_REQUIRE(source->path != NULL);
    ESI_REQUIRE(env != NULL || source->without_files);
    esi_node_init(&tree);
    esi_report_init(&report, source->path, errors);
    struct esi_draft *draft = calloc(1, sizeof *draft);
    enum es_err err = draft != NULL ? ES_OK : ES_NO_MEMORY;
    if (err == ES_OK && source->text.len > FILE_BYTES_MAX) {
        err = ES_TOO_LARGE;
    } else if (err == ES_OK) {
        err = read_tree(source, &tree, &error);
    }
    if (error.at.line != 0) {
        esi_report_add(&report, error.at, NULL, "%s", error.text);
    }
    if (err == ES_OK) {
        err = fill_draft(env, source, tree.root, draft, &report);
    }
    if (err != ES_OK && report.count == 0) {
        esi_report_add(&report, (struct esi_position){1, 1}, NULL, "%s", es_err_text(err));
    }
    esi_report_finish(&report);
    esi_node_deinit(&tree);
    if (err != ES_OK) {
        esi_config_free(draft != NULL ? &draft->config : NULL);
        return err;
    }
    *out = &draft->config;
    return ES_OK;
}

enum es_err esi_config_load(struct esi_env *env, const char *path, enum esi_config_program program,
                            struct esi_config **out, struct esi_bytes *errors)
{
    struct esi_bytes text;

    esi_bytes_init(&text, 2 * (size_t)FILE_BYTES_MAX);
    enum es_err err = esi_env_file_read(env, path, FILE_BYTES_MAX, &text);
    if (err != ES_OK) {
        esi_bytes_printf(errors, "%s:1:1: the file cannot be read: %s\n", path, es_err_text(err));
    } else {
        const struct esi_config_source source = {
            .path = path, .text = esi_bytes_str(&text), .program = program};
        err = esi_config_parse(env, &source, out, errors);
    }
    /* It may hold passwords. */
    esi_bytes_wipe(&text);
    return err;
}

void esi_config_free(struct esi_config *config)
{
    if (config == NULL) {
        return;
    }
    struct esi_draft *draft = ESI_CONTAINER_OF(config, struct esi_draft, config);
    esi_check_free_fields(GROUP_ROOT, draft);
    free(config->path);
    free(draft);
}

void esi_config_print(const struct esi_config *config, struct esi_bytes *out)
{
    /* Every struct esi_config is the first member of a draft; nothing is written through this
     * pointer. */
    esi_print_write((const struct esi_draft *)(const void *)config, out);
    esi_bytes_printf(out, "# config_digest: %s\n", config->digest);
}
