/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading is strict: no sign, no blank, no leading zero, nothing behind; what overflows is
 * refused. */
#include "config/value.h"

#include "base/num.h"
#include "base/own.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DIGITS_MAX = 18, HOST_BYTES_MAX = 253, VARIABLE_NAME_BYTES_MAX = 128 };

struct unit {
    const char *name;
    uint64_t factor;
};

/* From the largest: printing takes the first that divides. */
static const struct unit duration_units[] = {
    {"d", UINT64_C(86400000000000)},
    {"h", UINT64_C(3600000000000)},
    {"m", UINT64_C(60000000000)},
    {"s", UINT64_C(1000000000)},
    {"ms", 1000000},
    {"us", 1000},
    {"ns", 1},
};

static const struct unit size_units[] = {
    {"GiB", UINT64_C(1) << 30},
    {"MiB", 1 << 20},
    {"KiB", 1 << 10},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"KB", 1000},
    {"B", 1},
};

static size_t count_digits(const char *text)
{
    size_t count = 0;

    while (isdigit((unsigned char)text[count])) {
        count++;
    }
    return count;
}

/* A number at the beginning of the text. *len: how many characters it has. */
static bool read_leading_number(const char *text, uint64_t *out, size_t *len)
{
    const size_t digits = count_digits(text);

    if ((digits > 1 && text[0] == '0') || !esi_num_parse(text, digits, DIGITS_MAX, out)) {
        return false;
    }
    *len = digits;
    return true;
}

bool esi_value_read_number(const char *text, uint64_t *out)
{
    uint64_t value;
    size_t len;

    if (!read_leading_number(text, &value, &len) || text[len] != '\0') {
        return false;
    }
    *out = value;
    return true;
}

bool esi_value_read_size(const char *text, uint64_t *bytes)
{
    uint64_t value;
    size_t len;

    if (!read_leading_number(text, &value, &len)) {
        return false;
    }
    if (text[len] == '\0') {
        *bytes = value;
        return true;
    }
    const char *name = text + len + (text[len] == ' ' ? 1 : 0);
    for (size_t i = 0; i < ESI_COUNT_OF(size_units); i++) {
        if (strcasecmp(name, size_units[i].name) == 0) {
            return !__builtin_mul_overflow(value, size_units[i].factor, bytes);
        }
    }
    return false;
}

/* The unit at the beginning of the text that no other letter follows; NULL: none. */
static const struct unit *find_duration_unit(const char *text, size_t *len)
{
    size_t letters = 0;

    while (isalpha((unsigned char)text[letters])) {
        letters++;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(duration_units); i++) {
        const struct unit *unit = &duration_units[i];
        if (strlen(unit->name) == letters && strncmp(unit->name, text, letters) == 0) {
            *len = letters;
            return unit;
        }
    }
    return NULL;
}

bool esi_value_read_duration(const char *text, uint64_t *ns)
{
    uint64_t sum = 0;
    uint64_t value;
    size_t len;

    if (esi_value_read_number(text, &value)) {
        return !__builtin_mul_overflow(value, UINT64_C(1000000000), ns);
    }
    do {
        if (!read_leading_number(text, &value, &len)) {
            return false;
        }
        text += len;
        const struct unit *unit = find_duration_unit(text, &len);
        if (unit == NULL || __builtin_mul_overflow(value, unit->factor, &value) ||
            __builtin_add_overflow(sum, value, &sum)) {
            return false;
        }
        text += len;
    } while (*text != '\0');
    *ns = sum;
    return true;
}

bool esi_value_read_flag(const char *text, bool *out)
{
    const bool is_true = strcmp(text, "true") == 0;

    if (!is_true && strcmp(text, "false") != 0) {
        return false;
    }
    *out = is_true;
    return true;
}

static void print_with_unit(uint64_t value, const struct unit *units, size_t count,
                            struct esi_bytes *out)
{
    size_t i = 0;

    while (i + 1 < count && (value == 0 || value % units[i].factor != 0)) {
        i++;
    }
    esi_bytes_printf(out, "%llu%s", (unsigned long long)(value / units[i].factor), units[i].name);
}

void esi_value_print_size(uint64_t bytes, struct esi_bytes *out)
{
    /* Powers of 1024 only: 4000 is clearer than 4KB. */
    if (bytes == 0 || bytes % 1024 != 0) {
        esi_bytes_printf(out, "%llu", (unsigned long long)bytes);
        return;
    }
    print_with_unit(bytes, size_units, 3, out);
}

void esi_value_print_duration(uint64_t ns, struct esi_bytes *out)
{
    if (ns == 0) {
        esi_bytes_append_text(out, "0");
        return;
    }
    print_with_unit(ns, duration_units, ESI_COUNT_OF(duration_units), out);
}

bool esi_value_is_numeric(const char *host)
{
    unsigned char address[16];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* Labels of letters, digits, "-" and "_", with single dots between; not all digits (a broken
 * address). */
static bool is_host_name(const char *text)
{
    bool has_letter = false;
    bool is_label_start = true;
    const size_t len = strlen(text);

    if (len == 0 || len > HOST_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '.') {
            if (is_label_start) {
                return false;
            }
            is_label_start = true;
            continue;
        }
        if (!(isalnum(c) || c == '_' || (c == '-' && !is_label_start))) {
            return false;
        }
        has_letter = has_letter || isalpha(c) || c == '_' || c == '-';
        is_label_start = false;
    }
    return has_letter;
}

bool esi_value_is_host(const char *text)
{
    return esi_value_is_numeric(text) || is_host_name(text);
}

bool esi_value_is_loopback(const char *host)
{
    unsigned char address[16];
    static const unsigned char loopback_6[16] = {[15] = 1};

    if (strcasecmp(host, "localhost") == 0) {
        return true;
    }
    if (inet_pton(AF_INET, host, address) == 1) {
        return address[0] == 127;
    }
    return inet_pton(AF_INET6, host, address) == 1 &&
           memcmp(address, loopback_6, sizeof loopback_6) == 0;
}

bool esi_value_is_any(const char *host)
{
    unsigned char address[16];
    static const unsigned char zeros[16] = {0};

    if (inet_pton(AF_INET, host, address) == 1) {
        return memcmp(address, zeros, 4) == 0;
    }
    return inet_pton(AF_INET6, host, address) == 1 && memcmp(address, zeros, 16) == 0;
}

/* The colon between host and port; -1 where there is none, or the brackets are wrong. */
static ptrdiff_t find_port_colon(struct esi_str text)
{
    const char *colon = text.len > 0 ? memrchr(text.data, ':', text.len) : NULL;

    if (colon == NULL) {
        return -1;
    }
    const size_t at = (size_t)(colon - text.data);
    const bool has_brackets = at >= 2 && text.data[0] == '[' && text.data[at - 1] == ']';
    /* A bare IPv6 address has further colons, and no telling which part would be the port. */
    return has_brackets || memchr(text.data, ':', at) == NULL ? (ptrdiff_t)at : -1;
}

enum es_err esi_value_split_address(struct esi_str text, char **host, uint16_t *port)
{
    uint64_t number;

    const ptrdiff_t colon = find_port_colon(text);
    if (colon < 0) {
        return ES_INVALID;
    }
    const struct esi_str digits = {.data = text.data + colon + 1,
                                   .len = text.len - (size_t)colon - 1};
    if (!esi_num_parse(digits.data, digits.len, 5, &number) || number < 1 || number > UINT16_MAX ||
        digits.data[0] == '0') {
        return ES_INVALID;
    }
    const bool has_brackets = colon >= 2 && text.data[0] == '[' && text.data[colon - 1] == ']';
    struct esi_str name = {.data = text.data, .len = (size_t)colon};
    if (has_brackets) {
        name = (struct esi_str){.data = text.data + 1, .len = (size_t)colon - 2};
    }
    char *copy = esi_str_dup(name);
    if (copy == NULL) {
        return ES_NO_MEMORY;
    }
    if (strlen(copy) != name.len || !esi_value_is_host(copy) ||
        has_brackets != (strchr(copy, ':') != NULL)) {
        free(copy);
        return ES_INVALID;
    }
    *host = copy;
    *port = (uint16_t)number;
    return ES_OK;
}

/* Appends one variable; name: what stands between the braces. */
static enum es_err expand_variable(struct esi_str name, struct esi_bytes *out)
{
    char variable[VARIABLE_NAME_BYTES_MAX];

    if (name.len == 0 || name.len >= sizeof variable || isdigit((unsigned char)name.data[0])) {
        return ES_INVALID;
    }
    for (size_t i = 0; i < name.len; i++) {
        if (!isalnum((unsigned char)name.data[i]) && name.data[i] != '_') {
            return ES_INVALID;
        }
    }
    snprintf(variable, sizeof variable, "%.*s", ESI_STR_ARG(name));
    const char *value = getenv(variable);
    if (value == NULL) {
        return ES_NOT_FOUND;
    }
    esi_bytes_append_text(out, value);
    return ES_OK;
}

enum es_err esi_value_expand(const char *text, struct esi_bytes *out, struct esi_str *name)
{
    for (const char *at = text; *at != '\0';) {
        if (strncmp(at, "$${", 3) == 0) {
            esi_bytes_append_text(out, "${");
            at += 3;
            continue;
        }
        if (strncmp(at, "${", 2) != 0) {
            esi_bytes_append(out, at, 1);
            at++;
            continue;
        }
        const size_t len = strcspn(at + 2, "}");
        const struct esi_str variable = {.data = at + 2, .len = len};
        const enum es_err err = at[2 + len] == '}' ? expand_variable(variable, out) : ES_INVALID;
        if (err != ES_OK) {
            *name = variable;
            return err;
        }
        at += len + 3;
    }
    return out->failed ? ES_NO_MEMORY : ES_OK;
}
