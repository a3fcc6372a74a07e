/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One function for each kind of value. A text is checked as a whole before the field changes; what
 * stood there is wiped. */
#include "config/set.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/own.h"
#include "config/value.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_ITEMS_MAX = 10000, HOST_CHARS_MAX = 253 };

static const char auto_word[] = "auto";

static enum es_err replace_text(char **field, struct esi_str text)
{
    char *copy = esi_str_dup(text);

    if (copy == NULL) {
        return ES_NO_MEMORY;
    }
    esi_crypto_free_text(*field);
    *field = copy;
    return ES_OK;
}

/* No control characters: they would end up in protocol lines, logs and file names. */
static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7F) {
            return false;
        }
    }
    return true;
}

static size_t count_characters(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xC0) != 0x80 ? 1 : 0;
    }
    return count;
}

static enum es_err check_text(const struct esi_schema_row *row, const char *text)
{
    const size_t len = count_characters(text);

    if (!is_printable(text)) {
        return ES_INVALID;
    }
    return row->most != 0 && (len < row->least || len > row->most) ? ES_TOO_LARGE : ES_OK;
}

static enum es_err check_range(const struct esi_schema_row *row, uint64_t value)
{
    return value < row->least || value > row->most ? ES_TOO_LARGE : ES_OK;
}

/* Whether the word may stand for 0 (schema.def: KEY). */
static bool has_auto(const struct esi_schema_row *row)
{
    return row->defaults[0] != NULL && strcmp(row->defaults[0], auto_word) == 0;
}

static bool read_number(const struct esi_schema_row *row, const char *text, uint64_t *value)
{
    if (has_auto(row) && strcmp(text, auto_word) == 0) {
        *value = 0;
        return true;
    }
    switch ((int)row->kind) {
    case KIND_SIZE:
    case KIND_SIZE_32:
        return esi_value_read_size(text, value);
    case KIND_DURATION:
        return esi_value_read_duration(text, value);
    default:
        return esi_value_read_number(text, value);
    }
}

static enum es_err set_number(const struct esi_schema_row *row, void *base, const char *text)
{
    uint64_t value;

    if (!read_number(row, text, &value)) {
        return ES_INVALID;
    }
    const enum es_err err = check_range(row, value);
    if (err != ES_OK) {
        return err;
    }
    void *field = esi_schema_field(row, base);
    switch ((int)row->kind) {
    case KIND_PORT:
        *(uint16_t *)field = (uint16_t)value;
        break;
    case KIND_COUNT:
    case KIND_SIZE_32:
        *(uint32_t *)field = (uint32_t)value;
        break;
    default:
        *(uint64_t *)field = value;
        break;
    }
    return ES_OK;
}

/* Goes along "a|!b|c": *word without its mark, *is_later when it had one. Returns false at the end.
 */
static bool next_word(const char **words, struct esi_str *word, bool *is_later)
{
    if (**words == '\0') {
        return false;
    }
    *is_later = **words == '!';
    const char *start = *words + (*is_later ? 1 : 0);
    const size_t len = strcspn(start, "|");
    *word = (struct esi_str){.data = start, .len = len};
    *words = start + len + (start[len] == '|' ? 1 : 0);
    return true;
}

static enum es_err set_choice(const struct esi_schema_row *row, void *base, const char *text)
{
    const char *words = row->words;
    struct esi_str word;
    bool is_later;
    unsigned index = 0;

    for (; next_word(&words, &word, &is_later); index++) {
        if (esi_str_equal(word, esi_str_from(text))) {
            if (is_later) {
                return ES_UNSUPPORTED;
            }
            /* Enums are unsigned int with gcc and clang; schema.c checks the size. */
            memcpy(esi_schema_field(row, base), &index, sizeof index);
            return ES_OK;
        }
    }
    return ES_INVALID;
}

static enum es_err append_text(const struct esi_schema_row *row, void *base, const char *text)
{
    struct esi_config_texts *texts = esi_schema_field(row, base);

    const enum es_err err = check_text(row, text);
    if (err != ES_OK) {
        return err;
    }
    if (texts->count >= LIST_ITEMS_MAX) {
        return ES_TOO_LARGE;
    }
    char **items = reallocarray(texts->items, texts->count + 1, sizeof *items);
    if (items == NULL) {
        return ES_NO_MEMORY;
    }
    texts->items = items;
    char *copy = esi_str_dup(esi_str_from(text));
    if (copy == NULL) {
        return ES_NO_MEMORY;
    }
    texts->items[texts->count++] = copy;
    texts->is_given = true;
    return ES_OK;
}

/* "USER:PASSWORD" of a URL. */
static enum es_err split_user(struct esi_str text, struct esi_config_url *url)
{
    const char *colon = text.len > 0 ? memchr(text.data, ':', text.len) : NULL;

    if (colon == NULL || colon == text.data || colon + 1 == text.data + text.len) {
        return ES_INVALID;
    }
    const size_t user_len = (size_t)(colon - text.data);
    url->user = esi_str_dup((struct esi_str){.data = text.data, .len = user_len});
    url->password =
        esi_str_dup((struct esi_str){.data = colon + 1, .len = text.len - user_len - 1});
    return url->user != NULL && url->password != NULL ? ES_OK : ES_NO_MEMORY;
}

static void clear_url(struct esi_config_url *url)
{
    esi_crypto_free_text(url->host);
    esi_crypto_free_text(url->user);
    esi_crypto_free_text(url->password);
    *url = (struct esi_config_url){0};
}

/* [nats://|tls://][USER:PASSWORD@]HOST:PORT */
static enum es_err read_url(const char *text, struct esi_config_url *out)
{
    struct esi_config_url url = {0};
    struct esi_str rest = esi_str_from(text);
    enum es_err err = ES_OK;

    if (!is_printable(text)) {
        return ES_INVALID;
    }
    for (size_t i = 0; i < 2; i++) {
        const struct esi_str scheme = i == 0 ? ESI_STR("nats://") : ESI_STR("tls://");
        if (esi_str_starts_with(rest, scheme)) {
            rest.data += scheme.len;
            rest.len -= scheme.len;
            break;
        }
    }
    const char *at = rest.len > 0 ? memrchr(rest.data, '@', rest.len) : NULL;
    if (at != NULL) {
        const size_t user_len = (size_t)(at - rest.data);
        err = split_user((struct esi_str){.data = rest.data, .len = user_len}, &url);
        rest.data += user_len + 1;
        rest.len -= user_len + 1;
    }
    if (err == ES_OK && rest.len > 0 && rest.data[rest.len - 1] == '/') {
        rest.len--;
    }
    if (err == ES_OK) {
        err = esi_value_split_address(rest, &url.host, &url.port);
    }
    if (err != ES_OK) {
        clear_url(&url);
        return err;
    }
    *out = url;
    return ES_OK;
}

static enum es_err append_url(const struct esi_schema_row *row, void *base, const char *text)
{
    struct esi_config_url **urls = esi_schema_field(row, base);
    /* The count stands right behind the pointer (schema.h: KIND_URLS). */
    size_t *count = (size_t *)(void *)(urls + 1);
    struct esi_config_url url;

    const enum es_err err = read_url(text, &url);
    if (err != ES_OK) {
        return err;
    }
    struct esi_config_url *grown =
        *count < LIST_ITEMS_MAX ? reallocarray(*urls, *count + 1, sizeof *grown) : NULL;
    if (grown == NULL) {
        clear_url(&url);
        return ES_NO_MEMORY;
    }
    *urls = grown;
    grown[(*count)++] = url;
    return ES_OK;
}

/* HOST:PORT, grpcs://HOST:PORT or grpc://HOST:PORT; every address of a machine means this machine.
 */
static enum es_err set_handler_address(void *base, const char *text)
{
    static const char *const later[] = {"http://", "https://", "nats:"};
    struct esi_config_handler *handler = base;
    struct esi_str rest = esi_str_from(text);
    char *host = NULL;
    uint16_t port = 0;

    for (size_t i = 0; i < ESI_COUNT_OF(later); i++) {
        if (esi_str_starts_with(rest, esi_str_from(later[i]))) {
            return ES_UNSUPPORTED;
        }
    }
    const bool is_plain = esi_str_starts_with(rest, ESI_STR("grpc://"));
    if (is_plain || esi_str_starts_with(rest, ESI_STR("grpcs://"))) {
        const size_t scheme_len = is_plain ? sizeof "grpc://" - 1 : sizeof "grpcs://" - 1;
        rest.data += scheme_len;
        rest.len -= scheme_len;
    }
    enum es_err err = esi_value_split_address(rest, &host, &port);
    if (err != ES_OK) {
        return err;
    }
    if (esi_value_is_any(host)) {
        err =
            replace_text(&host, strchr(host, ':') != NULL ? ESI_STR("::1") : ESI_STR("127.0.0.1"));
    }
    if (err != ES_OK) {
        free(host);
        return err;
    }
    free(handler->host);
    handler->host = host;
    handler->port = port;
    handler->is_tls = !is_plain;
    handler->is_bare = strstr(text, "://") == NULL;
    return ES_OK;
}

static enum es_err set_host(const struct esi_schema_row *row, void *base, const char *text)
{
    struct esi_str host = esi_str_from(text);

    if (row->kind == KIND_HOST_PORT) {
        char *name = NULL;
        uint16_t port;
        const enum es_err err = esi_value_split_address(host, &name, &port);
        free(name);
        return err == ES_OK ? replace_text(esi_schema_field(row, base), host) : err;
    }
    char bare[HOST_CHARS_MAX + 1];
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        host.data++;
        host.len -= 2;
    }
    if (host.len >= sizeof bare) {
        return ES_INVALID;
    }
    memcpy(bare, host.data, host.len);
    bare[host.len] = '\0';
    return esi_value_is_host(bare) ? replace_text(esi_schema_field(row, base), host) : ES_INVALID;
}

enum es_err esi_set_text(const struct esi_schema_row *row, void *base, const char *text)
{
    enum es_err err;

    switch (row->kind) {
    case KIND_TEXT:
    case KIND_SECRET:
    case KIND_PATH:
    case KIND_NEW_PATH:
        err = check_text(row, text);
        return err == ES_OK ? replace_text(esi_schema_field(row, base), esi_str_from(text)) : err;
    case KIND_HOST:
    case KIND_HOST_PORT:
        return set_host(row, base, text);
    case KIND_PORT:
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_SIZE_32:
    case KIND_DURATION:
        return set_number(row, base, text);
    case KIND_FLAG:
        return esi_value_read_flag(text, esi_schema_field(row, base)) ? ES_OK : ES_INVALID;
    case KIND_CHOICE:
        return set_choice(row, base, text);
    case KIND_TEXTS:
        return append_text(row, base, text);
    case KIND_URLS:
        return append_url(row, base, text);
    case KIND_HANDLER_ADDRESS:
        return set_handler_address(base, text);
    case KIND_NONE:
        break;
    }
    ESI_ASSERT(row->kind != KIND_NONE);
    return ES_INVALID;
}

void esi_set_empty_list(const struct esi_schema_row *row, void *base)
{
    esi_set_clear(row, base);
    if (row->kind == KIND_TEXTS) {
        ((struct esi_config_texts *)esi_schema_field(row, base))->is_given = true;
    }
}

static void clear_texts(struct esi_config_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++) {
        free(texts->items[i]);
    }
    free(texts->items);
    *texts = (struct esi_config_texts){0};
}

void esi_set_clear(const struct esi_schema_row *row, void *base)
{
    void *field = esi_schema_field(row, base);

    switch (row->kind) {
    case KIND_TEXT:
    case KIND_SECRET:
    case KIND_PATH:
    case KIND_NEW_PATH:
    case KIND_HOST:
    case KIND_HOST_PORT:
    case KIND_HANDLER_ADDRESS:
        esi_crypto_free_text(*(char **)field);
        *(char **)field = NULL;
        return;
    case KIND_TEXTS:
        clear_texts(field);
        return;
    case KIND_URLS: {
        struct esi_config_url **urls = field;
        size_t *count = (size_t *)(void *)(urls + 1);
        for (size_t i = 0; i < *count; i++) {
            clear_url(&(*urls)[i]);
        }
        free(*urls);
        *urls = NULL;
        *count = 0;
        return;
    }
    case KIND_NONE:
    case KIND_PORT:
    case KIND_COUNT:
    case KIND_SIZE:
    case KIND_SIZE_32:
    case KIND_DURATION:
    case KIND_FLAG:
    case KIND_CHOICE:
        return;
    }
}

static void describe_words(const char *words, struct esi_bytes *out)
{
    struct esi_str word;
    bool is_later;
    bool is_first = true;

    while (next_word(&words, &word, &is_later)) {
        if (!is_later) {
            esi_bytes_printf(out, "%s%.*s", is_first ? "" : ", ", ESI_STR_ARG(word));
            is_first = false;
        }
    }
}

void esi_set_describe(const struct esi_schema_row *row, struct esi_bytes *out)
{
    const unsigned long long least = row->least;
    const unsigned long long most = row->most;

    esi_bytes_append_text(out, has_auto(row) ? "auto or " : "");
    switch (row->kind) {
    case KIND_PORT:
        esi_bytes_printf(out, "a port from %llu to %llu", least, most);
        return;
    case KIND_COUNT:
        esi_bytes_printf(out, "a number from %llu to %llu", least, most);
        return;
    case KIND_SIZE:
    case KIND_SIZE_32:
        esi_bytes_append_text(out, "a size from ");
        esi_value_print_size(row->least, out);
        esi_bytes_append_text(out, " to ");
        esi_value_print_size(row->most, out);
        esi_bytes_append_text(out, ", such as 4096, 64KB or 1MiB,");
        return;
    case KIND_DURATION:
        esi_bytes_append_text(out, "a duration from ");
        esi_value_print_duration(row->least, out);
        esi_bytes_append_text(out, " to ");
        esi_value_print_duration(row->most, out);
        esi_bytes_append_text(out, ", such as 500ms, 2s or 1h,");
        return;
    case KIND_FLAG:
        esi_bytes_append_text(out, "true or false");
        return;
    case KIND_CHOICE:
        esi_bytes_append_text(out, "one of ");
        describe_words(row->words, out);
        return;
    case KIND_HOST:
        esi_bytes_append_text(out, "a host name or a numeric address");
        return;
    case KIND_HOST_PORT:
        esi_bytes_append_text(out, "HOST:PORT");
        return;
    case KIND_URLS:
        esi_bytes_append_text(
            out, "nats://HOST:PORT or nats://USER:PASSWORD@HOST:PORT (or a list of them)");
        return;
    case KIND_HANDLER_ADDRESS:
        esi_bytes_append_text(out, "HOST:PORT, grpc://HOST:PORT or grpcs://HOST:PORT");
        return;
    case KIND_TEXTS:
        esi_bytes_printf(out, "a list of texts of %llu to %llu printable characters", least, most);
        return;
    case KIND_PATH:
    case KIND_NEW_PATH:
        esi_bytes_append_text(out, "the path of a file");
        return;
    case KIND_NONE:
    case KIND_TEXT:
    case KIND_SECRET:
        esi_bytes_printf(out, "a text of %llu to %llu printable characters", least, most);
        return;
    }
}
